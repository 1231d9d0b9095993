"""What a vault lives through next: the rest of a slot, or as much of it as is there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ringfence.markets.slots import Slots
from ringfence.risk.book import PROPOSAL, Walk, rows
from ringfence.runtime.levels import Doubts, doubts, shrinking, without
from ringfence.runtime.proposals import Proposed
from ringfence.vaults.entries import Failure

__all__ = ["Stretch", "passing", "rest_of_slot", "unfinished"]


@dataclass(frozen=True, eq=False)
class Stretch:
    """The bars that a vault lives through next: the rest of one slot, or as much of it as is there."""

    walk: Walk
    """The bars; where they reach the slot's close, with one row of proposals. Position p trades column p."""
    inside: int
    """How many of them, from the first on, end before the slot does."""
    bars_of: Callable[[int], str]
    """SHA-256 of so many of them, from the first on."""
    slot: int | None = None
    """Open (UTC ms) of the slot that is decided at the last bar's close; None: its end is yet to come."""
    close: int = 0
    """End of that slot, UTC ms."""
    bars: str = ""
    """SHA-256 of its bars, those lived through before included."""
    failed: Mapping[str, Failure] = field(default_factory=dict)
    """By position, why there is no proposal."""
    passes: bool = False
    """Whether the slot goes by without a decision."""
    stops: bool = False
    """Whether it ends with a Walked at its last bar, also where no money moved."""
    doubted: Doubts = field(default_factory=dict)
    """Of the bars that were not lived through before, those whose prices are good for nothing: they stand there as if
    nothing had traded."""
    shrinking: tuple[int, ...] = ()
    """Positions that may only become smaller at the slot's close."""
    is_halted: bool = False
    """Whether the vault is: no price halts it once more."""

    def until(self, count: int) -> "Stretch":
        """Its first `count` bars, all inside the slot; the vault stops at the last of them."""
        walk = self.walk
        inside = np.full(count, -1, np.int64)
        cut = walk._replace(bars=walk.bars[:count], ts=walk.ts[:count], slot=inside, proposals=walk.proposals[:0])
        return Stretch(cut, count, self.bars_of, stops=True, doubted=self.doubted, is_halted=self.is_halted)


def rest_of_slot(slots: Slots, number: int, last_bar: int | None, proposed: Proposed) -> Stretch:
    """What is left of slot `number` after `last_bar` (UTC ms), decided on what was proposed at its close."""
    first, last = slots.rest(number, last_bar)
    slot, market = int(slots.opens[number]), slots.market
    close = slot + slots.timeframe
    # A bar that ends before its slot may turn out to be the last one in it, which nobody can know at its close.
    inside = int(np.searchsorted(market.ts[first:last], close - market.timeframe))
    walk = slots.walk(proposed.table, number, last_bar)
    doubted = doubts(slots.levels, walk.ts)
    fresh = {bar: found for bar, found in doubted.items() if last_bar is None or walk.ts[bar] > last_bar}
    return Stretch(
        walk._replace(bars=without(walk.bars, doubted)), inside,
        lambda bars: slots.told(first, min(first + bars, last)), slot, close, slots.fingerprint(number),
        proposed.failed, doubted=fresh, shrinking=shrinking(slots, number),
    )  # fmt: skip


def passing(slots: Slots, number: int, last_bar: int | None) -> Stretch:
    """What is left of slot `number` after `last_bar` (UTC ms), of a halted vault: it decides nothing."""
    nothing = Proposed(rows(PROPOSAL, (1, len(slots.market.symbols))), {})
    rest = rest_of_slot(slots, number, last_bar, nothing)
    walk = rest.walk._replace(slot=np.full(len(rest.walk.ts), -1, np.int64))
    return replace(rest, walk=walk, inside=len(walk.ts), passes=True, shrinking=(), is_halted=True)


def unfinished(slots: Slots, is_halted: bool) -> Stretch:
    """The bars of a market that ends inside a slot."""
    market = slots.market
    count = len(market)
    inside, none = np.full(count, -1, np.int64), rows(PROPOSAL, (0, len(market.symbols)))
    doubted = doubts(slots.levels, market.ts)
    bars = without(market.rows, doubted)
    walk = Walk(bars, market.ts, market.timeframe, market.stamps, inside, none)
    return Stretch(walk, count, lambda bars: slots.told(0, bars), doubted=doubted, is_halted=is_halted)
