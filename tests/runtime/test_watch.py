"""The watch over all positions misses nobody whom the step would call or liquidate, and keeps up with the database."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event, select, update

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.markets.tables import shipped
from ringfence.risk.book import Book
from ringfence.risk.errors import MarksRefused
from ringfence.risk.events import Kind
from ringfence.risk.exposure import arm
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import book_of, live_through
from ringfence.runtime.stretch import Stretch
from ringfence.runtime.watch import Marks, PositionWatch, shard_of
from ringfence.vaults.entries import Decided
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import mandate, position, vault
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, Tide, contents, launch, tide, walk

BTC = f"binance:{SYMBOL}"
ALARMS = (Kind.margin_call, Kind.liquidation)


def nervous(name: str, leverage: str) -> Setup:
    """A vault that is called when 8 % of its notional is left, and then reduces to 12 %."""
    text = MANDATE.format(name=name, leverage=leverage).replace("at: 1.5, then: reduce, to: 3", CALL)
    return set_up(load_mandate(text.encode()))


CALL = "at: 20, then: reduce, to: 30"


def rough(bars: int = 48, seed: int = 3) -> Market:
    """A calm walk that leaps every fourth hour, with lows and highs beyond the opens and closes."""
    random = np.random.default_rng(seed)
    moves = random.normal(0.0, 0.004, bars)
    moves[8::4] = random.uniform(0.1, 0.25, len(moves[8::4])) * random.choice([-1.0, 1.0], len(moves[8::4]))
    close = 8_000.0 * np.exp(np.cumsum(moves))
    opened = np.concatenate(([8_000.0], close[:-1]))
    beyond = np.abs(random.normal(0.0, 0.03, (2, bars)))
    high, low = np.maximum(opened, close) * (1.0 + beyond[0]), np.minimum(opened, close) * (1.0 - beyond[1])
    ts = START + HOUR * np.arange(bars, dtype=np.int64)
    return align({SYMBOL: Bars(SYMBOL, HOUR, ts, opened, high, low, close, np.full(bars, 10.0**6))})


@contextmanager
def two(url: str, market: Market, slots: int) -> Iterator[tuple[Tide, Tide]]:
    """A vault that goes long and one that goes short, each with the money of one holder, after so many slots."""
    up = launch(url, market, nervous("up", "5"))
    down = replace(up, setup=nervous("down", "-5"))
    open_vault(up.engine, down.setup.mandate, START)
    for one in (up, down):
        deposit(up.engine, one.name, "alice", 1_000 * UNIT, START)
        one.step(slots)
    yield up, down
    up.engine.dispose()


def answers(watch: PositionWatch) -> tuple[Any, ...]:
    """Everything that can be asked of a watch: whom each price from 4,000 to 20,000 crosses, and what it tells."""
    prices = np.linspace(4_000.0, 20_000.0, 801).tolist()
    return [watch.crossed({BTC: Marks(price, price)}) for price in prices], watch.unwatched, len(watch)


def alarms(decided: Decided) -> set[Kind]:
    return {Kind(one.kind) for one in decided.events} & set(ALARMS)


class Touches(NamedTuple):
    """What a bar does to the watches of a vault's position, by the vault itself."""

    worst: bool
    """Its worst mark touches one of both."""
    liquidation: bool
    """Its worst mark touches the liquidation's."""
    call: bool
    """Its close touches the margin call's."""


def touched(setup: Setup, book: Book, bar: Any) -> Touches:
    row = book.positions.copy()[0]
    arm(row, setup.limits.positions[0], setup.listing[0])
    watches = float(row.liquidation_watch), float(row.call_watch)
    if row.quantity > 0:
        return Touches(bar.mark_low <= max(watches), bar.mark_low <= watches[0], bar.mark_close <= watches[1])
    if row.quantity < 0:
        return Touches(bar.mark_high >= min(watches), bar.mark_high >= watches[0], bar.mark_close >= watches[1])
    return Touches(False, False, False)


def test_slot_by_slot_whoever_is_called_or_liquidated_was_crossed_before(database_url: str) -> None:
    market = rough()
    with two(database_url, market, 4) as vaults:
        watch = PositionWatch(vaults[0].engine)
        told, early, quiet = [], 0, 0
        for number in range(4, len(market)):
            assert watch.refresh() == (0 if number == 4 else 2)
            bar = vaults[0].slots.rows[number, 0]
            found = watch.crossed({BTC: Marks(float(bar.mark_low), float(bar.mark_high))})
            for one in vaults:
                with unit_of_work(one.engine) as connection:
                    held = one.vault(connection)
                    touches = touched(one.setup, book_of(held, one.stretch(number).close), bar)
                    happened = alarms(one.live_through(held, number))
                assert (one.name in found) == touches.worst
                assert touches.worst >= bool(happened), "too early perhaps, and never too late"
                assert (Kind.liquidation in happened) == touches.liquidation, "without funding never too early"
                assert (Kind.margin_call in happened) <= touches.call
                told += happened
                early += one.name in found and not happened
                quiet += one.name not in found
        assert {*told} == {*ALARMS}
        assert early > 0
        assert quiet > 0


_factor = st.floats(0.6, 1.6)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_factor, min_size=4, max_size=4))
@example([1.0, 1.0, 1.0, 1.0])
@example([1.0, 0.6, 1.6, 1.0])
def test_for_any_bar_the_crossed_are_all_that_the_step_calls_or_liquidates(
    standing: tuple[tuple[Tide, Book, Stretch], ...], factors: list[float]
) -> None:
    watch = PositionWatch(standing[0][0].engine)
    for one, book, inputs in standing:
        bars = inputs.walk.bars.copy()
        bar = bars[0, 0]
        opened, close = (float(bar.open) * factor for factor in factors[:2])
        low, high = min(opened, close, *(bar.open * f for f in factors)), max(bar.open * f for f in factors)
        for prefix in ("", "mark_"):
            for name, price in (("open", opened), ("high", high), ("low", low), ("close", close)):
                setattr(bar, prefix + name, price)
        copy = Book(book.vaults.copy(), book.positions.copy())
        is_crossed = one.name in watch.crossed({BTC: Marks(float(low), float(high))})
        touches = touched(one.setup, book, bar)
        step = live_through(one.setup, copy, replace(inputs, walk=inputs.walk._replace(bars=bars)))
        assert step is not None
        happened = alarms(step.entry)
        assert is_crossed == touches.worst
        assert is_crossed >= bool(happened)
        assert (Kind.liquidation in happened) == touches.liquidation
        assert (Kind.margin_call in happened) <= touches.call


@pytest.fixture
def standing(sqlite_database: str) -> Iterator[tuple[tuple[Tide, Book, Stretch], ...]]:
    """Both vaults with what they hold before their thirteenth slot."""
    with two(sqlite_database, walk(), 12) as vaults:
        found = []
        for one in vaults:
            inputs = one.stretch(12)
            with unit_of_work(one.engine) as connection:
                book = book_of(one.vault(connection), inputs.close)
            assert book.positions[0].quantity
            found.append((one, book, inputs))
        yield tuple(found)


def test_after_every_act_a_refresh_comes_to_what_everything_read_anew_comes_to(database_url: str) -> None:
    with two(database_url, rough(), 8) as (up, down):
        watch = PositionWatch(up.engine)
        assert len(watch) == 2
        seen = [answers(watch)]
        later = nervous("later", "2")

        def opened() -> None:
            open_vault(up.engine, later.mandate, START)
            deposit(up.engine, "later", "alice", 1_000 * UNIT, START)

        acts = (
            (0, lambda: None),
            (1, lambda: deposit(up.engine, "up", "bob", 500 * UNIT, START)),
            (1, lambda: redeem(up.engine, "down", "alice", None, START)),
            (2, lambda: (up.step(1, 8), down.step(1, 8))),
            (1, opened),
            (1, lambda: replace(up, setup=later).step(9)),
            (3, lambda: [replace(up, setup=one).step(3, 9) for one in (up.setup, down.setup, later)]),
        )
        for changed, act in acts:
            act()
            assert watch.refresh() == changed
            fresh = PositionWatch(up.engine)
            assert answers(watch) == answers(fresh)
            seen.append(answers(watch))
        assert len(watch) == 2, "the one who left is all cash"
        assert sum(one != other for one, other in pairwise(seen)) >= 3


def test_what_is_committed_between_two_queries_of_a_reading_is_left_for_the_next_one(database_url: str) -> None:
    with two(database_url, rough(), 8) as (up, _):
        writer = open_engine(database_url, create=False)
        before = answers(PositionWatch(up.engine))
        deposit(up.engine, "up", "alice", UNIT, START)
        watch = PositionWatch(up.engine)
        redeem(up.engine, "up", "alice", 1_000 * UNIT, START)
        with struck_after(up.engine, "vault.version", lambda: Desk(writer).step("up", int(up.slots.opens[8]))) as runs:
            assert watch.refresh() == 1
        writer.dispose()
        assert runs == [1]
        assert answers(watch) == before
        assert answers(PositionWatch(up.engine)) != before
        assert watch.refresh() == 1
        assert answers(watch) == answers(PositionWatch(up.engine))


@contextmanager
def struck_after(engine: Engine, words: str, act: Any) -> Iterator[list[int]]:
    """Let `act` happen once a statement of these words was executed; yields what came of it."""
    runs: list[int] = []

    def strike(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if words in statement and not runs:
            runs.append(0)
            runs[0] = act()

    event.listen(engine, "after_cursor_execute", strike)
    try:
        yield runs
    finally:
        event.remove(engine, "after_cursor_execute", strike)


class Struck(Exception):
    """The reading that it interrupts."""


def test_a_reading_that_fails_leaves_the_watch_as_it_was_and_is_owed(database_url: str) -> None:
    def fail() -> int:
        raise Struck

    with two(database_url, rough(), 8) as (up, _):
        watch = PositionWatch(up.engine)
        before = answers(watch)
        up.step(2, 8)
        for read in (watch.refresh, watch.rebuild):
            with struck_after(up.engine, "position.quantity", fail), pytest.raises(Struck):
                read()
            assert answers(watch) == before
        assert watch.refresh() == 1
        assert answers(watch) == answers(PositionWatch(up.engine)) != before


def test_a_version_that_has_fallen_makes_everything_be_read(sqlite_database: str) -> None:
    with two(sqlite_database, rough(), 8) as (up, _):
        watch = PositionWatch(up.engine)
        with unit_of_work(up.engine) as connection:
            connection.execute(update(position).where(position.c.vault_id == 2).values(quantity=0, cost=0))
            connection.execute(update(vault).where(vault.c.id == 1).values(version=vault.c.version - 1))
        assert watch.refresh() == 2
        assert len(watch) == 1
        assert answers(watch) == answers(PositionWatch(up.engine))


def test_a_vault_whose_mandate_cannot_be_read_is_told_and_the_others_are_watched(database_url: str) -> None:
    with two(database_url, rough(), 8) as (up, _):
        whole = answers(PositionWatch(up.engine))
        alter_mandate(up.engine, "up", '"currency":"USDT"', '"currency":7')
        watch = PositionWatch(up.engine)
        assert watch.unwatched.keys() == {"up"}
        assert "currency" in watch.unwatched["up"]
        assert watch.crossed({BTC: Marks(1.0, 1e9)}) == ("down",)
        alter_mandate(up.engine, "up", '"currency":7', '"currency":"USDT"')
        alter_mandate(up.engine, "down", '"positions":{"btc":', '"positions":{"other":')
        deposit(up.engine, "up", "alice", UNIT, START)
        assert watch.refresh() == 1
        assert watch.unwatched == {}, "what the mandate of the other one said is known"
        watch = PositionWatch(up.engine)
        assert watch.unwatched == {"down": "its mandate knows no position btc"}
        alter_mandate(up.engine, "down", '"positions":{"other":', '"positions":{"btc":')
        assert answers(PositionWatch(up.engine)) == whole


def test_a_vault_whose_strategy_is_not_installed_is_watched(sqlite_database: str) -> None:
    with two(sqlite_database, rough(), 8) as (up, _):
        whole = answers(PositionWatch(up.engine))
        alter_mandate(up.engine, "up", '"name":"constant"', '"name":"gone"')
        assert answers(PositionWatch(up.engine)) == whole


def alter_mandate(engine: Engine, name: str, words: str, others: str) -> None:
    with unit_of_work(engine) as connection:
        body = connection.execute(select(mandate.c.body).where(mandate.c.name == name)).scalar_one()
        assert words in body
        connection.execute(update(mandate).where(mandate.c.name == name).values(body=body.replace(words, others)))


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_every_position_is_watched_by_exactly_one_shard(many: Engine, shards: int) -> None:
    watches = [PositionWatch(many, shard, shards) for shard in range(shards)]
    assert sum(len(watch) for watch in watches) == len(INSTRUMENTS)
    everywhere = {key: Marks(1e-9, 1e12) for key in INSTRUMENTS}
    found = [name for watch in watches for name in watch.crossed(everywhere)]
    assert sorted(found) == sorted(f"vault-{number}" for number in range(len(INSTRUMENTS)))
    for key in INSTRUMENTS:
        own = [n for n, watch in enumerate(watches) if watch.crossed({key: everywhere[key]})]
        assert own == [shard_of(key, shards)]


INSTRUMENTS = [one.key for one in shipped().instruments if one.kind == "linear"][:12]


@pytest.fixture
def many(sqlite_database: str) -> Iterator[Engine]:
    """A vault for each of some instruments, each with a position and no margin: any mark of a long crosses it."""
    engine = launch(sqlite_database, walk(), tide("first")).engine
    for number, key in enumerate(INSTRUMENTS):
        text = MANDATE.format(name=f"vault-{number}", leverage="5").replace(SYMBOL, key.removeprefix("binance:"))
        open_vault(engine, set_up(load_mandate(text.encode())).mandate, START)
    with unit_of_work(engine) as connection:
        connection.execute(update(position).where(position.c.vault_id > 1).values(quantity=10**6, cost=2**60))
    yield engine
    engine.dispose()


def test_the_shard_of_an_instrument_is_the_same_for_ever() -> None:
    keys = ("binance:BTC/USDT:USDT", "binance:ETH/USDT:USDT", "okx:BTC/USDT:USDT")
    assert [[shard_of(key, shards) for key in keys] for shards in (1, 2, 16)] == [[0, 0, 0], [0, 0, 1], [2, 14, 13]]
    with pytest.raises(ValueError, match="expected one from 0 to 1"):
        PositionWatch(None, 2, 2)  # type: ignore[arg-type]


def test_marks_that_no_market_can_have_shown_are_refused_and_other_instruments_are_ignored(
    standing: tuple[tuple[Tide, Book, Stretch], ...],
) -> None:
    watch = PositionWatch(standing[0][0].engine)
    assert watch.crossed({}) == watch.crossed({"okx:BTC/USDT:USDT": Marks(1.0, 1e9)}) == ()
    with pytest.raises(MarksRefused):
        watch.crossed({BTC: Marks(math.nan, 1e9)})


def test_two_watches_at_once_that_read_while_vaults_are_stepped_come_to_the_same(database_url: str) -> None:
    with two(database_url, rough(), 8) as (up, down):
        over = threading.Event()

        def keep_up() -> PositionWatch:
            watch = PositionWatch(open_engine(database_url, create=False))
            while not over.is_set():
                watch.refresh()
            return watch

        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(keep_up) for _ in range(2)]
            try:
                for number in range(8, 20):
                    up.step(1, number)
                    down.step(1, number)
            finally:
                over.set()
            watches = [one.result(timeout=60) for one in running]
        for watch in watches:
            watch.refresh()
            assert answers(watch) == answers(PositionWatch(up.engine))
            watch.engine.dispose()


def test_a_watch_of_no_vaults_sees_the_first_one_open(database_url: str) -> None:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    watch = PositionWatch(engine)
    assert answers(watch) == ([()] * 801, {}, 0)
    with two(database_url, rough(), 8):
        assert watch.refresh() == 2
        assert watch.crossed({BTC: Marks(1.0, 1e9)}) == ("down", "up")
    engine.dispose()


def test_a_watch_writes_nothing(database_url: str) -> None:
    with two(database_url, rough(), 8) as (up, _):
        before = contents(up.engine)
        watch = PositionWatch(up.engine)
        assert watch.crossed({BTC: Marks(1.0, 1e9)}) == ("down", "up")
        assert watch.refresh() == 0
        assert watch.rebuild() == 2
        assert contents(up.engine) == before
