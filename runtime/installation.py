"""An installation on one machine: its processes started, watched, started again when they die, and stopped.

Each part is a command of its own, the same that a compose file starts. It holds its standard input open for as long as
this process lives, so that no part outlives it, however it ends (`runtime.lifeline`).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ringfence.runtime.lifeline import LIFELINE
from ringfence.runtime.signs import FOLDER

__all__ = ["Installation", "Part"]

_WAITS = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a part that died is started again, by how often it has died without living for long."""
_SOUND = 30.0
"""Seconds after which a part has lived for long."""
_LAST = 2_000
"""Bytes of a log's end that are looked at."""
PATIENCE = 30.0
"""Seconds that parts have to stop by themselves."""


@dataclass
class Part:
    """One process of the installation."""

    name: str
    command: tuple[str, ...]
    """Of this program."""
    needs: Path | None = None
    """A file that is there once it can start."""
    ends: bool = False
    """It ends by itself once nothing is left to do, and is not started again then."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started: float = 0.0
    died: int = 0
    """How often in a row it died without having lived for long."""
    due: float = 0.0
    """When it is started (again), by the monotonic clock."""
    is_done: bool = False

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Installation:
    """Parts in the order of their start; `logs` is the folder of what each writes."""

    def __init__(self, parts: Sequence[Part], logs: Path, environment: Mapping[str, str]) -> None:
        self.parts = tuple(parts)
        self.shared = Path(environment[FOLDER]) if FOLDER in environment else None
        """The folder in which the parts show signs of life."""
        self._logs = logs
        self._environment = {**os.environ, **environment, LIFELINE: "stdin"}

    def log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def tend(self) -> tuple[str, ...]:
        """Start what is due and not running; returns in words what has died since the last call."""
        now, told = time.monotonic(), []
        for part in self.parts:
            if part.process is not None and part.process.poll() is not None:
                part.is_done = part.ends and part.process.returncode == 0
                part.died = 1 if now - part.started > _SOUND else part.died + 1
                part.due = now + _WAITS[min(part.died, len(_WAITS)) - 1]
                ended = "is done" if part.is_done else f"ended ({_ended(part.process.returncode)})"
                told.append(f"{part.name} {ended}{'' if part.is_done else self._last_words(part)}")
                _kill_family(part.process)
                self._close(part)
            is_due = part.process is None and not part.is_done and now >= part.due
            if is_due and (part.needs is None or part.needs.exists()):
                self._start(part, now)
        return tuple(told)

    def _last_words(self, part: Part) -> str:
        """What it wrote last, and where that stands."""
        try:
            with open(self.log(part), "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST))
                lines = log.read(_LAST).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"{': ' if last else ''}{last.removeprefix('ringfence: ')}; its log: {self.log(part)}"

    def _start(self, part: Part, now: float) -> None:
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.log(part), "ab", opener=_private) as log:
            part.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "ringfence", *part.command],
                env=self._environment, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        part.started = now

    @staticmethod
    def _close(part: Part) -> None:
        if part.process is not None and part.process.stdin is not None:
            _closed(part.process.stdin)
        part.process = None

    def stop(self, patience: float = PATIENCE) -> tuple[str, ...]:
        """Stop every part, the last started first told; returns the names of those that had to be killed."""
        running = [part for part in reversed(self.parts) if part.is_running]
        for part in running:
            assert part.process is not None
            with contextlib.suppress(ProcessLookupError):
                part.process.send_signal(signal.SIGTERM)
        deadline, killed = time.monotonic() + patience, []
        for part in running:
            assert part.process is not None
            try:
                part.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                killed.append(part.name)
            _kill_family(part.process)
            part.process.wait()
        for part in self.parts:
            self._close(part)
        return tuple(killed)


def _kill_family(process: subprocess.Popen[bytes]) -> None:
    """A process, if it still runs, and the children that it left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _closed(pipe: IO[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        pipe.close()


def _ended(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
