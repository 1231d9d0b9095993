"""A small vault on a seeded random walk, stepped slot by slot: what tests of acts, statements and readings stand on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, create_engine, insert, select

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.markets.slots import Slots
from ringfence.runtime.acts import open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.proposals import Here
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import book_of, live_through
from ringfence.runtime.stretch import Stretch, rest_of_slot
from ringfence.vaults import journal, ledger, statements
from ringfence.vaults.entries import Decided
from ringfence.vaults.ledger import Breach
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import metadata, vault
from ringfence.vaults.vault import Vault, create_vault

HOUR = 3_600_000
START = 1_583_020_800_000
"""2020-03-01T00:00:00Z."""
SYMBOL = "BTC/USDT:USDT"
UNIT = 10**6
SHARE = 10**9

MANDATE = """
mandate: {name}
title: The tide
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {{estimator: ewma, half_life: 2h, window: 4h, floor: 20%}}
limits: {{gross_leverage_max: 3}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 90%
    strategy: {{name: constant, leverage: {leverage}}}
    leverage_max: 8
    volatility_max: 1000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 1%}}
    band: 10%
    margin_call: {{at: 1.5, then: reduce, to: 3}}
"""


def tide(name: str = "tide", leverage: str = "5") -> Setup:
    """The mandate, ready to run; decides from its fourth hour on."""
    return set_up(load_mandate(MANDATE.format(name=name, leverage=leverage).encode()))


def walk(seed: int = 7, bars: int = 48, deviation: float = 0.01, start: float = 8_000.0) -> Market:
    """Hourly bars of one symbol from a seeded geometric random walk."""
    closes = start * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, deviation, bars)))
    return path(closes.tolist(), start)


def path(closes: list[float], start: float) -> Market:
    """Hourly bars that close where they are told to, each opening where the one before closed."""
    close = np.array(closes)
    opened = np.concatenate(([start], close[:-1]))
    ts = START + HOUR * np.arange(len(close), dtype=np.int64)
    high, low = np.maximum(opened, close), np.minimum(opened, close)
    return align({SYMBOL: Bars(SYMBOL, HOUR, ts, opened, high, low, close, np.full(len(close), 10.0**6))})


@dataclass(frozen=True)
class Tide:
    """One vault in a database of its own, and the desk that steps it."""

    engine: Engine
    desk: Desk
    setup: Setup
    slots: Slots

    @property
    def name(self) -> str:
        return self.setup.mandate.name

    def step(self, slots: int, first: int = 0) -> None:
        """Live through slots `first` to `first + slots - 1`."""
        self.desk.step(self.name, int(self.slots.opens[first + slots - 1]))

    def vault(self, connection: Connection) -> Vault:
        return Vault(connection, lock_vault(connection, self.name), self.setup.mandate)

    def stretch(self, number: int, last_bar: int | None = None) -> Stretch:
        """What is left of slot `number` after a bar."""
        (proposed,) = Here().propose(self.setup, self.slots, [number])
        return rest_of_slot(self.slots, number, last_bar, proposed)

    def decided(self, vault: Vault, number: int) -> tuple[int, Decided, Mapping[str, int]]:
        """What a vault that stands before slot `number` decides in it: (close, entry, balances)."""
        stretch = self.stretch(number)
        step = live_through(self.setup, book_of(vault, stretch.close), stretch)
        assert step is not None
        assert isinstance(step.entry, Decided)
        return step.close, step.entry, step.balances

    def live_through(self, vault: Vault, number: int) -> Decided:
        """Step a vault through slot `number`, as the desk does."""
        while True:
            stretch = self.stretch(number, vault.last_bar)
            step = live_through(self.setup, book_of(vault, stretch.close), stretch)
            assert step is not None
            if isinstance(step.entry, Decided):
                return vault.accept(step.close, step.entry, step.balances)
            vault.walk(step.close, step.entry, step.balances)


def launch(url: str, market: Market, setup: Setup | None = None) -> Tide:
    """Migrate the database at `url`, record the market and open the vault at its first bar."""
    setup = setup or tide()
    engine = open_engine(url, create=True)
    migrate(engine)
    in_unit(engine, lambda connection: store_bars(connection, market))
    open_vault(engine, setup.mandate, START)
    return Tide(engine, Desk(engine), setup, Slots(market, setup.mandate.timeframe))


def scratch(setup: Setup | None = None) -> tuple[Engine, int]:
    """A database in memory without the triggers that guard real ones, so that tests can forge rows; one open vault."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.begin() as connection:
        create_vault(connection, (setup or tide()).mandate, 6, START)
    return engine, 1


def breaches(engine: Engine, name: str = "tide") -> list[Breach]:
    """Every law of ledger, chain and statements that does not hold."""
    with unit_of_work(engine, writes=False) as connection:
        found = connection.execute(select(vault.c.id).where(vault.c.name == name)).scalar_one()
        return [
            *ledger.breaches(connection, found),
            *journal.breaches(connection, found),
            *statements.breaches(connection, found),
        ]


def contents(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with unit_of_work(engine, writes=False) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def forge(connection: Connection, table: str, **row: object) -> None:
    """Slip a row in past the code that writes such rows."""
    connection.execute(insert(metadata.tables[table]), row)
