"""What an intake lets in, drops and counts, and what it knows afterwards."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.feeds.ticks import FIELDS, Dropped, Intake, Rules, Tick

BTC = "BTC/USDT:USDT"
NOW = 1_700_000_000_000


def tick(ts: int = 0, source: str = "a", symbol: str = BTC, received: int | None = None, **said: float) -> Tick:
    """A tick that held `ts` ms after NOW, and came then."""
    return Tick(source, symbol, NOW + (ts if received is None else received), NOW + ts, **said)


def taken(*ticks: Tick, rules: Rules | None = None) -> Intake:
    """An intake that let all of them in."""
    intake = Intake([BTC], rules)
    assert [intake.take(each) for each in ticks] == [None] * len(ticks)
    return intake


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (tick(symbol="DOGE/USDT:USDT", last=1.0), Dropped.unknown_symbol),
        (tick(1, last=math.nan), Dropped.not_finite),
        (tick(1, last=100.0, index=math.inf), Dropped.not_finite),
        (tick(1, funding_rate=-math.inf), Dropped.not_finite),
        (tick(1, last=0.0), Dropped.not_positive),
        (tick(1, last=100.0, mark=-1.0), Dropped.not_positive),
        (tick(2_002, received=1, last=100.0), Dropped.from_the_future),
        (tick(1, received=60_002, last=100.0), Dropped.late),
        (tick(-1, received=0, last=100.0), Dropped.disordered),
        (tick(0, last=100.0), Dropped.duplicate),
        (tick(0, received=5, last=100.0), Dropped.duplicate),
        (tick(1), Dropped.duplicate),
        (tick(1, last=100_001.0), Dropped.impossible),
        (tick(1, last=0.0999), Dropped.impossible),
        (tick(1, mark=1e16), Dropped.impossible),
        (tick(1, mark=5e-324), Dropped.impossible),
        (tick(1, funding_rate=-1.0), Dropped.impossible),
    ],
)
def test_a_tick_that_breaks_a_rule_is_dropped_whole_and_counted(broken: Tick, rule: Dropped) -> None:
    intake = taken(tick(0, last=100.0))
    before = intake.seen(BTC, "last")
    assert intake.take(broken) is rule
    assert intake.dropped() == {("a", rule): 1}
    assert intake.seen(BTC, "last") == before
    assert intake.seen(BTC, "mark") == intake.seen(BTC, "funding_rate") == {}


@pytest.mark.parametrize(
    "just",
    [
        tick(2_000, received=0, last=100.0),
        tick(1, received=60_001, last=100.0),
        tick(1, last=100_000.0),
        tick(1, last=0.1),
        tick(1, funding_rate=-0.99),
        tick(1, last=100.0),
    ],
)
def test_a_tick_at_the_bound_of_a_rule_is_let_in(just: Tick) -> None:
    assert taken(tick(0, last=100.0), just).dropped() == {}


def test_an_absent_field_neither_overwrites_a_known_one_nor_makes_it_look_younger() -> None:
    intake = taken(tick(0, last=100.0, mark=101.0), tick(5_000, last=102.0))
    mark, last = intake.seen(BTC, "mark")["a"], intake.seen(BTC, "last")["a"]
    assert (mark.value, mark.ts) == (101.0, NOW)
    assert (last.value, last.ts) == (102.0, NOW + 5_000)


def test_of_equal_times_both_are_kept_and_the_later_received_wins_field_by_field() -> None:
    intake = taken(tick(0, last=100.0, mark=101.0), tick(0, received=1, last=102.0, index=99.0))
    values = {field: intake.seen(BTC, field)["a"].value for field in ("last", "mark", "index")}
    assert values == {"last": 102.0, "mark": 101.0, "index": 99.0}
    assert intake.take(tick(0, last=103.0)) is Dropped.disordered, "it came before the one that is known"


def test_a_field_of_its_own_time_is_not_held_against_the_others() -> None:
    """Marks and last prices come by requests of their own, and theirs is the older time now and then."""
    intake = taken(tick(500, last=100.0), tick(0, received=600, mark=101.0))
    assert intake.seen(BTC, "mark")["a"].ts == NOW


def test_sources_are_not_held_against_each_other() -> None:
    intake = taken(tick(500, last=100.0), tick(0, source="b", received=600, last=250_000.0))
    assert {source: seen.value for source, seen in intake.seen(BTC, "last").items()} == {"a": 100.0, "b": 250_000.0}


def test_a_wrong_first_price_shuts_the_others_out_no_longer_than_the_memory() -> None:
    intake = taken(tick(0, last=1e9))
    assert intake.take(tick(300_000, last=100.0)) is Dropped.impossible
    assert intake.take(tick(300_001, last=100.0)) is None


def test_a_tick_without_the_exchange_s_time_holds_when_it_came() -> None:
    intake = taken(Tick("a", BTC, NOW, last=100.0))
    assert intake.seen(BTC, "last")["a"].ts == NOW


def test_the_mean_is_of_the_seconds_before_each_weighing_the_same() -> None:
    burst = [tick(100 + at, last=200.0) for at in range(50)]
    intake = taken(tick(0, last=100.0), *burst, tick(1_000, last=150.0), tick(2_000, last=500.0))
    first = (100.0 + 50 * 200.0) / 51
    assert intake.seen(BTC, "last")["a"].mean == pytest.approx((first + 150.0) / 2)
    assert taken(tick(0, last=100.0)).seen(BTC, "last")["a"].mean is None
    assert taken(tick(0, funding_rate=0.1), tick(5_000, funding_rate=0.2)).seen(BTC, "funding_rate")["a"].mean is None


def test_the_mean_forgets_what_lies_before_its_window() -> None:
    intake = taken(tick(0, last=100.0), tick(250_000, last=200.0), tick(310_000, last=300.0))
    assert intake.seen(BTC, "last")["a"].mean == 200.0


ticks = st.builds(
    Tick,
    st.sampled_from("ab"),
    st.sampled_from([BTC, "ETH/USDT:USDT", "?"]),
    st.integers(NOW, NOW + 50),
    st.none() | st.integers(NOW - 10, NOW + 60),
    *(st.none() | st.sampled_from([-1.0, 0.0, math.nan, 1e-3, 1.0, 2.0, 5_000.0, math.inf]) for _ in range(4)),
)


@given(st.lists(ticks, max_size=30))
def test_whatever_comes_what_is_known_was_said_is_finite_and_never_goes_back(given_ticks: list[Tick]) -> None:
    """Every tick is let in or counted once; a value that is known is one that its source said at that time."""
    intake = Intake([BTC, "ETH/USDT:USDT"], Rules(future=5, late=20))
    counted: Counter[tuple[str, Dropped]] = Counter()
    for each in given_ticks:
        before = {(symbol, field): intake.seen(symbol, field) for symbol in (BTC, "ETH/USDT:USDT") for field in FIELDS}
        rule = intake.take(each)
        if rule is not None:
            counted[each.source, rule] += 1
        for (symbol, field), old in before.items():
            new = intake.seen(symbol, field)
            own = rule is None and symbol == each.symbol
            said = getattr(each, field) if own else None
            expected = dict(old)
            if said is not None:
                assert math.isfinite(said)
                assert each.source not in old or (each.ts, each.received) >= (
                    old[each.source].ts,
                    old[each.source].received,
                )
                expected[each.source] = new[each.source]
                assert new[each.source][:3] == (said, each.ts, each.received)
            assert new == expected
    assert intake.dropped() == dict(counted)
