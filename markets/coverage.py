"""What the given series do not cover, in words: told once, with counts and first times. Nothing is made up for it."""

from collections.abc import Iterator, Mapping

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.market import Funding
from ringfence.words.times import format_duration, utc

__all__ = ["coverage"]


def coverage(
    bars: Mapping[str, Bars], marks: Mapping[str, Bars] | None = None, funding: Mapping[str, Funding] | None = None
) -> tuple[str, ...]:
    """Sentences on holes, early ends and late starts, bars without trade and marks that cover a part of a bar, after
    what was left out or mended when the series were read."""
    marks, funding = marks or {}, funding or {}
    read = [note for each in (bars, marks, funding) for series in each.values() for note in series.notes]
    return (*dict.fromkeys(read), *_between(bars), *_of_each(bars, marks))


def _of_each(bars: Mapping[str, Bars], marks: Mapping[str, Bars]) -> Iterator[str]:
    for symbol, series in bars.items():
        yield from _holes(series)
        yield from _still(series)
        if symbol in marks:
            yield from _partly_marked(series, marks[symbol])


def _holes(bars: Bars) -> Iterator[str]:
    gaps = bars.gaps()
    if not gaps:
        return
    missing, longest = sum(gap.missing for gap in gaps), max(gaps, key=lambda gap: gap.missing)
    text = f"{bars.symbol}: {missing:,} of {len(bars) + missing:,} bars missing, first {utc(gaps[0].ts)}"
    if len(gaps) > 1:
        text += f", in {len(gaps):,} gaps, the longest of {longest.missing:,} from {utc(longest.ts)}"
    yield text


def _still(bars: Bars) -> Iterator[str]:
    if not bars.volume_known:
        yield f"{bars.symbol}: no volumes are known"
        return
    still = np.flatnonzero(bars.volume == 0.0)
    if len(still):
        first = utc(int(bars.ts[still[0]]))
        yield f"{bars.symbol}: {len(still):,} of {len(bars):,} bars without trade, first {first}"


def _between(bars: Mapping[str, Bars]) -> Iterator[str]:
    """Symbols whose bars begin later or end earlier than those of the others."""
    if len(bars) < 2:
        return
    first = min(bars.values(), key=lambda series: int(series.ts[0]))
    last = max(bars.values(), key=lambda series: int(series.ts[-1]))
    for symbol, series in bars.items():
        late = (int(series.ts[0]) - int(first.ts[0])) // series.timeframe
        early = (int(last.ts[-1]) - int(series.ts[-1])) // series.timeframe
        if late:
            yield f"{symbol}: begins {late:,} bars after {first.symbol}, at {utc(int(series.ts[0]))}"
        if early:
            end = utc(int(series.ts[-1]) + series.timeframe)
            yield f"{symbol}: ends {early:,} bars before {last.symbol}, at {end}; it is not traded from there on"


def _partly_marked(bars: Bars, marks: Bars) -> Iterator[str]:
    """Bars of which some of the finer marks are missing, so that their worst mark may be missing too."""
    whole, rest = divmod(bars.timeframe, marks.timeframe)
    if rest or whole < 2:
        return
    slots, counts = np.unique(marks.ts // bars.timeframe, return_counts=True)
    _, here, there = np.intersect1d(bars.ts // bars.timeframe, slots, assume_unique=True, return_indices=True)
    partly = here[counts[there] < whole]
    if len(partly):
        lost, first = int((whole - counts[there][counts[there] < whole]).sum()), utc(int(bars.ts[partly[0]]))
        yield (
            f"{bars.symbol}: {lost:,} marks of {format_duration(marks.timeframe)} missing inside "
            f"{len(partly):,} of {len(bars):,} bars, first {first}"
        )
