"""What processes count, and what is gathered of it over all of them.

Each process counts in a file of its own in the folder that the installation's parts share (`runtime.signs`); without
such a folder it counts for itself, and nobody reads it. What a process that has gone has counted is kept, in one file
for all of them, so that no sum falls and no files pile up.

Counting never stands in the way of what is counted: it raises nothing and waits for nobody.
"""

import glob
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from ringfence.runtime.signs import folder, is_there
from ringfence.vaults.errors import StaleFence

__all__ = ["Counted", "dead_letters", "failed", "recorded", "rung", "stepped"]

_LEAST = 1 << 16
"""Bytes of a new file of counts."""
_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0, 16.0)
_GONE = "gone"
"""In place of the process id, in the files that keep what processes that have gone have counted."""

_registry = CollectorRegistry()
_Given = ParamSpec("_Given")


class _Counts:
    """Made when this process counts for the first time, so that whoever only imports this makes no file."""

    def __init__(self) -> None:
        _reserve()
        self.steps = Counter("ringfence_steps", "Slots that vaults were stepped through", registry=_registry)
        self.seconds = Histogram(
            "ringfence_step_seconds", "Seconds that a step took, the mean of each turn of a vault", registry=_registry,
            buckets=_BUCKETS,
        )  # fmt: skip
        self.retries = Counter(
            "ringfence_retries", "Turns of a vault that failed, each tried again or left aside", registry=_registry
        )
        self.fences = Counter(
            "ringfence_stale_fences", "Steps undone because another process had changed the vault", registry=_registry
        )
        self.dead = Counter("ringfence_dead_letters", "Vaults that were left aside", registry=_registry)
        self.rings = Counter("ringfence_rings", "Vaults that a scheduler rang for", registry=_registry)
        self.bars = Counter("ringfence_bars_recorded", "Bars that a feed recorded", registry=_registry)


_counts: list[_Counts] = []
_making = threading.Lock()


def _reserve() -> None:
    """Room on the disk for this process's files, before they are written through memory: where there is none, that
    would kill the process. Refused: OSError."""
    shared = folder()
    for kind in ("counter", "histogram") if shared is not None and hasattr(os, "posix_fallocate") else ():
        descriptor = os.open(shared / f"{kind}_{os.getpid()}.db", os.O_RDWR | os.O_CREAT, 0o600)  # type: ignore[operator]
        try:
            os.posix_fallocate(descriptor, 0, _LEAST)
        finally:
            os.close(descriptor)


def _harmless(count: Callable[_Given, None]) -> Callable[_Given, None]:
    """The same, but whatever goes wrong in it is nobody's trouble: the count is lost."""

    @wraps(count)
    def counted(*given: _Given.args, **named: _Given.kwargs) -> None:
        with suppress(Exception):
            count(*given, **named)

    return counted


def _of_this_process() -> _Counts:
    with _making:
        if not _counts:
            _counts.append(_Counts())
    return _counts[0]


@_harmless
def stepped(slots: int, seconds: float) -> None:
    """A vault's turn took so long, and stepped it through so many slots."""
    if slots:
        counts = _of_this_process()
        counts.steps.inc(slots)
        counts.seconds.observe(seconds / slots)


@_harmless
def failed(failure: BaseException) -> None:
    """A vault's turn came to nothing."""
    counts = _of_this_process()
    counts.retries.inc()
    if isinstance(failure, StaleFence):
        counts.fences.inc()


@_harmless
def dead_letters(vaults: int) -> None:
    """So many vaults were left aside."""
    _of_this_process().dead.inc(vaults)


@_harmless
def rung(vaults: int) -> None:
    """A scheduler rang for so many vaults."""
    _of_this_process().rings.inc(vaults)


@_harmless
def recorded(bars: int) -> None:
    """A feed recorded so many bars."""
    _of_this_process().bars.inc(bars)


# ---------------------------------------------------------------------------------------------------- gathered


class Counted:
    """What all processes of an installation have counted, as prometheus_client collects it."""

    def __init__(self, shared: Path) -> None:
        self._folder = shared
        self._one_at_a_time = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """The sums. A file that cannot be read is left out."""
        with self._one_at_a_time:
            self._fold()
            files = [file for file in glob.glob(str(self._folder / "*.db")) if _is_readable(file)]
            found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        yield from found

    def _fold(self) -> None:
        """Add what processes that have gone have counted to what is kept of them, and remove their files."""
        for kind in ("counter", "histogram"):
            for place in self._folder.glob(f"{kind}_*.db"):
                pid = place.stem.partition("_")[2]
                if pid.isdecimal() and not is_there(int(pid)):
                    with suppress(OSError, ValueError, RuntimeError):
                        self._keep(place, self._folder / f"{kind}_{_GONE}.db")

    @staticmethod
    def _keep(place: Path, kept: Path) -> None:
        values = list(MmapedDict.read_all_values_from_file(str(place)))  # type: ignore[no-untyped-call]
        place.unlink()  # first: what is counted twice would be worse than what is lost
        sums = MmapedDict(str(kept))  # type: ignore[no-untyped-call]
        try:
            for key, value, stamp, _ in values:
                sums.write_value(key, sums.read_value(key)[0] + value, stamp)  # type: ignore[no-untyped-call]
        finally:
            sums.close()  # type: ignore[no-untyped-call]


def _is_readable(file: str) -> bool:
    try:
        list(MmapedDict.read_all_values_from_file(file))  # type: ignore[no-untyped-call]
    except Exception:  # a file that is being made, or holds something else
        return False
    return True
