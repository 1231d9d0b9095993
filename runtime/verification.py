"""Verification: nothing that the database says of a vault is believed; all of it is worked out again.

The ledger is summed anew, the chain of the journal hashed anew, and the whole life of the vault lived again from its
mandates, the acts of its holders and the recorded bars, in a scratch database: every row of the journal must come out
the same to the last byte, and so must every row of every table that tells of the vault (L2).

A slot that another kernel or another release of a strategy decided cannot be decided again. There the recorded entry is
booked as it stands, through the same ledger and the same checks: sums, chain and money hold, and the verdict says that
the decision itself was not repeated.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, Table, create_engine, func, select, true
from sqlalchemy.exc import IntegrityError

from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import book_of, decided_by, live_through, slot_inputs
from ringfence.vaults import journal, ledger, statements
from ringfence.vaults.entries import Amended, Cancelled, Decided, DepositAsked, Opened, RedemptionAsked
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.ledger import Breach
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import account, flow, holding, mandate, metadata, position, transfer, vault
from ringfence.vaults.vault import Vault, create_vault
from ringfence.words.refusal import RingfenceError

__all__ = ["Verdict", "verify"]

_PAGE = 10_000
"""Transfers that are compared at a time."""


@dataclass(frozen=True)
class Verdict:
    vault: str
    rows: int
    """Rows of its journal."""
    slots: int
    """Decisions made again from their recorded inputs."""
    breaches: tuple[Breach, ...]
    """Empty when every law holds."""
    undecided: tuple[tuple[str, int], ...]
    """Who else decided and how many slots: their sums, chain and money hold, the decisions were not made again."""


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
    checks = (ledger.breaches, journal.breaches, statements.breaches)
    breaches = [breach for check in checks for breach in check(connection, row["id"])]
    life = _Life(connection, desk)
    for breach in life.live_again(row["id"], lambda seq: progress(row["name"], seq, row["journal_seq"])):
        breaches.append(breach)
    return Verdict(row["name"], row["journal_seq"], life.decided, tuple(breaches), tuple(sorted(life.others.items())))


class _Life:
    """A vault that is lived again, in a scratch database of its own."""

    def __init__(self, connection: Connection, desk: Desk) -> None:
        self._connection, self._desk = connection, desk
        self._mandate: Mandate | None = None
        self._setup: Setup | None = None
        """Of the mandate, once a slot is decided again under it."""
        self.decided = 0
        self.others: Counter[str] = Counter()

    def live_again(self, vault_id: int, progress: Callable[[int], None]) -> Iterator[Breach]:
        """How the journal differs from what the same acts give again; ends at the first difference."""
        scratch = create_engine("sqlite://")
        metadata.create_all(scratch)
        with scratch.begin() as again:
            for row in journal.rows(self._connection, vault_id):
                thing = f"journal row {row.seq} ({row.kind})"
                try:
                    self._repeat(again, row)
                    found = again.execute(select(vault.c.journal_seq, vault.c.journal_hash)).one_or_none()
                except (RingfenceError, KeyError, ValueError, IntegrityError) as failure:
                    yield Breach("R4", thing, "the same act again", str(failure))
                    break
                if found is None or tuple(found) != (row.seq, row.hash):
                    yield Breach("R4", thing, str(found), str((row.seq, row.hash)))
                    break
                progress(row.seq)
            else:
                yield from _differences(self._connection, vault_id, again)
        scratch.dispose()

    def _repeat(self, again: Connection, row: journal.Row) -> None:
        entry = row.entry
        if isinstance(entry, Opened):
            self._mandate = Mandate.from_canonical(entry.terms)
            create_vault(again, self._mandate, entry.decimals, row.ts)
            return
        if self._mandate is None:
            raise ValueError("no mandate stands before it")
        repeated = Vault(again, again.execute(select(vault)).mappings().one(), self._mandate)
        match entry:
            case Amended():
                self._mandate, self._setup = Mandate.from_canonical(entry.terms), None
                repeated.amend(row.ts, self._mandate)
            case DepositAsked():
                repeated.deposit(row.ts, entry.holder, entry.amount, entry.given, accepts_locked=entry.accepts_locked)
            case RedemptionAsked():
                repeated.redeem(row.ts, entry.holder, entry.shares, entry.given)
            case Cancelled():
                waiting = {order.seq: order for order in repeated.holders.requests()}
                repeated.cancel(row.ts, waiting[entry.request])
            case Decided():
                self._decide(repeated, self._mandate, row.ts, entry)
            case _:
                raise ValueError(f"a row of kind {row.kind!r} cannot be repeated")

    def _decide(self, repeated: Vault, mandate: Mandate, ts: int, recorded: Decided) -> None:
        others = _other_deciders(recorded, mandate)
        if others:
            repeated.accept(ts, recorded)
            self.others.update(others)
            return
        setup = self._setup = self._setup or set_up(mandate)
        window = self._desk.window(self._connection, setup, recorded.slot - 1)
        number = -1 if window is None else int(np.searchsorted(window.slots.opens, recorded.slot))
        if window is None or number == len(window.slots) or window.slots.opens[number] != recorded.slot:
            raise ValueError(f"no recorded bars of the slot {recorded.slot}")
        inputs = slot_inputs(setup, window.slots, number)
        decision = live_through(setup, book_of(repeated, inputs.close), inputs)
        repeated.accept(decision.close, decision.entry, decision.balances)
        self.decided += 1


def _differences(real: Connection, vault_id: int, again: Connection) -> Iterator[Breach]:
    """Every row of every table about a vault that is not as living again leaves it (L2). Keys of requests are not told
    by the journal, and bars are what it is lived on; these two tables are left out."""
    mine = again.execute(select(vault.c.id)).scalar_one()
    for table in (vault, account, transfer, position, holding, flow):
        owner = table.c.id if table is vault else table.c.vault_id
        columns = [column for column in table.c if column is not owner]
        keys = [column.name for column in table.primary_key if column is not owner] or [vault.c.name.name]
        for page in _pages(table, again):
            yield from _compared(
                table.name, keys, *(
                    [dict(row) for row in side.execute(select(*columns).where(owner == identity, page)).mappings()]
                    for side, identity in ((real, vault_id), (again, mine))
                ),
            )  # fmt: skip
    lived = [dict(row) for row in again.execute(select(mandate)).mappings()]
    known = mandate.c.fingerprint.in_([row["fingerprint"] for row in lived])
    found = [dict(row) for row in real.execute(select(mandate).where(known)).mappings()]
    yield from _compared(mandate.name, ["fingerprint"], found, lived)


def _pages(table: Table, again: Connection) -> list[ColumnElement[bool]]:
    """Conditions that cut a table into parts that fit into memory; only transfers grow with every slot."""
    if table is not transfer:
        return [true()]
    last = again.execute(select(func.max(transfer.c.seq))).scalar() or 0
    inside = [transfer.c.seq.between(first, first + _PAGE - 1) for first in range(1, last + 1, _PAGE)]
    return [*inside, ~transfer.c.seq.between(1, len(inside) * _PAGE)]


def _compared(
    table: str, keys: list[str], found: list[dict[str, Any]], lived: list[dict[str, Any]]
) -> Iterator[Breach]:
    def by_key(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {", ".join(str(row[key]) for key in keys): row for row in rows}

    left, right = by_key(found), by_key(lived)
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            wanted, there = right.get(key) or {}, left.get(key) or {}
            differing = [name for name in (wanted or there) if wanted.get(name) != there.get(name)]
            told, said = (
                {name: side.get(name) for name in differing} if side else "no such row" for side in (wanted, there)
            )
            yield Breach("L2", f"{table} {key}", f"{told}, as lived again", str(said))


def _other_deciders(recorded: Decided, mandate: Mandate) -> tuple[str, ...]:
    """Who decided a slot and is not at hand: a kernel, or releases of strategies; empty where all are."""
    kernel, releases = decided_by(mandate)
    if recorded.kernel != kernel:
        return (f"kernel {recorded.kernel}",)
    return tuple(sorted({made for name, made in recorded.strategies.items() if releases.get(name) != made}))
