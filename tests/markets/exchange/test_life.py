"""The life of an order: what may follow what, and that nothing but proof ends an order of which nobody knows."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ringfence.markets.exchange.life import (
    Life,
    Phase,
    Proof,
    Read,
    abandoned,
    answered,
    cancelling,
    ended_by_proof,
    left_behind,
    margin_ended_by_proof,
    read,
    sending,
)
from ringfence.markets.exchange.protocol import (
    Accepted,
    Answer,
    MarginRequest,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Rejected,
    Unknown,
    client_id,
)

NAME = client_id("btc", 1_600_000_000_000, "A", "grow", 0)
REQUEST = OrderRequest(NAME, "btc", "A", 10, reduce_only=False, margin=5)
ABSENT = NotFound(NAME)


def state(filled: int, *, final: bool) -> OrderState:
    return OrderState(NAME, "A", 10, filled, filled * 7, 7.0, filled, final)


orders = st.one_of(st.just(ABSENT), st.builds(state, st.integers(0, 10), final=st.booleans()))
reads = st.builds(Read, orders, st.integers(-2, 2))
answers = st.one_of(
    st.builds(Accepted, st.none() | st.builds(state, st.integers(0, 10), final=st.booleans())),
    st.builds(Rejected, st.just("no"), st.booleans()), st.builds(Unknown, st.just("nothing was heard")),
)  # fmt: skip


@given(reads=st.lists(reads, max_size=6), held=st.integers(-2, 2))
@example(reads=[Read(ABSENT, 0), Read(ABSENT, 1)], held=0)
@example(reads=[Read(ABSENT, 0), Read(state(3, final=False), 3), Read(ABSENT, 0)], held=0)
def test_an_order_is_absent_only_after_two_reads_without_it_and_with_the_position_of_our_books(
    reads: Sequence[Read], held: int
) -> None:
    proof = ended_by_proof(reads, held)
    if proof is Proof.absent:
        assert len(reads) >= 2
        assert all(one == Read(ABSENT, held) for one in reads[-2:])
    assert (proof is Proof.found) == bool(reads and isinstance(reads[-1].order, OrderState))


@given(answer=answers, steps=st.lists(st.tuples(reads, st.booleans()), max_size=8))
def test_from_unknown_only_what_was_read_leads_on_and_fills_never_become_fewer(
    answer: Answer, steps: list[tuple[Read, bool]]
) -> None:
    life = answered(sending(Life(REQUEST)), answer)
    for found, dies in steps:
        before = life
        life = left_behind(life) if dies else life
        if life.phase in (Phase.open, Phase.unknown):
            life = read(life, found, 0)
        assert abs(life.filled) >= abs(before.filled)
        if before.phase is Phase.unknown and life.phase is not Phase.unknown:
            assert isinstance(found.order, OrderState) or life.phase is Phase.absent
        if before.phase is Phase.open:
            assert life.phase in (Phase.open, Phase.final)
            assert (life.phase is Phase.final) <= isinstance(found.order, OrderState)
        if before.phase is Phase.final:
            assert life == before
        assert life.blocks == (life.phase in (Phase.open, Phase.unknown))


def test_no_step_but_a_read_takes_an_unknown_order_on() -> None:
    lost = answered(sending(Life(REQUEST)), Unknown("nothing was heard"))
    assert (lost.phase, lost.blocks) == (Phase.unknown, True)
    assert left_behind(lost) == lost
    for step in (sending, abandoned):
        with pytest.raises(ValueError, match="unknown"):
            step(lost)
    for answer in (Accepted(), Rejected("late"), Unknown("again")):
        with pytest.raises(ValueError, match="unknown"):
            answered(lost, answer)
        with pytest.raises(ValueError, match="unknown"):
            cancelling(lost, answer)


@pytest.mark.parametrize("phase", [Phase.committed, Phase.sent])
def test_whoever_finds_an_order_that_was_being_sent_does_not_know_whether_it_was(phase: Phase) -> None:
    life = left_behind(Life(REQUEST, phase))
    assert life.phase is Phase.unknown
    absent = read(read(life, Read(ABSENT, 4), 4), Read(ABSENT, 4), 4)
    assert (absent.phase, absent.blocks) == (Phase.absent, False)
    assert sending(absent).phase is Phase.sent  # under the same name
    assert abandoned(absent).phase is Phase.final


def test_an_order_that_the_exchange_had_stays_open_until_it_says_otherwise() -> None:
    life = answered(sending(Life(REQUEST)), Accepted(state(4, final=False)))
    assert (life.phase, life.filled) == (Phase.open, 4)
    assert read(read(life, Read(ABSENT, 0), 0), Read(ABSENT, 0), 0) == life
    assert cancelling(life, Unknown("nothing was heard")) == life
    assert cancelling(life, Accepted(state(4, final=True))).phase is Phase.final


def test_accepted_without_a_word_of_the_order_is_not_known() -> None:
    assert answered(sending(Life(REQUEST)), Accepted()).phase is Phase.unknown


def moved(amount: int) -> Moved:
    return Moved("1", "A", amount, 0, 1)


@pytest.mark.parametrize(
    ("reads", "proof"),
    [
        ([], None),
        ([[]], None),
        ([[], []], Proof.absent),
        ([[], [moved(5)]], Proof.found),
        ([[moved(7)], [moved(7)]], None),
        ([[moved(7)], []], None),
    ],
)
def test_collateral_has_moved_once_it_is_read_and_has_not_once_it_twice_is_not(
    reads: Sequence[Sequence[Moved]], proof: Proof | None
) -> None:
    assert margin_ended_by_proof(5, reads) is proof


# ---------------------------------------------------------------------------------------------------- names


@settings(max_examples=50)
@given(st.text(max_size=40), st.integers(), st.text(max_size=40), st.text(max_size=40), st.integers())
def test_a_name_is_short_and_of_letters_and_digits_and_the_same_every_time(
    vault: str, tick: int, position: str, purpose: str, round: int
) -> None:
    name = client_id(vault, tick, position, purpose, round)
    assert re.fullmatch(r"rf[a-z2-7]{26}", name)
    assert name == client_id(vault, tick, position, purpose, round)


def test_a_name_is_the_one_that_it_always_was() -> None:
    """Orders of a release before are asked for by their names."""
    assert client_id("btc", 1_600_000_000_000, "BTC/USDT:USDT", "reduce", 0) == "rfmeznlpvapc4gszpdvkf6a2cqg6"


def test_names_differ_in_each_of_the_five() -> None:
    base = ("btc", 1, "A", "grow", 0)
    others = [("eth", 1, "A", "grow", 0), ("btc", 2, "A", "grow", 0), ("btc", 1, "B", "grow", 0),
              ("btc", 1, "A", "reduce", 0), ("btc", 1, "A", "grow", 1), ('btc",1,"A', 1, "A", "grow", 0),
              ("btc1", 1, "A", "grow", 0), ("btc", 11, "A", "grow", 0)]  # fmt: skip
    assert len({client_id(*one) for one in (base, *others)}) == 9


@pytest.mark.parametrize(("lots", "reduces", "margin"), [(0, False, 0), (1, False, -1), (-1, True, 1)])
def test_no_order_is_made_of_nothing_or_of_margin_with_a_reduction(lots: int, reduces: bool, margin: int) -> None:
    with pytest.raises(ValueError, match="no order"):
        OrderRequest(NAME, "btc", "A", lots, reduces, margin)
    with pytest.raises(ValueError, match="no collateral"):
        MarginRequest("btc", "A", 0)
