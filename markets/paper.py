"""The paper exchange: isolated margin only. Funding, liquidation on the mark, fills with spread, slippage and fees.

It liquidates at the worst mark of a bar before anything else sees the bar, fills where the market traded (the open, if
the bar gapped past the trigger), and never takes more than the margin: the rest is its own loss, the shortfall.

A watch is a price at which a position needs a closer look. It lies a hair on the safe side of the exact trigger, so
that a bar which does not touch it needs no arithmetic, and one which does is decided in integers.
"""

from typing import Any

import numpy as np

from ringfence.risk.arithmetic import MILLION, portion_down, portion_up
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.edges import Edge
from ringfence.risk.engine import LOTS_MAX, equity_at, tier_of
from ringfence.risk.events import Bound, Kind
from ringfence.risk.margin import (
    cost_closed,
    fee,
    funding_payment,
    liquidation_root,
    maintenance_margin,
    notional_down,
    notional_up,
)
from ringfence.risk.tape import emit
from ringfence.risk.wall import charge_fee, pay_venue, post_margin, receive_venue, release_margin, settle_venue_funding

__all__ = ["arm", "call_margin", "grow_position", "leverage_of", "liquidate", "liquidation_price", "requirement",
           "settle_funding", "shrink_position"]  # fmt: skip

_FEE, _LIQUIDATION_FEE = int(Edge.fee), int(Edge.liquidation_fee)
_RESIZE, _COLLATERAL, _FUNDING = int(Kind.resize), int(Kind.collateral), int(Kind.funding)
_MARGIN_CALL, _LIQUIDATION, _REFUSAL = int(Kind.margin_call), int(Kind.liquidation), int(Kind.refusal)
_NOTHING, _CUSHION, _NOTIONAL_MIN = int(Bound.nothing), int(Bound.cushion), int(Bound.notional_min)
_VENUE_LEVERAGE = int(Bound.venue_leverage)
_CALL, _MAINTENANCE = int(Bound.margin_call), int(Bound.maintenance_margin)

_QUANTITY_MAX, _AMOUNT_MAX = 2**40, 2**62
"""Lots, and lots x unit: far beyond any venue's largest order, and short of int64's end also where a coin is worth a
thousandth of a cent."""
_ROUNDING = 4
"""Minor units by which the integer roundings can move a trigger."""
_HAIR, _CALL_HAIR = 1e-12, 1e-5
"""Fractions of the price; a margin call's multiple is rounded to parts per million in each tier."""


@inlined
def requirement(instrument: Any, notional: int) -> int:
    """Maintenance margin, minor units: the largest over the tiers that begin at or below the notional. Continuous
    rising tiers are convex, so that is the tier which holds it."""
    required = 0
    for k in range(instrument.tiers):
        tier = instrument.tier[k]
        if tier.floor > notional:
            break
        required = max(required, maintenance_margin(notional, tier.rate, tier.deduction))
    return required


@inlined
def _trigger(position: Any, instrument: Any, margin: int, multiple: int) -> float:
    """The mark at which equity = multiple / 10**6 x maintenance, for a position that is not flat; 0.0 when none is.

    The highest of the tiers' roots for a long, the lowest for a short: see `risk.margin.liquidation_level`. From tier
    to tier the roots approach it and then leave it, because equity less requirement at the tiers' floors changes its
    sign once. A multiple rounds each tier towards an earlier trigger.
    """
    side = 1 if position.quantity > 0 else -1
    best = 0.0 if side > 0 else np.inf
    for k in range(instrument.tiers):
        rate = portion_up(instrument.tier[k].rate, multiple)
        deduction = portion_down(instrument.tier[k].deduction, multiple)
        if side > 0 and rate >= MILLION:
            return np.inf  # what is asked for grows faster than the value: no price is out of reach of a call
        root = liquidation_root(
            side, abs(position.quantity), instrument.unit, position.cost, margin, rate, deduction, 0
        )
        if (root - best) * side < 0.0 and k > 0:
            break
        best = max(best, root) if side > 0 else min(best, root)
    return max(0.0, best)


@compiled
def arm(position: Any, limit: Any, instrument: Any) -> None:
    """Set the watches of a position that has changed."""
    if position.quantity == 0:
        position.liquidation_watch = position.call_watch = 0.0
        return
    side = 1.0 if position.quantity > 0 else -1.0
    exact = _trigger(position, instrument, position.margin - _ROUNDING, MILLION)
    position.liquidation_watch = exact * (1.0 + side * _HAIR)
    exact = _trigger(position, instrument, position.margin - 2 * _ROUNDING, limit.call_at)
    position.call_watch = exact * (1.0 + side * _CALL_HAIR)


@inlined
def liquidation_price(position: Any, instrument: Any) -> float:
    """The mark at which the position is liquidated; 0.0 when there is none."""
    if position.quantity == 0:
        return 0.0
    return _trigger(position, instrument, position.margin, MILLION)


@inlined
def leverage_of(position: Any, instrument: Any, price: float) -> float:
    """Signed notional / equity at a price; 0.0 when flat or when no equity is left."""
    equity = equity_at(position, instrument.unit, price)
    if position.quantity == 0 or equity <= 0:
        return 0.0
    return float(position.quantity) * float(instrument.unit) * price / float(equity)


@compiled
def settle_funding(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, mark: float, rate: float
) -> None:
    """-side * notional * rate on the quantity held at the stamp, rounded against the position.

    What the margin cannot pay is carried in the cost basis, so that it comes out of the position's own profit and of
    nothing else. Event: amount received (+) or paid (-), price = the rate.
    """
    quantity = position.quantity
    if quantity == 0:
        return
    amount = funding_payment(1 if quantity > 0 else -1, abs(quantity), instrument.unit, mark, rate)
    before = leverage_of(position, instrument, mark)
    unpaid = settle_venue_funding(vault, position, tape, bar, amount)
    position.cost += unpaid if quantity > 0 else -unpaid
    arm(position, limit, instrument)
    emit(tape, bar, vault.index, position.index, _FUNDING, _NOTHING, (quantity, quantity), (amount, 0, 0),
         (rate, mark, liquidation_price(position, instrument)),
         (before, leverage_of(position, instrument, mark)))  # fmt: skip


@inlined
def _bought_at(limit: Any, price: float) -> float:
    return price * (1.0 + limit.half_spread + limit.slippage)


@inlined
def _sold_at(limit: Any, price: float) -> float:
    return price * (1.0 - limit.half_spread - limit.slippage)


@inlined
def _close_lots(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, lots: int, price: float, edge: int,
    rate: int,
) -> tuple[float, int, int, int]:  # fmt: skip
    """Close `lots` at the market around `price`: (fill price, realised profit, fee, shortfall).

    A partial close whose loss and fee exceed the margin closes whole.
    """
    long, held, cost = position.quantity > 0, abs(position.quantity), position.cost
    fill = _sold_at(limit, price) if long else _bought_at(limit, price)
    while True:
        removed = cost_closed(cost, lots, held)
        value = notional_down(lots, instrument.unit, fill) if long else notional_up(lots, instrument.unit, fill)
        profit = value - removed if long else removed - value
        due = fee(value, rate)
        if lots == held or position.margin + profit >= due:
            break
        lots = held
    position.quantity -= lots if long else -lots
    position.cost = cost - removed
    shortfall = 0
    if profit >= 0:
        receive_venue(vault, position, tape, bar, profit)
    else:
        shortfall = pay_venue(vault, position, tape, bar, -profit)
    return fill, profit, charge_fee(vault, position, tape, bar, edge, due), shortfall


@compiled
def liquidate(vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any) -> None:
    """Close the position whole if its equity at the bar's worst mark is below maintenance.

    Fill: the open if the bar gapped past the trigger, the trigger if the market traded there, else the worst traded
    price (a mark that ran ahead of the trades). What is left of the margin returns to the cushion.
    """
    quantity = position.quantity
    worst = prices.mark_low if quantity > 0 else prices.mark_high
    if equity_at(position, instrument.unit, worst) >= requirement(
        instrument, notional_up(abs(quantity), instrument.unit, worst)
    ):
        return
    trigger = liquidation_price(position, instrument)
    before = leverage_of(position, instrument, trigger)
    price = min(prices.open, max(prices.low, trigger)) if quantity > 0 else max(prices.open, min(prices.high, trigger))
    fill, profit, paid, shortfall = _close_lots(
        vault, position, limit, instrument, tape, bar, abs(quantity), price, _LIQUIDATION_FEE, limit.liquidation_fee
    )
    release_margin(vault, position, tape, bar, position.margin)
    arm(position, limit, instrument)
    emit(tape, bar, vault.index, position.index, _LIQUIDATION, _MAINTENANCE, (quantity, 0), (profit, paid, shortfall),
         (fill, worst, trigger), (before, 0.0))  # fmt: skip


@compiled
def call_margin(vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any) -> None:
    """The mandate's own, earlier threshold: with equity below `call_at` x maintenance at the close, cut the position so
    that its equity is `call_to` x maintenance. Cutting lots in proportion is enough: maintenance is convex."""
    quantity, mark = position.quantity, prices.mark_close
    equity = equity_at(position, instrument.unit, mark)
    required = requirement(instrument, notional_up(abs(quantity), instrument.unit, mark))
    if equity >= portion_up(required, limit.call_at):
        return
    trigger = liquidation_price(position, instrument)
    before = leverage_of(position, instrument, mark)
    kept = int(abs(quantity) * (max(0, equity) / (required * (limit.call_to * 1e-6))))
    fill, profit, paid, shortfall = _close_lots(
        vault, position, limit, instrument, tape, bar, abs(quantity) - kept, prices.close, _FEE, limit.taker_fee
    )
    arm(position, limit, instrument)
    after = leverage_of(position, instrument, mark)
    emit(tape, bar, vault.index, position.index, _MARGIN_CALL, _CALL, (quantity, position.quantity),
         (profit, paid, shortfall), (fill, mark, trigger), (before, after))  # fmt: skip


@inlined
def _reduce(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any, plan: Any
) -> None:
    quantity, mark = position.quantity, prices.mark_close
    kept = abs(plan.target) if float(quantity) * float(plan.target) > 0.0 else 0
    lots = abs(quantity) - kept
    before = leverage_of(position, instrument, mark)
    fill, profit, paid, shortfall = _close_lots(
        vault, position, limit, instrument, tape, bar, lots, prices.close, _FEE, limit.taker_fee
    )
    emit(tape, bar, vault.index, position.index, _RESIZE, plan.bound, (quantity, position.quantity),
         (profit, paid, shortfall), (fill, mark, liquidation_price(position, instrument)),
         (before, leverage_of(position, instrument, mark)))  # fmt: skip


@inlined
def _refuse(
    vault: Any, position: Any, instrument: Any, tape: Any, bar: int, mark: float, reason: int, wanted: int
) -> None:
    """Tell a refused increase once, until the reason changes or an increase goes through."""
    if position.refused == reason:
        return
    position.refused = reason
    leverage = leverage_of(position, instrument, mark)
    emit(tape, bar, vault.index, position.index, _REFUSAL, reason, (position.quantity, wanted), (0, 0, 0),
         (0.0, mark, liquidation_price(position, instrument)), (leverage, leverage))  # fmt: skip


@inlined
def _affordable(position: Any, limit: Any, instrument: Any, lots: int, price: float, mark: float, long: bool) -> bool:
    """Whether fee, spread and slippage of `lots` more leave the venue's initial margin and the margin call's level."""
    fill = _bought_at(limit, price) if long else _sold_at(limit, price)
    value = notional_up(lots, instrument.unit, fill) if long else notional_down(lots, instrument.unit, fill)
    due = fee(value, limit.taker_fee)
    held = abs(position.quantity) + lots
    notional = notional_up(held, instrument.unit, mark)
    cost = position.cost + value
    profit = notional_down(held, instrument.unit, mark) - cost if long else cost - notional
    equity = position.margin - due + profit
    highest = instrument.tier[tier_of(instrument, float(notional))].leverage_max
    return (
        due <= position.margin
        and float(equity) * highest >= float(notional)
        and equity >= portion_up(requirement(instrument, notional), limit.call_at)
    )


@inlined
def _increase(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any, plan: Any
) -> None:
    """Open or add lots, as many as the collateral that the cushion could post bears; refused whole when they are too
    few for the venue or not affordable."""
    quantity, mark, unit = position.quantity, prices.mark_close, instrument.unit
    long, wanted, reason = plan.target > 0, min(abs(plan.target), _QUANTITY_MAX, _AMOUNT_MAX // unit), plan.bound
    equity = equity_at(position, unit, mark)
    if equity < plan.collateral:
        borne = int(min(plan.leverage * float(max(0, equity)) / (float(unit) * mark), LOTS_MAX))
        if borne < wanted:
            wanted, reason = borne, _CUSHION
    lots = wanted - abs(quantity)
    if lots <= 0 or notional_down(lots, unit, prices.close) < instrument.notional_min:
        if reason == _CUSHION or quantity == 0:
            _refuse(vault, position, instrument, tape, bar, mark, _CUSHION if reason == _CUSHION else _NOTIONAL_MIN,
                    plan.target)  # fmt: skip
        return
    if not _affordable(position, limit, instrument, lots, prices.close, mark, long):
        _refuse(vault, position, instrument, tape, bar, mark, _VENUE_LEVERAGE, plan.target)
        return
    before = leverage_of(position, instrument, mark)
    fill = _bought_at(limit, prices.close) if long else _sold_at(limit, prices.close)
    value = notional_up(lots, unit, fill) if long else notional_down(lots, unit, fill)
    position.quantity += lots if long else -lots
    position.cost += value
    paid = charge_fee(vault, position, tape, bar, _FEE, fee(value, limit.taker_fee))
    position.refused = _NOTHING
    emit(tape, bar, vault.index, position.index, _RESIZE, reason, (quantity, position.quantity), (0, paid, 0),
         (fill, mark, liquidation_price(position, instrument)),
         (before, leverage_of(position, instrument, mark)))  # fmt: skip


@inlined
def _shift_collateral(
    vault: Any, position: Any, instrument: Any, tape: Any, bar: int, mark: float, amount: int, tell: bool
) -> None:
    """Move margin in (+) from the cushion or out (-) to it, as far as either has it."""
    before = leverage_of(position, instrument, mark)
    if amount >= 0:
        moved = post_margin(vault, position, tape, bar, amount)
    else:
        moved = -release_margin(vault, position, tape, bar, -amount)
    if tell and moved != 0:
        emit(tape, bar, vault.index, position.index, _COLLATERAL, _NOTHING, (position.quantity, position.quantity),
             (moved, 0, 0), (0.0, mark, liquidation_price(position, instrument)),
             (before, leverage_of(position, instrument, mark)))  # fmt: skip


@inlined
def _release_excess(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, mark: float, plan: Any
) -> None:
    """Everything once flat; else what stands beyond the collateral and its band (open profit is swept this way), but
    never the cash that keeps the position above its margin call."""
    if position.quantity == 0:
        _shift_collateral(vault, position, instrument, tape, bar, mark, -position.margin, False)
        return
    equity = equity_at(position, instrument.unit, mark)
    if equity > plan.collateral * (1.0 + limit.band):
        notional = notional_up(abs(position.quantity), instrument.unit, mark)
        kept = portion_up(requirement(instrument, notional), limit.call_to)
        excess = min(equity - max(plan.collateral, kept), position.margin - kept)
        if excess > 0:
            _shift_collateral(vault, position, instrument, tape, bar, mark, -excess, True)


@compiled
def shrink_position(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any, plan: Any
) -> None:
    """The first half of a plan at the bar's close: the reduction it asks for, and what that and open profit free."""
    quantity, margin = position.quantity, position.margin
    same_side = float(quantity) * float(plan.target) > 0.0
    if quantity != 0 and not (same_side and abs(plan.target) >= abs(quantity)):
        _reduce(vault, position, limit, instrument, tape, bar, prices, plan)
    _release_excess(vault, position, limit, instrument, tape, bar, prices.mark_close, plan)
    if position.quantity != quantity or position.margin != margin:
        arm(position, limit, instrument)


@compiled
def grow_position(
    vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any, plan: Any
) -> None:
    """The second half, once every position of the vault has freed what it could: top-up, then the increase."""
    quantity, margin = position.quantity, position.margin
    growing = abs(plan.target) > abs(quantity) and float(quantity) * float(plan.target) >= 0.0
    if not growing and quantity == 0:
        return
    lacking = plan.collateral - equity_at(position, instrument.unit, prices.mark_close)
    if lacking > 0 and (growing or lacking > plan.collateral * limit.band):
        _shift_collateral(vault, position, instrument, tape, bar, prices.mark_close, lacking, not growing)
    if growing:
        _increase(vault, position, limit, instrument, tape, bar, prices, plan)
        _release_excess(vault, position, limit, instrument, tape, bar, prices.mark_close, plan)
    if position.quantity != quantity or position.margin != margin:
        arm(position, limit, instrument)
