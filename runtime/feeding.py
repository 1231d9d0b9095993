"""The feed's process: what a source delivers, recorded, so that slots fall due. It decides nothing."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection, Engine, select

from ringfence.markets.errors import MisalignedMarket
from ringfence.markets.feeds.closing import between, joined, stamps_joined
from ringfence.markets.feeds.replay import Recording
from ringfence.markets.feeds.source import Delivery, Source
from ringfence.markets.feeds.ticks import Dropped, Intake
from ringfence.markets.instruments import instrument_key
from ringfence.markets.market import align
from ringfence.runtime import metrics
from ringfence.runtime.bar_store import feed_until, last_bar, recorded_stamps, store_bars, store_stamps
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.errors import DatabaseError, DatabaseReplaced, RecordingDiffers
from ringfence.runtime.levels import store_levels
from ringfence.runtime.signs import FEED, show
from ringfence.vaults.tables import fed
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import utc

__all__ = ["EVERY", "Feeder", "fed_until"]

EVERY = 0.25
"""Seconds between two looks at a source."""
TELLING = 10_000
"""Milliseconds between two times at which counts and progress are told."""
BEHIND = 3_600_000
"""A series that ends so long (ms) before its source's clock is catching up."""

log = logging.getLogger(__name__)


def fed_until(engine: Engine, symbols: tuple[str, ...]) -> dict[str, int]:
    """How far the series of these symbols are fed, UTC ms; those that are not fed at all are absent."""
    keys = {instrument_key(symbol): symbol for symbol in symbols}
    with unit_of_work(engine, writes=False) as connection:
        found = connection.execute(select(fed.c.instrument, fed.c.until).where(fed.c.instrument.in_(keys))).all()
    return {keys[key]: until for key, until in found}


@dataclass(eq=False)
class Feeder:
    """One source recorded into one database.

    A series that contradicts what is recorded goes no further until the feed is started again, since what followed
    would leave a hole. A correction of the last bar that comes after a vault has lived it is left out alone.
    """

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
    _stopped: dict[str, RingfenceError] = field(default_factory=dict, repr=False)
    """Series that go no further, and why."""
    _late: int = field(default=0, repr=False)
    """Corrections that came too late."""
    _intake: Intake | None = field(default=None, repr=False)
    _counted: tuple[int, Mapping[str, int]] = field(default=(0, {}), repr=False)
    """When (UTC ms) the counts were told, and which."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What came and what was dropped so far, by a name of lower-case words."""
        dropped = Counter({f"ticks_{rule}": 0 for rule in Dropped})
        for (_, rule), count in ({} if self._intake is None else self._intake.dropped()).items():
            dropped[f"ticks_{rule}"] += count
        said = {f"source_{kind.replace(' ', '_')}": count for kind, count in sorted(self.source.counts.items())}
        own = {
            "bars_recorded": self.recorded,
            "corrections_too_late": self._late,
            "series_stopped": len(self._stopped),
        }
        return {**own, **dropped, **said}

    def take(self, now: int) -> Delivery:
        """Record what the source has at `now` (UTC ms), all of it or nothing, and return it.

        A series that differs from what is recorded already is a fault, told, and goes no further.
        """
        delivery = self._kept
        if delivery is None:
            delivery = self._kept = self.source.poll(now)
            self._hear(delivery)
        late, refused = in_unit(self.engine, lambda connection: self._store(connection, delivery))
        self._kept = None
        self.ring()
        self._late += len(late)
        self._stopped |= refused
        for symbol, refusal in late.items():
            log.warning("%s: a correction that came too late was left out: %s", self.source.name, refusal)
            self._told.pop(symbol, None)
        for symbol, refusal in refused.items():
            self._tell(symbol, refusal)
        new = sum(len(bars) for symbol, bars in delivery.bars.items() if symbol not in self._stopped) - len(late)
        self.recorded += new
        metrics.recorded(new)
        self._tell_progress(delivery, now)
        return delivery

    def _hear(self, delivery: Delivery) -> None:
        for note in delivery.notes:
            log.info("%s: %s", self.source.name, note)
        for fault in delivery.faults:
            self._tell(f"{type(fault).__name__} {fault.fields().get('asked', '')}", fault)
        if self._intake is None and delivery.until:
            self._intake = Intake(delivery.until)
        if self._intake is not None:
            for tick in delivery.ticks:
                self._intake.take(tick)

    def _tell_progress(self, delivery: Delivery, now: int) -> None:
        """How far what catches up has come, and what was dropped, where that has changed; once in a while."""
        told_at, told = self._counted
        if 0 <= now - told_at < TELLING:
            return
        dropped = {name: count for name, count in self.counts.items() if count and name != "bars_recorded"}
        for symbol in delivery.bars:
            if delivery.clock - delivery.until[symbol] > BEHIND:
                log.info("%s: %s has come up to %s", self.source.name, symbol, utc(delivery.until[symbol]))
        if dropped != told:
            log.info("%s: %s", self.source.name, ", ".join(f"{name} {count}" for name, count in dropped.items()))
        if dropped != told or any(delivery.clock - delivery.until[symbol] > BEHIND for symbol in delivery.bars):
            self._counted = (now, dropped)

    def _store(
        self, connection: Connection, delivery: Delivery
    ) -> tuple[Mapping[str, RingfenceError], Mapping[str, RingfenceError]]:
        """Corrections that came too late and series that go no further, by symbol."""
        late, refused = dict[str, RingfenceError](), dict[str, RingfenceError]()
        for symbol in delivery.until:
            if symbol in self._stopped:
                continue
            refusal = self._attempted(connection, symbol, delivery)
            if refusal is not None and (without := _without_correction(connection, symbol, delivery)) is not None:
                late[symbol] = refusal
                refusal = self._attempted(connection, symbol, without)
            if refusal is not None:
                refused[symbol] = refusal
        return late, refused

    def _attempted(self, connection: Connection, symbol: str, delivery: Delivery) -> RingfenceError | None:
        """Why the series could not be recorded; None where it was."""
        attempt = connection.begin_nested()
        try:
            self._store_series(connection, symbol, delivery)
        except (RecordingDiffers, MisalignedMarket) as refusal:
            attempt.rollback()
            return refusal
        attempt.commit()
        return None

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
            store_levels(connection, symbol, delivery.levels.get(symbol, {}))
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


def _without_correction(connection: Connection, symbol: str, delivery: Delivery) -> Delivery | None:
    """The delivery without the symbol's bar that is the last recorded one; None where it does not begin with it."""
    before, bars = last_bar(connection, symbol), delivery.bars.get(symbol)
    if before is None or bars is None or bars.ts[0] != before.ts[0]:
        return None
    others = {other: series for other, series in delivery.bars.items() if other != symbol}
    return replace(delivery, bars={**others, symbol: bars[1:]} if len(bars) > 1 else others)
