"""Shares (ERC-4626 with virtual shares), and the wall arithmetic of a deposit.

Pure integers: assets in minor units, shares in share units (three decimals more), prices per share unit in minor units
x 2**50. Every rounding goes against the one who asks; none goes against the wall. The wall here is the twin, in
unbounded integers, of the one in the compiled step.
"""

import re
from dataclasses import dataclass, replace

from ringfence.vaults.errors import (
    DepositRefused,
    HolderRefused,
    RedeemExceeds,
    ZeroAssets,
    ZeroShares,
)

__all__ = ["LARGEST", "ONE", "PRICE_LARGEST", "VIRTUAL_ASSETS", "VIRTUAL_SHARES", "Deposit", "Pool", "State",
           "ceil_div", "checked_holder", "convert_to_assets", "convert_to_shares", "deposit", "is_priced",
           "max_deposit", "max_mint", "max_redeem", "max_withdraw", "mint", "preview_deposit", "preview_mint",
           "preview_redeem", "preview_withdraw", "price_up", "redeem", "split_deposit", "wall", "withdraw"]  # fmt: skip

VIRTUAL_SHARES = 10**3
VIRTUAL_ASSETS = 1
LARGEST = 2**62 - 1
"""No vault has more assets or shares than this: the kernel's exact products need it."""

PRICE_LARGEST = 2**53 - 1
"""No price per share is larger: 8 minor units a share unit, 8,000 times the price of a first deposit."""

ONE = 2**50
"""A price per share unit is an integer of 1/2**50 minor units."""
_MILLION = 10**6


_HOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", re.ASCII)


def checked_holder(name: str) -> str:
    """The name, if it may stand in the register of shares; else HolderRefused."""
    if not _HOLDER.fullmatch(name):
        raise HolderRefused(name)
    return name


def ceil_div(a: int, b: int) -> int:
    """a / b, rounded up."""
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
    return ceil_div(shares * (pool.assets + VIRTUAL_ASSETS), pool.shares + VIRTUAL_SHARES)


def preview_withdraw(pool: Pool, assets: int) -> int:
    """Shares to burn for exactly `assets`: ceil(assets * (S + V) / (A + 1))."""
    return ceil_div(assets * (pool.shares + VIRTUAL_SHARES), pool.assets + VIRTUAL_ASSETS)


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
    if not is_priced(pool):
        reason = "a share unit is worth more than can be divided fairly; nobody enters until those who are left leave"
        raise DepositRefused(assets, reason)
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


def price_up(pool: Pool) -> int:
    """What a share unit is worth, rounded up: ceil((A + 1) * 2**50 / (S + V)), at most PRICE_LARGEST."""
    return min(PRICE_LARGEST, _price(pool))


def _price(pool: Pool) -> int:
    return ceil_div((pool.assets + VIRTUAL_ASSETS) * ONE, pool.shares + VIRTUAL_SHARES)


def is_priced(pool: Pool) -> bool:
    """Whether somebody can enter at the pool's price: its shares are worth something, and no more than a mark can
    say."""
    return not (pool.assets <= 0 < pool.shares) and _price(pool) <= PRICE_LARGEST


def wall(high_water_mark: int, keep: int, shares: int) -> int:
    """What must stand in the reserve: with F = ceil(high_water_mark * keep / 10**6),
    max(ceil(F * (S + V) / 2**50) - 1, ceil(F * S / 2**50)); 0 where there are no shares.

    `keep` is 1 - loss_cap in parts per million. The virtual shares and the virtual unit of assets count as they do in
    every price, so that what stands there holds (1 - loss_cap) of the mark per share however few shares there are. All
    roundings go up: for the wall.
    """
    if shares == 0:
        return 0
    floor_price = ceil_div(high_water_mark * keep, _MILLION)
    return max(
        ceil_div(floor_price * (shares + VIRTUAL_SHARES), ONE) - VIRTUAL_ASSETS, ceil_div(floor_price * shares, ONE)
    )


@dataclass(frozen=True, slots=True)
class Deposit:
    """How a deposit is booked that is taken at once: all of it enters the cushion, and `ratchet` goes on to the
    reserve."""

    shares: int
    ratchet: int
    state: State
    """The vault after the deposit."""


def split_deposit(state: State, amount: int, keep: int) -> Deposit:
    """How `amount` minor units are booked in a vault that is all cash: the reserve is filled up to the new wall, the
    rest is risk capital.

    An empty vault's mark becomes the price after the deposit. Refused, with nothing taken: DepositRefused (the vault
    lost everything, grows too large, or its price is beyond what a mark can say), ZeroShares.
    """
    after, shares = deposit(state.pool, amount)
    nav = state.nav + amount
    if not is_priced(Pool(nav, after.shares)):
        raise DepositRefused(amount, f"the empty vault still holds {state.nav} minor units, pay in more beside them")
    mark = state.high_water_mark if state.shares else price_up(Pool(nav, after.shares))
    ratchet = max(0, wall(mark, keep, after.shares) - state.reserve)
    if ratchet > state.cushion + amount:
        raise DepositRefused(amount, "it cannot back its own part of the wall; pay in more")
    booked = replace(
        state,
        reserve=state.reserve + ratchet,
        cushion=state.cushion + amount - ratchet,
        shares=after.shares,
        high_water_mark=mark,
    )
    return Deposit(shares, ratchet, booked)
