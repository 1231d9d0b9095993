"""A real vault on a real database lives through deposits, redemptions, slots, gaps and liquidations in any order.

The market is synthetic and chosen rule by rule; everything else is what runs in production. After every act the laws
are read back from the database, in plain integers.
"""

import atexit
import contextlib
import functools
import itertools
import shutil
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, select

from ringfence.risk.book import BAR, PROPOSAL, STAMP, Walk, rows
from ringfence.risk.edges import MAY_BE_NEGATIVE
from ringfence.risk.events import Kind
from ringfence.risk.exposure import liquidation_price
from ringfence.runtime.acts import cancel, deposit, open_vault, redeem
from ringfence.runtime.database import lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import book_of, live_through
from ringfence.runtime.stretch import Stretch
from ringfence.vaults.entries import Decided
from ringfence.vaults.errors import (
    CancelTooLate,
    DepositRefused,
    NothingWaits,
    RedeemExceeds,
    UnknownHolder,
    ZeroAssets,
    ZeroShares,
)
from ringfence.vaults.journal import breaches as chain_breaches
from ringfence.vaults.ledger import Ledger, breaches
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.shares import VIRTUAL_ASSETS, VIRTUAL_SHARES, wall
from ringfence.vaults.statements import breaches as statement_breaches
from ringfence.vaults.tables import account, vault
from ringfence.vaults.vault import Vault

SLOW = bool(numba.config.DISABLE_JIT)
ONE, MILLION, HOUR, MINUTE = 2**50, 10**6, 3_600_000, 60_000
NAME = "walled"
HOLDERS = ("alice", "bob", "carol")
MANDATE = f"""
mandate: {NAME}
title: Two positions that live dangerously
currency: USDT
loss_cap: 30%
timeframe: 1h
venue: {{name: paper, half_spread: 0.05%, slippage: 0.05%}}
volatility: {{estimator: ewma, half_life: 12h, window: 3d, floor: 20%}}
limits: {{gross_leverage_max: 20}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 60%
    strategy: {{name: constant, leverage: 10}}
    leverage_max: 20
    volatility_max: 1000%
    liquidation_distance_min: {{sigmas: 0, horizon: 8h, slippage: 0%}}
    band: 10%
    margin_call: {{at: 1.5, then: reduce, to: 3}}
  doge:
    symbol: DOGE/USDT:USDT
    share: 30%
    strategy: {{name: constant, leverage: 5}}
    leverage_max: 10
    volatility_max: 1000%
    liquidation_distance_min: {{sigmas: 0, horizon: 8h, slippage: 0%}}
    band: 10%
    margin_call: {{at: 1.2, then: reduce, to: 2}}
"""
START = (20_000.0, 0.1)
PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")

_numbers = itertools.count()


@functools.cache
def _template() -> Path:
    """A migrated database without vaults; migrating a new one for each example would take most of the time."""
    folder = tempfile.TemporaryDirectory(prefix="living-vault-")
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "vault.db"
    engine = open_engine(f"sqlite:///{path}", create=True)
    migrate(engine)
    engine.dispose()
    return path


@functools.cache
def _compiled() -> Setup:
    return set_up(load_mandate(MANDATE))


class LivingVault(RuleBasedStateMachine):
    """Rules are acts; every one of them is a unit of work of its own, as it is in production."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="living-vault-")
        shutil.copy(_template(), Path(self.folder.name) / "vault.db")
        self.engine = open_engine(f"sqlite:///{Path(self.folder.name) / 'vault.db'}", create=False)
        self.setup = _compiled()
        self.slot = 0
        self.price = list(START)
        self.mark = 0
        self.at_work: dict[str, Fraction] = {}
        """By holder, the least that his shares may be worth, minor units: W3b."""

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def read(self, connection: Connection) -> Any:
        return connection.execute(select(vault).where(vault.c.name == NAME)).mappings().one()

    @contextlib.contextmanager
    def an_act_of_people(self) -> Any:
        """Between strikes nobody enters or leaves: an order changes no share and no price."""
        with unit_of_work(self.engine, writes=False) as connection:
            before = self.read(connection)
        yield
        with unit_of_work(self.engine, writes=False) as connection:
            after = self.read(connection)
        if before["shares"] and before["last_bar"] is not None:
            for figure in ("shares", "last_nav", "high_water_mark"):
                assert after[figure] == before[figure]

    # ------------------------------------------------------------------------------------------------ the rules

    @initialize(first=st.integers(10**8, 10**13))
    def opens(self, first: int) -> None:
        assert open_vault(self.engine, self.setup.mandate, 0)
        self.at_work["alice"] = Fraction(first)
        deposit(self.engine, NAME, "alice", first, 0)

    @rule(holder=st.sampled_from(HOLDERS), amount=st.one_of(st.integers(1, 10**6), st.integers(10**6, 10**13)))
    def pays_in(self, holder: str, amount: int) -> None:
        with self.an_act_of_people(), contextlib.suppress(DepositRefused, ZeroShares):
            answer = deposit(self.engine, NAME, holder, amount, 0, accepts_locked=True)
            if answer.entry.settled is not None:
                self.at_work[holder] = self.at_work.get(holder, Fraction(0)) + amount

    @rule(
        holder=st.sampled_from(HOLDERS), part=st.one_of(st.sampled_from([1, 500_000, MILLION]), st.integers(1, MILLION))
    )
    def asks_back(self, holder: str, part: int) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            held = self.of(connection).holders.held(holder)
        with self.an_act_of_people(), contextlib.suppress(RedeemExceeds, UnknownHolder, ZeroAssets):
            redeem(self.engine, NAME, holder, max(1, held * part // MILLION), 0)

    @rule(holder=st.sampled_from(HOLDERS), left=st.integers(1, 2000))
    def asks_all_but_dust_back(self, holder: str, left: int) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            held = self.of(connection).holders.held(holder)
        with self.an_act_of_people(), contextlib.suppress(RedeemExceeds, UnknownHolder, ZeroAssets):
            redeem(self.engine, NAME, holder, max(1, held - left), 0)

    @rule(holder=st.sampled_from(HOLDERS))
    def changes_his_mind(self, holder: str) -> None:
        with self.an_act_of_people(), contextlib.suppress(NothingWaits, UnknownHolder, CancelTooLate):
            cancel(self.engine, NAME, holder, None, 0)

    @rule(
        leverages=st.tuples(*[st.sampled_from([-20.0, -3.0, 0.0, 3.0, 10.0, 20.0])] * 2),
        moves=st.lists(st.tuples(st.floats(-0.03, 0.03), st.floats(-0.03, 0.03)), min_size=1, max_size=4),
        rate=st.sampled_from([0.0, 0.0001, -0.01, 0.05]),
    )
    def ticks(self, leverages: tuple[float, float], moves: list[tuple[float, float]], rate: float) -> None:
        self.step(leverages, moves, rate, gapping=False)

    @rule(
        leverages=st.tuples(*[st.sampled_from([-10.0, 3.0, 10.0])] * 2),
        moves=st.lists(st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)), min_size=1, max_size=2),
        absent=st.booleans(),
    )
    def gaps(self, leverages: tuple[float, float], moves: list[tuple[float, float]], absent: bool) -> None:
        """Bars that open where the one before did not close, the second symbol now and then missing."""
        self.step(leverages, moves, 0.0, gapping=True, absent=absent)

    @precondition(lambda self: self.slot > 0)
    @rule(beyond=st.sampled_from([0.01, 0.4]), flat=st.sampled_from([0.4, 1.6]))
    def is_liquidated(self, beyond: float, flat: float) -> None:
        """Every open position's price goes past its liquidation price, where it has one."""
        with unit_of_work(self.engine, writes=False) as connection:
            held = book_of(self.of(connection), self.slot + HOUR).positions
        moves, expected = [], 0
        for row, instrument, price in zip(held, self.setup.listing, self.price, strict=True):
            trigger = liquidation_price(row, instrument)
            expected += trigger > 0.0
            past = trigger * (1.0 - beyond if row.quantity > 0 else 1.0 + beyond)
            moves.append((past / price if trigger > 0.0 else flat) - 1.0)
        told = self.step((3.0, 3.0), [(moves[0], moves[1])], 0.0, gapping=True)
        assert told.count(int(Kind.liquidation)) == expected

    def of(self, connection: Connection) -> Vault:
        return Vault(connection, self.read(connection), self.setup.mandate)

    def step(
        self, leverages: tuple[float, float], moves: list[tuple[float, float]], rate: float, *, gapping: bool,
        absent: bool = False,
    ) -> list[int]:  # fmt: skip
        """Step the vault through one slot; returns the kinds of its events."""
        bars = rows(BAR, (len(moves), 2), valid=True)
        for bar, move in enumerate(moves):
            for p in (0, 1):
                missing = absent and p == 1 and bar == len(moves) - 1
                after = self.price[p] if missing else self.price[p] * (1.0 + move[p])
                opened = after if gapping else self.price[p]
                figures = {"open": opened, "high": max(opened, after), "low": min(opened, after), "close": after}
                for name in PRICES:
                    bars[name][bar, p] = figures[name.removeprefix("mark_")]
                bars.valid[bar, p] = not missing
                self.price[p] = after
        bars.volume, bars.funding[0], bars.stamps_to[0] = np.inf, rate != 0.0, rate != 0.0
        asked = rows(PROPOSAL, (1, 2), leverage=[leverages], volatility=0.8, proposed=True, known=True)
        ts, length = self.slot + HOUR - MINUTE * np.arange(len(moves), 0, -1), MINUTE
        closes = np.full(len(moves), -1, np.int64)
        closes[-1] = 0
        walk = Walk(bars, ts, length, rows(STAMP, 1, ts=ts[0], rate=rate), closes, asked)
        first, kinds, told = 0, list[int](), None
        while told is None:
            rest = walk._replace(bars=bars[first:], ts=ts[first:], slot=closes[first:])
            stretch = Stretch(
                rest, len(rest.ts) - 1, lambda count: f"{count:064x}", self.slot, self.slot + HOUR,
                f"{next(_numbers):064x}",
            )  # fmt: skip
            with unit_of_work(self.engine) as connection:
                one = Vault(connection, lock_vault(connection, NAME), self.setup.mandate)
                before = one.shares
                step = live_through(self.setup, book_of(one, stretch.close), stretch)
                assert step is not None
                kinds += [event.kind for event in step.entry.events]
                if isinstance(step.entry, Decided):
                    told = one.accept(step.close, step.entry, step.balances)
                else:
                    one.walk(step.close, step.entry, step.balances)
                    first = int(np.searchsorted(ts, step.entry.last_bar, side="right"))
        self.remember(told, before)
        self.slot += HOUR
        return kinds

    def remember(self, told: Decided, before: int) -> None:
        """S7 and W3 at a strike, and what everybody who was settled has at work from now on."""
        if told.nav_low is not None:
            keep = MILLION - self.setup.mandate.loss_cap
            floor = wall(self.mark, keep, before)
            assert told.nav_low >= floor, "W3: at no bar's worst point"
        if not told.is_struck:
            assert not told.settlements, "nobody enters or leaves at a strike that did not happen"
            return
        price = Fraction(told.struck + VIRTUAL_ASSETS, before + VIRTUAL_SHARES)
        if before and told.total_shares:
            after = Fraction(told.nav + VIRTUAL_ASSETS, told.total_shares + VIRTUAL_SHARES)
            bears = sum(one.cost for one in told.settlements)
            slack = Fraction(max(0, told.flow_cost - bears), told.total_shares + VIRTUAL_SHARES)
            assert after >= price - slack, "S7: somebody's flow lowered the price of those who stay"
        with unit_of_work(self.engine, writes=False) as connection:
            held = {one.holder: self.of(connection).holders.held(one.holder) for one in told.settlements}
        if not before:
            price = Fraction(1, 1000)
        for one in told.settlements:
            if one.side == "deposit":
                self.at_work[one.holder] = self.at_work.get(one.holder, Fraction(0)) + one.shares * price
            elif one.shares:
                left = Fraction(held[one.holder], held[one.holder] + one.shares)
                self.at_work[one.holder] *= left
        self.mark = told.high_water_mark if told.total_shares else 0

    # ------------------------------------------------------------------------------------------------ the laws

    @invariant()
    def the_laws_hold(self) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            found = connection.execute(select(vault)).mappings().one_or_none()
            if found is None:
                return
            assert breaches(connection, found["id"]) == []  # L1, L2, S3
            assert list(chain_breaches(connection, found["id"])) == []
            assert statement_breaches(connection, found["id"]) == []  # S1, S5
            balances = dict(connection.execute(select(account.c.name, account.c.balance)).all())
            ledger = Ledger(connection, found["id"], found["transfer_seq"])
            assert ledger.sum_to_zero()
            positions = self.of(connection).positions
            held = {holder: self.of(connection).holders.held(holder) for holder in self.at_work}
        assert all(balance >= 0 or name in MAY_BE_NEGATIVE for name, balance in balances.items())
        keep = MILLION - self.setup.mandate.loss_cap
        must_stand = wall(found["high_water_mark"], keep, found.shares)
        reserve, cushion = balances.get("reserve", 0), balances.get("cushion", 0)
        assert reserve >= must_stand  # W1
        assert found["last_nav"] >= reserve + cushion
        assert found["high_water_mark"] >= self.mark
        assert 0 <= found["waiting"] <= found["shares"]
        for holder, shares in held.items():  # W3b
            worth = Fraction(shares * (found["last_nav"] + VIRTUAL_ASSETS), found["shares"] + VIRTUAL_SHARES)
            walled = Fraction(shares * (reserve + VIRTUAL_ASSETS), found["shares"] + VIRTUAL_SHARES)
            assert worth >= walled >= self.at_work[holder] * keep / MILLION - 1
        for position in positions.values():
            assert position.quantity != 0 or position.cost == 0


LivingVault.TestCase.settings = settings(
    max_examples=4 if SLOW else 25,
    stateful_step_count=12 if SLOW else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestAVaultKeepsItsLawsWhateverHappens(LivingVault.TestCase):  # type: ignore[name-defined, misc]
    """Runs the machine."""


@pytest.fixture
def machine() -> Any:
    made = LivingVault()
    yield made
    made.teardown()


def still(machine: LivingVault) -> None:
    """One slot in which nothing moves and nothing is traded."""
    machine.step((0.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)


def test_dust_that_the_last_holder_leaves_behind_does_not_shut_the_vault(machine: LivingVault) -> None:
    """A share unit that is left of all others may be worth a thousand times its price; the mark must not follow it."""
    machine.opens(10**8)
    redeem(machine.engine, NAME, "alice", 10**11 - 1, 0)
    still(machine)
    deposit(machine.engine, NAME, "bob", 10**8, 0)
    still(machine)
    with unit_of_work(machine.engine, writes=False) as connection:
        assert machine.of(connection).holders.held("bob") > 0
    machine.the_laws_hold()


@pytest.mark.parametrize("rise", [0.05, 0.4, 0.6])
def test_behind_a_newcomer_beside_dust_stands_what_the_cap_says_or_he_is_refused(
    machine: LivingVault, rise: float
) -> None:
    """All but a thousandth of a share leaves, the market rises, 50,000 is paid in, the market gaps away (F01)."""
    machine.opens(10**11)
    machine.step((20.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
    redeem(machine.engine, NAME, "alice", 10**14 - 10**6, 0)
    machine.step((20.0, 0.0), [(rise, 0.0)], 0.0, gapping=True)
    machine.step((20.0, 0.0), [(rise, 0.0)], 0.0, gapping=True)
    with contextlib.suppress(DepositRefused):
        deposit(machine.engine, NAME, "bob", 50_000 * 10**6, 0, accepts_locked=True)
    machine.step((20.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
    for fall in (0.0, -0.6, -0.6):
        with unit_of_work(machine.engine, writes=False) as connection:
            found, held = machine.read(connection), machine.of(connection).holders.held("bob")
        if held:
            worth = held * (found["last_nav"] + VIRTUAL_ASSETS) // (found["shares"] + VIRTUAL_SHARES)
            behind = held * (machine_wall(machine, found) + VIRTUAL_ASSETS) // (found["shares"] + VIRTUAL_SHARES)
            assert worth >= behind >= 35_000 * 10**6 * (1 - 10**-6)
        machine.the_laws_hold()
        machine.step((20.0, 0.0), [(fall, 0.0)], 0.0, gapping=True)


def machine_wall(machine: LivingVault, found: Any) -> int:
    return wall(found["high_water_mark"], MILLION - machine.setup.mandate.loss_cap, found["shares"])


def test_who_leaves_has_his_part_of_a_rise_and_of_a_fall_until_his_strike(machine: LivingVault) -> None:
    """A request bore all of a fall and none of a rise while it waited."""
    machine.opens(10**11)
    deposit(machine.engine, NAME, "bob", 10**11, 0)
    machine.step((10.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
    redeem(machine.engine, NAME, "alice", None, 0)
    machine.step((10.0, 0.0), [(0.03, 0.0)], 0.0, gapping=False)
    with unit_of_work(machine.engine, writes=False) as connection:
        found, held = machine.read(connection), machine.of(connection).holders.held("bob")
        world = dict(connection.execute(select(account.c.name, account.c.balance)).all())["world"]
    of_alice, of_bob = 2 * 10**11 + world, held * (found["last_nav"] + 1) // (found["shares"] + VIRTUAL_SHARES)
    assert found["waiting"] == 0
    assert of_alice > 10**11
    assert of_alice == pytest.approx(of_bob, rel=0.005), "but for what the cut for her cost"
