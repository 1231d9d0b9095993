"""What a run of a vault was: the one shape that back-test and replay both hand to tables, reports and digests."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from ringfence.risk.book import Flags, Floats, Ints
from ringfence.risk.edges import AccountKind
from ringfence.risk.events import Event, Kind
from ringfence.words.numbers import format_amount, format_mark, format_per_share

__all__ = ["PositionRun", "VaultRun", "digest", "liquidation_distance", "summary"]


@dataclass(frozen=True, eq=False)
class PositionRun:
    """One sub-position over the K decisions of a run. Masked where a value did not exist (flat, warming up)."""

    name: str
    symbol: str
    price: Floats
    quantity: Ints
    proposed: np.ma.MaskedArray
    allowed: np.ma.MaskedArray
    leverage: np.ma.MaskedArray
    """|notional| / collateral after the decision, signed like the position: what proposals and limits count."""
    effective_leverage: np.ma.MaskedArray
    """|notional| / equity, signed likewise."""
    bound: Ints
    """risk.events.Bound of each decision."""
    volatility: np.ma.MaskedArray
    """Realised, per year."""
    liquidation_distance: np.ma.MaskedArray
    """|mark - liquidation price| / mark."""
    lot: Decimal
    """What one lot is, in units of the base currency."""


@dataclass(frozen=True, eq=False)
class VaultRun:
    vault: str
    title: str
    currency: str
    decimals: int
    loss_cap: float
    mandate: str
    """Fingerprint of the mandate."""
    ts: Ints
    """(K,) UTC epoch milliseconds of each decision: the close of its slot."""
    nav: Ints
    wall: Ints
    shares: Ints
    high_water_mark: Ints
    """(K,) minor units per share unit x 2**50."""
    low: Floats
    """(K,) lowest NAV per share since the decision before, at any bar's worst point; minor units per share unit, NaN
    while there are no shares."""
    locked: Flags
    """(K,) whether the vault was cash-locked after the decision: less than a twentieth of its full cushion was left."""
    struck: Flags
    """(K,) whether a NAV was struck: not where a position could not be traded."""
    positions: tuple[PositionRun, ...]
    events: tuple[Event, ...]
    """Event.position indexes `positions`."""
    price_low: float
    """Lowest NAV per share at any bar, minor units per share unit (1e-3 = the first depositor's price)."""
    distance_low: float
    """Lowest (NAV - wall) / NAV, at any bar."""
    balances: dict[str, int]
    """The ledger's accounts that are not zero, by name."""


_IN_DIGESTS = {AccountKind.costs.value: "fees"}
"""Digests are compared across versions, so an account keeps the name that it had in the first of them."""


def digest(runs: Sequence[VaultRun]) -> str:
    """SHA-256 over every run's events, balances and NAV series, vaults in order of their names."""
    content = hashlib.sha256()
    for run in sorted(runs, key=lambda run: run.vault):
        series = np.column_stack((run.ts, run.nav, run.wall, run.shares, run.high_water_mark)).tolist()
        lows = [repr(run.price_low), repr(run.distance_low)]
        events = [astuple(event) for event in run.events]
        balances = sorted((_IN_DIGESTS.get(name, name), balance) for name, balance in run.balances.items())
        body = [run.vault, run.mandate, events, balances, series, lows]
        content.update(json.dumps(body, separators=(",", ":")).encode() + b"\n")
    return content.hexdigest()


def summary(run: VaultRun) -> dict[str, Any]:
    """A run in figures, amounts as text; `None` where there is nothing to say (an empty vault, no slots)."""
    counts = Counter(event.kind for event in run.events)
    last = len(run.ts) - 1
    shares = int(run.shares[last]) if last >= 0 else 0

    def money(amount: int) -> str:
        return format_amount(amount, run.decimals)

    def at_end(series: Ints) -> str | None:
        return format_per_share(int(series[last]), shares) if last >= 0 else None

    return {
        "vault": run.vault,
        "mandate": run.mandate,
        "nav": money(int(run.nav[last])) if last >= 0 else None,
        "nav_per_share": at_end(run.nav),
        "nav_per_share_low": f"{run.price_low * 1000:.12f}" if np.isfinite(run.price_low) else None,
        "high_water_mark": format_mark(int(run.high_water_mark[last])) if shares else None,
        "wall": money(int(run.wall[last])) if last >= 0 else None,
        "wall_per_share": at_end(run.wall),
        "wall_distance_low": f"{run.distance_low:.12f}" if np.isfinite(run.distance_low) else None,
        "slots": len(run.ts),
        "resizes": counts[Kind.resize],
        "margin_calls": counts[Kind.margin_call],
        "liquidations": counts[Kind.liquidation],
        "refusals": counts[Kind.refusal],
        "shortfall": money(sum(event.shortfall for event in run.events)),
    }


def liquidation_distance(mark: Floats, price: Floats) -> np.ma.MaskedArray:
    """|mark - liquidation price| / mark, masked where the liquidation price is 0.0 (none)."""
    return np.ma.masked_array(np.abs(mark - price) / np.where(mark > 0.0, mark, 1.0), price == 0.0)
