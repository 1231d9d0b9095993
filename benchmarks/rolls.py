"""What realising open profit costs on recorded years, in % of NAV a year, and what each sweep returns.

    .venv/bin/python -m benchmarks.rolls [BARS]

BARS: hourly bars of BTC/USDT:USDT, by default the recorded ones beside the project. One position with a constant
multiple of the cushion, cap 30 %, taker fee 0.05 %, spread and slippage 0.03 %. No clock is read: these are money.
"""

import sys
from collections import Counter
from pathlib import Path

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


def _told(run: VaultRun, years: int) -> str:
    kinds = Counter(event.kind for event in run.events)
    # what the two fills of a roll lose against the market: their fees, and as much of their value as lies around it
    rolled = sum(event.fee for event in run.events if event.kind is Kind.roll) * (1.0 + _AROUND / _TAKER)
    cost = rolled / float(run.nav.mean()) / years
    gained = run.nav[-1] / PAID_IN - 1.0
    return (
        f"{gained:+8.1%}  rolls {kinds[Kind.roll] / 2 / years:4.0f} a year  cost {cost:7.3%}  locked "
        f"{run.locked.mean():6.1%}  rebased {kinds[Kind.rebased]}"
    )


def main() -> None:
    market = align({SYMBOL: read_bars(sys.argv[1] if len(sys.argv) > 1 else BARS, SYMBOL)})
    spans = [(year, year, "hold") for year in YEARS]
    spans += [(YEARS[0], YEARS[-1], wall) for wall in ("hold", "{rebase: {after: 30d, notice: 7d}}")]
    for multiple, gross in ((3, 2), (6, 2), (10, 3)):
        for first, last, wall in spans:
            years, part = last - first + 1, _between(market, first, last)
            for sweep in ("roll", "trim"):
                text = MANDATE.format(sweep=sweep, at_wall=wall, multiple=multiple, gross=gross)
                run = backtest(set_up(load_mandate(text.encode())), part, {"alice": PAID_IN})
                then = "" if years == 1 else f"  at the wall: {wall.strip('{}')}"
                print(f"{multiple:>2} x  {first}-{last}  {sweep}  {_told(run, years)}{then}", flush=True)


if __name__ == "__main__":
    main()
