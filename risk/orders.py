"""What to trade: from a position, its limits, the bar's prices and its plan to orders and to collateral to move.

Reductions and increases are two halves: how much may be added is worked out once every position of the vault has
freed what it could. Nothing here moves money or makes a price. Prices that are expected of an order at the market serve
two questions only: whether an increase can be afforded, and whether a partial close would cost more than the margin.
"""

from typing import Any, NamedTuple

from ringfence.risk.arithmetic import portion_up
from ringfence.risk.book import Holding, Order
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.events import Bound
from ringfence.risk.exposure import (
    LOTS_MAX,
    closed_part,
    equity_at,
    fee,
    lot_value,
    market_price,
    profit,
    risk_at,
    traded_value,
    value_down,
)

__all__ = ["Intent", "affordable", "closing", "excess_margin", "grows", "increase", "is_settled", "lacking_margin",
           "lots_realising", "margin_call", "reduction", "spare_margin"]  # fmt: skip

_QUANTITY_MAX, _AMOUNT_MAX = 2**40, 2**62
"""Lots, and lots x unit: far beyond any venue's largest order, and short of int64's end also where a coin is worth a
thousandth of a cent."""


class Intent(NamedTuple):
    """An order and what bound it. No lots and a bound: it is refused. No lots and `Bound.nothing`: none is wanted."""

    order: Order
    bound: int


@inlined
def is_settled(position: Any, limit: Any, plan: Any) -> bool:
    """Whether the plan asks for no order and the equity lies within its collateral's band, or there is no price."""
    if plan.bound == Bound.no_price:
        return True
    if plan.target != position.quantity:
        return False
    if position.quantity == 0:
        return position.margin == 0
    return abs(plan.equity - plan.collateral) <= limit.band * plan.collateral


# Reductions


class _Cut(NamedTuple):
    """A position after some of its lots would have been closed, and what closing them cost against the mark."""

    after: Holding
    margin: int
    """What would be left of it, negative where loss and fee are more than it holds."""


@inlined
def _cut(seat: Any, lots: int, price: float) -> _Cut:
    """The position with `lots` of it closed around `price`: loss and fee out of the margin."""
    position = seat.position
    side = 1 if position.quantity > 0 else -1
    fill, part = market_price(seat.limit, price, -side), closed_part(position, lots)
    due = fee(traded_value(seat.instrument, -side * lots, fill), seat.limit.taker_fee)
    margin = position.margin + profit(part, seat.instrument, fill) - due
    return _Cut(Holding(position.quantity - part.quantity, position.cost - part.cost, margin), margin)


@compiled
def closing(seat: Any, lots: int, price: float, bound: int) -> Intent:
    """The order that closes `lots` around `price`, for the reason `bound`; all of them where a part's loss and fee
    would exceed the margin, and refused where those of all would."""
    position = seat.position
    side, held = (1 if position.quantity > 0 else -1), abs(position.quantity)
    if 0 < lots < held and _cut(seat, lots, price).margin < 0:
        lots = held
    if 0 < lots == held and _cut(seat, lots, price).margin < 0:
        lots, bound = 0, Bound.costs.value
    return Intent(Order(position.index, -side * lots), bound)


@inlined
def _stands(seat: Any, prices: Any, kept: int) -> bool:
    """Whether the position, cut to `kept` lots, has what its margin call asks for."""
    cut = _cut(seat, abs(seat.position.quantity) - kept, prices.close)
    risk = risk_at(cut.after, seat.instrument, prices.mark_close)
    return cut.margin >= 0 and risk.equity >= portion_up(risk.maintenance, seat.limit.call_to)


@compiled
def margin_call(seat: Any, prices: Any) -> Intent:
    """The mandate's own, earlier threshold: with equity below `call_at` x maintenance at the close, cut the position so
    that its equity is `call_to` x maintenance, what the cut itself costs counted.

    With cost and maintenance in proportion to the lots, which errs on the side of fewer since maintenance is convex, a
    part k is kept of: equity - cost x (1 - k) = call_to x maintenance x k.
    """
    position, limit = seat.position, seat.limit
    risk, held = risk_at(position, seat.instrument, prices.mark_close), abs(position.quantity)
    if risk.equity >= portion_up(risk.maintenance, limit.call_at):
        return Intent(Order(position.index, 0), Bound.nothing.value)
    left = _cut(seat, held, prices.close).margin
    cost, asked = risk.equity - left, risk.maintenance * (limit.call_to * 1e-6)
    kept = 0
    if left > 0 and asked > cost:
        kept = int(held * (left / (asked - cost)))
    while kept > 0 and not _stands(seat, prices, kept):
        kept -= 1
    return closing(seat, held - kept, prices.close, Bound.margin_call.value)


@compiled
def reduction(seat: Any, prices: Any, plan: Any) -> Intent:
    """What the plan asks to be closed: the lots beyond its target, all of them where it is on the other side."""
    quantity, target = seat.position.quantity, plan.target
    kept = min(abs(quantity), abs(target)) if float(quantity) * float(target) > 0.0 else 0
    return closing(seat, abs(quantity) - kept, prices.close, plan.bound)


@compiled
def lots_realising(seat: Any, prices: Any, wanted: int, trim: bool) -> int:
    """How many lots to close, and unless `trim` to open again, so that `wanted` more of the margin may be released than
    the margin call's cash lets go now; 0 where closing and opening realises nothing."""
    position, instrument, held = seat.position, seat.instrument, abs(seat.position.quantity)
    kept = portion_up(risk_at(position, instrument, prices.mark_close).maintenance, seat.limit.call_to)
    lacking = wanted + kept - position.margin
    side = 1 if position.quantity > 0 else -1
    due = fee(
        traded_value(instrument, -side * held, market_price(seat.limit, prices.close, -side)), seat.limit.taker_fee
    )
    gain = _cut(seat, held, prices.close).margin - position.margin
    freed = gain + kept if trim else gain - due
    if lacking <= 0 or freed <= 0:
        return 0
    smallest = 1 if trim else int(instrument.notional_min / lot_value(instrument, prices.close)) + 1
    return min(held, max(smallest, int(held * (float(lacking) / float(freed))) + 1))


@compiled
def excess_margin(seat: Any, mark: float, plan: Any) -> int:
    """What the position can give back: everything once flat; else what stands beyond its collateral and band (open
    profit is swept this way), but never the cash that keeps it above its margin call."""
    position = seat.position
    if position.quantity == 0:
        return position.margin
    if equity_at(position, seat.instrument, mark) <= plan.collateral * (1.0 + seat.limit.band):
        return 0
    return max(0, min(risk_at(position, seat.instrument, mark).equity - plan.collateral, spare_margin(seat, mark)))


@compiled
def spare_margin(seat: Any, mark: float) -> int:
    """The cash that a position may give back and still have as much as its margin call asks for, in cash."""
    risk = risk_at(seat.position, seat.instrument, mark)
    kept = portion_up(risk.maintenance, seat.limit.call_to)
    return max(0, min(risk.equity, seat.position.margin) - kept)


# Increases


@inlined
def grows(position: Any, plan: Any) -> bool:
    """Whether the plan asks for lots to be opened."""
    return abs(plan.target) > abs(position.quantity) and float(position.quantity) * float(plan.target) >= 0.0


@inlined
def lacking_margin(seat: Any, mark: float, plan: Any) -> int:
    """What the position's equity lacks of its collateral: all of it before an increase, else what is beyond its band;
    nothing for one that is flat and stays so."""
    growing = grows(seat.position, plan)
    if not growing and seat.position.quantity == 0:
        return 0
    lacking = plan.collateral - equity_at(seat.position, seat.instrument, mark)
    return max(0, lacking) if growing or lacking > plan.collateral * seat.limit.band else 0


@compiled
def affordable(seat: Any, margin: int, lots: int, prices: Any) -> bool:
    """Whether, with so much `margin`, fee, spread and slippage of `lots` more (signed) leave the venue's initial margin
    and the margin call's level."""
    position, limit, instrument = seat.position, seat.limit, seat.instrument
    cost = traded_value(instrument, lots, market_price(limit, prices.close, lots))
    due = fee(cost, limit.taker_fee)
    after = Holding(position.quantity + lots, position.cost + cost, margin - due)
    risk = risk_at(after, instrument, prices.mark_close)
    called = portion_up(risk.maintenance, limit.call_at)
    return after.margin >= 0 and risk.equity >= risk.initial and risk.equity >= called


@compiled
def increase(seat: Any, prices: Any, plan: Any) -> Intent:
    """What the plan asks to be opened, as many lots as the collateral that was posted bears; refused whole when they
    are too few for the venue or not affordable."""
    position, instrument = seat.position, seat.instrument
    wanted, bound = min(abs(plan.target), _QUANTITY_MAX, _AMOUNT_MAX // instrument.unit), plan.bound
    equity = equity_at(position, instrument, prices.mark_close)
    if equity < plan.collateral:
        worth = lot_value(instrument, prices.mark_close)
        borne = int(min(plan.leverage * float(max(0, equity)) / worth, LOTS_MAX))
        if borne < wanted:
            wanted, bound = borne, Bound.cushion
    lots = wanted - abs(position.quantity)
    if lots <= 0 or value_down(instrument, lots, prices.close) < instrument.notional_min:
        lots = 0
        if bound != Bound.cushion:
            bound = Bound.notional_min if position.quantity == 0 else Bound.nothing
    else:
        lots = lots if plan.target > 0 else -lots
        if not affordable(seat, position.margin, lots, prices):
            lots, bound = 0, Bound.venue_leverage
    return Intent(Order(position.index, lots), bound)
