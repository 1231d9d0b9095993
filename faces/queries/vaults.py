"""What a database says about vaults: their worth, their wall, where their money stands, and their terms."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from ringfence.faces.queries.rows import terms_of, vault_rows
from ringfence.risk.edges import OF_POSITIONS, AccountKind
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.vaults.mandate.terms import MILLION, SHARE, Mandate
from ringfence.vaults.shares import wall
from ringfence.vaults.tables import account, mandate, position, vault
from ringfence.words.numbers import format_amount, format_fraction, format_mark, format_per_share, format_shares
from ringfence.words.times import utc
from ringfence.words.units import parse_duration

__all__ = ["currency_of", "mandate_of", "status", "vaults"]


def currency_of(engine: Engine, name: str) -> tuple[str, int]:
    """A vault's currency and its decimals. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        row = lock_vault(connection, name)
    return row["currency"], row["decimals"]


def mandate_of(engine: Engine, name: str) -> Mandate:
    """The terms that a vault lives under now. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        return terms_of(connection, lock_vault(connection, name))


def vaults(engine: Engine) -> list[dict[str, Any]]:
    """Every vault: what it is worth, its wall, where its money stands and how it is."""
    with unit_of_work(engine, writes=False) as connection:
        rows = vault_rows(connection, None)
        # Each table once, and only the terms that are told: ten thousand vaults are listed as fast as they are read.
        terms = {found: json.loads(body) for found, body in connection.execute(
            select(mandate.c.fingerprint, mandate.c.body).where(mandate.c.fingerprint.in_(select(vault.c.mandate)))
        )}  # fmt: skip
        balances: dict[int, dict[str, int]] = {}
        for vault_id, name, balance in connection.execute(
            select(account.c.vault_id, account.c.name, account.c.balance)
        ):
            balances.setdefault(vault_id, {})[name] = balance
        is_open = set(connection.execute(select(position.c.vault_id).where(position.c.quantity != 0)).scalars())
    return [_vault(row, terms[row["mandate"]], balances.get(row["id"], {}), row["id"] in is_open) for row in rows]


def _vault(row: RowMapping, terms: Mapping[str, Any], balances: Mapping[str, int], is_open: bool) -> dict[str, Any]:
    decimals, timeframe = row["decimals"], parse_duration(terms["timeframe"])
    loss_cap = int(SHARE.parse(terms["loss_cap"]))
    margin = sum(balance for name, balance in balances.items() if name.partition(":")[0] in OF_POSITIONS)
    nav, shares, entering = row["last_nav"], row["shares"], balances.get(AccountKind.entering, 0)
    must_stand = wall(row["high_water_mark"], MILLION - loss_cap, shares)
    slot = None if row["last_bar"] is None else (row["clock"] // timeframe - 1) * timeframe
    return {
        "vault": row["name"],
        "title": terms["title"],
        "mandate": row["mandate"],
        "currency": row["currency"],
        "status": status(
            shares=shares,
            waiting=row["waiting"],
            entering=entering,
            is_open=is_open,
            is_locked=row["locked_since"] is not None,
            is_halted=row["halted_since"] is not None,
            is_closing=row["closing_since"] is not None,
        ),
        "locked_since": None if row["locked_since"] is None else utc(row["locked_since"]),
        "halted_since": None if row["halted_since"] is None else utc(row["halted_since"]),
        "closing_since": None if row["closing_since"] is None else utc(row["closing_since"]),
        "at_wall": terms["at_wall"]["then"],
        "rebase_at": None if row["rebase_at"] is None else utc(row["rebase_at"]),
        "nav": format_amount(nav, decimals),
        "nav_per_share": format_per_share(nav, shares),
        "wall": format_amount(must_stand, decimals),
        "wall_per_share": format_per_share(must_stand, shares),
        "wall_distance": format_fraction(nav - must_stand, nav),
        "loss_cap": format_fraction(loss_cap, MILLION),
        "high_water_mark": format_mark(row["high_water_mark"]),
        "reserve": format_amount(balances.get(AccountKind.reserve, 0), decimals),
        "cushion": format_amount(balances.get(AccountKind.cushion, 0), decimals),
        "in_margin": format_amount(margin, decimals),
        "shares": format_shares(shares, decimals),
        "waiting": format_shares(row["waiting"], decimals),
        "entering": format_amount(entering, decimals),
        "last_slot": None if slot is None else utc(slot),
        "marked": None if slot is None else utc(row["clock"]),
    }


def status(
    *, shares: int, waiting: int, entering: int, is_open: bool, is_locked: bool, is_halted: bool, is_closing: bool
) -> str:
    """What matters most about a vault: that it is halted or closes, then that it is locked, that orders wait, that it
    trades."""
    if is_halted:
        return "halted"
    if is_closing:
        return "closing" if shares or is_open else "closed"
    if shares == 0:
        return "empty"
    if is_locked:
        return "cash-locked"
    if waiting > 0:
        return "redeeming"
    if entering > 0:
        return "entering"
    return "active" if is_open else "flat"
