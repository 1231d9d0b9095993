"""Constructed paths: whatever is made up inside a bar, the bar itself stays what it was."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import InvalidTimeframe
from ringfence.markets.path import path_within

HOUR = 3_600_000
START = 1_583_971_200_000
COLUMNS = ("ts", "open", "high", "low", "close", "volume")


def one_bar(open_: float, high: float, low: float, close: float, volume: float = 1.0) -> Bars:
    return validated("BTC", HOUR, [START], [open_], [high], [low], [close], [volume])


@st.composite
def any_bars(draw: st.DrawFn) -> Bars:
    kept = draw(st.lists(st.integers(0, 50), min_size=1, max_size=20, unique=True).map(sorted))
    price = st.floats(1e-8, 1e6)
    rows = [sorted(draw(st.tuples(price, price, price, price))) for _ in kept]
    low, first, second, high = (np.array(column) for column in zip(*rows, strict=True))
    rising = np.array([draw(st.booleans()) for _ in kept])
    volume = np.array([draw(st.floats(0, 1e15)) for _ in kept])
    open_, close = np.where(rising, first, second), np.where(rising, second, first)
    return validated("BTC", HOUR, START + np.array(kept) * HOUR, open_, high, low, close, volume)


@given(any_bars(), st.sampled_from([3, 4, 5, 12, 60]), st.integers(-(2**70), 2**70))
@example(one_bar(1.0, 1.0, 1.0, 1.0, 5e-324), 12, 0)
@example(one_bar(1.0, 1e6, 1e-8, 1.0, 0.1), 720, 1)
def test_resampling_the_path_gives_back_the_bars_exactly(bars: Bars, steps: int, seed: int) -> None:
    again = path_within(bars, steps, seed).resample(HOUR)
    for name in COLUMNS:
        assert np.array_equal(getattr(again, name), getattr(bars, name)), name


@given(any_bars(), st.sampled_from([3, 12]))
def test_the_path_is_made_of_valid_and_connected_bars(bars: Bars, steps: int) -> None:
    path = path_within(bars, steps)
    assert len(path) == len(bars) * steps
    checked = validated(path.symbol, path.timeframe, *(getattr(path, name) for name in COLUMNS))
    inside = np.arange(len(path)) % steps != 0
    assert np.array_equal(checked.open[inside], checked.close[:-1][inside[1:]])


@given(any_bars())
def test_a_slice_of_the_bars_has_the_slice_of_the_path(bars: Bars) -> None:
    whole, part = path_within(bars), path_within(bars[1:])
    for name in COLUMNS:
        assert np.array_equal(getattr(part, name), getattr(whole, name)[12:]), name


def test_a_rising_bar_touches_its_low_first_and_a_falling_one_its_high() -> None:
    rising, falling = path_within(one_bar(100, 120, 80, 101)), path_within(one_bar(101, 120, 80, 100))
    assert rising.low.argmin() < rising.high.argmax()
    assert falling.high.argmax() < falling.low.argmin()


def test_a_bar_that_ends_where_it_began_touches_its_low_first() -> None:
    path = path_within(one_bar(100, 120, 80, 100))
    assert path.low.argmin() < path.high.argmax()


def test_another_seed_makes_another_path_and_the_same_seed_the_same() -> None:
    bars = one_bar(100, 120, 80, 101)
    assert np.array_equal(path_within(bars, seed=1).close, path_within(bars, seed=1).close)
    assert not np.array_equal(path_within(bars, seed=1).close, path_within(bars, seed=2).close)


def test_the_path_wanders_between_its_corners() -> None:
    path = path_within(one_bar(100, 140, 60, 100), steps=60)
    assert {-1.0, 1.0} <= set(np.sign(np.diff(path.close[:20])))


def test_volume_is_split_evenly() -> None:
    assert path_within(one_bar(100, 120, 80, 101, volume=24.0)).volume.tolist() == [2.0] * 12
    assert path_within(one_bar(100, 120, 80, 101, volume=0.7)).volume == pytest.approx([0.7 / 12] * 12)


def test_five_minute_bars_come_out_of_an_hour() -> None:
    path = path_within(one_bar(100, 120, 80, 101))
    assert path.timeframe == 300_000
    assert path.ts.tolist() == [START + step * 300_000 for step in range(12)]


@pytest.mark.parametrize("steps", [-1, 0, 1, 2, 7, 11])
def test_steps_that_do_not_fit_are_refused(steps: int) -> None:
    with pytest.raises(InvalidTimeframe, match=f"got {steps}"):
        path_within(one_bar(100, 120, 80, 101), steps)
