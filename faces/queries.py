"""What a database of vaults says, as plain structures that can be printed or written as JSON.

Amounts, shares and prices are texts with all their decimals; times are UTC texts; what does not exist is None. Every
reading is one consistent snapshot and writes nothing.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.faces.causes import BOUND_WORDS
from ringfence.faces.errors import NothingCalled
from ringfence.faces.event_lines import EVENT_KINDS, told
from ringfence.faces.report.statements import StatementRow
from ringfence.markets.instruments import Instrument, listed
from ringfence.runtime.database import unit_of_work
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided, Held, Opened
from ringfence.vaults.errors import EntryUnreadable, UnknownHolder, UnknownVault
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.shares import wall
from ringfence.vaults.statements import Act, Register, Statement, Waiting, holder_statements
from ringfence.vaults.tables import mandate, position, vault
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

__all__ = ["EVENT_KINDS", "currency_of", "events", "positions", "statement_rows", "statements", "vaults"]


# ---------------------------------------------------------------------------------------------------- vaults


def _vault_rows(connection: Connection, names: Sequence[str] | None) -> list[RowMapping]:
    rows = connection.execute(select(vault).order_by(vault.c.name)).mappings().all()
    known = tuple(row["name"] for row in rows)
    for name in names or ():
        if name not in known:
            raise UnknownVault(name, known)
    return [row for row in rows if names is None or row["name"] in names]


def _one(name: str | None) -> tuple[str, ...] | None:
    return None if name is None else (name,)


def _terms(connection: Connection, row: RowMapping) -> Mandate:
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)


def currency_of(engine: Engine, name: str) -> tuple[str, int]:
    """A vault's currency and its decimals. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        row = _vault_rows(connection, (name,))[0]
    return row["currency"], row["decimals"]


def vaults(engine: Engine) -> list[dict[str, Any]]:
    """Every vault: what it is worth, its wall, where its money stands and how it is."""
    with unit_of_work(engine, writes=False) as connection:
        return [_vault(connection, row) for row in _vault_rows(connection, None)]


def _vault(connection: Connection, row: RowMapping) -> dict[str, Any]:
    terms, decimals = _terms(connection, row), row["decimals"]
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    reserve, cushion = ledger.balance("reserve"), ledger.balance("cushion")
    margin = sum(balance for name, balance in ledger.balances.items() if name.startswith("margin:"))
    nav, shares = row["last_nav"], row["shares"]
    must_stand = wall(row["high_water_mark"], MILLION - terms.loss_cap, shares)
    held = select(position.c.quantity).where(position.c.vault_id == row["id"], position.c.quantity != 0)
    is_open = connection.execute(held.limit(1)).first() is not None
    slot = None if row["last_bar"] is None else row["last_bar"] // terms.timeframe * terms.timeframe
    return {
        "vault": row["name"],
        "title": terms.title,
        "mandate": row["mandate"],
        "currency": row["currency"],
        "status": _status(row, ledger.balance("entering"), is_open),
        "locked_since": None if row["locked_since"] is None else utc(row["locked_since"]),
        "at_wall": terms.at_wall.then,
        "rebase_at": None if row["rebase_at"] is None else utc(row["rebase_at"]),
        "nav": format_amount(nav, decimals),
        "nav_per_share": format_per_share(nav, shares),
        "wall": format_amount(must_stand, decimals),
        "wall_per_share": format_per_share(must_stand, shares),
        "wall_distance": format_fraction(nav - must_stand, nav),
        "loss_cap": format_fraction(terms.loss_cap, MILLION),
        "high_water_mark": format_mark(row["high_water_mark"]),
        "reserve": format_amount(reserve, decimals),
        "cushion": format_amount(cushion, decimals),
        "in_margin": format_amount(margin, decimals),
        "shares": format_shares(shares, decimals),
        "waiting": format_shares(row["waiting"], decimals),
        "entering": format_amount(ledger.balance("entering"), decimals),
        "last_slot": None if slot is None else utc(slot),
        "marked": None if slot is None else utc(slot + terms.timeframe),
    }


def _status(row: RowMapping, entering: int, is_open: bool) -> str:
    """What matters most about a vault: that it is locked, before that orders wait, before that it trades."""
    if row["shares"] == 0:
        return "empty"
    if row["locked_since"] is not None:
        return "cash-locked"
    if row["waiting"] > 0:
        return "redeeming"
    if entering > 0:
        return "entering"
    return "active" if is_open else "flat"


# ---------------------------------------------------------------------------------------------------- positions


def positions(engine: Engine, name: str | None = None) -> list[dict[str, Any]]:
    """Every position of one vault or of all, marked at the vault's last slot. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        return [
            found for row in _vault_rows(connection, _one(name)) for found in _positions_of(connection, row)
        ]  # fmt: skip


def _positions_of(connection: Connection, row: RowMapping) -> Iterator[dict[str, Any]]:
    last = journal.last_row(connection, row["id"], Decided)
    entry = None if last is None else last.entry
    decided = entry.positions if isinstance(entry, Decided) else {}
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    held = connection.execute(select(position).where(position.c.vault_id == row["id"]).order_by(position.c.ordinal))
    traded = instruments_of(_terms(connection, row))
    for stands in held.mappings():
        name = stands["name"]
        yield _position(row, stands, traded[name], ledger.margin(name), decided.get(name))


def _position(
    row: RowMapping, held: RowMapping, traded: Instrument, margin: int, decided: Held | None
) -> dict[str, Any]:
    quantity, decimals = held["quantity"], row["decimals"]
    bound = None if decided is None else BOUND_WORDS[decided.bound]
    answer: dict[str, Any] = {
        "vault": row["name"],
        "position": held["name"],
        "symbol": traded.name,
        "table_valid_from": traded.valid_from,
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
        rows = _vault_rows(connection, _one(name))
        registers = [(row, holder_statements(connection, row["name"], row["id"])) for row in rows]
    known = tuple(sorted({found for _, register in registers for found in register.statements}))
    if holder is not None and holder not in known:
        raise UnknownHolder(holder, name, known)
    return [
        _statement(row, register, statement)
        for row, register in registers
        for statement in register.statements.values()
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
        "entering": format_amount(statement.entering, decimals),
        "entry_price": format_per_share(statement.cost, statement.shares),
        "nav_per_share": format_per_share(register.nav, register.shares),
        "value": format_amount(statement.value, decimals),
        "value_worst": format_amount(statement.value_worst, decimals),
        "profit": format_amount(statement.profit, decimals),
        "acts": [_act(act, decimals) for act in statement.acts],
        "orders": [_order(order, decimals) for order in statement.orders],
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


def _order(order: Waiting, decimals: int) -> dict[str, Any]:
    amount = order.side == "deposit"
    return {
        "order": order.seq,
        "side": order.side,
        "remaining": (format_amount if amount else format_shares)(order.remaining, decimals),
        "given": utc(order.given),
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
        rows = _vault_rows(connection, _one(name))
        terms = [_terms(connection, row) for row in rows]
        known = tuple(dict.fromkeys(found for mandate in terms for found in mandate.positions))
        if position is not None and position not in known:
            raise NothingCalled("position", position, known)
        found = [
            event
            for row in rows
            for event in _last(_wanted(_events_of(connection, row, since), kinds, position, since), limit)
        ]
    found.sort(key=lambda event: event["ts"])
    for event in found:
        del event["ts"]
    return found if limit is None else found[max(0, len(found) - limit) :]


def _last(found: Iterator[dict[str, Any]], limit: int | None) -> Iterator[dict[str, Any]]:
    return found if limit is None else iter(deque(found, maxlen=limit))


def _wanted(
    found: Iterator[dict[str, Any]], kinds: Sequence[str], position: str | None, since: int | None
) -> Iterator[dict[str, Any]]:
    for event in found:
        is_recent = since is None or event["ts"] >= since
        if is_recent and (not kinds or event["kind"] in kinds) and position in (None, event["position"]):
            yield event


def _events_of(connection: Connection, row: RowMapping, since: int | None) -> Iterator[dict[str, Any]]:
    mandate: Mandate | None = None
    # a decision's row bears its slot's close, which is no earlier than its events
    for found in journal.rows(connection, row["id"], since=since):
        entry = found.entry
        if isinstance(entry, Opened | Amended):
            mandate = Mandate.from_canonical(entry.terms)
        mandate = mandate or _mandate_at(connection, row, found.seq)
        for event in told(found, entry, mandate, row["decimals"]):
            yield {"vault": row["name"], "row": found.seq, "time": utc(event["ts"]), **event}


def _mandate_at(connection: Connection, row: RowMapping, seq: int) -> Mandate:
    """The mandate that was in force at a row of the journal."""
    found = journal.last_row(connection, row["id"], Opened, Amended, until=seq)
    entry = None if found is None else found.entry
    if not isinstance(entry, Opened | Amended):
        raise EntryUnreadable("opened", f"vault {row['name']} has no mandate before row {seq} of its journal")
    return Mandate.from_canonical(entry.terms)
