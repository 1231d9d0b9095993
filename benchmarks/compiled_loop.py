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

from benchmarks._inputs import ASSETS, KEEP, best, funded, proposals, terms, tiers, walk
from ringfence.markets.simulator import blank_series, simulate
from ringfence.risk.book import Rows
from ringfence.risk.compiled import compiled
from ringfence.risk.engine import blank_plan, gross_multiplier, plan_position
from ringfence.risk.tape import blank_tape, rewind


@compiled
def leverage_only(
    positions: Any, vault_limits: Any, limits: Any, instruments: Any, bars: Any, decision: Any, proposals: Any,
    plans: Any, assets: int, wall: int, navs: Any,
) -> float:  # fmt: skip
    nav = float(assets)
    for bar in range(1, bars.shape[0]):
        for p in range(positions.size):
            s = positions[p].symbol
            moved = bars[bar, s].mark_close - bars[bar - 1, s].mark_close
            nav += float(positions[p].quantity * instruments[s].unit) * moved
        row = decision[bar]
        if row < 0:
            continue
        capital, gross = max(0, int(nav) - wall), 0.0
        for p in range(positions.size):
            s = positions[p].symbol
            gross += plan_position(
                positions[p], limits[p], instruments[s], bars[bar, s], proposals[row, p], capital, 1.0, plans[p]
            )
        if gross_multiplier(vault_limits[0], int(nav), gross) == 1.0:
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
        self.rows = walk(bars, each)
        self.proposals = proposals(self.rows, every, positions)
        self.decision = np.full(bars, -1, np.int64)
        self.decision[every - 1 :: every] = np.arange(bars // every)
        self.terms, self.tiers = terms(vaults, each), tiers(each)
        self.tape = blank_tape(200_000, 100_000)
        self.series = blank_series(bars // every, vaults, positions, detailed=False)
        self.series.vaults.nav[:] = 1
        self.plans: Rows = blank_plan(positions)
        self.navs = np.ones(bars // every)
        self.prepare()

    def prepare(self) -> None:
        self.book = funded(self.vaults, self.each)

    def whole(self) -> None:
        bar = 0
        while bar < self.bars:
            bar = simulate(self.book, self.terms, self.tiers, self.rows, self.decision, self.proposals, self.tape,
                           self.series, bar, self.bars)  # fmt: skip
            rewind(self.tape)

    def bare(self) -> None:
        leverage_only(self.book.positions, self.terms.vaults, self.terms.positions, self.tiers, self.rows,
                      self.decision, self.proposals, self.plans, self.vaults * ASSETS,
                      self.vaults * ASSETS * KEEP // 10**6, self.navs)  # fmt: skip

    def measure(self) -> dict[str, Any]:
        times = [(best(self.whole, self.prepare, 3), best(self.bare, self.prepare, 3)) for _ in range(3)]
        whole, bare = min(one for one, _ in times), min(one for _, one in times)
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
    for one in found:
        speeds = [f"{one[name] / 1e6:.1f}" for name in ("position_bars_per_second", "bare_per_second")]
        cells = (one["bars"], one["vaults"], one["positions"], one["decides_every"], *speeds, one["ratio_to_bare"])
        print(" ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    small, large = found[-2]["seconds"], found[-1]["seconds"]
    print(f"16 times the bars take {large / small:.1f} times as long")


if __name__ == "__main__":
    main()
