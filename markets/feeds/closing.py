"""Closing: which bars are over, of a source's own bars and of those that ticks make. No bar is ever invented."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.errors import InvalidTimeframe
from ringfence.markets.market import Funding
from ringfence.risk.book import Ints

__all__ = ["GRACE", "Candles", "Closed", "between", "closed", "differing", "joined", "stamps_joined", "traded"]

GRACE = 2_000
"""Milliseconds after its end for which a bar may still change."""


class Closed(NamedTuple):
    """Bars that are over, and how far they go."""

    bars: Bars
    until: int | None
    """Every bar that opens earlier (UTC ms) and will ever come has come; None where nothing is known."""


def closed(bars: Bars, clock: int, grace: int = GRACE, other: int | None = None) -> Closed:
    """The bars of an answer that are over, by a later one or by the source's clock (UTC ms).

    A bar is over once a later one began, or its end lies `grace` ms or more before the clock, and before the `other`
    one too where there are two: a clock that runs ahead ends no bar alone. Bars that open after the clock have not
    begun and are left out. An answer without bars says nothing of how far it goes.
    """
    bars = bars[: int(np.searchsorted(bars.ts, clock, side="right"))]
    if not len(bars):
        return Closed(bars, None)
    last = int(bars.ts[-1])
    if last + bars.timeframe + grace <= (clock if other is None else min(clock, other)):
        return Closed(bars, last + bars.timeframe)
    return Closed(bars[:-1], last)


def traded(bars: Bars) -> Bars:
    """The bars in which something was traded; all, where the source has no volumes.

    A flat bar without volume is none (`Market`). Delivered alone it could not be told from a series that has no other.
    """
    idle = (bars.volume == 0.0) & (bars.high == bars.low)
    return bars.chosen(~idle) if bars.volume_known and bool(idle.any()) else bars


def joined(pieces: Iterable[Bars]) -> Bars | None:
    """Pieces of one series as one, in order of time; of bars that open at once the last. None of none."""
    kept = [piece for piece in pieces if len(piece)]
    if len(kept) < 2:
        return kept[0] if kept else None
    names = ("open", "high", "low", "close", "volume")
    ts: Ints = np.concatenate([piece.ts for piece in kept])
    rows = _latest(ts)
    open_, high, low, close, volume = (np.concatenate([getattr(piece, name) for piece in kept])[rows] for name in names)
    known = all(piece.volume_known for piece in kept)
    return Bars(kept[0].symbol, kept[0].timeframe, ts[rows], open_, high, low, close, volume, volume_known=known)


def differing(last: Bars, bars: Bars) -> Bars | None:
    """The same bar as `last` among the bars, where it reads otherwise there."""
    again = bars.chosen(bars.ts == last.ts[0])
    names = ("open", "high", "low", "close", "volume")
    same = all(np.array_equal(getattr(again, name), getattr(last, name)) for name in names)
    return again if len(again) and not same else None


def stamps_joined(pieces: Iterable[Funding]) -> Funding | None:
    """Pieces of one series as one, in order of time; of rates of one stamp the last. None of none."""
    kept = [piece for piece in pieces if len(piece.ts)]
    if len(kept) < 2:
        return kept[0] if kept else None
    ts: Ints = np.concatenate([piece.ts for piece in kept])
    rows = _latest(ts)
    return Funding(kept[0].symbol, ts[rows], np.concatenate([piece.rate for piece in kept])[rows])


def between(funding: Funding, begin: int, end: int) -> Funding:
    """The stamps from `begin` on and before `end`, UTC ms."""
    rows = slice(int(np.searchsorted(funding.ts, begin)), int(np.searchsorted(funding.ts, end)))
    interval = None if funding.interval is None else funding.interval[rows]
    return Funding(funding.symbol, funding.ts[rows], funding.rate[rows], interval)


def _latest(ts: Ints) -> Ints:
    """The rows in order of time; of equal times the last."""
    _, backwards = np.unique(ts[::-1], return_index=True)
    return len(ts) - 1 - backwards


class Candles:
    """Bars made of the prices of ticks, in the order in which these come; a bar without a tick does not exist.

    Ticks count no volume. Refused (InvalidTimeframe): a timeframe of 0 or less.
    """

    def __init__(self, symbol: str, timeframe: int, since: int = 0, grace: int = GRACE) -> None:
        if timeframe <= 0:
            raise InvalidTimeframe(symbol, timeframe, timeframe, "a timeframe above 0 ms")
        self.symbol, self.timeframe, self.grace = symbol, timeframe, grace
        self.until = since
        """Every bar that opens earlier (UTC ms) and will ever come has been given."""
        self.late = 0
        """Ticks that came for a bar that had been given, and were dropped."""
        self._open: dict[int, list[float]] = {}
        """Open, high, low and close of each bar that is not over, by when it opens."""

    def add(self, ts: int, price: float) -> bool:
        """Take a price, finite and above 0, that held at `ts` (UTC ms); False where its bar has been given."""
        opens = ts // self.timeframe * self.timeframe
        if opens < self.until:
            self.late += 1
            return False
        bar = self._open.get(opens)
        if bar is None:
            self._open[opens] = [price, price, price, price]
        else:
            bar[1:] = max(bar[1], price), min(bar[2], price), price
        return True

    def close(self, clock: int) -> Bars | None:
        """The bars that are over at `clock` (UTC ms) and were not given before, in order; None where there are none."""
        begun = max((opens for opens in self._open if opens <= clock), default=self.until)
        self.until = max(self.until, begun, (clock - self.grace) // self.timeframe * self.timeframe)
        over = sorted(opens for opens in self._open if opens < self.until)
        if not over:
            return None
        table = np.array([self._open.pop(opens) for opens in over])
        open_, high, low, close = (np.ascontiguousarray(table[:, at]) for at in range(4))
        ts, none = np.array(over, dtype=np.int64), np.zeros(len(over))
        return Bars(self.symbol, self.timeframe, ts, open_, high, low, close, none, volume_known=False)
