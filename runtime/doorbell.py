"""The doorbell: a message that says for which vaults there is something to look up, and is worth nothing itself."""

from collections.abc import Sequence
from typing import Any

from kombu.exceptions import OperationalError

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.tasks import SETTLEMENT, app, settle
from ringfence.words.addresses import concealed, without_passwords

__all__ = ["Doorbell"]

EXPIRES = 30.0
"""Seconds after which a message that nobody heard is worth nothing: it was rung again since."""
_AT_ONCE = {"max_retries": 1, "interval_start": 0.1}
"""A broker that is away is told at once, and tried again at the next ring."""


class Doorbell:
    """One connection to the broker, made when it is needed and again after it broke."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._connection: Any = None
        """kombu's Connection, which has no types."""

    def settle(self, vaults: Sequence[str]) -> None:
        """Ring for slots that are due. Refused: BrokerUnreachable."""
        try:
            if self._connection is None:
                self._connection = app.connection_for_write(self._broker, transport_options=_AT_ONCE)
            settle.apply_async(
                (list(vaults),), queue=SETTLEMENT, expires=EXPIRES, connection=self._connection, retry=False
            )
        except (OperationalError, OSError) as failure:
            self.close()
            reason = without_passwords(str(failure.__cause__ or failure)).partition("\n")[0]
            raise BrokerUnreachable(concealed(self._broker), reason) from None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.release()
            self._connection = None
