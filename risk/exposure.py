"""Exposure: what an isolated position is worth, what its venue demands for it and where it is liquidated.

One engine for what is and for what would be: whatever takes a `position` here takes a row of POSITION, or a `Holding`
that a caller changed; `instrument` is a row of INSTRUMENT. Linear contracts settle in the quote, inverse ones in the
base coin: a branch in values, profit, leverage and root. Only these, `risk_at` and `liquidation_level` know what a
position holds, so that an option's legs can come behind them.

Units: quantities int lots, prices float64 > 0, money int minor units, rates parts per million. A position's `cost` is
the exact sum that its open lots were bought or sold for (inverse: the coin that they were worth), never a rounded
average price. Roundings are in the names or said, and always against the position. Exact while lots x unit and every
value stay below 2**53 and money below 2**62.

Liquidation. With h_k(P) = margin + profit(P) - value(P) * (r_k + f) + c_k for tier k (rate r, deduction c, closing fee
f), equity less requirement is h(P) = min over k of h_k(P), because deductions that make the requirement continuous
under rising rates make it convex: it is the largest of its tiers' lines. Each h_k crosses zero at most once, rising
for a long and falling for a short. So h < 0 exactly below the *largest* root of a long and above the *smallest* root
of a short, and the tier of that root is the one that holds the notional at the liquidation price: choosing it by the
collateral or by the entry is the classic mistake, and errs on the unsafe side. From tier to tier the roots approach
that one and then leave it, because h at the tiers' floors changes its sign once.
"""

from typing import Any, NamedTuple

import numpy as np

from ringfence.risk.arithmetic import (
    MILLION,
    portion_down,
    portion_up,
    product_down,
    product_up,
    quotient_down,
    quotient_up,
    ratio_down,
)
from ringfence.risk.book import Holding
from ringfence.risk.compiled import compiled, formula, inlined

__all__ = ["LOTS_MAX", "Risk", "arm", "bankruptcy_price", "closed_part", "cost_closed", "equity_at", "fee",
           "funding_payment", "initial_margin", "leverage_of", "leverage_on", "liquidation_distance",
           "liquidation_level", "liquidation_price", "lot_value", "maintenance_margin", "market_price", "profit",
           "risk_at", "tier_of", "traded_value", "value_down", "value_up"]  # fmt: skip

LOTS_MAX = 2.0**61
"""A count of lots beyond this would not fit into an int64, and what it became there could be of either sign."""

_DIRECT = 1 << 31
"""Below this divisor a remainder times the multiplier fits into 62 bits."""
_ROUNDING = 4
"""Minor units by which the integer roundings can move a trigger."""
_HAIR, _CALL_HAIR = 1e-12, 1e-5
"""Fractions of the price; a margin call's multiple is rounded to parts per million in each tier."""


# Value and profit


@inlined
def value_down(instrument: Any, lots: int, price: float) -> int:
    """The floor of what `lots` >= 0 are worth, minor units: linear lots * unit * price, inverse lots * unit / price."""
    if instrument.inverse:
        return quotient_down(lots * instrument.unit, price)
    return product_down(lots * instrument.unit, price)


@inlined
def value_up(instrument: Any, lots: int, price: float) -> int:
    """The ceiling of what `lots` >= 0 are worth, minor units; see `value_down`."""
    if instrument.inverse:
        return quotient_up(lots * instrument.unit, price)
    return product_up(lots * instrument.unit, price)


@inlined
def traded_value(instrument: Any, lots: int, price: float) -> int:
    """What signed `lots` are bought (+) or sold (-) for, minor units, rounded against who trades them: a buyer of a
    linear contract owes the value, a buyer of an inverse one receives it."""
    if (lots > 0) != instrument.inverse:
        return value_up(instrument, abs(lots), price)
    return value_down(instrument, abs(lots), price)


@inlined
def lot_value(instrument: Any, price: float) -> float:
    """What one lot is worth, minor units, unrounded."""
    return float(instrument.unit) / price if instrument.inverse else float(instrument.unit) * price


@inlined
def profit(position: Any, instrument: Any, price: float) -> int:
    """Open profit of a position that is not flat, minor units, rounded down: value less cost of a linear long, the
    opposite of a linear short and of an inverse long, which is short of coin."""
    long, size, cost = position.quantity > 0, abs(position.quantity) * instrument.unit, position.cost
    # spelled out, because this runs on every bar: asked first, the kind of contract costs a branch and nothing else
    if instrument.inverse:
        return cost - quotient_up(size, price) if long else quotient_down(size, price) - cost
    return product_down(size, price) - cost if long else cost - product_up(size, price)


@inlined
def equity_at(position: Any, instrument: Any, price: float) -> int:
    """margin + open profit at `price`, minor units, rounded down: what stands in the position, and all that it can
    still lose. Negative past the bankruptcy price."""
    if position.quantity == 0:
        return position.margin
    return position.margin + profit(position, instrument, price)


@formula
def cost_closed(cost: int, closed: int, quantity: int) -> int:
    """floor(cost * closed / quantity): the part of the cost basis that `closed` of `quantity` lots take with them.

    Exact for 0 <= cost < 2**62 and 0 <= closed <= quantity < 2**62, quantity > 0. What stays open keeps the rest, so
    the parts of a sequence of closes sum to the whole cost.
    """
    each = cost // quantity
    rest = cost - each * quantity
    if quantity < _DIRECT:
        return each * closed + rest * closed // quantity
    part: int = ratio_down(rest, closed, quantity)
    return each * closed + part


@inlined
def closed_part(position: Any, lots: int) -> Holding:
    """The part of a position that closing `lots` of it takes away, with its part of the cost and without margin: its
    `profit` at the price of the close is what is realised, before fees."""
    basis = cost_closed(position.cost, lots, abs(position.quantity))
    return Holding(lots if position.quantity > 0 else -lots, basis, 0)


@inlined
def leverage_of(position: Any, instrument: Any, price: float) -> float:
    """Signed notional / equity at a price; 0.0 when flat or when no equity is left."""
    equity = equity_at(position, instrument, price)
    return 0.0 if position.quantity == 0 or equity <= 0 else leverage_on(position, instrument, price, equity)


@inlined
def leverage_on(position: Any, instrument: Any, price: float, amount: int) -> float:
    """Signed notional at a price over `amount` > 0, minor units."""
    size = float(position.quantity) * float(instrument.unit)
    return (size / price if instrument.inverse else size * price) / float(amount)


# What the venue charges and pays


@formula
def fee(notional: int, rate: int) -> int:
    """ceil(notional * rate / 10**6), minor units."""
    charge: int = portion_up(notional, rate)
    return charge


@inlined
def market_price(limit: Any, price: float, lots: int) -> float:
    """Where an order at the market is expected to fill around `price`: half the spread and the slippage against it,
    above for a purchase (`lots` > 0) and below for a sale."""
    if lots > 0:
        return price * (1.0 + limit.half_spread + limit.slippage)
    return price * (1.0 - limit.half_spread - limit.slippage)


@inlined
def funding_payment(position: Any, instrument: Any, price: float, rate: float) -> int:
    """What funding adds to the margin, -side * value * rate, minor units: < 0 is paid.

    A long pays while the rate (a fraction, float64) is positive. Paid: ceil(ceil(value) * |rate|); received:
    floor(floor(value) * |rate|); each rounding exact.
    """
    lots = abs(position.quantity)
    if (rate if position.quantity > 0 else -rate) > 0.0:
        return -product_up(value_up(instrument, lots, price), abs(rate))
    return product_down(value_down(instrument, lots, price), abs(rate))


# Margin


class Risk(NamedTuple):
    """What stands in a position at a mark, and what its venue demands to open it and to keep it. Minor units."""

    equity: int
    initial: int
    maintenance: int


@inlined
def tier_of(instrument: Any, notional: float) -> int:
    """The tier that holds `notional`: the last whose floor is at or below it."""
    tier = 0
    while tier + 1 < instrument.tiers and instrument.tier[tier + 1].floor <= notional:
        tier += 1
    return tier


@inlined
def initial_margin(notional: int, leverage: float) -> int:
    """ceil(notional / leverage), exact, minor units; leverage > 0, and without a bound (inf) nothing is asked."""
    return 0 if leverage == np.inf else quotient_up(notional, leverage)


@inlined
def maintenance_margin(instrument: Any, notional: int) -> int:
    """The largest of ceil(notional * rate / 10**6) - deduction over the tiers that begin at or below the notional, in
    minor units. Continuous rising tiers are convex, so that is the tier which holds it."""
    required = 0
    for k in range(instrument.tiers):
        tier = instrument.tier[k]
        if tier.floor > notional:
            break
        required = max(required, portion_up(notional, tier.rate) - tier.deduction)
    return required


@inlined
def risk_at(position: Any, instrument: Any, price: float) -> Risk:
    """Equity at `price`, and initial and maintenance margin on the notional there, rounded up; not of a flat one."""
    notional = value_up(instrument, abs(position.quantity), price)
    highest = instrument.tier[tier_of(instrument, float(notional))].leverage_max
    return Risk(
        equity_at(position, instrument, price),
        initial_margin(notional, highest),
        maintenance_margin(instrument, notional),
    )


# Liquidation and bankruptcy


@inlined
def _root(position: Any, instrument: Any, standing: int, rate: int) -> float:
    """Where equity meets one tier's line: linear (s*cost - m) / (q*unit * (s - r)), inverse q*unit * (s + r) / (m +
    s*cost), with m = `standing`, margin and deduction. Float64, relative error below 1e-15.

    A linear long that no positive price brings there (m >= cost) gives 0.0, an inverse short likewise inf.
    """
    size, cost = float(abs(position.quantity) * instrument.unit), position.cost
    if (position.quantity > 0) == instrument.inverse:
        owed, kept = float(cost + standing), float(MILLION + rate) / MILLION
        return size * kept / owed if instrument.inverse else owed / (size * kept)
    if cost - standing <= 0:
        return np.inf if instrument.inverse else 0.0
    owed, kept = float(cost - standing), float(MILLION - rate) / MILLION
    return size * kept / owed if instrument.inverse else owed / (size * kept)


@inlined
def liquidation_level(position: Any, instrument: Any, multiple: int, closing_fee: int) -> float:
    """The mark at which equity = multiple / 10**6 x maintenance + closing fee, for a position that is not flat: the
    highest of the tiers' roots for a long, the lowest for a short. Where none is: 0.0 of a long, inf of a short.

    A multiple rounds each tier towards an earlier trigger. `closing_fee` is what the venue counts for closing, parts
    per million, else 0. Where what is asked for grows faster than the value, no price is out of reach.
    """
    long = position.quantity > 0
    best = 0.0 if long else np.inf
    for k in range(instrument.tiers):
        tier = instrument.tier[k]
        rate = portion_up(tier.rate, multiple) + closing_fee
        if rate >= MILLION and long != instrument.inverse:
            return np.inf if long else 0.0
        root = _root(position, instrument, position.margin + portion_down(tier.deduction, multiple), rate)
        if k > 0 and (root < best if long else root > best):
            break
        best = max(best, root) if long else min(best, root)
    return max(0.0, best)


@inlined
def liquidation_price(position: Any, instrument: Any, closing_fee: int = 0) -> float:
    """The mark at which the position falls to its maintenance margin; 0.0 when there is none."""
    if position.quantity == 0:
        return 0.0
    level = liquidation_level(position, instrument, MILLION, closing_fee)
    return level if level < np.inf else 0.0


@inlined
def bankruptcy_price(position: Any, instrument: Any, closing_fee: int = 0) -> float:
    """Where the equity, less the closing fee if one counts, is 0; 0.0 when there is no such price."""
    if position.quantity == 0:
        return 0.0
    level = _root(position, instrument, position.margin, closing_fee)
    return level if level < np.inf else 0.0


@compiled
def arm(position: Any, limit: Any, instrument: Any) -> None:
    """Set the watches of a position that has changed.

    A watch is a price at which a position needs a closer look. It lies a hair on the safe side of the exact trigger, so
    that a bar which does not touch it needs no arithmetic, and one which does is decided in integers.
    """
    if position.quantity == 0:
        position.liquidation_watch = position.call_watch = 0.0
        return
    side = 1.0 if position.quantity > 0 else -1.0
    early = Holding(position.quantity, position.cost, position.margin - _ROUNDING)
    position.liquidation_watch = liquidation_level(early, instrument, MILLION, 0) * (1.0 + side * _HAIR)
    early = Holding(position.quantity, position.cost, position.margin - 2 * _ROUNDING)
    position.call_watch = liquidation_level(early, instrument, limit.call_at, 0) * (1.0 + side * _CALL_HAIR)


# Sizing


@formula
def liquidation_distance(rate: int, volatility: float, sigmas: float, slippage: float) -> float:
    """How far away liquidation shall stand, a fraction of the price: r + k*sigma*sqrt(h) + slippage.

    `rate` parts per million, `volatility` per year, `sigmas` = k * sqrt(h) with the horizon h in years. The leverage
    that stands just there is its reciprocal: a long's distance is (1/L - r) / (1 - r), a short's (1/L - r) / (1 + r),
    so a short stands nearer by a factor of 1 + r.
    """
    return rate / MILLION + sigmas * volatility + slippage
