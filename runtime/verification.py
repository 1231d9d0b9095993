"""Verification: nothing that the database says of a vault is believed; all of it is worked out again.

The ledger is summed anew, the chain of the journal hashed anew, and the whole life of the vault lived again from its
mandate, the acts of its holders and the recorded bars, in a scratch database: every row of the journal must come out
the same to the last byte.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, Engine, RowMapping, create_engine, select

from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk, slot_inputs
from ringfence.runtime.journals import entries
from ringfence.runtime.setup import Compiled, compile_mandate
from ringfence.vaults import journal as journals
from ringfence.vaults import ledger, statements
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.ledger import Breach
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import journal, metadata, vault
from ringfence.vaults.vault import Vault, create_vault
from ringfence.words.refusal import RingfenceError

__all__ = ["Verdict", "verify"]


@dataclass(frozen=True)
class Verdict:
    vault: str
    rows: int
    """Rows of its journal."""
    slots: int
    """Decisions made again from their recorded inputs."""
    breaches: tuple[Breach, ...]
    """Empty when every law holds."""


def verify(
    engine: Engine,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int, int], None] = lambda vault, done, total: None,
) -> list[Verdict]:
    """Re-check the named vaults, or all; reads only. `progress` hears (vault, journal rows done, rows in all).

    Refused: UnknownVault.
    """
    desk = Desk(engine)
    with unit_of_work(engine, writes=False) as connection:
        rows = {row["name"]: row for row in connection.execute(select(vault).order_by(vault.c.name)).mappings()}
        for name in names or ():
            if name not in rows:
                raise UnknownVault(name, tuple(rows))
        return [_verdict(connection, desk, rows[name], progress) for name in (names or rows)]


def _verdict(connection: Connection, desk: Desk, row: RowMapping, progress: Callable[[str, int, int], None]) -> Verdict:
    audits = (ledger.audit, journals.audit, statements.audit)
    breaches = [breach for audit in audits for breach in audit(connection, row["id"])]
    slots = 0
    for kind, breach in _live_again(connection, desk, row, progress):
        slots += kind == "slot"
        if breach is not None:
            breaches.append(breach)
    return Verdict(row["name"], row["journal_seq"], slots, tuple(breaches))


def _live_again(
    connection: Connection, desk: Desk, row: RowMapping, progress: Callable[[str, int, int], None]
) -> Iterator[tuple[str, Breach | None]]:
    """Each row of the journal and how it differs from what the same act gives again; ends at the first difference."""
    scratch = create_engine("sqlite://")
    metadata.create_all(scratch)
    hashes = select(journal.c.seq, journal.c.hash).where(journal.c.vault_id == row["id"]).order_by(journal.c.seq)
    recorded = {row.seq: row.hash for row in connection.execute(hashes)}
    with scratch.begin() as again:
        compiled: Compiled | None = None
        for seq, ts, kind, body in entries(connection, row["id"]):
            try:
                if kind == "mandate":
                    compiled = compile_mandate(Mandate.from_canonical(body["mandate"]))
                    create_vault(again, compiled.mandate, row["decimals"], ts)
                elif compiled is not None:
                    _repeat(again, connection, desk, compiled, ts, kind, body)
                found = again.execute(select(vault.c.journal_seq, vault.c.journal_hash)).one_or_none()
            except (RingfenceError, KeyError, ValueError) as failure:
                yield kind, Breach("R4", f"journal row {seq} ({kind})", "the same act again", str(failure))
                break
            expected = (seq, recorded[seq])
            if found is None or tuple(found) != expected:
                yield kind, Breach("R4", f"journal row {seq} ({kind})", str(found), str(expected))
                break
            progress(row["name"], seq, row["journal_seq"])
            yield kind, None
    scratch.dispose()


def _repeat(
    again: Connection,
    connection: Connection,
    desk: Desk,
    compiled: Compiled,
    ts: int,
    kind: str,
    body: dict[str, object],
) -> None:
    one = Vault(again, again.execute(select(vault)).mappings().one(), compiled.mandate)
    match kind:
        case "deposit":
            one.deposit(ts, str(body["holder"]), int(str(body["amount"])))
        case "redeem":
            one.redeem(ts, str(body["holder"]), int(str(body["shares"])))
        case "slot":
            feed = desk.feed(connection, compiled)
            slot = int(str(body["slot"]))
            number = int(np.searchsorted(feed.slots, slot))
            if number == len(feed.slots) or feed.slots[number] != slot:
                raise ValueError(f"no recorded bars of the slot {slot}")
            one.step(slot_inputs(compiled, feed, number), compiled.limits, compiled.listing)
        case _:
            raise ValueError(f"a row of kind {kind!r} cannot be repeated")
