"""When a bar is over, and what bars ticks make."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import InvalidTimeframe
from ringfence.markets.feeds.closing import Candles, between, closed, joined, stamps_joined, traded
from ringfence.markets.market import Funding

BTC = "BTC/USDT:USDT"
MINUTE = 60_000
START = 1_700_000_040_000
assert START % MINUTE == 0


def bars(*minutes: int, volume: float = 1.0, price: float = 100.0) -> Bars:
    ts = [START + minute * MINUTE for minute in minutes]
    flat = [price] * len(ts)
    return validated(BTC, MINUTE, ts, flat, flat, flat, flat, [volume] * len(ts))


def minutes(series: Bars) -> list[int]:
    return [(ts - START) // MINUTE for ts in series.ts.tolist()]


@pytest.mark.parametrize(
    ("clock", "over", "until"),
    [
        (3 * MINUTE + 2_000, [0, 1, 2], 3),
        (3 * MINUTE + 1_999, [0, 1], 2),
        (3 * MINUTE, [0, 1], 2),
        (2 * MINUTE, [0, 1], 2),
        (2 * MINUTE - 1, [0], 1),
        (MINUTE - 1, [], 0),
    ],
)
def test_a_bar_is_over_once_a_later_one_began_or_its_end_lies_back_by_the_grace(
    clock: int, over: list[int], until: int
) -> None:
    found = closed(bars(0, 1, 2), START + clock)
    assert minutes(found.bars) == over
    assert found.until == START + until * MINUTE


def test_a_hole_is_passed_only_by_a_later_bar_and_silence_says_nothing() -> None:
    assert closed(bars(0, 5), START + 5 * MINUTE).until == START + 5 * MINUTE
    assert closed(bars(0), START + 90 * MINUTE).until == START + MINUTE
    assert closed(bars(0)[:0], START + 90 * MINUTE).until is None
    assert closed(bars(7), START).until is None, "it has not begun"


def test_a_flat_bar_without_volume_is_none_unless_volumes_are_unknown() -> None:
    assert minutes(traded(replace(bars(0, 1, 2), volume=np.array([1.0, 0.0, 2.0])))) == [0, 2]
    assert minutes(traded(replace(bars(0), volume=np.zeros(1)))) == []
    silent = bars(0, 1, volume=0.0)
    assert not silent.volume_known
    assert len(traded(silent)) == 2


def test_pieces_are_joined_in_order_of_time_and_the_last_of_two_wins() -> None:
    whole = joined([bars(3, 4), bars(0, 1), bars(1, 2, price=200.0)])
    assert whole is not None
    assert minutes(whole) == [0, 1, 2, 3, 4]
    assert whole.close.tolist() == [100.0, 200.0, 200.0, 100.0, 100.0]
    assert joined([bars(0)[:0]]) is None


def test_stamps_are_joined_and_cut_alike() -> None:
    one = Funding.validated(BTC, [START, START + 8 * MINUTE], [0.1, 0.2])
    other = Funding.validated(BTC, [START + 8 * MINUTE, START + 16 * MINUTE], [0.3, 0.4])
    whole = stamps_joined([one, other])
    assert whole is not None
    assert whole.rate.tolist() == [0.1, 0.3, 0.4]
    assert between(whole, START, START + 16 * MINUTE).rate.tolist() == [0.1, 0.3]
    assert stamps_joined([]) is None


def test_candles_of_no_length_are_refused() -> None:
    with pytest.raises(InvalidTimeframe):
        Candles(BTC, 0)


def test_a_bar_without_ticks_does_not_exist_and_its_time_passes_all_the_same() -> None:
    candles = Candles(BTC, MINUTE)
    for at, price in ((0, 10.0), (10_000, 12.0), (20_000, 9.0), (59_999, 11.0), (3 * MINUTE, 20.0)):
        assert candles.add(START + at, price)
    found = candles.close(START + 3 * MINUTE)
    assert found is not None
    assert minutes(found) == [0]
    assert (found.open[0], found.high[0], found.low[0], found.close[0]) == (10.0, 12.0, 9.0, 11.0)
    assert not found.volume_known
    assert candles.until == START + 3 * MINUTE
    assert candles.close(START + 3 * MINUTE) is None
    assert not candles.add(START + 2 * MINUTE, 15.0)
    assert candles.late == 1


def test_a_bar_that_has_not_begun_closes_no_other() -> None:
    candles = Candles(BTC, MINUTE)
    candles.add(START, 10.0)
    candles.add(START + 5 * MINUTE, 11.0)
    assert candles.close(START + 30_000) is None
    assert candles.add(START + 40_000, 12.0)


@given(
    st.lists(st.tuples(st.integers(0, 20 * MINUTE), st.floats(1.0, 100.0)), min_size=1, max_size=60),
    st.lists(st.integers(0, 25 * MINUTE), max_size=20),
)
def test_whenever_they_are_asked_candles_of_ordered_ticks_are_the_same(
    ticks: list[tuple[int, float]], asked: list[int]
) -> None:
    """Bars come once and in order, hold every tick that was taken, and the watermark never goes back or beyond now."""
    ticks.sort(key=lambda each: each[0])
    candles, late, given_bars = Candles(BTC, MINUTE, grace=0), 0, []
    until = candles.until
    moments = sorted(
        [(ts, 0, price) for ts, price in ticks] + [(clock, 1, 0.0) for clock in asked], key=lambda each: each[:2]
    )
    for at, is_poll, price in [*moments, (60 * MINUTE, 1, 0.0)]:
        if not is_poll:
            late += not candles.add(START + at, price)
            continue
        found = candles.close(START + at)
        if found is not None:
            given_bars.append(found)
            assert found.ts[0] >= until, "no bar comes after the watermark passed it"
        assert until <= candles.until <= START + at
        until = candles.until
    assert late == candles.late == 0
    whole = joined(given_bars)
    assert whole is not None
    assert sum(map(len, given_bars)) == len(whole)
    for row, ts in enumerate(whole.ts.tolist()):
        held = [price for at, price in ticks if ts <= START + at < ts + MINUTE]
        assert [whole.open[row], whole.high[row], whole.low[row], whole.close[row]] == [
            *(held[0], max(held), min(held), held[-1])
        ]
    assert set(whole.ts.tolist()) == {(START + at) // MINUTE * MINUTE for at, _ in ticks}


@given(st.sets(st.integers(0, 30), min_size=1), st.lists(st.integers(0, 40 * MINUTE), min_size=1, max_size=12))
def test_asked_again_and_again_a_source_s_own_bars_come_once_and_whole(opens: set[int], asked: list[int]) -> None:
    source = bars(*sorted(opens))
    since, got = START, list[int]()
    for clock in [*sorted(asked), 40 * MINUTE]:
        begun = source.chosen((source.ts >= since) & (source.ts <= START + clock))
        found = closed(begun, START + clock)
        got += found.bars.ts.tolist()
        if found.until is not None:
            assert since <= found.until <= START + clock
            since = found.until
    assert got == source.ts.tolist()
    assert np.all(np.diff(got) > 0)
