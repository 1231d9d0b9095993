"""The cuts that every run is held to: what they find, in which order they ask, and what they are chosen by."""

from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import PrivateAttr

from ringfence.markets.bars import Bars
from ringfence.strategies.causality import check_causal, foretold, sampled_cuts
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import ContractBroken, StrategyFailed
from ringfence.strategies.guard import proposals
from ringfence.strategies.trials import walk

HOUR = 3_600_000
DEPTH = 6
BARS = walk(DEPTH, HOUR, beyond=3_000)


class Sampled(Strategy):
    name: ClassVar[str] = "sampled"

    def lookback(self, timeframe: int) -> int:
        return DEPTH


class Clairvoyant(Sampled):
    """Long before a rise."""

    def propose(self, bars: Bars) -> Any:
        return np.sign(np.append(bars.close[1:], bars.close[-1]) - bars.close)


class SeldomClairvoyant(Sampled):
    """Looks at the next bar only where it is one of the 30 that move most: 1 % of all."""

    def propose(self, bars: Bars) -> Any:
        following = np.append(bars.close[1:] / bars.close[:-1] - 1.0, 0.0)
        return np.where(np.abs(following) > 0.0258, np.sign(following), 0.0)


SHOWN: dict[int, float] = {}
CALLS: list[int] = []


class Hoarder(Sampled):
    """Keeps every close that it was ever shown in its module, and looks the next one up there."""

    def propose(self, bars: Bars) -> Any:
        SHOWN.update(zip(bars.ts.tolist(), bars.close.tolist(), strict=True))
        following = [SHOWN.get(int(ts) + HOUR, float(close)) for ts, close in zip(bars.ts, bars.close, strict=True)]
        return np.sign(np.array(following) - bars.close)


class Counter(Sampled):
    """Its leverage grows with every call."""

    def propose(self, bars: Bars) -> Any:
        CALLS.append(len(bars))
        return np.full(len(bars), float(len(CALLS)))


class Grudge(Sampled):
    """Carries an average from call to call in itself."""

    _average: list[float] = PrivateAttr(default_factory=lambda: [1.0])

    def propose(self, bars: Bars) -> Any:
        out = np.empty(len(bars))
        for row, close in enumerate(bars.close.tolist()):
            self._average[0] += 0.001 * (close - self._average[0])
            out[row] = close / self._average[0]
        return out


class Greedy(Sampled):
    """Wants more bars than it says."""

    def propose(self, bars: Bars) -> Any:
        assert len(bars) > DEPTH, "too few"
        return np.zeros(len(bars))


class Honest(Sampled):
    def propose(self, bars: Bars) -> Any:
        seen = np.lib.stride_tricks.sliding_window_view(bars.close, DEPTH).max(axis=1)
        return np.append(np.zeros(DEPTH - 1), np.where(bars.close[DEPTH - 1 :] >= seen, 2.0, 0.0))


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    SHOWN.clear()
    CALLS.clear()


@pytest.mark.parametrize(
    ("cheat", "rule"),
    [
        (Clairvoyant, "sees later bars"),
        (SeldomClairvoyant, "sees later bars"),
        (Hoarder, "changes its mind"),
        (Counter, "changes its mind"),
        (Grudge, "changes its mind"),
    ],
)
def test_a_cheat_is_found_by_the_sampled_cuts_and_its_bar_is_named(cheat: type[Sampled], rule: str) -> None:
    with pytest.raises(ContractBroken) as refusal:
        foretold(cheat(), BARS)
    told = refusal.value
    assert (told.rule, told.strategy, told.symbol, told.lookback) == (rule, "sampled", "BTC/USDT:USDT", DEPTH)
    assert told.ts == told.cut
    assert told.ts in BARS.ts[list(sampled_cuts(BARS, DEPTH))]
    assert told.place == f"{__file__}:{cheat.propose.__code__.co_firstlineno}"
    assert told.whole != told.truncated


def test_one_that_fails_on_as_few_bars_as_it_says_is_refused_with_the_bar() -> None:
    assert len(proposals(Greedy(), BARS)[0]) == len(BARS)
    with pytest.raises(StrategyFailed, match=r"propose on BTC/USDT:USDT, 6 bars up to 2020-.*AssertionError: too few"):
        foretold(Greedy(), BARS)


def test_an_honest_one_is_foretold_as_it_proposes() -> None:
    told = foretold(Honest(), BARS)
    leverage, valid = proposals(Honest(), BARS)
    assert told.leverage.tolist() == leverage.tolist()
    assert told.valid.tolist() == valid.tolist()


def test_every_bar_is_looked_at_where_no_cuts_are_named() -> None:
    class Once(Honest):
        """Looks ahead at one single bar."""

        def propose(self, bars: Bars) -> Any:
            proposed = super().propose(bars)
            at = np.flatnonzero(bars.ts == BARS.ts[57])
            if len(at) and at[0] + 1 < len(bars):
                proposed[at[0]] = 9.0
            return proposed

    check_causal(Honest(), BARS[:100])
    with pytest.raises(ContractBroken) as refusal:
        check_causal(Once(), BARS[:100])
    assert (refusal.value.ts, refusal.value.rule) == (BARS.ts[57], "sees later bars")


def test_the_cuts_come_from_the_bars_alone_and_stand_before_the_largest_moves_and_elsewhere() -> None:
    cuts = sampled_cuts(BARS, DEPTH)
    assert cuts == sampled_cuts(walk(DEPTH, HOUR, beyond=3_000), DEPTH)
    assert cuts == tuple(sorted(set(cuts)))
    assert cuts != sampled_cuts(walk(DEPTH, HOUR, beyond=3_000, seed=2), DEPTH)
    moves = np.abs(np.diff(BARS.close) / BARS.close[:-1])
    moves[: DEPTH - 1] = 0.0
    assert int(moves.argmax()) in cuts
    assert any(cut not in np.argsort(moves)[-20:] for cut in cuts)


@pytest.mark.parametrize("size", [*range(1, DEPTH + 6), 40, 999, 3000])
def test_cuts_are_rows_with_a_whole_lookback_however_few_bars_there_are(size: int) -> None:
    cuts = sampled_cuts(BARS[:size], DEPTH)
    assert all(DEPTH - 1 <= cut < size for cut in cuts)
    assert bool(cuts) == (size >= DEPTH)
    assert len(cuts) <= 12
    foretold(Honest(), BARS[:size])


# ---------------------------------------------------------------------------------------- what was foretold


def test_what_is_proposed_later_must_be_what_was_foretold() -> None:
    told = foretold(Honest(), BARS)
    shown = BARS[100 : 100 + DEPTH]
    leverage, valid = proposals(Honest(), shown)
    told.demand(shown, float(leverage[-1]), bool(valid[-1]))
    with pytest.raises(ContractBroken) as refusal:
        told.demand(shown, float(leverage[-1]) + 1.0, True)
    assert refusal.value.ts == shown.ts[-1]


@pytest.mark.parametrize(
    "shown",
    [walk(DEPTH, HOUR, seed=2, beyond=50)[10:40], walk(DEPTH, HOUR, beyond=4_000)[3_990:], BARS[: DEPTH - 1]],
    ids=["other bars of the same time", "bars after it", "bars within the first lookback"],
)
def test_of_bars_that_are_no_part_of_what_was_foretold_nothing_is_said(shown: Bars) -> None:
    foretold(Honest(), BARS).demand(shown, 77.0, True)
