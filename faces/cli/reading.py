"""Commands that read: vaults, positions, statements, events, and the verification of all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli import acts
from ringfence.faces.cli.app import Database, Json, app, database, database_files, print_json, print_table, remark

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.runtime.heads import Heads
    from ringfence.runtime.verification import Verdict

__all__ = ["acts", "events", "heads", "positions", "statement", "vaults", "verify"]

UNDECIDED = 3
"""Exit code of a verification that found no breach and could not repeat every decision."""

_DECIDED_BY = "decided by {}: sums, chain and money hold"
_NOBODYS = "(none of them)"
_EVENTS_SHOWN = 100
_AnyVault = Annotated[str | None, typer.Argument(metavar="[VAULT]", help="One vault; all where left out.")]


def _short(text: str | None, places: int = 6) -> str | None:
    from ringfence.words.numbers import shortened

    return None if text is None else shortened(text, places)


def _percent(text: str | None) -> str | None:
    from decimal import Decimal

    from ringfence.words.numbers import format_percentage

    return None if text is None else format_percentage(Decimal(text), places=2)


@app.command()
def vaults(db: Database = None, as_json: Json = False) -> None:
    """List the vaults: what each is worth, its wall, where its money stands and how it is."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.vaults(engine)
    if as_json:
        print_json(found)
        return
    worth = [
        (vault["vault"], vault["status"], f"{_short(vault['nav'], 2)} {vault['currency']}", _short(vault["wall"], 2),
         _percent(vault["wall_distance"]), _short(vault["nav_per_share"]), _short(vault["wall_per_share"]),
         _short(vault["high_water_mark"]), vault["marked"])
        for vault in found
    ]  # fmt: skip
    columns = ("vault", "status", "NAV", "wall", "distance", "NAV/share", "wall/share", "high-water mark", "marked at")
    print_table("Vaults", columns, worth)
    if not found:
        return
    money = [
        (vault["vault"], _short(vault["reserve"], 2), _short(vault["cushion"], 2), _short(vault["in_margin"], 2),
         _short(vault["shares"], 3), _short(vault["waiting"], 3))
        for vault in found
    ]  # fmt: skip
    print_table("Money and shares", ("vault", "reserve", "cushion", "in margin", "shares", "waiting"), money)


@app.command()
def positions(vault: _AnyVault = None, db: Database = None, as_json: Json = False) -> None:
    """List the positions, marked at the last slot: size, margin, liquidation price, what bound the last decision."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.positions(engine, vault)
    if as_json:
        print_json(found)
        return
    held = [
        (position["vault"], position["position"], position["symbol"], position["side"], position["quantity"],
         position["entry_price"], position["mark_price"], _short(position["leverage"], 2),
         _short(position["open_profit"], 2), position["bound"])
        for position in found
    ]  # fmt: skip
    columns = ("vault", "position", "symbol", "side", "quantity", "entry", "mark", "leverage", "profit", "bound by")
    print_table("Positions", columns, held)
    margins = [
        (position["vault"], position["position"], _short(position["margin"], 2), _short(position["equity"], 2),
         _short(position["maintenance_margin"], 2), position["liquidation_price"],
         _percent(position["liquidation_distance"]))
        for position in found
        if position["side"] != "flat"
    ]  # fmt: skip
    if margins:
        heads = ("vault", "position", "margin", "equity", "maintenance", "liquidation", "distance")
        days = sorted({str(position["table_valid_from"]) for position in found if position["side"] != "flat"})
        print_table(f"Margin, by tables valid from {' and '.join(days)}", heads, margins)


@app.command()
def statement(
    holder: Annotated[str | None, typer.Argument(metavar="[HOLDER]", help="One holder; all where left out.")] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", metavar="VAULT", help="One vault; all where left out.")
    ] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Show holders' statements, derived from the journal and checked against the books; for one holder, every act."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.statements(engine, vault, holder)
    if as_json:
        print_json(found)
        return
    columns = ("vault", "holder", "currency", "paid in", "paid out", "shares", "waiting", "entry price", "NAV/share",
               "value", "value at the wall", "profit")  # fmt: skip
    rows = [
        (held["vault"], held["holder"], held["currency"], held["deposited"], held["redeemed"],
         _short(held["shares"], 3), _short(held["waiting"], 3), _short(held["entry_price"]),
         _short(held["nav_per_share"]), held["value"], held["value_worst"], held["profit"])
        for held in found
    ]  # fmt: skip
    print_table("Statements", columns, rows)
    for held in found if holder is not None else ():
        told = [
            (act["time"], act["kind"], None if act["kind"] == "request" else act["amount"], act["shares"],
             act["nav_per_share"], act["row"])
            for act in held["acts"]
        ]  # fmt: skip
        heads = ("time", "act", f"amount, {held['currency']}", "shares", "NAV/share", "journal row")
        print_table(f"{held['holder']} in {held['vault']}", heads, told)


@app.command()
def events(
    vault: _AnyVault = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", metavar="KIND", help="Only of this kind; may be given several times.")
    ] = None,
    position: Annotated[str | None, typer.Option("--position", metavar="NAME", help="Only of this position.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only from then on, UTC: 2020-03-12 or 2020-03-12T08:00."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, metavar="N", help=f"Only the last N. [default: {_EVENTS_SHOWN} in a table]"),
    ] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """List what happened, oldest first: acts of holders, resizes, margin calls, liquidations, refusals, with causes."""
    from ringfence.faces import queries

    start = None if since is None else _moment(since)
    shown = limit or (None if as_json else _EVENTS_SHOWN)
    with database(db, writes=False) as engine:
        # One more than is shown tells whether something was left out.
        found = queries.events(engine, vault, kind or (), position, start, None if shown is None else shown + 1)
    left_out = shown is not None and len(found) > shown
    found = found[-shown:] if shown is not None else found
    if as_json:
        print_json(found)
        return
    columns = ("time", "vault", "event", "position", "cause", "before", "after", "leverage", "amount", "fee")
    rows = [
        (event["time"], event["vault"], event["kind"], event["position"], event["cause"], event["before"],
         event["after"], _leverages(event), _short(event["amount"], 2), _short(event.get("fee"), 2))
        for event in found
    ]  # fmt: skip
    print_table("Events", columns, rows)
    if left_out and limit is None:
        remark(f"only the last {shown} are shown; see more with --limit N, or all with --json")


def _leverages(event: dict[str, Any]) -> str | None:
    before, after = (_short(event.get(f"leverage_{when}"), 2) for when in ("before", "after"))
    return f"{before or 0} -> {after or 0}" if before or after else None


def _moment(text: str) -> int:
    """UTC ms of a time as people write it."""
    from datetime import UTC, datetime, timedelta

    from ringfence.runtime.errors import SettingRefused
    from ringfence.words.times import EPOCH

    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise SettingRefused("--since", text, "a time in UTC such as 2020-03-12 or 2020-03-12T08:00") from None


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
