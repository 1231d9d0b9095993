"""What a database of vaults says, as plain structures that can be printed or written as JSON.

Amounts, shares and prices are texts with all their decimals; times are UTC texts; what does not exist is None. Every
reading is one consistent snapshot and writes nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.faces.causes import BOUND_WORDS
from ringfence.faces.errors import NothingCalled
from ringfence.faces.event_lines import EVENT_KINDS, found_in, told
from ringfence.faces.report.statements import StatementRow
from ringfence.markets.instruments import Instrument, instrument, listed
from ringfence.risk.edges import AccountKind
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided, Held, Opened
from ringfence.vaults.errors import EntryUnreadable, UnknownHolder
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, SHARE, Mandate
from ringfence.vaults.shares import Pool, preview_redeem, wall
from ringfence.vaults.statements import Act, Register, Statement, holder_statements
from ringfence.vaults.tables import account, mandate, position, vault
from ringfence.words.numbers import (
    format_amount,
    format_fraction,
    format_mark,
    format_multiple,
    format_per_share,
    format_price,
    format_shares,
)
from ringfence.words.times import utc
from ringfence.words.units import parse_duration

__all__ = ["EVENT_KINDS", "currency_of", "events", "mandate_of", "positions", "statement_rows", "statements", "vaults"]

_CASH_LOCKED = 200
"""Risk capital below 1/200 of NAV with no position open: the wall has taken over, nothing can be opened."""


# ---------------------------------------------------------------------------------------------------- vaults


def _vault_rows(connection: Connection, name: str | None) -> list[RowMapping]:
    """The row of one vault, or of all by name. Refused: UnknownVault."""
    if name is not None:
        return [lock_vault(connection, name)]  # a unit that only reads takes no lock
    return list(connection.execute(select(vault).order_by(vault.c.name)).mappings())


def _terms(connection: Connection, row: RowMapping) -> Mandate:
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)


def currency_of(engine: Engine, name: str) -> tuple[str, int]:
    """A vault's currency and its decimals. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        row = lock_vault(connection, name)
    return row["currency"], row["decimals"]


def mandate_of(engine: Engine, name: str) -> Mandate:
    """The terms that a vault lives under now. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        return _terms(connection, lock_vault(connection, name))


def vaults(engine: Engine) -> list[dict[str, Any]]:
    """Every vault: what it is worth, its wall, where its money stands and how it is."""
    with unit_of_work(engine, writes=False) as connection:
        rows = _vault_rows(connection, None)
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
    margin = sum(balance for name, balance in balances.items() if name.startswith(f"{AccountKind.margin}:"))
    nav, shares = row["last_nav"], row["shares"]
    must_stand = wall(row["high_water_mark"], MILLION - loss_cap, shares)
    slot = None if row["last_bar"] is None else row["last_bar"] // timeframe * timeframe
    return {
        "vault": row["name"],
        "title": terms["title"],
        "mandate": row["mandate"],
        "currency": row["currency"],
        "status": _status(nav, must_stand, shares, row["waiting"], is_open),
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
        "last_slot": None if slot is None else utc(slot),
        "marked": None if slot is None else utc(slot + timeframe),
    }


def _status(nav: int, must_stand: int, shares: int, waiting: int, is_open: bool) -> str:
    if shares == 0:
        return "empty"
    if waiting > 0:
        return "redeeming"
    if is_open:
        return "active"
    return "cash-locked" if (nav - must_stand) * _CASH_LOCKED < nav else "flat"


# ---------------------------------------------------------------------------------------------------- positions


def positions(engine: Engine, name: str | None = None) -> list[dict[str, Any]]:
    """Every position of one vault or of all, marked at the vault's last slot. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        return [
            found for row in _vault_rows(connection, name) for found in _positions_of(connection, row)
        ]  # fmt: skip


def _positions_of(connection: Connection, row: RowMapping) -> Iterator[dict[str, Any]]:
    last = journal.last_row(connection, row["id"], Decided)
    entry = None if last is None else last.entry
    decided = entry.positions if isinstance(entry, Decided) else {}
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    held = connection.execute(select(position).where(position.c.vault_id == row["id"]).order_by(position.c.ordinal))
    for stands in held.mappings():
        yield _position(row, stands, ledger.margin(stands["name"]), decided.get(stands["name"]))


def _position(row: RowMapping, held: RowMapping, margin: int, decided: Held | None) -> dict[str, Any]:
    traded, quantity, decimals = instrument(held["instrument"]), held["quantity"], row["decimals"]
    bound = None if decided is None else BOUND_WORDS[decided.bound]
    answer: dict[str, Any] = {
        "vault": row["name"],
        "position": held["name"],
        "symbol": traded.symbol,
        "side": "flat" if quantity == 0 else "long" if quantity > 0 else "short",
        "quantity": traded.quantity_text(quantity),
        "base": traded.base,
        "currency": row["currency"],
        "entry_price": None,
        "mark_price": None if decided is None else format_price(decided.price),
        "leverage": None,
        "margin": format_amount(margin, decimals),
        "equity": format_amount(margin, decimals),
        "open_profit": format_amount(0, decimals),
        "maintenance_margin": format_amount(0, decimals),
        "liquidation_price": None,
        "liquidation_distance": None,
        "bound": bound,
    }
    if quantity != 0 and decided is not None:
        answer |= _marked(traded, quantity, held["cost"], margin, decided.price, decimals)
    return answer


def _marked(
    traded: Instrument, quantity: int, cost: int, margin: int, price: float, decimals: int
) -> dict[str, str | None]:
    """What an open position is worth at a price, by the formulas that the step itself uses."""
    from ringfence.risk.book import Holding
    from ringfence.risk.exposure import leverage_of, liquidation_price, risk_at

    position, row = Holding(quantity, cost, margin), listed(traded)
    risk, trigger = risk_at(position, row, price), liquidation_price(position, row)
    lots, places = abs(quantity), max(2, -int(traded.tick.as_tuple().exponent))
    with localcontext(prec=50):
        entry = (Decimal(cost) / (lots * traded.unit)).quantize(traded.tick.scaleb(-2), rounding=ROUND_DOWN)
    return {
        "entry_price": format(entry, "f"),
        "leverage": format_multiple(leverage_of(position, row, price)) if risk.equity > 0 else None,
        "equity": format_amount(risk.equity, decimals),
        "open_profit": format_amount(risk.equity - margin, decimals),
        "maintenance_margin": format_amount(risk.maintenance, decimals),
        "liquidation_price": f"{trigger:.{places}f}" if trigger else None,
        "liquidation_distance": f"{abs(price - trigger) / price:.6f}" if trigger else None,
    }


# ---------------------------------------------------------------------------------------------------- statements


def statements(engine: Engine, name: str | None = None, holder: str | None = None) -> list[dict[str, Any]]:
    """Holders' statements, by vault and then by first deposit, derived from the journal and checked against the books.

    Refused: UnknownVault, UnknownHolder, StatementDisagrees.
    """
    with unit_of_work(engine, writes=False) as connection:
        accounts = [
            (
                row,
                _terms(connection, row),
                _cash(connection, row),
                holder_statements(connection, row["name"], row["id"]),
            )
            for row in _vault_rows(connection, name)
        ]
    known = tuple(sorted({found for *_, register in accounts for found in register.statements}))
    if holder is not None and holder not in known:
        raise UnknownHolder(holder, name, known)
    return [
        _statement(row, register, statement) | _from_here(row, terms, cash, register, statement)
        for row, terms, cash, register in accounts
        for statement in register.statements.values()
        if holder in (None, statement.holder)
    ]


def _cash(connection: Connection, row: RowMapping) -> int:
    """What stands in no position, minor units."""
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    return ledger.balance(AccountKind.reserve) + ledger.balance(AccountKind.cushion)


def _from_here(row: RowMapping, terms: Mandate, cash: int, register: Register, statement: Statement) -> dict[str, Any]:
    """What a holder may still lose, what stands ready for him and from when on he is paid the rest.

    Ready is what the cash holds above the wall of the others' shares, after all who wait already; never more than the
    shares are worth.
    """
    decimals, timeframe = row["decimals"], terms.timeframe
    others = wall(row["high_water_mark"], MILLION - terms.loss_cap, register.shares - statement.shares)
    waiting = sum(each.waiting for each in register.statements.values()) - statement.waiting
    ahead = preview_redeem(Pool(register.nav, register.shares), waiting)
    ready = max(0, min(statement.value, cash - others - ahead))
    closes = None if row["last_bar"] is None else (row["last_bar"] // timeframe + 2) * timeframe
    paid: dict[int, int] = {}
    for act in statement.acts:
        if act.request is not None and act.kind == "payment":
            paid[act.request] = paid.get(act.request, 0) + act.shares
    return {
        "lose_most": format_amount(statement.value - statement.value_worst, decimals),
        "ready": format_amount(ready, decimals),
        "next_slot": None if closes is None else utc(closes),
        "requests": [
            {"row": act.seq, "time": utc(act.ts), "shares": format_shares(act.shares, decimals),
             "remaining": format_shares(act.shares - paid.get(act.seq, 0), decimals)}
            for act in statement.acts
            if act.kind == "request" and act.shares > paid.get(act.seq, 0)
        ],
    }  # fmt: skip


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
        )
        for statement in register.statements.values()
    ]


def _statement(row: RowMapping, register: Register, statement: Statement) -> dict[str, Any]:
    decimals = row["decimals"]
    return {
        "vault": row["name"],
        "holder": statement.holder,
        "currency": row["currency"],
        "deposited": format_amount(statement.deposited, decimals),
        "redeemed": format_amount(statement.redeemed, decimals),
        "shares": format_shares(statement.shares, decimals),
        "waiting": format_shares(statement.waiting, decimals),
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
    }


# ---------------------------------------------------------------------------------------------------- events


def events(
    engine: Engine,
    name: str | None = None,
    kinds: Sequence[str] = (),
    position: str | None = None,
    since: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Everything that happened, oldest first: of one vault or all, of some kinds, of one position, since a time (UTC
    ms); `limit` keeps the last ones.

    Refused: UnknownVault, and NothingCalled for a kind or a position that does not exist.
    """
    for kind in kinds:
        if kind not in EVENT_KINDS:
            raise NothingCalled("kind", kind, EVENT_KINDS)
    with unit_of_work(engine, writes=False) as connection:
        rows = _vault_rows(connection, name)
        if position is not None:
            _demand_position(connection, rows, position)
        asked = _Asked(tuple(kinds), position, since, limit)
        found = [event for row in rows for event in _last_of(connection, row, asked)]
    found.sort(key=lambda event: event["ts"])
    for event in found:
        del event["ts"]
    return found if limit is None else found[max(0, len(found) - limit) :]


@dataclass(frozen=True)
class _Asked:
    kinds: tuple[str, ...]
    position: str | None
    since: int | None
    limit: int | None

    def wants(self, event: Mapping[str, Any]) -> bool:
        is_recent = self.since is None or event["ts"] >= self.since
        return (
            is_recent and (not self.kinds or event["kind"] in self.kinds) and self.position in (None, event["position"])
        )


def _demand_position(connection: Connection, rows: Sequence[RowMapping], name: str) -> None:
    """Passes where one of the vaults holds a position of this name. Refused: NothingCalled."""
    known = select(position.c.name).distinct().where(position.c.vault_id.in_([row["id"] for row in rows]))
    names = tuple(connection.execute(known.order_by(position.c.name)).scalars())
    if name not in names:
        raise NothingCalled("position", name, names)


def _last_of(connection: Connection, row: RowMapping, asked: _Asked) -> list[dict[str, Any]]:
    """What is asked of one vault, oldest first; read from the end, so that the last few of a million cost little."""
    # A decision's row bears its slot's close, which is no earlier than its events.
    since = asked.since
    first = 1 if since is None else journal.first_since(connection, row["id"], row["journal_seq"], since)
    terms, found = _terms(connection, row), list[dict[str, Any]]()
    kinds, holding = found_in(asked.kinds)
    kinds = (*kinds, Amended.kind) if asked.kinds else kinds  # before an amendment other terms were in force
    for told_by in journal.newest(connection, row["id"], kinds, holding, first):
        entry = told_by.entry
        events = [event for event in told(told_by, entry, terms, row["decimals"]) if asked.wants(event)]
        found += ({"vault": row["name"], "row": told_by.seq, "time": utc(event["ts"]), **event}
                  for event in reversed(events))  # fmt: skip
        if asked.limit is not None and len(found) >= asked.limit:
            break
        if isinstance(entry, Amended):
            terms = _mandate_at(connection, row, told_by.seq - 1)
    return found[: asked.limit][::-1]


def _mandate_at(connection: Connection, row: RowMapping, seq: int) -> Mandate:
    """The mandate that was in force at a row of the journal."""
    found = journal.last_row(connection, row["id"], Opened, Amended, until=seq)
    entry = None if found is None else found.entry
    if not isinstance(entry, Opened | Amended):
        raise EntryUnreadable("opened", f"vault {row['name']} has no mandate before row {seq} of its journal")
    return Mandate.from_canonical(entry.terms)
