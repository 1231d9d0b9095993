"""Marking many positions at once: columns in, one pass, no allocation.

What it costs to look at every position, as `benchmarks/mark_positions.py` measures it; `risk.watch` finds those that a
price crosses without looking at the others. Linear contracts only, as everything that a vault trades.
"""

from typing import NamedTuple

from ringfence.risk.book import Floats, Holding, Ints
from ringfence.risk.compiled import compiled
from ringfence.risk.exposure import profit

__all__ = ["mark_positions"]


class _Contract(NamedTuple):
    """What an INSTRUMENT says of a lot's value."""

    unit: int
    inverse: bool


@compiled
def mark_positions(
    symbol: Ints, quantity: Ints, cost: Ints, margin: Ints, trigger: Floats, unit: Ints, marks: Floats
) -> tuple[int, int]:
    """Sum of the equities (minor units; one below zero counts as zero) and how many positions need a maintenance check.

    More than five arguments because positions come as plain columns: rows would be read with a stride.
    Columns (P,): signed lots, cost basis and margin in minor units, `trigger` the mark at or past which maintenance is
    checked; `unit` and `marks` (N,) by symbol. A position without a trigger has 0.0 (long) or inf (short).
    """
    total, crossed = 0, 0
    for p in range(symbol.size):
        s = symbol[p]
        mark, lots = marks[s], quantity[p]
        position = Holding(lots, cost[p], margin[p])
        total += max(0, margin[p] + profit(position, _Contract(unit[s], False), mark))
        crossed += mark <= trigger[p] if lots > 0 else mark >= trigger[p]
    return total, crossed
