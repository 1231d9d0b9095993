"""The wall: the only functions that move money inside a vault, one for each edge of the ledger.

None of them leads from the reserve to a margin account, so no caller can: margin comes from the cushion, and the
reserve changes only by the ratchet here and by the acts of depositors.
"""

from typing import Any

import numpy as np

from ringfence.risk.arithmetic import INT_MAX, MILLION, portion_up, price_per_share_down, scaled_up
from ringfence.risk.book import Ints
from ringfence.risk.compiled import compiled, inlined
from ringfence.risk.edges import Edge
from ringfence.risk.tape import transfer

__all__ = ["PRICE_LARGEST", "VIRTUAL_SHARES", "charge_fee", "pay_venue", "post_margin", "raise_wall", "ratchet",
           "receive_venue", "release_margin", "settle_venue_funding", "wall_amount", "wall_series"]  # fmt: skip

VIRTUAL_SHARES = 10**3
"""Shares that nobody holds, part of every price per share that anyone enters or leaves at."""

PRICE_LARGEST = 2**53 - 1
"""No mark is higher: 8 minor units a share unit, 8,000 times the price of a first deposit."""

_PER_SHARE_LARGEST = 8


@inlined
def wall_amount(high_water_mark: int, keep: int, shares: int) -> int:
    """ceil(ceil(high_water_mark * keep / 10**6) * shares / 2**50) >= (1 - loss_cap) * mark * shares: W1's bound."""
    return scaled_up(portion_up(high_water_mark, keep), shares)


@compiled
def wall_series(high_water_marks: Ints, keep: int, shares: int) -> Ints:
    """`wall_amount` at each of (K,) marks."""
    walls = np.empty(high_water_marks.size, np.int64)
    for k in range(high_water_marks.size):
        walls[k] = wall_amount(high_water_marks[k], keep, shares)
    return walls


@inlined
def raise_wall(vault: Any, keep: int) -> None:
    """Derive `wall`, `peak` and `nav_low` from the mark and the shares."""
    vault.wall = wall_amount(vault.high_water_mark, keep, vault.shares)
    vault.peak = scaled_up(vault.high_water_mark + 1, vault.shares + VIRTUAL_SHARES)
    vault.nav_low = INT_MAX if vault.shares > 0 else 0


@inlined
def _price_down(assets: int, shares: int) -> int:
    """floor(assets * 2**50 / shares), at most PRICE_LARGEST: a few shares may be left with what many have forgone."""
    if assets // _PER_SHARE_LARGEST >= shares:
        return PRICE_LARGEST
    return price_per_share_down(assets, shares)


@inlined
def ratchet(vault: Any, keep: int, tape: Any, nav: int) -> None:
    """Lift the mark to min(NAV per share, what cash can wall off), and fill the reserve up to its wall.

    Both quotients are rounded down, so the new wall never needs more than reserve + cushion. NAV is divided by the
    virtual shares as well, as for those who enter and leave: else the last crumbs of a vault that all but emptied would
    be a thousandfold NAV per share, and no later deposit could meet the wall of such a mark.
    """
    shares = vault.shares
    if shares == 0 or nav < vault.peak:
        return
    floor_backed = _price_down(vault.reserve + vault.cushion, shares)
    mark = _price_down(nav, shares + VIRTUAL_SHARES)
    if portion_up(mark, keep) > floor_backed:
        mark = floor_backed // keep * MILLION + floor_backed % keep * MILLION // keep
    if mark <= vault.high_water_mark:
        return
    vault.high_water_mark = mark
    raise_wall(vault, keep)
    lacking = vault.wall - vault.reserve
    if lacking > 0:
        vault.cushion -= lacking
        vault.reserve += lacking
        transfer(tape, vault.index, Edge.ratchet, -1, lacking)


@inlined
def post_margin(vault: Any, position: Any, tape: Any, wanted: int) -> int:
    """Cushion to margin: as much of `wanted` as the cushion has. Returns what was posted."""
    posted = max(0, min(wanted, vault.cushion))
    vault.cushion -= posted
    position.margin += posted
    transfer(tape, vault.index, Edge.post, position.index, posted)
    return posted


@inlined
def release_margin(vault: Any, position: Any, tape: Any, wanted: int) -> int:
    """Margin to cushion: as much of `wanted` as the margin account has. Returns what was released."""
    released = max(0, min(wanted, position.margin))
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
