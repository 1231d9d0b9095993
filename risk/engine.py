"""The plan of one position: what it should hold, and which limit bound it.

Strategies propose leverage; limiters shrink it (the smallest of independent multipliers in [0, 1]), hard caps cut it,
and the no-trade band inside both decides whether to trade and to which edge. Nothing here moves money: `risk.orders`
makes orders of a plan.

Leverage here is |notional| / collateral, where a position's collateral is its share of the vault's risk capital, NAV
less wall: the multiplier of constant-proportion portfolio insurance (Black and Perold 1992), taken isolated position by
isolated position.

The band lies *below* what limiters and hard caps allow, [(1 - band) * allowed, allowed], so that trading to its nearer
edge never holds more than was proposed or is allowed (W5).
"""

import math
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from ringfence.risk.arithmetic import portion_down
from ringfence.risk.book import Rows, rows
from ringfence.risk.compiled import inlined
from ringfence.risk.events import Bound
from ringfence.risk.exposure import LOTS_MAX, liquidation_distance, lot_value, tier_of
from ringfence.risk.wall import PRICE_LARGEST, raised

__all__ = ["PLAN", "Budget", "Counts", "blank_plan", "capital_at_risk", "gross_multipliers", "plan_position"]

PLAN = np.dtype(
    [
        ("equity", np.int64),  # margin plus open profit at the mark, floored at 0, minor units
        ("collateral", np.int64),  # the position's share of the risk capital, minor units, rounded down
        ("allowed", np.float64),  # signed leverage that the limiters allow
        ("target", np.int64),  # signed lots to hold, before the venue and the cushion have their say
        ("leverage", np.float64),  # |leverage| that `target` stands for
        ("bound", np.int64),  # risk.events.Bound
        ("counts", np.int64),  # Counts: among what the vault's gross limit counts it
        ("settled", np.int64),  # 1: no order, and the equity lies within its collateral's band
    ]
)


class Counts(IntEnum):
    """What the |notional| of a plan is in its vault's sum."""

    asked = 0
    """Proposed; up to its position's hard cap, so that one absurd proposal does not crowd out the others."""
    kept = 1
    """Held where nothing is proposed."""
    stuck = 2
    """Held where there is no price to trade at."""


class Budget(NamedTuple):
    """What the positions of a vault share out."""

    capital: int
    """Risk capital, minor units; see `capital_at_risk`."""
    multiplier: float
    """In [0, 1], of every proposal; see `gross_multipliers`."""
    kept: float
    """In [0, 1], of every position that nothing is proposed for; see `gross_multipliers`."""
    winding_down: bool
    """Whether nothing may be held."""


def blank_plan(positions: int) -> Rows:
    """(P,) rows of PLAN to be filled in."""
    return rows(PLAN, positions)


@inlined
def _limit(limit: Any, instrument: Any, plan: Any, proposal: Any, multiplier: float) -> None:
    """min(1, volatility, distance and gross multipliers) x the proposal, and which one bound."""
    size = abs(proposal.leverage)
    rate = instrument.tier[tier_of(instrument, size * plan.collateral)].rate
    if size * proposal.volatility > limit.volatility_max:
        size = limit.volatility_max / proposal.volatility
        plan.bound = Bound.volatility
    distance = liquidation_distance(rate, proposal.volatility, limit.distance_sigmas, limit.distance_slippage)
    if size * distance > 1.0:
        size = 1.0 / distance
        plan.bound = Bound.liquidation_distance
    if multiplier < 1.0:
        fair = min(abs(proposal.leverage), limit.leverage_max) * multiplier
        if size > fair:
            size = fair
            plan.bound = Bound.gross_leverage
    plan.allowed = math.copysign(size, proposal.leverage)


@inlined
def capital_at_risk(vault: Any, keep: int, nav: int, strikes: bool) -> int:
    """NAV less the wall as it will be: a strike (`strikes`) may lift it. None at a price per share that no mark can
    follow any more."""
    if vault.high_water_mark >= PRICE_LARGEST:
        return 0
    return max(0, nav - (raised(vault, keep, nav)[1] if strikes else vault.wall))


@inlined
def gross_multipliers(allowed: float, asked: float, kept: float, stuck: float) -> tuple[float, float]:
    """(of what is proposed, of what is kept): what each is multiplied with so that a vault's gross notional stays
    within `allowed`, minor units, as the sums of `Counts` are. What cannot be traded goes first, then what is kept, and
    proposals share what they leave."""
    room = max(0.0, allowed - stuck)
    left = max(0.0, room - kept)
    return left / asked if asked > left else 1.0, room / kept if kept > room else 1.0


@inlined
def _cap(seat: Any, plan: Any, size: float) -> float:
    """`size` within the mandate's and the venue's hard caps."""
    if size > seat.limit.leverage_max:
        size = seat.limit.leverage_max
        plan.bound = Bound.leverage_max
    highest = seat.instrument.tier[tier_of(seat.instrument, size * plan.collateral)].leverage_max
    if size > highest:
        size = highest
        plan.bound = Bound.venue_leverage
    return float(size)


@inlined
def _aim(seat: Any, plan: Any, mark: float, kept: float) -> None:
    """Hard caps, then the band inside them, then lots rounded towards zero. A cut is made however small, since venues
    take any order that only reduces; an open position does not grow by less than the venue's smallest order."""
    quantity, instrument = seat.position.quantity, seat.instrument
    worth = lot_value(instrument, mark)
    held = abs(quantity) * worth / plan.collateral
    if plan.counts == Counts.kept:
        aim, sign = _cap(seat, plan, held), math.copysign(1.0, quantity)
        if kept < 1.0:
            aim *= kept
            plan.bound = Bound.gross_leverage
    else:
        allowed, sign = _cap(seat, plan, abs(plan.allowed)), math.copysign(1.0, plan.allowed)
        if sign * quantity <= 0.0:
            held = 0.0
        aim = allowed if held > allowed else max(held, allowed * (1.0 - seat.limit.band))
        if aim == held and held > 0.0 and plan.bound == Bound.nothing:
            plan.bound = Bound.band
    plan.leverage = aim
    if aim == held and sign * quantity > 0.0:
        plan.target = quantity
        return
    target = int(sign) * int(min(aim * plan.collateral / worth, LOTS_MAX))
    added = abs(target) - abs(quantity)
    too_small = sign * quantity > 0.0 and added > 0 and added * worth < instrument.notional_min
    plan.target = quantity if too_small else target


@inlined
def plan_position(seat: Any, prices: Any, proposal: Any, budget: Any, plan: Any) -> float:
    """Collateral, limiters, the vault's gross multiplier, band, hard caps and lots of one position, in this order.

    Returns its |notional|, minor units, which counts as `plan.counts` says, and from which the multipliers are found:
    plan every position with multipliers of 1.0 first, and again only if the sums are too large.
    """
    limit = seat.limit
    plan.collateral = portion_down(budget.capital, limit.share)
    plan.allowed = plan.leverage = notional = 0.0
    plan.bound, plan.counts = Bound.nothing, Counts.asked
    if not prices.valid:
        plan.bound, plan.target, plan.counts = Bound.no_price, seat.position.quantity, Counts.stuck
        return float(abs(seat.position.quantity) * lot_value(seat.instrument, prices.mark_close))
    if budget.winding_down:
        plan.bound, plan.target = Bound.at_wall, 0
        return 0.0
    usable = proposal.proposed and proposal.known and 0.0 < proposal.volatility < np.inf
    if usable and math.isfinite(proposal.leverage):
        notional = min(abs(proposal.leverage), limit.leverage_max) * plan.collateral
        _limit(limit, seat.instrument, plan, proposal, budget.multiplier)
    else:
        plan.bound, plan.counts = Bound.no_proposal, Counts.kept
    if plan.collateral > 0:
        _aim(seat, plan, prices.mark_close, budget.kept)
    else:
        plan.target = 0
    return plan.leverage * plan.collateral if plan.counts == Counts.kept else notional
