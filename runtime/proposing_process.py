"""The process of the strategies as its owner has it: started fresh, asked, watched, and ended with all that it started.

A new interpreter, never a fork: of its owner it has the paths that modules are found on, a few names of the environment
that say nothing of databases or brokers, and three pipes.
"""

import errno
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from ringfence.runtime.proposing_wire import Answer, FailureKind, Malformed, read_answer

__all__ = ["OUTPUT_MAX", "Ending", "Printed", "StrategyProcess", "surroundings"]

OUTPUT_MAX = 65_536
"""Bytes of what strategies print that are kept in a call."""

_PROGRAM = (
    "import sys; parent, memory, questions, answers = map(int, sys.argv[1:5]); sys.path[:] = sys.argv[5:]; "
    "from ringfence.runtime.proposing_child import serve; serve(parent, memory, questions, answers)"
)
_NAMES = ("HOME", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV",
          "XDG_CACHE_HOME")  # fmt: skip
_FAMILIES = ("LC_", "MKL_", "NUMBA_", "OMP_", "OPENBLAS_", "PYTHON")
_CHUNK, _DRAINED_MAX = 65_536, 1 << 20
_LOOK = 0.25
"""Seconds after which a silent process is looked at again: its pipes may be held open by what it started."""
_PARTING, _BURIAL = 1.0, 5.0
"""Seconds that a process which closed its pipes has to end by itself, and a killed one to be gone."""


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """Of an environment what the process of the strategies is given: what an interpreter and its libraries need to
    start and to compute the same, by name; no address, no password, no key."""
    return {
        name: value for name, value in environment.items() if name in _NAMES or name.startswith(_FAMILIES)
    }  # fmt: skip


class Printed:
    """What strategies print in one call: the first bytes, and how many more there were."""

    def __init__(self) -> None:
        self.kept, self.dropped = bytearray(), 0

    def add(self, content: bytes) -> None:
        """Takes what there is room for."""
        room = OUTPUT_MAX - len(self.kept)
        self.kept += content[:room]
        self.dropped += max(len(content) - room, 0)

    def taken(self) -> tuple[bytes, int]:
        """What was kept and how many bytes were dropped; nothing is left."""
        found = bytes(self.kept), self.dropped
        self.kept, self.dropped = bytearray(), 0
        return found


@dataclass(frozen=True)
class Ending:
    """There was no answer; the process is of no more use."""

    kind: FailureKind
    how: str
    """In words, of a process that died."""


class StrategyProcess:
    """A process of its own session that answers one question after the other; `end` it in any case.

    Refused: OSError where the system starts no process.
    """

    def __init__(self, memory: int, printed: Printed) -> None:
        self.owner = os.getpid()
        self.fresh = True
        """Whether no strategy has been asked in it."""
        self._printed = printed
        self.posted: dict[int, bytes] = {}
        """The open questions' tokens, by their numbers in the call."""
        self._unsent: deque[memoryview] = deque()
        self._content = bytearray()
        ends = [os.pipe() for _ in range(3)]
        try:
            (inner_questions, self._questions), (self._answers, inner_answers), (self._output, inner_output) = ends
            words = map(str, (self.owner, memory, inner_questions, inner_answers))
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, *words, *sys.path],
                stdin=subprocess.DEVNULL, stdout=inner_output, stderr=inner_output,
                pass_fds=(inner_questions, inner_answers), env=surroundings(os.environ), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            _close(*(end for pair in ends for end in pair))
            raise
        _close(inner_questions, inner_answers, inner_output)
        self._selector = selectors.DefaultSelector()
        for pipe in (self._questions, self._answers, self._output):
            os.set_blocking(pipe, False)
        for pipe in (self._answers, self._output):
            self._selector.register(pipe, selectors.EVENT_READ)

    def post(self, question: bytes) -> None:
        """Sends a question, as much of it as the pipe takes now and the rest while answers are waited for."""
        self._unsent.append(memoryview(question))
        self._send()

    def answer(self, token: bytes, seconds: float) -> Answer | Ending:
        """The answer to the oldest open question, if it carries that token and comes within so many seconds; otherwise
        the process must be ended."""
        deadline, late = time.monotonic() + seconds, False
        try:
            while (answer := read_answer(self._content, token)) is None:
                if late:
                    return Ending(FailureKind.hung, "")
                left = deadline - time.monotonic()
                late = left <= 0.0  # and looks once more, for the owner too may have been held up
                self._wait(min(max(left, 0.0), _LOOK))
        except Malformed as fault:
            return Ending(FailureKind.died, f"wrote {fault}")
        except EOFError:
            return Ending(FailureKind.died, self._how_it_ended())
        return answer

    def _wait(self, seconds: float) -> None:
        """Reads and writes what can be; EOFError where the process has ended."""
        if self._unsent:
            self._selector.register(self._questions, selectors.EVENT_WRITE)
        try:
            ready = {key.fd for key, _ in self._selector.select(seconds)}
        finally:
            if self._unsent:
                self._selector.unregister(self._questions)
        if self._output in ready:
            self._read_output()
        if self._answers in ready:
            self._read_answers()
        elif not ready and self._has_ended():
            raise EOFError
        if self._questions in ready:
            self._send()

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent[0] = self._unsent[0][os.write(self._questions, self._unsent[0]) :]
                if not self._unsent[0]:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # answers that came before are still to be read, and then their end
            self._unsent.clear()

    def _read_answers(self) -> None:
        with suppress(BlockingIOError):
            content = os.read(self._answers, _CHUNK)
            if not content:
                raise EOFError
            self._content += content

    def _read_output(self) -> int:
        """How many bytes there were."""
        try:
            content = os.read(self._output, _CHUNK)
        except BlockingIOError:
            return 0
        if not content:
            with suppress(KeyError):
                self._selector.unregister(self._output)
        self._printed.add(content)
        return len(content)

    def drain(self) -> None:
        """Reads what was printed up to now, or as much of it as a flood deserves."""
        read = 0
        while read < _DRAINED_MAX and (more := self._read_output()):
            read += more

    def _has_ended(self) -> bool:
        """Whether the process has ended by itself; it is left to be buried by `end`, so that its number stays its."""
        if not hasattr(os, "waitid"):
            return False
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # the owner buries every child as it ends
            return True

    def _how_it_ended(self) -> str:
        deadline = time.monotonic() + _PARTING
        while not (ended := self._has_ended()) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.end()
        code = self._process.returncode
        if not ended or code is None:
            return "closed the pipe that answers go through"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by {_signal_name(-code)}"

    def end(self) -> None:
        """Kills the process and all of its session that stayed in its group, and closes the pipes.

        In a copy of the owner that a fork made, only the copies of the pipes are closed.
        """
        if self._selector.get_map() is None:
            return
        if self.owner == os.getpid():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_BURIAL)
            self.drain()
        else:
            self._process.returncode = 0  # another's to wait for
        self._selector.close()
        _close(self._questions, self._answers, self._output)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except OSError as fault:
            if fault.errno != errno.EBADF:
                raise
