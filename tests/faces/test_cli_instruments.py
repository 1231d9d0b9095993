"""Instruments from the command line: listed, shown, imported, and named with their day wherever they are used."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import ringfence
from ringfence.faces.cli import instruments, running, tools
from ringfence.faces.cli.app import app
from ringfence.faces.errors import InputRefused
from ringfence.markets.errors import MarketsRefused, UnknownInstrument, VenueError
from ringfence.markets.tables import table_of
from ringfence.words.refusal import RingfenceError

assert instruments  # for the commands that they add
assert running
assert tools

TABLE = """\
venue: okx
valid_from: "2025-03-01"
source: read by hand
contract_size: 0.01
tick: 0.1
notional_min: 0
taker_fee: 0.05%
maker_fee: 0.02%
liquidation_fee: 1%
instruments:
  ODD/USDC:USDC:
    lot: 1
    tiers: [{from: 0, to: 90000, rate: 1%, leverage_max: 50}]
"""
MANDATE = """\
mandate: odd
currency: USDC
loss_cap: 30%
timeframe: 1h
volatility: {window: 12h, half_life: 2h}
positions:
  odd: {symbol: "ODD/USDC:USDC", share: 50%, strategy: {name: constant, leverage: 3}}
"""
DAY = 86_400_000
HOUR = 3_600_000
START = 1_740_700_800_000
"""28 February 2025: a day before the table."""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refusal(*arguments: str | Path) -> RingfenceError:
    ended = run(*arguments)
    assert isinstance(ended.exception, RingfenceError), ended.output
    return ended.exception


def document(*arguments: str | Path) -> Any:
    ended = run(*arguments, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mandate, a table beside it, and two days of hours."""
    (tmp_path / "venues").mkdir()
    (tmp_path / "venues" / "okx.yaml").write_text(TABLE)
    (tmp_path / "odd.yaml").write_text(MANDATE)
    with (tmp_path / "odd.csv").open("w") as stream:
        writer = csv.writer(stream)
        writer.writerow(["ts", "open", "high", "low", "close", "volume"])
        for hour in range(48):
            price = 100 + hour % 5
            writer.writerow([START + hour * HOUR, price, price + 1, price - 1, price, 10_000_000])
    return tmp_path


# ---------------------------------------------------------------------------------------------------- what is known


def test_the_shipped_instruments_are_listed_with_day_and_source() -> None:
    found = document("instruments")
    assert len(found) == 43
    bitcoin = next(one for one in found if one["name"] == "BTC/USDT:USDT")
    assert (bitcoin["key"], bitcoin["valid_from"], bitcoin["table"]) == (
        "binance:BTC/USDT:USDT", "2024-10-01", "shipped")  # fmt: skip
    assert bitcoin["source"].startswith("Binance USD-M: leverage brackets as published in 2024-10")
    shown = run("instruments").stdout
    for one in found:
        assert one["name"] in shown
    assert "binance, valid from 2024-10-01: Binance USD-M" in shown


def test_a_users_table_is_listed_beside_them_and_says_what_it_replaces(folder: Path) -> None:
    found = document("instruments", "--venues", folder / "venues")
    assert [(one["name"], one["table"]) for one in found][-1] == ("okx:ODD/USDC:USDC", "yours")
    own = folder / "own.yaml"
    own.write_text(TABLE.replace("okx", "binance").replace("ODD/USDC:USDC", "BTC/USDT:USDT"))
    told = run("instruments", "--venues", own).output
    expected = "BTC/USDT:USDT: your table of 2025-03-01 stands in place of the shipped one of 2024-10-01"
    assert f"note: {expected}" in told


@pytest.mark.parametrize("words", [("BTC/USDT:USDT",), ("show", "BTC/USDT:USDT"), ("binance:BTC/USDT:USDT",)])
def test_one_instrument_is_shown_with_its_tiers(words: tuple[str, ...]) -> None:
    told = document("instruments", *words)
    assert told["tiers"][1] == {
        "from": "50000", "to": "600000", "rate": "0.005", "leverage_max": "100", "deduction": "50"}  # fmt: skip
    assert (told["lot"], told["settle"], told["taker_fee"]) == ("0.001", "USDT", "0.0005")
    shown = run("instruments", *words).stdout
    assert all(word in shown for word in ("2024-10-01", "600000", "0.65%", "421481450", "exchangeInfo"))


def test_an_instrument_that_nobody_lists_is_refused_with_the_nearest() -> None:
    refused = refusal("instruments", "DOGEUSDT")
    assert isinstance(refused, UnknownInstrument)
    assert "did you mean DOGE/USDT:USDT?" in str(refused)


def test_a_faulty_table_is_refused_in_its_place(folder: Path) -> None:
    (folder / "venues" / "okx.yaml").write_text(TABLE.replace("lot: 1", "lot: one"))
    for command in (("instruments",), ("margin", "--symbol", "ODD/USDC:USDC", "--side", "long", "--quantity", "1",
                                       "--entry", "100", "--leverage", "5")):  # fmt: skip
        refused = refusal(*command, "--venues", folder / "venues")
        assert isinstance(refused, VenueError)
        assert str(refused).startswith(f"{folder}/venues/okx.yaml:12:10 instruments.ODD/USDC:USDC.lot: one is not a")


# ---------------------------------------------------------------------------------------------------- where it is used


def test_the_calculator_says_which_table_it_used_and_from_when() -> None:
    """What a position of 20 bitcoins at 50,000 rests on."""
    asked = ("margin", "--symbol", "BTC/USDT:USDT", "--side", "long", "--quantity", "20", "--entry", "50000",
             "--leverage", "10")  # fmt: skip
    told = document(*asked)["table"]
    assert (told["venue"], told["valid_from"], told["is_shipped"]) == ("binance", "2024-10-01", True)
    assert "binance, valid from 2024-10-01 (shipped): BTC/USDT:USDT" in run(*asked).stdout


def test_the_calculator_takes_a_users_table_and_says_what_the_venue_does_not_take(folder: Path) -> None:
    asked = ("margin", "--symbol", "ODD/USDC:USDC", "--side", "long", "--entry", "100", "--leverage", "5",
             "--venues", folder / "venues")  # fmt: skip
    told = document(*asked, "--quantity", "10")
    assert (told["symbol"], told["maintenance_margin"]) == ("okx:ODD/USDC:USDC", "10.000000")
    assert told["table"]["is_shipped"] is False
    assert "the venue does not take it" in run(*asked, "--quantity", "901").output
    assert "the venue does not take it" not in run(*asked, "--quantity", "900").output
    assert "steps of 0.01 ODD" in str(refusal(*asked, "--quantity", "0.001"))


def test_stated_terms_have_no_table() -> None:
    told = document("margin", "--symbol", "ANY/USDT:USDT", "--side", "long", "--quantity", "1", "--entry", "100",
                    "--leverage", "5", "--rate", "1%")  # fmt: skip
    assert told["table"] is None


def test_check_names_the_tables_of_each_mandate(folder: Path) -> None:
    (told,) = document("check", folder)["mandates"]
    (table,) = told["tables"]
    assert (table["venue"], table["valid_from"], table["instruments"]) == ("okx", "2025-03-01", ["okx:ODD/USDC:USDC"])
    assert "by the tables of okx valid from 2025-03-01 (yours)" in run("check", folder).stdout
    own = folder / "venues" / "binance.yaml"
    own.write_text(TABLE.replace("okx", "binance").replace("ODD/USDC:USDC", "ADA/USDT:USDT"))
    (folder / "odd.yaml").write_text(MANDATE.replace("ODD/USDC:USDC", "ADA/USDT:USDT").replace("USDC", "USDT"))
    assert "ADA/USDT:USDT: your table of 2025-03-01 stands in place of" in run("check", folder).output


def test_both_drivers_and_the_report_say_the_table_and_that_it_is_younger_than_the_bars(folder: Path) -> None:
    given = (folder / "odd.yaml", "--bars", f"ODD/USDC:USDC={folder / 'odd.csv'}", "--deposit", "alice=1000")
    younger = "okx:ODD/USDC:USDC: okx's tiers, lots and fees of 2025-03-01 are used for bars from 2025-02-28 on"
    for command in (("backtest",), ("replay", "--db", folder / "v.db")):
        told = document(*command, *given)
        assert [(table["venue"], table["valid_from"]) for table in told["tables"]] == [("okx", "2025-03-01")]
        assert any(note.startswith(younger) for note in told["notes"])
    ended = run("backtest", *given, "--report", folder / "r.html")
    assert "table     okx, valid from 2025-03-01 (yours): okx:ODD/USDC:USDC" in ended.stdout
    assert "okx, valid from 2025-03-01 (yours)" in (folder / "r.html").read_text()
    (folder / "venues" / "okx.yaml").write_text(TABLE.replace("2025-03-01", "2025-02-28"))
    assert not any("are used for bars" in note for note in document("backtest", *given)["notes"])


def test_a_table_elsewhere_is_named_with_venues(folder: Path) -> None:
    (folder / "venues").rename(folder / "elsewhere")
    given = ("backtest", folder / "odd.yaml", "--bars", f"okx:ODD/USDC:USDC={folder / 'odd.csv'}")
    assert "unknown instrument 'ODD/USDC:USDC'" in str(refusal(*given))
    assert document(*given, "--venues", folder / "elsewhere")["tables"][0]["venue"] == "okx"


def test_python_takes_tables_and_tells_them(folder: Path) -> None:
    (folder / "venues").rename(folder / "elsewhere")
    mandate = ringfence.load_mandate(folder / "odd.yaml", venues=[folder / "elsewhere"])
    result = ringfence.backtest(mandate, {"okx:ODD/USDC:USDC": folder / "odd.csv"})
    assert [str(table) for table in result.tables] == ["okx, valid from 2025-03-01 (yours): okx:ODD/USDC:USDC"]
    bars = ringfence.read_bars(folder / "odd.csv", "ODD/USDC:USDC")
    again = ringfence.backtest(mandate, {"ODD/USDC:USDC": bars})
    assert again.digest == result.digest, "a bare symbol means the one that the mandate trades"
    assert again.frame()["odd.quantity"].iloc[-1] == again.positions["odd"].quantity[-1] / 100


# ---------------------------------------------------------------------------------------------------- import

TIERS = {
    "ODD/USDC:USDC": [
        {"tier": 1, "currency": "USDC", "minNotional": 0, "maxNotional": 5000, "maintenanceMarginRate": 0.01,
         "maxLeverage": 50, "info": {}},
        {"tier": 2, "currency": "USDC", "minNotional": 5000, "maxNotional": 90000, "maintenanceMarginRate": 0.02,
         "maxLeverage": 25, "info": {}},
    ]
}  # fmt: skip
MARKETS = {
    "ODD/USDC:USDC": {
        "symbol": "ODD/USDC:USDC", "swap": True, "contractSize": 0.01, "taker": 0.0005, "maker": 0.0002,
        "precision": {"amount": 1, "price": 0.1}, "limits": {"cost": {"min": None}}, "info": {},
    },
    "EVEN/USDC:USDC": {
        "symbol": "EVEN/USDC:USDC", "swap": True, "contractSize": 1, "taker": 0.0005, "maker": 0.0002,
        "precision": {"amount": 1, "price": 0.1}, "limits": {}, "info": {},
    },
}  # fmt: skip


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Path]:
    tiers, markets = tmp_path / "tiers-2025-05-01.json", tmp_path / "markets.json"
    tiers.write_text(json.dumps(TIERS))
    markets.write_text(json.dumps(MARKETS))
    return tiers, markets


def test_an_import_prints_a_table_and_with_out_writes_it(exported: tuple[Path, Path], tmp_path: Path) -> None:
    asked = ("instruments", "import", *exported, "--venue", "okx", "--liquidation-fee", "1%")
    printed = run(*asked)
    (one,) = table_of(printed.stdout, "printed")
    assert (one.key, one.valid_from, one.liquidation_fee, len(one.tiers)) == (
        "okx:ODD/USDC:USDC", "2025-05-01", 10_000, 2)  # fmt: skip
    assert "left out, no tiers: EVEN/USDC:USDC" in printed.stderr
    out = tmp_path / "okx.yaml"
    assert "1 instruments would be written" in run(*asked, "--out", out, "--dry-run").stderr
    assert not out.exists()
    assert "valid from 2025-06-01" in run(*asked, "--out", out, "--valid-from", "2025-06-01").stderr
    assert out.read_text() == printed.stdout.replace("2025-05-01", "2025-06-01", 1)


def test_a_table_that_stands_there_is_replaced_only_when_its_changes_were_asked_for(
    exported: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "okx.yaml"
    asked = ("instruments", "import", *exported, "--venue", "okx", "--liquidation-fee", "1%", "--out", out)
    assert run(*asked).exit_code == 0
    assert run(*asked).exit_code == 0, "the same again changes nothing"
    before = out.read_text()
    changed = (*asked, "--valid-from", "2025-06-01")
    assert "stands there (ODD/USDC:USDC changes valid_from)" in str(refusal(*changed))
    assert "ODD/USDC:USDC changes valid_from" in run(*changed, "--dry-run").stderr
    assert out.read_text() == before
    assert run(*changed, "--force").exit_code == 0
    assert '"2025-06-01"' in out.read_text()
    out.write_text("my notes")
    assert "is no table that can be read; name another" in str(refusal(*changed, "--force"))
    assert out.read_text() == "my notes"


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("--liquidation-fee", "3"), InputRefused, "--liquidation-fee: 3 is not a fee; did you mean 3%?"),
        (("--valid-from", "May"), InputRefused, "--valid-from May: is no day"),
        (("--only", "ALL/USDC:USDC"), MarketsRefused, "ALL/USDC:USDC: is not in the files"),
        (("--out", "none/okx.yaml", "--liquidation-fee", "1%"), InputRefused, "the folder none does not exist"),
        ((), InputRefused, "give no instrument whole (no liquidation_fee: ODD/USDC:USDC; no liquidation_fee, tiers"),
    ],
)
def test_what_an_import_cannot_mean_is_refused(
    exported: tuple[Path, Path], arguments: tuple[str, ...], kind: type[RingfenceError], told: str
) -> None:
    refused = refusal("instruments", "import", *exported, "--venue", "okx", *arguments)
    assert isinstance(refused, kind)
    assert told in str(refused)


def test_a_day_that_nobody_states_is_asked_for(exported: tuple[Path, Path], tmp_path: Path) -> None:
    moved = exported[0].rename(tmp_path / "tiers.json")
    refused = refusal("instruments", "import", moved, exported[1], "--venue", "okx", "--liquidation-fee", "1%")
    assert "--valid-from: is missing and no file's name states one day" in str(refused)
