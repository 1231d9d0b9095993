"""The desk: one process's hold on a database of vaults, and the one function that steps a vault.

The Celery task, the replay and the verification all go through here. Compiled mandates and recorded markets are kept
between calls; both are immutable in the database, so that what is kept cannot be stale: a mandate is found by its
fingerprint, a market by the last bars recorded.
"""

from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.markets.slots import MarketFeed
from ringfence.runtime.bar_store import last_recorded, load_market
from ringfence.runtime.database import in_unit, lock_vault
from ringfence.runtime.errors import NoBars
from ringfence.runtime.setup import Compiled, compile_mandate
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import mandate
from ringfence.vaults.vault import SlotInputs, Vault

__all__ = ["Desk", "slot_inputs"]


def slot_inputs(compiled: Compiled, feed: MarketFeed, number: int) -> SlotInputs:
    """What slot `number` of the feed is stepped on, from bars up to its close and no later ones."""
    first, last = feed.span(number)
    slot = int(feed.slots[number])
    return SlotInputs(
        slot=slot,
        close=slot + feed.timeframe,
        ts=feed.market.ts[first:last],
        bars=feed.rows[first:last],
        proposals=compiled.decide_one(feed, number),
        fingerprint=feed.fingerprint(number),
    )


@dataclass(eq=False)
class Desk:
    engine: Engine
    _compiled: dict[str, Compiled] = field(default_factory=dict, repr=False)
    _feeds: dict[tuple[tuple[str, ...], int], tuple[tuple[int, ...], MarketFeed]] = field(
        default_factory=dict, repr=False
    )

    def step(self, vault: str, slot: int) -> int:
        """Bring a vault up to the slot that opens at `slot` (UTC ms), and return how many slots it stepped.

        Each slot is a unit of work of its own. A slot that is behind the vault is a no-op, and one that is ahead takes
        the slots before it along, so that repeated and disordered calls end in the same ledger.
        """
        stepped = 0
        while (done := in_unit(self.engine, lambda connection: self._step_next(connection, vault, slot))) is not None:
            stepped += 1
            if done == slot:
                break
        return stepped

    def _step_next(self, connection: Connection, name: str, slot: int) -> int | None:
        """Step the vault's next slot if it opens no later than `slot`; returns its open, None for none."""
        row = lock_vault(connection, name)
        if row["last_slot"] is not None and row["last_slot"] >= slot:
            return None
        compiled = self.compiled(connection, row)
        feed = self.feed(connection, compiled)
        after = -1 if row["last_slot"] is None else row["last_slot"]
        number = int(np.searchsorted(feed.slots, after, side="right"))
        if number == len(feed.slots) or feed.slots[number] > slot:
            return None
        inputs = slot_inputs(compiled, feed, number)
        Vault(connection, row, compiled.mandate).step(inputs, compiled.limits, compiled.listing)
        return inputs.slot

    def compiled(self, connection: Connection, row: RowMapping) -> Compiled:
        """The vault's mandate, ready to run."""
        fingerprint = row["mandate"]
        if fingerprint not in self._compiled:
            body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == fingerprint)).scalar_one()
            self._compiled[fingerprint] = compile_mandate(Mandate.from_canonical(body))
        return self._compiled[fingerprint]

    def feed(self, connection: Connection, compiled: Compiled) -> MarketFeed:
        """The recorded market of a mandate's symbols in its slots. Refused: NoBars."""
        key = (compiled.symbols, compiled.mandate.timeframe)
        latest = last_recorded(connection, compiled.symbols)
        if -1 in latest:
            missing = (symbol for symbol, ts in zip(compiled.symbols, latest, strict=True) if ts < 0)
            raise NoBars(compiled.mandate.name, tuple(missing))
        known = self._feeds.get(key)
        if known is None or known[0] != latest:
            known = latest, MarketFeed(load_market(connection, compiled.symbols), compiled.mandate.timeframe)
            self._feeds[key] = known
        return known[1]
