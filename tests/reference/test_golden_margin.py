"""Liquidation, bankruptcy and margin against numbers worked out by hand or published by venues,
and the maintenance of every recorded leverage table."""

import json
from decimal import Decimal
from math import isclose
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ringfence.risk import exposure
from ringfence.risk.book import Holding, tier_deductions
from tests.reference import exact
from tests.reference.worlds import contract

USDT = 10**6
BTC = 10**8
LOT = 1000
"""One lot of 0.001 BTC at a price of 1 USDT, in minor units of USDT."""
ENTRY = 50_000 * USDT
TENTH = ENTRY // 10
LONG, SHORT = 1, -1

CONTRACTS = 60_000
"""Inverse: contracts of 1 USD, held at 50 000."""
COIN = 12 * BTC // 10
COIN_TENTH = COIN // 10

OLDER_FLOORS = tuple(floor * USDT for floor in (0, 50_000, 250_000, 1_000_000, 10_000_000))
OLDER_RATES = (4_000, 5_000, 10_000, 25_000, 50_000)
TRAP = Holding(40_000, 2_000_000 * USDT, 100_000 * USDT)
"""40 BTC bought at 50 000 with a leverage of 20."""


def rounds_to(actual: float | None, expected: float, places: int = 4) -> bool:
    return actual is not None and abs(float(actual) - expected) <= 0.5 * 10**-places


@pytest.mark.parametrize(
    ("side", "rate", "closing_fee", "expected"),
    [
        pytest.param(LONG, 5_000, 0, 45_226.1307, id="a long, maintenance at the mark"),
        pytest.param(LONG, 5_000, 500, 45_248.8688, id="a long, plus a taker fee of 0.05 %"),
        pytest.param(SHORT, 5_000, 0, 54_726.3682, id="a short, maintenance at the mark"),
    ],
)
def test_one_bitcoin_at_ten_times_is_liquidated_at(side: int, rate: int, closing_fee: int, expected: float) -> None:
    price = exposure.liquidation_price(Holding(side * 1000, ENTRY, TENTH), contract(LOT, (rate,)), closing_fee)
    assert rounds_to(price, expected)


@pytest.mark.parametrize(
    ("side", "rate", "expected"),
    [
        pytest.param(LONG, 5_000, 45_250.0, id="a long at 0.5 %"),
        pytest.param(LONG, 4_000, 45_200.0, id="a long at 0.4 %"),
        pytest.param(SHORT, 5_000, 54_750.0, id="a short at 0.5 %"),
    ],
)
def test_maintenance_at_the_entry_value_is_bankruptcy_with_the_maintenance_set_aside(
    side: int, rate: int, expected: float
) -> None:
    """The older form of Bybit: entry -+ (initial - maintenance) / quantity."""
    row = contract(LOT, (rate,))
    set_aside = exposure.maintenance_margin(row, ENTRY)
    price = exposure.bankruptcy_price(Holding(side * 1000, ENTRY, TENTH - set_aside), row)
    assert rounds_to(price, expected)


@pytest.mark.parametrize("reference", [48_000.0, 50_000.0, 52_000.0])
def test_the_form_that_starts_at_a_reference_price_gives_the_same_from_any_price(reference: float) -> None:
    """Hyperliquid: P - s * (margin available at P) / q / (1 - l*s), l the maintenance rate."""
    risk = exposure.risk_at(Holding(1000, ENTRY, TENTH), contract(LOT, (5_000,)), reference)
    available = risk.equity - risk.maintenance
    assert rounds_to(reference - available / USDT / (1 - 0.005), 45_226.1307)


def test_older_deductions_follow_from_continuity() -> None:
    deductions = tier_deductions(OLDER_FLOORS, OLDER_RATES)
    assert [deduction // USDT for deduction in deductions] == [0, 50, 1_300, 16_300, 266_300]


def test_forty_bitcoin_at_twenty_times_fall_in_the_tier_of_their_value_and_not_of_their_collateral() -> None:
    deductions = tier_deductions(OLDER_FLOORS, OLDER_RATES)
    row = contract(LOT, OLDER_RATES, OLDER_FLOORS)
    price = exposure.liquidation_price(TRAP, row)
    assert rounds_to(price, 48_300.00, places=2)

    by_collateral = exposure.tier_of(row, 100_000 * USDT)
    mistaken = contract(LOT, (OLDER_RATES[by_collateral],), (0,), (deductions[by_collateral],))
    late = exposure.liquidation_price(TRAP, mistaken)
    assert rounds_to(late, 47_737.44, places=2)
    assert 562 < price - late < 563, "the classic mistake liquidates later: unsafe"
    assert exposure.tier_of(row, exposure.value_up(row, 40_000, price)) == 3


def test_forty_bitcoin_at_twenty_times_under_the_recorded_tiers(recorded: Path) -> None:
    rows = json.loads((recorded / "binance_leverage_tiers.json").read_text())["BTC/USDT:USDT"]
    floors = [int(row["minNotional"]) * USDT for row in rows]
    rates = [int(Decimal(row["info"]["maintMarginRatio"]) * 10**6) for row in rows]
    row, deductions = contract(LOT, rates, floors), tier_deductions(floors, rates)
    price = exposure.liquidation_price(TRAP, row)
    assert rounds_to(price, 47_786.86, places=2)
    k = exposure.tier_of(row, exposure.value_up(row, 40_000, price))
    assert (rates[k], deductions[k]) == (6_500, 950 * USDT)

    by_collateral = exposure.tier_of(row, 100_000 * USDT)
    mistaken = contract(LOT, (rates[by_collateral],), (0,), (deductions[by_collateral],))
    late = exposure.liquidation_price(TRAP, mistaken)
    assert rounds_to(late, 47_737.44, places=2)


@pytest.mark.parametrize(
    ("side", "liquidated", "bankrupt"),
    [
        pytest.param(LONG, 45_681.8182, 45_454.5455, id="an inverse long"),
        pytest.param(SHORT, 55_277.7778, 55_555.5556, id="an inverse short"),
    ],
)
def test_sixty_thousand_inverse_contracts_at_ten_times(side: int, liquidated: float, bankrupt: float) -> None:
    position, row = Holding(side * CONTRACTS, COIN, COIN_TENTH), contract(BTC, (5_000,), inverse=True)
    assert rounds_to(exposure.liquidation_price(position, row), liquidated)
    price = exposure.bankruptcy_price(position, row)
    assert rounds_to(price, bankrupt)
    assert isclose(price, 50_000 * 10 / (10 + side), rel_tol=1e-12), "P0 * L / (L +- 1)"


def test_an_inverse_long_with_maintenance_at_the_entry_value() -> None:
    """The older form of Bybit: Q / (V + initial - maintenance)."""
    row = contract(BTC, (5_000,), inverse=True)
    set_aside = exposure.maintenance_margin(row, COIN)
    price = exposure.bankruptcy_price(Holding(CONTRACTS, COIN, COIN_TENTH - set_aside), row)
    assert rounds_to(price, 45_662.1005)


@pytest.mark.parametrize("side", [LONG, SHORT], ids=["long", "short"])
def test_an_inverse_price_as_the_venue_writes_it(side: int) -> None:
    """Bybit, 2026: Q (1 +- rate) / (Q/EP +- Q/EP/L +- deduction), with nothing extra."""
    deduction = BTC // 1000
    row = contract(BTC, (5_000,), (0,), (deduction,), inverse=True)
    ours = exposure.liquidation_price(Holding(side * CONTRACTS, COIN, COIN_TENTH), row)
    theirs = 60_000 * (1 + side * 0.005) / (1.2 + side * (0.12 + 0.001))
    assert isclose(ours, theirs, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("side", "closing_fee", "expected"),
    [
        pytest.param(LONG, 0, 45_000.0, id="a long"),
        pytest.param(SHORT, 0, 55_000.0, id="a short"),
        pytest.param(LONG, 500, 45_000 / 0.9995, id="a long that pays 0.05 % to close"),
        pytest.param(SHORT, 500, 55_000 / 1.0005, id="a short that pays 0.05 % to close"),
    ],
)
def test_one_bitcoin_at_ten_times_is_bankrupt_at(side: int, closing_fee: int, expected: float) -> None:
    position, row = Holding(side * 1000, ENTRY, TENTH), contract(LOT)
    price = exposure.bankruptcy_price(position, row, closing_fee)
    assert isclose(price, expected, rel_tol=1e-12)
    left = exposure.equity_at(position, row, price)
    assert abs(left - exposure.fee(exposure.value_up(row, 1000, price), closing_fee)) <= 2


def test_a_quote_balance_of_minus_96_is_bankrupt_at_96_and_fillable_at_99_8() -> None:
    """dYdX's worked example: long 1 at an oracle price of 100, maintenance 0.6 of an initial margin of 10 %."""
    position, row = Holding(1000, 96 * USDT, 0), contract(LOT, (60_000,))
    assert exposure.bankruptcy_price(position, row) == 96.0
    risk = exposure.risk_at(position, row, 100.0)
    spread = 1 - risk.equity / risk.maintenance
    assert isclose(spread, 1 / 3)
    assert isclose((100 * USDT - spread * 0.1 * risk.maintenance) / USDT, 99.8)


@pytest.mark.parametrize(
    ("side", "rate", "expected"),
    [
        pytest.param(LONG, 2.0**-13, -6_103_516, id="a long pays a positive rate, rounded up"),
        pytest.param(SHORT, 2.0**-13, 6_103_515, id="a short receives it, rounded down"),
        pytest.param(LONG, -(2.0**-13), 6_103_515, id="a long receives a negative rate"),
        pytest.param(SHORT, -(2.0**-13), -6_103_516, id="a short pays it"),
    ],
)
def test_funding_on_one_bitcoin_at_50_000(side: int, rate: float, expected: int) -> None:
    """50 000 USDT / 8192 = 6.103515625 USDT."""
    assert exposure.funding_payment(Holding(side * 1000, ENTRY, TENTH), contract(LOT), 50_000.0, rate) == expected


def test_inverse_funding_is_paid_in_coin() -> None:
    """60 000 USD at 50 000 are 1.2 BTC; / 8192 = 14 648.4375 units of 10**-8 BTC."""
    row = contract(BTC, inverse=True)
    for side, payment in ((LONG, -14_649), (SHORT, 14_648)):
        position = Holding(side * CONTRACTS, COIN, COIN_TENTH)
        assert exposure.funding_payment(position, row, 50_000.0, 2.0**-13) == payment


def test_half_of_two_bitcoin_bought_at_two_prices_realises_against_half_of_the_exact_cost() -> None:
    cost = 100_001 * USDT + 1
    assert exposure.cost_closed(cost, 1000, 2000) == cost // 2
    for side, gain in ((LONG, 51_000 * USDT - cost // 2), (SHORT, cost // 2 - 51_000 * USDT)):
        part = exposure.closed_part(Holding(side * 2000, cost, 0), 1000)
        assert exposure.profit(part, contract(LOT), 51_000.0) == gain
    part = exposure.closed_part(Holding(CONTRACTS, COIN, 0), CONTRACTS // 2)
    assert exposure.profit(part, contract(BTC, inverse=True), 60_000.0) == COIN // 2 - BTC // 2


def test_the_twin_itself_reproduces_the_published_prices() -> None:
    """An oracle that nobody has checked proves nothing."""
    trap = (LONG, TRAP.quantity, LOT, TRAP.cost, TRAP.margin)
    found = exact.liquidation_prices(*trap, OLDER_FLOORS, OLDER_RATES)
    assert {k: round(float(price), 2) for k, price in found.items()} == {3: 48_300.00}
    inverse = exact.liquidation_prices(SHORT, CONTRACTS, BTC, COIN, COIN_TENTH, (0,), (5_000,), inverse=True)
    assert round(float(inverse[0]), 4) == 55_277.7778
    assert [int(saved) // USDT for saved in exact.deductions(OLDER_FLOORS, OLDER_RATES)] == [
        0,
        50,
        1_300,
        16_300,
        266_300,
    ]


def test_leverage_for_four_deviations_over_eight_hours() -> None:
    """Volatility 80 % a year, maintenance 0.5 %, slippage 1 %: 1 / (0.005 + 4 * 0.8 * sqrt(8 / 8760) + 0.01)."""
    leverage = 1.0 / exposure.liquidation_distance(5_000, 0.8, 4 * (8 / 8760) ** 0.5, 0.01)
    assert rounds_to(leverage, 8.9523)


@given(st.integers(1, 100_000), st.floats(0.05, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 0.05))
def test_the_distance_is_the_exact_one(rate: int, volatility: float, sigmas: float, slippage: float) -> None:
    distance = exposure.liquidation_distance(rate, volatility, sigmas, slippage)
    assert isclose(distance, exact.liquidation_distance(rate, volatility, sigmas, slippage), rel_tol=1e-12)


@pytest.mark.parametrize("side", [LONG, SHORT], ids=["long", "short"])
@given(st.integers(1, 100_000), st.floats(0.05, 3.0), st.floats(0.0, 0.2), st.floats(0.0, 0.05))
def test_a_position_of_that_leverage_stands_that_far_from_its_liquidation(
    side: int, rate: int, volatility: float, sigmas: float, slippage: float
) -> None:
    leverage = 1.0 / float(exposure.liquidation_distance(rate, volatility, sigmas, slippage))
    assume(leverage > 1.0)
    cost = 50_000 * 10**6
    margin = exposure.initial_margin(cost, leverage)
    price = exposure.liquidation_price(Holding(side * 1000, cost, margin), contract(1000, (rate,)))
    assume(price > 0.0)
    distance = abs(50_000.0 - price) / 50_000.0
    asked = sigmas * volatility + slippage
    assert distance >= asked / (1.0 if side > 0 else 1.0 + rate / 1e6) - 1e-12


class Bracket(NamedTuple):
    floor: int
    cap: int
    rate: int
    leverage_max: float
    cum: int


def _minor(amount: object) -> int:
    exactly = Decimal(str(amount)) * 10**6
    assert exactly == int(exactly)
    return int(exactly)


@pytest.fixture(scope="module")
def markets(recorded: Path) -> dict[str, list[Bracket]]:
    raw = json.loads((recorded / "binance_leverage_tiers.json").read_text())
    return {
        symbol: [
            Bracket(
                _minor(row["minNotional"]),
                _minor(row["maxNotional"]),
                _minor(row["info"]["maintMarginRatio"]),
                float(row["maxLeverage"]),
                _minor(row["info"]["cum"]),
            )
            for row in rows
        ]
        for symbol, rows in raw.items()
    }


def _columns(brackets: list[Bracket]) -> tuple[list[int], list[int], list[int]]:
    columns = zip(*((bracket.floor, bracket.rate, bracket.cum) for bracket in brackets), strict=True)
    floors, rates, cums = map(list, columns)
    return floors, rates, cums


def _probes(brackets: list[Bracket]) -> list[int]:
    spots = {1, 12_345_678_901}
    for bracket in brackets:
        cap = min(bracket.cap, 2**53)
        spots |= {bracket.floor + step for step in (-1, 0, 1) if bracket.floor + step > 0}
        spots |= {(bracket.floor + cap) // 2, cap - 1, cap}
    return sorted(spots)


def test_every_recorded_deduction_is_ours_by_continuity(markets: dict[str, list[Bracket]]) -> None:
    assert len(markets) == 42
    for symbol, brackets in markets.items():
        floors, rates, cums = _columns(brackets)
        assert tier_deductions(floors, rates) == tuple(cums), symbol


def test_the_largest_line_is_the_line_of_the_recorded_tier_in_every_market(markets: dict[str, list[Bracket]]) -> None:
    for symbol, brackets in markets.items():
        floors, rates, cums = _columns(brackets)
        row = contract(LOT, rates, floors, cums)
        for notional in _probes(brackets):
            k = exact.tier_of(notional, floors)
            assert exposure.tier_of(row, notional) == k, (symbol, notional)
            looked_up = exact.fee(notional, brackets[k].rate) - brackets[k].cum
            assert exposure.maintenance_margin(row, notional) == looked_up, (symbol, notional)


def test_maintenance_is_continuous_and_never_falls_in_every_recorded_market(markets: dict[str, list[Bracket]]) -> None:
    for symbol, brackets in markets.items():
        floors, rates, cums = _columns(brackets)
        row = contract(LOT, rates, floors, cums)
        for lower in floors[1:]:
            around = [exposure.maintenance_margin(row, lower + step) for step in (-1, 0, 1)]
            assert around == sorted(around), symbol
            assert around[2] - around[0] <= 2, symbol
        levels = [exposure.maintenance_margin(row, notional) for notional in _probes(brackets)]
        assert levels == sorted(levels), symbol


def test_maintenance_is_below_initial_margin_in_every_recorded_tier(markets: dict[str, list[Bracket]]) -> None:
    for symbol, brackets in markets.items():
        floors, rates, cums = _columns(brackets)
        row = contract(LOT, rates, floors, cums)
        for bracket in brackets:
            for notional in (bracket.floor + 10**6, (bracket.floor + bracket.cap) // 2, bracket.cap):
                held = min(notional, 2**53)
                assert exposure.maintenance_margin(row, held) < exposure.initial_margin(held, bracket.leverage_max), (
                    symbol,
                    held,
                )
