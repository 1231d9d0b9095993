"""The slow twin's decision: what each position shall hold, and the orders that bring it there.

It knows no shortcut for settled positions and plans once: the gross multiplier is applied to what the limiters left.
"""

import math
from dataclasses import dataclass
from typing import Any

from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from tests.reference.slow_book import MILLION, PRICE_LARGEST, Position, Vault, ceil_part, price_of, wall_of
from tests.reference.slow_venue import Tick, at_most, close_lots, fill_price, open_lots, refuse, shift, traded

LOTS_MAX, FLOAT_LOTS_MAX, AMOUNT_MAX = 2**40, 2.0**61, 2**62
WIND_DOWN = 1


@dataclass
class Plan:
    collateral: int = 0
    allowed: float = 0.0
    leverage: float = 0.0
    target: int = 0
    bound: Bound = Bound.nothing
    keeps: bool = False  # nothing is proposed: it goes on as it is


# ---------------------------------------------------------------------------------------------------- the plan


def capital(vault: Vault, nav: int, can_strike: bool) -> int:
    """What stands above the wall that a strike at this NAV would raise."""
    if vault.mark >= PRICE_LARGEST:
        return 0
    due = max(vault.mark, price_of(nav, vault.shares)) if can_strike else vault.mark
    return max(0, nav - wall_of(due, vault.limit.keep, vault.shares))


def plan_vault(vault: Vault, tick: Tick, proposals: Any, nav: int, can_strike: bool) -> list[Plan]:
    plans, asked, kept, stuck = [], 0.0, 0.0, 0.0
    risked = capital(vault, nav, can_strike)
    winding_down = vault.limit.at_wall == WIND_DOWN and vault.locked
    for one in vault.positions:
        proposal, bar = proposals[one.index], tick.bars[one.symbol]
        plan = Plan(collateral=risked * one.limit.share // MILLION, bound=Bound.no_price, target=one.quantity)
        plans.append(plan)
        if not bar.valid:
            stuck += one.held * one.instrument.lot_value(bar.mark_close)
            continue
        if winding_down:
            plan.bound, plan.target = Bound.at_wall, 0
            continue
        plan.target = 0
        _limit(one, plan, proposal)
        if not plan.keeps:
            asked += min(abs(proposal.leverage), one.limit.leverage_max) * plan.collateral
        elif plan.collateral > 0:
            held = one.held * one.instrument.lot_value(bar.mark_close) / plan.collateral
            plan.leverage = _capped(one, plan, held)
            kept += plan.leverage * plan.collateral
    for_kept = max(0.0, vault.limit.gross_leverage_max * nav - stuck)
    for_asked = max(0.0, for_kept - kept)
    for one, plan in zip(vault.positions, plans, strict=True):
        if plan.bound in (Bound.no_price, Bound.at_wall):
            continue
        if plan.keeps and kept > for_kept and plan.collateral > 0:
            plan.leverage, plan.bound = plan.leverage * (for_kept / kept), Bound.gross_leverage
        elif not plan.keeps and asked > for_asked:
            leverage = proposals[one.index].leverage
            fair = min(abs(leverage), one.limit.leverage_max) * (for_asked / asked)
            if fair < abs(plan.allowed):
                plan.allowed, plan.bound = math.copysign(fair, leverage), Bound.gross_leverage
        if plan.collateral > 0:
            _aim(one, plan, tick.bars[one.symbol].mark_close)
    return plans


def _limit(one: Position, plan: Plan, proposal: Any) -> None:
    volatility, leverage = proposal.volatility, proposal.leverage
    known = proposal.proposed and proposal.known and math.isfinite(leverage)
    if not (known and math.isfinite(volatility) and volatility > 0.0):
        plan.bound, plan.keeps = Bound.no_proposal, True
        return
    size, plan.bound = abs(leverage), Bound.nothing
    rate = one.instrument.rates[one.instrument.tier(size * plan.collateral)]
    distance = rate / MILLION + one.limit.distance_sigmas * volatility + one.limit.distance_slippage
    if size * volatility > one.limit.volatility_max:
        size, plan.bound = one.limit.volatility_max / volatility, Bound.volatility
    if size * distance > 1.0:
        size, plan.bound = 1.0 / distance, Bound.liquidation_distance
    plan.allowed = math.copysign(size, leverage)


def _capped(one: Position, plan: Plan, size: float) -> float:
    if size > one.limit.leverage_max:
        size, plan.bound = one.limit.leverage_max, Bound.leverage_max
    highest = one.instrument.leverages[one.instrument.tier(size * plan.collateral)]
    if size > highest:
        size, plan.bound = highest, Bound.venue_leverage
    return size


def _aim(one: Position, plan: Plan, mark: float) -> None:
    lot_value = one.instrument.lot_value(mark)
    held, side = one.held * lot_value / plan.collateral, one.side
    if plan.keeps:
        aim = plan.leverage
    else:
        side = int(math.copysign(1.0, plan.allowed))
        held = held if side == one.side else 0.0
        high = _capped(one, plan, abs(plan.allowed))
        low = high * (1.0 - one.limit.band)
        aim = high if held > high else held if held > low else low
        if aim == held and held > 0.0 and plan.bound is Bound.nothing:
            plan.bound = Bound.band
    plan.leverage = aim
    if aim == held and side == one.side and side != 0:
        plan.target = one.quantity
        return
    plan.target = side * int(min(aim * plan.collateral / lot_value, FLOAT_LOTS_MAX))
    # an increase that the venue would find too small is left; a cut never is
    grows = side == one.side and abs(plan.target) > one.held > 0
    if grows and (abs(plan.target) - one.held) * lot_value < one.instrument.notional_min:
        plan.target = one.quantity


# ---------------------------------------------------------------------------------------------------- its execution


def carry_out(vault: Vault, tick: Tick, plans: list[Plan]) -> None:
    """Reductions of every position, then increases."""
    asked = [
        (one, plan)
        for one, plan in zip(vault.positions, plans, strict=True)
        if plan.bound is not Bound.no_price and not _settled(vault, tick, one, plan)
    ]
    for one, plan in asked:
        kept = abs(plan.target) if one.quantity * plan.target > 0 else 0
        if one.held > kept:
            close_lots(vault, tick, one, one.held - kept, Kind.resize, plan.bound)
        _release(vault, tick, one, plan)
    for one, plan in asked:
        lacking = max(0, plan.collateral - vault.equity(one, tick.bars[one.symbol].mark_close))
        if abs(plan.target) > one.held and one.quantity * plan.target >= 0:
            vault.move(Edge.post, one, min(lacking, vault.cushion))
            _increase(vault, tick, one, plan)
            _release(vault, tick, one, plan)
        elif one.quantity and lacking > plan.collateral * one.limit.band:
            shift(vault, tick, one, min(lacking, vault.cushion))


def _settled(vault: Vault, tick: Tick, one: Position, plan: Plan) -> bool:
    """No order, and the equity within its collateral's band: the position is left alone."""
    if plan.target != one.quantity or one.quantity == 0:
        return plan.target == one.quantity and vault.margin(one) == 0
    equity = max(0, vault.equity(one, tick.bars[one.symbol].mark_close))
    return abs(equity - plan.collateral) <= one.limit.band * plan.collateral


def _release(vault: Vault, tick: Tick, one: Position, plan: Plan) -> None:
    mark = tick.bars[one.symbol].mark_close
    if one.quantity == 0:
        shift(vault, tick, one, -vault.margin(one))
    elif vault.equity(one, mark) > plan.collateral * (1.0 + one.limit.band):
        shift(vault, tick, one, -spare(vault, one, mark, plan.collateral))


def spare(vault: Vault, one: Position, mark: float, collateral: int) -> int:
    """Margin beyond a collateral that can be released, never below the cash that keeps it above its margin call."""
    kept = one.required(mark, one.limit.call_to)
    return max(0, min(vault.equity(one, mark) - max(collateral, kept), vault.margin(one) - kept))


def _increase(vault: Vault, tick: Tick, one: Position, plan: Plan) -> None:
    prices, unit = tick.bars[one.symbol], one.instrument.unit
    mark, reason = prices.mark_close, plan.bound
    wanted, equity = min(abs(plan.target), LOTS_MAX, AMOUNT_MAX // unit), vault.equity(one, mark)
    if equity < plan.collateral:
        borne = int(min(plan.leverage * float(max(0, equity)) / one.instrument.lot_value(mark), FLOAT_LOTS_MAX))
        if borne < wanted:
            wanted, reason = borne, Bound.cushion
    lots = wanted - one.held
    if lots <= 0 or one.instrument.value(lots, prices.close, up=False) < one.instrument.notional_min:
        if reason is Bound.cushion or one.quantity == 0:
            short = Bound.cushion if reason is Bound.cushion else Bound.notional_min
            refuse(vault, tick, one, short, plan.target)
        return
    lots = lots if plan.target > 0 else -lots
    if not affordable(vault, prices, one, lots, vault.margin(one)):
        refuse(vault, tick, one, Bound.venue_leverage, plan.target)
        return
    filled = at_most(one, abs(lots), prices)
    if filled == 0:
        refuse(vault, tick, one, Bound.volume, one.quantity + lots)
        return
    open_lots(vault, tick, one, filled if lots > 0 else -filled, Kind.resize, reason)


def affordable(vault: Vault, prices: Any, one: Position, lots: int, margin: int) -> bool:
    """Whether fee, spread and slippage of signed `lots` more leave initial margin and the margin call's level."""
    value = traded(one, lots, fill_price(one, prices.close, lots > 0))
    due, mark = ceil_part(value, one.limit.taker_fee), prices.mark_close
    after = Position(one.index, one.symbol, one.quantity + lots, one.cost + value, 0, one.limit, one.instrument)
    equity, notional = margin - due + after.profit(mark), after.notional(mark)
    numerator, denominator = one.instrument.leverages[one.instrument.tier(float(notional))].as_integer_ratio()
    initial = -(-notional * denominator // numerator)
    return due <= margin and equity >= initial and equity >= after.required(mark, one.limit.call_at)
