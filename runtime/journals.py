"""A vault's journal read back: the run that a report shows, told by the rows that the steps wrote."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, select

from ringfence.risk.events import Bound, Event, Kind
from ringfence.runtime.backtest import liquidation_distance
from ringfence.runtime.runs import PositionRun, VaultRun
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.tables import journal

__all__ = ["entries", "event_from", "run_of"]


def entries(
    connection: Connection, vault_id: int, kind: str | None = None
) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """(seq, ts, kind, body) of a vault's journal in order."""
    rows = select(journal.c.seq, journal.c.ts, journal.c.kind, journal.c.body).where(journal.c.vault_id == vault_id)
    if kind is not None:
        rows = rows.where(journal.c.kind == kind)
    for seq, ts, found, body in connection.execute(rows.order_by(journal.c.seq)):
        yield seq, ts, found, json.loads(body)


def event_from(row: list[Any]) -> Event:
    """An event as the journal keeps it."""
    ts, position, kind, reason, *rest = row
    return Event(ts, position, Kind(kind), Bound(reason), *rest)


def run_of(connection: Connection, row: RowMapping, terms: Mandate) -> VaultRun:
    """Everything a vault lived through so far."""
    slots = [(ts, body) for _, ts, _, body in entries(connection, row["id"], "slot")]
    bodies = [body for _, body in slots]
    balances = Ledger(connection, row["id"], row["transfer_seq"]).balances

    def ints(name: str) -> Any:
        return np.array([body[name] for body in bodies], np.int64)

    return VaultRun(
        vault=row["name"], title=terms.title, currency=row["currency"], decimals=row["decimals"],
        loss_cap=terms.loss_cap / MILLION, mandate=row["mandate"], ts=np.array([ts for ts, _ in slots], np.int64),
        nav=ints("struck"), wall=ints("wall"), shares=ints("shares"), high_water_mark=ints("high_water_mark"),
        positions=tuple(_position(p, *named, bodies) for p, named in enumerate(_traded(terms))),
        events=tuple(event_from(event) for body in bodies for event in body["events"]),
        price_low=row["price_low"], distance_low=row["distance_low"],
        balances={name: balance for name, balance in balances.items() if balance},
    )  # fmt: skip


def _traded(terms: Mandate) -> list[tuple[str, str]]:
    return [(name, one.symbol) for name, one in terms.positions.items()]


def _position(p: int, name: str, symbol: str, bodies: list[dict[str, Any]]) -> PositionRun:
    states = [body["positions"][p] for body in bodies]

    def floats(key: str) -> Any:
        return np.array([np.nan if one[key] is None else one[key] for one in states], np.float64)

    proposed, volatility = (np.ma.masked_invalid(floats(key)) for key in ("proposed", "volatility"))
    quantity = np.array([one["quantity"] for one in states], np.int64)
    undecided = np.ma.getmaskarray(proposed) | np.ma.getmaskarray(volatility)
    return PositionRun(
        name=name, symbol=symbol, price=floats("price"), quantity=quantity, proposed=proposed,
        allowed=np.ma.masked_array(floats("allowed"), undecided),
        leverage=np.ma.masked_array(floats("leverage"), quantity == 0),
        bound=np.array([one["bound"] for one in states], np.int64), volatility=volatility,
        liquidation_distance=liquidation_distance(floats("price"), floats("liquidation_price")),
    )  # fmt: skip
