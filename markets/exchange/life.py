"""The life of an order as whoever gave it keeps it: committed, sent, unknown or open, final. Pure; every step is one
function, and there is none from unknown to final that a clock could call.

    committed, absent   sending       -> sent
    sent                answered      -> open, final, unknown
    committed, sent     left_behind   -> unknown, for whoever was sending is gone
    open, unknown       read          -> open, final, by what the exchange's books say
    unknown             read twice    -> absent, where that is proved
    committed, absent   abandoned     -> final

An order is proved absent by two reads in which the exchange does not know its name and holds the position that our
books hold. It may then be sent again, under the same name, or given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ringfence.markets.exchange.protocol import (
    Accepted,
    Answer,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Rejected,
    Unknown,
)

__all__ = ["Life", "Phase", "Proof", "Read", "abandoned", "answered", "cancelling", "ended_by_proof", "left_behind",
           "margin_ended_by_proof", "read", "sending"]  # fmt: skip

_READS = 2


class Phase(StrEnum):
    """Where an order stands."""

    committed = "committed"
    """Written down and not sent yet."""
    sent = "sent"
    """On its way: the one that sends it waits for the answer."""
    unknown = "unknown"
    """Nobody knows whether the exchange has it. No new risk on its position."""
    absent = "absent"
    """Proved: the exchange does not have it and will not."""
    open = "open"
    """The exchange has it, and more may fill."""
    final = "final"
    """Nothing more will happen to it."""


@dataclass(frozen=True)
class Read:
    """What the exchange's books said of an order and its position, asked in this order."""

    order: OrderState | NotFound
    quantity: int
    """Lots that the exchange holds, 0 where its answer has no such position."""


class Proof(StrEnum):
    """What the reads of an order prove."""

    found = "found"
    absent = "absent"


def ended_by_proof(reads: Sequence[Read], held: int) -> Proof | None:
    """What the reads since an order became unknown prove, the last one last; None: nothing yet.

    `held`: signed lots of its position by our books, all fills and endings that are known booked. Found once a read
    finds it. Absent where the last two did not, and the position was the one of our books in both.
    """
    if reads and isinstance(reads[-1].order, OrderState):
        return Proof.found
    last = reads[-_READS:]
    if len(last) == _READS and all(isinstance(one.order, NotFound) and one.quantity == held for one in last):
        return Proof.absent
    return None


@dataclass(frozen=True)
class Life:
    """One order from its intent to its end."""

    request: OrderRequest
    phase: Phase = Phase.committed
    state: OrderState | None = None
    """As the exchange last said; None while it has not said anything."""
    reads: tuple[Read, ...] = ()
    """Since it became unknown."""
    reason: str = ""
    """Why nobody knows, or why it ended."""

    @property
    def blocks(self) -> bool:
        """Whether no new risk may be taken on its position, and its collateral must stay where it is."""
        return self.phase not in (Phase.absent, Phase.final)

    @property
    def filled(self) -> int:
        """Signed lots that are known to have filled."""
        return 0 if self.state is None else self.state.filled


def _in(life: Life, *phases: Phase) -> None:
    if life.phase not in phases:
        raise ValueError(f"an order that is {life.phase} was to be treated as one that is {' or '.join(phases)}")


def sending(life: Life) -> Life:
    """It is about to be sent, which is committed before it is done. Only what was never sent, or is proved absent."""
    _in(life, Phase.committed, Phase.absent)
    return replace(life, phase=Phase.sent, reads=(), reason="")


def answered(life: Life, answer: Answer) -> Life:
    """What the exchange said to its sending."""
    _in(life, Phase.sent)
    match answer:
        case Accepted(order=OrderState() as state):
            return _standing(life, state)
        case Accepted():
            return replace(life, phase=Phase.unknown, reason="accepted, and nothing said of the order")
        case Rejected(reason):
            return replace(life, phase=Phase.final, reason=reason)
        case Unknown(what):
            return replace(life, phase=Phase.unknown, reason=what)


def left_behind(life: Life) -> Life:
    """Found by somebody else than the one who committed it: it may have been sent or not, and answered or not."""
    if life.phase not in (Phase.committed, Phase.sent):
        return life
    return replace(life, phase=Phase.unknown, reads=(), reason="whoever was to send it is gone")


def read(life: Life, found: Read, held: int) -> Life:
    """What the exchange's books say of an open or unknown order; `held` as `ended_by_proof` has it. One that the
    exchange had and does not know any more stays open: that is a difference, to be found by reconciliation."""
    _in(life, Phase.open, Phase.unknown)
    if isinstance(found.order, OrderState):
        return _standing(life, found.order)
    if life.phase is Phase.open:
        return life
    reads = (*life.reads, found)[-_READS:]
    if ended_by_proof(reads, held) is Proof.absent:
        return replace(life, phase=Phase.absent, reads=reads, reason="it never came to the exchange")
    return replace(life, reads=reads)


def abandoned(life: Life) -> Life:
    """It is not wanted any more, and the exchange never had it."""
    _in(life, Phase.committed, Phase.absent)
    return replace(life, phase=Phase.final, reason=life.reason or "given up before it was sent")


def cancelling(life: Life, answer: Answer) -> Life:
    """What the exchange said when it was to take the order back; a lost answer makes nothing known unknown: the order
    stays open until its state is read."""
    _in(life, Phase.open)
    return _standing(life, answer.order) if isinstance(answer, Accepted) and answer.order is not None else life


def _standing(life: Life, state: OrderState) -> Life:
    """A state that is older than one that is known already changes nothing: fills never become fewer."""
    known = life.state
    if known is not None and (abs(state.filled) < abs(known.filled) or (known.is_final and not state.is_final)):
        state = known
    phase = Phase.final if state.is_final else Phase.open
    return replace(life, phase=phase, state=state, reads=(), reason=state.reason)


def margin_ended_by_proof(amount: int, reads: Sequence[Sequence[Moved]]) -> Proof | None:
    """Whether a request to move `amount` was done, by what was read since it became unknown, the last read last: of
    each the moves of its position that our books do not have. Found once there is one of that amount; absent where the
    last two reads had none at all."""
    if reads and any(one.amount == amount for one in reads[-1]):
        return Proof.found
    if len(reads) >= _READS and not any(reads[-_READS:]):
        return Proof.absent
    return None
