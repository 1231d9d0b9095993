"""The slow, exact twin of risk.exposure and risk.arithmetic: the definitions in Fraction and unbounded integers.

Every function says what the thing *is*, by another road than the compiled formula wherever there is one: the tier is
looked up, the liquidation price is the root that lies in its own tier.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor

MILLION = 10**6
ONE_SHARE_PRICE = 2**50


def value(quantity: int, unit: int, price: float, inverse: bool = False) -> Fraction:
    """What the lots are worth in minor units, unrounded."""
    amount = Fraction(quantity * unit)
    return amount / Fraction(price) if inverse else amount * Fraction(price)


def profit(side: int, quantity: int, unit: int, price: float, cost: int, inverse: bool = False) -> int:
    """The signed exact profit, rounded towards minus infinity."""
    now = value(quantity, unit, price, inverse)
    return floor((-side if inverse else side) * (now - cost))


def initial_margin(notional: int, leverage: float) -> int:
    return ceil(notional / Fraction(leverage))


def fee(notional: int, rate: int) -> int:
    return ceil(Fraction(notional * rate, MILLION))


def tier_of(notional: Fraction | int, floors: Sequence[int]) -> int:
    """The tier that holds the notional, looked up."""
    return sum(1 for lower in floors[1:] if lower <= notional)


def deductions(floors: Sequence[int], rates: Sequence[int]) -> list[Fraction]:
    """The tax-bracket reading: what the lower brackets' cheaper rates have saved by the time a tier begins."""
    saved = []
    for k, rate in enumerate(rates):
        charged = sum((floors[j + 1] - floors[j]) * Fraction(rates[j], MILLION) for j in range(k))
        saved.append(floors[k] * Fraction(rate, MILLION) - charged)
    return saved


def maintenance(notional: Fraction | int, floors: Sequence[int], rates: Sequence[int]) -> Fraction:
    """Bracket by bracket, unrounded: no deduction appears."""
    total = Fraction(0)
    for k, rate in enumerate(rates):
        top = floors[k + 1] if k + 1 < len(floors) else notional
        total += max(Fraction(0), min(Fraction(notional), Fraction(top)) - floors[k]) * Fraction(rate, MILLION)
    return total


def root(
    side: int,
    amount: int,
    cost: int,
    margin: int,
    rate: int,
    deduction: Fraction | int,
    closing_fee: int,
    inverse: bool,
) -> Fraction | None:
    """The positive price at which equity equals one tier's maintenance line, if there is one."""
    share = Fraction(rate + closing_fee, MILLION)
    if inverse:
        below = margin + deduction + side * cost
        price = amount * (side + share) / below if below else Fraction(0)
    else:
        price = (side * cost - margin - deduction) / (amount * (side - share))
    return price if price > 0 else None


def liquidation_prices(
    side: int,
    quantity: int,
    unit: int,
    cost: int,
    margin: int,
    floors: Sequence[int],
    rates: Sequence[int],
    closing_fee: int = 0,
    inverse: bool = False,
) -> dict[int, Fraction]:
    """tier -> root, for each tier that holds the notional at its own root (two tiers share a root on a border)."""
    found = {}
    saved = deductions(floors, rates)
    for k, rate in enumerate(rates):
        price = root(side, quantity * unit, cost, margin, rate, saved[k], closing_fee, inverse)
        if price is None:
            continue
        notional = quantity * unit / price if inverse else quantity * unit * price
        upper = floors[k + 1] if k + 1 < len(floors) else None
        if floors[k] <= notional and (upper is None or notional <= upper):
            found[k] = price
    return found


def bankruptcy_price(
    side: int, quantity: int, unit: int, cost: int, margin: int, closing_fee: int = 0, inverse: bool = False
) -> Fraction | None:
    return root(side, quantity * unit, cost, margin, 0, 0, closing_fee, inverse)


def funding_payment(
    side: int, quantity: int, unit: int, price: float, rate: float, inverse: bool = False
) -> tuple[int, Fraction]:
    """(the payment with the value and the payment each rounded against the position, the unrounded payment)."""
    notional = value(quantity, unit, price, inverse)
    flow = -side * Fraction(rate)
    rounded = floor(flow * (ceil(notional) if flow < 0 else floor(notional)))
    return rounded, flow * notional


def cost_closed(cost: int, closed: int, quantity: int) -> int:
    return cost * closed // quantity


def liquidation_distance(rate: int, volatility: float, sigmas: float, slippage: float) -> Fraction:
    return Fraction(rate, MILLION) + Fraction(sigmas) * Fraction(volatility) + Fraction(slippage)


def product(amount: int, price: float) -> Fraction:
    return amount * Fraction(price)


def portion(amount: int, parts: int) -> Fraction:
    return Fraction(amount * parts, MILLION)


def scaled(price: int, shares: int) -> Fraction:
    return Fraction(price * shares, ONE_SHARE_PRICE)


def price_per_share(assets: int, shares: int) -> Fraction:
    return Fraction(assets * ONE_SHARE_PRICE, shares)
