"""The simulator: the paper exchange's rules and the vault's decisions, bar by bar, in one compiled loop.

`_run` is the only loop. A back-test calls it once over all bars; the task that steps a vault calls it over the bars of
one slot; `decide` is the same loop when it may not act. Three things meet here and in `markets.trades`, nowhere else:
`risk.orders` says what to trade, `markets.paper` at what price, `risk.settlement` what that does to the book. All state
is in the arguments, so cutting a run into pieces changes nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from ringfence.markets.paper import fund, liquidate
from ringfence.markets.trades import Hall, Outcome, close, strike_and_settle, trade, winds_down
from ringfence.risk.book import INT_MAX, STAMP, Book, Rows, Seat, Terms, Walk, rows
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.engine import Budget, Counts, blank_plan, capital_at_risk, gross_multipliers, plan_position
from ringfence.risk.events import Kind
from ringfence.risk.exposure import arm, equity_at, leverage_of, leverage_on, liquidation_price
from ringfence.risk.orders import is_settled, margin_call
from ringfence.risk.settlement import funding, liquidated
from ringfence.risk.tape import Tape, at, begin_bar, blank_tape, close_of_bar, open_of_bar
from ringfence.risk.wall import wall_amount

__all__ = ["POSITION_STATE", "VAULT_STATE", "Record", "Series", "blank_series", "decide", "roomy_tape",
           "simulate"]  # fmt: skip

_TRANSFERS_PER_POSITION, _EVENTS_PER_POSITION = 48, 24
_TRANSFERS_PER_VAULT, _EVENTS_PER_VAULT = 4, 4

VAULT_STATE = np.dtype(
    [
        ("nav", np.int64),  # after the decision's trades and before holders enter or leave: the NAV struck, if one was
        ("high_water_mark", np.int64),  # after the strike
        ("nav_low", np.int64),  # lowest NAV since the decision before, at any bar's worst point or after this one
        ("flow_cost", np.int64),  # what the trades for holders who enter or leave cost, minor units
        ("locked", np.bool_),  # the cushion is spent
        ("struck", np.bool_),  # false: a position could not be traded, so nobody enters or leaves at this NAV
    ]
)
POSITION_STATE = np.dtype(
    [
        ("quantity", np.int64),
        ("allowed", np.float64),  # signed leverage that the limiters allowed
        ("leverage", np.float64),  # signed notional / collateral after the decision, the one that is limited
        ("effective_leverage", np.float64),  # signed notional / equity
        ("liquidation_price", np.float64),  # 0.0 when there is none
        ("bound", np.int64),
    ]
)


class Series(NamedTuple):
    """What is written down after each of K decisions."""

    vaults: Rows
    """(K, V) of VAULT_STATE."""
    positions: Rows
    """(K, P) of POSITION_STATE, or (0, P) when positions are not recorded."""


class Record(NamedTuple):
    """What is written down."""

    tape: Tape
    series: Series


def blank_series(decisions: int, vaults: int, positions: int, *, detailed: bool = True) -> Series:
    return Series(
        rows(VAULT_STATE, (decisions, vaults)), rows(POSITION_STATE, (decisions if detailed else 0, positions))
    )


# The venue's rules and the margin call


@inlined
def _worst_equity(position: Any, instrument: Any, prices: Any) -> int:
    """What stands in the position at the bar's worst mark."""
    return max(0, equity_at(position, instrument, prices.mark_low if position.quantity > 0 else prices.mark_high))


@compiled
def _venue_rules(seat: Any, tape: Any, prices: Any, stamps: Any) -> int:
    """Funding of the bar's stamps, maintenance at its worst mark, then the margin call at its close. Returns the
    position's equity at the bar's worst mark, before the call."""
    position, limit, instrument = seat.position, seat.limit, seat.instrument
    if prices.funding and position.quantity != 0:
        for n in range(prices.stamps_from, prices.stamps_to):
            at(tape, stamps[n].ts)
            funding(seat, tape, fund(position, instrument, prices, stamps[n].rate))
        arm(position, limit, instrument)
        close_of_bar(tape)
    if prices.valid and _reaches(position, position.liquidation_watch, prices.mark_low, prices.mark_high):
        report = liquidate(position, limit, instrument, prices)
        if report.lots != 0:
            trigger = liquidation_price(position, instrument)
            if prices.mark_open <= trigger if position.quantity > 0 else prices.mark_open >= trigger:
                open_of_bar(tape)
            liquidated(seat, tape, report)
            arm(position, limit, instrument)
            close_of_bar(tape)
    worst = _worst_equity(position, instrument, prices)
    if prices.valid and _reaches(position, position.call_watch, prices.mark_close, prices.mark_close):
        close(seat, tape, prices, margin_call(seat, prices), Kind.margin_call)
        arm(position, limit, instrument)
    return worst


@inlined
def _reaches(position: Any, watch: float, low: float, high: float) -> bool:
    """Whether marks from `low` to `high` touch a watch of the position."""
    if position.quantity > 0:
        return low <= watch
    return position.quantity < 0 and high >= watch


@inlined
def _needs_venue(position: Any, prices: Any) -> bool:
    """Whether the bar touches the margin call's watch, which lies before the liquidation's, or settles funding."""
    if position.quantity > 0:
        return prices.mark_low <= position.call_watch or prices.funding
    return position.quantity < 0 and (prices.mark_high >= position.call_watch or prices.funding)


# What is written down


@inlined
def _write_detail(seat: Any, mark: float, plan: Any, detail: Any) -> None:
    position, instrument = seat.position, seat.instrument
    detail.quantity = position.quantity
    detail.allowed = plan.allowed
    detail.leverage = 0.0
    if plan.collateral > 0:
        detail.leverage = leverage_on(position, instrument, mark, plan.collateral)
    detail.effective_leverage = leverage_of(position, instrument, mark)
    detail.liquidation_price = liquidation_price(position, instrument)
    detail.bound = plan.bound


@compiled
def _note_lows(vault: Any, nav: int) -> None:
    """The lows of a vault's life, at a NAV of which its wall and its shares were these."""
    vault.price_low = min(vault.price_low, nav / vault.shares)
    if nav > 0:
        vault.distance_low = min(vault.distance_low, (nav - vault.wall) / nav)


@inlined
def _write_state(vault: Any, outcome: Any, state: Any) -> None:
    if vault.shares > 0:
        _note_lows(vault, outcome.nav)
    state.nav, state.struck, state.flow_cost = outcome.nav, outcome.struck, outcome.flow_cost
    state.high_water_mark, state.nav_low = vault.high_water_mark, min(vault.nav_low, outcome.nav)
    state.locked = vault.locked_since >= 0
    vault.nav_low = INT_MAX


# The loop


@compiled
def _run(book: Any, terms: Any, walk: Any, record: Any, plans: Any, span: Any, room: Any, act: bool) -> int:
    """Longer than 60 lines because the one function that owns the arrays must hold every loop over them that runs at
    each bar: passing them on would cost more than the step itself. More than five arguments because nothing may be
    allocated here. It stops before a bar once more than `room` rows of the tape are used. Without `act` nothing moves:
    only `plans` and derived columns are written."""
    vaults, positions = book
    (vault_limits, limits), instruments = terms
    bars, opens, length, stamps, slot, proposals = walk
    tape, (states, details) = record
    for p in range(positions.size):
        arm(positions[p], limits[p], instruments[positions[p].symbol])
    for v in range(vaults.size):
        vaults[v].wall = wall_amount(vaults[v].high_water_mark, vault_limits[v].keep, vaults[v].shares)
    for bar in range(span[0], span[1]):
        if tape.used[0] > room[0] or tape.used[1] > room[1]:
            return bar
        begin_bar(tape, bar, opens[bar], length)
        row = slot[bar]
        for v in range(vaults.size):
            vault, nav, worst, strikes = vaults[v], 0, 0, True
            for p in range(vault.first, vault.last):
                position = positions[p]
                prices, instrument = bars[bar, position.symbol], instruments[position.symbol]
                if _needs_venue(position, prices) and act:
                    worst += _venue_rules(Seat(vault, position, limits[p], instrument), tape, prices, stamps)
                    if row < 0:
                        position.filled = 0
                else:
                    worst += _worst_equity(position, instrument, prices)
                if row >= 0:
                    plans[p].equity = max(0, equity_at(position, instrument, prices.mark_close))
                    nav += plans[p].equity
                    strikes = strikes and position.pending == 0 and (prices.valid or position.quantity == 0)
            cash = vault.reserve + vault.cushion
            if vault.shares > 0 and worst + cash < vault.nav_low:
                vault.nav_low = worst + cash
            if row < 0:
                continue
            nav += cash
            if vault.shares > 0 and act:
                _note_lows(vault, vault.nav_low)
            limit = vault_limits[v]
            capital = capital_at_risk(vault, limit.keep, nav, strikes)
            budget, rounds, settled = Budget(capital, 1.0, 1.0, winds_down(vault, limit)), 0, True
            while rounds == 0 or (rounds == 1 and min(budget.multiplier, budget.kept) < 1.0):
                asked, kept, stuck, settled = 0.0, 0.0, 0.0, True
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    seat = Seat(vault, positions[p], limits[p], instruments[s])
                    notional = plan_position(seat, bars[bar, s], proposals[row, p], budget, plans[p])
                    if plans[p].counts == Counts.asked:
                        asked += notional
                    elif plans[p].counts == Counts.kept:
                        kept += notional
                    else:
                        stuck += notional
                    plans[p].settled = is_settled(positions[p], limits[p], plans[p])
                    settled = settled and plans[p].settled
                shrink = gross_multipliers(limit.gross_leverage_max * nav, asked, kept, stuck)
                budget = Budget(capital, shrink[0], shrink[1], budget.winding_down)
                rounds += 1
            if not act:
                continue
            hall = Hall(vault, positions, limits, instruments, bars[bar], plans)
            if not settled:
                nav = trade(hall, tape)
            outcome = strike_and_settle(hall, limit, tape, Outcome(nav, strikes, 0))
            _write_state(vault, outcome, states[row, v])
            if details.shape[0] > 0:
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    seat = Seat(vault, positions[p], limits[p], instruments[s])
                    _write_detail(seat, bars[bar, s].mark_close, plans[p], details[row, p])
    return span[1]


def _needed(book: Book, walk: Walk) -> tuple[int, int]:
    """Transfers and events that one bar may bring."""
    positions, vaults = len(book.positions), len(book.vaults)
    stamps = int((walk.bars.stamps_to - walk.bars.stamps_from).max(initial=0))
    return (
        (_TRANSFERS_PER_POSITION + stamps) * positions + _TRANSFERS_PER_VAULT * vaults,
        (_EVENTS_PER_POSITION + stamps) * positions + _EVENTS_PER_VAULT * vaults,
    )


def roomy_tape(book: Book, walk: Walk, bars: int = 1) -> Tape:
    """A tape that holds what so many bars of the walk may bring to the book."""
    transfers, events = _needed(book, walk)
    return blank_tape(transfers * bars, events * bars)


def simulate(book: Book, terms: Terms, walk: Walk, record: Record, span: tuple[int, int]) -> int:
    """Live through the bars from `span[0]` up to but without `span[1]`; returns the bar before which it stopped,
    `span[1]` unless the tape is full.

    Changes `book` and `record`. ValueError for a tape that could not hold what one bar may bring.
    """
    tape, (transfers, events) = record.tape, _needed(book, walk)
    room = len(tape.transfers) - transfers, len(tape.events) - events
    if min(room) < 0:
        raise ValueError(f"the tape is too small: it needs {transfers} transfers and {events} events")
    return int(_run(book, terms, walk, record, blank_plan(len(book.positions)), span, room, True))


def decide(book: Book, terms: Terms, bars: Rows, proposals: Rows) -> Rows:
    """One tick for all vaults and positions of a book, without effects: a row of PLAN for each position.

    `bars` (N,) of BAR: the tick's prices, `proposals` (P,) of PROPOSAL. Where a proposal or a volatility is absent or
    not finite the position may only shrink; where its symbol has no valid bar it stays as it is.
    """
    vaults, positions = len(book.vaults), len(book.positions)
    plans, copy = blank_plan(positions), Book(book.vaults.copy(), book.positions.copy())
    now = np.zeros(1, np.int64)
    walk = Walk(bars[np.newaxis], now, 0, rows(STAMP, 0), now, proposals[np.newaxis])
    record = Record(roomy_tape(book, walk), blank_series(1, vaults, positions, detailed=False))
    _run(copy, terms, walk, record, plans, (0, 1), (0, 0), False)
    return plans
