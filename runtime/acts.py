"""What people do to vaults: open them under a mandate, deposit, redeem.

Each is one unit of work, and idempotent under a key.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, RowMapping, select
from sqlalchemy.exc import IntegrityError

from ringfence.markets.instruments import currency_decimals
from ringfence.runtime.database import in_unit, lock_vault
from ringfence.vaults.commands import answered, asked_under
from ringfence.vaults.entries import Deposited, Entry, RedemptionAsked
from ringfence.vaults.errors import MandateChanged, UnknownHolder
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.shares import checked_holder
from ringfence.vaults.tables import mandate, vault
from ringfence.vaults.vault import Vault, create_vault

__all__ = ["deposit", "open_vault", "redeem"]

_Entry = TypeVar("_Entry", bound=Entry)


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
) -> Deposited:
    """Pay `amount` minor units in for a holder; the entry tells the shares minted and the vault after it.

    Under a key, the same request again returns the first one's answer and another request is refused (KeyConflict).
    `rehearsed`: the answer is worked out by the act itself, which is then undone.
    """
    request = {"act": "deposit", "holder": checked_holder(holder), "amount": amount}
    return _act(engine, name, ts, key, request, lambda vault, at: vault.deposit(at, holder, amount), rehearsed)


def redeem(
    engine: Engine,
    name: str,
    holder: str,
    shares: int | None,
    ts: int,
    key: str | None = None,
    *,
    rehearsed: bool = False,
) -> RedemptionAsked:
    """Ask for shares back (None: all that do not wait yet); the entry tells what was paid now. As `deposit` otherwise.

    Refused besides: UnknownHolder.
    """
    request = {"act": "redeem", "holder": checked_holder(holder), "shares": shares}

    def act(vault: Vault, at: int) -> RedemptionAsked:
        if holder not in vault.holders():
            raise UnknownHolder(holder, name, vault.holders())
        waiting = sum(asked.remaining for asked in vault.requests() if asked.holder == holder)
        return vault.redeem(at, holder, vault.held(holder) - waiting if shares is None else shares)

    return _act(engine, name, ts, key, request, act, rehearsed)


def _act(
    engine: Engine,
    name: str,
    ts: int,
    key: str | None,
    request: Mapping[str, Any],
    act: Callable[[Vault, int], _Entry],
    rehearsed: bool,
) -> _Entry:
    # A unit of work may run again after a COMMIT whose outcome was lost, so that every act has a key to be known by.
    known_by = f"once:{uuid.uuid4()}" if key is None else key

    def work(connection: Connection) -> _Entry:
        row = lock_vault(connection, name)
        before = answered(connection, row["id"], known_by, request)
        if before is not None:
            return cast(_Entry, before)  # the same request made it
        asked = asked_under(known_by, request)
        vault = Vault(connection, row, _terms(connection, row), asked)
        # A vault lives on its bars' clock: an act after its last slot falls at that slot's close.
        entry = act(vault, ts if vault.now is None else vault.now)
        if rehearsed:
            raise _Rehearsed(entry)
        return entry

    try:
        return in_unit(engine, work)
    except _Rehearsed as rehearsal:
        return cast(_Entry, rehearsal.entry)


class _Rehearsed(Exception):
    """Undoes the unit of work and carries what it came to out of it."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


def _terms(connection: Connection, row: RowMapping) -> Mandate:
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)
