"""A vault's history: its journal read back into the run that a report shows."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from sqlalchemy import Connection, RowMapping

from ringfence.markets.instruments import Instrument
from ringfence.risk.book import Floats, Ints
from ringfence.risk.events import Event
from ringfence.runtime.runs import PositionRun, VaultRun, liquidation_distance
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided, Happened, Held, Lived, Opened, Reported, Walked
from ringfence.vaults.errors import EntryUnreadable
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, Mandate

__all__ = ["run_of"]


def run_of(connection: Connection, row: RowMapping) -> VaultRun:
    """Everything that a vault has lived through so far, as its journal tells it; title and cap are the mandate's that
    it lives under now. Refused: EntryUnreadable."""
    terms = _terms(connection, row["id"])
    ts, decided, events = [], list[Decided](), list[Happened]()
    for found in journal.rows(connection, row["id"], Decided, Walked, Reported):
        entry = found.entry
        assert isinstance(entry, Lived | Reported)
        events += entry.events
        if not isinstance(entry, Decided):
            continue
        if entry.positions.keys() != terms.positions.keys():
            raise EntryUnreadable(found.kind, f"positions of row {found.seq}: expected {', '.join(terms.positions)}")
        ts.append(found.ts)
        decided.append(entry)
    balances = Ledger(connection, row["id"], row["transfer_seq"]).balances

    def ints(name: str) -> Ints:
        return np.array([getattr(entry, name) for entry in decided], np.int64)

    names, traded = list(terms.positions), instruments_of(terms)
    return VaultRun(
        vault=row["name"], title=terms.title, currency=row["currency"], decimals=row["decimals"],
        loss_cap=terms.loss_cap / MILLION, mandate=row["mandate"], ts=np.array(ts, np.int64),
        nav=ints("nav"), wall=ints("wall"), shares=ints("total_shares"), high_water_mark=ints("high_water_mark"),
        low=np.array([_low(entry) for entry in decided], np.float64),
        locked=np.array([entry.locked_since is not None for entry in decided], np.bool_),
        struck=np.array([entry.is_struck for entry in decided], np.bool_),
        positions=tuple(_position(name, traded[name], decided) for name in names),
        events=tuple(
            _event(event, -1 if event.position is None else names.index(event.position))
            for event in events
        ),
        price_low=row["price_low"], distance_low=row["distance_low"],
        balances={name: balance for name, balance in balances.items() if balance},
    )  # fmt: skip


def _low(entry: Decided) -> float:
    """The lowest NAV per share before anybody entered or left at the decision."""
    shares = entry.total_shares
    for settled in entry.settlements:
        shares += settled.shares if settled.side == "redemption" else -settled.shares
    return math.nan if entry.nav_low is None or shares == 0 else entry.nav_low / shares


def _terms(connection: Connection, vault_id: int) -> Mandate:
    found = journal.last_row(connection, vault_id, Opened, Amended)
    assert found is not None, "a journal begins with its mandate"
    entry = found.entry
    assert isinstance(entry, Opened | Amended)
    return Mandate.from_canonical(entry.terms)


def _event(happened: Happened, position: int) -> Event:
    return Event(**{**happened.model_dump(exclude={"position", "kind", "reason"}), "position": position,
                    "kind": happened.kind, "reason": happened.reason})  # fmt: skip


def _position(name: str, traded: Instrument, decided: Sequence[Decided]) -> PositionRun:
    states = [entry.positions[name] for entry in decided]

    def floats(read: Callable[[Held], float | None]) -> Floats:
        return np.array([np.nan if (value := read(state)) is None else value for state in states], np.float64)

    proposed = np.ma.masked_invalid(floats(lambda state: state.proposed))
    volatility = np.ma.masked_invalid(floats(lambda state: state.volatility))
    price = floats(lambda state: state.price)
    quantity = np.array([state.quantity for state in states], np.int64)
    undecided = np.ma.getmaskarray(proposed) | np.ma.getmaskarray(volatility)
    return PositionRun(
        name=name, symbol=traded.name, lot=traded.size, price=price, quantity=quantity, proposed=proposed,
        allowed=np.ma.masked_array(floats(lambda state: state.allowed), undecided),
        leverage=np.ma.masked_array(floats(lambda state: state.leverage), quantity == 0),
        effective_leverage=np.ma.masked_array(floats(lambda state: state.effective_leverage), quantity == 0),
        bound=np.array([state.bound for state in states], np.int64), volatility=volatility,
        liquidation_distance=liquidation_distance(price, floats(lambda state: state.liquidation_price)),
    )  # fmt: skip
