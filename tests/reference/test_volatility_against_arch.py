"""Volatility against what others compute: arch's variance recursions and pandas' rolling and weighted windows."""

import math

import numpy as np
import pandas as pd
import pytest
from arch.univariate import GARCH, HARCH, EWMAVariance, RiskMetrics2006
from arch.univariate.volatility import VolatilityProcess

from ringfence.risk.volatility import YEAR, realised_volatility

HOUR = 3_600_000


def closes(seed: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turbulence = np.exp(np.cumsum(rng.normal(0.0, 0.05, size)))
    return 100.0 * np.exp(np.cumsum(rng.standard_t(5, size) * 0.005 * np.minimum(turbulence, 5.0)))


def ours(name: str, close: np.ndarray, window: int, half_life: int | None = None) -> np.ndarray:
    """Variance per hour at each bar; NaN where there is none."""
    ts = np.arange(len(close), dtype=np.int64) * HOUR
    volatility, valid = realised_volatility(name, HOUR, window, half_life, 0.0, ts, close, close, close, close)
    return np.where(valid, volatility**2 * HOUR / YEAR, np.nan)


def variances(
    process: VolatilityProcess, parameters: list[float], returns: np.ndarray, backcasts: int | None = None
) -> np.ndarray:
    """arch's conditional variances: element t is made from the returns before t."""
    bounds = np.tile([0.0, 1e6], (len(returns), 1))
    backcast = returns[0] ** 2 if backcasts is None else np.full(backcasts, returns[0] ** 2)
    return process.compute_variance(np.array(parameters), returns, np.zeros(len(returns)), backcast, bounds)


@pytest.mark.parametrize("decay", [0.94, 0.97, 0.6])
def test_ewma_is_the_riskmetrics_recursion_once_the_window_is_long(decay: float) -> None:
    close = closes(1, 3_000)
    returns = np.diff(np.log(close))
    half_life = round(math.log(0.5) / math.log(decay) * HOUR)
    exact = 0.5 ** (HOUR / half_life)
    bars = math.ceil(math.log(1e-16) / math.log(exact)) + 2
    mine = ours("ewma", close, bars * HOUR, half_life)[bars:-1]
    for process, parameters in ((EWMAVariance(lam=exact), []), (GARCH(p=1, q=1), [0.0, 1.0 - exact, exact])):
        theirs = variances(process, parameters, returns)[bars:]
        assert len(mine) > 1_000
        assert mine == pytest.approx(theirs, rel=1e-9)


def test_a_short_window_differs_from_the_recursion_by_no_more_than_the_weight_it_cuts_off() -> None:
    close = closes(2, 2_000)
    squares = np.diff(np.log(close)) ** 2
    half_life, bars = 11 * HOUR, 45
    decay = 0.5 ** (1 / 11)
    mine = ours("ewma", close, bars * HOUR, half_life)[bars:-1]
    theirs = variances(EWMAVariance(lam=decay), [], np.sqrt(squares))[bars:]
    weight_cut = decay ** (bars - 1)
    # theirs = (1 - cut) mine + cut before, where `before` is a mean of earlier squares
    before = (theirs - (1.0 - weight_cut) * mine) / weight_cut
    assert before.min() >= -1e-12
    assert before.max() <= squares.max() * (1 + 1e-9)


def test_ewma_is_pandas_adjusted_weighting_of_each_window() -> None:
    close = closes(3, 400)
    squares = pd.Series(np.log(close)).diff() ** 2
    mine = ours("ewma", close, 30 * HOUR, 7 * HOUR)
    theirs = [squares[t - 28 : t + 1].ewm(halflife=7, adjust=True).mean().iloc[-1] for t in range(29, 400)]
    assert np.isnan(mine[:29]).all()
    assert mine[29:] == pytest.approx(np.array(theirs), rel=1e-10)


def test_close_to_close_is_pandas_rolling_variance_of_log_returns() -> None:
    close = closes(4, 400)
    theirs = pd.Series(np.log(close)).diff().rolling(29).var()
    assert ours("close_to_close", close, 30 * HOUR)[29:] == pytest.approx(theirs.to_numpy()[29:], rel=1e-9)


def test_realised_variance_is_archs_recursion_over_the_same_lags() -> None:
    close = closes(5, 400)
    returns = np.diff(np.log(close))
    theirs = variances(HARCH(lags=[24]), [0.0, 1.0], returns)[24:]
    assert ours("realised_variance", close, 25 * HOUR)[24:-1] == pytest.approx(theirs, rel=1e-10)


def test_realised_variance_is_pandas_rolling_mean_of_squares_by_time_when_bars_are_missing() -> None:
    close = closes(6, 600)
    kept = np.random.default_rng(7).random(600) >= 0.2
    ts = np.arange(600, dtype=np.int64)[kept] * HOUR
    close = close[kept]
    volatility, valid = realised_volatility(
        "realised_variance", HOUR, 30 * HOUR, None, 0.0, ts, close, close, close, close
    )
    stamps = pd.to_datetime(ts, unit="ms")
    # The first bar of each window has no return inside it: a window open on the left by one bar more, less its return.
    squares = pd.Series(np.log(close), index=stamps).diff() ** 2
    checked = 0
    for row in np.flatnonzero(valid):
        inside = squares[stamps > stamps[row] - pd.Timedelta(hours=30)][: stamps[row]]
        elapsed = (stamps[row] - inside.index[0]) / pd.Timedelta(hours=1)
        per_hour = inside.iloc[1:].sum() / elapsed
        assert volatility[row] ** 2 * HOUR / YEAR == pytest.approx(per_hour, rel=1e-10)
        checked += 1
    assert checked > 400


def test_the_2006_riskmetrics_mixture_is_a_weighted_sum_of_our_weightings() -> None:
    """Zumbach 2007: time constants tau_k = 4 sqrt(2)^k, weights proportional to 1 - ln tau_k / ln 1560."""
    close = closes(8, 2_500)
    taus = 4.0 * math.sqrt(2.0) ** np.arange(6)
    mixing = 1.0 - np.log(taus) / math.log(1560.0)
    bars = 1_000
    family = [ours("ewma", close, bars * HOUR, round(tau * math.log(2.0) * HOUR))[bars:-1] for tau in taus]
    mixture = (mixing / mixing.sum()) @ np.array(family)
    process = RiskMetrics2006(tau0=1560, tau1=4, kmax=6, rho=math.sqrt(2.0))
    returns = np.diff(np.log(close))
    assert mixture == pytest.approx(variances(process, [], returns, backcasts=6)[bars:], rel=1e-6)
