"""What to trade: reductions and margin calls, collateral to move, and increases with what bound them."""

from typing import Any

import pytest

from ringfence.risk import orders
from ringfence.risk.book import BAR, POSITION, POSITION_LIMITS, VAULT, Order, Seat, rows
from ringfence.risk.engine import PLAN
from ringfence.risk.events import Bound
from ringfence.risk.exposure import Risk, risk_at
from tests.reference.worlds import contract

USDT = 10**6
PRICE = 20_000.0
BTC = contract(1_000, (10_000,))
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])


def seat(quantity: int = 0, margin: int = 0, **terms: float) -> Seat:
    """A position bought or sold at 20,000; a lot is worth 20."""
    allowed: dict[str, float] = {"band": 0.1, "call_at": 1_500_000, "call_to": 3_000_000}
    limit = rows(POSITION_LIMITS, 1, **(allowed | terms))[0]
    position = rows(POSITION, 1, quantity=quantity, margin=margin, cost=abs(quantity) * 1_000 * int(PRICE))[0]
    return Seat(rows(VAULT, 1)[0], position, limit, BTC)


def prices(close: float = PRICE) -> Any:
    return rows(BAR, 1, close=close, mark_close=close, valid=True)[0]


def plan(target: int, collateral: int = 1_000 * USDT, leverage: float = 10.0, bound: Bound = Bound.nothing) -> Any:
    return rows(PLAN, 1, target=target, collateral=collateral, leverage=leverage, bound=bound)[0]


# ---------------------------------------------------------------------------------------------------- reductions


@SIDES
@pytest.mark.parametrize(
    ("held", "target", "closed"), [(100, 60, 40), (100, 0, 100), (100, -50, 100), (100, 100, 0), (100, 150, 0)]
)
def test_a_reduction_closes_what_is_beyond_the_target_and_never_turns_the_side(
    side: int, held: int, target: int, closed: int
) -> None:
    held_at = seat(side * held, 1_000 * USDT)
    assert orders.reduction(held_at, prices(), plan(side * target)) == Order(0, -side * closed)


@SIDES
def test_a_part_that_would_cost_more_than_the_margin_closes_whole(side: int) -> None:
    """Half of it loses 100 and pays a fee of about 10: a margin of 120 bears that, one of 105 does not."""
    away = prices(PRICE - side * 2_000.0)
    for margin, closed in ((120, 50), (105, 100)):
        held = seat(side * 100, margin * USDT, taker_fee=10_000)
        assert orders.reduction(held, away, plan(side * 50)) == Order(0, -side * closed)


@SIDES
def test_a_margin_call_cuts_to_its_multiple_and_not_before_its_threshold(side: int) -> None:
    """Equity 250 at a maintenance of about 200 and, cut to three times it, of 83."""
    calm, called = prices(PRICE - side * 600.0), prices(PRICE - side * 750.0)
    held = seat(side * 1_000, 1_000 * USDT)
    assert orders.margin_call(held, calm) == Order(0, 0)
    order = orders.margin_call(held, called)
    kept = 1_000 - abs(order.lots)
    assert order.lots * side < 0
    per_lot = called.mark_close / 1_000 * 0.01
    assert 3 * kept * per_lot <= 250 < 3 * (kept + 1) * per_lot


def test_a_flat_position_gives_everything_back_and_an_open_one_keeps_what_its_call_needs() -> None:
    assert orders.excess_margin(seat(0, 70 * USDT), PRICE, plan(0)) == 70 * USDT
    held = seat(100, 100 * USDT)  # worth 2,000; three times its maintenance of 20 are 60
    assert orders.excess_margin(held, PRICE, plan(100, collateral=95 * USDT)) == 0
    assert orders.excess_margin(held, PRICE, plan(100, collateral=80 * USDT)) == 20 * USDT
    assert orders.excess_margin(held, PRICE, plan(100, collateral=10 * USDT)) == 40 * USDT


# ---------------------------------------------------------------------------------------------------- increases


def test_collateral_is_topped_up_before_an_increase_and_else_beyond_the_band_only() -> None:
    held = seat(100, 950 * USDT)
    assert orders.lacking_margin(held, PRICE, plan(200)) == 50 * USDT
    assert orders.lacking_margin(held, PRICE, plan(100)) == 0
    assert orders.lacking_margin(seat(100, 890 * USDT), PRICE, plan(100)) == 110 * USDT
    assert orders.lacking_margin(seat(100, 2_000 * USDT), PRICE, plan(200)) == 0
    assert orders.lacking_margin(seat(0, 0), PRICE, plan(0)) == 0


@SIDES
@pytest.mark.parametrize(
    ("margin", "notional_min", "terms", "lots", "bound"),
    [
        pytest.param(1_000, 0, {}, 500, Bound.volatility, id="what the plan asks for, by what bound the plan"),
        pytest.param(400, 0, {}, 200, Bound.cushion, id="as many as the collateral that was posted bears"),
        pytest.param(0, 0, {}, 0, Bound.cushion, id="none without collateral"),
        pytest.param(1_000, 20_000, {}, 0, Bound.notional_min, id="none below the venue's smallest order"),
        pytest.param(1_000, 0, {"taker_fee": 95_000}, 0, Bound.venue_leverage, id="none that the fee makes too large"),
        pytest.param(
            1_000, 0, {"call_at": 11_000_000}, 0, Bound.venue_leverage, id="none that would be called at once"
        ),
    ],
)
def test_an_increase_and_what_bound_it(
    side: int, margin: int, notional_min: int, terms: dict[str, float], lots: int, bound: Bound
) -> None:
    held = seat(0, margin * USDT, **terms)
    held.instrument.notional_min = notional_min * USDT
    try:
        intent = orders.increase(held, prices(), plan(side * 500, bound=Bound.volatility))
    finally:
        held.instrument.notional_min = 0
    assert intent == orders.Intent(Order(0, side * lots), bound)


def test_an_open_position_is_not_told_that_its_addition_is_too_small() -> None:
    held = seat(499, 1_000 * USDT)
    held.instrument.notional_min = 100 * USDT
    try:
        assert orders.increase(held, prices(), plan(500)) == orders.Intent(Order(0, 0), Bound.nothing)
    finally:
        held.instrument.notional_min = 0


def test_what_would_be_is_asked_of_the_same_risk() -> None:
    held = seat(100, 30 * USDT)
    assert risk_at(held.position, BTC, PRICE) == Risk(30 * USDT, 20 * USDT, 20 * USDT)
