"""What ccxt writes of an exchange becomes a table, or is refused by the market and the reason."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ringfence.markets.ccxt_files import day_of, imported, read_ccxt
from ringfence.markets.errors import MarketsRefused, UnreadableFile
from ringfence.markets.instruments import Catalogue
from ringfence.markets.tables import shipped

SHARED = {"venue": "okx", "valid_from": "2025-03-01", "source": "a test"}
TIERS = [
    {"tier": 1, "currency": "USDT", "minNotional": 0.0, "maxNotional": 50000.0, "maintenanceMarginRate": 0.004,
     "maxLeverage": 125.0, "info": {"cum": "0.0"}},
    {"tier": 2, "currency": "USDT", "minNotional": 50000.0, "maxNotional": 600000.0, "maintenanceMarginRate": 0.005,
     "maxLeverage": 100.0, "info": {"cum": "50.0"}},
]  # fmt: skip


def market(symbol: str, **change: Any) -> dict[str, Any]:
    """A perpetual contract in ccxt's form."""
    return {
        "id": symbol, "symbol": symbol, "swap": True, "contractSize": 0.01, "taker": 0.0006, "maker": 0.0002,
        "precision": {"amount": 0.1, "price": 1e-05, "cost": None}, "limits": {"cost": {"min": 5.0}},
        "info": {"liquidationFee": "0.0125"}, **change,
    }  # fmt: skip


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / name).write_text(json.dumps(content))
    return folder / name


def test_markets_and_tiers_together_are_whole_instruments(tmp_path: Path) -> None:
    odd, spot = market("ODD/USDT:USDT"), {**market("ODD/USDT"), "swap": False}
    for markets in ({"ODD/USDT:USDT": odd, "ODD/USDT": spot}, [spot, odd]):
        files = [written(tmp_path, "markets.json", markets), written(tmp_path, "t.json", {"ODD/USDT:USDT": TIERS})]
        made = imported(read_ccxt(files), shipped(), SHARED)
        (one,) = made.instruments
        assert made.left_out == ()
        assert (one.key, one.lot, one.tick, one.contract_size) == (
            "okx:ODD/USDT:USDT", Decimal("0.1"), Decimal("0.00001"), Decimal("0.01"))  # fmt: skip
        assert (one.taker_fee, one.maker_fee, one.liquidation_fee, one.notional_min) == (600, 200, 12_500, 5_000_000)
        assert [(tier.floor, tier.rate, tier.deduction) for tier in one.tiers] == [
            (0, 4_000, 0), (50_000_000_000, 5_000, 50_000_000)]  # fmt: skip
        assert one.notional_max == 600_000_000_000


def test_what_the_files_do_not_say_is_stated_or_known_or_the_market_is_left_out(tmp_path: Path) -> None:
    tiers = read_ccxt([written(tmp_path, "t.json", {"BTC/USDT:USDT": TIERS, "ODD/USDT:USDT": TIERS})])
    made = imported(tiers, shipped(), {**SHARED, "venue": "binance"})
    (bitcoin,) = made.instruments
    assert bitcoin.lot == shipped().find("BTC/USDT:USDT").lot
    assert len(bitcoin.tiers) == 2
    assert made.left_out == (
        ("ODD/USDT:USDT", "no contract_size, lot, tick, notional_min, taker_fee, maker_fee, liquidation_fee"),
    )
    markets = read_ccxt([written(tmp_path, "m.json", [market("ODD/USDT:USDT", info={})])])
    assert imported(markets, shipped(), SHARED).left_out == (("ODD/USDT:USDT", "no liquidation_fee, tiers"),)
    both = read_ccxt([tmp_path / "m.json", tmp_path / "t.json"])
    made = imported(both, Catalogue(()), {**SHARED, "liquidation_fee": Decimal("0.01")}, only=["ODD/USDT:USDT"])
    assert [one.liquidation_fee for one in made.instruments] == [10_000]


@pytest.mark.parametrize(
    ("tier", "told"),
    [
        ({"minNotional": 40000.0}, "ODD/USDT:USDT: tier 2 floor is 40000.0; expected 50000, no gap"),
        ({"currency": "ODD"}, "ODD/USDT:USDT: tier 2 counts in ODD; expected USDT, which it settles in"),
        ({"info": {"cum": "51"}}, "tier 2 deduction is 51; expected 50, which makes the requirement continuous"),
        ({"maintenanceMarginRate": None}, "tier 2 rate is None; expected a number"),
    ],
)
def test_a_market_whose_margin_cannot_be_right_is_refused_by_name(
    tmp_path: Path, tier: dict[str, Any], told: str
) -> None:
    tiers = {"ODD/USDT:USDT": [TIERS[0], {**TIERS[1], **tier}], "EVEN/USDT:USDT": TIERS}
    markets = [market("ODD/USDT:USDT"), market("EVEN/USDT:USDT")]
    exported = read_ccxt([written(tmp_path, "t.json", tiers), written(tmp_path, "m.json", markets)])
    with pytest.raises(MarketsRefused) as refused:
        imported(exported, shipped(), SHARED)
    assert told in str(refused.value)
    made = imported(exported, shipped(), SHARED, without=["ODD/USDT:USDT"])
    assert [one.symbol for one in made.instruments] == ["EVEN/USDT:USDT"]


def test_a_symbol_that_the_files_do_not_have_is_not_chosen_in_silence(tmp_path: Path) -> None:
    exported = read_ccxt([written(tmp_path, "m.json", [market("ODD/USDT:USDT")])])
    with pytest.raises(MarketsRefused, match="EVEN/USDT:USDT: is not in the files"):
        imported(exported, shipped(), SHARED, only=["EVEN/USDT:USDT"])


def test_precision_as_a_count_of_decimals_is_not_taken_for_steps(tmp_path: Path) -> None:
    counted = [market(f"{base}/USDT:USDT", precision={"amount": 3, "price": 2}) for base in ("ODD", "EVEN")]
    with pytest.raises(MarketsRefused, match="a count of decimals in this file; expected steps"):
        imported(read_ccxt([written(tmp_path, "m.json", counted)]), shipped(), SHARED)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "no markets and no tiers in it"),
        ("3", "no markets and no tiers in it"),
        ('{"BTC/USDT": {"bid": 1}}', "'BTC/USDT' is neither a market nor a list of tiers"),
        ('{"BTC/USDT": [{"bid": 1}]}', "'BTC/USDT' is neither a market nor a list of tiers"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UnreadableFile) as refused:
        read_ccxt([tmp_path / "x.json"])
    assert told in str(refused.value)


def test_only_a_regular_file_is_read() -> None:
    with pytest.raises(UnreadableFile, match="no regular file"):
        read_ccxt([Path("/dev/null")])


def test_the_day_is_the_one_that_the_files_names_agree_on() -> None:
    assert day_of([Path("tiers-2024-10-01.json"), Path("markets.json")]) == "2024-10-01"
    assert day_of([Path("a-2024-10-01.json"), Path("b-2024-10-02.json")]) is None
    assert day_of([Path("2024-13-01.json")]) is None
    assert day_of([Path("markets.json")]) is None


def test_the_recorded_tiers_come_out_as_the_shipped_table(recorded: Path) -> None:
    exported = read_ccxt([recorded / "binance_leverage_tiers.json"])
    made = imported(exported, shipped(), {**SHARED, "venue": "binance"})
    assert made.left_out == ()
    for one in made.instruments:
        known = shipped().find(one.symbol)
        assert (one.tiers, one.notional_max, one.lot) == (known.tiers, known.notional_max, known.lot)
