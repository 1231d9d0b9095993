"""Idempotency keys: what a person's request did, so that the same request again is answered and not done again (L4)."""

import hashlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from ringfence.vaults.entries import Asked, Entry, read_entry
from ringfence.vaults.errors import KeyConflict
from ringfence.vaults.journal import canonical
from ringfence.vaults.tables import command, journal

__all__ = ["answered", "asked_under", "remember", "request_hash"]

_KNOWN = (
    select(command.c.request_hash, journal.c.kind, journal.c.body)
    .join(journal, (journal.c.vault_id == command.c.vault_id) & (journal.c.seq == command.c.journal_seq))
    .where(command.c.vault_id == bindparam("vault"), command.c.key == bindparam("with_key"))
)
_REMEMBER = insert(command)


def request_hash(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request's canonical form."""
    return hashlib.sha256(canonical(request).encode()).hexdigest()


def answered(connection: Connection, vault_id: int, key: str, request: Mapping[str, Any]) -> Entry | None:
    """The entry that the same request under the same key made before; None for a new key.

    Called under the vault's lock. Refused: KeyConflict where the key came with another request.
    """
    found = connection.execute(_KNOWN, {"vault": vault_id, "with_key": key}).one_or_none()
    if found is None:
        return None
    known, kind, body = found
    if known != request_hash(request):
        raise KeyConflict(key)
    return read_entry(kind, body).model_copy(update={"asked": None})  # as the first answer was: who asks knows his key


def asked_under(key: str, request: Mapping[str, Any]) -> Asked:
    """The request with its key, as the journal tells it."""
    return Asked(key=key, request=request_hash(request))


def remember(connection: Connection, vault_id: int, asked: Asked, seq: int) -> None:
    """Keeps which row of the journal a request made, in the transaction of its effect."""
    connection.execute(
        _REMEMBER, {"vault_id": vault_id, "key": asked.key, "request_hash": asked.request, "journal_seq": seq}
    )
