"""Holders' statements of a back-test: everybody entered before the first bar and nobody has left."""

from collections.abc import Mapping

from ringfence.faces.report.row import StatementRow
from ringfence.runtime.runs import VaultRun
from ringfence.vaults.mandate.terms import MILLION
from ringfence.vaults.shares import Pool, State, preview_redeem, split_deposit

__all__ = ["statements_of_run"]


def statements_of_run(run: VaultRun, deposits: Mapping[str, int]) -> list[StatementRow]:
    """What each holder paid in and holds at the end of a run of at least one slot; amounts rounded down."""
    state = State(0, 0, 0, 0, 0, 0)
    keep = MILLION - round(run.loss_cap * MILLION)
    total, nav, wall = int(run.shares[-1]), int(run.nav[-1]), int(run.wall[-1])
    rows = []
    for holder, amount in deposits.items():
        booked = split_deposit(state, amount, keep)
        state = booked.state
        value, worst = (preview_redeem(Pool(assets, total), booked.shares) for assets in (nav, wall))
        rows.append(StatementRow(run.vault, holder, amount, 0, booked.shares, value, worst, run.decimals))
    return rows
