"""The exchange: what a venue with books of its own is asked and what it answers, whichever it is.

It outlives whoever asks it, fills when it likes, and acts by itself (funding, liquidation, auto-deleveraging). Each
call waits, for a limited time, because a vault is stepped by one process in one unit of work that has nothing else to
do meanwhile; no loop of events is needed, and the library that speaks to real exchanges has the same form.

Two kinds of verb. Those that change something answer with a value, so that nobody can overlook that the answer may be
`Unknown`: nobody knows whether it happened. Those that read raise NoAnswer (nothing is known that was not known before)
or ExchangeRefused (and nothing will be while the question stays the same). No answer is never an answer.

A speaker of this protocol answers NotFound only once no request sent before can take effect any more: a real exchange's
receive window must be over. Amounts are int minor units, lots int and signed, prices float64, times UTC ms.
"""

import json
from base64 import b32encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import NewType, Protocol

__all__ = ["NAME_USED", "Accepted", "Answer", "Balance", "ClientId", "Deleveraged", "Ending", "Exchange", "Fill",
           "Funding", "Liquidated", "MarginRequest", "Moved", "NotFound", "OrderRequest", "OrderState",
           "Position", "Rejected", "Unknown", "Unreadable", "client_id"]  # fmt: skip

ClientId = NewType("ClientId", str)
"""The name that whoever gives an order gives it: at most 28 letters and digits, which the strictest exchanges take."""

NAME_USED = "an order of that name is known"
"""Why an exchange refuses to take an order twice. Whoever gave it is told `Unknown`, for its fate is to be read."""

_PREFIX, _CHARACTERS = "rf", 26


def client_id(vault: str, tick: int, position: str, purpose: str, round: int) -> ClientId:
    """The name of the order of that round for that purpose, for one position at one tick (UTC ms).

    A pure function, so that whoever comes after a crash asks for the same order. The five are written as JSON, in which
    no two different fives look alike, and hashed: names may be longer than an exchange takes and hold what it refuses.
    Of the hash (BLAKE2b) 130 bits are kept: among 10**12 orders two share a name with a probability below 10**-15.
    """
    named = json.dumps([vault, tick, position, purpose, round], separators=(",", ":")).encode()
    hashed = b32encode(blake2b(named, digest_size=20).digest()).decode().lower()
    return ClientId(_PREFIX + hashed[:_CHARACTERS])


# What is asked


@dataclass(frozen=True)
class OrderRequest:
    """Lots at the market. Refused: ValueError for no lots, negative margin, or margin with a reduction."""

    client_id: ClientId
    account: str
    instrument: str
    lots: int
    """Bought (+) or sold (-)."""
    reduce_only: bool
    margin: int = 0
    """Collateral that moves into the position with the first lots that fill, and back if none do."""

    def __post_init__(self) -> None:
        if self.lots == 0 or self.margin < 0 or (self.reduce_only and self.margin):
            raise ValueError(f"no order: {self}")


@dataclass(frozen=True)
class MarginRequest:
    """Collateral into (+) an isolated position or out of it (-). Exchanges take no name for it: whether it happened is
    read back from `moves`, so no second one is asked for while a first is unknown. Refused: ValueError for no
    amount."""

    account: str
    instrument: str
    amount: int

    def __post_init__(self) -> None:
        if self.amount == 0:
            raise ValueError(f"no collateral: {self}")


# What is answered


@dataclass(frozen=True)
class OrderState:
    """How an order stands."""

    client_id: str
    instrument: str
    lots: int
    """As they were ordered, signed."""
    filled: int
    """Of them so far, of the same sign."""
    cost: int
    """What these were bought or sold for, minor units: the average price, exact."""
    price: float
    """The average price, rounded: that of the fill where there is one. 0.0 where nothing has filled."""
    fee: int
    """What was charged so far."""
    is_final: bool
    """Whether nothing more will happen to it."""
    reason: str = ""
    """Why it ended before all of it had filled; "" while it is open or where all has."""


@dataclass(frozen=True)
class NotFound:
    """The exchange knows no order of that name, and none that was sent before this answer will come up any more."""

    client_id: str


@dataclass(frozen=True)
class Accepted:
    """It was done."""

    order: OrderState | None = None
    """How the order stood then; None of collateral."""


@dataclass(frozen=True)
class Rejected:
    """It was not done, and will not be."""

    reason: str
    transient: bool = False
    """Whether the same may be accepted later without anybody changing anything."""


@dataclass(frozen=True)
class Unknown:
    """Nobody knows whether it was done. No time that passes makes this a refusal: it ends by proof, see `life`."""

    what_happened: str


Answer = Accepted | Rejected | Unknown


# What an exchange's books hold


@dataclass(frozen=True)
class Fill:
    """Some lots of an order that were bought or sold."""

    trade: str
    """The exchange's name for it; two of the same name are one."""
    client_id: str
    """Of its order; whatever the exchange calls it where somebody else gave it."""
    instrument: str
    lots: int
    price: float
    mark: float
    """The mark at which it happened."""
    fee: int
    """What was charged: no more than the margin had."""
    realised: int
    """Profit (+) or loss (-) of lots that it closed, before the fee; past the margin it is the exchange's."""
    margin: int
    """Collateral that moved into the position with it."""
    ts: int
    sequence: int
    """Its place among all that happened to the account, of every kind: what happened later has a higher one."""


@dataclass(frozen=True)
class Position:
    """An isolated position."""

    instrument: str
    quantity: int
    cost: int
    """What the open lots were bought or sold for: an exact cost basis."""
    margin: int


@dataclass(frozen=True)
class Moved:
    """Collateral that moved on request."""

    trade: str
    """The exchange's name for it, as for a fill."""
    instrument: str
    amount: int
    """Into the position (+) or out of it (-)."""
    ts: int
    sequence: int


@dataclass(frozen=True)
class Funding:
    """One funding payment."""

    instrument: str
    stamp: int
    rate: float
    mark: float
    amount: int
    """Received (+) or due (-); what the margin could not pay went into the cost basis."""
    sequence: int


@dataclass(frozen=True)
class Ending:
    """Lots that the exchange closed by itself."""

    trade: str
    instrument: str
    lots: int
    """Bought (+) or sold (-)."""
    price: float
    mark: float
    fee: int
    """What was charged: no more than the margin had."""
    realised: int
    """Profit (+) or loss (-) before the fee, the shortfall included."""
    shortfall: int
    """What the loss was more than the margin: the exchange's own."""
    returned: int
    """Margin that went back to the wallet."""
    ts: int
    sequence: int


@dataclass(frozen=True)
class Liquidated(Ending):
    """The position fell below its maintenance margin and was closed whole; what was left went back to the wallet."""


@dataclass(frozen=True)
class Deleveraged(Ending):
    """The exchange closed lots of a position in profit because somebody else's loss was not covered."""


@dataclass(frozen=True)
class Balance:
    """What an account has outside its positions."""

    wallet: int
    """Free."""
    held: int
    """By orders, for the margin that moves with them."""


@dataclass(frozen=True)
class Unreadable:
    """A row of an answer that cannot be read. It says nothing of other rows, and is no row that is not there."""

    reason: str
    instrument: str = ""
    """Whose it is, where at least that could be read."""


class Exchange(Protocol):
    """Isolated margin at one exchange; an account is a vault's alone."""

    def time(self) -> int:
        """The exchange's clock."""

    def place(self, request: OrderRequest) -> Answer:
        """Give an order. One whose name is known already is not taken again, and the answer is Unknown."""

    def cancel(self, account: str, client_id: str) -> Answer:
        """Take back what is open of an order; one that has ended is refused."""

    def move_margin(self, request: MarginRequest) -> Answer:
        """Move collateral. Whatever the answer: it is booked from `moves`, where it has its place."""

    def order(self, account: str, client_id: str) -> OrderState | NotFound:
        """How an order stands, ended ones included."""

    def open_orders(self, account: str) -> tuple[OrderState | Unreadable, ...]:
        """Those that have not ended."""

    def positions(self, account: str) -> tuple[Position | Unreadable, ...]:
        """All that hold lots or margin."""

    def fills(self, account: str, since: int) -> tuple[Fill | Unreadable, ...]:
        """From `since` on, in order; some may come twice."""

    def fundings(self, account: str, since: int) -> tuple[Funding | Unreadable, ...]:
        """Of stamps from `since` on, in order; some may come twice."""

    def moves(self, account: str, since: int) -> tuple[Moved | Unreadable, ...]:
        """Collateral that moved on request from `since` on, in order; some may come twice."""

    def endings(self, account: str, since: int) -> tuple[Ending | Unreadable, ...]:
        """Liquidations and auto-deleveraging from `since` on, in order; some may come twice."""

    def balance(self, account: str) -> Balance:
        """What the account has outside its positions."""
