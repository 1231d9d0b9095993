"""Random worlds for the compiled step: paths with jumps and gaps, instruments, mandates, proposals, funded books.

Everything is drawn from one numpy generator, a whole table at once, so that ten thousand vaults cost little.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringfence.markets.simulator import Record, Walk, blank_series
from ringfence.risk.book import (
    BAR,
    INSTRUMENT,
    PROPOSAL,
    Book,
    Limits,
    Rows,
    Terms,
    empty_book,
    limits,
    rows,
    tier_deductions,
)
from ringfence.risk.tape import blank_tape
from ringfence.risk.wall import wall_amount

Floats = npt.NDArray[np.float64]
MILLION = 10**6

SCALES = ((20_000.0, 1_000), (2_000.0, 1_000), (150.0, 1_000_000), (0.6, 100_000), (0.08, 1_000_000), (2e-3, 1_000_000))
"""(price, minor units that a lot is worth at a price of 1): from bitcoin to a coin of a fifth of a cent."""


class World(NamedTuple):
    book: Book
    limits: Limits
    listing: Rows
    bars: Rows
    slot: npt.NDArray[np.int64]
    proposals: Rows

    @property
    def terms(self) -> Terms:
        return Terms(self.limits, self.listing)

    @property
    def walk(self) -> Walk:
        return Walk(self.bars, self.slot, self.proposals)

    def record(self, transfers: int = 20_000, events: int = 20_000, *, detailed: bool = True) -> Record:
        """A blank tape and blank series of every decision."""
        vaults, positions = len(self.book.vaults), len(self.book.positions)
        series = blank_series(len(self.proposals), vaults, positions, detailed=detailed)
        return Record(blank_tape(transfers, events), series)


class Rough(NamedTuple):
    """How rough a world is."""

    jump: float = 0.6
    """A jump moves the price to between 1 - jump and 1 + jump of what it was."""
    often: float = 0.05
    """The probability of a jump at a bar."""
    drift: float = 0.004
    """Standard deviation of a bar without a jump."""
    missing: float = 0.05
    """The probability that a bar is missing."""
    funding: float = 0.05
    """The largest |rate| at a stamp."""
    basis: float = 0.01
    """How far the mark strays from the last price; 0: it never does."""
    cost: float = 0.005
    """The largest half spread and the largest slippage."""
    odd: float = 0.03
    """The probability of a proposal that is absent, not finite or absurd."""


def contract(
    unit: int, rates: Sequence[int] = (0,), floors: Sequence[int] = (0,), saved: Sequence[int] | None = None,
    inverse: bool = False,
) -> Any:  # fmt: skip
    """A row of INSTRUMENT; deductions by continuity unless `saved` states them."""
    row = rows(INSTRUMENT, 1, unit=unit, inverse=inverse, tiers=len(rates))[0]
    deductions = tier_deductions(floors, rates) if saved is None else saved
    row.tier[: len(rates)] = list(zip(floors, rates, deductions, [100.0] * len(rates), strict=True))
    return row


def paths(rng: np.random.Generator, bars: int, start: Floats, rough: Rough) -> Rows:
    """(bars, N) of BAR around `start` (N,): half of a bar's jump falls into the gap before it or inside it."""
    shape = (bars, len(start))
    moved = np.exp(rng.normal(0.0, rough.drift, shape))
    jumped = np.where(rng.random(shape) < rough.often, 1.0 + rng.uniform(-rough.jump, rough.jump, shape), 1.0)
    inside = rng.random(shape) < 0.5
    gap, body = np.where(inside, 1.0, jumped), moved * np.where(inside, jumped, 1.0)
    valid = rng.random(shape) >= rough.missing
    gap, body = np.where(valid, gap, 1.0), np.where(valid, body, 1.0)
    close = start * np.cumprod(gap * body, axis=0)
    opened = np.vstack([start[None], close[:-1]]) * gap
    wick = 1.0 + np.abs(rng.normal(0.0, rough.drift, (2, *shape))) * valid
    high, low = np.maximum(opened, close) * wick[0], np.minimum(opened, close) / wick[1]
    strayed = 1.0 + rng.uniform(-rough.basis, rough.basis, shape) * valid * (rng.random(shape) < 0.5)
    stamped = rng.random(shape) < 0.1
    return rows(
        BAR, shape, open=opened, high=high, low=low, close=close,
        mark_open=opened * strayed, mark_high=high * strayed, mark_low=low * strayed, mark_close=close * strayed,
        funding_rate=np.where(stamped, rng.uniform(-rough.funding, rough.funding, shape), 0.0), funding=stamped,
        valid=valid,
    )  # fmt: skip


def venue_listing(rng: np.random.Generator, count: int, around: float) -> tuple[Rows, Floats]:
    """`count` instruments whose tiers begin around a notional of `around` minor units, and their first prices."""
    table = rows(INSTRUMENT, count)
    price = np.zeros(count)
    for n in range(count):
        scale, unit = SCALES[int(rng.integers(len(SCALES)))]
        price[n] = scale * rng.uniform(0.5, 2.0)
        tiers = int(rng.integers(1, 7))
        edges = np.unique((around * np.exp(rng.uniform(-3.0, 3.0, tiers - 1)) / MILLION).astype(np.int64) + 1)
        floors = [0, *(int(edge) * MILLION for edge in edges)]
        rates = [int(rate) for rate in np.cumsum(rng.integers(1_000, 40_000, len(floors)))]
        table[n].unit, table[n].tiers = unit, len(floors)
        table[n].notional_min = int(rng.choice([0, 5_000_000, 100_000_000]))
        table[n].tier[: len(floors)] = [
            (floor, rate, deduction, min(100.0, MILLION / rate / 1.5))
            for floor, rate, deduction in zip(floors, rates, tier_deductions(floors, rates), strict=True)
        ]
    return table, price


def mandates(rng: np.random.Generator, vaults: int, each: int, rough: Rough) -> Limits:
    """Caps of 1 to 95 %, shares that sum to at most the whole, leverages up to 100, every band."""
    count = vaults * each
    parts = rng.dirichlet(np.ones(each + 1), vaults)[:, :each]
    called = rng.integers(1_000_001, 4_000_000, count)
    return limits(
        keep=rng.integers(50_000, 990_001, vaults).tolist(),
        gross_leverage_max=rng.choice([0.5, 2.0, 10.0, 100.0], vaults).tolist(),
        share=np.floor(parts * MILLION).astype(np.int64).reshape(-1),
        leverage_max=rng.choice([1.0, 5.0, 20.0, 100.0], count),
        volatility_max=rng.choice([0.5, 3.0, 1e9], count),
        distance_sigmas=rng.choice([0.0, 0.05, 0.12], count),
        distance_slippage=rng.choice([0.0, 0.01], count),
        band=rng.choice([0.0, 0.1, 0.5], count),
        call_at=called,
        call_to=called + rng.integers(1, 3_000_000, count),
        half_spread=rng.uniform(0.0, rough.cost, count),
        slippage=rng.uniform(0.0, rough.cost, count),
        taker_fee=rng.integers(0, 10_001, count),
        liquidation_fee=rng.integers(0, 30_001, count),
    )


def opinions(rng: np.random.Generator, decisions: int, positions: int, rough: Rough) -> Rows:
    """(decisions, positions) of PROPOSAL, of both signs, some of them absent, not finite or absurd."""
    shape = (decisions, positions)
    leverage = rng.normal(0.0, 1.0, shape) * rng.choice([0.5, 3.0, 30.0], positions)
    leverage = np.where(rng.random(shape) < 0.3, np.roll(leverage, 1, axis=0), leverage)
    odd = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 0.0, -0.0])
    leverage = np.where(rng.random(shape) < rough.odd, rng.choice(odd, shape), leverage)
    volatility = np.exp(rng.normal(-0.5, 0.5, shape))
    volatility = np.where(
        rng.random(shape) < rough.odd, rng.choice([np.nan, np.inf, 0.0, -1.0, 1e-300], shape), volatility
    )
    return rows(
        PROPOSAL, shape, leverage=leverage, volatility=volatility,
        proposed=rng.random(shape) >= rough.odd, known=rng.random(shape) >= rough.odd,
    )  # fmt: skip


def fund(book: Book, allowed: Limits, nav: npt.NDArray[np.int64]) -> None:
    """Put `nav` minor units into each vault at a thousand shares a minor unit, the reserve at its wall."""
    for vault, limit, amount in zip(book.vaults, allowed.vaults, nav.tolist(), strict=True):
        vault.shares = amount * 1000
        vault.high_water_mark = (1 << 50) // 1000
        vault.reserve = wall_amount(int(vault.high_water_mark), int(limit.keep), int(vault.shares))
        vault.cushion = amount - vault.reserve
        vault.world = -amount


def world(
    rng: np.random.Generator, *, vaults: int, each: int, symbols: int, bars: int, every: int = 3,
    rough: Rough | None = None, nav_max: float = 1e11,
) -> World:  # fmt: skip
    """`vaults` vaults of `each` positions over `symbols` instruments, funded with 10 USDT to `nav_max` minor units; a
    decision every `every` bars."""
    rough = rough or Rough()
    nav = np.exp(rng.uniform(np.log(1e7), np.log(nav_max), vaults)).astype(np.int64)
    listing, start = venue_listing(rng, symbols, float(np.median(nav)))
    allowed = mandates(rng, vaults, each, rough)
    book = empty_book([0] * each, vaults)
    # neighbours on the same path make no path more random, so position p of vault v trades symbol v*each + p
    book.positions.symbol = np.arange(vaults * each) % symbols
    fund(book, allowed, nav)
    slot = np.full(bars, -1, np.int64)
    slot[every - 1 :: every] = np.arange(len(slot[every - 1 :: every]))
    return World(
        book, allowed, listing, paths(rng, bars, start, rough), slot,
        opinions(rng, len(slot[every - 1 :: every]), vaults * each, rough),
    )  # fmt: skip


def copied(book: Book) -> Book:
    return Book(book.vaults.copy(), book.positions.copy())
