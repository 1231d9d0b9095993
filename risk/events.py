"""The words of the step: what can happen to a vault, and what can bind a decision. The numbers are the kernel's."""

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Bound", "Event", "Kind"]


class Kind(IntEnum):
    """What happened."""

    resize = 1
    collateral = 2
    funding = 3
    margin_call = 4
    liquidation = 5
    refusal = 6
    roll = 7
    """Lots closed or opened again so that open profit becomes cash."""
    rebase_announced = 8
    rebased = 9
    locked = 10
    """The cushion is spent."""
    unlocked = 11
    deleveraging = 12
    """The venue closed lots because somebody else's loss was not covered."""
    by_hand = 13
    """Somebody else traded in the account, or moved collateral there."""


class Bound(IntEnum):
    """Which limit bound a decision, or why it was refused."""

    nothing = 0
    volatility = 1
    liquidation_distance = 2
    gross_leverage = 3
    leverage_max = 4
    venue_leverage = 5
    cushion = 6
    notional_min = 7
    no_proposal = 8
    no_price = 9
    margin_call = 10
    maintenance_margin = 11
    band = 12
    costs = 13
    """A close would cost more than the margin."""
    strike = 14
    """What the wall must be able to hold at a strike."""
    flow = 15
    """Holders who enter or leave."""
    at_wall = 16
    """The mandate winds down."""
    volume = 17
    """Too little was traded."""
    venue = 18
    """The venue did it of its own accord, or did not do it, or has not said yet whether it did."""
    doubted_price = 19
    """The price is too bad for it: from the future, or too far from its own mean."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a vault, with what was before and after.

    `ts` is when: a funding stamp's own time, the close of the bar at which an order filled, for a liquidation the open
    of a bar that gapped past the trigger and else the close by which it had happened. `position` is -1 where it
    happened to the vault as a whole; then `amount` is its wall, or the one that an announced rebase would leave. Else
    `amount` is minor units: realised profit of a resize, roll or liquidation, collateral moved in (+) or out (-),
    funding received (+) or paid (-). A liquidation's `shortfall` is the venue's loss past the margin. Leverages are the
    effective ones, notional over equity. Prices are 0.0 and leverages 0.0 where they do not apply.
    """

    ts: int
    position: int
    kind: Kind
    reason: Bound
    quantity_before: int
    quantity_after: int
    amount: int
    fee: int
    shortfall: int
    price: float
    mark: float
    leverage_before: float
    leverage_after: float
    liquidation_price: float
