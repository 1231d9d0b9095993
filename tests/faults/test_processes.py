"""Whoever steps vaults may die at any moment: what he was at is taken up again, and has one effect."""

import os
import signal
from pathlib import Path

from sqlalchemy import Engine, select

from ringfence.runtime.database import unit_of_work
from ringfence.runtime.doorbell import Doorbell
from ringfence.runtime.duties import MOST, released, troubles
from ringfence.runtime.scheduler import Scheduler
from ringfence.runtime.tasks import clock
from ringfence.vaults.tables import vault
from tests.faults.fleet import (
    HOURS,
    NAMES,
    PATIENCE,
    Bell,
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
from tests.reference.tide import HOUR, START

SLOW = "slow:0.1"
"""So that there is a middle to die in."""


def test_children_killed_in_the_middle_of_their_tasks_cost_no_more_than_a_claim(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    with opened(database_url) as engine, working(database_url, broker.url, tmp_path / "log", SLOW) as worker:
        ring_until(engine, broker.url, part_lived(engine, 0.3))
        for child in worker.children():
            os.kill(child, signal.SIGKILL)
        request(engine)
        seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        assert seen[0].is_sooner_than_redelivery
        assert worker.process.poll() is None
        assert_same(engine, undisturbed)


def test_a_whole_worker_killed_in_the_middle_of_its_tasks_costs_no_more_than_a_claim(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    with opened(database_url) as engine:
        with working(database_url, broker.url, tmp_path / "first", SLOW) as worker:
            reached = part_lived(engine, 0.3)
            ring_until(engine, broker.url, lambda: reached() and worker.is_halted_at_its_task(broker))
            worker.kill()
        assert broker.taken() > 0  # what it was at is not delivered again before long
        request(engine)
        with working(database_url, broker.url, tmp_path / "second"):
            seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        assert seen[0].is_sooner_than_redelivery
        assert_same(engine, undisturbed)


def test_a_message_lost_between_being_taken_and_being_noted_is_rung_again(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    with opened(database_url) as engine:
        doorbell = Doorbell(broker.url)
        scheduler = Scheduler(engine, doorbell.settle, workers=1)
        with working(database_url, broker.url, tmp_path / "first", f"lost:{tmp_path / 'lost'}") as worker:
            assert scheduler.round(clock()) == len(NAMES)
            assert worker.process.wait(PATIENCE) == -signal.SIGKILL
        assert broker.waiting() == broker.taken() == 0
        request(engine)
        with working(database_url, broker.url, tmp_path / "second") as worker:
            seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
            assert seen[0].is_sooner_than_redelivery
        doorbell.close()
        assert_same(engine, undisturbed)


def test_a_vault_that_kills_whoever_steps_it_is_left_aside_until_it_is_released(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    poisoned = NAMES[2]
    with opened(database_url) as engine:
        faults = (f"poison:{poisoned}", "claim:2000")
        with working(database_url, broker.url, tmp_path / "first", *faults) as worker:
            ended = lambda: is_left_aside(engine, poisoned) and others_lived(engine)  # noqa: E731
            seen.append(ring_until(engine, broker.url, ended))
            assert clocks(engine)[poisoned] == START
            assert worker.process.poll() is None
        request(engine)
        assert [one.vault for one in released(engine)] == [poisoned]
        with working(database_url, broker.url, tmp_path / "second"):
            ring_until(engine, broker.url, part_lived(engine, 1))
        assert_same(engine, undisturbed)


def came_twice(*workers: Worker) -> bool:
    """Whether a message came to them more than once."""
    received = [message for worker in workers for message in worker.received()]
    return len(received) > len(set(received))


def is_left_aside(engine: Engine, name: str) -> bool:
    with unit_of_work(engine, writes=False) as connection:
        left = [trouble for trouble in troubles(connection) if trouble.left_aside]
    assert [(trouble.vault, trouble.attempts) for trouble in left] in ([], [(name, MOST)])
    return bool(left)


def clocks(engine: Engine) -> dict[str, int]:
    """The last bar of each vault that has lived one."""
    with unit_of_work(engine, writes=False) as connection:
        lived = select(vault.c.name, vault.c.last_bar).where(vault.c.last_bar.is_not(None))
        return dict(connection.execute(lived).all())


def others_lived(engine: Engine) -> bool:
    return sum(bar == START + (HOURS - 1) * HOUR for bar in clocks(engine).values()) == len(NAMES) - 1


def test_four_workers_two_schedulers_and_everything_delivered_twice_have_one_effect(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    """Tasks of four seconds and more are delivered again after three, to others, and no claim keeps those away: the
    vault's lock does."""
    faults = ("slow:2", "visibility:3", "claim:0")
    with (
        opened(database_url) as engine,
        working(database_url, broker.url, tmp_path / "first", *faults) as first,
        working(database_url, broker.url, tmp_path / "second", *faults) as second,
    ):
        request(engine)
        seen.append(Bell(engine, broker.url, schedulers=2).ring_until(part_lived(engine, 1)))
        assert came_twice(first, second)
        assert_same(engine, undisturbed)


def test_a_worker_whose_clock_is_an_hour_ahead_takes_what_others_are_at_and_changes_nothing(
    database_url: str, broker: Broker, undisturbed: Ledger, tmp_path: Path, seen: list[Seen]
) -> None:
    """It delivers again what the others have just taken, and sees no claim of theirs; its own hold nothing up."""
    with (
        opened(database_url) as engine,
        working(database_url, broker.url, tmp_path / "right", "slow:0.3") as right,
        working(database_url, broker.url, tmp_path / "ahead", "slow:0.3", "visibility:300", "ahead:3600") as ahead,
    ):
        ring_until(engine, broker.url, lambda: came_twice(right, ahead))
        request(engine)
        ahead.kill()
        seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        assert seen[0].is_sooner_than_redelivery
        assert_same(engine, undisturbed)
