"""Commands that end a vault's deciding, and those that let it begin again."""

import getpass
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Database, Json, app, database, print_json, print_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.vaults.entries import Entry

__all__ = ["close", "halt", "resume", "retry"]

_Vaults = Annotated[str, typer.Argument(metavar="VAULT|all", help="The vault's name, or all.")]
_Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why: it stands in the journal.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen; nothing changes.")]


@app.command()
def halt(vault: _Vaults, why: _Why, dry_run: _DryRun = False, db: Database = None, as_json: Json = False) -> None:
    """Let a vault decide nothing from now on; nobody enters or leaves.

    Funding, liquidation and the mandate's margin call go on. It survives every restart and ends by two steps of
    `ringfence resume`.
    """

    def act(engine: "Engine", name: str, by: str, now: int) -> "Entry":
        from ringfence.runtime.halting import halt as halted

        return halted(engine, name, by, why, now, rehearsed=dry_run).entry

    _each(vault, act, db, as_json, "halted", dry_run)


@app.command()
def resume(
    vault: _Vaults,
    why: _Why,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="The second step: from the next slot on the vault decides again.")
    ] = False,
    dry_run: _DryRun = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Ask that a halt be ended, and then, with --confirm, end it.

    Refused as long as a law of the vault's books does not hold.
    """

    def act(engine: "Engine", name: str, by: str, now: int) -> "Entry":
        from ringfence.runtime.halting import resume as resumed

        return resumed(engine, name, by, why, now, confirmed=confirm, rehearsed=dry_run).entry

    _each(vault, act, db, as_json, "resumed" if confirm else "asked to be resumed; confirm with --confirm", dry_run)


@app.command()
def close(vault: _Vaults, why: _Why, dry_run: _DryRun = False, db: Database = None, as_json: Json = False) -> None:
    """Wind a vault down for good: close its positions, pay everybody out, take nobody in."""

    def act(engine: "Engine", name: str, by: str, now: int) -> "Entry":
        from ringfence.runtime.halting import close as closed

        return closed(engine, name, by, why, now, rehearsed=dry_run).entry

    _each(vault, act, db, as_json, "closed: its positions go and everybody is paid from the next slot on", dry_run)


@app.command()
def retry(vault: _Vaults, dry_run: _DryRun = False, db: Database = None, as_json: Json = False) -> None:
    """Let a vault that was left aside, or that waits for its next attempt, be stepped again at once."""
    from ringfence.runtime.duties import released

    with database(db, writes=True, create=False) as engine:
        found = released(engine, None if vault == "all" else vault, rehearsed=dry_run)
    if as_json:
        print_json([{**one._asdict(), "dry_run": dry_run} for one in found])
        return
    for one in found:
        told = one.failure or "its worker died, or is at it still"
        print_text(f"{one.vault}: {'would be ' if dry_run else ''}tried again, after {one.attempts} attempts: {told}")
    if not found:
        print_text("No attempt has failed." if vault == "all" else f"{vault}: no attempt has failed.")


def _each(
    vaults: str,
    act: "Callable[[Engine, str, str, int], Entry]",
    db: str | None,
    as_json: bool,
    told: str,
    dry_run: bool,
) -> None:
    """Act on one vault or on all, one after another. More than five arguments because a command has them."""
    from ringfence.faces import queries
    from ringfence.runtime.tasks import clock

    done: list[dict[str, Any]] = []
    with database(db, writes=True, create=False) as engine:
        names = [vault["vault"] for vault in queries.vaults(engine)] if vaults == "all" else [vaults]
        for name in names:
            entry = act(engine, name, _user(), clock())
            done.append({"vault": name, "did": entry.kind, **entry.body(), "dry_run": dry_run})
    if as_json:
        print_json(done)
        return
    for one in done:
        print_text(f"{one['vault']}: {'would be ' if dry_run else ''}{told} (by {one['by']}: {one['why']})")


def _user() -> str:
    """Who is at it, as the operating system calls him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
