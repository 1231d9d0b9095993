"""Small inputs that once came out wrong, from bars and funding through a whole back-test: the values that are right."""

from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.bars import Bars, validated
from ringfence.markets.files import read_bars
from ringfence.markets.market import Funding, align
from ringfence.risk.events import Kind
from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import VaultRun
from ringfence.runtime.setup import set_up
from ringfence.vaults.mandate.check import load_mandate

HOUR, DAY = 3_600_000, 86_400_000
START = 1_777_852_800_000  # 2026-05-04T00:00:00Z
BTC = "BTC/USDT:USDT"
USDT = 10**6

CONSTANT = """
mandate: steady
currency: USDT
loss_cap: 30%
timeframe: {timeframe}
venue: {{half_spread: 0%, slippage: 0%, taker_fee: 0%, liquidation_fee: 0%}}
volatility: {{estimator: ewma, half_life: {half_life}, window: {window}, floor: 20%}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 60%
    strategy: {{name: constant, leverage: 3}}
    leverage_max: 10
    volatility_max: 100000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 0%}}
    band: 50%
    margin_call: {{at: 1.1, then: reduce, to: 1.5}}
"""
VOLATILE = """
mandate: volt
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {estimator: ewma, half_life: 12h, window: 3d, floor: 20%}
limits: {gross_leverage_max: 2}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 90%
    strategy: {name: vol_target, target_volatility: 150%, half_life: 12h, window: 3d}
    leverage_max: 8
    volatility_max: 300%
    liquidation_distance_min: {sigmas: 4, horizon: 8h, slippage: 1%}
    band: 10%
    margin_call: {at: 1.5, then: reduce, to: 3}
"""
DAILY = CONSTANT.format(timeframe="1d", half_life="1d", window="2d")
HOURLY = CONSTANT.format(timeframe="1h", half_life="2h", window="4h")


def bars_of(timeframe: int, rows: list[int], closes: list[float], volume: float = 100.0) -> Bars:
    """Bars that open at the close before."""
    close = np.array(closes)
    opened = np.concatenate((close[:1], close[:-1]))
    ts = START + np.array(rows) * timeframe
    return validated(BTC, timeframe, ts, opened, np.maximum(opened, close), np.minimum(opened, close), close,
                     np.full(len(close), volume))  # fmt: skip


def lived(mandate: str, bars: Bars, funding: Funding | None = None) -> VaultRun:
    """100,000 through the whole history."""
    market = align({BTC: bars}, funding={BTC: funding} if funding else None)
    return backtest(set_up(load_mandate(mandate.encode())), market, {"alice": 100_000 * USDT})


def paid(run: VaultRun) -> list[tuple[int, int]]:
    """(hours since the start, amount) of each funding payment."""
    return [((event.ts - START) // HOUR, event.amount) for event in run.events if event.kind is Kind.funding]


@pytest.mark.parametrize("days", [[0, 1, 2, 3, 4], [0, 1, 2, 4]], ids=["every day", "a day missing"])
def test_a_daily_bar_pays_all_three_stamps_of_its_day_and_those_of_a_missing_day(days: list[int]) -> None:
    """0.539 BTC at 50,000 from the third day on, 0.1 % of it at each of nine stamps, two of them in the last bar."""
    stamps = START + 8 * HOUR * np.arange(15)
    run = lived(DAILY, bars_of(DAY, days, [50_000.0] * len(days)), Funding.validated(BTC, stamps, [0.001] * 15))
    assert paid(run) == [(hour, -26_950_001) for hour in range(48, 120, 8)]
    assert run.nav[-1] == 100_000 * USDT - 9 * 26_950_001 == 99_757_449_991


@pytest.mark.parametrize("late", [(0, 0), (11, 2)], ids=["exact", "some milliseconds late"])
def test_a_late_stamp_is_paid_at_the_bar_of_its_hour(late: tuple[int, int]) -> None:
    """At 08:00, before the price falls in that very hour: 0.539 BTC at 50,000; at 16:00 0.544 BTC at 46,000."""
    stamps = [START + 8 * HOUR + late[0], START + 16 * HOUR + late[1]]
    closes = [50_000.0] * 8 + [46_000.0] * 10
    run = lived(HOURLY, bars_of(HOUR, list(range(18)), closes), Funding.validated(BTC, stamps, [0.001, 0.001]))
    assert paid(run) == [(8, -26_950_001), (16, -25_024_001)]
    assert run.nav[-1] == 97_792_025_998


def test_hours_in_which_nothing_was_traded_fill_nothing_and_are_no_calm() -> None:
    """24 flat hours without volume before a fall: as if they were not there."""
    rng = np.random.default_rng(5)
    before = (50_000.0 * np.exp(np.cumsum(rng.normal(0.0, 0.006, 96)))).tolist()
    after = [before[-1] * 0.86] * 4
    gap = bars_of(HOUR, [*range(96), *range(120, 124)], before + after)
    flat = bars_of(HOUR, list(range(124)), before + [before[-1]] * 24 + after)
    flat.volume[96:120] = 0.0
    run, expected = lived(VOLATILE, flat), lived(VOLATILE, gap)
    assert run.events == expected.events
    assert run.nav.tolist() == expected.nav.tolist()
    assert any(event.kind is Kind.resize for event in run.events)
    hole = range(START + 96 * HOUR + 1, START + 120 * HOUR + 1)
    assert [event for event in run.events if event.ts in hole] == []


def test_the_case_of_a_thin_market_ends_where_the_same_file_without_its_idle_rows_does(recorded: Path) -> None:
    folder = recorded.parent / "cases" / "F05-zero-volume"
    if not folder.is_dir():
        pytest.skip("the small cases are absent: no folder ../shared/cases beside the project")
    mandate = (folder / "mandate.yaml").read_text()
    ends = [int(lived(mandate, read_bars(folder / f"bars-{name}.csv", BTC)).nav[-1]) for name in ("flat", "gap")]
    assert ends == [95_293_623_287] * 2
