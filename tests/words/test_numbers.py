"""Numbers as texts: every kind exact in documents, readable for people, and absent in one way."""

import math
import re
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.words.numbers import (
    ABSENT,
    SHARE_DECIMALS,
    dashed,
    format_amount,
    format_count,
    format_decimal,
    format_fraction,
    format_mark,
    format_multiple,
    format_per_share,
    format_percentage,
    format_ppm,
    format_price,
    format_share_price,
    format_shares,
    price_places,
    readable,
    shortened,
)

WIDE = Context(prec=200)
amounts, decimals = st.integers(-(2**62), 2**62), st.integers(0, 18)
finite = st.floats(allow_nan=False, allow_infinity=False)


def plain(text: str | None) -> Decimal:
    """What a text says, whatever separates its thousands."""
    assert text is not None
    assert re.fullmatch(r"[-+]?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})*)(?:\.[0-9]+)?[%×]?", text), text
    return Decimal(text.replace(",", "").rstrip("%×"))


def rounded(number: Decimal, places: int, how: str) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-places), rounding=how, context=WIDE)


# ---------------------------------------------------------------------------------------------------- amounts


def test_amounts_are_written_with_all_their_places() -> None:
    assert format_amount(1_500_250_000, 6) == "1500.250000"
    assert format_amount(1_500_250_000, 6, for_people=True) == "1,500.250000"
    assert format_amount(-1, 8) == "-0.00000001"
    assert format_amount(0, 6) == "0.000000"
    assert format_amount(0, 8) == "0.00000000", "no exponent, however small the unit"
    assert format_amount(42, 0) == "42"
    assert format_count(1_234_567) == "1,234,567"


@given(amounts, decimals, st.booleans(), st.booleans())
def test_an_amount_reads_back_as_the_same(amount: int, places: int, for_people: bool, signed: bool) -> None:
    told = format_amount(amount, places, for_people=for_people, signed=signed)
    assert WIDE.scaleb(plain(told), places) == amount
    assert len(told.partition(".")[2]) == places
    assert told.startswith("+") == (signed and amount > 0)
    assert ("," in told) == (for_people and abs(amount) >= 1_000 * 10**places)


@example(5_000, 6)
@example(15_000, 6)
@given(amounts, st.integers(2, 18))
def test_an_amount_with_fewer_places_is_the_nearest(amount: int, units: int) -> None:
    told = format_amount(amount, units, for_people=True, places=2)
    assert plain(told) == rounded(WIDE.scaleb(Decimal(amount), -units), 2, ROUND_HALF_EVEN)
    assert told not in ("-0.00", "+0.00")


@given(amounts, st.integers(0, 15))
def test_a_share_has_three_decimals_more_than_the_currency(shares: int, units: int) -> None:
    assert format_shares(shares, units) == format_amount(shares, units + SHARE_DECIMALS)
    assert plain(format_shares(shares, units, for_people=True)) == plain(format_shares(shares, units))


# ---------------------------------------------------------------------------------------------------- per share


@example(1, 10**15)
@given(st.integers(0, 2**62), st.integers(1, 2**62))
def test_a_price_per_share_is_cut_at_12_decimals_and_for_people_the_nearest_of_6(nav: int, shares: int) -> None:
    exact = Fraction(nav * 10**SHARE_DECIMALS, shares)
    cut, near = Fraction(plain(format_per_share(nav, shares))), format_per_share(nav, shares, for_people=True)
    assert 0 <= exact - cut < Fraction(1, 10**12)
    assert abs(Fraction(plain(near)) - exact) <= Fraction(1, 2 * 10**6)


def test_prices_per_share_have_no_exponent_and_none_without_shares() -> None:
    assert format_per_share(0, 5) == "0.000000000000"
    assert format_per_share(1, 10**12) == "0.000000001000"
    assert format_per_share(1_234_567_890, 1_000, for_people=True) == "1,234,567,890.000000"
    assert format_per_share(5, 0) is format_per_share(0, 0, for_people=True) is None


def test_a_mark_and_a_float_are_the_same_price_in_other_units() -> None:
    assert format_mark(2**50 // 1_000) == "0.999999999999", "rounded down"
    assert format_mark(2**50) == format_share_price(1.0) == format_per_share(1, 1) == "1000.000000000000"
    assert format_mark(2**49, for_people=True) == format_share_price(0.5, for_people=True) == "500.000000"
    assert format_mark(0) is format_share_price(math.inf) is None


# ---------------------------------------------------------------------------------------------------- proportions


@given(st.integers(-(2**62), 2**62), st.integers(1, 2**62))
def test_a_fraction_is_cut_towards_zero(part: int, whole: int) -> None:
    told = plain(format_fraction(part, whole))
    assert told == rounded(WIDE.divide(Decimal(part), Decimal(whole)), 6, ROUND_DOWN)
    assert format_fraction(-part, -whole) == format_fraction(part, whole)
    assert format_fraction(part, 0) is None


@pytest.mark.parametrize(
    ("fraction", "told"), [(0.2, "20%"), (0.125, "12.5%"), (0.123456, "12.3456%"), (0.07, "7%"), (1.0, "100%")]
)
def test_a_percentage_has_no_more_decimals_than_it_needs(fraction: float, told: str) -> None:
    assert format_percentage(fraction) == format_ppm(round(fraction * 1_000_000)) == told


@given(finite)
def test_a_percentage_without_places_reads_back_as_the_same_float(fraction: float) -> None:
    assert float(WIDE.scaleb(plain(format_percentage(fraction)), -2)) == fraction


@example(-0.00001, 2)
@example(0.00125, 2)
@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_a_percentage_for_people_is_the_nearest_and_never_a_negative_nothing(fraction: float, places: int) -> None:
    told = format_percentage(fraction, places=places)
    assert plain(told) == rounded(WIDE.multiply(Decimal(repr(fraction)), Decimal(100)), places, ROUND_HALF_EVEN)
    assert told is not None
    assert not re.fullmatch(r"-[0.]+%", told)


@given(finite.filter(bool), st.booleans())
def test_a_multiple_is_the_nearest_of_4_decimals_and_for_people_of_2_with_its_sign(value: float, people: bool) -> None:
    told = format_multiple(value, for_people=people)
    assert told is not None
    assert told.endswith("×") == people
    wide = Context(prec=400)
    assert plain(told) == Decimal(repr(value)).quantize(Decimal("0.01" if people else "0.0001"), context=wide)


# ---------------------------------------------------------------------------------------------------- prices


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_a_price_is_the_shortest_text_that_reads_as_the_same(price: float) -> None:
    told = format_price(price)
    assert told is not None
    assert "e" not in told.lower()
    assert float(told) == price


def test_a_price_with_places_is_rounded_and_only_for_people_grouped() -> None:
    assert format_price(5_012.345, places=2, for_people=True) == "5,012.34"
    assert format_price(5_012.345, places=6) == "5012.345000"
    assert format_price(1e-7) == "0.0000001"


@pytest.mark.parametrize(
    ("highest", "places"), [(65_000.0, 2), (5_000.0, 2), (220.0, 3), (1.5, 5), (0.00001234, 10), (1e-30, 14)]
)
def test_prices_have_six_figures_and_two_decimals_at_least(highest: float, places: int) -> None:
    assert price_places([0.0, math.nan, highest, highest / 2]) == places
    assert price_places([]) == 5


# ---------------------------------------------------------------------------------------------------- absent, cut


@pytest.mark.parametrize(
    "told",
    [format_multiple(0.0), format_multiple(math.inf), format_multiple(math.nan), format_price(0.0),
     format_price(math.inf), format_price(-1.0), format_percentage(math.nan, places=2), format_fraction(1, 0)],
)  # fmt: skip
def test_what_does_not_exist_is_none_and_a_dash_for_people(told: Any) -> None:
    assert told is None
    assert dashed(told) == ABSENT == "–"


@pytest.mark.parametrize(
    ("text", "places", "cut"),
    [("1.239", 2, "1.23"), ("-1.239", 2, "-1.23"), ("12", 2, "12"), ("1.5", 0, "1"), ("1.5", 6, "1.5")],
)
def test_a_figure_is_cut_towards_zero_and_never_lengthened(text: str, places: int, cut: str) -> None:
    assert shortened(text, places) == cut


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_a_decimal_is_written_without_exponent_or_trailing_zeros(number: Decimal) -> None:
    told = format_decimal(number)
    assert Decimal(told) == number
    assert "e" not in told.lower()
    assert not re.search(r"\.[0-9]*0$", told)


@pytest.mark.parametrize(
    ("text", "places", "expected"),
    [("1234567.125", 2, "1,234,567.12"), ("-0.005", 2, "0.00"), ("1000", 2, "1,000.00"),
     ("-1234.5678", None, "-1,234.5678"),
     ("0.000001", 6, "0.000001"), (None, 2, None)],
)  # fmt: skip
def test_a_written_number_is_read_with_its_thousands_apart(text: str | None, places: int, expected: str | None) -> None:
    assert readable(text, places) == expected
