"""Instruments: the shipped tables are the exchange's figures, and no table with a fault becomes an instrument."""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.errors import AmbiguousInstrument, InvalidInstrument, UnknownInstrument
from ringfence.markets.instruments import (
    Catalogue,
    Instrument,
    currency_decimals,
    instrument_from,
    instrument_key,
    listing,
)
from ringfence.markets.tables import shipped
from ringfence.risk.exposure import maintenance_margin

LINEAR = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT", "DOGE/USDT:USDT", "LINK/USDT:USDT")
FIRST = ["0", "50000", "0.004", "125", "0"]
TABLE = {
    "venue": "exchange",
    "symbol": "BTC/USDT:USDT",
    "lot": "0.001",
    "tick": "0.1",
    "contract_size": "1",
    "notional_min": "100",
    "taker_fee": "0.0005",
    "maker_fee": "0.0002",
    "liquidation_fee": "0.0125",
    "valid_from": "2024-10-01",
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


def test_every_shipped_instrument_says_where_its_figures_come_from_and_from_when_they_hold() -> None:
    kinds = [known.kind for known in shipped().instruments]
    assert (kinds.count("linear"), kinds.count("inverse")) == (42, 1)
    assert set(LINEAR) < set(shipped().names)
    assert all(known.source and known.valid_from == "2024-10-01" for known in shipped().instruments)


def test_one_lot_of_bitcoin_at_a_price_of_50000_is_worth_50_usdt() -> None:
    btc = shipped().find("BTC/USDT:USDT")
    assert btc.unit == 1000
    assert btc.unit * 50_000 == 50 * 10**btc.decimals
    assert (btc.base, btc.quote, btc.settle, btc.decimals) == ("BTC", "USDT", "USDT", 6)
    assert (btc.lot, btc.tick, btc.contract_size) == (Decimal("0.001"), Decimal("0.1"), Decimal(1))
    assert (btc.notional_min, btc.taker_fee, btc.maker_fee, btc.liquidation_fee) == (100_000_000, 500, 200, 12_500)


def test_one_inverse_contract_at_a_price_of_50000_is_worth_two_thousandths_of_a_bitcoin() -> None:
    inverse = shipped().find("BTC/USD:BTC")
    assert (inverse.settle, inverse.decimals, inverse.contract_size) == ("BTC", 8, Decimal(100))
    assert inverse.unit / 50_000 == 0.002 * 10**8


def test_shipped_tiers_are_the_published_ones_to_the_last_unit(recorded: Path) -> None:
    table = published(recorded)
    assert len(table) == 42
    for symbol, published_tiers in table.items():
        expected = [
            (
                int(Decimal(floor) * 10**6),
                int(Decimal(rate) * 10**6),
                int(Decimal(cum) * 10**6),
                float(leverage),
            )
            for floor, _, rate, leverage, cum in ccxt_rows(published_tiers)
        ]
        known = shipped().find(symbol)
        assert [(tier.floor, tier.rate, tier.deduction, tier.leverage_max) for tier in known.tiers] == expected
        assert known.notional_max == int(Decimal(published_tiers[-1]["maxNotional"]) * 10**6)


def test_every_published_market_passes_and_its_deductions_are_those_of_continuity(recorded: Path) -> None:
    markets = published(recorded)
    assert len(markets) == 42
    for symbol, tiers in markets.items():
        entry = instrument_from({**TABLE, "symbol": symbol, "tiers": ccxt_rows(tiers)})
        assert len(entry.tiers) == len(tiers)


def test_the_requirement_is_continuous_at_every_floor() -> None:
    for entry in shipped().instruments:
        for lower, upper in zip(entry.tiers, entry.tiers[1:], strict=False):
            below = upper.floor * lower.rate - lower.deduction * 10**6
            above = upper.floor * upper.rate - upper.deduction * 10**6
            assert below == above


def test_maintenance_is_below_initial_margin_in_every_tier() -> None:
    for entry in shipped().instruments:
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
        shipped().find(name)
    assert f"did you mean {nearest}?" in str(refused.value)
    assert repr(name) in str(refused.value)


def test_a_symbol_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(UnknownInstrument) as refused:
        shipped().find("GOLD")
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
        ({"venue": "The Venue"}, "venue"),
        ({"valid_from": "October"}, "valid_from"),
        ({"lot": "many"}, "lot"),
        ({"lot": "100000000000"}, "unit"),
        ({"symbol": "btc/USDT:USDT"}, "symbol"),
        ({"tiers": [[str(n), None, str(n / 1000 + 0.001), str(30 - n), None] for n in range(21)]}, "tiers"),
        ({"tiers": [["0", None, "0.004", "125", None], ["0", None, "0.005", "100", None]]}, "tier 2 floor"),
        ({"tiers": [["0", None, "much", "125", None]]}, "tier 1 rate"),
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
        instrument_from({**TABLE, **change})
    assert refused.value.field.startswith(field)
    assert str(refused.value).startswith(str(change.get("symbol", "BTC/USDT:USDT")))


def test_a_listing_holds_each_instruments_tiers_and_how_many_they_are() -> None:
    chosen = [shipped().find("BTC/USDT:USDT"), shipped().find("SOL/USDT:USDT")]
    table = listing(chosen)
    assert table.unit.tolist() == [1000, 1_000_000]
    assert table.notional_min.tolist() == [one.notional_min for one in chosen]
    assert table.tiers.tolist() == [12, 10]
    for row, one in zip(table, chosen, strict=True):
        found = [tuple(tier) for tier in row.tier[: row.tiers].tolist()]
        assert found == [(tier.floor, tier.rate, tier.deduction, tier.leverage_max) for tier in one.tiers]


@given(st.integers(0, 10**16))
def test_the_kernel_asks_for_the_maintenance_of_the_table(notional: int) -> None:
    sol = shipped().find("SOL/USDT:USDT")
    asked = maintenance_margin(listing([shipped().find("BTC/USDT:USDT"), sol])[1], notional)
    assert asked == max(-(-notional * tier.rate // 10**6) - tier.deduction for tier in sol.tiers)


def test_a_listing_refuses_an_inverse_instrument() -> None:
    with pytest.raises(InvalidInstrument, match="linear"):
        listing([shipped().find("BTC/USD:BTC")])


def test_stablecoins_have_six_decimals_and_coins_eight() -> None:
    assert [currency_decimals(code) for code in ("USDT", "USDC", "BTC", "ETH")] == [6, 6, 8, 8]


@pytest.mark.parametrize(
    ("symbol", "lots", "text"),
    [("BTC/USDT:USDT", 1, "0.001"), ("BTC/USDT:USDT", -12_345, "-12.345"), ("BTC/USDT:USDT", 0, "0.000"),
     ("BTC/USD:BTC", 3, "300")],
)  # fmt: skip
def test_a_quantity_is_written_in_its_currency_to_the_last_lot(symbol: str, lots: int, text: str) -> None:
    assert shipped().find(symbol).quantity_text(lots) == text


def test_an_instrument_is_known_by_its_venue_and_symbol_and_a_bare_symbol_means_the_default_venue() -> None:
    known = shipped().find("BTC/USDT:USDT")
    assert known.key == "binance:BTC/USDT:USDT" == instrument_key("BTC/USDT:USDT")
    assert shipped().find(known.key) is known
    assert instrument_key(known.key, "elsewhere") == known.key
    assert instrument_key("BTC/USDT:USDT", "elsewhere") == "elsewhere:BTC/USDT:USDT"
    with pytest.raises(UnknownInstrument, match="elsewhere:BTC/USDT:USDT"):
        shipped().find("elsewhere:BTC/USDT:USDT")


def test_every_shipped_key_is_its_own() -> None:
    keys = [known.key for known in shipped().instruments]
    assert len(set(keys)) == len(keys) > 1


def elsewhere(venue: str, symbol: str, **change: object) -> Instrument:
    return instrument_from({**TABLE, "venue": venue, "symbol": symbol, **change})


def test_a_bare_symbol_means_the_default_venues_then_the_one_that_lists_it_and_never_one_of_several() -> None:
    kraken, okx = elsewhere("kraken", "BTC/USDT:USDT"), elsewhere("okx", "ODD/USDT:USDT")
    catalogue = shipped().with_tables([kraken, okx])
    assert catalogue.find("BTC/USDT:USDT").venue == "binance"
    assert catalogue.find("kraken:BTC/USDT:USDT") is kraken
    assert catalogue.find("ODD/USDT:USDT") is okx
    assert (okx.name, instrument_key(okx.name)) == ("okx:ODD/USDT:USDT", okx.key)
    several = catalogue.with_tables([elsewhere("bybit", "ODD/USDT:USDT")])
    with pytest.raises(AmbiguousInstrument, match="write one of okx:ODD/USDT:USDT, bybit:ODD/USDT:USDT"):
        several.find("ODD/USDT:USDT")
    with pytest.raises(UnknownInstrument, match="did you mean okx:ODD/USDT:USDT"):
        catalogue.find("kraken:ODD/USDT:USDT")


def test_a_users_instrument_stands_in_place_of_the_shipped_one_of_its_key_and_beside_all_others() -> None:
    own = elsewhere("binance", "BTC/USDT:USDT")
    catalogue = shipped().with_tables([own])
    assert catalogue.find("BTC/USDT:USDT") is own
    assert len(catalogue.instruments) == len(shipped().instruments)
    assert shipped().replaced_by(own) is shipped().find("BTC/USDT:USDT")
    assert shipped().replaced_by(shipped().find("ETH/USDT:USDT")) is None
    assert shipped().replaced_by(elsewhere("okx", "ODD/USDT:USDT")) is None
    assert Catalogue(()).names == ()


def test_a_record_reads_back_to_the_same_instrument() -> None:
    open_ended = elsewhere("okx", "ODD/USDC:USDC", tiers=[["0", None, "0.01", "12.5", None]])
    assert open_ended.notional_max is None
    for known in (*shipped().instruments, open_ended):
        again = instrument_from(json.loads(json.dumps(known.record())))
        assert again == known
        assert again.record() == known.record()


TERMS_SHIPPED = "36985e3a640394259a64a4628d79196728f96951297e8730b4a5bee0b0b04df0"


def test_a_shipped_table_is_never_changed_since_vaults_live_by_it() -> None:
    """A newer table is a file of its own with a later day; to change one of these is to change what was decided."""
    terms = [{**known.record(), "source": None} for known in shipped().instruments]
    found = hashlib.sha256(json.dumps(sorted(terms, key=str), sort_keys=True).encode()).hexdigest()
    assert found == TERMS_SHIPPED
