"""Constructed paths: finer bars inside real ones, for histories that are known only at coarse steps."""

import math

import numpy as np
import numpy.typing as npt

from ringfence.markets.bars import Bars
from ringfence.markets.errors import InvalidTimeframe
from ringfence.risk.book import Floats

__all__ = ["path_within"]

_LEGS = 3


def path_within(bars: Bars, steps: int = 12, seed: int = 0) -> Bars:
    """CONSTRUCTED finer bars: each bar becomes `steps` bars that together are that bar again; only OHLCV is real.

    The path leaves the bar's open, touches its low and then its high when close >= open (its high and then its low when
    close < open), and ends at its close, in three legs of equal length as nearly as `steps` allows. Between these four
    points it is a straight line plus a bridge of noise that is clipped to [low, high]. Volume is split evenly.
    `resample` gives back every open, high, low, close and volume exactly.

    The noise of a bar is a pure function of (seed, its ts), the same for every symbol, so a slice of bars has the slice
    of the path. `steps` >= 3 must divide the timeframe (else InvalidTimeframe).
    """
    finer, remainder = divmod(bars.timeframe, max(steps, 1))
    if steps < _LEGS or remainder:
        expected = f"at least {_LEGS} steps that divide the bar into whole milliseconds, got {steps}"
        raise InvalidTimeframe(bars.symbol, bars.timeframe, finer, expected)
    nodes = _nodes(bars, steps, seed)
    start, end = nodes[:, :-1], nodes[:, 1:]
    return Bars(
        bars.symbol,
        finer,
        (bars.ts[:, None] + np.arange(steps, dtype=np.int64) * finer).ravel(),
        start.ravel(),
        np.maximum(start, end).ravel(),
        np.minimum(start, end).ravel(),
        end.ravel(),
        _split(bars.volume, steps).ravel(),
        bars.volume_known,
    )


def _nodes(bars: Bars, steps: int, seed: int) -> Floats:
    """(T, steps + 1) prices at the ends of the finer bars."""
    rising = bars.close >= bars.open
    corners = (
        bars.open,
        np.where(rising, bars.low, bars.high),
        np.where(rising, bars.high, bars.low),
        bars.close,
    )
    at = [round(leg * steps / _LEGS) for leg in range(_LEGS + 1)]
    swing = (bars.high - bars.low)[:, None] / math.sqrt(steps)
    noise = _uniform(bars.ts, steps, seed) - 0.5
    nodes = np.empty((len(bars), steps + 1))
    for leg in range(_LEGS):
        first, last = at[leg], at[leg + 1]
        length = last - first
        along = np.arange(length + 1) / length
        wander = np.concatenate((np.zeros((len(bars), 1)), noise[:, first:last].cumsum(axis=1)), axis=1)
        bridge = wander - along * wander[:, -1:]
        line = corners[leg][:, None] * (1.0 - along) + corners[leg + 1][:, None] * along
        nodes[:, first : last + 1] = line + swing * bridge
    # At the corners the bridge is exactly 0 and the line exactly the corner, so that clipping leaves them as they are.
    return np.clip(nodes, bars.low[:, None], bars.high[:, None])


def _uniform(ts: npt.NDArray[np.int64], steps: int, seed: int) -> Floats:
    """(T, steps) numbers in [0, 1): SplitMix64 of (seed, ts, step), so that no bar's path depends on another bar."""
    key = ts.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed % 2**64)
    mixed = key + np.arange(1, steps + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _split(volume: Floats, steps: int) -> Floats:
    """(T, steps) parts that are multiples of the volume's own last place: their sum is exact in any order."""
    place = np.spacing(volume)
    part = np.floor(volume / place / steps) * place
    parts = np.repeat(part[:, None], steps, axis=1)
    parts[:, -1] = volume - part * (steps - 1)
    return parts
