"""Times as texts: UTC in documents and for people, no finer than they have to be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.words.times import stamp, utc

MARCH = 1_583_971_200_000


@pytest.mark.parametrize(
    ("later", "shown", "exact"),
    [
        (0, "2020-03-12 00:00", "2020-03-12T00:00:00Z"),
        (5_000, "2020-03-12 00:00:05", "2020-03-12T00:00:05Z"),
        (60_007, "2020-03-12 00:01:00.007", "2020-03-12T00:01:00.007Z"),
    ],
)
def test_a_time_is_shown_no_finer_than_it_has_to_be(later: int, shown: str, exact: str) -> None:
    assert stamp(MARCH + later) == shown
    assert utc(MARCH + later) == exact


def test_a_time_that_no_calendar_reaches_is_its_number() -> None:
    assert utc(2**62) == f"ts {2**62}"


@given(st.integers(0, 4_102_444_800_000))
def test_both_texts_are_in_the_order_of_time(ts: int) -> None:
    assert stamp(ts) < stamp(ts + 60_000)
    assert utc(ts)[:16] == stamp(ts)[:16].replace(" ", "T")
