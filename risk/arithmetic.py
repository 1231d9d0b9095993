"""Exact arithmetic on int64: products with and quotients by a float price, parts per million, 124-bit products.

Money and quantities are integers, prices are float64. Every function here returns the mathematically exact floor or
ceiling of the exact product of its arguments (a float64 *is* a rational number), so that a rounding can be named and a
twin in Python's unbounded integers can demand equality. Arguments are non-negative; the caller keeps |result| < 2**53
where a price is involved (9 billion USDT in one position) and < 2**62 elsewhere.
"""

import math

from ringfence.risk.compiled import compiled, formula

__all__ = ["MILLION", "PRICE_BITS", "portion_down", "portion_up", "price_per_share_up", "product_down",
           "product_up", "quotient_down", "quotient_up", "ratio_down", "scaled_up"]  # fmt: skip

MILLION = 1_000_000
PRICE_BITS = 50
"""A price per share is an integer with this many fractional bits (minor units per share unit x 2**50)."""

_SPLITTER = 134217729.0
_LIMB = 31
_LIMB_MASK = (1 << _LIMB) - 1
_WIDE_MASK = (1 << 62) - 1


@compiled
def _product_error(a: float, b: float, product: float) -> float:
    """a*b - fl(a*b) exactly (Dekker 1971, Veltkamp's splitting)."""
    scaled = _SPLITTER * a
    a_high = scaled - (scaled - a)
    a_low = a - a_high
    scaled = _SPLITTER * b
    b_high = scaled - (scaled - b)
    b_low = b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@formula
def product_down(amount: int, price: float) -> int:
    """floor(amount * price), exact; amount < 2**53."""
    factor = float(amount)
    product = factor * price
    whole = math.floor(product)
    if product == whole and _product_error(factor, price, product) < 0.0:
        return int(whole) - 1
    return int(whole)


@formula
def product_up(amount: int, price: float) -> int:
    """ceil(amount * price), exact; amount < 2**53."""
    factor = float(amount)
    product = factor * price
    whole = math.ceil(product)
    if product == whole and _product_error(factor, price, product) > 0.0:
        return int(whole) + 1
    return int(whole)


@formula
def quotient_down(amount: int, price: float) -> int:
    """floor(amount / price), exact; amount and the result below 2**53.

    The rounded quotient never falls on the wrong side of an integer, it only ever lands on one: so one exact product
    settles it.
    """
    whole = math.floor(float(amount) / price)
    if product_up(whole, price) > amount:
        return whole - 1
    return whole


@formula
def quotient_up(amount: int, price: float) -> int:
    """ceil(amount / price), exact; amount and the result below 2**53."""
    whole = math.ceil(float(amount) / price)
    if product_down(whole, price) < amount:
        return whole + 1
    return whole


@formula
def ratio_down(amount: int, part: int, whole: int) -> int:
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


@formula
def portion_down(amount: int, parts: int) -> int:
    """floor(amount * parts / 10**6) for parts per million; exact while the result is below 2**62."""
    millions = amount // MILLION
    return millions * parts + (amount - millions * MILLION) * parts // MILLION


@formula
def portion_up(amount: int, parts: int) -> int:
    """ceil(amount * parts / 10**6) for parts per million; exact while the result is below 2**62."""
    millions = amount // MILLION
    return millions * parts + ((amount - millions * MILLION) * parts + (MILLION - 1)) // MILLION


@compiled
def _wide_product(a: int, b: int) -> tuple[int, int]:
    """a*b as (high, low) in base 2**62, for a, b < 2**62."""
    a_high, a_low = a >> _LIMB, a & _LIMB_MASK
    b_high, b_low = b >> _LIMB, b & _LIMB_MASK
    middle = a_high * b_low + a_low * b_high
    low = ((middle & _LIMB_MASK) << _LIMB) + a_low * b_low
    return a_high * b_high + (middle >> _LIMB) + (low >> 62), low & _WIDE_MASK


@compiled
def scaled_up(price: int, shares: int) -> int:
    """ceil(price * shares / 2**PRICE_BITS): what `shares` are worth at a price per share."""
    high, low = _wide_product(price, shares)
    return (high << (62 - PRICE_BITS)) + ((low + ((1 << PRICE_BITS) - 1)) >> PRICE_BITS)


@compiled
def price_per_share_up(assets: int, shares: int) -> int:
    """ceil(assets * 2**PRICE_BITS / shares), for shares > 0 and a result of at most 2**53.

    The float quotient is within two units of it; the exact products settle which one it is.
    """
    estimate = max(0, int(float(assets) / float(shares) * float(1 << PRICE_BITS)) - 2)
    high, low = _wide_product(assets, 1 << PRICE_BITS)
    while True:
        product_high, product_low = _wide_product(estimate, shares)
        if product_high > high or (product_high == high and product_low >= low):
            return estimate
        estimate += 1
