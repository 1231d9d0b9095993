"""Names of holders that are nearly another's, and the keys that a request may come under."""

import pytest

from ringfence.vaults.errors import KeyRefused
from ringfence.vaults.names import KEY_LONGEST, checked_key, near_holder


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("alcie", ("alice", "bob"), "alice"),
        ("Alice", ("alice",), "alice"),
        ("a.lice", ("alice",), "alice"),
        ("alic", ("alice",), "alice"),
        ("bop", ("bob",), "bob"),
        ("jonathan", ("johnathan", "jonatan"), "johnathan"),
        ("margarete.k", ("margarethe-k",), "margarethe-k"),
        ("alice", ("alice",), None),
        ("carol", ("alice", "bob"), None),
        ("al", ("bo",), None),
        ("dan", ("bob",), None),
        ("mike-jones", ("mika-johnson",), None),
        ("anyone", (), None),
    ],
)  # fmt: skip
def test_a_slip_of_the_pen_is_near_and_another_name_is_not(name: str, known: tuple[str, ...], near: str | None) -> None:
    assert near_holder(name, known) == near


def test_a_name_that_differs_in_case_alone_is_the_nearest() -> None:
    assert near_holder("ALICE", ("alicf", "alice")) == "alice"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "is blank"),
        (" \t", "is blank"),
        ("k" * (KEY_LONGEST + 1), "has 201 characters; expected at most 200"),
        ("line\nbreak", "characters that cannot be typed again"),
        ("\x1b[31mred", "characters that cannot be typed again"),
        ("schlüssel", "characters that cannot be typed again"),
        ("replay:alice", "the program's own"),
        ("Replay:alice", "the program's own"),
        ("once:1", "the program's own"),
    ],
)
def test_a_key_that_cannot_name_a_request_is_refused(key: str, reason: str) -> None:
    with pytest.raises(KeyRefused, match=reason):
        checked_key(key)


@pytest.mark.parametrize("key", ["1", "invoice 2026-11/17", "k" * KEY_LONGEST, "my-replay:alice"])
def test_any_other_key_is_taken_as_it_is(key: str) -> None:
    assert checked_key(key) == key
