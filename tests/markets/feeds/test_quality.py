"""How good a price is, and the laws of the ladder."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.markets.feeds.quality import HALTS, TOLERATES, Action, Quality, Thresholds, judge, median
from ringfence.markets.feeds.ticks import Seen

NOW = 1_700_000_000_000
LIMITS = Thresholds()


def seen(value: float, age: int = 0, mean: float | None = None) -> Seen:
    return Seen(value, NOW - age, NOW - age, mean)


@pytest.mark.parametrize(
    ("sources", "price", "quality", "reason"),
    [
        ({}, None, Quality.none, "no source ever said a price"),
        ({"a": seen(100.0)}, 100.0, Quality.single, "a alone is fresh"),
        ({"a": seen(100.0), "b": seen(101.0)}, 100.5, Quality.agreed, "2 of 2 sources agree"),
        ({"a": seen(100.0), "b": seen(102.0)}, 101.0, Quality.disagreeing, "2 of 2 sources stand apart: a, b more"),
        (
            {"a": seen(100.0), "b": seen(100.1), "c": seen(300.0)},
            100.1,
            Quality.agreed,
            "2 of 3 sources agree; c more than 0.5% from the median",
        ),
        (
            {"a": seen(90.0), "b": seen(100.0), "c": seen(110.0)},
            100.0,
            Quality.disagreeing,
            "2 of 3 sources stand apart: a, c more than 0.5% from the median",
        ),
        ({"a": seen(100.0), "b": seen(200.0, age=15_001)}, 100.0, Quality.single, "a alone is fresh"),
        (
            {"a": seen(100.0, age=60_000), "b": seen(200.0, age=15_001)},
            200.0,
            Quality.stale,
            "b is silent for 15s1ms, longer than 15s, and no other is fresh",
        ),
        ({"a": seen(100.0, age=-2_001)}, None, Quality.future, "a says what holds in 2s1ms"),
        ({"a": seen(100.0, age=-2_001), "b": seen(90.0)}, 90.0, Quality.single, "b alone is fresh"),
        (
            {"a": seen(121.0, mean=100.0)},
            121.0,
            Quality.guarded,
            "121.0 is 21% from its own mean of 100.0, more than 20%",
        ),
        ({"a": seen(120.0, mean=100.0)}, 120.0, Quality.single, "a alone is fresh"),
        ({"a": seen(79.0, age=20_000, mean=100.0)}, 79.0, Quality.guarded, "79.0 is 21% from its own mean of 100.0"),
        ({"a": seen(100.0, mean=None), "b": seen(100.0, mean=300.0)}, 100.0, Quality.guarded, "67% from its own mean"),
    ],
)
def test_each_rung_of_the_ladder_has_its_price_and_its_reason(
    sources: dict[str, Seen], price: float | None, quality: Quality, reason: str
) -> None:
    judged = judge(sources, NOW, LIMITS)
    assert (judged.price, judged.quality) == (price, quality)
    assert judged.reason.startswith(reason) or judged.reason.endswith(reason) or reason in judged.reason


def test_a_source_is_stale_after_the_silence_that_it_states() -> None:
    limits = Thresholds(silences={"slow": 60_000})
    assert judge({"slow": seen(1.0, age=60_000)}, NOW, limits).quality is Quality.single
    assert judge({"slow": seen(1.0, age=60_001)}, NOW, limits).quality is Quality.stale


@pytest.mark.parametrize(
    ("quality", "done"),
    [
        (Quality.agreed, {Action.reduce, Action.increase, Action.liquidate}),
        (Quality.single, {Action.reduce, Action.increase, Action.liquidate}),
        (Quality.disagreeing, {Action.reduce, Action.liquidate}),
        (Quality.stale, {Action.reduce, Action.liquidate}),
        (Quality.future, set()),
        (Quality.guarded, set()),
        (Quality.none, set()),
    ],
)
def test_each_action_names_the_worst_quality_that_it_tolerates(quality: Quality, done: set[Action]) -> None:
    assert {action for action in Action if quality <= TOLERATES[action]} == done
    assert (quality in HALTS[Action.liquidate]) == (quality is Quality.guarded)


def test_what_acts_has_no_price_where_it_must_not_act() -> None:
    spiked = judge({"a": seen(150.0, mean=100.0)}, NOW, LIMITS)
    assert [spiked.price_for(action) for action in Action] == [None, None, None]
    assert [spiked.halts(action) for action in Action] == [False, False, True]
    stale = judge({"a": seen(150.0, age=20_000)}, NOW, LIMITS)
    assert [stale.price_for(action) for action in Action] == [150.0, None, 150.0]
    assert not stale.halts(Action.liquidate), "missing data is no reason to halt"


prices = st.floats(1e-15, 1e15)
near = st.floats(90.0, 110.0)
sightings = st.builds(
    lambda value, age, mean: seen(value, age, mean), near | prices, st.integers(-5_000, 40_000), st.none() | near
)
sources = st.dictionaries(st.sampled_from("abcdefg"), sightings, max_size=7)


@given(st.lists(prices, min_size=1, max_size=9))
@example([5e-324, 5e-324])
@example([1.7976931348623157e308, 1.7976931348623157e308])
def test_a_median_lies_between_the_least_and_the_most(values: list[float]) -> None:
    assert min(values) <= median(values) <= max(values)
    assert median(values) == median(values[::-1])
    below, above = sum(value < median(values) for value in values), sum(value > median(values) for value in values)
    assert max(below, above) <= len(values) / 2


@given(sources)
def test_the_price_never_lies_outside_the_fresh_sources(given_sources: dict[str, Seen]) -> None:
    judged = judge(given_sources, NOW, LIMITS)
    fresh = [each.value for each in given_sources.values() if -2_000 <= NOW - each.ts <= 15_000]
    if fresh:
        assert judged.price is not None
        assert min(fresh) <= judged.price <= max(fresh)
        assert len(judged.fresh) == len(fresh)
    else:
        assert judged.quality >= Quality.stale
        assert judged.price in {None, *(each.value for each in given_sources.values())}


@given(sources, st.permutations("abcdefg"))
def test_neither_the_order_of_the_sources_nor_their_names_matter(
    given_sources: dict[str, Seen], names: list[str]
) -> None:
    renamed = {names[ord(source) - ord("a")]: each for source, each in reversed(given_sources.items())}
    one, other = judge(given_sources, NOW, LIMITS), judge(renamed, NOW, LIMITS)
    assert (one.price, one.quality, one.ts) == (other.price, other.quality, other.ts)


@given(sources, st.sampled_from([2.0**-20, 0.25, 2.0, 2.0**20]))
def test_the_quality_does_not_depend_on_what_the_price_is_counted_in(
    given_sources: dict[str, Seen], factor: float
) -> None:
    scaled = {
        source: each._replace(value=each.value * factor, mean=None if each.mean is None else each.mean * factor)
        for source, each in given_sources.items()
    }
    assert judge(scaled, NOW, LIMITS).quality is judge(given_sources, NOW, LIMITS).quality


@given(st.dictionaries(st.sampled_from("abcdefg"), st.builds(seen, st.floats(100.0, 100.5)), min_size=1), st.data())
def test_a_source_that_leaves_a_set_in_which_all_are_near_never_makes_it_disagree(
    given_sources: dict[str, Seen], data: st.DataObject
) -> None:
    left = dict(given_sources)
    del left[data.draw(st.sampled_from(sorted(left)))]
    before, after = judge(given_sources, NOW, LIMITS).quality, judge(left, NOW, LIMITS).quality
    assert before is (Quality.agreed if len(given_sources) > 1 else Quality.single)
    assert after is (Quality.agreed if len(left) > 1 else Quality.single if left else Quality.none)
    assert after >= before


@given(st.dictionaries(st.sampled_from("abcdefg"), st.builds(seen, near), min_size=3, max_size=7), st.data())
def test_one_wrong_source_among_three_or_more_never_takes_the_price_beyond_the_others(
    given_sources: dict[str, Seen], data: st.DataObject
) -> None:
    wrong = data.draw(st.sampled_from(sorted(given_sources)))
    others = [each.value for source, each in given_sources.items() if source != wrong]
    judged = judge(given_sources | {wrong: seen(data.draw(prices))}, NOW, LIMITS)
    assert judged.price is not None
    assert min(others) <= judged.price <= max(others)


@given(sources, st.integers(0, 60_000))
def test_time_alone_makes_no_single_agreed_or_lone_source_better(given_sources: dict[str, Seen], later: int) -> None:
    """Where none is from the future, waiting never brings agreement: at best the others fall silent."""
    past = {source: each for source, each in given_sources.items() if each.ts <= NOW}
    before, after = judge(past, NOW, LIMITS), judge(past, NOW + later, LIMITS)
    if len(before.fresh) <= 1:
        assert after.quality >= before.quality
    if not before.fresh:
        assert after.quality is before.quality
    assert set(after.fresh) <= set(before.fresh)


@given(sources)
def test_whatever_may_be_increased_on_may_be_reduced_on_and_nothing_is_done_on_a_guarded_price(
    given_sources: dict[str, Seen],
) -> None:
    judged = judge(given_sources, NOW, LIMITS)
    prices_for = {action: judged.price_for(action) for action in Action}
    if prices_for[Action.increase] is not None:
        assert prices_for[Action.reduce] == prices_for[Action.increase]
        assert judged.fresh
    if judged.quality >= Quality.future:
        assert set(prices_for.values()) == {None}
    assert all(price is None or (math.isfinite(price) and price > 0.0) for price in prices_for.values())
    assert judged.reason
