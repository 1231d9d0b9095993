"""The desk: one process's hold on a database of vaults, and the one function that steps a vault.

A step is look, propose, decide, store. First the vault's row and the window of bars that its next slots are decided
from are read and the strategies asked, with nothing locked. Then the row is locked; if the vault, its mandate and its
bars are still what they were, the pure step makes entries of them and the vault books them, several slots in one unit
of work where it catches up. The Celery tasks and the replay go through here. What is kept between calls cannot be
stale: a mandate is found by its fingerprint, and a window is loaded anew whenever a bar of its symbols was recorded or
corrected.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.markets.slots import Slots
from ringfence.runtime.bar_store import Window, last_recorded, load_inside, load_window
from ringfence.runtime.database import in_unit, lock_vault, unit_of_work
from ringfence.runtime.dealing import Ahead, Dealer, ordered
from ringfence.runtime.duties import look
from ringfence.runtime.errors import ExchangeNotNamed, ExchangeRunning, NoBars
from ringfence.runtime.paper_accounts import PaperAccounts
from ringfence.runtime.proposals import Here, Proposed, Proposer
from ringfence.runtime.setup import Setup
from ringfence.runtime.step import book_of, heed, live_through, take
from ringfence.runtime.stretch import Stretch, passing, rest_of_slot, unfinished
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import LATEST, mandate
from ringfence.vaults.vault import Vault

__all__ = ["UNIT", "WINDOWS_KEPT", "Desk"]

UNIT = 1.0
"""Seconds after which a vault that catches up commits what it has decided."""
_AT_ONCE = 64
"""Slots that are proposed for at once, at most."""

WINDOWS_KEPT = 32
"""So many windows are kept, those that were loaded last: one of a vault that catches up holds some thousand bars of
each symbol."""


_Sight = tuple[tuple[str, ...], int, int]
"""Symbols, timeframe and lookback: vaults that look at the same market share its windows."""


class _Standing(NamedTuple):
    """What decides, beside its bars, what becomes of a vault at a slot's close."""

    mandate: str
    """Fingerprint."""
    is_halted: bool
    is_closing: bool


def _standing(row: RowMapping) -> _Standing:
    """A halt counts once what was on its way before it is booked."""
    is_halted = row["halted_since"] is not None and row["ordered"] is None
    return _Standing(row["mandate"], is_halted, row["closing_since"] is not None)


def _demand_no_exchange(row: RowMapping) -> None:
    """Passes for a vault whose venue fills at once. Refused: ExchangeNotNamed."""
    if row["reported"] or row["ordered"] is not None:
        raise ExchangeNotNamed(row["name"])


class _Ahead(NamedTuple):
    """What a vault decides next, as far as it can be known without holding it."""

    setup: Setup
    window: Window
    clock: int
    """UTC ms up to which the vault had lived."""
    stands: _Standing
    proposed: Mapping[int, Proposed]
    """By number of the slot."""


@dataclass(eq=False)
class Desk:
    engine: Engine
    setups: dict[str, Setup] = field(default_factory=dict, repr=False)
    """By fingerprint: mandates that are ready to run."""
    proposer: Proposer = field(default_factory=Here, repr=False)
    accounts: PaperAccounts | None = None
    """Where the vaults trade; None: their venue fills at once, by the same rule, and has no books of its own."""
    _windows: list[tuple[_Sight, Window]] = field(default_factory=list, repr=False)
    """Those that were loaded last, the last one last."""

    def step(self, vault: str, slot: int) -> int:
        """Bring a vault up to the slot that opens at `slot` (UTC ms), and return how many slots it decided.

        A slot that is behind the vault is a no-op, and one that is ahead takes the slots before it along, so that
        repeated and disordered calls end in the same ledger.
        """
        return self._live(vault, slot, lambda: True)

    def catch_up(self, vault: str, more: Callable[[], bool]) -> int:
        """Bring a vault up to what is fed, as long as there is `more` time; returns how many slots it decided."""
        return self._live(vault, LATEST, more)

    def guard(self, vault: str) -> int:
        """Let a vault live through what is fed inside its slot, up to the last bar at which money moves; returns at how
        many it did. No strategy is asked."""
        if self.accounts is None:
            return in_unit(self.engine, lambda connection: self._guard(connection, vault))
        in_unit(self.engine, lambda connection: self._looks(connection, vault))
        acted = 0
        with suppress(ExchangeRunning):  # somebody is at it, and lives through the same bars
            while self._dealer.deal(vault, self._inside_of) is not None:
                acted += 1
        return acted

    def _looks(self, connection: Connection, name: str) -> None:
        row = lock_vault(connection, name)
        symbols = self.setup(connection, row["mandate"]).symbols
        look(connection, row["id"], last_recorded(connection, symbols).until)

    def _inside_of(self, connection: Connection, row: RowMapping, vault: Vault) -> Ahead | None:
        """What a vault that deals at an exchange lives through inside its slot."""
        setup = self.setup(connection, row["mandate"])
        on_its_way = ordered(connection, vault)
        if vault.last_bar is None or (on_its_way is not None and on_its_way.slot is not None):
            return None  # whoever decides goes on with it
        rest = self._inside(connection, setup, vault, last_recorded(connection, setup.symbols).until)
        if rest is None:
            return None
        stretch = unfinished(rest, vault.halted_since is not None)
        return Ahead(setup, stretch, stretch.walk)

    @property
    def _dealer(self) -> Dealer:
        assert self.accounts is not None
        return Dealer(self.engine, self.accounts, self.setup)

    def reconcile(self, vault: str) -> int:
        """Compare a vault's books with its exchange's, where it deals at one; returns how much is not the same in both
        and unexplained. Its positions are stopped."""
        if self.accounts is None:
            return 0
        with suppress(ExchangeRunning):  # whoever is at it compares them too
            return len(self._dealer.reconcile(vault))
        return 0

    def _guard(self, connection: Connection, name: str) -> int:
        row = lock_vault(connection, name)
        _demand_no_exchange(row)
        if row["last_bar"] is None:
            return 0
        setup, acted = self.setup(connection, row["mandate"]), 0
        vault, until = Vault(connection, row, setup.mandate), last_recorded(connection, setup.symbols).until
        look(connection, row["id"], until)
        with vault.together():
            while (rest := self._inside(connection, setup, vault, until)) is not None:
                stretch = unfinished(rest, vault.halted_since is not None)
                step = live_through(setup, book_of(vault, vault.strike_of(vault.clock)), stretch)
                if step is None:
                    break
                take(vault, step)
                heed(vault, step)
                acted += 1
        return acted

    @staticmethod
    def _inside(connection: Connection, setup: Setup, vault: Vault, until: int) -> Slots | None:
        assert vault.last_bar is not None
        return load_inside(connection, setup.symbols, setup.mandate.timeframe, until, (vault.last_bar, vault.clock))

    def _live(self, name: str, slot: int, more: Callable[[], bool]) -> int:
        decided = 0
        while more() and (ahead := self._ahead(name, slot)) is not None:
            if self.accounts is None:
                done = in_unit(self.engine, partial(self._decide, name=name, ahead=ahead))
            else:
                done = self._deal(name, ahead, more)
            decided += done
            end = int(ahead.window.slots.opens[max(ahead.proposed)]) + ahead.window.slots.timeframe
            # neither asked for nor fed as far as was looked: whatever comes meanwhile is rung for again
            is_all = end > slot or end + ahead.window.slots.timeframe > ahead.window.recorded.until
            if done == len(ahead.proposed) and is_all:
                break
        return decided

    def _ahead(self, name: str, slot: int) -> "_Ahead | None":
        """The vault's next slots that are fed and open no later than `slot`, with what is proposed for them; None where
        there is none. Nothing is locked meanwhile."""
        with unit_of_work(self.engine, writes=False) as connection:
            row = lock_vault(connection, name)
            setup, clock = self.setup(connection, row["mandate"]), row["clock"]
            window = self.window(connection, setup, clock) if slot + setup.mandate.timeframe > clock else None
        if window is None:
            return None
        first = window.after(clock)
        last = min(int(np.searchsorted(window.slots.opens, slot, side="right")), first + _AT_ONCE)
        numbers = range(first, last)
        if not numbers:
            return None
        stands = _standing(row)
        if stands.is_halted or stands.is_closing:
            proposed = [Proposed(setup.closing_at(window.slots, number), {}) for number in numbers]
        else:
            proposed = self.proposer.propose(setup, window.slots, numbers)
        return _Ahead(setup, window, clock, stands, dict(zip(numbers, proposed, strict=True)))

    def _decide(self, connection: Connection, name: str, ahead: "_Ahead") -> int:
        """Decide what was looked up before, as far as it goes in UNIT, unless something has moved since."""
        row = lock_vault(connection, name)
        _demand_no_exchange(row)
        setup, window = ahead.setup, ahead.window
        stands = _standing(row)
        moved = (row["clock"], stands) != (ahead.clock, ahead.stands)
        if moved or last_recorded(connection, setup.symbols) != window.recorded:
            return 0
        vault, begun, decided = Vault(connection, row, setup.mandate), time.monotonic(), 0
        with vault.together():
            for number, proposed in ahead.proposed.items():
                if decided and time.monotonic() - begun > UNIT:
                    break
                end = int(window.slots.opens[number]) + window.slots.timeframe
                while vault.clock < end and (stands.is_halted or vault.halted_since is None):
                    stretch = (
                        passing(window.slots, number, vault.last_bar) if stands.is_halted
                        else rest_of_slot(window.slots, number, vault.last_bar, proposed)
                    )  # fmt: skip
                    step = live_through(setup, book_of(vault, stretch.close), stretch)
                    assert step is not None
                    take(vault, step)
                    heed(vault, step)
                if vault.clock < end:
                    break  # a price has halted it
                decided += 1
        return decided

    def _deal(self, name: str, ahead: "_Ahead", more: Callable[[], bool]) -> int:
        """The same at the vault's exchange, one stretch after the other."""
        decided = 0
        for number, proposed in ahead.proposed.items():
            end = int(ahead.window.slots.opens[number]) + ahead.window.slots.timeframe
            lived = 0
            while lived < end:
                step = self._dealer.deal(name, partial(self._next, ahead, number, proposed)) if more() else None
                if step is None:
                    return decided
                lived = step.close
            decided += 1
        return decided

    def _next(
        self, ahead: "_Ahead", number: int, proposed: Proposed, connection: Connection, row: RowMapping, vault: Vault
    ) -> Ahead | None:
        """What a vault lives through next of a slot that was looked up before, unless something has moved since. More
        than five arguments because it is asked under the lock."""
        slots = ahead.window.slots
        moved = _standing(row) != ahead.stands or ahead.window.after(vault.clock) != number
        if moved or last_recorded(connection, ahead.setup.symbols) != ahead.window.recorded:
            return None
        stretch: Stretch = (
            passing(slots, number, vault.last_bar) if ahead.stands.is_halted
            else rest_of_slot(slots, number, vault.last_bar, proposed)
        )  # fmt: skip
        return Ahead(ahead.setup, stretch, unfinished(slots, is_halted=False).walk)

    def setup(self, connection: Connection, fingerprint: str) -> Setup:
        """The database's mandate of this fingerprint, ready to run."""
        if fingerprint not in self.setups:
            body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == fingerprint)).scalar_one()
            self.setups[fingerprint] = self.proposer.set_up(Mandate.from_canonical(body))
        return self.setups[fingerprint]

    def window(self, connection: Connection, setup: Setup, clock: int) -> Window | None:
        """The recorded bars around the first slot that closes after `clock` (UTC ms); None where none is fed. Refused:
        NoBars."""
        recorded = last_recorded(connection, setup.symbols)
        if -1 in recorded.latest:
            missing = (symbol for symbol, ts in zip(setup.symbols, recorded.latest, strict=True) if ts < 0)
            raise NoBars(setup.mandate.name, tuple(missing))
        timeframe = setup.mandate.timeframe
        if max(recorded.latest) < clock // timeframe * timeframe:
            return None
        sight = setup.symbols, timeframe, setup.lookback
        kept = next((one for of, one in self._windows if of == sight and one.reaches(recorded, clock)), None)
        if kept is None:
            kept = load_window(connection, setup.symbols, timeframe, setup.lookback, recorded, clock)
            if kept is not None:
                others = [(of, one) for of, one in self._windows if of != sight or one.recorded == recorded]
                self._windows = [*others, (sight, kept)][-WINDOWS_KEPT:]
        return kept
