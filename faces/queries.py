"""What a database of vaults says, as plain structures that can be printed or written as JSON.

Amounts, shares and prices are texts with all their decimals; times are UTC texts; what does not exist is None. Every
reading is one consistent snapshot and writes nothing.
"""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.faces import figures
from ringfence.faces.event_lines import EVENT_KINDS, told
from ringfence.faces.report.row import StatementRow
from ringfence.faces.report.words import BOUND_WORDS
from ringfence.markets.instruments import Instrument, instrument, listed
from ringfence.risk.events import Bound
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.errors import NothingCalled
from ringfence.vaults.errors import UnknownHolder, UnknownVault
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.shares import wall
from ringfence.vaults.statements import Act, Register, Statement, holder_statements
from ringfence.vaults.tables import journal, mandate, position, vault
from ringfence.words.times import utc
from ringfence.words.units import format_amount

__all__ = ["EVENT_KINDS", "currency_of", "events", "positions", "statement_rows", "statements", "vaults"]

_CASH_LOCKED = 200
"""Risk capital below 1/200 of NAV with no position open: the wall has taken over, nothing can be opened."""


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
    slot = row["last_slot"]
    return {
        "vault": row["name"],
        "title": terms.title,
        "mandate": row["mandate"],
        "currency": row["currency"],
        "status": _status(nav, must_stand, shares, row["waiting"], is_open),
        "nav": format_amount(nav, decimals),
        "nav_per_share": figures.per_share_text(nav, shares),
        "wall": format_amount(must_stand, decimals),
        "wall_per_share": figures.per_share_text(must_stand, shares),
        "wall_distance": figures.fraction(nav - must_stand, nav),
        "loss_cap": figures.fraction(terms.loss_cap, MILLION),
        "high_water_mark": figures.mark_per_share(row["high_water_mark"]),
        "reserve": format_amount(reserve, decimals),
        "cushion": format_amount(cushion, decimals),
        "in_margin": format_amount(margin, decimals),
        "shares": figures.shares(shares, decimals),
        "waiting": figures.shares(row["waiting"], decimals),
        "last_slot": None if slot is None else utc(slot),
        "marked": None if slot is None else utc(slot + terms.timeframe),
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
            found for row in _vault_rows(connection, _one(name)) for found in _positions_of(connection, row)
        ]  # fmt: skip


def _positions_of(connection: Connection, row: RowMapping) -> Iterator[dict[str, Any]]:
    last = connection.execute(
        select(journal.c.body)
        .where(journal.c.vault_id == row["id"], journal.c.kind == "slot")
        .order_by(journal.c.seq.desc())
        .limit(1)
    ).scalar_one_or_none()
    marked = {one["name"]: one for one in json.loads(last)["positions"]} if last is not None else {}
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    held = connection.execute(select(position).where(position.c.vault_id == row["id"]).order_by(position.c.ordinal))
    for one in held.mappings():
        margin = ledger.margin(one["name"])
        yield _position(row, one, margin, marked.get(one["name"]))


def _position(row: RowMapping, held: RowMapping, margin: int, marked: dict[str, Any] | None) -> dict[str, Any]:
    traded, quantity, decimals = instrument(held["symbol"]), held["quantity"], row["decimals"]
    bound = None if marked is None else BOUND_WORDS[Bound(marked["bound"])]
    answer: dict[str, Any] = {
        "vault": row["name"],
        "position": held["name"],
        "symbol": held["symbol"],
        "side": "flat" if quantity == 0 else "long" if quantity > 0 else "short",
        "quantity": figures.quantity(quantity, traded),
        "base": traded.base,
        "currency": row["currency"],
        "entry_price": None,
        "mark_price": None if marked is None else figures.price(marked["price"]),
        "leverage": None,
        "margin": format_amount(margin, decimals),
        "equity": format_amount(margin, decimals),
        "open_profit": format_amount(0, decimals),
        "maintenance_margin": format_amount(0, decimals),
        "liquidation_price": None,
        "liquidation_distance": None,
        "bound": bound,
    }
    if quantity != 0 and marked is not None:
        answer |= _marked(traded, quantity, held["cost"], margin, marked["price"], decimals)
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
        "leverage": figures.number(leverage_of(position, row, price), 4) if risk.equity > 0 else None,
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
        _statement(row, register, one)
        for row, register in registers
        for one in register.statements.values()
        if holder in (None, one.holder)
    ]


def statement_rows(connection: Connection, row: RowMapping) -> list[StatementRow]:
    """One vault's statements as a report shows them. Refused: StatementDisagrees."""
    register = holder_statements(connection, row["name"], row["id"])
    return [
        StatementRow(
            row["name"],
            one.holder,
            one.deposited,
            one.redeemed,
            one.shares,
            one.value,
            one.value_worst,
            row["decimals"],
        )
        for one in register.statements.values()
    ]


def _statement(row: RowMapping, register: Register, one: Statement) -> dict[str, Any]:
    decimals = row["decimals"]
    return {
        "vault": row["name"],
        "holder": one.holder,
        "currency": row["currency"],
        "deposited": format_amount(one.deposited, decimals),
        "redeemed": format_amount(one.redeemed, decimals),
        "shares": figures.shares(one.shares, decimals),
        "waiting": figures.shares(one.waiting, decimals),
        "entry_price": figures.per_share_text(one.cost, one.shares),
        "nav_per_share": figures.per_share_text(register.nav, register.shares),
        "value": format_amount(one.value, decimals),
        "value_worst": format_amount(one.value_worst, decimals),
        "profit": format_amount(one.profit, decimals),
        "acts": [_act(act, decimals) for act in one.acts],
    }


def _act(act: Act, decimals: int) -> dict[str, Any]:
    return {
        "time": utc(act.ts),
        "row": act.seq,
        "kind": act.kind,
        "amount": format_amount(act.amount, decimals),
        "shares": figures.shares(act.shares, decimals),
        "nav_per_share": figures.per_share_text(act.nav, act.total),
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
        rows = _vault_rows(connection, _one(name))
        terms = [_terms(connection, row) for row in rows]
        known = tuple(dict.fromkeys(found for one in terms for found in one.positions))
        if position is not None and position not in known:
            raise NothingCalled("position", position, known)
        found = [
            event
            for row, one in zip(rows, terms, strict=True)
            for event in _last(_wanted(_events_of(connection, row, one, since), kinds, position, since), limit)
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


def _events_of(connection: Connection, row: RowMapping, terms: Mandate, since: int | None) -> Iterator[dict[str, Any]]:
    columns = select(journal.c.seq, journal.c.ts, journal.c.kind, journal.c.body)
    wanted = columns.where(journal.c.vault_id == row["id"])
    if since is not None:
        wanted = wanted.where(
            journal.c.ts >= since
        )  # a slot's row bears its close, which is no earlier than its events
    traded = [instrument(one.symbol) for one in terms.positions.values()]
    for seq, ts, kind, text in connection.execute(wanted.order_by(journal.c.seq)):
        for event in told(kind, ts, json.loads(text), list(terms.positions), traded, row["decimals"]):
            yield {"vault": row["name"], "row": seq, "time": utc(event["ts"]), **event}
