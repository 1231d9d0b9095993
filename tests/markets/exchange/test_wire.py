"""The form of questions and answers: whole, strict, exact, and row by row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.errors import ExchangeRefused, NoAnswer
from ringfence.markets.exchange.client import Client
from ringfence.markets.exchange.protocol import (
    Balance,
    Deleveraged,
    Fill,
    Funding,
    Liquidated,
    MarginRequest,
    Moved,
    OrderState,
    Position,
    Unknown,
    Unreadable,
)
from ringfence.markets.exchange.terms import TradedBar
from ringfence.markets.exchange.wire import Malformed, document, parsed, rows_of, taken, taken_ending, written
from tests.markets.exchange.house import flat

whole, real = st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
KINDS = {
    kind: st.builds(kind, **{name: {int: whole, float: real, str: st.text(), bool: st.booleans()}[hint]
                             for name, hint in kind.__annotations__.items()})
    for kind in (Balance, Fill, Funding, Moved, OrderState, Position)
}  # fmt: skip


@given(st.one_of(*KINDS.values()))
def test_what_is_written_is_read_back_to_the_last_bit(value: Any) -> None:
    told = parsed(written({"ok": document(value)}))["ok"]
    assert taken(type(value), told) == value


def test_endings_and_bars_say_what_they_are() -> None:
    for kind in (Liquidated, Deleveraged):
        ending = kind("1", "A", -5, 19.5, 19.5, 1, -5, 2, 3, 4, 5)
        found = taken_ending(document(ending))
        assert (type(found), found) == (kind, ending)
    bar = flat(1e-300, stamps=((5, 0.1), (6, -0.1)), volume=None)
    assert taken(TradedBar, parsed(written({"ok": bar}))["ok"]) == bar


@pytest.mark.parametrize(
    "told",
    [
        None, [], {}, {"wallet": 1}, {"wallet": 1, "held": 0, "more": 1}, {"wallet": 1.0, "held": 0},
        {"wallet": True, "held": 0}, {"wallet": "1", "held": 0}, {"wallet": None, "held": 0},
    ],
)  # fmt: skip
def test_what_is_not_exactly_a_balance_is_none(told: Any) -> None:
    with pytest.raises(Malformed):
        taken(Balance, told)


@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"ok": 1}', b"<html>\n", b"[1]\n", b"nul\n", b"\xff\n", b"[" * 10**5 + b"\n"]
)
def test_what_is_no_whole_line_with_an_object_is_refused(line: bytes) -> None:
    with pytest.raises(Malformed):
        parsed(line)


def test_a_row_that_cannot_be_read_stands_in_its_place() -> None:
    good = document(Position("A", 1, 2, 3))
    found = rows_of(Position, [good, {"instrument": "B", "quantity": 1}, 7, good])
    assert [type(row) for row in found] == [Position, Unreadable, Unreadable, Position]
    assert [row.instrument for row in found] == ["A", "B", "", "A"]


@pytest.mark.parametrize(
    "line",
    [
        b"<html></html>\n",
        b'{"ok": {"wallet": 1}}\n',
        b'{"yes": 1}\n',
        b'{"ok": NaN}\n',
        b'{"refused": "no"}\n',
        b"{}\n",
    ],
)
def test_an_answer_of_no_known_form_is_no_answer(line: bytes) -> None:
    client = Client("paper", lambda _: line)
    with pytest.raises(NoAnswer):
        client.balance("btc")
    with pytest.raises(NoAnswer):
        client.positions("btc")


@pytest.mark.parametrize("fault", [ConnectionRefusedError(), FileNotFoundError("no socket"), TimeoutError("no answer")])
def test_an_exchange_that_is_not_there_leaves_a_change_unknown_and_a_read_unanswered(fault: OSError) -> None:
    def send(_: bytes) -> bytes:
        raise fault

    client = Client("paper", send)
    assert isinstance(client.move_margin(MarginRequest("btc", "A", 1)), Unknown)
    assert isinstance(client.cancel("btc", "x"), Unknown)
    with pytest.raises(NoAnswer, match="paper gave no answer to time"):
        client.time()


def test_a_refused_read_says_whether_asking_again_helps() -> None:
    with pytest.raises(NoAnswer):
        Client("paper", lambda _: b'{"refused": "too many", "transient": true}\n').time()
    with pytest.raises(ExchangeRefused):
        Client("paper", lambda _: b'{"refused": "no account", "transient": false}\n').time()
