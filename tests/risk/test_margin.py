"""Margin formulas against their exact twin: integers with tolerance 0, prices to 12 digits; laws M1, M2, M6, M7, M9."""

from fractions import Fraction
from math import ceil, floor, inf, isinf
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.risk import margin as formulas
from ringfence.risk.errors import TiersRefused
from tests.reference import exact

DIGITS = 1e-12
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])
FORMS = pytest.mark.parametrize("inverse", [False, True], ids=["linear", "inverse"])


class Position(NamedTuple):
    quantity: int
    unit: int
    price: float
    value: int
    """Of the whole position at `price`, about."""
    cost: int
    margin: int


class Tiers(NamedTuple):
    floors: tuple[int, ...]
    rates: tuple[int, ...]

    @property
    def deductions(self) -> tuple[int, ...]:
        return formulas.tier_deductions(self.floors, self.rates)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.rates, np.int64), np.array(self.deductions, np.int64)


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


def either(name: str, inverse: bool):
    return getattr(formulas, f"{name}_inverse" if inverse else name)


def notional_up(position: Position, price: float, inverse: bool) -> int:
    function = formulas.notional_inverse_up if inverse else formulas.notional_up
    return int(function(position.quantity, position.unit, price))


def close_to(actual: float, expected: Fraction) -> bool:
    return abs(Fraction(actual) - expected) <= Fraction(DIGITS) * abs(expected)


# Values, profit and margin


@FORMS
@given(st.data())
def test_a_value_is_the_exact_floor_and_the_exact_ceiling(inverse: bool, data: st.DataObject) -> None:
    position = data.draw(positions(inverse))
    true = exact.value(position.quantity, position.unit, position.price, inverse)
    down = formulas.notional_inverse_down if inverse else formulas.notional_down
    assert down(position.quantity, position.unit, position.price) == floor(true)
    assert notional_up(position, position.price, inverse) == ceil(true)


@given(st.integers(1, 2**26), st.integers(1, 2**26), st.sampled_from([-inf, 0.0, inf]))
@example(1, 3, 0.0)
@example(1, 10, 0.0)
@example(10**6, 7, inf)
def test_an_inverse_value_a_hair_beside_an_integer_falls_on_its_own_side(part: int, whole: int, towards: float) -> None:
    price = part / whole if towards == 0.0 else float(np.nextafter(part / whole, towards))
    amount = part * 2**20
    true = Fraction(amount) / Fraction(price)
    assert formulas.notional_inverse_down(amount, 1, price) == floor(true)
    assert formulas.notional_inverse_up(amount, 1, price) == ceil(true)


def test_the_naive_inverse_value_would_have_been_wrong_where_ours_is_right() -> None:
    assert floor(1 / 0.1) == 10
    assert Fraction(1) / Fraction(0.1) < 10
    assert formulas.notional_inverse_down(1, 1, 0.1) == 9
    assert ceil(3 / 0.7 * 0.7) == 3
    below = float(np.nextafter(0.1, 0.0))
    assert ceil(Fraction(1) / Fraction(below)) == formulas.notional_inverse_up(1, 1, below) == 11


@FORMS
@SIDES
@given(st.data())
def test_profit_is_the_exact_profit_rounded_down_for_either_side(side: int, inverse: bool, data: st.DataObject) -> None:
    position = data.draw(positions(inverse))
    quantity, unit, price, _, cost, margin = position
    profit = either("profit", inverse)(side, quantity, unit, price, cost)
    assert profit == exact.profit(side, quantity, unit, price, cost, inverse)
    assert formulas.equity(margin, profit) == margin + profit


@given(st.integers(0, 2**52), st.floats(1.0, 200.0))
@example(10**15, 3.0)
@example(10**6, 10.0)
@example(0, 125.0)
def test_initial_margin_is_the_exact_ceiling(notional: int, leverage: float) -> None:
    assert formulas.initial_margin(notional, leverage) == exact.initial_margin(notional, leverage)


@given(st.integers(0, 2**53), st.integers(0, 50_000))
def test_a_fee_is_the_exact_ceiling(notional: int, rate: int) -> None:
    assert formulas.fee(notional, rate) == exact.fee(notional, rate)


# Tiers


@given(st.data(), st.integers(1, 2**50))
def test_the_requirement_is_the_exact_bracket_by_bracket_sum_rounded_up(data: st.DataObject, notional: int) -> None:
    tiers = data.draw(tables(notional))
    requirement = formulas.maintenance_requirement(notional, *tiers.arrays)
    assert requirement == ceil(exact.maintenance(notional, *tiers))


@given(st.data(), st.integers(1, 2**50))
def test_the_requirement_is_that_of_the_tier_which_holds_the_notional(data: st.DataObject, notional: int) -> None:
    tiers = data.draw(tables(notional))
    k = formulas.tier_index(notional, np.array(tiers.floors))
    assert k == exact.tier_of(notional, tiers.floors)
    looked_up = formulas.maintenance_margin(notional, tiers.rates[k], tiers.deductions[k])
    assert formulas.maintenance_requirement(notional, *tiers.arrays) == looked_up


@given(st.data(), st.integers(1, 2**50))
def test_deductions_are_the_savings_of_the_lower_brackets(data: st.DataObject, value: int) -> None:
    tiers = data.draw(tables(value))
    assert list(tiers.deductions) == exact.deductions(*tiers)


def test_deductions_of_floors_in_fractions_of_a_unit_round_down_once() -> None:
    assert formulas.tier_deductions((0, 1_500, 2_500), (1_000, 1_400, 2_000)) == (0, 0, 2)
    assert [float(saved) for saved in exact.deductions((0, 1_500, 2_500), (1_000, 1_400, 2_000))] == [0, 0.6, 2.1]


def test_a_table_that_repeats_its_last_tier_asks_the_same() -> None:
    rates, deductions = np.array([4000, 5000]), np.array([0, 50])
    longer = np.array([4000, 5000, 5000]), np.array([0, 50, 50])
    for notional in (0, 49_999, 50_000, 80_001):
        assert formulas.maintenance_requirement(notional, rates, deductions) == formulas.maintenance_requirement(
            notional, *longer
        )


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
        formulas.tier_deductions(floors, rates)


# Liquidation and bankruptcy


def liquidation(side: int, position: Position, tiers: Tiers, closing_fee: int, inverse: bool) -> float | None:
    quantity, unit, _, _, cost, margin = position
    price = either("liquidation_price", inverse)
    return price(side, quantity, unit, cost, margin, tiers.rates, tiers.deductions, closing_fee)


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
    quantity, unit, _, _, cost, margin = position
    price = liquidation(side, position, tiers, closing_fee, inverse)
    roots = either("liquidation_root", inverse)(
        side, quantity, unit, cost, margin, tiers.arrays[0], tiers.arrays[1], closing_fee
    )
    if price is None:
        assert all(isinf(root) for root in roots.tolist())
    else:
        assert price == (roots.max() if side > 0 else roots.min())


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
    quantity, unit, _, _, cost, margin = position
    price = liquidation(side, position, tiers, closing_fee, inverse)
    assume(price is not None)
    value = float(exact.value(quantity, unit, price, inverse))
    assume(1e3 < value < 1e14)

    def surplus(mark: float) -> int:
        notional = notional_up(position, mark, inverse)
        profit = either("profit", inverse)(side, quantity, unit, mark, cost)
        requirement = formulas.maintenance_requirement(notional, *tiers.arrays) + formulas.fee(notional, closing_fee)
        return int(formulas.equity(margin, profit) - requirement)

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
    bankruptcy = either("bankruptcy_price", inverse)(side, quantity, unit, cost, margin, closing_fee)
    true = exact.bankruptcy_price(side, quantity, unit, cost, margin, closing_fee, inverse)
    price = liquidation(side, position, tiers, closing_fee, inverse)
    if true is None:
        assert bankruptcy == -side * inf
        assert price is None
        return
    assert close_to(float(bankruptcy), true)
    assert price is not None
    assert price >= bankruptcy if side > 0 else price <= bankruptcy


@FORMS
def test_a_position_that_no_price_can_reach_says_none_and_its_compiled_form_infinity(inverse: bool) -> None:
    """A linear long with its whole cost as margin; an inverse short with as much coin as it owes."""
    side = -1 if inverse else 1
    arguments = (side, 1000, 1000, 50_000_000, 50_000_000)
    assert either("liquidation_price", inverse)(*arguments, (5000,), (0,)) is None
    level = either("liquidation_level", inverse)(*arguments, np.array([5000]), np.array([0]), 0)
    assert level == -side * inf
    assert either("bankruptcy_price", inverse)(*arguments, 0) == -side * inf
    nearly = (side, 1000, 1000, 50_000_000, 49_999_999)
    assert either("liquidation_price", inverse)(*nearly, (5000,), (0,)) is not None
    assert either("liquidation_root", inverse)(*nearly, 5000, 1, 0) == -side * inf, "a deduction counts like margin"


@FORMS
@SIDES
def test_the_roots_of_many_positions_over_many_tiers_broadcast(side: int, inverse: bool) -> None:
    margins = np.array([5_000, 7_000, 30_000]) * 10**6
    rates, deductions = np.array([4000, 5000, 10_000]), np.array([0, 50, 1300]) * 10**6
    cost = 100_000 * 10**6
    amount = 2 * 10**6 if not inverse else 5 * 10**15
    roots = either("liquidation_root", inverse)(side, 1, amount, cost, margins[:, None], rates, deductions, 500)
    assert roots.shape == (3, 3)
    levels = roots.max(axis=1) if side > 0 else roots.min(axis=1)
    level = either("liquidation_level", inverse)
    assert levels.tolist() == [level(side, 1, amount, cost, int(m), rates, deductions, 500) for m in margins]


# Funding and closes


@FORMS
@SIDES
@given(st.data(), st.floats(-1.0, 1.0).filter(lambda rate: rate == 0.0 or abs(rate) > 1e-12))
def test_funding_is_exact_and_rounded_against_the_position(
    side: int, inverse: bool, data: st.DataObject, rate: float
) -> None:
    quantity, unit, price, *_ = data.draw(positions(inverse))
    payment = either("funding_payment", inverse)(side, quantity, unit, price, rate)
    rounded, true = exact.funding_payment(side, quantity, unit, price, rate, inverse)
    assert payment == rounded
    assert 0 <= true - int(payment) < 2


@FORMS
@given(st.data(), st.floats(1e-7, 0.03))
def test_longs_pay_shorts_when_the_rate_is_positive_and_nobody_gains_by_rounding(
    inverse: bool, data: st.DataObject, rate: float
) -> None:
    quantity, unit, price, *_ = data.draw(positions(inverse))
    payment = either("funding_payment", inverse)
    paid, received = payment(1, quantity, unit, price, rate), payment(-1, quantity, unit, price, rate)
    assert paid < 0 <= received
    assert -2 <= paid + received <= 0
    assert payment(-1, quantity, unit, price, -rate) == paid
    assert payment(1, quantity, unit, price, -rate) == received
    assert payment(1, quantity, unit, price, 0.0) == payment(-1, quantity, unit, price, 0.0) == 0


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
    assert formulas.cost_closed(cost, closed, quantity) == exact.cost_closed(cost, closed, quantity)
    assert formulas.cost_closed(cost, quantity, quantity) == cost


@FORMS
@SIDES
@given(st.data())
def test_partial_closes_at_one_price_sum_to_the_full_close_within_one_unit_each(
    side: int, inverse: bool, data: st.DataObject
) -> None:
    quantity, unit, price, _, cost, _ = data.draw(positions(inverse))
    realised = either("realised_profit", inverse)
    whole = realised(side, quantity, quantity, unit, price, cost)
    assert whole == exact.profit(side, quantity, unit, price, cost, inverse)
    parts, left, basis = [], quantity, cost
    while left:
        closed = data.draw(st.integers(1, left)) if len(parts) < 8 else left
        parts.append(int(realised(side, closed, left, unit, price, basis)))
        basis -= int(formulas.cost_closed(basis, closed, left))
        left -= closed
    assert basis == 0
    assert 0 <= whole - sum(parts) < len(parts)
