"""Findings: what in the data can be right and hardly ever is. Each is refused with its row unless accepted by name."""

from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.errors import Finding, SuspectData
from ringfence.markets.market import Funding
from ringfence.risk.book import Floats
from ringfence.words.times import utc

__all__ = ["FINDINGS", "FUNDING_CAP", "JUMP", "MARK_APART", "OTHER_INSTRUMENT", "admitted", "inspect"]

OTHER_INSTRUMENT, PRICE_JUMP, MARKS_APART, FUNDING_BEYOND = (
    "other-instrument", "price-jump", "marks-apart", "funding-cap")  # fmt: skip
JUMP = 100.0
"""Times that a price may change from one bar to the next, or inside one: a bad print, a lost digit, a new contract."""
MARK_APART = 1.5
"""Times that a mark may stand above the bar's high or below its low."""
FUNDING_CAP = 0.04
"""The highest rate that any venue settles at one stamp: 4 % an hour at Hyperliquid."""

FINDINGS: Mapping[str, str] = {
    OTHER_INSTRUMENT: "a file's name or column says another instrument",
    PRICE_JUMP: f"a price {JUMP:.0f} times the one before it, or a hundredth of it",
    MARKS_APART: f"a mark more than {MARK_APART} times above the bar's high or below its low",
    FUNDING_BEYOND: f"a funding rate beyond {FUNDING_CAP:.0%} at one stamp, the highest cap of any venue",
}
"""What can be accepted, by name."""


def admitted(findings: Iterable[Finding], accept: Collection[str]) -> tuple[str, ...]:
    """The findings as notes, if the name of each is accepted. Refused: SuspectData, with those that are not."""
    found = tuple(findings)
    refused = tuple(finding for finding in found if finding.name not in accept)
    if refused:
        raise SuspectData(refused)
    return tuple(f"accepted {finding}" for finding in found)


def inspect(bars: Bars, marks: Bars | None = None, funding: Funding | None = None) -> Iterator[Finding]:
    """The findings in one symbol's series, at most one of a kind, with the first row and how many more there are."""
    yield from _jumps(bars)
    if marks is not None:
        yield from _apart(bars, marks)
    if funding is not None:
        yield from _beyond(funding)


def _jumps(bars: Bars) -> Iterator[Finding]:
    before = np.concatenate((bars.open[:1], bars.close[:-1]))
    highest, lowest = np.maximum(bars.high, before), np.minimum(bars.low, before)
    rows = np.flatnonzero(highest > lowest * JUMP)
    if not len(rows):
        return
    row = int(rows[0])
    fell = bars.low[row] * JUMP < max(bars.high[row], before[row])
    name, price = ("low", bars.low[row]) if fell and before[row] > bars.low[row] else ("high", bars.high[row])
    against = f"after {float(before[row])!r}" if row else f"where the bar opens at {float(before[row])!r}"
    yield Finding(
        PRICE_JUMP, bars.symbol, f"the {name} is {float(price)!r} {against}, {_where(bars, row)}{_more(rows)}"
    )


def _apart(bars: Bars, marks: Bars) -> Iterator[Finding]:
    if bars.timeframe % marks.timeframe:
        return  # marks coarser than the bars are refused where the two are brought together
    coarse = marks.resample(bars.timeframe)
    _, here, there = np.intersect1d(bars.ts, coarse.ts, assume_unique=True, return_indices=True)
    prices: Floats = coarse.close[there]
    rows = here[(prices > bars.high[here] * MARK_APART) | (prices * MARK_APART < bars.low[here])]
    if len(rows):
        row = int(rows[0])
        mark = float(coarse.close[np.searchsorted(coarse.ts, bars.ts[row])])
        text = f"the mark is {mark!r} where the bar closes at {float(bars.close[row])!r}, {_where(bars, row)}"
        yield Finding(MARKS_APART, bars.symbol, text + _more(rows))


def _beyond(funding: Funding) -> Iterator[Finding]:
    rows = np.flatnonzero(np.abs(funding.rate) > FUNDING_CAP)
    if len(rows):
        row = int(rows[0])
        text = f"the funding rate is {float(funding.rate[row]):.2%} at {utc(int(funding.ts[row]))}, row {row + 1:,}"
        yield Finding(FUNDING_BEYOND, funding.symbol, f"{text} of {len(funding.ts):,}{_more(rows)}")


def _where(bars: Bars, row: int) -> str:
    return f"at {utc(int(bars.ts[row]))}, row {row + 1:,} of {len(bars):,}"


def _more(rows: "np.ndarray[tuple[int, ...], np.dtype[np.intp]]") -> str:
    return f" and {len(rows) - 1:,} more" if len(rows) > 1 else ""
