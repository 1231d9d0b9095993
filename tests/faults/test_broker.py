"""The broker only rings: it may die, forget, freeze or go deaf, and nothing is lost but a few seconds."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from ringfence.runtime.tasks import app
from tests.faults.fleet import (
    Broker,
    Ledger,
    Seen,
    Worker,
    assert_same,
    opened,
    part_lived,
    request,
    ring_until,
    working,
)
from tests.faults.proxy import Proxy

SLOW = "slow:0.2"
TIMEOUT: float = app.conf.broker_transport_options["socket_timeout"]
"""Seconds after which a broker that says nothing counts as gone."""


@contextmanager
def at_work(url: str, broker: str, folder: Path) -> Iterator[tuple[Engine, Worker]]:
    """A worker with two children in the middle of their tasks."""
    with opened(url) as engine, working(url, broker, folder / "log", SLOW) as worker:
        ring_until(engine, broker, part_lived(engine, 0.15))
        yield engine, worker


def test_a_broker_that_dies_twice_during_tasks_ends_no_worker_and_loses_nothing(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    """Celery 5.7.0 does not pass: its workers end when a connection is lost during a task, with late acknowledgement
    and two children or more."""
    with at_work(database_url, broker.url, tmp_path) as (engine, worker):
        for part in (0.4, 1):
            broker.kill()
            request(engine)
            broker.start()
            seen.append(ring_until(engine, broker.url, part_lived(engine, part)))
        assert all(one.is_sooner_than_redelivery for one in seen)
        assert worker.process.poll() is None
        assert_same(engine, undisturbed)


def test_a_broker_that_forgets_everything_loses_nothing(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    with at_work(database_url, broker.url, tmp_path) as (engine, worker):
        request(engine)
        for part in (0.3, 0.5, 1):
            broker.client.flushall()
            seen.append(ring_until(engine, broker.url, part_lived(engine, part)))
        assert all(one.is_sooner_than_redelivery for one in seen)
        assert worker.process.poll() is None
        assert_same(engine, undisturbed)


def test_a_frozen_broker_holds_up_no_request_and_is_taken_up_again(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    with at_work(database_url, broker.url, tmp_path) as (engine, worker):
        broker.signal(signal.SIGSTOP)
        request(engine)
        thaw = threading.Timer(1.5 * TIMEOUT, broker.signal, (signal.SIGCONT,))
        thaw.start()
        seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        thaw.join()
        assert seen[0].is_sooner_than_redelivery
        assert worker.process.poll() is None
        assert_same(engine, undisturbed)


@pytest.mark.parametrize("fault", ["refused", "half-open"])
def test_a_network_that_fails_between_the_broker_and_everybody_costs_seconds(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen], fault: str
) -> None:
    with Proxy(broker.port) as network:
        address = f"redis://127.0.0.1:{network.port}/0"
        with at_work(database_url, address, tmp_path) as (engine, worker):
            if fault == "refused":
                network.refuse()
                request(engine)
                time.sleep(1.0)
                network.admit()
            else:
                network.deafen()
                request(engine)
            seen.append(ring_until(engine, address, part_lived(engine, 1)))
            assert seen[0].is_sooner_than_redelivery
            assert worker.process.poll() is None
            assert_same(engine, undisturbed)
