"""The slow twin's strike: what is swept to the cash, when NAV is struck, what a strike changes, and flows.

A strike leaves the wall of its own NAV in cash. What the positions hold beyond it is taken from them in four rounds:
what stands above their collateral, by releasing margin, then by realising profit; the same whatever their collateral;
closing whole.
"""

import math

from ringfence.risk.edges import AccountKind, Edge
from ringfence.risk.events import Bound, Kind
from tests.reference.slow_book import (
    MILLION,
    NEVER,
    PRICE_LARGEST,
    VIRTUAL,
    Position,
    Vault,
    ceil_part,
    price_of,
    wall_of,
)
from tests.reference.slow_plan import Plan, affordable, spare
from tests.reference.slow_venue import Tick, at_most, close_lots, open_lots, outcome, refuse, shift

ROLL, TRIM = 0, 1
REBASE = 2
LOCKED_BELOW, UNLOCKED_ABOVE = 20, 10
"""A vault is locked from where its cushion is no more than the first part of a full one to where it is above the
second."""


def lacking_cash(vault: Vault, tick: Tick) -> int:
    """What cash lacks of the wall that NAV would raise if it were struck now."""
    nav, keep = vault.nav(tick.bars), vault.limit.keep
    wall = wall_of(max(vault.mark, price_of(nav, vault.shares)), keep, vault.shares)
    return max(0, max(wall, ceil_part(nav, keep)) - vault.cash)


# ---------------------------------------------------------------------------------------------------- the sweep


def sweep(vault: Vault, tick: Tick, plans: list[Plan]) -> None:
    for respected in (True, False):
        for realising in (False, True):
            if not lacking_cash(vault, tick):
                return
            for one, plan in zip(vault.positions, plans, strict=True):
                collateral = plan.collateral if respected else 0
                if realising and lacking_cash(vault, tick):
                    _realise(vault, tick, one, collateral)
                _give(vault, tick, one, collateral)
    for one in vault.positions:
        if one.quantity and lacking_cash(vault, tick):
            close_lots(vault, tick, one, one.held, Kind.resize, Bound.strike)
            if one.quantity == 0:
                shift(vault, tick, one, -vault.margin(one))
            _give(vault, tick, one, 0)


def _give(vault: Vault, tick: Tick, one: Position, collateral: int) -> None:
    """Release what cash lacks, as far as the position can spare it."""
    mark = tick.bars[one.symbol].mark_close
    shift(vault, tick, one, -min(lacking_cash(vault, tick), spare(vault, one, mark, collateral)))


def _realise(vault: Vault, tick: Tick, one: Position, collateral: int) -> None:
    """Make open profit margin: as many lots as let go of what cash lacks beside the margin call's cash, their costs
    counted, and no fewer than the venue takes; none at a loss."""
    prices = tick.bars[one.symbol]
    mark, trims = prices.mark_close, vault.limit.sweep == TRIM
    kept = one.required(mark, one.limit.call_to)
    wanted = min(lacking_cash(vault, tick), vault.equity(one, mark) - collateral)
    lacking = wanted + kept - vault.margin(one)
    if one.quantity == 0 or wanted <= 0 or lacking <= 0:
        return
    found = outcome(one, one.held, prices.close, one.limit.taker_fee)
    net = found.gain - found.due + (kept if trims else -found.due)
    if net <= 0:
        return
    smallest = 1 if trims else int(one.instrument.notional_min / one.instrument.lot_value(prices.close)) + 1
    lots, side = min(one.held, max(smallest, int(one.held * (lacking / net)) + 1)), one.side
    closed = close_lots(vault, tick, one, lots, Kind.resize if trims else Kind.roll, Bound.strike)
    if closed and not trims and affordable(vault, prices, one, side * closed, vault.margin(one)):
        again = at_most(one, closed, prices)
        if again:
            open_lots(vault, tick, one, side * again, Kind.roll, Bound.strike)
        else:
            refuse(vault, tick, one, Bound.volume, one.quantity + side * closed)


# ---------------------------------------------------------------------------------------------------- the strike


def strike(vault: Vault, tick: Tick, plans: list[Plan]) -> bool:
    """Whether NAV is struck once the sweep is done; nothing is to be struck in an empty vault, and nothing hinders."""
    if vault.shares:
        sweep(vault, tick, plans)
        if lacking_cash(vault, tick):
            return False
        vault.mark = max(vault.mark, price_of(vault.nav(tick.bars), vault.shares))
        vault.move(Edge.ratchet, None, max(0, vault.wall - vault.accounts[AccountKind.reserve]))
        _rebase(vault, tick)
        _lock(vault, tick)
    return True


def _rebase(vault: Vault, tick: Tick) -> None:
    if not 0 <= vault.rebase_at <= tick.close:
        return
    vault.mark = price_of(vault.nav(tick.bars), vault.shares)
    freed = max(0, vault.accounts[AccountKind.reserve] - vault.wall)
    vault.move(Edge.rebase, None, freed)
    vault.rebase_at = vault.locked_since = NEVER
    vault.announce(tick.close, Kind.rebased, vault.wall)


def _lock(vault: Vault, tick: Tick) -> None:
    nav, limit = vault.nav(tick.bars), vault.limit
    full = nav * (MILLION - limit.keep) // MILLION
    if (nav - vault.wall) * (UNLOCKED_ABOVE if vault.locked else LOCKED_BELOW) <= full:
        if not vault.locked:
            vault.locked_since = tick.close
            vault.announce(tick.close, Kind.locked, vault.wall)
    elif vault.locked:
        vault.locked_since = vault.rebase_at = NEVER
        vault.announce(tick.close, Kind.unlocked, vault.wall)
    waited = vault.locked and tick.close - vault.locked_since >= limit.rebase_after
    if limit.at_wall == REBASE and waited and vault.rebase_at < 0:
        vault.rebase_at = tick.close + limit.rebase_notice
        anew = wall_of(price_of(nav, vault.shares), limit.keep, vault.shares)
        vault.announce(tick.close, Kind.rebase_announced, anew)


# ---------------------------------------------------------------------------------------------------- flows


def settle_flows(vault: Vault, tick: Tick, nav: int, plans: list[Plan]) -> int:
    """Trade what those who enter and leave cause, at a struck NAV, and scale the collaterals as the positions; returns
    what that costs."""
    entering = vault.entering
    if not vault.shares or not (entering or vault.waiting):
        return 0
    out = float(vault.waiting) * float(nav + 1) / float(vault.shares + VIRTUAL)
    net = (float(entering) if vault.mark < PRICE_LARGEST else 0.0) - out
    vault.move(Edge.admit, None, entering)
    part = net / float(nav) if nav else 0.0
    if vault.waiting == vault.shares and entering == 0:
        part = -1.0
    for one, plan in zip(vault.positions, plans, strict=True):
        plan.collateral = int(float(plan.collateral) * max(0.0, 1.0 + part))
        if one.quantity and part < 0.0:
            _leave(vault, tick, one, min(1.0, -part))
        elif one.quantity and part > 0.0:
            _join(vault, tick, one, part)
    return nav + entering - vault.nav(tick.bars)


def _leave(vault: Vault, tick: Tick, one: Position, part: float) -> None:
    """Close this part of the lots, and leave at most the rest of the equity."""
    mark = tick.bars[one.symbol].mark_close
    before, lots = vault.equity(one, mark), min(one.held, math.ceil(part * float(one.held)))
    close_lots(vault, tick, one, lots, Kind.resize, Bound.flow)
    if one.quantity == 0:
        shift(vault, tick, one, -vault.margin(one))
        return
    freed = math.ceil(part * float(before)) + 1 - (before - vault.equity(one, mark))
    shift(vault, tick, one, -max(0, min(freed, vault.margin(one))))


def _join(vault: Vault, tick: Tick, one: Position, part: float) -> None:
    """Post this part of the equity and open this part of the lots, or neither."""
    prices = tick.bars[one.symbol]
    lots = math.floor(part * float(one.held))
    posted = max(0, min(math.floor(part * float(vault.equity(one, prices.mark_close))), vault.cushion))
    if lots == 0 or one.instrument.value(lots, prices.close, up=False) < one.instrument.notional_min:
        return
    if not affordable(vault, prices, one, one.side * lots, vault.margin(one) + posted):
        return
    filled = at_most(one, lots, prices)
    if filled == 0:
        refuse(vault, tick, one, Bound.volume, one.quantity + one.side * lots)
        return
    vault.move(Edge.post, one, posted)
    open_lots(vault, tick, one, one.side * filled, Kind.resize, Bound.flow)
