"""From a mandate to what the kernel runs on: instruments, limits, strategies, and the proposals of each slot."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.instruments import Instrument, listing
from ringfence.markets.market import Market
from ringfence.markets.slots import Slots
from ringfence.risk.book import PROPOSAL, Flags, Floats, Limits, Rows, rows
from ringfence.risk.volatility import realised_volatility
from ringfence.runtime.errors import NeverEnoughBars
from ringfence.strategies.causality import Foretold, foretold
from ringfence.strategies.contract import Strategy
from ringfence.strategies.guard import bars_needed, confined, proposals
from ringfence.strategies.registry import build
from ringfence.vaults.mandate.limits import compile_limits
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import Mandate
from ringfence.words.times import format_duration, utc

__all__ = ["Setup", "set_up", "set_up_apart"]

_TOLD_FROM = 10
"""A warm-up is told from this part of the slots on: a tenth."""


@dataclass(frozen=True, eq=False)
class Setup:
    """A mandate, ready to run. Position p trades symbol p."""

    mandate: Mandate
    names: tuple[str, ...]
    """Of the positions, in order."""
    instruments: tuple[Instrument, ...]
    listing: Rows
    limits: Limits
    lookbacks: tuple[int, ...]
    """How many slots with bars each position's strategy looks back on, the one that it decides included."""
    strategies: tuple[Strategy, ...] = ()
    """None where they are asked in a process of their own."""
    foretold: tuple[Foretold, ...] = ()
    """Where the history is known beforehand: what each position's strategy proposes from all of it."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Of the positions, in order; with its venue where that is not the default one."""
        return tuple(traded.name for traded in self.instruments)

    @property
    def lookback(self) -> int:
        """How many slots with bars any decision is made from, the one that is decided included."""
        return max(self._lookback(p) for p in range(len(self.names)))

    def propose_all(self, slots: Slots) -> Rows:
        """(K, P) of PROPOSAL: every slot at once, as a back-test sees them; refused (ContractBroken) where sampled cuts
        say otherwise."""
        table = rows(PROPOSAL, (len(slots), len(self.names)))
        for p, told in enumerate(self._foretold(slots)):
            at = np.searchsorted(slots.opens, told.bars.ts)
            table[at, p] = self._rows(told.bars, told.leverage, told.valid)
        return table

    def foretelling(self, slots: Slots) -> Self:
        """The same, and whatever it proposes at one of these slots must be what all of them together give: refused
        (ContractBroken) here where sampled cuts say otherwise, and later at the slot."""
        return replace(self, foretold=self._foretold(slots))

    def _foretold(self, slots: Slots) -> tuple[Foretold, ...]:
        return tuple(foretold(strategy, bars) for strategy, bars in zip(self.strategies, slots.bars, strict=True))

    def propose_at(self, slots: Slots, number: int, failed: Collection[str] = ()) -> Rows:
        """(1, P) of PROPOSAL: one slot from the bars up to and including it, as live sees it; those positions excepted
        whose strategies have `failed`, for which the mandate speaks."""
        table = rows(PROPOSAL, (1, len(self.names)))
        with confined:  # once for all strategies
            for p, name in enumerate(self.names):
                bars = self.seen(slots, number, p)
                if bars is not None and name in failed:
                    table[0, p] = self.without(bars)
                elif bars is not None:
                    table[0, p] = self._propose(p, bars)
        return table

    def seen(self, slots: Slots, number: int, p: int) -> Bars | None:
        """The bars that position p's strategy sees at the close of slot `number`; None where the slot has none."""
        bars = slots.bars[p]
        end = int(np.searchsorted(bars.ts, slots.opens[number], side="right"))
        if not end or bars.ts[end - 1] != slots.opens[number]:
            return None
        return bars[max(0, end - self._lookback(p)) : end]

    def stated(self, bars: Bars, leverage: float, valid: bool) -> Rows:
        """The row of PROPOSAL at the last of the bars: that leverage, and the volatility that the mandate measures."""
        row = rows(PROPOSAL, 1)
        volatility, known = self._volatility(bars)
        row.leverage, row.proposed, row.volatility, row.known = leverage, valid, volatility[-1], known[-1]
        return row[0]

    def closing_at(self, slots: Slots, number: int) -> Rows:
        """(1, P) of PROPOSAL that close every position at slot `number`, whatever its strategy thinks."""
        table = rows(PROPOSAL, (1, len(self.names)))
        for p in range(len(self.names)):
            bars = self.seen(slots, number, p)
            if bars is not None:
                row = self.stated(bars, 0.0, True)
                if not row.known:  # to hold nothing one need not know how much prices move
                    row.volatility, row.known = self.mandate.volatility.floor, True
                table[0, p] = row
        return table

    def without(self, bars: Bars) -> Rows:
        """The row of PROPOSAL where the strategy gave no answer: none, or a leverage of 0 where the mandate says so."""
        return self.stated(bars, 0.0, self.mandate.on_strategy_failure == "derisk")

    def demand_history(self, market: Market) -> None:
        """Passes where every position has the bars that its decisions look back on at some slot of the market, or
        before the market's slots begin. Refused: NeverEnoughBars."""
        slots = Slots(market, self.mandate.timeframe)
        for p, name in enumerate(self.names):
            needed, there = self._lookback(p), len(slots.bars[p])
            if there < needed:
                slot = format_duration(self.mandate.timeframe)
                raise NeverEnoughBars(self.mandate.name, name, needed, there, slot)

    def warm_up(self, market: Market) -> tuple[str, ...]:
        """In words, the positions that decide nothing for a tenth of the market's slots or more, and from when on."""
        slots, told = Slots(market, self.mandate.timeframe), []
        for p, name in enumerate(self.names):
            bars, needed = slots.bars[p], self._lookback(p)
            if needed > len(bars):
                continue
            first = int(bars.ts[needed - 1])
            waiting = int(np.searchsorted(slots.opens, first))
            if waiting * _TOLD_FROM >= len(slots):
                length, at = format_duration(self.mandate.timeframe), utc(first + slots.timeframe)
                told.append(
                    f"{self.mandate.name}: {name} decides nothing in the first {waiting:,} of {len(slots):,} slots, "
                    f"since it looks back on {needed:,} slots of {length}; its first decision is at {at}"
                )
        return tuple(told)

    def _lookback(self, p: int) -> int:
        timeframe = self.mandate.timeframe
        return max(self.lookbacks[p], self.mandate.volatility.window // timeframe)

    def _propose(self, p: int, bars: Bars) -> Rows:
        """The last bar's row of PROPOSAL."""
        row = self._rows(bars, *proposals(self.strategies[p], bars))[-1]
        if self.foretold:
            self.foretold[p].demand(bars, float(row.leverage), bool(row.proposed))
        return row

    def _rows(self, bars: Bars, leverage: Floats, valid: Flags) -> Rows:
        """(T,) of PROPOSAL: the strategy's leverage with the volatility that the mandate measures."""
        table = rows(PROPOSAL, len(bars))
        table.leverage, table.proposed = leverage, valid
        table.volatility, table.known = self._volatility(bars)
        return table

    def _volatility(self, bars: Bars) -> tuple[Floats, Flags]:
        terms = self.mandate.volatility
        return realised_volatility(
            terms.estimator, bars.timeframe, terms.window, terms.half_life, terms.floor,
            bars.ts, bars.open, bars.high, bars.low, bars.close,
        )  # fmt: skip


def set_up(mandate: Mandate) -> Setup:
    """Build strategies and limits. The mandate was checked when it was loaded; what no longer exists (an uninstalled
    strategy, a delisted instrument) is refused by name."""
    strategies = tuple(build(position.strategy.model_dump()) for position in mandate.positions.values())
    lookbacks = tuple(bars_needed(strategy, mandate.timeframe) for strategy in strategies)
    return replace(set_up_apart(mandate, lookbacks), strategies=strategies)


def set_up_apart(mandate: Mandate, lookbacks: tuple[int, ...]) -> Setup:
    """The same without strategies: they are asked in a process of their own, which has told their lookbacks."""
    traded = instruments_of(mandate)
    return Setup(
        mandate=mandate,
        names=tuple(mandate.positions),
        instruments=tuple(traded.values()),
        listing=listing(traded.values()),
        limits=compile_limits(mandate, {mandate.positions[name].symbol: one for name, one in traded.items()}),
        lookbacks=lookbacks,
    )
