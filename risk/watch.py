"""The watch over many positions at once: columns in, one pass, no allocation."""

from ringfence.risk.book import Floats, Ints
from ringfence.risk.compiled import compiled
from ringfence.risk.margin import profit

__all__ = ["mark_positions"]


@compiled
def mark_positions(
    symbol: Ints, quantity: Ints, cost: Ints, margin: Ints, trigger: Floats, unit: Ints, marks: Floats
) -> tuple[int, int]:
    """Sum of the equities (minor units; one below zero counts as zero) and how many positions need a maintenance check.

    Columns (P,): signed lots, cost basis and margin in minor units, `trigger` the mark at or past which maintenance is
    checked; `unit` and `marks` (N,) by symbol. A position without a trigger has 0.0 (long) or inf (short).
    """
    total, crossed = 0, 0
    for p in range(symbol.size):
        s = symbol[p]
        mark, lots = marks[s], quantity[p]
        long = lots > 0
        open_profit = profit(1 if long else -1, abs(lots), unit[s], mark, cost[p])
        total += max(0, margin[p] + open_profit)
        crossed += mark <= trigger[p] if long else mark >= trigger[p]
    return total, crossed
