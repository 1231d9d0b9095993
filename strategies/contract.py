"""The contract of a strategy: validated parameters, one causal function of the bars, and the guard it runs behind.

Causal and of bounded memory: the proposal at bar t is a function of exactly the last `lookback` bars, bit for bit, so
that a live run, which sees only those, proposes what the back-test did. A rolling quantity must therefore be computed
from each stretch of bars anew and in a fixed order; a running sum differs in its last bits and breaks the contract.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from ringfence.markets.bars import Bars
from ringfence.risk.book import Flags, Floats
from ringfence.strategies.errors import ContractBroken, InvalidProposal, StrategyFailed, TimeframeTooLong
from ringfence.strategies.parameters import Parameter, parameter
from ringfence.words.times import format_duration

__all__ = ["Proposal", "Strategy", "bars_needed", "check_causal", "proposals"]

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


def proposals(strategy: Strategy, bars: Bars) -> tuple[Floats, Flags]:
    """The strategy's leverage at each bar behind a guard, as (leverage, valid), each (T,); invalid rows hold 0.0.

    The bars are handed over read-only, and not at all when they are fewer than the lookback. The first lookback - 1
    rows are invalid whatever the strategy says. Refused: another shape or type than float64 (T,), NaN or infinity in a
    row that counts (InvalidProposal); any exception of the strategy becomes StrategyFailed, which names it.
    """
    lookback = bars_needed(strategy, bars.timeframe)
    if len(bars) < lookback:
        return np.zeros(len(bars)), np.zeros(len(bars), np.bool_)
    try:
        proposed = strategy.propose(_each_column(bars, _read_only))
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}"
        raise StrategyFailed(strategy.name, f"propose on {bars.symbol}", reason) from failure
    return _accepted(strategy, bars, lookback, proposed)


def bars_needed(strategy: Strategy, timeframe: int) -> int:
    """The strategy's lookback on bars of `timeframe` ms behind the same guard; TimeframeTooLong passes as it is."""
    try:
        lookback = strategy.lookback(timeframe)
    except TimeframeTooLong:
        raise
    except Exception as failure:
        reason = f"{type(failure).__name__}: {failure}"
        raise StrategyFailed(strategy.name, f"lookback on bars of {format_duration(timeframe)}", reason) from failure
    if isinstance(lookback, bool) or not isinstance(lookback, int | np.integer) or lookback < 1:
        raise InvalidProposal(strategy.name, f"a lookback of {lookback!r} bars", "an integer of at least 1")
    return int(lookback)


def _read_only(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    seen = column.view()
    seen.flags.writeable = False
    return seen


def _each_column(bars: Bars, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Bars:
    ts, open, high = change(bars.ts), change(bars.open), change(bars.high)
    low, close, volume = change(bars.low), change(bars.close), change(bars.volume)
    return replace(bars, ts=ts, open=open, high=high, low=low, close=close, volume=volume)


def _accepted(strategy: Strategy, bars: Bars, lookback: int, proposed: object) -> tuple[Floats, Flags]:
    expected = f"a float64 array of shape ({len(bars)},), one signed leverage a bar"
    if not isinstance(proposed, np.ndarray):
        raise InvalidProposal(strategy.name, f"a {type(proposed).__name__}", expected, bars.symbol)
    if proposed.shape != (len(bars),) or proposed.dtype != np.float64:
        found = f"a {proposed.dtype} array of shape {proposed.shape}"
        raise InvalidProposal(strategy.name, found, expected, bars.symbol)
    valid: Flags = ~np.ma.getmaskarray(proposed)
    valid[: lookback - 1] = False
    values: Floats = np.where(valid, np.ma.getdata(proposed), 0.0)
    odd = np.flatnonzero(~np.isfinite(values))
    if len(odd):
        found, ts = f"a leverage of {float(values[odd[0]])}", int(bars.ts[odd[0]])
        raise InvalidProposal(strategy.name, found, "a finite number, or a masked one for no opinion", bars.symbol, ts)
    # -0.0 and 0.0 are one proposal; with one sign they are also one byte pattern.
    return values + 0.0, valid


def check_causal(strategy: Strategy, bars: Bars, cuts: Iterable[int]) -> None:
    """Refuse (ContractBroken) a strategy whose proposals change when bars they must not depend on are taken away.

    For each row t of `cuts`, bit for bit: the bars up to t give what all bars give up to t (nothing is seen of later
    bars); the last `lookback` bars up to t give what all bars give at t (nothing is remembered from before them).
    Asking twice gives the same. The error tells the first bar that differs.
    """
    whole = proposals(strategy, _copy(bars))
    _compare(strategy, bars, "changes its mind", whole, proposals(strategy, _copy(bars)), 0, len(bars) - 1)
    lookback = bars_needed(strategy, bars.timeframe)
    for cut in sorted(cuts):
        first = cut - lookback + 1
        without_future = proposals(strategy, _copy(bars[: cut + 1]))
        _compare(strategy, bars, "sees later bars", whole, without_future, 0, cut)
        if first >= 0:
            values, valid = proposals(strategy, _copy(bars[first : cut + 1]))
            _compare(strategy, bars, "remembers bars before its lookback", whole, (values[-1:], valid[-1:]), cut, cut)


def _copy(bars: Bars) -> Bars:
    """Bars in memory of their own: a view would let a strategy reach the bars that were cut off."""
    return _each_column(bars, np.copy)


def _compare(strategy: Strategy, bars: Bars, rule: str, whole: tuple[Floats, Flags], part: tuple[Floats, Flags],
             first: int, cut: int) -> None:  # fmt: skip
    """Compare rows first..cut of the whole with the rows of a part that starts at `first`."""
    values, valid = whole[0][first : cut + 1], whole[1][first : cut + 1]
    differing = np.flatnonzero((values != part[0]) | (valid != part[1]))
    if not len(differing):
        return
    row = int(differing[0])
    texts = [repr(float(v[row])) if ok[row] else "nothing" for v, ok in ((values, valid), part)]
    raise ContractBroken(strategy.name, rule, int(bars.ts[first + row]), int(bars.ts[cut]), *texts)
