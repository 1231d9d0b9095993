"""The commands about instruments: which are known, what one demands, and tables made of an exchange's own files."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Json, Venues, app, print_figures, print_json, print_table, remark

if TYPE_CHECKING:
    from ringfence.markets.instruments import Catalogue, Instrument

__all__ = ["take", "tell"]

_LISTED = 5
"""Markets named in a remark."""


class _Instruments(typer.core.TyperGroup):
    """The group whose first word may be an instrument: `ringfence instruments BTC/USDT:USDT` shows that one."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["show", *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


group = typer.Typer(cls=_Instruments, invoke_without_command=True, rich_markup_mode=None)
app.add_typer(group, name="instruments")


def _known(venues: list[Path] | None) -> "Catalogue":
    from ringfence.markets.tables import check_tables, shipped

    return check_tables(venues or ()).over(shipped())


@group.callback()
def tell(context: typer.Context, venues: Venues = None, as_json: Json = False) -> None:
    """List the instruments that mandates may name, with the day and the source of their terms.

    `ringfence instruments SYMBOL` shows one with its tiers; `ringfence instruments import FILE...` makes a table.
    """
    if context.invoked_subcommand is not None:
        return
    known = _known(venues).instruments
    if as_json:
        print_json([_document(one) for one in known])
        return
    print_table("", ["instrument", "lot", "tick", "leverage", "valid from", "table"], [_row(one) for one in known])
    for table in _tables(known):
        print(f"{table.venue}, valid from {table.valid_from}: {table.source}")
    _tell_replaced(known)


@group.command("show")
def show(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Like BTC/USDT:USDT, or okx:BTC/USDT:USDT.")],
    venues: Venues = None,
    as_json: Json = False,
) -> None:
    """Show one instrument: its lot, fees and tiers, from which day they hold, and where they come from."""
    one = _known(venues).find(symbol)
    if as_json:
        print_json(_document(one))
        return
    told, unit = one.record(), one.base if one.kind == "linear" else one.quote
    figures: dict[str, object] = {
        "settles in": f"{one.settle} ({one.kind})",
        "contract": f"{told['contract_size']} {unit}",
        "lot": f"{told['lot']} contracts",
        "tick": told["tick"],
        "smallest order": f"{told['notional_min']} {one.settle}",
        **{name.replace("_", " "): _percent(told[name]) for name in ("taker_fee", "maker_fee", "liquidation_fee")},
        "valid from": one.valid_from,
        "table": _whose(one),
    }
    print_figures(one.name, figures)
    rows = [
        [number, floor, cap, _percent(rate), leverage, deduction]
        for number, (floor, cap, rate, leverage, deduction) in enumerate(told["tiers"], start=1)
    ]
    heads = ["tier", f"from, {one.settle}", "to", "rate", "leverage", "deduction"]
    print_table("", heads, rows)
    print(f"source: {one.source}")
    _tell_replaced([one])


@group.command("import")
def take(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON of ccxt: load_markets, fetch_markets, fetch_leverage_tiers."),
    ],
    venue: Annotated[str, typer.Option("--venue", metavar="NAME", help="The venue's short name, like binance.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the table there. [default: standard output]")
    ] = None,
    valid_from: Annotated[
        str | None,
        typer.Option("--valid-from", metavar="DAY", help="The day of the files. [default: the day in their names]"),
    ] = None,
    liquidation_fee: Annotated[
        str | None, typer.Option("--liquidation-fee", metavar="F", help="Where the files do not say it, like 1.25%.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SYMBOL", help="Take this market and no other; repeatable.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--leave-out", metavar="SYMBOL", help="Leave this market out; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a table that stands in the file's place.")] = False,
    venues: Venues = None,
) -> None:
    """Make a table of a venue's instruments from what ccxt writes of its markets and leverage tiers.

    Markets give lot, tick and fees, tiers the margin. What the files do not say is taken from the instruments that are
    known already; a market that lacks more is left out and named.
    """
    from ringfence.faces.imports import Asked, make_table

    asked = Asked(tuple(files), venue, valid_from, liquidation_fee, tuple(only or ()), tuple(without or ()))
    made = make_table(asked, _known(venues))
    for reason, symbols in made.left_out.items():
        more = f" and {len(symbols) - _LISTED} more" if len(symbols) > _LISTED else ""
        remark(f"left out, {reason}: {', '.join(symbols[:_LISTED])}{more}")
    if out is None:
        print(made.text, end="")
        remark(f"{len(made.instruments)} instruments; nothing was written: --out {venue}.yaml writes them")
        return
    for change in made.changes(out, may_replace=force or dry_run):
        remark(change)
    if dry_run:
        remark(f"{out}: {len(made.instruments)} instruments would be written")
        return
    from ringfence.runtime.outputs import TABLE, write_whole

    write_whole(out, made.text.encode(), TABLE, files)
    remark(f"{out}: {len(made.instruments)} instruments written, valid from {made.instruments[0].valid_from}")


# ---------------------------------------------------------------------------------------------------- what is shown


def _tables(known: "Sequence[Instrument]") -> Any:
    from ringfence.faces.table_lines import tables_of

    return tables_of(known)


def _whose(one: "Instrument") -> str:
    from ringfence.markets.tables import shipped

    return "shipped" if shipped().at(one.key) == one else "yours"


def _percent(fraction: str) -> str:
    from decimal import Decimal

    from ringfence.words.numbers import format_percentage

    return format_percentage(Decimal(fraction))


def _row(one: "Instrument") -> list[object]:
    told = one.record()
    return [one.name, told["lot"], told["tick"], told["tiers"][0][3], one.valid_from, _whose(one)]


def _document(one: "Instrument") -> dict[str, Any]:
    """As JSON: the terms as a table has them, amounts and rates as texts."""
    fields = ("from", "to", "rate", "leverage_max", "deduction")
    told = one.record()
    tiers = [dict(zip(fields, tier, strict=True)) for tier in told.pop("tiers")]
    identity = {"key": one.key, "name": one.name, "kind": one.kind, "settle": one.settle, "table": _whose(one)}
    return {**told, **identity, "tiers": tiers}


def _tell_replaced(known: "Sequence[Instrument]") -> None:
    from ringfence.markets.tables import stands_for

    for told in filter(None, map(stands_for, known)):
        remark(f"note: {told}")
