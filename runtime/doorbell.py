"""The doorbell: a message that says for which vaults there is something to look up, and is worth nothing itself."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import redis
from kombu.exceptions import OperationalError

from ringfence.runtime.broker import client
from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.tasks import RISK, SETTLEMENT, STRATEGY, app, audit, guard, settle
from ringfence.words.addresses import concealed, without_passwords

__all__ = ["Bell", "Doorbell"]

EXPIRES = 30.0
"""Seconds after which a message that nobody heard is worth nothing: it was rung again since."""
_RECORDED = "ringfence.recorded"
"""Where the feed says that something was recorded."""
_AT_ONCE = {"max_retries": 1, "interval_start": 0.1}
"""A broker that is away is told at once, and tried again at the next ring."""


class Doorbell:
    """One connection to the broker, made when it is needed and again after it broke."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._connection: Any = None
        """kombu's Connection, which has no types."""

    def settle(self, vaults: Sequence[str], slow: bool = False) -> None:
        """Ring for slots that are due; `slow`: whose strategies take their time. Refused: BrokerUnreachable."""
        self._ring(settle, (list(vaults), slow), STRATEGY if slow else SETTLEMENT)

    def guard(self, vaults: Sequence[str]) -> None:
        """Ring for vaults that a price or a stamp calls. Refused: BrokerUnreachable."""
        self._ring(guard, (list(vaults),), RISK)

    def audit(self, vaults: Sequence[str]) -> None:
        """Ring for vaults whose books are to be checked. Refused: BrokerUnreachable."""
        self._ring(audit, (list(vaults),), SETTLEMENT)

    def _ring(self, task: Any, asked: tuple[object, ...], queue: str) -> None:
        try:
            if self._connection is None:
                self._connection = app.connection_for_write(self._broker, transport_options=_AT_ONCE)
            task.apply_async(asked, queue=queue, expires=EXPIRES, connection=self._connection, retry=False)
        except (OperationalError, OSError) as failure:
            self.close()
            reason = without_passwords(str(failure.__cause__ or failure)).partition("\n")[0]
            raise BrokerUnreachable(concealed(self._broker), reason) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None


class Bell:
    """Wakes who waits for something to be recorded; who hears nothing looks by himself, so that it may fail unseen."""

    def __init__(self, broker: str) -> None:
        self._address = broker
        self._heard: redis.client.PubSub | None = None
        self._server: redis.Redis | None = None

    def ring(self) -> None:
        """Something was recorded."""
        with suppress(redis.RedisError, OSError, ValueError):
            if self._server is None:
                self._server = client(self._address)
            self._server.publish(_RECORDED, b"")

    def wait(self, seconds: float) -> None:
        """Until it rings, and no longer than that."""
        begun = time.monotonic()
        try:
            if self._heard is None:
                heard = client(self._address).pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                heard.subscribe(_RECORDED)
                self._heard = heard
            while (left := seconds - (time.monotonic() - begun)) > 0:
                if self._heard.get_message(timeout=left) is not None:
                    while self._heard.get_message(timeout=0) is not None:
                        pass
                    return
        except (redis.RedisError, OSError, ValueError):
            self._heard = None
            time.sleep(max(0.0, seconds - (time.monotonic() - begun)))
