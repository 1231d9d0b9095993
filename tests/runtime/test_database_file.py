"""A database's file in its folder: who may read it, what a reader without rights sees, what happens when it goes."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ringfence.runtime.acts import deposit
from ringfence.runtime.database import open_engine, unit_of_work
from ringfence.runtime.errors import DatabaseReplaced
from tests.reference.tide import START, UNIT, launch, walk

ENDS = ("", "-wal", "-shm")
READ = """
import os, sys
from ringfence.runtime.database import open_engine, unit_of_work
from ringfence.vaults.tables import holding
from ringfence.words.refusal import RingfenceError
from sqlalchemy import select
from sqlalchemy.dialects.sqlite import pysqlite
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    engine = open_engine("sqlite:///" + sys.argv[1], create=False)
    with unit_of_work(engine, writes=False) as connection:
        print(*sorted(connection.execute(select(holding.c.holder)).scalars()))
except RingfenceError as refusal:
    print(type(refusal).__name__)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    made.chmod(0o755)
    shutil.rmtree(made)


def seen_without_rights(file: Path, project: Path) -> str:
    """What somebody sees who may read the folder and write nothing in it."""
    for path in file.parent.iterdir():
        path.chmod(0o444)
    file.parent.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], cwd=project, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def with_a_log(folder: Path) -> Path:
    """A database whose last deposit stands in the log alone, since somebody else still has the file open."""
    live = folder / "live.db"
    launched = launch(f"sqlite:///{live}", walk(bars=3))
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    launched.engine.dispose()
    with closing(sqlite3.connect(live, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM vault").fetchall()
        engine = open_engine(f"sqlite:///{live}", create=False)
        deposit(engine, "tide", "bob", 500 * UNIT, START)
        (folder / "seen").mkdir(mode=0o755)
        for end in ENDS:
            shutil.copy(f"{live}{end}", folder / "seen" / f"x.db{end}")
        engine.dispose()
    return folder / "seen" / "x.db"


def test_a_reader_without_rights_sees_every_committed_row(folder: Path, project: Path) -> None:
    file = with_a_log(folder)
    assert file.with_name("x.db-wal").stat().st_size > 0
    assert seen_without_rights(file, project) == "alice bob"


def test_a_log_that_cannot_be_read_is_a_refusal_and_no_older_state(folder: Path, project: Path) -> None:
    file = with_a_log(folder)
    file.with_name("x.db-shm").unlink()
    assert seen_without_rights(file, project) in ("LogUnreadable", "alice bob")


def test_without_a_log_the_file_is_all_there_is(folder: Path, project: Path) -> None:
    launched = launch(f"sqlite:///{folder / 'x.db'}", walk(bars=3))
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    launched.engine.dispose()
    assert seen_without_rights(folder / "x.db", project) == "alice"


def test_a_database_and_what_stands_beside_it_are_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        launched = launch(f"sqlite:///{tmp_path / 'x.db'}", walk(bars=3))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {f"x.db{end}": 0o600 for end in ENDS}
    launched.engine.dispose()


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_a_file_that_goes_while_it_is_open_stops_whoever_has_it_open(tmp_path: Path, replaced: bool) -> None:
    file = tmp_path / "x.db"
    launched = launch(f"sqlite:///{file}", walk(bars=3))
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    file.rename(tmp_path / "moved.db")
    if replaced:
        shutil.copy(tmp_path / "moved.db", file)
    for act in (
        lambda: deposit(launched.engine, "tide", "bob", UNIT, START),
        lambda: launched.step(1),
        lambda: unit_of_work(launched.engine, writes=False).__enter__(),
    ):
        with pytest.raises(DatabaseReplaced, match=r"x\.db: the file was deleted or replaced while it was open"):
            act()
    launched.engine.dispose()
    assert file.exists() == replaced, "no empty database takes the place of one that went"


def test_a_file_that_goes_in_the_middle_of_a_unit_of_work_keeps_nothing_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.db"
    launched = launch(f"sqlite:///{file}", walk(bars=3))

    def cut_off() -> None:
        with unit_of_work(launched.engine) as connection:
            connection.exec_driver_sql("UPDATE vault SET version = version + 1")
            file.rename(tmp_path / "moved.db")

    with pytest.raises(DatabaseReplaced):
        cut_off()
    (tmp_path / "moved.db").rename(file)
    with unit_of_work(launched.engine, writes=False) as connection:
        assert connection.exec_driver_sql("SELECT version FROM vault").scalar_one() == 1
    launched.engine.dispose()
