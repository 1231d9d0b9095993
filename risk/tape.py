"""The tape: what the compiled step writes down, row by row, for the ledger and for people."""

from typing import Any, NamedTuple

import numpy as np

from ringfence.risk.book import Ints, Rows, rows
from ringfence.risk.compiled import inlined
from ringfence.risk.events import Bound, Event, Kind

__all__ = ["EVENT", "TRANSFER", "Tape", "blank_tape", "emit", "read_events", "record", "rewind"]

TRANSFER = np.dtype([(name, np.int64) for name in ("bar", "vault", "edge", "position", "amount")])
EVENT = np.dtype(
    [(name, np.int64) for name in ("bar", "vault", "position", "kind", "reason", "quantity_before", "quantity_after",
                                   "amount", "fee", "shortfall")]
    + [(name, np.float64) for name in ("price", "mark", "leverage_before", "leverage_after", "liquidation_price")]
)  # fmt: skip


class Tape(NamedTuple):
    """Transfers and events in the order in which they happened."""

    transfers: Rows
    """(M,) of TRANSFER; position -1: none."""
    events: Rows
    """(E,) of EVENT."""
    used: Ints
    """(2,): rows in use of each."""


def blank_tape(transfers: int, events: int) -> Tape:
    """An empty tape with room for so many rows of each."""
    return Tape(rows(TRANSFER, transfers), rows(EVENT, events), np.zeros(2, np.int64))


def rewind(tape: Tape) -> None:
    """Forget what is on the tape."""
    tape.used[:] = 0


@inlined
def record(tape: Any, bar: int, vault: int, edge: int, position: int, amount: int) -> None:
    """One transfer; an amount of 0 is none."""
    if amount == 0:
        return
    row = tape.transfers[tape.used[0]]
    row.bar, row.vault, row.edge, row.position, row.amount = bar, vault, edge, position, amount
    tape.used[0] += 1


@inlined
def emit(
    tape: Any,
    bar: int,
    vault: int,
    position: int,
    kind: int,
    reason: int,
    quantities: tuple[int, int],
    amounts: tuple[int, int, int],
    prices: tuple[float, float, float],
    leverages: tuple[float, float],
) -> None:
    """One event: quantities (before, after), amounts (amount, fee, shortfall), prices (price, mark, liquidation
    price), leverages (before, after)."""
    row = tape.events[tape.used[1]]
    row.bar, row.vault, row.position, row.kind, row.reason = bar, vault, position, kind, reason
    row.quantity_before, row.quantity_after = quantities
    row.amount, row.fee, row.shortfall = amounts
    row.price, row.mark, row.liquidation_price = prices
    row.leverage_before, row.leverage_after = leverages
    tape.used[1] += 1


def read_events(tape: Tape, ts: Ints, vault: int, first: int) -> list[Event]:
    """The events of one vault in order; `ts` are the bars' times, `first` the vault's first position, from which
    `Event.position` counts."""
    found = []
    for bar, owner, position, kind, reason, *rest in tape.events[: int(tape.used[1])].tolist():
        if owner == vault:
            found.append(Event(int(ts[bar]), position - first, Kind(kind), Bound(reason), *rest))
    return found
