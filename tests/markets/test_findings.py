"""Findings: what is refused with its row unless accepted by name, and what is not taken for one."""

from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import SuspectData
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.findings import FINDINGS, FUNDING_CAP, JUMP, MARK_APART, admitted, inspect
from ringfence.markets.market import Funding

HOUR = 3_600_000
START = 1_777_852_800_000  # 2026-05-04T00:00Z


def bars_of(*closes: float, low: dict[int, float] | None = None) -> Bars:
    """Bars that open at the close before; `low` replaces the low of some."""
    close = np.array(closes)
    open_ = np.concatenate((close[:1], close[:-1]))
    lowest = np.minimum(open_, close)
    for row, price in (low or {}).items():
        lowest[row] = price
    ts = START + np.arange(len(close)) * HOUR
    return validated("BTC/USDT:USDT", HOUR, ts, open_, np.maximum(open_, close), lowest, close, np.ones(len(close)))


def names(bars: Bars, marks: Bars | None = None, funding: Funding | None = None) -> dict[str, str]:
    return {finding.name: finding.text for finding in inspect(bars, marks, funding)}


def test_a_bad_print_is_found_with_its_row() -> None:
    found = names(bars_of(50_000.0, 50_100.0, 50_050.0, low={1: 0.01}))
    assert found == {"price-jump": "the low is 0.01 after 50000.0, at 2026-05-04T01:00:00Z, row 2 of 3"}


def test_prices_of_another_denomination_are_found_with_their_row() -> None:
    found = names(bars_of(50_000.0, 50_100.0, 50_100_000.0, 50_050_000.0))
    assert found == {"price-jump": "the high is 50100000.0 after 50100.0, at 2026-05-04T02:00:00Z, row 3 of 4"}


def test_a_first_bar_that_holds_a_bad_print_is_found() -> None:
    found = names(bars_of(50_000.0, 50_000.0, low={0: 0.5}))
    assert found["price-jump"].startswith("the low is 0.5 where the bar opens at 50000.0")


def test_a_jump_is_found_from_beyond_its_measure_on() -> None:
    assert names(bars_of(100.0, 100.0 * JUMP)) == {}
    assert "price-jump" in names(bars_of(100.0, np.nextafter(100.0 * JUMP, np.inf)))
    assert "price-jump" in names(bars_of(100.0 * JUMP, np.nextafter(100.0, 0.0)))


def test_all_rows_of_a_kind_are_one_finding_that_counts_them() -> None:
    assert names(bars_of(50_000.0, 5.0, 50_000.0, 5.0))["price-jump"].endswith("row 2 of 4 and 2 more")


def test_marks_of_another_coin_are_found_and_marks_of_a_storm_are_not() -> None:
    bars = bars_of(2_500.0, 2_510.0, 2_490.0)
    assert names(bars, bars_of(50_000.0, 50_000.0, 50_000.0))["marks-apart"] == (
        "the mark is 50000.0 where the bar closes at 2500.0, at 2026-05-04T00:00:00Z, row 1 of 3 and 2 more"
    )
    assert names(bars, bars_of(2_500.0, 2_510.0 * MARK_APART, 2_490.0)) == {}
    assert "marks-apart" in names(bars, bars_of(2_500.0, 2_510.0, 1_600.0))


def test_finer_marks_are_compared_bar_by_bar() -> None:
    bars = bars_of(2_500.0, 2_510.0)
    ts = START + np.arange(4) * HOUR // 2
    price = np.array([2_500.0, 2_500.0, 2_510.0, 25_100.0])
    marks = validated(bars.symbol, HOUR // 2, ts, price, price, price, price)
    assert "row 2 of 2" in names(bars, marks)["marks-apart"]


def test_funding_beyond_any_cap_is_found_with_its_row() -> None:
    bars, ts = bars_of(100.0, 100.0), START + np.arange(3) * 8 * HOUR
    assert names(bars, None, Funding.validated("X", ts, [FUNDING_CAP, -FUNDING_CAP, 0.0])) == {}
    assert names(bars, None, Funding.validated("X", ts, [0.0, -0.05, 0.0])) == {
        "funding-cap": "the funding rate is -5.00% at 2026-05-04T08:00:00Z, row 2 of 3"
    }


def test_a_finding_is_refused_unless_its_own_name_is_accepted_and_then_it_is_a_note() -> None:
    findings = tuple(inspect(bars_of(50_000.0, 5.0)))
    with pytest.raises(SuspectData, match=r"the low is 5\.0 .* \(price-jump\)"):
        admitted(findings, ["marks-apart", "funding-cap", "other-instrument"])
    (note,) = admitted(findings, ["price-jump"])
    assert note.startswith("accepted BTC/USDT:USDT: the low is 5.0 after 50000.0")
    assert admitted((), []) == ()


def test_every_finding_has_a_name_and_a_sentence() -> None:
    assert sorted(FINDINGS) == ["funding-cap", "marks-apart", "other-instrument", "price-jump"]


def test_nothing_recorded_is_a_finding(recorded: Path) -> None:
    """Eight years of hours, three storms by the minute, marks and rates: all true, and none of it is suspected."""
    for coin in ("BTC", "ETH", "SOL", "XRP", "DOGE", "LINK"):
        symbol = f"{coin}/USDT:USDT"
        files = {kind: recorded / f"perp_{coin}USDT_{kind}" for kind in ("1h.parquet", "mark_1h.parquet",
                                                                         "funding_8h.csv.gz")}  # fmt: skip
        marks = read_bars(files["mark_1h.parquet"], symbol) if files["mark_1h.parquet"].exists() else None
        rates = read_funding(files["funding_8h.csv.gz"], symbol) if files["funding_8h.csv.gz"].exists() else None
        assert names(read_bars(files["1h.parquet"], symbol), marks, rates) == {}, symbol
    for file in sorted(recorded.glob("spot_*.parquet")):
        symbol = f"{file.name.split('_')[1].removesuffix('USDT')}/USDT:USDT"
        assert names(read_bars(file, symbol)) == {}, file.name
