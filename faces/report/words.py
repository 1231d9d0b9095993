"""How a report writes numbers and names causes: exact money, prices per share, percentages, times, plain words."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

from ringfence.risk.events import Bound, Event, Kind
from ringfence.vaults.entries import Happened

__all__ = ["ABSENT", "BOUND_WORDS", "KIND_WORDS", "cause", "count", "leverage", "loss_cap", "money", "per_share",
           "percent", "price", "price_decimals", "signed_money", "stamp"]  # fmt: skip

ABSENT = "–"
"""What stands where a number does not exist."""

PER_SHARE_DECIMALS = 6
SHARE_DECIMALS = 3
"""Shares have this many decimals more than the currency, so one share starts at one unit of it."""

KIND_WORDS = {
    Kind.resize: "Resize",
    Kind.collateral: "Collateral moved",
    Kind.funding: "Funding",
    Kind.margin_call: "Margin call",
    Kind.liquidation: "Liquidation",
    Kind.refusal: "Refusal",
}

BOUND_WORDS = {
    Bound.nothing: "nothing: as proposed",
    Bound.volatility: "volatility limit",
    Bound.liquidation_distance: "liquidation distance limit",
    Bound.gross_leverage: "gross leverage limit of the vault",
    Bound.leverage_max: "leverage cap of the mandate",
    Bound.venue_leverage: "leverage limit of the venue",
    Bound.cushion: "risk capital (cushion)",
    Bound.notional_min: "smallest order of the venue",
    Bound.no_proposal: "no proposal from the strategy",
    Bound.no_price: "no price",
    Bound.margin_call: "equity below the mandate's margin call",
    Bound.maintenance_margin: "equity below the venue's maintenance margin",
    Bound.band: "inside the no-trade band",
}

_UNBOUND_CAUSE = {
    Kind.resize: "proposal of the strategy",
    Kind.collateral: "share of the risk capital",
    Kind.funding: "funding time of the venue",
}

_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cause(event: Event | Happened) -> str:
    """Why an event happened, in words."""
    if event.reason == Bound.nothing:
        return _UNBOUND_CAUSE.get(event.kind, BOUND_WORDS[Bound.nothing])
    return BOUND_WORDS[event.reason]


def count(number: int) -> str:
    """A whole number with thousands separators."""
    return f"{int(number):,}"


def money(amount: int, decimals: int) -> str:
    """An amount of minor units, written exactly with all its decimals and thousands separators."""
    return f"{Decimal(int(amount)).scaleb(-decimals, _EXACT):,.{decimals}f}"


def signed_money(amount: int, decimals: int) -> str:
    """As `money`, with a plus before gains; absent when zero."""
    if amount == 0:
        return ABSENT
    return ("+" if amount > 0 else "") + money(amount, decimals)


def _rounded(value: Decimal, decimals: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-decimals), context=_EXACT):,f}"


def per_share(numerator: int, denominator: int) -> str:
    """numerator * 10**3 / denominator to six decimals, half to even: currency per share of (money, shares)."""
    if denominator == 0:
        return ABSENT
    quotient = _EXACT.divide(Decimal(int(numerator)).scaleb(SHARE_DECIMALS, _EXACT), Decimal(int(denominator)))
    return _rounded(quotient, PER_SHARE_DECIMALS)


def percent(fraction: float, decimals: int = 2) -> str:
    """A fraction as a percentage, half to even; absent when it is not finite."""
    if not math.isfinite(fraction):
        return ABSENT
    return _rounded(Decimal(repr(float(fraction))) * 100, decimals).replace("-0.00%", "0.00%") + "%"


def loss_cap(fraction: float) -> str:
    """A loss cap as a percentage with no more decimals than it has (it is exact to parts per million)."""
    written = _rounded(Decimal(repr(float(fraction))) * 100, 4)
    return written.rstrip("0").rstrip(".") + "%"


def leverage(value: float) -> str:
    """A signed multiple to two decimals; absent when it does not apply."""
    if value == 0.0 or not math.isfinite(value):
        return ABSENT
    return _rounded(Decimal(repr(float(value))), 2) + "×"


def price_decimals(prices: Iterable[float]) -> int:
    """Decimals that write the highest of these prices with six figures, two at the least."""
    highest = max((value for value in prices if math.isfinite(value) and value > 0.0), default=1.0)
    return min(max(5 - math.floor(math.log10(highest)), 2), 14)


def price(value: float, decimals: int) -> str:
    """A price with thousands separators, half to even; absent when it is zero."""
    if value == 0.0 or not math.isfinite(value):
        return ABSENT
    return _rounded(Decimal(repr(float(value))), decimals)


def stamp(ts: int) -> str:
    """UTC epoch milliseconds as a date and time, no finer than it has to be."""
    moment = _EPOCH + timedelta(milliseconds=int(ts))
    if moment.microsecond:
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")
