"""The simulator: the paper exchange's rules and the vault's decisions, bar by bar, in one compiled loop.

`_run` is the only loop. A back-test calls it once over all bars; the task that steps a vault calls it over the bars of
one slot; `decide` is the same loop when it may not act. Three things meet here and nowhere else: `risk.orders` says
what to trade, `markets.paper` at what price, `risk.settlement` what that does to the book. All state is in the
arguments, so cutting a run into pieces changes nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from ringfence.markets.paper import fill, fund, liquidate
from ringfence.risk.book import Book, Ints, Rows, Seat, Terms, rows
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.engine import Budget, blank_plan, capital_at_risk, gross_multiplier, plan_position
from ringfence.risk.events import Bound
from ringfence.risk.exposure import arm, equity_at, leverage_of, liquidation_price
from ringfence.risk.orders import excess_margin, grows, increase, is_settled, lacking_margin, margin_call, reduction
from ringfence.risk.settlement import close_lots, funding, liquidated, open_lots, refused, shift_collateral
from ringfence.risk.tape import Tape, blank_tape
from ringfence.risk.wall import post_margin, raise_wall, ratchet, release_margin

__all__ = ["POSITION_STATE", "VAULT_STATE", "Record", "Series", "Walk", "blank_series", "decide", "simulate"]

_TRANSFERS_PER_POSITION, _EVENTS_PER_POSITION = 24, 8

VAULT_STATE = np.dtype([("nav", np.int64), ("high_water_mark", np.int64)])
POSITION_STATE = np.dtype(
    [
        ("quantity", np.int64),
        ("allowed", np.float64),  # signed leverage that the limiters allowed
        ("leverage", np.float64),  # signed notional / equity after the decision; 0.0 when flat
        ("liquidation_price", np.float64),  # 0.0 when there is none
        ("bound", np.int64),
    ]
)


class Walk(NamedTuple):
    """What a book lives through."""

    bars: Rows
    """(T, N) of BAR."""
    slot: Ints
    """(T,): the row of `proposals` that is decided at the bar's close, or -1."""
    proposals: Rows
    """(K, P) of PROPOSAL."""


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


@compiled
def _venue_rules(seat: Any, tape: Any, prices: Any) -> None:
    """Funding of the stamp, then maintenance at the bar's worst mark, then the margin call at its close."""
    position, limit, instrument = seat.position, seat.limit, seat.instrument
    if prices.funding and position.quantity != 0:
        funding(seat, tape, fund(position, instrument, prices))
        arm(position, limit, instrument)
    if not prices.valid:
        return
    if _reaches(position, position.liquidation_watch, prices.mark_low, prices.mark_high):
        report = liquidate(position, limit, instrument, prices)
        if report.lots != 0:
            liquidated(seat, tape, report)
            arm(position, limit, instrument)
    if _reaches(position, position.call_watch, prices.mark_close, prices.mark_close):
        order = margin_call(seat, prices)
        if order.lots != 0:
            close_lots(seat, tape, fill(order, limit, instrument, prices), Bound.margin_call)
            arm(position, limit, instrument)


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


# The two halves of a decision


@inlined
def _sweep(seat: Any, tape: Any, mark: float, plan: Any) -> None:
    """Back to the cushion what the position can give; what a flat one leaves behind is no news."""
    excess = excess_margin(seat, mark, plan)
    if seat.position.quantity == 0:
        release_margin(seat.vault, seat.position, tape, excess)
    elif excess > 0:
        shift_collateral(seat, tape, mark, -excess)


@compiled
def _shrink(seat: Any, tape: Any, prices: Any, plan: Any) -> None:
    """The first half of a plan at the bar's close: the reduction it asks for, and what that and open profit free."""
    position, quantity, margin = seat.position, seat.position.quantity, seat.position.margin
    order = reduction(seat, prices, plan)
    if order.lots != 0:
        close_lots(seat, tape, fill(order, seat.limit, seat.instrument, prices), plan.bound)
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
        post_margin(seat.vault, position, tape, lacking)
        intent = increase(seat, prices, plan)
        if intent.order.lots != 0:
            open_lots(seat, tape, fill(intent.order, seat.limit, seat.instrument, prices), intent.bound)
        elif intent.bound != Bound.nothing:
            refused(seat, tape, mark, intent.bound, plan.target)
        _sweep(seat, tape, mark, plan)
    elif lacking > 0:
        shift_collateral(seat, tape, mark, lacking)
    if position.quantity != quantity or position.margin != margin:
        arm(position, seat.limit, seat.instrument)


# What is written down


@inlined
def _write_detail(seat: Any, mark: float, plan: Any, detail: Any) -> None:
    detail.quantity = seat.position.quantity
    detail.allowed = plan.allowed
    detail.leverage = leverage_of(seat.position, seat.instrument, mark)
    detail.liquidation_price = liquidation_price(seat.position, seat.instrument)
    detail.bound = plan.bound


@inlined
def _write_state(vault: Any, nav: int, state: Any) -> None:
    state.nav = nav
    state.high_water_mark = vault.high_water_mark


@compiled
def _note_lows(vault: Any, nav: int) -> None:
    """Between changes of wall and shares both lows fall with NAV, so only a lower NAV is news."""
    vault.nav_low = nav
    vault.price_low = min(vault.price_low, nav / vault.shares)
    vault.distance_low = min(vault.distance_low, (nav - vault.wall) / nav)


# The loop


@compiled
def _run(book: Any, terms: Any, walk: Any, record: Any, plans: Any, span: Any, act: bool) -> int:
    """Longer than 60 lines because the one function that owns the arrays must hold every loop over them: passing them
    on would cost more than the step itself. More than five arguments because nothing may be allocated here. Without
    `act` nothing moves: only `plans`, `record.series` and derived columns are written. It is asked last, where the
    answer is hardly ever needed."""
    vaults, positions = book
    (vault_limits, limits), instruments = terms
    bars, slot, proposals = walk
    tape, (states, details) = record
    for p in range(positions.size):
        arm(positions[p], limits[p], instruments[positions[p].symbol])
    for v in range(vaults.size):
        raise_wall(vaults[v], vault_limits[v].keep)
    transfers = tape.transfers.size - _TRANSFERS_PER_POSITION * positions.size - vaults.size
    events = tape.events.size - _EVENTS_PER_POSITION * positions.size
    for bar in range(span[0], span[1]):
        if tape.used[0] > transfers or tape.used[1] > events:
            return bar
        tape.used[2] = bar
        row = slot[bar]
        for v in range(vaults.size):
            vault = vaults[v]
            nav = 0
            for p in range(vault.first, vault.last):
                position = positions[p]
                prices, instrument = bars[bar, position.symbol], instruments[position.symbol]
                if _needs_venue(position, prices) and act:
                    _venue_rules(Seat(vault, position, limits[p], instrument), tape, prices)
                equity = max(0, equity_at(position, instrument, prices.mark_close))
                if row >= 0:
                    plans[p].equity = equity
                nav += equity
            nav += vault.reserve + vault.cushion
            if nav < vault.nav_low and act:
                _note_lows(vault, nav)
            if row < 0:
                continue
            if nav >= vault.peak and vault.reserve + vault.cushion > vault.wall and act:
                ratchet(vault, vault_limits[v].keep, tape, nav)
            budget, rounds, settled = Budget(capital_at_risk(vault, nav), 1.0), 0, True
            while rounds == 0 or (rounds == 1 and budget.multiplier < 1.0):
                gross, settled = 0.0, True
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    seat = Seat(vault, positions[p], limits[p], instruments[s])
                    gross += plan_position(seat, bars[bar, s], proposals[row, p], budget, plans[p])
                    plans[p].settled = is_settled(positions[p], limits[p], plans[p])
                    settled = settled and plans[p].settled
                budget = Budget(budget.capital, gross_multiplier(vault_limits[v], nav, gross))
                rounds += 1
            if not settled and act:
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    if not plans[p].settled:
                        _shrink(Seat(vault, positions[p], limits[p], instruments[s]), tape, bars[bar, s], plans[p])
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    if not plans[p].settled:
                        _grow(Seat(vault, positions[p], limits[p], instruments[s]), tape, bars[bar, s], plans[p])
                nav = vault.reserve + vault.cushion
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    nav += max(0, equity_at(positions[p], instruments[s], bars[bar, s].mark_close))
            _write_state(vault, nav, states[row, v])
            if details.shape[0] > 0:
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    seat = Seat(vault, positions[p], limits[p], instruments[s])
                    _write_detail(seat, bars[bar, s].mark_close, plans[p], details[row, p])
    return span[1]


def simulate(book: Book, terms: Terms, walk: Walk, record: Record, span: tuple[int, int]) -> int:
    """Live through the bars from `span[0]` up to but without `span[1]`; returns the bar before which it stopped,
    `span[1]` unless the tape is full.

    Changes `book` and `record`. ValueError for a tape that could not hold what one bar may bring.
    """
    tape, positions = record.tape, len(book.positions)
    room = _TRANSFERS_PER_POSITION * positions + len(book.vaults)
    if len(tape.transfers) < room or len(tape.events) < _EVENTS_PER_POSITION * positions:
        raise ValueError(f"the tape is too small: it needs {room} transfers and "
                         f"{_EVENTS_PER_POSITION * positions} events")  # fmt: skip
    return int(_run(book, terms, walk, record, blank_plan(positions), span, True))


def decide(book: Book, terms: Terms, bars: Rows, proposals: Rows) -> Rows:
    """One tick for all vaults and positions of a book, without effects: a row of PLAN for each position.

    `bars` (N,) of BAR: the tick's prices, `proposals` (P,) of PROPOSAL. Where a proposal or a volatility is absent or
    not finite the position may only shrink; where its symbol has no valid bar it stays as it is.
    """
    vaults, positions = len(book.vaults), len(book.positions)
    plans, copy = blank_plan(positions), Book(book.vaults.copy(), book.positions.copy())
    walk = Walk(bars[np.newaxis], np.zeros(1, np.int64), proposals[np.newaxis])
    tape = blank_tape(_TRANSFERS_PER_POSITION * positions + vaults, _EVENTS_PER_POSITION * positions)
    record = Record(tape, blank_series(1, vaults, positions, detailed=False))
    _run(copy, terms, walk, record, plans, (0, 1), False)
    return plans
