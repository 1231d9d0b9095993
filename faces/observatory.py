"""The two pages of an installation, over HTTP: `/health` for whoever watches over it, `/metrics` for Prometheus.

A server of the standard library that is meant for one machine and expects the worst of it: no more connections than
LIMIT at once, none for longer than PATIENCE, nothing read but the request's head, nothing told but the two pages.
"""

import contextlib
import errno
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ringfence.faces.errors import InputRefused

__all__ = ["LISTEN", "Observatory", "Page", "free_place", "parse_listen"]

LISTEN = "127.0.0.1:9464"
"""Where the pages are, unless another place is named."""
LIMIT = 32
"""Connections at once."""
PATIENCE = 10.0
"""Seconds for which a connection is kept."""

log = logging.getLogger(__name__)

Page = Callable[[], tuple[HTTPStatus, str, bytes]]
"""Returns status, content type and body."""


def parse_listen(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464`, `[::1]:9464`, `:9464` (this machine alone) or `9464`; port 0 takes any that is free. Refused:
    InputRefused."""
    place, _, port = text.rpartition(":")
    host = place.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and int(port) <= 65_535) or " " in host:
        raise InputRefused("--listen", text, "expected HOST:PORT like 127.0.0.1:9464")
    return host, int(port)


def free_place(asked: str | None) -> str:
    """A place that can be listened at now: the one that is asked for, with a port in place of 0; where none is, LISTEN
    or, where that is taken, any port beside it. Refused: InputRefused."""
    host, port = parse_listen(asked or LISTEN)
    try:
        found = _probed(asked or LISTEN, host, port)
    except InputRefused:
        if asked is not None:
            raise
        found = _probed(LISTEN, host, 0)
    return f"[{host}]:{found}" if ":" in host else f"{host}:{found}"


def _probed(listen: str, host: str, port: int) -> int:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as failure:
        raise _not_had(listen, failure) from None


def _not_had(listen: str, failure: OSError) -> InputRefused:
    way_out = "; name another port, or 0 for any that is free" if failure.errno == errno.EADDRINUSE else ""
    return InputRefused("--listen", listen, f"{failure.strerror or failure}{way_out}")


class Observatory(ThreadingHTTPServer):
    """Listens from its making on; `serve_forever` answers. Refused: InputRefused for a place that cannot be had."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, listen: str, pages: dict[str, Page]) -> None:
        host, port = parse_listen(listen)
        self.pages = pages
        self._open: dict[socket.socket, float] = {}
        self._guard = threading.Lock()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self.address_family = socket.AddressFamily(found[0])
            super().__init__((host, port), _Handler)
        except OSError as failure:
            raise _not_had(listen, failure) from None

    def server_bind(self) -> None:
        """Bound without asking any name server who this machine is."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[0], self.server_address[1]  # type: ignore[assignment]

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more connection, unless there are too many."""
        with self._guard:
            is_full = len(self._open) >= LIMIT
            if not is_full:
                self._open[request] = time.monotonic()
        if is_full:
            super().shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Connections that have lasted too long are cut off."""
        now = time.monotonic()
        with self._guard:
            slow = [request for request, since in self._open.items() if now - since > PATIENCE]
        for request in slow:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's fault; anything else is told in a line."""
        log.info("a request came to nothing", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the pages there are, and says to everything else that it does not."""

    server: Observatory
    timeout = PATIENCE

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            status, kind, body = page()
        except Exception:
            log.exception("%s could not be made", self.path[:100])
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self._answer(status, kind, body)

    do_HEAD = do_GET  # noqa: N815

    def __getattr__(self, name: str) -> Any:
        """Whatever else a request may ask to be done."""
        if name.startswith("do_"):
            return self._refuse_method
        raise AttributeError(name)

    def _refuse_method(self) -> None:
        self.send_error(HTTPStatus.METHOD_NOT_ALLOWED)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """In the words of the status alone: nothing of the request comes back."""
        status = HTTPStatus(code)
        told = {
            HTTPStatus.NOT_FOUND: f"there are {' and '.join(self.server.pages)}",
            HTTPStatus.METHOD_NOT_ALLOWED: "GET and HEAD are answered",
        }.get(status, status.description or status.phrase)
        self.close_connection = True
        if not hasattr(self, "request_version"):
            self.request_version = self.default_request_version
        self._answer(status, "text/plain; charset=utf-8", f"{code} {status.phrase}: {told}\n".encode())

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not written down."""
