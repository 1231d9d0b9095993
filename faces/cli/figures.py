"""The figures of runs on the screen, and the command that tells their formulas."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ringfence.faces.cli.app import Json, app, console, print_json, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from ringfence.runtime.figures import Figures
    from ringfence.runtime.runs import VaultRun

__all__ = ["figures", "print_performance"]


def print_performance(
    runs: "Sequence[VaultRun]", found: "Sequence[Figures | None]", exact: bool, on: "Console | None" = None
) -> None:
    """What each run came to beside its yardsticks, and what it cost."""
    from ringfence.faces.cli.app import program
    from ringfence.faces.figures import cost_rows, measured_rows, periods

    shown = on or console()
    told = [(run, of) for run, of in zip(runs, found, strict=True) if of is not None]
    for run, of in told:
        heads, rows = measured_rows(of)
        print_table(run.vault, heads, rows, on=shown)
        costs = cost_rows(of, run.decimals, None if exact else 2)
        print_table("", ["costs", run.currency, "of mean NAV", "a year"], costs, on=shown)
        print(periods(of.vault.performance))
    if told:
        print(f"Every formula: {program()} figures\n")


@app.command()
def figures(as_json: Json = False) -> None:
    """List the figures that back-tests and reports tell, with their formulas."""
    from ringfence.faces.figures import COSTS, LINES, YARDSTICKS

    if as_json:
        print_json(
            [{"figure": line.key, "label": line.label.strip(), "formula": line.formula} for line in LINES]
            + [{"figure": f"costs.{key}", "label": label, "formula": text} for key, (label, text) in COSTS.items()]
            + [{"figure": key, "label": label, "formula": text} for key, (label, text) in YARDSTICKS.items()]
        )
        return
    print_table("Figures", ("figure", "formula"), [(line.label.strip(), line.formula) for line in LINES])
    print_table("Costs", ("cost", "formula"), list(COSTS.values()))
    print_table("Yardsticks, on the same bars and decisions", ("yardstick", "rule"), list(YARDSTICKS.values()))
    print(
        "r: NAV per share at a decision over that at the one before, less 1; n of them, p = n / years of them a year."
    )
    print("A year has 365 days, for markets that never close. A dash: the figure does not exist.")
