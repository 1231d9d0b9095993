"""The example mandates over five recorded years that every clone has: the wall stands, and both drivers agree."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine

from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import migrate, open_engine
from ringfence.runtime.figures import figures
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import digest
from ringfence.runtime.verification import verify
from tests.reference.facts import ABSENT, eight_hourly, left_out, years
from tests.reference.histories import DEPOSITS, MANDATES

SUMMER = (1_651_363_200_000, 1_659_312_000_000)
"""May to July 2022, in which bitcoin halved."""


@pytest.fixture
def engine(sqlite_database: str) -> Iterator[Engine]:
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


def test_the_facts_are_five_whole_years() -> None:
    market = years(("BTC/USDT:USDT", "ETH/USDT:USDT"))
    assert len(market) == 5_478
    assert set(np.diff(market.ts).tolist()) == {8 * 3_600_000}
    assert market.valid.all()
    assert (market.stamps_to - market.stamps_from).sum(axis=0).tolist() == [3_464, 3_288]


@pytest.mark.parametrize("name", MANDATES)
def test_the_wall_stands_at_every_bar_of_five_years(project: Path, name: str) -> None:
    setup = eight_hourly(project, name)
    run = backtest(setup, years(setup.symbols), DEPOSITS)
    assert len(run.ts) == 5_478 * 8 * 3_600_000 // setup.mandate.timeframe
    assert run.distance_low >= 0.0
    assert (run.nav >= run.wall).all()
    assert any(position.quantity.any() for position in run.positions), "nothing was ever traded"
    assert any(event.kind.name == "funding" for event in run.events) == any(
        position.quantity[-1_000:].any() for position in run.positions
    ), "whoever holds something in the last year pays or receives funding"


@pytest.mark.parametrize("name", MANDATES)
def test_backtest_and_replay_agree_and_every_law_holds(project: Path, engine: Engine, name: str) -> None:
    setup = eight_hourly(project, name)
    market = years(setup.symbols, *SUMMER)
    tested = backtest(setup, market, DEPOSITS)
    (replayed,) = replay(engine, [(setup, market)], DEPOSITS).runs
    assert digest([replayed]) == digest([tested])
    assert figures(replayed, setup, market) == figures(tested, setup, market)
    (verdict,) = verify(engine)
    assert (verdict.breaches, verdict.slots) == ((), len(tested.ts))


def test_buy_and_hold_is_what_the_closes_say(project: Path) -> None:
    setup = eight_hourly(project, "btc-distance")
    market = years(setup.symbols)
    found = figures(backtest(setup, market, DEPOSITS), setup, market)
    assert found is not None
    assert found.hold is not None
    cost = 0.0005 + 0.0001 + 0.0002
    assert found.hold.performance.total_return == pytest.approx(
        market.close[-1, 0] / market.close[0, 0] * (1 - cost) - 1
    )


def test_a_run_without_the_larger_recordings_says_how_many_tests_it_skipped_and_why() -> None:
    reasons = [f"Skipped: {ABSENT}", "Skipped: no such server", f"Skipped: {ABSENT}"]
    assert left_out(reasons)[0].startswith("2 tests were skipped for want of recorded market data: there is no folder")
    assert left_out(reasons[:2])[0].startswith("1 test was skipped")
    assert left_out(reasons[1:2]) == []
