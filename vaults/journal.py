"""The journal of one vault: what happened, row after row, each hashed with the one before it, so that no row can be
changed, dropped or slipped in without every later hash telling.

Works inside the caller's transaction and with the caller's time.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from ringfence.vaults.errors import KeyConflict, NotJournalable
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import command, journal, vault

__all__ = ["Journal", "answer", "audit", "body_hash", "canonical", "genesis", "record", "row_hash"]

_ROWS = insert(journal)
_COMMAND = select(command.c.body_hash, command.c.result).where(
    command.c.vault_id == bindparam("vault"), command.c.key == bindparam("with_key")
)
_ANSWER = insert(command)


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
    """SHA-256 over the five, one a line; none of them can hold a line break, so no two rows share a text."""
    return hashlib.sha256(f"{previous_hash}\n{seq}\n{ts}\n{kind}\n{body}".encode()).hexdigest()


class Journal:
    """The end of one vault's chain: `append` adds rows in memory, `flush` writes them in one batch.

    `seq` and `hash` are the vault row's `journal_seq` and `journal_hash`; the caller stores them there after `flush`.
    """

    def __init__(self, connection: Connection, vault_id: int, seq: int, hash: str) -> None:
        self._connection = connection
        self._vault_id = vault_id
        self.seq = seq
        self.hash = hash
        self._pending: list[dict[str, object]] = []

    def append(self, ts: int, kind: str, body: Mapping[str, Any]) -> int:
        """Adds what happened at `ts` (UTC ms) and returns its number. Refused, with nothing added: NotJournalable."""
        if not kind.isidentifier() or not kind.isascii():
            raise NotJournalable(kind, "a kind is a word of ASCII letters, digits and _")
        text = canonical(body)
        previous, self.seq = self.hash, self.seq + 1
        self.hash = row_hash(previous, self.seq, ts, kind, text)
        self._pending.append(
            {"vault_id": self._vault_id, "seq": self.seq, "ts": ts, "kind": kind, "body": text,
             "previous_hash": previous, "hash": self.hash}
        )  # fmt: skip
        return self.seq

    def flush(self) -> int:
        """Writes what was appended since the last flush and returns the number of rows."""
        written = len(self._pending)
        if written:
            self._connection.execute(_ROWS, self._pending)
            self._pending = []
        return written


def audit(connection: Connection, vault_id: int) -> Iterator[Breach]:
    """Every place where a vault's chain is broken (L3): gaps, changed rows, a cut or exchanged end; reads only."""
    name, last_seq, last_hash = connection.execute(
        select(vault.c.name, vault.c.journal_seq, vault.c.journal_hash).where(vault.c.id == vault_id)
    ).one()
    expected, seq = genesis(name), 0
    columns = (journal.c.seq, journal.c.ts, journal.c.kind, journal.c.body, journal.c.previous_hash, journal.c.hash)
    rows = select(*columns).where(journal.c.vault_id == vault_id).order_by(journal.c.seq)
    for found, ts, kind, body, previous_hash, hash in connection.execute(rows):
        seq += 1
        if found != seq:
            yield Breach("L3", f"journal row {found}", f"seq {seq}, without a gap", str(found))
            seq = found
        if previous_hash != expected:
            yield Breach("L3", f"journal row {found}", f"the hash before it, {expected}", previous_hash)
        recomputed = row_hash(previous_hash, found, ts, kind, body)
        if hash != recomputed:
            yield Breach("L3", f"journal row {found}", f"hash {recomputed}", hash)
        expected = hash
    if (seq, expected) != (last_seq, last_hash):
        yield Breach("L3", "the journal's end", f"row {last_seq} with hash {last_hash}", f"row {seq} with {expected}")


# ---------------------------------------------------------------------------------------------------- requests' keys


def body_hash(body: Mapping[str, Any]) -> str:
    """SHA-256 of a request's canonical form."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def answer(connection: Connection, vault_id: int, key: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the same request under the same key was answered before; None for a new key (L4).

    Called under the vault's lock. Refused: KeyConflict where the key came with another body.
    """
    found = connection.execute(_COMMAND, {"vault": vault_id, "with_key": key}).one_or_none()
    if found is None:
        return None
    if found[0] != body_hash(body):
        raise KeyConflict(key)
    result: dict[str, Any] = json.loads(found[1])
    return result


def record(
    connection: Connection,
    vault_id: int,
    key: str,
    body: Mapping[str, Any],
    result: Mapping[str, Any],
    journal_seq: int,
) -> None:
    """Keeps what a request was answered, in the transaction of its effect."""
    connection.execute(
        _ANSWER,
        {"vault_id": vault_id, "key": key, "body_hash": body_hash(body), "result": canonical(result),
         "journal_seq": journal_seq},
    )  # fmt: skip
