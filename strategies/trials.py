"""Trials: a strategy at every bar of several made markets, among them those that people forget."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from ringfence.markets.bars import Bars, validated
from ringfence.risk.book import Floats, Ints
from ringfence.strategies.causality import Foretold, check_causal
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import InvalidParameters
from ringfence.strategies.guard import bars_needed, confined, of_bars, proposals
from ringfence.strategies.registry import build_of
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration

__all__ = ["MARKETS", "Trial", "exemplary", "trials", "walk"]

BEYOND = 160
"""Bars of each market beyond the lookback."""
_SYMBOL, _OTHER = "BTC/USDT:USDT", "ETH/USDT:USDT"
_START = 1_583_020_800_000
"""2020-03-01, UTC ms."""
_NOISE = 0.01


@dataclass(frozen=True)
class Trial:
    """What a strategy came to in one market."""

    market: str
    bars: int
    cuts: int
    """At how many bars it was asked alone."""
    refusal: RingfenceError | None
    """None where it keeps its contract."""


def trials(strategy: Strategy, timeframe: int) -> Iterator[Trial]:
    """The strategy at every bar of each market, of bars of `timeframe` ms; what it is refused for is in the trial.

    Refused: TimeframeTooLong, StrategyFailed and InvalidProposal of its lookback, without which there is no trial.
    """
    lookback = bars_needed(strategy, timeframe)
    for name, made in MARKETS.items():
        bars = made(lookback, timeframe)
        yield _trial(name, bars, lookback, partial(check_causal, strategy, bars))
    pair = walk(lookback, timeframe), walk(lookback, timeframe, seed=2, symbol=_OTHER)
    yield _trial("two markets in turn", pair[0], lookback, partial(_in_turn, strategy, lookback, pair))


def exemplary(kind: type[Strategy], stated: Mapping[str, str], timeframe: int) -> dict[str, str]:
    """The parameters stated, and for each that the strategy needs and that is not, a value it takes, as a mandate would
    write them. Refused: InvalidParameters where none of a few is taken."""
    open_choices = {
        parameter.name: _candidates(parameter.unit, timeframe)
        for parameter in kind.describe()
        if parameter.required and parameter.name not in stated
    }
    while True:
        chosen = {name: choices[0] for name, choices in open_choices.items() if choices}
        try:
            build_of(kind, {**stated, **chosen})
        except InvalidParameters as refusal:
            faulty = {path[0] for path, _ in refusal.problems if path} & set(chosen)
            if not faulty or any(len(open_choices[name]) == 1 for name in faulty):
                raise
            for name in faulty:
                open_choices[name] = open_choices[name][1:]
        else:
            return {**stated, **chosen}


def _candidates(unit: str, timeframe: int) -> tuple[str, ...]:
    if " | " in unit:
        return tuple(unit.split(" | "))
    bars = tuple(format_duration(count * timeframe) for count in (24, 72, 240))
    return {"duration": bars, "number": ("2", "0.5", "20"), "integer": ("20", "2", "1")}.get(unit, ("50%", "5%", "2"))


def _trial(market: str, bars: Bars, lookback: int, tried: Callable[[], None]) -> Trial:
    refusal = None
    try:
        with confined:
            tried()
    except RingfenceError as refused:
        refusal = refused
    return Trial(market, len(bars), len(bars) - lookback + 1, refusal)


def _in_turn(strategy: Strategy, lookback: int, pair: tuple[Bars, Bars]) -> None:
    """Refuse (ContractBroken) a strategy that carries something over from one market into the other."""
    wholes = [Foretold(strategy, lookback, bars, *proposals(strategy, bars, lookback)) for bars in pair]
    for cut in range(lookback - 1, len(pair[0])):
        for whole in wholes:
            shown = whole.bars[cut + 1 - lookback : cut + 1]
            leverage, valid = proposals(strategy, shown, lookback)
            whole.demand(shown, float(leverage[-1]), bool(valid[-1]))


# ------------------------------------------------------------------------------------------------- the markets


def walk(
    lookback: int,
    timeframe: int,
    *,
    seed: int = 1,
    symbol: str = _SYMBOL,
    price: float = 20_000.0,
    drift: float = 0.0,
    beyond: int = BEYOND,
) -> Bars:
    """A random walk of lookback + `beyond` bars, with a deviation of 1 % a bar around `drift` a bar."""
    dice = np.random.default_rng(seed)
    steps = dice.normal(drift, _NOISE, lookback + beyond)
    return _bars(symbol, timeframe, price * np.exp(np.cumsum(steps)), dice)


def _bars(symbol: str, timeframe: int, close: Floats, dice: np.random.Generator) -> Bars:
    open = np.append(close[:1], close[:-1])
    wick = 1.0 + np.abs(dice.normal(0.0, _NOISE / 4, (2, len(close))))
    high, low = np.maximum(open, close) * wick[0], np.minimum(open, close) / wick[1]
    ts: Ints = _START // timeframe * timeframe + np.arange(len(close), dtype=np.int64) * timeframe
    return validated(symbol, timeframe, ts, open, high, low, close, dice.uniform(1.0, 100.0, len(close)))


def _jumps(lookback: int, timeframe: int) -> Bars:
    """Up and down by 60 % every 13 bars, in turn."""
    calm = walk(lookback, timeframe)
    jumped = np.where(np.arange(len(calm)) // 13 % 2 == 0, 1.0, 0.4)
    return _bars(_SYMBOL, timeframe, calm.close * jumped, np.random.default_rng(3))


def _gaps(lookback: int, timeframe: int) -> Bars:
    """A twentieth of the bars missing one by one, and a hole of seven."""
    dice = np.random.default_rng(4)
    calm = walk(lookback, timeframe, beyond=BEYOND + lookback // 10 + 40)
    kept = dice.random(len(calm)) > 0.05
    kept[-80:-73] = False
    rows = np.flatnonzero(kept)
    return of_bars(calm, lambda column: column[rows])


def _still(lookback: int, timeframe: int) -> Bars:
    """One price, nothing traded."""
    calm, size = walk(lookback, timeframe), lookback + BEYOND
    price = np.full(size, 20_000.0)
    return validated(_SYMBOL, timeframe, calm.ts, price, price, price, price)


MARKETS: Final[Mapping[str, Callable[[int, int], Bars]]] = {
    "a walk": walk,
    "a rise": partial(walk, drift=0.005),
    "a fall": partial(walk, drift=-0.005),
    "jumps of 60%": _jumps,
    "missing bars": _gaps,
    "one price, no volume": _still,
    "prices of 0.00001": partial(walk, price=1e-5),
    "prices of a million": partial(walk, price=1e6),
    "just enough bars": partial(walk, beyond=0),
    "one bar more": partial(walk, beyond=1),
}
"""From lookback and timeframe to the bars."""
