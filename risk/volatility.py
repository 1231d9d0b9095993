"""Volatility of a price from bars: eight estimators over a rolling window of time.

A value at row t is a function of exactly the last n = window // timeframe rows, bit for bit: each window is summed anew
in a fixed order and nothing is carried along. Of those rows the ones with ts > ts[t] - window count (all n of them,
unless bars are missing). The value is valid when n rows exist, at least half of n count, and the estimator has enough.

Missing bars are handled by time. A return over a gap keeps its square and brings its real elapsed time with it, so that
every estimator is a variance per unit of time: a sum over the window divided by the time that the sum covers. The range
estimators, which look inside bars only, take the squared return from the last close before a gap to the first open
after it as what the gap contributed; between adjacent bars they ignore it, as their authors do.

Units: times in ms, `ts` the bar's open; prices > 0; volatility a fraction per year of 365 days. Invalid rows hold 0.0.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ringfence.risk.book import Flags, Floats, Ints
from ringfence.risk.compiled import compiled
from ringfence.risk.errors import ColumnRefused, EstimatorRefused, PriceRefused, TimeRefused

__all__ = ["ESTIMATORS", "YEAR", "bipower", "close_to_close", "ewma", "garman_klass", "parkinson",
           "realised_variance", "realised_volatility", "rogers_satchell", "yang_zhang"]  # fmt: skip

YEAR = 365 * 86_400_000
"""ms in the year that volatilities are stated for."""

BARS_LEAST = {"close_to_close": 3, "ewma": 2, "parkinson": 1, "garman_klass": 1, "rogers_satchell": 1, "yang_zhang": 3,
              "realised_variance": 2, "bipower": 3}  # fmt: skip
"""The fewest bars from which each estimator exists."""

ESTIMATORS = tuple(BARS_LEAST)

_PRICE_LOW, _PRICE_HIGH = 1e-100, 1e100
_COLUMNS = ("ts", "open", "high", "low", "close", "high", "low")
_EXPECTED = (
    "",
    *("a finite price above zero",) * 4,
    "a high that is not below the open, low or close",
    "a low that is not above the open or close",
)
_TIME, _OPEN, _HIGH, _LOW, _CLOSE, _HIGH_INSIDE, _LOW_INSIDE = range(7)


@compiled
def _first_row(ts: Ints, row: int, first: int, rows: int, window: int) -> int:
    """The first of the last `rows` rows up to `row` with ts > ts[row] - window; `first` is the answer for row - 1."""
    first = max(first, row - rows + 1)
    while ts[first] <= ts[row] - window:
        first += 1
    return first


@compiled
def _enough(count: int, rows: int, least: int) -> bool:
    return count >= least and 2 * count >= rows


@compiled
def _returns(close: Floats) -> Floats:
    """ln(C[i] / C[i-1]); element 0 is never read."""
    returns = np.zeros(len(close))
    for row in range(1, len(close)):
        returns[row] = math.log(close[row] / close[row - 1])
    return returns


@compiled
def close_to_close(timeframe: int, window: int, ts: Ints, close: Floats) -> tuple[Floats, Flags]:
    """Sample deviation of log returns about their drift: sum (r - m dt)^2 / (S - sum dt^2 / S), m = sum r / S.

    dt are the times between closes and S their sum; unbiased for any spacing, and 1/(N-1) sum (r - mean)^2 / dt when
    the bars are evenly spaced. Arrays (T,), unchecked; returns (volatility, valid), each (T,).
    """
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    returns = _returns(close)
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 3):
            continue
        elapsed = float(ts[row] - ts[first])
        drift = math.log(close[row] / close[first]) / elapsed
        total, squares = 0.0, 0.0
        if ts[row] - ts[first] == (row - first) * timeframe:
            step = drift * timeframe
            squares = float(row - first) * timeframe * timeframe
            for i in range(first + 1, row + 1):
                total += (returns[i] - step) ** 2
        else:
            for i in range(first + 1, row + 1):
                spacing = float(ts[i] - ts[i - 1])
                total += (returns[i] - drift * spacing) ** 2
                squares += spacing * spacing
        volatility[row] = math.sqrt(total / (elapsed - squares / elapsed) * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def ewma(timeframe: int, window: int, half_life: int, ts: Ints, close: Floats) -> tuple[Floats, Flags]:
    """Exponentially weighted: sum w r^2 / sum w dt with w = 2^(-age / half_life), age = ts[t] - ts[i], normalised and
    cut off at the window.

    Equals the RiskMetrics recursion with lambda = 2^(-timeframe / half_life) up to what lies before the window.
    Arrays (T,), unchecked; returns (volatility, valid), each (T,).
    """
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    squares = _returns(close) ** 2
    decay = -math.log(2.0) / half_life
    weights, weight_sums = np.empty(rows), np.empty(rows)
    weight_sum = 0.0
    for age in range(rows):
        weights[age] = math.exp(decay * (age * timeframe))
        weight_sum += weights[age]
        weight_sums[age] = weight_sum
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 2):
            continue
        total, time = 0.0, 0.0
        if ts[row] - ts[first] == (row - first) * timeframe:
            for age in range(row - first):
                total += weights[age] * squares[row - age]
            time = weight_sums[row - first - 1] * timeframe
        else:
            for i in range(row, first, -1):
                weight = math.exp(decay * (ts[row] - ts[i]))
                total += weight * squares[i]
                time += weight * (ts[i] - ts[i - 1])
        volatility[row] = math.sqrt(total / time * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def _over_time(
    timeframe: int, window: int, ts: Ints, open: Floats, close: Floats, inside: Floats
) -> tuple[Floats, Flags]:
    """sum (variance inside each bar + squared return over each gap) / time from the first open to the last close.
    More than five arguments because bars are columns."""
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    steps = inside.copy()
    for row in range(1, size):
        if ts[row] - ts[row - 1] > timeframe:
            steps[row] += math.log(open[row] / close[row - 1]) ** 2
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 1):
            continue
        total = inside[first]
        for i in range(first + 1, row + 1):
            total += steps[i]
        volatility[row] = math.sqrt(total / float(ts[row] - ts[first] + timeframe) * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def parkinson(
    timeframe: int, window: int, ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats
) -> tuple[Floats, Flags]:
    """Mean of (ln H/L)^2 / (4 ln 2) per bar. Parkinson 1980. Arrays (T,), unchecked; returns (volatility, valid).
    More than five arguments because bars are columns."""
    inside = np.empty(len(ts))
    for row in range(len(ts)):
        inside[row] = math.log(high[row] / low[row]) ** 2 / (4.0 * math.log(2.0))
    return _over_time(timeframe, window, ts, open, close, inside)


@compiled
def garman_klass(
    timeframe: int, window: int, ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats
) -> tuple[Floats, Flags]:
    """Mean of (ln H/L)^2 / 2 - (2 ln 2 - 1)(ln C/O)^2 per bar. Garman and Klass 1980. Arrays (T,), unchecked; returns
    (volatility, valid). More than five arguments because bars are columns."""
    inside = np.empty(len(ts))
    for row in range(len(ts)):
        spread = math.log(high[row] / low[row])
        body = math.log(close[row] / open[row])
        inside[row] = max(0.5 * spread * spread - (2.0 * math.log(2.0) - 1.0) * body * body, 0.0)
    return _over_time(timeframe, window, ts, open, close, inside)


@compiled
def _rogers_satchell_inside(open: float, high: float, low: float, close: float) -> float:
    """u(u - c) + d(d - c) with u = ln H/O, d = ln L/O, c = ln C/O: never negative when L <= O, C <= H."""
    up, down, body = math.log(high / open), math.log(low / open), math.log(close / open)
    return max(up * (up - body) + down * (down - body), 0.0)


@compiled
def rogers_satchell(
    timeframe: int, window: int, ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats
) -> tuple[Floats, Flags]:
    """Mean of u(u - c) + d(d - c) per bar, blind to drift. Rogers and Satchell 1991. Arrays (T,), unchecked; returns
    (volatility, valid). More than five arguments because bars are columns."""
    inside = np.empty(len(ts))
    for row in range(len(ts)):
        inside[row] = _rogers_satchell_inside(open[row], high[row], low[row], close[row])
    return _over_time(timeframe, window, ts, open, close, inside)


@compiled
def yang_zhang(
    timeframe: int, window: int, ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats
) -> tuple[Floats, Flags]:
    """var(ln O/C') + k var(ln C/O) + (1 - k) mean(Rogers-Satchell), k = 0.34 / (1.34 + (N+1)/(N-1)). Yang, Zhang 2000.

    C' is the close before, N the bars that have one inside the window (all but its first). The sum of N such variances
    is divided by the time from the first close to the last, so a gap's return counts over the gap's own time.
    Arrays (T,), unchecked; returns (volatility, valid), each (T,). More than five arguments because bars are columns.
    """
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    jumps, bodies, inside = np.zeros(size), np.empty(size), np.empty(size)
    for row in range(size):
        if row > 0:
            jumps[row] = math.log(open[row] / close[row - 1])
        bodies[row] = math.log(close[row] / open[row])
        inside[row] = _rogers_satchell_inside(open[row], high[row], low[row], close[row])
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 3):
            continue
        count = float(row - first)
        jump_mean, body_mean, within = 0.0, 0.0, 0.0
        for i in range(first + 1, row + 1):
            jump_mean += jumps[i]
            body_mean += bodies[i]
            within += inside[i]
        jump_mean, body_mean = jump_mean / count, body_mean / count
        jump_squares, body_squares = 0.0, 0.0
        for i in range(first + 1, row + 1):
            jump_squares += (jumps[i] - jump_mean) ** 2
            body_squares += (bodies[i] - body_mean) ** 2
        k = 0.34 / (1.34 + (count + 1.0) / (count - 1.0))
        total = (jump_squares + k * body_squares) * count / (count - 1.0) + (1.0 - k) * within
        volatility[row] = math.sqrt(total / float(ts[row] - ts[first]) * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def realised_variance(timeframe: int, window: int, ts: Ints, close: Floats) -> tuple[Floats, Flags]:
    """sum r^2 / sum dt, jumps included. Andersen and Bollerslev 1998. Arrays (T,), unchecked; returns (volatility,
    valid): the square root of the realised variance per year."""
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    squares = _returns(close) ** 2
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 2):
            continue
        total = 0.0
        for i in range(first + 1, row + 1):
            total += squares[i]
        volatility[row] = math.sqrt(total / float(ts[row] - ts[first]) * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def bipower(timeframe: int, window: int, ts: Ints, close: Floats) -> tuple[Floats, Flags]:
    """(pi/2) sum |r[i]| |r[i-1]| / sum sqrt(dt[i] dt[i-1]): the variance without jumps. Barndorff-Nielsen and Shephard
    2004. Arrays (T,), unchecked; returns (volatility, valid): the square root of the bipower variation per year."""
    rows, size = window // timeframe, len(ts)
    volatility, valid = np.zeros(size), np.zeros(size, np.bool_)
    returns = np.abs(_returns(close))
    products, times = np.zeros(size), np.zeros(size)
    for row in range(2, size):
        products[row] = returns[row] * returns[row - 1]
        times[row] = math.sqrt(float(ts[row] - ts[row - 1]) * float(ts[row - 1] - ts[row - 2]))
    first = 0
    for row in range(rows - 1, size):
        first = _first_row(ts, row, first, rows, window)
        if not _enough(row - first + 1, rows, 3):
            continue
        total, time = 0.0, 0.0
        for i in range(first + 2, row + 1):
            total += products[i]
            time += times[i]
        volatility[row] = math.sqrt(0.5 * math.pi * total / time * YEAR)
        valid[row] = True
    return volatility, valid


@compiled
def _first_fault(timeframe: int, ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats) -> tuple[int, int]:
    """(row, which rule) of the first bar that no estimator may see; row = -1 when there is none. More than five
    arguments because bars are columns."""
    for row in range(len(ts)):
        if row > 0 and ts[row] - ts[row - 1] < timeframe:
            return row, _TIME
        if not _PRICE_LOW <= open[row] <= _PRICE_HIGH:
            return row, _OPEN
        if not _PRICE_LOW <= high[row] <= _PRICE_HIGH:
            return row, _HIGH
        if not _PRICE_LOW <= low[row] <= _PRICE_HIGH:
            return row, _LOW
        if not _PRICE_LOW <= close[row] <= _PRICE_HIGH:
            return row, _CLOSE
        if high[row] < max(open[row], low[row], close[row]):
            return row, _HIGH_INSIDE
        if low[row] > min(open[row], close[row]):
            return row, _LOW_INSIDE
    return -1, _TIME


def _read_only(column: npt.ArrayLike, kind: type) -> Any:
    """A read-only view, whatever came: numba compiles a function once more for arrays that may be written to."""
    view: npt.NDArray[Any] = np.ascontiguousarray(column, kind).view()
    view.flags.writeable = False
    return view


def _refuse_settings(estimator: str, timeframe: int, window: int, half_life: int | None, floor: float) -> None:
    if estimator not in BARS_LEAST:
        raise EstimatorRefused("estimator", estimator, "one of " + ", ".join(ESTIMATORS))
    if timeframe <= 0:
        raise EstimatorRefused("timeframe", timeframe, "a length of time above zero, in ms")
    least = BARS_LEAST[estimator] * timeframe
    if window < least:
        raise EstimatorRefused("window", window, f"at least {least} ms, {BARS_LEAST[estimator]} bars, for {estimator}")
    if estimator == "ewma" and (half_life is None or half_life <= 0):
        raise EstimatorRefused("half_life", half_life, "a length of time above zero, in ms, for ewma")
    if not 0.0 <= floor < math.inf:
        raise EstimatorRefused("floor", floor, "a finite fraction per year, not below zero")


def _refuse_bars(timeframe: int, ts: Ints, columns: tuple[Floats, Floats, Floats, Floats]) -> None:
    for name, column in zip(("ts", "open", "high", "low", "close"), (ts, *columns), strict=True):
        if column.shape != (ts.size,):
            raise ColumnRefused(name, f"shape {column.shape}", f"shape {(ts.size,)}, as the times have")
    row, rule = _first_fault(timeframe, ts, *columns)
    if row < 0:
        return
    if rule == _TIME:
        raise TimeRefused(int(ts[row]), int(ts[row - 1]), timeframe)
    name = _COLUMNS[rule]
    value = float(dict(zip(("open", "high", "low", "close"), columns, strict=True))[name][row])
    raise PriceRefused(name, int(ts[row]), value, _EXPECTED[rule])


def realised_volatility(
    estimator: str, timeframe: int, window: int, half_life: int | None, floor: float,
    ts: Ints, open: Floats, high: Floats, low: Floats, close: Floats,
) -> tuple[Floats, Flags]:  # fmt: skip
    """The volatility per year at each bar by the named estimator, never below the floor.

    Arrays (T,): `ts` int64 ms, prices float64; `half_life` in ms is read for `ewma` only. Returns (volatility, valid),
    each (T,); an invalid row holds 0.0. Refuses unknown settings (EstimatorRefused), columns of unequal length
    (ColumnRefused), bars out of order (TimeRefused), and prices that are not finite, not positive, or outside their
    bar's high and low (PriceRefused). More than five arguments because bars are columns and settings a mandate's.
    """
    _refuse_settings(estimator, timeframe, window, half_life, floor)
    times: Ints = _read_only(ts, np.int64)
    columns = (_read_only(open, np.float64), _read_only(high, np.float64), _read_only(low, np.float64),
               _read_only(close, np.float64))  # fmt: skip
    _refuse_bars(timeframe, times, columns)
    by_close = {"close_to_close": close_to_close, "realised_variance": realised_variance, "bipower": bipower}
    by_range = {"parkinson": parkinson, "garman_klass": garman_klass, "rogers_satchell": rogers_satchell,
                "yang_zhang": yang_zhang}  # fmt: skip
    if estimator == "ewma":
        volatility, valid = ewma(timeframe, window, half_life or 0, times, columns[3])  # None was refused above
    elif estimator in by_close:
        volatility, valid = by_close[estimator](timeframe, window, times, columns[3])
    else:
        volatility, valid = by_range[estimator](timeframe, window, times, *columns)
    return np.where(valid, np.maximum(volatility, floor), 0.0), valid
