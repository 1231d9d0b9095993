"""The compiled loop with every rule on, beside a bare loop that does the same leverage arithmetic and nothing else.

The bare loop is the least that a back-test of leverage can be: it reads the same rows, carries NAV forward by the
lots it holds, asks the same function for limiters, band, caps and lots, and holds what it says. It knows no margin, no
funding, no liquidation, no wall, no fees, and writes nothing down but NAV. Every figure is the best of several runs
taken in turn in one process, and what counts is the ratio.
"""

import argparse
import json
from typing import Any

import numpy as np

from benchmarks._inputs import ASSETS, KEEP, best, funded, terms, tiers, walk
from ringfence.markets.simulator import Record, blank_series, simulate
from ringfence.risk.book import Rows, Seat, Terms
from ringfence.risk.compiled import compiled
from ringfence.risk.engine import Budget, blank_plan, plan_position
from ringfence.risk.tape import blank_tape, rewind


@compiled
def leverage_only(book: Any, terms: Any, walk: Any, plans: Any, navs: Any) -> float:
    vaults, positions = book
    (vault_limits, limits), instruments = terms
    bars, _, _, _, slot, proposals = walk
    assets = vaults.size * ASSETS
    nav, wall = float(assets), assets // 10**6 * KEEP
    for bar in range(1, bars.shape[0]):
        for p in range(positions.size):
            s = positions[p].symbol
            moved = bars[bar, s].mark_close - bars[bar - 1, s].mark_close
            nav += float(positions[p].quantity * instruments[s].unit) * moved
        row = slot[bar]
        if row < 0:
            continue
        budget, gross = Budget(max(0, int(nav) - wall), 1.0, 1.0, False), 0.0
        for p in range(positions.size):
            s = positions[p].symbol
            seat = Seat(vaults[0], positions[p], limits[p], instruments[s])
            gross += plan_position(seat, bars[bar, s], proposals[row, p], budget, plans[p])
        if gross <= vault_limits[0].gross_leverage_max * nav:
            for p in range(positions.size):
                positions[p].quantity = plans[p].target
        navs[row] = nav
    return nav


CASES = (
    (1_000_000, 1, 1, 1),
    (1_000_000, 1, 1, 60),
    (50_000, 20, 5, 1),
    (50_000, 20, 5, 15),
    (50_000, 20, 5, 60),
    (250_000, 1, 1, 1),
    (4_000_000, 1, 1, 1),
)
"""(bars, vaults, positions of each, decides at every ... bars)"""


class Case:
    def __init__(self, bars: int, vaults: int, each: int, every: int) -> None:
        self.bars, self.vaults, self.each, self.every = bars, vaults, each, every
        positions = vaults * each
        self.walk = walk(bars, each, every, positions)
        self.terms = Terms(terms(vaults, each), tiers(each))
        series = blank_series(bars // every, vaults, positions, detailed=False)
        series.vaults.nav[:] = 1
        self.record = Record(blank_tape(200_000, 100_000), series)
        self.plans: Rows = blank_plan(positions)
        self.navs = np.ones(bars // every)
        self.prepare()

    def prepare(self) -> None:
        self.book = funded(self.vaults, self.each)

    def whole(self) -> None:
        bar = 0
        while bar < self.bars:
            bar = simulate(self.book, self.terms, self.walk, self.record, (bar, self.bars))
            rewind(self.record.tape)

    def bare(self) -> None:
        leverage_only(self.book, self.terms, self.walk, self.plans, self.navs)

    def measure(self) -> dict[str, Any]:
        times = [(best(self.whole, self.prepare, 3), best(self.bare, self.prepare, 3)) for _ in range(3)]
        whole, bare = (min(column) for column in zip(*times, strict=True))
        cells = self.bars * self.vaults * self.each
        return {
            "bars": self.bars, "vaults": self.vaults, "positions": self.vaults * self.each, "decides_every": self.every,
            "position_bars_per_second": round(cells / whole), "bare_per_second": round(cells / bare),
            "ratio_to_bare": round(bare / whole, 3), "seconds": round(whole, 4),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    found = []
    for case in CASES:
        found.append(Case(*case).measure())
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    heads = ("bars", "vaults", "positions", "decides every", "million position-bars/s", "bare", "ratio")
    widths = (9, 6, 9, 13, 23, 7, 6)
    print(" ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    for row in found:
        speeds = [f"{row[name] / 1e6:.1f}" for name in ("position_bars_per_second", "bare_per_second")]
        cells = (row["bars"], row["vaults"], row["positions"], row["decides_every"], *speeds, row["ratio_to_bare"])
        print(" ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    small, large = found[-2]["seconds"], found[-1]["seconds"]
    print(f"16 times the bars take {large / small:.1f} times as long")


if __name__ == "__main__":
    main()
