"""What the rows of a journal tell, event by event, in words and figures."""

from collections.abc import Iterable, Iterator
from typing import Any

from ringfence.faces.causes import cause
from ringfence.markets.instruments import Instrument
from ringfence.risk.edges import Edge
from ringfence.risk.events import Kind
from ringfence.vaults.entries import Amended, Decided, Deposited, Entry, Happened, Opened, RedemptionAsked
from ringfence.vaults.journal import Row
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.queue import Payment
from ringfence.words.numbers import format_amount, format_multiple, format_price, format_shares

__all__ = ["EVENT_KINDS", "told"]

_ACTS = ("mandate", "deposit", "redemption", "payment", "ratchet")
EVENT_KINDS = (*_ACTS, *(kind.name for kind in Kind))
"""Every kind of event that a journal tells of."""


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
            traded = instruments_of(mandate) if entry.events else {}
            for event in entry.events:
                yield _happened(event, traded[event.position], decimals)
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
