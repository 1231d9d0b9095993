"""Ticks: prices of one symbol from one source at one moment, let in by rule and merged field by field."""

import math
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import NamedTuple

__all__ = ["FIELDS", "Dropped", "Field", "Intake", "Rules", "Seen", "Tick"]

_SECOND = 1_000


class Field(Enum):
    """What a tick may tell."""

    last = "last"
    mark = "mark"
    index = "index"
    funding_rate = "funding_rate"


FIELDS = tuple(Field)


@dataclass(frozen=True, slots=True)
class Tick:
    """What a source says of a symbol at one moment. None: it says nothing of that field."""

    source: str
    symbol: str
    received: int
    """When it came, UTC epoch milliseconds."""
    exchange_ts: int | None = None
    """When it held, by the exchange's clock, UTC epoch milliseconds."""
    last: float | None = None
    mark: float | None = None
    index: float | None = None
    funding_rate: float | None = None
    """Fraction of the notional that longs pay to shorts at the next stamp, signed."""

    @property
    def ts(self) -> int:
        """When it held, UTC ms; when it came, where the exchange does not say."""
        return self.received if self.exchange_ts is None else self.exchange_ts

    def said(self) -> Iterator[tuple[Field, float]]:
        """The fields that it has."""
        for field in FIELDS:
            value = getattr(self, field.value)
            if value is not None:
                yield field, value


class Dropped(StrEnum):
    """The rule by which a tick was not let in; the first that it breaks, in this order."""

    unknown_symbol = "unknown_symbol"
    """Nobody asked for its symbol."""
    not_finite = "not_finite"
    """A field is NaN or infinite."""
    not_positive = "not_positive"
    """A price is 0 or less."""
    from_the_future = "from_the_future"
    """It held later than it came, by more than clocks differ."""
    late = "late"
    """It came long after it held."""
    disordered = "disordered"
    """Something later is known of a field that it has; of equal times the one that came last is later."""
    duplicate = "duplicate"
    """It says nothing new at its time."""
    impossible = "impossible"
    """A price a thousand times the known one or a thousandth of it, or of no size that prices have; a funding rate of
    100 % or more."""


@dataclass(frozen=True)
class Rules:
    """Bounds by which ticks are dropped."""

    future: int = 2_000
    """Milliseconds that a tick may hold later than it came."""
    late: int = 60_000
    """Milliseconds after which a tick comes too late."""
    jump: float = 1_000.0
    """Times that a price may change from the one known of the same source and field."""
    memory: int = 300_000
    """Milliseconds for which a known price bounds the next; a single wrong one shuts the others out no longer."""
    least: float = 1e-15
    most: float = 1e15
    """Between these lie all prices."""
    window: int = 300_000
    """Milliseconds that a price's own mean looks back."""


class Seen(NamedTuple):
    """What is known of one field of one symbol from one source."""

    value: float
    ts: int
    """When it held, UTC ms."""
    received: int
    """When it came, UTC ms."""
    mean: float | None
    """Of the seconds with a tick in the window before this one's second, each weighing the same; None: there was none,
    or the field is a rate."""


class Intake:
    """Lets ticks in, counts those that it drops, and knows the latest of each field.

    An absent field never overwrites a known one, nor makes it look younger: each keeps the time at which it held.
    """

    def __init__(self, symbols: Collection[str], rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._known: dict[str, dict[Field, dict[str, _Track]]] = {
            symbol: {field: {} for field in FIELDS} for symbol in symbols
        }
        self._dropped: Counter[tuple[str, Dropped]] = Counter()

    def take(self, tick: Tick) -> Dropped | None:
        """Let the tick in, or drop it whole and return the rule that it breaks."""
        rule = self._broken(tick)
        if rule is not None:
            self._dropped[tick.source, rule] += 1
            return rule
        fields = self._known[tick.symbol]
        for field, value in tick.said():
            track = fields[field].get(tick.source)
            if track is None:
                track = fields[field][tick.source] = _Track(self.rules.window, field is not Field.funding_rate)
            track.put(value, tick.ts, tick.received)
        return None

    def seen(self, symbol: str, field: Field) -> dict[str, Seen]:
        """The latest of the field by source; a source that never said it is absent."""
        return {source: track.seen() for source, track in self._known[symbol][field].items()}

    def dropped(self) -> dict[tuple[str, Dropped], int]:
        """How many ticks were dropped so far, by source and rule."""
        return dict(self._dropped)

    def _broken(self, tick: Tick) -> Dropped | None:
        if tick.symbol not in self._known:
            return Dropped.unknown_symbol
        said, rules = tuple(tick.said()), self.rules
        prices = [value for field, value in said if field is not Field.funding_rate]
        if not all(math.isfinite(value) for _, value in said):
            return Dropped.not_finite
        if any(price <= 0.0 for price in prices):
            return Dropped.not_positive
        if tick.ts > tick.received + rules.future:
            return Dropped.from_the_future
        if tick.ts < tick.received - rules.late:
            return Dropped.late
        fields = self._known[tick.symbol]
        known = [(value, fields[field].get(tick.source)) for field, value in said]
        if any(track is not None and track.at > (tick.ts, tick.received) for _, track in known):
            return Dropped.disordered
        if all(track is not None and (track.value, track.at[0]) == (value, tick.ts) for value, track in known):
            return Dropped.duplicate
        if not all(rules.least <= price <= rules.most for price in prices):
            return Dropped.impossible
        if tick.funding_rate is not None and abs(tick.funding_rate) >= 1.0:
            return Dropped.impossible
        if any(self._jumps(value, tick.ts, track) for value, track in known):
            return Dropped.impossible
        return None

    def _jumps(self, value: float, ts: int, track: "_Track | None") -> bool:
        if track is None or not track.is_price or ts - track.at[0] > self.rules.memory:
            return False
        return max(value, track.value) > min(value, track.value) * self.rules.jump


class _Track:
    """The latest value of one field from one source, and the seconds behind it."""

    __slots__ = ("_seconds", "_window", "at", "is_price", "value")

    def __init__(self, window: int, is_price: bool) -> None:
        self._window, self.is_price = window, is_price
        self._seconds: deque[tuple[int, float, int]] = deque()
        """Second since 1970, sum and number of its ticks."""
        self.value = 0.0
        self.at = (0, 0)
        """When the latest held and when it came, UTC ms."""

    def put(self, value: float, ts: int, received: int) -> None:
        self.value, self.at = value, (ts, received)
        if not self.is_price:
            return
        second, total, count = ts // _SECOND, 0.0, 0
        if self._seconds and self._seconds[-1][0] == second:
            _, total, count = self._seconds.pop()
        self._seconds.append((second, total + value, count + 1))
        while self._seconds[0][0] * _SECOND < ts - self._window:
            self._seconds.popleft()

    def seen(self) -> Seen:
        earlier = [total / count for second, total, count in self._seconds if second < self.at[0] // _SECOND]
        mean = math.fsum(earlier) / len(earlier) if earlier else None
        return Seen(self.value, *self.at, mean)
