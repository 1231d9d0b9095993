"""The simulator: the paper exchange's rules and the vault's decisions, bar by bar, in one compiled loop.

`run` is the only loop. A back-test calls it once over all bars; the task that steps a vault calls it over the bars of
one slot. All state is in its arguments, so cutting a run into pieces changes nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from ringfence.markets.paper import (
    arm,
    call_margin,
    grow_position,
    leverage_of,
    liquidate,
    liquidation_price,
    settle_funding,
    shrink_position,
)
from ringfence.risk.book import Book, Ints, Limits, Rows, rows
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.engine import blank_plan, capital_at_risk, equity_at, gross_multiplier, plan_position
from ringfence.risk.events import Bound
from ringfence.risk.tape import Tape
from ringfence.risk.wall import raise_wall, ratchet

__all__ = ["POSITION_STATE", "VAULT_STATE", "Series", "blank_series", "simulate"]

_NO_PRICE = int(Bound.no_price)
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


class Series(NamedTuple):
    """What is written down after each of K decisions."""

    vaults: Rows
    """(K, V) of VAULT_STATE."""
    positions: Rows
    """(K, P) of POSITION_STATE, or (0, P) when positions are not recorded."""


def blank_series(decisions: int, vaults: int, positions: int, *, detailed: bool = True) -> Series:
    return Series(
        rows(VAULT_STATE, (decisions, vaults)), rows(POSITION_STATE, (decisions if detailed else 0, positions))
    )


@compiled
def _venue_rules(vault: Any, position: Any, limit: Any, instrument: Any, tape: Any, bar: int, prices: Any) -> None:
    """Funding of the stamp, then maintenance at the bar's worst mark, then the margin call at its close."""
    if prices.funding:
        settle_funding(vault, position, limit, instrument, tape, bar, prices.mark_open, prices.funding_rate)
    if not prices.valid:
        return
    if position.quantity > 0:
        if prices.mark_low <= position.liquidation_watch:
            liquidate(vault, position, limit, instrument, tape, bar, prices)
    elif position.quantity < 0 and prices.mark_high >= position.liquidation_watch:
        liquidate(vault, position, limit, instrument, tape, bar, prices)
    if position.quantity > 0:
        if prices.mark_close <= position.call_watch:
            call_margin(vault, position, limit, instrument, tape, bar, prices)
    elif position.quantity < 0 and prices.mark_close >= position.call_watch:
        call_margin(vault, position, limit, instrument, tape, bar, prices)


@inlined
def _needs_venue(position: Any, prices: Any) -> bool:
    """Whether the bar touches the margin call's watch, which lies before the liquidation's, or settles funding."""
    if position.quantity > 0:
        return prices.mark_low <= position.call_watch or prices.funding
    return position.quantity < 0 and (prices.mark_high >= position.call_watch or prices.funding)


@inlined
def _is_settled(position: Any, limit: Any, plan: Any) -> bool:
    """Whether the plan asks for no order and the equity lies within its collateral's band, or there is no price."""
    if plan.bound == _NO_PRICE:
        return True
    if plan.target != position.quantity:
        return False
    if position.quantity == 0:
        return position.margin == 0
    return abs(plan.equity - plan.collateral) <= limit.band * plan.collateral


@inlined
def _write_detail(position: Any, instrument: Any, mark: float, plan: Any, detail: Any) -> None:
    detail.quantity = position.quantity
    detail.allowed = plan.allowed
    detail.leverage = leverage_of(position, instrument, mark)
    detail.liquidation_price = liquidation_price(position, instrument)
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


@compiled
def _run(
    vaults: Any, positions: Any, vault_limits: Any, limits: Any, instruments: Any, bars: Any, decision: Any,
    proposals: Any, plans: Any, tape: Any, states: Any, details: Any, start: int, stop: int,
) -> int:  # fmt: skip
    """Longer than 60 lines because the one function that owns the arrays must hold every loop over them: passing them
    on would cost more than the step itself."""
    for p in range(positions.size):
        arm(positions[p], limits[p], instruments[positions[p].symbol])
    for v in range(vaults.size):
        raise_wall(vaults[v], vault_limits[v].keep)
    transfers = tape.transfers.size - _TRANSFERS_PER_POSITION * positions.size - vaults.size
    events = tape.events.size - _EVENTS_PER_POSITION * positions.size
    for bar in range(start, stop):
        if tape.used[0] > transfers or tape.used[1] > events:
            return bar
        row = decision[bar]
        for v in range(vaults.size):
            vault = vaults[v]
            nav = 0
            for p in range(vault.first, vault.last):
                position = positions[p]
                prices, instrument = bars[bar, position.symbol], instruments[position.symbol]
                if _needs_venue(position, prices):
                    _venue_rules(vault, position, limits[p], instrument, tape, bar, prices)
                equity = max(0, equity_at(position, instrument.unit, prices.mark_close))
                if row >= 0:
                    plans[p].equity = equity
                nav += equity
            nav += vault.reserve + vault.cushion
            if nav < vault.nav_low:
                _note_lows(vault, nav)
            if row < 0:
                continue
            if nav >= vault.peak and vault.reserve + vault.cushion > vault.wall:
                ratchet(vault, vault_limits[v].keep, tape, bar, nav)
            capital, multiplier, rounds, settled = capital_at_risk(vault, nav), 1.0, 0, True
            while rounds == 0 or (rounds == 1 and multiplier < 1.0):
                gross, settled = 0.0, True
                for p in range(vault.first, vault.last):
                    position, s = positions[p], positions[p].symbol
                    gross += plan_position(
                        position, limits[p], instruments[s], bars[bar, s], proposals[row, p], capital, multiplier,
                        plans[p],
                    )  # fmt: skip
                    plans[p].settled = _is_settled(position, limits[p], plans[p])
                    settled = settled and plans[p].settled
                multiplier = gross_multiplier(vault_limits[v], nav, gross)
                rounds += 1
            if not settled:
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    if not plans[p].settled:
                        shrink_position(
                            vault, positions[p], limits[p], instruments[s], tape, bar, bars[bar, s], plans[p]
                        )
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    if not plans[p].settled:
                        grow_position(vault, positions[p], limits[p], instruments[s], tape, bar, bars[bar, s], plans[p])
                nav = vault.reserve + vault.cushion
                for p in range(vault.first, vault.last):
                    s = positions[p].symbol
                    nav += max(0, equity_at(positions[p], instruments[s].unit, bars[bar, s].mark_close))
            _write_state(vault, nav, states[row, v])
            if details.shape[0] > 0:
                for p in range(vault.first, vault.last):
                    symbol = positions[p].symbol
                    _write_detail(positions[p], instruments[symbol], bars[bar, symbol].mark_close, plans[p],
                                  details[row, p])  # fmt: skip
    return stop


def simulate(
    book: Book,
    limits: Limits,
    instruments: Rows,
    bars: Rows,
    decision: Ints,
    proposals: Rows,
    tape: Tape,
    series: Series,
    start: int,
    stop: int,
) -> int:
    """Step bars start .. stop - 1; returns `stop`, or the bar before which it stopped because the tape is full.

    bars (T, N) of BAR; decision (T,): the row of `proposals` (K, P) of PROPOSAL that is decided at the bar's close, or
    -1. Changes `book`, `tape` and `series`. ValueError for a tape that could not hold what one bar may bring.
    """
    room = _TRANSFERS_PER_POSITION * len(book.positions) + len(book.vaults)
    if len(tape.transfers) < room or len(tape.events) < _EVENTS_PER_POSITION * len(book.positions):
        raise ValueError(f"the tape is too small: it needs {room} transfers and "
                         f"{_EVENTS_PER_POSITION * len(book.positions)} events")  # fmt: skip
    return int(
        _run(
            book.vaults,
            book.positions,
            limits.vaults,
            limits.positions,
            instruments,
            bars,
            decision,
            proposals,
            blank_plan(len(book.positions)),
            tape,
            series.vaults,
            series.positions,
            start,
            stop,
        )
    )
