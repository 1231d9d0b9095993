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
from pathlib import Path
from typing import Any

import numba
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, select

from ringfence.risk.book import BAR, PROPOSAL, rows
from ringfence.risk.edges import MAY_BE_NEGATIVE
from ringfence.risk.events import Kind
from ringfence.risk.exposure import liquidation_price
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.database import lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import SlotInputs, book_of, live_through
from ringfence.vaults.errors import DepositRefused, RedeemExceeds, UnknownHolder, ZeroAssets, ZeroShares
from ringfence.vaults.journal import breaches as chain_breaches
from ringfence.vaults.ledger import Ledger, breaches
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.shares import VIRTUAL_ASSETS, VIRTUAL_SHARES
from ringfence.vaults.tables import account, vault
from ringfence.vaults.vault import Vault

SLOW = bool(numba.config.DISABLE_JIT)
ONE, MILLION, HOUR = 2**50, 10**6, 3_600_000
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
        self.price_before: tuple[int, int] | None = None

    def teardown(self) -> None:
        self.engine.dispose()
        self.folder.cleanup()

    def read(self, connection: Connection) -> Any:
        return connection.execute(select(vault).where(vault.c.name == NAME)).mappings().one()

    @contextlib.contextmanager
    def an_act_of_people(self) -> Any:
        """NAV per share of those who stay may not fall by it."""
        with unit_of_work(self.engine, writes=False) as connection:
            before = self.read(connection)
        yield
        with unit_of_work(self.engine, writes=False) as connection:
            after = self.read(connection)
        if before["shares"] and after["shares"]:
            worth = [(row["last_nav"] + VIRTUAL_ASSETS, row["shares"] + VIRTUAL_SHARES) for row in (before, after)]
            assert worth[1][0] * worth[0][1] >= worth[0][0] * worth[1][1]
            assert after["high_water_mark"] >= before["high_water_mark"], "the mark fell by someone's act"
        if not after["shares"]:
            self.mark = 0

    # ------------------------------------------------------------------------------------------------ the rules

    @initialize(first=st.integers(10**8, 10**13))
    def opens(self, first: int) -> None:
        assert open_vault(self.engine, self.setup.mandate, 0)
        deposit(self.engine, NAME, "alice", first, 0)

    @rule(holder=st.sampled_from(HOLDERS), amount=st.one_of(st.integers(1, 10**6), st.integers(10**6, 10**13)))
    def pays_in(self, holder: str, amount: int) -> None:
        with self.an_act_of_people(), contextlib.suppress(DepositRefused, ZeroShares):
            deposit(self.engine, NAME, holder, amount, 0)

    @rule(
        holder=st.sampled_from(HOLDERS), part=st.one_of(st.sampled_from([1, 500_000, MILLION]), st.integers(1, MILLION))
    )
    def asks_back(self, holder: str, part: int) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            held = Vault(connection, self.read(connection), self.setup.mandate).held(holder)
        with self.an_act_of_people(), contextlib.suppress(RedeemExceeds, UnknownHolder, ZeroAssets):
            redeem(self.engine, NAME, holder, max(1, held * part // MILLION), 0)

    @rule(holder=st.sampled_from(HOLDERS), left=st.integers(1, 2000))
    def asks_all_but_dust_back(self, holder: str, left: int) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            held = Vault(connection, self.read(connection), self.setup.mandate).held(holder)
        with self.an_act_of_people(), contextlib.suppress(RedeemExceeds, UnknownHolder, ZeroAssets):
            redeem(self.engine, NAME, holder, max(1, held - left), 0)

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
            held = book_of(self.of(connection)).positions
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
        bars.funding_rate[0], bars.funding[0] = rate, rate != 0.0
        asked = rows(PROPOSAL, (1, 2), leverage=[leverages], volatility=0.8, proposed=True, known=True)
        inputs = SlotInputs(
            slot=self.slot, close=self.slot + HOUR, ts=self.slot + np.arange(len(moves)) * 60_000, bars=bars,
            proposals=asked, fingerprint=f"{next(_numbers):064x}",
        )  # fmt: skip
        with unit_of_work(self.engine) as connection:
            one = Vault(connection, lock_vault(connection, NAME), self.setup.mandate)
            decision = live_through(self.setup, book_of(one), inputs)
            told = one.accept(decision.close, decision.entry, decision.balances).events
            if one.shares == 0:
                self.mark = 0
        self.slot += HOUR
        return [event.kind for event in told]

    # ------------------------------------------------------------------------------------------------ the laws

    @invariant()
    def the_laws_hold(self) -> None:
        with unit_of_work(self.engine, writes=False) as connection:
            found = connection.execute(select(vault)).mappings().one_or_none()
            if found is None:
                return
            assert breaches(connection, found["id"]) == []  # L1, L2, S3
            assert list(chain_breaches(connection, found["id"])) == []
            balances = dict(connection.execute(select(account.c.name, account.c.balance)).all())
            ledger = Ledger(connection, found["id"], found["transfer_seq"])
            assert ledger.sum_to_zero()
            positions = self.of(connection).positions
        assert all(balance >= 0 or name in MAY_BE_NEGATIVE for name, balance in balances.items())
        keep = MILLION - self.setup.mandate.loss_cap
        floor = keep * found["high_water_mark"] * found.shares
        reserve, cushion = balances.get("reserve", 0), balances.get("cushion", 0)
        assert reserve * MILLION * ONE >= floor  # W1
        assert found["last_nav"] * MILLION * ONE >= floor  # W3
        assert found["last_nav"] >= reserve + cushion
        assert found["high_water_mark"] >= self.mark
        assert 0 <= found["waiting"] <= found["shares"]
        self.mark = found["high_water_mark"]
        for held in positions.values():
            assert held.quantity != 0 or held.cost == 0


LivingVault.TestCase.settings = settings(
    max_examples=4 if SLOW else 25,
    stateful_step_count=12 if SLOW else 30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestAVaultKeepsItsLawsWhateverHappens(LivingVault.TestCase):  # type: ignore[name-defined, misc]
    """Runs the machine."""


def test_dust_that_the_last_holder_leaves_behind_does_not_shut_the_vault() -> None:
    """A share unit that is left of all others may be worth a thousand times its price; the mark must not follow it."""
    machine = LivingVault()
    try:
        machine.opens(10**8)
        redeem(machine.engine, NAME, "alice", 10**11 - 1, 0)
        machine.step((0.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
        told = deposit(machine.engine, NAME, "bob", 10**8, 0)
        assert told.shares > 0
        machine.the_laws_hold()
    finally:
        machine.teardown()


def test_a_few_shares_left_with_what_others_have_forgone_keep_every_law() -> None:
    """A redeemer is paid no more than on the day of asking; what the positions gain after that is the stayers', be they
    ever so few. Their price per share may then be beyond an int64."""
    machine = LivingVault()
    try:
        machine.opens(10**12)
        machine.step((20.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
        redeem(machine.engine, NAME, "alice", 10**15 - 2000, 0)
        machine.step((20.0, 0.0), [(0.6, 0.0)], 0.0, gapping=True)
        machine.the_laws_hold()
        with unit_of_work(machine.engine, writes=False) as connection:
            found = machine.read(connection)
        assert 0 < found.shares < 10**6
        assert found["last_nav"] > 8192 * (found.shares + VIRTUAL_SHARES)
        machine.step((3.0, 0.0), [(0.0, 0.0)], 0.0, gapping=False)
        machine.the_laws_hold()
        told = redeem(machine.engine, NAME, "alice", 1000, 0)
        assert told.price == 2**63 - 1
        machine.the_laws_hold()
    finally:
        machine.teardown()
