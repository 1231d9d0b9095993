"""The desk steps each slot once, whole or not at all, whoever calls it, how often, and whenever it is stopped."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, select

from ringfence.markets.bars import Bars
from ringfence.markets.errors import InvalidTimeframe
from ringfence.markets.market import Market, align
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import DatabaseBusy, NoBars
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import journal, metadata, vault
from tests.reference.tide import MANDATE, launch, tide, walk

HOUR, QUARTER = 3_600_000, 900_000
START = 1_583_712_000_000
SLOTS, SILENT = 96, (80, 81)
"""Four days, of which the first three warm up; no symbol has bars in the two silent hours."""
VAULT = "btc-eth-shield"
Ledger = dict[str, list[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def setup(project: Path) -> Setup:
    return set_up(load_mandate(project / "tests" / "reference" / "mandates" / f"{VAULT}.yaml"))


@pytest.fixture(scope="module")
def market(setup: Setup) -> Market:
    bars = {}
    for number, symbol in enumerate(setup.symbols):
        dice = np.random.default_rng(number)
        rows = np.arange(SLOTS * 4)
        rows = rows[~np.isin(rows // 4, SILENT) & (dice.random(len(rows)) > 0.05)]
        close = (8000.0, 200.0)[number] * np.exp(np.cumsum(dice.normal(0.0, 0.006, len(rows))))
        open = close * np.exp(dice.normal(0.0, 0.001, len(rows)))
        high, low = np.maximum(open, close) * 1.002, np.minimum(open, close) * 0.998
        bars[symbol] = Bars(symbol, QUARTER, START + rows * QUARTER, open, high, low, close, np.ones(len(rows)))
    return align(bars)


@pytest.fixture
def engine(database_url: str, setup: Setup, market: Market) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    _furnish(engine, setup, market)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, setup: Setup, market: Market) -> Path:
    """A SQLite file with the vault before its first slot, to be copied."""
    file = tmp_path_factory.mktemp("template") / "ringfence.db"
    engine = open_engine(f"sqlite:///{file}", create=True)
    _furnish(engine, setup, market)
    engine.dispose()
    return file


@pytest.fixture(scope="module")
def straight(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The ledger after every slot was stepped once, in order, by one desk."""
    file = tmp_path_factory.mktemp("straight") / "ringfence.db"
    shutil.copy(template, file)
    engine = open_engine(f"sqlite:///{file}", create=False)
    desk = Desk(engine)
    assert sum(desk.step(VAULT, slot(number)) for number in range(SLOTS)) == SLOTS - len(SILENT)
    found = ledger_of(engine)
    assert len(found["transfer"]) > 20
    engine.dispose()
    return found


def _furnish(engine: Engine, setup: Setup, market: Market) -> None:
    migrate(engine)
    in_unit(engine, functools.partial(store_bars, market=market))
    open_vault(engine, setup.mandate, START)
    deposit(engine, VAULT, "alice", 50_000_000_000, START, key="alice")
    deposit(engine, VAULT, "bob", 7_000_000_001, START, key="bob")


def slot(number: int) -> int:
    return START + number * HOUR


def ledger_of(engine: Engine) -> Ledger:
    """Every row of every table but the recorded bars, all columns."""
    with unit_of_work(engine, writes=False) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
            if table.name != "bar"
        }


def until(market: Market, row: int) -> Market:
    known = {symbol: market.bars(column) for column, symbol in enumerate(market.symbols)}
    return align({symbol: bars[: int(np.searchsorted(bars.ts, market.ts[row]))] for symbol, bars in known.items()})


# ---------------------------------------------------------------------------------------------------- which slots


def test_a_slot_that_is_ahead_takes_the_slots_before_it_along(engine: Engine, straight: Ledger) -> None:
    assert Desk(engine).step(VAULT, slot(SLOTS - 1)) == SLOTS - len(SILENT)
    assert ledger_of(engine) == straight


def test_stale_and_duplicate_slots_change_nothing(engine: Engine) -> None:
    desk = Desk(engine)
    assert desk.step(VAULT, slot(75)) == 76
    before = ledger_of(engine)
    assert [desk.step(VAULT, late) for late in (slot(75), slot(74), slot(0), slot(-5), -1, -(10**30))] == [0] * 6
    assert Desk(engine).step(VAULT, slot(75)) == 0
    assert ledger_of(engine) == before


def test_slots_without_bars_leave_no_row_and_stop_nothing(engine: Engine, straight: Ledger) -> None:
    desk = Desk(engine)
    assert desk.step(VAULT, slot(79)) == 80
    assert desk.step(VAULT, slot(80)) == 0
    assert desk.step(VAULT, slot(81)) == 0
    assert desk.step(VAULT, slot(82)) == 1
    desk.step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight


def test_a_time_within_a_slot_steps_that_slot_and_no_later_one(engine: Engine) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(10) + 17)
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(vault.c.last_bar)).scalar_one() // HOUR * HOUR == slot(10)


def test_a_slot_beyond_the_recorded_bars_steps_what_there_is(engine: Engine, straight: Ledger) -> None:
    desk = Desk(engine)
    assert desk.step(VAULT, 10**30) == SLOTS - len(SILENT)
    assert desk.step(VAULT, slot(SLOTS + 500)) == 0
    assert ledger_of(engine) == straight


def test_bars_recorded_later_are_picked_up_and_an_unfinished_slot_waits_for_its_last_bar(
    database_url: str, setup: Setup, market: Market, straight: Ledger
) -> None:
    engine = open_engine(database_url, create=True)
    half_past = int(np.searchsorted(market.ts, slot(76) + 2 * QUARTER))
    _furnish(engine, setup, until(market, half_past))
    desk = Desk(engine)
    assert desk.step(VAULT, slot(SLOTS)) == 76
    assert desk.step(VAULT, slot(76)) == 0
    in_unit(engine, functools.partial(store_bars, market=market))
    assert desk.step(VAULT, slot(76)) == 1
    desk.step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight
    engine.dispose()


def test_a_vault_whose_symbols_have_no_bars_is_refused_by_their_names(database_url: str, setup: Setup) -> None:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    open_vault(engine, setup.mandate, START)
    with pytest.raises(NoBars, match=r"btc-eth-shield: no bars of BTC/USDT:USDT, ETH/USDT:USDT"):
        Desk(engine).step(VAULT, slot(0))
    engine.dispose()


def test_a_vault_that_does_not_exist_is_refused_by_name(engine: Engine) -> None:
    before = ledger_of(engine)
    with pytest.raises(UnknownVault, match="btc-eth-sheild"):
        Desk(engine).step("btc-eth-sheild", slot(0))
    assert ledger_of(engine) == before


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(-2, SLOTS + 2), min_size=1, max_size=40), st.integers(1, 3))
def test_any_order_of_slots_over_any_number_of_desks_ends_in_the_same_ledger(
    template: Path, tmp_path: Path, straight: Ledger, order: list[int], desks: int
) -> None:
    file = tmp_path / "ringfence.db"
    for left in tmp_path.glob("ringfence.db*"):
        left.unlink()
    shutil.copy(template, file)
    engine = open_engine(f"sqlite:///{file}", create=False)
    crew = [Desk(engine) for _ in range(desks)]
    for at, number in enumerate([*order, SLOTS]):
        crew[at % desks].step(VAULT, slot(number))
    assert ledger_of(engine) == straight
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- at the same time


def test_two_engines_that_step_the_same_vault_at_once_have_one_effect_per_slot(
    database_url: str, engine: Engine, straight: Ledger
) -> None:
    gate, stepped, failures = threading.Barrier(2), [0, 0], []

    def work(which: int) -> None:
        own = open_engine(database_url, create=False)
        desk = Desk(own)
        gate.wait()
        try:
            for number in range(60 + which, SLOTS, 2):
                stepped[which] += desk.step(VAULT, slot(number))
        except BaseException as failure:
            failures.append(failure)
        own.dispose()

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sum(stepped) == SLOTS - len(SILENT)
    assert ledger_of(engine) == straight


def test_a_deposit_and_a_redemption_between_two_slots_fall_at_the_close_of_the_first(engine: Engine) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(74))
    deposit(engine, VAULT, "carol", 5_000_000, START, key="once")
    redeem(engine, VAULT, "bob", None, START)
    desk.step(VAULT, slot(75))
    with unit_of_work(engine, writes=False) as connection:
        rows = connection.execute(select(journal.c.kind, journal.c.ts).order_by(journal.c.seq.desc()).limit(4)).all()
    assert [tuple(row) for row in rows] == [
        ("decided", slot(76)), ("redemption_asked", slot(75)), ("deposit_asked", slot(75)), ("decided", slot(75))
    ]  # fmt: skip


def _impatient(engine: Engine) -> None:
    """Waits for a lock as long as a test can bear; otherwise everything as in production."""

    @event.listens_for(engine, "begin")
    def shorten(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout = '50ms'")

    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.connection.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]


def test_a_vault_held_by_another_for_too_long_is_busy_and_unchanged(database_url: str, engine: Engine) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(70))
    before = ledger_of(engine)
    _impatient(engine)
    other = open_engine(database_url, create=False)
    with unit_of_work(other) as connection:
        lock_vault(connection, VAULT)
        with pytest.raises(DatabaseBusy):
            desk.step(VAULT, slot(72))
    assert ledger_of(engine) == before
    assert desk.step(VAULT, slot(72)) == 2
    other.dispose()


def test_a_vault_released_while_the_desk_tries_again_is_stepped_once(
    database_url: str, engine: Engine, straight: Ledger
) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(70))
    _impatient(engine)
    other = open_engine(database_url, create=False)
    held = threading.Event()

    def hold() -> None:
        with unit_of_work(other) as connection:
            lock_vault(connection, VAULT)
            held.set()
            threading.Event().wait(0.3)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    assert desk.step(VAULT, slot(71)) == 1
    holder.join()
    desk.step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight
    other.dispose()


# ---------------------------------------------------------------------------------------------------- stopped anywhere


class Struck(Exception):
    """What the test strikes the step with."""


def _struck(engine: Engine, desk: Desk, number: int, strike: int) -> bool:
    """Step one slot; every second `strike` fails before a statement, the others after it. False: there was none."""
    count = [0]

    def before(*_: object) -> None:
        if strike % 2 == 0 and count[0] == strike // 2:
            raise Struck

    def after(*_: object) -> None:
        count[0] += 1
        if strike % 2 == 1 and count[0] == strike // 2 + 1:
            raise Struck

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        return desk.step(VAULT, slot(number)) != 1
    except Struck:
        return True
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)


def test_a_failure_at_any_statement_leaves_nothing_of_the_slot(engine: Engine, straight: Ledger) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(72))
    before, strikes = ledger_of(engine), 0
    while _struck(engine, desk, 73, strikes):
        assert ledger_of(engine) == before, strikes
        strikes += 1
    # The first strike without a statement to fall on ended it, so each statement was struck, and there were many.
    assert strikes >= 16
    Desk(engine).step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight


def test_a_failure_in_the_commit_itself_leaves_nothing_of_the_slot(engine: Engine, straight: Ledger) -> None:
    desk = Desk(engine)
    desk.step(VAULT, slot(72))
    before = ledger_of(engine)

    def strike(_connection: Connection) -> None:
        raise Struck

    event.listen(engine, "commit", strike)
    with pytest.raises(Struck):
        desk.step(VAULT, slot(73))
    event.remove(engine, "commit", strike)
    assert ledger_of(engine) == before
    desk.step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight


KILLED = """
import os, signal, sys
from sqlalchemy import event
from ringfence.runtime.database import open_engine
from ringfence.runtime.desk import Desk

url, slot, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = open_engine(url, create=False)
desk = Desk(engine)
count = 0

def strike(*_):
    global count
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)

desk.step("btc-eth-shield", slot - 3_600_000)
event.listen(engine, "after_cursor_execute", strike)
desk.step("btc-eth-shield", slot)
"""


@pytest.mark.parametrize("last", [5, 9], ids=["half way through the writes", "late in the writes"])
def test_a_process_killed_in_the_middle_of_a_slot_leaves_nothing_of_it(
    database_url: str, engine: Engine, straight: Ledger, last: int
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, database_url, str(slot(73)), str(last)], env=os.environ, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(vault.c.last_bar)).scalar_one() // HOUR * HOUR == slot(72)
    desk = Desk(engine)
    assert desk.step(VAULT, slot(73)) == 1
    desk.step(VAULT, slot(SLOTS))
    assert ledger_of(engine) == straight


def test_a_desk_keeps_a_bounded_number_of_windows_and_steps_right_with_fewer_than_it_has_vaults(
    sqlite_database: str, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.runtime.desk.WINDOWS_KEPT", 1)
    longer = MANDATE.format(name="second", leverage="5").replace("window: 4h", "window: 6h")
    first, second = tide("first"), set_up(load_mandate(longer.encode()))
    hours = walk(bars=12)
    engine = launch(sqlite_database, hours, first).engine
    open_vault(engine, second.mandate, int(hours.ts[0]))
    desk = Desk(engine)
    for ts in hours.ts.tolist():
        assert (desk.step("first", ts), desk.step("second", ts)) == (1, 1)
        assert len(desk._windows) == 1
    engine.dispose()


def test_the_second_vault_of_a_market_reads_no_bar_and_few_statements_do(sqlite_database: str) -> None:
    hours, asked = walk(bars=12), list[str]()
    engine = launch(sqlite_database, hours, tide("first")).engine
    open_vault(engine, tide("second", "3").mandate, int(hours.ts[0]))
    desk = Desk(engine)
    for name in ("first", "second"):
        desk.step(name, int(hours.ts[-2]))
    assert desk.step("first", int(hours.ts[-1])) == 1
    event.listen(engine, "before_cursor_execute", lambda _, __, statement, *___: asked.append(statement))
    assert desk.step("second", int(hours.ts[-1])) == 1
    assert [statement for statement in asked if "bar.open" in statement] == []
    assert len([statement for statement in asked if not statement.startswith("BEGIN")]) <= 9
    engine.dispose()


def test_slots_shorter_than_the_recorded_bars_are_refused_and_nothing_is_stepped(sqlite_database: str) -> None:
    quarters = set_up(load_mandate(MANDATE.format(name="tide", leverage="5").replace("1h\nvol", "15m\nvol").encode()))
    launched = launch(sqlite_database, walk(bars=12), quarters)
    with pytest.raises(InvalidTimeframe, match="a multiple of the bars' own timeframe"):
        launched.desk.step("tide", int(walk(bars=12).ts[-1]))
    with unit_of_work(launched.engine, writes=False) as connection:
        assert connection.execute(select(vault.c.last_bar)).scalar_one() is None
    launched.engine.dispose()
