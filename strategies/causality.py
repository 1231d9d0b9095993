"""Causality: whether what a strategy proposes from all bars is what it proposes from the last bars up to each.

A back-test asks once, with every bar there is; live asks at each bar, with `lookback` bars. A strategy that looks
ahead, or remembers anything in itself, in its module or from before its lookback, answers the two differently. So cuts
are asked alone and compared bit for bit: in order of time *before* the whole is asked, while the strategy cannot yet
have been shown what comes after them, and backwards after it, when it has.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.risk.book import Flags, Floats
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import ContractBroken
from ringfence.strategies.guard import bars_needed, confined, place_of_method, proposals

__all__ = ["Foretold", "check_causal", "foretold", "sampled_cuts"]

SEES, REMEMBERS, CHANGES = "sees later bars", "remembers bars before its lookback", "changes its mind"

_Answer = tuple[float, bool]
_GOLDEN = (5.0**0.5 - 1.0) / 2.0
_SHARE, _EACH = 40, 1000
"""One cut in so many lookbacks of bars, and in so many bars: what a cut shows, and what asking costs at all."""
_FEWEST, _MOST = 2, 12


@dataclass(frozen=True, eq=False)
class Foretold:
    """What a strategy proposes at every bar, asked once for all of them."""

    strategy: Strategy
    lookback: int
    bars: Bars
    leverage: Floats
    valid: Flags

    def demand(self, shown: Bars, leverage: float, valid: bool) -> None:
        """Refuse (ContractBroken) another proposal at the last of the bars `shown`, from those alone.

        Bars of which these are not a part, or that begin within the lookback, say nothing here.
        """
        cut = int(np.searchsorted(self.bars.ts, shown.ts[-1]))
        if cut == len(self.bars) or cut < self.lookback - 1 or _same(self.answer(cut), (leverage, valid)):
            return
        if not _equal(_window(self.bars, cut, self.lookback), shown):
            return
        raise self._told(cut, (leverage, valid))

    def answer(self, cut: int) -> _Answer:
        """The leverage at one bar, and whether there is an opinion."""
        return float(self.leverage[cut]), bool(self.valid[cut])

    def _told(self, cut: int, alone: _Answer) -> ContractBroken:
        """Why the answer from the last bars is another one: found by asking again."""
        rule = REMEMBERS
        if not _same(alone, _last(self.strategy, _window(self.bars, cut, self.lookback), self.lookback)):
            rule = CHANGES
        elif not _same(self.answer(cut), _last(self.strategy, self.bars[: cut + 1], self.lookback)):
            rule = SEES
        return _broken(self, rule, (cut, cut), alone)


def foretold(strategy: Strategy, bars: Bars) -> Foretold:
    """What the strategy proposes at every bar, once some cuts, chosen by the bars alone, have agreed with it.

    Refused: ContractBroken with the bar; what `proposals` refuses. The cuts cost less than a tenth of a back-test, or
    half a millisecond of one with few decisions (benchmarks/sampled_cuts.py); `check_causal` looks at every bar.
    """
    lookback = bars_needed(strategy, bars.timeframe)
    with confined:  # once for all that is asked here
        return _agreeing(strategy, bars, lookback)


def _agreeing(strategy: Strategy, bars: Bars, lookback: int) -> Foretold:
    cuts = sampled_cuts(bars, lookback)
    before = [(cut, _last(strategy, _window(bars, cut, lookback), lookback)) for cut in cuts]
    whole = Foretold(strategy, lookback, bars, *proposals(strategy, bars, lookback))
    for cut, alone in before:
        if not _same(whole.answer(cut), alone):
            raise whole._told(cut, alone)
    for cut in cuts[:1:-2]:
        alone = _last(strategy, _window(bars, cut, lookback), lookback)
        if not _same(whole.answer(cut), alone):
            raise _broken(whole, CHANGES, (cut, cut), alone)
    return whole


def sampled_cuts(bars: Bars, lookback: int) -> tuple[int, ...]:
    """A few rows at which the strategy is asked alone, in order: half of them before the largest moves, which are what
    looking ahead pays for, and half spread over all, where the bars themselves say."""
    first, last = lookback - 1, len(bars) - 1
    if last < first:
        return ()
    count = min(max(len(bars) // max(_SHARE * lookback, _EACH), _FEWEST), _MOST)
    moves = np.abs(bars.close[first + 1 :] / bars.close[first:last] - 1.0)
    largest = np.argpartition(moves, -(count // 2))[-(count // 2) :] if len(moves) > count else np.arange(len(moves))
    start = zlib.crc32(bars.close.tobytes()) / 2.0**32
    spread = ((start + _GOLDEN * np.arange(count - count // 2)) % 1.0 * (last - first + 1)).astype(np.int64)
    return tuple(sorted({*(first + largest).tolist(), *(first + spread).tolist()}))


def check_causal(strategy: Strategy, bars: Bars, cuts: Iterable[int] | None = None) -> None:
    """Refuse (ContractBroken) a strategy whose proposals change when bars they must not depend on are taken away.

    For each row t of `cuts` (left out: every row), bit for bit: the bars up to t give what all bars give up to t
    (nothing is seen of later bars); the last `lookback` bars up to t give what all bars give at t (nothing is
    remembered from before them). Asking again, and in another order, gives the same. The error tells the first bar that
    differs.
    """
    lookback = bars_needed(strategy, bars.timeframe)
    rows = range(len(bars)) if cuts is None else sorted(cuts)
    alone = {cut: _last(strategy, _window(bars, cut, lookback), lookback) for cut in rows if cut >= lookback - 1}
    whole = Foretold(strategy, lookback, bars, *proposals(strategy, bars, lookback))
    _compare(whole, CHANGES, proposals(strategy, bars, lookback), len(bars) - 1)
    for cut in rows:
        _compare(whole, SEES, proposals(strategy, bars[: cut + 1], lookback), cut)
        if cut in alone and not _same(whole.answer(cut), alone[cut]):
            raise whole._told(cut, alone[cut])
    for cut in reversed(alone):
        again = _last(strategy, _window(bars, cut, lookback), lookback)
        if not _same(whole.answer(cut), again):
            raise _broken(whole, CHANGES, (cut, cut), again)


def _window(bars: Bars, cut: int, lookback: int) -> Bars:
    return bars[cut + 1 - lookback : cut + 1]


def _last(strategy: Strategy, bars: Bars, lookback: int) -> _Answer:
    leverage, valid = proposals(strategy, bars, lookback)
    return float(leverage[-1]), bool(valid[-1])


def _same(one: _Answer, other: _Answer) -> bool:
    return one == other  # finite, and one zero: equal numbers are the same bits


def _equal(bars: Bars, shown: Bars) -> bool:
    """Whether the last of the bars shown are these."""
    tail = shown[-len(bars) :]
    columns = ("ts", "open", "high", "low", "close", "volume")
    return all(np.array_equal(getattr(bars, name), getattr(tail, name)) for name in columns)


def _compare(whole: Foretold, rule: str, part: tuple[Floats, Flags], cut: int) -> None:
    """Compare rows up to `cut` of the whole with the rows of a part."""
    differing = np.flatnonzero((whole.leverage[: cut + 1] != part[0]) | (whole.valid[: cut + 1] != part[1]))
    if len(differing):
        row = int(differing[0])
        answer = float(part[0][row]), bool(part[1][row])
        raise _broken(whole, rule, (row, cut), answer)


def _broken(whole: Foretold, rule: str, at: tuple[int, int], part: _Answer) -> ContractBroken:
    row, cut = at
    bars, place = whole.bars, place_of_method(type(whole.strategy), "propose")
    return ContractBroken(
        strategy=whole.strategy.name, rule=rule, symbol=bars.symbol, ts=int(bars.ts[row]), cut=int(bars.ts[cut]),
        whole=_written(whole.answer(row)), truncated=_written(part), lookback=whole.lookback, place=place,
    )  # fmt: skip


def _written(answer: _Answer) -> str:
    leverage, valid = answer
    return repr(leverage) if valid else "nothing"
