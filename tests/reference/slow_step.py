"""The slow twin of the whole step: paper exchange, wall, decision, strike and flows, vault by vault and bar by bar.

It knows nothing of watches, of shortcuts for settled positions or of tapes that fill up: every position is checked at
every bar and every plan is carried out. It was written from the rules, not from the compiled code.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ringfence.risk.edges import OF_POSITIONS, AccountKind
from tests.reference.slow_book import NO_LOW, Instrument, Moved, Position, Told, TooLarge, Vault, plain, plain_rows
from tests.reference.slow_plan import Plan, carry_out, plan_vault
from tests.reference.slow_strike import settle_flows, strike
from tests.reference.slow_venue import Tick, venue

__all__ = ["Moved", "PositionState", "SlowBook", "Told", "TooLarge", "VaultState", "plain", "vault_of"]


class VaultState(NamedTuple):
    """By the names of VAULT_STATE."""

    nav: int
    high_water_mark: int
    nav_low: int
    flow_cost: int
    locked: bool
    struck: bool


class PositionState(NamedTuple):
    """By the names of POSITION_STATE."""

    quantity: int
    allowed: float
    leverage: float
    effective_leverage: float
    liquidation_price: float
    bound: int


class Decision(NamedTuple):
    vault: VaultState
    positions: list[PositionState]


def step(vault: Vault, tick: Tick, proposals: Any) -> Decision | None:
    """One bar of one vault; a decision where its close brings proposals."""
    worst = venue(vault, tick)
    if vault.shares:
        vault.nav_low = min(vault.nav_low, worst)
    if proposals is None:
        return None
    vault.note_low(vault.nav_low)
    can_strike = all(tick.bars[one.symbol].valid for one in vault.positions if one.quantity)
    plans = plan_vault(vault, tick, proposals, vault.nav(tick.bars), can_strike)
    carry_out(vault, tick, plans)
    struck = can_strike and strike(vault, tick, plans)
    if not struck and vault.rebase_at >= 0:
        vault.rebase_at += vault.limit.timeframe
    nav = vault.nav(tick.bars)
    vault.note_low(nav)
    low, vault.nav_low = min(vault.nav_low, nav), NO_LOW
    cost = settle_flows(vault, tick, nav, plans) if struck else 0
    state = VaultState(nav, vault.mark, low, cost, vault.locked, struck)
    return Decision(state, [_detail(vault, tick, one, plan) for one, plan in zip(vault.positions, plans, strict=True)])


def _detail(vault: Vault, tick: Tick, one: Position, plan: Plan) -> PositionState:
    mark = tick.bars[one.symbol].mark_close
    leverage = vault.signed_notional(one, mark) / float(plan.collateral) if one.quantity and plan.collateral else 0.0
    return PositionState(one.quantity, plan.allowed, leverage, vault.leverage(one, mark), vault.liquidation_price(one),
                         int(plan.bound))  # fmt: skip


_KINDS = {kind: kind.value for kind in AccountKind if kind not in OF_POSITIONS}


def vault_of(book: Any, limits: Any, v: int, instruments: Sequence[Any]) -> Vault:
    """Vault number `v` of a book; `instruments` of its positions by symbol, None where nothing will be traded."""
    row, positions = plain(book.vaults[v]), []
    accounts: dict[Any, int] = {kind: getattr(row, name) for kind, name in _KINDS.items()}
    for p in range(row.first, row.last):
        held = plain(book.positions[p])
        accounts[AccountKind.margin, p] = held.margin
        positions.append(
            Position(p, held.symbol, held.quantity, held.cost, held.refused, plain(limits.positions[p]),
                     instruments[held.symbol])
        )  # fmt: skip
    return Vault(v, row.shares, row.waiting, row.high_water_mark, row.locked_since, row.rebase_at, row.nav_low,
                 row.price_low, row.distance_low, plain(limits.vaults[v]), positions, accounts)  # fmt: skip


class SlowBook:
    """The twin of a book under its limits: `live` through spans of bars, then compare."""

    def __init__(self, book: Any, limits: Any, listing: Any) -> None:
        instruments = [Instrument.of(row) for row in listing]
        self.vaults = [vault_of(book, limits, v, instruments) for v in range(len(book.vaults))]

    def live(self, walk: Any, span: tuple[int, int]) -> list[list[Decision]]:
        """The decisions of bars `span[0]` up to but without `span[1]`: for each of them one a vault."""
        found: list[list[Decision]] = []
        for bar in range(*span):
            at, opened = int(walk.slot[bar]), int(walk.ts[bar])
            tick = Tick(opened, opened + int(walk.length), plain_rows(walk.bars[bar]), walk.stamps)
            asked = plain_rows(walk.proposals[at]) if at >= 0 else None
            made = []
            for vault in self.vaults:
                vault.bar = bar
                decision = step(vault, tick, asked)
                if decision is not None:
                    made.append(decision)
            if at >= 0:
                found.append(made)
        return found
