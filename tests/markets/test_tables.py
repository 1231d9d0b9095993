"""Tables of instruments: as strict as mandates, every fault in its place, and written as they are read."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from ringfence.markets.errors import VenueError
from ringfence.markets.table_text import table_text
from ringfence.markets.tables import beside, check_tables, shipped, stands_for, table_of

GOOD = """\
venue: okx
title: A venue
valid_from: "2025-03-01"
source: read by hand
contract_size: 0.01
taker_fee: 0.05%
maker_fee: 0.02%
liquidation_fee: 1%
notional_min: 0
instruments:
  BTC/USDT:USDT:
    lot: 0.1
    tick: 0.1
    tiers:
      - {from: 0, to: 50000, rate: 0.4%, leverage_max: 100, deduction: 0}
      - {from: 50000, rate: 0.5%, leverage_max: 50}
  DOGE/USDC:USDC:
    lot: 100
    tick: 0.00001
    contract_size: 1
    taker_fee: 0.06%
    valid_from: "2025-04-01"
    tiers: [{from: 0, rate: 1%, leverage_max: 20}]
"""


def test_a_table_says_what_each_of_its_instruments_is() -> None:
    bitcoin, doge = table_of(GOOD, "okx.yaml")
    assert (bitcoin.key, bitcoin.kind, bitcoin.settle, bitcoin.decimals) == ("okx:BTC/USDT:USDT", "linear", "USDT", 6)
    assert (bitcoin.lot, bitcoin.size, bitcoin.unit) == (Decimal("0.1"), Decimal("0.001"), 1000)
    assert (bitcoin.taker_fee, bitcoin.liquidation_fee, bitcoin.valid_from) == (500, 10_000, "2025-03-01")
    assert [(tier.floor, tier.rate, tier.deduction) for tier in bitcoin.tiers] == [
        (0, 4_000, 0),
        (50_000_000_000, 5_000, 50_000_000),
    ]
    assert bitcoin.notional_max is None
    assert (doge.settle, doge.taker_fee, doge.valid_from, doge.source) == ("USDC", 600, "2025-04-01", "read by hand")


FAULTS = [
    ("venue: okx", "vnue: okx", "t:1:1 vnue: unknown key; did you mean venue?"),
    ("venue: okx\n", "", "t:1:1 venue: is missing; expected a venue's short name like binance"),
    ("venue: okx", "venue: The OKX", "t:1:8 venue: venue is The OKX; expected at most 24 lower-case letters"),
    ('"2025-03-01"', "2025-03-01", "t:3:13 valid_from: 2025-03-01 is ambiguous: some readers take it as a date"),
    ('"2025-03-01"', '"2025-02-30"', 't:3:13 valid_from: 2025-02-30 is no day; write it in quotes, like "2024-10-01"'),
    ("read by hand", "''", "t:4:9 source: '' is no text of at most 2000 characters"),
    ("0.01\n", "0.01 BTC\n", "t:5:16 contract_size: 0.01 BTC is not a number; write it like 0.001"),
    ("0.05%", "0.05", "t:6:12 taker_fee: 0.05 is not a fee; did you mean 0.05%?"),
    ("    lot: 0.1\n", "", "t:11:3 instruments.BTC/USDT:USDT.lot: is missing; expected the smallest step of"),
    ("lot: 0.1\n", "lott: 0.1\n", "t:12:5 instruments.BTC/USDT:USDT.lott: unknown key; did you mean lot?"),
    ("lot: 0.1\n", "lot: -1\n", "t:12:10 instruments.BTC/USDT:USDT.lot: lot is -1; expected a number above 0"),
    ("lot: 0.1\n", "lot: 0.00000001\n", "t:12:10 instruments.BTC/USDT:USDT.lot: unit (lot x contract_size in minor"),
    ("  BTC/USDT:USDT:", "  BTCUSDT:", "t:11:3 instruments.BTCUSDT: BTCUSDT is no symbol; expected BASE/QUOTE:SETTLE"),
    ("to: 50000,", "to: 60000,", "t:16:16 instruments.BTC/USDT:USDT.tiers.1.from: tier 2 floor is 50000; expected 6"),
    ("to: 50000,", "too: 50000,", "t:15:19 instruments.BTC/USDT:USDT.tiers.0.too: unknown key; did you mean to?"),
    ("rate: 0.5%", "rate: 0.3%", "t:16:29 instruments.BTC/USDT:USDT.tiers.1.rate: tier 2 rate is 0.003; expected a r"),
    ("rate: 0.5%, ", "", "t:16:9 instruments.BTC/USDT:USDT.tiers.1.rate: is missing; expected the maintenance rate"),
    ("leverage_max: 50}", "leverage_max: 50x}", "did you mean 50?"),
    ("deduction: 0}", "deduction: 1}", "t:15:72 instruments.BTC/USDT:USDT.tiers.0.deduction: tier 1 deduction is 1;"),
    ("[{from: 0, rate: 1%, leverage_max: 20}]", "20", "tiers: 20 is no list; expected a list of tiers"),
    ("[{from: 0, rate: 1%, leverage_max: 20}]", "[20]", "tiers.0: 20 is no tier; expected one like {from: 0, rate:"),
    ("title: A venue", "title: A venue\ntitle: B", "t:3:1 title: duplicate key; it stands at line 2 and again at line"),
    ("title: A venue", "title: &a A venue", "anchor &a is refused; state the value once, above `instruments`"),
]  # fmt: skip


@pytest.mark.parametrize(("there", "instead", "told"), FAULTS)
def test_a_fault_is_told_at_its_line_and_column(there: str, instead: str, told: str) -> None:
    assert there in GOOD
    with pytest.raises(VenueError) as refused:
        table_of(GOOD.replace(there, instead, 1), "t")
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty; expected a venue table"),
        ("venue: okx\n", "instruments: is missing; expected at least one instrument under it"),
        ("venue: okx\ninstruments: none\n", "none is no section"),
        ("venue: okx\ninstruments: {A/USDT:USDT: 1}\n", "instruments.A/USDT:USDT: 1 is no section"),
    ],
)
def test_a_table_of_nothing_is_refused(text: str, told: str) -> None:
    with pytest.raises(VenueError) as refused:
        table_of(text, "t")
    assert told in str(refused.value)


def test_every_fault_of_every_table_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD.replace("0.05%", "0.05").replace("lot: 100", "lot: many"))
    (tmp_path / "b.yml").write_text("venue: x\n")
    checked = check_tables([tmp_path, tmp_path / "absent.yaml"])
    places = {(Path(problem.file).name, problem.path) for problem in checked.problems}
    assert {("a.yaml", "taker_fee"), ("a.yaml", "instruments.DOGE/USDC:USDC.lot"), ("b.yml", "instruments")} <= places
    assert ("absent.yaml", "") in places
    with pytest.raises(VenueError):
        checked.over(shipped())


def test_an_instrument_that_two_tables_give_is_told_at_both(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD[: GOOD.index("  DOGE")])
    problems = check_tables([tmp_path]).problems
    assert [(Path(problem.file).name, problem.line, problem.column) for problem in problems] == [
        ("a.yaml", 11, 3),
        ("b.yaml", 11, 3),
    ]
    assert "one table gives an instrument's terms" in problems[0].message


def test_hidden_files_are_no_tables_and_a_folder_without_any_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "._okx.yaml").write_text("\0")
    (problem,) = check_tables([tmp_path]).problems
    assert problem.message == "holds no venue table; expected files *.yaml"
    (tmp_path / "okx.yaml").write_text(GOOD)
    checked = check_tables([tmp_path, tmp_path / "okx.yaml"])
    assert (len(checked.instruments), checked.problems) == (2, ())


def test_tables_are_found_beside_a_mandate_and_in_a_folder_of_mandates(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("")
    assert beside([tmp_path / "m.yaml", tmp_path]) == []
    (tmp_path / "venues").mkdir()
    assert beside([tmp_path / "m.yaml", tmp_path]) == [tmp_path / "venues"]


def test_a_written_table_reads_back_to_the_same_and_states_once_what_all_share() -> None:
    instruments = table_of(GOOD, "okx.yaml")
    text = table_text('A "venue"', instruments)
    assert table_of(text, "again") == instruments
    assert text.count("liquidation_fee") == 1
    assert text.count("taker_fee") == 2
    linear = [known for known in shipped().instruments if known.kind == "linear"]
    assert table_of(table_text("Binance", linear), "again") == tuple(linear)


def test_a_table_that_stands_in_place_of_a_shipped_one_says_so_with_both_days() -> None:
    known = shipped().find("BTC/USDT:USDT")
    own = replace(known, valid_from="2025-06-01")
    assert stands_for(own) == (
        "BTC/USDT:USDT: your table of 2025-06-01 stands in place of the shipped one of 2024-10-01"
    )  # fmt: skip
    assert stands_for(known) == ""


def test_the_table_in_the_documents_is_one(project: Path) -> None:
    text = (project / "docs" / "INSTRUMENTS.md").read_text()
    (bitcoin,) = table_of(text.partition("```yaml\n")[2].partition("```")[0], "INSTRUMENTS.md")
    assert bitcoin.key == "okx:BTC/USDT:USDT"
