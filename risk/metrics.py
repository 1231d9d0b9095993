"""What a run of values came to: return, volatility, ratios and drawdown, each by one stated formula.

Plain numpy over float64 series; nothing here decides or is decided on. A value is a NAV per share, or anything else
that a deposit grew into; `ts` are UTC epoch milliseconds. A year has 365 days, for markets that never close. What does
not exist (a ratio of too few returns, a yearly rate of less than a year) is None.
"""

import math
from dataclasses import dataclass

import numpy as np

from ringfence.risk.book import Floats, Ints

__all__ = ["YEAR", "Drawdown", "Performance", "drawdown", "performance", "spread_cost", "years_between"]

YEAR = 365 * 86_400_000
"""Milliseconds of a year."""


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall from an earlier peak."""

    depth: float
    """1 - low / peak, a fraction; 0.0 where the value never fell."""
    peak_ts: int
    low_ts: int
    """The end of the step in which the lowest point lies."""
    recovered_ts: int | None
    """When the value first stood at the peak again; None: not within the series."""
    length: int
    """Milliseconds from the peak to the recovery, or else to the end of the series."""


@dataclass(frozen=True, slots=True)
class Performance:
    """What N + 1 values came to; n = N returns r_k = value_k / value_(k-1) - 1, p = n / years of them a year."""

    n: int
    years: float
    """(last ts - first ts) / 365 days."""
    periods_per_year: float | None
    """p: as many steps a year as there were, so that a market that closes has fewer."""
    total_return: float
    """last / first - 1."""
    cagr: float | None
    """(last / first)**(1 / years) - 1; None under one year, which nobody should blow up to a year."""
    volatility: float | None
    """s * sqrt(p), s the standard deviation of r with n - 1."""
    sharpe: float | None
    """mean(r) / s * sqrt(p), against a rate of 0."""
    sortino: float | None
    """mean(r) / d * sqrt(p), d = sqrt(mean(min(r, 0)**2)) over all n, against a rate of 0."""
    drawdown: Drawdown


def years_between(first: int, last: int) -> float:
    """The time between two moments (UTC ms) in years of 365 days."""
    return (last - first) / YEAR


def performance(ts: Ints, value: Floats, low: Floats | None = None) -> Performance:
    """Every figure of a series of at least one value; `low` (N+1,) is the lowest point since the value before, where it
    is known (an absent one, NaN, counts as none).

    A value that reached 0 has no returns after it. ValueError for series of different lengths or none at all.
    """
    if not len(ts) or len(ts) != len(value) or (low is not None and len(low) != len(ts)):
        raise ValueError("ts, value and low must be equally long and not empty")
    returns = np.diff(value) / np.where(value[:-1] > 0.0, value[:-1], 1.0)
    n, years = len(returns), years_between(int(ts[0]), int(ts[-1]))
    rate = n / years if years > 0.0 else None
    growth = float(value[-1] / value[0]) if value[0] > 0.0 else 1.0
    spread = float(np.std(returns, ddof=1)) if n > 1 else 0.0
    below = float(np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2))) if n else 0.0
    mean = float(np.mean(returns)) if n else 0.0
    scale = math.sqrt(rate) if rate is not None else 0.0
    return Performance(
        n=n,
        years=years,
        periods_per_year=rate,
        total_return=growth - 1.0,
        cagr=growth ** (1.0 / years) - 1.0 if years >= 1.0 else None,
        volatility=spread * scale if n > 1 and scale else None,
        sharpe=mean / spread * scale if spread > 0.0 and scale else None,
        sortino=mean / below * scale if below > 0.0 and n > 1 and scale else None,
        drawdown=drawdown(ts, value, low),
    )


def drawdown(ts: Ints, value: Floats, low: Floats | None = None) -> Drawdown:
    """max over k of 1 - min(low_k, value_k) / max(value_0 ... value_(k-1)): peaks are values, falls reach the lows."""
    worst = value if low is None else np.fmin(value, low)
    peaks = np.maximum.accumulate(value)
    before = np.concatenate((peaks[:1], peaks[:-1]))
    falls = 1.0 - worst / np.where(before > 0.0, before, 1.0)
    falls[0] = 0.0  # nothing stood higher before the first value
    at = int(np.argmax(falls))
    if falls[at] <= 0.0:
        return Drawdown(0.0, int(ts[0]), int(ts[0]), int(ts[0]), 0)
    peak = int(np.argmax(value[:at]))
    again = np.flatnonzero(value[at:] >= value[peak])
    recovered = int(ts[at + int(again[0])]) if len(again) else None
    end = int(ts[-1]) if recovered is None else recovered
    return Drawdown(float(falls[at]), int(ts[peak]), int(ts[at]), recovered, end - int(ts[peak]))


def spread_cost(lots: int, price: float, unit: float, part: float) -> float:
    """What half the spread and the slippage took from a fill of signed `lots` at `price`, minor units, unrounded.

    A purchase (+) filled at middle * (1 + part), a sale (-) at middle * (1 - part); `unit` minor units a lot at a price
    of 1; linear contracts.
    """
    middle = price / (1.0 + part if lots > 0 else 1.0 - part)
    return abs(lots) * unit * abs(price - middle)
