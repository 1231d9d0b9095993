"""Marking and checking a million isolated positions at one tick, beside a compiled read of the same columns.

The work: equity of every position at its symbol's mark, rounded against it in exact integers, the sum of all equities,
and how many stand at or past the price at which their maintenance must be checked. The read adds up the same columns
and does nothing else; it is what memory alone costs.
"""

import argparse
import json
from typing import Any

import numpy as np

from benchmarks._inputs import best
from ringfence.risk.compiled import compiled
from ringfence.risk.marking import mark_positions

POSITIONS, SYMBOLS = 1_000_000, 200


@compiled
def read_columns(symbol: Any, quantity: Any, value: Any, margin: Any, trigger: Any) -> tuple[int, float]:
    whole, real = 0, 0.0
    for p in range(symbol.size):
        whole += symbol[p] + quantity[p] + value[p] + margin[p]
        real = max(real, trigger[p])
    return whole, real


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    random = np.random.default_rng(0)
    symbol = random.integers(0, SYMBOLS, POSITIONS).astype(np.int32)
    unit = np.full(SYMBOLS, 1000, np.int64)
    marks = random.uniform(0.5, 50_000.0, SYMBOLS)
    quantity = random.integers(1, 10_000, POSITIONS) * random.choice([-1, 1], POSITIONS)
    worth = np.abs(quantity) * unit[symbol] * marks[symbol]
    cost = (worth * random.uniform(0.98, 1.02, POSITIONS)).astype(np.int64)
    margin = (worth * random.uniform(0.05, 0.5, POSITIONS)).astype(np.int64)
    away = random.uniform(-0.0001, 0.5, POSITIONS)
    trigger = marks[symbol] * np.where(quantity > 0, 1.0 - away, 1.0 + away)
    columns = (symbol, quantity, cost, margin, trigger)
    pairs = [
        (best(lambda: mark_positions(*columns, unit, marks), runs=5), best(lambda: read_columns(*columns), runs=5))
        for _ in range(5)
    ]
    marking, reading = (min(column) for column in zip(*pairs, strict=True))
    found = {
        "positions": POSITIONS, "marking_ms": round(marking * 1e3, 3), "reading_ms": round(reading * 1e3, 3),
        "ratio": round(marking / reading, 3),
    }  # fmt: skip
    if parser.parse_args().json:
        print(json.dumps(found))
    else:
        print(f"{POSITIONS} positions in {SYMBOLS} symbols: marked and checked in {found['marking_ms']} ms, "
              f"columns read in {found['reading_ms']} ms, ratio {found['ratio']}")  # fmt: skip


if __name__ == "__main__":
    main()
