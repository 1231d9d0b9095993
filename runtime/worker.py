"""The worker process: the Celery worker of `runtime.tasks`, started in this process and stopped by SIGTERM."""

import logging
import os
import socket
from collections.abc import Sequence

from celery.signals import after_setup_logger, after_setup_task_logger

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.lifeline import hold_lifeline
from ringfence.runtime.logs import Plain
from ringfence.runtime.settings import settings
from ringfence.runtime.warmth import warm
from ringfence.words.addresses import concealed, without_passwords

__all__ = ["serve"]

_TRIES = 2


def serve(database: str, broker: str | None, concurrency: int, queues: Sequence[str]) -> int:
    """Step vaults as messages of these queues ask for it, in `concurrency` children, until SIGTERM; returns the exit
    code.

    The database must be at this version's schema. Refused: SettingRefused, BrokerUnreachable.
    """
    # The children and the tasks read their addresses from the environment.
    os.environ["RINGFENCE_DATABASE"] = database
    if broker is not None:
        os.environ["RINGFENCE_BROKER"] = broker
    address = settings().broker
    from ringfence.runtime.tasks import app

    _answers(app, address)
    hold_lifeline()
    warm()  # here, so that the children have it from their birth
    name = f"{'-'.join(queues)}-{os.getpid()}@{socket.gethostname()}"
    worker = app.Worker(
        concurrency=concurrency, pool="prefork", loglevel="INFO", optimization="fair", queues=list(queues),
        hostname=name, without_mingle=True, without_gossip=True,
    )  # fmt: skip
    worker.start()
    return int(worker.exitcode or 0)


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _write_plainly(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, Plain):
            handler.setFormatter(Plain(handler.formatter or logging.Formatter()))


def _answers(app: "object", address: str) -> None:
    from kombu.exceptions import OperationalError

    try:
        with app.connection_for_write() as connection:  # type: ignore[attr-defined]
            connection.ensure_connection(max_retries=_TRIES, interval_start=0.2, interval_step=0.2, timeout=5)
    except (OperationalError, OSError) as failure:
        reason = without_passwords(str(failure.__cause__ or failure)).partition("\n")[0]
        raise BrokerUnreachable(concealed(address), reason) from None
