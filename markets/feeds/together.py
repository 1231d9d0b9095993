"""Several sources as one: each series from one of them, and how good every bar's close was as a price when it came.

Bars of several sources are never mixed: the one that gives a series is waited for while it is away. The others witness
it: the same bar's close as they have it says whether sources agree.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum
from typing import TypeVar

from ringfence.markets.bars import Bars
from ringfence.markets.errors import FeedRefused
from ringfence.markets.feeds.closing import joined, stamps_joined
from ringfence.markets.feeds.errand import Errand
from ringfence.markets.feeds.quality import Action, Quality, Thresholds, judge, permitted
from ringfence.markets.feeds.source import Delivery, Source
from ringfence.markets.feeds.ticks import Seen, Tick
from ringfence.markets.market import Funding
from ringfence.words.refusal import RingfenceError

__all__ = ["Judging", "Member", "Together"]

Series = TypeVar("Series")
_KEPT = 1_000
"""Closes of a witness that are kept."""


@dataclass(frozen=True)
class Judging:
    """How bars are judged."""

    live: int = 0
    """Bars that end by then (UTC ms) are history, and not judged."""
    thresholds: Thresholds = field(default_factory=lambda: Thresholds(silence=60_000))
    """A bar that comes longer than `silence` after its end is stale."""
    patience: int = 10_000
    """Milliseconds that a bar waits for its witnesses."""
    window: int = 300_000
    """Milliseconds that a close's own mean looks back."""
    wait: int = 1_000
    """Milliseconds that one look waits for a source; what comes later is delivered by a later one."""


@dataclass(frozen=True)
class Member:
    """A source, and what its symbols are here."""

    source: Source
    gives: Mapping[str, str]
    """By its symbol, the one whose series it gives."""
    witnesses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By its symbol, those that it witnesses."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """What one delivery has of a symbol."""

    came: int
    """By our clock, UTC ms."""
    clock: int
    """By the source's."""
    until: int
    bars: Bars | None
    marks: Bars | None
    funding: Funding | None


@dataclass(eq=False)
class _Series:
    """A symbol's pieces that wait, and what was said of it."""

    giver: str
    pieces: deque[_Piece] = field(default_factory=deque)
    witnesses: dict[str, "_Witness"] = field(default_factory=dict)
    closes: deque[tuple[int, float]] = field(default_factory=deque)
    """Its own of the window, with their ends."""


@dataclass(eq=False)
class _Witness:
    closes: dict[int, float] = field(default_factory=dict)
    """By the bar's open."""
    until: int = 0
    absent: bool = False
    """Whether it was waited for in vain since it spoke last."""


class Together:
    """Sources as one. Refused (FeedRefused): no members, and a symbol that two of them give."""

    def __init__(self, members: Sequence[Member], judging: Judging | None = None) -> None:
        self.judging = judging or Judging()
        self.name = ", ".join(member.source.name for member in members)
        given = [(ours, member.source.name) for member in members for ours in member.gives.values()]
        if not given or len({ours for ours, _ in given}) < len(given):
            raise FeedRefused(self.name or "of none", f"{len(given)} series", "each symbol from one source")
        self._members = tuple(members)
        self._series = {ours: _Series(giver) for ours, giver in given}
        for member in members:
            for ours in (ours for several in member.witnesses.values() for ours in several):
                self._series[ours].witnesses[member.source.name] = _Witness()
        self._errands: tuple[Errand[Delivery], ...] = tuple(Errand(f"poll {each.source.name}") for each in members)

    @property
    def counts(self) -> Mapping[str, int]:
        """Those of all sources."""
        total: Counter[str] = Counter()
        for member in self._members:
            total.update(member.source.counts)
        return total

    def poll(self, now: int) -> Delivery:
        """What is new, once its witnesses have spoken or were waited for."""
        ticks, notes, faults = list[Tick](), list[str](), list[RingfenceError]()
        clock = now
        for member, delivery in self._polled(now):
            clock = delivery.clock if member is self._members[0] else clock
            self._take(member, delivery, now)
            names = {its: (ours,) for its, ours in member.gives.items()}
            for tick in delivery.ticks:
                known = (*names.get(tick.symbol, ()), *member.witnesses.get(tick.symbol, ()))
                ticks += [replace(tick, symbol=ours) for ours in known]
            notes += delivery.notes
            faults += delivery.faults
        ready = {symbol: self._ready(series, now) for symbol, series in self._series.items()}
        levels = {symbol: found for symbol, pieces in ready.items() if (found := dict(self._levels(symbol, pieces)))}
        pieces = {symbol: found for symbol, found in ready.items() if found}
        bars = {symbol: joined(one.bars for one in found if one.bars is not None) for symbol, found in pieces.items()}
        marks = {
            symbol: joined(one.marks for one in found if one.marks is not None) for symbol, found in pieces.items()
        }
        funding = {
            symbol: stamps_joined(each.funding for each in found if each.funding is not None)
            for symbol, found in pieces.items()
        }
        until = {symbol: found[-1].until for symbol, found in pieces.items()}
        series = (_there(bars), _there(marks), _there(funding))
        return Delivery(clock, *series, tuple(ticks), until, levels, tuple(notes), tuple(faults))

    def _polled(self, now: int) -> Iterator[tuple[Member, Delivery]]:
        """What each source says; one that is slow holds up no other."""
        if len(self._members) == 1:
            yield self._members[0], self._members[0].source.poll(now)
            return
        found: dict[int, Delivery] = {}
        for wait in (0, self.judging.wait):
            for at, (member, errand) in enumerate(zip(self._members, self._errands, strict=True)):
                if at not in found:
                    delivery = errand.run(lambda source=member.source: source.poll(now), wait)  # type: ignore[misc]
                    if delivery is not None:
                        found[at] = delivery
        for at in sorted(found):
            yield self._members[at], found[at]

    def _take(self, member: Member, delivery: Delivery, now: int) -> None:
        for its, ours in member.gives.items():
            if its in delivery.until:
                bars, marks, funding = delivery.bars.get(its), delivery.marks.get(its), delivery.funding.get(its)
                piece = _Piece(
                    now, delivery.clock, delivery.until[its],
                    None if bars is None else replace(bars, symbol=ours),
                    None if marks is None else replace(marks, symbol=ours),
                    None if funding is None else replace(funding, symbol=ours),
                )  # fmt: skip
                self._series[ours].pieces.append(piece)
        for its, several in member.witnesses.items():
            for witness in (self._series[ours].witnesses[member.source.name] for ours in several):
                until = delivery.until.get(its, 0)
                witness.absent = witness.absent and until <= witness.until
                witness.until = max(witness.until, until)
                if its in delivery.bars:
                    bars = delivery.bars[its]
                    witness.closes |= zip(bars.ts.tolist(), bars.close.tolist(), strict=True)
                    while len(witness.closes) > _KEPT:
                        del witness.closes[next(iter(witness.closes))]

    def _ready(self, series: _Series, now: int) -> list[_Piece]:
        """The pieces that have waited for nothing any more, in order."""
        found = []
        while series.pieces:
            piece = series.pieces[0]
            waited = not 0 <= now - piece.came < self.judging.patience
            lacking = [each for each in series.witnesses.values() if not each.absent and each.until < piece.until]
            if piece.bars is not None and lacking and not waited and self._is_live(piece.until):
                break
            for witness in lacking if waited else ():
                witness.absent = True
            found.append(series.pieces.popleft())
        return found

    def _is_live(self, end: int) -> bool:
        return end > self.judging.live

    def _levels(self, symbol: str, pieces: Sequence[_Piece]) -> Iterator[tuple[int, Quality]]:
        """Of each bar, how good its close was when it came, where nothing may grow on it."""
        series = self._series[symbol]
        for piece in pieces:
            if piece.bars is None:
                continue
            for ts, close in zip(piece.bars.ts.tolist(), piece.bars.close.tolist(), strict=True):
                end = ts + piece.bars.timeframe
                while series.closes and not end - self.judging.window <= series.closes[0][0] < end:
                    series.closes.popleft()
                if self._is_live(end):
                    quality = self._judged(series, ts, end, close, piece.clock)
                    if not permitted(quality, Action.increase):
                        yield ts, quality
                series.closes.append((end, close))

    def _judged(self, series: _Series, ts: int, end: int, close: float, clock: int) -> Quality:
        mean = fsum(each for _, each in series.closes) / len(series.closes) if series.closes else None
        seen = {series.giver: Seen(close, end, clock, mean)}
        for name, witness in series.witnesses.items():
            if ts in witness.closes:
                seen[name] = Seen(witness.closes[ts], end, clock, None)
        return judge(seen, max(clock, end), self.judging.thresholds).quality


def _there(found: Mapping[str, Series | None]) -> dict[str, Series]:
    return {symbol: series for symbol, series in found.items() if series is not None}
