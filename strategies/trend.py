"""Time-series momentum: long what has risen, short what has fallen, at a chosen volatility."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from ringfence.markets.bars import Bars
from ringfence.risk.book import Flags, Floats
from ringfence.strategies.contract import Proposal
from ringfence.strategies.volatility import Volatile, Volatility
from ringfence.words.units import Duration

__all__ = ["Trend"]


class Trend(Volatile):
    """Leverage = sign of the return over lookback x target_volatility / realised volatility, at most leverage_max.

    The return is taken from the first bar that is at most `lookback` old; where missing bars leave it younger than half
    of that, there is no opinion. Source: Moskowitz, Ooi and Pedersen, Time series momentum, Journal of Financial
    Economics 104 (2012).
    """

    name: ClassVar[str] = "trend"

    # A mandate says `lookback`, which in Python is the contract's method.
    return_over: Duration = Field(alias="lookback", description="time over which the return's sign is taken")
    target_volatility: Volatility = Field(description="volatility per year that the position's collateral shall have")
    allow_short: bool = Field(True, description="whether a fall proposes a short position; false: none")

    def lookback(self, timeframe: int) -> int:
        return max(super().lookback(timeframe), self.bars_within("lookback", self.return_over, timeframe) + 1)

    def propose(self, bars: Bars) -> Proposal:
        volatility, measured = self.volatility(bars)
        direction, known = self.direction(bars)
        valid = measured & known
        valid[: self.lookback(bars.timeframe) - 1] = False
        return self.masked(direction * self.target_volatility / np.where(valid, volatility, 1.0), valid)

    def direction(self, bars: Bars) -> tuple[Floats, Flags]:
        """+1 after a rise, -1 (0 without shorts) after a fall, 0 after neither, and whether it is known."""
        steps = self.bars_within("lookback", self.return_over, bars.timeframe)
        # Bars are at least a timeframe apart, so this reaches back by no more than `steps` rows.
        start = np.searchsorted(bars.ts, bars.ts - self.return_over)
        known: Flags = 2 * (bars.ts - bars.ts[start]) >= steps * bars.timeframe
        sign = np.sign(bars.close - bars.close[start])
        return (sign if self.allow_short else np.maximum(sign, 0.0)), known
