"""The control: one leverage, whatever happens."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from ringfence.markets.bars import Bars
from ringfence.risk.book import Floats
from ringfence.strategies.contract import Strategy
from ringfence.words.units import MultipleUnit

__all__ = ["Constant"]


class Constant(Strategy):
    """The same leverage at every bar: the control that other strategies are compared with."""

    name: ClassVar[str] = "constant"

    leverage: Annotated[float, MultipleUnit(low="-1000", low_open=False)] = Field(
        description="leverage at every bar; below 0 is short"
    )

    def lookback(self, timeframe: int) -> int:
        return 1

    def propose(self, bars: Bars) -> Floats:
        return np.full(len(bars), self.leverage)
