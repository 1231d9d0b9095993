"""Dealing: what becomes of an order, and of collateral that is to move, at whichever venue there is.

Where the tape has no room for acts the venue fills at once, by the rule of `markets.paper`. Otherwise each order and
each move is one act, in the order in which they are done. What the venue has answered counts; what it has not been
asked yet is foreseen by that same rule and written down, so that whoever drives the loop can ask for it, and live
through the bar again with the answer: the same answers lead to the same acts.

A position of which an act's end is not known does nothing more, and keeps its collateral, until it is.
"""

from typing import Any

from ringfence.markets.paper import fill
from ringfence.risk.book import Order, Report, ReportKind
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.wall import postable, releasable

__all__ = ["moved", "traded"]


@inlined
def _next(tape: Any) -> Any:
    """The row of the next act."""
    act = tape.acts[tape.used[6]]
    act.bar = tape.used[2]
    tape.used[6] += 1
    return act


@compiled
def traded(seat: Any, tape: Any, prices: Any, order: Order, kind: int, reduces: bool) -> Report:
    """What comes of an order whose fill is an event of `kind`. More than five arguments because an act says all of
    it."""
    position, mark = seat.position, prices.mark_close
    report = fill(order, seat.limit, seat.instrument, prices, position.filled)
    if tape.acts.size == 0:
        return report
    if position.pending:
        return Report(ReportKind.fill, order.position, 0, report.price, mark, 0, 0)
    act = _next(tape)
    if not act.answered:
        act.position, act.kind = position.index, kind
        act.lots, act.amount, act.reduces = order.lots, 0, reduces
        act.done, act.fee, act.price = report.lots, report.fee, report.price
    elif act.position != position.index or act.lots != order.lots or act.kind != kind:
        tape.used[7] = 1
    position.pending = position.pending or act.pending
    return Report(ReportKind.fill, order.position, act.done, act.price, mark, act.fee, 0)


@compiled
def moved(seat: Any, tape: Any, wanted: int) -> int:
    """How much of `wanted` moves into the position (+) or out of it (-): as far as the cushion or the margin has it,
    and the venue does it."""
    vault, position = seat.vault, seat.position
    amount = postable(vault, wanted) if wanted >= 0 else -releasable(position, -wanted)
    if tape.acts.size == 0 or amount == 0:
        return amount
    if position.pending:
        return 0
    act = _next(tape)
    if not act.answered:
        act.position, act.kind, act.reduces = position.index, 0, False
        act.lots, act.amount, act.done, act.fee, act.price = 0, amount, amount, 0, 0.0
    elif act.position != position.index or act.amount != amount or act.lots != 0:
        tape.used[7] = 1
    position.pending = position.pending or act.pending
    done: int = act.done
    return done
