"""Verification of journals that one program cannot decide again: another kernel, another release, another mandate."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text, update

from ringfence.faces import queries
from ringfence.risk import KERNEL
from ringfence.runtime import step as stepping
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.history import run_of
from ringfence.runtime.verification import Verdict, verify
from ringfence.strategies.errors import UnknownStrategy
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided
from ringfence.vaults.errors import AmendmentRefused
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import journal as journal_table
from ringfence.vaults.tables import vault
from ringfence.words.refusal import RingfenceError
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, breaches, launch, walk


@pytest.fixture
def lived(database_url: str) -> Iterator[Tide]:
    """A vault that traded, was paid into and redeemed from."""
    lived = launch(database_url, walk())
    deposit(lived.engine, "tide", "alice", 1_000 * UNIT, START)
    lived.step(20)
    redeem(lived.engine, "tide", "alice", 300 * SHARE, START)
    lived.step(10, 20)
    yield lived
    lived.engine.dispose()


def verdict(lived: Tide) -> Verdict:
    (found,) = verify(lived.engine, ["tide"])
    return found


def test_what_this_kernel_decided_is_decided_again(lived: Tide) -> None:
    assert verdict(lived) == Verdict("tide", 33, 30, (), ())


@pytest.mark.parametrize(
    ("kernel", "release", "told"), [(7, None, f"kernel {KERNEL}"), (None, "constant==0.0.9", "constant==0.1.0")]
)
def test_what_another_decided_is_neither_a_breach_nor_decided_again(
    lived: Tide, monkeypatch: pytest.MonkeyPatch, kernel: int | None, release: str | None, told: str
) -> None:
    """The program that verifies is the other one here: to it the journal's kernel or strategy is a stranger's."""
    if kernel is not None:
        monkeypatch.setattr(stepping, "KERNEL", kernel)
    if release is not None:
        monkeypatch.setattr(stepping, "release", lambda name: release)
    assert verdict(lived) == Verdict("tide", 33, 0, (), ((told, 30),))


def test_a_strategy_that_is_no_longer_installed_does_not_stop_verification(
    lived: Tide, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise UnknownStrategy(name, ())

    monkeypatch.setattr(stepping, "release", absent)
    assert verdict(lived).undecided == (("constant==0.1.0", 30),)


def test_a_vault_that_went_on_under_a_new_kernel_is_decided_again_from_there(
    lived: Tide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "KERNEL", KERNEL + 1)
    lived.step(5, 30)
    found = verdict(lived)
    assert (found.slots, found.undecided, found.breaches) == (5, ((f"kernel {KERNEL}", 30),), ())


def rewrite(connection: Connection, seq: int, change: dict[str, Any]) -> None:
    """Change a row as one would who can write to the file, and hash the chain anew from there."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("DROP TRIGGER IF EXISTS journal_no_update"))
    else:
        connection.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))
    previous = None
    for row in list(journal.rows(connection, 1)):
        body = journal.canonical(json.loads(row.body) | change) if row.seq == seq else row.body
        previous = row.previous_hash if previous is None else previous
        hashed = journal.row_hash(previous, row.seq, row.ts, row.kind, body)
        connection.execute(
            update(journal_table)
            .where(journal_table.c.seq == row.seq)
            .values(body=body, previous_hash=previous, hash=hashed)
        )
        previous = hashed
    connection.execute(update(vault).values(journal_hash=previous))


@pytest.mark.parametrize("change", [{"struck": 1}, {"nav": 1}, {"transfers": []}, {"positions": {}}])
def test_money_that_another_kernel_tells_wrong_is_a_breach_all_the_same(
    lived: Tide, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Row 6 opens the position; its chain is made whole again, so that only living again can tell."""
    monkeypatch.setattr(stepping, "KERNEL", KERNEL + 1)
    with unit_of_work(lived.engine) as connection:
        rewrite(connection, 6, change)
    assert verdict(lived).breaches


# ---------------------------------------------------------------------------------------------------- amendments


def amended(lived: Tide, **changes: Any) -> Mandate:
    terms = lived.setup.mandate
    return Mandate.model_validate(terms.model_dump(by_alias=True, mode="json") | changes)


def amend(lived: Tide, terms: Mandate, ts: int) -> Amended:
    with unit_of_work(lived.engine) as connection:
        return lived.vault(connection).amend(ts, terms)


def test_a_vault_lives_on_under_the_second_version_of_its_mandate_and_everything_survives_it(lived: Tide) -> None:
    before = queries.statements(lived.engine)
    told = amend(lived, amended(lived, loss_cap="30%", title="The spring tide"), START + 30 * HOUR)
    assert told.to_reserve == 0, "a wider cap asks for no more behind the wall"
    assert queries.statements(lived.engine)[0]["deposited"] == before[0]["deposited"]
    lived.step(10, 30)
    deposit(lived.engine, "tide", "bob", 500 * UNIT, START)
    found = verdict(lived)
    assert (found.slots, found.breaches, found.undecided) == (40, (), ())
    assert breaches(lived.engine) == []
    with unit_of_work(lived.engine, writes=False) as connection:
        run = run_of(connection, lock_vault(connection, "tide"))
    assert (run.title, run.loss_cap, len(run.ts)) == ("The spring tide", 0.3, 40)
    assert run.wall[29] > run.wall[30], "each slot's wall is that of the mandate it was decided under"
    assert [event["cause"] for event in queries.events(lived.engine, kinds=["mandate"])] == [
        f"opened under mandate {lived.setup.mandate.fingerprint[:12]}",
        f"goes on under mandate {told.mandate[:12]}",
    ]
    (shown,) = queries.vaults(lived.engine)
    assert (shown["title"], shown["loss_cap"]) == ("The spring tide", "0.300000")


def test_a_tighter_cap_fills_the_reserve_from_the_cushion_or_is_refused(lived: Tide) -> None:
    with unit_of_work(lived.engine, writes=False) as connection:
        free = lived.vault(connection).ledger.balance("cushion")
        reserve = lived.vault(connection).ledger.balance("reserve")
    told = amend(lived, amended(lived, loss_cap="19.9%"), START + 30 * HOUR)
    assert 0 < told.to_reserve <= free
    with unit_of_work(lived.engine, writes=False) as connection:
        assert lived.vault(connection).ledger.balance("reserve") == reserve + told.to_reserve
    with pytest.raises(AmendmentRefused, match="its wall would need"):
        amend(lived, amended(lived, loss_cap="1%"), START + 30 * HOUR)
    assert verdict(lived).breaches == ()


def test_an_amendment_to_another_vault_other_slots_or_other_positions_is_refused(lived: Tide) -> None:
    with pytest.raises(AmendmentRefused, match="it would become ebb"):
        amend(lived, amended(lived, mandate="ebb"), START)
    with pytest.raises(AmendmentRefused, match="its slots would be of 4h"):
        amend(
            lived,
            amended(lived, timeframe="4h", volatility={"estimator": "ewma", "half_life": "8h", "window": "16h"}),
            START,
        )
    moved = lived.setup.mandate.model_dump(by_alias=True, mode="json")["positions"]
    with pytest.raises(AmendmentRefused, match="its positions would be others"):
        amend(lived, amended(lived, positions={"other": moved["btc"]}), START)
    assert verdict(lived).breaches == ()


def test_an_amended_row_is_read_as_one(lived: Tide) -> None:
    amend(lived, amended(lived, title="Later"), START + 30 * HOUR)
    with unit_of_work(lived.engine, writes=False) as connection:
        kinds = [row.kind for row in journal.rows(connection, 1)]
        last = journal.last_row(connection, 1, Decided)
    assert kinds.count("amended") == 1
    assert last is not None
    assert isinstance(last.entry, Decided)
    assert last.entry.strategies == {"btc": "constant==0.1.0"}


# ---------------------------------------------------------------------------------------------------- changed rows

JUNK = (None, True, -1, 2**70, 1.5, 1e308, "", "x", "btc", [], {}, [[]], {"a": 1}, "\x00")


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a body."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, part in inner:
        yield (*path, step)
        yield from leaves(part, (*path, step))


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tide]:
    """A vault in a file whose journal can be changed."""
    lived = launch(f"sqlite:///{tmp_path_factory.mktemp('unguarded') / 'ringfence.db'}", walk())
    deposit(lived.engine, "tide", "alice", 1_000 * UNIT, START)
    lived.step(10)
    redeem(lived.engine, "tide", "alice", 300 * SHARE, START)
    lived.step(2, 10)
    with unit_of_work(lived.engine) as connection:
        connection.execute(text("DROP TRIGGER journal_no_update"))
    yield lived
    lived.engine.dispose()


@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.sampled_from(JUNK))
def test_any_changed_value_of_any_row_is_found_and_ends_no_command_in_a_fault(
    unguarded: Tide, dice: Any, junk: Any
) -> None:
    with unit_of_work(unguarded.engine, writes=False) as connection:
        row = dice.choice(list(journal.rows(connection, 1)))
    body = json.loads(row.body)
    *above, last = dice.choice(list(leaves(body)))
    place = body
    for step in above:
        place = place[step]
    place[last] = junk
    changed = journal.canonical(body)

    def write(text_of_row: str) -> None:
        with unit_of_work(unguarded.engine) as connection:
            connection.execute(update(journal_table).where(journal_table.c.seq == row.seq).values(body=text_of_row))

    write(changed)
    try:
        assert changed == row.body or verdict(unguarded).breaches
        for question in (queries.vaults, queries.positions, queries.statements, queries.events):
            with suppress(RingfenceError):
                question(unguarded.engine)
        with suppress(RingfenceError), unit_of_work(unguarded.engine, writes=False) as connection:
            run_of(connection, lock_vault(connection, "tide"))
    finally:
        write(row.body)
