"""What a source delivers piece by piece is recorded as if it had come at once, whoever records it and from when on."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from sqlalchemy import Engine

from ringfence.markets.feeds.quality import Quality
from ringfence.markets.feeds.replay import Pace, Recording, Replay
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.feeds.ticks import Tick
from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import DatabaseBusy
from ringfence.runtime.feeding import Feeder, fed_until
from ringfence.runtime.verification import verify
from tests.reference.tide import HOUR, START, SYMBOL, UNIT, breaches, contents, path, tide, walk

NOW = 1_700_000_000_000


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


def stamped() -> Market:
    """Sixty hours with a hole of five, marks, and a stamp each four hours: at bars' opens, inside them, in the hole."""
    bars = walk(bars=60).bars(0)
    rows = np.r_[0:20, 25:60]
    whole = align({SYMBOL: bars}).bars(0)
    kept = type(bars)(
        SYMBOL, HOUR, *(getattr(whole, name)[rows] for name in ("ts", "open", "high", "low", "close", "volume"))
    )
    ts = START + np.arange(0, 60, 4, dtype=np.int64) * HOUR + np.arange(15, dtype=np.int64) % 3 * 1_000
    rates = Funding(SYMBOL, ts, np.linspace(1e-5, 9e-5, len(ts)))
    return align({SYMBOL: kept}, {SYMBOL: kept}, {SYMBOL: rates})


def at_once(market: Market, folder: Path) -> dict[str, list[tuple[object, ...]]]:
    engine = open_engine(f"sqlite:///{folder / 'whole.db'}", create=True)
    migrate(engine)
    in_unit(engine, lambda connection: store_bars(connection, market))
    found = contents(engine)
    engine.dispose()
    return found


@pytest.mark.parametrize("hours", [1, 3, 7])
@pytest.mark.parametrize("anew", [False, True])
def test_pieces_are_recorded_as_the_whole_is(engine: Engine, tmp_path: Path, hours: int, anew: bool) -> None:
    market = stamped()
    pace, feeder = Pace(NOW, START, 3600.0), None
    for second in range(0, 70, hours):
        if feeder is None or anew:
            feeder = Feeder(engine, Replay(Recording.of(market), pace, fed_until(engine, (SYMBOL,))))
        feeder.take(NOW + second * 1_000)
    found, whole = contents(engine), at_once(market, tmp_path)
    assert len(found["funding"]) > 10
    for table in ("bar", "funding", "fed"):
        assert found[table] == whole[table], table


def test_a_series_that_differs_is_told_and_goes_no_further(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    market = walk(bars=20)
    in_unit(engine, lambda connection: store_bars(connection, market.before(START + 10 * HOUR)))
    other = Replay(Recording.of(walk(seed=8, bars=20)), Pace(NOW, START, 3600.0))
    Feeder(engine, other).take(NOW + 15_000)
    assert fed_until(engine, (SYMBOL,)) == {SYMBOL: START + 10 * HOUR}
    assert "is recorded" in caplog.text


def test_what_a_database_does_not_take_is_kept_for_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    feeder = Feeder(engine, Replay(Recording.of(walk(bars=20)), Pace(NOW, START, 3600.0)))
    with monkeypatch.context() as away:

        def busy(*_: object) -> None:
            raise DatabaseBusy("ringfence.db")

        away.setattr("ringfence.runtime.feeding.in_unit", busy)
        with pytest.raises(DatabaseBusy):
            feeder.take(NOW + 5_000)
    feeder.take(NOW + 5_000)
    assert fed_until(engine, (SYMBOL,)) == {SYMBOL: START + 5 * HOUR}
    assert len(contents(engine)["bar"]) == 5


class Scripted:
    """A source that says what it is told to."""

    name = "scripted"
    counts: Mapping[str, int] = MappingProxyType({"no answer": 2, "duplicate": 1})

    def __init__(self, *says: Delivery) -> None:
        self.says = list(says)

    def poll(self, now: int) -> Delivery:
        return self.says.pop(0) if self.says else Delivery(now)


def piece(market: Market, first: int, end: int, **more: object) -> Delivery:
    """Hours `first` to `end` - 1 of a market without holes."""
    until = START + end * HOUR
    return Delivery(until, {SYMBOL: market.bars(0)[first:end]}, until={SYMBOL: until}, **more)  # type: ignore[arg-type]


def with_close(market: Market, row: int, close: float) -> Market:
    """The same, but that the bar of one hour closes elsewhere."""
    closes = market.close[:, 0].tolist()
    return path([*closes[:row], close, *closes[row + 1 :]], float(market.open[0, 0]))


def closes(engine: Engine) -> dict[int, float]:
    return {(row[1] - START) // HOUR: row[5] for row in contents(engine)["bar"]}


def test_the_last_bar_is_corrected_until_a_vault_has_lived_it(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    market = walk(bars=30)
    other = with_close(market, 9, 1_234.5)
    late = with_close(market, 19, 4_321.0)
    feeder = Feeder(engine, Scripted(piece(market, 0, 10), piece(other, 9, 11), piece(market, 11, 20)))
    for _ in range(3):
        feeder.take(NOW)
    assert closes(engine)[9] == 1_234.5
    open_vault(engine, tide().mandate, START)
    assert Desk(engine).catch_up("tide", lambda: True) > 0
    feeder.source = Scripted(piece(late, 19, 22))
    feeder.take(NOW)
    found = closes(engine)
    assert (found[19], len(found)) == (float(market.close[19, 0]), 22), "the bars after it are recorded"
    assert fed_until(engine, (SYMBOL,)) == {SYMBOL: START + 22 * HOUR}
    assert (feeder.counts["corrections_too_late"], feeder.counts["series_stopped"]) == (1, 0)
    assert "a correction that came too late was left out" in caplog.text
    assert breaches(engine) == []


def test_a_contradiction_stops_its_series_so_that_no_hole_is_made(engine: Engine) -> None:
    market, other = walk(bars=30), walk(seed=8, bars=30)
    feeder = Feeder(engine, Scripted(piece(market, 0, 10), piece(other, 5, 12), piece(market, 12, 14)))
    for _ in range(3):
        feeder.take(NOW)
    assert fed_until(engine, (SYMBOL,)) == {SYMBOL: START + 10 * HOUR}
    assert len(closes(engine)) == 10
    assert feeder.counts["series_stopped"] == 1
    Feeder(engine, Scripted(piece(market, 10, 14))).take(NOW)
    assert len(closes(engine)) == 14


def test_what_is_dropped_is_counted_and_told_once(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ticks = tuple(
        Tick("scripted", SYMBOL, received, held, price)
        for received, held, price in [(NOW, NOW, 100.0), (NOW, NOW, 100.0), (NOW, NOW - 90_000, 100.0),
                                      (NOW + 1, NOW - 1, 100.0), (NOW + 2, NOW + 2, 1e9), (NOW + 3, NOW + 3, -1.0)]
    )  # fmt: skip
    feeder = Feeder(engine, Scripted(piece(walk(bars=5), 0, 5, ticks=ticks)))
    for later in range(3):
        feeder.take(NOW + later * 20_000)
    counts = feeder.counts
    assert all(type(count) is int for count in counts.values())
    told = ("ticks_duplicate", "ticks_late", "ticks_disordered", "ticks_impossible", "ticks_not_positive")
    assert [counts[name] for name in told] == [1] * 5
    assert (counts["bars_recorded"], counts["source_no_answer"], counts["ticks_not_finite"]) == (5, 2, 0)
    assert caplog.text.count("ticks_late 1") == 1


def test_levels_are_recorded_with_their_bars_and_hold_growth_back(engine: Engine) -> None:
    """What nothing may grow on is decided again the same, and what a price in time allows is done."""
    market = walk(bars=30, deviation=0.001)
    stale = {START + hour * HOUR: Quality.stale for hour in range(4, 15)}
    feeder = Feeder(engine, Scripted(piece(market, 0, 30, levels={SYMBOL: stale}), piece(market, 29, 30)))
    feeder.take(NOW)
    feeder.take(NOW)
    assert [(row[1], row[2]) for row in contents(engine)["quality"]] == [(ts, 3) for ts in stale]
    open_vault(engine, tide().mandate, START + 4 * HOUR)
    deposit(engine, "tide", "alice", 100_000 * UNIT, START + 4 * HOUR, new=True)
    desk, held = Desk(engine), {}
    for hour in range(4, 30):
        desk.step("tide", START + hour * HOUR)
        held[hour] = contents(engine)["position"][0][4]
    first = next(hour for hour, lots in held.items() if lots)
    assert first == 15
    assert verify(engine)[0].breaches == ()


def test_a_position_that_is_held_back_may_still_be_cut(engine: Engine) -> None:
    """A fall after the price was good: the strategy's cut is made on a stale price."""
    market = path([8_000.0] * 10 + [7_000.0] * 5, 8_000.0)
    stale = {START + hour * HOUR: Quality.stale for hour in range(10, 15)}
    Feeder(engine, Scripted(piece(market, 0, 15, levels={SYMBOL: stale}))).take(NOW)
    open_vault(engine, tide().mandate, START)
    deposit(engine, "tide", "alice", 100_000 * UNIT, START, new=True)
    desk, held = Desk(engine), {}
    for hour in range(15):
        desk.step("tide", START + hour * HOUR)
        held[hour] = contents(engine)["position"][0][4]
    assert held[9] > held[10] >= held[14]
    assert held[9] > 0
