"""The back-test: the compiled loop over all bars at once, without a database."""

from collections.abc import Mapping

import numpy as np

from ringfence.markets.instruments import currency_decimals
from ringfence.markets.market import Market
from ringfence.markets.simulator import Record, Series, Walk, blank_series, simulate
from ringfence.markets.slots import MarketFeed
from ringfence.risk.book import Book, Floats, Rows, Terms
from ringfence.risk.edges import AccountKind
from ringfence.risk.events import Event
from ringfence.risk.tape import blank_tape, read_events, rewind
from ringfence.risk.wall import wall_series
from ringfence.runtime.runs import PositionRun, VaultRun
from ringfence.runtime.setup import Compiled
from ringfence.vaults.mandate.terms import MILLION
from ringfence.vaults.shares import State, split_deposit

__all__ = ["backtest", "liquidation_distance"]

_TAPE = 1 << 14


def backtest(compiled: Compiled, market: Market, deposits: Mapping[str, int]) -> VaultRun:
    """Run a mandate over a market whose columns are its symbols; `deposits` are minor units by holder, taken before the
    first bar. Bars after the last complete slot belong to no decision yet and are left out."""
    feed = MarketFeed(market, compiled.mandate.timeframe)
    proposals = compiled.decide_all(feed)
    book = _funded(compiled, deposits)
    series = blank_series(len(feed.slots), 1, len(compiled.names))
    terms, walk = Terms(compiled.limits, compiled.listing), Walk(feed.rows, feed.slot, proposals)
    tape, events, bar = blank_tape(_TAPE, _TAPE // 2), list[Event](), 0
    last = feed.span(len(feed.slots) - 1)[1] if len(feed.slots) else 0
    while bar < last:
        bar = simulate(book, terms, walk, Record(tape, series), (bar, last))
        events += read_events(tape, market.ts, 0, 0)
        rewind(tape)
    return _described(compiled, feed, book, series, proposals, events)


def _funded(compiled: Compiled, deposits: Mapping[str, int]) -> Book:
    state = State(0, 0, 0, 0, 0, 0)
    for amount in deposits.values():
        state = split_deposit(state, amount, MILLION - compiled.mandate.loss_cap).state
    book = compiled.book()
    one = book.vaults[0]
    one.reserve, one.cushion, one.shares = state.reserve, state.cushion, state.shares
    one.high_water_mark, one.world = state.high_water_mark, -state.cash
    return book


def _balances(compiled: Compiled, book: Book) -> dict[str, int]:
    one = book.vaults[0]
    found = {kind.value: int(one[kind.value]) for kind in AccountKind if kind is not AccountKind.margin}
    found |= {
        f"{AccountKind.margin}:{name}": int(row.margin)
        for name, row in zip(compiled.names, book.positions, strict=True)
    }
    return {name: balance for name, balance in sorted(found.items()) if balance}


def liquidation_distance(mark: Floats, price: Floats) -> np.ma.MaskedArray:
    """|mark - liquidation price| / mark, masked where the liquidation price is 0.0 (none)."""
    return np.ma.masked_array(np.abs(mark - price) / mark, price == 0.0)


def _described(
    compiled: Compiled, feed: MarketFeed, book: Book, series: Series, proposals: Rows, events: list[Event]
) -> VaultRun:
    terms = compiled.mandate
    closing = np.flatnonzero(feed.slot >= 0)
    marks = feed.market.mark_close[closing]
    positions = []
    for p, name in enumerate(compiled.names):
        state, proposal = series.positions[:, p], proposals[:, p]
        undecided = ~(proposal.proposed & proposal.known)
        positions.append(
            PositionRun(
                name=name,
                symbol=compiled.symbols[p],
                price=marks[:, p],
                quantity=np.ascontiguousarray(state.quantity),
                proposed=np.ma.masked_array(proposal.leverage, ~proposal.proposed),
                allowed=np.ma.masked_array(state.allowed, undecided),
                leverage=np.ma.masked_array(state.leverage, state.quantity == 0),
                bound=np.ascontiguousarray(state.bound),
                volatility=np.ma.masked_array(proposal.volatility, ~proposal.known),
                liquidation_distance=liquidation_distance(marks[:, p], state.liquidation_price),
            )
        )
    vault, shares = series.vaults[:, 0], int(book.vaults[0].shares)
    marks_high = np.ascontiguousarray(vault.high_water_mark)
    return VaultRun(
        vault=terms.name, title=terms.title, currency=terms.currency, decimals=currency_decimals(terms.currency),
        loss_cap=terms.loss_cap / MILLION, mandate=terms.fingerprint, ts=feed.slots + feed.timeframe,
        nav=np.ascontiguousarray(vault.nav), wall=wall_series(marks_high, MILLION - terms.loss_cap, shares),
        shares=np.full(len(marks_high), shares, np.int64), high_water_mark=marks_high,
        positions=tuple(positions), events=tuple(events),
        price_low=float(book.vaults[0].price_low), distance_low=float(book.vaults[0].distance_low),
        balances=_balances(compiled, book),
    )  # fmt: skip
