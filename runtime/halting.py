"""What ends a vault's deciding, and what lets it begin again: halt, resume in two steps, close.

Each is one unit of work with an entry of its own that says who and why.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from ringfence.runtime.acts import Answer, act_on, loaded
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.step import HALTED_BY
from ringfence.vaults import ledger
from ringfence.vaults.entries import Closing, Halted, ResumeAsked, Resumed
from ringfence.vaults.errors import LawsBroken, WallBreached
from ringfence.vaults.vault import Vault

__all__ = ["audit", "broken", "close", "halt", "resume"]

_TOLD = 20
"""Breaches that an entry tells one by one."""


def halt(
    engine: Engine, name: str, by: str, why: str, ts: int, breaches: Sequence[str] = (), *, rehearsed: bool = False
) -> Answer[Halted]:
    """Let a vault decide nothing from now on. Refused: UnknownVault, TimeRefused.

    One that is halted already is told so again, and the first step of a resumption falls. More than five arguments
    because an entry says who, why and what was found.
    """

    def act(_: Connection, vault: Vault, __: int) -> Answer[Halted]:
        return Answer(vault.halt(vault.clock, by, why, tuple(breaches[:_TOLD])))

    return act_on(engine, name, ts, {"act": "halt", "by": by, "why": why}, act, rehearsed)


def resume(
    engine: Engine, name: str, by: str, why: str, ts: int, *, confirmed: bool, rehearsed: bool = False
) -> Answer[ResumeAsked] | Answer[Resumed]:
    """Ask that a halt be ended; or end it, `confirmed`, once it was asked for.

    Refused: LawsBroken (while a law does not hold), NotHalted, ResumeNotAsked, UnknownVault, TimeRefused. More than
    five arguments because an entry says who and why.
    """

    def checked(connection: Connection, vault: Vault) -> None:
        found = broken(connection, vault)
        if found:
            raise LawsBroken(vault.name, tuple(found[:_TOLD]))

    def ask(connection: Connection, vault: Vault, _: int) -> Answer[ResumeAsked]:
        checked(connection, vault)
        return Answer(vault.ask_resume(vault.clock, by, why))

    def confirm(connection: Connection, vault: Vault, _: int) -> Answer[Resumed]:
        checked(connection, vault)
        return Answer(vault.resume(vault.clock, by, why))

    request = {"act": "resume", "by": by, "why": why, "confirmed": confirmed}
    if confirmed:
        return act_on(engine, name, ts, request, confirm, rehearsed)
    return act_on(engine, name, ts, request, ask, rehearsed)


def close(engine: Engine, name: str, by: str, why: str, ts: int, *, rehearsed: bool = False) -> Answer[Closing]:
    """Wind a vault down for good: what waits to enter goes back, every share is asked back, positions are closed from
    the next slot on and everybody is paid at its strikes. Refused: AlreadyClosing, UnknownVault, TimeRefused.

    More than five arguments because an entry says who and why.
    """

    def act(_: Connection, vault: Vault, given: int) -> Answer[Closing]:
        entry = vault.close(vault.clock, by, why)
        for request in vault.holders.requests():
            if request.side == "deposit":
                vault.cancel(vault.clock, request)
        for holder in vault.holders.names():
            left = vault.holders.held(holder) - vault.asked_back(holder)
            if left > 0:
                vault.redeem(vault.clock, holder, left, given)
        return Answer(entry)

    return act_on(engine, name, ts, {"act": "close", "by": by, "why": why}, act, rehearsed)


def broken(connection: Connection, vault: Vault) -> list[str]:
    """Every law of money and shares (W1, W2, L1, L2, S3) that does not hold for a vault, with its rows, in words."""
    found = [str(breach) for breach in ledger.breaches(connection, vault.id)]
    if vault.ledger.balance("reserve") < vault.wall:
        found.append(str(WallBreached(vault.name, vault.ledger.balance("reserve"), vault.wall)))
    return found


def audit(engine: Engine, name: str, ts: int) -> list[str]:
    """Check the laws of a vault anew from its rows; where one does not hold the vault is halted, at `ts` (UTC ms).

    Returns what does not hold. Refused: UnknownVault.
    """
    with unit_of_work(engine, writes=False) as connection:
        checked = loaded(connection, name)
        found = broken(connection, checked)
    if found and checked.halted_since is None:
        halt(engine, name, HALTED_BY, f"{len(found)} laws of its books do not hold", ts, found)
    return found
