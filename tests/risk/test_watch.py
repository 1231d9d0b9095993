"""The watch finds the positions whose triggers a price crosses and no other, whatever was placed and removed before."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.risk.book import INSTRUMENT, POSITION, POSITION_LIMITS, rows
from ringfence.risk.errors import MarksRefused, TriggerRefused
from ringfence.risk.exposure import arm
from ringfence.risk.watch import Watch, nearest_triggers

Watched = dict[int, tuple[int, int, float]]
"""Symbol, side and trigger by position: the watch as a plain dictionary."""


def crossed(watched: Watched, symbol: int, low: float, high: float) -> set[int]:
    """The slow twin."""
    return {
        position
        for position, (of, side, trigger) in watched.items()
        if of == symbol
        and ((side > 0 and low <= trigger and trigger > 0.0) or (side < 0 and high >= trigger and trigger < math.inf))
    }


_price = st.sampled_from([0.5, 1.0, math.nextafter(1.0, 2.0), 1.5, 2.0, 3.0]) | st.floats(5e-324, 1e6)
_trigger = _price | st.sampled_from([0.0, -0.0, math.inf])
_symbol, _side, _position = st.integers(0, 2), st.sampled_from([-1, 0, 1]), st.integers(0, 40)
_act = st.one_of(
    st.tuples(st.just("place"), _position, _symbol, _side, _trigger),
    st.tuples(st.just("remove"), _position),
    st.tuples(st.just("cross"), _symbol, _price, _price),
)


def live(watch: Watch, watched: Watched, acts: list[tuple[Any, ...]]) -> None:
    """Do the same to both, and compare whatever is found on the way."""
    for act in acts:
        match act:
            case "place", position, symbol, side, trigger:
                watch.place(position, symbol, side, trigger)
                watched[position] = (symbol, side, trigger)
            case "remove", position:
                watch.remove(position)
                watched.pop(position, None)
            case "cross", symbol, one, other:
                low, high = sorted((one, other))
                found = watch.crossed(symbol, low, high).tolist()
                assert found == sorted(crossed(watched, symbol, low, high))


@given(st.lists(st.tuples(_symbol, _side, _trigger), max_size=40), st.lists(_act, max_size=80))
@example([(0, 1, 1.0), (0, 1, 1.0), (0, -1, 1.0)], [("cross", 0, 1.0, 1.0), ("remove", 0), ("cross", 0, 1.0, 1.0)])
def test_after_whatever_acts_it_finds_what_a_comparison_with_every_trigger_finds(
    built: list[tuple[int, int, float]], acts: list[tuple[Any, ...]]
) -> None:
    symbols, sides, triggers = (np.array(column) for column in zip(*built, strict=True)) if built else ([],) * 3
    watch = Watch.build(np.array(symbols, np.int64), np.array(sides, np.int64), np.array(triggers, np.float64))
    watched = dict(enumerate(built))
    live(watch, watched, acts)
    live(watch, watched, [("cross", symbol, low, 2.0) for symbol in range(3) for low in (5e-324, 1.0, 2.0)])
    none = [0 if side == 0 else trigger == (0.0 if side > 0 else math.inf) for _, side, trigger in watched.values()]
    assert len(watch) == sum(side != 0 for _, side, _ in watched.values()) - sum(none)


@pytest.mark.parametrize("distinct", [7, 10**6], ids=["nearly all triggers are ties", "no two triggers are the same"])
def test_thousands_of_positions_that_come_move_and_go_are_found_as_by_comparison(distinct: int) -> None:
    random = np.random.default_rng(1)
    watch, watched = Watch(), Watched()
    for number in range(6_000):
        position, price = int(random.integers(0, 1_500)), 1.0 + int(random.integers(0, distinct)) / distinct
        kind = int(random.integers(0, 3))
        if kind:
            live(watch, watched, [("place", position, 0, 1 if random.integers(0, 2) else -1, price)])
        else:
            live(watch, watched, [("remove", position)])
        if number % 50 == 0:
            live(watch, watched, [("cross", 0, price, price + 0.01)])
    for price in (0.5, 1.0, 1.5, 2.5):
        live(watch, watched, [("cross", 0, price, price)])


def test_asking_removes_nothing_and_a_symbol_that_nobody_trades_crosses_nothing() -> None:
    watch = Watch()
    watch.place(3, 1, 1, 8_000.0)
    watch.place(5, 1, -1, 9_000.0)
    for _ in range(2):
        assert watch.crossed(1, 8_000.0, 8_500.0).tolist() == [3]
        assert watch.crossed(1, 8_500.0, 9_000.0).tolist() == [5]
        assert watch.crossed(1, 7_000.0, 9_500.0).tolist() == [3, 5]
        assert watch.crossed(1, math.nextafter(8_000.0, 9e9), math.nextafter(9_000.0, 0.0)).tolist() == []
    assert watch.crossed(0, 1.0, 1e9).tolist() == watch.crossed(7, 1.0, 1e9).tolist() == []
    assert len(watch) == 2


def test_what_no_price_keeps_above_its_requirement_is_crossed_by_every_mark() -> None:
    watch = Watch()
    watch.place(0, 0, 1, math.inf)
    watch.place(1, 0, -1, 0.0)
    assert watch.crossed(0, 1e300, 1e300).tolist() == watch.crossed(0, 5e-324, 5e-324).tolist() == [0, 1]


def test_what_is_no_mark_is_refused_and_nothing_changes() -> None:
    watch = Watch()
    watch.place(0, 0, 1, 8_000.0)
    for trigger in (math.nan, -1.0, -math.inf):
        with pytest.raises(TriggerRefused):
            watch.place(0, 0, 1, trigger)
        with pytest.raises(TriggerRefused, match="position 1"):
            Watch.build(np.zeros(2, np.int64), np.ones(2, np.int64), np.array([1.0, trigger]))
    for low, high in ((math.nan, 1.0), (1.0, math.nan), (0.0, 1.0), (-1.0, 1.0), (1.0, math.inf), (2.0, 1.0)):
        with pytest.raises(MarksRefused):
            watch.crossed(0, low, high)
    for position, symbol in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="whole numbers from 0 on"):
            watch.place(position, symbol, 1, 8_000.0)
    with pytest.raises(ValueError, match="whole number from 0 on"):
        Watch.build(np.array([-1]), np.ones(1, np.int64), np.ones(1))
    watch.remove(-1)
    assert watch.crossed(0, 8_000.0, 9_000.0).tolist() == [0]


@given(
    st.lists(
        st.tuples(st.integers(-5_000, 5_000), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 5)),
        max_size=10,
    )
)
def test_the_nearer_of_both_watches_is_the_trigger(held: list[tuple[int, int, int, int]]) -> None:
    positions, limits = rows(POSITION, len(held)), rows(POSITION_LIMITS, len(held))
    for row, (quantity, cost, margin, call) in enumerate(held):
        positions[row].quantity, positions[row].cost, positions[row].margin = quantity, cost if quantity else 0, margin
        positions[row].symbol, limits[row].call_at = row % 2, call * 500_000
    listing = rows(INSTRUMENT, 2, unit=[1_000, 10**6], tiers=2)
    listing.tier[:, 1] = (10**9, 10_000, 10**9 * 6_000 // 10**6, 20.0)
    listing.tier[:, 0] = (0, 4_000, 0, 125.0)
    twins = positions.copy()

    found = nearest_triggers(positions, limits, listing)

    for row, twin in enumerate(twins):
        arm(twin, limits[row], listing[twin.symbol])
        watches = (twin.liquidation_watch, twin.call_watch)
        assert found[row] == (max(watches) if twin.quantity > 0 else min(watches) if twin.quantity < 0 else 0.0)
