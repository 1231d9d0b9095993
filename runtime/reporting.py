"""What a venue tells of its own accord, booked: an order that fills later, lots that it closed, what somebody else did.

Pure. Lots and money go the ways that they go in a step, through `risk.settlement`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from ringfence.risk.book import Report as Filled
from ringfence.risk.book import ReportKind, Seat
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import equity_at, traded_value
from ringfence.risk.settlement import close_lots, liquidated, open_lots, shift_collateral
from ringfence.risk.tape import Tape, blank_tape, read_events
from ringfence.risk.wall import post_margin
from ringfence.runtime.setup import Setup
from ringfence.runtime.step import book_of, happened, moved
from ringfence.vaults.entries import Cause, Differs, Left, Report, Reported
from ringfence.vaults.pending import Pending
from ringfence.vaults.vault import Vault

__all__ = ["booked"]

_STRANGE = {
    Cause.by_hand: "somebody else traded in its account",
    Cause.moved_by_hand: "somebody else moved collateral in its account",
    Cause.liquidated: "its venue liquidated it, which by our books it had no reason to do",
}
"""Causes after which a position is stopped, with what is told of them."""


def booked(
    setup: Setup, vault: Vault, reports: Sequence[Report], differs: Iterable[Differs], reported: int
) -> Reported:
    """Book what was told at the vault's clock, in its order. More than five arguments because an entry tells them all.

    Refused whole: as `Vault.report`.
    """
    book = book_of(vault, vault.strike_of(vault.clock))
    row, tape = book.vaults[0], blank_tape(8 * len(reports) + 8, 4 * len(reports) + 4)
    before, change = int(row.cushion), 0
    pending: dict[str, Pending | None] = {}
    for report in reports:
        p = setup.names.index(report.position)
        seat = Seat(row, book.positions[p], setup.limits.positions[p], setup.listing[p])
        waits = pending.get(report.position, vault.positions[report.position].pending)
        worth = _equity(seat, report.mark)
        tape.used[3] = report.ts
        _book(seat, tape, report, waits)
        change += _equity(seat, report.mark) - worth
        pending[report.position] = _waits(waits, report, seat.instrument)
    touched = {report.position: book.positions[setup.names.index(report.position)] for report in reports}
    entry = Reported(
        reports=tuple(reports), differs=tuple(differs), reported=reported,
        events=tuple(happened(event, setup.names) for event in read_events(tape, 0, 0)),
        transfers=tuple(moved(tape, setup.names)),
        positions={
            name: Left(quantity=int(held.quantity), cost=int(held.cost), margin=int(held.margin))
            for name, held in touched.items()
        },
        nav=max(0, vault.nav + change + int(row.cushion) - before),
    )  # fmt: skip
    return vault.report(vault.clock, entry, pending)


def _equity(seat: Seat, mark: float) -> int:
    return max(0, int(equity_at(seat.position, seat.instrument, mark))) if mark > 0.0 else 0


def _book(seat: Seat, tape: Tape, report: Report, waits: Pending | None) -> None:
    told = Filled(ReportKind.fill, int(seat.position.index), report.lots, report.price, report.mark, report.fee, 0)
    match report.cause:
        case Cause.filled:
            kind = Kind[waits.kind] if waits is not None and waits.kind else Kind.resize
            _trade(seat, tape, told, kind, Bound.nothing)
        case Cause.by_hand:
            post_margin(seat.vault, seat.position, tape, max(0, min(report.amount, int(seat.vault.cushion))))
            _trade(seat, tape, told, Kind.by_hand, Bound.venue)
        case Cause.deleveraged if _closes(seat, told):
            close_lots(seat, tape, _as_held(seat, told), Kind.deleveraging.value, Bound.venue.value)
        case Cause.liquidated if _closes(seat, told):
            liquidated(seat, tape, _as_held(seat, told))
        case Cause.moved_by_hand:
            shift_collateral(seat, tape, report.mark, report.amount)


def _trade(seat: Seat, tape: Tape, told: Filled, kind: Kind, bound: Bound) -> None:
    if _closes(seat, told):
        close_lots(seat, tape, _as_held(seat, told), kind.value, bound.value)
    else:
        open_lots(seat, tape, told, kind.value, bound.value)


def _closes(seat: Seat, told: Filled) -> bool:
    """Whether the lots are against what is held."""
    return int(seat.position.quantity) * told.lots < 0


def _as_held(seat: Seat, told: Filled) -> Filled:
    """No more lots than our books hold: where the venue held others, the books differ afterwards, and that is told."""
    held = abs(int(seat.position.quantity))
    return told._replace(lots=max(-held, min(held, told.lots)))


def _waits(waits: Pending | None, report: Report, instrument: Any) -> Pending | None:
    """What a position waits for after a report."""
    if report.cause in _STRANGE:
        return (waits or Pending()).model_copy(update={"why": _STRANGE[report.cause]})
    if waits is None or not report.order or report.order != waits.order:
        return waits
    if report.is_last:
        return Pending(why=waits.why) if waits.is_halt else None
    value = int(traded_value(instrument, report.lots, report.price)) if report.lots else 0
    return waits.model_copy(
        update={"filled": waits.filled + report.lots, "cost": waits.cost + value, "fee": waits.fee + report.fee,
                "price": report.order_price}
    )  # fmt: skip
