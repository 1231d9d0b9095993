"""The guard that strategies run behind, and the check that catches those that cheat."""

import pickle
from typing import Any, ClassVar

import numpy as np
import pytest

from ringfence.markets.bars import Bars
from ringfence.strategies.causality import check_causal
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import ContractBroken, InvalidProposal, StrategyFailed, TimeframeTooLong
from ringfence.strategies.guard import bars_needed, proposals

HOUR = 3_600_000
SIZE = 60


def walk(seed: int = 1, size: int = SIZE) -> Bars:
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.01, size)))
    open = np.concatenate(([100.0], close[:-1]))
    ts = np.arange(size, dtype=np.int64) * HOUR
    high, low = np.maximum(open, close), np.minimum(open, close)
    return Bars("BTC/USDT:USDT", HOUR, ts, open, high, low, close, np.zeros(size))


class Given(Strategy):
    """Proposes what the test gives it."""

    name: ClassVar[str] = "given"
    answer: Any
    bars: Any = 1

    def lookback(self, timeframe: int) -> int:
        return self.bars

    def propose(self, bars: Bars) -> Any:
        return self.answer(bars) if callable(self.answer) else self.answer


def line_of(function: Any, below: int = 0) -> str:
    """`file:line` of a line of a function."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno + below}"


def test_proposals_are_the_strategys_leverage_with_the_first_lookback_masked() -> None:
    leverage, valid = proposals(Given(answer=np.arange(60.0), bars=4), walk())
    assert valid.tolist() == [False] * 3 + [True] * 57
    assert leverage.tolist() == [0.0] * 3 + list(range(3, 60))


def test_a_masked_row_is_no_opinion_whatever_stands_under_the_mask() -> None:
    answer = np.ma.MaskedArray(np.full(SIZE, 2.0), mask=np.arange(SIZE) == 7)
    answer.data[7] = np.nan
    leverage, valid = proposals(Given(answer=answer), walk())
    assert np.flatnonzero(~valid).tolist() == [7]
    assert leverage[7] == 0.0


@pytest.mark.parametrize("size", [0, 1, 2])
def test_fewer_bars_than_the_lookback_make_no_proposals_and_are_not_shown_to_the_strategy(size: int) -> None:
    leverage, valid = proposals(Given(answer="never looked at", bars=3), walk()[:size])
    assert (leverage.tolist(), valid.tolist()) == ([0.0] * size, [False] * size)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_a_leverage_that_is_no_number_is_refused_by_name_and_time(value: float) -> None:
    answer = np.ones(SIZE)
    answer[30] = value
    with pytest.raises(InvalidProposal) as refusal:
        proposals(Given(answer=answer, bars=5), walk())
    expected = f"proposed a leverage of {value} on BTC/USDT:USDT for the bar at 1970-01-02T06:00:00Z; expected a finite"
    assert expected in str(refusal.value)
    assert str(refusal.value).startswith(f"strategy given at {line_of(Given.propose)} proposed")
    assert refusal.value.ts == 30 * HOUR


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (np.ones(SIZE - 1), "a float64 array of shape (59,)"),
        (np.ones((SIZE, 1)), "a float64 array of shape (60, 1)"),
        (np.float64(1.0), "a float64"),
        (np.ones(SIZE, np.float32), "a float32 array of shape (60,)"),
        (np.ones(SIZE, np.int64), "a int64 array of shape (60,)"),
        (np.ones(SIZE, object), "a object array of shape (60,)"),
        ([1.0] * SIZE, "a list"),
        (None, "a NoneType"),
    ],
    ids=["a bar short", "two dimensions", "a scalar", "single precision", "integers", "objects", "a list", "nothing"],
)
def test_proposals_of_another_shape_or_type_are_refused(answer: object, found: str) -> None:
    with pytest.raises(InvalidProposal) as refusal:
        proposals(Given(answer=answer), walk())
    assert refusal.value.found == found
    assert "a float64 array of shape (60,)" in str(refusal.value)


@pytest.mark.parametrize("lookback", [0, -3, 1.5, True, None, "3"], ids=str)
def test_a_lookback_that_is_no_number_of_bars_is_refused(lookback: object) -> None:
    with pytest.raises(InvalidProposal, match=r"at .*\.py:\d+ proposed a lookback of .* expected an integer"):
        proposals(Given(answer=np.ones(SIZE), bars=lookback), walk())


def test_an_exception_of_the_strategy_is_told_with_its_name_and_kept_as_the_cause() -> None:
    def fails(bars: Bars) -> None:
        raise ZeroDivisionError("division by zero")

    with pytest.raises(StrategyFailed) as refusal:
        proposals(Given(answer=fails), walk())
    assert str(refusal.value) == (
        "strategy given failed in propose on BTC/USDT:USDT, 60 bars up to 1970-01-03T11:00:00Z at "
        f"{line_of(fails, 1)}: ZeroDivisionError: division by zero"
    )
    assert isinstance(refusal.value.__cause__, ZeroDivisionError)
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


def test_an_exception_in_the_lookback_is_told_too_and_a_timeframe_that_is_too_long_passes() -> None:
    class Forgetful(Given):
        def lookback(self, timeframe: int) -> int:
            return self.bars_within("lookback", 5 * HOUR, timeframe, 2) // self.bars

    assert bars_needed(Forgetful(answer=None), HOUR) == 5
    with pytest.raises(StrategyFailed, match=r"failed in lookback on bars of 1h at .*\.py:\d+: ZeroDivisionError"):
        bars_needed(Forgetful(answer=None, bars=0), HOUR)
    with pytest.raises(TimeframeTooLong) as refusal:
        bars_needed(Forgetful(answer=None), 4 * HOUR)
    assert str(refusal.value) == (
        "given: lookback of 5h is too short for bars of 4h; expected at least 8h or a shorter timeframe"
    )


def test_a_strategy_cannot_write_into_the_bars() -> None:
    def vandal(bars: Bars) -> np.ndarray:
        bars.close[0] = 1.0
        return np.ones(len(bars))

    bars = walk()
    with pytest.raises(StrategyFailed, match="read-only"):
        proposals(Given(answer=vandal), bars)
    assert bars.close.flags.writeable
    assert bars.close[0] != 1.0


def test_a_class_without_a_lookback_or_a_proposal_is_no_strategy() -> None:
    class Half(Strategy):
        name: ClassVar[str] = "half"

        def lookback(self, timeframe: int) -> int:
            return 1

    with pytest.raises(TypeError, match="abstract"):
        Half()


# The cheats. Each is a mistake that people make.


def clairvoyant(bars: Bars) -> np.ndarray:
    """Long before a rise: bar t + 1 decides at bar t."""
    return np.sign(np.append(bars.close[1:], bars.close[-1]) - bars.close)


def normalised(bars: Bars) -> np.ndarray:
    """Deviation from the mean of all bars, those to come included."""
    return (bars.close - bars.close.mean()) / bars.close.std()


def running_sum(bars: Bars) -> np.ndarray:
    """A rolling mean by differences of a cumulative sum: right to the last bits, and wrong in them."""
    total = np.concatenate(([0.0], np.cumsum(bars.close)))
    mean = np.full(len(bars), bars.close[0])
    mean[4:] = (total[5:] - total[:-5]) / 5
    return bars.close / mean


def recursive(bars: Bars) -> np.ndarray:
    """An exponential average that is carried from bar to bar and never forgets."""
    average = bars.close.copy()
    for row in range(1, len(bars)):
        average[row] = 0.9 * average[row - 1] + 0.1 * bars.close[row]
    return bars.close / average


def peeper(bars: Bars) -> np.ndarray:
    """Follows a view back to the array it was cut from."""
    close = bars.close
    while close.base is not None:
        close = close.base
    return np.full(len(bars), close[-1])


def moody(bars: Bars) -> np.ndarray:
    return np.random.default_rng().normal(size=len(bars))


def honest(bars: Bars) -> np.ndarray:
    """The same rolling mean, each window added up anew from its oldest bar."""
    mean = np.full(len(bars), 1.0)
    mean[4:] = sum((bars.close[age : len(bars) - 4 + age] for age in range(5)), np.zeros(len(bars) - 4)) / 5
    return bars.close / mean


@pytest.mark.parametrize(
    ("cheat", "rule"),
    [
        (clairvoyant, "sees later bars"),
        (normalised, "sees later bars"),
        (peeper, "sees later bars"),
        (running_sum, "remembers bars before its lookback"),
        (recursive, "remembers bars before its lookback"),
        (moody, "changes its mind"),
    ],
)
def test_a_strategy_that_cheats_is_caught_with_the_first_bar_that_differs(cheat: Any, rule: str) -> None:
    strategy, bars = Given(answer=cheat, bars=5), walk()
    proposals(strategy, bars)  # the guard alone does not notice
    with pytest.raises(ContractBroken) as refusal:
        check_causal(strategy, bars, range(5, SIZE))
    assert refusal.value.rule == rule
    place = line_of(Given.propose)
    assert f"strategy given at {place} {rule}: for the bar of BTC/USDT:USDT at 1970-01-0" in str(refusal.value)
    assert refusal.value.whole != refusal.value.truncated
    assert refusal.value.ts <= refusal.value.cut


def test_the_bar_that_is_told_is_the_last_one_a_clairvoyant_could_not_foresee() -> None:
    with pytest.raises(ContractBroken) as refusal:
        check_causal(Given(answer=clairvoyant), walk(), [20])
    assert (refusal.value.ts, refusal.value.cut, refusal.value.truncated) == (20 * HOUR, 20 * HOUR, "0.0")


def test_an_honest_strategy_passes_and_a_lookback_declared_too_short_does_not() -> None:
    check_causal(Given(answer=honest, bars=5), walk(), range(SIZE))
    with pytest.raises(ContractBroken, match="remembers bars before its lookback"):
        check_causal(Given(answer=honest, bars=4), walk(), range(SIZE))


def test_an_opinion_that_turns_into_none_is_a_difference_too() -> None:
    def only_with_a_past(bars: Bars) -> np.ma.MaskedArray:
        return np.ma.MaskedArray(np.zeros(len(bars)), mask=np.arange(len(bars)) < 10)

    with pytest.raises(ContractBroken) as refusal:
        check_causal(Given(answer=only_with_a_past, bars=3), walk(), [30])
    assert (refusal.value.whole, refusal.value.truncated) == ("0.0", "nothing")
