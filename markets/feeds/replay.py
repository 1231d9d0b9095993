"""Replay: recorded bars delivered as if they happened now, at a multiple of the pace at which they did."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.errors import FeedRefused
from ringfence.markets.feeds.closing import between, traded
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.feeds.ticks import Tick
from ringfence.markets.market import Funding, Market

__all__ = ["PORTION", "Pace", "Recording", "Replay"]

PORTION = 10_000
"""Bars of a symbol that one poll delivers at full speed."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Series as they were recorded, by symbol."""

    bars: Mapping[str, Bars]
    marks: Mapping[str, Bars] = field(default_factory=dict)
    funding: Mapping[str, Funding] = field(default_factory=dict)

    @classmethod
    def of(cls, market: Market) -> "Recording":
        """What a market is made of: its real bars, their marks and the funding stamps that they settle."""
        columns = dict(enumerate(market.symbols))
        marks = {symbol: _marks(market, column) for column, symbol in columns.items() if market.marked[column]}
        funding = {symbol: stamps for column, symbol in columns.items() if len((stamps := _stamps(market, column)).ts)}
        return cls({symbol: market.bars(column) for column, symbol in columns.items()}, marks, funding)


def _marks(market: Market, column: int) -> Bars:
    rows = market.valid[:, column]
    names = ("mark_open", "mark_high", "mark_low", "mark_close")
    open_, high, low, close = (np.ascontiguousarray(getattr(market, name)[rows, column]) for name in names)
    symbol, none = market.symbols[column], np.zeros(int(rows.sum()))
    return Bars(symbol, market.timeframe, market.ts[rows], open_, high, low, close, none, volume_known=False)


def _stamps(market: Market, column: int) -> Funding:
    spans = zip(market.stamps_from[:, column].tolist(), market.stamps_to[:, column].tolist(), strict=True)
    at = [row for start, stop in spans for row in range(start, stop)]
    own = market.stamps[at]
    return Funding(market.symbols[column], np.array(own.ts), np.array(own.rate))


@dataclass(frozen=True)
class Pace:
    """How the replay's clock goes: at `start` when the real one says `started`, and `speed` times as fast from then."""

    started: int
    """Real time, UTC ms."""
    start: int
    """Recorded time, UTC ms."""
    speed: float | None = 60.0
    """None: as fast as it is asked, a portion of bars each time."""

    def clock(self, now: int) -> int:
        """Recorded time at the real time `now`, UTC ms, rounded down; of a pace with a speed."""
        assert self.speed is not None
        return self.start + int((now - self.started) * self.speed // 1)


class Replay:
    """A recording as a source. Its clock is a pure function of the pace and the real time, so that one that is made
    anew with the same pace and a later `since` delivers the same bars from there on.

    At full speed the clock goes by what was delivered, not by real time. Refused (FeedRefused): a recording without
    bars, a speed that is not finite and above 0, a `since` of a symbol without bars.
    """

    name = "replay"
    counts: Mapping[str, int] = MappingProxyType({})
    """Nothing of a recording is dropped."""

    def __init__(self, recording: Recording, pace: Pace, since: Mapping[str, int] | None = None) -> None:
        since = since or {}
        self._recording, self._pace = recording, pace
        self._bars = {symbol: traded(bars) if len(traded(bars)) else bars for symbol, bars in recording.bars.items()}
        if not self._bars or not all(len(bars) for bars in self._bars.values()):
            raise FeedRefused(self.name, "a recording without bars", "bars of every symbol")
        if pace.speed is not None and not 0.0 < pace.speed < float("inf"):
            raise FeedRefused(self.name, f"a speed of {pace.speed}", "a number above 0, or none for full speed")
        if unknown := [symbol for symbol in since if symbol not in self._bars]:
            raise FeedRefused(self.name, f"a start of {unknown[0]}", f"one of {', '.join(self._bars)}")
        first = min(int(bars.ts[0]) for bars in self._bars.values())
        self._until = {symbol: max(first, since.get(symbol, 0)) for symbol in self._bars}
        self._clock = max(pace.start, min(self._until.values()))
        self._end = max(map(_end, self._bars.values()))
        self._step = PORTION * min(bars.timeframe for bars in self._bars.values())

    def poll(self, now: int) -> Delivery:
        """The bars that are over by the replay's clock and were not delivered before, a stamp with the bar that it
        falls into, and a tick of each symbol's last bar, held and received at its close."""
        clock = min(self._clock + self._step, self._end) if self._pace.speed is None else self._pace.clock(now)
        self._clock = max(self._clock, clock)
        bars, marks, funding = dict[str, Bars](), dict[str, Bars](), dict[str, Funding]()
        for symbol, series in self._bars.items():
            begin = self._until[symbol]
            until = max(begin, min(self._clock // series.timeframe * series.timeframe, _end(series)))
            self._until[symbol] = until
            rates, given = self._recording.funding.get(symbol), self._recording.marks.get(symbol)
            # No position is held before the first bar, so that no stamp before it is settled.
            if rates is not None and len((stamps := between(rates, max(begin, int(series.ts[0])), until)).ts):
                funding[symbol] = stamps
            if not len(due := _rows(series, begin, until)):
                continue
            bars[symbol] = due
            if given is not None and len(own := _rows(given, int(due.ts[0]), until)):
                marks[symbol] = own
        ended = all(self._until[symbol] >= _end(series) for symbol, series in self._bars.items())
        ticks = tuple(self._ticks(bars, marks, funding))
        return Delivery(self._clock, bars, marks, funding, ticks, dict(self._until), ended=ended)

    def _ticks(
        self, bars: Mapping[str, Bars], marks: Mapping[str, Bars], funding: Mapping[str, Funding]
    ) -> Iterator[Tick]:
        for symbol, series in bars.items():
            close = _end(series)
            mark = float(marks[symbol].close[-1]) if symbol in marks else None
            rate = float(funding[symbol].rate[-1]) if symbol in funding else None
            yield Tick(self.name, symbol, close, close, float(series.close[-1]), mark, funding_rate=rate)


def _end(bars: Bars) -> int:
    """The close of the last bar, UTC ms."""
    return int(bars.ts[-1]) + bars.timeframe


def _rows(bars: Bars, begin: int, end: int) -> Bars:
    """The bars that open from `begin` on and before `end`, UTC ms."""
    return bars[int(np.searchsorted(bars.ts, begin)) : int(np.searchsorted(bars.ts, end))]
