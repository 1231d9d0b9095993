"""The replay drives the task that steps live vaults, tells how far it is, and can be run again or gone on with."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from sqlalchemy import Engine, func, select

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import RecordingDiffers
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import digest
from ringfence.runtime.setup import Setup, set_up
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import ContractBroken
from ringfence.vaults.errors import DepositRefused, KeyConflict, MandateChanged, ZeroShares
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import bar, holding, journal, transfer, vault

HOUR = 3_600_000
START = 1_583_712_000_000
DEPOSITS = {"alice": 50_000_000_000, "bob": 7_000_000_001}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def shield(project: Path) -> Setup:
    return set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"))


@pytest.fixture(scope="module")
def distance(project: Path) -> Setup:
    return set_up(load_mandate(project / "tests" / "reference" / "mandates" / "btc-distance.yaml"))


def hours(symbols: tuple[str, ...], length: int = 100) -> Market:
    bars = {}
    for number, symbol in enumerate(symbols):
        dice = np.random.default_rng(number)
        close = 8000.0 * np.exp(np.cumsum(dice.normal(0.0, 0.008, 100)))[:length]
        open = np.concatenate(([8000.0], close[:-1]))
        high, low = np.maximum(open, close) * 1.001, np.minimum(open, close) * 0.999
        ts = START + np.arange(length, dtype=np.int64) * HOUR
        bars[symbol] = Bars(symbol, HOUR, ts, open, high, low, close, np.full(length, 10.0**6))
    return align(bars)


def rows(engine: Engine) -> tuple[int, ...]:
    with unit_of_work(engine, writes=False) as connection:
        tables = (bar, journal, transfer, vault)
        return tuple(connection.execute(select(func.count()).select_from(one)).scalar_one() for one in tables)


def test_progress_hears_each_slot_of_each_vault_in_order(engine: Engine, shield: Setup, distance: Setup) -> None:
    heard: list[tuple[str, int, int]] = []
    vaults = [(one, hours(one.symbols, 20)) for one in (shield, distance)]
    replay(engine, vaults, DEPOSITS, lambda *told: heard.append(told))
    expected = [(name, done, 20) for name in ("btc-eth-shield", "btc-distance") for done in range(1, 21)]
    assert heard == expected


def test_vaults_in_one_database_live_as_if_each_were_alone(engine: Engine, shield: Setup, distance: Setup) -> None:
    vaults = [(one, hours(one.symbols)) for one in (shield, distance)]
    together = replay(engine, vaults, DEPOSITS).runs
    assert digest(together) == digest([backtest(one, market, DEPOSITS) for one, market in vaults])
    assert [run.vault for run in together] == ["btc-eth-shield", "btc-distance"]
    assert all(run.events for run in together)


def test_the_same_replay_again_changes_nothing_and_tells_the_same(engine: Engine, shield: Setup) -> None:
    vaults = [(shield, hours(shield.symbols))]
    first = digest(replay(engine, vaults, DEPOSITS).runs)
    before = rows(engine)
    again = replay(engine, vaults, DEPOSITS)
    assert digest(again.runs) == first
    assert rows(engine) == before
    assert again.notes == tuple(
        f"btc-eth-shield: the deposit of {holder} was taken by an earlier replay and is not taken again"
        for holder in DEPOSITS
    )


def test_a_replay_on_a_vault_that_lives_mints_nothing_that_nobody_asked_for(engine: Engine, shield: Setup) -> None:
    """Run again without --deposit it minted 100,000 for a holder that nobody had named."""
    first = replay(engine, [(shield, hours(shield.symbols, 60))], DEPOSITS)
    assert first.notes == ()
    again = replay(engine, [(shield, hours(shield.symbols, 80))], {"depositor": 10**11}, defaulted=True)
    assert again.notes == ("btc-eth-shield: lives already, so that no deposit was taken; name one to pay in",)
    assert again.runs[0].shares[-1] == first.runs[0].shares[-1]
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(holding.c.holder).order_by(holding.c.holder)).scalars().all() == [*DEPOSITS]


def test_a_default_deposit_is_taken_by_the_vault_that_the_replay_opens_and_never_again(
    engine: Engine, shield: Setup
) -> None:
    vaults = [(shield, hours(shield.symbols, 20))]
    for _ in range(2):
        (run,) = replay(engine, vaults, {"depositor": 10**11}, defaulted=True).runs
        assert run.shares[-1] == 10**14


def test_a_deposit_named_for_a_vault_that_lives_waits_for_its_next_strike(engine: Engine, shield: Setup) -> None:
    replay(engine, [(shield, hours(shield.symbols, 60))], DEPOSITS)
    more = DEPOSITS | {"carol": 5_000_000_000}
    (run,) = replay(engine, [(shield, hours(shield.symbols, 80))], more).runs
    minted = np.flatnonzero(np.diff(run.shares)) + 1
    assert minted.tolist() == [60], "the slot after the last that was lived"
    before, nav = int(run.shares[59]), int(run.nav[60]) - 5_000_000_000
    assert 0 < int(run.shares[60]) - before <= 5_000_000_000 * (before + 1_000) // (nav + 1)


def test_a_second_vault_does_not_live_what_was_recorded_before_it_was_opened(
    engine: Engine, shield: Setup, distance: Setup
) -> None:
    market = hours(shield.symbols)
    replay(engine, [(shield, market)], DEPOSITS)
    opened = START + 40 * HOUR
    open_vault(engine, distance.mandate, opened)
    deposit(engine, "btc-distance", "carol", 10**10, opened)
    assert Desk(engine).step("btc-distance", int(market.ts[-1])) == 60
    with unit_of_work(engine, writes=False) as connection:
        first = connection.execute(
            select(func.min(journal.c.ts)).join(vault, vault.c.id == journal.c.vault_id)
            .where(vault.c.name == "btc-distance", journal.c.kind == "decided")
        ).scalar_one()  # fmt: skip
    assert first == opened + HOUR


def test_a_longer_recording_is_gone_on_with_and_equals_the_whole_from_the_start(engine: Engine, shield: Setup) -> None:
    for length in (1, 60, 85, 100):
        runs = replay(engine, [(shield, hours(shield.symbols, length))], DEPOSITS).runs
        assert digest(runs) == digest([backtest(shield, hours(shield.symbols, length), DEPOSITS)]), length


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_replay_stopped_from_outside_is_completed_by_running_it_again(
    engine: Engine, shield: Setup, interruption: type[BaseException]
) -> None:
    market = hours(shield.symbols)

    def stop(name: str, done: int, total: int) -> None:
        if done == 80:
            raise interruption

    with pytest.raises(interruption):
        replay(engine, [(shield, market)], DEPOSITS, stop)
    assert digest(replay(engine, [(shield, market)], DEPOSITS).runs) == digest([backtest(shield, market, DEPOSITS)])


def test_other_deposits_under_the_same_replay_are_refused_and_change_nothing(engine: Engine, shield: Setup) -> None:
    vaults = [(shield, hours(shield.symbols, 20))]
    replay(engine, vaults, DEPOSITS)
    before = rows(engine)
    with pytest.raises(KeyConflict):
        replay(engine, vaults, DEPOSITS | {"bob": 8_000_000_000})
    assert rows(engine) == before


@pytest.mark.parametrize("amount", [0, -1, 2**63])
def test_a_deposit_that_is_no_amount_is_refused_before_any_slot(engine: Engine, shield: Setup, amount: int) -> None:
    with pytest.raises((DepositRefused, ZeroShares)):
        replay(engine, [(shield, hours(shield.symbols, 20))], {"alice": amount})
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(vault.c.last_bar)).scalars().all() == [None]


def test_other_bars_under_the_same_replay_are_refused_and_change_nothing(engine: Engine, shield: Setup) -> None:
    market = hours(shield.symbols, 20)
    replay(engine, [(shield, market)], DEPOSITS)
    before = rows(engine)
    market.close[7, 1] = np.nextafter(market.close[7, 1], 0.0)
    with pytest.raises(RecordingDiffers, match=r"ETH/USDT:USDT.*2020-03-09T07:00:00Z"):
        replay(engine, [(shield, market)], DEPOSITS)
    assert rows(engine) == before


def test_another_mandate_of_the_same_name_is_refused(
    engine: Engine, shield: Setup, project: Path, tmp_path: Path
) -> None:
    market = hours(shield.symbols, 20)
    replay(engine, [(shield, market)], DEPOSITS)
    text = (project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml").read_text(encoding="utf-8")
    file = tmp_path / "looser.yaml"
    file.write_text(text.replace("loss_cap: 20%", "loss_cap: 30%"), encoding="utf-8")
    with pytest.raises(MandateChanged):
        replay(engine, [(set_up(load_mandate(file)), market)], DEPOSITS)


def test_a_redemption_after_a_replay_is_paid_and_the_replay_goes_on(engine: Engine, shield: Setup) -> None:
    replay(engine, [(shield, hours(shield.symbols, 90))], DEPOSITS)
    redeem(engine, "btc-eth-shield", "bob", None, START)
    (run,) = replay(engine, [(shield, hours(shield.symbols))], DEPOSITS).runs
    assert len(run.ts) == 100
    assert run.shares[-1] < run.shares[0]


# ---------------------------------------------------------------------------- strategies that see or remember


class NextBar(Strategy):
    """At every bar, or at one, its direction is that of the next one."""

    name: ClassVar[str] = "next_bar"
    only_at: int | None = None

    def lookback(self, timeframe: int) -> int:
        return 2

    def propose(self, bars: Bars) -> Any:
        ahead = 5.0 * np.sign(np.append(bars.close[1:], bars.close[-1]) - bars.close)
        return ahead if self.only_at is None else np.where(bars.ts == self.only_at, ahead, 1.0)


CALLS: list[int] = []


class Remembering(NextBar):
    """Proposes more each time that it is asked."""

    def propose(self, bars: Bars) -> Any:
        CALLS.append(1)
        return np.full(len(bars), 0.001 * len(CALLS))


def held_by(setup: Setup, strategy: Strategy) -> Setup:
    return replace(setup, strategies=(strategy,) * len(setup.names))


@pytest.mark.parametrize(
    ("strategy", "rule"), [(NextBar(), "sees later bars"), (Remembering(), "changes its mind")], ids=["ahead", "memory"]
)
def test_both_drivers_refuse_a_cheat_with_the_same_bar_before_anything_is_written(
    engine: Engine, distance: Setup, strategy: Strategy, rule: str
) -> None:
    cheating, market = held_by(distance, strategy), hours(distance.symbols)
    before, told = rows(engine), []
    for drive in (
        lambda: backtest(cheating, market, DEPOSITS),
        lambda: replay(engine, [(distance, market), (cheating, market)], DEPOSITS),
    ):
        CALLS.clear()
        with pytest.raises(ContractBroken) as refusal:
            drive()
        told.append(str(refusal.value))
        assert refusal.value.rule == rule
    assert told[0] == told[1]
    assert rows(engine) == before


def test_a_cheat_at_one_bar_that_no_cut_meets_is_refused_by_the_replay_at_that_slot(
    engine: Engine, distance: Setup
) -> None:
    market = hours(distance.symbols)
    at = START + 43 * HOUR
    cheating, done = held_by(distance, NextBar(only_at=at)), []
    backtest(cheating, market, DEPOSITS)  # its cuts are a sample
    with pytest.raises(ContractBroken, match="sees later bars") as refusal:
        replay(engine, [(cheating, market)], DEPOSITS, lambda vault, number, total: done.append(number))
    assert refusal.value.ts == at
    assert done[-1] == 43
