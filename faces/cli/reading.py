"""Commands that read: vaults, positions, statements and events."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli import acts
from ringfence.faces.cli.app import Database, Exact, Json, app, database, print_json, print_table, print_text, remark

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["acts", "events", "positions", "statement", "vaults"]

_EVENTS_SHOWN = 100
_AnyVault = Annotated[str | None, typer.Argument(metavar="[VAULT]", help="One vault; all where left out.")]


def _percent(text: str | None) -> str | None:
    from decimal import Decimal

    from ringfence.words.numbers import format_percentage

    return None if text is None else format_percentage(Decimal(text), places=2)


def _shown(exact: bool) -> "Callable[..., str | None]":
    """How written numbers are told: to two decimals, or to those that are asked for; `exact`: with all of them."""
    from ringfence.words.numbers import readable

    def shown(text: str | None, places: int = 2) -> str | None:
        return readable(text, None if exact else places)

    return shown


@app.command()
def vaults(db: Database = None, exact: Exact = False, as_json: Json = False) -> None:
    """List the vaults: what each is worth, its wall, where its money stands and how it is."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.vaults(engine)
    if as_json:
        print_json(found)
        return
    shown = _shown(exact)
    worth = [
        (vault["vault"], vault["status"], vault["currency"], shown(vault["nav"]), shown(vault["wall"]),
         _percent(vault["wall_distance"]), shown(vault["nav_per_share"], 6), shown(vault["wall_per_share"], 6),
         shown(vault["high_water_mark"], 6), vault["marked"])
        for vault in found
    ]  # fmt: skip
    columns = ("vault", "status", "in", "NAV", "wall", "distance", "NAV/share", "wall/share", "high-water mark",
               "marked at")  # fmt: skip
    print_table("Vaults", columns, worth)
    if not found:
        return
    money = [
        (vault["vault"], shown(vault["reserve"]), shown(vault["cushion"]), shown(vault["in_margin"]),
         shown(vault["entering"]), shown(vault["shares"], 3), shown(vault["waiting"], 3))
        for vault in found
    ]  # fmt: skip
    heads = ("vault", "reserve", "cushion", "in margin", "waits to enter", "shares", "asked back")
    print_table("Money and shares", heads, money)
    for vault in found:
        if vault["locked_since"] is not None:
            rebase = "" if vault["rebase_at"] is None else f"; a rebase is announced for {vault['rebase_at']}"
            print_text(f"{vault['vault']}: locked since {vault['locked_since']}, at_wall: {vault['at_wall']}{rebase}")


@app.command()
def positions(vault: _AnyVault = None, db: Database = None, exact: Exact = False, as_json: Json = False) -> None:
    """List the positions, marked at the last slot: size, margin, liquidation price, what bound the last decision."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.positions(engine, vault)
    if as_json:
        print_json(found)
        return
    shown = _shown(exact)
    held = [
        (position["vault"], position["position"], position["symbol"], position["side"], position["quantity"],
         _price(position["entry_price"]), _price(position["mark_price"]), shown(position["leverage"]),
         shown(position["effective_leverage"]), shown(position["open_profit"]), position["bound"])
        for position in found
    ]  # fmt: skip
    columns = ("vault", "position", "symbol", "side", "quantity", "entry", "mark", "leverage, of collateral",
               "effective, of equity", "profit", "bound by")  # fmt: skip
    print_table("Positions", columns, held, keys=2)
    margins = [
        (position["vault"], position["position"], shown(position["margin"]), shown(position["equity"]),
         shown(position["maintenance_margin"]), _price(position["liquidation_price"]),
         _percent(position["liquidation_distance"]))
        for position in found
        if position["side"] != "flat"
    ]  # fmt: skip
    if margins:
        heads = ("vault", "position", "margin", "equity", "maintenance", "liquidation", "distance")
        days = sorted({str(position["table_valid_from"]) for position in found if position["side"] != "flat"})
        print_table(f"Margin, by tables valid from {' and '.join(days)}", heads, margins, keys=2)
    for position in found:
        if position["pending"] is not None:
            print_text(f"{position['vault']}/{position['position']}: {position['pending']}")


def _price(text: str | None) -> str | None:
    """A price with the decimals that it has."""
    from ringfence.words.numbers import readable

    return readable(text, None)


@app.command()
def statement(
    holder: Annotated[str | None, typer.Argument(metavar="[HOLDER]", help="One holder; all where left out.")] = None,
    vault: Annotated[
        str | None, typer.Option("--vault", metavar="VAULT", help="One vault; all where left out.")
    ] = None,
    db: Database = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """Show holders' statements, derived from the journal and checked against the books; for one holder, every act."""
    from ringfence.faces import queries

    with database(db, writes=False) as engine:
        found = queries.statements(engine, vault, holder)
    if as_json:
        print_json(found)
        return
    shown = _shown(exact)
    worth = [
        (held["vault"], held["holder"], held["currency"], shown(held["deposited"]), shown(held["redeemed"]),
         shown(held["value"]), shown(held["profit"]), shown(held["lose_most"]), shown(held["value_worst"]),
         shown(held["free_now"]), shown(held["at_next_strike_about"]))
        for held in found
    ]  # fmt: skip
    columns = ("vault", "holder", "in", "paid in", "paid out", "worth now", "profit", "most you can lose from here",
               "worth at the wall", "free now", "at the next strike, about")  # fmt: skip
    print_table("Statements", columns, worth, keys=2)
    shares = [
        (held["vault"], held["holder"], shown(held["shares"], 3), shown(held["waiting"], 3), shown(held["entering"]),
         shown(held["entry_price"], 6), shown(held["nav_per_share"], 6))
        for held in found
    ]  # fmt: skip
    names = ("vault", "holder", "shares", "asked back", "waits to enter", "entry price", "NAV/share")
    print_table("Shares", names, shares, keys=2)
    _print_strikes(found)
    for held in found:
        _print_orders(held, shown)
    for held in found if holder is not None else ():
        _print_rebase(held, shown)
        told = [
            (act["time"], act["kind"], None if act["kind"] == "request" else shown(act["amount"]),
             shown(act["shares"], 3), shown(act["nav_per_share"], 6), shown(act["cost"]), act["row"])
            for act in held["acts"]
        ]  # fmt: skip
        heads = ("time", "act", f"amount, {held['currency']}", "shares", "NAV/share", "trading cost", "journal row")
        print_table(f"{held['holder']} in {held['vault']}", heads, told)


def _print_strikes(found: list[dict[str, Any]]) -> None:
    """When anybody can leave, and which vaults stand at their wall: a line for each vault."""
    for held in {held["vault"]: held for held in found}.values():
        print_text(
            f"{held['vault']}: the next strike is the close of {held['next_strike']}; shares are paid at a strike, at "
            "its price less the trading that leaving causes. Before it only money that waits to enter is free."
        )
        if held["locked_since"] is not None:
            print_text(f"{held['vault']}: cash-locked since {held['locked_since']}; {held['at_wall']}.")
        if held["rebase_at"] is not None:
            print_text(
                f"{held['vault']}: a rebase is announced for {held['rebase_at']}: the wall is set anew at the first "
                "strike from then on; who wants the wall as it is asks for his shares before."
            )


def _print_rebase(held: dict[str, Any], shown: "Callable[..., str | None]") -> None:
    """Where an announced rebase would leave a holder's shares."""
    if held["rebase_at"] is not None:
        print_text(
            f"{held['holder']} in {held['vault']}: from the rebase of {held['rebase_at']} on, at the price of now, "
            f"about {shown(held['value_worst_rebased_about'])} {held['currency']} stand behind the wall, today "
            f"{shown(held['value_worst'])}."
        )


def _print_orders(held: dict[str, Any], shown: "Callable[..., str | None]") -> None:
    """What waits, for which strike, what it about comes to, and why."""
    for order in held["orders"]:
        money, shares = f"{{}} {held['currency']}", "{} shares"
        enters = order["side"] == "deposit"
        asked, comes_to = (money, shares) if enters else (shares, money)
        places = (2, 3) if enters else (3, 2)
        what = asked.format(shown(order["remaining"], places[0]))
        about = comes_to.format(shown(order["comes_to_about"], places[1]))
        told = "to enter" if enters else "asked back"
        print_text(
            f"{held['holder']} in {held['vault']}: order {order['order']}, {what} {told} at {order['given']}, waits "
            f"for the strike of {order['strike']} and comes to about {about}: {order['why']}"
        )


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
    kinds: Annotated[bool, typer.Option("--kinds", help="List the kinds of events there are, and stop.")] = False,
    db: Database = None,
    exact: Exact = False,
    as_json: Json = False,
) -> None:
    """List what happened, oldest first: acts of holders, resizes, margin calls, liquidations, refusals, with causes."""
    from ringfence.faces import queries

    if kinds:
        _print_kinds(as_json)
        return

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
    shown_as = _shown(exact)
    columns = ("time", "vault", "event", "position", "cause", "before", "after", "effective leverage", "amount",
               "fee")  # fmt: skip
    rows = [
        (event["time"], event["vault"], event["kind"], event["position"], event["cause"], event["before"],
         event["after"], _leverages(event), shown_as(event["amount"]), shown_as(event.get("fee")))
        for event in found
    ]  # fmt: skip
    print_table("Events", columns, rows, keys=2)
    if left_out and limit is None:
        remark(f"only the last {shown} are shown; see more with --limit N, or all with --json")


def _leverages(event: dict[str, Any]) -> str | None:
    from ringfence.words.numbers import readable

    before, after = (readable(event.get(f"leverage_{when}"), 2) for when in ("before", "after"))
    return f"{before or 0} -> {after or 0}" if before or after else None


def _print_kinds(as_json: bool) -> None:
    from ringfence.faces.event_lines import KINDS_TOLD

    if as_json:
        print_json(KINDS_TOLD)
    else:
        print_table("Kinds of events", ("kind", "what it tells"), list(KINDS_TOLD.items()))


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
