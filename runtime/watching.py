"""The watch's process: what is recorded, looked at once, and whoever a price or a funding stamp calls rung for.

It decides nothing and writes nothing. Any number may run, each for its shard of the instruments or several for one.
Whom it calls is called again until the database says that he has lived, or that somebody has looked, up to the bar that
called; so a message that is lost costs seconds. At its start it looks at all bars since the vault that has lived least.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, bindparam, func, select

from ringfence.risk.watch import Marks
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.duties import looked
from ringfence.runtime.errors import BrokerUnreachable, DatabaseError, DatabaseReplaced
from ringfence.runtime.signs import show
from ringfence.runtime.watch import PositionWatch, shard_of
from ringfence.vaults.tables import bar, bar_series, fed, funding, vault

__all__ = ["EVERY", "Watching"]

EVERY = 0.25
"""Seconds between two looks, where nobody says that there is something to see."""
AGAIN = 2_000
"""ms after which it rings again for whom nobody has looked at; twice as long each time, as often as _DOUBLED."""
_DOUBLED = 5
BATCH = 32
"""Vaults that one message names, at most."""
_ANY = Marks(5e-324, 1.7e308)
"""Marks that cross every trigger."""

log = logging.getLogger(__name__)

_FED = select(fed.c.instrument, fed.c.until, bar_series.c.corrected).join(
    bar_series, bar_series.c.instrument == fed.c.instrument
)
_WORST = select(
    func.min(func.coalesce(bar.c.mark_low, bar.c.low)), func.max(func.coalesce(bar.c.mark_high, bar.c.high))
).where(bar.c.instrument == bindparam("of"), bar.c.ts >= bindparam("start"), bar.c.ts < bindparam("stop"))
_STAMPS = select(func.count()).where(
    funding.c.instrument == bindparam("of"), funding.c.ts >= bindparam("start"), funding.c.ts < bindparam("stop")
)
_LEAST = select(func.min(vault.c.clock)).where(vault.c.last_bar.is_not(None))


class _Called(NamedTuple):
    """A vault that was called, until somebody has looked."""

    until: int
    """UTC ms: the end of the bars that called."""
    due: int
    """When it is rung for (again), ms by the watch's clock."""
    times: int
    """How often it was rung for."""


class Watching:
    """One shard of the open positions, watched."""

    def __init__(self, engine: Engine, ring: Callable[[Sequence[str]], None], shard: int = 0, shards: int = 1) -> None:
        self._engine, self._ring = engine, ring
        self.watch = PositionWatch(engine, shard, shards)
        self._seen: dict[str, tuple[int, int]] = {}
        """By instrument, up to when (UTC ms) its bars were looked at, and how often they had been corrected."""
        self._called: dict[str, _Called] = {}
        self._told: dict[str, str] = {}

    def round(self, now: int) -> int:
        """Look at what was recorded since the last look and ring at `now` (ms, of any clock that does not run
        backwards) for whom it calls, and for those again at whom nobody has looked; returns how many."""
        self.watch.refresh()
        self._tell_unwatched()
        with unit_of_work(self._engine, writes=False) as connection:
            seen = self._look(connection)
            known = looked(connection, sorted(self._called)) if self._called else {}
        self._called = {
            name: called for name, called in self._called.items() if known.get(name, called.until) < called.until
        }
        due = [name for name, called in self._called.items() if now >= called.due]
        for start in range(0, len(due), BATCH):
            batch = due[start : start + BATCH]
            self._ring(batch)
            for name in batch:
                until, _, times = self._called[name]
                self._called[name] = _Called(until, now + AGAIN * 2 ** min(times, _DOUBLED), times + 1)
        self._seen = seen
        return len(due)

    def _look(self, connection: Connection) -> dict[str, tuple[int, int]]:
        """How far every instrument was looked at now; whom that called is called from here on."""
        least = connection.execute(_LEAST).scalar_one() or 0
        seen = dict(self._seen)
        for instrument, until, corrected in connection.execute(_FED).all():
            if shard_of(instrument, self.watch.shards) != self.watch.shard:
                continue
            before, times = self._seen.get(instrument, (least, 0))
            if (before, times) == (until, corrected):
                continue
            # The last bar that was seen may have been corrected since.
            span = {"of": instrument, "start": least if times != corrected else before, "stop": until}
            low, high = connection.execute(_WORST, span).one()
            called = set[str]()
            if low is not None:
                called.update(self.watch.crossed({instrument: Marks(float(low), float(high))}))
            if connection.execute(_STAMPS, span).scalar_one():
                called.update(self.watch.crossed({instrument: _ANY}))
            self._call(called, until)
            seen[instrument] = (until, corrected)
        self._call_renewed(connection, max((until for until, _ in seen.values()), default=0))
        return seen

    def _call(self, vaults: Iterable[str], until: int) -> None:
        for name in vaults:
            if name not in self._called or self._called[name].until < until:
                self._called[name] = _Called(until, 0, 0)

    def _call_renewed(self, connection: Connection, until: int) -> None:
        """Who has changed may hold what the bars after that were not compared with."""
        renewed = select(vault.c.name).where(vault.c.name.in_(self.watch.renewed), vault.c.clock < until)
        if self.watch.renewed:
            self._call(connection.execute(renewed).scalars(), until)

    def _tell_unwatched(self) -> None:
        unwatched = self.watch.unwatched
        if unwatched != self._told:
            for name, reason in sorted(unwatched.items() - self._told.items()):
                log.warning("vault %s is not watched: %s", name, reason)
            self._told = dict(unwatched)

    def serve(self, wait: Callable[[float], None], stopped: Callable[[], bool]) -> None:
        """Look whenever `wait` returns, until it is stopped. A database or broker that is away is waited for, and then
        everything is read anew."""
        away = ""
        while not stopped():
            show("watch")
            try:
                if away:
                    self.watch.rebuild()
                    self._seen, away = {}, ""
                self.round(time.monotonic_ns() // 1_000_000)
            except DatabaseReplaced:
                raise
            except (DatabaseError, BrokerUnreachable) as failure:
                if str(failure) != away:
                    away = str(failure)
                    log.warning("waiting: %s", failure)
            wait(EVERY)
