"""The paper exchange, rule by rule, with figures that can be checked by hand; laws M1 to M8."""

import ast
import itertools
import math
import re
from pathlib import Path

import numba
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.markets.instruments import listing
from ringfence.markets.tables import shipped
from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import leverage_of, liquidation_price, maintenance_margin
from tests.reference import exact
from tests.reference.exchange import HOUR, START, USDT, Exchange

SLOW = bool(numba.config.DISABLE_JIT)
MILLION = 10**6


# ---------------------------------------------------------------------------------------------------- funding


@pytest.mark.parametrize(
    ("quantity", "rate", "received"),
    [(1000, 0.001, -20 * USDT), (1000, -0.001, 20 * USDT), (-1000, 0.001, 20 * USDT), (-1000, -0.001, -20 * USDT)],
)
def test_m6_longs_pay_a_positive_rate_on_the_quantity_held_at_the_stamp(
    quantity: int, rate: float, received: int
) -> None:
    venue = Exchange()
    held = venue.hold(quantity, 20_000.0, 5_000 * USDT)
    (event,) = venue.bar(20_000.0, stamps=[(0, rate)])
    # 0.001 is no binary fraction, so the exact product may lie a hair off 20 and is rounded against the position
    assert event.amount in (received, received - 1)
    assert (event.kind, event.price, event.mark, event.ts) == (Kind.funding, rate, 20_000.0, START)
    assert held.margin == 5_000 * USDT + event.amount
    assert venue.vault.funding == -event.amount
    value = exact.value(abs(quantity), 1_000, 20_000.0)
    assert event.amount == exact.funding_payment(1 if quantity > 0 else -1, abs(quantity), 1_000, 20_000.0, rate)[0]
    assert abs(event.amount) <= value


def test_m6_without_a_stamp_or_a_position_nothing_is_paid() -> None:
    venue = Exchange()
    venue.hold(1000, 20_000.0, 5_000 * USDT)
    assert venue.bar(20_000.0) == []
    assert Exchange().bar(20_000.0, stamps=[(0, 0.05)]) == []


def test_m6_every_stamp_of_a_bar_is_paid_at_its_own_time_on_what_is_held_then() -> None:
    """Three stamps that one bar settles, one of them from the hole before it; rates that are binary fractions."""
    venue = Exchange()
    held = venue.hold(1000, 20_000.0, 500 * USDT)
    told = venue.bar(20_000.0, stamps=[(-7_200_000, 0.25 / 16), (0, -0.25 / 64), (3_599_999, 0.25 / 32)])
    assert [event.kind for event in told] == [Kind.funding] * 3 + [Kind.liquidation]
    assert [event.ts - START for event in told[:3]] == [-7_200_000, 0, 3_599_999]
    assert [event.amount for event in told[:3]] == [-312_500_000, 78_125_000, -156_250_000]
    assert venue.vault.funding == 390_625_000
    assert (held.quantity, venue.vault.cushion) == (0, 1_109_375_000)  # 109 are less than 1 % of 20,000


def test_funding_is_paid_at_the_open_mark_and_before_maintenance_is_checked() -> None:
    venue = Exchange()
    # equity 250 at 20,000, maintenance 200: only the 100 of funding bring it below
    venue.hold(1000, 20_000.0, 250 * USDT)
    told = venue.bar(20_000.0, stamps=[(0, 0.005)])
    assert [event.kind for event in told] == [Kind.funding, Kind.liquidation]


@pytest.mark.parametrize("side", [1, -1])
def test_funding_that_the_margin_cannot_pay_comes_out_of_the_positions_own_profit(side: int) -> None:
    venue = Exchange(terms={"share": 900_000})
    cushion, reserve = int(venue.vault.cushion), int(venue.vault.reserve)
    held = venue.hold(side * 1000, 20_000.0, 10 * USDT)
    price = 20_000.0 + side * 2_000.0
    (event,) = venue.bar(price, stamps=[(0, side * 0.005)])
    due = exact.funding_payment(side, 1000, 1_000, price, side * 0.005)[0]
    assert event.amount == due
    assert held.margin == 0
    assert held.cost == 1000 * 1_000 * 20_000 + side * (-due - 10 * USDT)
    assert venue.vault.funding == 10 * USDT  # only what was there has moved
    assert (venue.vault.cushion, venue.vault.reserve) == (cushion, reserve)
    # and closing realises the profit less the whole of what was due
    venue.bar(price, asked=(0.0,))
    cash = int(venue.vault.cushion) + int(venue.vault.reserve)
    assert cash - cushion - reserve == 2_000 * USDT + 10 * USDT + due


# ---------------------------------------------------------------------------------------------------- liquidation


@settings(max_examples=20 if SLOW else 300)
@given(
    side=st.sampled_from([1, -1]), quantity=st.integers(1, 10**6), scale=st.sampled_from([1e-5, 0.08, 150.0, 60_000.0]),
    factor=st.floats(0.5, 2.0), part=st.floats(0.02, 0.5),
    tiers=st.sampled_from(
        [((0, 4_000),), ((0, 4_000), (50_000, 10_000)), ((0, 5_000), (10**6, 25_000), (10**9, 90_000))]
    ),
)  # fmt: skip
def test_m3_it_is_liquidated_if_and_only_if_equity_is_below_maintenance_at_the_worst_mark(
    side: int, quantity: int, scale: float, factor: float, part: float, tiers: tuple[tuple[int, int], ...]
) -> None:
    """The decision in exact integers at the trigger, at its neighbours and a hair to either side of it."""
    entry = scale * factor
    unit = 1_000 if scale > 1_000 else MILLION
    venue = Exchange(unit=unit)
    floors, rates = [floor * USDT for floor, _ in tiers], [rate for _, rate in tiers]
    deductions = [int(one) for one in exact.deductions(floors, rates)]
    venue.listing[0].tiers = len(tiers)
    venue.listing[0].tier[: len(tiers)] = list(zip(floors, rates, deductions, [50.0] * len(tiers), strict=True))
    margin = max(1, int(quantity * unit * entry * part))
    held = venue.hold(side * quantity, entry, margin)
    trigger = liquidation_price(held, venue.listing[0])
    if trigger <= 0.0:
        return
    cost = int(held.cost)
    for mark in (
        trigger, math.nextafter(trigger, 0.0), math.nextafter(trigger, math.inf), trigger * (1 - 1e-9),
        trigger * (1 + 1e-9), trigger * (1 - 1e-13), trigger * (1 + 1e-13), trigger * 1.5, trigger / 1.5,
    ):  # fmt: skip
        venue = Exchange(unit=unit)
        venue.listing[0].tiers = len(tiers)
        venue.listing[0].tier[: len(tiers)] = list(zip(floors, rates, deductions, [50.0] * len(tiers), strict=True))
        held = venue.hold(side * quantity, entry, margin)
        held.cost = cost
        # the close is out of every danger: only the worst mark touches the trigger
        safe = entry * 3.0 if side > 0 else entry * 0.3
        worst = {"mark_low": mark} if side > 0 else {"mark_high": mark}
        told = venue.bar(safe, low=min(mark, safe), high=max(mark, safe), **worst)
        notional = math.ceil(exact.value(quantity, unit, mark))
        equity = margin + exact.profit(side, quantity, unit, mark, cost)
        saved = deductions[exact.tier_of(notional, floors)]
        below = equity < exact.fee(notional, rates[exact.tier_of(notional, floors)]) - saved
        assert [event.kind for event in told] == ([Kind.liquidation] if below else []), mark


def test_a_liquidation_at_a_traded_trigger_fills_there() -> None:
    venue = Exchange(terms={"liquidation_fee": 5_000, "half_spread": 0.0001, "slippage": 0.0002})
    held = venue.hold(1000, 20_000.0, 1_000 * USDT)
    trigger = (20_000.0 - 1_000.0) / 0.99  # q*unit = 1 BTC
    (event,) = venue.bar(19_000.0, opened=20_000.0)
    assert event.kind is Kind.liquidation
    assert (event.reason, event.ts) == (Bound.maintenance_margin, START + HOUR)  # at some time up to the close
    assert event.liquidation_price == pytest.approx(trigger)
    assert event.price == event.liquidation_price * (1.0 - 0.0001 - 0.0002)
    assert (event.quantity_before, event.quantity_after, event.shortfall) == (1000, 0, 0)
    assert (held.quantity, held.cost, held.margin) == (0, 0, 0)
    # what is left of the margin goes back to the cushion
    left = 1_000 * USDT + event.amount - event.fee
    assert left > 0
    assert venue.moved(Edge.release) == left
    assert venue.moved(Edge.liquidation_fee) == event.fee == -(-math.floor(event.price * 1e6) * 5_000 // MILLION)


@pytest.mark.parametrize("side", [1, -1])
def test_m5_a_gap_fills_where_the_market_opened_and_costs_no_more_than_the_margin(side: int) -> None:
    venue = Exchange(terms={"liquidation_fee": 12_500})
    reserve, cushion = int(venue.vault.reserve), int(venue.vault.cushion)
    venue.hold(side * 1000, 20_000.0, 1_000 * USDT)
    opened = 20_000.0 - side * 6_000.0
    (event,) = venue.bar(opened - side * 10.0, opened=opened)
    assert (event.price, event.ts) == (opened, START)
    assert event.amount == -6_000 * USDT
    assert event.shortfall == 5_000 * USDT  # the rest, exactly
    assert event.fee == 0  # no more than what is left
    assert venue.moved(Edge.loss) == 1_000 * USDT
    assert venue.vault.shortfall == -5_000 * USDT
    assert venue.vault.venue == 6_000 * USDT
    assert (venue.vault.reserve, venue.vault.cushion) == (reserve, cushion)


@pytest.mark.parametrize("side", [1, -1])
def test_a_mark_that_ran_ahead_fills_at_the_worst_price_that_traded(side: int) -> None:
    venue = Exchange()
    venue.hold(side * 1000, 20_000.0, 1_000 * USDT)
    traded, marked = 20_000.0 - side * 300.0, 20_000.0 - side * 2_000.0
    worst = {"mark_low": marked} if side > 0 else {"mark_high": marked}
    (event,) = venue.bar(20_000.0, low=min(20_000.0, traded), high=max(20_000.0, traded), **worst)
    assert event.kind is Kind.liquidation
    assert (event.price, event.mark) == (traded, marked)
    assert event.amount == -300 * USDT


def test_the_mark_liquidates_and_the_last_price_does_not() -> None:
    venue = Exchange()
    venue.hold(1000, 20_000.0, 1_000 * USDT)
    assert venue.bar(20_000.0, low=10_000.0, mark_low=19_900.0) == []


def test_m5_a_fee_is_never_more_than_what_is_left() -> None:
    venue = Exchange(terms={"liquidation_fee": 12_500})
    venue.hold(1000, 20_000.0, 1_000 * USDT)
    (event,) = venue.bar(19_010.0, opened=19_010.0)  # loses 990 of 1,000; the fee would be 237
    assert event.fee == 10 * USDT
    assert event.shortfall == 0
    assert venue.own() == -venue.vault.world - 1_000 * USDT


def test_m8_isolated_positions_do_not_shelter_each_other() -> None:
    """A winner with a thousandfold of what the loser lacks, and a full cushion, change nothing about the loser."""
    for other in (1.0, 3.0):
        venue = Exchange(symbols=2)
        venue.hold(1000, 20_000.0, 500 * USDT)
        winner = venue.hold(1000, 20_000.0, 500 * USDT, position=1)
        (event,) = venue.bar(19_000.0, 20_000.0 * other)
        assert (event.kind, event.position, event.shortfall) == (Kind.liquidation, 0, 500 * USDT)
        assert (winner.quantity, winner.margin, venue.vault.cushion) == (1000, 500 * USDT, 1_000 * USDT)


def test_nothing_is_liquidated_or_called_at_a_bar_that_is_not_valid() -> None:
    venue = Exchange()
    venue.hold(1000, 20_000.0, 1_000 * USDT)
    assert venue.bar(10_000.0, valid=False) == []
    assert venue.bar(10_000.0, valid=False, asked=(5.0,)) == []


# ---------------------------------------------------------------------------------------------------- margin call


@pytest.mark.parametrize("side", [1, -1])
def test_a_margin_call_cuts_the_position_until_its_equity_is_that_multiple_of_maintenance(side: int) -> None:
    venue = Exchange(terms={"call_at": 1_500_000, "call_to": 3_000_000})
    held = venue.hold(side * 1000, 20_000.0, 1_000 * USDT)
    assert venue.bar(20_000.0 - side * 600.0) == []  # equity 400, more than 1.5 x about 200
    (event,) = venue.bar(20_000.0 - side * 750.0)
    assert event.kind is Kind.margin_call
    assert event.reason is Bound.margin_call
    assert 0 < abs(held.quantity) < 1000
    mark = 20_000.0 - side * 750.0
    equity = int(held.margin) + exact.profit(side, abs(int(held.quantity)), 1_000, mark, int(held.cost))
    assert equity == 250 * USDT  # closing lots at the mark moves none of it
    one_more = exact.fee(math.ceil(exact.value(abs(int(held.quantity)) + 1, 1_000, mark)), 10_000)
    now = exact.fee(math.ceil(exact.value(abs(int(held.quantity)), 1_000, mark)), 10_000)
    assert 3 * now <= equity < 3 * one_more


def test_m7_the_profits_of_partial_closes_sum_to_that_of_one_close() -> None:
    """Six reductions at one price, then the last: the cost basis is carried exactly."""
    whole = Exchange()
    whole.hold(997, 19_999.5, 500 * USDT)
    whole.bar(20_100.0, asked=(0.0,))
    total = whole.events[0].amount
    parts = Exchange(terms={"band": 0.0})
    parts.hold(997, 19_999.5, 500 * USDT)
    told = [
        event for target in (80.0, 60.0, 40.0, 20.0, 10.0, 3.0, 0.0) for event in parts.bar(20_100.0, asked=(target,))
    ]
    resized = [
        event for event in told if event.kind is Kind.resize and abs(event.quantity_after) < event.quantity_before
    ]
    assert len(resized) >= 5
    assert resized[-1].quantity_after == 0
    assert abs(sum(event.amount for event in resized) - total) <= len(resized)
    assert parts.book.positions[0].cost == 0


@pytest.mark.parametrize("side", [1, -1])
def test_a_margin_call_reaches_its_multiple_with_its_own_costs_counted(side: int) -> None:
    """To 1.5 of a maintenance of 1 %, at a fee of 0.1 % and half a spread of 0.05 %; a stop at 1.41 came of leaving
    them out. Equity 210 of 20,000: k lots cost 0.03 each and each kept asks for 0.3: 210 - 0.03 (1,000 - k) = 0.3 k,
    666 of them."""
    terms = {"call_at": 1_100_000, "call_to": 1_500_000, "taker_fee": 1_000, "half_spread": 0.0005}
    venue = Exchange(terms=terms)
    held = venue.hold(side * 1000, 20_000.0, 210 * USDT)
    (event,) = venue.bar(20_000.0)
    assert (event.kind, event.ts) == (Kind.margin_call, START + HOUR)
    assert abs(held.quantity) == pytest.approx(666, abs=1)
    equity = int(held.margin) + exact.profit(side, abs(int(held.quantity)), 1_000, 20_000.0, int(held.cost))
    now = exact.fee(abs(int(held.quantity)) * 20 * USDT, 10_000)
    assert 1.5 * now <= equity < 1.5 * now + 400_000


@pytest.mark.parametrize("asked", [(0.0,), (-5.0,)])
def test_a_voluntary_close_whose_costs_are_more_than_the_margin_is_refused_beforehand(asked: tuple[float]) -> None:
    """Closing 1,000 lots costs 300 and the margin is 299: what the venue could not take would have been its loss."""
    venue = Exchange(terms={"taker_fee": 15_000, "call_at": 1, "band": 0.0})
    held = venue.hold(1000, 20_000.0, 299 * USDT)
    told = [(event.kind, event.reason, event.quantity_after) for event in venue.bar(20_000.0, asked=asked)]
    assert (Kind.refusal, Bound.costs, 0) in told
    assert Kind.resize not in {kind for kind, *_ in told}
    assert (held.quantity, venue.vault.shortfall, venue.vault.costs) == (1000, 0, 0)
    assert Kind.refusal not in {event.kind for event in venue.bar(20_000.0, asked=asked)}  # told once


def test_a_voluntary_close_costs_the_margin_no_shortfall_up_to_the_last_unit() -> None:
    venue = Exchange(terms={"taker_fee": 15_000, "call_at": 1})
    held = venue.hold(1000, 20_000.0, 300 * USDT)
    (event,) = venue.bar(20_000.0, asked=(0.0,))
    assert (event.kind, event.fee, event.shortfall) == (Kind.resize, 300 * USDT, 0)
    assert (held.quantity, held.margin) == (0, 0)


# ---------------------------------------------------------------------------------------------------- orders


def test_a_position_opens_with_its_collateral_from_the_cushion() -> None:
    venue = Exchange(terms={"taker_fee": 500, "half_spread": 0.0001, "slippage": 0.0002})
    venue.bar(20_000.0, asked=(5.0,))
    held, (event,) = venue.book.positions[0], venue.events
    assert venue.moved(Edge.post) == 500 * USDT
    assert venue.vault.cushion == 500 * USDT
    assert held.quantity == event.quantity_after == int(4.5 * 500 / 20)  # the lower edge of the band
    assert event.price == 20_000.0 * (1.0 + 0.0001 + 0.0002)
    assert held.cost == math.ceil(exact.value(int(held.quantity), 1_000, event.price))
    assert event.fee == exact.fee(int(held.cost), 500)
    assert held.margin == 500 * USDT - event.fee


def test_alternating_sides_close_before_they_open_and_pay_for_it_each_time() -> None:
    venue = Exchange(terms={"taker_fee": 1_000})
    before, quantities = venue.own(), []
    for turn in range(6):
        told = venue.bar(20_000.0, asked=(5.0 if turn % 2 else -5.0,))
        assert [event.kind for event in told] == [Kind.resize] * (2 if turn else 1)
        assert all(event.quantity_before * event.quantity_after == 0 for event in told)  # never through zero at once
        quantities.append(int(venue.book.positions[0].quantity))
    assert all(a * b < 0 for a, b in itertools.pairwise(quantities))
    assert venue.own() == before - int(venue.vault.costs) - int(venue.vault.venue)
    assert venue.vault.costs > 0


def refusal(venue: Exchange, leverage: float, price: float = 20_000.0) -> list[tuple[Kind, Bound]]:
    return [(event.kind, event.reason) for event in venue.bar(price, asked=(leverage,))]


@pytest.mark.parametrize(
    ("venue", "leverage", "cause"),
    [
        (Exchange(notional_min=10_000 * USDT), 5.0, Bound.notional_min),
        (Exchange(leverage_max=5.0, terms={"taker_fee": 1_000, "band": 0.0}), 5.0, Bound.venue_leverage),
        (Exchange(terms={"call_at": 40_000_000, "call_to": 50_000_000}), 5.0, Bound.venue_leverage),
    ],
)
def test_a_refusal_is_told_once_with_its_cause_and_moves_nothing(
    venue: Exchange, leverage: float, cause: Bound
) -> None:
    own = venue.own()
    assert refusal(venue, leverage) == [(Kind.refusal, cause)]
    assert refusal(venue, leverage) == []
    assert (venue.book.positions[0].margin, venue.book.positions[0].quantity) == (0, 0)
    assert venue.own() == own
    assert venue.vault.cushion == venue.cushion
    assert refusal(venue, -leverage) == []  # the same cause is no news


def test_a_refusal_is_news_again_after_an_increase_went_through() -> None:
    venue = Exchange(notional_min=2_300 * USDT, terms={"band": 0.0})
    assert refusal(venue, 4.0) == [(Kind.refusal, Bound.notional_min)]
    assert refusal(venue, 5.0) == [(Kind.resize, Bound.nothing)]
    assert refusal(venue, 0.0) == [(Kind.resize, Bound.nothing)]
    assert refusal(venue, 4.0) == [(Kind.refusal, Bound.notional_min)]


def test_what_the_cushion_cannot_post_makes_the_increase_smaller_or_refused() -> None:
    # Another position's open profit counts as risk capital, but it is no cash that could be posted.
    venue = Exchange(symbols=2, cushion=10 * USDT, terms={"band": 0.5, "call_to": 30_000_000})
    venue.hold(1000, 20_000.0, 600 * USDT, position=1)
    told = venue.bar(20_000.0, 21_000.0, asked=(5.0, 60.0))
    smaller = [event for event in told if event.position == 0]
    assert [(event.kind, event.reason) for event in smaller] == [(Kind.resize, Bound.cushion)]
    assert venue.book.positions[0].margin == 10 * USDT
    assert 0 < venue.book.positions[0].quantity <= 5.0 * 10 / 20
    assert venue.vault.cushion == 0
    empty = Exchange(symbols=2, cushion=0, terms={"band": 0.5, "call_to": 30_000_000})
    empty.hold(1000, 20_000.0, 600 * USDT, position=1)
    told = empty.bar(20_000.0, 21_000.0, asked=(5.0, 60.0))
    assert [(event.kind, event.reason) for event in told if event.position == 0] == [(Kind.refusal, Bound.cushion)]


@pytest.mark.parametrize("side", [1, -1])
def test_open_profit_is_swept_but_never_below_what_keeps_the_position_above_its_call(side: int) -> None:
    venue = Exchange(terms={"call_at": 1_500_000, "call_to": 3_000_000, "share": 1_000})
    held = venue.hold(side * 100, 20_000.0, 400 * USDT)
    price = 20_000.0 + side * 5_000.0
    (event,) = [one for one in venue.bar(price, asked=(side * 90.0,)) if one.kind is Kind.collateral]
    assert event.amount < 0
    required = int(maintenance_margin(venue.listing[0], math.ceil(exact.value(abs(int(held.quantity)), 1_000, price))))
    equity = int(held.margin) + exact.profit(side, abs(int(held.quantity)), 1_000, price, int(held.cost))
    assert held.margin >= 3 * required
    assert equity >= 3 * required
    assert venue.bar(price) == []


def test_a_missing_bar_leaves_the_position_alone_whatever_is_asked() -> None:
    venue = Exchange(symbols=1)
    venue.hold(100, 20_000.0, 400 * USDT)
    before = venue.book.positions.tobytes()[:48]
    assert venue.bar(20_000.0, valid=False, asked=(0.0,)) == []
    assert venue.bar(20_000.0, valid=False, asked=(-50.0,)) == []
    assert venue.book.positions.tobytes()[:48] == before


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("symbol", ["BTC/USDT:USDT", "ETH/USDT:USDT", "DOGE/USDT:USDT", "XRP/USDT:USDT"])
@pytest.mark.parametrize("price", [1e-8, 0.08, 150.0, 1e6])
@pytest.mark.parametrize("nav", [10**7, 10**11, 10**15])
def test_real_instruments_at_any_price_and_size_keep_every_balance(symbol: str, price: float, nav: int) -> None:
    terms = {"taker_fee": 500, "call_at": 2_000_000, "call_to": 3_000_000, "band": 0.0}
    venue = Exchange(cushion=nav, terms=terms, shares=max(10**13, nav * 1_000))
    venue.listing = listing([shipped().find(symbol)])
    for move, asked in ((1.0, 3.0), (1.02, 8.0), (0.97, -8.0), (1.0, -3.0), (1.6, 5.0), (0.5, 0.0), (1.0, 0.0)):
        price *= move
        venue.bar(price, asked=(asked,))
        held = venue.book.positions[0]
        assert min(int(venue.vault.cushion), int(held.margin)) >= 0
        assert abs(int(held.quantity)) * int(venue.listing[0].unit) <= 2**62
        assert abs(int(held.cost)) < 2**62
    assert venue.vault.cushion >= 0


def test_a_position_that_grows_into_a_higher_tier_needs_that_tiers_margin() -> None:
    venue = Exchange(cushion=400_000 * USDT, terms={"band": 0.0, "share": 500_000, "leverage_max": 100.0})
    venue.listing = listing([shipped().find("BTC/USDT:USDT")])
    venue.bar(20_000.0, asked=(30.0,))
    row, held = venue.listing[0], venue.book.positions[0]
    notional = abs(int(held.quantity)) * 1_000 * 20_000
    floors, rates = row.tier["floor"][: row.tiers].tolist(), row.tier["rate"][: row.tiers].tolist()
    assert exact.tier_of(notional, floors) >= 2
    assert int(maintenance_margin(row, notional)) == math.ceil(exact.maintenance(notional, floors, rates))
    highest = float(row.tier["leverage_max"][exact.tier_of(notional, floors)])
    assert leverage_of(held, row, 20_000.0) <= highest


def test_a_margin_call_threshold_where_maintenance_would_be_the_whole_notional_is_still_seen() -> None:
    """At a rate of 50 % and a multiple of 2 the trigger's denominator is zero, beyond it negative."""
    for multiple in (2_000_000, 2_500_000):
        venue = Exchange(rate=500_000, leverage_max=1.9, terms={"call_at": multiple, "call_to": 3_000_000, "band": 0.0})
        venue.hold(100, 20_000.0, 1_900 * USDT)
        (event,) = venue.bar(20_000.0)
        assert event.kind is Kind.margin_call


@pytest.mark.parametrize("side", [1, -1])
def test_an_order_of_more_coins_than_an_int64_counts_is_cut_to_what_it_does(side: int) -> None:
    """A rich vault on a coin worth next to nothing: lots times unit once ran over and the order was refused."""
    venue = Exchange(unit=10**9, cushion=4 * 10**15, shares=4 * 10**18)
    venue.bar(5e-7, asked=(side * 5.0,))
    held = venue.book.positions[0]
    assert [event.kind for event in venue.events] == [Kind.resize]
    assert held.quantity == side * (2**62 // 10**9)
    venue.bar(5e-7, asked=(0.0,))
    assert (held.quantity, held.margin) == (0, 0)


# ---------------------------------------------------------------------------------------------------- what it may know

THE_VAULTS = {
    *("cap", "caps", "capital", "cushion", "mandate", "nav", "plan", "plans", "planned", "proposal", "proposals"),
    *("proposed", "ratchet", "reserve", "seat", "share", "shares", "slot", "strategy", "vault", "vaults", "wall"),
}
"""Words that a venue has no use for."""


def words(text: str) -> set[str]:
    """Every word of a text's identifiers and strings, docstrings among them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        for value in vars(node).values():
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    found |= {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    return found


def test_a_venue_does_not_name_what_is_the_vaults(project: Path) -> None:
    # what part of a bar's volume may be filled is a venue's limit
    text = (project / "markets" / "paper.py").read_text().replace("volume_share", "volume")
    assert {"order", "report"} <= words(text), "the rule would look at nothing"
    assert words(text) & THE_VAULTS == set()


@pytest.mark.parametrize(
    "planted",
    [
        "due = limit.leverage_cap",
        "def f(cushion):\n    return 0",
        "from ringfence.risk.wall import post_margin",
        'rows["reserve"]',
        "class PlanOrder:\n    pass",
        '"""Fills what the proposals ask for."""',
        "fill(order, wall=3)",
    ],
)
def test_a_planted_word_of_the_vaults_is_found(planted: str) -> None:
    assert words(planted) & THE_VAULTS
