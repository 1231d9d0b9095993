"""What the rows of a journal tell, event by event, in words and figures."""

from collections.abc import Iterable, Iterator
from typing import Any

from ringfence.faces.causes import cause
from ringfence.markets.instruments import Instrument, instrument
from ringfence.risk.edges import Edge
from ringfence.risk.events import Kind
from ringfence.vaults.entries import Amended, Decided, Deposited, Entry, Happened, Opened, RedemptionAsked
from ringfence.vaults.journal import Row
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.queue import Payment
from ringfence.words.numbers import format_amount, format_multiple, format_price, format_shares

__all__ = ["EVENT_KINDS", "KINDS_TOLD", "found_in", "told"]

KINDS_TOLD = {
    "mandate": "the vault was opened or goes on under another mandate",
    "deposit": "a holder paid in",
    "redemption": "a holder asked for shares back",
    "payment": "a holder was paid for shares that were burned",
    "ratchet": "the high-water mark rose: money went behind the wall",
    Kind.resize.name: "a position was made larger or smaller at a decision",
    Kind.collateral.name: "margin was moved into a position or out of it",
    Kind.funding.name: "a funding stamp was paid or received",
    Kind.margin_call.name: "equity fell below the mandate's own threshold: the position was reduced",
    Kind.liquidation.name: "equity fell below the venue's maintenance margin: the position was closed",
    Kind.refusal.name: "an increase was refused, and by which limit",
    Kind.roll.name: "open profit was realised at a strike, so that the wall stands in cash",
}
"""Every kind of event that a journal tells of, in words."""
EVENT_KINDS = tuple(KINDS_TOLD)


_FOUND_IN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mandate": ((Opened.kind, Amended.kind), ()),
    "deposit": ((Deposited.kind,), ()),
    "redemption": ((RedemptionAsked.kind,), ()),
    "payment": ((RedemptionAsked.kind,), ('"payments":[{',)),
    "ratchet": ((), (f'"edge":"{Edge.ratchet.name}"',)),
}


def found_in(kinds: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Kinds of entries, and texts in a canonical body, of which every row that tells of such an event has one."""
    of = [_FOUND_IN.get(kind, ((), (f'"kind":"{kind}"',))) for kind in kinds]
    return tuple(entry for entries, _ in of for entry in entries), tuple(text for _, texts in of for text in texts)


def told(row: Row, entry: Entry, mandate: Mandate, decimals: int) -> Iterator[dict[str, Any]]:
    """The events of one row of a journal, under the mandate that was in force; `decimals` are the currency's."""
    for event in _told(entry, mandate, decimals):
        yield {**event, "ts": event["ts"] or row.ts}


def _told(entry: Entry, mandate: Mandate, decimals: int) -> Iterator[dict[str, Any]]:
    match entry:
        case Opened():
            yield _plain("mandate", f"opened under mandate {entry.mandate[:12]}")
        case Amended():
            yield _plain("mandate", f"goes on under mandate {entry.mandate[:12]}", entry.to_reserve, decimals, None,
                         f"wall {format_amount(entry.wall, decimals)}")  # fmt: skip
        case Deposited():
            minted = format_shares(entry.shares, decimals)
            yield _plain("deposit", f"{entry.holder} paid in", entry.amount, decimals, None, f"{minted} shares")
        case RedemptionAsked():
            asked = format_shares(entry.shares, decimals)
            waits = format_shares(entry.shares - entry.burned, decimals)
            yield _plain("redemption", f"{entry.holder} asked for {asked} shares", None, decimals, f"{asked} shares",
                         f"{waits} shares wait")  # fmt: skip
            yield from _paid(entry.payments, decimals)
        case Decided():
            for event in entry.events:
                yield _happened(event, instrument(mandate.positions[event.position].symbol), decimals)
            raised = sum(moved.amount for moved in entry.transfers if moved.edge == Edge.ratchet)
            if raised:
                yield _plain("ratchet", "high-water mark raised: cushion to reserve", raised, decimals, None,
                             f"wall {format_amount(entry.wall, decimals)}")  # fmt: skip
            yield from _paid(entry.payments, decimals)


def _paid(payments: Iterable[Payment], decimals: int) -> Iterator[dict[str, Any]]:
    for payment in payments:
        yield _plain("payment", f"{payment.holder} was paid", -payment.assets, decimals,
                     f"{format_shares(payment.shares + payment.remaining, decimals)} shares wait",
                     f"{format_shares(payment.remaining, decimals)} shares wait")  # fmt: skip


def _plain(
    kind: str,
    why: str,
    amount: int | None = None,
    decimals: int = 0,
    before: str | None = None,
    after: str | None = None,
) -> dict[str, Any]:
    return {"ts": 0, "kind": kind, "position": None, "cause": why, "before": before, "after": after,
            "amount": None if amount is None else format_amount(amount, decimals)}  # fmt: skip


def _happened(event: Happened, traded: Instrument, decimals: int) -> dict[str, Any]:
    return {
        "ts": event.ts,
        "kind": event.kind.name,
        "position": event.position,
        "cause": cause(event),
        "before": f"{traded.quantity_text(event.quantity_before)} {traded.base}",
        "after": f"{traded.quantity_text(event.quantity_after)} {traded.base}",
        "amount": format_amount(event.amount, decimals),
        "fee": format_amount(event.fee, decimals),
        "shortfall": format_amount(event.shortfall, decimals),
        "price": format_price(event.price),
        "mark": format_price(event.mark),
        "leverage_before": format_multiple(event.leverage_before),
        "leverage_after": format_multiple(event.leverage_after),
        "liquidation_price": format_price(event.liquidation_price, places=6),
    }
