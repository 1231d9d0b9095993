"""What to trade: reductions and margin calls, collateral to move, and increases with what bound them."""

from typing import Any

import pytest

from ringfence.risk import orders, settlement
from ringfence.risk.book import BAR, POSITION, POSITION_LIMITS, VAULT, Order, Report, ReportKind, Seat, rows
from ringfence.risk.engine import PLAN
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import Risk, equity_at, risk_at
from ringfence.risk.tape import blank_tape
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


def intent(lots: int, bound: Bound = Bound.nothing) -> orders.Intent:
    return orders.Intent(Order(0, lots), bound)


# ---------------------------------------------------------------------------------------------------- reductions


@SIDES
@pytest.mark.parametrize(
    ("held", "target", "closed"), [(100, 60, 40), (100, 0, 100), (100, -50, 100), (100, 100, 0), (100, 150, 0)]
)
def test_a_reduction_closes_what_is_beyond_the_target_and_never_turns_the_side(
    side: int, held: int, target: int, closed: int
) -> None:
    held_at = seat(side * held, 1_000 * USDT)
    found = orders.reduction(held_at, prices(), plan(side * target, bound=Bound.volatility))
    assert found == intent(-side * closed, Bound.volatility)


@SIDES
@pytest.mark.parametrize(
    ("margin", "closed", "bound"),
    [
        pytest.param(120, 50, Bound.nothing, id="the margin bears a part"),
        pytest.param(216, 50, Bound.nothing, id="and would bear all"),
        pytest.param(105, 0, Bound.costs, id="neither a part nor all: refused, whatever the mandate asks"),
    ],
)
def test_a_voluntary_close_takes_no_more_than_the_margin(side: int, margin: int, closed: int, bound: Bound) -> None:
    """At 18,000 half of it loses 100 and pays a fee of 9 (a short's at 22,000: 11), all of it loses 200 and 18 (22)."""
    held = seat(side * 100, margin * USDT, taker_fee=10_000)
    away = prices(PRICE - side * 2_000.0)
    assert orders.reduction(held, away, plan(side * 50)) == intent(-side * closed, bound)


def test_a_part_whose_loss_the_margin_cannot_bear_closes_whole_where_the_margin_bears_that() -> None:
    """Two lots sold for 40.000001 and no margin, bought back at 20.0000005 each: one comes to a unit of loss, rounded
    against it twice, both to nothing."""
    held, price = seat(-2, 0), PRICE + 2.0**-11
    held.position.cost = 40 * USDT + 1
    assert orders.closing(held, 1, price, Bound.flow.value) == intent(2, Bound.flow)


@SIDES
def test_a_margin_call_cuts_to_its_multiple_and_not_before_its_threshold(side: int) -> None:
    """Equity 250 at a maintenance of about 200 and, cut to three times it, of 83."""
    calm, called = prices(PRICE - side * 600.0), prices(PRICE - side * 750.0)
    held = seat(side * 1_000, 1_000 * USDT)
    assert orders.margin_call(held, calm) == intent(0)
    found = orders.margin_call(held, called)
    kept = 1_000 - abs(found.order.lots)
    assert found.bound == Bound.margin_call
    assert found.order.lots * side < 0
    per_lot = called.mark_close / 1_000 * 0.01
    assert 3 * kept * per_lot <= 250 < 3 * (kept + 1) * per_lot


@SIDES
@pytest.mark.parametrize(("fee", "spread"), [(10_000, 0.0), (0, 0.005), (5_000, 0.002)])
def test_a_margin_call_reaches_its_multiple_with_what_the_cut_costs(side: int, fee: int, spread: float) -> None:
    """Equity 350 of 20,000, maintenance 200, to reach 3 of it: a cut of k lots costs k x its fee and spread, and one
    lot fewer cut would fall short."""
    held = seat(side * 1_000, 350 * USDT, call_at=2_000_000, taker_fee=fee, half_spread=spread)
    found = orders.margin_call(held, prices())
    cut = abs(found.order.lots)
    assert 0 < cut < 1_000

    def multiple(lots: int) -> float:
        """Equity over maintenance after so many lots were closed."""
        after = seat(side * 1_000, 350 * USDT, taker_fee=fee, half_spread=spread)
        fill = PRICE * (1.0 - side * spread)
        due = -(-lots * 1_000 * int(fill * 1_000) * fee // 10**9)
        report = Report(ReportKind.fill, 0, -side * lots, fill, PRICE, due, 0)
        settlement.close_lots(after, blank_tape(8, 1), report, Kind.margin_call, Bound.margin_call)
        risk = risk_at(after.position, BTC, PRICE)
        return float(risk.equity) / float(risk.maintenance)

    assert multiple(cut) >= 3.0
    assert multiple(cut - 1) < 3.0
    # without its own costs counted a cut to 583 lots would have been thought to do, and have left less
    assert multiple(1_000 - 583) < 3.0


@SIDES
@pytest.mark.parametrize(
    ("fee", "closed", "bound"),
    [(14_000, 938, Bound.margin_call), (15_000, 1_000, Bound.margin_call), (15_001, 0, Bound.costs)],
)
def test_a_margin_call_that_nothing_else_satisfies_closes_whole_and_is_refused_beyond_the_margin(
    side: int, fee: int, closed: int, bound: Bound
) -> None:
    """300 stand in a notional of 20,000: 280 for closing all leave 20, which carry 62 lots at three times 1 %; 300
    leave nothing that could stand; 300.02 are more than there is, and the venue's liquidation comes first."""
    held = seat(side * 1_000, 300 * USDT, call_at=2_000_000, taker_fee=fee)
    assert orders.margin_call(held, prices()) == intent(-side * closed, bound)


def test_a_flat_position_gives_everything_back_and_an_open_one_keeps_what_its_call_needs() -> None:
    assert orders.excess_margin(seat(0, 70 * USDT), PRICE, plan(0)) == 70 * USDT
    held = seat(100, 100 * USDT)  # worth 2,000; three times its maintenance of 20 are 60
    assert orders.excess_margin(held, PRICE, plan(100, collateral=95 * USDT)) == 0
    assert orders.excess_margin(held, PRICE, plan(100, collateral=80 * USDT)) == 20 * USDT
    assert orders.excess_margin(held, PRICE, plan(100, collateral=10 * USDT)) == 40 * USDT


@SIDES
def test_what_a_position_may_give_back_is_cash_beyond_its_margin_call(side: int) -> None:
    """Worth 2,000 at the mark, so that its call asks for 60 in cash; open profit is no cash."""
    assert orders.spare_margin(seat(side * 100, 100 * USDT), PRICE) == 40 * USDT
    assert orders.spare_margin(seat(side * 100, 50 * USDT), PRICE) == 0
    gained = seat(side * 100, 100 * USDT)
    gained.position.cost -= side * 500 * USDT
    assert equity_at(gained.position, BTC, PRICE) == 600 * USDT
    assert orders.spare_margin(gained, PRICE) == 40 * USDT
    lost = seat(side * 100, 100 * USDT)
    lost.position.cost += side * 30 * USDT
    assert orders.spare_margin(lost, PRICE) == 10 * USDT


@pytest.mark.parametrize(
    ("wanted", "trim", "fee", "lots"),
    [
        pytest.param(140, False, 0, 201, id="100 of 500 that 1,000 lots would realise, and one for the rounding"),
        pytest.param(140, True, 0, 91, id="a trimmed lot frees its part of the call's 600 as well"),
        pytest.param(140, False, 2_000, 239, id="two fees of 40 leave 420"),
        pytest.param(40, False, 0, 0, id="what may be released without"),
        pytest.param(10_000, False, 0, 1_000, id="no more than are held"),
        pytest.param(140, False, 13_000, 0, id="none where both fees take the profit"),
    ],
)
def test_as_many_lots_are_rolled_as_let_go_of_what_is_wanted(wanted: int, trim: bool, fee: int, lots: int) -> None:
    """1,000 lots at a mark of 20,000 with 500 of open profit; 640 of margin, of which the call asks for 600."""
    held = seat(1_000, 640 * USDT, taker_fee=fee)
    held.position.cost -= 500 * USDT
    assert orders.lots_realising(held, prices(), wanted * USDT, trim) == lots


def test_no_fewer_lots_are_rolled_than_the_venue_takes_back() -> None:
    held = seat(1_000, 640 * USDT)
    held.position.cost -= 500 * USDT
    held.instrument.notional_min = 5_000 * USDT
    try:
        assert orders.lots_realising(held, prices(), 140 * USDT, False) == 251
        assert orders.lots_realising(held, prices(), 140 * USDT, True) == 91
    finally:
        held.instrument.notional_min = 0


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
        found = orders.increase(held, prices(), plan(side * 500, bound=Bound.volatility))
    finally:
        held.instrument.notional_min = 0
    assert found == intent(side * lots, bound)


def test_an_open_position_is_not_told_that_its_addition_is_too_small() -> None:
    held = seat(499, 1_000 * USDT)
    held.instrument.notional_min = 100 * USDT
    try:
        assert orders.increase(held, prices(), plan(500)) == intent(0)
    finally:
        held.instrument.notional_min = 0


def test_what_would_be_is_asked_of_the_same_risk() -> None:
    held = seat(100, 30 * USDT)
    assert risk_at(held.position, BTC, PRICE) == Risk(30 * USDT, 20 * USDT, 20 * USDT)
