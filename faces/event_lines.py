"""What the rows of a journal tell, event by event, in words and figures."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ringfence.faces.causes import cause
from ringfence.markets.instruments import Instrument
from ringfence.risk.edges import Edge
from ringfence.risk.events import Kind
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Closing,
    Decided,
    DepositAsked,
    Entry,
    Halted,
    Happened,
    Lived,
    Opened,
    RedemptionAsked,
    Reported,
    ResumeAsked,
    Resumed,
    Walked,
)
from ringfence.vaults.journal import Row
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.queue import Settlement
from ringfence.words.numbers import format_amount, format_multiple, format_price, format_shares

__all__ = ["EVENT_KINDS", "KINDS_TOLD", "found_in", "told"]

KINDS_TOLD = {
    "mandate": "the vault was opened or goes on under another mandate",
    "order": "a holder paid in, to enter at the next strike",
    "deposit": "a holder's money entered the vault for shares",
    "redemption": "a holder asked for shares back",
    "payment": "a holder was paid for shares that were burned",
    "cancelled": "a holder took back an order before its strike",
    "returned": "a deposit bought no share at its strike and went back",
    "ratchet": "the high-water mark rose: money went behind the wall",
    "halted": "the vault decides nothing from then on, who halted it and why",
    "resume_asked": "the first of two steps to end a halt",
    "resumed": "the second: the vault decides again from its next slot on",
    "closing": "the vault winds down for good: positions are closed, everybody is paid, nobody enters",
    "strategy_failure": "a strategy gave no proposal, and why: the mandate says what is done without it",
    Kind.resize.name: "a position was made larger or smaller at a decision",
    Kind.collateral.name: "margin was moved into a position or out of it",
    Kind.funding.name: "a funding stamp was paid or received",
    Kind.margin_call.name: "equity fell below the mandate's own threshold: the position was reduced",
    Kind.liquidation.name: "equity fell below the venue's maintenance margin: the position was closed",
    Kind.refusal.name: "an increase or a close was refused, and by which limit",
    Kind.roll.name: "lots were closed or opened again at a strike, so that open profit stands in cash",
    Kind.rebase_announced.name: "a vault locked for long enough says when its wall is set anew, and where about",
    Kind.rebased.name: "the wall was set anew, as announced: the highest price is that of this strike",
    Kind.locked.name: "less than a twentieth of the full cushion is left above the wall",
    Kind.unlocked.name: "the cushion is back: the vault is no longer locked at its wall",
    Kind.deleveraging.name: "the venue closed lots because somebody else's loss was not covered",
    Kind.by_hand.name: "somebody else traded in the vault's account; the position is stopped",
    "differs": "our books and the venue's are not the same, and nothing explains it: the position is stopped",
}
"""Every kind of event that a journal tells of, in words."""
EVENT_KINDS = tuple(KINDS_TOLD)

_SIDE = '"side":"{}"'
_FOUND_IN: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mandate": ((Opened.kind, Amended.kind), ()),
    "order": ((DepositAsked.kind,), ()),
    "deposit": ((DepositAsked.kind,), (_SIDE.format("deposit"),)),
    "redemption": ((RedemptionAsked.kind,), ()),
    "payment": ((), (_SIDE.format("redemption"),)),
    "cancelled": ((Cancelled.kind,), ()),
    "returned": ((), (_SIDE.format("deposit"),)),
    "ratchet": ((), (f'"edge":"{Edge.ratchet.name}"',)),
    "halted": ((Halted.kind,), ()),
    "resume_asked": ((ResumeAsked.kind,), ()),
    "resumed": ((Resumed.kind,), ()),
    "closing": ((Closing.kind,), ()),
    "differs": ((), ('"differs":[{',)),
    "strategy_failure": ((), ('"failed":{"',)),
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
        case DepositAsked():
            if entry.settled is None:
                yield _plain("order", f"{entry.holder} paid in, to enter at the next strike", entry.amount, decimals)
            else:
                yield from _settled((entry.settled,), decimals)
        case RedemptionAsked():
            asked = format_shares(entry.shares, decimals)
            yield _plain("redemption", f"{entry.holder} asked for {asked} shares", None, decimals, f"{asked} shares",
                         f"{asked} shares wait")  # fmt: skip
        case Cancelled():
            amount = entry.remaining if entry.side == "deposit" else None
            what = "the deposit" if amount is not None else f"{format_shares(entry.remaining, decimals)} shares"
            yield _plain("cancelled", f"{entry.holder} took {what} back before the strike", amount, decimals)
        case Halted():
            yield _plain("halted", f"by {entry.by}: {entry.why}")
            for breach in entry.breaches:
                yield _plain("halted", breach)
        case ResumeAsked():
            yield _plain("resume_asked", f"by {entry.by}: {entry.why}")
        case Resumed():
            yield _plain("resumed", f"by {entry.by}: {entry.why}")
        case Closing():
            yield _plain("closing", f"by {entry.by}: {entry.why}")
        case Reported():
            yield from _events(entry, mandate, decimals)
            for one in entry.differs:
                found = _plain("differs", one.what, None, 0, f"ours: {one.ours}", f"the venue's: {one.theirs}")
                yield found | {"position": one.position}
        case Walked():
            yield from _events(entry, mandate, decimals)
        case Decided():
            for name, failure in entry.failed.items():
                yield _plain("strategy_failure", f"no proposal ({failure.kind}): {failure.told}") | {"position": name}
            yield from _events(entry, mandate, decimals)
            raised = sum(moved.amount for moved in entry.transfers if moved.edge == Edge.ratchet)
            if raised:
                yield _plain("ratchet", "high-water mark raised: cushion to reserve", raised, decimals, None,
                             f"wall {format_amount(entry.wall, decimals)}")  # fmt: skip
            yield from _settled(entry.settlements, decimals)


def _settled(settlements: Iterable[Settlement], decimals: int) -> Iterator[dict[str, Any]]:
    for one in settlements:
        shares = f"{format_shares(one.shares, decimals)} shares"
        cost = f" (trading for it cost {format_amount(one.cost, decimals)})" if one.cost else ""
        if one.side == "redemption":
            before = f"{format_shares(one.shares + one.remaining, decimals)} shares wait"
            yield _plain("payment", f"{one.holder} was paid{cost}", -one.paid, decimals, before,
                         f"{format_shares(one.remaining, decimals)} shares wait")  # fmt: skip
        elif one.shares:
            yield _plain("deposit", f"{one.holder} paid in{cost}", one.assets, decimals, None, shares)
        else:
            yield _plain("returned", f"{one.holder}'s deposit buys no share and went back{cost}", -one.paid, decimals)


def _events(entry: Lived | Reported, mandate: Mandate, decimals: int) -> Iterator[dict[str, Any]]:
    traded = instruments_of(mandate) if entry.events else {}
    for event in entry.events:
        yield from _event(event, traded, decimals)


def _event(event: Happened, traded: Mapping[str, Instrument], decimals: int) -> Iterator[dict[str, Any]]:
    if event.position is None:
        happened = _plain(event.kind.name, cause(event), event.amount, decimals)
        yield {**happened, "ts": event.ts}
    else:
        yield _happened(event, traded[event.position], decimals)


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
