"""The wall: the only functions that move money inside a vault, one for each edge of the ledger.

None of them leads from the reserve to a margin account, so no caller can: margin comes from the cushion, and the
reserve changes by the strike, by a rebase that was announced, and by the acts of depositors.

The wall carries the price at which holders enter and leave, (NAV + 1) / (shares + V) with V virtual shares (ERC-4626):
as long as the reserve holds it, that price is at least (1 - loss_cap) x the mark, however few shares are left.
"""

from typing import Any

import numpy as np

from ringfence.risk.arithmetic import PRICE_BITS, portion_up, price_per_share_up, scaled_up
from ringfence.risk.book import Ints
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.edges import Edge
from ringfence.risk.tape import transfer

__all__ = ["PRICE_LARGEST", "VIRTUAL_SHARES", "admit", "charge_fee", "pay_venue", "post_margin", "postable", "raised",
           "rebase", "receive_venue", "releasable", "release_margin", "settle_venue_funding", "strike", "strike_price",
           "wall_amount", "wall_series"]  # fmt: skip

VIRTUAL_SHARES = 10**3
"""Shares that nobody holds, part of every price per share that anyone enters or leaves at."""

PRICE_LARGEST = 2**53 - 1
"""No mark is higher: 8 minor units a share unit, 8,000 times the price of a first deposit."""

_PER_SHARE_LARGEST = 8
_ONE = 2.0**PRICE_BITS
_CLEARLY = 1.0 - 2.0**-50
"""More than the roundings of three float64 products."""


@inlined
def wall_amount(high_water_mark: int, keep: int, shares: int) -> int:
    """What must stand in the reserve, minor units; 0 without shares.

    With F = ceil(high_water_mark * keep / 10**6) the larger of ceil(F * (shares + V) / 2**50) - 1, which carries the
    price (one virtual unit of assets counts as the virtual shares do), and ceil(F * shares / 2**50), W1's bound.
    """
    if shares == 0:
        return 0
    floor_price = portion_up(high_water_mark, keep)
    return max(scaled_up(floor_price, shares + VIRTUAL_SHARES) - 1, scaled_up(floor_price, shares))


@compiled
def wall_series(high_water_marks: Ints, keep: int, shares: Ints) -> Ints:
    """`wall_amount` at each of (K,) marks and shares."""
    walls = np.empty(high_water_marks.size, np.int64)
    for k in range(high_water_marks.size):
        walls[k] = wall_amount(high_water_marks[k], keep, shares[k])
    return walls


@inlined
def strike_price(nav: int, shares: int) -> int:
    """ceil((nav + 1) * 2**50 / (shares + V)), at most PRICE_LARGEST: NAV per share as a strike counts it."""
    assets, parts = nav + 1, shares + VIRTUAL_SHARES
    if assets // _PER_SHARE_LARGEST >= parts:
        return PRICE_LARGEST
    return min(PRICE_LARGEST, price_per_share_up(assets, parts))


@inlined
def raised(vault: Any, keep: int, nav: int) -> tuple[int, int]:
    """(high-water mark, wall) as a strike at `nav` would leave them; `vault.wall` is that of its mark.

    Most strikes stand clearly below the mark, and float64 is enough to see that.
    """
    mark, wall = vault.high_water_mark, vault.wall
    if float(nav + 1) * _ONE >= float(mark) * float(vault.shares + VIRTUAL_SHARES) * _CLEARLY:
        price = strike_price(nav, vault.shares)
        if price > mark:
            return price, wall_amount(price, keep, vault.shares)
    return mark, wall


@inlined
def strike(vault: Any, keep: int, tape: Any, nav: int) -> None:
    """Lift the mark to NAV per share, if that is higher, and fill the reserve up to its wall.

    The caller has brought reserve + cushion to the new wall.
    """
    vault.high_water_mark, vault.wall = raised(vault, keep, nav)
    lacking = vault.wall - vault.reserve
    if lacking > 0:
        vault.cushion -= lacking
        vault.reserve += lacking
        transfer(tape, vault.index, Edge.ratchet, -1, lacking)


@inlined
def rebase(vault: Any, keep: int, tape: Any, nav: int) -> None:
    """Set the mark to NAV per share, lower though it be; what the reserve then holds beyond its wall is cushion."""
    vault.high_water_mark = strike_price(nav, vault.shares)
    vault.wall = wall_amount(vault.high_water_mark, keep, vault.shares)
    freed = max(0, vault.reserve - vault.wall)
    vault.reserve -= freed
    vault.cushion += freed
    transfer(tape, vault.index, Edge.rebase, -1, freed)


@inlined
def admit(vault: Any, tape: Any) -> None:
    """What waits to enter, into the cushion."""
    entering = vault.entering
    vault.entering -= entering
    vault.cushion += entering
    transfer(tape, vault.index, Edge.admit, -1, entering)


@inlined
def postable(vault: Any, wanted: int) -> int:
    """As much of `wanted` as the cushion can post."""
    return int(max(0, min(wanted, vault.cushion)))


@inlined
def releasable(position: Any, wanted: int) -> int:
    """As much of `wanted` as the margin account can release."""
    return int(max(0, min(wanted, position.margin)))


@inlined
def post_margin(vault: Any, position: Any, tape: Any, wanted: int) -> int:
    """Cushion to margin: as much of `wanted` as the cushion has. Returns what was posted."""
    posted = postable(vault, wanted)
    vault.cushion -= posted
    position.margin += posted
    transfer(tape, vault.index, Edge.post, position.index, posted)
    return posted


@inlined
def release_margin(vault: Any, position: Any, tape: Any, wanted: int) -> int:
    """Margin to cushion: as much of `wanted` as the margin account has. Returns what was released."""
    released = releasable(position, wanted)
    position.margin -= released
    vault.cushion += released
    transfer(tape, vault.index, Edge.release, position.index, released)
    return released


@inlined
def receive_venue(vault: Any, position: Any, tape: Any, profit: int) -> None:
    """Realised profit, venue to margin."""
    vault.venue -= profit
    position.margin += profit
    transfer(tape, vault.index, Edge.profit, position.index, profit)


@inlined
def pay_venue(vault: Any, position: Any, tape: Any, loss: int) -> int:
    """Realised loss, margin to venue, capped at the margin; the rest is the venue's own and returned as shortfall."""
    paid = min(loss, position.margin)
    position.margin -= paid
    vault.venue += paid
    transfer(tape, vault.index, Edge.loss, position.index, paid)
    rest = loss - paid
    vault.shortfall -= rest
    vault.venue += rest
    transfer(tape, vault.index, Edge.shortfall, -1, rest)
    return rest


@inlined
def charge_fee(vault: Any, position: Any, tape: Any, edge: int, due: int) -> int:
    """A fee (`edge`: fee or liquidation_fee), margin to costs, no more than the margin has. Returns what was paid."""
    paid = min(due, position.margin)
    position.margin -= paid
    vault.costs += paid
    transfer(tape, vault.index, edge, position.index, paid)
    return paid


@inlined
def settle_venue_funding(vault: Any, position: Any, tape: Any, amount: int) -> int:
    """Funding received (+) or paid (-), between margin and the venue's funding account. Returns what the margin could
    not pay."""
    if amount >= 0:
        vault.funding -= amount
        position.margin += amount
        transfer(tape, vault.index, Edge.funding_received, position.index, amount)
        return 0
    paid = min(-amount, position.margin)
    position.margin -= paid
    vault.funding += paid
    transfer(tape, vault.index, Edge.funding_paid, position.index, paid)
    return -amount - paid
