"""The queue of redemptions: what is free is paid first come first served, the rest waits.

Pure integers, as in `vaults.shares`: every rounding goes against the one who asks, none against the wall.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ringfence.vaults.errors import RedeemExceeds, ZeroAssets
from ringfence.vaults.shares import (
    ONE,
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    Pool,
    State,
    ceil_div,
    max_redeem,
    preview_mint,
    preview_redeem,
    wall,
)

__all__ = ["Payment", "Request", "Settlement", "redemption_price", "request_redemption", "settle"]


def redemption_price(pool: Pool) -> int:
    """What a share unit is worth to one who redeems: ceil((A + 1) * 2**50 / (S + V)).

    It only caps what is paid later, which is itself rounded down; rounded down as well, it would cost a minor unit even
    where nothing has changed.
    """
    return ceil_div((pool.assets + VIRTUAL_ASSETS) * ONE, pool.shares + VIRTUAL_SHARES)


@dataclass(frozen=True, slots=True)
class Request:
    """A redemption that waits: `remaining` of `shares`, at most at the price of the day it was asked."""

    seq: int
    holder: str
    shares: int
    price: int
    remaining: int


def request_redemption(state: State, seq: int, holder: str, shares: int, held: int, waiting: int) -> Request:
    """A holder's request at today's price; `held` are all the holder's shares, of which `waiting` are in the queue.

    Refused: RedeemExceeds, ZeroAssets.
    """
    free = max_redeem(held, waiting)
    if shares > free:
        raise RedeemExceeds(shares, free)
    if shares <= 0 or preview_redeem(state.pool, shares) <= 0:
        raise ZeroAssets(shares)
    return Request(seq, holder, shares, redemption_price(state.pool), shares)


@dataclass(frozen=True, slots=True)
class Payment:
    """What one request gets: `shares` burned for `from_reserve` + `from_cushion`."""

    request: int
    """The journal's row that asked."""
    holder: str
    shares: int
    from_reserve: int
    from_cushion: int
    remaining: int
    """Shares of the request that wait on."""

    @property
    def assets(self) -> int:
        return self.from_reserve + self.from_cushion


@dataclass(frozen=True, slots=True)
class Settlement:
    payments: tuple[Payment, ...]
    state: State
    """The vault after the payments."""


def settle(state: State, requests: Sequence[Request], keep: int) -> Settlement:
    """Pays what is free to those who wait, first come first served.

    A request is paid min(its value when asked, its value now), each rounded down, out of what is free: the cushion and
    what the reserve holds above the wall of the shares that are left. What is not free waits, and nobody overtakes.
    A request worth less than one minor unit waits without holding up the others; what is left of a partly paid one is
    closed with nothing, being less than a unit. Shares are burned only as they are paid, so that a mark per share never
    falls; a vault that becomes empty loses its mark.
    """
    payments: list[Payment] = []
    for request in requests:
        burned = _payable(state, request, keep)
        if burned == 0 and _worth(state, request, request.remaining) > 0:
            break
        if burned == 0 and request.remaining == request.shares:
            continue
        payment, state = _pay(state, request, burned or request.remaining, keep)
        payments.append(payment)
        if payment.remaining > 0:
            break
    return Settlement(tuple(payments), state)


def _worth(state: State, request: Request, shares: int) -> int:
    """min(value at the request, value now) of `shares` of it, rounded down."""
    return min(request.price * shares // ONE, preview_redeem(state.pool, shares))


def _is_free(state: State, request: Request, shares: int, keep: int) -> bool:
    """Whether `shares` can be paid so that the reserve still holds the wall of those that are left.

    A part must be free at its value rounded up: else a crumb could be paid for shares worth a crumb more, tick by tick.
    """
    left = state.cash - wall(state.high_water_mark, keep, state.shares - shares)
    if shares == request.remaining:
        return _worth(state, request, shares) <= left
    return min(ceil_div(request.price * shares, ONE), preview_mint(state.pool, shares)) <= left


def _payable(state: State, request: Request, keep: int) -> int:
    """The most shares of the request that are free now; 0 if that is worth nothing."""
    paid, too_many = 0, request.remaining + 1
    if _is_free(state, request, request.remaining, keep):
        paid = request.remaining
    else:
        # paid stays free at every step, whatever the roundings between do
        while too_many - paid > 1:
            middle = (paid + too_many) // 2
            if _is_free(state, request, middle, keep):
                paid = middle
            else:
                too_many = middle
    return paid if _worth(state, request, paid) > 0 else 0


def _pay(state: State, request: Request, burned: int, keep: int) -> tuple[Payment, State]:
    assets = _worth(state, request, burned)
    left = state.shares - burned
    # The reserve's surplus first: it may go nowhere else, the cushion is what positions live on.
    surplus = max(0, state.reserve - wall(state.high_water_mark, keep, left))
    from_reserve = min(assets, surplus)
    from_cushion = assets - from_reserve
    remaining = request.remaining - burned
    after = replace(
        state,
        reserve=state.reserve - from_reserve,
        cushion=state.cushion - from_cushion,
        shares=left,
        waiting=state.waiting - burned,
        high_water_mark=state.high_water_mark if left else 0,
    )
    return Payment(request.seq, request.holder, burned, from_reserve, from_cushion, remaining), after
