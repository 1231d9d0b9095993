"""What an order would come to if the next strike found everything as the last one left it: an estimate, not a price.

Forward pricing means that nobody knows; these are the figures of the last decision, so that people know about what to
expect and what it costs to move.
"""

import math
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ringfence.vaults import journal
from ringfence.vaults.entries import Decided
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.queue import Side
from ringfence.vaults.shares import preview_deposit, preview_redeem
from ringfence.vaults.tables import vault as vaults
from ringfence.vaults.vault import Vault

__all__ = ["Estimate", "estimate", "last_decision", "trading_cost"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Minor units and share units, at the NAV of the last decision; rounded against the one who asks."""

    side: Side
    assets: int
    """Paid in, or about what would be paid out."""
    shares: int
    """About what would be minted, or asked back."""
    swing_cost: int
    """About what the vault's trading for it costs, if nobody moves the other way: in `assets` of a deposit, taken off
    those of a redemption."""
    behind_wall: int
    """Of what a deposit puts to work: about what stands behind the wall from the start."""
    strike: int | None
    """Close (UTC ms) of the next slot, whose strike settles it if there is one; None: taken at once."""
    locked_since: int | None
    rebase_at: int | None

    @property
    def at_risk(self) -> int:
        """Of a deposit: what does not stand behind the wall."""
        return self.assets - self.behind_wall if self.side == "deposit" else 0


def last_decision(connection: Connection, vault: Vault) -> Decided | None:
    """The vault's last decision; None before its first."""
    identity = connection.execute(select(vaults.c.id).where(vaults.c.name == vault.name)).scalar_one()
    last = journal.last_row(connection, identity, Decided)
    entry = None if last is None else last.entry
    return entry if isinstance(entry, Decided) else None


def trading_cost(vault: Vault, decided: Decided | None) -> float:
    """What trading all of the positions would cost, minor units: their notional at the last decision x (half spread +
    slippage + taker fee)."""
    if decided is None:
        return 0.0
    cost, instruments, venue = 0.0, instruments_of(vault.terms), vault.terms.venue
    for name, held in decided.positions.items():
        traded = instruments[name]
        fee = (traded.taker_fee if venue.taker_fee is None else venue.taker_fee) / 10**6
        notional = abs(held.quantity) * traded.unit * held.price
        cost += notional * (venue.half_spread + venue.slippage + fee)
    return cost


def estimate(vault: Vault, side: Side, amount: int, given: int, trading: float) -> Estimate:
    """What an order given at `given` (UTC ms) is about worth: `amount` minor units in, or share units back; `trading`
    is what trading all of the positions would cost."""
    pool = vault.state.pool
    at_once = side == "deposit" and (vault.last_bar is None or vault.shares == 0)
    worth = amount if side == "deposit" else preview_redeem(pool, amount)
    cost = 0 if at_once else min(worth, _swing(vault, worth, trading))
    works = worth - cost
    enters = side == "deposit"
    return Estimate(
        side, amount if enters else works, preview_deposit(pool, works) if enters else amount, cost,
        vault.behind_wall(works) if enters else 0, None if at_once else vault.strike_of(given), vault.locked_since,
        vault.rebase_at,
    )  # fmt: skip


def _swing(vault: Vault, worth: int, trading: float) -> int:
    """ceil of the part of that cost that is the part of NAV that moves."""
    charged = trading * min(1.0, worth / vault.nav) if vault.nav > 0 else 0.0
    return worth if charged >= worth else math.ceil(charged)
