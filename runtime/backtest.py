"""The back-test: the compiled loop over all bars at once, without a database."""

from collections.abc import Mapping

import numpy as np

from ringfence.markets.instruments import currency_decimals
from ringfence.markets.market import Market
from ringfence.markets.simulator import Record, Series, blank_series, simulate
from ringfence.markets.slots import Slots
from ringfence.risk.book import Book, Rows, Terms, empty_book
from ringfence.risk.edges import OF_POSITIONS, AccountKind
from ringfence.risk.events import Event
from ringfence.risk.tape import blank_tape, read_events, rewind
from ringfence.risk.wall import wall_series
from ringfence.runtime.runs import PositionRun, VaultRun, liquidation_distance
from ringfence.runtime.setup import Setup
from ringfence.vaults.mandate.terms import MILLION
from ringfence.vaults.shares import State, split_deposit

__all__ = ["backtest"]

_TAPE = 1 << 14


def backtest(setup: Setup, market: Market, deposits: Mapping[str, int]) -> VaultRun:
    """Run a mandate over a market whose columns are its symbols; `deposits` are minor units by holder, taken before the
    first bar. Bars after the last complete slot belong to no decision yet and are left out."""
    slots = Slots(market, setup.mandate.timeframe)
    proposals = setup.propose_all(slots)
    book = _funded(setup, deposits)
    series = blank_series(len(slots), 1, len(setup.names))
    terms, walk = Terms(setup.limits, setup.listing), slots.walk(proposals)
    tape, events, bar = blank_tape(_TAPE, _TAPE // 2), list[Event](), 0
    last = slots.span(len(slots) - 1)[1] if len(slots) else 0
    while bar < last:
        bar = simulate(book, terms, walk, Record(tape, series), (bar, last))
        events += read_events(tape, 0, 0)
        rewind(tape)
    return _described(setup, slots, book, series, proposals, events)


def _funded(setup: Setup, deposits: Mapping[str, int]) -> Book:
    state = State(0, 0, 0, 0, 0, 0)
    for amount in deposits.values():
        state = split_deposit(state, amount, MILLION - setup.mandate.loss_cap).state
    book = empty_book(range(len(setup.names)))
    vault = book.vaults[0]
    vault.reserve, vault.cushion, vault.shares = state.reserve, state.cushion, state.shares
    vault.high_water_mark, vault.world = state.high_water_mark, -state.cash
    return book


def _balances(setup: Setup, book: Book) -> dict[str, int]:
    vault = book.vaults[0]
    found = {kind.value: int(vault[kind.value]) for kind in AccountKind if kind not in OF_POSITIONS}
    found |= {
        f"{AccountKind.margin}:{name}": int(row.margin) for name, row in zip(setup.names, book.positions, strict=True)
    }
    return {name: balance for name, balance in sorted(found.items()) if balance}


def _described(
    setup: Setup, slots: Slots, book: Book, series: Series, proposals: Rows, events: list[Event]
) -> VaultRun:
    terms = setup.mandate
    closing = np.flatnonzero(slots.closes >= 0)
    marks = slots.market.mark_close[closing]
    positions = []
    for p, name in enumerate(setup.names):
        state, proposal = series.positions[:, p], proposals[:, p]
        undecided = ~(proposal.proposed & proposal.known)
        positions.append(
            PositionRun(
                name=name,
                symbol=setup.symbols[p],
                lot=setup.instruments[p].size,
                price=marks[:, p],
                quantity=np.ascontiguousarray(state.quantity),
                proposed=np.ma.masked_array(proposal.leverage, ~proposal.proposed),
                allowed=np.ma.masked_array(state.allowed, undecided),
                leverage=np.ma.masked_array(state.leverage, state.quantity == 0),
                effective_leverage=np.ma.masked_array(state.effective_leverage, state.quantity == 0),
                bound=np.ascontiguousarray(state.bound),
                volatility=np.ma.masked_array(proposal.volatility, ~proposal.known),
                liquidation_distance=liquidation_distance(marks[:, p], state.liquidation_price),
            )
        )
    vault, shares = series.vaults[:, 0], np.full(len(slots), book.vaults[0].shares, np.int64)
    marks_high = np.ascontiguousarray(vault.high_water_mark)
    return VaultRun(
        vault=terms.name, title=terms.title, currency=terms.currency, decimals=currency_decimals(terms.currency),
        loss_cap=terms.loss_cap / MILLION, mandate=terms.fingerprint, ts=slots.opens + slots.timeframe,
        nav=np.ascontiguousarray(vault.nav), wall=wall_series(marks_high, MILLION - terms.loss_cap, shares),
        shares=shares, high_water_mark=marks_high, low=vault.nav_low / np.where(shares > 0, shares, np.nan),
        locked=np.ascontiguousarray(vault.locked), struck=np.ascontiguousarray(vault.struck),
        positions=tuple(positions), events=tuple(events),
        price_low=float(book.vaults[0].price_low), distance_low=float(book.vaults[0].distance_low),
        balances=_balances(setup, book),
    )  # fmt: skip
