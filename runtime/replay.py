"""The replay: recorded history through the same task that steps live vaults, slot by slot, into a database."""

from collections.abc import Callable, Mapping, Sequence
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

__all__ = ["replay"]


def replay(
    engine: Engine,
    vaults: Sequence[tuple[Setup, Market]],
    deposits: Mapping[str, int],
    progress: Callable[[str, int, int], None] = lambda vault, done, total: None,
) -> list[VaultRun]:
    """Record each mandate's market, open its vault, take the deposits (minor units by holder) and step every slot.

    What an earlier, interrupted replay of the same inputs has done is not done again. `progress` hears (vault, slots
    done, slots in all). A strategy that looks ahead or remembers is refused (ContractBroken) before anything is
    written, or at the slot at which it shows.
    """
    runs = []
    cut = [Slots(market, setup.mandate.timeframe) for setup, market in vaults]
    # Before anything is written; and then each slot's proposals must be those of the whole history.
    foretelling = [setup.foretelling(slots) for (setup, _), slots in zip(vaults, cut, strict=True)]
    known = {setup.mandate.fingerprint: setup for setup in foretelling}
    for (setup, market), own in zip(vaults, cut, strict=True):
        name, start = setup.mandate.name, int(market.ts[0])
        in_unit(engine, partial(store_bars, market=market))
        open_vault(engine, setup.mandate, start)
        for holder, amount in deposits.items():
            deposit(engine, name, holder, amount, start, key=f"replay:{holder}")
        slots = own.opens.tolist()
        with using(Desk(engine, known)):
            for done, slot in enumerate(slots, 1):
                step(name, slot)
                progress(name, done, len(slots))
            with unit_of_work(engine, writes=False) as connection:
                row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
                runs.append(run_of(connection, row))
    return runs
