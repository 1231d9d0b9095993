"""Commands that need no database: check, schema, margin."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Json, Venues, app, print_figures, print_json, remark

if TYPE_CHECKING:
    from ringfence.faces.calculator import Calculation
    from ringfence.vaults.mandate.terms import Mandate

__all__ = ["check", "margin", "schema"]


@app.command()
def check(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Mandate files, or folders of them.")],
    venues: Venues = None,
    as_json: Json = False,
) -> None:
    """Check mandates, and say what each of them means.

    Every fault is told with its file, line and column. A limiter that can never bind, or always will, is a warning.
    """
    from ringfence.faces.mandate_terms import remarks
    from ringfence.runtime import mandates

    checked = mandates.check(paths, venues)
    problems, sound = checked.problems, () if checked.problems else checked.mandates
    warnings = [warning for mandate in sound for warning in remarks(mandate)]
    if as_json:
        fields = ("file", "line", "column", "path", "message")
        print_json(
            {
                "problems": [{name: getattr(problem, name) for name in fields} for problem in problems],
                "mandates": [_meaning(mandate) for mandate in sound],
                "warnings": warnings,
            }
        )
    else:
        for line in (*problems, *map(_sentence, sound)):
            print(line)
        for warning in warnings:
            print(f"warning: {warning['mandate']}: {warning['path']}: {warning['message']}")
        for note in dict.fromkeys(note for mandate in sound for note in _replacing(mandate)):
            remark(f"note: {note}")
        if problems:
            remark(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
    if problems:
        raise typer.Exit(1)


def _replacing(mandate: "Mandate") -> list[str]:
    """Where a user's table stands in place of a shipped one."""
    from ringfence.markets.tables import stands_for

    return [told for told in map(stands_for, mandate.instruments) if told]


def _meaning(mandate: "Mandate") -> dict[str, Any]:
    from ringfence.faces.table_lines import tables_of
    from ringfence.vaults.mandate.recorded import instruments_of
    from ringfence.words.numbers import format_decimal, format_ppm
    from ringfence.words.times import format_duration

    return {
        "mandate": mandate.name,
        "title": mandate.title,
        "currency": mandate.currency,
        "loss_cap": format_ppm(mandate.loss_cap),
        "timeframe": format_duration(mandate.timeframe),
        "fingerprint": mandate.fingerprint,
        "tables": [table.document() for table in tables_of(instruments_of(mandate).values())],
        "positions": {
            name: {
                "symbol": position.symbol,
                "share": format_ppm(position.share),
                "strategy": position.strategy.name,
                "leverage_max": format_decimal(position.leverage_max),
            }
            for name, position in mandate.positions.items()
        },
    }


def _sentence(mandate: "Mandate") -> str:
    told = _meaning(mandate)
    tables = " and ".join(
        f"{table['venue']} valid from {table['valid_from']}{'' if table['is_shipped'] else ' (yours)'}"
        for table in told["tables"]
    )
    held = ", ".join(
        f"{position['symbol']} ({position['share']} of the risk capital, {position['strategy']}, "
        f"at most {position['leverage_max']}× that)"
        for position in told["positions"].values()
    )
    return (
        f"{told['mandate']}: in {told['currency']}, wall {told['loss_cap']} below the highest price struck, "
        f"decides every {told['timeframe']}; {held}; by the tables of {tables}"
    )


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it to a file instead of standard output.")
    ] = None,
) -> None:
    """Print the JSON Schema of a mandate, for editors."""
    from ringfence.runtime.outputs import SCHEMA, write_whole
    from ringfence.strategies.registry import catalogue
    from ringfence.vaults.mandate.schema import json_schema
    from ringfence.words.terminal import json_text

    schemas, known = catalogue().each(lambda strategy: strategy.model_json_schema(by_alias=True))
    document = json_schema(schemas)
    for refusal in known.refused:
        remark(f"not in the schema: {refusal}")
    if output is None:
        print_json(document)
        return
    write_whole(output, json_text(document).encode() + b"\n", SCHEMA)
    remark(f"{output}: written; point your editor's YAML language server at it")


@app.command()
def margin(
    symbol: Annotated[str, typer.Option("--symbol", metavar="S", help="A known instrument, or with --rate any name.")],
    side: Annotated[str, typer.Option("--side", metavar="SIDE", help="long or short.")],
    quantity: Annotated[
        str, typer.Option("--quantity", metavar="Q", help="In the base currency; inverse: in the quote currency.")
    ],
    entry: Annotated[str, typer.Option("--entry", metavar="P", help="Average entry price.")],
    posted: Annotated[
        str | None, typer.Option("--margin", metavar="M", help="Isolated margin posted, in the settlement currency.")
    ] = None,
    leverage: Annotated[
        str | None,
        typer.Option("--leverage", metavar="L", help="In place of --margin: what the notional is divided by."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R", help="Maintenance rate, like 0.5%, in place of the venue's tiers."),
    ] = None,
    amount: Annotated[
        str | None, typer.Option("--amount", metavar="C", help="Maintenance amount (deduction) that goes with --rate.")
    ] = None,
    fee: Annotated[
        str | None, typer.Option("--fee", metavar="F", help="Closing fee that the venue counts, like 0.05%.")
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Settled in the base currency.")] = False,
    mark: Annotated[str | None, typer.Option("--mark", metavar="P", help="Mark price. [default: the entry]")] = None,
    venues: Venues = None,
    as_json: Json = False,
) -> None:
    """Calculate margins, liquidation and bankruptcy price."""
    from ringfence.faces.calculator import Request, calculate
    from ringfence.markets.tables import check_tables, shipped

    asked = Request(symbol, side, quantity, entry, posted, leverage, rate, amount, fee, inverse, mark)
    found = calculate(asked, check_tables(venues or ()).over(shipped()))
    if as_json:
        print_json(found.document())
        return
    _print_calculation(found)
    if found.distance == 0.0:
        remark("the mark is at or past the liquidation price: this position is liquidated")
    if found.initial_margin is not None and found.margin < found.initial_margin:
        remark("the margin is below what the venue asks to open this position")
    most = found.instrument.notional_max
    if most is not None and found.notional > most:
        remark("the position is larger than the last tier of the venue's table: the venue does not take it")
    sys.stdout.flush()


def _print_calculation(found: "Calculation") -> None:
    from ringfence.words.numbers import format_percentage

    told, currency = found.document(), found.instrument.settle
    figures: dict[str, object] = {
        "entry price": told["entry_price"],
        "mark price": told["mark_price"],
        "notional at the mark": f"{told['notional']} {currency}",
        "margin posted": f"{told['margin']} {currency}",
        "initial margin": None if told["initial_margin"] is None else f"{told['initial_margin']} {currency}",
        "maintenance margin": f"{told['maintenance_margin']} {currency}",
        "tier": f"{told['tier']} (rate {told['tier_rate']}, deduction {told['tier_deduction']} {currency})",
        "open profit": f"{told['open_profit']} {currency}",
        "equity": f"{told['equity']} {currency}",
        "leverage at the mark": None if told["leverage"] is None else f"{told['leverage']}×",
        "liquidation price": told["liquidation_price"] or "none: no price reaches it",
        "bankruptcy price": told["bankruptcy_price"] or "none: no price reaches it",
    }
    if found.table is not None:
        figures["table"] = str(found.table)
    if found.distance is not None:
        tier = "" if found.liquidation_tier == found.tier else f" (tier {found.liquidation_tier} there)"
        figures["distance at the mark"] = f"{format_percentage(found.distance, places=4)}{tier}"
    print_figures(f"{told['side']} {told['quantity']} {told['quantity_currency']} of {told['symbol']}", figures)
