"""The source: what every feed of bars and ticks must answer to, whichever it is. One verb."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ringfence.markets.bars import Bars
from ringfence.markets.feeds.quality import Quality
from ringfence.markets.feeds.ticks import Tick
from ringfence.markets.market import Funding
from ringfence.words.refusal import RingfenceError

__all__ = ["Delivery", "Source"]


@dataclass(frozen=True, eq=False)
class Delivery:
    """What a source has that it did not deliver before. A symbol of which there is nothing new is absent."""

    clock: int
    """What time it is where the source's bars are, UTC ms: the caller's, or that of a replay."""
    bars: Mapping[str, Bars] = field(default_factory=dict)
    """Bars that are over, by symbol; a bar without trade is none."""
    marks: Mapping[str, Bars] = field(default_factory=dict)
    """Marks of these bars, where there are any."""
    funding: Mapping[str, Funding] = field(default_factory=dict)
    """Every known stamp from the end of the bars delivered before to the end of these."""
    ticks: tuple[Tick, ...] = ()
    until: Mapping[str, int] = field(default_factory=dict)
    """By symbol: every bar that opens earlier (UTC ms) and will ever come has come. It never goes back."""
    levels: Mapping[str, Mapping[int, Quality]] = field(default_factory=dict)
    """By symbol and open of the bar (UTC ms): how good its close was as a price when it came, where no position may
    grow on it."""
    notes: tuple[str, ...] = ()
    """What was left out, missing or mended, in words."""
    faults: tuple[RingfenceError, ...] = ()
    """What did not come, and why; a verdict on nothing. The source can be asked again."""
    ended: bool = False
    """Whether nothing will ever come any more."""


class Source(Protocol):
    """Bars that are over, with their marks, funding stamps and ticks, from one place.

    It is made with `since`, by symbol: every bar that opens earlier (UTC ms) is known already. Made anew with a later
    one, it goes on from there. Bars come in order and once, except that the last one may come again, corrected.
    """

    @property
    def name(self) -> str:
        """What it is called in ticks, notes and faults."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What was dropped, did not come or was corrected, by its kind, since the source was made."""

    def poll(self, now: int) -> Delivery:
        """What is new at `now` (UTC ms). It never waits longer than the source's own timeout, and raises nothing for
        what the world does: that stands in `faults`."""
