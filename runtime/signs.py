"""Signs of life: each part of an installation says, about once a second, that it goes round.

A sign is a file in the folder that the installation's parts share; one that is not renewed grows old, and whoever reads
it judges by its age. It is renewed by the very loop that does the work, never by a thread beside it, but for a child of
a worker: that one works where no loop is, so that a thread of its own renews the sign for as long as no single task has
gone on for too long. A part without such a folder says nothing, and nothing is expected of it.

Ages are counted by the monotonic clock, which is one for all processes of a machine.
"""

import json
import os
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

__all__ = ["CHILD", "FEED", "FOLDER", "Pulse", "Sign", "feed_clock", "folder", "is_there", "show", "signs"]

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The setting that names the folder; what processes count stands there as well (`runtime.metrics`)."""
FEED = "feed"
"""The part that tells the clock of its bars."""
CHILD = "desk"
"""The part that each child of a worker is."""
EVERY = 1.0
"""Seconds between two signs."""
STUCK = 30.0
"""Seconds after which a task that has not ended is a reason to show no sign: more than any task needs."""

_shown: dict[str, float] = {}


def folder() -> Path | None:
    """The folder that this process's installation shares; None where it has none."""
    found = os.environ.get(FOLDER)
    return Path(found) if found else None


def show(part: str, clock: int | None = None, *, ended: bool = False) -> None:
    """Renew this process's sign, if that is due or the part has `ended` well.

    `clock`: what time it is where a feed's bars are, UTC ms. A sign that cannot be written is not there, and tells that
    to whoever looks; the work goes on.
    """
    shared, now = folder(), time.monotonic()
    if shared is None or (not ended and now - _shown.get(part, -EVERY) < EVERY):
        return
    _shown[part] = now
    sign = {"part": part, "pid": os.getpid(), "at": now, "clock": clock, "ended": ended}
    place = shared / f"{part}-{os.getpid()}.sign"
    with suppress(OSError):
        fresh = place.with_suffix(".new")
        fresh.write_text(json.dumps(sign))
        fresh.replace(place)


@dataclass(frozen=True)
class Sign:
    """The last sign of one process."""

    part: str
    pid: int
    age: float
    """Seconds."""
    clock: int | None
    """What time it was where its bars are, UTC ms; of a feed alone."""
    ended: bool
    """It has done all that it was there for."""


def signs(shared: Path) -> tuple[Sign, ...]:
    """The signs of every process that still is there, and of each part that ended well and was not started again; what
    others have left behind is removed."""
    found: list[Sign] = []
    for place in sorted(shared.glob("*.sign")):
        try:
            told = json.loads(place.read_text())
            sign = Sign(told["part"], told["pid"], time.monotonic() - told["at"], told["clock"], told["ended"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
        if sign.ended or is_there(sign.pid):
            found.append(sign)
        else:
            _remove([place])
    last = {part: min(sign.age for sign in found if sign.part == part) for part in {sign.part for sign in found}}
    kept = [sign for sign in found if not sign.ended or sign.age == last[sign.part]]
    _remove(shared / f"{sign.part}-{sign.pid}.sign" for sign in found if sign not in kept)
    return tuple(kept)


def _remove(places: Iterable[Path]) -> None:
    for place in places:
        with suppress(OSError):
            place.unlink()


def is_there(pid: int) -> bool:
    """Whether a process of this number runs, or is stopped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class FeedClock(NamedTuple):
    """What time it is where bars come from."""

    clock: int | None
    """UTC ms; None where no feed tells."""
    ended: bool
    """Whether every feed has delivered all that it has."""


def feed_clock(shown: Sequence[Sign]) -> FeedClock:
    """What the feeds among these signs tell; of several the latest clock."""
    feeds = [sign for sign in shown if sign.part == FEED]
    clocks = [sign.clock for sign in feeds if sign.clock is not None and not sign.ended]
    return FeedClock(max(clocks, default=None), bool(feeds) and all(sign.ended for sign in feeds))


class Pulse:
    """A child's sign: shown by a thread of its own, as long as the child runs and is not stuck in one task."""

    def __init__(self, part: str = CHILD) -> None:
        self._part = part
        self._since: float | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._go_round, daemon=True, name="pulse").start()

    def stop(self) -> None:
        self._ended.set()

    def begin(self) -> None:
        """A task begins."""
        self._since = time.monotonic()

    def end(self) -> None:
        """A task has ended."""
        self._since = None

    def _go_round(self) -> None:
        while not self._ended.is_set():
            since = self._since
            if since is None or time.monotonic() - since < STUCK:
                show(self._part)
            self._ended.wait(EVERY)
