"""The market: several symbols' bars, marks and funding on one clock, as the arrays that a simulation walks through."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ringfence.markets.bars import Bars
from ringfence.markets.errors import Fault, InvalidFunding, InvalidTimeframe, MisalignedMarket
from ringfence.risk.book import BAR, STAMP, Flags, Floats, Ints, Rows
from ringfence.risk.book import rows as rows_of
from ringfence.words.times import format_duration, utc

__all__ = ["Funding", "Market", "align"]

_PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")
_STAMPS = ("stamps_from", "stamps_to")
_MINUTE, _LATE, _EARLY = 60_000, 10_000, 1_000
"""Milliseconds: of a minute, and how far from it a stamp may lie and still be meant for it."""


@dataclass(frozen=True, eq=False)
class Funding:
    """Funding rates of one symbol: the fraction of the notional that longs pay to shorts at each stamp."""

    symbol: str
    ts: Ints
    """(S,) stamps, UTC epoch milliseconds, ascending."""
    rate: Floats
    """(S,) fraction, signed."""
    interval: Ints | None = None
    """(S,) ms since the stamp before, as the source states it; None where it does not."""
    notes: tuple[str, ...] = ()
    """What was left out or mended when they were read, in words."""

    @classmethod
    def validated(
        cls,
        symbol: str,
        ts: npt.ArrayLike,
        rate: npt.ArrayLike,
        interval: npt.ArrayLike | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Funding":
        """Funding from outside figures; InvalidFunding for stamps that do not ascend and rates not within (-1, 1).

        Venues settle on full minutes and stamp some milliseconds or seconds beside them: such a stamp is taken to its
        minute. One that is further off stays where it is.
        """
        stamps = _on_grid(np.ascontiguousarray(ts, dtype=np.int64))
        rates = np.ascontiguousarray(rate, dtype=np.float64)
        lengths = None if interval is None else np.ascontiguousarray(interval, dtype=np.int64)
        columns = (rates,) if lengths is None else (rates, lengths)
        if stamps.ndim != 1 or any(column.shape != stamps.shape for column in columns):
            raise ValueError("ts, rate and interval must be one-dimensional and equally long")
        rules = (
            ("stamp duplicate or out of order", np.concatenate(([False], np.diff(stamps) <= 0))[: len(stamps)]),
            ("rate not finite", ~np.isfinite(rates)),
            ("rate not a fraction between -1 and 1", np.isfinite(rates) & (np.abs(rates) >= 1.0)),
        )
        faults = tuple(
            Fault(rule, int(broken.sum()), tuple(int(stamp) for stamp in stamps[broken][:3]))
            for rule, broken in rules
            if broken.any()
        )
        if faults:
            raise InvalidFunding(symbol, faults)
        return cls(symbol, stamps, rates, lengths, notes)


def _on_grid(ts: Ints) -> Ints:
    """Stamps up to 10 s after a full minute, or 1 s before it, at that minute."""
    minute = (ts + _EARLY) // _MINUTE * _MINUTE
    return np.where((ts - minute <= _LATE) & (ts - minute >= -_EARLY), minute, ts)


@dataclass(frozen=True, eq=False)
class Market:
    """T rows of N symbols. A cell without a bar repeats the last known close in every price column (0.0 before the
    first), with volume 0 and `valid` False. A bar in which nothing was traded is none."""

    symbols: tuple[str, ...]
    timeframe: int
    """Milliseconds."""
    ts: Ints
    """(T,) open of each row, UTC epoch milliseconds; every timestamp that any symbol has a bar for."""
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    """Base units."""
    valid: Flags
    """(T, N) as are all columns around it."""
    mark_open: Floats
    mark_high: Floats
    mark_low: Floats
    mark_close: Floats
    marked: Flags
    """(N,) False where no mark was given and the mark columns equal the last-price columns."""
    stamps: Rows
    """(F,) of risk.book.STAMP: the funding stamps with a known rate, symbol by symbol, in order of time."""
    stamps_from: Ints
    stamps_to: Ints
    """(T, N) the rows of `stamps` that a bar settles: those from its open to its close, and those in the hole before
    it."""
    volume_known: Flags
    """(N,) False where the source has no volumes, so that 0 says nothing about trade."""
    notes: tuple[str, ...] = ()
    """What the given series do not cover, in words; nothing was made up for it."""

    def __len__(self) -> int:
        return len(self.ts)

    @property
    def close_ts(self) -> int:
        """The close of the last row, UTC epoch milliseconds."""
        return int(self.ts[-1]) + self.timeframe

    def before(self, ts: int) -> "Market":
        """The rows that open before `ts` (UTC ms)."""
        return self._cut(slice(0, int(np.searchsorted(self.ts, ts))))

    def after(self, ts: int) -> "Market":
        """The rows that open after `ts` (UTC ms); what came before shows in the cells without a bar alone."""
        return self._cut(slice(int(np.searchsorted(self.ts, ts, side="right")), None))

    def _cut(self, span: slice) -> "Market":
        columns = ("ts", *_PRICES, "volume", "valid", *_STAMPS)
        return replace(self, **{name: getattr(self, name)[span] for name in columns})

    @property
    def rows(self) -> Rows:
        """(T, N) of BAR, as the kernel walks them."""
        columns = {name: getattr(self, name) for name in _PRICES}
        return rows_of(BAR, self.open.shape, **columns, valid=self.valid,
                    volume=np.where(self.volume_known, self.volume, np.inf),
                    stamps_from=self.stamps_from, stamps_to=self.stamps_to,
                    funding=self.stamps_from < self.stamps_to)  # fmt: skip

    def fingerprint(self, first: int, last: int) -> str:
        """SHA-256 over every figure of the rows from `first` up to but without `last`."""
        content = hashlib.sha256(self.ts[first:last].tobytes())
        for name in (*_PRICES, "volume", "valid"):
            content.update(getattr(self, name)[first:last].tobytes())
        for start, stop in zip(*(getattr(self, name)[first:last].ravel().tolist() for name in _STAMPS), strict=True):
            content.update(self.stamps[start:stop].tobytes() + b"|")
        return content.hexdigest()

    def bars(self, symbol: int) -> Bars:
        """The bars that the symbol in column `symbol` really has."""
        rows = self.valid[:, symbol]
        columns = (self.open, self.high, self.low, self.close, self.volume)
        open_, high, low, close, volume = (np.ascontiguousarray(column[rows, symbol]) for column in columns)
        known = bool(self.volume_known[symbol])
        return Bars(
            self.symbols[symbol], self.timeframe, self.ts[rows], open_, high, low, close, volume, volume_known=known
        )

    def slots(self, timeframe: int, until: int | None = None) -> tuple[Ints, Ints]:
        """Which row closes which slot of a coarser timeframe.

        Returns `closes` (T,), the number of the slot whose last row this is or -1, and `opens` (K,), the open of each
        slot with at least one row. The last slot counts only if its end is reached, by the market's own last close or
        by the clock `until` (UTC ms). `timeframe` in milliseconds, a multiple of the market's own (else
        InvalidTimeframe).
        """
        if timeframe <= 0 or timeframe % self.timeframe:
            name = ", ".join(self.symbols)
            raise InvalidTimeframe(name, self.timeframe, timeframe, "a multiple of the bars' own timeframe")
        closes = np.full(len(self.ts), -1, dtype=np.int64)
        slot = self.ts // timeframe
        closing = np.flatnonzero(np.diff(slot, append=slot[-1:] + 1))
        if len(closing) and max(self.close_ts, until or 0) < (int(slot[-1]) + 1) * timeframe:
            closing = closing[:-1]
        closes[closing] = np.arange(len(closing))
        return closes, slot[closing] * timeframe


def align(
    bars: Mapping[str, Bars],
    marks: Mapping[str, Bars] | None = None,
    funding: Mapping[str, Funding] | None = None,
) -> Market:
    """One market over the union of the bars' timestamps, in the order of `bars`.

    Marks finer than the bars are resampled; where a mark is missing the last price stands in and a note says so. Every
    funding stamp within a symbol's bars settles, at the bar that it falls into or, in a hole, at the next one. A flat
    bar without volume, in a series whose volume is known, is left out, since nothing was traded in it. Refused
    (MisalignedMarket): no bars, bars of different timeframes, marks coarser than the bars, marks or funding of a symbol
    without bars or of another time altogether.
    """
    marks, funding = marks or {}, funding or {}
    symbols, notes = tuple(bars), list[str]()
    timeframe = _common_timeframe(bars)
    bars = {symbol: _traded(series) for symbol, series in bars.items()}
    for given, what in ((marks, "marks"), (funding, "funding")):
        for symbol in given:
            if symbol not in bars:
                raise MisalignedMarket(symbol, f"{what} without bars", f"bars of {symbol}, or one of {', '.join(bars)}")
    ts = _union([series.ts for series in bars.values()])
    shape = (len(ts), len(symbols))
    last = [np.zeros(shape) for _ in range(4)]
    # Without any marks the mark columns are the last-price columns, not copies of them.
    mark = [np.zeros(shape) for _ in range(4)] if marks else last
    volume, valid = np.zeros(shape), np.zeros(shape, np.bool_)
    stamps_from, stamps_to = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    stamps: list[Rows] = []
    settled = 0
    for number, (symbol, series) in enumerate(bars.items()):
        rows = np.searchsorted(ts, series.ts)
        valid[rows, number] = True
        volume[rows, number] = series.volume
        prices = (series.open, series.high, series.low, series.close)
        _spread(last, number, rows, prices)
        if marks:
            _spread(mark, number, rows, _marked(series, marks[symbol], notes) if symbol in marks else prices)
        if symbol in funding:
            due, at = _settled(series, funding[symbol], notes)
            bounds = settled + np.searchsorted(at, np.arange(len(series) + 1))
            stamps_from[rows, number], stamps_to[rows, number] = bounds[:-1], bounds[1:]
            stamps.append(due)
            settled += len(due)
    return Market(
        symbols=symbols,
        timeframe=timeframe,
        ts=ts,
        **dict(zip(("open", "high", "low", "close"), last, strict=True)),
        volume=volume,
        valid=valid,
        **dict(zip(("mark_open", "mark_high", "mark_low", "mark_close"), mark, strict=True)),
        marked=np.array([symbol in marks for symbol in symbols], np.bool_),
        stamps=np.concatenate([rows_of(STAMP, 0), *stamps]).view(np.recarray),
        stamps_from=stamps_from,
        stamps_to=stamps_to,
        volume_known=np.array([series.volume_known for series in bars.values()], np.bool_),
        notes=tuple(notes),
    )


def _common_timeframe(bars: Mapping[str, Bars]) -> int:
    if not bars:
        raise MisalignedMarket("market", "no bars", "bars of at least one symbol")
    first = next(iter(bars.values()))
    for symbol, series in bars.items():
        if not len(series):
            raise MisalignedMarket(symbol, "no bars", "at least one bar")
        if series.timeframe != first.timeframe:
            expected = f"{format_duration(first.timeframe)} as {first.symbol} has; resample the finer of the two"
            raise MisalignedMarket(symbol, f"bars of {format_duration(series.timeframe)}", expected)
    return first.timeframe


def _union(stamps: list[Ints]) -> Ints:
    """The sorted union; symbols of one exchange nearly always share every timestamp, which needs no sort."""
    if all(np.array_equal(other, stamps[0]) for other in stamps[1:]):
        return stamps[0]
    return np.unique(np.concatenate(stamps))


def _spread(columns: list[Floats], number: int, rows: Ints, prices: tuple[Floats, ...]) -> None:
    """Writes one symbol's prices into its column: real bars at `rows`, in between the last known close."""
    length = len(columns[0])
    if len(rows) < length:
        before = np.searchsorted(rows, np.arange(length), side="right") - 1
        known_close = np.where(before >= 0, prices[3][before], 0.0)
        for column in columns:
            column[:, number] = known_close
    for column, values in zip(columns, prices, strict=True):
        column[rows, number] = values


def _marked(bars: Bars, mark: Bars, notes: list[str]) -> tuple[Floats, Floats, Floats, Floats]:
    """The mark at each of the symbol's bars, the last price where there is none."""
    symbol = bars.symbol
    if bars.timeframe % mark.timeframe:  # which is never 0 for a coarser mark
        expected = (
            f"{format_duration(bars.timeframe)} as the bars, or a whole part of it; coarser bars (resample) would fit"
        )
        raise MisalignedMarket(symbol, f"marks of {format_duration(mark.timeframe)}", expected)
    coarse = mark.resample(bars.timeframe)
    source = np.searchsorted(coarse.ts, bars.ts)
    source[source == len(coarse)] = 0
    known = coarse.ts[source] == bars.ts if len(coarse) else np.zeros(len(bars), np.bool_)
    if not known.any():
        found = f"marks {_span(mark.ts)}" if len(mark) else "no marks"
        raise MisalignedMarket(symbol, found, f"marks of the bars' own time, {_span(bars.ts)}")
    if not known.all():
        first = utc(int(bars.ts[known.argmin()]))
        notes.append(f"{symbol}: no mark at {int((~known).sum())} of {len(bars)} bars, first {first}; last price used")
    last = (bars.open, bars.high, bars.low, bars.close)
    given = (coarse.open, coarse.high, coarse.low, coarse.close)
    mixed = [np.where(known, column[source], other) for column, other in zip(given, last, strict=True)]
    return mixed[0], mixed[1], mixed[2], mixed[3]


def _traded(bars: Bars) -> Bars:
    """The bars in which something was traded; all, where the series has no volumes or nothing but such bars."""
    idle = (bars.volume == 0.0) & (bars.high == bars.low)
    return bars.chosen(~idle) if bars.volume_known and idle.any() and not idle.all() else bars


def _settled(bars: Bars, funding: Funding, notes: list[str]) -> tuple[Rows, Ints]:
    """The stamps (F,) of STAMP that the symbol's bars settle, and which bar settles each."""
    symbol, ts = bars.symbol, funding.ts
    if not len(ts) or ts[-1] < bars.ts[0] or ts[0] > bars.ts[-1] + bars.timeframe:
        found = f"funding {_span(ts)}" if len(ts) else "no funding"
        raise MisalignedMarket(symbol, found, f"funding of the bars' own time, {_span(bars.ts)}")
    within = (ts >= bars.ts[0]) & (ts < bars.ts[-1] + bars.timeframe)
    due = rows_of(STAMP, int(within.sum()), ts=ts[within], rate=funding.rate[within])
    at = np.searchsorted(bars.ts, due.ts, side="right") - 1
    at += due.ts >= bars.ts[at] + bars.timeframe
    if len(ts) > 1:
        _note_missing_stamps(bars, ts, funding.interval, notes)
    return due, at


def _note_missing_stamps(bars: Bars, ts: Ints, interval: Ints | None, notes: list[str]) -> None:
    """Stamps that the series' own rhythm would lead one to expect and that it does not have."""
    steps = np.diff(ts)
    kinds, counts = np.unique(steps, return_counts=True)
    rhythm = int(kinds[counts.argmax()])
    inside = (ts[1:] > bars.ts[0]) & (ts[:-1] < bars.ts[-1])
    # A source that states its interval is believed: stamps every 4 h after some every 8 h leave no hole.
    expected = np.full(len(steps), rhythm) if interval is None else np.maximum(interval[1:], 1)
    missing = int((np.maximum(steps[inside] // expected[inside] - 1, 0)).sum())
    missing += max(0, (int(ts[0]) - int(bars.ts[0])) // rhythm) + max(0, (int(bars.ts[-1]) - int(ts[-1])) // rhythm)
    if missing:
        notes.append(
            f"{bars.symbol}: {missing} funding stamps of every {format_duration(rhythm)} unknown; none was assumed"
        )


def _span(ts: Ints) -> str:
    return f"from {utc(int(ts[0]))} to {utc(int(ts[-1]))}"
