"""Settlement: what a venue's report does to the book, through the edges of `risk.wall` and nothing else.

The price comes in with the report; none is made here. Lots are booked as they were filled, so that a report of fewer
than were ordered is settled like any other. Every change is told on the tape, with what was before and after.
"""

from typing import Any, NamedTuple

from ringfence.risk.book import Report
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import closed_part, leverage_of, liquidation_price, profit, traded_value
from ringfence.risk.tape import Told, emit
from ringfence.risk.wall import charge_fee, pay_venue, post_margin, receive_venue, release_margin, settle_venue_funding

__all__ = ["close_lots", "funding", "liquidated", "open_lots", "refused", "shift_collateral"]


class _Booked(NamedTuple):
    """What a close came to, minor units."""

    profit: int
    fee: int
    shortfall: int


@inlined
def _close(seat: Any, tape: Any, report: Report, edge: int) -> _Booked:
    """Lots, cost and money of a close; the fee goes along `edge`. The loss past the margin is the venue's shortfall."""
    vault, position = seat.vault, seat.position
    part = closed_part(position, abs(report.lots))
    gain = profit(part, seat.instrument, report.price)
    position.cost -= part.cost
    position.quantity -= part.quantity
    shortfall = 0
    if gain >= 0:
        receive_venue(vault, position, tape, gain)
    else:
        shortfall = pay_venue(vault, position, tape, -gain)
    return _Booked(gain, charge_fee(vault, position, tape, edge, report.fee), shortfall)


@compiled
def open_lots(seat: Any, tape: Any, report: Report, kind: int, bound: int) -> None:
    """Add the filled lots at what they were bought or sold for, and pay the fee; told as an event of `kind`. `bound`:
    what limited the order."""
    position, instrument, quantity = seat.position, seat.instrument, seat.position.quantity
    before = leverage_of(position, instrument, report.mark)
    position.quantity += report.lots
    position.filled += abs(report.lots)
    position.cost += traded_value(instrument, report.lots, report.price)
    paid = charge_fee(seat.vault, position, tape, Edge.fee, report.fee)
    position.refused = Bound.nothing
    after = leverage_of(position, instrument, report.mark)
    told = Told((quantity, position.quantity), (0, paid, 0),
                (report.price, report.mark, liquidation_price(position, instrument)), (before, after))  # fmt: skip
    emit(seat, tape, kind, bound, told)


@compiled
def close_lots(seat: Any, tape: Any, report: Report, kind: int, bound: int) -> None:
    """Close the filled lots, told as an event of `kind`. `bound` says why; a margin call tells the trigger that it came
    before, any other close the one that it left."""
    position, instrument, quantity = seat.position, seat.instrument, seat.position.quantity
    before, called = leverage_of(position, instrument, report.mark), kind == Kind.margin_call
    trigger = liquidation_price(position, instrument) if called else 0.0
    booked = _close(seat, tape, report, Edge.fee)
    position.filled += abs(report.lots)
    if not called:
        trigger = liquidation_price(position, instrument)
    told = Told((quantity, position.quantity), (booked.profit, booked.fee, booked.shortfall),
                (report.price, report.mark, trigger),
                (before, leverage_of(position, instrument, report.mark)))  # fmt: skip
    emit(seat, tape, kind, bound, told)


@compiled
def liquidated(seat: Any, tape: Any, report: Report) -> None:
    """Close what the venue closed; what is left of the margin returns to the cushion."""
    position, instrument, quantity = seat.position, seat.instrument, seat.position.quantity
    trigger = liquidation_price(position, instrument)
    before = leverage_of(position, instrument, trigger)
    booked = _close(seat, tape, report, Edge.liquidation_fee)
    release_margin(seat.vault, position, tape, position.margin)
    told = Told((quantity, position.quantity), (booked.profit, booked.fee, booked.shortfall),
                (report.price, report.mark, trigger), (before, 0.0))  # fmt: skip
    emit(seat, tape, Kind.liquidation, Bound.maintenance_margin, told)


@compiled
def funding(seat: Any, tape: Any, report: Report) -> None:
    """Receive or pay a funding payment.

    What the margin cannot pay is carried in the cost basis, so that it comes out of the position's own profit and of
    nothing else.
    """
    position, instrument, quantity = seat.position, seat.instrument, seat.position.quantity
    before = leverage_of(position, instrument, report.mark)
    unpaid = settle_venue_funding(seat.vault, position, tape, report.amount)
    position.cost += unpaid if (quantity > 0) != instrument.inverse else -unpaid
    after = leverage_of(position, instrument, report.mark)
    told = Told((quantity, quantity), (report.amount, 0, 0),
                (report.price, report.mark, liquidation_price(position, instrument)), (before, after))  # fmt: skip
    emit(seat, tape, Kind.funding, Bound.nothing, told)


@compiled
def shift_collateral(seat: Any, tape: Any, mark: float, amount: int) -> None:
    """Move margin in (+) from the cushion or out (-) to it, as far as either has it, and tell it."""
    position, instrument = seat.position, seat.instrument
    before = leverage_of(position, instrument, mark)
    if amount >= 0:
        moved = post_margin(seat.vault, position, tape, amount)
    else:
        moved = -release_margin(seat.vault, position, tape, -amount)
    if moved != 0:
        told = Told((position.quantity, position.quantity), (moved, 0, 0),
                    (0.0, mark, liquidation_price(position, instrument)),
                    (before, leverage_of(position, instrument, mark)))  # fmt: skip
        emit(seat, tape, Kind.collateral, Bound.nothing, told)


@compiled
def refused(seat: Any, tape: Any, mark: float, bound: int, wanted: int) -> None:
    """Tell a refused increase to `wanted` lots once, until the reason changes or an increase goes through."""
    position, instrument = seat.position, seat.instrument
    if position.refused == bound:
        return
    position.refused = bound
    leverage = leverage_of(position, instrument, mark)
    told = Told((position.quantity, wanted), (0, 0, 0), (0.0, mark, liquidation_price(position, instrument)),
                (leverage, leverage))  # fmt: skip
    emit(seat, tape, Kind.refusal, bound, told)
