"""Several sources as one: series are never mixed, and a bar says what its witnesses make of it."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars
from ringfence.markets.errors import FeedRefused
from ringfence.markets.feeds.quality import Action, Quality, permitted
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.feeds.ticks import Tick
from ringfence.markets.feeds.together import Judging, Member, Together

MINUTE = 60_000
START = 1_700_000_040_000 // MINUTE * MINUTE
BTC, HERE = "BTC/USDT:USDT", "okx:BTC/USDT:USDT"


class Scripted:
    """A source that says what it is told to."""

    counts: Mapping[str, int] = {"no answer": 1}

    def __init__(self, name: str) -> None:
        self.name = name
        self.says: list[Delivery] = []

    def poll(self, now: int) -> Delivery:
        return self.says.pop(0) if self.says else Delivery(now)


def bars(first: int, *closes: float) -> Bars:
    ts = START + np.arange(first, first + len(closes), dtype=np.int64) * MINUTE
    close = np.array(closes)
    return Bars(BTC, MINUTE, ts, close, close, close, close, np.ones(len(ts)))


def said(first: int, *closes: float, late: int = 2_000) -> Delivery:
    end = START + (first + len(closes)) * MINUTE
    return Delivery(end + late, {BTC: bars(first, *closes)}, until={BTC: end})


def together(*others: Scripted, judging: Judging | None = None) -> tuple[Scripted, Together]:
    giver = Scripted("giver")
    members = [Member(giver, {BTC: HERE}), *(Member(other, {}, {BTC: (HERE,)}) for other in others)]
    return giver, Together(members, judging or Judging(live=START))


def found_of(source: Together, now: int) -> tuple[list[float], dict[int, Quality]]:
    found = source.poll(now)
    closes = found.bars[HERE].close.tolist() if HERE in found.bars else []
    return closes, {(ts - START) // MINUTE: level for ts, level in found.levels.get(HERE, {}).items()}


def test_a_lone_source_in_time_is_good_enough_and_a_late_one_is_not() -> None:
    giver, source = together()
    giver.says = [said(0, 100.0), said(1, 101.0, 102.0, late=2_000), said(3, 103.0, late=61_000)]
    assert found_of(source, 0) == ([100.0], {})
    assert found_of(source, 1) == ([101.0, 102.0], {1: Quality.stale})
    assert found_of(source, 2) == ([103.0], {3: Quality.stale})


def test_history_is_not_judged() -> None:
    giver, source = together(judging=Judging(live=START + 2 * MINUTE))
    giver.says = [said(0, 100.0, 101.0, 102.0, late=90_000)]
    assert found_of(source, 0)[1] == {2: Quality.stale}


def test_a_witness_that_says_otherwise_is_disagreement_and_changes_no_figure() -> None:
    other = Scripted("other")
    giver, source = together(other)
    giver.says, other.says = [said(0, 100.0), said(1, 100.0)], [said(0, 100.4), said(1, 102.0)]
    assert found_of(source, 0) == ([100.0], {})
    assert found_of(source, 1) == ([100.0], {1: Quality.disagreeing})


def test_a_bar_waits_for_its_witness_once_and_then_no_more_until_that_speaks() -> None:
    other = Scripted("other")
    giver, source = together(other)
    giver.says = [said(0, 100.0), Delivery(0), Delivery(0), said(1, 101.0), said(2, 102.0)]
    assert found_of(source, 1_000) == ([], {})
    assert found_of(source, 10_900) == ([], {})
    assert found_of(source, 11_000) == ([100.0], {})
    assert found_of(source, 12_000) == ([101.0], {})
    other.says = [said(0, 100.0, 101.0)]
    assert found_of(source, 13_000) == ([], {})
    other.says = [said(2, 110.0)]
    assert found_of(source, 14_000) == ([102.0], {2: Quality.disagreeing})


def test_a_close_far_from_the_minutes_before_is_guarded() -> None:
    giver, source = together()
    giver.says = [said(minute, 100.0) for minute in range(6)] + [said(6, 121.0), said(7, 104.0)]
    levels = [found_of(source, minute)[1] for minute in range(8)]
    assert levels == [{}] * 6 + [{6: Quality.guarded}, {}]


def test_ticks_keep_their_source_and_counts_are_summed() -> None:
    other = Scripted("other")
    giver, source = together(other)
    giver.says = [Delivery(5, ticks=(Tick("giver", BTC, 5, 5, 100.0),))]
    other.says = [Delivery(5, ticks=(Tick("other", BTC, 5, 5, 100.0),))]
    assert [(tick.source, tick.symbol) for tick in source.poll(5).ticks] == [("giver", HERE), ("other", HERE)]
    assert source.counts == {"no answer": 2}


def test_a_symbol_comes_from_one_source() -> None:
    members = [Member(Scripted(name), {BTC: HERE}) for name in ("giver", "other")]
    with pytest.raises(FeedRefused, match="each symbol from one source"):
        Together(members)
    with pytest.raises(FeedRefused):
        Together([])


@given(st.lists(st.tuples(st.floats(50.0, 200.0), st.floats(50.0, 200.0)), min_size=1, max_size=20), st.booleans())
def test_what_is_given_is_the_givers_alone_and_every_doubt_is_told(
    closes: list[tuple[float, float]], witnessed: bool
) -> None:
    other = Scripted("other")
    giver, source = together(*([other] if witnessed else []))
    told, given_closes = dict[int, Quality](), list[float]()
    for minute, (own, others) in enumerate(closes):
        giver.says, other.says = [said(minute, own)], [said(minute, others)]
        found, levels = found_of(source, minute)
        given_closes += found
        told |= levels
    assert given_closes == [own for own, _ in closes]
    assert not any(permitted(level, Action.increase) for level in told.values())
    if witnessed:
        apart = [at for at, (own, others) in enumerate(closes) if abs(own - others) / (own + others) > 0.0051]
        assert set(apart) <= set(told)
