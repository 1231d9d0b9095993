"""The worker process: the Celery worker of `runtime.tasks`, started in this process and stopped by SIGTERM."""

import os

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.settings import concealed, settings

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


def _answers(app: "object", address: str) -> None:
    from kombu.exceptions import OperationalError

    try:
        with app.connection_for_write() as connection:  # type: ignore[attr-defined]
            connection.ensure_connection(max_retries=_TRIES, interval_start=0.2, interval_step=0.2, timeout=5)
    except (OperationalError, OSError) as failure:
        reason = str(failure.__cause__ or failure).partition("\n")[0]
        raise BrokerUnreachable(concealed(address), reason) from None
