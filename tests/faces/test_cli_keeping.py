"""The commands that keep and restore a database, as a person types them."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.reference.commands import SCRIPT, plain_environment, run
from tests.reference.tide import START, UNIT, launch, walk


def ringfence(folder: Path, *words: str, database: str = "a.db") -> subprocess.CompletedProcess[str]:
    return run(*words, cwd=folder, environment=plain_environment(RINGFENCE_DATABASE=database))


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database of one small life, its backup and a text."""
    from ringfence.runtime.acts import deposit
    from ringfence.runtime.backup import back_up

    path = tmp_path_factory.mktemp("life")
    found = launch(f"sqlite:///{path / 'a.db'}", walk())
    deposit(found.engine, "tide", "alice", 90_000 * UNIT, START)
    found.step(20)
    back_up(found.engine, path / "sound.zip", START, "test")
    found.engine.dispose()
    (path / "notes.txt").write_text("mine")
    return path


@pytest.fixture
def folder(life: Path, tmp_path: Path) -> Path:
    shutil.copytree(life, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_backup_is_made_restored_and_verified_with_its_heads(folder: Path) -> None:
    made = ringfence(folder, "backup", "kept.zip")
    assert (made.returncode, (folder / "kept.zip").stat().st_mode & 0o777) == (0, 0o600), made.stderr
    heads = ringfence(folder, "heads").stdout
    assert heads.strip()
    assert heads in made.stdout
    assert re.search(r"^journal, read again: \d+ rows$", made.stderr, re.M)
    looked = ringfence(folder, "restore", "kept.zip", "--dry-run", database="b.db")
    assert (looked.returncode, looked.stdout) == (0, made.stdout)
    assert "nothing was changed" in looked.stderr
    assert not (folder / "b.db").exists()
    restored = ringfence(folder, "restore", "kept.zip", database="b.db")
    assert (restored.returncode, restored.stdout) == (0, made.stdout), restored.stderr
    assert ringfence(folder, "heads", database="b.db").stdout == heads
    assert ringfence(folder, "verify", database="b.db").returncode == 0
    told = json.loads(ringfence(folder, "restore", "kept.zip", "--dry-run", "--json", database="c.db").stdout)
    assert told["tables"]["vault"]["rows"] == 1


def test_an_earlier_backup_is_written_over_only_when_that_is_said(folder: Path) -> None:
    before = (folder / "sound.zip").read_bytes()
    again = ringfence(folder, "backup", "sound.zip")
    assert (again.returncode, (folder / "sound.zip").read_bytes()) == (1, before)
    assert "FILE sound.zip: is there already; name another, or --force to write over that backup" in again.stderr
    forced = ringfence(folder, "backup", "sound.zip", "--force")
    assert forced.returncode == 0
    assert (folder / "sound.zip").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "database", "told"),
    [
        (("backup", "a.db", "--force"), "a.db", "a.db: the backup was not written: it is an input of this very run"),
        (("backup", "notes.txt", "--force"), "a.db", "it holds something else than a backup"),
        (("backup", "none/kept.zip"), "a.db", "does not exist; create it"),
        (("backup", "."), "a.db", "it is a folder"),
        (("backup", "kept.zip"), "absent.db", "absent.db: no such database"),
        (("restore", "absent.zip"), "b.db", "absent.zip: there is no such file; nothing was restored"),
        (("restore", "notes.txt"), "b.db", "notes.txt: is no backup, or not all of one; nothing was restored"),
        (("restore", "a.db"), "b.db", "a.db: is no backup, or not all of one; nothing was restored"),
        (("restore", "sound.zip"), "a.db", "a.db: is not empty (it holds account); expected an empty database"),
        (("restore", "sound.zip", "--dry-run"), "a.db", "a.db: is not empty"),
        (("restore", "sound.zip"), "none/b.db", "none/b.db: the folder"),
        (("restore", "sound.zip"), "postgresql://nobody@127.0.0.1:1/x", "the server cannot be reached"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_left(
    folder: Path, words: tuple[str, ...], database: str, told: str
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("a.db-")}
    ended = ringfence(folder, *words, database=database)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ringfence: ")
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("a.db-")} == before


def test_ctrl_c_ends_a_backup_without_a_trace(folder: Path) -> None:
    """Sent as soon as the half file is there."""
    with subprocess.Popen(
        [SCRIPT, "backup", "kept.zip", "--db", "a.db"], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as process:
        while not list(folder.glob(".backup-*.part")):
            assert process.poll() is None, "it was over before it could be stopped"
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "ringfence: stopped" in told
    assert "Traceback" not in told
    assert {path.name for path in folder.iterdir()} <= {"a.db", "a.db-wal", "a.db-shm", "sound.zip", "notes.txt"}
