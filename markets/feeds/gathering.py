"""Gathering: bars that are over wait until their marks and funding stamps have come, so that they are recorded whole.

What a recording has is never completed afterwards: a bar that is stored without its mark is lived by its last price,
and a stamp that comes after its bar is refused. So the three are delivered together, or after a stated patience.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.feeds.closing import differing, joined, traded
from ringfence.markets.market import Funding
from ringfence.words.times import format_duration, utc

__all__ = ["Gathered", "Gathering"]

_HOUR = 3_600_000
"""Venues settle funding on full hours, and on no other moments."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What of one symbol is whole, or has waited long enough."""

    bars: Bars | None
    marks: Bars | None
    funding: Funding | None
    until: int
    notes: tuple[str, ...]


class Gathering:
    """One symbol's bars, marks and stamps on their way from a source.

    A bar is let go when the marks go as far as its end and every stamp before its end is known, those in a hole before
    it too; or when it has waited for `patience` ms, without what is missing, which is told.
    """

    def __init__(self, symbol: str, timeframe: int, since: int, wants: tuple[bool, bool], patience: int) -> None:
        self.symbol, self.timeframe, self.patience = symbol, timeframe, patience
        self.marked, self.funded = wants
        """Whether the source has marks, and whether it has funding stamps."""
        self.until = self.bars_until = self.marks_until = self.funding_until = since
        """Everything earlier (UTC ms) was let go, and is known, of each."""
        self.due: int | None = None
        """A stamp that the source announced and that is not known yet, UTC ms."""
        self._bars: dict[int, Bars] = {}
        self._came: dict[int, int] = {}
        """When each of the bars came, UTC ms."""
        self._marks: dict[int, Bars] = {}
        self._stamps: dict[int, float] = {}
        self._volume_known = False
        self.last: Bars | None = None
        """The last bar that came."""
        self._corrected: Bars | None = None
        """The same where it reads otherwise now and was let go already."""
        self._idle: int | None = None
        """Since when (UTC ms) a time without bars waits for its stamps."""

    def add_bars(self, bars: Bars, until: int, clock: int) -> bool:
        """Bars that are over and came at `clock`, and how far they are complete, both UTC ms. Returns whether they hold
        the last bar that was let go with other figures: then it goes once more."""
        self._volume_known = self._volume_known or bars.volume_known
        self._put(self._bars, bars)
        for ts in bars.ts.tolist():
            self._came.setdefault(ts, clock)
        self.bars_until = max(self.bars_until, until)
        last, self.last = self.last, bars[-1:] if len(bars) else self.last
        corrected = None if last is None or last.ts[0] >= self.until else differing(last, bars)
        self._corrected = self._corrected if corrected is None else corrected
        return corrected is not None

    def add_marks(self, marks: Bars, until: int) -> None:
        """Marks of bars that are over, and how far (UTC ms) they are complete."""
        self._put(self._marks, marks)
        self.marks_until = max(self.marks_until, until)

    def add_funding(self, funding: Funding, until: int) -> None:
        """Stamps, and how far (UTC ms) they are complete; never beyond one that is announced and has not come."""
        new = zip(funding.ts.tolist(), funding.rate.tolist(), strict=True)
        self._stamps |= {ts: rate for ts, rate in new if ts >= self.until}
        latest = int(funding.ts[-1]) if len(funding.ts) else -1
        if self.due is not None and latest >= self.due:
            self.due = None
        self.funding_until = max(self.funding_until, until if self.due is None else min(until, self.due))

    def announce(self, stamp: int, clock: int) -> None:
        """The source says at `clock` that the next stamp will be at `stamp`, both UTC ms. An earlier one that was due
        and has not come stays due."""
        if self.due is None and stamp > clock and stamp not in self._stamps:
            self.due = stamp

    @property
    def reached(self) -> tuple[int, int, int]:
        """How far bars, marks and stamps are known, UTC ms."""
        return self.bars_until, self.marks_until, self.funding_until

    @property
    def marks_wanted(self) -> bool:
        """Whether a bar that is over waits for its mark."""
        return self.marked and bool(self._bars) and self.marks_until < max(self._bars) + self.timeframe

    @property
    def funding_wanted(self) -> bool:
        """Whether a bar that is over waits for stamps."""
        return self.funded and self._last_hour(self.bars_until) >= max(self.funding_until, self.until)

    def let_go(self, clock: int) -> Gathered:
        """What can be delivered at `clock` (UTC ms), the source's own."""
        until, notes = self.until, list[str]()
        for opens in sorted(self._bars):
            end = opens + self.timeframe
            lacking = self._lacking(until, end)
            if lacking and self._came[opens] + self.patience > clock:
                break
            notes += [
                f"{self.symbol}: the bar of {utc(opens)} goes without its {what}, which did not come within "
                f"{format_duration(self.patience)}"
                for what in lacking
            ]
            until = end
        else:
            until = self._beyond(until, clock, notes)
        first, self.until = self.until, until
        self.marks_until = max(self.marks_until, until)
        if self.due is not None and self.due < until:  # it did not come, and its bar is gone
            self.due = None
        self._came = {ts: came for ts, came in self._came.items() if ts >= until}
        corrected, self._corrected = self._corrected, None
        bars, marks = self._taken(self._bars, until), self._taken(self._marks, until)
        bars = bars if corrected is None else [corrected, *bars]
        stamps = {ts: rate for ts, rate in sorted(self._stamps.items()) if first <= ts < until}
        self._stamps = {ts: rate for ts, rate in self._stamps.items() if ts >= until}
        funding = _funding(self.symbol, stamps) if stamps else None
        return Gathered(*self._whole(bars, marks), funding, until, tuple(notes))

    def _beyond(self, until: int, clock: int, notes: list[str]) -> int:
        """How far a time without bars after `until` is let go (UTC ms): it waits for each stamp as a bar does."""
        if not self._stamps_lack(until, self.bars_until):
            self._idle = None
            return max(until, self.bars_until)
        self._idle = clock if self._idle is None else self._idle
        if self._idle + self.patience > clock:
            return until
        self._idle = None
        hour = -(-max(until, self.funding_until) // _HOUR) * _HOUR
        notes.append(
            f"{self.symbol}: the time without trade from {utc(until)} goes without its funding rate, which did not "
            f"come within {format_duration(self.patience)}"
        )
        return min(self.bars_until, (hour // self.timeframe + 1) * self.timeframe)

    def _lacking(self, begin: int, end: int) -> list[str]:
        """What a bar that ends at `end` lacks, where all before `begin` is let go."""
        return [
            *(["mark"] if self.marked and self.marks_until < end else []),
            *(["funding rate"] if self._stamps_lack(begin, end) else []),
        ]

    def _stamps_lack(self, begin: int, end: int) -> bool:
        """Whether a stamp may fall between the two that is not known."""
        hour = self._last_hour(end)
        return self.funded and begin <= hour and self.funding_until <= hour

    @staticmethod
    def _last_hour(end: int) -> int:
        """The last moment before `end` at which a stamp may fall, UTC ms."""
        return (end - 1) // _HOUR * _HOUR

    def _put(self, into: dict[int, Bars], bars: Bars) -> None:
        for row, ts in enumerate(bars.ts.tolist()):
            if ts >= self.until:
                into[ts] = bars[row : row + 1]

    @staticmethod
    def _taken(waiting: dict[int, Bars], until: int) -> list[Bars]:
        return [waiting.pop(ts) for ts in sorted(waiting) if ts < until]

    def _whole(self, bars: list[Bars], marks: list[Bars]) -> tuple[Bars | None, Bars | None]:
        """The bars in which something was traded, and their own marks."""
        if not bars:
            return None, None
        whole, own = joined(bars), joined(marks)
        assert whole is not None
        series = traded(replace(whole, volume_known=self._volume_known))
        if own is not None:
            own = own.chosen(np.isin(own.ts, series.ts))
        return (series if len(series) else None), (own if own is not None and len(own) else None)


def _funding(symbol: str, stamps: Mapping[int, float]) -> Funding:
    return Funding(symbol, np.array(list(stamps), dtype=np.int64), np.array(list(stamps.values())))
