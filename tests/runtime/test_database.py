"""Opening a database, units of work, retries, locks and the named errors, with real files and a real server."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from ringfence.runtime.database import check_schema, in_unit, lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseUnreachable,
    DiskFull,
    FolderMissing,
    NotADatabase,
    SchemaMissing,
    SettingRefused,
    UnknownDatabase,
)
from ringfence.runtime.settings import Settings, settings
from ringfence.vaults.errors import CancelTooLate, UnknownVault
from ringfence.vaults.tables import mandate, vault
from ringfence.words.addresses import concealed

VAULT = {
    "id": 1, "name": "shield", "mandate": "f", "currency": "USDT", "decimals": 6, "shares": 0, "waiting": 0,
    "high_water_mark": 0, "last_nav": 0, "price_low": 1.0, "distance_low": 1.0, "version": 0, "journal_seq": 0,
    "opened": 0, "clock": 0, "journal_ts": 0, "journal_hash": "0" * 64, "transfer_seq": 0,
}  # fmt: skip
MANDATE = {"fingerprint": "f", "name": "shield", "body": "{}", "applied_ts": 0}


def _add_vault(connection: Connection) -> None:
    connection.execute(insert(mandate), MANDATE)
    connection.execute(insert(vault), VAULT)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        _add_vault(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def file_engine(sqlite_database: str) -> Iterator[Engine]:
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        _add_vault(connection)
    yield engine
    engine.dispose()


def _version(engine: Engine) -> int:
    with unit_of_work(engine, writes=False) as connection:
        return int(connection.execute(select(vault.c.version)).scalar_one())


def _raise_version(connection: Connection) -> int:
    version = int(lock_vault(connection, "shield")["version"]) + 1
    connection.execute(update(vault).values(version=version))
    return version


def _raise_version_and(engine: Engine, fault: type[BaseException]) -> None:
    with unit_of_work(engine) as connection:
        _raise_version(connection)
        raise fault


# ---------------------------------------------------------------------------------------------------- units of work


def test_a_unit_is_kept_at_its_end_and_undone_by_any_exception(engine: Engine) -> None:
    assert in_unit(engine, _raise_version) == 1
    for fault in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(fault):
            _raise_version_and(engine, fault)
        assert _version(engine) == 1


def test_many_writers_at_once_lose_no_update(database_url: str, engine: Engine) -> None:
    faults: list[BaseException] = []

    def write() -> None:
        own = open_engine(database_url, create=False)
        try:
            for _ in range(25):
                in_unit(own, _raise_version)
        except BaseException as error:
            faults.append(error)
        finally:
            own.dispose()

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert _version(engine) == 100


def test_a_reading_unit_sees_one_moment_and_holds_up_no_writer(engine: Engine) -> None:
    with unit_of_work(engine, writes=False) as reading:
        before = reading.execute(select(vault.c.version)).scalar_one()
        in_unit(engine, _raise_version)
        assert reading.execute(select(vault.c.version)).scalar_one() == before
    assert _version(engine) == before + 1


def test_a_reading_unit_writes_nothing_and_the_next_writing_one_may(engine: Engine) -> None:
    with pytest.raises(DatabaseReadOnly), unit_of_work(engine, writes=False) as connection:
        connection.execute(update(vault).values(version=9))
    assert _version(engine) == 0
    assert in_unit(engine, _raise_version) == 1


def test_a_fault_of_ours_is_not_dressed_up(engine: Engine) -> None:
    with pytest.raises(IntegrityError), unit_of_work(engine) as connection:
        connection.execute(insert(vault), VAULT)


def test_a_fault_that_passes_is_tried_again_and_the_last_one_told(engine: Engine) -> None:
    slept: list[float] = []
    tried: list[int] = []

    def third_time(connection: Connection) -> int:
        tried.append(_raise_version(connection))
        if len(tried) < 3:
            raise DatabaseBusy("here")
        return len(tried)

    assert in_unit(engine, third_time, sleep=slept.append) == 3
    assert tried == [1, 1, 1]
    assert len(slept) == 2
    assert all(0 < pause < 1 for pause in slept)

    def never(connection: Connection) -> None:
        raise DatabaseBusy("here")

    with pytest.raises(DatabaseBusy, match="here: another process keeps the database busy"):
        in_unit(engine, never, tries=3, sleep=slept.append)
    assert len(slept) == 4


def test_a_refusal_is_not_tried_again(engine: Engine) -> None:
    tried: list[int] = []

    def refused(connection: Connection) -> None:
        tried.append(1)
        lock_vault(connection, "shielt")

    with pytest.raises(UnknownVault, match=r"vault shielt: there is no such vault; did you mean shield\?"):
        in_unit(engine, refused)
    assert tried == [1]


def test_a_refusal_that_passes_only_with_time_is_not_tried_again(engine: Engine) -> None:
    tried: list[int] = []

    def refused(connection: Connection) -> None:
        tried.append(1)
        raise CancelTooLate(1, 1_583_712_000_000)

    with pytest.raises(CancelTooLate) as caught:
        in_unit(engine, refused)
    assert caught.value.transient
    assert tried == [1]


def test_a_file_that_stays_locked_is_told_as_busy(file_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.runtime.database.BUSY_MS", 50)
    second = open_engine(f"sqlite:///{file_engine.url.database}", create=False)
    with unit_of_work(file_engine) as connection:
        _raise_version(connection)
        with pytest.raises(DatabaseBusy) as caught:
            in_unit(second, _raise_version, tries=2, sleep=lambda _: None)
    assert caught.value.transient
    second.dispose()
    assert _version(file_engine) == 1


def test_the_lock_of_one_vault_makes_the_second_writer_wait_for_the_first(postgresql_database: str) -> None:
    engine = open_engine(postgresql_database, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        _add_vault(connection)
    with unit_of_work(engine) as first:
        lock_vault(first, "shield")
        second = engine.connect()
        second.execute(text("SET lock_timeout = 100"))
        with pytest.raises(Exception, match="lock timeout"):
            lock_vault(second, "shield")
        second.close()
    engine.dispose()


def test_a_lost_connection_is_named_and_the_unit_run_again(postgresql_database: str) -> None:
    engine = open_engine(postgresql_database, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        _add_vault(connection)
    killed: list[int] = []

    def cut_once(connection: Connection) -> int:
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        version = _raise_version(connection)
        if not killed:
            killed.append(process)
            with engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
        connection.execute(text("SELECT 1"))
        return version

    assert in_unit(engine, cut_once, sleep=lambda _: None) == 1
    assert len(killed) == 1
    assert _version(engine) == 1
    engine.dispose()


def test_two_units_that_deadlock_both_end_well(postgresql_database: str) -> None:
    engine = open_engine(postgresql_database, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        _add_vault(connection)
        connection.execute(insert(vault), VAULT | {"id": 2, "name": "spear"})
    together = threading.Barrier(2)
    met: set[str] = set()
    faults: list[BaseException] = []

    def cross(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            lock_vault(connection, first)
            if first not in met:
                met.add(first)
                together.wait(10)
            lock_vault(connection, second)
            connection.execute(update(vault).values(version=vault.c.version + 1))

        try:
            in_unit(engine, work)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=cross, args=pair) for pair in (("shield", "spear"), ("spear", "shield"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(func.sum(vault.c.version))).scalar_one() == 4
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- files


def test_a_file_is_opened_for_safety(file_engine: Engine) -> None:
    with unit_of_work(file_engine) as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "recursive_triggers")
        }
    assert said == {
        "journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1, "recursive_triggers": 1,
    }  # fmt: skip


def test_reading_a_missing_file_makes_none(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match=r"absent\.db: no such database"):
        open_engine(f"sqlite:///{tmp_path / 'absent.db'}", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_missing_folder_is_named_and_not_made(tmp_path: Path, create: bool) -> None:
    with pytest.raises(FolderMissing, match=r"the folder .*/nowhere does not exist"):
        open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}", create=create)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path, create: bool) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are no tables " * 100)
    with pytest.raises(NotADatabase, match=r"notes\.txt: this file is not a database"):
        open_engine(f"sqlite:///{path}", create=create)
    assert path.read_bytes() == b"these are no tables " * 100
    assert [found.name for found in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(NotADatabase):
        open_engine(f"sqlite:///{tmp_path}", create=True)


def test_an_empty_file_holds_no_vaults_yet(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}", create=False)
    with pytest.raises(SchemaMissing):
        check_schema(engine)
    engine.dispose()


def test_a_damaged_file_is_told(file_engine: Engine) -> None:
    path = Path(str(file_engine.url.database))
    with unit_of_work(file_engine) as connection:
        connection.execute(insert(mandate), [MANDATE | {"fingerprint": str(n), "body": "x" * 500} for n in range(200)])
    file_engine.dispose()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
    with pytest.raises(DatabaseDamaged, match="restore it from a copy"):
        open_engine(f"sqlite:///{path}", create=False)


def test_a_full_disk_leaves_the_database_whole_and_the_same_again_works_with_room(file_engine: Engine) -> None:
    rows = [MANDATE | {"fingerprint": str(n), "body": "x" * 1000} for n in range(500)]

    def fill(connection: Connection) -> None:
        connection.execute(insert(mandate), rows)

    with file_engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    # the limit belongs to one connection, and the pool hands out this one again
    with unit_of_work(file_engine) as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFull, match=r"the disk is full; nothing was written"):
        in_unit(file_engine, fill)
    file_engine.dispose()
    with unit_of_work(file_engine) as connection:
        assert connection.execute(select(func.count()).select_from(mandate)).scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    in_unit(file_engine, fill)


BIG = """
import resource, signal, sys
from sqlalchemy import insert
from ringfence.words.refusal import RingfenceError
from ringfence.runtime.database import open_engine, unit_of_work
from ringfence.vaults.tables import mandate
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
engine = open_engine(sys.argv[1], create=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    with unit_of_work(engine) as connection:
        rows = [{"fingerprint": str(n), "name": "x", "body": "x" * 1000, "applied_ts": 0} for n in range(5000)]
        connection.execute(insert(mandate), rows)
except RingfenceError as error:
    print(type(error).__name__, error)
"""


def test_a_disk_that_refuses_is_named_and_leaves_the_database_whole(file_engine: Engine, project: Path) -> None:
    url = f"sqlite:///{file_engine.url.database}"
    file_engine.dispose()
    done = subprocess.run([sys.executable, "-c", BIG, url], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("DiskFault ", "DiskFull "))
    with unit_of_work(file_engine) as connection:
        assert connection.execute(select(func.count()).select_from(mandate)).scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


AS_NOBODY = """
import os, sys, tempfile
from ringfence.words.refusal import RingfenceError
from ringfence.runtime.database import check_schema, migrate, open_engine
# What is imported late is imported now: the project may stand where only its owner can read.
with tempfile.TemporaryDirectory() as warm:
    engine = open_engine(f"sqlite:///{warm}/warm.db", create=True)
    try:
        check_schema(engine)
    except RingfenceError:
        engine.dispose()
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
url, create = sys.argv[1], sys.argv[2] == "create"
try:
    engine = open_engine(url, create=create)
    check_schema(engine)
    print("read")
except RingfenceError as error:
    print(type(error).__name__, error)
"""


def _without_rights(project: Path, url: str, mode: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, url, mode], cwd=project, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_folder_can_be_read_and_refuses_to_be_written(open_to_all: Path, project: Path) -> None:
    path = open_to_all / "ringfence.db"
    engine = open_engine(f"sqlite:///{path}", create=True)
    migrate(engine)
    engine.dispose()
    path.chmod(0o444)
    open_to_all.chmod(0o555)
    assert _without_rights(project, f"sqlite:///{path}", "read") == "read\n"
    said = _without_rights(project, f"sqlite:///{path}", "create")
    assert said.startswith(f"DatabaseReadOnly {path}: the file or its folder cannot be written; allow writing to both")
    assert _without_rights(project, f"sqlite:///{open_to_all / 'new.db'}", "create").startswith("DatabaseReadOnly")
    assert [found.name for found in open_to_all.iterdir()] == ["ringfence.db"]


def test_a_file_that_may_not_be_read_is_told(open_to_all: Path, project: Path) -> None:
    path = open_to_all / "secret.db"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o000)
    if os.geteuid() == 0:
        assert _without_rights(project, f"sqlite:///{path}", "read").startswith("DatabaseReadOnly")
    else:
        with pytest.raises(DatabaseReadOnly):
            open_engine(f"sqlite:///{path}", create=False)


# ---------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "url",
    ["mysql://me:secret@host/db", "not an address", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro",
     "sqlite+aiosqlite:///x.db", "postgresql+asyncpg://me:secret@host/db", "oracle://me:secret@host"],
)  # fmt: skip
def test_an_address_that_is_not_supported_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(UnknownDatabase, match="use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME") as caught:
        open_engine(url, create=True)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnreachable, match=r"@127\.0\.0\.1:1/db: the server cannot be reached") as caught:
        open_engine("postgresql://me:secret@127.0.0.1:1/db", create=True)
    assert caught.value.transient
    assert "secret" not in str(caught.value)


def test_a_database_that_the_server_does_not_have_is_named(postgresql_database: str) -> None:
    absent = make_url(postgresql_database).set(database="absent").render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnreachable, match='database "absent" does not exist'):
        open_engine(absent, create=True)


def test_options_of_the_address_are_kept(postgresql_database: str) -> None:
    url = make_url(postgresql_database).update_query_dict({"options": "-c statement_timeout=1234"})
    engine = open_engine(url.render_as_string(hide_password=False), create=True)
    with unit_of_work(engine) as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "1234ms"
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "5s"
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- settings


def test_settings_come_from_the_environment_and_the_command_line_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RINGFENCE_DATABASE", "RINGFENCE_BROKER"):
        monkeypatch.delenv(name, raising=False)
    assert settings() == Settings(database="sqlite:///ringfence.db", broker="redis://localhost:6379/0")
    monkeypatch.setenv("RINGFENCE_DATABASE", "postgresql://me@host/db")
    assert settings().database == "postgresql://me@host/db"
    assert settings(database="sqlite:///other.db").database == "sqlite:///other.db"


@pytest.mark.parametrize(
    ("name", "value"),
    [("database", "mysql://me:secret@host/db"), ("database", "ringfence.db"), ("database", ""),
     ("broker", "amqp://me:secret@host"), ("broker", "localhost:6379")],
)  # fmt: skip
def test_an_unknown_kind_of_address_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"RINGFENCE_{name.upper()}", value)
    with pytest.raises(SettingRefused, match=f"RINGFENCE_{name.upper()}") as caught:
        settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///ringfence.db", "sqlite:///ringfence.db"),
        ("sqlite:////tmp/ringfence.db", "sqlite:////tmp/ringfence.db"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql://me:sec@ret@host/db?sslmode=x&password=secret", "postgresql://me:***@host/db?sslmode=***&password=***"),
        ("postgresql://[secret", "***"),
    ],
)  # fmt: skip
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert concealed(url) == shown


def test_no_secret_is_in_the_repr_of_the_settings() -> None:
    shown = Settings(database="postgresql://me:secret@host/db", broker="redis://:secret@host:6379/0")
    assert "secret" not in repr(shown) + str(shown)
    assert "me:***@host" in repr(shown)
