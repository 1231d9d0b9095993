"""What people do to vaults: idempotent under a key, refused whole, rehearsed without a trace; on both databases."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from ringfence.runtime import acts
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.database import in_unit, lock_vault, open_engine, unit_of_work
from ringfence.vaults.errors import (
    DepositRefused,
    HolderRefused,
    KeyConflict,
    MandateChanged,
    RedeemExceeds,
    UnknownHolder,
    UnknownVault,
    ZeroAssets,
    ZeroShares,
)
from ringfence.vaults.shares import LARGEST
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


def test_the_same_request_under_the_same_key_is_answered_and_not_repeated(small: Tide) -> None:
    first = deposit(small.engine, "tide", "carol", 5 * UNIT, START, key="k")
    between = contents(small.engine)
    assert deposit(small.engine, "tide", "carol", 5 * UNIT, START + HOUR, key="k") == first
    assert contents(small.engine) == between
    assert deposit(small.engine, "tide", "carol", 5 * UNIT, START).total_shares > first.total_shares


def test_a_redemption_of_all_under_a_key_is_answered_the_same_after_everything_is_gone(small: Tide) -> None:
    first = redeem(small.engine, "tide", "alice", None, START, key="k")
    small.step(4, 12)
    assert redeem(small.engine, "tide", "alice", None, START, key="k") == first
    assert breaches(small.engine) == []


def test_an_act_whose_commit_was_lost_and_that_runs_again_has_one_effect(
    small: Tide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(engine: Engine, work: Callable[[Connection], Any]) -> Any:
        in_unit(engine, work)
        return in_unit(engine, work)

    act = partial(deposit, small.engine, "tide", "alice", 100 * UNIT, START)
    expected = act(rehearsed=True)
    monkeypatch.setattr(acts, "in_unit", twice)
    assert act() == expected
    monkeypatch.undo()
    following = act(rehearsed=True)
    assert following.total_shares - following.shares == expected.total_shares
    assert breaches(small.engine) == []


def test_keys_belong_to_one_vault(database_url: str) -> None:
    one, other = launch(database_url, walk(bars=5)), launch(database_url, walk(bars=5), tide("ebb"))
    assert deposit(one.engine, "tide", "alice", UNIT, START, key="k").nav == UNIT
    assert deposit(one.engine, "ebb", "alice", 2 * UNIT, START, key="k").nav == 2 * UNIT
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
    assert redeem(one.engine, "tide", "whale", None, START).paid == AMOUNT_MAX
    assert breaches(one.engine) == []
    one.engine.dispose()


def test_depositors_at_once_are_all_booked(database_url: str) -> None:
    one = launch(database_url, walk(bars=5))
    failures: list[BaseException] = []

    def pay(number: int) -> None:
        engine = open_engine(database_url, create=False)
        try:
            for again in range(5):
                deposit(engine, "tide", f"holder-{number}", (number + 1) * UNIT, START, key=f"{number}-{again}")
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
