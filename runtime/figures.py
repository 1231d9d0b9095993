"""The figures of a run: its performance, what it cost, and the two yardsticks on the same bars.

No formula stands here: performance is `risk.metrics`, the yardsticks are `markets.yardsticks`; this module reads a run,
its mandate's setup and its market into them. A run is measured from the last time that its vault had no shares: the
price of 1 at which the first deposit entered, one slot before the first decision that found shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ringfence.markets.market import Market
from ringfence.markets.slots import Slots
from ringfence.markets.yardsticks import Cushion, Yardstick, buy_and_hold, cppi
from ringfence.risk.book import Floats, Ints
from ringfence.risk.events import Event, Kind
from ringfence.risk.metrics import Performance, performance, spread_cost
from ringfence.runtime.runs import VaultRun
from ringfence.runtime.setup import Setup
from ringfence.vaults.mandate.terms import MILLION

__all__ = ["Costs", "Figures", "Measured", "figures"]

_ONE_SHARE = 1e-3
"""Minor units per share unit at which the first deposit enters."""
_TRADES = (Kind.resize, Kind.margin_call, Kind.liquidation, Kind.roll)


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run paid to the market, minor units, each of it once."""

    fees: int
    """The venue's fees on fills and liquidations, rolls left out."""
    spread: int
    """Half the spread and the slippage of the same fills, to the nearest unit."""
    rolls: int
    """Fees, spread and slippage of rolls: open profit realised at a strike."""
    funding: int
    """Paid (+) or received (-), net."""

    @property
    def total(self) -> int:
        return self.fees + self.spread + self.rolls + self.funding


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of holding the symbols, measured: the vault or a yardstick."""

    performance: Performance
    turnover: float | None
    """What was traded over the NAV: the sum over the run, not per year; None where the NAV was never above 0."""
    costs: float | None
    """All costs, funding included, likewise."""
    locked: float
    """The part of the decisions at which next to nothing stood above the floor."""


@dataclass(frozen=True, slots=True)
class Figures:
    vault: Measured
    costs: Costs
    nav_mean: int
    """Mean NAV struck over the decisions with shares, minor units: what parts of NAV are measured by."""
    trades: int
    """Fills: resizes, margin calls, liquidations and rolls."""
    hold: Measured | None
    """Buy and hold of the same symbols; None where the market does not cover the run's decisions."""
    plain: Measured | None
    """Plain CPPI under the mandate's cap, likewise."""


def figures(run: VaultRun, setup: Setup, market: Market) -> Figures | None:
    """Every figure of a run that lived under this setup through this market; None for a run that nobody had shares in.

    Yardsticks begin where the run begins, with the same costs and the mandate's own cap, band and gross limit; the
    multiple of the cushion is share times leverage_max, what the mandate itself may hold of its risk capital.
    """
    empty = np.flatnonzero(run.shares <= 0)
    first = int(empty[-1]) + 1 if len(empty) else 0
    if first >= len(run.ts):
        return None
    timeframe = setup.mandate.timeframe
    ts = np.concatenate(([run.ts[first] - timeframe], run.ts[first:]))
    price = run.nav[first:] / run.shares[first:]
    measured = performance(ts, _from(_ONE_SHARE, price), _from(_ONE_SHARE, run.low[first:]))
    events = [event for event in run.events if event.ts > ts[0] or not first]
    costs, traded = _costs(events, setup)
    nav = float(run.nav[first:].mean())
    vault = Measured(
        measured,
        traded / nav if nav > 0.0 else None,
        costs.total / nav if nav > 0.0 else None,
        float(run.locked[first:].mean()),
    )
    trades = sum(event.kind in _TRADES for event in events)
    hold, plain = _yardsticks(run.ts[first:], ts, setup, market)
    return Figures(vault, costs, round(nav), trades, hold, plain)


def _from(start: float, values: Floats) -> Floats:
    return np.concatenate(([start], values))


def _costs(events: Sequence[Event], setup: Setup) -> tuple[Costs, float]:
    """What the events cost, and the value that they traded, minor units."""
    fees = rolls = funding = 0
    spread = rolled = traded = 0.0
    for event in events:
        if event.kind == Kind.funding:
            funding -= event.amount
        if event.kind not in _TRADES:
            continue
        unit, limit = setup.instruments[event.position].unit, setup.limits.positions[event.position]
        lots = event.quantity_after - event.quantity_before
        lost = spread_cost(lots, event.price, unit, float(limit.half_spread + limit.slippage))
        traded += abs(lots) * unit * event.price
        if event.kind == Kind.roll:
            rolls, rolled = rolls + event.fee, rolled + lost
        else:
            fees, spread = fees + event.fee, spread + lost
    return Costs(fees, round(spread), rolls + round(rolled), funding), traded


def _yardsticks(
    decisions: Ints, ts: Ints, setup: Setup, market: Market
) -> tuple[Measured, Measured] | tuple[None, None]:
    slots = Slots(market, setup.mandate.timeframe)
    closes = slots.opens + slots.timeframe
    first = int(np.searchsorted(closes, decisions[0]))
    span = (first, first + len(decisions))
    if not np.array_equal(closes[slice(*span)], decisions):
        return None, None
    positions = tuple(setup.mandate.positions.values())
    limits, total = setup.limits.positions, sum(position.share for position in positions)
    cost = limits.half_spread + limits.slippage + limits.taker_fee / MILLION
    shares = np.array([position.share for position in positions], np.float64)
    terms = Cushion(
        cap=setup.mandate.loss_cap / MILLION,
        multiplier=shares / MILLION * limits.leverage_max,
        gross_max=float(setup.mandate.limits.gross_leverage_max),
        band=np.ascontiguousarray(limits.band),
        cost=np.ascontiguousarray(cost),
    )
    return _of_yardstick(ts, buy_and_hold(slots, span, shares / total, cost)), _of_yardstick(
        ts, cppi(slots, span, terms)
    )


def _of_yardstick(ts: Ints, found: Yardstick) -> Measured:
    measured = performance(ts, _from(1.0, found.value), _from(1.0, found.low))
    return Measured(measured, found.turnover, found.costs + found.funding, found.locked)
