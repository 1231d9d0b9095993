"""A vault's history: its journal read back into the run that a report shows."""

from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import Connection, RowMapping

from ringfence.risk.book import Floats, Ints
from ringfence.risk.events import Event
from ringfence.runtime.runs import PositionRun, VaultRun, cash_locked, liquidation_distance
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided, Happened, Held, Opened
from ringfence.vaults.errors import EntryUnreadable
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, Mandate

__all__ = ["run_of"]


def run_of(connection: Connection, row: RowMapping) -> VaultRun:
    """Everything that a vault has lived through so far, as its journal tells it; title and cap are the mandate's that
    it lives under now. Refused: EntryUnreadable."""
    terms = _terms(connection, row["id"])
    ts, decided = [], []
    for found in journal.rows(connection, row["id"], Decided):
        entry = found.entry
        assert isinstance(entry, Decided)
        if entry.positions.keys() != terms.positions.keys():
            raise EntryUnreadable(found.kind, f"positions of row {found.seq}: expected {', '.join(terms.positions)}")
        ts.append(found.ts)
        decided.append(entry)
    balances = Ledger(connection, row["id"], row["transfer_seq"]).balances

    def ints(name: str) -> Ints:
        return np.array([getattr(entry, name) for entry in decided], np.int64)

    names = list(terms.positions)
    nav, walls, shares = ints("struck"), ints("wall"), ints("total_shares")
    return VaultRun(
        vault=row["name"], title=terms.title, currency=row["currency"], decimals=row["decimals"],
        loss_cap=terms.loss_cap / MILLION, mandate=row["mandate"], ts=np.array(ts, np.int64),
        nav=nav, wall=walls, shares=shares, high_water_mark=ints("high_water_mark"),
        positions=tuple(_position(name, terms.positions[name].symbol, decided) for name in names),
        events=tuple(_event(event, names.index(event.position)) for entry in decided for event in entry.events),
        price_low=row["price_low"], distance_low=row["distance_low"],
        low=nav / np.where(shares > 0, shares, np.nan), locked=cash_locked(nav, walls, terms.loss_cap / MILLION),
        balances={name: balance for name, balance in balances.items() if balance},
    )  # fmt: skip


def _terms(connection: Connection, vault_id: int) -> Mandate:
    found = journal.last_row(connection, vault_id, Opened, Amended)
    assert found is not None, "a journal begins with its mandate"
    entry = found.entry
    assert isinstance(entry, Opened | Amended)
    return Mandate.from_canonical(entry.terms)


def _event(happened: Happened, position: int) -> Event:
    return Event(**{**happened.model_dump(exclude={"position", "kind", "reason"}), "position": position,
                    "kind": happened.kind, "reason": happened.reason})  # fmt: skip


def _position(name: str, symbol: str, decided: Sequence[Decided]) -> PositionRun:
    states = [entry.positions[name] for entry in decided]

    def floats(read: Callable[[Held], float | None]) -> Floats:
        return np.array([np.nan if (value := read(state)) is None else value for state in states], np.float64)

    proposed = np.ma.masked_invalid(floats(lambda state: state.proposed))
    volatility = np.ma.masked_invalid(floats(lambda state: state.volatility))
    price = floats(lambda state: state.price)
    quantity = np.array([state.quantity for state in states], np.int64)
    undecided = np.ma.getmaskarray(proposed) | np.ma.getmaskarray(volatility)
    return PositionRun(
        name=name, symbol=symbol, price=price, quantity=quantity, proposed=proposed,
        allowed=np.ma.masked_array(floats(lambda state: state.allowed), undecided),
        leverage=np.ma.masked_array(floats(lambda state: state.leverage), quantity == 0),
        bound=np.array([state.bound for state in states], np.int64), volatility=volatility,
        liquidation_distance=liquidation_distance(price, floats(lambda state: state.liquidation_price)),
    )  # fmt: skip
