"""The worker process: the Celery worker of `runtime.tasks`, started in this process and stopped by SIGTERM."""

import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from celery import bootsteps
from celery.signals import (
    after_setup_logger,
    after_setup_task_logger,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
)
from structlog.contextvars import bind_contextvars, unbind_contextvars

from ringfence.runtime.broker import demand_answer
from ringfence.runtime.lifeline import hold_lifeline
from ringfence.runtime.logs import Line, write_log
from ringfence.runtime.settings import settings
from ringfence.runtime.signs import EVERY, Pulse, show
from ringfence.runtime.tasks import QUEUES, app
from ringfence.runtime.warmth import warm

__all__ = ["serve"]


def serve(database: str, broker: str | None, concurrency: int, queues: Sequence[str]) -> int:
    """Step vaults as messages of these queues ask for it, in `concurrency` children, until SIGTERM; returns the exit
    code.

    The database must be at this version's schema. Refused: SettingRefused, BrokerUnreachable.
    """
    # The children and their tasks read the addresses from the environment.
    os.environ["RINGFENCE_DATABASE"] = database
    if broker is not None:
        os.environ["RINGFENCE_BROKER"] = broker
    address = app.conf.broker_url = settings().broker
    write_log(sys.stderr, "worker", settings().log)
    demand_answer(address)
    hold_lifeline()
    warm()  # here, so that the children have it from their birth
    app.steps["consumer"].add(_SignOfLife)
    name = f"{'celery' if set(queues) == set(QUEUES) else '-'.join(queues)}@{socket.gethostname()}"
    worker = app.Worker(
        concurrency=concurrency, pool="prefork", loglevel="INFO", optimization="fair", quiet=True,
        queues=list(queues), hostname=name, without_mingle=True, without_gossip=True,
    )  # fmt: skip
    worker.start()
    return int(worker.exitcode or 0)


class _SignOfLife(bootsteps.StartStopStep):  # type: ignore[misc]
    """The worker's own, shown by the loop that hears messages: none while there is no broker to hear."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """Each time that the worker has connected."""
        self._timer = parent.timer.call_repeatedly(EVERY, show, ("worker",))

    def stop(self, parent: Any) -> None:
        """Each time that the connection has ended."""
        self._timer.cancel()

    terminate = stop


_pulse = Pulse()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _live(**_: object) -> None:
    _pulse.start()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _end(**_: object) -> None:
    _pulse.stop()


@task_prerun.connect  # type: ignore[untyped-decorator]
def _begin_task(task_id: str = "", **_: object) -> None:
    _pulse.begin()
    bind_contextvars(command=task_id)


@task_postrun.connect  # type: ignore[untyped-decorator]
def _end_task(**_: object) -> None:
    unbind_contextvars("command")
    _pulse.end()


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _write_lines(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Line):
            handler.setFormatter(Line("worker", settings().log))
