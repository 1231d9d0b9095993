"""The database is the queue: what is due is found in it, claimed by one, and never lost to whoever died."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from ringfence.markets.market import Market, align
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import feed_until, store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import CLAIM, MOST, Due, Duties, claim, let_go, put_off, released, troubles
from ringfence.runtime.scheduler import AGAIN, BATCH, Scheduler
from ringfence.runtime.tasks import settle, using
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.tables import fed as fed_table
from ringfence.vaults.tables import position, vault
from tests.reference.tide import HOUR, START, SYMBOL, UNIT, Tide, contents, launch, tide, walk

NOW = 1_700_000_000_000


@pytest.fixture
def fed(database_url: str) -> Iterator[Tide]:
    """A vault with money, and ten hours that it has not lived."""
    one = launch(database_url, walk(bars=10))
    deposit(one.engine, one.name, "alice", 1_000 * UNIT, START)
    yield one
    one.engine.dispose()


def named(one: Tide, now: int = NOW) -> list[str]:
    return [due.vault for due in Duties(one.engine).due(now)]


def troubled(one: Tide) -> list[tuple[str, int, str | None, bool]]:
    with unit_of_work(one.engine, writes=False) as connection:
        return [tuple(found) for found in troubles(connection)]


def clock(one: Tide) -> int | None:
    with unit_of_work(one.engine, writes=False) as connection:
        found: int | None = connection.execute(select(vault.c.last_bar)).scalar_one()
        return found


# ---------------------------------------------------------------------------------------------------- due


def test_a_vault_is_due_until_it_has_lived_all_that_is_fed(fed: Tide) -> None:
    assert Duties(fed.engine).due(NOW) == [Due("tide", 0, False)]
    fed.step(9)
    assert named(fed) == ["tide"]
    fed.step(1, 9)
    assert named(fed) == []


def test_a_slot_is_lived_only_once_it_is_fed_whole(database_url: str) -> None:
    """Whatever a message says."""
    whole = walk(bars=8)
    one = launch(database_url, whole.before(START + 3 * HOUR))
    with unit_of_work(one.engine) as connection:
        connection.execute(update(fed_table).values(until=START + 2 * HOUR + HOUR // 2))
    assert one.desk.step(one.name, START + 7 * HOUR) == 2
    assert clock(one) == START + HOUR
    assert named(one) == []
    in_unit(one.engine, lambda connection: feed_until(connection, SYMBOL, START + 3 * HOUR))
    assert named(one) == ["tide"]
    assert one.desk.step(one.name, START + 7 * HOUR) == 1
    one.engine.dispose()


def test_what_is_fed_never_goes_back(fed: Tide) -> None:
    for until in (START + 20 * HOUR, START + 12 * HOUR):
        in_unit(fed.engine, lambda connection, until=until: feed_until(connection, SYMBOL, until))
    assert contents(fed.engine)["fed"] == [(f"binance:{SYMBOL}", START + 20 * HOUR)]


def test_a_symbol_without_a_series_is_not_fed(fed: Tide) -> None:
    in_unit(fed.engine, lambda connection: feed_until(connection, "ETH/USDT:USDT", START))
    assert len(contents(fed.engine)["fed"]) == 1


def test_the_slowest_series_of_a_vault_decides(fed: Tide) -> None:
    with unit_of_work(fed.engine) as connection:
        second = dict(connection.execute(select(position)).mappings().one())
        connection.execute(
            position.insert(), second | {"name": "eth", "ordinal": 1, "instrument": "binance:ETH/USDT:USDT"}
        )
    assert named(fed) == []


# ---------------------------------------------------------------------------------------------------- claims


def test_a_vault_is_claimed_by_one_until_it_is_let_go_or_the_claim_runs_out(fed: Tide) -> None:
    assert claim(fed.engine, ["tide", "ghost"], NOW) == ("tide",)
    assert claim(fed.engine, ["tide"], NOW) == ()
    assert named(fed, NOW + CLAIM - 1) == []
    assert Duties(fed.engine).due(NOW + CLAIM) == [Due("tide", 1, False)]
    assert claim(fed.engine, ["tide"], NOW + CLAIM) == ("tide",)
    let_go(fed.engine, ["tide"], NOW)
    assert named(fed, NOW + CLAIM) == [], "the first claim has run out: this one is the second's"
    let_go(fed.engine, ["tide"], NOW + CLAIM)
    assert Duties(fed.engine).due(NOW) == [Due("tide", 0, False)]


def test_a_vault_that_was_stepped_by_somebody_whose_claim_had_run_out_is_not_blamed_for_it(fed: Tide) -> None:
    for number in range(MOST):
        assert claim(fed.engine, ["tide"], NOW + number * CLAIM) == ("tide",)
    with unit_of_work(fed.engine, writes=False) as connection:
        assert [trouble.left_aside for trouble in troubles(connection)] == [True]
    let_go(fed.engine, ["tide"], NOW, done=["tide"])
    with unit_of_work(fed.engine, writes=False) as connection:
        assert troubles(connection) == []
    assert named(fed, NOW + MOST * CLAIM) == ["tide"]


def test_a_vault_that_kills_whoever_steps_it_is_left_aside_and_says_so(fed: Tide) -> None:
    now = NOW
    for attempt in range(1, MOST + 1):
        assert claim(fed.engine, ["tide"], now) == ("tide",)
        now += CLAIM
        assert troubled(fed) == ([] if attempt == 1 else [("tide", attempt, None, attempt == MOST)])
    assert named(fed, now) == []
    assert claim(fed.engine, ["tide"], now) == ()
    (aside,) = troubled(fed)
    assert released(fed.engine, rehearsed=True) == (aside,)
    assert named(fed, now) == []
    assert released(fed.engine, "tide") == (aside,)
    assert released(fed.engine) == ()
    with pytest.raises(UnknownVault):
        released(fed.engine, "ghost")
    assert named(fed, now) == ["tide"]


def test_what_failed_waits_longer_each_time(fed: Tide) -> None:
    now, waits = NOW, []
    for _ in range(MOST - 1):
        assert claim(fed.engine, ["tide"], now) == ("tide",)
        put_off(fed.engine, "tide", "it broke" * 200, now)
        began = now
        while not named(fed, now):
            now += 100
        waits.append(now - began)
    assert waits == [1_000, 2_000, 4_000, 8_000]
    ((name, attempts, failure, left_aside),) = troubled(fed)
    assert (name, attempts, left_aside) == ("tide", MOST - 1, False)
    assert failure is not None
    assert 0 < len(failure) <= 500


# ---------------------------------------------------------------------------------------------------- the task


def test_the_task_brings_every_vault_up_to_what_is_fed(fed: Tide) -> None:
    open_vault(fed.engine, tide("ebb").mandate, START)
    with using(Desk(fed.engine)):
        assert settle(["tide", "ebb", "ghost"]) == 20
        assert settle(["tide", "ebb"]) == 0
    assert named(fed) == []
    assert contents(fed.engine).keys() >= {"fed"}
    assert troubled(fed) == []


def test_one_vaults_fault_touches_no_other(fed: Tide) -> None:
    open_vault(fed.engine, tide("ebb").mandate, START)
    with unit_of_work(fed.engine) as connection:
        connection.execute(update(vault).where(vault.c.name == "tide").values(high_water_mark=2**52))
    with using(Desk(fed.engine)):
        assert settle(["tide", "ebb"]) == 10
    ((name, attempts, failure, _),) = troubled(fed)
    assert (name, attempts) == ("tide", 1)
    assert failure is not None
    assert failure.startswith("WallBreached") or "wall" in failure


@pytest.mark.parametrize("names", ["tide", [1], None, ({"a": 1},)])
def test_anything_but_a_list_of_names_is_refused(fed: Tide, names: object) -> None:
    with using(Desk(fed.engine)), pytest.raises(TypeError, match="expected a list of vaults' names"):
        settle(names)


# ---------------------------------------------------------------------------------------------------- the scheduler


def test_it_rings_once_and_again_only_after_a_while(fed: Tide) -> None:
    heard: list[list[str]] = []
    scheduler = Scheduler(fed.engine, lambda names, slow: heard.append(list(names)))
    assert [scheduler.round(NOW + after) for after in (0, 1, AGAIN - 1, AGAIN)] == [1, 0, 0, 1]
    assert heard == [["tide"]] * 2
    fed.step(10)
    assert scheduler.round(NOW + 3 * AGAIN) == 0


def test_what_has_failed_is_rung_for_alone_and_the_rest_is_shared_out(sqlite_database: str) -> None:
    one = launch(sqlite_database, walk(bars=3))
    for number in range(2 * BATCH + 10):
        open_vault(one.engine, tide(f"tide-{number:03}").mandate, START)
    claim(one.engine, ["tide-007"], NOW - CLAIM)
    heard: list[list[str]] = []
    assert Scheduler(one.engine, lambda names, slow: heard.append(list(names)), workers=2).round(NOW) == 2 * BATCH + 11
    assert [len(names) for names in heard] == [BATCH, BATCH, 10, 1]
    assert heard[-1] == ["tide-007"]
    assert len({name for names in heard for name in names}) == 2 * BATCH + 11
    one.engine.dispose()


def test_two_schedulers_and_two_workers_at_once_have_one_effect(sqlite_database: str, tmp_path: Path) -> None:
    def lived(url: str, schedulers: int) -> dict[str, list[tuple[object, ...]]]:
        one = launch(url, walk(bars=10))
        deposit(one.engine, one.name, "alice", 1_000 * UNIT, START, "once")
        rung: list[list[str]] = []
        for _ in range(schedulers):
            Scheduler(one.engine, lambda names, slow: rung.append(list(names))).round(NOW)
        for names in rung:
            with using(Desk(one.engine)):
                settle(names)
        found = contents(one.engine)
        one.engine.dispose()
        return found

    assert lived(sqlite_database, 2) == lived(f"sqlite:///{tmp_path / 'alone.db'}", 1)


# ---------------------------------------------------------------------------------------------------- piece by piece


def test_bars_that_arrive_one_by_one_end_in_the_same_ledger(sqlite_database: str, tmp_path: Path) -> None:
    market = walk(bars=12)
    whole = launch(f"sqlite:///{tmp_path / 'whole.db'}", market)
    piecemeal = launch(sqlite_database, market.before(START + HOUR))
    for one in (whole, piecemeal):
        deposit(one.engine, one.name, "alice", 1_000 * UNIT, START, "once")
    whole.step(12)
    for hour in range(12):
        piece = _hour(market, hour)
        in_unit(piecemeal.engine, lambda connection, piece=piece: store_bars(connection, piece))
        with using(Desk(piecemeal.engine)):
            assert settle(["tide"]) == 1
    assert contents(piecemeal.engine) == contents(whole.engine)
    whole.engine.dispose()
    piecemeal.engine.dispose()


def _hour(market: Market, hour: int) -> Market:
    return align({SYMBOL: market.bars(0)[hour : hour + 1]})


def test_a_database_of_the_schema_before_is_fed_up_to_its_last_bar(sqlite_database: str) -> None:
    """The steps from 0003 take what is recorded for whole, and a vault's last slot for what it has lived up to."""
    one = launch(sqlite_database, walk(bars=5))
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    one.step(3)
    before = contents(one.engine)
    one.engine.dispose()
    engine = open_engine(sqlite_database, create=False)
    columns = ("reported", "ordered", "closing_since", "resume_asked", "halted_since", "nav_low", "clock")
    with unit_of_work(engine) as connection:
        for statement in ("DROP TABLE duty", "DROP TABLE glance", "DROP TABLE fed", "DROP TABLE quality",
                          "ALTER TABLE position DROP COLUMN pending",
                          *(f"ALTER TABLE vault DROP COLUMN {column}" for column in columns),
                          "UPDATE alembic_version SET version_num = '0003'"):  # fmt: skip
            connection.exec_driver_sql(statement)
    assert migrate(engine) == "0003"
    assert contents(engine)["fed"] == [(f"binance:{SYMBOL}", START + 5 * HOUR)]
    assert contents(engine)["vault"] == before["vault"]
    assert one.desk.step("tide", START + 4 * HOUR) == 2
    assert len(contents(engine)["journal"]) == len(before["journal"]) + 2
    engine.dispose()
