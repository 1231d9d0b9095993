"""Distance to liquidation: as much leverage as keeps the liquidation price a chosen number of deviations away."""

import math
from typing import ClassVar

import numpy as np
from pydantic import Field

from ringfence.markets.bars import Bars
from ringfence.risk.volatility import YEAR
from ringfence.strategies.contract import Proposal
from ringfence.strategies.volatility import Side, Volatile, signed
from ringfence.words.units import Duration, Fraction_, Multiple, parse_duration

__all__ = ["LiquidationDistance"]


class LiquidationDistance(Volatile):
    """Leverage = 1 / (r + k sigma sqrt(h) + slippage): liquidation lies k deviations of h's moves away.

    An isolated position is liquidated after an adverse move of about 1 / leverage - r, r being the maintenance rate.
    """

    name: ClassVar[str] = "liquidation_distance"

    maintenance_rate: Fraction_ = Field(0.005, description="r: maintenance margin over notional, as the tier has it")
    sigmas: Multiple = Field(4.0, description="k: standard deviations to the liquidation price")
    horizon: Duration = Field(parse_duration("8h"), description="h: the time over which the deviation is taken")
    slippage: Fraction_ = Field(0.0, description="added to the distance, fraction of price")
    side: Side = Field("long", description="direction of the position")

    def propose(self, bars: Bars) -> Proposal:
        volatility, valid = self.volatility(bars)
        move = self.sigmas * math.sqrt(self.horizon / YEAR) * np.where(valid, volatility, 1.0)
        return self.masked(signed(self.side) / (self.maintenance_rate + move + self.slippage), valid)
