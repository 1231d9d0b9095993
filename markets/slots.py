"""The market as the kernel walks through it, and as strategies see it: one object per set of symbols, built once."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market
from ringfence.risk.book import BAR, Ints, Rows, rows

__all__ = ["MarketFeed"]

_PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")


@dataclass(frozen=True, eq=False)
class MarketFeed:
    """A market cut into the slots of a timeframe: slot k is decided at the close of its last bar."""

    market: Market
    timeframe: int
    """Of the slots, ms; a multiple of the market's own."""

    @cached_property
    def rows(self) -> Rows:
        """(T, N) of BAR."""
        market = self.market
        columns = {name: getattr(market, name) for name in _PRICES}
        return rows(BAR, market.open.shape, **columns, funding_rate=market.funding_rate, funding=market.funding_valid,
                    valid=market.valid)  # fmt: skip

    @cached_property
    def _slots(self) -> tuple[Ints, Ints]:
        return self.market.slots(self.timeframe)

    @property
    def slot(self) -> Ints:
        """(T,) the slot that the bar closes, or -1."""
        return self._slots[0]

    @property
    def slots(self) -> Ints:
        """(K,) opens of the complete slots that have bars, UTC ms."""
        return self._slots[1]

    @cached_property
    def _ends(self) -> Ints:
        """(K,) one past the last bar of each slot."""
        return (self.slot >= 0).nonzero()[0] + 1

    def span(self, slot: int) -> tuple[int, int]:
        """First and one past the last bar of slot number `slot`."""
        return (int(self._ends[slot - 1]) if slot else 0), int(self._ends[slot])

    @cached_property
    def bars(self) -> tuple[Bars, ...]:
        """Per symbol, the bars of the slots' timeframe that strategies see; complete by the market's clock."""
        clock = int(self.market.ts[-1]) + self.market.timeframe
        return tuple(
            self.market.bars(column).resample(self.timeframe, until=clock) for column in range(len(self.market.symbols))
        )

    def fingerprint(self, slot: int) -> str:
        """SHA-256 over every figure of the slot's bars."""
        first, last = self.span(slot)
        content = hashlib.sha256(self.market.ts[first:last].tobytes())
        for name in (*_PRICES, "funding_rate", "funding_valid", "valid"):
            content.update(getattr(self.market, name)[first:last].tobytes())
        return content.hexdigest()
