"""The replay: recorded history through the same task that steps live vaults, slot by slot, into a database."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine, select

from ringfence.markets.market import Market
from ringfence.markets.slots import Slots
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.history import run_of
from ringfence.runtime.runs import VaultRun
from ringfence.runtime.setup import Setup
from ringfence.runtime.tasks import step, using
from ringfence.vaults.tables import vault

__all__ = ["Replayed", "replay"]


@dataclass(frozen=True)
class Replayed:
    """What a replay came to."""

    runs: tuple[VaultRun, ...]
    notes: tuple[str, ...]
    """What it did not take or do, in words; by vault."""


def replay(
    engine: Engine,
    vaults: Sequence[tuple[Setup, Market]],
    deposits: Mapping[str, int],
    progress: Callable[[str, int, int], None] = lambda vault, done, total: None,
    *,
    defaulted: bool = False,
) -> Replayed:
    """Record each mandate's market, open its vault, take the deposits (minor units by holder) and step every slot.

    What an earlier, interrupted replay of the same inputs has done is not done again. `defaulted`: nobody named these
    deposits, so that only a vault which this replay opens takes them. `progress` hears (vault, slots done, slots in
    all). A strategy that looks ahead or remembers is refused (ContractBroken) before anything is written, or at the
    slot at which it shows.
    """
    runs, notes = [], list[str]()
    cut = [Slots(market, setup.mandate.timeframe) for setup, market in vaults]
    # Before anything is written; and then each slot's proposals must be those of the whole history.
    foretelling = [setup.foretelling(slots) for (setup, _), slots in zip(vaults, cut, strict=True)]
    known = {setup.mandate.fingerprint: setup for setup in foretelling}
    for (setup, market), own in zip(vaults, cut, strict=True):
        name, start = setup.mandate.name, int(market.ts[0])
        in_unit(engine, partial(store_bars, market=market))
        open_vault(engine, setup.mandate, start)
        lived, rows = _progress(engine, name)
        if not defaulted or rows <= 1:
            notes += _take(engine, name, deposits, start, lived)
        else:
            notes.append(f"{name}: lives already, so that no deposit was taken; name one to pay in")
        slots = own.opens.tolist()
        with using(Desk(engine, known)):
            for done, slot in enumerate(slots, 1):
                step(name, slot)
                progress(name, done, len(slots))
            with unit_of_work(engine, writes=False) as connection:
                row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
                runs.append(run_of(connection, row))
    return Replayed(tuple(runs), tuple(notes))


def _progress(engine: Engine, name: str) -> tuple[bool, int]:
    """Whether a vault has lived through a bar, and how many rows its journal has; one, when it was just opened."""
    with unit_of_work(engine, writes=False) as connection:
        row = connection.execute(select(vault.c.last_bar, vault.c.journal_seq).where(vault.c.name == name)).one()
    return row.last_bar is not None, row.journal_seq


def _take(engine: Engine, name: str, deposits: Mapping[str, int], start: int, lived: bool) -> list[str]:
    """Pay in what this replay was given; returns what was paid in before and is not again."""
    notes = []
    for holder, amount in deposits.items():
        answer = deposit(engine, name, holder, amount, start, new=not lived, replayed=True)
        if answer.repeated and lived:
            notes.append(f"{name}: the deposit of {holder} was taken by an earlier replay and is not taken again")
    return notes
