"""What strategies that measure volatility share: the estimate's parameters and the estimate."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ringfence.markets.bars import Bars
from ringfence.risk.book import Flags, Floats
from ringfence.risk.volatility import BARS_LEAST, realised_volatility
from ringfence.strategies.contract import Proposal, Strategy
from ringfence.words.units import Duration, Multiple, Percentage, parse_duration

__all__ = ["Estimator", "Side", "Volatile", "Volatility", "signed"]

Estimator = Literal[
    "ewma",
    "close_to_close",
    "parkinson",
    "garman_klass",
    "rogers_satchell",
    "yang_zhang",
    "realised_variance",
    "bipower",
]
Side = Literal["long", "short"]
Volatility = Annotated[float, Percentage("rate", high="1000", bare_max="5", low_open=True)]
"""A volatility per year above 0: `80%` or `0.8`."""

_HALF_LIVES = 6


class Volatile(Strategy):
    """A strategy that sizes by realised volatility."""

    estimator: Estimator = Field("ewma", description="how volatility is estimated")
    window: Duration = Field(parse_duration("3d"), description="time that the estimate looks back")
    half_life: Duration | None = Field(
        None, description=f"for ewma: age at which a return counts half; absent: window / {_HALF_LIVES}"
    )
    floor: Volatility = Field(0.1, description="volatility per year below which no estimate falls")
    leverage_max: Multiple = Field(100.0, description="largest |leverage| proposed")

    @model_validator(mode="after")
    def _half_life_is_for_ewma(self) -> Self:
        if self.half_life is not None and self.estimator != "ewma":
            raise ValueError(f"half_life is read by ewma only, not by {self.estimator}; remove one of the two")
        return self

    def lookback(self, timeframe: int) -> int:
        return self.bars_within("window", self.window, timeframe, BARS_LEAST[self.estimator])

    def volatility(self, bars: Bars) -> tuple[Floats, Flags]:
        """The estimate per year at each bar, and whether there is one."""
        half_life = self.half_life or max(self.window // _HALF_LIVES, 1)
        return realised_volatility(
            self.estimator, bars.timeframe, self.window, half_life, self.floor,
            bars.ts, bars.open, bars.high, bars.low, bars.close,
        )  # fmt: skip

    def masked(self, leverage: Floats, valid: Flags) -> Proposal:
        """The leverage within +- leverage_max, masked where there is none."""
        return np.ma.MaskedArray(np.clip(leverage, -self.leverage_max, self.leverage_max), mask=~valid)


def signed(side: Side) -> float:
    """+1 for long, -1 for short."""
    return 1.0 if side == "long" else -1.0
