"""What is done on a bad price: on one out of date a position may shrink and be cut, on one too far from its own mean
nothing is done, and a margin call that is due there halts the vault."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from ringfence.markets.feeds.quality import Quality
from ringfence.markets.market import Market
from ringfence.risk.events import Bound, Kind
from ringfence.runtime.acts import deposit
from ringfence.runtime.bar_store import feed_until, store_bars
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.halting import resume
from ringfence.runtime.levels import store_levels
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import HALTED_BY
from ringfence.runtime.verification import verify
from ringfence.vaults import journal
from ringfence.vaults.entries import Decided, Halted, Walked
from ringfence.vaults.mandate.check import load_mandate
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, Tide, breaches, contents, launch, path, tide

FLAT = [8_000.0] * 10
FALLEN = [*FLAT, *[6_500.0] * 5]
"""A fall in the eleventh hour that calls a position early."""
EARLY = MANDATE.replace("at: 1.5, then: reduce, to: 3", "at: 10, then: reduce, to: 20").format(
    name="tide", leverage="5"
)


def lived(url: str, market: Market, levels: Mapping[int, Quality], setup: Setup | None = None) -> Tide:
    """A vault paid in to, before what was recorded with these levels, by hour."""
    one = launch(url, market, setup or tide())
    by_open = {START + hour * HOUR: level for hour, level in levels.items()}
    in_unit(one.engine, lambda connection: store_levels(connection, SYMBOL, by_open))
    deposit(one.engine, one.name, "alice", 100_000 * UNIT, START, new=True)
    return one


def early(*changes: tuple[str, str]) -> Setup:
    """The mandate with a margin call that comes long before the liquidation."""
    text = EARLY
    for old, new in changes:
        text = text.replace(old, new)
    return set_up(load_mandate(text.encode()))


def held(one: Tide, hours: int) -> list[int]:
    """The lots that it holds after each hour."""
    found = []
    for hour in range(hours):
        one.desk.step(one.name, START + hour * HOUR)
        found.append(int(contents(one.engine)["position"][0][4]))
    return found


def told(one: Tide, kind: type) -> list[journal.Row]:
    with unit_of_work(one.engine, writes=False) as connection:
        return [row for row in journal.rows(connection, 1) if isinstance(row.entry, kind)]


@pytest.mark.parametrize("level", [Quality.disagreeing, Quality.stale])
def test_on_a_price_out_of_date_a_strategy_s_cut_is_made_and_nothing_is_opened(
    sqlite_database: str, tmp_path: Path, level: Quality
) -> None:
    closes = [*FLAT, *[7_700.0] * 5]
    good = lived(sqlite_database, path(closes, 8_000.0), {})
    bad = lived(f"sqlite:///{tmp_path / 'bad.db'}", path(closes, 8_000.0), dict.fromkeys(range(10, 15), level))
    lots = held(bad, 15)
    assert lots[:11] == held(good, 15)[:11]
    assert 0 < lots[14] <= lots[11] <= lots[10] < lots[9]
    unopened = lived(f"sqlite:///{tmp_path / 'x.db'}", path(closes, 8_000.0), dict.fromkeys(range(15), level))
    assert held(unopened, 15) == [0] * 15
    for one in (good, bad, unopened):
        assert verify(one.engine)[0].breaches == ()
        one.engine.dispose()


def test_what_is_liquidated_on_a_price_out_of_date_is_not_opened_again_on_it(sqlite_database: str) -> None:
    one = lived(sqlite_database, path([*FLAT, 5_000.0, 5_000.0, 5_000.0], 8_000.0), {10: Quality.stale})
    lots = held(one, 13)
    assert lots[9] > 0
    assert lots[10] == 0
    assert lots[12] > 0
    one.engine.dispose()


def test_where_money_would_buy_on_a_price_out_of_date_nobody_enters_until_there_is_a_better_one(
    sqlite_database: str,
) -> None:
    one = lived(sqlite_database, path([*FLAT, *[8_000.0] * 3], 8_000.0), {10: Quality.stale, 11: Quality.disagreeing})
    lots = held(one, 10)
    deposit(one.engine, one.name, "bob", 100_000 * UNIT, START + 10 * HOUR, new=True)
    lots += held(one, 13)[10:]
    assert lots[9] == lots[10] == lots[11] < lots[12]
    struck = {row.entry.slot: row.entry.is_struck for row in told(one, Decided)}
    assert [struck[START + hour * HOUR] for hour in (9, 10, 11, 12)] == [True, False, False, True]
    assert verify(one.engine)[0].breaches == ()
    one.engine.dispose()


@pytest.mark.parametrize("level", [Quality.future, Quality.guarded])
def test_a_price_that_is_good_for_nothing_changes_no_position(sqlite_database: str, level: Quality) -> None:
    one = lived(sqlite_database, path([*FLAT, *[7_700.0] * 5], 8_000.0), dict.fromkeys(range(10, 15), level))
    lots = held(one, 15)
    assert lots[9] == lots[14] > 0
    assert told(one, Halted) == []
    one.engine.dispose()


def test_a_margin_call_on_a_guarded_price_is_not_made_and_halts_the_vault(database_url: str) -> None:
    """It is made at the first good price, halted or not; two steps end the halt as any other."""
    one = lived(database_url, path(FALLEN, 8_000.0), {10: Quality.guarded, 11: Quality.guarded}, early())
    lots = held(one, 15)
    assert lots[9] == lots[10] == lots[11] > lots[12] > 0
    (halted,) = told(one, Halted)
    assert halted.ts == START + 11 * HOUR
    assert (halted.entry.by, halted.entry.why) == (
        HALTED_BY, "the margin call of btc is due on a price that is guarded"
    )  # fmt: skip
    events = [event for row in told(one, Decided) + told(one, Walked) for event in row.entry.events]
    refused = [event for event in events if event.reason is Bound.doubted_price]
    assert {event.kind for event in refused} == {Kind.refusal}
    assert {event.ts for event in refused} == {START + 11 * HOUR, START + 12 * HOUR}
    assert all(event.quantity_before == event.quantity_after == lots[9] for event in refused)
    assert [event.ts for event in events if event.kind is Kind.margin_call] == [START + 13 * HOUR]
    for confirmed in (False, True):
        resume(one.engine, one.name, "ann", "looked", START + 15 * HOUR, confirmed=confirmed)
    assert breaches(one.engine) == []
    assert verify(one.engine)[0].breaches == ()
    one.engine.dispose()


def test_a_margin_call_on_a_price_from_the_future_waits_and_halts_nobody(sqlite_database: str) -> None:
    one = lived(sqlite_database, path(FALLEN, 8_000.0), {10: Quality.future}, early())
    lots = held(one, 12)
    assert lots[9] == lots[10] > lots[11] > 0
    assert told(one, Halted) == []
    assert verify(one.engine)[0].breaches == ()
    one.engine.dispose()


@pytest.mark.parametrize("looks", ["guard", "nobody"])
def test_inside_a_slot_it_halts_at_its_bar_whoever_looks(tmp_path: Path, looks: str) -> None:
    setup = early(("timeframe: 1h", "timeframe: 4h"), ("window: 4h", "window: 8h"))
    market = path([*[8_000.0] * 21, *[6_500.0] * 7], 8_000.0)
    one = lived(f"sqlite:///{tmp_path / 'x.db'}", market.before(START + HOUR), {21: Quality.guarded}, setup)
    for hour in range(28):
        bar = market.before(START + (hour + 1) * HOUR).after(START + hour * HOUR - 1)
        in_unit(one.engine, partial(store_bars, market=bar))
        in_unit(one.engine, lambda connection, hour=hour: feed_until(connection, SYMBOL, START + (hour + 1) * HOUR))
        if looks == "guard":
            one.desk.guard(one.name)
        if looks == "guard" and hour == 22:
            assert verify(one.engine)[0].breaches == (), "while the slot is not over"
        if hour % 4 == 3:
            one.desk.catch_up(one.name, lambda: True)
    (halted,) = told(one, Halted)
    assert halted.ts == START + 22 * HOUR
    calls = [row.ts for row in told(one, Walked) for event in row.entry.events if event.kind is Kind.margin_call]
    assert calls == [START + 23 * HOUR]
    assert breaches(one.engine) == []
    assert verify(one.engine)[0].breaches == ()
    one.engine.dispose()
