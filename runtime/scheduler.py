"""The scheduler: looks for what is due and rings for it. It owns nothing, so that any number of them may run.

Whatever it rings for is looked up again by whoever hears it; a ring that is lost is repeated, one that comes twice
finds nothing left to do.
"""

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine, select

from ringfence.runtime import metrics
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.duties import Duties
from ringfence.runtime.errors import BrokerUnreachable, DatabaseError, DatabaseReplaced
from ringfence.runtime.signs import show
from ringfence.vaults.tables import vault

__all__ = ["EVERY", "Ring", "Scheduler"]

Ring = Callable[[Sequence[str], bool], None]
"""Rings for a batch of vaults; true: of those whose strategies take their time."""

EVERY = 0.25
"""Seconds between two looks."""
AGAIN = 5_000
"""ms after which it rings again for what is still due."""
AUDIT = 1_000
"""ms from one vault's audit to the next one's."""
BATCH = 32
"""Vaults that one message names, at most."""

log = logging.getLogger(__name__)


class Scheduler:
    """Rings for batches of due vaults; one that has failed before, or is slow, is in a batch of its own."""

    def __init__(
        self, engine: Engine, ring: Ring, workers: int = 2, audit: Callable[[Sequence[str]], None] | None = None
    ) -> None:
        """`workers`: among how many processes a round's work is shared out; `audit` rings for vaults whose books are to
        be checked."""
        self._engine, self._duties = engine, Duties(engine)
        self._ring, self._audit, self._workers = ring, audit, workers
        self._rung: dict[str, int] = {}
        self._audited, self._next_audit = "", 0

    def round(self, now: int) -> int:
        """Ring for what is due at `now` (UTC ms) and was not rung for just before; returns how many vaults."""
        due = self._duties.due(now)
        self._rung = {one.vault: self._rung[one.vault] for one in due if one.vault in self._rung}
        # A ring from the future was told by a clock that has been put right since.
        fresh = [one for one in due if not 0 <= now - self._rung.get(one.vault, -AGAIN) < AGAIN]
        sound = [one.vault for one in fresh if one.attempts == 0 and not one.slow]
        size = max(1, min(BATCH, -(-len(sound) // self._workers)))
        batches = [sound[start : start + size] for start in range(0, len(sound), size)]
        rung = [(batch, False) for batch in batches]
        for batch, slow in [*rung, *(([one.vault], one.slow) for one in fresh if one.attempts or one.slow)]:
            self._ring(batch, slow)
            self._rung.update(dict.fromkeys(batch, now))
            metrics.rung(len(batch))
        if self._audit is not None and now >= self._next_audit:
            self._next_audit = now + AUDIT
            self._audit_next(self._audit)
        return len(fresh)

    def _audit_next(self, audit: Callable[[Sequence[str]], None]) -> None:
        """Ring for the vault whose turn it is, by name."""
        with unit_of_work(self._engine, writes=False) as connection:
            names = select(vault.c.name).order_by(vault.c.name).limit(1)
            found = connection.execute(names.where(vault.c.name > self._audited)).scalar()
            found = found or connection.execute(names).scalar()
        if found is not None:
            audit([found])
            self._audited = found

    def serve(self, clock: Callable[[], int], stopped: Callable[[], bool]) -> None:
        """Look every EVERY seconds until it is stopped. A database or broker that is away is waited for."""
        away = ""
        while not stopped():
            show("schedule")
            try:
                self.round(clock())
                away = ""
            except DatabaseReplaced:
                raise
            except (DatabaseError, BrokerUnreachable) as failure:
                if str(failure) != away:
                    away = str(failure)
                    log.warning("waiting: %s", failure)
            time.sleep(EVERY)
