"""The market: one clock for all symbols, nothing made up in between, and everything missing said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import InvalidFunding, InvalidTimeframe, MisalignedMarket
from ringfence.markets.market import Funding, Market, align

MINUTE, HOUR = 60_000, 3_600_000
START = 1_583_971_200_000  # 2020-03-12T00:00:00Z


def bars_at(symbol: str, minutes: list[int], timeframe: int = MINUTE, level: float = 100.0) -> Bars:
    row = np.array(minutes)
    price = level + row
    return validated(
        symbol, timeframe, START + row * timeframe, price, price + 2, price - 2, price + 1, np.ones(len(row))
    )


def test_two_symbols_share_the_union_of_their_timestamps() -> None:
    market = align({"BTC": bars_at("BTC", [0, 1, 3]), "ETH": bars_at("ETH", [1, 2, 3, 5], level=10.0)})
    assert market.symbols == ("BTC", "ETH")
    assert ((market.ts - START) // MINUTE).tolist() == [0, 1, 2, 3, 5]
    assert market.valid.tolist() == [[True, False], [True, True], [False, True], [True, True], [False, True]]
    assert len(market) == 5


def test_a_missing_bar_repeats_the_last_close_with_no_volume_and_zero_before_the_first() -> None:
    market = align({"BTC": bars_at("BTC", [0, 1, 3]), "ETH": bars_at("ETH", [1, 2, 3, 5], level=10.0)})
    for column in (market.open, market.high, market.low, market.close, market.mark_open, market.mark_close):
        assert column[2, 0] == 102.0
        assert column[4, 0] == 104.0
        assert column[0, 1] == 0.0
    assert market.volume[:, 0].tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert market.open[3, 0] == 103.0


@st.composite
def ragged(draw: st.DrawFn) -> dict[str, Bars]:
    minutes = st.lists(st.integers(0, 40), min_size=1, max_size=25, unique=True).map(sorted)
    names = "ABC"[: draw(st.integers(1, 3))]
    return {name: bars_at(name, draw(minutes), level=10.0 * n + 5) for n, name in enumerate(names)}


@given(ragged())
def test_each_symbol_gets_back_exactly_its_own_bars(series: dict[str, Bars]) -> None:
    market = align(series)
    for number, bars in enumerate(series.values()):
        own = market.bars(number)
        assert own.symbol == bars.symbol
        assert own.timeframe == bars.timeframe
        for name in ("ts", "open", "high", "low", "close", "volume"):
            assert np.array_equal(getattr(own, name), getattr(bars, name))
            assert getattr(own, name).flags.c_contiguous


@given(ragged())
def test_alignment_agrees_with_a_slow_twin(series: dict[str, Bars]) -> None:
    market = align(series)
    stamps = sorted({int(ts) for bars in series.values() for ts in bars.ts})
    assert market.ts.tolist() == stamps
    for number, bars in enumerate(series.values()):
        known, close = {int(ts): row for row, ts in enumerate(bars.ts)}, 0.0
        for row, ts in enumerate(stamps):
            assert market.valid[row, number] == (ts in known)
            if ts in known:
                close = bars.close[known[ts]]
                assert market.low[row, number] == bars.low[known[ts]]
            else:
                assert market.low[row, number] == market.high[row, number] == close
            assert market.close[row, number] == close


def test_marks_stand_beside_the_last_price() -> None:
    bars, mark = bars_at("BTC", [0, 1, 2]), bars_at("BTC", [0, 1, 2], level=90.0)
    market = align({"BTC": bars, "ETH": bars_at("ETH", [0, 1, 2])}, marks={"BTC": mark})
    assert market.marked.tolist() == [True, False]
    assert market.mark_low[:, 0].tolist() == mark.low.tolist()
    assert market.low[:, 0].tolist() == bars.low.tolist()
    assert np.array_equal(market.mark_high[:, 1], market.high[:, 1])
    assert market.notes == ()


def test_a_missing_mark_is_the_last_price_and_is_said() -> None:
    mark = bars_at("BTC", [0, 3], level=90.0)
    market = align({"BTC": bars_at("BTC", [0, 1, 2, 3])}, marks={"BTC": mark})
    assert market.mark_close[:, 0].tolist() == [91.0, 102.0, 103.0, 94.0]
    assert market.notes == ("BTC: no mark at 2 of 4 bars, first 2020-03-12T00:01:00Z; last price used",)


def test_a_missing_bar_repeats_the_last_mark_close_in_the_mark_columns() -> None:
    mark = bars_at("BTC", [0, 1, 2], level=90.0)
    market = align({"BTC": bars_at("BTC", [0, 2]), "ETH": bars_at("ETH", [0, 1, 2])}, marks={"BTC": mark})
    assert market.mark_low[1, 0] == market.mark_close[0, 0] == 91.0
    assert market.low[1, 0] == 101.0


def test_finer_marks_are_resampled_to_the_bars() -> None:
    mark = bars_at("BTC", list(range(120)), level=90.0)
    market = align({"BTC": bars_at("BTC", [0, 1], timeframe=HOUR)}, marks={"BTC": mark})
    assert market.mark_open[:, 0].tolist() == [90.0, 150.0]
    assert market.mark_close[:, 0].tolist() == [150.0, 210.0]


def test_coarser_marks_are_refused() -> None:
    with pytest.raises(MisalignedMarket, match="BTC: marks of 1h; expected 1m"):
        align({"BTC": bars_at("BTC", [0, 1])}, marks={"BTC": bars_at("BTC", [0], timeframe=HOUR)})


def test_marks_of_another_time_are_refused() -> None:
    with pytest.raises(
        MisalignedMarket, match=r"marks from 2020-03-12T00:07:00Z to .* expected marks of the bars' own"
    ):
        align({"BTC": bars_at("BTC", [0, 1])}, marks={"BTC": bars_at("BTC", [7, 8])})


def test_bars_of_different_timeframes_are_refused() -> None:
    with pytest.raises(MisalignedMarket, match="ETH: bars of 1h; expected 1m as BTC has"):
        align({"BTC": bars_at("BTC", [0, 1]), "ETH": bars_at("ETH", [0, 1], timeframe=HOUR)})


def test_no_bars_are_refused() -> None:
    with pytest.raises(MisalignedMarket, match="no bars"):
        align({})
    with pytest.raises(MisalignedMarket, match="BTC: no bars"):
        align({"BTC": bars_at("BTC", [0, 1])[:0]})


def test_marks_and_funding_without_bars_are_refused() -> None:
    bars = {"BTC": bars_at("BTC", [0, 1])}
    with pytest.raises(MisalignedMarket, match="ETH: marks without bars"):
        align(bars, marks={"ETH": bars_at("ETH", [0, 1])})
    with pytest.raises(MisalignedMarket, match="ETH: funding without bars"):
        align(bars, funding={"ETH": Funding.validated("ETH", [START], [0.0001])})


def funded(minutes: list[int], stamps: list[int], rates: list[float] | None = None) -> Market:
    rates = rates if rates is not None else [0.0001 * (n + 1) for n in range(len(stamps))]
    funding = Funding.validated("BTC", START + np.array(stamps) * MINUTE, rates)
    return align({"BTC": bars_at("BTC", minutes), "ETH": bars_at("ETH", list(range(12)))}, funding={"BTC": funding})


def settled(market: Market, number: int = 0) -> dict[int, list[tuple[int, float]]]:
    """By the minute of the bar: the stamps that it settles, each its minute and its rate."""
    found = {}
    for row, (first, last) in enumerate(zip(market.stamps_from[:, number], market.stamps_to[:, number], strict=True)):
        if first < last:
            stamps = market.stamps[first:last]
            minutes = ((stamps.ts - START) // MINUTE).tolist()
            found[int(market.ts[row] - START) // MINUTE] = list(zip(minutes, stamps.rate.tolist(), strict=True))
    return found


def test_a_stamp_settles_at_the_bar_that_opens_with_it() -> None:
    market = funded(list(range(12)), [0, 4, 8], [0.1, 0.2, 0.3])
    assert settled(market) == {0: [(0, 0.1)], 4: [(4, 0.2)], 8: [(8, 0.3)]}
    assert settled(market, 1) == {}
    assert market.notes == ()


def test_every_stamp_inside_a_bar_settles_at_it_in_order_also_in_the_last() -> None:
    funding = Funding.validated("BTC", START + np.array([0, 20, 59, 60, 119]) * MINUTE, [0.1, 0.2, 0.3, 0.4, 0.5])
    market = align({"BTC": bars_at("BTC", [0, 1], HOUR)}, funding={"BTC": funding})
    assert settled(market) == {0: [(0, 0.1), (20, 0.2), (59, 0.3)], 60: [(60, 0.4), (119, 0.5)]}
    assert len(market.stamps) == 5


def test_stamps_in_a_hole_settle_at_the_symbols_next_bar_before_its_own_and_not_at_another_symbols() -> None:
    market = funded([0, 1, 2, 8, 9, 10, 11], [0, 4, 6, 8], [0.1, 0.2, 0.3, 0.4])
    assert settled(market) == {0: [(0, 0.1)], 8: [(4, 0.2), (6, 0.3), (8, 0.4)]}
    assert settled(market, 1) == {}


def test_stamps_outside_the_bars_settle_nothing() -> None:
    assert settled(funded([4, 5, 6, 7], [0, 4, 8, 12], [0.1, 0.2, 0.3, 0.4])) == {4: [(4, 0.2)]}


def test_a_rate_of_zero_is_known_and_a_missing_rate_is_not() -> None:
    assert settled(funded(list(range(12)), [0, 4], [0.0, 0.0])) == {0: [(0, 0.0)], 4: [(4, 0.0)]}


def test_stamps_of_several_symbols_stand_apart() -> None:
    series = {name: bars_at(name, [0, 1, 2]) for name in ("BTC", "ETH")}
    rates = {"BTC": [0.1, 0.2], "ETH": [0.3, 0.4]}
    funding = {name: Funding.validated(name, START + np.array([0, 2]) * MINUTE, rates[name]) for name in series}
    market = align(series, funding=funding)
    assert settled(market) == {0: [(0, 0.1)], 2: [(2, 0.2)]}
    assert settled(market, 1) == {0: [(0, 0.3)], 2: [(2, 0.4)]}


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True).map(sorted),
    st.lists(st.integers(0, 95), min_size=1, max_size=20, unique=True).map(sorted),
)
def test_every_stamp_between_first_open_and_last_close_settles_exactly_once(rows: list[int], stamps: list[int]) -> None:
    """Bars of three minutes: a stamp belongs to the bar that it falls into, in a hole to the next one."""
    due = [stamp for stamp in stamps if 3 * rows[0] <= stamp < 3 * rows[-1] + 3]
    assume(due)
    funding = Funding.validated("BTC", START + np.array(stamps) * MINUTE, [0.001 * stamp for stamp in stamps])
    market = align({"BTC": bars_at("BTC", rows, 3 * MINUTE)}, funding={"BTC": funding})
    expected: dict[int, list[tuple[int, float]]] = {}
    for stamp in due:
        owner = next(3 * row for row in rows if stamp < 3 * row + 3)
        expected.setdefault(owner, []).append((stamp, 0.001 * stamp))
    assert settled(market) == expected


def thin(volumes: list[float], *, known: bool = True) -> Bars:
    """Bars that stand still where they have no volume."""
    bars = bars_at("BTC", list(range(len(volumes))))
    idle = np.array(volumes) == 0.0
    columns = {name: np.where(idle, 100.0, getattr(bars, name)) for name in ("open", "high", "low", "close")}
    return replace(bars, **columns, volume=np.array(volumes), volume_known=known)


def test_flat_bars_without_volume_are_no_bars_and_their_stamps_settle_at_the_next_one() -> None:
    funding = Funding.validated("BTC", START + np.array([1, 2]) * MINUTE, [0.1, 0.2])
    market = align({"BTC": thin([1, 0, 0, 5])}, funding={"BTC": funding})
    assert ((market.ts - START) // MINUTE).tolist() == [0, 3]
    assert settled(market) == {3: [(1, 0.1), (2, 0.2)]}
    beside = align({"BTC": thin([1, 0, 0, 5]), "ETH": bars_at("ETH", [0, 1, 2, 3])})
    assert beside.valid[:, 0].tolist() == [True, False, False, True]
    assert beside.close[:, 0].tolist() == [101.0, 101.0, 101.0, 104.0]


def test_a_bar_without_volume_in_which_the_price_moved_is_a_bar_as_is_any_where_volumes_are_unknown() -> None:
    moved = bars_at("BTC", [0, 1, 2])
    moved.volume[1] = 0.0
    assert len(align({"BTC": moved})) == 3
    assert len(align({"BTC": thin([1, 0, 5], known=False)})) == 3
    assert len(align({"BTC": thin([0, 0, 0])})) == 3  # a series of nothing but such bars says nothing of trade


def test_missing_stamps_are_said() -> None:
    assert funded(list(range(12)), [0, 2, 4, 8, 10]).notes == (
        "BTC: 1 funding stamps of every 2m unknown; none was assumed",
    )
    assert funded(list(range(12)), [6, 8, 10]).notes == ("BTC: 3 funding stamps of every 2m unknown; none was assumed",)


def test_a_stamp_some_milliseconds_beside_its_minute_belongs_to_it() -> None:
    beside = [0, 76, 9_999, -1, -1_000]
    stamps = [START + hour * HOUR + late for hour, late in enumerate(beside)]
    exact = [START + hour * HOUR for hour in range(len(beside))]
    assert Funding.validated("BTC", stamps, [0.0] * len(stamps)).ts.tolist() == exact


def test_a_stamp_far_from_any_minute_stays_where_it_is_and_two_of_one_minute_are_refused() -> None:
    assert Funding.validated("BTC", [START + 30_000], [0.0]).ts.tolist() == [START + 30_000]
    with pytest.raises(InvalidFunding, match="duplicate"):
        Funding.validated("BTC", [START, START + 5], [0.0, 0.0])


def test_late_stamps_settle_where_exact_ones_do() -> None:
    bars = {"BTC": bars_at("BTC", list(range(12)))}
    exact, late = (
        align(bars, funding={"BTC": Funding.validated("BTC", [START + n * MINUTE + by for n in (0, 4)], [0.1, 0.2])})
        for by in (0, 11)
    )
    assert settled(late) == settled(exact) == {0: [(0, 0.1)], 4: [(4, 0.2)]}
    assert late.stamps.ts.tolist() == exact.stamps.ts.tolist()
    assert late.notes == exact.notes


def test_an_interval_that_the_source_states_is_believed_when_stamps_are_missed() -> None:
    """Every four minutes, then every two, then again every four: nothing is missing. Without the interval, some are."""
    stamps, lengths = [0, 4, 6, 8, 12], [4, 4, 2, 2, 4]
    ts, intervals = START + np.array(stamps) * MINUTE, np.array(lengths) * MINUTE
    bars = {"BTC": bars_at("BTC", list(range(13)))}
    stated = Funding.validated("BTC", ts, [0.0] * 5, intervals)
    assert align(bars, funding={"BTC": stated}).notes == ()
    hole = Funding.validated("BTC", ts[[0, 1, 3, 4]], [0.0] * 4, intervals[[0, 1, 3, 4]])
    assert align(bars, funding={"BTC": hole}).notes == ("BTC: 1 funding stamps of every 4m unknown; none was assumed",)


def test_whether_volumes_are_known_goes_with_the_symbol() -> None:
    market = align({"BTC": bars_at("BTC", [0, 1]), "ETH": replace(bars_at("ETH", [0, 1]), volume_known=False)})
    assert market.volume_known.tolist() == [True, False]
    assert [market.bars(column).volume_known for column in (0, 1)] == [True, False]
    assert not market.bars(1).resample(2 * MINUTE).volume_known
    assert not market.bars(1)[:1].volume_known


def test_funding_of_another_time_is_refused() -> None:
    with pytest.raises(MisalignedMarket, match="funding from 2020-03-12T00:30:00Z"):
        funded(list(range(12)), [30, 34])


@pytest.mark.parametrize(
    ("stamps", "rates", "rule"),
    [
        ([0, 0], [0.1, 0.1], "duplicate or out of order"),
        ([1, 0], [0.1, 0.1], "duplicate or out of order"),
        ([0, 1], [0.1, float("nan")], "rate not finite"),
        ([0, 1], [0.1, 1.0], "not a fraction"),
    ],
)
def test_funding_with_a_fault_is_refused(stamps: list[int], rates: list[float], rule: str) -> None:
    with pytest.raises(InvalidFunding, match=rule):
        Funding.validated("BTC", stamps, rates)


def test_each_slot_is_closed_by_its_last_row() -> None:
    market = align({"BTC": bars_at("BTC", list(range(180)))})
    decision, slot_ts = market.slots(HOUR)
    assert np.flatnonzero(decision >= 0).tolist() == [59, 119, 179]
    assert decision[[59, 119, 179]].tolist() == [0, 1, 2]
    assert slot_ts.tolist() == [START, START + HOUR, START + 2 * HOUR]


def test_the_last_bar_is_open_until_its_end() -> None:
    decision, slot_ts = align({"BTC": bars_at("BTC", list(range(179)))}).slots(HOUR)
    assert decision.max() == 1
    assert slot_ts.tolist() == [START, START + HOUR]


def test_a_slot_without_rows_is_no_slot_and_a_short_one_closes_on_its_last_row() -> None:
    decision, slot_ts = align({"BTC": bars_at("BTC", [*range(50), *range(125, 240)])}).slots(HOUR)
    assert np.flatnonzero(decision >= 0).tolist() == [49, 104, 164]
    assert slot_ts.tolist() == [START, START + 2 * HOUR, START + 3 * HOUR]


def test_every_row_decides_at_the_markets_own_timeframe() -> None:
    market = align({"BTC": bars_at("BTC", [0, 1, 5])})
    decision, slot_ts = market.slots(MINUTE)
    assert decision.tolist() == [0, 1, 2]
    assert np.array_equal(slot_ts, market.ts)


def test_a_slot_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(InvalidTimeframe, match="multiple"):
        align({"BTC": bars_at("BTC", [0, 1])}).slots(90_000)


@given(ragged())
def test_slots_are_the_resampled_bars_of_a_single_symbol(series: dict[str, Bars]) -> None:
    bars = series["A"]
    coarse = bars.resample(5 * MINUTE)
    market = align({"A": bars})
    decision, slot_ts = market.slots(5 * MINUTE)
    assert slot_ts.tolist() == coarse.ts.tolist()
    assert market.close[decision >= 0, 0].tolist() == coarse.close.tolist()
