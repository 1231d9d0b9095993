"""Scenarios: the shipped history is the recorded one, and the market made of it says what is constructed."""

import gzip
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.bars import Gap
from ringfence.markets.errors import UnknownScenario
from ringfence.markets.files import read_bars
from ringfence.markets.scenarios import scenario, scenarios

HOUR = 3_600_000
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


def test_march_2020_is_in_the_library() -> None:
    assert scenarios() == ("2020-03",)
    shipped = scenario("2020-03")
    assert shipped.name == "2020-03"
    assert "Binance" in shipped.source
    assert "constructed" in shipped.source
    assert tuple(shipped.bars) == (BTC, ETH)


def test_bitcoin_opens_12_march_at_7934_and_falls_to_3782_in_the_hour_of_two_on_the_13th() -> None:
    bars = scenario("2020-03").bars[BTC]
    assert bars.open[bars.ts == 1_583_971_200_000].tolist() == [7934.58]
    assert bars.low.min() == 3782.13
    assert bars.ts[bars.low.argmin()] == 1_584_064_800_000
    assert scenario("2020-03").bars[ETH].low.min() == 86.0


def test_the_shipped_hours_are_the_recorded_minutes_resampled(recorded: Path) -> None:
    for symbol, bars in scenario("2020-03").bars.items():
        coin = symbol.partition("/")[0]
        hours = read_bars(recorded / f"spot_{coin}USDT_1m_2020-03.parquet", symbol).resample(HOUR)
        for name in ("ts", "open", "high", "low", "close"):
            assert np.array_equal(getattr(bars, name), getattr(hours, name)), (symbol, name)
        assert np.abs(bars.volume - hours.volume).max() <= 0.000501


def test_the_hour_that_the_exchange_was_closed_is_missing_and_not_filled() -> None:
    for bars in scenario("2020-03").bars.values():
        assert len(bars) == 743
        assert bars.gaps() == (Gap(1_583_316_000_000, 1),)


def test_the_market_is_a_five_minute_path_that_resamples_to_the_real_hours() -> None:
    shipped = scenario("2020-03")
    assert shipped.market.timeframe == HOUR // 12
    assert len(shipped.market) == 743 * 12
    for number, bars in enumerate(shipped.bars.values()):
        again = shipped.market.bars(number).resample(HOUR)
        for name in ("ts", "open", "high", "low", "close", "volume"):
            assert np.array_equal(getattr(again, name), getattr(bars, name)), name


def test_bitcoin_funding_stands_at_three_stamps_a_day_and_ether_has_none() -> None:
    shipped = scenario("2020-03")
    assert tuple(shipped.funding) == (BTC,)
    assert (shipped.market.stamps_to - shipped.market.stamps_from).sum(axis=0).tolist() == [93, 0]
    assert len(shipped.market.stamps) == 93
    assert shipped.market.notes == ()
    crash = shipped.funding[BTC].ts == 1_584_057_600_000
    assert shipped.funding[BTC].rate[crash][0] == pytest.approx(-0.00127, abs=5e-6)
    assert {int(ts) // HOUR % 24 for ts in shipped.funding[BTC].ts} == {0, 8, 16}


def test_shipped_funding_is_the_recorded_daily_mean(recorded: Path) -> None:
    text = gzip.decompress((recorded / "perp_BTCUSDT_funding_daily-mean.csv.gz").read_bytes()).decode()
    means = {int(ts): float(mean) for ts, mean, _ in (line.split(",") for line in text.split()[1:])}
    shipped = scenario("2020-03").funding[BTC]
    assert [means[ts // (24 * HOUR) * 24 * HOUR] for ts in shipped.ts.tolist()] == shipped.rate.tolist()


def test_an_unknown_scenario_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownScenario, match=r"unknown scenario '2020-3'; did you mean 2020-03\?"):
        scenario("2020-3")
    with pytest.raises(UnknownScenario):
        scenario("../episodes/2020-03")


def test_the_tables_stay_small_and_name_their_source() -> None:
    files = list(resources.files("markets").joinpath("episodes", "2020-03").iterdir())
    assert sum(len(file.read_bytes()) for file in files) < 150_000
    assert all(file.read_text().startswith("# Binance") for file in files if file.name.endswith(".csv"))
