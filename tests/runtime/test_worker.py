"""A real worker with two children on a real broker ends in the same ledger as the replay in process, byte for byte,
whatever is sent twice, out of order or in garbage, and whichever child is killed."""

import functools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from celery import Celery
from sqlalchemy import Engine, select

from ringfence.markets.files import read_bars
from ringfence.markets.market import Market, align
from ringfence.markets.slots import Slots
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.history import run_of
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import digest
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import metadata, vault

HOUR = 3_600_000
WEEK = (1_583_712_000_000, 1_584_316_800_000)  # 9 March to 16 March 2020, the crash in it
DEPOSITS = {"alice": 50_000_000_000, "bob": 25_000_000_001}
VAULT, QUEUE = "btc-eth-shield", "settlement"
PATIENCE = 60.0
"""Seconds for what takes one or two on an idle machine."""

Ledger = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Week:
    """The recorded week and what the replay in process made of it."""

    setup: Setup
    market: Market
    slots: list[int]
    ledger: Ledger
    digest: str


@pytest.fixture(scope="module")
def week(project: Path, recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Week:
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / f"{VAULT}.yaml"))
    bars = {}
    for symbol in setup.symbols:
        month = read_bars(recorded / f"spot_{symbol[:3]}USDT_1m_2020-03.parquet", symbol)
        bars[symbol] = month[slice(*np.searchsorted(month.ts, WEEK).tolist())]
    market = align(bars)
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('in-process') / 'ringfence.db'}", create=True)
    migrate(engine)
    runs = replay(engine, [(setup, market)], DEPOSITS).runs
    assert len(runs[0].events) > 20
    whole = Week(setup, market, Slots(market, HOUR).opens.tolist(), ledger_of(engine), digest(runs))
    engine.dispose()
    return whole


def ledger_of(engine: Engine) -> Ledger:
    """Every row of every table but the recorded bars, all columns, in order of their keys."""
    with unit_of_work(engine, writes=False) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
            if table.name != "bar"
        }


def assert_same_ledger(engine: Engine, week: Week) -> None:
    found = ledger_of(engine)
    for name, rows in week.ledger.items():
        assert found[name] == rows, name
    assert found.keys() == week.ledger.keys()
    assert {"account", "holding", "journal", "position", "transfer", "vault"} <= found.keys()
    assert all(found[name] for name in ("account", "holding", "journal", "position", "transfer", "vault"))
    with unit_of_work(engine, writes=False) as connection:
        row = connection.execute(select(vault)).mappings().one()
        assert digest([run_of(connection, row)]) == week.digest


@contextmanager
def opened(url: str, week: Week) -> Iterator[Engine]:
    """A database with the week recorded, the vault open and the deposits in it; nothing stepped yet."""
    engine = open_engine(url, create=True)
    try:
        migrate(engine)
        in_unit(engine, functools.partial(store_bars, market=week.market))
        open_vault(engine, week.setup.mandate, week.slots[0])
        for holder, amount in DEPOSITS.items():
            deposit(engine, VAULT, holder, amount, week.slots[0], new=True, replayed=True)
        yield engine
    finally:
        engine.dispose()


class Worker:
    """`ringfence worker --concurrency 2` and the broker that it listens to."""

    def __init__(self, database: str, broker: str, log: Path) -> None:
        self.broker = redis.Redis.from_url(broker)
        self.doorbell = Celery("doorbell", broker=broker, set_as_current=False)
        self._log = log
        environment = os.environ | {"RINGFENCE_DATABASE": database, "RINGFENCE_BROKER": broker}
        command = [Path(sys.executable).with_name("ringfence"), "worker", "--concurrency", "2"]
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                command, env=environment, stdout=sink, stderr=sink, start_new_session=True, cwd=log.parent
            )
        self.wait_for("two children", lambda: len(self.children()) == 2)

    def children(self) -> set[int]:
        """The pool's processes, as the worker itself tells."""
        answers = self.doorbell.control.inspect(timeout=1.0, limit=1).stats() or {}
        return {pid for answer in answers.values() for pid in answer["pool"]["processes"]}

    def ring(self, slots: list[int]) -> None:
        """Send these slots over a connection of their own."""
        with self.doorbell.connection_for_write() as connection:
            for slot in slots:
                self.doorbell.send_task("ringfence.step", (VAULT, slot), queue=QUEUE, connection=connection)

    def is_idle(self) -> bool:
        """Whether no message is on its way: looked at twice, since one that is being taken is nowhere for a moment."""
        for _ in range(2):
            if self.broker.llen(QUEUE) or self.broker.hlen("unacked"):
                return False
            time.sleep(0.25)
        return True

    def done(self) -> int:
        """Messages that were served."""
        return self.log().count(" succeeded in ")

    def wait_for(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(
                    f"no {what} (exit code {self.process.poll()}); the worker's log ends:\n{self.log()[-4000:]}"
                )
            time.sleep(0.02)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def working(database: str, broker: str, folder: Path) -> Iterator[Worker]:
    worker = Worker(database, broker, folder / "worker.log")
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
        worker.broker.close()
        worker.doorbell.close()


def last_slot(engine: Engine) -> int | None:
    with unit_of_work(engine, writes=False) as connection:
        bar: int | None = connection.execute(select(vault.c.last_bar)).scalar_one()
    return None if bar is None else bar // HOUR * HOUR


def test_a_week_sent_twice_and_out_of_order_to_a_real_worker_is_the_same_ledger_as_in_process(
    week: Week, database_url: str, broker_url: str, tmp_path: Path
) -> None:
    dice = random.Random(20200312)
    sent = week.slots + dice.sample(week.slots, 50)
    dice.shuffle(sent)
    # The week's last slots would take all before them along; come last, they leave the children something to race for.
    sent.sort(key=lambda slot: slot // (24 * HOUR) + dice.random() * 2)
    assert sent != sorted(sent)
    with opened(database_url, week) as engine, working(database_url, broker_url, tmp_path) as worker:
        senders = [threading.Thread(target=worker.ring, args=(sent[half::2],)) for half in range(2)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        worker.wait_for("end of the week", lambda: last_slot(engine) == week.slots[-1])
        worker.wait_for("end of the messages", lambda: worker.done() >= len(sent))
        assert worker.stop() == 0
        assert " failure=" not in worker.log()
        assert worker.done() == len(sent)
        assert_same_ledger(engine, week)


def test_a_garbage_message_is_refused_and_harms_neither_the_worker_nor_the_ledger(
    week: Week, sqlite_database: str, broker_url: str, tmp_path: Path
) -> None:
    garbage: list[tuple[Any, ...]] = [
        ("no-such-vault", week.slots[3]), (VAULT, "monday"), (VAULT, float("nan")), (VAULT, float(week.slots[9])),
        (VAULT, None), (VAULT, True), (VAULT, [week.slots[9]]), (None, week.slots[9]), (VAULT,), (VAULT, 1, 2),
        ("x'; DROP TABLE vault; --", week.slots[9]),
    ]  # fmt: skip
    harmless = [(VAULT, -1), (VAULT, week.slots[0] - HOUR), (VAULT, -(10**30))]
    with opened(sqlite_database, week) as engine, working(sqlite_database, broker_url, tmp_path) as worker:
        untouched, children = ledger_of(engine), worker.children()
        for arguments in garbage + harmless:
            worker.doorbell.send_task("ringfence.step", arguments, queue=QUEUE)
        worker.doorbell.send_task("ringfence.no_such_task", (VAULT, week.slots[0]), queue=QUEUE)
        worker.wait_for("end of the garbage", worker.is_idle)
        assert worker.log().count("raised unexpected: ") == len(garbage)
        assert "expected a vault's name and a slot's open in UTC ms" in worker.log()
        assert "UnknownVault" in worker.log()
        assert "no-such-vault" in worker.log()
        assert ledger_of(engine) == untouched
        assert worker.children() == children
        worker.ring(week.slots[-1:])
        worker.wait_for("end of the week", lambda: last_slot(engine) == week.slots[-1])
        worker.wait_for("end of the messages", worker.is_idle)
        assert worker.stop() == 0
        assert_same_ledger(engine, week)
