"""Every figure of a series against pandas and empyrical, and the cases where there is none."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ringfence.risk.metrics import YEAR, drawdown, performance, spread_cost

HOUR = 3_600_000
START = 1_609_459_200_000


def series(values: list[float], step: int = HOUR) -> tuple[np.ndarray, np.ndarray]:
    return START + step * np.arange(len(values), dtype=np.int64), np.array(values, np.float64)


def a_path(seed: int, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    dice = np.random.default_rng(seed)
    returns = dice.standard_t(4, n) * 0.004 + 0.00002
    return series([1.0, *np.cumprod(1.0 + returns).tolist()])


@pytest.mark.parametrize("seed", range(3))
def test_ratios_are_those_of_empyrical(seed: int) -> None:
    import empyrical  # several seconds, which only these three cases need

    ts, value = a_path(seed)
    found = performance(ts, value)
    returns = pd.Series(value).pct_change().iloc[1:]
    assert found.n == 20_000
    assert found.periods_per_year == pytest.approx(8_760.0, rel=1e-12)
    assert found.volatility == pytest.approx(empyrical.annual_volatility(returns, annualization=8_760), rel=1e-9)
    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, annualization=8_760), rel=1e-9)
    assert found.sortino == pytest.approx(empyrical.sortino_ratio(returns, annualization=8_760), rel=1e-9)
    assert found.cagr == pytest.approx(empyrical.cagr(returns, annualization=8_760), rel=1e-9)
    assert found.total_return == pytest.approx(empyrical.cum_returns_final(returns), rel=1e-9)
    assert found.drawdown.depth == pytest.approx(-empyrical.max_drawdown(returns), rel=1e-9)


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60))
@example([1.0, 1.0, 1.0])
@example([3.0, 2.0, 1.0])
@example([1.0, 2.0, 1.0, 2.0, 0.5])
def test_the_drawdown_is_that_of_pandas_running_maximum(values: list[float]) -> None:
    ts, value = series(values)
    found, plain = drawdown(ts, value), pd.Series(values)
    falls = 1.0 - plain / plain.cummax()
    assert found.depth == pytest.approx(float(falls.max()), abs=1e-15)
    if found.depth > 0.0:
        low = int(falls.idxmax())
        assert found.low_ts == ts[low]
        assert found.peak_ts == ts[int(plain[:low].idxmax())]
        again = plain[low:][plain[low:] >= plain[:low].max()]
        assert found.recovered_ts == (None if again.empty else ts[again.index[0]])


def test_a_fall_between_two_values_counts_from_the_peak_before_it() -> None:
    ts, value = series([1.0, 1.2, 1.3, 1.25])
    found = drawdown(ts, value, np.array([1.0, 0.9, 0.6, 1.2]))
    assert found.depth == pytest.approx(1.0 - 0.6 / 1.2)
    assert (found.peak_ts, found.low_ts, found.recovered_ts) == (ts[1], ts[2], ts[2])
    assert found.length == HOUR


def test_a_fall_that_is_not_made_good_lasts_to_the_end() -> None:
    ts, value = series([1.0, 2.0, 1.0, 1.5, 1.9])
    found = drawdown(ts, value)
    assert (found.depth, found.recovered_ts, found.length) == (0.5, None, 3 * HOUR)


def test_an_absent_low_is_none() -> None:
    ts, value = series([1.0, 0.9, 1.0])
    assert drawdown(ts, value, np.array([np.nan, np.nan, np.nan])) == drawdown(ts, value)


def test_less_than_a_year_has_no_yearly_return() -> None:
    short, whole = series([1.0, 1.1], YEAR - 1), series([1.0, 1.1], YEAR)
    assert performance(*short).cagr is None
    assert performance(*whole).cagr == pytest.approx(0.1)
    assert performance(*series([1.0, 1.5, 1.21], YEAR)).cagr == pytest.approx(0.1)


def test_what_does_not_exist_is_none() -> None:
    alone = performance(*series([1.0]))
    assert (alone.n, alone.periods_per_year, alone.volatility, alone.sharpe, alone.sortino) == (
        0,
        None,
        None,
        None,
        None,
    )
    once = performance(*series([1.0, 2.0]))
    assert (once.total_return, once.volatility, once.sharpe, once.sortino) == (1.0, None, None, None)
    still = performance(*series([1.0, 1.0, 1.0]))
    assert (still.volatility, still.sharpe, still.sortino) == (0.0, None, None)
    only_up = performance(*series([1.0, 2.0, 3.0]))
    assert only_up.sortino is None
    assert only_up.sharpe is not None


def test_a_market_that_closes_has_fewer_periods_a_year() -> None:
    ts = START + 86_400_000 * np.array([0, 1, 2, 3, 4, 7], np.int64)
    found = performance(ts, np.linspace(1.0, 1.1, 6))
    assert found.periods_per_year == pytest.approx(5 / (7 / 365))


def test_a_value_of_nothing_has_no_returns_after_it() -> None:
    found = performance(*series([1.0, 0.0, 0.0]))
    assert found.total_return == -1.0
    assert found.drawdown.depth == 1.0
    assert all(map(math.isfinite, (found.volatility or 0.0, found.sharpe or 0.0)))


@pytest.mark.parametrize(("ts", "value", "low"), [([], [], None), ([1, 2], [1.0], None), ([1], [1.0], [1.0, 1.0])])
def test_series_that_do_not_belong_together_are_refused(ts: list[int], value: list[float], low: list[float]) -> None:
    with pytest.raises(ValueError, match="equally long"):
        performance(np.array(ts, np.int64), np.array(value), None if low is None else np.array(low))


def test_the_spread_is_what_a_fill_lies_from_its_middle() -> None:
    part, middle = 0.0003, 50_000.0
    assert spread_cost(7, middle * (1 + part), 1_000.0, part) == pytest.approx(7 * 1_000 * middle * part)
    assert spread_cost(-7, middle * (1 - part), 1_000.0, part) == pytest.approx(7 * 1_000 * middle * part)
    assert spread_cost(7, middle, 1_000.0, 0.0) == 0.0
