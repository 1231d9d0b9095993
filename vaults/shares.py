"""Shares (ERC-4626 with virtual shares), and the wall arithmetic of a deposit.

Pure integers: assets in minor units, shares in share units (three decimals more), prices per share unit in minor units
x 2**50. Every rounding goes against the one who asks; none goes against the wall. The wall here is the twin, in
unbounded integers, of the one in the compiled step.
"""

import re
from dataclasses import dataclass, replace

from ringfence.vaults.errors import (
    DepositMustWait,
    DepositRefused,
    HolderRefused,
    RedeemExceeds,
    ZeroAssets,
    ZeroShares,
)

__all__ = ["LARGEST", "ONE", "PRICE_LARGEST", "VIRTUAL_ASSETS", "VIRTUAL_SHARES", "Deposit", "Pool", "State",
           "ceil_div", "checked_holder", "convert_to_assets", "convert_to_shares", "deposit", "max_deposit", "max_mint",
           "max_redeem", "max_withdraw", "mint", "preview_deposit", "preview_mint", "preview_redeem",
           "preview_withdraw", "redeem", "split_deposit", "wall", "withdraw"]  # fmt: skip

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
    if shares == 0:
        return 0
    floor_price = ceil_div(high_water_mark * keep, _MILLION)
    return max(ceil_div(floor_price * (shares + VIRTUAL_SHARES), ONE) - 1, ceil_div(floor_price * shares, ONE))


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
        mark = ceil_div((state.nav + amount + 1) * ONE, shares + VIRTUAL_SHARES)
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
