"""Exposure against its exact twin: integers with tolerance 0, prices to 12 digits; laws M1, M2, M6, M7, M9."""

from fractions import Fraction
from math import ceil, floor, inf
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.risk import exposure
from ringfence.risk.book import Holding, tier_deductions
from ringfence.risk.errors import TiersRefused
from tests.reference import exact
from tests.reference.worlds import contract

DIGITS = 1e-12
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
COIN = contract(1, inverse=True)
FORMS = pytest.mark.parametrize("inverse", [False, True], ids=["linear", "inverse"])


class Position(NamedTuple):
    quantity: int
    unit: int
    price: float
    value: int
    """Of the whole position at `price`, about."""
    cost: int
    margin: int

    def held(self, side: int) -> Holding:
        return Holding(side * self.quantity, self.cost, self.margin)

    def contract(self, inverse: bool, tiers: "Tiers | None" = None) -> Any:
        return contract(self.unit, inverse=inverse) if tiers is None else tiers.contract(self.unit, inverse)


class Tiers(NamedTuple):
    floors: tuple[int, ...]
    rates: tuple[int, ...]

    @property
    def deductions(self) -> tuple[int, ...]:
        return tier_deductions(self.floors, self.rates)

    def contract(self, unit: int = 1, inverse: bool = False) -> Any:
        return contract(unit, self.rates, self.floors, inverse=inverse)


@st.composite
def positions(draw: st.DrawFn, inverse: bool, value_min: float = 1.0) -> Position:
    """Prices from 1e-8 to 1e6, values from one minor unit to 100 million whole units of six decimals."""
    price = draw(st.floats(1.0, 9.999)) * 10.0 ** draw(st.integers(-8, 5))
    wished = 10.0 ** draw(st.floats(0.0, 14.0))
    amount = int(min(max(wished * price if inverse else wished / price, 1.0), 2.0**52))
    unit = draw(st.sampled_from([1, 10, 1000, 10**6]).filter(lambda unit: unit <= amount))
    quantity = amount // unit
    value = floor(exact.value(quantity, unit, price, inverse))
    assume(value_min <= value < 2**51)
    cost = max(1, int(value * draw(st.floats(0.5, 2.0))))
    return Position(quantity, unit, price, value, cost, int(cost * draw(st.floats(0.0, 1.3))))


@st.composite
def tables(draw: st.DrawFn, value: int) -> Tiers:
    """One to six tiers with floors of whole currency units around the position's value."""
    ratios = draw(st.lists(st.floats(0.02, 4.0), max_size=5))
    floors = (0, *sorted({max(1, int(value * ratio) // 10**6) * 10**6 for ratio in ratios}))
    rates = draw(st.lists(st.integers(1, 500_000), min_size=len(floors), max_size=len(floors), unique=True))
    return Tiers(floors, tuple(sorted(rates)))


def close_to(actual: float, expected: Fraction) -> bool:
    return abs(Fraction(actual) - expected) <= Fraction(DIGITS) * abs(expected)


# Values, profit and margin


@FORMS
@given(st.data())
def test_a_value_is_the_exact_floor_and_the_exact_ceiling(inverse: bool, data: st.DataObject) -> None:
    position = data.draw(positions(inverse))
    true = exact.value(position.quantity, position.unit, position.price, inverse)
    row, quantity, price = position.contract(inverse), position.quantity, position.price
    assert exposure.value_down(row, quantity, price) == floor(true)
    assert exposure.value_up(row, quantity, price) == ceil(true)
    assert exposure.traded_value(row, quantity, price) == (floor(true) if inverse else ceil(true))
    assert exposure.traded_value(row, -quantity, price) == (ceil(true) if inverse else floor(true))
    assert close_to(quantity * exposure.lot_value(row, price), true)


@given(st.integers(1, 2**26), st.integers(1, 2**26), st.sampled_from([-inf, 0.0, inf]))
@example(1, 3, 0.0)
@example(1, 10, 0.0)
@example(10**6, 7, inf)
def test_an_inverse_value_a_hair_beside_an_integer_falls_on_its_own_side(part: int, whole: int, towards: float) -> None:
    price = part / whole if towards == 0.0 else float(np.nextafter(part / whole, towards))
    amount = part * 2**20
    true = Fraction(amount) / Fraction(price)
    assert exposure.value_down(COIN, amount, price) == floor(true)
    assert exposure.value_up(COIN, amount, price) == ceil(true)


def test_the_naive_inverse_value_would_have_been_wrong_where_ours_is_right() -> None:
    assert floor(1 / 0.1) == 10
    assert Fraction(1) / Fraction(0.1) < 10
    assert exposure.value_down(COIN, 1, 0.1) == 9
    assert ceil(3 / 0.7 * 0.7) == 3
    below = float(np.nextafter(0.1, 0.0))
    assert ceil(Fraction(1) / Fraction(below)) == exposure.value_up(COIN, 1, below) == 11


@FORMS
@SIDES
@given(st.data())
def test_profit_is_the_exact_profit_rounded_down_for_either_side(side: int, inverse: bool, data: st.DataObject) -> None:
    position = data.draw(positions(inverse))
    quantity, unit, price, _, cost, margin = position
    profit = exposure.profit(position.held(side), position.contract(inverse), price)
    assert profit == exact.profit(side, quantity, unit, price, cost, inverse)
    assert exposure.equity_at(position.held(side), position.contract(inverse), price) == margin + profit
    assert exposure.equity_at(Holding(0, 0, margin), position.contract(inverse), price) == margin


@given(st.integers(0, 2**52), st.floats(1.0, 200.0))
@example(10**15, 3.0)
@example(10**6, 10.0)
@example(0, 125.0)
def test_initial_margin_is_the_exact_ceiling(notional: int, leverage: float) -> None:
    assert exposure.initial_margin(notional, leverage) == exact.initial_margin(notional, leverage)


@given(st.integers(0, 2**53), st.integers(0, 50_000))
def test_a_fee_is_the_exact_ceiling(notional: int, rate: int) -> None:
    assert exposure.fee(notional, rate) == exact.fee(notional, rate)


# Tiers


@given(st.data(), st.integers(1, 2**50))
def test_the_requirement_is_the_exact_bracket_by_bracket_sum_rounded_up(data: st.DataObject, notional: int) -> None:
    tiers = data.draw(tables(notional))
    requirement = exposure.maintenance_margin(tiers.contract(), notional)
    assert requirement == ceil(exact.maintenance(notional, *tiers))


@given(st.data(), st.integers(1, 2**50))
def test_the_requirement_is_that_of_the_tier_which_holds_the_notional(data: st.DataObject, notional: int) -> None:
    tiers = data.draw(tables(notional))
    k = exposure.tier_of(tiers.contract(), notional)
    assert k == exact.tier_of(notional, tiers.floors)
    looked_up = exact.fee(notional, tiers.rates[k]) - tiers.deductions[k]
    assert exposure.maintenance_margin(tiers.contract(), notional) == looked_up


@given(st.data(), st.integers(1, 2**50))
def test_deductions_are_the_savings_of_the_lower_brackets(data: st.DataObject, value: int) -> None:
    tiers = data.draw(tables(value))
    assert list(tiers.deductions) == exact.deductions(*tiers)


def test_deductions_of_floors_in_fractions_of_a_unit_round_down_once() -> None:
    assert tier_deductions((0, 1_500, 2_500), (1_000, 1_400, 2_000)) == (0, 0, 2)
    assert [float(saved) for saved in exact.deductions((0, 1_500, 2_500), (1_000, 1_400, 2_000))] == [0, 0.6, 2.1]


def test_a_table_that_repeats_its_last_tier_asks_the_same() -> None:
    short = contract(1, (4000, 5000), (0, 50_000))
    longer = contract(1, (4000, 5000, 5000), (0, 50_000, 50_000), (0, 50, 50))
    for notional in (0, 49_999, 50_000, 80_001):
        assert exposure.maintenance_margin(short, notional) == exposure.maintenance_margin(longer, notional)


@pytest.mark.parametrize(
    ("floors", "rates"),
    [
        pytest.param((), (), id="an empty table"),
        pytest.param((10,), (4000,), id="a table that starts above 0"),
        pytest.param((0, 10), (4000,), id="a floor without a rate"),
        pytest.param((0, 10, 10), (1, 2, 3), id="a floor twice"),
        pytest.param((0, 10, 20), (1, 3, 2), id="a falling rate"),
        pytest.param((0, 10, 20), (1, 2, 2), id="a rate twice"),
    ],
)
def test_tiers_that_do_not_rise_from_zero_are_refused(floors: tuple[int, ...], rates: tuple[int, ...]) -> None:
    with pytest.raises(TiersRefused, match=r"tier.*expected"):
        tier_deductions(floors, rates)


# Liquidation and bankruptcy


def liquidation(side: int, position: Position, tiers: Tiers, closing_fee: int, inverse: bool) -> float | None:
    return exposure.liquidation_price(position.held(side), position.contract(inverse, tiers), closing_fee) or None


@FORMS
@SIDES
@given(st.data(), st.sampled_from([0, 500, 2000]))
def test_the_liquidation_price_is_the_exact_root_in_the_tier_that_holds_it(
    side: int, inverse: bool, data: st.DataObject, closing_fee: int
) -> None:
    position = data.draw(positions(inverse))
    tiers = data.draw(tables(position.value))
    quantity, unit, _, _, cost, margin = position
    found = exact.liquidation_prices(side, quantity, unit, cost, margin, *tiers, closing_fee, inverse)
    price = liquidation(side, position, tiers, closing_fee, inverse)
    if not found:
        assert price is None
        return
    assert len(set(found.values())) == 1, "a continuous requirement is met at one price"
    assert price is not None
    assert close_to(price, next(iter(found.values())))
    held = exact.value(quantity, unit, price, inverse)
    beside = {exact.tier_of(held * (1 + shift), tiers.floors) for shift in (-Fraction(1, 10**11), Fraction(1, 10**11))}
    assert beside & set(found)


@FORMS
@SIDES
@given(st.data(), st.sampled_from([0, 500]))
def test_any_other_tier_would_liquidate_later(side: int, inverse: bool, data: st.DataObject, closing_fee: int) -> None:
    position = data.draw(positions(inverse))
    tiers = data.draw(tables(position.value))
    price = liquidation(side, position, tiers, closing_fee, inverse)
    roots = [
        exposure.liquidation_level(
            position.held(side), contract(position.unit, (rate,), (0,), (saved,), inverse), 10**6, closing_fee
        )
        for rate, saved in zip(tiers.rates, tiers.deductions, strict=True)
    ]
    if price is None:
        assert roots == [0.0 if side > 0 else inf] * len(roots)
    else:
        assert price == (max(roots) if side > 0 else min(roots))


@FORMS
@SIDES
@given(st.data(), st.sampled_from([0, 500, 2000]))
def test_at_the_liquidation_price_integer_equity_meets_the_requirement_within_three_units(
    side: int, inverse: bool, data: st.DataObject, closing_fee: int
) -> None:
    """One unit each for the profit, the maintenance and the closing fee, all rounded against the position; a hair of
    ten units of value to either side of the price decides it."""
    position = data.draw(positions(inverse, value_min=1e4))
    tiers = data.draw(tables(position.value))
    quantity, unit = position.quantity, position.unit
    price = liquidation(side, position, tiers, closing_fee, inverse)
    assume(price is not None)
    value = float(exact.value(quantity, unit, price, inverse))
    assume(1e3 < value < 1e14)

    def surplus(mark: float) -> int:
        row = position.contract(inverse, tiers)
        risk = exposure.risk_at(position.held(side), row, mark)
        return int(risk.equity - risk.maintenance - exposure.fee(exposure.value_up(row, quantity, mark), closing_fee))

    assert -3 <= surplus(price) <= 0
    hair = side * 10 / value
    assert surplus(price * (1 - hair)) < 0
    assert surplus(price * (1 + hair)) >= 0


@FORMS
@SIDES
@given(st.data(), st.integers(0, 10**12), st.sampled_from([0, 500]))
def test_adding_margin_never_brings_the_liquidation_price_nearer(
    side: int, inverse: bool, data: st.DataObject, added: int, closing_fee: int
) -> None:
    position = data.draw(positions(inverse))
    tiers = data.draw(tables(position.value))
    before = liquidation(side, position, tiers, closing_fee, inverse)
    after = liquidation(side, position._replace(margin=position.margin + added), tiers, closing_fee, inverse)
    if before is None:
        assert after is None
    elif after is not None:
        assert after <= before if side > 0 else after >= before
    else:
        assert (side > 0) != inverse, "only a linear long and an inverse short can be out of reach"


@FORMS
@SIDES
@given(st.data(), st.sampled_from([0, 500]))
def test_liquidation_comes_no_later_than_bankruptcy(
    side: int, inverse: bool, data: st.DataObject, closing_fee: int
) -> None:
    position = data.draw(positions(inverse))
    tiers = data.draw(tables(position.value))
    quantity, unit, _, _, cost, margin = position
    bankruptcy = exposure.bankruptcy_price(position.held(side), position.contract(inverse), closing_fee)
    true = exact.bankruptcy_price(side, quantity, unit, cost, margin, closing_fee, inverse)
    price = liquidation(side, position, tiers, closing_fee, inverse)
    if true is None:
        assert bankruptcy == 0.0
        assert price is None
        return
    assert close_to(float(bankruptcy), true)
    assert price is not None
    assert price >= bankruptcy if side > 0 else price <= bankruptcy


@FORMS
def test_a_position_that_no_price_can_reach_has_no_price_and_a_level_beyond_all_prices(inverse: bool) -> None:
    """A linear long with its whole cost as margin; an inverse short with as much coin as it owes."""
    row = contract(1000, (5000,), inverse=inverse)
    covered = Holding(-1000 if inverse else 1000, 50_000_000, 50_000_000)
    assert exposure.liquidation_price(covered, row) == exposure.bankruptcy_price(covered, row) == 0.0
    beyond = inf if inverse else 0.0
    assert exposure.liquidation_level(covered, row, 10**6, 0) == beyond
    nearly = covered._replace(margin=49_999_999)
    assert exposure.liquidation_price(nearly, row) > 0.0
    deducted = contract(1000, (5000,), (0,), (1,), inverse)
    assert exposure.liquidation_level(nearly, deducted, 10**6, 0) == beyond, "a deduction counts like margin"


@FORMS
@SIDES
def test_where_more_is_asked_for_than_the_value_every_price_reaches_the_level(side: int, inverse: bool) -> None:
    """Twice a rate of 60 % grows faster than the value of who gains by it."""
    level = exposure.liquidation_level(
        Holding(side * 1000, 50_000_000, 40_000_000), contract(1000, (600_000,), inverse=inverse), 2_000_000, 0
    )
    if inverse == (side > 0):
        assert 0.0 < level < inf
    else:
        assert level == (inf if side > 0 else 0.0)


def test_a_flat_position_has_neither_price_nor_leverage() -> None:
    flat, row = Holding(0, 0, 7), contract(1000, (5000,))
    assert exposure.liquidation_price(flat, row) == exposure.bankruptcy_price(flat, row) == 0.0
    assert exposure.leverage_of(flat, row, 20.0) == 0.0


@FORMS
@SIDES
@given(st.data())
def test_leverage_is_notional_over_equity_and_zero_where_none_is_left(
    side: int, inverse: bool, data: st.DataObject
) -> None:
    position = data.draw(positions(inverse))
    row, price = position.contract(inverse), position.price
    equity = exposure.equity_at(position.held(side), row, price)
    leverage = exposure.leverage_of(position.held(side), row, price)
    notional = exact.value(position.quantity, position.unit, price, inverse)
    assert close_to(leverage, side * notional / equity) if equity > 0 else leverage == 0.0


# Funding and closes


@FORMS
@SIDES
@given(st.data(), st.floats(-1.0, 1.0).filter(lambda rate: rate == 0.0 or abs(rate) > 1e-12))
def test_funding_is_exact_and_rounded_against_the_position(
    side: int, inverse: bool, data: st.DataObject, rate: float
) -> None:
    quantity, unit, price, *_ = data.draw(positions(inverse))
    payment = exposure.funding_payment(Holding(side * quantity, 0, 0), contract(unit, inverse=inverse), price, rate)
    rounded, true = exact.funding_payment(side, quantity, unit, price, rate, inverse)
    assert payment == rounded
    assert 0 <= true - int(payment) < 2


@FORMS
@given(st.data(), st.floats(1e-7, 0.03))
def test_longs_pay_shorts_when_the_rate_is_positive_and_nobody_gains_by_rounding(
    inverse: bool, data: st.DataObject, rate: float
) -> None:
    quantity, unit, price, *_ = data.draw(positions(inverse))
    row = contract(unit, inverse=inverse)

    def payment(side: int, rate: float) -> int:
        return int(exposure.funding_payment(Holding(side * quantity, 0, 0), row, price, rate))

    paid, received = payment(1, rate), payment(-1, rate)
    assert paid < 0 <= received
    assert -2 <= paid + received <= 0
    assert payment(-1, -rate) == paid
    assert payment(1, -rate) == received
    assert payment(1, 0.0) == payment(-1, 0.0) == 0


wide = st.integers(1, 2**62 - 1) | st.integers(1, 2**33)


@given(st.integers(0, 2**62 - 1), wide, st.floats(0.0, 1.0))
@example(2**62 - 1, 2**62 - 1, 1.0)
@example(2**62 - 2, 2**62 - 1, 1.0)
@example(2**62 - 1, 2**62 - 2, 0.5)
@example(2**61 + 7, 2**31, 1 / 3)
@example(2**61 + 7, 2**31 - 1, 1 / 3)
@example(7, 3, 0.0)
def test_the_cost_of_a_part_is_the_exact_floor_for_products_of_124_bits(cost: int, quantity: int, share: float) -> None:
    closed = min(int(quantity * share), quantity)
    assert exposure.cost_closed(cost, closed, quantity) == exact.cost_closed(cost, closed, quantity)
    assert exposure.cost_closed(cost, quantity, quantity) == cost


@FORMS
@SIDES
@given(st.data())
def test_partial_closes_at_one_price_sum_to_the_full_close_within_one_unit_each(
    side: int, inverse: bool, data: st.DataObject
) -> None:
    quantity, unit, price, _, cost, _ = data.draw(positions(inverse))
    row = contract(unit, inverse=inverse)

    def realised(closed: int, held: int, basis: int) -> int:
        part = exposure.closed_part(Holding(side * held, basis, 0), closed)
        return int(exposure.profit(part, row, price))

    whole = realised(quantity, quantity, cost)
    assert whole == exact.profit(side, quantity, unit, price, cost, inverse)
    parts, left, basis = [], quantity, cost
    while left:
        closed = data.draw(st.integers(1, left)) if len(parts) < 8 else left
        parts.append(int(realised(closed, left, basis)))
        basis -= int(exposure.cost_closed(basis, closed, left))
        left -= closed
    assert basis == 0
    assert 0 <= whole - sum(parts) < len(parts)
