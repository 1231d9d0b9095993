"""Numbers as texts: how money, shares, prices, percentages and multiples are written, everywhere.

Each kind has one function. What documents hold is exact: every digit, no exponent, no separators. With `for_people` the
same number is written as a table or a report shows it: thousands apart, no more decimals than are read. Both are made
from one exact quotient of integers; a float counts as the decimal that its shortest text says. A number that does not
exist is None, and only `dashed` makes a dash of it.
"""

import math
from collections.abc import Iterable
from decimal import Context, Decimal
from typing import overload

__all__ = [
    "ABSENT",
    "SHARE_DECIMALS",
    "dashed",
    "format_amount",
    "format_count",
    "format_decimal",
    "format_fraction",
    "format_mark",
    "format_multiple",
    "format_per_share",
    "format_percentage",
    "format_ppm",
    "format_price",
    "format_share_price",
    "format_shares",
    "price_places",
    "readable",
    "shortened",
]

ABSENT = "–"
"""What people see where a number does not exist."""
SHARE_DECIMALS = 3
"""Shares have this many decimals more than the currency, so one share starts at one unit of it."""

_MARK_BITS = 50
"""Fractional bits of a stored price per share unit."""
_FRACTION_PLACES = 6
_PER_SHARE_PLACES, _PER_SHARE_PLACES_SHOWN = 12, 6
_MULTIPLE_PLACES, _MULTIPLE_PLACES_SHOWN = 4, 2
_PRICE_FIGURES, _PRICE_PLACES_MIN, _PRICE_PLACES_MAX = 6, 2, 14
_EXACT = Context(prec=400)
"""Wide enough that no shift of a float or of a readable number rounds."""


# ---------------------------------------------------------------------------------------------------- the core


def _written(units: int, places: int, *, grouped: bool = False) -> str:
    """An integer count of 10**-places as digits."""
    whole, part = divmod(abs(units), 10**places)
    digits = f"{whole:,}" if grouped else str(whole)
    return ("-" if units < 0 else "") + (f"{digits}.{part:0{places}d}" if places else digits)


def _rounded(numerator: int, denominator: int, places: int, *, nearest: bool) -> int:
    """numerator / denominator in units of 10**-places: to the nearest, half to even, or else down, towards zero."""
    divisor, scale = abs(denominator), int(10**places)
    whole, rest = divmod(abs(numerator) * scale, divisor)
    if nearest and (2 * rest > divisor or (2 * rest == divisor and whole % 2)):
        whole += 1
    return -whole if (numerator < 0) != (denominator < 0) else whole


def _decimal(number: Decimal | float) -> Decimal:
    return number if isinstance(number, Decimal) else Decimal(repr(float(number)))


def _nearest(number: Decimal | float, places: int, *, grouped: bool = False) -> str:
    numerator, denominator = _decimal(number).as_integer_ratio()
    return _written(_rounded(numerator, denominator, places, nearest=True), places, grouped=grouped)


def format_decimal(number: Decimal | float) -> str:
    """A decimal, or the one that a float's shortest text says, with all its digits: no exponent, no trailing zeros."""
    text = format(_decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def shortened(text: str, places: int) -> str:
    """A written number cut (towards zero) to `places` decimals at most."""
    whole, _, part = text.partition(".")
    return f"{whole}.{part[:places]}" if part and places else whole


def readable(text: str | None, places: int | None = 2) -> str | None:
    """A written exact number as people read it: thousands apart, `places` decimals to the nearest, half to even.

    With None all its digits stay. None for none.
    """
    if text is None:
        return None
    number = Decimal(text)
    if places is None:
        return f"{number:,f}"
    return _nearest(number, places, grouped=True)


def dashed(text: str | None) -> str:
    """The text, or a dash where the number does not exist."""
    return ABSENT if text is None else text


# ---------------------------------------------------------------------------------------------------- money, shares


def format_count(number: int) -> str:
    """A whole number with its thousands apart, for people; documents hold the number itself."""
    return f"{int(number):,}"


def format_amount(
    amount: int, decimals: int, *, for_people: bool = False, signed: bool = False, places: int | None = None
) -> str:
    """Minor units with all `decimals` places, exact: (1500250000, 6) -> `1500.250000`, for people `1,500.250000`.

    `signed` puts a plus before gains; `places` fewer than `decimals` round to the nearest, half to even.
    """
    amount = int(amount)
    if places is not None and places < decimals:
        amount, decimals = _rounded(amount, 10 ** (decimals - places), 0, nearest=True), places
    return ("+" if signed and amount > 0 else "") + _written(amount, decimals, grouped=for_people)


def format_shares(shares: int, decimals: int, *, for_people: bool = False) -> str:
    """Share units as whole shares, exact; `decimals` are the currency's."""
    return format_amount(shares, decimals + SHARE_DECIMALS, for_people=for_people)


def format_per_share(amount: int, shares: int, *, for_people: bool = False) -> str | None:
    """Minor units over share units as currency per whole share; None for no shares.

    12 decimals, rounded down; for people 6, to the nearest, half to even.
    """
    if shares == 0:
        return None
    places = _PER_SHARE_PLACES_SHOWN if for_people else _PER_SHARE_PLACES
    units = _rounded(int(amount) * 10**SHARE_DECIMALS, int(shares), places, nearest=for_people)
    return _written(units, places, grouped=for_people)


def format_share_price(price: float, *, for_people: bool = False) -> str | None:
    """A float of minor units per share unit as `format_per_share` writes it; None where it is not finite."""
    return format_per_share(*float(price).as_integer_ratio(), for_people=for_people) if math.isfinite(price) else None


def format_mark(price: int, *, for_people: bool = False) -> str | None:
    """A stored price per share (minor units per share unit x 2**50) as `format_per_share` writes it; None for 0."""
    return format_per_share(price, 2**_MARK_BITS, for_people=for_people) if price else None


# ---------------------------------------------------------------------------------------------------- proportions


def format_fraction(part: int, whole: int) -> str | None:
    """part / whole to six decimals, rounded down; None of nothing."""
    if whole == 0:
        return None
    return _written(_rounded(int(part), int(whole), _FRACTION_PLACES, nearest=False), _FRACTION_PLACES)


@overload
def format_percentage(fraction: float | Decimal) -> str: ...


@overload
def format_percentage(fraction: float | Decimal, *, places: int) -> str | None: ...


def format_percentage(fraction: float | Decimal, *, places: int | None = None) -> str | None:
    """A fraction as the shortest percentage that reads as the same number: 0.2 -> `20%`.

    With `places`, as people read it: so many decimals, half to even; None where it is not finite.
    """
    hundredths = _EXACT.scaleb(_decimal(fraction), 2)
    if places is None:
        return format_decimal(hundredths) + "%"
    return _nearest(hundredths, places, grouped=True) + "%" if hundredths.is_finite() else None


def format_ppm(millionths: int) -> str:
    """Parts per million as an exact percentage: 200000 -> `20%`."""
    return format_percentage(Decimal(millionths).scaleb(-6))


def format_multiple(value: float, *, for_people: bool = False) -> str | None:
    """A signed multiple such as a leverage to 4 decimals, for people 2 and a sign: `2.10×`; None for 0 and infinity."""
    if value == 0.0 or not math.isfinite(value):
        return None
    if for_people:
        return _nearest(value, _MULTIPLE_PLACES_SHOWN, grouped=True) + "×"
    return _nearest(value, _MULTIPLE_PLACES)


# ---------------------------------------------------------------------------------------------------- prices


def format_price(price: float, *, places: int | None = None, for_people: bool = False) -> str | None:
    """The shortest text that reads as the same price, or with `places` decimals, half to even; None for none (0)."""
    if not math.isfinite(price) or price <= 0.0:
        return None
    if places is None:
        return format(_decimal(price), "f")
    return _nearest(price, places, grouped=for_people)


def price_places(prices: Iterable[float]) -> int:
    """Decimals that write the highest of these prices with six figures, two at the least."""
    highest = max((price for price in prices if math.isfinite(price) and price > 0.0), default=1.0)
    return min(max(_PRICE_FIGURES - 1 - math.floor(math.log10(highest)), _PRICE_PLACES_MIN), _PRICE_PLACES_MAX)
