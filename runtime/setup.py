"""From a mandate to what the kernel runs on: instruments, limits, strategies, and the inputs of each decision."""

from dataclasses import dataclass

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.instruments import Instrument, instrument, listing
from ringfence.markets.slots import MarketFeed
from ringfence.risk.book import PROPOSAL, Book, Flags, Floats, Limits, Rows, empty_book, rows
from ringfence.risk.volatility import realised_volatility
from ringfence.strategies.contract import Strategy, bars_needed, proposals
from ringfence.strategies.registry import build
from ringfence.vaults.mandate.limits import compile_limits
from ringfence.vaults.mandate.terms import Mandate

__all__ = ["Compiled", "compile_mandate"]


@dataclass(frozen=True, eq=False)
class Compiled:
    """A mandate, ready to run. Position p trades symbol p."""

    mandate: Mandate
    names: tuple[str, ...]
    """Of the positions, in order."""
    instruments: tuple[Instrument, ...]
    listing: Rows
    limits: Limits
    strategies: tuple[Strategy, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(one.symbol for one in self.instruments)

    def book(self) -> Book:
        """An empty book of this one vault."""
        return empty_book(range(len(self.names)))

    def decide_all(self, feed: MarketFeed) -> Rows:
        """(K, P) of PROPOSAL: every slot at once, as a back-test sees them."""
        table = rows(PROPOSAL, (len(feed.slots), len(self.names)))
        for p in range(len(self.names)):
            bars = feed.bars[p]
            at = np.searchsorted(feed.slots, bars.ts)
            table[at, p] = self._propose(p, bars)
        return table

    def decide_one(self, feed: MarketFeed, slot: int) -> Rows:
        """(1, P) of PROPOSAL: one slot from the bars up to and including it, as live sees it."""
        table = rows(PROPOSAL, (1, len(self.names)))
        for p in range(len(self.names)):
            bars = feed.bars[p]
            end = int(np.searchsorted(bars.ts, feed.slots[slot], side="right"))
            if end and bars.ts[end - 1] == feed.slots[slot]:
                table[0, p] = self._propose(p, bars[max(0, end - self._history(p)) : end])[-1]
        return table

    def _history(self, p: int) -> int:
        """How many bars a decision looks back on."""
        timeframe = self.mandate.timeframe
        return max(bars_needed(self.strategies[p], timeframe), self.mandate.volatility.window // timeframe)

    def _propose(self, p: int, bars: Bars) -> Rows:
        table = rows(PROPOSAL, len(bars))
        table.leverage, table.proposed = proposals(self.strategies[p], bars)
        table.volatility, table.known = self._volatility(bars)
        return table

    def _volatility(self, bars: Bars) -> tuple[Floats, Flags]:
        terms = self.mandate.volatility
        return realised_volatility(
            terms.estimator, bars.timeframe, terms.window, terms.half_life, terms.floor,
            bars.ts, bars.open, bars.high, bars.low, bars.close,
        )  # fmt: skip


def compile_mandate(mandate: Mandate) -> Compiled:
    """Build strategies and limits. The mandate was checked when it was loaded; what no longer exists (an uninstalled
    strategy, a delisted instrument) is refused by name."""
    traded = tuple(instrument(position.symbol) for position in mandate.positions.values())
    return Compiled(
        mandate=mandate,
        names=tuple(mandate.positions),
        instruments=traded,
        listing=listing(traded),
        limits=compile_limits(mandate, {one.symbol: one for one in traded}),
        strategies=tuple(build(position.strategy.model_dump()) for position in mandate.positions.values()),
    )
