"""Commands that read: vaults, positions, statements, events, and the verification of all of them."""

from typing import Annotated, Any

import typer

from ringfence.faces.cli import acts
from ringfence.faces.cli.app import Database, Json, app, database, print_json, print_table, remark

__all__ = ["acts", "events", "positions", "statement", "vaults", "verify"]

_EVENTS_SHOWN = 100
_AnyVault = Annotated[str | None, typer.Argument(metavar="[VAULT]", help="One vault; all where left out.")]


def _short(text: str | None, places: int = 6) -> str | None:
    """A figure for people, cut (towards zero) to `places` decimals."""
    if text is None or "." not in text:
        return text
    whole, part = text.split(".")
    return f"{whole}.{part[:places]}" if places else whole


def _percent(text: str | None) -> str | None:
    return None if text is None else f"{float(text) * 100:.2f} %"


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
        (one["vault"], one["status"], f"{_short(one['nav'], 2)} {one['currency']}", _short(one["wall"], 2),
         _percent(one["wall_distance"]), _short(one["nav_per_share"]), _short(one["wall_per_share"]),
         _short(one["high_water_mark"]), one["marked"])
        for one in found
    ]  # fmt: skip
    columns = ("vault", "status", "NAV", "wall", "distance", "NAV/share", "wall/share", "high-water mark", "marked at")
    print_table("Vaults", columns, worth)
    if not found:
        return
    money = [
        (one["vault"], _short(one["reserve"], 2), _short(one["cushion"], 2), _short(one["in_margin"], 2),
         _short(one["shares"], 3), _short(one["waiting"], 3))
        for one in found
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
        (one["vault"], one["position"], one["symbol"], one["side"], one["quantity"], one["entry_price"],
         one["mark_price"], _short(one["leverage"], 2), _short(one["open_profit"], 2), one["bound"])
        for one in found
    ]  # fmt: skip
    columns = ("vault", "position", "symbol", "side", "quantity", "entry", "mark", "leverage", "profit", "bound by")
    print_table("Positions", columns, held)
    margins = [
        (one["vault"], one["position"], _short(one["margin"], 2), _short(one["equity"], 2),
         _short(one["maintenance_margin"], 2), one["liquidation_price"], _percent(one["liquidation_distance"]))
        for one in found
        if one["side"] != "flat"
    ]  # fmt: skip
    if margins:
        heads = ("vault", "position", "margin", "equity", "maintenance", "liquidation", "distance")
        print_table("Margin", heads, margins)


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
        (one["vault"], one["holder"], one["currency"], one["deposited"], one["redeemed"], _short(one["shares"], 3),
         _short(one["waiting"], 3), _short(one["entry_price"]), _short(one["nav_per_share"]), one["value"],
         one["value_worst"], one["profit"])
        for one in found
    ]  # fmt: skip
    print_table("Statements", columns, rows)
    for one in found if holder is not None else ():
        told = [
            (act["time"], act["kind"], None if act["kind"] == "request" else act["amount"], act["shares"],
             act["nav_per_share"], act["row"])
            for act in one["acts"]
        ]  # fmt: skip
        heads = ("time", "act", f"amount, {one['currency']}", "shares", "NAV/share", "journal row")
        print_table(f"{one['holder']} in {one['vault']}", heads, told)


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
        (one["time"], one["vault"], one["kind"], one["position"], one["cause"], one["before"], one["after"],
         _leverages(one), _short(one["amount"], 2), _short(one.get("fee"), 2))
        for one in found
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

    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise SettingRefused("--since", text, "a time in UTC such as 2020-03-12 or 2020-03-12T08:00") from None


@app.command()
def verify(
    vaults: Annotated[list[str] | None, typer.Argument(metavar="[VAULT]...", help="All where left out.")] = None,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Work everything out again: ledger, shares, statements, the chain, and every decision from its recorded inputs."""
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.verification import verify as verified

    with database(db, writes=False) as engine, bar(before="reading the books", each="journal rows") as progress:
        verdicts = verified(engine, vaults or None, progress)
    if as_json:
        print_json(
            [
                {"vault": one.vault, "rows": one.rows, "slots": one.slots, "holds": not one.breaches,
                 "breaches": [{"law": breach.law, "thing": breach.thing, "expected": breach.expected,
                               "found": breach.found} for breach in one.breaches]}
                for one in verdicts
            ]
        )  # fmt: skip
    else:
        outcome = [(one.vault, one.rows, one.slots, len(one.breaches) or "every law holds") for one in verdicts]
        print_table("Verified", ("vault", "journal rows", "decisions repeated", "breaches"), outcome)
        breaches = [(one.vault, b.law, b.thing, b.expected, b.found) for one in verdicts for b in one.breaches]
        if breaches:
            print_table("Breaches", ("vault", "law", "where", "expected", "found"), breaches)
    if any(one.breaches for one in verdicts):
        raise typer.Exit(1)
