"""Recorded bars come back to the last bit, and what vaults have lived through cannot be changed after the fact."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, func, select, update
from sqlalchemy.exc import DBAPIError

from ringfence.markets.bars import Bars
from ringfence.markets.files import read_bars
from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.acts import open_vault
from ringfence.runtime.bar_store import Recorded, Window, feed_until, last_recorded, load_window, store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import RecordingDiffers
from ringfence.runtime.setup import set_up
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import bar

MINUTE, HOUR = 60_000, 3_600_000
START = 1_583_712_000_000  # 2020-03-09T00:00Z
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
COLUMNS = (
    "ts", "open", "high", "low", "close", "volume", "valid", "mark_open", "mark_high", "mark_low", "mark_close",
    "marked", "volume_known", "stamps_from", "stamps_to",
)  # fmt: skip
PER_SYMBOL = ("marked", "volume_known")


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


def bars_of(symbol: str, rows: list[int], seed: int, timeframe: int = HOUR, price: float = 8_000.0) -> Bars:
    """A random walk with a bar at each of the given rows, full of figures that need all 53 bits."""
    dice = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(dice.normal(0.0, 0.01, len(rows))))
    open = close * np.exp(dice.normal(0.0, 0.003, len(rows)))
    high = np.maximum(open, close) * (1.0 + dice.random(len(rows)) / 300.0)
    low = np.minimum(open, close) * (1.0 - dice.random(len(rows)) / 300.0)
    ts = START + np.array(rows, np.int64) * timeframe
    return Bars(symbol, timeframe, ts, open, high, low, close, dice.random(len(rows)) * 100.0)


def gappy_market(length: int = 40) -> Market:
    """Two symbols with gaps in different places, a mark of one of them, and funding of both."""
    first = [row for row in range(length) if row not in (0, 7, 8, 21)]
    second = [row for row in range(length) if row not in (3, 8, 30, 31, 32, length - 1)]
    bars = {BTC: bars_of(BTC, first, 1), ETH: bars_of(ETH, second, 2, price=200.0)}
    marks = {ETH: bars_of(ETH, [row for row in second if row != 12], 3, price=201.0)}
    stamps = START + np.arange(8, length - 1, 8, dtype=np.int64) * HOUR
    dice = np.random.default_rng(4)
    funding = {symbol: Funding(symbol, stamps, dice.normal(0.0, 1e-4, len(stamps))) for symbol in (BTC, ETH)}
    return align(bars, marks, funding)


def until(market: Market, row: int) -> Market:
    """The market as it was known before `row`."""
    cut = {name: getattr(market, name)[:row] for name in COLUMNS if name not in PER_SYMBOL}
    return replace(market, **cut)


def settled(market: Market) -> list[list[tuple[int, float]]]:
    """The stamps of each bar, row by row."""
    spans = zip(market.stamps_from.ravel().tolist(), market.stamps_to.ravel().tolist(), strict=True)
    return [market.stamps[first:end].tolist() for first, end in spans]


def assert_same_bits(found: Market, expected: Market) -> None:
    assert (found.symbols, found.timeframe) == (expected.symbols, expected.timeframe)
    assert settled(found) == settled(expected)
    for name in (column for column in COLUMNS if not column.startswith("stamps")):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype, name
        assert left.shape == right.shape, name
        assert np.ascontiguousarray(left).tobytes() == np.ascontiguousarray(right).tobytes(), name


def record(engine: Engine, market: Market) -> int:
    return in_unit(engine, lambda connection: store_bars(connection, market))


def stretch(market: Market, first: int, end: int) -> Market:
    """Rows first to end - 1."""
    return replace(market, **{name: getattr(market, name)[first:end] for name in COLUMNS if name not in PER_SYMBOL})


def window_after(connection: Connection, clock: int, *symbols: str, timeframe: int = HOUR) -> Window | None:
    """The window whose slots are the bars themselves, looking back on one of them."""
    return load_window(connection, symbols, timeframe, 1, last_recorded(connection, symbols), clock)


def loaded(connection: Connection, *symbols: str) -> Market:
    window = window_after(connection, 0, *symbols)
    assert window is not None
    return window.slots.market


def load(engine: Engine, *symbols: str) -> Market:
    with unit_of_work(engine, writes=False) as connection:
        return loaded(connection, *symbols)


def test_a_market_with_gaps_marks_and_funding_comes_back_to_the_last_bit(engine: Engine) -> None:
    market = gappy_market()
    assert record(engine, market) == int(market.valid.sum())
    assert_same_bits(load(engine, BTC, ETH), market)


def test_the_columns_come_back_in_the_order_that_is_asked_for(engine: Engine) -> None:
    market = gappy_market()
    record(engine, market)
    turned = load(engine, ETH, BTC)
    assert turned.symbols == (ETH, BTC)
    assert turned.close.tobytes() == np.ascontiguousarray(market.close[:, ::-1]).tobytes()
    assert turned.marked.tolist() == [True, False]


def test_one_symbol_of_several_comes_back_on_its_own_clock(engine: Engine) -> None:
    market = gappy_market()
    record(engine, market)
    alone = load(engine, ETH)
    assert alone.ts.tolist() == market.ts[market.valid[:, 1]].tolist()
    assert alone.valid.all()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.floats(5e-324, 1e300),
            st.floats(0.0, 1e300),
            st.floats(-0.999, 0.999, allow_nan=False),
        ),
        min_size=1,
        max_size=8,
    )
)
@example([(5e-324, 0.0, 0.0), (2.2250738585072014e-308, 5e-324, -5e-324), (1e300, 1e300, 0.1 + 0.2)])
def test_any_finite_figure_survives_the_database(sqlite_database: str, figures: list[tuple[float, ...]]) -> None:
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    try:
        market = _market_of(figures)
        with engine.connect() as connection, connection.begin() as undone:
            store_bars(connection, market)
            assert_same_bits(loaded(connection, BTC), market)
            undone.rollback()
    finally:
        engine.dispose()


def test_the_smallest_and_largest_figures_survive_either_database(engine: Engine) -> None:
    market = _market_of([(5e-324, 0.0, 0.0), (2.2250738585072014e-308, 5e-324, -5e-324), (1e300, 1e300, 0.1 + 0.2)])
    record(engine, market)
    assert_same_bits(load(engine, BTC), market)


def _market_of(figures: list[tuple[float, ...]]) -> Market:
    price, volume, rate = (np.array(column) for column in zip(*figures, strict=True))
    ts = START + np.arange(len(figures), dtype=np.int64) * HOUR
    # Adding 0.0 turns -0.0 into 0.0, which is what a database makes of it.
    # Something was traded: a flat bar without volume would be none.
    high = np.where(price < 1e299, np.nextafter(price, np.inf), price)
    low = np.where(price < 1e299, price, np.nextafter(price, 0.0))
    bars = Bars(BTC, HOUR, ts, price, high, low, price, volume + 0.0)
    return align({BTC: bars}, funding={BTC: Funding(BTC, ts, rate + 0.0)})


def test_a_negative_zero_is_recorded_as_zero_whatever_the_database_makes_of_its_sign(engine: Engine) -> None:
    ts = START + np.arange(2, dtype=np.int64) * HOUR
    prices = np.array([8000.0, 8001.0])
    bars = Bars(BTC, HOUR, ts, prices, prices, prices - 1.0, prices, np.array([-0.0, 1.0]))
    record(engine, align({BTC: bars}, funding={BTC: Funding(BTC, ts, np.array([-0.0, 1e-4]))}))
    found = load(engine, BTC)
    assert not np.signbit(found.volume).any()
    assert not np.signbit(found.stamps.rate).any()
    assert len(found.stamps) == 2


def test_recording_the_same_again_writes_nothing(engine: Engine) -> None:
    market = gappy_market()
    record(engine, market)
    assert record(engine, market) == 0
    assert record(engine, until(market, 17)) == 0
    assert_same_bits(load(engine, BTC, ETH), market)


def test_later_bars_are_appended_in_any_number_of_pieces(engine: Engine) -> None:
    market = gappy_market()
    written = [record(engine, until(market, row)) for row in (10, 11, 25, 40)]
    assert all(written)
    assert sum(written) == int(market.valid.sum())
    assert_same_bits(load(engine, BTC, ETH), market)


def test_the_last_recorded_bar_of_each_symbol_changes_when_something_was_recorded(engine: Engine) -> None:
    market = gappy_market()
    with unit_of_work(engine, writes=False) as connection:
        assert last_recorded(connection, (BTC, ETH)).latest == (-1, -1)
    record(engine, until(market, 31))
    with unit_of_work(engine, writes=False) as connection:
        assert last_recorded(connection, (BTC, ETH)).latest == (START + 31 * HOUR, START + 29 * HOUR)


def _changed(market: Market, name: str, row: int, column: int) -> Market:
    figures = getattr(market, name).copy()
    figures[row, column] = np.nextafter(figures[row, column], 0.0)
    return replace(market, **{name: figures})


@pytest.mark.parametrize(
    ("name", "column"),
    [("close", 0), ("open", 1), ("high", 0), ("low", 1), ("volume", 0), ("mark_low", 1), ("mark_close", 1)],
)
def test_a_recorded_figure_changed_in_its_last_bit_is_refused_with_its_time(
    engine: Engine, name: str, column: int
) -> None:
    market = gappy_market()
    record(engine, market)
    with pytest.raises(RecordingDiffers, match=r"the bar of 2020-03-09T05:00:00Z is recorded with other figures"):
        record(engine, _changed(market, name, 5, column))
    assert_same_bits(load(engine, BTC, ETH), market)


def test_a_recorded_funding_rate_cannot_become_another_nor_be_taken_back(engine: Engine) -> None:
    market = gappy_market()
    record(engine, market)
    other = replace(market, stamps=market.stamps.copy())
    other.stamps.rate[1] += 1e-4
    without = replace(market, stamps_to=market.stamps_from)
    for changed, first in ((other, "16:00"), (without, "08:00")):
        with pytest.raises(RecordingDiffers, match=rf"the funding rate of 2020-03-09T{first}:00Z is recorded as"):
            record(engine, changed)
    assert_same_bits(load(engine, BTC, ETH), market)


def test_a_bar_slipped_in_before_the_last_recorded_one_is_refused_with_its_time(engine: Engine) -> None:
    short = {BTC: bars_of(BTC, [0, 1, 3, 4], 5)}
    record(engine, align(short))
    full = bars_of(BTC, [0, 1, 2, 3, 4], 5)
    for name in ("open", "high", "low", "close", "volume"):
        getattr(full, name)[[0, 1, 3, 4]] = getattr(short[BTC], name)
    with pytest.raises(RecordingDiffers, match=r"the bar of 2020-03-09T02:00:00Z is not among the recorded ones"):
        record(engine, align({BTC: full}))


def test_the_last_recorded_bar_is_corrected_until_a_vault_has_lived_it(engine: Engine, project: Path) -> None:
    market = align({BTC: bars_of(BTC, list(range(31)), 5), ETH: bars_of(ETH, list(range(31)), 6)})
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"))
    name = setup.mandate.name
    record(engine, market)
    open_vault(engine, setup.mandate, START)
    assert Desk(engine).step(name, START + 29 * HOUR) == 30
    corrected, before = _changed(market, "volume", 30, 0), recorded_so_far(engine)
    assert record(engine, corrected) == 1
    assert recorded_so_far(engine) != before
    assert record(engine, corrected) == 0
    assert_same_bits(load(engine, BTC, ETH), corrected)
    with pytest.raises(RecordingDiffers, match=r"the bar of 2020-03-10T05:00:00Z is recorded with other figures$"):
        record(engine, _changed(corrected, "volume", 29, 0))
    assert Desk(engine).step(name, START + 30 * HOUR) == 1
    with pytest.raises(RecordingDiffers, match=rf"2020-03-10T06:00:00Z is recorded with other figures, and {name} has"):
        record(engine, market)
    assert_same_bits(load(engine, BTC, ETH), corrected)


def test_the_database_itself_keeps_every_bar_but_the_last_that_no_vault_has_lived(
    engine: Engine, project: Path
) -> None:
    market = align({BTC: bars_of(BTC, [0, 1, 2], 5), ETH: bars_of(ETH, [0, 1, 2], 6)})
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"))
    record(engine, market)
    open_vault(engine, setup.mandate, START)

    def change(row: int) -> None:
        with unit_of_work(engine) as connection:
            connection.execute(update(bar).where(bar.c.ts == START + row * HOUR).values(volume=bar.c.volume + 1.0))

    change(2)
    with pytest.raises(DBAPIError, match="append-only"):
        change(1)
    Desk(engine).step(setup.mandate.name, START + 2 * HOUR)
    with pytest.raises(DBAPIError, match="append-only"):
        change(2)


def test_a_desk_that_holds_a_window_sees_a_correction(engine: Engine, project: Path) -> None:
    """The window was loaded before the correction, and the slot is decided after it: from the corrected figures."""
    market = align({BTC: bars_of(BTC, list(range(90)), 5), ETH: bars_of(ETH, list(range(90)), 6)})
    corrected = _changed(_changed(market, "close", 89, 0), "close", 89, 1)
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"))
    desk, name = Desk(engine), setup.mandate.name
    record(engine, market)
    open_vault(engine, setup.mandate, START)
    desk.step(name, START + 88 * HOUR)
    record(engine, corrected)
    with unit_of_work(engine, writes=False) as connection:
        window = desk.window(connection, setup, START + 88 * HOUR)
        assert window is not None
        assert window.slots.market.close[-1].tolist() == corrected.close[-1].tolist()


def recorded_so_far(engine: Engine) -> Recorded:
    with unit_of_work(engine, writes=False) as connection:
        return last_recorded(connection, (BTC, ETH))


def test_a_series_without_volumes_comes_back_as_one_and_is_not_mixed_with_one_that_has_some(engine: Engine) -> None:
    bars = bars_of(BTC, [0, 1, 2], 5)
    without = replace(bars, volume=np.zeros(3), volume_known=False)
    record(engine, align({BTC: without[:2]}))
    assert load(engine, BTC).volume_known.tolist() == [False]
    with pytest.raises(RecordingDiffers, match="bars without volumes are recorded, these are with"):
        record(engine, align({BTC: bars}))
    assert record(engine, align({BTC: without})) == 1


def test_bars_of_another_timeframe_are_refused(engine: Engine) -> None:
    record(engine, align({BTC: bars_of(BTC, [0, 1], 5)}))
    with pytest.raises(RecordingDiffers, match=r"bars of 3600000 ms are recorded, these are of 60000 ms"):
        record(engine, align({BTC: bars_of(BTC, [500, 501], 5, timeframe=MINUTE)}))


def test_a_refusal_for_one_symbol_leaves_nothing_of_the_others(engine: Engine) -> None:
    market = gappy_market()
    record(engine, until(market, 20))
    with pytest.raises(RecordingDiffers, match=r"ETH/USDT:USDT"):
        record(engine, _changed(market, "close", 5, 1))
    assert_same_bits(load(engine, BTC, ETH), until(market, 20))


def test_bars_that_a_vault_has_already_lived_without_are_refused(engine: Engine, project: Path) -> None:
    """Bitcoin's bars arrive and the vault waits for ether's; it is said that there are none, and it steps; then they
    arrive: too late."""
    market = align({symbol: gappy_market().bars(column) for column, symbol in enumerate((BTC, ETH))})
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"))
    record(engine, until(market, 20))
    open_vault(engine, setup.mandate, START)
    record(engine, align({BTC: market.bars(0)[:27]}))
    assert Desk(engine).step("btc-eth-shield", START + 25 * HOUR) == 20
    in_unit(engine, lambda connection: feed_until(connection, ETH, START + 27 * HOUR))
    assert Desk(engine).step("btc-eth-shield", START + 25 * HOUR) == 4  # no bars at 8 and at 21 o'clock
    late = r"the bar of 2020-03-09T21:00:00Z is new, but btc-eth-shield has lived up to 2020-03-10T02:00:00Z"
    with pytest.raises(RecordingDiffers, match=late):
        record(engine, market)
    after = market.bars(1)
    after = after[int(np.searchsorted(after.ts, START + 26 * HOUR)) :]
    assert record(engine, align({ETH: after})) == len(after)


def test_two_recorders_of_the_same_bars_take_turns_and_write_them_once(engine: Engine) -> None:
    market, gate, written = gappy_market(), threading.Barrier(2), []
    first = record(engine, until(market, 10))

    def recorder() -> None:
        gate.wait()
        written.append(record(engine, market))

    threads = [threading.Thread(target=recorder) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == [0, int(market.valid.sum()) - first]
    assert_same_bits(load(engine, BTC, ETH), market)


def test_a_recorder_that_commits_while_a_market_is_read_shows_in_it_whole_or_not_at_all(engine: Engine) -> None:
    """The recorder slips in after each single statement of the reader, the last bars and the bars themselves alike."""
    market = gappy_market()
    lengths = {int(until(market, row).valid[:, 0].sum()): row for row in range(10, 40)}
    record(engine, until(market, 10))
    row = [10]

    def slip_in(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if connection.get_execution_options().get("ringfence_reader") and "SELECT" in statement and row[0] < 39:
            row[0] += 1
            record(engine, until(market, row[0]))

    event.listen(engine, "after_cursor_execute", slip_in)
    try:
        # Not `writes=False`, whose snapshot is consistent anyway: a stepping unit reads as it writes.
        with engine.connect() as plain:
            reader = plain.execution_options(ringfence_reader=True, ringfence_writes=False)
            if engine.dialect.name == "postgresql":
                reader = reader.execution_options(isolation_level="READ COMMITTED")
            found = loaded(reader, BTC, ETH)
    finally:
        event.remove(engine, "after_cursor_execute", slip_in)
    assert row[0] > 10
    assert_same_bits(found, until(market, lengths[int(found.valid[:, 0].sum())]))


def test_a_month_of_minutes_is_recorded_and_read_whole(engine: Engine, recorded: Path) -> None:
    market = align(
        {symbol: read_bars(recorded / f"spot_{symbol[:3]}USDT_1m_2020-03.parquet", symbol) for symbol in (BTC, ETH)}
    )
    assert record(engine, market) == int(market.valid.sum())
    with unit_of_work(engine, writes=False) as connection:
        windows, clock = 0, 0
        while (window := window_after(connection, clock, BTC, ETH, timeframe=MINUTE)) is not None:
            read = window.slots.market
            first, last = np.searchsorted(market.ts, (window.first, read.ts[-1])).tolist()
            assert_same_bits(stretch(read, int(np.searchsorted(read.ts, window.first)), len(read)),
                             stretch(market, first, last + 1))  # fmt: skip
            windows, clock = windows + 1, read.close_ts
        assert (windows, clock) == (3, market.close_ts)
        assert connection.execute(select(func.count()).select_from(bar)).scalar_one() == 2 * 44_512
