"""Quality: one price out of several sources, how good it is, and what may be done on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from ringfence.markets.feeds.ticks import Seen
from ringfence.words.numbers import format_percentage
from ringfence.words.times import format_duration

__all__ = ["HALTS", "TOLERATES", "Action", "Judged", "Quality", "Thresholds", "judge", "median", "permitted"]


class Quality(IntEnum):
    """How good a price is, best to worst."""

    agreed = 0
    """More than half of the fresh sources, two at least, stand near their median."""
    single = 1
    """One source is fresh."""
    disagreeing = 2
    """Several sources are fresh, and no more than half of them stand near their median."""
    stale = 3
    """No source is fresh; this is the latest that one of them said."""
    future = 4
    """What there is holds at a later time than it is."""
    guarded = 5
    """The price is too far from its own mean of the minutes before."""
    none = 6
    """No source ever said it."""


class Action(StrEnum):
    """What is done on a price."""

    reduce = "reduce"
    """A position becomes smaller, or is closed."""
    increase = "increase"
    """A position is opened or becomes larger."""
    liquidate = "liquidate"
    """A position is liquidated by our own rule, not by the venue's report."""


TOLERATES: Final[Mapping[Action, Quality]] = MappingProxyType(
    {Action.reduce: Quality.stale, Action.increase: Quality.single, Action.liquidate: Quality.stale}
)
"""The worst quality on which each action is done."""
HALTS: Final[Mapping[Action, frozenset[Quality]]] = MappingProxyType(
    {Action.reduce: frozenset(), Action.increase: frozenset(), Action.liquidate: frozenset({Quality.guarded})}
)
"""The qualities on which an action is not only left undone: who would have done it halts."""


def permitted(quality: Quality, action: Action) -> bool:
    """Whether the action may be done on a price of this quality."""
    return quality <= TOLERATES[action]


@dataclass(frozen=True)
class Thresholds:
    """Bounds by which prices are judged."""

    silence: int = 15_000
    """Milliseconds after which what a source said last is stale."""
    silences: Mapping[str, int] = field(default_factory=dict)
    """The same by source, for those that state another."""
    future: int = 2_000
    """Milliseconds that a price may hold later than it is."""
    apart: float = 0.005
    """Fraction of the median up to which a source stands near it."""
    guard: float = 0.20
    """Fraction up to which a price may lie from its own mean. The fastest minutes recorded (BTC and ETH in March 2020)
    stood 13.5 % from the mean of the five minutes before."""

    def silence_of(self, source: str) -> int:
        """Milliseconds after which this source is stale."""
        return self.silences.get(source, self.silence)


@dataclass(frozen=True)
class Judged:
    """A price and what it is good for."""

    price: float | None
    """For the eye; what acts asks `price_for`. None: no source says one that holds by now."""
    quality: Quality
    reason: str
    """Why the quality is no better, in words."""
    fresh: tuple[str, ...] = ()
    """The sources that the price is the median of."""
    ts: int | None = None
    """When the latest of what it is made of held, UTC ms."""

    def price_for(self, action: Action) -> float | None:
        """The price where the action may be done on it, else None."""
        return self.price if permitted(self.quality, action) else None

    def halts(self, action: Action) -> bool:
        """Whether who would do this action halts."""
        return self.quality in HALTS[action]


def median(values: Iterable[float]) -> float:
    """The middle value, or the one half way between the two middle ones; at least one, all finite and above 0."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    low, high = ordered[half - 1], ordered[half]
    return low + (high - low) / 2


def judge(seen: Mapping[str, Seen], now: int, thresholds: Thresholds) -> Judged:
    """What the sources' latest prices come to at `now` (UTC ms).

    The price is the median of the fresh sources, else the latest of the stale ones. Its quality is the worst that
    applies.
    """
    if not seen:
        return Judged(None, Quality.none, "no source ever said a price")
    ahead = {source: each for source, each in seen.items() if each.ts > now + thresholds.future}
    past = {source: each for source, each in seen.items() if source not in ahead}
    fresh = {source: each for source, each in past.items() if now - each.ts <= thresholds.silence_of(source)}
    if fresh:
        return _guarded(_agreeing(fresh, thresholds), fresh, thresholds)
    if past:
        source, latest = max(past.items(), key=lambda item: (item[1].ts, item[1].received, item[0]))
        age, silence = format_duration(now - latest.ts), format_duration(thresholds.silence_of(source))
        reason = f"{source} is silent for {age}, longer than {silence}, and no other is fresh"
        return _guarded(Judged(latest.value, Quality.stale, reason, ts=latest.ts), {source: latest}, thresholds)
    source, nearest = min(ahead.items(), key=lambda item: (item[1].ts, item[0]))
    return Judged(None, Quality.future, f"{source} says what holds in {format_duration(nearest.ts - now)}")


def _agreeing(fresh: Mapping[str, Seen], thresholds: Thresholds) -> Judged:
    price = median(each.value for each in fresh.values())
    names, ts = tuple(sorted(fresh)), max(each.ts for each in fresh.values())
    if len(fresh) == 1:
        return Judged(price, Quality.single, f"{names[0]} alone is fresh", names, ts)
    apart = [name for name in names if abs(fresh[name].value / price - 1.0) > thresholds.apart]
    told = f"{', '.join(apart)} more than {format_percentage(thresholds.apart)} from the median" if apart else ""
    if 2 * len(apart) >= len(fresh):
        return Judged(
            price, Quality.disagreeing, f"{len(apart)} of {len(fresh)} sources stand apart: {told}", names, ts
        )
    reason = f"{len(fresh) - len(apart)} of {len(fresh)} sources agree"
    return Judged(price, Quality.agreed, f"{reason}; {told}" if apart else reason, names, ts)


def _guarded(judged: Judged, used: Mapping[str, Seen], thresholds: Thresholds) -> Judged:
    """The same, or guarded where the price is too far from the median of its sources' means."""
    means = [each.mean for each in used.values() if each.mean is not None]
    if not means or judged.price is None:
        return judged
    mean = median(means)
    away = abs(judged.price / mean - 1.0)
    if away <= thresholds.guard:
        return judged
    told = f"{judged.price!r} is {away:.0%} from its own mean of {mean!r}"
    reason = f"{told}, more than {format_percentage(thresholds.guard)}"
    return Judged(judged.price, Quality.guarded, reason, judged.fresh, judged.ts)
