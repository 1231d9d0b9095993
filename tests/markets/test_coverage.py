"""What series do not cover is told in words, with counts and first times."""

from dataclasses import replace

import numpy as np

from ringfence.markets.bars import Bars
from ringfence.markets.coverage import coverage

HOUR = 3_600_000
START = 1_777_852_800_000  # 2026-05-04T00:00Z


def bars_at(symbol: str, rows: list[int], timeframe: int = HOUR, volume: float = 1.0) -> Bars:
    ts = START + np.array(rows, np.int64) * timeframe
    price = np.full(len(rows), 100.0)
    return Bars(symbol, timeframe, ts, price, price, price, price, np.full(len(rows), volume))


def test_series_without_holes_are_told_nothing_of() -> None:
    whole = {symbol: bars_at(symbol, [0, 1, 2]) for symbol in ("BTC", "ETH")}
    assert coverage(whole, {"BTC": bars_at("BTC", list(range(12)), HOUR // 4)}) == ()


def test_one_hole_is_told_with_its_size_and_its_first_time() -> None:
    assert coverage({"BTC": bars_at("BTC", [0, 1, 5, 6])}) == ("BTC: 3 of 7 bars missing, first 2026-05-04T02:00:00Z",)


def test_of_several_holes_the_longest_is_told_besides() -> None:
    assert coverage({"BTC": bars_at("BTC", [0, 2, 3, 7])}) == (
        "BTC: 4 of 8 bars missing, first 2026-05-04T01:00:00Z, in 2 gaps, the longest of 3 from 2026-05-04T04:00:00Z",
    )


def test_a_late_start_and_an_early_end_are_told_against_the_others() -> None:
    told = coverage({"BTC": bars_at("BTC", [0, 1, 2, 3]), "ETH": bars_at("ETH", [1, 2])})
    assert told == (
        "ETH: begins 1 bars after BTC, at 2026-05-04T01:00:00Z",
        "ETH: ends 1 bars before BTC, at 2026-05-04T03:00:00Z; it is not traded from there on",
    )


def test_bars_without_trade_are_counted_and_a_source_without_volumes_is_told() -> None:
    bars = bars_at("BTC", [0, 1, 2])
    bars.volume[1:] = 0.0
    assert coverage({"BTC": bars}) == ("BTC: 2 of 3 bars without trade, first 2026-05-04T01:00:00Z",)
    assert coverage({"BTC": replace(bars, volume_known=False)}) == ("BTC: no volumes are known",)


def test_marks_missing_inside_a_bar_are_counted() -> None:
    quarters = [0, 1, 2, 3, 4, 6, 7, 8, 11]
    told = coverage({"BTC": bars_at("BTC", [0, 1, 2])}, {"BTC": bars_at("BTC", quarters, HOUR // 4)})
    assert told == ("BTC: 3 marks of 15m missing inside 2 of 3 bars, first 2026-05-04T01:00:00Z",)


def test_what_was_left_out_when_series_were_read_is_told_once() -> None:
    bars = replace(bars_at("BTC", [0, 1]), notes=("b.csv: the last bar left out",))
    marks = replace(bars_at("BTC", [0, 1]), notes=("b.csv: the last bar left out", "m.csv: times change"))
    assert coverage({"BTC": bars}, {"BTC": marks}) == ("b.csv: the last bar left out", "m.csv: times change")
