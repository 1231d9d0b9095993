"""Ticks: prices of one symbol from one source at one moment, let in by rule and merged field by field."""

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import fsum, isfinite
from typing import Literal, NamedTuple, get_args

__all__ = ["FIELDS", "Dropped", "Field", "Intake", "Rules", "Seen", "Tick"]

_SECOND = 1_000


Field = Literal["last", "mark", "index", "funding_rate"]
"""What a tick may tell."""
FIELDS: tuple[Field, ...] = get_args(Field)


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
        self._known: dict[str, dict[str, dict[Field, _Track]]] = {symbol: {} for symbol in symbols}
        """By symbol and source."""
        self._dropped: Counter[tuple[str, Dropped]] = Counter()

    def take(self, tick: Tick) -> Dropped | None:
        """Let the tick in, or drop it whole and return the rule that it breaks."""
        prices: list[tuple[Field, float | None]] = [("last", tick.last), ("mark", tick.mark), ("index", tick.index)]
        said = {field: price for field, price in prices if price is not None}
        sources = self._known.get(tick.symbol)
        known = None if sources is None else sources.get(tick.source, {})
        rule = self._broken(tick, said, known)
        if rule is not None or sources is None:
            rule = rule or Dropped.unknown_symbol
            self._dropped[tick.source, rule] += 1
            return rule
        if tick.funding_rate is not None:
            said["funding_rate"] = tick.funding_rate
        tracks = sources.setdefault(tick.source, {})
        for field, value in said.items():
            track = tracks.get(field)
            if track is None:
                track = tracks[field] = _Track(self.rules.window, field != "funding_rate")
            track.put(value, tick.ts, tick.received)
        return None

    def seen(self, symbol: str, field: Field) -> dict[str, Seen]:
        """The latest of the field by source; a source that never said it is absent."""
        return {source: tracks[field].seen() for source, tracks in self._known[symbol].items() if field in tracks}

    def dropped(self) -> dict[tuple[str, Dropped], int]:
        """How many ticks were dropped so far, by source and rule."""
        return dict(self._dropped)

    def _broken(
        self, tick: Tick, prices: Mapping[Field, float], known: "Mapping[Field, _Track] | None"
    ) -> Dropped | None:
        """The first rule that a tick with these prices breaks; `known` is None for a symbol that is not."""
        if known is None:
            return Dropped.unknown_symbol
        rules, rate, ts, received = self.rules, tick.funding_rate, tick.ts, tick.received
        if not all(map(isfinite, prices.values())) or (rate is not None and not isfinite(rate)):
            return Dropped.not_finite
        if prices and min(prices.values()) <= 0.0:
            return Dropped.not_positive
        if ts > received + rules.future:
            return Dropped.from_the_future
        if ts < received - rules.late:
            return Dropped.late
        said = prices if rate is None else {**prices, "funding_rate": rate}
        new = jumps = False
        for field, value in said.items():
            track = known.get(field)
            if track is None:
                new = True
                continue
            if track.at > (ts, received):
                return Dropped.disordered
            new = new or track.value != value or track.at[0] != ts
            jumps = jumps or (field in prices and self._jumps(value, ts, track))
        if not new:
            return Dropped.duplicate
        if prices and not rules.least <= min(prices.values()) <= max(prices.values()) <= rules.most:
            return Dropped.impossible
        return Dropped.impossible if jumps or (rate is not None and abs(rate) >= 1.0) else None

    def _jumps(self, value: float, ts: int, track: "_Track") -> bool:
        if ts - track.at[0] > self.rules.memory:
            return False
        return max(value, track.value) > min(value, track.value) * self.rules.jump


class _Track:
    """The latest value of one field from one source, and the seconds behind it."""

    __slots__ = ("_is_price", "_mean", "_second", "_seconds", "_window", "at", "value")

    def __init__(self, window: int, is_price: bool) -> None:
        self._window, self._is_price = window, is_price
        self._seconds: deque[tuple[int, float]] = deque()
        """The seconds before this one: which since 1970, and the mean of its ticks."""
        self._second = (0, 0.0, 0)
        """The latest second: which, the sum and the number of its ticks."""
        self._mean: float | None = None
        self.value = 0.0
        self.at = (0, 0)
        """When the latest held and when it came, UTC ms."""

    def put(self, value: float, ts: int, received: int) -> None:
        self.value, self.at = value, (ts, received)
        if not self._is_price:
            return
        (latest, total, count), second = self._second, ts // _SECOND
        if second == latest:
            self._second = (second, total + value, count + 1)
            return
        if count:
            self._seconds.append((latest, total / count))
        while self._seconds and self._seconds[0][0] * _SECOND < ts - self._window:
            self._seconds.popleft()
        self._second, self._mean = (second, value, 1), None

    def seen(self) -> Seen:
        if self._mean is None and self._seconds:
            self._mean = fsum(mean for _, mean in self._seconds) / len(self._seconds)
        return Seen(self.value, *self.at, self._mean)
