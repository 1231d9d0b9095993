"""One depositor and one who leaves, in plain integers: what stands in a book between two slots, and how it is settled.

Requests stand in `entering` and `waiting` from one slot to the next; a struck decision settles them at its NAV, whoever
moves more bearing what the trading cost. Only what the kernel must survive is here: no holders, no queue.
"""

from typing import Any

from ringfence.risk.edges import AccountKind, Edge
from tests.reference.slow_book import NEVER, ONE, VIRTUAL, TooLarge, Vault, ceil_part, wall_of

MILLION, LARGEST = 10**6, 2**62


def ask(vault: Vault, entering: int, leaving: int, left: int) -> None:
    """Pay in `entering` / 10**6 of the vault's cash; let `leaving` / 10**6 of the shares wait, but for `left`."""
    if vault.shares == 0:
        return
    vault.move(Edge.pay_in, None, vault.cash * entering // MILLION)
    more = max(0, (vault.shares - vault.waiting - left) * leaving // MILLION)
    vault.waiting += more


def settle(vault: Vault, state: Any, entered: int) -> None:
    """Mint for `entered` and pay for what waits, at the struck NAV of `state`, as far as the wall lets it."""
    if not state.struck or vault.shares == 0 or not (entered or vault.waiting):
        return
    nav, shares, waiting, cost = state.nav, vault.shares, vault.waiting, max(0, state.flow_cost)
    due = waiting * (nav + 1) // (shares + VIRTUAL)
    joining = entered * (shares + VIRTUAL) > waiting * (nav + 1)
    minted = max(0, entered - (cost if joining else 0)) * (shares + VIRTUAL) // (nav + 1)
    paid = max(0, due - (0 if joining else cost))
    if wall_of(vault.mark, vault.limit.keep, shares + minted - waiting) + paid > vault.cash:
        waiting, paid = 0, 0  # what is not free waits for the next strike
    minted = min(minted, bearable(vault, shares - waiting))
    vault.shares += minted - waiting
    vault.waiting -= waiting
    if vault.shares == 0:
        vault.mark, vault.locked_since, vault.rebase_at = 0, NEVER, NEVER
    reserve = min(paid, vault.accounts[AccountKind.reserve] - vault.wall)
    vault.move(Edge.redeem_reserve, None, max(0, reserve))
    vault.move(Edge.redeem_cushion, None, paid - max(0, reserve))
    vault.move(Edge.ratchet, None, max(0, vault.wall - vault.accounts[AccountKind.reserve]))


def bearable(vault: Vault, shares: int) -> int:
    """The most shares that can be minted on top of `shares` so that the cash bears the wall."""
    floor, cash = ceil_part(vault.mark, vault.limit.keep), vault.cash
    most = min((cash + 1) * ONE // floor - VIRTUAL, cash * ONE // floor) if floor else shares
    return max(0, most - shares)


def copy_to(vault: Vault, row: Any) -> None:
    """Bring a row of VAULT to what the twin's vault is after its flows."""
    if max(vault.shares, vault.mark, vault.cash) >= LARGEST:
        raise TooLarge
    for kind in (AccountKind.reserve, AccountKind.cushion, AccountKind.entering, AccountKind.world):
        row[kind.value] = vault.accounts[kind]
    row.shares, row.waiting, row.high_water_mark = vault.shares, vault.waiting, vault.mark
    row.locked_since, row.rebase_at = vault.locked_since, vault.rebase_at
