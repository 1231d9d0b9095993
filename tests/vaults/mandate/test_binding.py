"""Limiters that never bind or always do: each claim is tried against the limiter's own formula."""

import numpy as np
import pytest

from ringfence.markets.scenarios import scenario
from ringfence.markets.tables import shipped
from ringfence.risk.volatility import realised_volatility
from ringfence.vaults.mandate.binding import VOLATILITY_SEEN, Binding, bindings
from ringfence.vaults.mandate.check import load_mandate

HOUR = 3_600_000
BTC = "BTC/USDT:USDT"


def found(*, strategy: str = "constant, leverage: 5", gross: str = "0.5", cap: str = "8", volatility: str = "700%",
          distance: str = "{sigmas: 3, horizon: 8h, slippage: 1%}", call: str = "1.5",
          floor: str = "20%") -> dict[str, Binding]:  # fmt: skip
    text = f"""
mandate: one
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {{estimator: ewma, half_life: 12h, window: 3d, floor: {floor}}}
limits: {{gross_leverage_max: {gross}}}
positions:
  btc:
    symbol: {BTC}
    share: 50%
    strategy: {{name: {strategy}}}
    leverage_max: {cap}
    volatility_max: {volatility}
    liquidation_distance_min: {distance}
    margin_call: {{at: {call}, then: reduce, to: 90}}
"""
    return {each.limiter: each for each in bindings(load_mandate(text), {"btc": shipped().find(BTC)})}


def test_the_highest_volatility_is_that_of_the_shipped_scenario() -> None:
    highest = 0.0
    for bars in scenario("2020-03").bars.values():
        volatility, known = realised_volatility(
            "ewma", HOUR, 72 * HOUR, 12 * HOUR, 0.2, bars.ts, bars.open, bars.high, bars.low, bars.close
        )
        highest = max(highest, float(np.max(volatility[known])))
    assert VOLATILITY_SEEN - 0.1 < highest <= VOLATILITY_SEEN


@pytest.mark.parametrize(
    ("gross", "expected"),
    [("0.49", None), ("0.5", False), ("0.05", True)],
    ids=["sometimes", "never: 50 % of 20 % at 5 is 0.5", "always: even at the highest volatility"],
)
def test_the_gross_limit_against_what_the_positions_can_hold(gross: str, expected: bool | None) -> None:
    told = found(gross=gross).get("gross_leverage_max")
    assert (None if told is None else told.is_always) == expected


def test_a_constant_proposal_is_set_against_the_hard_cap() -> None:
    assert found(cap="8")["leverage_max"].is_always is False
    assert found(cap="4")["leverage_max"].is_always is True
    assert "leverage_max" not in found(cap="5")


def test_a_hard_cap_beyond_the_limiters_at_the_floor_never_binds() -> None:
    told = found(strategy="vol_target, target_volatility: 150%", cap="40", volatility="300%")["leverage_max"]
    assert (told.is_always, told.other, told.reach) == (False, "volatility_max", pytest.approx(15.0))


def test_the_volatility_limit_against_the_highest_and_the_lowest_volatility() -> None:
    assert found(volatility="3600%")["volatility_max"].is_always is False
    assert "volatility_max" not in found(volatility="3500%")
    always = found(volatility="90%")["volatility_max"]
    assert (always.is_always, always.limit, always.reach) == (True, pytest.approx(4.5), 5.0)
    targets = found(strategy="vol_target, target_volatility: 150%", volatility="140%")["volatility_max"]
    assert targets.is_always
    assert "volatility_max" not in found(strategy="vol_target, target_volatility: 150%", volatility="150%")


def test_the_distance_against_the_highest_and_the_lowest_volatility() -> None:
    never = found(distance="{sigmas: 0, horizon: 1h, slippage: 1%}")["liquidation_distance_min"]
    assert (never.is_always, never.limit) == (False, pytest.approx(1 / (0.004 + 0.01)))
    always = found(distance="{sigmas: 0, horizon: 1h, slippage: 30%}")["liquidation_distance_min"]
    assert (always.is_always, always.limit) == (True, pytest.approx(1 / 0.304))
    assert "liquidation_distance_min" not in found()


def test_a_margin_call_above_what_every_position_stands_at_always_comes() -> None:
    told = found(call="80", distance="{sigmas: 0, horizon: 1h, slippage: 0%}", volatility="100000%")["margin_call"]
    assert (told.is_always, told.limit, told.reach) == (True, pytest.approx(1 / (80 * 0.004)), 5.0)
    assert "margin_call" not in found(call="1.5")
