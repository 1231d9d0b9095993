"""What people do to vaults: open them under a mandate, deposit, redeem, cancel what waits.

Each is one unit of work, and idempotent under a key.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection, Engine, RowMapping, select
from sqlalchemy.exc import IntegrityError

from ringfence.markets.instruments import currency_decimals
from ringfence.runtime.clock import given_at
from ringfence.runtime.database import in_unit, lock_vault
from ringfence.vaults.commands import answered, asked_under
from ringfence.vaults.entries import Cancelled, DepositAsked, Entry, RedemptionAsked
from ringfence.vaults.errors import (
    HolderNear,
    MandateChanged,
    NothingWaits,
    OrdersOnTheirWay,
    UnknownHolder,
    ZeroShares,
)
from ringfence.vaults.estimates import Estimate, estimate, last_decision, trading_cost
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.names import checked_key, near_holder
from ringfence.vaults.shares import checked_holder
from ringfence.vaults.tables import mandate, vault
from ringfence.vaults.vault import Vault, create_vault

__all__ = ["Answer", "act_on", "cancel", "deposit", "loaded", "open_vault", "redeem", "replay_key"]

_Entry = TypeVar("_Entry", bound=Entry)
_PATIENCE = 5.0
"""Seconds that an act waits for what is on its way to the vault's venue."""


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


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Entry]):
    """What a person's act came to."""

    entry: _Entry
    repeated: bool = False
    """The same request under the same key made it before; nothing was done again."""
    estimate: Estimate | None = None
    """Of an order that was not given before: about what it will come to."""


def deposit(
    engine: Engine,
    name: str,
    holder: str,
    amount: int,
    ts: int,
    key: str | None = None,
    *,
    new: bool = False,
    accepts_locked: bool = False,
    replayed: bool = False,
    rehearsed: bool = False,
) -> Answer[DepositAsked]:
    """Pay `amount` minor units in for a holder, at `ts` (UTC ms) by the caller's clock; they wait for a strike.

    Under a key, the same request again returns the first one's answer and another request is refused (KeyConflict).
    `new`: the holder is another one than the holder of a name that is nearly the same (HolderNear). `accepts_locked`:
    also into a vault that is locked at its wall (DepositAtRisk). `replayed`: a replay's deposit for this holder, once
    per vault. `rehearsed`: the answer is worked out by the act itself, which is then undone.

    Refused besides: KeyRefused, TimeRefused, HolderRefused, UnknownVault, and what the vault refuses.
    """
    request = {"act": "deposit", "holder": checked_holder(holder), "amount": amount}

    def act(connection: Connection, vault: Vault, given: int) -> Answer[DepositAsked]:
        known = vault.holders.names()
        near = None if new or holder in known else near_holder(holder, known)
        if near is not None:
            raise HolderNear(holder, near)
        if amount <= 0:
            raise ZeroShares(amount)
        trading = trading_cost(vault, last_decision(connection, vault))
        expected = estimate(vault, "deposit", amount, given, trading)
        entry = vault.deposit(vault.clock, holder, amount, given, accepts_locked=accepts_locked)
        return Answer(entry, estimate=expected)

    known_by = replay_key(holder) if replayed else _checked(key)
    return _act(engine, name, ts, known_by, request, act, rehearsed)


def redeem(
    engine: Engine,
    name: str,
    holder: str,
    shares: int | None,
    ts: int,
    key: str | None = None,
    *,
    rehearsed: bool = False,
) -> Answer[RedemptionAsked]:
    """Ask for shares back (None: all that do not wait yet); they are paid at a strike. As `deposit` otherwise.

    Refused besides: UnknownHolder.
    """
    request = {"act": "redeem", "holder": checked_holder(holder), "shares": shares}

    def act(connection: Connection, vault: Vault, given: int) -> Answer[RedemptionAsked]:
        if holder not in vault.holders.names():
            raise UnknownHolder(holder, name, vault.holders.names())
        asked = vault.holders.held(holder) - vault.asked_back(holder) if shares is None else shares
        trading = trading_cost(vault, last_decision(connection, vault))
        expected = estimate(vault, "redemption", max(0, asked), given, trading)
        return Answer(vault.redeem(vault.clock, holder, asked, given), estimate=expected)

    return _act(engine, name, ts, _checked(key), request, act, rehearsed)


def cancel(
    engine: Engine,
    name: str,
    holder: str,
    order: int | None,
    ts: int,
    key: str | None = None,
    *,
    rehearsed: bool = False,
) -> Answer[Cancelled]:
    """Take back what still waits of a holder's order (the journal's row that asked; None: of the only one that waits).
    As `deposit` otherwise.

    Refused besides: UnknownHolder, NothingWaits, CancelTooLate.
    """
    request = {"act": "cancel", "holder": checked_holder(holder), "order": order}

    def act(connection: Connection, vault: Vault, given: int) -> Answer[Cancelled]:
        if holder not in vault.holders.names():
            raise UnknownHolder(holder, name, vault.holders.names())
        waiting = vault.holders.requests(holder)
        chosen = [one for one in waiting if order in (None, one.seq)]
        if len(chosen) != 1:
            raise NothingWaits(holder, order, tuple(one.seq for one in waiting))
        return Answer(vault.cancel(vault.clock, chosen[0], given))

    return _act(engine, name, ts, _checked(key), request, act, rehearsed)


def replay_key(holder: str) -> str:
    """The key of a replay's deposit for a holder."""
    return f"replay:{holder}"


def _checked(key: str | None) -> str | None:
    return None if key is None else checked_key(key)


def act_on(
    engine: Engine,
    name: str,
    ts: int,
    request: Mapping[str, Any],
    act: Callable[[Connection, Vault, int], Answer[_Entry]],
    rehearsed: bool,
) -> Answer[_Entry]:
    """One unit of work on a vault, done once; `act` gets the time at which it counts as given. `rehearsed`: undone.

    More than five arguments because a request says what was asked, and the act what is done. Refused: UnknownVault,
    TimeRefused, and what the act refuses.
    """
    return _act(engine, name, ts, None, request, act, rehearsed)


def loaded(connection: Connection, name: str) -> Vault:
    """The vault, under the mandate that it lives under now. Refused: UnknownVault."""
    row = lock_vault(connection, name)
    return Vault(connection, row, _terms(connection, row))


def _act(
    engine: Engine,
    name: str,
    ts: int,
    key: str | None,
    request: Mapping[str, Any],
    act: Callable[[Connection, Vault, int], Answer[_Entry]],
    rehearsed: bool,
) -> Answer[_Entry]:
    # A unit of work may run again after a COMMIT whose outcome was lost, so that every act has a key to be known by.
    known_by = f"once:{uuid.uuid4()}" if key is None else key
    runs = count(1)

    def work(connection: Connection) -> Answer[_Entry]:
        is_first = next(runs) == 1
        row = lock_vault(connection, name)
        before = answered(connection, row["id"], known_by, request)
        if before is not None:
            return Answer(cast(_Entry, before), repeated=is_first)  # else this very call made it
        vault = Vault(connection, row, _terms(connection, row), asked_under(known_by, request))
        answer = act(connection, vault, given_at(connection, vault, ts))
        if rehearsed:
            raise _Rehearsed(answer)
        return answer

    begun = time.monotonic()
    while True:
        try:
            return in_unit(engine, work)
        except _Rehearsed as rehearsal:
            return cast(Answer[_Entry], rehearsal.answer)
        except OrdersOnTheirWay:
            if time.monotonic() - begun > _PATIENCE:
                raise
            time.sleep(0.1)


class _Rehearsed(Exception):
    """Undoes the unit of work and carries what it came to out of it."""

    def __init__(self, answer: Answer[Any]) -> None:
        super().__init__()
        self.answer = answer


def _terms(connection: Connection, row: RowMapping) -> Mandate:
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)
