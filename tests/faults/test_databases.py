"""The database may end connections, choose victims, make wait, go away, fill up and lose whoever was at COMMIT: every
unit of work is whole or absent, and is done again."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, make_url, text

from ringfence.runtime import tasks
from ringfence.runtime.database import in_unit, lock_vault, open_engine, unit_of_work
from ringfence.runtime.database_file import BUSY_MS
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import CLAIM, MOST, troubles
from ringfence.runtime.errors import DatabaseBusy
from ringfence.runtime.tasks import settle, using
from tests.faults import teller
from tests.faults.fleet import (
    HOURS,
    NAMES,
    PATIENCE,
    Broker,
    Ledger,
    Seen,
    assert_same,
    lived,
    opened,
    part_lived,
    request,
    ring_until,
    working,
)
from tests.reference.postgresql import PostgreSQL
from tests.reference.tide import breaches, contents

SLOW = "slow:0.1"
NOW = 1_700_000_000_000
WHOLE = HOURS * len(NAMES)


def together(*works: Callable[[], object]) -> None:
    """All at once, each in a thread of its own; whatever one raises is raised."""
    faults: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert faults == []
    assert not any(thread.is_alive() for thread in threads)


# ---------------------------------------------------------------------------------------------------- connections


def test_sessions_that_the_server_ends_again_and_again_change_nothing(
    postgresql_database: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    """57P01, at every place where a session can be."""
    url = make_url(postgresql_database).set(drivername="postgresql").render_as_string(hide_password=False)
    ended, over = list[int](), threading.Event()
    strangers = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    def terminate() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while len(ended) < 60 and not over.wait(0.15):
                found = connection.execute(f"SELECT pid, pg_terminate_backend(pid) {strangers}").fetchall()
                ended.extend(pid for pid, _ in found)

    with opened(postgresql_database) as engine, working(postgresql_database, broker.url, tmp_path / "log", SLOW):
        request(engine)
        stranger = threading.Thread(target=terminate)
        stranger.start()
        try:
            seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        finally:
            over.set()
            stranger.join()
        assert len(ended) > 10
        assert seen[0].is_sooner_than_redelivery
        assert_same(engine, undisturbed)


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


def test_a_server_that_crashes_and_is_away_for_eight_seconds_costs_no_slot(
    server: PostgreSQL, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    """Eight in place of the forty-five that were measured elsewhere: longer than a unit of work tries."""
    with opened(server.url) as engine, working(server.url, broker.url, tmp_path / "log", SLOW) as worker:
        ring_until(engine, broker.url, part_lived(engine, 0.3))
        server.stop(signal.SIGQUIT)
        back = threading.Timer(8.0, server.start)
        back.start()
        seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        back.join()
        request(engine)
        assert seen[0].is_sooner_than_redelivery
        assert worker.process.poll() is None
        assert_same(engine, undisturbed)


# ---------------------------------------------------------------------------------------------------- locks


def test_a_vault_that_a_stranger_holds_for_longer_than_anybody_waits_is_stepped_afterwards(
    database_url: str, undisturbed: Ledger
) -> None:
    """55P03 on PostgreSQL; a busy file on SQLite."""
    with opened(database_url) as engine:
        request(engine)
        held = threading.Event()

        def hold() -> None:
            with unit_of_work(engine) as connection:
                lock_vault(connection, NAMES[0])
                held.set()
                time.sleep(1.2 * BUSY_MS / 1000)

        def live() -> None:
            held.wait(PATIENCE)
            live_through(engine, NAMES)

        together(hold, live)
        assert_same(engine, undisturbed)


def test_the_victim_of_a_deadlock_does_its_work_again(postgresql_database: str, undisturbed: Ledger) -> None:
    """40P01: strangers lock vaults against the order while they are being stepped."""
    with opened(postgresql_database) as engine:
        request(engine)
        runs, both = list[str](), threading.Barrier(2)

        def cross(first: str, second: str) -> None:
            tries = []

            def work(connection: Connection) -> None:
                runs.append(first)
                lock_vault(connection, first)
                if not tries:
                    tries.append(first)
                    both.wait(PATIENCE)
                lock_vault(connection, second)

            in_unit(engine, work)

        live = [lambda name=name: live_through(engine, [name]) for name in NAMES[:2]]
        together(lambda: cross(*NAMES[:2]), lambda: cross(*NAMES[1::-1]), *live)
        assert len(runs) > 2  # one of them was chosen, and came again
        live_through(engine, NAMES)
        assert_same(engine, undisturbed)


def test_serialization_failures_are_tried_again(postgresql_database: str, undisturbed: Ledger) -> None:
    """40001, from a server that isolates more than it was asked to: three step the same vaults at once."""
    options = {"options": "-c default_transaction_isolation=serializable"}
    strict = make_url(postgresql_database).update_query_dict(options).render_as_string(hide_password=False)
    with opened(strict) as engine:
        with unit_of_work(engine) as connection:
            assert connection.execute(text("SHOW transaction_isolation")).scalar_one() == "serializable"
        refused = list[str]()

        @event.listens_for(engine, "handle_error")
        def note(context: object) -> None:
            refused.append(str(getattr(getattr(context, "original_exception", None), "sqlstate", None)))

        request(engine)
        together(*[lambda: live_through(engine, NAMES)] * 3)
        assert "40001" in refused
        assert_same(engine, undisturbed)


def live_through(engine: Engine, names: Sequence[str]) -> None:
    """All that is due of these vaults; what was busy for too long is tried again, as the scheduler would ring again."""
    desk, left = Desk(engine), list(names)
    while left:
        with suppress(DatabaseBusy):
            desk.catch_up(left[0], lambda: True)
            left.pop(0)


# ---------------------------------------------------------------------------------------------------- room


def test_a_file_without_room_takes_whole_units_or_none_and_goes_on_once_there_is_room(
    sqlite_database: str, undisturbed: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is tried, no vault is blamed for it and left aside."""
    with opened(sqlite_database) as engine:
        request(engine)
        with unit_of_work(engine, writes=False) as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        tight = open_engine(sqlite_database, create=False)
        event.listen(tight, "connect", lambda raw, _: raw.execute(f"PRAGMA max_page_count = {pages + 12}"))
        tight.dispose()
        before = lived(engine)
        for attempt in range(3 * MOST):
            monkeypatch.setattr(tasks, "clock", lambda attempt=attempt: NOW + attempt * CLAIM)
            with using(Desk(tight)):
                settle(list(NAMES))
        tight.dispose()
        assert before < lived(engine) < WHOLE
        assert_whole(engine)
        with unit_of_work(engine, writes=False) as connection:
            found = troubles(connection)
        assert {trouble.left_aside for trouble in found} == {False}
        assert all("the disk is full; nothing was written of this step" in str(trouble.failure) for trouble in found)
        monkeypatch.setattr(tasks, "clock", lambda: NOW + 3 * MOST * CLAIM)
        with using(Desk(engine)):
            assert settle(list(NAMES)) > 0
        assert_same(engine, undisturbed)


def test_a_disk_that_lets_no_file_grow_stops_workers_at_whole_units(
    sqlite_database: str, broker: Broker, undisturbed: Ledger, tmp_path: Path
) -> None:
    with opened(sqlite_database) as engine:
        request(engine)
        with unit_of_work(engine, writes=False) as connection:
            size = connection.exec_driver_sql("PRAGMA page_count").scalar_one() * 4096
        with working(sqlite_database, broker.url, tmp_path / "first", f"room:{size + 200_000}") as worker:
            ring_until(engine, broker.url, lambda: "the disk" in worker.log())
            assert "nothing was written of this step" in worker.log()
        assert lived(engine) < WHOLE
        assert_whole(engine)
        with working(sqlite_database, broker.url, tmp_path / "second"):
            ring_until(engine, broker.url, part_lived(engine, 1))
        assert_same(engine, undisturbed)


def assert_whole(engine: Engine) -> None:
    with unit_of_work(engine, writes=False) as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    for name in NAMES:
        assert breaches(engine, name) == []


# ---------------------------------------------------------------------------------------------------- commits


def test_killing_three_writers_over_and_over_around_their_commits_leaves_the_ledger_exact(
    database_url: str, tmp_path: Path
) -> None:
    alone = f"sqlite:///{tmp_path / 'alone.db'}"
    with opened(alone) as engine:
        for name in teller.TELLERS:
            teller.go_through(alone, name)
        undisturbed = contents(engine)
    assert len(undisturbed["command"]) > 3 * teller.ACTS * len(teller.HOURS)
    with opened(database_url) as engine:
        engine.dispose()
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.teller", database_url, str(random.Random(7).random()), "10"],
            capture_output=True, text=True, timeout=PATIENCE, env=os.environ, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 20
        assert contents(engine) == undisturbed
        for name in teller.TELLERS:
            assert breaches(engine, name) == []
