"""A whole installation, started by its one command: it lives what is fed, ends as in-process living does whatever dies
meanwhile, and leaves nothing behind."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from ringfence.faces.feeds import Feed, chosen
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.vaults.tables import vault
from tests.reference.tide import breaches, contents

PATIENCE = 240.0
"""Seconds for what takes a few on an idle machine."""
MANDATE = """
mandate: {name}
title: One of many
currency: USDT
loss_cap: 25%
timeframe: {slot}
volatility: {{estimator: ewma, half_life: 12h, window: 24h, floor: 30%}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 90%
    strategy: {{name: constant, leverage: 3}}
    leverage_max: 5
    volatility_max: 1000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 1%}}
    band: 10%
    margin_call: {{at: 1.5, then: reduce, to: 3}}
"""
Ledger = dict[str, list[tuple[object, ...]]]


def written(folder: Path, slots: Mapping[str, str]) -> Path:
    """A folder with a mandate for each name, of slots so long."""
    for name, slot in slots.items():
        (folder / f"{name}.yaml").write_text(MANDATE.format(name=name, slot=slot))
    return folder


@pytest.fixture(scope="module")
def mandates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("mandates"), {"ebb": "4h", "tide": "1h", "swell": "8h"})


@pytest.fixture(scope="module")
def undisturbed(mandates: Path, tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """What living the same in this process ends in."""
    return lived_alone(mandates, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ledger]:
    """The mandates of fifty vaults, and what living them in this process ends in."""
    slots = {f"tide-{number:02}": "8h" if number % 2 else "4h" for number in range(50)}
    folder = written(tmp_path_factory.mktemp("fifty"), slots)
    return folder, lived_alone(folder, tmp_path_factory.mktemp("alone"))


@contextmanager
def paid_in(url: str, mandates: Path) -> Iterator[tuple[Engine, Feed]]:
    """The vaults of the mandates, open in the database at `url` and paid in to."""
    given = chosen("replay:2020-03", "max", [mandates], (), (), (), None)
    engine = open_engine(url, create=True)
    migrate(engine)
    for number, setup in enumerate(given.setups):
        open_vault(engine, setup.mandate, given.start)
        deposit(engine, setup.mandate.name, "alice", 10**9 + number, given.start, f"paid-{number}")
    yield engine, given
    engine.dispose()


def lived_alone(mandates: Path, folder: Path) -> Ledger:
    with paid_in(f"sqlite:///{folder / 'ringfence.db'}", mandates) as (engine, given):
        for _, market in given.inputs.vaults:
            in_unit(engine, lambda connection, market=market: store_bars(connection, market))
        for setup in given.setups:
            assert Desk(engine).catch_up(setup.mandate.name, lambda: True) > 60
        return contents(engine)


class Up:
    """`ringfence up` as a person starts it, in a process group of its own."""

    def __init__(self, folder: Path, database: str, *words: str) -> None:
        self.logs, self.output = folder / "logs", folder / "output"
        command = [sys.executable, "-P", "-m", "ringfence", "up", *words, "--logs", str(self.logs)]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("RINGFENCE_")}
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True,
                env=environment | {"RINGFENCE_DATABASE": database},
            )  # fmt: skip

    def told(self) -> str:
        logs = "".join(f"== {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.logs.glob("*.log")))
        return self.output.read_text()[-3000:] + logs

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no {what} (exit code {self.process.poll()})\n{self.told()}")
            time.sleep(0.25)

    def family(self) -> dict[int, str]:
        """Every process that descends from it, with its command."""
        listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
        parents = {int(pid): (int(parent), command) for pid, parent, command in rows}
        found: dict[int, str] = {}
        for pid, (_, command) in parents.items():
            above = pid
            while above in parents and above != self.process.pid:
                above = parents[above][0]
            if above == self.process.pid and pid != self.process.pid:
                found[pid] = command
        return found

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def installed(folder: Path, database: str, *words: str) -> Iterator[Up]:
    up = Up(folder, database, *words)
    try:
        yield up
    finally:
        for pid in (*up.family(), up.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        up.process.wait()


def engine_of(url: str) -> Engine | None:
    """An engine, once the installation has made its database."""
    with contextlib.suppress(Exception):
        engine = open_engine(url, create=False)
        with contextlib.suppress(Exception), unit_of_work(engine, writes=False) as connection:
            connection.execute(select(vault.c.id)).all()
            return engine
        engine.dispose()
    return None


def has_lived(url: str, ledger: Ledger) -> Callable[[], bool]:
    """Whether every vault has come as far as in `ledger`."""
    names = [column.name for column in vault.c]
    ends = {row[names.index("name")]: row[names.index("last_bar")] for row in ledger["vault"]}

    def reached() -> bool:
        engine = engine_of(url)
        if engine is None:
            return False
        with unit_of_work(engine, writes=False) as connection:
            found = dict(connection.execute(select(vault.c.name, vault.c.last_bar)).all())
        engine.dispose()
        return found == ends

    return reached


def assert_same(url: str, ledger: Ledger) -> None:
    engine = open_engine(url, create=False)
    found = contents(engine)
    for row in found["vault"]:
        assert breaches(engine, str(row[1])) == []
    engine.dispose()
    assert found == ledger


def gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_it_lives_what_is_fed_as_living_in_process_does_and_leaves_nothing_behind(
    database_url: str, mandates: Path, undisturbed: Ledger, tmp_path: Path
) -> None:
    with paid_in(database_url, mandates):
        pass
    with installed(tmp_path, database_url, str(mandates), "--speed", "max") as up:
        up.wait_for("end of the month", has_lived(database_url, undisturbed))
        family = list(up.family())
        assert len(family) >= 5  # broker, scheduler, feed, worker and its children
        up.wait_for("end of the feed", lambda: "feed is done" in up.output.read_text())
        assert up.stop() == 0
        assert gone(family), up.family()
    assert_same(database_url, undisturbed)
    assert "2020-04-01T00:00:00Z tide: NAV" in up.output.read_text()


def stormed(up: Up, chance: random.Random, seconds: float) -> int:
    """Whichever process is met is killed, every moment, for so long; returns how many."""
    killed, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.2, 1.5))
        family = list(up.family())
        if family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(family), signal.SIGKILL)
                killed += 1
    return killed


def test_a_storm_of_kills_changes_nothing(
    database_url: str, mandates: Path, undisturbed: Ledger, tmp_path: Path
) -> None:
    """Whatever dies is started again, and the month ends in the same ledger."""
    with paid_in(database_url, mandates):
        pass
    with installed(tmp_path, database_url, str(mandates), "--speed", "120000x") as up:
        up.wait_for("first vault", lambda: len(up.family()) >= 4 and engine_of(database_url) is not None)
        assert stormed(up, random.Random(1), 10.0) >= 5
        up.wait_for("end of the month", has_lived(database_url, undisturbed))
        assert up.stop() == 0
    assert_same(database_url, undisturbed)


@pytest.mark.storm
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_minute_of_kills_over_fifty_vaults_changes_nothing(
    database_url: str, fifty: tuple[Path, Ledger], tmp_path: Path, seed: int
) -> None:
    mandates, ledger = fifty
    with paid_in(database_url, mandates):
        pass
    with installed(tmp_path, database_url, str(mandates), "--speed", "30000x") as up:
        up.wait_for("first vault", lambda: len(up.family()) >= 4 and engine_of(database_url) is not None)
        assert stormed(up, random.Random(seed), 60.0) >= 20
        up.wait_for("end of the month", has_lived(database_url, ledger))
        assert up.stop() == 0
    assert_same(database_url, ledger)


def test_its_parts_end_with_it_however_it_ends(sqlite_database: str, mandates: Path, tmp_path: Path) -> None:
    with installed(tmp_path, sqlite_database, str(mandates), "--speed", "60x") as up:
        up.wait_for("all parts", lambda: len(up.family()) >= 5)
        parts = list(up.family())
        up.process.kill()
        up.process.wait()
        deadline = time.monotonic() + PATIENCE
        while not gone(parts) and time.monotonic() < deadline:
            time.sleep(0.25)
        assert gone(parts)
