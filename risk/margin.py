"""Margin formulas of an isolated position, linear (settled in the quote) and inverse (settled in the base coin).

Units: `quantity` int lots > 0 (absolute; `side` is +1 long, -1 short), `unit` int minor units that one lot is worth at
a price of 1 (inverse: one lot's value in the quote, scaled by the coin's decimals), `price` float64 > 0, money int
minor units, rates in parts per million. `cost` is the exact sum that the open lots were bought or sold for (inverse:
the coin that they were worth), never a rounded average price. Roundings are in the names or said, and always against
the position. Exact while quantity * unit and every value stay below 2**53 and money below 2**62.

Liquidation. With h_k(P) = margin + profit(P) - value(P) * (r_k + f) + c_k for tier k (rate r, deduction c, closing fee
f), equity less requirement is h(P) = min over k of h_k(P), because deductions that make the requirement continuous
under rising rates make it convex: it is the largest of its tiers' lines. Each h_k crosses zero at most once, rising
for a long and falling for a short. So h < 0 exactly below the *largest* root of a long and above the *smallest* root
of a short, and the tier of that root is the one that holds the notional at the liquidation price: choosing it by the
collateral or by the entry is the classic mistake, and errs on the unsafe side. Rates and fee together stay below 10**6.
"""

import math
from collections.abc import Sequence

import numpy as np

from ringfence.risk.arithmetic import MILLION, portion_up, product_down, product_up
from ringfence.risk.book import Ints
from ringfence.risk.compiled import compiled, formula
from ringfence.risk.errors import TiersRefused

__all__ = ["bankruptcy_price", "bankruptcy_price_inverse", "cost_closed", "equity", "fee", "funding_payment",
           "funding_payment_inverse", "initial_margin", "liquidation_distance",
           "liquidation_level", "liquidation_level_inverse", "liquidation_price", "liquidation_price_inverse",
           "liquidation_root", "liquidation_root_inverse", "maintenance_margin", "maintenance_requirement",
           "notional_down", "notional_inverse_down", "notional_inverse_up", "notional_up", "profit", "profit_inverse",
           "realised_profit", "realised_profit_inverse", "tier_deductions", "tier_index"]  # fmt: skip

_DIRECT = 1 << 31
"""Below this divisor a remainder times the multiplier fits into 62 bits."""


# Exact quotients


@formula
def _quotient_down(amount: int, price: float) -> int:
    """floor(amount / price), exact; amount and the result below 2**53.

    The rounded quotient never falls on the wrong side of an integer, it only ever lands on one: so one exact product
    settles it.
    """
    whole = math.floor(float(amount) / price)
    if product_up(whole, price) > amount:
        return whole - 1
    return whole


@formula
def _quotient_up(amount: int, price: float) -> int:
    """ceil(amount / price), exact; amount and the result below 2**53."""
    whole = math.ceil(float(amount) / price)
    if product_down(whole, price) < amount:
        return whole + 1
    return whole


@formula
def _ratio_down(amount: int, part: int, whole: int) -> int:
    """floor(amount * part / whole) for amount < whole < 2**62 and part <= whole: long division, bit by bit."""
    quotient = 0
    rest = 0
    for bit in range(61, -1, -1):
        quotient *= 2
        rest *= 2
        if rest >= whole:
            rest -= whole
            quotient += 1
        if (part >> bit) & 1:
            rest += amount
            if rest >= whole:
                rest -= whole
                quotient += 1
    return quotient


# Value and margin


@formula
def notional_down(quantity: int, unit: int, price: float) -> int:
    """floor(quantity * unit * price): the linear value that a seller may count on. Minor units."""
    value: int = product_down(quantity * unit, price)
    return value


@formula
def notional_up(quantity: int, unit: int, price: float) -> int:
    """ceil(quantity * unit * price): the linear value that a buyer owes. Minor units."""
    value: int = product_up(quantity * unit, price)
    return value


@formula
def notional_inverse_down(quantity: int, unit: int, price: float) -> int:
    """floor(quantity * unit / price): the inverse value in minor units of the coin."""
    value: int = _quotient_down(quantity * unit, price)
    return value


@formula
def notional_inverse_up(quantity: int, unit: int, price: float) -> int:
    """ceil(quantity * unit / price): the inverse value in minor units of the coin."""
    value: int = _quotient_up(quantity * unit, price)
    return value


@formula
def profit(side: int, quantity: int, unit: int, price: float, cost: int) -> int:
    """Open profit of a linear position: long floor(value) - cost, short cost - ceil(value). Minor units."""
    value: int = product_down(quantity * unit, price) if side > 0 else product_up(quantity * unit, price)
    return value - cost if side > 0 else cost - value


@formula
def profit_inverse(side: int, quantity: int, unit: int, price: float, cost: int) -> int:
    """Open profit of an inverse position: long cost - ceil(value), short floor(value) - cost. Minor units of the coin.

    A long of the quote price is short of coin: what it was worth at the entry less what it is worth now.
    """
    value: int = _quotient_up(quantity * unit, price) if side > 0 else _quotient_down(quantity * unit, price)
    return cost - value if side > 0 else value - cost


@formula
def equity(margin: int, open_profit: int) -> int:
    """margin + open profit, minor units: what stands in the position, and all that it can still lose."""
    return margin + open_profit


@formula
def fee(notional: int, rate: int) -> int:
    """ceil(notional * rate / 10**6), minor units."""
    charge: int = portion_up(notional, rate)
    return charge


@formula
def initial_margin(notional: int, leverage: float) -> int:
    """ceil(notional / leverage), exact, minor units; leverage > 0."""
    margin: int = _quotient_up(notional, leverage)
    return margin


@formula
def maintenance_margin(notional: int, rate: int, deduction: int) -> int:
    """ceil(notional * rate / 10**6) - deduction for one tier; the requirement is the largest over all tiers."""
    line: int = portion_up(notional, rate)
    return line - deduction


# Tiers


@compiled
def maintenance_requirement(notional: int, rates: Ints, deductions: Ints) -> int:
    """The largest of the tiers' maintenance margins, which is that of the tier that holds `notional`. Minor units.

    `rates` and `deductions` are (K,); a table that repeats its last tier gives the same.
    """
    largest: int = maintenance_margin(notional, rates[0], deductions[0])
    for k in range(1, len(rates)):
        largest = max(largest, maintenance_margin(notional, rates[k], deductions[k]))
    return largest


@compiled
def tier_index(notional: int, floors: Ints) -> int:
    """The last tier whose floor is at or below `notional`; `floors` (K,) starts at 0 and never falls."""
    index = 0
    while index + 1 < len(floors) and floors[index + 1] <= notional:
        index += 1
    return index


def tier_deductions(floors: Sequence[int], rates: Sequence[int]) -> tuple[int, ...]:
    """The deductions that make maintenance continuous: c_0 = 0, c_k = c_(k-1) + floor_k * (r_k - r_(k-1)) / 10**6.

    Summed exactly, then rounded down to whole minor units (no rounding where floors are whole units of a currency with
    six decimals). Refused: tables that do not start at 0 or in which floors or rates do not rise, since only rising
    tables make the requirement the largest of its lines.
    """
    if len(floors) != len(rates) or not floors or floors[0] != 0:
        raise TiersRefused(tuple(floors), tuple(rates), "one rate a floor, from 0 up")
    exact = 0
    deductions = [0]
    for k in range(1, len(floors)):
        if floors[k] <= floors[k - 1] or rates[k] <= rates[k - 1]:
            expected = "both to rise; sort the table by floor and merge tiers of one rate"
            raise TiersRefused(tuple(floors[k - 1 : k + 1]), tuple(rates[k - 1 : k + 1]), expected, k)
        exact += floors[k] * (rates[k] - rates[k - 1])
        deductions.append(exact // MILLION)
    return tuple(deductions)


# Liquidation and bankruptcy


@formula
def liquidation_root(
    side: int, quantity: int, unit: int, cost: int, margin: int, rate: int, deduction: int, closing_fee: int
) -> float:
    """Where equity meets the maintenance line of one tier, linear: (s*cost - M - c) / (q*unit * (s - r - f)).

    `closing_fee` is what the venue counts for closing, parts per million, else 0. A long that no positive price brings
    there (M + c >= cost) gives -inf, "cannot be reached". Float64, relative error below 1e-15.
    """
    if side > 0:
        if cost - margin - deduction <= 0:
            return -math.inf
        return float(cost - margin - deduction) / (
            float(quantity * unit) * (float(MILLION - rate - closing_fee) / MILLION)
        )
    return float(cost + margin + deduction) / (float(quantity * unit) * (float(MILLION + rate + closing_fee) / MILLION))


@formula
def liquidation_root_inverse(
    side: int, quantity: int, unit: int, cost: int, margin: int, rate: int, deduction: int, closing_fee: int
) -> float:
    """Where equity meets the maintenance line of one tier, inverse: q*unit * (s + r + f) / (M + c + s*cost).

    A short that no price brings there, however high (M + c >= cost), gives +inf, "cannot be reached".
    """
    if side > 0:
        return (
            float(quantity * unit) * (float(MILLION + rate + closing_fee) / MILLION) / float(cost + margin + deduction)
        )
    if cost - margin - deduction <= 0:
        return math.inf
    return float(quantity * unit) * (float(MILLION - rate - closing_fee) / MILLION) / float(cost - margin - deduction)


@compiled
def liquidation_level(
    side: int, quantity: int, unit: int, cost: int, margin: int, rates: Ints, deductions: Ints, closing_fee: int
) -> float:
    """The linear liquidation price over all tiers, (K,) each: a long's largest root, a short's smallest.

    -inf where a long cannot be liquidated at any price. For compiled callers; `liquidation_price` says None instead.
    """
    level: float = liquidation_root(side, quantity, unit, cost, margin, rates[0], deductions[0], closing_fee)
    for k in range(1, len(rates)):
        root = liquidation_root(side, quantity, unit, cost, margin, rates[k], deductions[k], closing_fee)
        level = max(level, root) if side > 0 else min(level, root)
    return level


@compiled
def liquidation_level_inverse(
    side: int, quantity: int, unit: int, cost: int, margin: int, rates: Ints, deductions: Ints, closing_fee: int
) -> float:
    """The inverse liquidation price over all tiers, (K,) each: a long's largest root, a short's smallest.

    +inf where a short cannot be liquidated at any price.
    """
    level: float = liquidation_root_inverse(side, quantity, unit, cost, margin, rates[0], deductions[0], closing_fee)
    for k in range(1, len(rates)):
        root = liquidation_root_inverse(side, quantity, unit, cost, margin, rates[k], deductions[k], closing_fee)
        level = max(level, root) if side > 0 else min(level, root)
    return level


def liquidation_price(
    side: int,
    quantity: int,
    unit: int,
    cost: int,
    margin: int,
    rates: Sequence[int],
    deductions: Sequence[int],
    closing_fee: int = 0,
) -> float | None:
    """The mark at which a linear position falls to its maintenance requirement; None if no positive price does."""
    tiers = np.asarray(rates, np.int64), np.asarray(deductions, np.int64)
    level = float(liquidation_level(side, quantity, unit, cost, margin, *tiers, closing_fee))
    return level if math.isfinite(level) else None


def liquidation_price_inverse(
    side: int,
    quantity: int,
    unit: int,
    cost: int,
    margin: int,
    rates: Sequence[int],
    deductions: Sequence[int],
    closing_fee: int = 0,
) -> float | None:
    """The mark at which an inverse position falls to its maintenance requirement; None if no price does."""
    tiers = np.asarray(rates, np.int64), np.asarray(deductions, np.int64)
    level = float(liquidation_level_inverse(side, quantity, unit, cost, margin, *tiers, closing_fee))
    return level if math.isfinite(level) else None


@formula
def bankruptcy_price(side: int, quantity: int, unit: int, cost: int, margin: int, closing_fee: int) -> float:
    """Where a linear position's equity, less the closing fee if one counts, is 0; -inf where a long's never is."""
    price: float = liquidation_root(side, quantity, unit, cost, margin, 0, 0, closing_fee)
    return price


@formula
def bankruptcy_price_inverse(side: int, quantity: int, unit: int, cost: int, margin: int, closing_fee: int) -> float:
    """Where an inverse position's equity, less the closing fee if one counts, is 0; +inf where a short's never is."""
    price: float = liquidation_root_inverse(side, quantity, unit, cost, margin, 0, 0, closing_fee)
    return price


# Payments


@formula
def funding_payment(side: int, quantity: int, unit: int, price: float, rate: float) -> int:
    """What funding adds to the margin of a linear position, -s * value * rate, in minor units: < 0 is paid.

    A long pays while the rate (a fraction, float64) is positive. Paid: ceil(ceil(value) * |rate|); received:
    floor(floor(value) * |rate|); each rounding exact.
    """
    if side * rate > 0.0:
        paid: int = product_up(product_up(quantity * unit, price), abs(rate))
        return -paid
    received: int = product_down(product_down(quantity * unit, price), abs(rate))
    return received


@formula
def funding_payment_inverse(side: int, quantity: int, unit: int, price: float, rate: float) -> int:
    """What funding adds to the margin of an inverse position, in minor units of the coin; as `funding_payment`."""
    if side * rate > 0.0:
        paid: int = product_up(_quotient_up(quantity * unit, price), abs(rate))
        return -paid
    received: int = product_down(_quotient_down(quantity * unit, price), abs(rate))
    return received


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
    part: int = _ratio_down(rest, closed, quantity)
    return each * closed + part


@formula
def realised_profit(side: int, closed: int, quantity: int, unit: int, price: float, cost: int) -> int:
    """Profit of closing `closed` of `quantity` linear lots at `price`, before fees: `profit` over their cost."""
    gain: int = profit(side, closed, unit, price, cost_closed(cost, closed, quantity))
    return gain


@formula
def realised_profit_inverse(side: int, closed: int, quantity: int, unit: int, price: float, cost: int) -> int:
    """Profit of closing `closed` of `quantity` inverse lots at `price`, before fees. Minor units of the coin."""
    gain: int = profit_inverse(side, closed, unit, price, cost_closed(cost, closed, quantity))
    return gain


# Sizing


@formula
def liquidation_distance(rate: int, volatility: float, sigmas: float, slippage: float) -> float:
    """How far away liquidation shall stand, a fraction of the price: r + k*sigma*sqrt(h) + slippage.

    `rate` parts per million, `volatility` per year, `sigmas` = k * sqrt(h) with the horizon h in years. The leverage
    that stands just there is its reciprocal: a long's distance is (1/L - r) / (1 - r), a short's (1/L - r) / (1 + r),
    so a short stands nearer by a factor of 1 + r.
    """
    return rate / MILLION + sigmas * volatility + slippage
