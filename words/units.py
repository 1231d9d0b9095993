"""Units: how percentages, durations and multiples are written by people and held by the program.

The annotated types (`Fraction_`, `Rate`, `Duration`, `Multiple`, ...) serve mandates and strategies' parameters alike:
pydantic reads them from YAML's text and numbers, writes them back as text that reads as the same value, and
describes them to editors through JSON Schema. A number whose unit is in doubt is refused with the likely meaning.
"""

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ringfence.words.numbers import format_decimal, format_percentage, format_ppm
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import MILLISECONDS, format_duration

__all__ = [
    "TEXT_MAX",
    "Duration",
    "DurationUnit",
    "Fee",
    "Fraction_",
    "Multiple",
    "MultipleUnit",
    "Percentage",
    "Ppm",
    "Rate",
    "UnitError",
    "parse_duration",
    "shown",
]

TEXT_MAX = 40
"""No longer text is read as a value, or shown."""
_HINTED_MAX = 10**6
"""No proposal is made for numbers above this."""
_EXACT = Context(prec=200)
"""Wide enough that no shift of a readable number rounds."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)
_PERCENT = re.compile(r"(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?)%", re.ASCII)
_DECIMAL_COMMA = re.compile(r",(?=[0-9]+\D*$)(?![0-9]{3}\D*$)", re.ASCII)
_DURATION = re.compile(r"(?:([0-9]+)w)?(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", re.ASCII)
_DURATION_MAX = 3_660 * MILLISECONDS["d"]
_DURATION_NAMES = {
    **dict.fromkeys(("H", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("min", "mins", "minute", "minutes", "T"), "m"),
    **dict.fromkeys(("S", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("D", "day", "days"), "d"),
    **dict.fromkeys(("W", "wk", "week", "weeks"), "w"),
}


class UnitError(RingfenceError, ValueError):
    """The value is not taken and nothing is assumed in its place; the message says how to write it."""

    value: object
    reason: str

    def __str__(self) -> str:
        return f"{shown(self.value)} {self.reason}"


def shown(value: object) -> str:
    """The value as a message shows it: one printable line of at most 40 characters, the empty text in quotes."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = str(value)
    except Exception:  # a stranger's __str__
        text = f"a {type(value).__name__}"
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text[: TEXT_MAX + 1])
    if len(text) > TEXT_MAX:
        return text[: TEXT_MAX - 3] + "..."
    return text if text.strip() else f"'{text}'"


def _decimal(value: object) -> Decimal | None:
    """The exact decimal that a bare number stands for; None when it is no finite number of readable size."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value) if value.bit_length() <= 128 else None
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, str):
        return Decimal(value) if len(value) <= TEXT_MAX and _NUMBER.fullmatch(value) else None
    if isinstance(value, Decimal):
        return (
            value
            if value.is_finite() and -60 <= value.adjusted() <= 40 and len(value.as_tuple().digits) <= 60
            else None
        )
    return None


def _core(read: Callable[[Any], Any], write: Callable[[Any], str]) -> CoreSchema:
    """A pydantic schema that reads with `read`, passes its refusal on unadorned, and writes JSON with `write`."""

    def validated(value: Any) -> Any:
        try:
            return read(value)
        except UnitError as refused:
            raise PydanticCustomError("unit", "{message}", {"message": str(refused)}) from None

    return core_schema.no_info_plain_validator_function(
        validated, serialization=core_schema.plain_serializer_function_ser_schema(write, when_used="json")
    )


@dataclass(frozen=True)
class Percentage:
    """A share of one, written `20%` or `0.20`: a float fraction, or an int of parts per million where `ppm` is set.

    `low` and `high` are inclusive (`low_open`: exclusive). A bare number above `bare_max` is refused, since it is most
    likely a percentage without its sign. Fractions are correctly rounded to float64; parts per million are exact.
    """

    name: str = "fraction"
    low: str = "0"
    high: str = "1"
    bare_max: str = "1"
    low_open: bool = False
    ppm: bool = False

    def parse(self, value: object) -> float | int:
        """Read `20%`, `0.20`, or the same as a number; refuse what is in doubt or out of range (UnitError)."""
        match = _PERCENT.fullmatch(value) if isinstance(value, str) and len(value) <= TEXT_MAX else None
        if match:
            fraction = _EXACT.scaleb(Decimal(match[1]), -2)
        else:
            bare = _decimal(value)
            if bare is None:
                raise UnitError(value, self._reason(value))
            if bare > _HINTED_MAX:
                raise UnitError(value, self._reason(value))
            if bare > Decimal(self.bare_max):
                raise UnitError(value, f"is not a {self.name}; did you mean {format_decimal(bare)}%?")
            fraction = bare
        fraction = fraction or Decimal(0)  # no negative zero
        low, high = Decimal(self.low), Decimal(self.high)
        if fraction < low or fraction > high or (self.low_open and fraction == low):
            least = f"above {format_percentage(low)}" if self.low_open else f"at least {format_percentage(low)}"
            raise UnitError(value, f"is out of range; expected {least} and at most {format_percentage(high)}")
        if not self.ppm:
            return float(fraction)
        millionths = _EXACT.scaleb(fraction, 6)
        if millionths != millionths.to_integral_value():
            below = Decimal(math.floor(millionths)).scaleb(-6)
            above = Decimal(math.ceil(millionths)).scaleb(-6)
            neighbours = f"the nearest are {format_percentage(below)} and {format_percentage(above)}"
            raise UnitError(value, f"has more than 4 decimals of a per cent; {neighbours}")
        return int(millionths)

    def _reason(self, value: object) -> str:
        expected = f"is not a {self.name}"
        if isinstance(value, str) and len(value) <= TEXT_MAX:
            tidy = unicodedata.normalize("NFKC", value).replace(" ", "").lstrip("+")
            tidy = _DECIMAL_COMMA.sub(".", tidy)
            tidy = re.sub(r"(percent|pct|per-?cent)$", "%", tidy, flags=re.IGNORECASE)
            basis = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(?:bp|bps)", tidy, re.ASCII | re.IGNORECASE)
            if basis:
                tidy = format_decimal(Decimal(basis[1]).scaleb(-2)) + "%"
            if tidy != value and (_PERCENT.fullmatch(tidy) or _NUMBER.fullmatch(tidy)):
                return f"{expected}; did you mean {tidy}?"
        return f"{expected}; write it like 20% or 0.20"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _core(self.parse, format_ppm if self.ppm else format_percentage)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        low, high = Decimal(self.low), Decimal(self.high)
        bare = min(Decimal(self.bare_max), high)
        minimum = "exclusiveMinimum" if self.low_open else "minimum"
        least = "above" if self.low_open else "from"
        sign = "-?" if low < 0 else ""
        reach = f"{least} {format_percentage(low)} up to {format_percentage(high)}"
        return {
            "description": f"A {self.name}, written like 20% or 0.20: {reach}.",
            "anyOf": [
                {"type": "string", "pattern": rf"^{sign}(0|[1-9][0-9]*)(\.[0-9]+)?%?$"},
                {"type": "number", minimum: float(low), "maximum": float(bare)},
            ],
        }


@dataclass(frozen=True)
class DurationUnit:
    """A length of time, written `15m`, `12h`, `3d` or `1d12h`: ms as an int, above 0 and at most 3660 days."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _core(parse_duration, format_duration)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "description": "A duration in weeks, days, hours, minutes, seconds, largest first: 15m, 12h, 3d, 1d12h.",
            "pattern": r"^(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        }


def parse_duration(value: object) -> int:
    """Milliseconds of `15m`, `12h`, `3d`, `1d12h`; bare numbers and unknown units are refused with a proposal."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and 0 < len(value) <= TEXT_MAX else None
    if not match:
        raise UnitError(value, f"is not a duration; {_duration_hint(value)}")
    length = sum(int(n) * ms for n, ms in zip(match.groups(), MILLISECONDS.values(), strict=True) if n is not None)
    if length <= 0:
        raise UnitError(value, "is no length of time; expected a duration above 0 like 12h")
    if length > _DURATION_MAX:
        raise UnitError(value, f"is longer than the longest duration, {format_duration(_DURATION_MAX)}")
    return length


def _duration_hint(value: object) -> str:
    usual = "write it like 15m, 12h, 3d or 1d12h"
    bare = _decimal(value)
    if bare is not None:
        whole = 0 < bare <= _HINTED_MAX and bare == bare.to_integral_value()
        return f"did you mean {format_decimal(bare)}h?" if whole else usual
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        return usual
    tidy = unicodedata.normalize("NFKC", value).replace(" ", "")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]+)", tidy, re.ASCII)
    if not parts or "".join(n + unit for n, unit in parts) != tidy:
        return usual
    total = Decimal(0)
    for number, unit in parts:
        if unit.lower() in ("mo", "mon", "month", "months", "y", "yr", "year", "years") or unit == "M":
            return "months and years have no fixed length; write days, like 30d"
        known = _DURATION_NAMES.get(unit) or _DURATION_NAMES.get(unit.lower(), unit)
        if known not in MILLISECONDS:
            return f"unknown unit {unit}; the units are w, d, h, m, s"
        total += Decimal(number) * MILLISECONDS[known]
    fits = 0 < total <= _DURATION_MAX and total % 1000 == 0
    return f"did you mean {format_duration(int(total))}?" if fits else usual


@dataclass(frozen=True)
class MultipleUnit:
    """A plain number such as a leverage or a count of deviations, written `8` or `2.5`: a float above `low`."""

    low: str = "0"
    high: str = "1000"
    low_open: bool = True

    def parse(self, value: object) -> float:
        """Read a plain number between the bounds; `8x` and `800%` are refused with the plain number proposed."""
        number = _decimal(value)
        if number is None:
            raise UnitError(value, f"is not a number; {self._hint(value)}")
        low, high = Decimal(self.low), Decimal(self.high)
        if number < low or number > high or (self.low_open and number == low):
            least = "above" if self.low_open else "at least"
            raise UnitError(value, f"is out of range; expected {least} {self.low} and at most {self.high}")
        return float(number or 0)

    @staticmethod
    def _hint(value: object) -> str:
        if isinstance(value, str) and len(value) <= TEXT_MAX:
            tidy = unicodedata.normalize("NFKC", value).replace(" ", "")
            percent = _PERCENT.fullmatch(tidy)
            if percent:
                return f"did you mean {format_decimal(Decimal(percent[1]).scaleb(-2))}?"
            tidy = _DECIMAL_COMMA.sub(".", tidy.strip("xX"))
            if _NUMBER.fullmatch(tidy):
                return f"did you mean {tidy}?"
        return "write it like 8 or 2.5"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _core(self.parse, format_decimal)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        low = "exclusiveMinimum" if self.low_open else "minimum"
        return {
            "type": "number",
            "description": f"A plain number, written like 8 or 2.5, at most {self.high}.",
            low: float(self.low),
            "maximum": float(self.high),
        }


Fraction_ = Annotated[float, Percentage()]
"""0 to 100 %, as a float: `20%` or `0.20`."""
Rate = Annotated[float, Percentage("rate", high="1000", bare_max="5")]
"""A percentage that may exceed 100 %, as a float: `150%` or `1.5`; above 5 only with its sign."""
Ppm = Annotated[int, Percentage(ppm=True)]
"""0 to 100 %, as an exact int of parts per million."""
Fee = Annotated[int, Percentage("fee", high="0.1", bare_max="0.02", ppm=True)]
"""0 to 10 %, as an exact int of parts per million; above 2 % only with its sign, for `0.05` mostly means `0.05%`."""
Duration = Annotated[int, DurationUnit()]
"""Milliseconds, from `15m`, `12h`, `3d`, `1d12h`."""
Multiple = Annotated[float, MultipleUnit()]
"""A plain number above 0 and at most 1000."""
