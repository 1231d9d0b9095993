"""What a database says about positions: what each holds, marked at the last bar that its vault acted at."""

from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.faces.causes import BOUND_WORDS
from ringfence.faces.queries.rows import terms_of, vault_rows
from ringfence.markets.instruments import Instrument, listed
from ringfence.runtime.database import unit_of_work
from ringfence.vaults import journal
from ringfence.vaults.entries import Decided, Held, Lived, Standing, Walked
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.pending import Pending, read_pending
from ringfence.vaults.tables import position
from ringfence.words.numbers import format_amount, format_multiple, format_price

__all__ = ["positions"]


def positions(engine: Engine, name: str | None = None) -> list[dict[str, Any]]:
    """Every position of one vault or of all, marked at the last bar that it acted at. Refused: UnknownVault."""
    with unit_of_work(engine, writes=False) as connection:
        return [found for row in vault_rows(connection, name) for found in _positions_of(connection, row)]


def _positions_of(connection: Connection, row: RowMapping) -> Iterator[dict[str, Any]]:
    last = journal.last_row(connection, row["id"], Decided, Walked)
    entry = None if last is None else last.entry
    decided = entry.positions if isinstance(entry, Lived) else {}
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    held = connection.execute(select(position).where(position.c.vault_id == row["id"]).order_by(position.c.ordinal))
    traded = instruments_of(terms_of(connection, row))
    for stands in held.mappings():
        name = stands["name"]
        yield _position(row, stands, traded[name], ledger.margin(name), decided.get(name))


def _position(
    row: RowMapping, held: RowMapping, traded: Instrument, margin: int, decided: Standing | None
) -> dict[str, Any]:
    quantity, decimals = held["quantity"], row["decimals"]
    pending = None if held["pending"] is None else read_pending(held["pending"])
    bound = BOUND_WORDS[decided.bound] if isinstance(decided, Held) else None
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
        "effective_leverage": None,
        "margin": format_amount(margin, decimals),
        "equity": format_amount(margin, decimals),
        "open_profit": format_amount(0, decimals),
        "maintenance_margin": format_amount(0, decimals),
        "liquidation_price": None,
        "liquidation_distance": None,
        "bound": bound,
        "pending": None if pending is None else _waits(pending, traded),
        "is_stopped": pending is not None and pending.is_halt,
    }
    if quantity != 0 and decided is not None:
        answer |= _marked(traded, held, margin, decided, decimals)
    return answer


def _waits(pending: Pending, traded: Instrument) -> str:
    """What a position waits for, in words."""
    if pending.is_halt:
        return f"stopped: {pending.why}"
    filled, ordered = (traded.quantity_text(lots) for lots in (pending.filled, pending.lots))
    return f"an order, of which {filled} of {ordered} {traded.base} are filled"


def _marked(
    traded: Instrument, held: RowMapping, margin: int, decided: Standing, decimals: int
) -> dict[str, str | None]:
    """What an open position is worth at the mark of its last decision, by the formulas that the step itself uses."""
    from ringfence.risk.book import Holding
    from ringfence.risk.exposure import leverage_of, liquidation_price, risk_at

    price, row, position = decided.price, listed(traded), Holding(held["quantity"], held["cost"], margin)
    risk, trigger = risk_at(position, row, price), liquidation_price(position, row)
    lots, places = abs(position.quantity), max(2, -int(traded.tick.as_tuple().exponent))
    with localcontext(prec=50):
        entry = (Decimal(position.cost) / (lots * traded.unit)).quantize(traded.tick.scaleb(-2), rounding=ROUND_DOWN)
    return {
        "entry_price": format(entry, "f"),
        "leverage": format_multiple(decided.leverage) if isinstance(decided, Held) else None,
        "effective_leverage": format_multiple(leverage_of(position, row, price)) if risk.equity > 0 else None,
        "equity": format_amount(risk.equity, decimals),
        "open_profit": format_amount(risk.equity - position.margin, decimals),
        "maintenance_margin": format_amount(risk.maintenance, decimals),
        "liquidation_price": f"{trigger:.{places}f}" if trigger else None,
        "liquidation_distance": f"{abs(price - trigger) / price:.6f}" if trigger else None,
    }
