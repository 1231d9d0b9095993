"""What the rows of a journal tell, event by event, in words and figures."""

from collections.abc import Iterator, Sequence
from typing import Any

from ringfence.faces.causes import cause
from ringfence.markets.instruments import Instrument
from ringfence.risk.edges import Edge
from ringfence.risk.events import Event, Kind
from ringfence.words.numbers import format_amount, format_multiple, format_price, format_shares

__all__ = ["EVENT_KINDS", "told"]

_ACTS = ("mandate", "deposit", "redemption", "payment", "ratchet")
EVENT_KINDS = (*_ACTS, *(kind.name for kind in Kind))
"""Every kind of event that a journal tells of."""


def told(
    kind: str, ts: int, body: dict[str, Any], names: Sequence[str], traded: Sequence[Instrument], decimals: int
) -> Iterator[dict[str, Any]]:
    """The events of one row of a journal, `ts` the row's own time; `names` and `traded` are the vault's positions."""
    for event in _told(kind, body, names, traded, decimals):
        yield {**event, "ts": event["ts"] or ts}


def _told(
    kind: str, body: dict[str, Any], names: Sequence[str], traded: Sequence[Instrument], decimals: int
) -> Iterator[dict[str, Any]]:
    from ringfence.runtime.journals import event_from  # brings the compiled step along, which most readings do without

    if kind == "mandate":
        yield _plain("mandate", f"opened under mandate {body['fingerprint'][:12]}")
    elif kind == "deposit":
        minted = format_shares(body["shares"], decimals)
        yield _plain("deposit", f"{body['holder']} paid in", body["amount"], decimals, None, f"{minted} shares")
    elif kind == "redeem":
        asked = format_shares(body["shares"], decimals)
        yield _plain("redemption", f"{body['holder']} asked for {asked} shares", None, decimals, f"{asked} shares",
                     f"{format_shares(body['shares'] - body['burned'], decimals)} shares wait")  # fmt: skip
    elif kind == "slot":
        for event in body["events"]:
            yield _happened(event_from(event), names, traded, decimals)
        raised = sum(amount for edge, _, amount in body["transfers"] if edge == Edge.ratchet)
        if raised:
            yield _plain("ratchet", "high-water mark raised: cushion to reserve", raised, decimals, None,
                         f"wall {format_amount(body['wall'], decimals)}")  # fmt: skip
    for _, holder, burned, from_reserve, from_cushion, remaining in body.get("payments", ()):
        yield _plain("payment", f"{holder} was paid", -(from_reserve + from_cushion), decimals,
                     f"{format_shares(burned + remaining, decimals)} shares wait",
                     f"{format_shares(remaining, decimals)} shares wait")  # fmt: skip


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


def _happened(event: Event, names: Sequence[str], traded: Sequence[Instrument], decimals: int) -> dict[str, Any]:
    one = traded[event.position]
    return {
        "ts": event.ts,
        "kind": event.kind.name,
        "position": names[event.position],
        "cause": cause(event),
        "before": f"{one.quantity_text(event.quantity_before)} {one.base}",
        "after": f"{one.quantity_text(event.quantity_after)} {one.base}",
        "amount": format_amount(event.amount, decimals),
        "fee": format_amount(event.fee, decimals),
        "shortfall": format_amount(event.shortfall, decimals),
        "price": format_price(event.price),
        "mark": format_price(event.mark),
        "leverage_before": format_multiple(event.leverage_before),
        "leverage_after": format_multiple(event.leverage_after),
        "liquidation_price": format_price(event.liquidation_price, places=6),
    }
