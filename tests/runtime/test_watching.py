"""The watch's process calls whom a price or a stamp may move, again until somebody has looked, and nobody else."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.acts import deposit
from ringfence.runtime.bar_store import feed_until, store_bars, store_stamps
from ringfence.runtime.database import in_unit
from ringfence.runtime.errors import BrokerUnreachable
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.watching import AGAIN, Watching
from ringfence.vaults.mandate.check import load_mandate
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, Tide, launch, path, walk

BEGUN = 21
"""Hours that are recorded, and decided as far as they fill slots, before the watch begins."""


@pytest.fixture(scope="module")
def setup() -> Setup:
    text = MANDATE.format(name="tide", leverage="5").replace("timeframe: 1h", "timeframe: 4h")
    return set_up(load_mandate(text.replace("window: 4h", "window: 8h").encode()))


@pytest.fixture
def one(tmp_path: Path, setup: Setup) -> Iterator[Tide]:
    """A vault that holds a position, an hour inside its slot."""
    launched = launch(f"sqlite:///{tmp_path / 'one.db'}", walk(7, BEGUN, 0.003), setup)
    deposit(launched.engine, "tide", "alice", 10_000 * UNIT, START)
    launched.desk.catch_up("tide", lambda: True)
    yield launched
    launched.engine.dispose()


def record(one: Tide, hour: int, close: float) -> None:
    from dataclasses import replace

    bar = path([close], one.slots.market.close[-1, 0])
    bars = {SYMBOL: replace(bar.bars(0), ts=np.array([START + hour * HOUR]))}
    in_unit(one.engine, lambda connection: store_bars(connection, align(bars)))


def last(market: Market) -> float:
    return float(market.close[-1, 0])


def watched(one: Tide) -> tuple[Watching, list[str]]:
    rung = list[str]()
    return Watching(one.engine, rung.extend), rung


def test_at_its_start_it_asks_for_whoever_has_bars_that_he_has_not_lived(one: Tide) -> None:
    watching, rung = watched(one)
    watching.round(0)
    one.desk.guard("tide")
    for now in range(1, 20):
        watching.round(now * AGAIN)
    assert rung in ([], ["tide"]), "a quiet bar calls nobody, or once"


def test_a_quiet_price_calls_nobody_and_a_crash_its_holders_until_somebody_has_looked(one: Tide) -> None:
    watching, rung = watched(one)
    watching.round(0)
    one.desk.guard("tide")
    watching.round(AGAIN)
    rung.clear()
    record(one, BEGUN, last(one.slots.market) * 0.999)
    watching.round(2 * AGAIN)
    assert rung == []
    record(one, BEGUN + 1, last(one.slots.market) * 0.8)
    watching.round(3 * AGAIN)
    watching.round(3 * AGAIN + AGAIN // 2)
    assert rung == ["tide"], "once, and not again at once"
    watching.round(4 * AGAIN)
    assert rung == ["tide", "tide"], "nobody has looked: the message may have been lost"
    assert one.desk.guard("tide") == 1
    for now in range(5, 40):
        watching.round(now * AGAIN)
    assert rung == ["tide", "tide"]


def test_a_stamp_calls_every_holder(one: Tide) -> None:
    watching, rung = watched(one)
    watching.round(0)
    one.desk.guard("tide")
    rung.clear()
    at = START + (BEGUN + 1) * HOUR
    stamp = Funding(SYMBOL, np.array([at]), np.array([0.001]))
    record(one, BEGUN, last(one.slots.market))
    record(one, BEGUN + 1, last(one.slots.market))
    in_unit(one.engine, lambda connection: store_stamps(connection, SYMBOL, stamp))
    watching.round(AGAIN)
    assert rung == ["tide"]
    assert one.desk.guard("tide") == 1


def test_a_broker_that_is_away_loses_no_call(one: Tide) -> None:
    rung = list[str]()
    is_away = True

    def ring(vaults: object) -> None:
        if is_away:
            raise BrokerUnreachable("redis://x", "refused")
        rung.extend(vaults)  # type: ignore[arg-type]

    watching = Watching(one.engine, ring)
    record(one, BEGUN, last(one.slots.market) * 0.8)
    for now in range(3):
        with pytest.raises(BrokerUnreachable):
            watching.round(now)
    is_away = False
    watching.round(3)
    assert rung == ["tide"]


def test_a_shard_calls_its_own_instruments_alone(one: Tide) -> None:
    heard = {shard: list[str]() for shard in range(3)}
    record(one, BEGUN, last(one.slots.market) * 0.8)
    for shard, rung in heard.items():
        Watching(one.engine, rung.extend, shard, 3).round(0)
    assert sorted(map(len, heard.values())) == [0, 0, 1]


def test_who_has_opened_a_position_since_is_compared_with_the_bars_after_that(tmp_path: Path, setup: Setup) -> None:
    one = launch(f"sqlite:///{tmp_path / 'late.db'}", walk(7, BEGUN, 0.003), setup)
    deposit(one.engine, "tide", "alice", 10_000 * UNIT, START)
    watching, rung = watched(one)
    record(one, BEGUN, last(one.slots.market) * 0.8)
    watching.round(0)
    assert rung == [], "it holds nothing yet"
    one.desk.catch_up("tide", lambda: True)  # as a worker that comes late
    watching.round(AGAIN)
    assert rung == ["tide"]
    assert one.desk.guard("tide") == 1
    in_unit(one.engine, lambda connection: feed_until(connection, SYMBOL, START + (BEGUN + 1) * HOUR))
    one.engine.dispose()
