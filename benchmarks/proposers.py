"""What it costs to ask strategies in a process of their own, beside asking them in this one.

Microseconds a position of one call for so many positions, 200 bars each: the built-in strategies in turn, the mandate's
way. The start is the whole of the first call: an interpreter, its libraries, and the formulas loaded.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from ringfence.runtime.proposers import Asked, Opinion, Proposers
from ringfence.strategies.guard import confined, proposals
from ringfence.strategies.registry import build
from ringfence.strategies.trials import walk

HOUR, BARS = 3_600_000, 200
CALLS = (1, 4, 100)
STATEMENTS: dict[str, tuple[dict[str, Any], ...]] = {
    "constant": ({"name": "constant", "leverage": 2},),
    "all built in": (
        {"name": "constant", "leverage": 2},
        {"name": "liquidation_distance", "window": "3d"},
        {"name": "trend", "lookback": "7d", "target_volatility": "80%"},
        {"name": "vol_target", "target_volatility": "150%"},
    ),
}


def seconds(work: Callable[[], object], runs: int) -> float:
    """The median of several runs, after one that is not counted."""
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[1:])


def here(asked: list[Asked]) -> Callable[[], list[Opinion]]:
    """The same question to strategies built in this process, as a step asks it."""
    pairs = [(build(one.statement), one.bars) for one in asked]

    def ask() -> list[Opinion]:
        with confined:
            told = [proposals(strategy, bars) for strategy, bars in pairs]
        return [Opinion(float(leverage[-1]), bool(valid[-1])) for leverage, valid in told]

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    bars = walk(1, HOUR, beyond=BARS - 1)
    found: list[dict[str, Any]] = []
    with Proposers() as proposers:
        begin = time.perf_counter()
        proposers.propose([Asked(STATEMENTS["constant"][0], bars)])
        started = time.perf_counter() - begin
        for name, statements in STATEMENTS.items():
            for count in CALLS:
                asked = [Asked(statements[number % len(statements)], bars) for number in range(count)]
                inside = here(asked)
                assert proposers.propose(asked) == tuple(inside())
                runs = max(given.runs // count, 20)
                apart, own = seconds(partial(proposers.propose, asked), runs), seconds(inside, runs)
                each = {"apart_us": round(apart / count * 1e6, 1), "in_process_us": round(own / count * 1e6, 1)}
                found.append({"strategies": name, "positions": count, **each, "ratio": round(apart / own, 2)})
    if given.json:
        print(json.dumps({"bars": BARS, "start_s": round(started, 2), "calls": found}))
        return
    print(f"first call, the start of the process included: {started:.2f} s")
    for row in found:
        print(
            f"{row['strategies']:<13} {row['positions']:>3} positions a call  {row['apart_us']:>7.1f} us apart  "
            f"{row['in_process_us']:>7.1f} us in process  ratio {row['ratio']}"
        )


if __name__ == "__main__":
    main()
