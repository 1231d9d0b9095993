"""Holders' statements as a report shows them, and those of a back-test, which keeps no register."""

from collections.abc import Mapping
from dataclasses import dataclass

from ringfence.runtime.runs import VaultRun
from ringfence.vaults.mandate.terms import MILLION
from ringfence.vaults.shares import Pool, State, preview_redeem, split_deposit

__all__ = ["StatementRow", "statements_of_run"]


@dataclass(frozen=True, slots=True)
class StatementRow:
    """What one holder put into a vault, took out, and holds. Money in minor units; shares have three decimals more."""

    vault: str
    holder: str
    deposited: int
    redeemed: int
    shares: int
    value: int
    """What the shares would fetch at the last NAV per share."""
    value_worst: int
    """The shares' part of the wall: what they cannot fall below."""
    decimals: int
    entering: int = 0
    """Paid in, and waiting for a strike."""

    @property
    def profit(self) -> int:
        """What is held, waits to enter and was paid out, less what was paid in."""
        return self.value + self.entering + self.redeemed - self.deposited

    @property
    def lose_most(self) -> int:
        """What the shares can still lose."""
        return self.value - self.value_worst


def statements_of_run(run: VaultRun, deposits: Mapping[str, int]) -> list[StatementRow]:
    """What each holder paid in and holds at the end of a run of at least one slot; amounts rounded down.

    In a back-test everybody enters before the first bar and nobody leaves.
    """
    state = State(0, 0, 0, 0, 0, 0)
    keep = MILLION - round(run.loss_cap * MILLION)
    total, nav, wall = int(run.shares[-1]), int(run.nav[-1]), int(run.wall[-1])
    statements = []
    for holder, amount in deposits.items():
        booked = split_deposit(state, amount, keep)
        state = booked.state
        value, worst = (preview_redeem(Pool(assets, total), booked.shares) for assets in (nav, wall))
        statements.append(StatementRow(run.vault, holder, amount, 0, booked.shares, value, worst, run.decimals))
    return statements
