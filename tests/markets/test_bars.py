"""Bars: what is refused, what is reported, and what resampling means."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars, Gap, validated
from ringfence.markets.errors import InvalidBars, InvalidTimeframe
from ringfence.markets.files import read_bars

MINUTE, HOUR = 60_000, 3_600_000
START = 1_583_971_200_000  # 2020-03-12T00:00:00Z


def columns(count: int, start: int = START, timeframe: int = MINUTE) -> dict[str, np.ndarray]:
    price = 100.0 + np.arange(count)
    return {
        "ts": start + np.arange(count) * timeframe,
        "open": price,
        "high": price + 2.0,
        "low": price - 2.0,
        "close": price + 1.0,
        "volume": np.ones(count),
    }


def bars_of(count: int, timeframe: int = MINUTE, **changes: np.ndarray) -> Bars:
    return validated("BTC/USDT:USDT", timeframe, **(columns(count, timeframe=timeframe) | changes))


def faults(**changes: np.ndarray) -> dict[str, tuple[int, tuple[int, ...]]]:
    with pytest.raises(InvalidBars) as refused:
        bars_of(10, **changes)
    return {fault.rule: (fault.count, fault.first) for fault in refused.value.faults}


def changed(name: str, row: int, value: float) -> dict[str, np.ndarray]:
    column = columns(10)[name].copy()
    column[row] = value
    return {name: column}


def test_good_bars_are_taken_as_they_are() -> None:
    bars = bars_of(10)
    given_columns = columns(10)
    for name, column in given_columns.items():
        assert np.array_equal(getattr(bars, name), column), name
    assert len(bars) == 10
    assert bars.gaps() == ()


def test_float32_volume_becomes_float64_with_the_same_value() -> None:
    volume = np.full(10, 0.1, np.float32)
    bars = bars_of(10, volume=volume)
    assert bars.volume.dtype == np.float64
    assert bars.volume[0] == float(np.float32(0.1))


def test_a_slice_is_a_view_of_the_same_bars() -> None:
    bars = bars_of(10)
    part = bars[3:7]
    assert len(part) == 4
    assert part.ts[0] == bars.ts[3]
    assert part.close.base is bars.close
    assert part.symbol == bars.symbol
    assert part.timeframe == bars.timeframe


def test_a_duplicate_timestamp_is_refused_at_its_second_row() -> None:
    assert faults(**changed("ts", 5, START + 4 * MINUTE)) == {"duplicate timestamp": (1, (START + 4 * MINUTE,))}


def test_a_duplicate_far_from_its_twin_is_still_called_a_duplicate() -> None:
    assert faults(**changed("ts", 9, START)) == {"duplicate timestamp": (1, (START,))}


def test_a_row_out_of_order_is_refused() -> None:
    ts = columns(10)["ts"].copy()
    ts[[4, 5]] = ts[[5, 4]]
    assert faults(ts=ts) == {"timestamp out of order": (1, (START + 4 * MINUTE,))}


def test_a_timestamp_off_the_grid_is_refused() -> None:
    assert faults(**changed("ts", 5, START + 5 * MINUTE + 1)) == {
        "timestamp off the grid of 1m": (1, (START + 5 * MINUTE + 1,))
    }


@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
@pytest.mark.parametrize(
    ("value", "rule"),
    [(math.nan, "price not finite"), (math.inf, "price not finite"), (0.0, "price not above 0")],
)
def test_a_price_that_is_no_price_is_refused(name: str, value: float, rule: str) -> None:
    found = faults(**changed(name, 6, value))
    assert found[rule] == (1, (START + 6 * MINUTE,))


@pytest.mark.parametrize(("name", "value"), [("high", 100.5), ("low", 103.5), ("open", 200.0), ("close", 1.0)])
def test_a_bar_whose_range_does_not_hold_its_prices_is_refused(name: str, value: float) -> None:
    assert faults(**changed(name, 2, value)) == {"not low <= open, close <= high": (1, (START + 2 * MINUTE,))}


@pytest.mark.parametrize(
    ("value", "rule"), [(-1.0, "volume below 0"), (math.nan, "volume not finite"), (math.inf, "volume not finite")]
)
def test_a_volume_that_is_no_volume_is_refused(value: float, rule: str) -> None:
    assert faults(**changed("volume", 2, value)) == {rule: (1, (START + 2 * MINUTE,))}


def test_every_broken_rule_is_named_at_once_with_count_and_first_rows() -> None:
    low, volume = columns(10)["low"].copy(), columns(10)["volume"].copy()
    low[[1, 3, 5, 7]] = 1000.0
    volume[2] = -1.0
    with pytest.raises(InvalidBars) as refused:
        bars_of(10, low=low, volume=volume)
    message = str(refused.value)
    assert "BTC/USDT:USDT" in message
    assert "not low <= open, close <= high: 4 rows, at 2020-03-12T00:01:00Z" in message
    assert "and 1 more" in message
    assert "volume below 0: 1 row, at 2020-03-12T00:02:00Z" in message


def test_no_bars_at_all_are_refused() -> None:
    with pytest.raises(InvalidBars, match="no bars"):
        bars_of(0)


def test_a_timestamp_beyond_the_calendar_is_refused_without_a_second_error() -> None:
    with pytest.raises(InvalidBars, match=f"ts {2**62}"):
        bars_of(10, **changed("ts", 9, 2**62), **changed("close", 9, math.nan))


def test_missing_bars_are_reported_and_not_filled() -> None:
    kept = np.array([0, 1, 4, 5, 9])
    series = validated("X", MINUTE, **{name: column[kept] for name, column in columns(10).items()})
    assert series.gaps() == (Gap(START + 2 * MINUTE, 2), Gap(START + 6 * MINUTE, 3))
    assert len(series) == 5


def test_recorded_march_2020_has_one_gap_of_128_minutes(recorded: Path) -> None:
    bars = read_bars(recorded / "spot_BTCUSDT_1m_2020-03.parquet", "BTC/USDT:USDT")
    assert bars.gaps() == (Gap(1_583_313_720_000, 128),)


def test_resampling_takes_first_open_extremes_last_close_and_summed_volume() -> None:
    hour = bars_of(180).resample(HOUR)
    assert len(hour) == 3
    assert hour.timeframe == HOUR
    assert hour.ts.tolist() == [START, START + HOUR, START + 2 * HOUR]
    assert hour.open.tolist() == [100.0, 160.0, 220.0]
    assert hour.high.tolist() == [161.0, 221.0, 281.0]
    assert hour.low.tolist() == [98.0, 158.0, 218.0]
    assert hour.close.tolist() == [160.0, 220.0, 280.0]
    assert hour.volume.tolist() == [60.0, 60.0, 60.0]


def test_the_last_bar_counts_only_when_its_end_is_reached() -> None:
    assert len(bars_of(119).resample(HOUR)) == 1
    assert len(bars_of(120).resample(HOUR)) == 2
    assert len(bars_of(30).resample(HOUR)) == 0


def test_a_slot_with_missing_finer_bars_closes_on_what_it_has_and_an_empty_one_makes_no_bar() -> None:
    kept = np.r_[0:50, 125:240]
    series = validated("X", MINUTE, **{name: column[kept] for name, column in columns(240).items()})
    hour = series.resample(HOUR)
    assert hour.ts.tolist() == [START, START + 2 * HOUR, START + 3 * HOUR]
    assert hour.close[0] == series.close[49]
    assert hour.open[1] == series.open[50]


@pytest.mark.parametrize("timeframe", [0, -HOUR, 90_000, 30_000])
def test_a_timeframe_that_is_no_multiple_is_refused(timeframe: int) -> None:
    with pytest.raises(InvalidTimeframe, match="multiple of the bars' own"):
        bars_of(10).resample(timeframe)


@st.composite
def holey_bars(draw: st.DrawFn) -> Bars:
    kept = np.flatnonzero(draw(st.lists(st.booleans(), min_size=1, max_size=60).filter(any)))
    prices = st.floats(1e-8, 1e6)
    rows = [sorted(draw(st.tuples(prices, prices, prices, prices))) for _ in kept]
    low, first, second, high = (np.array(column) for column in zip(*rows, strict=True))
    flip = draw(st.booleans())
    open_, close = (second, first) if flip else (first, second)
    return validated("X", MINUTE, START + kept * MINUTE, open_, high, low, close, np.ones(len(kept)))


@given(holey_bars(), st.sampled_from([2, 3, 5, 10]))
def test_resampling_agrees_with_a_slow_twin(bars: Bars, factor: int) -> None:
    timeframe = factor * MINUTE
    slots: dict[int, list[int]] = {}
    for row, ts in enumerate(bars.ts.tolist()):
        slots.setdefault(ts // timeframe, []).append(row)
    last = max(slots)
    if bars.ts[-1] + MINUTE < (last + 1) * timeframe:
        del slots[last]
    coarse = bars.resample(timeframe)
    assert coarse.ts.tolist() == [slot * timeframe for slot in slots]
    for bar, rows in enumerate(slots.values()):
        assert coarse.open[bar] == bars.open[rows[0]]
        assert coarse.high[bar] == max(bars.high[rows])
        assert coarse.low[bar] == min(bars.low[rows])
        assert coarse.close[bar] == bars.close[rows[-1]]
        assert coarse.volume[bar] == len(rows)


@given(holey_bars())
def test_resampling_in_two_steps_is_resampling_in_one(bars: Bars) -> None:
    twice, once = bars.resample(2 * MINUTE).resample(6 * MINUTE), bars.resample(6 * MINUTE)
    # A slot whose last third is missing is complete for the one and not yet for the other, so only the end may differ.
    shorter = min(len(twice), len(once))
    assert len(once) - shorter <= 1
    for name in ("ts", "open", "high", "low", "close", "volume"):
        assert np.array_equal(getattr(twice, name)[:shorter], getattr(once, name)[:shorter])
