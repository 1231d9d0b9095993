"""Reconciliation: where our books of an account and the exchange's differ, and what is to be booked. Pure.

What is not answered is `Silent`, which is neither an empty answer nor a flat position; a row that cannot be read is one
difference and no more. First what happened there is booked here: fills, funding, endings, orders that have ended.
Quantity, cost, margin and cash are compared once nothing is left to book that could explain them: what then differs has
no cause that is known, and its leg is halted. So a repetition after booking gives only what cannot be booked, or
nothing.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar

from ringfence.markets.errors import ExchangeRefused, NoAnswer
from ringfence.markets.exchange.protocol import (
    Balance,
    Ending,
    Exchange,
    Fill,
    Funding,
    Liquidated,
    Moved,
    NotFound,
    OrderState,
    Position,
    Unreadable,
)

__all__ = ["Books", "Cause", "Difference", "Silent", "Theirs", "differences", "read_books"]

_Row = TypeVar("_Row", Fill, Moved, Funding, Ending)
_Answer = TypeVar("_Answer")
Booking = Fill | Moved | Funding | Ending | OrderState


class Cause(StrEnum):
    """What a difference is."""

    fill_missing = "fill_missing"
    """An order of ours filled, and we have not booked it."""
    fill_by_hand = "fill_by_hand"
    """Somebody else traded in the account. It is booked, and its leg halted."""
    fill_denied = "fill_denied"
    """We have booked a fill that the exchange does not know, or knows otherwise."""
    move_missing = "move_missing"
    """Collateral moved, and we have not booked it."""
    move_denied = "move_denied"
    """We have booked a move that the exchange does not know, or knows otherwise."""
    funding_missing = "funding_missing"
    """A payment that we have not booked."""
    funding_differs = "funding_differs"
    """We have booked another amount or rate at that stamp, or the exchange knows of none."""
    liquidated = "liquidated"
    deleveraged = "deleveraged"
    ending_denied = "ending_denied"
    """We have booked an ending that the exchange does not know, or knows otherwise."""
    order_ended = "order_ended"
    """An order that is open here has ended there, or filled further."""
    order_open = "order_open"
    """An order that has ended here is open there: it can still fill, and is to be cancelled."""
    order_lost = "order_lost"
    """An order that is open here is not known there."""
    order_by_hand = "order_by_hand"
    """Somebody else's order is open in the account."""
    position_by_hand = "position_by_hand"
    """A position where we never had one."""
    quantity = "quantity"
    cost = "cost"
    margin = "margin"
    wallet = "wallet"
    held = "held"
    """Of the account: what its orders hold."""
    unreadable = "unreadable"
    """A row that cannot be read: its leg is not known to be anything."""
    silent = "silent"
    """There was no answer: nothing is known, least of all that there is nothing."""


_HALTING = frozenset({
    Cause.fill_by_hand, Cause.fill_denied, Cause.move_denied, Cause.funding_differs, Cause.ending_denied,
    Cause.order_lost, Cause.order_by_hand, Cause.position_by_hand,
    Cause.quantity, Cause.cost, Cause.margin, Cause.wallet, Cause.held,
})  # fmt: skip

_OF_OTHER_FIGURES = frozenset({Cause.order_open, Cause.order_lost, Cause.order_by_hand, Cause.silent})
"""Those that leave what stands in a position as it is."""


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in both books."""

    cause: Cause
    leg: str
    """The instrument; "" where it is the whole account's or not even that could be read."""
    ours: object = None
    """What stands here; None: nothing."""
    theirs: object = None
    """What stands there; None: nothing."""
    booking: Booking | None = None
    """What to book so that it is the same."""

    @property
    def halts(self) -> bool:
        """Whether the leg (the account, where it has none) must stop until a person has looked."""
        return self.cause in _HALTING


@dataclass(frozen=True)
class Silent:
    """No answer to a question."""

    reason: str


@dataclass(frozen=True)
class Books:
    """An account's books from `since` (UTC ms) on."""

    since: int
    positions: tuple[Position, ...] = ()
    orders: tuple[OrderState, ...] = ()
    """All that may still be open, and those that ended since."""
    fills: tuple[Fill, ...] = ()
    moves: tuple[Moved, ...] = ()
    fundings: tuple[Funding, ...] = ()
    endings: tuple[Ending, ...] = ()
    balance: Balance = field(default=Balance(0, 0))


@dataclass(frozen=True)
class Theirs:
    """What the exchange answered, question by question, and row by row."""

    positions: tuple[Position | Unreadable, ...] | Silent
    open_orders: tuple[OrderState | Unreadable, ...] | Silent
    orders: Mapping[str, OrderState | NotFound | Silent]
    """Asked by name: of every order that is open in our books."""
    fills: tuple[Fill | Unreadable, ...] | Silent
    moves: tuple[Moved | Unreadable, ...] | Silent
    fundings: tuple[Funding | Unreadable, ...] | Silent
    endings: tuple[Ending | Unreadable, ...] | Silent
    balance: Balance | Silent


def differences(ours: Books, theirs: Theirs) -> list[Difference]:
    """What differs: what happened, in the order in which it did, then orders, then figures. What is to be booked is to
    be booked in this order."""
    happened = sorted(_happened(ours, theirs), key=_place)
    blind = any(isinstance(part, Silent) for part in (theirs.fills, theirs.moves, theirs.fundings, theirs.endings))
    dark = {one.leg for one in happened if one.cause is Cause.unreadable}
    found = [_withheld(one) if blind or dark & {one.leg, ""} else one for one in happened]
    found += _orders(ours, theirs)
    unsure = {one.leg for one in found if one.cause not in _OF_OTHER_FIGURES}
    found += _positions(ours, theirs, unsure, blind)
    if not (blind or unsure):
        found += _balance(ours, theirs)
    return found


def _place(difference: Difference) -> int:
    """In the account's history; first what has none."""
    there = difference.theirs
    return there.sequence if isinstance(there, Fill | Moved | Funding | Ending) else 0


def _withheld(difference: Difference) -> Difference:
    """Not to be booked while something that happened before it may not have been read."""
    return replace(difference, booking=None)


# What happened


def _happened(ours: Books, theirs: Theirs) -> Iterator[Difference]:
    names = {order.client_id for order in ours.orders}

    def of_fill(fill: Fill) -> Cause:
        return Cause.fill_missing if fill.client_id in names else Cause.fill_by_hand

    yield from _history("fills", ours.fills, theirs.fills, lambda fill: fill.trade, of_fill, Cause.fill_denied)
    yield from _history(
        "moves", ours.moves, theirs.moves, lambda move: move.trade, lambda _: Cause.move_missing, Cause.move_denied
    )
    yield from _history(
        "fundings", ours.fundings, theirs.fundings, lambda paid: (paid.instrument, paid.stamp),
        lambda _: Cause.funding_missing, Cause.funding_differs,
    )  # fmt: skip
    yield from _history(
        "endings", ours.endings, theirs.endings, lambda ending: ending.trade, _ended, Cause.ending_denied
    )


def _ended(ending: Ending) -> Cause:
    return Cause.liquidated if isinstance(ending, Liquidated) else Cause.deleveraged


def _history(
    part: str, ours: Iterable[_Row], theirs: Iterable[_Row | Unreadable] | Silent, key: Callable[[_Row], Hashable],
    cause: Callable[[_Row], Cause], denied: Cause,
) -> Iterator[Difference]:  # fmt: skip
    """Rows of one kind, each known by its key; twice the same is once. More than five arguments because the three kinds
    are one comparison."""
    if isinstance(theirs, Silent):
        yield Difference(Cause.silent, "", part, theirs)
        return
    mine, there, unreadable = {key(row): row for row in ours}, dict[Hashable, _Row](), set[str]()
    for row in theirs:
        if isinstance(row, Unreadable):
            unreadable.add(row.instrument)
            yield Difference(Cause.unreadable, row.instrument, part, row)
        else:
            there[key(row)] = row
    for name, row in there.items():
        if name not in mine:
            yield Difference(cause(row), row.instrument, None, row, row)
        elif mine[name] != row:
            yield Difference(denied, row.instrument, mine[name], row)
    for name, row in mine.items():
        # what cannot be read may be the very row
        if name not in there and not unreadable & {row.instrument, ""}:
            yield Difference(denied, row.instrument, row, None)


# Orders


def _orders(ours: Books, theirs: Theirs) -> Iterator[Difference]:
    mine = {order.client_id: order for order in ours.orders}
    for name, order in mine.items():
        if not order.is_final:
            yield from _still_open(order, theirs.orders.get(name, Silent("it was not asked for")))
    if isinstance(theirs.open_orders, Silent):
        yield Difference(Cause.silent, "", "open_orders", theirs.open_orders)
        return
    for row in dict.fromkeys(theirs.open_orders):
        if isinstance(row, Unreadable):
            yield Difference(Cause.unreadable, row.instrument, "open_orders", row)
        elif row.client_id not in mine:
            yield Difference(Cause.order_by_hand, row.instrument, None, row)
        elif mine[row.client_id].is_final:
            yield Difference(Cause.order_open, row.instrument, mine[row.client_id], row)


def _still_open(order: OrderState, there: OrderState | NotFound | Silent) -> Iterator[Difference]:
    """An order that is open in our books, and what the exchange says of it by name."""
    match there:
        case Silent():
            yield Difference(Cause.silent, order.instrument, order, there)
        case NotFound():
            yield Difference(Cause.order_lost, order.instrument, order, there)
        case OrderState() if there != order:
            yield Difference(Cause.order_ended, order.instrument, order, there, there)


# Figures


def _positions(ours: Books, theirs: Theirs, unsure: set[str], blind: bool) -> Iterator[Difference]:
    if isinstance(theirs.positions, Silent):
        yield Difference(Cause.silent, "", "positions", theirs.positions)
        return
    mine = {position.instrument: position for position in ours.positions}
    there: dict[str, Position] = {}
    unreadable = set()
    for row in dict.fromkeys(theirs.positions):
        if isinstance(row, Unreadable):
            unreadable.add(row.instrument)
            yield Difference(Cause.unreadable, row.instrument, "positions", row)
        else:
            there[row.instrument] = row
    for leg in sorted(mine.keys() | there.keys()):
        # an unreadable row without a name may be that of any leg that is not among the others
        hidden = leg in unreadable or (leg not in there and "" in unreadable)
        if not (blind or hidden or unsure & {leg, ""}):
            yield from _figures(leg, mine.get(leg), there.get(leg))


def _figures(leg: str, here: Position | None, there: Position | None) -> Iterator[Difference]:
    """One position in both books, with nothing left to book that could explain what differs."""
    mine, found = here or Position(leg, 0, 0, 0), there or Position(leg, 0, 0, 0)
    if here is None and found.quantity:
        yield Difference(Cause.position_by_hand, leg, None, found)
        return
    for cause in (Cause.quantity, Cause.cost, Cause.margin):
        own, other = getattr(mine, cause), getattr(found, cause)
        if own != other:
            yield Difference(cause, leg, own, other)


def _balance(ours: Books, theirs: Theirs) -> Iterator[Difference]:
    if isinstance(theirs.balance, Silent):
        yield Difference(Cause.silent, "", "balance", theirs.balance)
        return
    for cause in (Cause.wallet, Cause.held):
        own, other = getattr(ours.balance, cause), getattr(theirs.balance, cause)
        if own != other:
            yield Difference(cause, "", own, other)


# Reading


def read_books(exchange: Exchange, account: str, since: int, names: Iterable[str]) -> Theirs:
    """The exchange's books of an account from `since` (UTC ms) on, and its orders of those names.

    Positions are asked for before everything else and again after it: where something happened meanwhile the two are
    not the same, and they count as not answered.
    """

    def asked(question: Callable[..., _Answer], *words: Any) -> _Answer | Silent:
        try:
            return question(*words)
        except (NoAnswer, ExchangeRefused) as refusal:
            return Silent(str(refusal))

    before = asked(exchange.positions, account)
    theirs = Theirs(
        before,
        asked(exchange.open_orders, account),
        {name: asked(exchange.order, account, name) for name in names},
        asked(exchange.fills, account, since),
        asked(exchange.moves, account, since),
        asked(exchange.fundings, account, since),
        asked(exchange.endings, account, since),
        asked(exchange.balance, account),
    )
    after = asked(exchange.positions, account)
    if isinstance(after, Silent) or set(after) != set(before if not isinstance(before, Silent) else ()):
        return replace(theirs, positions=Silent("something happened while the books were read"))
    return theirs
