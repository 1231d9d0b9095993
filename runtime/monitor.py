"""The monitor of an installation: looks at database and broker every few seconds, in a thread of its own each, and
keeps what it saw last.

Whoever asks is answered from that, so that however many ask, and however often, the database is read no more for it,
and one that hangs makes nobody wait: the answer then is how old the last look is. It writes nothing to the database.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from sqlalchemy import Engine

from ringfence.runtime import metrics
from ringfence.runtime.broker import BrokerTold, ask_broker
from ringfence.runtime.database import check_schema, open_engine
from ringfence.runtime.observation import Observer, Seen
from ringfence.runtime.signs import Sign, feed_clock, signs

__all__ = ["Answer", "Monitor", "State"]

EVERY = 2.0
"""Seconds between two looks."""

_Told = TypeVar("_Told")


@dataclass(frozen=True)
class Answer(Generic[_Told]):
    """What was learnt last."""

    value: _Told | None = None
    failure: Exception | None = None
    """Why nothing was learnt; None beside no value: it was not asked yet, or has not answered."""
    at: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        """Seconds."""
        return time.monotonic() - self.at


@dataclass(frozen=True)
class State:
    """All that is known of an installation."""

    database: Answer[Seen]
    broker: Answer[BrokerTold]
    signs: tuple[Sign, ...] | None
    """None where its parts share no folder, so that nothing is known of them."""


class Monitor:
    """Runs inside the `with` block. `now` is UTC ms; `shared` the folder that the parts share, if any."""

    def __init__(self, database: str, broker: str, shared: Path | None, now: Callable[[], int]) -> None:
        self._database, self._broker, self._shared, self._now = database, broker, shared, now
        self._found: Answer[Seen] = Answer()
        self._told: Answer[BrokerTold] = Answer()
        self._ended = threading.Event()
        self._engine: Engine | None = None
        self._observer: Observer | None = None
        self._aside: frozenset[str] | None = None

    def __enter__(self) -> "Monitor":
        for look in (self._look, self._ask):
            threading.Thread(target=self._go_round, args=(look,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def state(self) -> State:
        """What is known now; it waits for nobody."""
        return State(self._found, self._told, self._signs())

    def _signs(self) -> tuple[Sign, ...] | None:
        return None if self._shared is None else signs(self._shared)

    def _go_round(self, look: Callable[[], None]) -> None:
        while not self._ended.is_set():
            look()
            self._ended.wait(EVERY)

    def _ask(self) -> None:
        try:
            self._told = Answer(ask_broker(self._broker))
        except Exception as failure:
            self._told = Answer(failure=failure)

    def _look(self) -> None:
        try:
            self._found = Answer(self._seen())
        except Exception as failure:
            if not getattr(failure, "transient", False):
                self._leave()
            self._found = Answer(failure=failure)

    def _seen(self) -> Seen:
        if self._observer is None:
            engine = open_engine(self._database, create=False)
            self._engine = engine
            check_schema(engine)
            self._observer = Observer(engine)
        told = feed_clock(self._signs() or ())
        seen = self._observer.look(self._now(), told.clock, ended=told.ended)
        aside = frozenset(one.vault for one in seen.left_aside)
        if self._aside is not None and aside - self._aside:
            metrics.dead_letters(len(aside - self._aside))
        self._aside = aside
        return seen

    def _leave(self) -> None:
        """What failed for a reason that does not pass is opened anew at the next look."""
        if self._engine is not None:
            with suppress(Exception):
                self._engine.dispose()
        self._engine = self._observer = None
