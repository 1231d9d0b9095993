"""The queue of both directions: deposits and redemptions wait for a strike and are settled at its price (S5, S7).

Pure integers, as in `vaults.shares`: every rounding goes against the one who asks, none against the wall. Who moves
pays: what the vault's trading for a net flow costs is borne by those who caused it, so that the price of those who stay
does not fall.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from ringfence.vaults.errors import RedeemExceeds, ZeroAssets
from ringfence.vaults.shares import (
    LARGEST,
    PRICE_LARGEST,
    Pool,
    State,
    ceil_div,
    is_priced,
    max_redeem,
    preview_deposit,
    preview_redeem,
    wall,
)

__all__ = ["Request", "Settled", "Settlement", "Side", "checked_redemption", "due", "settle", "strike_after"]

Side = Literal["deposit", "redemption"]


@dataclass(frozen=True, slots=True)
class Request:
    """An order that waits: a deposit of minor units, or a redemption of share units."""

    seq: int
    """The journal's row that asked."""
    side: Side
    holder: str
    asked: int
    remaining: int
    given: int
    """UTC ms: a strike settles it if its slot closes later."""
    accepts_locked: bool = False
    """A deposit that is also taken while the vault is locked."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What one request came to at a strike.

    A deposit: `assets` entered for `shares` minted; what could not be taken goes back (`from_reserve` + `from_cushion`)
    and mints nothing. A redemption: `shares` burned for `assets` = `from_reserve` + `from_cushion`.
    """

    request: int
    side: Side
    holder: str
    assets: int
    shares: int
    cost: int
    """Its part of what the trading for the flows cost, minor units: of a deposit included in `assets`, of a redemption
    taken off before."""
    from_reserve: int
    from_cushion: int
    remaining: int
    """What waits on."""

    @property
    def paid(self) -> int:
        """Minor units that went to the holder."""
        return self.from_reserve + self.from_cushion


@dataclass(frozen=True, slots=True)
class Settled:
    settlements: tuple[Settlement, ...]
    ratchet: int
    """What the cushion gives to the reserve for the wall of the shares that are there now."""
    state: State
    """The vault after all of them."""


def strike_after(given: int, timeframe: int) -> int:
    """Close (UTC ms) of the first slot that closes after a request was given: no earlier strike settles it."""
    return (given // timeframe + 1) * timeframe


def checked_redemption(state: State, shares: int, held: int, waiting: int) -> int:
    """What `shares` are worth at the last NAV, if the holder can ask for them; `held` are all that he holds, of which
    `waiting` are asked for already.

    Refused: RedeemExceeds, ZeroAssets.
    """
    free = max_redeem(held, waiting)
    if shares > free:
        raise RedeemExceeds(shares, free)
    if shares <= 0 or preview_redeem(state.pool, shares) <= 0:
        raise ZeroAssets(shares)
    return preview_redeem(state.pool, shares)


def due(requests: Iterable[Request], close: int, is_locked: bool) -> list[Request]:
    """Those that a strike at `close` settles: given before it, and, in a vault that was locked already, no deposit that
    did not accept that."""
    return [
        request
        for request in requests
        if request.given < close and (request.side == "redemption" or request.accepts_locked or not is_locked)
    ]


def settle(state: State, struck: int, requests: Sequence[Request], keep: int, cost: int) -> Settled:
    """Settle requests, in the order in which they were given, at the price struck.

    `state` is the vault after the trading for these flows, with all of the deposits' money in its cushion; `struck` its
    NAV before the flows, over `state.shares`; `cost` what that trading cost, minor units (a gain is the vault's).
    With a cost of 0 a deposit of `a` mints floor(a * (S + V) / (N + 1)) and a redemption of `s` is paid
    floor(s * (N + 1) / (S + V)). The cost is borne by the larger direction alone, by worth, each part rounded up. Where
    cash does not free all redemptions (the reserve holds the wall of the shares that are left), first come are first
    served and the rest waits. A redemption worth nothing is closed, its shares stay; a deposit that buys nothing, or
    that no price can be named for, goes back.
    """
    pool = Pool(struck, state.shares)
    deposits = [request for request in requests if request.side == "deposit"]
    redemptions = [request for request in requests if request.side == "redemption"]
    incoming = sum(request.remaining for request in deposits)
    outgoing = sum(preview_redeem(pool, request.remaining) for request in redemptions)
    enters = incoming > outgoing
    minted = _mint(state, pool, deposits, keep, max(0, cost) if enters else 0)
    after = _book(state, minted, keep)
    paid = _pay(after.state, pool, redemptions, keep, 0 if enters else max(0, cost))
    booked = _book(after.state, paid, keep)
    lacking = max(0, wall(booked.state.high_water_mark, keep, booked.state.shares) - booked.state.reserve)
    end = replace(booked.state, reserve=booked.state.reserve + lacking, cushion=booked.state.cushion - lacking)
    return Settled((*after.settlements, *booked.settlements), lacking, end)


class _Leg(NamedTuple):
    """A settlement before it is known from which account it is paid."""

    request: Request
    assets: int
    shares: int
    cost: int
    pay: int
    remaining: int


def _parts(cost: int, worths: Sequence[int]) -> list[int]:
    """A cost by worth, each part rounded up and none larger than the worth that bears it."""
    total = sum(worths)
    return [min(worth, ceil_div(cost * worth, total)) if total else 0 for worth in worths]


# ---------------------------------------------------------------------------------------------------- deposits


def _mint(state: State, pool: Pool, deposits: Sequence[Request], keep: int, cost: int) -> list[_Leg]:
    found, total, grown = list[_Leg](), state.shares, pool.assets
    costs = _parts(cost, [request.remaining for request in deposits])
    takes = is_priced(pool) and state.high_water_mark < PRICE_LARGEST
    for request, part in zip(deposits, costs, strict=True):
        shares = preview_deposit(pool, request.remaining - part) if takes else 0
        if total + shares > LARGEST or grown + request.remaining > LARGEST:
            shares = 0
        shares = _backed(state, total, shares, keep)
        total, grown = total + shares, grown + request.remaining
        back = 0 if shares else request.remaining - part
        found.append(_Leg(request, request.remaining, shares, part, back, 0))
    return found


def _backed(state: State, total: int, shares: int, keep: int) -> int:
    """As many of `shares` as cash can wall off beside `total`: all, but for the crumbs that the roundings of a venue's
    margins may lack."""
    if wall(state.high_water_mark, keep, total + shares) <= state.cash:
        return shares
    fits, too_many = 0, shares
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if wall(state.high_water_mark, keep, total + middle) <= state.cash:
            fits = middle
        else:
            too_many = middle
    return fits


# ---------------------------------------------------------------------------------------------------- redemptions


def _pay(state: State, pool: Pool, redemptions: Sequence[Request], keep: int, cost: int) -> list[_Leg]:
    """As many shares as are free, first come first served."""
    wanted = sum(request.remaining for request in redemptions)
    burned, too_many = 0, wanted + 1
    if _is_free(state, _legs(pool, redemptions, wanted, cost), keep):
        burned = wanted
    else:
        # burned stays free at every step, whatever the roundings between do
        while too_many - burned > 1:
            middle = (burned + too_many) // 2
            if _is_free(state, _legs(pool, redemptions, middle, cost), keep):
                burned = middle
            else:
                too_many = middle
    return _legs(pool, redemptions, burned, cost)


def _legs(pool: Pool, redemptions: Sequence[Request], burned: int, cost: int) -> list[_Leg]:
    """The first `burned` shares of the queue, what each request is paid for its part, and what waits on.

    A part that is worth nothing burns nothing; a whole request that is worth nothing is closed.
    """
    parts, left = [], burned
    for request in redemptions:
        parts.append(min(request.remaining, left))
        left -= parts[-1]
    worths = [preview_redeem(pool, part) for part in parts]
    legs = []
    for request, part, worth, charge in zip(redemptions, parts, worths, _parts(cost, worths), strict=True):
        pay = worth - charge
        if pay > 0:
            legs.append(_Leg(request, pay, part, charge, pay, request.remaining - part))
        elif preview_redeem(pool, request.remaining) == 0:
            legs.append(_Leg(request, 0, 0, 0, 0, 0))
    return legs


def _is_free(state: State, legs: Sequence[_Leg], keep: int) -> bool:
    """Whether the reserve can hold the wall of the shares that are left once these are paid."""
    left = state.shares - sum(leg.shares for leg in legs)
    return state.cash - sum(leg.pay for leg in legs) >= wall(state.high_water_mark, keep, left)


# ---------------------------------------------------------------------------------------------------- booking


def _book(state: State, legs: Sequence[_Leg], keep: int) -> Settled:
    """What each is paid, out of what the reserve holds beyond its wall first: that may go nowhere else, and the cushion
    is what positions live on. Nothing is paid out of the wall."""
    shares = state.shares + sum(leg.shares if leg.request.side == "deposit" else -leg.shares for leg in legs)
    waiting = state.waiting - sum(
        leg.request.remaining - leg.remaining for leg in legs if leg.request.side == "redemption"
    )
    mark = state.high_water_mark if shares else 0
    must_stand = wall(mark, keep, shares)
    reserve, cushion = state.reserve, state.cushion
    settlements = []
    for leg in legs:
        from_reserve = min(leg.pay, max(0, reserve - must_stand))
        from_cushion = min(leg.pay - from_reserve, max(0, reserve + cushion - from_reserve - must_stand))
        reserve, cushion = reserve - from_reserve, cushion - from_cushion
        settlements.append(
            Settlement(leg.request.seq, leg.request.side, leg.request.holder, leg.assets, leg.shares, leg.cost,
                       from_reserve, from_cushion, leg.remaining)
        )  # fmt: skip
    after = replace(state, reserve=reserve, cushion=cushion, shares=shares, waiting=waiting, high_water_mark=mark)
    return Settled(tuple(settlements), 0, after)
