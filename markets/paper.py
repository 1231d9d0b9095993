"""The paper exchange: isolated margin only. Funding, liquidation on the mark, fills with spread, slippage and fees, of
no more than a part of the bar's volume.

It liquidates at the worst mark of a bar before anything else sees the bar, fills where the market traded (the open, if
the bar gapped past the trigger), and never takes more than the margin: the rest is its own loss, the shortfall. The
compiled loop calls its three rules; `PaperVenue` speaks the verbs of a venue over the very same ones.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ringfence.markets.venue import Order, Report, ReportKind
from ringfence.risk.book import Rows
from ringfence.risk.compiled import inlined
from ringfence.risk.exposure import (
    LOTS_MAX,
    fee,
    funding_payment,
    liquidation_price,
    market_price,
    risk_at,
    traded_value,
)

__all__ = ["PaperVenue", "fill", "fund", "liquidate"]


@inlined
def fill(order: Order, limit: Any, instrument: Any, prices: Any, filled: int) -> Report:
    """An order at the market fills at the bar's close, half the spread and the slippage against it, as far as the
    position's part of the bar's volume goes, of which `filled` lots are used up. A report of no lots: none is left."""
    lots = min(abs(order.lots), max(0, _fillable(limit, instrument, prices) - filled))
    lots = lots if order.lots > 0 else -lots
    price = market_price(limit, prices.close, order.lots)
    due = fee(traded_value(instrument, lots, price), limit.taker_fee)
    return Report(ReportKind.fill, order.position, lots, price, prices.mark_close, due, 0)


@inlined
def _fillable(limit: Any, instrument: Any, prices: Any) -> int:
    """Lots that one position may fill in a bar: a part of the bar's volume, where that is known."""
    if prices.volume == np.inf:
        return 1 << 61
    each = instrument.unit / prices.close if instrument.inverse else float(instrument.unit)
    return int(min(limit.volume_share * (prices.volume * instrument.scale / each), LOTS_MAX))


@inlined
def fund(position: Any, instrument: Any, prices: Any, rate: float) -> Report:
    """-side * notional * rate at the bar's open mark on what is held at the stamp, rounded against the position."""
    amount = funding_payment(position, instrument, prices.mark_open, rate)
    return Report(ReportKind.funding, position.index, 0, rate, prices.mark_open, 0, amount)


@inlined
def liquidate(position: Any, limit: Any, instrument: Any, prices: Any) -> Report:
    """Close the position whole if its equity at the bar's worst mark is below maintenance; else a report of no lots.

    Fill: the open if the bar gapped past the trigger, the trigger if the market traded there, else the worst traded
    price (a mark that ran ahead of the trades).
    """
    long = position.quantity > 0
    worst = prices.mark_low if long else prices.mark_high
    risk = risk_at(position, instrument, worst)
    if risk.equity >= risk.maintenance:
        return Report(ReportKind.liquidation, position.index, 0, 0.0, worst, 0, 0)
    trigger, lots = liquidation_price(position, instrument), -position.quantity
    price = min(prices.open, max(prices.low, trigger)) if long else max(prices.open, min(prices.high, trigger))
    filled = market_price(limit, price, lots)
    due = fee(traded_value(instrument, lots, filled), limit.liquidation_fee)
    return Report(ReportKind.liquidation, position.index, lots, filled, worst, due, 0)


class PaperVenue:
    """The five verbs, over the positions of a book: whoever settles a report changes what the next portion sees."""

    def __init__(self, positions: Rows, limits: Rows, listing: Rows) -> None:
        """(P,) of POSITION; (P,) of POSITION_LIMITS, for spread, slippage and fees; (N,) of INSTRUMENT."""
        self._positions, self._limits, self._listing = positions, limits, listing
        self._open: dict[int, Order] = {}
        self._given = 0
        self._due: list[Callable[[], list[Report]]] = []

    def trade(self, bars: Rows, stamps: Rows) -> None:
        """Let the market trade one bar, (N,) of BAR with its (F,) STAMPs: funding, then liquidations; orders fill at
        its close."""
        self._bars, self._stamps, self._filled = bars, stamps, Counter[int]()
        most = max((int(prices.stamps_to - prices.stamps_from) for prices in bars), default=0)
        self._due = [*(partial(self._fundings, n) for n in range(most)), self._liquidations]

    def place(self, order: Order) -> int:
        self._given += 1
        self._open[self._given] = order
        return self._given

    def cancel(self, number: int) -> bool:
        return self._open.pop(number, None) is not None

    def orders(self) -> tuple[Order, ...]:
        return tuple(self._open.values())

    def positions(self) -> Rows:
        return self._positions

    def reports(self) -> list[Report]:
        found: list[Report] = []
        while self._due and not found:
            found = self._due.pop(0)()
        return found or self._fills()

    def _held(self, position: Any) -> tuple[Any, Any, Any, Any]:
        """A position with its limits, its instrument and its prices."""
        symbol = position.symbol
        return position, self._limits[position.index], self._listing[symbol], self._bars[symbol]

    def _fundings(self, n: int) -> list[Report]:
        """Of the n-th stamp of each symbol's bar: a payment is on what the ones before it have left."""
        held = [self._held(position) for position in self._positions if position.quantity]
        return [
            fund(position, instrument, prices, self._stamps[prices.stamps_from + n].rate)
            for position, _, instrument, prices in held
            if prices.stamps_from + n < prices.stamps_to
        ]

    def _liquidations(self) -> list[Report]:
        held = [self._held(position) for position in self._positions if position.quantity]
        return [report for rows in held if rows[-1].valid and (report := liquidate(*rows)).lots]

    def _fills(self) -> list[Report]:
        """Orders of symbols that did not trade in the bar stay open; what the volume does not bear of others lapses."""
        found = []
        for number, order in list(self._open.items()):
            _, limit, instrument, prices = self._held(self._positions[order.position])
            if prices.valid:
                report = fill(self._open.pop(number), limit, instrument, prices, self._filled[order.position])
                self._filled[order.position] += abs(report.lots)
                found.append(report)
        return found
