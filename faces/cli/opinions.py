"""Commands about strategies: which there are, and whether one keeps its contract."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import Json, app, console, print_json, print_table, remark

if TYPE_CHECKING:
    from ringfence.faces.strategy_trials import Tried

__all__ = ["listed", "put_to_the_test"]

_group = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode=None,
    help="List the installed strategies and their parameters; `strategies test` tries one.",
)
app.add_typer(_group, name="strategies")


@_group.callback()
def listed(context: typer.Context, as_json: Json = False) -> None:
    """List the installed strategies and their parameters; `strategies test` tries one.

    One that cannot be used is named with the reason and takes no other along.
    """
    if context.invoked_subcommand is not None:
        return
    from rich.text import Text

    from ringfence.strategies.registry import catalogue

    told, known = catalogue().each(lambda strategy: (strategy.summary(), strategy.describe()))
    if as_json:
        sound: list[dict[str, Any]] = [
            {"name": name, "summary": summary, "parameters": [asdict(parameter) for parameter in parameters]}
            for name, (summary, parameters) in told.items()
        ]
        print_json(
            [{**one, "refusal": None} for one in sound]
            + [{"name": None, "summary": None, "parameters": [], "refusal": one.document()} for one in known.refused]
        )
        return
    shown = console()
    for name, (summary, parameters) in told.items():
        shown.print(Text.assemble((name, "bold"), f"  {summary}"))
        rows = [
            [
                parameter.name,
                parameter.unit,
                parameter.bounds,
                "required" if parameter.required else parameter.default,
                parameter.meaning,
            ]
            for parameter in parameters
        ]
        print_table("", ["parameter", "unit", "bounds", "default", "meaning"], rows, on=shown)
    for refusal in known.refused:
        remark(f"not usable: {refusal}")


@_group.command("test")
def put_to_the_test(
    target: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="An installed strategy, or a Python file that defines some.")
    ],
    stated: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PARAMETER=VALUE", help="A parameter as a mandate writes it; may be repeated."),
    ] = None,
    timeframe: Annotated[str, typer.Option("--timeframe", metavar="D", help="Length of the bars.")] = "1h",
    as_json: Json = False,
) -> None:
    """Try a strategy at every bar of several markets: look-ahead, memory, and proposals that cannot be used.

    Parameters that it needs and that are not set are chosen, and told. Ends with 1 where one of the trials fails.
    """
    from ringfence.faces.strategy_trials import tried

    found = tried(target, stated or (), timeframe)
    if as_json:
        print_json([one.document() for one in found])
    else:
        for one in found:
            _print(one)
    if not all(one.sound for one in found):
        raise typer.Exit(1)


def _print(one: "Tried") -> None:
    told = one.document()
    given = ", ".join(f"{name}: {value}" for name, value in told["parameters"].items())
    count = f"{told['lookback']} bar{'s' if told['lookback'] > 1 else ''}"
    title = f"{told['strategy']} {{{given}}}: {count} of {told['timeframe']} a proposal"
    rows = [[trial.market, trial.bars, trial.cuts, "holds" if trial.refusal is None else trial.refusal.code]
            for trial in one.trials]  # fmt: skip
    shown = console()
    shown.print(title)
    print_table("", ["market", "bars", "bars tried alone", "verdict"], rows, on=shown)
    for refusal, markets in one.refusals():
        others = f" and {len(markets) - 1} more" if len(markets) > 1 else ""
        remark(f"{markets[0]}{others}: {refusal}")
    remark(f"{told['strategy']}: {'holds' if one.sound else 'must not be run'}")
