"""The tape: what the compiled step writes down, row by row, for the ledger and for people.

It knows the bar that is being lived through, so that whoever writes on it need not, and what a venue was asked for
and has answered, where one is asked at all.
"""

from typing import Any, NamedTuple

import numpy as np

from ringfence.risk.book import Ints, Rows, rows
from ringfence.risk.compiled import inlined
from ringfence.risk.events import Bound, Event, Kind

__all__ = ["ACT", "EVENT", "TRANSFER", "Tape", "Told", "at", "begin_bar", "blank_tape", "close_of_bar", "emit",
           "emit_whole", "open_of_bar", "read_events", "rewind", "transfer"]  # fmt: skip

TRANSFER = np.dtype([(name, np.int64) for name in ("bar", "vault", "edge", "position", "amount")])
EVENT = np.dtype(
    [(name, np.int64) for name in ("ts", "vault", "position", "kind", "reason", "quantity_before", "quantity_after",
                                   "amount", "fee", "shortfall")]
    + [(name, np.float64) for name in ("price", "mark", "leverage_before", "leverage_after", "liquidation_price")]
)  # fmt: skip


ACT = np.dtype(
    [
        *((name, np.int64) for name in ("bar", "position", "kind")),  # kind: of the event that an order's fill is
        ("lots", np.int64),  # ordered, bought (+) or sold (-); 0 of a move of collateral
        ("amount", np.int64),  # of a move: into the position (+) or out of it (-), minor units
        ("reduces", np.bool_),  # the order may only close
        ("answered", np.bool_),  # what follows was told by the venue; else it is what is foreseen
        ("pending", np.bool_),  # not all of it is known yet, and no more is done with the position until it is
        ("done", np.int64),  # lots that filled, or collateral that moved, so far; of the same sign
        ("fee", np.int64),  # for the lots that filled, minor units
        ("price", np.float64),  # their average
    ],
    align=True,
)
"""One thing that a venue is asked for: an order, or a move of collateral."""


class Tape(NamedTuple):
    """Transfers and events in the order in which they happened."""

    transfers: Rows
    """(M,) of TRANSFER; position -1: none."""
    events: Rows
    """(E,) of EVENT."""
    used: Ints
    """(8,): rows in use of each, the bar that is being lived through, the time in it, its open and its close (UTC ms);
    acts so far, and whether one of them is another than the one that was answered."""
    acts: Rows
    """(A,) of ACT, in the order in which they are done; none: the venue fills at once, by the paper exchange's rule."""


class Told(NamedTuple):
    """The figures of one event; 0.0 where a price or a leverage does not apply."""

    quantities: tuple[int, int]
    """Before and after."""
    amounts: tuple[int, int, int]
    """Amount, fee, shortfall."""
    prices: tuple[float, float, float]
    """Price, mark, liquidation price."""
    leverages: tuple[float, float]
    """Before and after."""


def blank_tape(transfers: int, events: int, acts: int = 0) -> Tape:
    """An empty tape with room for so many rows of each."""
    return Tape(rows(TRANSFER, transfers), rows(EVENT, events), np.zeros(8, np.int64), rows(ACT, acts))


def rewind(tape: Tape) -> None:
    """Forget what is on the tape, but not what a venue was asked for."""
    tape.used[:2] = 0


@inlined
def begin_bar(tape: Any, bar: int, ts: int, length: int) -> None:
    """From now on things happen in this bar, which opens at `ts` (UTC ms) and is `length` ms long; at its close, unless
    another time is said."""
    tape.used[2], tape.used[3], tape.used[4], tape.used[5] = bar, ts + length, ts, ts + length


@inlined
def at(tape: Any, ts: int) -> None:
    """What follows happens at `ts`, UTC ms."""
    tape.used[3] = ts


@inlined
def open_of_bar(tape: Any) -> None:
    """What follows happens at the bar's open."""
    tape.used[3] = tape.used[4]


@inlined
def close_of_bar(tape: Any) -> None:
    """What follows happens at the bar's close."""
    tape.used[3] = tape.used[5]


@inlined
def transfer(tape: Any, vault: int, edge: int, position: int, amount: int) -> None:
    """Write down one transfer, by the vault's and the position's `index` (-1: none); an amount of 0 is none."""
    if amount == 0:
        return
    row = tape.transfers[tape.used[0]]
    row.bar, row.vault, row.edge, row.position, row.amount = tape.used[2], vault, edge, position, amount
    tape.used[0] += 1


@inlined
def emit(seat: Any, tape: Any, kind: int, reason: int, told: Told) -> None:
    """Write down one event of a seat's position."""
    row = tape.events[tape.used[1]]
    row.ts, row.vault, row.position = tape.used[3], seat.vault.index, seat.position.index
    row.kind, row.reason = kind, reason
    row.quantity_before, row.quantity_after = told.quantities
    row.amount, row.fee, row.shortfall = told.amounts
    row.price, row.mark, row.liquidation_price = told.prices
    row.leverage_before, row.leverage_after = told.leverages
    tape.used[1] += 1


@inlined
def emit_whole(vault: Any, tape: Any, kind: int, amount: int) -> None:
    """Write down what happened to a vault as a whole."""
    row = tape.events[tape.used[1]]
    row.ts, row.vault, row.position, row.kind, row.reason = tape.used[3], vault.index, -1, kind, Bound.nothing
    row.quantity_before, row.quantity_after, row.amount, row.fee, row.shortfall = 0, 0, amount, 0, 0
    row.price = row.mark = row.liquidation_price = row.leverage_before = row.leverage_after = 0.0
    tape.used[1] += 1


def read_events(tape: Tape, vault: int, first: int) -> list[Event]:
    """The events of one vault in order; `first` is the vault's first position, from which `Event.position` counts."""
    found = []
    for ts, owner, position, kind, reason, *rest in tape.events[: int(tape.used[1])].tolist():
        if owner == vault:
            found.append(Event(ts, max(-1, position - first), Kind(kind), Bound(reason), *rest))
    return found
