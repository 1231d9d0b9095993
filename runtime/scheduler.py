"""The scheduler: looks for what is due and rings for it. It owns nothing, so that any number of them may run.

Whatever it rings for is looked up again by whoever hears it; a ring that is lost is repeated, one that comes twice
finds nothing left to do.
"""

import logging
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from ringfence.runtime.duties import Duties
from ringfence.runtime.errors import BrokerUnreachable, DatabaseError, DatabaseReplaced

__all__ = ["EVERY", "Ring", "Scheduler"]

Ring = Callable[[Sequence[str]], None]
"""Rings for a batch of vaults."""

EVERY = 0.25
"""Seconds between two looks."""
AGAIN = 5_000
"""ms after which it rings again for what is still due."""
BATCH = 32
"""Vaults that one message names, at most."""

log = logging.getLogger(__name__)


class Scheduler:
    """Rings for batches of due vaults; one that has failed before is in a batch of its own."""

    def __init__(self, engine: Engine, ring: Ring, workers: int = 2) -> None:
        """`workers`: among how many processes a round's work is shared out."""
        self._duties, self._ring, self._workers = Duties(engine), ring, workers
        self._rung: dict[str, int] = {}

    def round(self, now: int) -> int:
        """Ring for what is due at `now` (UTC ms) and was not rung for just before; returns how many vaults."""
        due = self._duties.due(now)
        self._rung = {one.vault: self._rung[one.vault] for one in due if one.vault in self._rung}
        # A ring from the future was told by a clock that has been put right since.
        fresh = [one for one in due if not 0 <= now - self._rung.get(one.vault, -AGAIN) < AGAIN]
        sound = [one.vault for one in fresh if one.attempts == 0]
        size = max(1, min(BATCH, -(-len(sound) // self._workers)))
        batches = [sound[start : start + size] for start in range(0, len(sound), size)]
        for batch in [*batches, *([one.vault] for one in fresh if one.attempts)]:
            self._ring(batch)
            self._rung.update(dict.fromkeys(batch, now))
        return len(fresh)

    def serve(self, clock: Callable[[], int], stopped: Callable[[], bool]) -> None:
        """Look every EVERY seconds until it is stopped. A database or broker that is away is waited for."""
        away = ""
        while not stopped():
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
