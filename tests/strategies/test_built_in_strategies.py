"""The built-in strategies: their formulas, their lookbacks, and the contract for every strategy that is registered."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.markets.bars import Bars
from ringfence.risk.volatility import YEAR, realised_volatility
from ringfence.strategies.causality import check_causal
from ringfence.strategies.guard import proposals
from ringfence.strategies.registry import build, catalogue

HOUR = 3_600_000
SPECS = {
    "constant": {"leverage": -2.5},
    "liquidation_distance": {"window": "12h"},
    "trend": {"lookback": "20h", "target_volatility": "80%", "window": "12h"},
    "vol_target": {"target_volatility": "150%", "half_life": "4h", "window": "12h"},
}


def walk(seed: int, size: int = 60, missing: float = 0.0) -> Bars:
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, size)))
    open = np.concatenate(([100.0], close[:-1]))
    high = np.maximum(open, close) * np.exp(np.abs(rng.normal(0.0, 0.003, size)))
    low = np.minimum(open, close) * np.exp(-np.abs(rng.normal(0.0, 0.003, size)))
    ts = np.arange(size, dtype=np.int64) * HOUR
    kept = np.flatnonzero(rng.random(size) >= missing)
    columns = (column[kept] for column in (ts, open, high, low, close, np.ones(size)))
    return Bars("BTC/USDT:USDT", HOUR, *columns)


def sigma(bars: Bars, *, window: int, half_life: int | None, floor: float = 0.1, estimator: str = "ewma") -> np.ndarray:
    volatility, _ = realised_volatility(
        estimator, HOUR, window, half_life, floor, bars.ts, bars.open, bars.high, bars.low, bars.close
    )
    return volatility


def test_every_registered_strategy_has_a_specification_here() -> None:
    own = {
        name
        for name, strategy in catalogue().strategies.items()
        if strategy.__module__.startswith("ringfence.strategies.")
    }
    assert own == set(SPECS)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.1, 0.4]), cut=st.integers(0, 59))
@pytest.mark.parametrize("name", SPECS)
def test_no_strategy_sees_later_bars_or_remembers_earlier_ones(name: str, seed: int, missing: float, cut: int) -> None:
    bars = walk(seed, missing=missing)
    check_causal(build({"name": name, **SPECS[name]}), bars, [min(cut, len(bars) - 1), len(bars) - 1])


@pytest.mark.parametrize("estimator", ["close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang",
                                       "realised_variance", "bipower"])  # fmt: skip
def test_no_estimator_makes_a_strategy_see_or_remember(estimator: str) -> None:
    strategy = build({"name": "vol_target", "target_volatility": "1", "window": "9h", "estimator": estimator})
    check_causal(strategy, walk(3, missing=0.2), range(0, 40, 3))


@pytest.mark.parametrize("name", SPECS)
def test_a_strategy_written_down_and_read_again_is_the_same(name: str) -> None:
    strategy = build({"name": name, **SPECS[name]})
    assert build({"name": name, **strategy.model_dump(mode="json")}) == strategy
    with pytest.raises(ValueError, match="frozen"):
        strategy.__setattr__(next(iter(type(strategy).model_fields)), 1)


@pytest.mark.parametrize("name", SPECS)
def test_every_parameter_is_described_with_a_unit_and_a_meaning(name: str) -> None:
    strategy = catalogue().strategies[name]
    assert len(strategy.summary()) > 20
    described = strategy.describe()
    assert {parameter.name for parameter in described} >= set(SPECS[name])
    for parameter in described:
        assert parameter.unit in ("fraction", "rate", "duration", "number", "true | false") or " | " in parameter.unit
        assert parameter.meaning
        assert not (parameter.required and parameter.default is not None)


def test_defaults_are_described_as_a_mandate_would_write_them() -> None:
    defaults = {
        parameter.name: parameter.default for parameter in catalogue().strategies["liquidation_distance"].describe()
    }
    assert defaults == {
        "estimator": "ewma", "window": "3d", "half_life": None, "floor": "10%", "leverage_max": "100",
        "maintenance_rate": "0.5%", "sigmas": "4", "horizon": "8h", "slippage": "0%", "side": "long",
    }  # fmt: skip
    written = {name: default for name, default in defaults.items() if default is not None}
    assert build({"name": "liquidation_distance", **written}) == build({"name": "liquidation_distance"})


@pytest.mark.parametrize(
    ("spec", "bars"),
    [
        ({"name": "constant", "leverage": 1}, 1),
        ({"name": "vol_target", "target_volatility": "1", "window": "3d"}, 72),
        ({"name": "vol_target", "target_volatility": "1", "window": "3h30m"}, 3),
        ({"name": "liquidation_distance", "window": "1d"}, 24),
        ({"name": "trend", "target_volatility": "1", "lookback": "1d", "window": "3d"}, 72),
        ({"name": "trend", "target_volatility": "1", "lookback": "3d", "window": "1d"}, 73),
    ],
)
def test_the_lookback_is_the_exact_number_of_bars(spec: dict[str, object], bars: int) -> None:
    strategy = build(spec)
    assert strategy.lookback(HOUR) == bars
    _, valid = proposals(strategy, walk(1, size=bars + 3))
    assert valid.tolist() == [False] * (bars - 1) + [True] * 4


def test_the_control_never_moves() -> None:
    leverage, valid = proposals(build({"name": "constant", "leverage": -2.5}), walk(1))
    assert valid.all()
    assert set(leverage) == {-2.5}
    assert set(proposals(build({"name": "constant", "leverage": 0}), walk(1))[0]) == {0.0}


@pytest.mark.parametrize(("side", "sign"), [("long", 1.0), ("short", -1.0)])
def test_vol_target_brings_the_position_to_its_target(side: str, sign: float) -> None:
    bars = walk(2)
    spec = {"name": "vol_target", "target_volatility": "150%", "half_life": "4h", "window": "12h", "side": side}
    leverage, valid = proposals(build(spec), bars)
    volatility = sigma(bars, window=12 * HOUR, half_life=4 * HOUR)
    assert leverage[valid] * volatility[valid] == pytest.approx(sign * 1.5, rel=1e-14)


def test_a_half_life_that_is_not_given_is_a_sixth_of_the_window() -> None:
    bars, spec = walk(2), {"name": "vol_target", "target_volatility": "150%", "window": "12h"}
    given_one = proposals(build({**spec, "half_life": "2h"}), bars)[0]
    assert proposals(build(spec), bars)[0].tobytes() == given_one.tobytes()


def test_leverage_is_held_by_its_maximum_and_by_the_floor_of_the_volatility() -> None:
    bars = walk(2)
    spec = {"name": "vol_target", "target_volatility": "150%", "window": "12h"}
    free, valid = proposals(build(spec), bars)
    bound = float(np.median(free[valid]))
    capped, _ = proposals(build({**spec, "leverage_max": bound}), bars)
    assert np.array_equal(capped, np.minimum(free, bound))
    short, _ = proposals(build({**spec, "leverage_max": bound, "side": "short"}), bars)
    assert np.array_equal(short, 0.0 - capped)
    floored, _ = proposals(build({**spec, "floor": f"{150 / bound:.6f}%"}), bars)
    assert floored[valid].max() == pytest.approx(bound, rel=1e-6)
    still = Bars("BTC/USDT:USDT", HOUR, bars.ts, *(np.full(60, 5.0),) * 4, bars.volume)
    assert proposals(build(spec), still)[0][-1] == pytest.approx(15.0)


@pytest.mark.parametrize(("side", "sign"), [("long", 1.0), ("short", -1.0)])
def test_liquidation_distance_keeps_the_liquidation_price_k_deviations_away(side: str, sign: float) -> None:
    bars = walk(4)
    spec = {"name": "liquidation_distance", "maintenance_rate": "1%", "sigmas": 3, "horizon": "2h", "slippage": "0.5%",
            "window": "12h", "half_life": "4h", "side": side}  # fmt: skip
    leverage, valid = proposals(build(spec), bars)
    deviation = sigma(bars, window=12 * HOUR, half_life=4 * HOUR)[valid] * math.sqrt(2 * HOUR / YEAR)
    distance = sign / leverage[valid] - 0.01
    assert distance == pytest.approx(3 * deviation + 0.005, rel=1e-12)


def test_trend_follows_the_sign_of_the_return_over_its_lookback() -> None:
    bars = walk(5, size=200)
    spec = {"name": "trend", "lookback": "20h", "target_volatility": "80%", "window": "12h"}
    leverage, valid = proposals(build(spec), bars)
    long_only, _ = proposals(build({**spec, "allow_short": False}), bars)
    volatility = sigma(bars, window=12 * HOUR, half_life=2 * HOUR)
    signs = set()
    for row in np.flatnonzero(valid):
        sign = math.copysign(1.0, bars.close[row] - bars.close[row - 20])
        assert leverage[row] == pytest.approx(sign * 0.8 / volatility[row], rel=1e-14)
        assert long_only[row] == max(leverage[row], 0.0)
        signs.add(sign)
    assert signs == {1.0, -1.0}


def test_lengths_of_time_between_two_numbers_of_bars_are_causal_too() -> None:
    spec = {"name": "trend", "lookback": "20h30m", "target_volatility": "80%", "window": "12h45m"}
    check_causal(build(spec), walk(7, size=80, missing=0.1), range(20, 60))


@pytest.mark.parametrize("seed", range(3))
def test_trend_takes_its_return_by_time_when_bars_are_missing(seed: int) -> None:
    bars = walk(seed, size=300, missing=0.3)
    spec = {"name": "trend", "lookback": "20h", "target_volatility": "80%", "window": "12h"}
    leverage, valid = proposals(build(spec), bars)
    _, measured = realised_volatility(
        "ewma", HOUR, 12 * HOUR, 2 * HOUR, 0.1, bars.ts, bars.open, bars.high, bars.low, bars.close
    )
    opinions = 0
    for row in range(20, len(bars)):
        start = next(i for i in range(row + 1) if i >= row - 20 and bars.ts[i] >= bars.ts[row] - 20 * HOUR)
        known = bars.ts[row] - bars.ts[start] >= 10 * HOUR
        assert valid[row] == (known and measured[row])
        if valid[row]:
            assert np.sign(leverage[row]) == np.sign(bars.close[row] - bars.close[start])
            opinions += 1
    assert opinions > 100


def test_trend_has_no_opinion_right_after_a_long_outage() -> None:
    bars = walk(6, size=100)
    kept = np.r_[0:40, 70:100]
    bars = Bars(
        bars.symbol, HOUR, *(getattr(bars, name)[kept] for name in ("ts", "open", "high", "low", "close", "volume"))
    )
    _, valid = proposals(build({"name": "trend", "lookback": "20h", "target_volatility": "1", "window": "6h"}), bars)
    assert [int(ts) // HOUR for ts in bars.ts[~valid]] == [*range(20), *range(70, 80)]
