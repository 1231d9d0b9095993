"""The edges of the ledger: between which accounts money may move at all. The numbers are the kernel's and the schema's.

There is no edge from the reserve to a margin: what stands behind the wall leaves to a redeeming holder, or to the
cushion at a rebase that every holder was told of in time to leave.
"""

from enum import IntEnum, StrEnum

__all__ = ["MAY_BE_NEGATIVE", "OF_POSITIONS", "AccountKind", "Edge"]


class AccountKind(StrEnum):
    """The kinds of account of one vault; every position has its own of those that are `OF_POSITIONS`."""

    reserve = "reserve"
    cushion = "cushion"
    entering = "entering"
    """Deposits that wait for the strike that puts them to work; no part of NAV."""
    margin = "margin"
    order_margin = "order_margin"
    """Collateral on its way into a position: its venue was asked to take it, and has not said that it did. Every
    position has one of its own."""
    venue = "venue"
    """The venue's side of the vault's profit and loss."""
    costs = "costs"
    """What the venue took: its fees for trading and for liquidating."""
    funding = "funding"
    shortfall = "shortfall"
    """What the venue lost past a margin."""
    world = "world"
    """The holders' side: minus what they have paid in, net."""


OF_POSITIONS = frozenset({AccountKind.margin, AccountKind.order_margin})

MAY_BE_NEGATIVE = frozenset(
    {AccountKind.venue, AccountKind.funding, AccountKind.shortfall, AccountKind.world},
)
"""The other side of the vault's money; every other account is the vault's own cash and never falls below zero."""


class Edge(IntEnum):
    """One allowed transfer: it debits (lowers) one kind of account and credits (raises) another."""

    redeem_reserve = 3
    redeem_cushion = 4
    ratchet = 5
    post = 6
    release = 7
    loss = 8
    profit = 9
    fee = 10
    liquidation_fee = 11
    funding_paid = 12
    funding_received = 13
    shortfall = 14
    pay_in = 15
    admit = 16
    pay_back = 17
    rebase = 18
    commit = 19
    give_back = 20

    @property
    def debit(self) -> AccountKind:
        """The kind of account whose balance falls."""
        return _ENDS[self][0]

    @property
    def credit(self) -> AccountKind:
        """The kind of account whose balance rises."""
        return _ENDS[self][1]

    @property
    def of_position(self) -> bool:
        """Whether the transfer touches a position's own account and so names the position."""
        return not OF_POSITIONS.isdisjoint(_ENDS[self])


_ENDS: dict[Edge, tuple[AccountKind, AccountKind]] = {
    Edge.redeem_reserve: (AccountKind.reserve, AccountKind.world),
    Edge.redeem_cushion: (AccountKind.cushion, AccountKind.world),
    Edge.ratchet: (AccountKind.cushion, AccountKind.reserve),
    Edge.post: (AccountKind.cushion, AccountKind.margin),
    Edge.release: (AccountKind.margin, AccountKind.cushion),
    Edge.loss: (AccountKind.margin, AccountKind.venue),
    Edge.profit: (AccountKind.venue, AccountKind.margin),
    Edge.fee: (AccountKind.margin, AccountKind.costs),
    Edge.liquidation_fee: (AccountKind.margin, AccountKind.costs),
    Edge.funding_paid: (AccountKind.margin, AccountKind.funding),
    Edge.funding_received: (AccountKind.funding, AccountKind.margin),
    Edge.shortfall: (AccountKind.shortfall, AccountKind.venue),
    Edge.pay_in: (AccountKind.world, AccountKind.entering),
    Edge.admit: (AccountKind.entering, AccountKind.cushion),
    Edge.pay_back: (AccountKind.entering, AccountKind.world),
    Edge.rebase: (AccountKind.reserve, AccountKind.cushion),
    Edge.commit: (AccountKind.cushion, AccountKind.order_margin),
    Edge.give_back: (AccountKind.order_margin, AccountKind.cushion),
}
