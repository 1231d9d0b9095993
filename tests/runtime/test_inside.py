"""A vault lives inside its slots: funding, liquidation and the margin call happen at their bar, whoever looks when, and
the journal tells the same as living the slots whole."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from ringfence.markets.market import Funding, Market, align
from ringfence.risk.events import Kind
from ringfence.runtime.acts import deposit
from ringfence.runtime.bar_store import feed_until, store_bars, store_stamps
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import Duties, looked
from ringfence.runtime.halting import halt
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.verification import verify
from ringfence.vaults import journal
from ringfence.vaults.entries import Decided, Walked
from ringfence.vaults.mandate.check import load_mandate
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, Tide, breaches, contents, launch, path, walk

SLOT, BARS = 4 * HOUR, 40
RATE = 0.001
MACHINERY = ("fed", "bar_series")
"""Tables that tell how something was recorded, and nothing of a vault."""


@pytest.fixture(scope="module")
def setup() -> Setup:
    text = MANDATE.format(name="tide", leverage="7").replace("timeframe: 1h", "timeframe: 4h")
    return set_up(load_mandate(text.replace("window: 4h", "window: 8h").encode()))


def falling(seed: int) -> Market:
    """Hourly bars that fall by a fifth inside a slot, with funding inside others and some hours in which nothing
    trades, the last ones of a slot among them."""
    quiet = walk(seed, BARS, 0.004).bars(0)
    close = quiet.close.copy()
    close[25:] *= 0.8
    whole = path(close.tolist(), 8_000.0).bars(0)
    dice = np.random.default_rng(seed)
    silent = set(dice.choice(np.arange(20, BARS), 4, replace=False).tolist()) | {31} - {25}
    there = np.array([hour for hour in range(BARS) if hour not in silent])
    bars = type(whole)(
        SYMBOL, HOUR, *(getattr(whole, name)[there] for name in ("ts", "open", "high", "low", "close", "volume"))
    )
    at = np.array([START + hour * HOUR for hour in (14, 18, 22)])
    return align({SYMBOL: bars}, {}, {SYMBOL: Funding(SYMBOL, at, np.full(len(at), RATE))})


def piece(market: Market, hour: int) -> Market | None:
    """The bar of one hour; None where nothing traded."""
    one = market.before(START + (hour + 1) * HOUR).after(START + hour * HOUR - 1)
    return one if len(one) and one.valid.any() else None


def bare(one: Tide) -> dict[str, list[tuple[object, ...]]]:
    return {table: found for table, found in contents(one.engine).items() if table not in MACHINERY}


def paid_in(url: str, market: Market, setup: Setup) -> Tide:
    one = launch(url, market, setup)
    deposit(one.engine, "tide", "alice", 10_000 * UNIT, START, "first")
    return one


def told(one: Tide, *kinds: type) -> list[journal.Row]:
    with unit_of_work(one.engine, writes=False) as connection:
        return [row for row in journal.rows(connection, 1) if isinstance(row.entry, kinds)]


@pytest.fixture
def whole(tmp_path: Path, setup: Setup) -> Iterator[Tide]:
    one = paid_in(f"sqlite:///{tmp_path / 'whole.db'}", falling(3), setup)
    one.desk.catch_up("tide", lambda: True)
    yield one
    one.engine.dispose()


def test_money_that_moves_inside_a_slot_is_told_at_its_bar(whole: Tide) -> None:
    walked = [(row.ts, [event.kind for event in row.entry.events]) for row in told(whole, Walked)]
    assert [ts for ts, kinds in walked if kinds == [Kind.funding]] == [START + hour * HOUR for hour in (15, 19, 23)]
    (fall,) = (kinds for ts, kinds in walked if ts == START + 26 * HOUR)
    assert set(fall) & {Kind.margin_call, Kind.liquidation}
    assert {row.ts % SLOT for row in told(whole, Decided)} == {0}
    assert breaches(whole.engine) == []
    (verdict,) = verify(whole.engine)
    assert verdict.breaches == ()
    assert verdict.slots == len(told(whole, Decided))


def test_a_guard_lives_no_bar_of_the_next_slot_before_the_one_in_which_the_vault_stands_is_decided(
    whole: Tide, tmp_path: Path, setup: Setup
) -> None:
    """All is fed, a slot ends in a hole, and the guard comes first each time."""
    one = paid_in(f"sqlite:///{tmp_path / 'guarded.db'}", falling(3), setup)
    for close in range(START + SLOT, START + (BARS + 1) * HOUR, SLOT):
        one.desk.guard("tide")
        one.desk.step("tide", close - SLOT)
    assert bare(one) == bare(whole)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(1, 5), looks=st.lists(st.sampled_from(["guard", "settle", "both", "nobody"]),
                                              min_size=BARS, max_size=BARS))  # fmt: skip
@example(seed=3, looks=["guard"] * BARS)
@example(seed=3, looks=["both"] * BARS)
@example(seed=3, looks=["nobody"] * BARS)
def test_whoever_looks_when_the_journal_is_that_of_living_whole(
    tmp_path_factory: pytest.TempPathFactory, setup: Setup, seed: int, looks: list[str]
) -> None:
    folder, market = tmp_path_factory.mktemp("inside"), falling(seed)
    straight = paid_in(f"sqlite:///{folder / 'straight.db'}", market, setup)
    in_unit(straight.engine, lambda connection: feed_until(connection, SYMBOL, START + BARS * HOUR))
    straight.desk.catch_up("tide", lambda: True)
    first = piece(market, 0)
    assert first is not None
    one = paid_in(f"sqlite:///{folder / 'pieces.db'}", first, setup)
    stamps = {int(stamp.ts): float(stamp.rate) for stamp in market.stamps}
    for hour, look in enumerate(looks):
        bar, now = piece(market, hour), START + hour * HOUR
        if bar is not None and hour:
            in_unit(one.engine, lambda connection, bar=bar: store_bars(connection, bar))
        elif now in stamps:
            late = Funding(SYMBOL, np.array([now]), np.array([stamps[now]]))
            in_unit(one.engine, lambda connection, late=late: store_stamps(connection, SYMBOL, late))
        in_unit(one.engine, lambda connection, now=now: feed_until(connection, SYMBOL, now + HOUR))
        if look in ("guard", "both"):
            Desk(one.engine).guard("tide")
        if look in ("settle", "both"):
            Desk(one.engine).catch_up("tide", lambda: True)
    one.desk.catch_up("tide", lambda: True)
    assert bare(one) == bare(straight)
    assert Duties(one.engine).due(0) == []
    straight.engine.dispose()
    one.engine.dispose()


def test_a_halted_vault_tells_the_same_whoever_looks_when(tmp_path: Path, setup: Setup) -> None:
    """Also at the last bar of a slot that ends in a hole, at which money moves."""
    market, lives = falling(1), []
    for name, guards in (("guarded", True), ("passed", False)):
        one = paid_in(f"sqlite:///{tmp_path / f'{name}.db'}", market.before(START + 22 * HOUR), setup)
        one.desk.catch_up("tide", lambda: True)
        halt(one.engine, "tide", "carol", "a price looks wrong", START)
        whole = market.before(START + 23 * HOUR)
        in_unit(one.engine, lambda connection, whole=whole: store_bars(connection, whole))
        if guards:
            assert one.desk.guard("tide") == 1, "funding at 22:00"
        in_unit(one.engine, lambda connection: feed_until(connection, SYMBOL, START + 24 * HOUR))
        assert one.desk.catch_up("tide", lambda: True) == 1
        assert [(row.ts - START) // HOUR for row in told(one, Walked)][-2:] == [23, 24]
        (verdict,) = verify(one.engine)
        assert verdict.breaches == ()
        lives.append([(row.ts, row.kind, row.body) for row in told(one, Decided, Walked)])
        one.engine.dispose()
    assert lives[0] == lives[1]


def test_a_guard_that_finds_nothing_writes_nothing_but_that_it_has_looked(whole: Tide, setup: Setup) -> None:
    before = contents(whole.engine)
    assert whole.desk.guard("tide") == 0
    assert contents(whole.engine) == before
    with unit_of_work(whole.engine, writes=False) as connection:
        assert looked(connection, ["tide"]) == {"tide": START + BARS * HOUR}


def test_a_bar_that_was_walked_is_not_corrected_any_more(tmp_path: Path, setup: Setup) -> None:
    from ringfence.runtime.errors import RecordingDiffers

    market = falling(3)
    one = paid_in(f"sqlite:///{tmp_path / 'one.db'}", market.before(START + 15 * HOUR), setup)
    one.desk.catch_up("tide", lambda: True)
    assert one.desk.guard("tide") == 1, "funding at 14:00"
    wrong = path([9_000.0], 8_000.0)
    from dataclasses import replace

    changed = replace(wrong, ts=np.array([START + 14 * HOUR]))
    with pytest.raises(RecordingDiffers, match="with other figures, and tide has lived it"):
        in_unit(one.engine, lambda connection: store_bars(connection, changed))
    one.engine.dispose()


def test_what_stands_inside_a_slot_is_shown(whole: Tide, tmp_path: Path, setup: Setup) -> None:
    from ringfence.faces import queries

    one = paid_in(f"sqlite:///{tmp_path / 'one.db'}", falling(3).before(START + 27 * HOUR), setup)
    one.desk.catch_up("tide", lambda: True)
    assert one.desk.guard("tide") == 1
    (shown,) = queries.vaults(one.engine)
    assert (shown["marked"], shown["last_slot"]) == ("2020-03-02T02:00:00Z", "2020-03-01T20:00:00Z")
    (position,) = queries.positions(one.engine)
    assert position["mark_price"] is not None
    assert [event["kind"] for event in queries.events(one.engine)][-1] in ("margin_call", "liquidation")
    with unit_of_work(one.engine, writes=False) as connection:
        last = connection.execute(select(journal.COLUMNS[2]).order_by(journal.COLUMNS[0].desc()).limit(1)).scalar()
    assert last == "walked"
    one.engine.dispose()
