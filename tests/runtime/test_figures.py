"""The figures of a run: costs that the ledger confirms, and yardsticks that begin where the run begins."""

from dataclasses import replace

import numpy as np
import pytest

from ringfence.markets.market import Funding, Market, align
from ringfence.risk.events import Bound, Event, Kind
from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.figures import figures
from ringfence.runtime.history import run_of
from ringfence.runtime.runs import VaultRun
from tests.reference.tide import HOUR, SHARE, START, SYMBOL, UNIT, launch, tide, walk

DEPOSITS = {"alice": 1_000 * UNIT}
PART = 0.0003
"""Half the spread and the slippage of the paper venue, where a mandate says nothing."""


def rough(bars: int = 600) -> Market:
    """A walk with funding every eighth hour."""
    quiet = walk(seed=11, bars=bars, deviation=0.02)
    stamps = quiet.ts[::8]
    rates = np.random.default_rng(3).normal(0.0002, 0.0004, len(stamps))
    return align({SYMBOL: quiet.bars(0)}, funding={SYMBOL: Funding.validated(SYMBOL, stamps, rates)})


@pytest.fixture(scope="module")
def lived() -> tuple[VaultRun, Market]:
    market = rough()
    return backtest(tide(), market, DEPOSITS), market


def test_fees_and_funding_are_those_of_the_ledger(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    found = figures(run, tide(), market)
    assert found is not None
    assert found.costs.fees + found.costs.rolls >= run.balances["costs"] > 0
    assert found.costs.fees + sum(event.fee for event in run.events if event.kind == Kind.roll) == run.balances["costs"]
    assert found.costs.funding == run.balances["funding"] != 0
    assert found.costs.total == found.costs.fees + found.costs.spread + found.costs.rolls + found.costs.funding


def test_turnover_and_spread_are_the_fills_own(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    setup = tide()
    found = figures(run, setup, market)
    assert found is not None
    traded = [event for event in run.events if event.quantity_before != event.quantity_after]
    unit = setup.instruments[0].unit
    value = sum(abs(event.quantity_after - event.quantity_before) * unit * event.price for event in traded)
    assert found.trades == len(traded) > 10
    assert found.vault.turnover == pytest.approx(value / run.nav.mean())
    assert found.costs.spread + found.costs.rolls == pytest.approx(value * PART, rel=1e-3)
    assert found.vault.costs == pytest.approx(found.costs.total / run.nav.mean())


def test_a_run_is_measured_from_the_price_of_one_at_which_the_deposit_entered(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    found = figures(run, tide(), market)
    assert found is not None
    assert found.vault.performance.n == len(run.ts)
    assert found.vault.performance.total_return == pytest.approx(run.nav[-1] / (1_000 * UNIT) - 1.0)
    assert found.vault.performance.periods_per_year == pytest.approx(8_760.0)
    assert found.hold is not None
    assert found.hold.performance.n == len(run.ts)
    bought = market.close[0, 0] / (1.0 - PART - 0.0005)
    assert found.hold.performance.total_return == pytest.approx(market.close[-1, 0] / bought - 1.0)


def test_the_drawdown_reaches_the_lowest_point_between_two_decisions(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    low = run.low.copy()
    low[-1] = run.nav[-1] / run.shares[-1] * 0.2
    found = figures(replace(run, low=low), tide(), market)
    assert found is not None
    assert found.vault.performance.drawdown.low_ts == run.ts[-1]
    highest = max(1e-3, (run.nav / run.shares)[:-1].max())
    assert found.vault.performance.drawdown.depth == pytest.approx(1.0 - low[-1] / highest)


def test_plain_cppi_holds_the_mandates_multiple_of_its_cushion(lived: tuple[VaultRun, Market]) -> None:
    """Share 90 % and leverage_max 8 make 7.2 times the cushion, 1.44 of the value where the cap is 20 %."""
    run, market = lived
    found = figures(run, tide(), market)
    assert found is not None
    assert found.plain is not None
    assert found.plain.turnover is not None
    assert found.plain.turnover > 1.44
    first = 0.2 * 7.2 * (0.0005 + PART)
    early = figures(shortened(run, 1), tide(), market.before(int(run.ts[0])))
    assert early is not None
    assert early.plain is not None
    assert early.plain.performance.total_return == pytest.approx(-first)


def shortened(run: VaultRun, decisions: int) -> VaultRun:
    """The first decisions of a run."""
    columns = ("ts", "nav", "wall", "shares", "high_water_mark", "low", "locked")
    return replace(run, **{name: getattr(run, name)[:decisions] for name in columns})


def test_a_roll_is_told_apart_from_other_fees(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    ts, price = int(run.ts[50]), float(run.positions[0].price[50])
    halves = [
        Event(ts, 0, Kind.roll, Bound.nothing, before, after, 0, 70, 0, price, price, 0.0, 0.0, 0.0)
        for before, after in ((900, 400), (400, 900))
    ]
    before, after = (
        figures(replace(run, events=events), tide(), market) for events in (run.events, (*run.events, *halves))
    )
    assert before is not None
    assert after is not None
    assert after.costs.fees == before.costs.fees
    value = 2 * 500 * tide().instruments[0].unit * price
    assert after.costs.rolls - before.costs.rolls == pytest.approx(140 + value * PART, rel=1e-3)
    assert after.trades == before.trades + 2


def test_what_happened_to_the_vault_as_a_whole_costs_nothing(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    refusal = Event(int(run.ts[5]), -1, Kind.refusal, Bound.cushion, 0, 0, 5, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert figures(replace(run, events=(*run.events, refusal)), tide(), market) == figures(run, tide(), market)


def test_without_shares_or_decisions_there_are_no_figures(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    assert figures(replace(run, shares=np.zeros_like(run.shares)), tide(), market) is None
    assert figures(shortened(run, 0), tide(), market) is None


def test_a_market_that_the_run_did_not_live_through_gives_no_yardstick(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    found = figures(run, tide(), market.before(START + 100 * HOUR))
    assert found is not None
    assert (found.hold, found.plain) == (None, None)


def test_a_vault_that_was_emptied_is_measured_from_its_next_deposit(lived: tuple[VaultRun, Market]) -> None:
    run, market = lived
    shares = run.shares.copy()
    shares[:101] = 0
    nav = np.where(shares > 0, run.nav, 0)
    found = figures(replace(run, shares=shares, nav=nav), tide(), market)
    assert found is not None
    assert found.vault.performance.n == len(run.ts) - 101
    assert found.hold is not None
    assert found.hold.performance.n == len(run.ts) - 101


def test_a_stepped_vault_has_the_same_figures(sqlite_database: str) -> None:
    from ringfence.runtime.acts import deposit

    market = rough(60)
    launched = launch(sqlite_database, market)
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    launched.step(60)
    with unit_of_work(launched.engine, writes=False) as connection:
        replayed = run_of(connection, lock_vault(connection, "tide"))
    launched.engine.dispose()
    assert replayed.shares[-1] == 1_000 * SHARE
    assert figures(replayed, tide(), market) == figures(backtest(tide(), market, DEPOSITS), tide(), market)
