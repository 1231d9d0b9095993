"""Bars wait for their marks and stamps, go together, and never wait for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars
from ringfence.markets.feeds.gathering import Gathering
from ringfence.markets.market import Funding

BTC = "BTC/USDT:USDT"
MINUTE, HOUR = 60_000, 3_600_000
START = 1_699_977_600_000 // HOUR * HOUR
PATIENCE = 120_000


def bars(*minutes: int, volume: float = 1.0) -> Bars:
    ts = START + np.array(minutes, dtype=np.int64) * MINUTE
    flat = np.full(len(ts), 100.0)
    return Bars(BTC, MINUTE, ts, flat, flat, flat, flat, np.full(len(ts), volume))


def stamps(*minutes: int) -> Funding:
    return Funding(BTC, START + np.array(minutes, dtype=np.int64) * MINUTE, np.full(len(minutes), 1e-4))


def at(minute: float) -> int:
    return START + int(minute * MINUTE)


def gathering(*, marked: bool = False, funded: bool = False, since: int = 1) -> Gathering:
    return Gathering(BTC, MINUTE, at(since), (marked, funded), PATIENCE)


def opens(series: Bars | Funding | None) -> list[int]:
    return [] if series is None else [(ts - START) // MINUTE for ts in series.ts.tolist()]


def test_bars_that_nothing_is_wanted_of_go_at_once() -> None:
    held = gathering()
    held.add_bars(bars(1, 2), at(3), at(3))
    found = held.let_go(at(3))
    assert (opens(found.bars), found.until) == ([1, 2], at(3))
    assert held.let_go(at(3)).bars is None


def test_a_bar_waits_for_its_mark_and_holds_back_the_later_ones() -> None:
    held = gathering(marked=True)
    held.add_bars(bars(1, 2, 3), at(4), at(4))
    assert held.marks_wanted
    held.add_marks(bars(1), at(2))
    found = held.let_go(at(4))
    assert (opens(found.bars), opens(found.marks), found.until) == ([1], [1], at(2))
    held.add_marks(bars(2, 3), at(4))
    found = held.let_go(at(4))
    assert (opens(found.bars), opens(found.marks), found.until) == ([2, 3], [2, 3], at(4))
    assert found.notes == ()


def test_a_bar_that_waited_long_enough_goes_without_what_is_missing_and_it_is_told() -> None:
    held = gathering(marked=True)
    held.add_bars(bars(1), at(2), at(2))
    held.add_bars(bars(2), at(3), at(3))
    found = held.let_go(at(2) + PATIENCE)
    assert (opens(found.bars), found.marks, found.until) == ([1], None, at(2))
    assert found.notes == (
        f"{BTC}: the bar of 2023-11-14T16:01:00Z goes without its mark, which did not come within 2m",
    )


def test_bars_from_long_ago_wait_as_long_as_others() -> None:
    """Catching up, every bar's end lies far back; its mark is asked for all the same."""
    held = gathering(marked=True)
    held.add_bars(bars(1, 2), at(3), at(5_000))
    assert held.let_go(at(5_000)).bars is None


@pytest.mark.parametrize(
    ("known", "gone"),
    [
        (None, [58, 59]),
        (58, [58, 59]),
        (60, [58, 59]),
        (60.01, [58, 59, 60, 61]),
    ],
)
def test_only_a_bar_into_which_a_stamp_may_fall_waits_for_stamps(known: float | None, gone: list[int]) -> None:
    held = gathering(funded=True, since=58)
    held.add_bars(bars(58, 59, 60, 61), at(62), at(62))
    assert held.funding_wanted
    if known is not None:
        held.add_funding(stamps(), at(known))
    assert opens(held.let_go(at(62)).bars) == gone


def test_a_stamp_goes_with_the_bar_that_it_falls_into() -> None:
    held = gathering(funded=True, since=58)
    held.add_bars(bars(58, 59, 60), at(61), at(61))
    held.add_funding(stamps(0, 60), at(60.5))
    assert not held.funding_wanted
    found = held.let_go(at(61))
    assert (opens(found.bars), opens(found.funding)) == ([58, 59, 60], [60])


def test_a_stamp_that_was_announced_is_waited_for_however_much_later_is_known() -> None:
    held = gathering(funded=True, since=60)
    held.announce(at(60), at(59))
    held.announce(at(120), at(61))
    held.add_bars(bars(60, 61), at(62), at(62))
    held.add_funding(stamps(), at(61.5))
    assert held.let_go(at(62)).bars is None
    assert held.funding_wanted
    held.add_funding(stamps(60), at(61.6))
    found = held.let_go(at(62))
    assert (opens(found.bars), opens(found.funding)) == ([60, 61], [60])


def test_a_stamp_that_did_not_come_holds_nothing_back_after_its_bar_is_gone() -> None:
    held = gathering(funded=True, since=60)
    held.announce(at(60), at(59))
    held.add_bars(bars(60), at(61), at(61))
    held.add_funding(stamps(), at(60.5))
    assert opens(held.let_go(at(61) + PATIENCE).bars) == [60]
    held.add_bars(bars(119, 120), at(121), at(121))
    held.add_funding(stamps(120), at(120.5))
    found = held.let_go(at(121))
    assert (opens(found.bars), opens(found.funding), found.notes) == ([119, 120], [120], ())


def test_a_stamp_in_a_hole_is_waited_for_and_goes_with_the_next_bar() -> None:
    held = gathering(funded=True, since=58)
    held.add_bars(bars(58), at(59), at(59))
    held.add_bars(bars(63), at(64), at(64))
    found = held.let_go(at(64))
    assert (opens(found.bars), found.until) == ([58], at(59))
    held.add_funding(stamps(60), at(63))
    found = held.let_go(at(64))
    assert (opens(found.bars), opens(found.funding), found.until) == ([63], [60], at(64))


def test_a_bar_without_trade_is_none_and_its_mark_goes_with_it() -> None:
    held = gathering(marked=True)
    held.add_bars(bars(1), at(2), at(2))
    held.add_bars(bars(2, volume=0.0), at(3), at(3))
    held.add_marks(bars(1, 2), at(3))
    found = held.let_go(at(3))
    assert (opens(found.bars), opens(found.marks), found.until) == ([1], [1], at(3))


steps = st.lists(
    st.tuples(st.sampled_from(["bars", "marks", "funding", "go"]), st.integers(1, 40), st.integers(0, 90_000)),
    max_size=40,
)


@given(steps, st.sets(st.integers(1, 130), min_size=1))
def test_in_whatever_order_they_come_bars_go_once_in_order_and_whole(
    given_steps: list[tuple[str, int, int]], exist: set[int]
) -> None:
    """The watermark never goes back, and a bar leaves without its stamp or mark only if that is told."""
    held, clock = gathering(marked=True, funded=True), at(200)
    gone, marked, settled, told, until = list[int](), list[int](), list[int](), 0, at(1)
    reach = {"bars": 1, "marks": 1, "funding": 1}
    for kind, many, later in [*given_steps, ("bars", 200, 0), ("marks", 200, 0), ("funding", 200, 0), ("go", 0, 0)]:
        clock += later
        if kind == "go":
            found = held.let_go(clock)
            assert found.until >= until
            assert all(at(minute) >= until for minute in opens(found.bars))
            until = found.until
            gone += opens(found.bars)
            marked += opens(found.marks)
            settled += opens(found.funding)
            told += len(found.notes)
            continue
        begin, reach[kind] = reach[kind], min(131, reach[kind] + many)
        span = range(begin, reach[kind])
        if kind == "funding":
            held.add_funding(stamps(*(minute for minute in span if minute % 60 == 0)), at(reach[kind]))
        elif kind == "bars":
            held.add_bars(bars(*(minute for minute in span if minute in exist)), at(reach[kind]), clock)
        else:
            held.add_marks(bars(*(minute for minute in span if minute in exist)), at(reach[kind]))
    assert gone == sorted(exist)
    lost = len(set(gone) - set(marked)) + len({60, 120} - set(settled))
    assert marked == sorted(set(marked))
    assert settled == sorted(set(settled))
    assert lost <= told
