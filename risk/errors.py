"""What the pure room refuses."""

from ringfence.words.refusal import RingfenceError
from ringfence.words.times import utc

__all__ = ["ColumnRefused", "EstimatorRefused", "PriceRefused", "TimeRefused"]


class EstimatorRefused(RingfenceError):
    """No volatility is estimated: the estimator, or one of its settings, is not one that exists."""

    def __init__(self, setting: str, value: object, expected: str) -> None:
        self.setting, self.value, self.expected = setting, value, expected
        super().__init__(setting, value, expected)

    def __str__(self) -> str:
        return f"volatility {self.setting}: {self.value!r}; expected {self.expected}"


class ColumnRefused(RingfenceError):
    """Nothing is computed: a column does not have one value for each bar."""

    def __init__(self, column: str, found: str, expected: str) -> None:
        self.column, self.found, self.expected = column, found, expected
        super().__init__(column, found, expected)

    def __str__(self) -> str:
        return f"{self.column}: {self.found}; expected {self.expected}; pass columns that were cut from the same bars"


class TimeRefused(RingfenceError):
    """Nothing is computed: two bars overlap or are out of order, so the time between them is unknown."""

    def __init__(self, ts: int, previous: int, timeframe: int) -> None:
        self.ts, self.previous, self.timeframe = ts, previous, timeframe
        super().__init__(ts, previous, timeframe)

    def __str__(self) -> str:
        return (
            f"the bar at {_at(self.ts)} comes {self.ts - self.previous} ms after the one at {_at(self.previous)}; "
            f"expected at least the timeframe, {self.timeframe} ms; sort the bars and drop duplicates"
        )


class PriceRefused(RingfenceError):
    """Nothing is computed: one bar holds a price that no market can have shown."""

    def __init__(self, column: str, ts: int, value: float, expected: str) -> None:
        self.column, self.ts, self.value, self.expected = column, ts, value, expected
        super().__init__(column, ts, value, expected)

    def __str__(self) -> str:
        return f"{self.column} at {_at(self.ts)} is {self.value!r}; expected {self.expected}; mend or drop this bar"


def _at(ts: int) -> str:
    """A time with the number that the column holds; the number alone where no calendar reaches."""
    text = utc(ts)
    return text if text.startswith("ts ") else f"{text} (ts {ts})"
