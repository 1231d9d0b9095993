"""What realising open profit costs on recorded years, in % of NAV a year, and what each sweep returns.

    .venv/bin/python -m benchmarks.rolls [BARS] [--json]

BARS: hourly bars of BTC/USDT:USDT, by default the recorded ones beside the project. One position with a constant
multiple of the cushion, cap 30 %, taker fee 0.05 %, spread and slippage 0.03 %. No clock is read: these are money.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ringfence.markets.files import read_bars
from ringfence.markets.market import Market, align
from ringfence.risk.events import Kind
from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import VaultRun
from ringfence.runtime.setup import set_up
from ringfence.vaults.mandate.check import load_mandate

SYMBOL = "BTC/USDT:USDT"
BARS = Path(__file__).resolve().parents[2] / "shared" / "data" / "perp_BTCUSDT_1h.parquet"
PAID_IN = 100_000 * 10**6
YEARS = (2021, 2022, 2023, 2024, 2025)
MANDATE = """
mandate: rolls
currency: USDT
loss_cap: 30%
timeframe: 1h
sweep: {sweep}
at_wall: {at_wall}
venue: {{half_spread: 0.01%, slippage: 0.02%, taker_fee: 0.05%}}
limits: {{gross_leverage_max: {gross}}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 100%
    strategy: {{name: constant, leverage: {multiple}}}
    leverage_max: {multiple}
    volatility_max: 100000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 0%}}
    margin_call: {{at: 1.1, then: reduce, to: 1.5}}
"""
_TAKER, _AROUND = 0.0005, 0.0003
"""Of a fill's value: the fee, and half the spread with the slippage."""


def _between(market: Market, first: int, last: int) -> Market:
    start, stop = (int(np.datetime64(f"{year}-01-01", "ms").astype(np.int64)) for year in (first, last + 1))
    bars = market.bars(0)
    rows = slice(int(np.searchsorted(bars.ts, start)), int(np.searchsorted(bars.ts, stop)))
    return align({SYMBOL: bars[rows]})


def _measured(run: VaultRun, years: int) -> dict[str, float]:
    kinds = Counter(event.kind for event in run.events)
    # what the two fills of a roll lose against the market: their fees, and as much of their value as lies around it
    rolled = sum(event.fee for event in run.events if event.kind is Kind.roll) * (1.0 + _AROUND / _TAKER)
    return {
        "return": run.nav[-1] / PAID_IN - 1.0,
        "rolls_yearly": kinds[Kind.roll] / 2 / years,
        "cost_yearly": rolled / float(run.nav.mean()) / years,
        "locked": float(run.locked.mean()),
        "rebased": kinds[Kind.rebased],
    }


def _line(case: dict[str, Any]) -> str:
    return (
        f"{case['multiple']:>2} x  {case['years']}  {case['sweep']}  {case['return']:+8.1%}  rolls "
        f"{case['rolls_yearly']:4.0f} a year  cost {case['cost_yearly']:7.3%}  locked {case['locked']:6.1%}  rebased "
        f"{case['rebased']}  at the wall: {case['at_wall'].strip('{}')}"
    )


def _cases(market: Market) -> Iterator[dict[str, Any]]:
    spans = [(year, year, "hold") for year in YEARS]
    spans += [(YEARS[0], YEARS[-1], wall) for wall in ("hold", "{rebase: {after: 30d, notice: 7d}}")]
    for multiple, gross in ((3, 2), (6, 2), (10, 3)):
        for first, last, wall in spans:
            part = _between(market, first, last)
            for sweep in ("roll", "trim"):
                text = MANDATE.format(sweep=sweep, at_wall=wall, multiple=multiple, gross=gross)
                run = backtest(set_up(load_mandate(text.encode())), part, {"alice": PAID_IN})
                terms = {"multiple": multiple, "years": f"{first}-{last}", "sweep": sweep, "at_wall": wall}
                yield terms | _measured(run, last - first + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bars", nargs="?", type=Path, default=BARS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if not asked.bars.exists():
        print(f"{asked.bars}: no recorded bars, so nothing is measured; name a file of hourly bars", file=sys.stderr)
        return
    found = []
    for case in _cases(align({SYMBOL: read_bars(asked.bars, SYMBOL)})):
        found.append(case)
        if not asked.json:
            print(_line(case), flush=True)
    if asked.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
