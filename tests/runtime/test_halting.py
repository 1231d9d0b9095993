"""A halt ends a vault's deciding and nothing else; it ends by two steps; a closed vault pays everybody and is empty."""

from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from ringfence.faces import queries
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.halting import audit, close, halt, resume
from ringfence.runtime.scheduler import AUDIT, Scheduler
from ringfence.runtime.step import HALTED_BY
from ringfence.runtime.verification import verify
from ringfence.vaults import journal
from ringfence.vaults.entries import Closing, Decided, Halted, ResumeAsked, Resumed, Walked
from ringfence.vaults.errors import (
    AlreadyClosing,
    DepositRefused,
    LawsBroken,
    NotHalted,
    ResumeNotAsked,
    UnknownVault,
)
from ringfence.vaults.tables import account, holding, position, vault
from tests.reference.tide import HOUR, START, UNIT, Tide, breaches, contents, launch, walk

WHY = "a price looks wrong"


@pytest.fixture
def one(database_url: str) -> Iterator[Tide]:
    """Alice has money in it, and it holds a position since its fourth hour."""
    launched = launch(database_url, walk(bars=24))
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    deposit(launched.engine, "tide", "bob", 500 * UNIT, START)
    launched.step(8)
    assert held(launched)
    yield launched
    launched.engine.dispose()


def held(one: Tide) -> int:
    with unit_of_work(one.engine, writes=False) as connection:
        return int(connection.execute(select(position.c.quantity)).scalar_one())


def told(one: Tide, since: int = 0) -> list[object]:
    with unit_of_work(one.engine, writes=False) as connection:
        return [row.entry for row in journal.rows(connection, 1) if row.seq > since]


def rows(one: Tide) -> int:
    return len(told(one))


def sound(one: Tide) -> bool:
    return breaches(one.engine) == [] and [verdict.breaches for verdict in verify(one.engine)] == [()]


def test_a_halted_vault_lives_on_and_decides_nothing(one: Tide) -> None:
    before, lots = rows(one), held(one)
    assert halt(one.engine, "tide", "carol", WHY, START).entry == Halted(by="carol", why=WHY)
    one.step(12, 0)
    assert [type(entry) for entry in told(one, before)] == [Halted, *[Walked] * 4]
    assert held(one) == lots
    (shown,) = queries.vaults(one.engine)
    assert (shown["status"], shown["marked"]) == ("halted", "2020-03-01T12:00:00Z")
    assert sound(one)


def test_a_halt_survives_a_restart(one: Tide) -> None:
    halt(one.engine, "tide", "carol", WHY, START)
    Desk(one.engine).step("tide", START + 10 * HOUR)
    assert not any(isinstance(entry, Decided) for entry in told(one)[-3:])


def test_nobody_enters_or_leaves_while_a_vault_is_halted(one: Tide) -> None:
    halt(one.engine, "tide", "carol", WHY, START)
    with pytest.raises(DepositRefused, match="the vault is halted"):
        deposit(one.engine, "tide", "dave", UNIT, START)
    redeem(one.engine, "tide", "alice", None, START)
    one.step(12, 0)
    (shown,) = queries.vaults(one.engine)
    assert shown["waiting"] != "0"
    resume(one.engine, "tide", "carol", "seen", START, confirmed=False)
    resume(one.engine, "tide", "dan", "seen too", START, confirmed=True)
    one.step(14, 0)
    assert [shown["waiting"] for shown in queries.vaults(one.engine)] == ["0.000000000"]
    assert sound(one)


def test_a_halt_ends_by_two_steps_and_what_was_passed_is_not_decided(one: Tide) -> None:
    halt(one.engine, "tide", "carol", WHY, START)
    one.step(12, 0)
    with pytest.raises(ResumeNotAsked):
        resume(one.engine, "tide", "dan", "seen", START, confirmed=True)
    resume(one.engine, "tide", "carol", "seen", START, confirmed=False)
    one.step(13, 0)
    assert isinstance(told(one)[-1], Walked), "asking ends nothing"
    resume(one.engine, "tide", "dan", "seen too", START, confirmed=True)
    before = rows(one)
    one.step(16, 0)
    decided = told(one, before)
    assert [entry.slot for entry in decided if isinstance(entry, Decided)] == [START + n * HOUR for n in (13, 14, 15)]
    assert [type(entry) for entry in told(one) if isinstance(entry, Halted | ResumeAsked | Resumed)] == [
        Halted, ResumeAsked, Resumed]  # fmt: skip
    assert sound(one)


def test_another_halt_takes_the_first_step_back(one: Tide) -> None:
    halt(one.engine, "tide", "carol", WHY, START)
    resume(one.engine, "tide", "carol", "seen", START, confirmed=False)
    halt(one.engine, "tide", "erin", "not yet", START)
    with pytest.raises(ResumeNotAsked):
        resume(one.engine, "tide", "dan", "seen", START, confirmed=True)


def test_what_is_not_halted_is_not_resumed(one: Tide) -> None:
    with pytest.raises(NotHalted):
        resume(one.engine, "tide", "dan", "seen", START, confirmed=False)
    with pytest.raises(UnknownVault):
        halt(one.engine, "ebb", "carol", WHY, START)


@pytest.mark.parametrize("act", ["halt", "ask", "confirm", "close"])
def test_a_rehearsal_says_what_the_act_says_and_changes_nothing(one: Tide, act: str) -> None:
    if act in ("ask", "confirm"):
        halt(one.engine, "tide", "carol", WHY, START)
    if act == "confirm":
        resume(one.engine, "tide", "carol", WHY, START, confirmed=False)

    def done(rehearsed: bool) -> object:
        match act:
            case "halt":
                return halt(one.engine, "tide", "carol", WHY, START, rehearsed=rehearsed).entry
            case "close":
                return close(one.engine, "tide", "carol", WHY, START, rehearsed=rehearsed).entry
        return resume(
            one.engine, "tide", "dan", WHY, START, confirmed=act == "confirm", rehearsed=rehearsed
        ).entry  # fmt: skip

    before = contents(one.engine)
    rehearsed = done(True)
    assert contents(one.engine) == before
    assert done(False) == rehearsed
    assert contents(one.engine) != before


def test_a_closed_vault_closes_its_positions_and_pays_everybody(one: Tide) -> None:
    deposit(one.engine, "tide", "frank", 7 * UNIT, START)  # waits to enter
    entry = close(one.engine, "tide", "carol", "enough", START).entry
    assert entry == Closing(by="carol", why="enough")
    with pytest.raises(DepositRefused, match="the vault is closing"):
        deposit(one.engine, "tide", "dave", UNIT, START)
    with pytest.raises(AlreadyClosing):
        close(one.engine, "tide", "carol", "again", START)
    one.step(12, 0)
    assert held(one) == 0
    with unit_of_work(one.engine, writes=False) as connection:
        assert set(connection.execute(select(holding.c.shares)).scalars()) == {0}
        assert connection.execute(select(vault.c.shares)).scalar_one() == 0
        left = dict(connection.execute(select(account.c.name, account.c.balance)).all())
    assert left["entering"] == 0
    (shown,) = queries.vaults(one.engine)
    assert shown["status"] == "closed"
    assert sound(one)


# ---------------------------------------------------------------------------------------------------- the audit


def test_a_vault_whose_books_break_a_law_is_halted_alone_and_stays_so(sqlite_database: str) -> None:
    from tests.reference.tide import tide as mandate

    launched = launch(sqlite_database, walk(bars=24))
    from ringfence.runtime.acts import open_vault

    open_vault(launched.engine, mandate("other").mandate, START)
    for name in ("tide", "other"):
        deposit(launched.engine, name, "alice", 1_000 * UNIT, START)
        launched.desk.step(name, START + 6 * HOUR)
    with unit_of_work(launched.engine) as connection:
        wrong = (account.c.name == "cushion") & (account.c.vault_id == 1)
        connection.execute(update(account).where(wrong).values(balance=account.c.balance + 1))
    assert audit(launched.engine, "other", START) == []
    found = audit(launched.engine, "tide", START)
    assert any("cushion" in breach for breach in found)
    (entry,) = (entry for entry in told(launched) if isinstance(entry, Halted))
    assert (entry.by, entry.breaches) == (HALTED_BY, tuple(found))
    assert audit(launched.engine, "tide", START) == found, "told again, halted once"
    assert sum(isinstance(entry, Halted) for entry in told(launched)) == 1
    with pytest.raises(LawsBroken, match="cushion"):
        resume(launched.engine, "tide", "carol", "seen", START, confirmed=False)
    assert {shown["vault"]: shown["status"] for shown in queries.vaults(launched.engine)}["other"] == "active"
    launched.engine.dispose()


def test_the_scheduler_rings_for_one_audit_after_another(sqlite_database: str) -> None:
    from ringfence.runtime.acts import open_vault
    from tests.reference.tide import tide as mandate

    launched, rung = launch(sqlite_database, walk(bars=4)), list[str]()
    open_vault(launched.engine, mandate("other").mandate, START)
    scheduler = Scheduler(launched.engine, lambda names, slow: None, audit=rung.extend)
    for now in (START, START + AUDIT // 2, START + AUDIT, START + 2 * AUDIT):
        scheduler.round(now)
    assert rung == ["other", "tide", "other"]
    launched.engine.dispose()
