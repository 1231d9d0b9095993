"""What a source delivers piece by piece is recorded as if it had come at once, whoever records it and from when on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from ringfence.markets.feeds.replay import Pace, Recording, Replay
from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine
from ringfence.runtime.errors import DatabaseBusy
from ringfence.runtime.feeding import Feeder, fed_until
from tests.reference.tide import HOUR, START, SYMBOL, contents, walk

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
