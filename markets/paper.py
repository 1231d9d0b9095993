"""The paper exchange: isolated margin only. Funding, liquidation on the mark, fills with spread, slippage and fees, of
no more than a part of the bar's volume.

It liquidates at the worst mark of a bar before anything else sees the bar, fills where the market traded (the open, if
the bar gapped past the trigger), and never takes more than the margin: the rest is its own loss, the shortfall. The
compiled loop and the exchange with books of its own call these three rules.
"""

from typing import Any

import numpy as np

from ringfence.risk.book import Order, Report, ReportKind
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

__all__ = ["fill", "fund", "liquidate"]


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
