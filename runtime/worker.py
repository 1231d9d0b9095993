"""The worker process: the Celery worker of `runtime.tasks`, started in this process and stopped by SIGTERM."""

import logging
import os

from celery.signals import after_setup_logger, after_setup_task_logger

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.settings import settings
from ringfence.words.addresses import concealed, without_passwords
from ringfence.words.terminal import printable

__all__ = ["serve"]

_TRIES = 2


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

    _answers(app, address)
    worker = app.Worker(concurrency=concurrency, pool="prefork", loglevel="INFO", optimization="fair")
    worker.start()
    return int(worker.exitcode or 0)


class _Plain(logging.Formatter):
    """Another formatter's lines, tracebacks included, as text and without the password of any address in them."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_passwords(self._inner.format(record)))


@after_setup_logger.connect  # type: ignore[untyped-decorator]
@after_setup_task_logger.connect  # type: ignore[untyped-decorator]
def _write_plainly(logger: logging.Logger, **_: object) -> None:
    for handler in logger.handlers:
        if not isinstance(handler.formatter, _Plain):
            handler.setFormatter(_Plain(handler.formatter or logging.Formatter()))


def _answers(app: "object", address: str) -> None:
    from kombu.exceptions import OperationalError

    try:
        with app.connection_for_write() as connection:  # type: ignore[attr-defined]
            connection.ensure_connection(max_retries=_TRIES, interval_start=0.2, interval_step=0.2, timeout=5)
    except (OperationalError, OSError) as failure:
        reason = without_passwords(str(failure.__cause__ or failure)).partition("\n")[0]
        raise BrokerUnreachable(concealed(address), reason) from None
