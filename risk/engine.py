"""The pure step of one tick: what every position of every vault should hold, and which limit bound it.

Strategies propose leverage; limiters shrink it (the smallest of independent multipliers in [0, 1]), the no-trade band
decides whether to trade and to which edge, hard caps come last. Nothing here moves money: the plan is carried out by a
venue, through the moves of `risk.wall`.

Leverage here is |notional| / collateral, where a position's collateral is its share of the vault's risk capital, NAV
less wall: the multiplier of constant-proportion portfolio insurance (Black and Perold 1992), taken isolated position by
isolated position.

The band lies *below* the allowed leverage, [(1 - band) * allowed, allowed], so that trading to its nearer edge never
holds more than was proposed (W5).
"""

import math
from typing import Any

import numpy as np

from ringfence.risk.arithmetic import portion_down
from ringfence.risk.book import Book, Limits, Rows, rows
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.events import Bound
from ringfence.risk.margin import liquidation_distance, profit
from ringfence.risk.wall import raise_wall

__all__ = ["LOTS_MAX", "PLAN", "blank_plan", "capital_at_risk", "decide", "equity_at", "gross_multiplier",
           "plan_position", "tier_of"]  # fmt: skip

LOTS_MAX = 2.0**61
"""A count of lots beyond this would not fit into an int64, and what it became there could be of either sign."""

_NOTHING = int(Bound.nothing)
_VOLATILITY = int(Bound.volatility)
_DISTANCE = int(Bound.liquidation_distance)
_GROSS = int(Bound.gross_leverage)
_LEVERAGE_MAX = int(Bound.leverage_max)
_VENUE = int(Bound.venue_leverage)
_NO_PROPOSAL = int(Bound.no_proposal)
_NO_PRICE = int(Bound.no_price)
_BAND = int(Bound.band)


PLAN = np.dtype(
    [
        ("equity", np.int64),  # margin plus open profit at the mark, floored at 0, minor units
        ("collateral", np.int64),  # the position's share of the risk capital, minor units, rounded down
        ("allowed", np.float64),  # signed leverage that the limiters allow
        ("target", np.int64),  # signed lots to hold, before the venue and the cushion have their say
        ("leverage", np.float64),  # |leverage| that `target` stands for
        ("bound", np.int64),  # risk.events.Bound
        ("settled", np.int64),  # 1: no order, and the equity lies within its collateral's band
    ]
)


def blank_plan(positions: int) -> Rows:
    """(P,) rows of PLAN to be filled in."""
    return rows(PLAN, positions)


@inlined
def equity_at(position: Any, unit: int, price: float) -> int:
    """margin + open profit of a linear position at `price`, minor units; the profit is rounded down.

    Negative past the bankruptcy price.
    """
    if position.quantity == 0:
        return position.margin
    side = 1 if position.quantity > 0 else -1
    return position.margin + profit(side, abs(position.quantity), unit, price, position.cost)


@inlined
def tier_of(instrument: Any, notional: float) -> int:
    """The tier that holds `notional`."""
    tier = 0
    while tier + 1 < instrument.tiers and instrument.tier[tier + 1].floor <= notional:
        tier += 1
    return tier


@inlined
def _limit(limit: Any, instrument: Any, plan: Any, proposal: Any, multiplier: float) -> None:
    """min(1, volatility, distance and gross multipliers) x the proposal, and which one bound."""
    size = abs(proposal.leverage)
    rate = instrument.tier[tier_of(instrument, size * plan.collateral)].rate
    if size * proposal.volatility > limit.volatility_max:
        size = limit.volatility_max / proposal.volatility
        plan.bound = _VOLATILITY
    distance = liquidation_distance(rate, proposal.volatility, limit.distance_sigmas, limit.distance_slippage)
    if size * distance > 1.0:
        size = 1.0 / distance
        plan.bound = _DISTANCE
    if multiplier < 1.0:
        fair = min(abs(proposal.leverage), limit.leverage_max) * multiplier
        if size > fair:
            size = fair
            plan.bound = _GROSS
    plan.allowed = math.copysign(size, proposal.leverage)


@inlined
def capital_at_risk(vault: Any, nav: int) -> int:
    """NAV less wall, less the part of it that belongs to shares whose redemption waits."""
    capital = max(0, nav - vault.wall)
    if vault.waiting > 0:
        capital = int(float(capital) * (float(vault.shares - vault.waiting) / float(vault.shares)))
    return capital


@inlined
def gross_multiplier(vault_limit: Any, nav: int, gross: float) -> float:
    """What every proposal of a vault is multiplied with so that its gross notional stays within the mandate's."""
    allowed = vault_limit.gross_leverage_max * nav
    return allowed / gross if gross > allowed else 1.0


@inlined
def _aim(position: Any, limit: Any, instrument: Any, plan: Any, mark: float) -> None:
    """Band, then hard caps, then lots rounded towards zero; an open position is not moved by less than the venue's
    smallest order, unless it must turn, close or come back under a hard cap: venues take any order that only
    reduces."""
    quantity = position.quantity
    lot_value = float(instrument.unit) * mark
    held = abs(quantity) * lot_value / plan.collateral
    aim, sign = held, math.copysign(1.0, quantity)
    if plan.bound != _NO_PROPOSAL:
        allowed, sign = abs(plan.allowed), math.copysign(1.0, plan.allowed)
        if sign * quantity <= 0.0:
            held = 0.0
        aim = allowed if held > allowed else max(held, allowed * (1.0 - limit.band))
        if aim == held and held > 0.0 and plan.bound == _NOTHING:
            plan.bound = _BAND
    if aim > limit.leverage_max:
        aim = limit.leverage_max
        plan.bound = _LEVERAGE_MAX
    highest = instrument.tier[tier_of(instrument, aim * plan.collateral)].leverage_max
    if aim > highest:
        aim = highest
        plan.bound = _VENUE
    plan.leverage = aim
    if aim == held and sign * quantity > 0.0:
        plan.target = quantity
        return
    target = int(sign) * int(min(aim * plan.collateral / lot_value, LOTS_MAX))
    too_small = abs(target - quantity) * lot_value < instrument.notional_min
    within_caps = sign * quantity > 0.0 and target != 0 and held <= min(limit.leverage_max, highest)
    plan.target = quantity if too_small and within_caps else target


@inlined
def plan_position(
    position: Any, limit: Any, instrument: Any, prices: Any, proposal: Any, capital: int, multiplier: float, plan: Any
) -> float:
    """Collateral, limiters, the vault's gross multiplier, band, hard caps and lots of one position, in this order.

    Returns the |notional| proposed, minor units, from which the gross multiplier is found: plan every position with a
    multiplier of 1.0 first, and again only if their sum is too large. It counts up to the position's hard cap, so that
    one absurd proposal does not crowd out the others.
    """
    plan.collateral = portion_down(capital, limit.share)
    plan.allowed = plan.leverage = proposed = 0.0
    plan.bound = _NOTHING
    if not prices.valid:
        plan.bound, plan.target = _NO_PRICE, position.quantity
        return 0.0
    usable = proposal.proposed and proposal.known and 0.0 < proposal.volatility < np.inf
    if usable and math.isfinite(proposal.leverage):
        proposed = min(abs(proposal.leverage), limit.leverage_max) * plan.collateral
        _limit(limit, instrument, plan, proposal, multiplier)
    else:
        plan.bound = _NO_PROPOSAL
    if plan.collateral > 0:
        _aim(position, limit, instrument, plan, prices.mark_close)
    else:
        plan.target = 0
    return proposed


@compiled
def _decide(
    vaults: Any, positions: Any, vault_limits: Any, limits: Any, instruments: Any, bars: Any, proposals: Any, plans: Any
) -> None:
    for v in range(vaults.size):
        vault = vaults[v]
        raise_wall(vault, vault_limits[v].keep)
        nav = vault.reserve + vault.cushion
        for p in range(vault.first, vault.last):
            s = positions[p].symbol
            plans[p].equity = max(0, equity_at(positions[p], instruments[s].unit, bars[s].mark_close))
            nav += plans[p].equity
        capital, multiplier, rounds = capital_at_risk(vault, nav), 1.0, 0
        while rounds == 0 or (rounds == 1 and multiplier < 1.0):
            gross = 0.0
            for p in range(vault.first, vault.last):
                s = positions[p].symbol
                gross += plan_position(
                    positions[p], limits[p], instruments[s], bars[s], proposals[p], capital, multiplier, plans[p]
                )
            multiplier = gross_multiplier(vault_limits[v], nav, gross)
            rounds += 1


def decide(book: Book, limits: Limits, instruments: Rows, bars: Rows, proposals: Rows) -> Rows:
    """One tick for all vaults and positions of a book, without effects: a row of PLAN for each position.

    `instruments` (N,) of INSTRUMENT, `bars` (N,) of BAR: the tick's prices, `proposals` (P,) of PROPOSAL. Where a
    proposal or a volatility is absent or not finite the position may only shrink; where its symbol has no valid bar it
    stays as it is.
    """
    plans = blank_plan(len(book.positions))
    vaults = book.vaults.copy()
    _decide(vaults, book.positions, limits.vaults, limits.positions, instruments, bars, proposals, plans)
    return plans
