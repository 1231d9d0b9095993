"""The nursery: one process that has everything loaded, of which the parts of an installation are forked.

Loading costs each process some three seconds of a core; a fork costs milliseconds, and shares the memory of what was
loaded. A part begins as a new process would: in a session of its own, with its own standard streams, its words as the
command line, and nothing open but them. The nursery ends with whoever made it; its parts have their own lifelines.

The two talk over one socket, a line of JSON each way: words to fork with the three streams beside them, answered by the
process's number; and, unasked, that all is loaded and how a process ended.
"""

import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import IO, Any

from setproctitle import setproctitle

__all__ = ["Born", "Nursery", "NurseryGone", "attend"]

_LINE = 65_536
"""Bytes that are read at once."""
_ANSWER = 30.0
"""Seconds within which a nursery that has loaded answers."""
_POLL = 0.02
"""Seconds between two looks at whether a process has ended."""


class NurseryGone(OSError):
    """The nursery has ended: what it bore can no longer be asked how it does, and nothing more is born of it."""


class Born:
    """A process of the nursery."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """As of `subprocess`: below 0 the signal that ended it; None while it runs."""
        self._nursery = nursery

    def poll(self) -> int | None:
        """`returncode` as it is now; where the nursery is gone, as if killed: nobody can say more."""
        if self.returncode is None:
            self._nursery.hear()
            self.returncode = self._nursery.ended.pop(self.pid, None)
            if self.returncode is None and self._nursery.is_gone:
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, patience: float) -> int | None:
        """`returncode`, after at most so many seconds."""
        deadline = time.monotonic() + patience
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """Begins to load when it is made, in `environment`."""

    def __init__(self, program: str, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        """`program`: the module whose `main` each process runs; `modules`: what else is loaded before, and of
        MODULE:FUNCTION what is called then."""
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        """What it writes itself."""
        self._link, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from ringfence.runtime.nursery import attend; attend()",
                 str(theirs.fileno()), program, *modules],
                env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )  # fmt: skip
        self.is_ready = False
        """Whether all is loaded."""
        self.is_gone = False
        self.ended: dict[int, int] = {}
        """How processes ended that nobody has asked about, by their numbers."""
        self._heard = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        self.hear()
        return self.is_gone

    def hear(self, *, until: Callable[[dict[str, int]], bool] | None = None) -> dict[str, int]:
        """What it has told by now, taken down; `until`: wait for the line of which that is true, and return it.

        Refused, where one is waited for: NurseryGone.
        """
        if not self.is_gone:
            self._link.settimeout(0.0 if until is None else _ANSWER)
        while not self.is_gone:
            line, found, rest = self._heard.partition(b"\n")
            if found:
                self._heard = rest
                told: dict[str, int] = json.loads(line)
                if "ended" in told:
                    self.ended[told["ended"]] = told["code"]
                self.is_ready |= "ready" in told
                if until is not None and until(told):
                    return told
                continue
            try:
                heard = self._link.recv(_LINE)
            except BlockingIOError:
                return {}
            except (ConnectionError, TimeoutError):
                heard = b""
            self._heard += heard
            self.is_gone = not heard
        if until is not None:
            raise NurseryGone
        return {}

    def bear(self, words: Sequence[str], streams: tuple[int, int, int]) -> Born:
        """A process that runs the program with these words and standard streams, of a nursery that is ready.

        Refused: NurseryGone, OSError where the system starts no process.
        """
        if self.is_gone:
            raise NurseryGone
        line = json.dumps(list(words)).encode() + b"\n"
        try:
            self._link.settimeout(_ANSWER)
            sent = socket.send_fds(self._link, [line[:_LINE]], streams)
            self._link.sendall(line[sent:])
        except (ConnectionError, TimeoutError):
            self.is_gone = True
            raise NurseryGone from None
        told = self.hear(until=lambda told: "born" in told)
        if told["born"] < 0:
            raise OSError(-told["born"], os.strerror(-told["born"]))
        self.ended.pop(told["born"], None)
        return Born(self, told["born"])

    def close(self) -> None:
        """End it; what was born of it lives on."""
        self._link.close()
        self.is_gone = True
        self._process.kill()
        self._process.wait()
        self.log.close()


def attend() -> None:
    """The nursery's own work, and then, in each process that was forked of it, that one's.

    The command line: the socket's descriptor, the program, and the modules to load.
    """
    gc.disable()
    number, name, *modules = sys.argv[1:]
    program: Any = import_module(name)
    for module in modules:
        place, _, function = module.partition(":")
        loaded: Any = import_module(place)
        if function:
            getattr(loaded, function)()
    gc.freeze()  # so that no collection goes through what all have loaded, nor copies what they share
    gc.enable()
    words = _forked(socket.socket(fileno=int(number)))
    if words is not None:
        sys.argv = ["ringfence", *words]
        setproctitle(" ".join(sys.argv))
        program.main()


def _forked(link: socket.socket) -> list[str] | None:
    """Fork as it is asked for. Returns None once nobody asks any more, and in each new process its words."""
    bell, rung = socket.socketpair()
    rung.setblocking(False)
    bell.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
    _tell(link, {"ready": 1})
    with selectors.DefaultSelector() as waiting:
        waiting.register(link, selectors.EVENT_READ)
        waiting.register(bell, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is bell:
                    bell.recv(4096)
                    _tell_ended(link)
                    continue
                asked, streams, _, _ = socket.recv_fds(link, _LINE, 3)
                while asked and not asked.endswith(b"\n"):
                    more = link.recv(_LINE)
                    asked = asked + more if more else b""
                if not asked:
                    return None
                try:
                    pid = os.fork()
                except OSError as failure:
                    pid = -(failure.errno or 1)
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for inherited in (link, bell, rung):
                        inherited.close()
                    _take(streams)
                    words: list[str] = json.loads(asked)
                    return words
                for stream in streams:
                    os.close(stream)
                _tell(link, {"born": pid})


def _take(streams: Sequence[int]) -> None:
    os.setsid()
    for standard, stream in enumerate(streams):
        os.dup2(stream, standard)
        os.close(stream)


def _tell_ended(link: socket.socket) -> None:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            _tell(link, {"ended": found[0], "code": os.waitstatus_to_exitcode(found[1])})


def _tell(link: socket.socket, what: dict[str, int]) -> None:
    with suppress(ConnectionError):
        link.sendall(json.dumps(what).encode() + b"\n")
