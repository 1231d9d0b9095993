"""The control: one leverage, whatever happens."""

from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from markets.bars import Bars
from markets.units import MultipleUnit
from risk.book import Floats
from strategies.contract import Strategy

__all__ = ["Constant"]


class Constant(Strategy):
    """The same leverage at every bar: the control that other strategies are compared with."""

    name: ClassVar[str] = "constant"

    leverage_: Annotated[float, MultipleUnit(low="-1000", low_open=False)] = Field(
        alias="leverage", description="leverage at every bar; below 0 is short"
    )

    def window(self, timeframe: int) -> int:
        return 1

    def leverage(self, bars: Bars) -> Floats:
        return np.full(len(bars), self.leverage_)
