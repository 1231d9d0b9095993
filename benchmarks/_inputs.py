"""What the benchmarks run on: seeded random walks with the shipped instruments' tiers, and how a time is taken."""

import time
from collections.abc import Callable

import numpy as np

from ringfence.markets.instruments import listing
from ringfence.markets.tables import shipped
from ringfence.risk.arithmetic import PRICE_BITS
from ringfence.risk.book import (
    BAR,
    PROPOSAL,
    STAMP,
    AtWall,
    Book,
    Ints,
    Limits,
    Rows,
    Sweep,
    Walk,
    empty_book,
    limits,
    rows,
)
from ringfence.risk.volatility import ewma
from ringfence.risk.wall import wall_amount

KEEP = 800_000
ASSETS = 10**12
"""A million USDT."""


MINUTE, STAMPED = 60_000, 480
"""A bar, ms, and how many bars lie between two funding stamps."""


def walk(bars: int, symbols: int, every: int, positions: int, seed: int = 0) -> Walk:
    """One-minute random walks at 60 % volatility, funding every 8 hours, and a decision at every `every`-th bar."""
    random = np.random.default_rng(seed)
    deviation = 0.6 / np.sqrt(365 * 24 * 60)
    close = 20_000.0 * np.exp(np.cumsum(random.normal(0.0, deviation, (bars, symbols)), axis=0))
    opened = np.vstack([np.full((1, symbols), 20_000.0), close[:-1]])
    away = np.abs(random.normal(0.0, deviation / 2, (2, bars, symbols)))
    high, low = np.maximum(opened, close) * (1.0 + away[0]), np.minimum(opened, close) * (1.0 - away[1])
    table = rows(BAR, (bars, symbols), open=opened, high=high, low=low, close=close, mark_open=opened, mark_high=high,
                 mark_low=low, mark_close=close, valid=True, volume=np.inf)  # fmt: skip
    ts = np.arange(bars, dtype=np.int64) * MINUTE
    paid = np.arange(len(ts[::STAMPED]) * symbols).reshape(-1, symbols)
    table.funding[::STAMPED], table.stamps_from[::STAMPED], table.stamps_to[::STAMPED] = True, paid, paid + 1
    stamps = rows(STAMP, paid.size, ts=np.repeat(ts[::STAMPED], symbols), rate=1e-4)
    slot = np.full(bars, -1, np.int64)
    slot[every - 1 :: every] = np.arange(bars // every)
    return Walk(table, ts, MINUTE, stamps, slot, _proposals(table, ts, every, positions))


def _proposals(bars: Rows, ts: Ints, every: int, positions: int) -> Rows:
    """(K, P) of PROPOSAL at every `every`-th bar: 150 % over the walk's own EWMA volatility (half-life 6 h); position p
    trades symbol p % N."""
    symbols = bars.shape[1]
    table = rows(PROPOSAL, (len(bars) // every, positions))
    for s in range(symbols):
        volatility, known = ewma(MINUTE, 1440 * MINUTE, 360 * MINUTE, ts, np.ascontiguousarray(bars.close[:, s]))
        column, valid = volatility[every - 1 :: every, None], known[every - 1 :: every, None]
        own = slice(s, None, symbols)
        table.volatility[:, own], table.known[:, own], table.proposed[:, own] = column, valid, valid
        table.leverage[:, own] = np.clip(1.5 / np.where(valid, column, 1.0), 0.0, 8.0)
    return table


def terms(vaults: int, each: int) -> Limits:
    """Vaults with a 20 % cap whose `each` positions share nine tenths of the risk capital; every rule is on."""
    whole = {"keep": KEEP, "gross_leverage_max": 2.0, "sweep": Sweep.roll, "at_wall": AtWall.hold, "rebase_after": 0,
             "rebase_notice": 0, "timeframe": MINUTE}  # fmt: skip
    single = {"share": 900_000 // each, "leverage_max": 8.0, "volatility_max": 3.0,
              "distance_sigmas": 4.0 * np.sqrt(8 / 8760), "distance_slippage": 0.01, "band": 0.1,
              "call_at": 1_500_000, "call_to": 3_000_000, "half_spread": 1e-4, "slippage": 2e-4, "taker_fee": 500,
              "liquidation_fee": 12_500, "volume_share": 1.0}  # fmt: skip
    return limits(
        {name: [value] * vaults for name, value in whole.items()},
        {name: [value] * (vaults * each) for name, value in single.items()},
    )


def funded(vaults: int, each: int) -> Book:
    """Vaults of a million USDT each, flat."""
    book = empty_book(range(each), vaults)
    for vault in book.vaults:
        vault.shares, vault.high_water_mark, vault.world = ASSETS * 1000, (1 << PRICE_BITS) // 1000, -ASSETS
        vault.reserve = wall_amount(vault.high_water_mark, KEEP, vault.shares)
        vault.cushion = ASSETS - vault.reserve
    return book


def tiers(symbols: int) -> Rows:
    """(N,) of INSTRUMENT: BTC/USDT:USDT, once a symbol."""
    return listing([shipped().find("BTC/USDT:USDT")] * symbols)


def best(
    work: Callable[[], object],
    prepare: Callable[[], object] = lambda: None,
    runs: int = 7,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Seconds of the fastest of several runs after one that is not counted."""
    times = []
    for _ in range(runs + 1):
        prepare()
        start = clock()
        work()
        times.append(clock() - start)
    return min(times[1:])
