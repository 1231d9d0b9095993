"""Bars: one symbol's open, high, low, close and volume over time, checked once at the border."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ringfence.markets.errors import Fault, InvalidBars, InvalidTimeframe
from ringfence.risk.book import Flags, Floats, Ints
from ringfence.words.times import format_duration

__all__ = ["Bars", "Gap", "validated"]

_FIRST = 3


@dataclass(frozen=True)
class Gap:
    """Bars that the source does not have."""

    ts: int
    """Open of the first missing bar, UTC epoch milliseconds."""
    missing: int
    """How many bars in a row are missing."""


@dataclass(frozen=True, eq=False)
class Bars:
    """T bars of one symbol in order of time; `ts` is the bar's open in UTC epoch milliseconds.

    The constructor trusts its arguments, so that a slice costs no check; outside figures come through `validated`.
    """

    symbol: str
    timeframe: int
    """Length of a bar, milliseconds."""
    ts: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    """Base units; 0 where the source has none (mark prices)."""

    def __len__(self) -> int:
        return len(self.ts)

    def __getitem__(self, rows: slice) -> "Bars":
        """The same bars over a slice of rows; views, not copies."""
        return Bars(
            self.symbol,
            self.timeframe,
            self.ts[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
        )

    def chosen(self, rows: Flags) -> "Bars":
        """The same series with these rows only."""
        columns = (self.ts, self.open, self.high, self.low, self.close, self.volume)
        return Bars(self.symbol, self.timeframe, *(column[rows] for column in columns))

    def gaps(self) -> tuple[Gap, ...]:
        """The bars missing between the first and the last, in order."""
        steps = np.diff(self.ts) // self.timeframe
        return tuple(Gap(int(self.ts[row]) + self.timeframe, int(steps[row]) - 1) for row in np.flatnonzero(steps > 1))

    def resample(self, timeframe: int, until: int | None = None) -> "Bars":
        """Coarser bars: first open, highest high, lowest low, last close, summed volume of each slot `ts // timeframe`.

        `timeframe` in milliseconds, a multiple of the bars' own (else InvalidTimeframe). A slot with some finer bars
        missing closes on what it has; an empty slot makes no bar; the last slot is left out until its end is reached,
        by the bars' own last close or by the clock `until` (UTC ms).
        """
        if timeframe <= 0 or timeframe % self.timeframe:
            raise InvalidTimeframe(self.symbol, self.timeframe, timeframe, "a multiple of the bars' own timeframe")
        if timeframe == self.timeframe or not len(self):
            return Bars(self.symbol, timeframe, self.ts, self.open, self.high, self.low, self.close, self.volume)
        slot = self.ts // timeframe
        first = np.flatnonzero(np.diff(slot, prepend=slot[0] - 1))
        last = np.append(first[1:] - 1, len(slot) - 1)
        bars = Bars(
            self.symbol,
            timeframe,
            slot[first] * timeframe,
            self.open[first],
            np.maximum.reduceat(self.high, first),
            np.minimum.reduceat(self.low, first),
            self.close[last],
            np.add.reduceat(self.volume, first),
        )
        clock = max(int(self.ts[-1]) + self.timeframe, until or 0)
        complete = clock >= int(bars.ts[-1]) + timeframe
        return bars if complete else bars[:-1]


def validated(
    symbol: str,
    timeframe: int,
    ts: npt.ArrayLike,
    open: npt.ArrayLike,
    high: npt.ArrayLike,
    low: npt.ArrayLike,
    close: npt.ArrayLike,
    volume: npt.ArrayLike | None = None,
) -> Bars:
    """Bars from outside figures, or InvalidBars with every broken rule, its count and its first timestamps.

    Refused: out of order, duplicates, timestamps off the timeframe's grid (`ts % timeframe != 0`), prices that are not
    finite or not above 0, volumes that are not finite or below 0, and bars without low <= open, close <= high.
    Missing bars are no fault: `Bars.gaps` reports them. Nothing is ever sorted, dropped or filled. `timeframe` in ms;
    all arrays (T,), T >= 1; a missing volume is 0.
    """
    if timeframe <= 0:
        raise InvalidTimeframe(symbol, timeframe, timeframe, "a timeframe above 0 ms")
    stamps = np.ascontiguousarray(ts, dtype=np.int64)
    prices = [np.ascontiguousarray(column, dtype=np.float64) for column in (open, high, low, close)]
    traded = np.zeros(len(stamps)) if volume is None else np.ascontiguousarray(volume, dtype=np.float64)
    if any(column.shape != (len(stamps),) for column in (*prices, traded)):
        raise ValueError("ts, open, high, low, close and volume must be one-dimensional and equally long")
    if not len(stamps):
        raise InvalidBars(symbol, (Fault("no bars", 0, ()),))
    faults = (*_time_faults(stamps, timeframe), *_price_faults(stamps, prices, traded))
    if faults:
        raise InvalidBars(symbol, faults)
    return Bars(symbol, timeframe, stamps, prices[0], prices[1], prices[2], prices[3], traded)


def _time_faults(ts: Ints, timeframe: int) -> tuple[Fault, ...]:
    later = np.concatenate(([True], ts[1:] > ts[:-1]))
    same = np.concatenate(([False], ts[1:] == ts[:-1]))
    if not later.all():
        # Rows out of order may hide a duplicate far away from its twin; only then is the sort worth its time.
        unique, row = np.unique(ts, return_index=True)
        if len(unique) < len(ts):
            same = np.ones(len(ts), dtype=np.bool_)
            same[row] = False
    return (
        *_fault("duplicate timestamp", same, ts),
        *_fault("timestamp out of order", ~later & ~same, ts),
        *_fault(f"timestamp off the grid of {format_duration(timeframe)}", ts % timeframe != 0, ts),
    )


def _price_faults(ts: Ints, prices: list[Floats], volume: Floats) -> tuple[Fault, ...]:
    open_, high, low, close = prices
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    positive = np.minimum(np.minimum(open_, high), np.minimum(low, close)) > 0.0
    consistent = (low <= np.minimum(open_, close)) & (np.maximum(open_, close) <= high)
    known = np.isfinite(volume)
    return (
        *_fault("price not finite", ~finite, ts),
        *_fault("price not above 0", finite & ~positive, ts),
        *_fault("not low <= open, close <= high", finite & ~consistent, ts),
        *_fault("volume not finite", ~known, ts),
        *_fault("volume below 0", known & (volume < 0.0), ts),
    )


def _fault(rule: str, broken: Flags, ts: Ints) -> tuple[Fault, ...]:
    rows = np.flatnonzero(broken)
    if not len(rows):
        return ()
    return (Fault(rule, len(rows), tuple(int(stamp) for stamp in ts[rows[:_FIRST]])),)
