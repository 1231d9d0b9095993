"""Volatility targeting: as much leverage as brings the position to a chosen volatility."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from ringfence.markets.bars import Bars
from ringfence.strategies.contract import Proposal
from ringfence.strategies.volatility import Side, Volatile, Volatility, signed

__all__ = ["VolTarget"]


class VolTarget(Volatile):
    """Leverage = target_volatility / realised volatility, at most leverage_max, always on one side.

    Source: Moreira and Muir, Volatility-Managed Portfolios, Journal of Finance 72 (2017), with the deviation in place
    of the variance.
    """

    name: ClassVar[str] = "vol_target"

    target_volatility: Volatility = Field(description="volatility per year that the position's collateral shall have")
    side: Side = Field("long", description="direction of the position")

    def propose(self, bars: Bars) -> Proposal:
        volatility, valid = self.volatility(bars)
        leverage = signed(self.side) * self.target_volatility / np.where(valid, volatility, 1.0)
        return self.masked(leverage, valid)
