"""Shares (ERC-4626 with virtual shares) and the wall arithmetic of what people do: deposit and redeem.

Pure integers: assets in minor units, shares in share units (three decimals more), prices per share unit in minor units
x 2**50. Every rounding goes against the one who asks; none goes against the wall. The wall here is the twin, in
unbounded integers, of the one in the compiled step.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ringfence.vaults.errors import (
    DepositMustWait,
    DepositRefused,
    HolderRefused,
    RedeemExceeds,
    ZeroAssets,
    ZeroShares,
)

__all__ = ["LARGEST", "PRICE_LARGEST", "VIRTUAL_ASSETS", "VIRTUAL_SHARES", "Deposit", "Payment",
           "Pool", "Request", "Settlement", "State", "checked_holder", "convert_to_assets",
           "convert_to_shares", "deposit", "max_deposit", "max_mint", "max_redeem", "max_withdraw",
           "mint", "preview_deposit", "preview_mint", "preview_redeem", "preview_withdraw", "redeem",
           "redemption_price", "request_redemption", "settle", "split_deposit", "wall", "withdraw"]  # fmt: skip

VIRTUAL_SHARES = 10**3
VIRTUAL_ASSETS = 1
LARGEST = 2**62 - 1
"""No vault has more assets or shares than this: the kernel's exact products need it."""

PRICE_LARGEST = 2**53 - 1
"""No price per share is larger: 8 minor units a share unit, 8,000 times the price of a first deposit."""

_ONE = 2**50
_MILLION = 10**6


_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)


def checked_holder(name: str) -> str:
    """The name, if it may stand in the register of shares; else HolderRefused."""
    if not _HOLDER.fullmatch(name):
        raise HolderRefused(name)
    return name


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ---------------------------------------------------------------------------------------------------- ERC-4626


@dataclass(frozen=True, slots=True)
class Pool:
    """What a vault is worth (minor units) and in how many share units it is divided."""

    assets: int
    shares: int


def preview_deposit(pool: Pool, assets: int) -> int:
    """Shares for `assets` paid in: floor(assets * (S + V) / (A + 1))."""
    return assets * (pool.shares + VIRTUAL_SHARES) // (pool.assets + VIRTUAL_ASSETS)


def preview_mint(pool: Pool, shares: int) -> int:
    """Assets to pay for exactly `shares`: ceil(shares * (A + 1) / (S + V))."""
    return _ceil_div(shares * (pool.assets + VIRTUAL_ASSETS), pool.shares + VIRTUAL_SHARES)


def preview_withdraw(pool: Pool, assets: int) -> int:
    """Shares to burn for exactly `assets`: ceil(assets * (S + V) / (A + 1))."""
    return _ceil_div(assets * (pool.shares + VIRTUAL_SHARES), pool.assets + VIRTUAL_ASSETS)


def preview_redeem(pool: Pool, shares: int) -> int:
    """Assets for `shares` burned: floor(shares * (A + 1) / (S + V))."""
    return shares * (pool.assets + VIRTUAL_ASSETS) // (pool.shares + VIRTUAL_SHARES)


convert_to_shares = preview_deposit
"""ERC-4626's estimate, without fees or limits; there are none inside the preview either."""
convert_to_assets = preview_redeem


def max_deposit(pool: Pool) -> int:
    """The largest deposit that would be taken; 0 for a vault that lost everything and still has shares."""
    if pool.assets <= 0 < pool.shares:
        return 0
    by_shares = ((LARGEST - pool.shares + 1) * (pool.assets + VIRTUAL_ASSETS) - 1) // (pool.shares + VIRTUAL_SHARES)
    return max(0, min(LARGEST - pool.assets, by_shares))


def max_mint(pool: Pool) -> int:
    """The most shares that would be minted: what max_deposit buys."""
    return preview_deposit(pool, max_deposit(pool))


def max_redeem(held: int, waiting: int = 0) -> int:
    """The most shares that a holder of `held`, of which `waiting` are already in the queue, can redeem."""
    return max(0, held - waiting)


def max_withdraw(pool: Pool, held: int, waiting: int = 0) -> int:
    """The most assets that a holder can withdraw: what max_redeem is worth."""
    return preview_redeem(pool, max_redeem(held, waiting))


def deposit(pool: Pool, assets: int) -> tuple[Pool, int]:
    """(the pool after, shares minted). Refused: DepositRefused, ZeroShares."""
    _refuse_deposit(pool, assets)
    shares = preview_deposit(pool, assets)
    if shares <= 0:
        raise ZeroShares(assets)
    return Pool(pool.assets + assets, pool.shares + shares), shares


def mint(pool: Pool, shares: int) -> tuple[Pool, int]:
    """(the pool after, assets taken). Refused: DepositRefused, ZeroShares."""
    if shares <= 0:
        raise ZeroShares(0)
    assets = preview_mint(pool, shares)
    _refuse_deposit(pool, assets)
    return Pool(pool.assets + assets, pool.shares + shares), assets


def _refuse_deposit(pool: Pool, assets: int) -> None:
    if assets <= 0:
        raise ZeroShares(assets)
    if pool.assets <= 0 < pool.shares:
        raise DepositRefused(assets, "the vault has lost everything, so its shares have no price")
    if assets > max_deposit(pool):
        raise DepositRefused(assets, f"the vault takes at most {max_deposit(pool)} minor units")


def withdraw(pool: Pool, assets: int, held: int) -> tuple[Pool, int]:
    """(the pool after, shares burned) for exactly `assets` out. Refused: ZeroAssets, RedeemExceeds."""
    if assets <= 0:
        raise ZeroAssets(0)
    shares = preview_withdraw(pool, assets)
    if shares > min(held, pool.shares) or assets > pool.assets:
        raise RedeemExceeds(shares, held)
    return Pool(pool.assets - assets, pool.shares - shares), shares


def redeem(pool: Pool, shares: int, held: int) -> tuple[Pool, int]:
    """(the pool after, assets paid) for `shares` burned. Refused: ZeroAssets, RedeemExceeds."""
    if shares > min(held, pool.shares):
        raise RedeemExceeds(shares, held)
    assets = preview_redeem(pool, shares)
    if shares <= 0 or assets <= 0:
        raise ZeroAssets(shares)
    return Pool(pool.assets - assets, pool.shares - shares), assets


# ---------------------------------------------------------------------------------------------------- the wall


@dataclass(frozen=True, slots=True)
class State:
    """What a deposit or a redemption sees of a vault; minor units, share units, 2**50 fixed point."""

    reserve: int
    cushion: int
    shares: int
    waiting: int
    high_water_mark: int
    margin_equity: int
    """What stands in the positions, marked: the sum of margin + open profit, never below zero for any of them."""

    @property
    def cash(self) -> int:
        """What is in the vault's own hands."""
        return self.reserve + self.cushion

    @property
    def nav(self) -> int:
        """What the vault is worth."""
        return self.cash + self.margin_equity

    @property
    def pool(self) -> Pool:
        """What the shares are priced by. What an empty vault still holds belongs to nobody and prices nothing: it falls
        to whoever enters next, since a price made of crumbs alone could shut the vault for good."""
        return Pool(self.nav if self.shares else 0, self.shares)


def wall(high_water_mark: int, keep: int, shares: int) -> int:
    """What must stand in the reserve: ceil(ceil(high_water_mark * keep / 10**6) * shares / 2**50).

    `keep` is 1 - loss_cap in parts per million. Both roundings go up: for the wall.
    """
    floor_price = _ceil_div(high_water_mark * keep, _MILLION)
    return _ceil_div(floor_price * shares, _ONE)


@dataclass(frozen=True, slots=True)
class Deposit:
    """How a deposit is booked: `to_reserve` + `to_cushion` are what was paid in, and `ratchet` moves from the cushion
    to the reserve (0 but for roundings and a vault below its mark)."""

    shares: int
    to_reserve: int
    to_cushion: int
    ratchet: int
    state: State
    """The vault after the deposit."""


def split_deposit(state: State, amount: int, keep: int) -> Deposit:
    """How `amount` minor units are booked: the reserve is topped up to the new wall first, the rest is risk capital.

    An empty vault's mark becomes floor(assets * 2**50 / shares). Refused, with nothing taken: DepositMustWait (the
    new wall cannot be met from the deposit and the cushion), DepositRefused (the vault lost everything, or grows too
    large), ZeroShares.
    """
    _, shares = deposit(state.pool, amount)
    total = state.shares + shares
    mark = state.high_water_mark
    if state.shares == 0:
        mark = (state.nav + amount) * _ONE // shares
        if mark > PRICE_LARGEST:
            raise DepositRefused(
                amount, f"the empty vault still holds {state.nav} minor units, pay in more beside them"
            )
    missing = max(0, wall(mark, keep, total) - state.reserve)
    to_reserve = min(missing, amount)
    ratchet = missing - to_reserve
    if ratchet > state.cushion:
        raise DepositMustWait(
            amount,
            f"the wall would need {missing} minor units more in the reserve, and the deposit and the cushion hold "
            f"{amount + state.cushion}; wait until positions have been reduced",
        )
    after = replace(
        state,
        reserve=state.reserve + missing,
        cushion=state.cushion + amount - missing,
        shares=total,
        high_water_mark=mark,
    )
    return Deposit(shares, to_reserve, amount - to_reserve, ratchet, after)


# ---------------------------------------------------------------------------------------------------- redemptions


def redemption_price(pool: Pool) -> int:
    """What a share unit is worth to one who redeems: ceil((A + 1) * 2**50 / (S + V)).

    It only caps what is paid later, which is itself rounded down; rounded down as well, it would cost a minor unit even
    where nothing has changed.
    """
    return _ceil_div((pool.assets + VIRTUAL_ASSETS) * _ONE, pool.shares + VIRTUAL_SHARES)


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

    seq: int
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
    return min(request.price * shares // _ONE, preview_redeem(state.pool, shares))


def _is_free(state: State, request: Request, shares: int, keep: int) -> bool:
    """Whether `shares` can be paid so that the reserve still holds the wall of those that are left.

    A part must be free at its value rounded up: else a crumb could be paid for shares worth a crumb more, tick by tick.
    """
    left = state.cash - wall(state.high_water_mark, keep, state.shares - shares)
    if shares == request.remaining:
        return _worth(state, request, shares) <= left
    return min(_ceil_div(request.price * shares, _ONE), preview_mint(state.pool, shares)) <= left


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
