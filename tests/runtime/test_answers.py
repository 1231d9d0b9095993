"""A step whose venue answers act by act: with the answers foreseen it is the step at which a venue fills at once, and
with any others it is what they say."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from ringfence.risk.book import Book
from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.runtime.acts import deposit
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.step import Step, book_of, live_through
from ringfence.vaults.entries import Dealt, Decided, Entry
from tests.reference.tide import START, UNIT, Tide, launch, tide, walk

SLOTS = 40
Answering = Callable[[Dealt], Dealt]


@pytest.fixture
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tide]:
    launched = launch(f"sqlite:///{tmp_path_factory.mktemp('answers') / 'one.db'}", walk(8, SLOTS, 0.03), tide())
    deposit(launched.engine, "tide", "alice", 10_000 * UNIT, START, "first")
    yield launched
    launched.engine.dispose()


class Before:
    """A vault before one slot, which is lived through again and again."""

    def __init__(self, one: Tide, number: int) -> None:
        self.one = one
        with unit_of_work(one.engine, writes=False) as connection:
            vault = one.vault(connection)
            self.stretch = one.stretch(number, vault.last_bar)
            self.book = book_of(vault, self.stretch.close)

    def lived(self, answers: Sequence[Dealt] | None) -> Step:
        book = Book(self.book.vaults.copy(), self.book.positions.copy())
        step = live_through(self.one.setup, book, self.stretch, answers)
        assert step is not None
        return step

    def dealt(self, answering: Answering) -> Step:
        """What comes of it where each act, foreseen as it is shown, is answered so."""
        answers: list[Dealt] = []
        while (step := self.lived(answers)).foreseen:
            answers.append(answering(acts(step)[len(answers)]))
        assert list(acts(step)) == answers
        return step


def acts(step: Step) -> tuple[Dealt, ...]:
    assert step.entry.dealt is not None
    return step.entry.dealt


def bare(step: Step) -> tuple[int, Entry, Mapping[str, int]]:
    return step.close, step.entry.model_copy(update={"dealt": None}), step.balances


def as_foreseen(act: Dealt) -> Dealt:
    return act


def first_of(one: Tide, wanted: Callable[[Dealt], bool]) -> Before:
    """Before the first slot at which such a thing is asked of the venue."""
    for number in range(SLOTS):
        before = Before(one, number)
        if any(map(wanted, acts(before.lived([])))):
            return before
        one.step(1, number)
    raise AssertionError("nothing of the kind is ever asked")


def is_growth(act: Dealt) -> bool:
    return act.lots != 0 and not act.reduces


def is_cut(act: Dealt) -> bool:
    return act.reduces


def is_release(act: Dealt) -> bool:
    return act.amount < 0


def test_with_the_answers_foreseen_it_is_the_step_of_a_venue_that_fills_at_once(one: Tide) -> None:
    seen: set[tuple[Kind | None, bool, bool]] = set()
    for number in range(SLOTS):
        before = Before(one, number)
        dealt = before.dealt(as_foreseen)
        assert bare(before.lived([])) == bare(dealt) == bare(before.lived(None))
        seen |= {(act.kind, act.reduces, act.amount < 0) for act in acts(dealt)}
        one.step(1, number)
    assert seen >= {(None, False, False), (None, False, True), (Kind.resize, False, False), (Kind.resize, True, False)}


def test_what_fills_in_part_is_booked_as_far_as_it_did(one: Tide) -> None:
    before = first_of(one, is_growth)
    dealt = before.dealt(
        lambda act: act.model_copy(update={"done": act.done // 2, "fee": act.fee // 2}) if is_growth(act) else act
    )
    (order,) = filter(is_growth, acts(dealt))
    (resized,) = (event for event in dealt.entry.events if event.kind is Kind.resize)
    assert resized.quantity_after - resized.quantity_before == order.done == order.lots // 2
    assert (resized.fee, resized.price) == (order.fee, order.price)
    assert isinstance(dealt.entry, Decided)
    assert dealt.entry.is_struck


def test_what_the_venue_rejects_is_refused_and_gives_its_margin_back(one: Tide) -> None:
    before = first_of(one, is_growth)
    dealt = before.dealt(
        lambda act: act.model_copy(update={"done": 0, "fee": 0, "price": 0.0}) if is_growth(act) else act
    )
    (refused,) = (event for event in dealt.entry.events if event.kind is Kind.refusal)
    assert refused.reason is Bound.venue
    held = dealt.entry.positions["btc"]
    assert (held.quantity, held.margin) == (0, 0)


@pytest.mark.parametrize("wanted", [is_growth, is_cut])
def test_while_an_order_s_end_is_unknown_the_position_does_nothing_more_and_nobody_enters(
    one: Tide, wanted: Callable[[Dealt], bool]
) -> None:
    before = first_of(one, wanted)

    def lost(act: Dealt) -> Dealt:
        return act.model_copy(update={"done": 0, "fee": 0, "price": 0.0, "pending": True}) if wanted(act) else act

    dealt = before.dealt(lost)
    assert [wanted(act) for act in acts(dealt)].index(True) == len(acts(dealt)) - 1
    assert isinstance(dealt.entry, Decided)
    assert not dealt.entry.is_struck
    moved = [transfer.edge for transfer in dealt.entry.transfers]
    assert Edge.ratchet not in moved
    assert Edge.admit not in moved


def test_collateral_whose_move_is_unknown_stays_where_it_was(one: Tide) -> None:
    before = first_of(one, is_release)
    known = before.dealt(as_foreseen)

    def lost(act: Dealt) -> Dealt:
        return act.model_copy(update={"done": 0, "pending": True}) if is_release(act) else act

    dealt = before.dealt(lost)
    assert sum(act.amount for act in acts(dealt) if is_release(act)) < 0
    assert Edge.release in {transfer.edge for transfer in known.entry.transfers}
    assert Edge.release not in {transfer.edge for transfer in dealt.entry.transfers}
    assert isinstance(dealt.entry, Decided)
    assert not dealt.entry.is_struck


def test_answers_to_something_else_are_refused(one: Tide) -> None:
    before = first_of(one, is_growth)
    answers = acts(before.dealt(as_foreseen))
    with pytest.raises(ValueError, match="something else"):
        before.lived([answers[0].model_copy(update={"amount": answers[0].amount + 1}), *answers[1:]])
    with pytest.raises(ValueError, match="something else"):
        before.lived([*answers, answers[-1]])
