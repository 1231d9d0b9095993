"""An installation on one machine: its processes started, watched, started again when they die, and stopped.

Each part is a command of its own, the same that a compose file starts, born of one process that has everything loaded
(`runtime.nursery`). Its standard input is open for as long as this process lives, so that no part outlives it, however
it ends (`runtime.lifeline`).
"""

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from ringfence.runtime.lifeline import LIFELINE
from ringfence.runtime.nursery import Born, Nursery, NurseryGone
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
_LOADING = 10.0
"""Seconds after which it is told that loading takes long."""
_DEATH = 5.0
"""Seconds in which a process that was killed is gone."""


@dataclass
class _Life:
    """How often something died, and when it is started again."""

    started: float = 0.0
    died: int = 0
    """How often in a row it died without having lived for long."""
    due: float = 0.0
    """When it is started (again), by the monotonic clock."""

    def end(self, now: float) -> None:
        self.died = 1 if now - self.started > _SOUND else self.died + 1
        self.due = now + _WAITS[min(self.died, len(_WAITS)) - 1]


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
    process: Born | None = field(default=None, repr=False)
    lifeline: int | None = field(default=None, repr=False)
    """What it would hear end."""
    life: _Life = field(default_factory=_Life)
    is_done: bool = False

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Installation:
    """Begins to load what its parts run when it is made, and ends with its `with`.

    `program` is the module whose `main` runs a part's command, `modules` what else is loaded, once for all parts;
    `logs` the folder of what each part writes.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], program: str, modules: Sequence[str] = ()) -> None:
        self.parts: tuple[Part, ...] = ()
        """In the order of their start: nothing runs before they are named."""
        self.shared = Path(environment[FOLDER]) if FOLDER in environment else None
        """The folder in which the parts show signs of life."""
        self._logs = logs
        self._environment = {**os.environ, **environment, LIFELINE: "stdin"}
        self._loads = program, tuple(modules)
        self._nursed, self._slowness_told = _Life(time.monotonic()), False
        self._nursery: Nursery | None = Nursery(*self._loads, self._environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"

    def tend(self) -> tuple[str, ...]:
        """Start what is due and not running; returns in words what has died since the last call."""
        now, told = time.monotonic(), []
        for part in self.parts:
            if part.process is not None and part.process.poll() is not None:
                part.is_done = part.ends and part.process.returncode == 0
                part.life.end(now)
                ended = "is done" if part.is_done else f"ended ({_ended(part.process.returncode)})"
                told.append(f"{part.name} {ended}{'' if part.is_done else self._last_words(part)}")
                self._close(part)
        if self._nursery is not None and self._nursery.has_ended():
            told.append(f"the nursery of all parts ended: {_last_line(self._nursery.log)}")
            self._nursed.end(now)
            self._nursery.close()
            self._nursery = None
        if self._nursery is None and now >= self._nursed.due:
            self._nursery, self._nursed.started = Nursery(*self._loads, self._environment), now
        if self._is_slow(now):
            told.append("still loading: on its first day a machine compiles the kernel, for a minute or two")
        if self._nursery is not None and self._nursery.is_ready:
            with contextlib.suppress(NurseryGone):  # the next call tells it
                for part in self.parts:
                    is_due = part.process is None and not part.is_done and now >= part.life.due
                    if is_due and (part.needs is None or part.needs.exists()):
                        told += self._start(self._nursery, part, now)
        return tuple(told)

    def _is_slow(self, now: float) -> bool:
        """Whether the nursery's loading takes long; said once."""
        if self._nursery is None or self._nursery.is_ready or now - self._nursed.started < _LOADING:
            return False
        was_told, self._slowness_told = self._slowness_told, True
        return not was_told

    def _last_words(self, part: Part) -> str:
        """What it wrote last, and where that stands."""
        try:
            with open(self.log(part), "rb") as log:
                last = _last_line(log)
        except OSError:
            last = ""
        return f"{': ' if last else ''}{last}; its log: {self.log(part)}"

    def _start(self, nursery: Nursery, part: Part, now: float) -> tuple[str, ...]:
        """Start a part; returns in words why it could not be. Refused: NurseryGone."""
        heard, part.lifeline = os.pipe()
        part.life.started = now
        try:
            self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self.log(part), "ab", opener=_private) as log:
                part.process = nursery.bear(part.command, (heard, log.fileno(), log.fileno()))
        except NurseryGone:
            raise
        except OSError as failure:
            part.life.end(now)
            return (f"{part.name} could not be started ({failure.strerror or failure})",)
        finally:
            os.close(heard)
            if part.process is None:
                self._close(part)
        return ()

    @staticmethod
    def _close(part: Part) -> None:
        """Forget a part's process; what is left of it and of its children is killed."""
        if part.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGKILL)
            part.process.wait(_DEATH)
        if part.lifeline is not None:
            os.close(part.lifeline)
        part.process = part.lifeline = None

    def stop(self, patience: float = PATIENCE) -> tuple[str, ...]:
        """Stop every part, the last started first told; returns the names of those that had to be killed."""
        running = [part for part in reversed(self.parts) if part.is_running]
        for part in running:
            assert part.process is not None
            part.process.send_signal(signal.SIGTERM)
        deadline, killed = time.monotonic() + patience, []
        for part in running:
            assert part.process is not None
            if part.process.wait(deadline - time.monotonic()) is None:
                killed.append(part.name)
            self._close(part)
        for part in self.parts:
            self._close(part)
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None
        return tuple(killed)


def _last_line(log: IO[bytes]) -> str:
    log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST))
    lines = log.read(_LAST).decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "").removeprefix("ringfence: ")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _ended(code: int | None) -> str:
    assert code is not None
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
