"""Instruments: the shipped tables are the exchange's figures, and no table with a fault becomes an instrument."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.errors import InvalidInstrument, UnknownInstrument
from ringfence.markets.instruments import (
    currency_decimals,
    instrument,
    instrument_from,
    instrument_key,
    instruments,
    listing,
)
from ringfence.risk.exposure import maintenance_margin

LINEAR = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT", "DOGE/USDT:USDT", "LINK/USDT:USDT")
FIRST = ["0", "50000", "0.004", "125", "0"]
TABLE = {
    "id": "exchange",
    "symbol": "BTC/USDT:USDT",
    "lot": "0.001",
    "tick": "0.1",
    "contract_size": "1",
    "notional_min": "100",
    "taker_fee": "0.0005",
    "maker_fee": "0.0002",
    "liquidation_fee": "0.0125",
    "source": "a test",
    "tiers": [FIRST, ["50000", "600000", "0.005", "100", "50"]],
}


def ccxt_rows(tiers: list[dict[str, object]]) -> list[list[object]]:
    return [
        [tier["minNotional"], tier["maxNotional"], tier["maintenanceMarginRate"], tier["maxLeverage"],
         tier["info"]["cum"]] for tier in tiers
    ]  # fmt: skip


def published(recorded: Path) -> dict[str, list[dict[str, object]]]:
    table: dict[str, list[dict[str, object]]] = json.loads(
        (recorded / "binance_leverage_tiers.json").read_text(), parse_float=Decimal
    )
    return table


def test_six_linear_perpetuals_and_one_inverse_are_shipped() -> None:
    shipped = {entry.symbol: entry.kind for entry in instruments()}
    assert shipped == {**dict.fromkeys(LINEAR, "linear"), "BTC/USD:BTC": "inverse"}
    assert all(entry.source for entry in instruments())


def test_one_lot_of_bitcoin_at_a_price_of_50000_is_worth_50_usdt() -> None:
    btc = instrument("BTC/USDT:USDT")
    assert btc.unit == 1000
    assert btc.unit * 50_000 == 50 * 10**btc.decimals
    assert (btc.base, btc.quote, btc.settle, btc.decimals) == ("BTC", "USDT", "USDT", 6)
    assert (btc.lot, btc.tick, btc.contract_size) == (Decimal("0.001"), Decimal("0.1"), Decimal(1))
    assert (btc.notional_min, btc.taker_fee, btc.maker_fee, btc.liquidation_fee) == (100_000_000, 500, 200, 12_500)


def test_one_inverse_contract_at_a_price_of_50000_is_worth_two_thousandths_of_a_bitcoin() -> None:
    inverse = instrument("BTC/USD:BTC")
    assert (inverse.settle, inverse.decimals, inverse.contract_size) == ("BTC", 8, Decimal(100))
    assert inverse.unit / 50_000 == 0.002 * 10**8


def test_shipped_tiers_are_the_published_ones_to_the_last_unit(recorded: Path) -> None:
    table = published(recorded)
    for symbol in LINEAR:
        expected = [
            (
                int(Decimal(floor) * 10**6),
                int(Decimal(rate) * 10**6),
                int(Decimal(cum) * 10**6),
                float(leverage),
            )
            for floor, _, rate, leverage, cum in ccxt_rows(table[symbol])
        ]
        shipped = [(tier.floor, tier.rate, tier.deduction, tier.leverage_max) for tier in instrument(symbol).tiers]
        assert shipped == expected


def test_every_published_market_passes_and_its_deductions_are_those_of_continuity(recorded: Path) -> None:
    markets = published(recorded)
    assert len(markets) == 42
    for symbol, tiers in markets.items():
        entry = instrument_from({**TABLE, "symbol": symbol, "tiers": ccxt_rows(tiers)}, {})
        assert len(entry.tiers) == len(tiers)


def test_the_requirement_is_continuous_at_every_floor() -> None:
    for entry in instruments():
        for lower, upper in zip(entry.tiers, entry.tiers[1:], strict=False):
            below = upper.floor * lower.rate - lower.deduction * 10**6
            above = upper.floor * upper.rate - upper.deduction * 10**6
            assert below == above


def test_maintenance_is_below_initial_margin_in_every_tier() -> None:
    for entry in instruments():
        assert all(tier.rate * tier.leverage_max < 10**6 for tier in entry.tiers)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("BTC/USDT", "BTC/USDT:USDT"),
        ("ETHUSDT", "ETH/USDT:USDT"),
        ("doge-usdt", "DOGE/USDT:USDT"),
        ("SLO/USDT:USDT", "SOL/USDT:USDT"),
    ],
)
def test_an_unknown_symbol_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(UnknownInstrument) as refused:
        instrument(name)
    assert f"did you mean {nearest}?" in str(refused.value)
    assert repr(name) in str(refused.value)


def test_a_symbol_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(UnknownInstrument) as refused:
        instrument("GOLD")
    assert "did you mean" not in str(refused.value)
    assert "BTC/USDT:USDT" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lot": "0.0000001"}, "unit"),
        ({"lot": "0"}, "lot"),
        ({"lot": "NaN"}, "lot"),
        ({"tick": "-0.1"}, "tick"),
        ({"notional_min": "0.0000001"}, "notional_min"),
        ({"taker_fee": "0.00000005"}, "taker_fee"),
        ({"taker_fee": "-0.0005"}, "taker_fee"),
        ({"liquidation_fee": "1.25"}, "liquidation_fee"),
        ({"symbol": "BTC/USDT"}, "symbol"),
        ({"symbol": "BTC/USDT:ETH"}, "symbol"),
        ({"tiers": []}, "tiers"),
        ({"tiers": [["10", "50000", "0.004", "125", None]]}, "tier 1 floor"),
        ({"tiers": [FIRST, ["60000", "90000", "0.005", "100", None]]}, "tier 2 floor"),
        ({"tiers": [FIRST, ["40000", "90000", "0.005", "100", None]]}, "tier 2 floor"),
        ({"tiers": [FIRST, ["50000", "90000", "0.003", "100", None]]}, "tier 2 rate"),
        ({"tiers": [FIRST, ["50000", "90000", "0.005", "125", None]]}, "tier 2 leverage_max"),
        ({"tiers": [FIRST, ["50000", "50000", "0.005", "100", None]]}, "tier 2 cap"),
        ({"tiers": [FIRST, ["50000", "90000", "0.005", "100", "51"]]}, "tier 2 deduction"),
        ({"tiers": [["0", "0.1", "0.004", "125", None], ["0.1", "9", "0.0040001", "100", None]]}, "tier 2 rate"),
        (
            {"tiers": [["0", "0.000001", "0.004", "125", None], ["0.000001", "9", "0.005", "9", None]]},
            "tier 2 deduction",
        ),
        ({"tiers": [["0", "50000", "0.004", "250", None]]}, "tier 1 rate"),
        ({"tiers": [["0", "50000", "0", "125", None]]}, "tier 1 rate"),
        ({"tiers": [["0", "50000", "0.0000001", "125", None]]}, "tier 1 rate"),
    ],
)
def test_a_table_with_a_fault_is_refused_by_symbol_and_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidInstrument) as refused:
        instrument_from({**TABLE, **change}, {})
    assert refused.value.field.startswith(field)
    assert str(refused.value).startswith(str(change.get("symbol", "BTC/USDT:USDT")))


def test_a_listing_holds_each_instruments_tiers_and_how_many_they_are() -> None:
    chosen = [instrument("BTC/USDT:USDT"), instrument("SOL/USDT:USDT")]
    table = listing(chosen)
    assert table.unit.tolist() == [1000, 1_000_000]
    assert table.notional_min.tolist() == [one.notional_min for one in chosen]
    assert table.tiers.tolist() == [12, 10]
    for row, one in zip(table, chosen, strict=True):
        found = [tuple(tier) for tier in row.tier[: row.tiers].tolist()]
        assert found == [(tier.floor, tier.rate, tier.deduction, tier.leverage_max) for tier in one.tiers]


@given(st.integers(0, 10**16))
def test_the_kernel_asks_for_the_maintenance_of_the_table(notional: int) -> None:
    sol = instrument("SOL/USDT:USDT")
    asked = maintenance_margin(listing([instrument("BTC/USDT:USDT"), sol])[1], notional)
    assert asked == max(-(-notional * tier.rate // 10**6) - tier.deduction for tier in sol.tiers)


def test_a_listing_refuses_an_inverse_instrument() -> None:
    with pytest.raises(InvalidInstrument, match="linear"):
        listing([instrument("BTC/USD:BTC")])


def test_stablecoins_have_six_decimals_and_coins_eight() -> None:
    assert [currency_decimals(code) for code in ("USDT", "USDC", "BTC", "ETH")] == [6, 6, 8, 8]


@pytest.mark.parametrize(
    ("symbol", "lots", "text"),
    [("BTC/USDT:USDT", 1, "0.001"), ("BTC/USDT:USDT", -12_345, "-12.345"), ("BTC/USDT:USDT", 0, "0.000"),
     ("BTC/USD:BTC", 3, "300")],
)  # fmt: skip
def test_a_quantity_is_written_in_its_currency_to_the_last_lot(symbol: str, lots: int, text: str) -> None:
    assert instrument(symbol).quantity_text(lots) == text


def test_an_instrument_is_known_by_its_venue_and_symbol_and_a_bare_symbol_means_the_default_venue() -> None:
    shipped = instrument("BTC/USDT:USDT")
    assert shipped.key == "binance:BTC/USDT:USDT" == instrument_key("BTC/USDT:USDT")
    assert instrument(shipped.key) is shipped
    assert instrument_key(shipped.key, "elsewhere") == shipped.key
    assert instrument_key("BTC/USDT:USDT", "elsewhere") == "elsewhere:BTC/USDT:USDT"
    with pytest.raises(UnknownInstrument, match="elsewhere:BTC/USDT:USDT"):
        instrument("elsewhere:BTC/USDT:USDT")
    with pytest.raises(UnknownInstrument):
        instrument("BTC/USDT:USDT", "elsewhere")


def test_every_shipped_key_is_its_own() -> None:
    keys = [shipped.key for shipped in instruments()]
    assert len(set(keys)) == len(keys) > 1
