"""Amounts of money as people type them: what each means, what is refused, and with which message."""

import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.words.amounts import AMOUNT_MAX, parse_amount
from ringfence.words.numbers import format_amount
from ringfence.words.units import UnitError

AMOUNTS = [("1", 6, 1_000_000), ("1500.25", 6, 1_500_250_000), ("0.000001", 6, 1), ("0.10", 2, 10), ("7", 0, 7),
           ("1000000000", 6, AMOUNT_MAX)]  # fmt: skip


@pytest.mark.parametrize(("text", "decimals", "amount"), AMOUNTS)
def test_an_amount_is_read_exactly(text: str, decimals: int, amount: int) -> None:
    assert parse_amount(text, decimals) == amount


BAD_AMOUNTS = [
    ("0", "0 is not above 0; expected a positive amount"),
    ("0.000000", "is not above 0"),
    ("-1", "-1 is below 0; expected a positive amount without a sign"),
    ("+1", "+1 has a sign; did you mean 1?"),
    ("NaN", "NaN is not an amount; expected a finite number"),
    ("-inf", "-inf is not an amount; expected a finite number"),
    ("1e400", "1e400 has an exponent; write all its digits"),
    ("1E5", "1E5 has an exponent"),
    ("0.123456789012", "0.123456789012 has 12 decimals; at most 6 are possible here"),
    ("１２", "１２ has digits of another script; did you mean 12?"),
    ("١٢", "has characters that are no digits"),
    ("€5", "has characters that are no digits"),
    ("1_000", "1_000 has separators between its digits; did you mean 1000?"),
    ("1,000.50", "1,000.50 has separators between its digits; did you mean 1000.50?"),
    ("1'000", "1'000 has separators between its digits; did you mean 1000?"),
    ("", "'' is no amount; expected digits such as 1500 or 0.25"),
    ("   ", "'   ' is no amount"),
    (" 5", "has spaces around it; did you mean 5?"),
    ("5\n", "has spaces around it; did you mean 5?"),
    (".5", ".5 begins with its point; did you mean 0.5?"),
    ("5.", "5. ends with its point; did you mean 5?"),
    ("007", "007 begins with zeros; did you mean 7?"),
    ("1.2.3", "1.2.3 is not an amount; expected digits"),
    ("0x10", "0x10 is not an amount; expected digits"),
    ("ten", "ten is not an amount; expected digits"),
    ("1000000000.000001", "is too large; the most is 1000000000 (1000000000000000 minor units)"),
    ("9" * 41, "is too long for an amount: 41 characters, at most 40"),
    (5, "5 is not a text; amounts are given as text"),
    (None, "None is not a text"),
]


@pytest.mark.parametrize(("text", "message"), BAD_AMOUNTS)
def test_what_is_no_amount_has_its_own_message(text: Any, message: str) -> None:
    with pytest.raises(UnitError, match=re.escape(message)):
        parse_amount(text, 6)


@given(st.integers(1, AMOUNT_MAX), st.integers(0, 8))
def test_an_amount_survives_writing_and_reading(amount: int, decimals: int) -> None:
    text = format_amount(amount, decimals)
    assert parse_amount(text, decimals) == amount
    assert Fraction(text) * 10**decimals == amount
    assert format_amount(-amount, decimals) == "-" + text


@given(st.text(max_size=60), st.integers(0, 8))
def test_no_text_makes_the_amount_reader_fail_in_another_way(text: str, decimals: int) -> None:
    try:
        amount = parse_amount(text, decimals)
    except UnitError:
        return
    assert 0 < amount <= AMOUNT_MAX
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", text)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary()))
def test_a_refusal_of_an_amount_is_short_and_printable(written: Any) -> None:
    message = ""
    try:
        parse_amount(written, 6)
    except UnitError as refusal:
        message = str(refusal)
    assert len(message) < 250
    assert not message or message.isprintable()
