"""What people do to vaults: open them under a mandate, deposit, redeem.

Each is one unit of work, and idempotent under a key.
"""

import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select
from sqlalchemy.exc import IntegrityError

from ringfence.markets.instruments import currency_decimals
from ringfence.runtime.database import in_unit, lock_vault
from ringfence.vaults.errors import MandateChanged, UnknownHolder
from ringfence.vaults.journal import answer, record
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.shares import checked_holder
from ringfence.vaults.tables import mandate, vault
from ringfence.vaults.vault import Vault, create_vault

__all__ = ["deposit", "open_vault", "redeem"]


def open_vault(engine: Engine, terms: Mandate, ts: int) -> bool:
    """Open the mandate's vault at `ts` (UTC ms); False if it is open already under the same mandate.

    Refused: MandateChanged.
    """

    def work(connection: Connection) -> bool:
        found = connection.execute(select(vault.c.mandate).where(vault.c.name == terms.name)).scalar_one_or_none()
        if found is None:
            create_vault(connection, terms, currency_decimals(terms.currency), ts)
            return True
        if found != terms.fingerprint:
            raise MandateChanged(terms.name, found, terms.fingerprint)
        return False

    try:
        return in_unit(engine, work)
    except IntegrityError:  # another process has just opened it
        return in_unit(engine, work)


def deposit(
    engine: Engine, name: str, holder: str, amount: int, ts: int, key: str | None = None, *, rehearsed: bool = False
) -> dict[str, Any]:
    """Pay `amount` minor units in for a holder; returns shares minted and the vault after it.

    Under a key, the same request again returns the first one's answer and another request is refused (KeyConflict).
    `rehearsed`: the answer is worked out by the act itself, which is then undone.
    """
    body = {"act": "deposit", "holder": checked_holder(holder), "amount": amount}
    return _act(engine, name, ts, key, body, lambda one, at: one.deposit(at, holder, amount), rehearsed)


def redeem(
    engine: Engine,
    name: str,
    holder: str,
    shares: int | None,
    ts: int,
    key: str | None = None,
    *,
    rehearsed: bool = False,
) -> dict[str, Any]:
    """Ask for shares back (None: all that do not wait yet); returns what was paid now. As `deposit` otherwise.

    Refused besides: UnknownHolder.
    """
    body = {"act": "redeem", "holder": checked_holder(holder), "shares": shares}

    def act(one: Vault, at: int) -> dict[str, Any]:
        if holder not in one.holders():
            raise UnknownHolder(holder, name, one.holders())
        free = one.held(holder) - sum(request.remaining for owner, request in one.requests() if owner == holder)
        return one.redeem(at, holder, free if shares is None else shares)

    return _act(engine, name, ts, key, body, act, rehearsed)


def _act(
    engine: Engine,
    name: str,
    ts: int,
    key: str | None,
    body: dict[str, Any],
    act: Callable[[Vault, int], dict[str, Any]],
    rehearsed: bool,
) -> dict[str, Any]:
    # A unit of work may run again after a COMMIT whose outcome was lost, so that every act has a key to be known by.
    known_by = f"once:{uuid.uuid4()}" if key is None else key

    def work(connection: Connection) -> dict[str, Any]:
        row = lock_vault(connection, name)
        answered = answer(connection, row["id"], known_by, body)
        if answered is not None:
            return answered
        terms = _terms(connection, row)
        # A vault lives on its bars' clock: an act after its last slot falls at that slot's close.
        at = ts if row["last_slot"] is None else row["last_slot"] + terms.timeframe
        result = act(Vault(connection, row, terms), at)
        record(connection, row["id"], known_by, body, result, lock_vault(connection, name)["journal_seq"])
        if rehearsed:
            raise _Rehearsed(result)
        return result

    try:
        return in_unit(engine, work)
    except _Rehearsed as rehearsal:
        return rehearsal.result


class _Rehearsed(Exception):
    """Undoes the unit of work and carries its result out of it."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__()
        self.result = result


def _terms(connection: Connection, row: RowMapping) -> Mandate:
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)
