"""What a fill, a payment or a liquidation does to a position in the exchange's own books. Pure.

Written apart from `risk.settlement`, which does the same to the vault's: two books that are kept by different hands and
agree to the unit say more than one that is kept twice. Values and profits are `risk.exposure`'s, as everywhere.
"""

from typing import Any, NamedTuple

from ringfence.risk.book import Holding
from ringfence.risk.exposure import closed_part, profit, risk_at, traded_value

__all__ = ["Settled", "closed", "funded", "is_affordable", "opened", "split"]


class Settled(NamedTuple):
    """A position after something happened to it, and what that came to, minor units."""

    held: Holding
    realised: int
    """Profit or loss, the shortfall included."""
    fee: int
    """Charged; no more than the margin had."""
    shortfall: int
    """Loss past the margin."""
    value: int
    """What the lots were bought or sold for."""


def split(quantity: int, lots: int) -> tuple[int, int]:
    """(lots that close, lots that open) of `lots` traded on a position of `quantity`, all signed."""
    if quantity == 0 or (quantity > 0) == (lots > 0):
        return 0, lots
    closing = lots if abs(lots) <= abs(quantity) else -quantity
    return closing, lots - closing


def opened(held: Holding, instrument: Any, lots: int, price: float, due: int) -> Settled:
    """`lots` added at `price`, and the fee `due`."""
    value, paid = int(traded_value(instrument, lots, price)), min(due, held.margin)
    return Settled(Holding(held.quantity + lots, held.cost + value, held.margin - paid), 0, paid, 0, value)


def closed(held: Holding, instrument: Any, lots: int, price: float, due: int) -> Settled:
    """`lots`, against the position's side, closed at `price`, and the fee `due`; the loss is capped at the margin."""
    part = closed_part(held, abs(lots))
    gain = int(profit(part, instrument, price))
    shortfall = max(0, -gain - held.margin)
    margin = held.margin + gain + shortfall
    paid = min(due, margin)
    after = Holding(held.quantity - int(part.quantity), held.cost - int(part.cost), margin - paid)
    return Settled(after, gain, paid, shortfall, int(traded_value(instrument, lots, price)))


def funded(held: Holding, inverse: bool, amount: int) -> Holding:
    """A funding payment, received (+) or due (-); what the margin cannot pay comes out of the position's own profit."""
    unpaid = max(0, -amount - held.margin)
    later = unpaid if (held.quantity > 0) != inverse else -unpaid
    return Holding(held.quantity, held.cost + later, held.margin + amount + unpaid)


def is_affordable(
    held: Holding, instrument: Any, lots: int, price: float, due: int, margin: int, mark: float
) -> bool:  # fmt: skip
    """Whether `lots` more at `price`, with the fee `due` and so much more `margin`, leave the venue's initial margin at
    `mark`. More than five arguments because an order has so many sides."""
    cost = held.cost + int(traded_value(instrument, lots, price))
    after = Holding(held.quantity + lots, cost, held.margin + margin - due)
    risk = risk_at(after, instrument, mark)
    return bool(after.margin >= 0 and risk.equity >= risk.initial)
