"""Amounts of money as people type them: read exactly or refused, never rounded."""

import re
import unicodedata
from decimal import Decimal

from ringfence.words.numbers import format_decimal
from ringfence.words.units import TEXT_MAX, UnitError, shown

__all__ = ["AMOUNT_MAX", "parse_amount"]

AMOUNT_MAX = 10**15
"""Largest amount accepted at the border, minor units: sums and products of it stay within the kernel's integers."""


def parse_amount(text: str, decimals: int, most: int = AMOUNT_MAX) -> int:
    """Minor units of an amount of money typed by a person: digits, at most one point, at most `decimals` places, > 0.

    Exact, never rounded. Everything else (signs, exponents, separators, other scripts' digits, NaN, more than `most`
    minor units) is refused with its own message (UnitError).
    """
    if not isinstance(text, str):
        raise UnitError(text, "is not a text; amounts are given as text such as 1500 or 0.25")
    if not text.strip():
        raise UnitError(text, "is no amount; expected digits such as 1500 or 0.25")
    if len(text) > TEXT_MAX:
        raise UnitError(text, f"is too long for an amount: {len(text)} characters, at most {TEXT_MAX}")
    if not re.fullmatch(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", text, re.ASCII):
        raise UnitError(text, _amount_reason(text))
    whole, _, part = text.partition(".")
    if len(part) > decimals:
        raise UnitError(text, f"has {len(part)} decimals; at most {decimals} are possible here")
    amount = int(whole + part.ljust(decimals, "0"))
    if amount == 0:
        raise UnitError(text, "is not above 0; expected a positive amount")
    if amount > most:
        largest = format_decimal(Decimal(most).scaleb(-decimals))
        raise UnitError(text, f"is too large; the most is {largest} ({most} minor units)")
    return amount


def _amount_reason(text: str) -> str:
    bare = text.strip()
    if bare != text:
        return f"has spaces around it; did you mean {shown(bare)}?"
    if bare.lower().lstrip("+-") in ("nan", "snan", "inf", "infinity", ".nan", ".inf"):
        return "is not an amount; expected a finite number such as 1500 or 0.25"
    plain = unicodedata.normalize("NFKC", bare)
    if plain != bare or not bare.isascii():
        known = re.fullmatch(r"[0-9.]+", plain, re.ASCII)
        return f"has digits of another script; did you mean {plain}?" if known else "has characters that are no digits"
    if re.fullmatch(r"[+-]?[0-9.]+[eE][+-]?[0-9]+", bare):
        return "has an exponent; write all its digits"
    if re.fullmatch(r"-[0-9.]+", bare):
        return "is below 0; expected a positive amount without a sign"
    if re.fullmatch(r"\+[0-9.]+", bare):
        return f"has a sign; did you mean {bare[1:]}?"
    if re.fullmatch(r"[0-9]{1,3}(?:[_, '][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:_[0-9]+)+", bare):
        return f"has separators between its digits; did you mean {re.sub('[_, ]|' + chr(39), '', bare)}?"
    if re.fullmatch(r"\.[0-9]+", bare):
        return f"begins with its point; did you mean 0{bare}?"
    if re.fullmatch(r"[0-9]+\.", bare):
        return f"ends with its point; did you mean {bare[:-1]}?"
    if re.fullmatch(r"0[0-9]+(?:\.[0-9]+)?", bare):
        return f"begins with zeros; did you mean {format_decimal(Decimal(bare))}?"
    return "is not an amount; expected digits such as 1500 or 0.25"
