"""The worker process: the Celery worker of `runtime.tasks`, started in this process and stopped by SIGTERM."""

import logging
import os

from celery.signals import after_setup_logger, after_setup_task_logger

from ringfence.runtime.broker import demand_answer
from ringfence.runtime.lifeline import hold_lifeline
from ringfence.runtime.logs import Plain
from ringfence.runtime.settings import settings
from ringfence.runtime.warmth import warm

__all__ = ["serve"]


def serve(database: str, broker: str | None, concurrency: int) -> int:
    """Step vaults as messages ask for it, in `concurrency` children, until SIGTERM; returns the exit code.

    The database must be at this version's schema. Refused: SettingRefused, BrokerUnreachable.
    """
    # The children and the tasks read their addresses from the environment.
    os.environ["RINGFENCE_DATABASE"] = database
    if broker is not None:
        os.environ["RINGFENCE_BROKER"] = broker
    address = settings().broker
    from ringfence.runtime.tasks import app

    demand_answer(address)
    hold_lifeline()
    warm()  # here, so that the children have it from their birth
    worker = app.Worker(concurrency=concurrency, pool="prefork", loglevel="INFO", optimization="fair")
    worker.start()
    return int(worker.exitcode or 0)


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _write_plainly(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Plain):
            handler.setFormatter(Plain(handler.formatter or logging.Formatter()))
