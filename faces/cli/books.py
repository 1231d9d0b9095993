"""Commands that check the books: the heads of the chains, the verification of everything from its records, and what an
exchange did otherwise than foreseen."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Database, Json, app, database, database_files, print_json, print_table, remark

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.runtime.divergence import Divergence
    from ringfence.runtime.heads import Heads
    from ringfence.runtime.verification import Verdict

__all__ = ["divergence", "divergence_document", "heads", "verify"]

UNDECIDED = 3
"""Exit code of a verification that found no breach and could not repeat every decision."""

_DECIDED_BY = "decided by {}: sums, chain and money hold"
_NOBODYS = "(none of them)"


@app.command()
def heads(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write them to a file, for verify --expect.")
    ] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Print the head of every vault's journal and of every series of bars, to be kept where nobody can rewrite them.

    Whoever can write to the database can make all of it anew; verify --expect finds that no earlier head is on it.
    """
    from ringfence.runtime.heads import heads as current
    from ringfence.runtime.heads import heads_document, heads_text
    from ringfence.runtime.outputs import HEADS, checked_output, write_whole
    from ringfence.words.terminal import json_text

    target = None if output is None else checked_output(output, HEADS, database_files(db))
    with database(db, writes=False) as engine:
        found = current(engine)
    if target is not None:
        text = json_text(heads_document(found)) + "\n" if as_json else heads_text(found)
        write_whole(target, text.encode(), HEADS, database_files(db))
        remark(f"{output}: {len(found.vaults)} vaults and {len(found.series)} series; keep it away from the database")
    elif as_json:
        print_json(heads_document(found))
    else:
        print(heads_text(found), end="")


@app.command()
def verify(
    vaults: Annotated[list[str] | None, typer.Argument(metavar="[VAULT]...", help="All where left out.")] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="SEQ:HASH|FILE",
            help="An earlier head that must be on the chain (VAULT=SEQ:HASH where there are several vaults), or a "
            "file that `ringfence heads` wrote.",
        ),
    ] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Work everything out again: ledger, shares, statements, the chain, and every decision from its recorded inputs.

    Ends with 0 when every law holds, with 1 at a breach, and with 3 when all holds that can be checked here but another
    version of the kernel or of a strategy decided some slots, which are not decided again.
    """
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.verification import verify as verified

    with database(db, writes=False) as engine, bar(before="reading the books", each="journal rows") as progress:
        verdicts = verified(engine, vaults or None, progress, _expected(engine, vaults or (), expect or ()))
    if as_json:
        print_json([_verdict(verdict) for verdict in verdicts])
    else:
        _print_verdicts(verdicts)
    if any(verdict.breaches for verdict in verdicts):
        raise typer.Exit(1)
    if any(verdict.undecided for verdict in verdicts):
        raise typer.Exit(UNDECIDED)


@app.command()
def divergence(
    vault: Annotated[str, typer.Argument(metavar="VAULT")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Compare a vault's life at its exchange with the same life at a venue that fills at once, and name the cause of
    every unit between the two.
    """
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.divergence import diverge

    with database(db, writes=False) as engine, bar(before="living it again", each="slots") as progress:
        found = diverge(engine, vault, lambda done, total: progress(vault, done, total))
    if as_json:
        print_json(divergence_document(found))
    else:
        _print_divergence(found)


def divergence_document(found: "Divergence") -> dict[str, Any]:
    """As JSON has it; amounts are texts with all their decimals."""
    from ringfence.words.numbers import format_amount
    from ringfence.words.times import utc

    return {
        "vault": found.vault,
        "currency": found.currency,
        "until": utc(found.until),
        "lived": format_amount(found.lived, found.decimals),
        "foreseen": format_amount(found.foreseen, found.decimals),
        "differs_by": format_amount(found.lived - found.foreseen, found.decimals),
        "causes": [
            {
                "time": utc(cause.ts), "row": cause.row, "told": list(cause.told),
                "amount": format_amount(cause.amount, found.decimals),
            }
            for cause in found.causes
        ],
    }  # fmt: skip


def _print_divergence(found: "Divergence") -> None:
    told = divergence_document(found)
    rows = [(cause["time"], cause["row"], "; ".join(cause["told"]), cause["amount"]) for cause in told["causes"]]
    unit = found.currency
    if rows:
        print_table(f"What the exchange of {found.vault} did otherwise", ("time", "row", "what", unit), rows)
    outcome = (("made at its exchange", told["lived"]), ("made at a venue that fills at once", told["foreseen"]),
               ("difference, every unit of it caused above", told["differs_by"]))  # fmt: skip
    print_table(f"Until {told['until']}", ("", unit), outcome)


def _expected(engine: "Engine", vaults: Sequence[str], texts: Sequence[str]) -> "Heads | None":
    """The heads that `--expect` names, one by one or in files."""
    from ringfence.faces.errors import InputRefused
    from ringfence.runtime.heads import Heads, head_of, read_heads, vault_names

    found = Heads() if texts else None
    for text in texts:
        name, equals, told = text.rpartition("=")
        if not equals and head_of("", told):
            known = tuple(vaults) or vault_names(engine)
            if len(known) != 1:
                raise InputRefused("--expect", text, f"is of one vault, and there are {len(known)}: say VAULT={text}")
            name = known[0]
        head = head_of(name, told)
        found = (found or Heads()) + (read_heads(text, _small_file(Path(text))) if head is None else Heads((head,)))
    return found


def _small_file(path: Path) -> str:
    """The text of a file of heads. Refused: InputRefused for what is no file, or none of heads."""
    from ringfence.faces.errors import InputRefused

    if not path.is_file():
        reason = "is neither SEQ:HASH (64 hexadecimal digits) nor a file of heads"
        raise InputRefused("--expect", str(path), reason)
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputRefused("--expect", str(path), "holds no heads: it is no text") from None


def _verdict(verdict: "Verdict") -> dict[str, Any]:
    return {
        "vault": verdict.vault,
        "head": verdict.head or None,
        "rows": verdict.rows,
        "slots": verdict.slots,
        "holds": not verdict.breaches,
        "undecided": [{"decided_by": made, "slots": slots} for made, slots in verdict.undecided],
        "breaches": [
            {"law": breach.law, "thing": breach.thing, "expected": breach.expected, "found": breach.found}
            for breach in verdict.breaches
        ],
    }


def _print_verdicts(verdicts: "Sequence[Verdict]") -> None:
    outcome = [(_name(verdict), verdict.rows, verdict.slots, _held(verdict)) for verdict in verdicts]
    print_table("Verified", ("vault", "journal rows", "decisions repeated", "breaches"), outcome)
    for verdict in verdicts:
        if verdict.head:
            print(f"head of {verdict.vault}: {verdict.head}")
        for made, slots in verdict.undecided:
            print(f"{verdict.vault}: {slots} slots were {_DECIDED_BY.format(made)}; not decided again")
    breaches = [
        (_name(verdict), breach.law, breach.thing, breach.expected, breach.found)
        for verdict in verdicts
        for breach in verdict.breaches
    ]
    if breaches:
        print_table("Breaches", ("vault", "law", "where", "expected", "found"), breaches)


def _name(verdict: "Verdict") -> str:
    return _NOBODYS if verdict.vault is None else verdict.vault


def _held(verdict: "Verdict") -> object:
    if verdict.breaches:
        return len(verdict.breaches)
    return "sums, chain and money hold" if verdict.undecided else "every law holds"
