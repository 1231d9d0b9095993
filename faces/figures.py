"""How readings write figures: exact texts without exponents, None for what does not exist."""

import math
from decimal import ROUND_DOWN, Decimal

from ringfence.faces.report.words import SHARE_DECIMALS
from ringfence.markets.instruments import Instrument
from ringfence.runtime.runs import per_share
from ringfence.words.units import format_amount

__all__ = ["fraction", "mark_per_share", "number", "per_share_text", "price", "quantity", "shares"]


def mark_per_share(fixed_point: int) -> str | None:
    """A price per share unit x 2**50 as currency per whole share, 12 decimals, rounded down; None for 0."""
    return per_share_text(fixed_point, 2**50) if fixed_point else None


def per_share_text(amount: int, shares: int) -> str | None:
    """Minor units over share units as currency per whole share, 12 decimals, rounded down; None for no shares."""
    found = per_share(amount, shares)
    return None if found is None else str(found)


def shares(count: int, decimals: int) -> str:
    """Share units as whole shares; `decimals` are the currency's."""
    return format_amount(count, decimals + SHARE_DECIMALS)


def number(value: float, places: int = 6) -> str | None:
    """A float as a text without exponent; None where it says nothing (0.0, infinity, NaN)."""
    return f"{value:.{places}f}" if math.isfinite(value) and value != 0.0 else None


def price(value: float) -> str | None:
    """The shortest text that reads as the same price, without exponent; None for none."""
    return format(Decimal(repr(float(value))), "f") if math.isfinite(value) and value > 0.0 else None


def quantity(lots: int, traded: Instrument) -> str:
    """Signed lots in units of the base currency."""
    step = traded.lot * traded.contract_size
    return format(lots * step, "f")


def fraction(part: int, whole: int) -> str | None:
    """part / whole to six decimals, rounded down; None of nothing."""
    if whole == 0:
        return None
    return str((Decimal(part) / Decimal(whole)).quantize(Decimal("1e-6"), rounding=ROUND_DOWN))
