"""What the sampled cuts cost a back-test of the shipped mandates, as a share of the run without them.

Without them each strategy is asked once, for all bars; with them it is asked for some bars alone, too. The run is all
of `backtest`: cutting into slots, proposals, the compiled loop and what is described of it. At most 0.1 is asked for.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from benchmarks._inputs import best
from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.markets.slots import Slots
from ringfence.runtime.backtest import backtest
from ringfence.runtime.mandates import load
from ringfence.runtime.setup import set_up
from ringfence.strategies.causality import foretold
from ringfence.strategies.guard import proposals

MANDATES = Path(__file__).resolve().parents[1] / "mandates"
MINUTE, HOUR = 60_000, 3_600_000
CASES = (
    ("btc-constant", HOUR, 720),
    ("btc-constant", HOUR, 8_760),
    ("btc-eth-shield", HOUR, 720),
    ("btc-eth-shield", HOUR, 8_760),
    ("btc-eth-shield", HOUR, 43_800),
    ("btc-eth-shield", MINUTE, 525_600),
    ("majors-trend", HOUR, 43_800),
)


def market(symbols: tuple[str, ...], timeframe: int, size: int) -> Market:
    """Random walks at 60 % volatility."""
    bars, deviation = {}, 0.6 / np.sqrt(365 * 24 * HOUR / timeframe)
    for number, symbol in enumerate(symbols):
        close = 20_000.0 * np.exp(np.cumsum(np.random.default_rng(number).normal(0.0, deviation, size)))
        open = np.append(20_000.0, close[:-1])
        ts = np.arange(size, dtype=np.int64) * timeframe
        bars[symbol] = Bars(symbol, timeframe, ts, open, np.maximum(open, close), np.minimum(open, close), close,
                            np.full(size, 1e9))  # fmt: skip
    return align(bars)


def measured(name: str, timeframe: int, size: int) -> dict[str, object]:
    """Processor time, for the machines that run this are shared."""
    setup = set_up(load([MANDATES / f"{name}.yaml"])[0])
    history = market(setup.symbols, timeframe, size)
    asked = [*zip(setup.strategies, Slots(history, setup.mandate.timeframe).bars, strict=True)]
    whole = best(lambda: backtest(setup, history, {"alice": 10**11}), runs=9, clock=time.process_time)
    checked = best(lambda: [foretold(*each) for each in asked], runs=15, clock=time.process_time)
    once = best(lambda: [proposals(*each) for each in asked], runs=15, clock=time.process_time)
    cuts = checked - once
    return {"mandate": name, "bars": size, "timeframe_ms": timeframe, "run_ms": round((whole - cuts) * 1e3, 2),
            "cuts_ms": round(cuts * 1e3, 2), "share": round(cuts / (whole - cuts), 3)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found = [measured(*case) for case in CASES]
    if as_json:
        print(json.dumps(found))
        return
    print("mandate            bars timeframe       run      cuts  share")
    for row in found:
        span = f"{int(str(row['timeframe_ms'])) // MINUTE} min"
        print(f"{row['mandate']:15}{row['bars']:8} {span:>9} {row['run_ms']:6.1f} ms {row['cuts_ms']:6.2f} ms  "
              f"{row['share']:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
