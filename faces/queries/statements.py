"""What a database says to holders: what each paid in, holds, may lose from here and waits for.

The kernel is loaded only where an estimate is asked for: every other reading starts in half the time without it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, RowMapping

from ringfence.faces.causes import AT_WALL_WORDS
from ringfence.faces.queries.rows import terms_of, vault_rows
from ringfence.faces.report.statements import StatementRow
from ringfence.runtime.database import unit_of_work
from ringfence.vaults.errors import UnknownHolder
from ringfence.vaults.mandate.terms import MILLION
from ringfence.vaults.queue import Request
from ringfence.vaults.statements import Act, Register, Statement, holder_statements
from ringfence.words.numbers import format_amount, format_per_share, format_shares
from ringfence.words.times import utc

if TYPE_CHECKING:
    from ringfence.vaults.vault import Vault

__all__ = ["statement_rows", "statements"]


@dataclass(frozen=True)
class _Books:
    """One vault as its holders' statements see it."""

    row: RowMapping
    vault: "Vault"
    register: Register
    requests: dict[int, Request]
    """What waits, by the journal's row that asked."""
    trading: float
    """What trading all of the positions would cost, minor units."""
    was_struck: bool
    """Whether a NAV was struck at the last decision."""


def statements(engine: Engine, name: str | None = None, holder: str | None = None) -> list[dict[str, Any]]:
    """Holders' statements, by vault and then by first deposit, derived from the journal and checked against the books.

    Refused: UnknownVault, UnknownHolder, StatementDisagrees.
    """
    with unit_of_work(engine, writes=False) as connection:
        books = [_books(connection, row) for row in vault_rows(connection, name)]
    known = tuple(sorted({found for each in books for found in each.register.statements}))
    if holder is not None and holder not in known:
        raise UnknownHolder(holder, name, known)
    return [
        _statement(each, statement) | _from_here(each, statement)
        for each in books
        for statement in each.register.statements.values()
        if holder in (None, statement.holder)
    ]


def statement_rows(connection: Connection, row: RowMapping) -> list[StatementRow]:
    """One vault's statements as a report shows them. Refused: StatementDisagrees."""
    register = holder_statements(connection, row["name"], row["id"])
    return [
        StatementRow(
            row["name"],
            statement.holder,
            statement.deposited,
            statement.redeemed,
            statement.shares,
            statement.value,
            statement.value_worst,
            row["decimals"],
            statement.entering,
        )
        for statement in register.statements.values()
    ]


def _books(connection: Connection, row: RowMapping) -> _Books:
    from ringfence.vaults.estimates import last_decision, trading_cost
    from ringfence.vaults.vault import Vault

    register = holder_statements(connection, row["name"], row["id"])
    vault = Vault(connection, row, terms_of(connection, row))
    decided = last_decision(connection, vault)
    requests = {request.seq: request for request in vault.holders.requests()}
    return _Books(row, vault, register, requests, trading_cost(vault, decided), decided is None or decided.is_struck)


def _statement(books: _Books, statement: Statement) -> dict[str, Any]:
    decimals, register = books.row["decimals"], books.register
    return {
        "vault": books.row["name"],
        "holder": statement.holder,
        "currency": books.row["currency"],
        "deposited": format_amount(statement.deposited, decimals),
        "redeemed": format_amount(statement.redeemed, decimals),
        "shares": format_shares(statement.shares, decimals),
        "waiting": format_shares(statement.waiting, decimals),
        "entering": format_amount(statement.entering, decimals),
        "entry_price": format_per_share(statement.cost, statement.shares),
        "nav_per_share": format_per_share(register.nav, register.shares),
        "value": format_amount(statement.value, decimals),
        "value_worst": format_amount(statement.value_worst, decimals),
        "profit": format_amount(statement.profit, decimals),
        "acts": [_act(act, decimals) for act in statement.acts],
    }


def _act(act: Act, decimals: int) -> dict[str, Any]:
    return {
        "time": utc(act.ts),
        "row": act.seq,
        "kind": act.kind,
        "amount": format_amount(act.amount, decimals),
        "shares": format_shares(act.shares, decimals),
        "nav_per_share": format_per_share(act.nav, act.total),
        "request": act.request,
        "cost": format_amount(act.cost, decimals),
    }


def _from_here(books: _Books, statement: Statement) -> dict[str, Any]:
    """What a holder may still lose, what is free now, what about comes at the next strike, and what waits for which.

    Only money that has not entered is free before a strike: its order can be taken back. All else is priced at one.
    """
    from ringfence.vaults.estimates import estimate

    vault, decimals = books.vault, books.row["decimals"]
    orders = [books.requests[order.seq] for order in statement.orders]
    leaving = estimate(vault, "redemption", statement.shares, vault.clock, books.trading)
    entering = [order for order in orders if order.side == "deposit"]
    at_risk = sum(estimate(vault, "deposit", order.remaining, order.given, books.trading).at_risk for order in entering)
    rebased = statement.value * vault.keep // MILLION if vault.rebase_at is not None else None
    return {
        "lose_most": format_amount(statement.value - statement.value_worst + at_risk, decimals),
        "free_now": format_amount(sum(order.remaining for order in entering), decimals),
        "next_strike": utc(vault.strike_of(vault.clock)),
        "at_next_strike_about": format_amount(leaving.assets, decimals),
        "leaving_costs_about": format_amount(leaving.swing_cost, decimals),
        "locked_since": None if vault.locked_since is None else utc(vault.locked_since),
        "at_wall": AT_WALL_WORDS[vault.terms.at_wall.then],
        "rebase_at": None if vault.rebase_at is None else utc(vault.rebase_at),
        "value_worst_rebased_about": None if rebased is None else format_amount(rebased, decimals),
        "orders": [_order(books, order) for order in orders],
    }


def _order(books: _Books, order: Request) -> dict[str, Any]:
    """An order that waits, what it about comes to, and why it waits."""
    vault, decimals = books.vault, books.row["decimals"]
    from ringfence.vaults.estimates import estimate

    enters = order.side == "deposit"
    given, comes_to = (format_amount, format_shares) if enters else (format_shares, format_amount)
    expected = estimate(vault, order.side, order.remaining, order.given, books.trading)
    return {
        "order": order.seq,
        "side": order.side,
        "asked": given(order.asked, decimals),
        "remaining": given(order.remaining, decimals),
        "given": utc(order.given),
        "strike": utc(vault.strike_of(order.given)),
        "comes_to_about": comes_to(expected.shares if enters else expected.assets, decimals),
        "why": _why(books, order),
    }


def _why(books: _Books, order: Request) -> str:
    is_overdue = order.given < books.vault.clock
    if order.side == "deposit" and books.vault.locked_since is not None and not order.accepts_locked:
        return "the vault is locked at its wall, and the order does not accept that: it waits until the vault is not"
    if is_overdue and not books.was_struck:
        return "no NAV was struck at the last close, since a position could not be traded"
    if order.remaining < order.asked:
        return "the last strike had no more cash beyond the wall of those who stay; it is first in the queue"
    return "an order is settled at the first strike after it was given, at a price that nobody knows yet"
