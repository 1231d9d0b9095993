"""Mean reversion: against the price when it has run away from its recent mean."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from ringfence import Bars, Duration, Multiple, Proposal, Strategy

__all__ = ["MeanReversion"]


class MeanReversion(Strategy):
    """Leverage = -leverage x clip(z / at, -1, 1), z = deviations of the log close from its mean over the window.

    No opinion while bars are missing from the window, or while the price has not moved in it.
    """

    name: ClassVar[str] = "mean_reversion"

    window: Duration = Field(description="time over which mean and deviation are taken")
    leverage: Multiple = Field(description="largest |leverage| proposed")
    at: Multiple = Field(2.0, description="deviations at which the whole leverage is proposed")

    def lookback(self, timeframe: int) -> int:
        return self.bars_within("window", self.window, timeframe, 3)

    def propose(self, bars: Bars) -> Proposal:
        depth = self.lookback(bars.timeframe)
        ages = range(depth - 1, -1, -1)
        rows = len(bars) - depth + 1
        # One addition per age, oldest first, for all windows at once: each window is summed in the same order however
        # many bars there are, so a proposal is the same to the last bit in a back-test and live. Prices are taken
        # relative to the oldest in the window, so that a price that does not move has a deviation of exactly zero.
        price = np.log(bars.close)
        start = _aged(price, depth - 1, rows)
        mean = sum((_aged(price, age, rows) - start for age in ages), np.zeros(rows)) / depth
        variance = sum(((_aged(price, age, rows) - start - mean) ** 2 for age in ages), np.zeros(rows)) / (depth - 1)
        whole = _aged(bars.ts, 0, rows) - _aged(bars.ts, depth - 1, rows) == (depth - 1) * bars.timeframe
        known = whole & (variance > 0.0)
        z = (_aged(price, 0, rows) - start - mean) / np.sqrt(np.where(known, variance, 1.0))
        proposal = np.ma.MaskedArray(np.zeros(len(bars)), mask=True)
        proposal[depth - 1 :] = np.ma.MaskedArray(-self.leverage * np.clip(z / self.at, -1.0, 1.0), mask=~known)
        return proposal


def _aged(column: np.ndarray, age: int, rows: int) -> np.ndarray:
    """The values that were `age` bars old at each of the last `rows` bars."""
    stop = len(column) - age
    return column[stop - rows : stop]
