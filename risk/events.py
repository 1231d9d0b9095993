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


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a vault, with what was before and after.

    `amount` is minor units: realised profit of a resize or liquidation, collateral moved in (+) or out (-), funding
    received (+) or paid (-). A liquidation's `shortfall` is the venue's loss past the margin. Prices are 0.0 and
    leverages 0.0 where they do not apply.
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
