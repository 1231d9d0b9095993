"""Yardsticks: what the same money would have done without a vault, over the same bars, in plain floating point.

Two of them. Buy and hold: the coins themselves, bought once in the proportion of the mandate's shares. Plain CPPI with
a trailing floor (TIPP: Estep and Kritzman 1988): a floor at (1 - cap) of the highest value so far, an exposure of a
multiple of what stands above it, and nothing that keeps a gap from the floor. Values are per unit paid in, 1.0 before
the first bar; fractions and prices are float64.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ringfence.markets.market import Market
from ringfence.markets.slots import Slots
from ringfence.risk.book import Floats, Ints
from ringfence.risk.compiled import compiled

__all__ = ["Cushion", "Yardstick", "buy_and_hold", "cppi"]


@dataclass(frozen=True, eq=False)
class Yardstick:
    """A value at each of K decisions."""

    value: Floats
    """(K,) after the decision's trades; 1.0 is what was paid in."""
    low: Floats
    """(K,) the lowest value at any bar's low since the decision before."""
    turnover: float
    """Sum of what was traded, each time as a part of the value then."""
    costs: float
    """Sum of fees, spread and slippage, likewise."""
    funding: float
    """Sum of the funding paid, likewise; below 0: received."""
    locked: float
    """The part of the decisions after which less than a twentieth of a full cushion (cap x value) was left."""


_LOCKED = 1.0 / 20.0


class Cushion(NamedTuple):
    """The terms of a CPPI over N symbols."""

    cap: float
    """Loss cap: the floor stands at 1 - cap of the highest value so far."""
    multiplier: Floats
    """(N,) exposure over cushion."""
    gross_max: float
    """Largest sum of exposures over the value."""
    band: Floats
    """(N,) no trade while what is held is within this part of the target."""
    cost: Floats
    """(N,) fee, half the spread and slippage, of the value traded."""


def buy_and_hold(slots: Slots, span: tuple[int, int], weight: Floats, cost: Floats) -> Yardstick:
    """The coins bought at the close of the first slot at which all have a price, and kept: no leverage, no funding.

    `span` is the first and one past the last decision; `weight` (N,) sums to 1; `cost` (N,) is paid once, of the value
    bought.
    """
    market, (begin, end) = slots.market, _bars(slots, span)
    close, bottom = market.close[begin:end], market.low[begin:end]
    closing = np.flatnonzero(slots.closes[begin:end] >= 0)
    priced = (close[closing] > 0.0).all(axis=1)
    value, low = np.ones(len(closing)), np.ones(len(closing))
    if not priced.any():
        return Yardstick(value, low, 0.0, 0.0, 0.0, 0.0)
    first = int(np.argmax(priced))
    held = weight * (1.0 - cost) / close[closing[first]]
    value[first:] = close[closing[first:]] @ held
    worst = np.minimum.reduceat(bottom @ held, np.concatenate(([0], closing[:-1] + 1)))
    low[first], low[first + 1 :] = value[first], np.minimum(worst[first + 1 :], value[first + 1 :])
    return Yardstick(value, low, 1.0, float(weight @ cost), 0.0, 0.0)


def cppi(slots: Slots, span: tuple[int, int], terms: Cushion) -> Yardstick:
    """Plain CPPI on the same decisions (`span`: first and one past the last), prices and funding stamps.

    At a slot's close, with value A and highest value H (A included): floor F = (1 - cap) * H, cushion C = A - F or 0,
    exposure of symbol i = multiplier_i * C, all scaled down together to gross_max * A; bought or sold where what is
    held lies outside its band. A value that a gap has taken to nothing stays there.
    """
    market, bars = slots.market, slice(*_bars(slots, span))
    closes = np.where(slots.closes[bars] >= 0, slots.closes[bars] - span[0], -1)
    prices = np.stack([column[bars] for column in (market.close, market.low, market.mark_open, _settled(market))])
    traded = market.valid[bars] & (market.close[bars] > 0.0)
    size = span[1] - span[0]
    value, low, sums = np.ones(size), np.ones(size), np.zeros(4)
    _walk(closes, prices, traded, terms, (value, low, sums))
    return Yardstick(value, low, float(sums[0]), float(sums[1]), float(sums[2]), float(sums[3]) / size)


def _settled(market: Market) -> Floats:
    """(T, N) what all stamps of a bar take of the notional, together."""
    counts = (market.stamps_to - market.stamps_from).ravel()
    before = np.cumsum(counts) - counts
    stamp = np.repeat(market.stamps_from.ravel() - before, counts) + np.arange(counts.sum())
    bar = np.repeat(np.arange(counts.size), counts)
    owed = np.bincount(bar, market.stamps.rate[stamp], counts.size).astype(np.float64)
    return owed.reshape(market.stamps_from.shape)


def _bars(slots: Slots, span: tuple[int, int]) -> tuple[int, int]:
    return slots.span(span[0])[0], slots.span(span[1] - 1)[1]


@compiled
def _walk(closes: Ints, prices: Any, tradable: Any, terms: Any, record: Any) -> None:
    """`cppi` bar by bar. `sums`: traded, costs and funding as parts of the value, decisions at the floor."""
    cap, multiplier, gross_max, band, cost = terms
    value, low, sums = record
    cash, highest, worth, worst = 1.0, 1.0, 1.0, 1.0
    held = np.zeros(multiplier.size)
    for bar in range(closes.size):
        close, bottom, mark, rate = prices[0, bar], prices[1, bar], prices[2, bar], prices[3, bar]
        for i in range(held.size):
            paid = held[i] * mark[i] * rate[i]
            if paid != 0.0:
                cash -= paid
                sums[2] += paid / worth
        worst = min(worst, max(0.0, cash + (held * bottom).sum()))
        if closes[bar] < 0:
            continue
        worth = cash + (held * close).sum()
        if worth <= 0.0:  # the gap went through: what is left is owed to nobody here
            cash, worth = 0.0, 0.0
            held[:] = 0.0
        highest = max(highest, worth)
        targets = multiplier * max(0.0, worth - (1.0 - cap) * highest)
        gross = targets.sum()
        if gross > gross_max * worth:
            targets *= gross_max * worth / gross
        for i in range(held.size):
            if not tradable[bar, i]:
                continue
            traded = targets[i] - held[i] * close[i]
            if abs(traded) > band[i] * targets[i]:
                held[i] = targets[i] / close[i]
                due = abs(traded) * cost[i]
                cash -= traded + due
                sums[0] += abs(traded) / worth
                sums[1] += due / worth
        worth = max(0.0, cash + (held * close).sum())
        highest = max(highest, worth)
        row = closes[bar]
        value[row], low[row] = worth, min(worst, worth)
        worst = worth
        if worth - (1.0 - cap) * highest <= _LOCKED * cap * worth:
            sums[3] += 1.0
