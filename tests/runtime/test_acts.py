"""What people do to vaults: idempotent under a key, refused whole, rehearsed without a trace; on both databases."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select, update

from ringfence.runtime import acts
from ringfence.runtime.acts import cancel, deposit, open_vault, redeem
from ringfence.runtime.clock import FOLLOWS
from ringfence.runtime.database import in_unit, lock_vault, open_engine, unit_of_work
from ringfence.vaults import tables
from ringfence.vaults.errors import (
    CancelTooLate,
    DepositAtRisk,
    DepositRefused,
    HolderNear,
    HolderRefused,
    KeyConflict,
    KeyRefused,
    MandateChanged,
    NothingWaits,
    RedeemExceeds,
    TimeRefused,
    UnknownHolder,
    UnknownVault,
    ZeroAssets,
    ZeroShares,
)
from ringfence.vaults.shares import LARGEST
from ringfence.vaults.tables import journal
from ringfence.words.amounts import AMOUNT_MAX
from ringfence.words.refusal import RingfenceError
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, breaches, contents, launch, tide, walk


@pytest.fixture
def small(database_url: str) -> Iterator[Tide]:
    """A vault with an open position, two holders and a redemption of bob's that waits."""
    one = launch(database_url, walk())
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    deposit(one.engine, "tide", "bob", 1_000 * UNIT, START)
    one.step(12)
    redeem(one.engine, "tide", "bob", None, START, key="bob-leaves")
    yield one
    one.engine.dispose()


REFUSALS: dict[str, tuple[type[RingfenceError], Callable[[Tide], object]]] = {
    "a deposit of nothing": (ZeroShares, lambda one: deposit(one.engine, "tide", "carol", 0, START)),
    "a deposit below nothing": (ZeroShares, lambda one: deposit(one.engine, "tide", "carol", -1, START)),
    "a deposit that the kernel cannot count": (
        DepositRefused, lambda one: deposit(one.engine, "tide", "carol", LARGEST, START)
    ),
    "a deposit under a name that cannot stand in the register": (
        HolderRefused, lambda one: deposit(one.engine, "tide", "two words", UNIT, START)
    ),
    "a deposit to a vault that does not exist": (
        UnknownVault, lambda one: deposit(one.engine, "tied", "carol", UNIT, START)
    ),
    "a deposit under a key used for a redemption": (
        KeyConflict, lambda one: deposit(one.engine, "tide", "bob", UNIT, START, key="bob-leaves")
    ),
    "a deposit under a blank key": (KeyRefused, lambda one: deposit(one.engine, "tide", "bob", UNIT, START, key=" ")),
    "a deposit under a key that is the program's own": (
        KeyRefused, lambda one: deposit(one.engine, "tide", "bob", UNIT, START, key="replay:bob")
    ),
    "a redemption under an empty key": (KeyRefused, lambda one: redeem(one.engine, "tide", "bob", 1, START, key="")),
    "a first deposit under a name that is nearly another's": (
        HolderNear, lambda one: deposit(one.engine, "tide", "alcie", UNIT, START)
    ),
    "a deposit before the vault was opened": (
        TimeRefused, lambda one: deposit(one.engine, "tide", "bob", UNIT, START - 1)
    ),
    "a deposit by a clock that went wrong": (
        TimeRefused, lambda one: deposit(one.engine, "tide", "bob", UNIT, 7_258_118_400_001)
    ),
    "a cancelled order that was never given": (
        NothingWaits, lambda one: cancel(one.engine, "tide", "bob", 2, START)
    ),
    "a cancelled order of somebody who has none": (
        NothingWaits, lambda one: cancel(one.engine, "tide", "alice", None, START)
    ),
    "a cancelled order of another's": (UnknownHolder, lambda one: cancel(one.engine, "tide", "mallory", None, START)),
    "a redemption of nothing": (ZeroAssets, lambda one: redeem(one.engine, "tide", "alice", 0, START)),
    "a redemption below nothing": (ZeroAssets, lambda one: redeem(one.engine, "tide", "alice", -1, START)),
    "a redemption worth less than a minor unit": (
        ZeroAssets, lambda one: redeem(one.engine, "tide", "alice", 1, START)
    ),
    "a redemption of more than held": (
        RedeemExceeds, lambda one: redeem(one.engine, "tide", "alice", 1_000 * SHARE + 1, START)
    ),
    "a redemption of what waits already": (RedeemExceeds, lambda one: redeem(one.engine, "tide", "bob", 1, START)),
    "all of nothing left": (ZeroAssets, lambda one: redeem(one.engine, "tide", "bob", None, START)),
    "a redemption by a stranger": (UnknownHolder, lambda one: redeem(one.engine, "tide", "mallory", 1, START)),
    "another mandate under the vault's name": (
        MandateChanged, lambda one: open_vault(one.engine, tide(leverage="4").mandate, START)
    ),
}  # fmt: skip


def test_what_is_refused_leaves_every_table_as_it_was(small: Tide) -> None:
    before = contents(small.engine)
    for case, (refusal, act) in REFUSALS.items():
        with pytest.raises(refusal):
            act(small)
        assert contents(small.engine) == before, case


def test_a_stranger_is_told_who_the_holders_are(small: Tide) -> None:
    with pytest.raises(UnknownHolder, match=r"holder mallory: has never held shares of vault tide; known: alice, bob"):
        redeem(small.engine, "tide", "mallory", 1, START)
    with pytest.raises(UnknownHolder, match="did you mean alice"):
        redeem(small.engine, "tide", "alise", 1, START)


def test_the_same_request_under_the_same_key_is_answered_as_a_repetition_and_not_repeated(small: Tide) -> None:
    first = deposit(small.engine, "tide", "carol", 5 * UNIT, START, key="k")
    between = contents(small.engine)
    again = deposit(small.engine, "tide", "carol", 5 * UNIT, START + HOUR, key="k")
    assert (again.entry, again.repeated, first.repeated) == (first.entry, True, False)
    assert contents(small.engine) == between
    deposit(small.engine, "tide", "carol", 5 * UNIT, START)
    assert figures(small)[0] == 10 * UNIT, "without a key it is another deposit"


def test_a_redemption_of_all_under_a_key_is_answered_the_same_after_everything_is_gone(small: Tide) -> None:
    first = redeem(small.engine, "tide", "alice", None, START, key="k")
    small.step(4, 12)
    assert redeem(small.engine, "tide", "alice", None, START, key="k").entry == first.entry
    assert breaches(small.engine) == []


def test_a_new_holder_of_a_similar_name_says_so_once(small: Tide) -> None:
    with pytest.raises(HolderNear, match=r"holder alcie: .* did you mean alice\?"):
        deposit(small.engine, "tide", "alcie", UNIT, START)
    deposit(small.engine, "tide", "alcie", UNIT, START, new=True)
    deposit(small.engine, "tide", "alcie", UNIT, START)
    assert breaches(small.engine) == []


# ---------------------------------------------------------------------------------------------------- cancelling


def test_a_cancelled_deposit_is_paid_back_whole_and_a_cancelled_redemption_leaves_its_shares(small: Tide) -> None:
    before = figures(small)
    given = deposit(small.engine, "tide", "carol", 5 * UNIT, START)
    assert figures(small) != before
    assert cancel(small.engine, "tide", "carol", None, START).entry.remaining == 5 * UNIT
    assert figures(small) == before
    left = cancel(small.engine, "tide", "bob", None, START, key="stays").entry
    assert (left.side, left.remaining) == ("redemption", 1_000 * SHARE)
    assert cancel(small.engine, "tide", "bob", None, START, key="stays").repeated
    small.step(2, 12)
    with unit_of_work(small.engine, writes=False) as connection:
        holders = small.vault(connection).holders
        assert (holders.held("bob"), holders.held("carol"), holders.requests()) == (1_000 * SHARE, 0, [])
    assert given.entry.settled is None
    assert breaches(small.engine) == []


def figures(one: Tide) -> tuple[int, int, int]:
    """(money that waits, what holders have paid in, shares that wait)."""
    with unit_of_work(one.engine, writes=False) as connection:
        vault = one.vault(connection)
        return vault.ledger.balance("entering"), vault.ledger.balance("world"), vault.waiting


def test_one_of_several_orders_is_cancelled_by_its_number(small: Tide) -> None:
    deposit(small.engine, "tide", "carol", 5 * UNIT, START)
    deposit(small.engine, "tide", "carol", 7 * UNIT, START)
    with pytest.raises(NothingWaits, match=r"name the one to cancel; those that wait: (\d+), (\d+)") as refused:
        cancel(small.engine, "tide", "carol", None, START)
    assert cancel(small.engine, "tide", "carol", refused.value.waiting[1], START).entry.remaining == 7 * UNIT
    assert figures(small)[0] == 5 * UNIT


# ---------------------------------------------------------------------------------------------------- forward pricing


def test_who_asks_after_a_slot_is_over_is_not_priced_by_it_though_it_is_not_stepped_yet(small: Tide) -> None:
    """By the caller's clock it is 90 minutes later than the last slot that was stepped."""
    late = START + 13 * HOUR + HOUR // 2
    deposit(small.engine, "tide", "carol", 5 * UNIT, late)
    small.step(1, 12)
    assert figures(small)[0] == 5 * UNIT, "the slot that was over"
    small.step(1, 13)
    assert figures(small)[0] == 0
    assert breaches(small.engine) == []


def test_an_order_cannot_be_cancelled_once_the_slot_of_its_strike_is_over(small: Tide) -> None:
    with pytest.raises(CancelTooLate, match=r"the strike of 2020-03-01T13:00:00Z settles it, and that slot is over"):
        cancel(small.engine, "tide", "bob", None, START + 13 * HOUR)
    assert cancel(small.engine, "tide", "bob", None, START + 13 * HOUR - 1).entry.side == "redemption"


def test_a_vault_that_lives_through_history_knows_no_clock_but_its_own(small: Tide) -> None:
    deposit(small.engine, "tide", "carol", 5 * UNIT, START + 48 * HOUR + FOLLOWS + 1)
    small.step(1, 12)
    assert figures(small)[0] == 0


def test_a_journal_never_runs_backwards(small: Tide) -> None:
    deposit(small.engine, "tide", "carol", 5 * UNIT, START + 20 * HOUR)
    small.step(10, 12)
    redeem(small.engine, "tide", "alice", None, START)
    with unit_of_work(small.engine, writes=False) as connection:
        times = connection.execute(select(journal.c.ts).order_by(journal.c.seq)).scalars().all()
    assert times == sorted(times)
    assert times[0] == START
    earlier = "cannot be the time of what happens now; expected 2020-03-01T22:00:00Z to"
    with pytest.raises(TimeRefused, match=earlier), unit_of_work(small.engine) as connection:
        small.vault(connection).deposit(START, "bob", UNIT, START)


@pytest.mark.parametrize("ts", [-1, 7_258_118_400_001])
def test_a_vault_is_not_opened_by_a_wrong_clock(database_url: str, ts: int) -> None:
    one = launch(database_url, walk(bars=5))
    with pytest.raises(TimeRefused):
        open_vault(one.engine, tide("ebb").mandate, ts)
    one.engine.dispose()


# ---------------------------------------------------------------------------------------------------- a locked vault


@pytest.fixture
def locked(small: Tide) -> Tide:
    """The same, locked at its wall for two hours, a rebase announced."""
    with unit_of_work(small.engine) as connection:
        change = {"locked_since": START + 10 * HOUR, "rebase_at": START + 40 * HOUR}
        connection.execute(update(tables.vault).values(**change))
    return small


def test_a_deposit_into_a_locked_vault_says_first_how_much_would_be_at_risk(locked: Tide) -> None:
    before = contents(locked.engine)
    with pytest.raises(DepositAtRisk) as refused:
        deposit(locked.engine, "tide", "carol", 1_000 * UNIT, START)
    told = refused.value
    assert (told.locked_since, told.rebase_at, told.at_wall) == (START + 10 * HOUR, START + 40 * HOUR, "hold")
    assert 800 * UNIT <= told.behind_wall <= 1_000 * UNIT
    assert told.behind_floor == 800 * UNIT
    assert contents(locked.engine) == before
    taken = deposit(locked.engine, "tide", "carol", 1_000 * UNIT, START, accepts_locked=True)
    assert taken.entry.accepts_locked
    assert taken.estimate is not None
    assert taken.estimate.at_risk == 1_000 * UNIT - taken.estimate.behind_wall


def test_a_deposit_that_did_not_accept_it_waits_on_while_the_vault_is_locked_and_can_be_taken_back(
    small: Tide,
) -> None:
    deposit(small.engine, "tide", "carol", 1_000 * UNIT, START)
    with unit_of_work(small.engine) as connection:
        connection.execute(update(tables.vault).values(locked_since=START + 12 * HOUR))
        due = small.vault(connection).due(START + 13 * HOUR)
    assert [order.side for order in due] == ["redemption"]
    assert cancel(small.engine, "tide", "carol", None, START).entry.remaining == 1_000 * UNIT


def test_an_act_whose_commit_was_lost_and_that_runs_again_has_one_effect(
    small: Tide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(engine: Engine, work: Callable[[Connection], Any]) -> Any:
        in_unit(engine, work)
        return in_unit(engine, work)

    act = partial(deposit, small.engine, "tide", "alice", 100 * UNIT, START)
    expected = act(rehearsed=True)
    monkeypatch.setattr(acts, "in_unit", twice)
    told = act()
    assert (told.entry, told.repeated) == (expected.entry, False)
    assert figures(small)[0] == 100 * UNIT
    assert breaches(small.engine) == []


def test_keys_belong_to_one_vault(database_url: str) -> None:
    one, other = launch(database_url, walk(bars=5)), launch(database_url, walk(bars=5), tide("ebb"))
    assert deposit(one.engine, "tide", "alice", UNIT, START, key="k").entry.nav == UNIT
    assert deposit(one.engine, "ebb", "alice", 2 * UNIT, START, key="k").entry.nav == 2 * UNIT
    one.engine.dispose()
    other.engine.dispose()


def test_a_rehearsal_gives_the_answer_of_the_act_and_leaves_no_trace(small: Tide) -> None:
    before = contents(small.engine)
    rehearsed = (
        deposit(small.engine, "tide", "carol", 5 * UNIT, START, key="k", rehearsed=True),
        redeem(small.engine, "tide", "alice", 10 * SHARE, START, rehearsed=True),
    )
    assert contents(small.engine) == before
    assert redeem(small.engine, "tide", "alice", 10 * SHARE, START) == rehearsed[1]
    assert contents(small.engine) != before


def test_a_vault_is_opened_once(small: Tide) -> None:
    before = contents(small.engine)
    assert open_vault(small.engine, small.setup.mandate, START) is False
    assert contents(small.engine) == before


def test_the_largest_amount_that_a_person_may_type_is_taken_and_redeemed(database_url: str) -> None:
    one = launch(database_url, walk(bars=5))
    deposit(one.engine, "tide", "whale", AMOUNT_MAX, START)
    redeem(one.engine, "tide", "whale", None, START)
    one.step(1)
    assert figures(one) == (0, 0, 0)
    assert breaches(one.engine) == []
    one.engine.dispose()


def test_depositors_at_once_are_all_booked(database_url: str) -> None:
    one = launch(database_url, walk(bars=5))
    failures: list[BaseException] = []

    def pay(number: int) -> None:
        engine = open_engine(database_url, create=False)
        try:
            for again in range(5):
                deposit(
                    engine, "tide", f"holder-{number}", (number + 1) * UNIT, START, key=f"{number}-{again}", new=True
                )
        except BaseException as failure:
            failures.append(failure)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=pay, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with unit_of_work(one.engine, writes=False) as connection:
        row = lock_vault(connection, "tide")
    assert (row["last_nav"], row["shares"], row["version"]) == (50 * UNIT, 50 * SHARE, 21)
    assert breaches(one.engine) == []
    one.engine.dispose()
