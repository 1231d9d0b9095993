"""What the pure room refuses."""

from ringfence.words.refusal import RingfenceError
from ringfence.words.times import utc

__all__ = ["ColumnRefused", "EstimatorRefused", "MarksRefused", "PriceRefused", "TiersRefused", "TimeRefused",
           "TriggerRefused"]  # fmt: skip


class EstimatorRefused(RingfenceError):
    """No volatility is estimated: the estimator, or one of its settings, is not one that exists."""

    setting: str
    value: object
    expected: str

    def __str__(self) -> str:
        return f"volatility {self.setting}: {self.value!r}; expected {self.expected}"


class ColumnRefused(RingfenceError):
    """Nothing is computed: a column does not have one value for each bar."""

    column: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.column}: {self.found}; expected {self.expected}; pass columns that were cut from the same bars"


class TimeRefused(RingfenceError):
    """Nothing is computed: two bars overlap or are out of order, so the time between them is unknown."""

    ts: int
    previous: int
    timeframe: int

    def __str__(self) -> str:
        return (
            f"the bar at {_at(self.ts)} comes {self.ts - self.previous} ms after the one at {_at(self.previous)}; "
            f"expected at least the timeframe, {self.timeframe} ms; sort the bars and drop duplicates"
        )


class PriceRefused(RingfenceError):
    """Nothing is computed: one bar holds a price that no market can have shown."""

    column: str
    ts: int
    value: float
    expected: str

    def __str__(self) -> str:
        return f"{self.column} at {_at(self.ts)} is {self.value!r}; expected {self.expected}; mend or drop this bar"


class MarksRefused(RingfenceError):
    """Nobody is found: no market can have been marked so, and what these marks cross is unknown."""

    symbol: str | int
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.symbol}: marked from {self.low!r} to {self.high!r}; expected finite marks above 0, the low first"


class TriggerRefused(RingfenceError):
    """The watch stays as it was: a position cannot be watched at what is no mark."""

    position: int
    trigger: float

    def __str__(self) -> str:
        return f"position {self.position}: its trigger is {self.trigger!r}; expected a mark, 0 or more"


class TiersRefused(RingfenceError):
    """No margin is computed: only a table whose floors and rates rise from 0 asks for the largest of its lines."""

    floors: tuple[int, ...]
    rates: tuple[int, ...]
    expected: str
    tier: int | None = None
    """The tier that is at fault, whose floor and rate come last; None: the table as a whole."""

    def __str__(self) -> str:
        where = "tiers" if self.tier is None else f"tier {self.tier}"
        return f"{where}: floors {list(self.floors)}, rates {list(self.rates)}; expected {self.expected}"


def _at(ts: int) -> str:
    """A time with the number that the column holds; the number alone where no calendar reaches."""
    text = utc(ts)
    return text if text.startswith("ts ") else f"{text} (ts {ts})"
