"""Units: what each spelling means, what is refused, and that writing and reading are inverse."""

import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ringfence.words.numbers import format_percentage, format_ppm
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration
from ringfence.words.units import (
    Duration,
    Fee,
    Fraction_,
    Multiple,
    MultipleUnit,
    Percentage,
    Ppm,
    Rate,
    UnitError,
    parse_duration,
    shown,
)

READERS: dict[str, TypeAdapter[Any]] = {
    "Fraction_": TypeAdapter(Fraction_),
    "Rate": TypeAdapter(Rate),
    "Ppm": TypeAdapter(Ppm),
    "Fee": TypeAdapter(Fee),
    "Duration": TypeAdapter(Duration),
    "Multiple": TypeAdapter(Multiple),
}

MEANINGS = [
    ("Fraction_", "20%", 0.2), ("Fraction_", "0.20", 0.2), ("Fraction_", Decimal("0.2"), 0.2), ("Fraction_", 0.2, 0.2),
    ("Fraction_", 1, 1.0), ("Fraction_", 0, 0.0), ("Fraction_", "-0%", 0.0), ("Fraction_", "33.333333%", 0.33333333),
    ("Rate", "150%", 1.5), ("Rate", 1.5, 1.5), ("Rate", "800%", 8.0),
    ("Ppm", "20%", 200_000), ("Ppm", 0.33, 330_000), ("Ppm", "0.0001%", 1), ("Ppm", Decimal("0.000001"), 1),
    ("Fee", "0.05%", 500), ("Fee", "0.0005", 500), ("Fee", "5%", 50_000),
    ("Duration", "15m", 900_000), ("Duration", "12h", 43_200_000), ("Duration", "1d12h", 129_600_000),
    ("Duration", "1w", 604_800_000), ("Duration", "30s", 30_000), ("Duration", "90m", 5_400_000),
    ("Multiple", 8, 8.0), ("Multiple", "2.5", 2.5), ("Multiple", Decimal("1000"), 1000.0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "meaning"), MEANINGS)
def test_a_spelling_has_its_meaning(kind: str, written: object, meaning: float) -> None:
    value = READERS[kind].validate_python(written)
    assert value == meaning
    assert type(value) is type(meaning)
    assert math.copysign(1, value) == 1


REFUSALS = [
    ("Fraction_", 20, "20 is not a fraction; did you mean 20%?"),
    ("Fraction_", Decimal("1.5"), "1.5 is not a fraction; did you mean 1.5%?"),
    ("Fraction_", "20 %", "20 % is not a fraction; did you mean 20%?"),
    ("Fraction_", "20 percent", "20 percent is not a fraction; did you mean 20%?"),
    ("Fraction_", "+20%", "+20% is not a fraction; did you mean 20%?"),
    ("Fraction_", "12,5%", "12,5% is not a fraction; did you mean 12.5%?"),
    ("Fraction_", "1,000%", "1,000% is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", "２０%", "２０% is not a fraction; did you mean 20%?"),
    ("Fraction_", "50bp", "50bp is not a fraction; did you mean 0.5%?"),
    ("Fraction_", "101%", "101% is out of range; expected at least 0% and at most 100%"),
    ("Fraction_", -0.1, "-0.1 is out of range; expected at least 0% and at most 100%"),
    ("Fraction_", "", "'' is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", None, "None is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", True, "True is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", math.nan, "nan is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", math.inf, "inf is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", Decimal("NaN"), "NaN is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", Decimal("1e999999"), "1E+999999 is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", 10**400, "an integer of 1329 bits is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", "9" * 500, "9999999999999999999999999999999999999... is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", "a\nb", "a\\nb is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", 1e191, "1e+191 is not a fraction; write it like 20% or 0.20"),
    ("Fraction_", 1e7, "10000000.0 is not a fraction; write it like 20% or 0.20"),
    ("Rate", 150, "150 is not a rate; did you mean 150%?"),
    ("Ppm", "33.33333%", "33.33333% has more than 4 decimals of a per cent; the nearest are 33.3333% and 33.3334%"),
    ("Ppm", "20.0000000000000000000000000000000001%", "20.0000000000000000000000000000000001% has more"),
    ("Fee", 0.05, "0.05 is not a fee; did you mean 0.05%?"),
    ("Fee", "11%", "11% is out of range; expected at least 0% and at most 10%"),
    ("Duration", 12, "12 is not a duration; did you mean 12h?"),
    ("Duration", "12", "12 is not a duration; did you mean 12h?"),
    ("Duration", "12hr", "12hr is not a duration; did you mean 12h?"),
    ("Duration", "12 hours", "12 hours is not a duration; did you mean 12h?"),
    ("Duration", "12H", "12H is not a duration; did you mean 12h?"),
    ("Duration", "1.5h", "1.5h is not a duration; did you mean 1h30m?"),
    ("Duration", "12h1d", "12h1d is not a duration; did you mean 1d12h?"),
    ("Duration", "１2h", "１2h is not a duration; did you mean 12h?"),
    ("Duration", "1M", "1M is not a duration; months and years have no fixed length; write days, like 30d"),
    ("Duration", "2years", "2years is not a duration; months and years have no fixed length; write days, like 30d"),
    ("Duration", "5x", "5x is not a duration; unknown unit x; the units are w, d, h, m, s"),
    ("Duration", "-3h", "-3h is not a duration; write it like 15m, 12h, 3d or 1d12h"),
    ("Duration", -3, "-3 is not a duration; write it like 15m, 12h, 3d or 1d12h"),
    ("Duration", "0.0001 s", "0.0001 s is not a duration; write it like 15m, 12h, 3d or 1d12h"),
    ("Duration", "", "'' is not a duration; write it like 15m, 12h, 3d or 1d12h"),
    ("Duration", None, "None is not a duration; write it like 15m, 12h, 3d or 1d12h"),
    ("Duration", "0h", "0h is no length of time; expected a duration above 0 like 12h"),
    ("Duration", "9999d", "9999d is longer than the longest duration, 3660d"),
    ("Multiple", "8x", "8x is not a number; did you mean 8?"),
    ("Multiple", "800%", "800% is not a number; did you mean 8?"),
    ("Multiple", "2,5", "2,5 is not a number; did you mean 2.5?"),
    ("Multiple", "1,000", "1,000 is not a number; write it like 8 or 2.5"),
    ("Multiple", "eight", "eight is not a number; write it like 8 or 2.5"),
    ("Multiple", [8], "[8] is not a number; write it like 8 or 2.5"),
    ("Multiple", 0, "0 is out of range; expected above 0 and at most 1000"),
    ("Multiple", 1001, "1001 is out of range; expected above 0 and at most 1000"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "written", "message"), REFUSALS)
def test_a_doubtful_value_is_refused_with_the_likely_one(kind: str, written: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        READERS[kind].validate_python(written)
    (error,) = caught.value.errors()
    assert error["msg"].startswith(message)


def test_bounds_are_inclusive_unless_they_say_otherwise() -> None:
    assert Percentage(high="0.5").parse("50%") == 0.5
    with pytest.raises(UnitError, match="expected above 0% and at most 100%"):
        Percentage(low_open=True).parse("0%")
    assert MultipleUnit(low="-3", low_open=False).parse(-3) == -3.0
    with pytest.raises(UnitError, match="expected at least -3 and at most 1000"):
        MultipleUnit(low="-3", low_open=False).parse(-4)


def test_a_refusal_carries_its_value_and_is_a_domain_error() -> None:
    with pytest.raises(UnitError) as caught:
        parse_duration("5x")
    assert isinstance(caught.value, RingfenceError)
    assert caught.value.value == "5x"
    assert caught.value.reason.startswith("is not a duration")


@given(st.integers(0, 1_000_000))
def test_parts_per_million_survive_writing_and_reading(millionths: int) -> None:
    text = format_ppm(millionths)
    assert Percentage(ppm=True).parse(text) == millionths
    assert Fraction(text.rstrip("%")) / 100 == Fraction(millionths, 1_000_000)


@given(st.floats(0, 1000, allow_subnormal=False))
def test_a_rate_survives_writing_and_reading_bit_for_bit(rate: float) -> None:
    text = format_percentage(rate)
    if len(text) <= 40:
        assert Percentage("rate", high="1000").parse(text) == rate


@given(st.integers(1, 3_660 * 86_400).map(lambda seconds: seconds * 1000))
def test_a_duration_survives_writing_and_reading(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


def test_a_duration_that_no_spelling_reaches_is_still_shown() -> None:
    assert format_duration(1_500) == "1s500ms"
    assert format_duration(0) == "0ms"


@pytest.mark.parametrize("kind", READERS)
@given(
    st.one_of(st.text(max_size=60), st.floats(), st.integers(), st.decimals(), st.none(), st.booleans(), st.binary())
)
def test_a_reader_takes_or_refuses_and_what_it_takes_it_writes_back(kind: str, written: object) -> None:
    reader = READERS[kind]
    try:
        value = reader.validate_python(written)
    except ValidationError:
        return
    text = json.loads(reader.dump_json(value))
    if len(text) <= 40:
        assert reader.validate_python(text) == value


@pytest.mark.parametrize(("kind", "written", "meaning"), MEANINGS)
def test_what_is_read_satisfies_the_schema(kind: str, written: object, meaning: object) -> None:
    schema = READERS[kind].json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["description"]
    plain = float(written) if isinstance(written, Decimal) else written
    if not (kind == "Multiple" and isinstance(written, str)) and written != "-0%":
        jsonschema.validate(plain, schema)


@pytest.mark.parametrize(
    ("kind", "written"),
    [("Fraction_", 20), ("Fraction_", "20 %"), ("Fraction_", "x"), ("Rate", 150), ("Fee", 0.05), ("Duration", 12),
     ("Duration", "12hr"), ("Duration", ""), ("Multiple", "8x"), ("Multiple", 0)],
)  # fmt: skip
def test_what_is_refused_breaks_the_schema(kind: str, written: object) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, READERS[kind].json_schema())


def test_the_schema_of_a_signed_percentage_takes_a_sign() -> None:
    signed: TypeAdapter[Any] = TypeAdapter(Annotated[float, Percentage(low="-1")])
    jsonschema.validate("-20%", signed.json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate("-20%", READERS["Fraction_"].json_schema())


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary()), st.sampled_from(sorted(READERS)))
def test_a_refusal_is_short_and_printable(written: object, kind: str) -> None:
    message = refusal(READERS[kind].validate_python, written)
    assert len(message) < 250
    assert not message or message.isprintable()


def refusal(read: Any, *given: object) -> str:
    """The message of a refusal, or nothing."""
    try:
        read(*given)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    except UnitError as error:
        return str(error)
    return ""


def test_a_value_is_shown_on_one_short_line() -> None:
    class Silent:
        def __str__(self) -> str:
            raise RuntimeError

    assert shown(Silent()) == "a Silent"
    assert shown("a\u202eb\n") == "a\\u202eb\\n"
    assert shown("x" * 41) == "x" * 37 + "..."
    assert shown(2**200) == "an integer of 201 bits"
