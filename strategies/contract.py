"""The contract of a strategy: validated parameters and one causal function of the bars.

Causal and of bounded memory: the proposal at bar t is a function of exactly the last `lookback` bars, bit for bit, so
that a live run, which sees only those, proposes what the back-test did. A rolling quantity must therefore be computed
from each stretch of bars anew and in a fixed order; a running sum differs in its last bits and breaks the contract.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from ringfence.markets.bars import Bars
from ringfence.risk.book import Floats
from ringfence.strategies.errors import TimeframeTooLong
from ringfence.strategies.parameters import Parameter, parameter

__all__ = ["Proposal", "Strategy"]

Proposal = np.ma.MaskedArray[tuple[int], np.dtype[np.float64]]
"""(T,) signed leverage, notional / collateral of the isolated sub-position; masked where there is no opinion."""


class Strategy(BaseModel, ABC):
    """A frozen set of validated parameters that proposes a leverage for every bar."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: ClassVar[str]
    """The name in mandates; the entry point carries the same one."""

    @abstractmethod
    def lookback(self, timeframe: int) -> int:
        """How many bars of `timeframe` ms a proposal is made from, the current one included."""

    @abstractmethod
    def propose(self, bars: Bars) -> Proposal | Floats:
        """The leverage at each bar from the last `lookback` bars up to and including it: signed, float64, shape (T,).

        T is at least `lookback`; the first lookback - 1 rows make no proposal, whatever stands in them.
        """

    @classmethod
    def describe(cls) -> tuple[Parameter, ...]:
        """Every parameter by the name that a mandate uses, with unit, default and bounds."""
        return tuple(parameter(field.alias or name, field) for name, field in cls.model_fields.items())

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of the strategy's docstring, on one line."""
        return " ".join((cls.__doc__ or "").strip().partition("\n\n")[0].split())

    def bars_within(self, parameter: str, duration: int, timeframe: int, least: int = 1) -> int:
        """How many bars of `timeframe` ms fit into a parameter's `duration` ms, or TimeframeTooLong if fewer than
        `least`; the refusal names the parameter as a mandate does."""
        if duration < least * timeframe:
            raise TimeframeTooLong(self.name, parameter, duration, timeframe, least)
        return duration // timeframe
