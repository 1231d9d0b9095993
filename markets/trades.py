"""A vault's trades at the close of one bar: its decision, the strike, and the holders who enter or leave at it.

Orders come from `risk.orders`, what becomes of them from `markets.dealing`, bookings from `risk.settlement`. The
functions here take all rows of a book at once; the loop calls them only where something is to be traded.
"""

import math
from typing import Any, NamedTuple

from ringfence.markets.dealing import moved, traded
from ringfence.markets.paper import fill
from ringfence.risk.arithmetic import MILLION, portion_down, portion_up
from ringfence.risk.book import AtWall, Order, Seat, Sweep
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import arm, equity_at, value_down
from ringfence.risk.orders import (
    Intent,
    affordable,
    closing,
    excess_margin,
    grows,
    increase,
    lacking_margin,
    lots_realising,
    reduction,
    spare_margin,
)
from ringfence.risk.settlement import close_lots, open_lots, refused, shift_collateral
from ringfence.risk.tape import emit_whole
from ringfence.risk.wall import (
    PRICE_LARGEST,
    VIRTUAL_SHARES,
    admit,
    post_margin,
    raised,
    rebase,
    release_margin,
    strike,
    strike_price,
    wall_amount,
)

__all__ = ["Hall", "Outcome", "close", "strike_and_settle", "trade", "winds_down"]

_LOCKED, _UNLOCKED = 20, 10
"""A vault is locked once no more than a twentieth of its full cushion, loss cap x NAV, is left, and until it is more
than a tenth again."""


class Hall(NamedTuple):
    """Where a vault trades: all rows of the book, its own vault, and one bar."""

    vault: Any
    """VAULT; its positions are the rows `first` to `last - 1`."""
    positions: Any
    """(P,) of POSITION."""
    limits: Any
    """(P,) of POSITION_LIMITS."""
    instruments: Any
    """(N,) of INSTRUMENT."""
    bars: Any
    """(N,) of BAR."""
    plans: Any
    """(P,) of PLAN."""


class Outcome(NamedTuple):
    """What a decision came to."""

    nav: int
    """Before holders enter or leave."""
    struck: bool
    flow_cost: int
    """Of the trades for those who enter or leave, minor units."""


@inlined
def _worth(hall: Any) -> int:
    """NAV at the marks of the close."""
    nav: int = hall.vault.reserve + hall.vault.cushion
    for p in range(hall.vault.first, hall.vault.last):
        symbol = hall.positions[p].symbol
        nav += max(0, equity_at(hall.positions[p], hall.instruments[symbol], hall.bars[symbol].mark_close))
    return nav


# Collateral, and one order


@inlined
def _put_in(seat: Any, tape: Any, wanted: int) -> int:
    """Cushion to margin, as far as it goes; returns what went."""
    return post_margin(seat.vault, seat.position, tape, moved(seat, tape, max(0, wanted)))


@inlined
def _take_out(seat: Any, tape: Any, wanted: int) -> int:
    """Margin to cushion, as far as it goes; returns what went."""
    return release_margin(seat.vault, seat.position, tape, -moved(seat, tape, -max(0, wanted)))


@inlined
def _shift(seat: Any, tape: Any, mark: float, wanted: int) -> None:
    """Collateral in (+) or out (-), as far as it goes, and told."""
    shift_collateral(seat, tape, mark, moved(seat, tape, wanted))


@inlined
def _unfilled(tape: Any) -> int:
    """Why nothing filled."""
    return Bound.volume if tape.acts.size == 0 else Bound.venue


@compiled
def close(seat: Any, tape: Any, prices: Any, intent: Any, kind: int) -> int:
    """Close what is intended, as far as it fills, and tell a refusal. Returns the lots that were closed."""
    lots = intent.order.lots
    if lots == 0:
        if intent.bound == Bound.costs:
            refused(seat, tape, prices.mark_close, intent.bound, 0)
        return 0
    report = traded(seat, tape, prices, intent.order, kind, True)
    if report.lots == 0:
        refused(seat, tape, prices.mark_close, _unfilled(tape), seat.position.quantity + lots)
        return 0
    close_lots(seat, tape, report, kind, intent.bound)
    return abs(report.lots)


@compiled
def _open(seat: Any, tape: Any, prices: Any, intent: Any, kind: int, margin: int) -> None:
    """Open what is intended, as far as it fills, with so much more margin, and tell a refusal. More than five arguments
    because the margin moves only if something fills."""
    wanted = seat.position.quantity + intent.order.lots
    if fill(intent.order, seat.limit, seat.instrument, prices, seat.position.filled).lots == 0:
        refused(seat, tape, prices.mark_close, Bound.volume.value, wanted)
        return
    posted = _put_in(seat, tape, margin)
    report = traded(seat, tape, prices, intent.order, kind, False)
    if report.lots == 0:
        _take_out(seat, tape, posted)
        refused(seat, tape, prices.mark_close, Bound.venue.value, wanted)
        return
    open_lots(seat, tape, report, kind, intent.bound)


# The two halves of a decision


@inlined
def _sweep(seat: Any, tape: Any, mark: float, plan: Any) -> None:
    """Back to the cushion what the position can give; what a flat one leaves behind is no news."""
    excess = excess_margin(seat, mark, plan)
    if seat.position.quantity == 0:
        _take_out(seat, tape, excess)
    elif excess > 0:
        _shift(seat, tape, mark, -excess)


@compiled
def _shrink(seat: Any, tape: Any, prices: Any, plan: Any) -> None:
    """The first half of a plan at the bar's close: the reduction it asks for, and what that and open profit free."""
    position, quantity, margin = seat.position, seat.position.quantity, seat.position.margin
    close(seat, tape, prices, reduction(seat, prices, plan), Kind.resize)
    _sweep(seat, tape, prices.mark_close, plan)
    if position.quantity != quantity or position.margin != margin:
        arm(position, seat.limit, seat.instrument)


@compiled
def _grow(seat: Any, tape: Any, prices: Any, plan: Any) -> None:
    """The second half, once every position of the vault has freed what it could: top-up, then the increase."""
    position, quantity, margin = seat.position, seat.position.quantity, seat.position.margin
    mark, growing = prices.mark_close, grows(position, plan)
    lacking = lacking_margin(seat, mark, plan)
    if growing:
        _put_in(seat, tape, lacking)
        intent = increase(seat, prices, plan)
        if intent.order.lots != 0:
            _open(seat, tape, prices, intent, Kind.resize, 0)
        elif intent.bound != Bound.nothing:
            refused(seat, tape, mark, intent.bound, plan.target)
        _sweep(seat, tape, mark, plan)
    elif lacking > 0:
        _shift(seat, tape, mark, lacking)
    if position.quantity != quantity or position.margin != margin:
        arm(position, seat.limit, seat.instrument)


@compiled
def trade(hall: Any, tape: Any) -> int:
    """Carry out the plans of a vault, reductions before increases; returns the NAV after it."""
    vault, positions, limits, instruments, bars, plans = hall
    for p in range(vault.first, vault.last):
        s = positions[p].symbol
        if not plans[p].settled:
            _shrink(Seat(vault, positions[p], limits[p], instruments[s]), tape, bars[s], plans[p])
    for p in range(vault.first, vault.last):
        s = positions[p].symbol
        if not plans[p].settled:
            _grow(Seat(vault, positions[p], limits[p], instruments[s]), tape, bars[s], plans[p])
    return _worth(hall)


# The strike


@compiled
def _realise(seat: Any, tape: Any, prices: Any, wanted: int, sweep: int) -> None:
    """Turn open profit into cash by closing lots, and opening them again unless the mandate trims, until `wanted` may
    be released."""
    position, trim = seat.position, sweep == Sweep.trim
    if position.quantity == 0 or wanted <= 0:
        return
    lots = lots_realising(seat, prices, wanted, trim)
    if lots == 0:
        return
    kind, side = Kind.resize if trim else Kind.roll, 1 if position.quantity > 0 else -1
    closed = close(seat, tape, prices, closing(seat, lots, prices.close, Bound.strike.value), kind)
    again = closed * side
    if not trim and closed > 0 and affordable(seat, position.margin, again, prices):
        _open(seat, tape, prices, Intent(Order(position.index, again), Bound.strike.value), kind, 0)


@inlined
def _above(seat: Any, mark: float, wanted: int, plan: Any, turn: int) -> int:
    """`wanted`, of what stands above the position's collateral in the first two turns."""
    above: int = equity_at(seat.position, seat.instrument, mark) - plan.collateral
    return wanted if turn >= 2 else min(wanted, above)


@compiled
def _free(seat: Any, tape: Any, mark: float, wanted: int) -> None:
    """Release `wanted` of a position's margin, as far as its margin call's cash allows."""
    if seat.position.quantity == 0:
        _take_out(seat, tape, wanted)
    elif wanted > 0:
        _shift(seat, tape, mark, -min(wanted, spare_margin(seat, mark)))


@inlined
def _lacking(vault: Any, keep: int, nav: int) -> int:
    """What cash lacks of the wall that a strike at `nav` would raise, and of (1 - loss cap) x NAV."""
    due = max(raised(vault, keep, nav)[1], portion_up(nav, keep))
    return int(due - vault.reserve - vault.cushion)


@compiled
def _bring_down(hall: Any, limit: Any, tape: Any, nav: int) -> int:
    """Bring the equity in positions down to what the loss cap lets stand in them, as cheaply as it goes: release what
    stands above the collaterals, realise profit, take from all positions alike, close. Returns the NAV after it."""
    vault, positions, limits, instruments, bars, plans = hall
    for turn in range(5):
        for p in range(vault.first, vault.last):
            position, prices = positions[p], bars[positions[p].symbol]
            seat, mark = Seat(vault, position, limits[p], instruments[position.symbol]), prices.mark_close
            aside: int = nav - vault.cushion - max(0, equity_at(position, seat.instrument, mark))
            if turn == 1 or turn == 3:
                wanted = _lacking(vault, limit.keep, nav)
                _realise(seat, tape, prices, _above(seat, mark, wanted, plans[p], turn), limit.sweep)
                nav = aside + vault.cushion + max(0, equity_at(position, seat.instrument, mark))
            lacking = _lacking(vault, limit.keep, nav)
            if turn == 4 and lacking > 0 and position.quantity != 0:
                intent = closing(seat, abs(position.quantity), prices.close, Bound.strike.value)
                close(seat, tape, prices, intent, Kind.resize)
                nav = aside + vault.cushion + max(0, equity_at(position, seat.instrument, mark))
                lacking = position.margin if position.quantity == 0 else _lacking(vault, limit.keep, nav)
            _free(seat, tape, mark, _above(seat, mark, lacking, plans[p], turn))
            nav = aside + vault.cushion + max(0, equity_at(position, seat.instrument, mark))
            arm(position, seat.limit, seat.instrument)
        if _lacking(vault, limit.keep, nav) <= 0:
            break
    return nav


@inlined
def winds_down(vault: Any, limit: Any) -> bool:
    """Whether the mandate winds the vault down now."""
    return bool(limit.at_wall == AtWall.wind_down and vault.locked_since >= 0)


@compiled
def _keep_watch(vault: Any, limit: Any, tape: Any, nav: int) -> None:
    """At a strike: the rebase that is due, whether the cushion is spent, and what the mandate does about it."""
    now = tape.used[3]
    if 0 <= vault.rebase_at <= now:
        rebase(vault, limit.keep, tape, nav)
        vault.rebase_at = vault.locked_since = -1
        emit_whole(vault, tape, Kind.rebased, vault.wall)
    spent = _LOCKED if vault.locked_since < 0 else _UNLOCKED
    locked = (nav - vault.wall) * spent <= portion_down(nav, MILLION - limit.keep)
    if locked and vault.locked_since < 0:
        vault.locked_since = now
        emit_whole(vault, tape, Kind.locked, vault.wall)
    elif vault.locked_since >= 0 and not locked:
        vault.locked_since = vault.rebase_at = -1
        emit_whole(vault, tape, Kind.unlocked, vault.wall)
    due = locked and limit.at_wall == AtWall.rebase and vault.rebase_at < 0
    if due and now - vault.locked_since >= limit.rebase_after:
        vault.rebase_at = now + limit.rebase_notice
        emit_whole(
            vault, tape, Kind.rebase_announced, wall_amount(strike_price(nav, vault.shares), limit.keep, vault.shares)
        )


# Holders who enter or leave


@compiled
def _shed(seat: Any, tape: Any, prices: Any, part: float) -> None:
    """Close `part` of a position, lots rounded up, and release what that frees beyond its own costs."""
    position, mark = seat.position, prices.mark_close
    before = equity_at(position, seat.instrument, mark)
    lots = min(abs(position.quantity), math.ceil(part * float(abs(position.quantity))))
    close(seat, tape, prices, closing(seat, lots, prices.close, Bound.flow.value), Kind.resize)
    if position.quantity == 0:
        _take_out(seat, tape, position.margin)
    else:
        lost = before - equity_at(position, seat.instrument, mark)
        freed = math.ceil(part * float(before)) + 1 - lost
        _shift(seat, tape, mark, -max(0, min(freed, position.margin)))
    arm(position, seat.limit, seat.instrument)


@compiled
def _add(seat: Any, tape: Any, prices: Any, part: float) -> None:
    """Open `part` more of a position, lots and margin rounded down, if the venue takes so small an order."""
    position, mark = seat.position, prices.mark_close
    lots = int(part * float(abs(position.quantity)))
    margin = min(int(part * float(max(0, equity_at(position, seat.instrument, mark)))), seat.vault.cushion)
    if lots <= 0 or value_down(seat.instrument, lots, prices.close) < seat.instrument.notional_min:
        return
    lots = lots if position.quantity > 0 else -lots
    if affordable(seat, position.margin + margin, lots, prices):
        _open(seat, tape, prices, Intent(Order(position.index, lots), Bound.flow.value), Kind.resize, margin)
        arm(position, seat.limit, seat.instrument)


@compiled
def _flow(hall: Any, tape: Any, nav: int) -> int:
    """Admit what enters, and scale every position and its collateral as NAV will be scaled by who enters and leaves.
    Returns what the trades cost."""
    vault, positions, limits, instruments, bars, plans = hall
    entering: int = vault.entering
    leaving = float(vault.waiting) * float(nav + 1) / float(vault.shares + VIRTUAL_SHARES)
    # At a price that no mark can follow nobody enters: what was paid in goes back.
    joining = float(entering) if vault.high_water_mark < PRICE_LARGEST else 0.0
    part = (joining - leaving) / float(nav) if nav > 0 else 0.0
    if vault.waiting == vault.shares and entering == 0:
        part = -1.0
    admit(vault, tape)
    for p in range(vault.first, vault.last):
        s = positions[p].symbol
        plans[p].collateral = int(float(plans[p].collateral) * max(0.0, 1.0 + part))
        if positions[p].quantity != 0:
            seat, prices = Seat(vault, positions[p], limits[p], instruments[s]), bars[s]
            if part < 0.0:
                _shed(seat, tape, prices, min(1.0, -part))
            else:
                _add(seat, tape, prices, part)
    return nav + entering - _worth(hall)


@inlined
def _waits(hall: Any) -> bool:
    """Whether the end of something that was asked of the venue is not known yet."""
    waiting = 0
    for p in range(hall.vault.first, hall.vault.last):
        waiting += hall.positions[p].pending
    return waiting > 0


@compiled
def strike_and_settle(hall: Any, limit: Any, tape: Any, reached: Outcome) -> Outcome:
    """Strike a NAV after the decision's trades, if every open position could be traded (`reached.struck`), and let
    those who wait enter or leave at it."""
    vault, nav, struck, cost = hall.vault, reached.nav, reached.struck and not _waits(hall), 0
    if struck and vault.shares > 0:
        if _lacking(vault, limit.keep, nav) > 0:
            nav = _bring_down(hall, limit, tape, nav)
        struck = _lacking(vault, limit.keep, nav) <= 0 and not _waits(hall)
    if struck and vault.shares > 0:
        strike(vault, limit.keep, tape, nav)
        _keep_watch(vault, limit, tape, nav)
        if vault.entering > 0 or vault.waiting > 0:
            cost = _flow(hall, tape, nav)
    elif not struck and vault.rebase_at >= 0:
        vault.rebase_at += limit.timeframe
    for p in range(vault.first, vault.last):
        hall.positions[p].filled = 0
    return Outcome(nav, struck, cost)
