"""What is restored is what was kept, to the bit and in either kind of database, and lives on as the original would."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, inspect, select, text

from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.backup import back_up, demand_empty, readable, restore
from ringfence.runtime.backup_file import BackupFile, BackupWriter, Manifest
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import SCHEMA, in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import duty
from ringfence.runtime.errors import (
    BackupRefused,
    BackupUnreadable,
    DatabaseNotEmpty,
    OutputNotWritten,
    SchemaNewer,
    SchemaRetired,
)
from ringfence.runtime.heads import Heads
from ringfence.runtime.migrating import run_migrations
from ringfence.runtime.verification import verify
from ringfence.vaults.tables import bar, bar_series, metadata, vault
from tests.reference.tide import SHARE, START, UNIT, Tide, breaches, launch, tide, walk
from tests.runtime.test_migrations import ROWS, TABLES

MADE = 1_600_000_000_000
Contents = dict[str, list[tuple[Any, ...]]]


def contents(engine: Engine) -> Contents:
    """Every row of every table that the database has, in the order of their text."""
    with unit_of_work(engine, writes=False) as connection:
        names = sorted(inspect(connection).get_table_names())
        return {name: sorted(map(tuple, connection.execute(text(f"SELECT * FROM {name}"))), key=repr) for name in names}


def contents_of(url: str) -> Contents:
    engine = open_engine(url, create=False)
    try:
        return contents(engine)
    finally:
        engine.dispose()


def kept(engine: Engine, path: Path) -> Manifest:
    return back_up(engine, path, MADE, "ringfence 0.0")


def restored(path: Path, url: str) -> None:
    with readable(path) as backup:
        restore(url, backup)


def lived(url: str) -> Tide:
    """A vault with holders, orders that wait, positions and a series that is fed further than it has lived."""
    found = launch(url, walk())
    deposit(found.engine, "tide", "alice", 90_000 * UNIT, START)
    found.step(12)
    deposit(found.engine, "tide", "bob", 12_345 * UNIT + 7, START, key="k")
    found.step(12, 12)
    redeem(found.engine, "tide", "alice", 1_000 * SHARE, START)
    return found


def goes_on(engine: Engine) -> Contents:
    """What becomes of a database that lives on: slots, deposits, a second vault."""
    desk, setup = Desk(engine), tide("ebb", "2")
    in_unit(engine, lambda connection: store_bars(connection, walk()))
    desk.step("tide", START + 30 * 3_600_000)
    deposit(engine, "tide", "carol", 5_000 * UNIT, START, key="new")
    deposit(engine, "tide", "bob", 12_345 * UNIT + 7, START, key="k")  # answered, not repeated
    open_vault(engine, setup.mandate, START + 3_600_000)
    deposit(engine, "ebb", "carol", 5_000 * UNIT, START + 3_600_000, key="new")
    for name in ("tide", "ebb"):
        desk.catch_up(name, lambda: True)
        assert breaches(engine, name) == []
    return contents(engine)


@pytest.fixture
def sqlite_files(tmp_path: Path) -> Callable[[str], str]:
    return lambda name: f"sqlite:///{tmp_path / name}"


# ---------------------------------------------------------------------------------------------------- round trips


def test_through_both_kinds_of_database_and_back_everything_is_the_same(
    sqlite_files: Callable[[str], str], postgresql_database: str, tmp_path: Path
) -> None:
    """SQLite, PostgreSQL, SQLite: equal rows, and equal hashes of every table's lines."""
    first = lived(sqlite_files("a.db")).engine
    in_unit(first, lambda it: it.execute(duty.insert(), {"vault_id": 1, "attempts": 5, "not_before": 1, "slow": 0}))
    manifests = [kept(first, tmp_path / "a.zip")]
    restored(tmp_path / "a.zip", postgresql_database)
    server = open_engine(postgresql_database, create=False)
    manifests.append(kept(server, tmp_path / "b.zip"))
    restored(tmp_path / "b.zip", sqlite_files("c.db"))
    third = open_engine(sqlite_files("c.db"), create=False)
    manifests.append(kept(third, tmp_path / "c.zip"))
    assert manifests[0].tables == manifests[1].tables == manifests[2].tables
    assert manifests[0].heads == manifests[1].heads == manifests[2].heads
    assert [manifest.database for manifest in manifests] == ["sqlite", "postgresql", "sqlite"]
    assert contents(first) == contents(server) == contents(third)
    assert all(not verdict.breaches for verdict in verify(server))
    for engine in (first, server, third):
        engine.dispose()


@pytest.mark.parametrize("target", ["sqlite", "postgresql"])
def test_the_restored_one_goes_on_exactly_as_the_original(
    database_url: str, target: str, sqlite_files: Callable[[str], str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    original = lived(database_url).engine
    kept(original, tmp_path / "kept.zip")
    url = sqlite_files("restored.db") if target == "sqlite" else other_postgresql(request, original)
    restored(tmp_path / "kept.zip", url)
    again = open_engine(url, create=False)
    assert goes_on(again) == goes_on(original)
    with pytest.raises(Exception, match="append-only"), unit_of_work(again) as connection:
        connection.execute(delete(metadata.tables["journal"]))
    original.dispose()
    again.dispose()


def other_postgresql(request: pytest.FixtureRequest, original: Engine) -> str:
    """A second empty database of the same server where the first is one of it; else the test's own."""
    if original.dialect.name == "sqlite":
        return str(request.getfixturevalue("postgresql_database"))
    import psycopg
    from sqlalchemy import make_url

    url = make_url(request.getfixturevalue("postgresql_url"))
    name = f"{original.url.database}_again"
    administration = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())

    def drop() -> None:
        with psycopg.connect(administration, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    request.addfinalizer(drop)
    return url.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)


def test_every_table_of_the_schema_is_kept(
    database_url: str, sqlite_files: Callable[[str], str], tmp_path: Path
) -> None:
    """With a row in each, also of tables that machinery has; what was wrong with them is told and restored so."""
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        for name in (*(table.name for table in metadata.sorted_tables), *(set(TABLES) - set(metadata.tables))):
            connection.execute(TABLES[name].insert(), ROWS[name])
    manifest = kept(engine, tmp_path / "kept.zip")
    assert {content.table: content.rows for content in manifest.tables} == dict.fromkeys(TABLES, 1)
    with readable(tmp_path / "kept.zip") as backup:
        found = restore(sqlite_files("again.db"), backup)
    assert {name for name, _ in found.breaches} == {"shield"}
    assert contents_of(sqlite_files("again.db")) == contents(engine)
    engine.dispose()


VALUES = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "text": st.text(),
    "boolean": st.booleans(),
}


@given(st.lists(st.tuples(*(st.none() | values for values in VALUES.values())), max_size=20))
def test_every_value_is_read_back_to_the_bit(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.mktemp("file") / "kept.zip"
    with path.open("wb") as stream, BackupWriter(stream, "x.db") as writer:
        writer.table("t", {kind: kind for kind in VALUES}, rows)
        writer.end(SCHEMA, MADE, "test", "sqlite", Heads())
    with BackupFile(path) as backup:
        (content,) = backup.manifest.tables
        read = list(backup.rows(content))
    assert [list(row) for row in rows] == read
    bits = [struct.pack("<d", row[1]) for row in read if row[1] is not None]
    assert bits == [struct.pack("<d", row[1]) for row in rows if row[1] is not None]
    assert [[type(value) for value in row] for row in rows] == [[type(value) for value in row] for row in read]


def test_floats_at_the_edges_come_through_both_databases(database_url: str, tmp_path: Path) -> None:
    found = [5e-324, 1e300, 0.1, 2**53 + 1.0, 1 / 3, 1e-7]
    engine = lived(database_url).engine
    with unit_of_work(engine) as connection:
        connection.execute(vault.update().values(price_low=float("inf")))
        connection.execute(bar_series.insert(), {"instrument": "edges", "timeframe": 1})
        rows = [ROWS["bar"] | {"instrument": "edges", "ts": at, "low": value} for at, value in enumerate(found)]
        connection.execute(bar.insert(), rows)
    kept(engine, tmp_path / "kept.zip")
    restored(tmp_path / "kept.zip", f"sqlite:///{tmp_path / 'again.db'}")
    again = open_engine(f"sqlite:///{tmp_path / 'again.db'}", create=False)
    with unit_of_work(again, writes=False) as connection:
        lows = connection.execute(select(bar.c.low).where(bar.c.instrument == "edges").order_by(bar.c.ts)).scalars()
        assert [struct.pack("<d", low) for low in lows] == [struct.pack("<d", value) for value in found]
        assert connection.execute(select(vault.c.price_low)).scalar_one() == float("inf")
    again.dispose()
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- online


def test_a_backup_beside_writers_is_of_one_moment(
    database_url: str, sqlite_files: Callable[[str], str], tmp_path: Path
) -> None:
    """Somebody pays in without a pause, and each backup's ledger, chain and statements agree."""
    engine = lived(database_url).engine
    stopped, paid = threading.Event(), [0]

    def pay() -> None:
        while not stopped.is_set():
            deposit(engine, "tide", f"holder{paid[0]}", 10 * UNIT, START, new=True)
            paid[0] += 1

    payer = threading.Thread(target=pay)
    payer.start()
    try:
        during = []
        for number in range(3):
            before = paid[0]
            with_it = kept(engine, tmp_path / f"{number}.zip")
            while paid[0] == before:
                assert payer.is_alive()
            during.append(next(head.seq for head in with_it.heads.vaults))
    finally:
        stopped.set()
        payer.join()
    assert during == sorted(set(during))
    for number, seq in enumerate(during):
        with readable(tmp_path / f"{number}.zip") as backup:
            assert restore(sqlite_files(f"{number}.db"), backup).breaches == ()
        again = open_engine(sqlite_files(f"{number}.db"), create=False)
        with unit_of_work(again, writes=False) as connection:
            assert connection.execute(select(vault.c.journal_seq)).scalar_one() == seq
        again.dispose()
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- failures


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a small life."""
    folder = tmp_path_factory.mktemp("sound")
    engine = lived(f"sqlite:///{folder / 'a.db'}").engine
    kept(engine, folder / "kept.zip")
    engine.dispose()
    return folder / "kept.zip"


def parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as found:
        return {name: found.read(name) for name in found.namelist()}


def rezipped(path: Path, found: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, content in found.items():
            made.writestr(name, content)
    return path


def read_whole(path: Path) -> tuple[Manifest, list[Any]]:
    with readable(path) as backup:
        return backup.manifest, [list(backup.rows(content)) for content in backup.manifest.tables]


def test_a_file_with_a_changed_byte_is_refused_or_says_the_same(sound: Path, tmp_path: Path) -> None:
    """At some a hundred places, and cut at as many."""
    whole, expected = sound.read_bytes(), read_whole(sound)
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 100)):
        for damaged in (whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :], whole[:place]):
            (tmp_path / "damaged.zip").write_bytes(damaged)
            try:
                assert read_whole(tmp_path / "damaged.zip") == expected
            except (BackupUnreadable, SchemaNewer):
                refused += 1
    assert refused > 175


NOT_BACKUPS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "another programme's zip": (lambda found: {"song.txt": b"la"}, "is no backup"),
    "a later form": (lambda found: found | {"ringfence-backup": b"2\n"}, "of form 2, which this version"),
    "no manifest": (lambda found: {k: v for k, v in found.items() if k != "manifest.json"}, "manifest cannot be read"),
    "a part more": (lambda found: found | {"tables/extra.jsonl": b""}, "parts are not those"),
    "a part less": (lambda found: {k: v for k, v in found.items() if "journal" not in k}, "parts are not those"),
    "a row more": (lambda found: doubled(found, "tables/transfer.jsonl"), "transfer holds other rows"),
    "a row of another shape": (lambda found: found | {"tables/holding.jsonl": b'[1,"a"]\n'}, "cannot be read"),
    "a manifest of a list": (lambda found: found | {"manifest.json": b"[]"}, "manifest cannot be read"),
    "a number in place of a text": (lambda found: stated(found, schema=4), "parts are not those"),
}


def doubled(found: dict[str, bytes], name: str) -> dict[str, bytes]:
    return found | {name: found[name] + found[name].splitlines(keepends=True)[-1]}


def stated(found: dict[str, bytes], **changed: Any) -> dict[str, bytes]:
    return found | {"manifest.json": json.dumps(json.loads(found["manifest.json"]) | changed).encode()}


@pytest.mark.parametrize("case", NOT_BACKUPS)
def test_what_is_no_backup_is_refused_and_changes_nothing(
    sound: Path, database_url: str, tmp_path: Path, case: str
) -> None:
    change, told = NOT_BACKUPS[case]
    path = rezipped(tmp_path / "other.zip", change(parts(sound)))
    with pytest.raises(BackupUnreadable, match=told):
        restored(path, database_url)
    assert not (tmp_path / "ringfence.db").exists()
    demand_empty(database_url)


@pytest.mark.parametrize(("schema", "refusal"), [("9999", SchemaNewer), ("0002", SchemaRetired)])
def test_a_backup_of_a_schema_that_this_version_cannot_read_is_refused(
    sound: Path, sqlite_database: str, tmp_path: Path, schema: str, refusal: type[Exception]
) -> None:
    path = rezipped(tmp_path / "other.zip", stated(parts(sound), schema=schema))
    with pytest.raises(refusal):
        restored(path, sqlite_database)
    assert not (tmp_path / "ringfence.db").exists()


def test_a_missing_file_a_text_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no zip")
    for name, told in (("absent", "no such file"), ("text", "no backup"), (".", "no such file")):
        with pytest.raises(BackupUnreadable, match=told), BackupFile(tmp_path / name):
            pass


def test_a_backup_of_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """As one that was made before an upgrade."""
    old = open_engine(f"sqlite:///{tmp_path / 'old.db'}", create=True)
    series = ROWS["bar_series"]["instrument"]
    with unit_of_work(old) as connection:
        run_migrations(connection, "0003")
        for name in ("bar_series", "bar"):
            connection.execute(TABLES[name].insert(), ROWS[name])
    with (
        unit_of_work(old, writes=False) as connection,
        (tmp_path / "old.zip").open("wb") as stream,
        BackupWriter(stream, "old.db") as writer,
    ):
        for name in ("bar_series", *sorted(set(inspect(connection).get_table_names()) - {"bar_series"})):
            if name != "alembic_version":
                columns = [TABLES[name].c[each["name"]] for each in inspect(connection).get_columns(name)]
                kinds = {each.name: KIND[str(each.type)] for each in columns}
                writer.table(name, kinds, connection.execute(select(*columns)))
        writer.end("0003", MADE, "test", "sqlite", Heads())
    old.dispose()
    restored(tmp_path / "old.zip", f"sqlite:///{tmp_path / 'new.db'}")
    found = contents_of(f"sqlite:///{tmp_path / 'new.db'}")
    assert found["alembic_version"] == [(SCHEMA,)]
    assert found["fed"] == [(series, 60_001)]


KIND = {"TEXT": "text", "BIGINT": "integer", "INTEGER": "integer", "SMALLINT": "integer", "DOUBLE": "float",
        "BOOLEAN": "boolean"}  # fmt: skip


def test_a_database_that_is_not_empty_is_refused_and_left_as_it_is(sound: Path, database_url: str) -> None:
    engine = lived(database_url).engine
    before = contents(engine)
    with pytest.raises(DatabaseNotEmpty, match="is not empty"):
        restored(sound, database_url)
    assert contents(engine) == before
    engine.dispose()


def test_what_the_schema_refuses_is_not_restored_and_leaves_nothing(
    sound: Path, database_url: str, tmp_path: Path
) -> None:
    """A backup that was made up so that its hashes agree: its balance below zero meets the same checks as ever."""
    with (
        readable(sound) as backup,
        (tmp_path / "forged.zip").open("wb") as stream,
        BackupWriter(stream, "x.db") as writer,
    ):
        for content in backup.manifest.tables:
            rows = list(backup.rows(content))
            if content.table == "account":
                rows = [[row[0], row[1], -1] for row in rows]
            writer.table(content.table, content.columns, rows)
        writer.end(SCHEMA, MADE, "test", "sqlite", backup.manifest.heads)
    with pytest.raises(BackupRefused, match="of account are not taken"):
        restored(tmp_path / "forged.zip", database_url)
    assert not (tmp_path / "ringfence.db").exists()
    demand_empty(database_url)


def test_figures_that_are_none_are_not_kept(tmp_path: Path) -> None:
    """Another programme has written a text where a number belongs."""
    engine = lived(f"sqlite:///{tmp_path / 'a.db'}").engine
    with sqlite3.connect(tmp_path / "a.db") as raw:
        raw.execute("PRAGMA ignore_check_constraints = ON")
        raw.execute("UPDATE holding SET shares = 'a lot'")
    with pytest.raises(BackupRefused, match=r"row 1 of holding, shares, holds 'a lot'"):
        kept(engine, tmp_path / "kept.zip")
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".*.part"))
    engine.dispose()


@pytest.mark.parametrize("at", ["journal", "transfer, read again"])
def test_ctrl_c_leaves_the_older_backup_and_no_half_one(database_url: str, tmp_path: Path, at: str) -> None:
    engine = lived(database_url).engine
    kept(engine, tmp_path / "kept.zip")
    before = (tmp_path / "kept.zip").read_bytes()

    def interrupt(name: str, done: int, total: int) -> None:
        if name == at and done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(engine, tmp_path / "kept.zip", MADE, "test", heard=interrupt)
    assert (tmp_path / "kept.zip").read_bytes() == before
    assert not list(tmp_path.glob(".*"))
    engine.dispose()


@pytest.mark.parametrize("at", ["bar", "transfer"])
def test_ctrl_c_leaves_nothing_of_a_restoring(sound: Path, database_url: str, tmp_path: Path, at: str) -> None:
    def interrupt(name: str, done: int, total: int) -> None:
        if name == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), readable(sound) as backup:
        restore(database_url, backup, interrupt)
    assert not list(tmp_path.glob("ringfence.db*"))
    demand_empty(database_url)
    restored(sound, database_url)


def test_a_full_disk_leaves_the_older_backup(sound: Path, tmp_path: Path) -> None:
    engine = lived(f"sqlite:///{tmp_path / 'a.db'}").engine
    shutil.copy(sound, tmp_path / "kept.zip")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, limits[1]))
    try:
        with pytest.raises(OutputNotWritten, match="larger than is allowed"):
            kept(engine, tmp_path / "kept.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "kept.zip").read_bytes() == sound.read_bytes()
    assert not list(tmp_path.glob(".*.part"))
    engine.dispose()


KILLED = """
import os, signal, sys
from pathlib import Path
from ringfence.runtime.backup import readable, restore

def heard(name, done, total):
    if name == "transfer":
        os.kill(os.getpid(), signal.SIGKILL)

with readable(Path(sys.argv[1])) as backup:
    restore(os.environ["RINGFENCE_DATABASE"], backup, heard)
"""


def test_a_killed_restoring_can_be_made_again(sound: Path, database_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "RINGFENCE_DATABASE": database_url}
    ended = subprocess.run([sys.executable, "-c", KILLED, str(sound)], env=environment, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    demand_empty(database_url)
    restored(sound, database_url)
    assert contents_of(database_url)["journal"]
