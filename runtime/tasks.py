"""The Celery app and its tasks: step vaults to what is fed, one to a slot, or guard them inside one. Redis is the
doorbell; the database knows what is due.

A message may come twice, late, out of order or never: a task reads each vault under its lock and steps what is missing,
so that each of those ends in the same ledger.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from celery.utils.log import get_task_logger

from ringfence.markets.errors import NoAnswer
from ringfence.runtime import halting, metrics
from ringfence.runtime.database import open_engine
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import claim, keep_slow, let_go, put_off
from ringfence.runtime.errors import DatabaseError, DatabaseReplaced, ExchangeRunning, SlowStrategy
from ringfence.runtime.logs import bound
from ringfence.runtime.paper_accounts import paper_accounts
from ringfence.runtime.proposals import MOMENT, Apart
from ringfence.runtime.proposers import Proposers
from ringfence.runtime.settings import settings

__all__ = ["QUEUES", "RISK", "SETTLEMENT", "STRATEGY", "TIME", "app", "audit", "clock", "guard", "settle", "step",
           "using"]  # fmt: skip

TIME = 8.0
"""Seconds for which a task goes on to the next slot or vault; less than a claim holds."""
RISK, SETTLEMENT, STRATEGY = QUEUES = ("risk", "settlement", "strategy")
"""The queues: what cannot wait for a slot's close, what is due at one, and that again where a strategy takes its time,
so that nobody waits for it who could go on."""

log = get_task_logger(__name__)

app = Celery("ringfence", set_as_current=False)
app.conf.update(
    broker_transport_options={
        "visibility_timeout": 300,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_soft_time_limit=45,
    task_time_limit=60,
    task_ignore_result=True,
    result_backend=None,
    worker_max_tasks_per_child=1000,
    worker_max_memory_per_child=400_000,
    worker_soft_shutdown_timeout=20,
    worker_enable_soft_shutdown_on_idle=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    accept_content=["json"],
    task_serializer="json",
    enable_utc=True,
    task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_max": 0.5},
    task_default_queue=SETTLEMENT,
    worker_log_color=False,  # a log holds text alone; runtime.worker writes everything else out
)


def clock() -> int:
    """Now, UTC ms."""
    return time.time_ns() // 1_000_000


_desks: list[Desk] = []
"""Where a child's strategies are asked."""
_is_child = False
"""Whether this process is a child of a worker."""


@contextmanager
def using(desk: Desk) -> Iterator[Desk]:
    """Run tasks of this process at `desk` for the time being."""
    _desks.append(desk)
    try:
        yield desk
    finally:
        _desks.remove(desk)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _take_desk(**_: object) -> None:
    """Each child opens a connection of its own; none is inherited through the fork."""
    global _is_child
    _is_child = True
    engine, accounts = open_engine(settings().database, create=False), paper_accounts(settings())
    _desks[:] = [Desk(engine, proposer=Apart(Proposers()), accounts=accounts)]


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _leave_desk(**_: object) -> None:
    while _desks:
        desk = _desks.pop()
        desk.engine.dispose()
        if isinstance(desk.proposer, Apart):
            desk.proposer.close()


@app.task(name="ringfence.settle")  # type: ignore[untyped-decorator]
def settle(vaults: list[str], patient: bool = False) -> int:
    """Bring these vaults, as far as nobody else is at it, up to what is fed; returns how many slots were decided.

    One vault's fault is written down for it and touches no other. What is not begun within `TIME` is let go, since the
    scheduler rings again. A strategy has a moment to answer, and all of its time where somebody is `patient`. Refused,
    with nothing done: TypeError for what is no list of names.
    """
    _demand_names("settle", vaults)
    desk, begun = _desk(), time.monotonic()
    stepped, done, slow, others = 0, list[str](), list[str](), list[str]()
    claimed = clock()
    left = list(claim(desk.engine, vaults, claimed))
    while left and time.monotonic() - begun < TIME:
        name, turn = left.pop(0), time.monotonic()
        try:
            with bound(vault=name), _asking(patient) as apart:
                slots = desk.catch_up(name, lambda: time.monotonic() - begun < TIME)
            stepped += slots
            metrics.stepped(slots, time.monotonic() - turn)
            (slow if apart is not None and apart.took > MOMENT and patient else done).append(name)
        except SlowStrategy as taken:
            log.info("%s", taken)
            slow.append(name)
        except ExchangeRunning as taken:
            log.info("%s", taken)
            others.append(name)
        except DatabaseReplaced:
            _end_worker()
            raise
        except Exception as failure:
            log.exception("vault %s could not be stepped", name, extra={"vault": name})
            metrics.failed(failure)
            told, blamed = f"{type(failure).__name__}: {failure}", not isinstance(failure, (DatabaseError, NoAnswer))
            put_off(desk.engine, name, told, clock(), blamed=blamed)
    if slow:
        keep_slow(desk.engine, slow, claimed)
    let_go(desk.engine, [*done, *others, *left], claimed, done)
    return stepped


@contextmanager
def _asking(patient: bool) -> Iterator[Apart | None]:
    """Whom this process asks, for the time being with or without patience; None where it asks in itself."""
    proposer = _desk().proposer
    apart = proposer if isinstance(proposer, Apart) else None
    if apart is not None:
        apart.is_patient, apart.took = patient, 0.0
    yield apart


@app.task(name="ringfence.guard")  # type: ignore[untyped-decorator]
def guard(vaults: list[str]) -> int:
    """Let these vaults live through what is fed inside their slots, where money moves there; returns at how many bars
    it did. No strategy is asked, and one vault's fault touches no other.

    Refused, with nothing done: TypeError for what is no list of names.
    """
    _demand_names("guard", vaults)
    desk, acted = _desk(), 0
    for name in vaults:
        try:
            acted += desk.guard(name)
        except DatabaseReplaced:
            _end_worker()
            raise
        except Exception:
            log.exception("vault %s could not be guarded", name)  # it is rung for again
    return acted


@app.task(name="ringfence.audit")  # type: ignore[untyped-decorator]
def audit(vaults: list[str]) -> int:
    """Check the laws of these vaults' books anew, and compare them with their exchanges'; one for which a law does not
    hold is halted, alone, and positions that differ are stopped. Returns how many laws do not hold, and differences.

    Refused, with nothing done: TypeError for what is no list of names.
    """
    _demand_names("audit", vaults)
    desk, broken = _desk(), 0
    for name in vaults:
        try:
            found = halting.audit(desk.engine, name, clock())
            broken += len(found)
            for breach in found:
                log.error("vault %s breaks a law and is halted: %s", name, breach)
            if differing := desk.reconcile(name):
                log.error("vault %s differs from its exchange %d times; its positions are stopped", name, differing)
            broken += differing
        except DatabaseReplaced:
            _end_worker()
            raise
        except Exception:
            log.exception("vault %s could not be audited", name)
    return broken


def _demand_names(task: str, vaults: object) -> None:
    if not isinstance(vaults, list) or not all(isinstance(name, str) for name in vaults):
        raise TypeError(f"{task}({vaults!r:.80}): expected a list of vaults' names")


@app.task(name="ringfence.step")  # type: ignore[untyped-decorator]
def step(vault: str, slot: int) -> int:
    """Bring `vault` up to the slot that opens at `slot` (UTC ms); returns how many slots were stepped.

    Refused, with nothing done: TypeError for what is no name or no whole number (NaN would compare as no slot at all).
    """
    if not isinstance(vault, str) or type(slot) is not int:
        raise TypeError(f"step({vault!r:.80}, {slot!r:.80}): expected a vault's name and a slot's open in UTC ms")
    try:
        with bound(vault=vault, slot=slot):
            return _desk().step(vault, slot)
    except DatabaseReplaced:
        _end_worker()
        raise


def _desk() -> Desk:
    if not _desks:
        raise RuntimeError("no desk to step at: this process is no child of a worker, and `using` names none")
    return _desks[-1]


def _end_worker() -> None:
    """No message can be served any more: the worker ends."""
    if _is_child:
        os.kill(os.getppid(), signal.SIGTERM)
