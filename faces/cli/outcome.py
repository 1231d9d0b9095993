"""How the outcome of runs is shown: the vaults beside each other for people, or one JSON document."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.faces.cli.app import console, print_json, print_table, remark

if TYPE_CHECKING:
    from ringfence.faces.table_lines import Table
    from ringfence.runtime.figures import Figures
    from ringfence.runtime.runs import VaultRun

__all__ = ["figures_of", "outcome", "print_outcome", "print_vaults"]

_BESIDE = 3
"""Vaults in one table."""


def outcome(
    runs: "Sequence[VaultRun]",
    found: "Sequence[Figures | None]",
    notes: Sequence[str],
    tables: "Sequence[Table]" = (),
) -> dict[str, Any]:
    """The JSON document of a run: its digest, summary and figures of each vault, what the series did not cover, and the
    tables of instruments."""
    from ringfence.faces.figures import document
    from ringfence.runtime.runs import digest, summary

    vaults = [
        {**summary(run), "figures": None if of is None else document(of, run.decimals)}
        for run, of in zip(runs, found, strict=True)
    ]
    told = [table.document() for table in tables]
    return {"digest": digest(runs), "vaults": vaults, "notes": list(notes), "tables": told}


def print_outcome(
    runs: "Sequence[VaultRun]",
    found: "Sequence[Figures | None]",
    notes: Sequence[str],
    tables: "Sequence[Table]",
    as_json: bool,
    exact: bool,
    places: "Mapping[str, str | Path | None]",
) -> None:
    """What runs came to, with the figures of each; `places` (a label and where it is) are where to look further."""
    from ringfence.faces.cli.figures import print_performance
    from ringfence.runtime.runs import digest

    if as_json:
        print_json(outcome(runs, found, notes, tables))
        return
    print_vaults(runs, exact)
    print_performance(runs, found, exact)
    print(f"digest    {digest(runs)}")
    for table in tables:
        print(f"table     {table}")
    for label, where in places.items():
        if where:
            print(f"{label:<9} {where}")
    for note in notes:
        remark(f"note: {note}")


def print_vaults(runs: "Sequence[VaultRun]", exact: bool = False) -> None:
    """The figures of the vaults, a few of them beside each other."""
    shown = console()
    for start in range(0, len(runs), _BESIDE):
        beside = [figures_of(run, exact) for run in runs[start : start + _BESIDE]]
        names = [run.vault for run in runs[start : start + _BESIDE]]
        rows = [[label, *(figures[label] for figures in beside)] for label in beside[0]]
        print_table("", ["", *names], rows, on=shown)


def figures_of(run: "VaultRun", exact: bool = False) -> dict[str, str | None]:
    """A run of at least one slot in figures for people, by label; `exact`: money with all its digits."""
    from ringfence.runtime.runs import summary
    from ringfence.words.numbers import (
        dashed,
        format_amount,
        format_count,
        format_mark,
        format_per_share,
        format_percentage,
        format_share_price,
        readable,
        shortened,
    )
    from ringfence.words.times import stamp

    told = summary(run)
    places = None if exact else 2
    nav, wall, shares = int(run.nav[-1]), int(run.wall[-1]), int(run.shares[-1])
    return {
        "from": stamp(int(run.ts[0])),
        "to": stamp(int(run.ts[-1])),
        f"worth, {run.currency}": format_amount(nav, run.decimals, for_people=True, places=places),
        f"wall, {run.currency}": format_amount(wall, run.decimals, for_people=True, places=places),
        "NAV per share": format_per_share(nav, shares, for_people=True),
        "  at its lowest": format_share_price(run.price_low, for_people=True),
        "  high-water mark": shortened(dashed(format_mark(int(run.high_water_mark[-1]))), 6),
        "wall per share": format_per_share(wall, shares, for_people=True),
        "nearest to the wall": format_percentage(run.distance_low, places=2),
        "decisions": format_count(len(run.ts)),
        "resizes": format_count(told["resizes"]),
        "margin calls": format_count(told["margin_calls"]),
        "liquidations": format_count(told["liquidations"]),
        "refusals": format_count(told["refusals"]),
        f"shortfall, {run.currency}": readable(told["shortfall"], places),
    }
