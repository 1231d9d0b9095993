"""Two drivers, one decision: the compiled back-test and the replay through tasks and a database agree to the last unit,
and the wall stands at every slot of every recorded crash."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.markets.slots import Slots
from ringfence.risk.book import PROPOSAL
from ringfence.risk.edges import AccountKind, Edge
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.backtest import backtest
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.history import run_of
from ringfence.runtime.paper_accounts import PaperAccounts
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import PositionRun, VaultRun, digest
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.tasks import step, using
from ringfence.vaults.ledger import breaches
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import journal, transfer, vault
from tests.reference.histories import DEPOSITS, HISTORIES, MANDATES, REPLAYED, mandate, minutes
from tests.reference.recorded import digests, of_run

MILLION, FIXED_POINT, HOUR = 10**6, 2**50, 3_600_000
DAY = 24 * HOUR
ESTIMATORS = ("ewma", "close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")
FUNDING = {Edge.funding_paid, Edge.funding_received}


@pytest.fixture
def file_engine(sqlite_database: str) -> Iterator[Engine]:
    yield from _engine(sqlite_database)


@pytest.fixture
def server_engine(postgresql_database: str) -> Iterator[Engine]:
    yield from _engine(postgresql_database)


def _engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


def assert_same_run(found: VaultRun, expected: VaultRun) -> None:
    """Everything that a report shows, not only what the digest covers."""
    for field in fields(VaultRun):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "positions":
            for one, other in zip(left, right, strict=True):
                _assert_same_position(one, other)
        elif isinstance(left, np.ndarray):
            assert left.tolist() == right.tolist(), field.name
        else:
            assert left == right, field.name
    assert digest([found]) == digest([expected])


def _assert_same_position(found: PositionRun, expected: PositionRun) -> None:
    for field in fields(PositionRun):
        left, right = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(left, np.ndarray):
            assert np.ma.getmaskarray(left).tolist() == np.ma.getmaskarray(right).tolist(), field.name
            assert np.ma.filled(left, 0).tolist() == np.ma.filled(right, 0).tolist(), field.name
        else:
            assert left == right, field.name


def assert_wall_stood(engine: Engine, run: VaultRun, setup: Setup) -> None:
    """W1 and W3 at every slot, in integers of any size, from the journal's and the transfers' rows alone; slack 0."""
    keep = MILLION - setup.mandate.loss_cap
    reserve = reserve_by_row(engine, run.vault)
    assert len(run.ts) > 0
    with unit_of_work(engine, writes=False) as connection:
        decided = select(journal.c.seq, journal.c.ts).where(journal.c.kind == "decided")
        rows = connection.execute(decided.order_by("seq"))
        sequence = [seq for seq, _ in rows]
        assert list(breaches(connection, int(connection.execute(select(vault.c.id)).scalar_one()))) == []
    figures = zip(run.nav.tolist(), run.wall.tolist(), run.shares.tolist(), run.high_water_mark.tolist(), strict=True)
    for seq, (nav, wall, shares, mark) in zip(sequence, figures, strict=True):
        assert nav * MILLION * FIXED_POINT >= keep * mark * shares
        assert wall * MILLION * FIXED_POINT >= keep * mark * shares
        assert wall == ceiling(ceiling(keep * mark, MILLION) * shares, FIXED_POINT)  # as documented
        assert reserve[seq] >= wall
    assert run.distance_low >= 0.0
    assert all(later >= earlier for earlier, later in zip(run.high_water_mark, run.high_water_mark[1:], strict=False))


def ceiling(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def reserve_by_row(engine: Engine, name: str) -> list[int]:
    """What stood in the reserve after each row of the journal, summed from the transfers (index 0: before any)."""
    with unit_of_work(engine, writes=False) as connection:
        row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
        moved = [0] * (row["journal_seq"] + 1)
        columns = (transfer.c.journal_seq, transfer.c.edge, transfer.c.amount)
        for seq, number, amount in connection.execute(select(*columns).where(transfer.c.vault_id == row["id"])):
            edge = Edge(number)
            moved[seq] += amount * ((edge.credit is AccountKind.reserve) - (edge.debit is AccountKind.reserve))
    return list(accumulate(moved))


def both_drivers(engine: Engine, setup: Setup, market: Market) -> VaultRun:
    """The back-test's run, having found that the replay's is the same."""
    tested = backtest(setup, market, DEPOSITS)
    (replayed,) = replay(engine, [(setup, market)], DEPOSITS).runs
    assert_same_run(replayed, tested)
    assert_wall_stood(engine, replayed, setup)
    return tested


PAIRS = [(MANDATES[0], REPLAYED[0]), *zip(MANDATES, REPLAYED[1:], strict=True)]
"""Every mandate and every history once; what each does in every history is told by the digests of back-tests."""


@pytest.mark.parametrize(("name", "history"), PAIRS)
def test_backtest_and_replay_agree_end_as_recorded_and_the_wall_stands(
    project: Path, request: pytest.FixtureRequest, file_engine: Engine, name: str, history: str
) -> None:
    setup = mandate(project, name)
    # The scenario is shipped, so that it is lived through in every clone.
    folder = project if history == "the scenario" else request.getfixturevalue("recorded")
    market = HISTORIES[history](folder, setup.symbols)
    run = both_drivers(file_engine, setup, market)
    assert of_run(run) == digests()[f"{history}, {name}"]
    assert any(position.quantity.any() for position in run.positions), "nothing was ever traded"
    with unit_of_work(file_engine, writes=False) as connection:
        edges = {Edge(number) for number in connection.execute(select(transfer.c.edge).distinct()).scalars()}
    assert bool(edges & FUNDING) == (len(market.stamps) > 0), "funding is paid where there are stamps, and only there"


def test_one_recorded_history_has_the_exchange_s_own_marks_and_funding_of_every_symbol(recorded: Path) -> None:
    market = HISTORIES["early 2025"](recorded, ("BTC/USDT:USDT", "ETH/USDT:USDT"))
    assert market.marked.all()
    assert (market.mark_low != market.low).any()
    assert (market.stamps_from < market.stamps_to).any(axis=0).all()


def test_backtest_and_replay_agree_on_postgresql(project: Path, recorded: Path, server_engine: Engine) -> None:
    setup = mandate(project, "btc-eth-shield")
    market = HISTORIES["August 2024"](recorded, setup.symbols)
    both_drivers(server_engine, setup, market.before(int(market.ts[0]) + 8 * DAY))


def test_a_vault_at_an_exchange_with_books_of_its_own_lives_through_the_crash_as_the_backtest_does(
    project: Path, file_engine: Engine, tmp_path: Path
) -> None:
    """The days around 12 March 2020: every act is committed, sent and answered, and the run is the same to the unit."""
    setup = mandate(project, "btc-eth-shield")
    whole = HISTORIES["the scenario"](project, setup.symbols)
    start = int(whole.ts[0]) + 9 * DAY
    market, name = whole.after(start - 1).before(start + 5 * DAY), setup.mandate.name
    in_unit(file_engine, lambda connection: store_bars(connection, market))
    open_vault(file_engine, setup.mandate, start)
    for holder, amount in DEPOSITS.items():
        deposit(file_engine, name, holder, amount, start)
    desk = Desk(file_engine, accounts=PaperAccounts(tmp_path / "exchanges"))
    assert desk.catch_up(name, lambda: True) == 5 * 24
    with unit_of_work(file_engine, writes=False) as connection:
        row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
        dealt = run_of(connection, row)
    assert_same_run(dealt, backtest(setup, market, DEPOSITS))
    assert len(dealt.events) > 20
    assert desk.reconcile(name) == 0


def test_a_replay_stopped_at_any_slot_equals_the_backtest_of_the_market_until_then(
    project: Path, recorded: Path, file_engine: Engine
) -> None:
    """The database holds the whole month from the start: what is recorded but not yet due must not show through."""
    setup = mandate(project, "btc-eth-shield")
    bars = {symbol: minutes(recorded, "2020-03", symbol) for symbol in setup.symbols}
    market = align(bars)
    start, name = int(market.ts[0]), setup.mandate.name
    in_unit(file_engine, lambda connection: store_bars(connection, market))
    open_vault(file_engine, setup.mandate, start)
    for holder, amount in DEPOSITS.items():
        deposit(file_engine, name, holder, amount, start)
    slots = Slots(market, HOUR).opens.tolist()
    with using(Desk(file_engine)):
        # First and second slot, the end of the warm-up, the crash hour by hour, the last slot.
        for number in (0, 1, 71, 72, 73, 200, *range(268, 291), len(slots) - 1):
            step(name, slots[number])
            end = slots[number] + HOUR
            until = {symbol: series[: int(np.searchsorted(series.ts, end))] for symbol, series in bars.items()}
            with unit_of_work(file_engine, writes=False) as connection:
                row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
                stopped = run_of(connection, row)
            assert_same_run(stopped, backtest(setup, align(until), DEPOSITS))


def test_an_interrupted_replay_goes_on_where_it_stopped_and_ends_the_same(
    project: Path, recorded: Path, file_engine: Engine
) -> None:
    setup = mandate(project, "majors-trend")
    market = HISTORIES["June 2022"](recorded, setup.symbols)

    class PulledPlug(BaseException):
        pass

    def pull(vault: str, done: int, total: int) -> None:
        if done == 90:
            raise PulledPlug

    with pytest.raises(PulledPlug):
        replay(file_engine, [(setup, market)], DEPOSITS, pull)
    both_drivers(file_engine, setup, market)


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("window", ["3h", "2d"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_live_proposes_from_the_bars_so_far_is_what_the_backtest_proposes(
    project: Path, tmp_path: Path, estimator: str, window: str, name: str
) -> None:
    """Every slot, every strategy, every estimator, over gaps of one bar, of many, and of one symbol alone."""
    text = (project / "tests" / "reference" / "mandates" / f"{name}.yaml").read_text(encoding="utf-8")
    half_life = ", half_life: 2h" if estimator == "ewma" else ""
    line = f"volatility: {{estimator: {estimator}{half_life}, window: {window}, floor: 20%}}"
    lines = [line if one.startswith("volatility:") else one for one in text.splitlines()]
    file = tmp_path / "mandate.yaml"
    file.write_text("\n".join(one.replace("timeframe: 4h", "timeframe: 1h") for one in lines), encoding="utf-8")
    setup = set_up(load_mandate(file))
    slots = Slots(gappy(setup.symbols), HOUR)
    at_once = setup.propose_all(slots)
    one_by_one = np.concatenate([setup.propose_at(slots, number) for number in range(len(slots))])
    for column in PROPOSAL.names or ():
        assert at_once[column].tolist() == one_by_one[column].tolist(), column
    assert at_once.known.any()


def gappy(symbols: tuple[str, ...]) -> Market:
    """600 hours in half-hours, with holes."""
    bars = {}
    for number, symbol in enumerate(symbols):
        dice = np.random.default_rng(number)
        there = np.flatnonzero((dice.random(1200) > 0.02) & (np.abs(np.arange(1200) - 900 - 7 * number) > 9))
        close = 100.0 * np.exp(np.cumsum(dice.normal(0.0, 0.01, len(there))))
        open = close * np.exp(dice.normal(0.0, 0.002, len(there)))
        high, low = np.maximum(open, close) * 1.001, np.minimum(open, close) * 0.999
        bars[symbol] = Bars(symbol, HOUR // 2, there * (HOUR // 2), open, high, low, close, np.ones(len(there)))
    return align(bars)
