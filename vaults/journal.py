"""The journal of one vault: what happened, row after row, each hashed with the one before it, so that no row can be
changed, dropped or slipped in without every later hash telling.

Works inside the caller's transaction and with the caller's time.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, TextClause, insert, or_, select, text

from ringfence.vaults.entries import Decided, Entry, read_entry
from ringfence.vaults.errors import NotJournalable
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import TOLD, journal, telling, vault

__all__ = ["COLUMNS", "Journal", "Row", "breaches", "canonical", "first_since", "genesis", "last_row", "newest",
           "row_hash", "rows"]  # fmt: skip

_INSERT = insert(journal)
COLUMNS = (journal.c.seq, journal.c.ts, journal.c.kind, journal.c.body, journal.c.previous_hash, journal.c.hash)
_BATCH = 1_000
"""Rows that a server hands over at a time, so that a long journal is never held whole."""
_STREAMED = 256
"""Rows fetched at once where the reader may stop."""
_SETTLED = '"settlements":[{'
"""How a canonical body begins a list of settlements that is not empty."""


def canonical(body: Mapping[str, Any]) -> str:
    """The one text of a body: JSON in ASCII, keys sorted, no spaces, floats by their shortest repr.

    Refused: NotJournalable (NaN, infinity, a key that is no text, a value that JSON does not know).
    """
    try:
        _refuse_keys(body)
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJournalable("body", str(error)) from None


def _refuse_keys(value: object) -> None:
    """json would turn the key 1 into "1", and two keys into one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            _refuse_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_keys(inner)


def genesis(name: str) -> str:
    """The hash before the first row, bound to the vault's name so that no vault's journal passes for another's."""
    return hashlib.sha256(f"ringfence journal of {name}".encode()).hexdigest()


def row_hash(previous_hash: str, seq: int, ts: int, kind: str, body: str) -> str:
    """SHA-256 over the five, one a line; none of them can hold a line break, so no two rows share a text.

    Bytes that are no UTF-8, which only another programme can have written, are hashed as they stand.
    """
    text = f"{previous_hash}\n{seq}\n{ts}\n{kind}\n{body}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Journal:
    """The end of one vault's chain: `append` adds entries in memory, `write` writes them in one batch.

    `seq` and `hash` are the vault row's `journal_seq` and `journal_hash`; the caller stores them there.
    """

    def __init__(self, connection: Connection, vault_id: int, seq: int, hash: str) -> None:
        self._connection = connection
        self._vault_id = vault_id
        self.seq = seq
        self.hash = hash
        self._pending: list[dict[str, object]] = []

    def append(self, ts: int, entry: Entry) -> int:
        """Adds what happened at `ts` (UTC ms) and returns its number. Refused, with nothing added: NotJournalable."""
        text = canonical(entry.body())
        previous, self.seq = self.hash, self.seq + 1
        self.hash = row_hash(previous, self.seq, ts, entry.kind, text)
        self._pending.append(
            {"vault_id": self._vault_id, "seq": self.seq, "ts": ts, "kind": entry.kind, "body": text,
             "previous_hash": previous, "hash": self.hash}
        )  # fmt: skip
        return self.seq

    def write(self) -> int:
        """Writes what was appended since the last call and returns the number of rows."""
        written = len(self._pending)
        if written:
            self._connection.execute(_INSERT, self._pending)
            self._pending = []
        return written


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a journal, as it stands in the database."""

    seq: int
    ts: int
    kind: str
    body: str
    previous_hash: str
    hash: str

    @property
    def entry(self) -> Entry:
        """What the row says. Refused: EntryUnreadable."""
        return read_entry(self.kind, self.body)


def rows(
    connection: Connection, vault_id: int, *kinds: type[Entry], since: int | None = None, paying: bool = False
) -> Iterator[Row]:
    """The rows of a vault's journal in order: all, or those of some kinds, or from a time (UTC ms) on.

    `paying`: of the decisions only those that settled somebody's order, which are few.
    """
    wanted = select(*COLUMNS).where(journal.c.vault_id == vault_id)
    if kinds:
        wanted = wanted.where(journal.c.kind.in_([entry.kind for entry in kinds]))
    if since is not None:
        wanted = wanted.where(journal.c.ts >= since)
    if paying:
        settled = journal.c.body.contains(_SETTLED, autoescape=True)
        wanted = wanted.where(or_(journal.c.kind != Decided.kind, settled))
    for row in connection.execute(wanted.order_by(journal.c.seq).execution_options(yield_per=_BATCH)):
        yield Row(*row)


def newest(
    connection: Connection, vault_id: int, kinds: Sequence[str] = (), holding: Sequence[str] = (), first: int = 1
) -> Iterator[Row]:
    """The rows of a vault's journal from the last one back to row `first`, read as they are asked for.

    With `kinds` or `holding` only rows of one of the kinds or whose body has one of the texts in it: `"kind":"..."` of
    an event that is rare is looked up, any other text is read for.
    """
    every = select(*COLUMNS).where(journal.c.vault_id == vault_id, journal.c.seq >= first)
    chosen = [every.where(journal.c.kind == kind) for kind in dict.fromkeys(kinds)]
    chosen += [every.where(_holds(told, connection.dialect.name)) for told in dict.fromkeys(holding)]
    # Each in an order that an index has, so that nothing is sorted: the last hundred of a million are read, no more.
    streams = [_streamed(connection, wanted) for wanted in chosen or [every]]
    last = None
    for row in heapq.merge(*streams, key=lambda row: row.seq, reverse=True):
        if row.seq != last:
            yield row
        last = row.seq


def _holds(told: str, dialect: str) -> ColumnElement[bool] | TextClause:
    """The rows that have a text in their bodies; of a rare kind in the very words of its index, or it is not used."""
    for kind in TOLD:
        if told == f'"kind":"{kind}"':
            return text(telling(kind, dialect))
    return journal.c.body.contains(told, autoescape=True)


def _streamed(connection: Connection, wanted: Select[Any]) -> Iterator[Row]:
    newest_first = wanted.order_by(journal.c.seq.desc()).execution_options(yield_per=_STREAMED)
    with connection.execute(newest_first) as found:
        for row in found:
            yield Row(*row)


def first_since(connection: Connection, vault_id: int, last: int, since: int) -> int:
    """The first row of a journal of `last` rows whose time is `since` (UTC ms) or later; `last` + 1 where none is.

    A journal's time never runs backwards, so that some twenty looks find the row among a million.
    """
    before, at = 0, last + 1
    look = select(journal.c.ts).where(journal.c.vault_id == vault_id)
    while at - before > 1:
        middle = (before + at) // 2
        ts = connection.execute(look.where(journal.c.seq == middle)).scalar_one_or_none()
        if ts is not None and ts >= since:
            at = middle
        else:
            before = middle
    return at


def last_row(connection: Connection, vault_id: int, *kinds: type[Entry], until: int | None = None) -> Row | None:
    """The last row of these kinds, or the last one no later than the row `until`."""
    wanted = select(*COLUMNS).where(journal.c.vault_id == vault_id, journal.c.kind.in_([entry.kind for entry in kinds]))
    if until is not None:
        wanted = wanted.where(journal.c.seq <= until)
    found = connection.execute(wanted.order_by(journal.c.seq.desc()).limit(1)).one_or_none()
    return None if found is None else Row(*found)


def breaches(connection: Connection, vault_id: int) -> Iterator[Breach]:
    """Every place where a vault's chain is broken (L3): gaps, changed rows, a cut or exchanged end; reads only."""
    name, last_seq, last_hash = connection.execute(
        select(vault.c.name, vault.c.journal_seq, vault.c.journal_hash).where(vault.c.id == vault_id)
    ).one()
    expected, seq = genesis(name), 0
    for row in rows(connection, vault_id):
        seq += 1
        if row.seq != seq:
            yield Breach("L3", f"journal row {row.seq}", f"seq {seq}, without a gap", str(row.seq))
            seq = row.seq
        if row.previous_hash != expected:
            yield Breach("L3", f"journal row {row.seq}", f"the hash before it, {expected}", row.previous_hash)
        recomputed = row_hash(row.previous_hash, row.seq, row.ts, row.kind, row.body)
        if row.hash != recomputed:
            yield Breach("L3", f"journal row {row.seq}", f"hash {recomputed}", row.hash)
        expected = row.hash
    if (seq, expected) != (last_seq, last_hash):
        yield Breach("L3", "the journal's end", f"row {last_seq} with hash {last_hash}", f"row {seq} with {expected}")
