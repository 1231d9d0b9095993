"""The feed's process: what a source delivers, recorded, so that slots fall due. It decides nothing."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, select

from ringfence.markets.errors import MisalignedMarket
from ringfence.markets.feeds.closing import between, joined, stamps_joined
from ringfence.markets.feeds.replay import Recording
from ringfence.markets.feeds.source import Delivery, Source
from ringfence.markets.instruments import instrument_key
from ringfence.markets.market import align
from ringfence.runtime import metrics
from ringfence.runtime.bar_store import feed_until, last_bar, recorded_stamps, store_bars, store_stamps
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.errors import DatabaseError, DatabaseReplaced, RecordingDiffers
from ringfence.runtime.signs import FEED, show
from ringfence.vaults.tables import fed
from ringfence.words.refusal import RingfenceError

__all__ = ["EVERY", "Feeder", "fed_until"]

EVERY = 0.25
"""Seconds between two looks at a source."""

log = logging.getLogger(__name__)


def fed_until(engine: Engine, symbols: tuple[str, ...]) -> dict[str, int]:
    """How far the series of these symbols are fed, UTC ms; those that are not fed at all are absent."""
    keys = {instrument_key(symbol): symbol for symbol in symbols}
    with unit_of_work(engine, writes=False) as connection:
        found = connection.execute(select(fed.c.instrument, fed.c.until).where(fed.c.instrument.in_(keys))).all()
    return {keys[key]: until for key, until in found}


@dataclass(eq=False)
class Feeder:
    """One source recorded into one database."""

    engine: Engine
    source: Source
    ring: Callable[[], None] = field(default=lambda: None, repr=False)
    """Called when something was recorded."""
    recorded: int = 0
    """Bars, so far."""
    _kept: Delivery | None = field(default=None, repr=False)
    """What the source has given and the database has not taken yet."""
    _told: dict[str, str] = field(default_factory=dict, repr=False)
    """The last fault of each kind, so that a standing one is told once."""

    def take(self, now: int) -> Delivery:
        """Record what the source has at `now` (UTC ms), all of it or nothing, and return it.

        A series that differs from what is recorded already is a fault, told, and goes no further.
        """
        delivery = self._kept
        if delivery is None:
            delivery = self._kept = self.source.poll(now)
            for note in delivery.notes:
                log.info("%s: %s", self.source.name, note)
            for fault in delivery.faults:
                self._tell(type(fault).__name__, fault)
        refused = in_unit(self.engine, lambda connection: self._store(connection, delivery))
        self._kept = None
        self.ring()
        for symbol, refusal in refused.items():
            self._tell(symbol, refusal)
        new = sum(len(bars) for symbol, bars in delivery.bars.items() if symbol not in refused)
        self.recorded += new
        metrics.recorded(new)
        return delivery

    def _store(self, connection: Connection, delivery: Delivery) -> Mapping[str, RingfenceError]:
        refused: dict[str, RingfenceError] = {}
        for symbol in delivery.until:
            attempt = connection.begin_nested()
            try:
                self._store_series(connection, symbol, delivery)
                attempt.commit()
            except (RecordingDiffers, MisalignedMarket) as refusal:
                attempt.rollback()
                refused[symbol] = refusal
        return refused

    @staticmethod
    def _store_series(connection: Connection, symbol: str, delivery: Delivery) -> None:
        """With the last recorded bar before them, so that a stamp in the hole between is no stamp before all bars."""
        before, until, stamps = last_bar(connection, symbol), delivery.until[symbol], delivery.funding.get(symbol)
        if symbol in delivery.bars:
            known, paid = Recording({}), stamps
            if before is not None:
                known = Recording.of(before)
                earlier = recorded_stamps(connection, symbol, int(before.ts[0]))
                paid = stamps_joined(given for given in (earlier, stamps) if given is not None)
            whole, marks = (
                {symbol: found} if (found := joined(of[symbol] for of in both if symbol in of)) is not None else {}
                for both in ((known.bars, delivery.bars), (known.marks, delivery.marks))
            )
            own = whole[symbol]
            inside = None if paid is None else between(paid, int(own.ts[0]), int(own.ts[-1]) + own.timeframe)
            market = align(whole, marks, {symbol: inside} if inside is not None and len(inside.ts) else {})
            store_bars(connection, market, until)
        if stamps is not None and (before is not None or symbol in delivery.bars):
            store_stamps(connection, symbol, stamps)
        feed_until(connection, symbol, until)

    def _tell(self, kind: str, fault: RingfenceError) -> None:
        if self._told.get(kind) != str(fault):
            self._told[kind] = str(fault)
            log.warning("%s: %s", self.source.name, fault)

    def serve(self, clock: Callable[[], int], stopped: Callable[[], bool]) -> None:
        """Look every EVERY seconds, at once again as long as there is more, until it is stopped. A database that is
        away is waited for; what the source has delivered meanwhile is kept and recorded then."""
        while not stopped():
            try:
                delivery = self.take(clock())
            except DatabaseReplaced:
                raise
            except DatabaseError as failure:
                self._tell("database", failure)
                show(FEED)
            else:
                show(FEED, delivery.clock, ended=delivery.ended)
                if delivery.ended:
                    log.info("%s: has delivered all that it has", self.source.name)
                    return
                if delivery.bars:
                    continue
            time.sleep(EVERY)
