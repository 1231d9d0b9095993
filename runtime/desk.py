"""The desk: one process's hold on a database of vaults, and the one function that steps a vault.

A step is load, decide, store: the vault's row is locked and read, with the window of bars that its next slot is decided
from; the pure step makes an entry of them; the vault books it. The Celery task and the replay go through here. What is
kept between calls cannot be stale: a mandate is found by its fingerprint, and a window is loaded anew whenever a bar of
its symbols was recorded or corrected.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, Engine, select

from ringfence.runtime.bar_store import Window, last_recorded, load_window
from ringfence.runtime.database import in_unit, lock_vault
from ringfence.runtime.errors import NoBars
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import book_of, live_through, slot_inputs
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import LATEST, mandate
from ringfence.vaults.vault import Vault

__all__ = ["WINDOWS_KEPT", "Desk"]

WINDOWS_KEPT = 32
"""Windows of this many mandates are kept, those that were loaded last: one that catches
up holds some thousand bars of each symbol."""


@dataclass(eq=False)
class Desk:
    engine: Engine
    setups: dict[str, Setup] = field(default_factory=dict, repr=False)
    """By fingerprint: mandates that are ready to run."""
    _windows: dict[Setup, Window] = field(default_factory=dict, repr=False)

    def step(self, vault: str, slot: int) -> int:
        """Bring a vault up to the slot that opens at `slot` (UTC ms), and return how many slots it stepped.

        Each slot is a unit of work of its own. A slot that is behind the vault is a no-op, and one that is ahead takes
        the slots before it along, so that repeated and disordered calls end in the same ledger.
        """
        stepped = 0
        while (done := self._step(vault, slot)) is not None:
            stepped += 1
            if done == slot:
                break
        return stepped

    def catch_up(self, vault: str, more: Callable[[], bool]) -> int:
        """Bring a vault up to what is fed, as long as there is `more` time; returns how many slots it stepped."""
        stepped = 0
        while more() and self._step(vault, LATEST) is not None:
            stepped += 1
        return stepped

    def _step(self, vault: str, slot: int) -> int | None:
        return in_unit(self.engine, lambda connection: self._step_next(connection, vault, slot))

    def _step_next(self, connection: Connection, name: str, slot: int) -> int | None:
        """Step the vault's next slot if it opens no later than `slot`; returns its open, None for none."""
        row = lock_vault(connection, name)
        setup = self.setup(connection, row["mandate"])
        last_bar = row["last_bar"]
        if last_bar is None:  # it lives from its opening on: the first slot is the first that closes later
            last_bar = row["opened"] // setup.mandate.timeframe * setup.mandate.timeframe - 1
        if last_bar >= slot:
            return None
        window = self.window(connection, setup, last_bar)
        if window is None:
            return None
        number = int(np.searchsorted(window.slots.opens, last_bar, side="right"))
        if number == len(window.slots) or window.slots.opens[number] > slot:
            return None
        vault = Vault(connection, row, setup.mandate)
        inputs = slot_inputs(setup, window.slots, number)
        decision = live_through(setup, book_of(vault, inputs.close), inputs)
        vault.accept(decision.close, decision.entry, decision.balances)
        return decision.entry.slot

    def setup(self, connection: Connection, fingerprint: str) -> Setup:
        """The database's mandate of this fingerprint, ready to run."""
        if fingerprint not in self.setups:
            body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == fingerprint)).scalar_one()
            self.setups[fingerprint] = set_up(Mandate.from_canonical(body))
        return self.setups[fingerprint]

    def window(self, connection: Connection, setup: Setup, last_bar: int) -> Window | None:
        """The recorded bars around the first slot after `last_bar`; None where no bar is later. Refused: NoBars."""
        recorded = last_recorded(connection, setup.symbols)
        if -1 in recorded.latest:
            missing = (symbol for symbol, ts in zip(setup.symbols, recorded.latest, strict=True) if ts < 0)
            raise NoBars(setup.mandate.name, tuple(missing))
        kept = self._windows.get(setup)
        if kept is None or not kept.reaches(recorded, last_bar):
            kept = load_window(connection, setup.symbols, setup.mandate.timeframe, setup.lookback, recorded, last_bar)
            if kept is not None:
                self._windows.pop(setup, None)
                while len(self._windows) >= WINDOWS_KEPT:
                    self._windows.pop(next(iter(self._windows)))  # the one that was loaded first
                self._windows[setup] = kept
        return kept
