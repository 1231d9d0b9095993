"""Slots: a market cut into the stretches that end with a decision, as the kernel walks it and as strategies see it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market
from ringfence.risk.book import Ints, Rows, Walk

__all__ = ["Slots"]


@dataclass(frozen=True, eq=False)
class Slots:
    """The slots of a timeframe that have bars and are over; slot number k is decided at the close of its last bar."""

    market: Market
    timeframe: int
    """Of the slots, ms; a multiple of the market's own."""
    until: int | None = None
    """What the clock says (UTC ms) where more is known than the market holds; else its own last close."""
    levels: tuple[Mapping[int, int], ...] = ()
    """Per symbol, by open of the bar (UTC ms): how good its close was as a price, where no position may grow on it."""

    @cached_property
    def rows(self) -> Rows:
        """(T, N) of BAR."""
        return self.market.rows

    @cached_property
    def _cut(self) -> tuple[Ints, Ints]:
        return self.market.slots(self.timeframe, self.until)

    @property
    def closes(self) -> Ints:
        """(T,) the number of the slot that the bar closes, or -1."""
        return self._cut[0]

    @property
    def opens(self) -> Ints:
        """(K,) opens of the slots, UTC ms."""
        return self._cut[1]

    def __len__(self) -> int:
        return len(self.opens)

    @cached_property
    def _ends(self) -> Ints:
        """(K,) one past the last bar of each slot."""
        return (self.closes >= 0).nonzero()[0] + 1

    def span(self, slot: int) -> tuple[int, int]:
        """First and one past the last bar of slot number `slot`."""
        return (int(self._ends[slot - 1]) if slot else 0), int(self._ends[slot])

    @cached_property
    def bars(self) -> tuple[Bars, ...]:
        """Per symbol, the bars of the slots' timeframe that strategies see; complete by the clock."""
        clock = max(self.market.close_ts, self.until or 0)
        return tuple(
            self.market.bars(column).resample(self.timeframe, until=clock) for column in range(len(self.market.symbols))
        )

    def walk(self, proposals: Rows, slot: int | None = None, after: int | None = None) -> Walk:
        """The bars of slot number `slot` that open after `after` (UTC ms; None: all of them), decided on row 0 of
        `proposals`; or all slots, each on its own row.

        A slot whose last bar was lived through before its end was known is decided on that bar's last prices.
        """
        market = self.market
        if slot is None:
            return Walk(self.rows, market.ts, market.timeframe, market.stamps, self.closes, proposals)
        first, last = self.rest(slot, after)
        bars = slice(first, last) if first < last else slice(last - 1, last)
        walked = self.rows[bars] if first < last else _over(self.rows[bars])
        closes = np.where(self.closes[bars] >= 0, 0, -1)
        return Walk(walked, market.ts[bars], market.timeframe, market.stamps, closes, proposals)

    def rest(self, slot: int, after: int | None) -> tuple[int, int]:
        """First and one past the last bar of slot number `slot` that open after `after`, UTC ms; None: all."""
        first, last = self.span(slot)
        return (first if after is None else max(first, int(np.searchsorted(self.market.ts, after, side="right")))), last

    def fingerprint(self, slot: int) -> str:
        """SHA-256 over every figure of the slot's bars, and how good they were where that is told."""
        return self.told(*self.span(slot))

    def told(self, first: int, last: int) -> str:
        """The same of the market's bars from `first` on and before `last`."""
        bars, ts = self.market.fingerprint(first, last), self.market.ts[first:last].tolist()
        told = [(column, at, int(own[at])) for column, own in enumerate(self.levels) if own for at in ts if at in own]
        return hashlib.sha256(f"{bars} {told!r}".encode()).hexdigest() if told else bars


def _over(bars: Rows) -> Rows:
    """The bars once they are over: all that is left of each is its close."""
    over = bars.copy()
    for last, names in (("close", ("open", "high", "low")), ("mark_close", ("mark_open", "mark_high", "mark_low"))):
        for name in names:
            over[name] = over[last]
    over["funding"], over["stamps_to"] = False, over["stamps_from"]
    return over
