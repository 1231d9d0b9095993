"""The paper exchange as a process: its books in a file, two local sockets, one request at a time, until it is stopped.

Its accounts speak to one socket, its operator (who lists, pays in, and feeds bars) to another beside it. Both are their
owner's alone. Nothing that it holds is anywhere but in its books: it may be killed at any moment.
"""

import fcntl
import logging
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ringfence.markets.exchange.books import ExchangeBooks
from ringfence.markets.exchange.counter import Conduct, Counter, Served
from ringfence.markets.exchange.faults import FaultPlan
from ringfence.runtime.errors import ExchangeRunning

__all__ = ["operator_socket", "serve"]

_LOOK, _AWAY = 0.1, 0.2
"""Seconds between two looks at whether it shall stop, and that a restart keeps it away."""
_PATIENCE = 2.0
"""Seconds that a connected request may take to arrive, and its answer to be taken: nobody else is served meanwhile."""
_LINE_MAX, _CHUNK = 1 << 22, 1 << 16
_WAITING = 128

log = logging.getLogger(__name__)


def operator_socket(path: Path) -> Path:
    """Where the operator of the exchange at `path` speaks to it."""
    return path.with_name(path.name + ".operator")


def serve(books: Path, path: Path, plan: FaultPlan, stopped: Callable[[], bool]) -> None:
    """Serve the books at the sockets until it is stopped. Refused: ExchangeRunning."""
    with _alone(books):
        while not stopped():
            _once(books, path, plan, stopped)
            if not stopped():
                log.info("restarts, as its faults say")
                time.sleep(_AWAY)


@contextmanager
def _alone(books: Path) -> Iterator[None]:
    """Holds the books while it is inside; a process that is killed lets go of them."""
    with books.with_name(books.name + ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExchangeRunning(str(books)) from None
        yield


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A socket of its owner's alone, in place of one that a killed process left."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_WAITING)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


def _once(books: Path, path: Path, plan: FaultPlan, stopped: Callable[[], bool]) -> None:
    """From its opening to its end, or to a restart."""
    kept = ExchangeBooks(books)
    counter = Counter(kept, plan)
    held: list[socket.socket] = []
    try:
        with _listening(path) as accounts, _listening(operator_socket(path)) as operator:
            log.info("serves %s at %s", books, path)
            with selectors.DefaultSelector() as selector:
                selector.register(accounts, selectors.EVENT_READ, counter.serve)
                selector.register(operator, selectors.EVENT_READ, counter.operate)
                while not stopped():
                    for key, _ in selector.select(_LOOK):
                        if isinstance(key.fileobj, socket.socket) and _one(key.fileobj, key.data, held):
                            return
    finally:
        for connection in held:
            connection.close()
        kept.close()


def _one(listener: socket.socket, serves: Callable[[bytes], Served], held: list[socket.socket]) -> bool:
    """One connection, which brings one request; whether the exchange restarts after it. One that is to hear nothing is
    kept in `held`, the oldest of which go."""
    connection, _ = listener.accept()
    connection.settimeout(_PATIENCE)
    line = _line(connection)
    if line is None:
        connection.close()
        return False
    served = serves(line)
    if served.conduct is Conduct.silence:
        held.append(connection)
        if len(held) > _WAITING:
            held.pop(0).close()
        return False
    if served.conduct is Conduct.answer:
        with suppress(OSError):  # whoever asked may be gone
            connection.sendall(served.line)
    connection.close()
    return served.conduct is Conduct.restart


def _line(connection: socket.socket) -> bytes | None:
    """The request, whole; None where it does not come, comes too slowly or is too long: then nothing is done."""
    content, deadline = bytearray(), time.monotonic() + _PATIENCE
    while not content.endswith(b"\n"):
        try:
            chunk = connection.recv(_CHUNK)
        except OSError:
            return None
        content += chunk
        if not chunk or len(content) > _LINE_MAX or time.monotonic() > deadline:
            return None
    return bytes(content)
