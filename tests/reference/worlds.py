"""Random worlds for the compiled step: paths with jumps and gaps, instruments, mandates, proposals, funded books.

Everything is drawn from one numpy generator, a whole table at once, so that ten thousand vaults cost little.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringfence.markets.simulator import Record, Walk, blank_series
from ringfence.risk.book import (
    BAR,
    INSTRUMENT,
    POSITION_LIMITS,
    PROPOSAL,
    STAMP,
    VAULT_LIMITS,
    Book,
    Limits,
    Rows,
    Terms,
    empty_book,
    rows,
    tier_deductions,
)
from ringfence.risk.events import Kind
from ringfence.risk.tape import blank_tape

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MILLION, ONE, VIRTUAL = 10**6, 2**50, 1000
INT_MAX = 2**63 - 1

OF_A_VENUE = {Kind.deleveraging, Kind.by_hand}
"""What only a venue with books of its own tells."""

START, HOUR = 1_600_000_000_000 // 3_600_000 * 3_600_000, 3_600_000

SCALES = ((20_000.0, 1_000), (2_000.0, 1_000), (150.0, 1_000_000), (0.6, 100_000), (0.08, 1_000_000), (2e-3, 1_000_000))
"""(price, minor units that a lot is worth at a price of 1): from bitcoin to a coin of a fifth of a cent."""
INVERSE_SCALES = ((20_000.0, 10_000_000_000), (2_000.0, 1_000_000_000), (0.6, 1_000_000))
"""The same of contracts that are settled in the base coin."""

FLOW = np.dtype([("entering", np.int64), ("leaving", np.int64), ("left", np.int64)])
"""What is asked for before a slot: parts per million of the cash paid in, of the shares asked back, and how many shares
stay whatever is asked."""


class World(NamedTuple):
    book: Book
    limits: Limits
    listing: Rows
    bars: Rows
    ts: Ints
    length: int
    stamps: Rows
    slot: Ints
    proposals: Rows
    flows: Rows
    """(K, V) of FLOW: what stands in the book before each slot."""

    @property
    def terms(self) -> Terms:
        return Terms(self.limits, self.listing)

    @property
    def walk(self) -> Walk:
        return Walk(self.bars, self.ts, self.length, self.stamps, self.slot, self.proposals)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First and one past the last bar of each slot, and of the bars that no decision follows."""
        ends = [0, *(int(bar) + 1 for bar in np.flatnonzero(self.slot >= 0)), len(self.bars)]
        return [(first, last) for first, last in pairwise(ends) if first < last]

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
    stamped: float = 0.1
    """The mean count of funding stamps in a bar's time."""
    thin: float = 0.0
    """The probability that a bar's volume is known; a tenth of those have none."""
    inverse: float = 0.0
    """The share of instruments that are settled in the base coin."""
    flows: float = 0.0
    """The probability that somebody pays in before a slot, and that somebody asks shares back."""
    crumbs: float = 0.0
    """The share of vaults that hold less than 2,000 minor units."""
    calm: float = 0.0
    """The share of positions whose proposal never changes, so that profit stays open in them."""


def contract(
    unit: int, rates: Sequence[int] = (0,), floors: Sequence[int] = (0,), saved: Sequence[int] | None = None,
    inverse: bool = False,
) -> Any:  # fmt: skip
    """A row of INSTRUMENT; deductions by continuity unless `saved` states them."""
    row = rows(INSTRUMENT, 1, unit=unit, inverse=inverse, tiers=len(rates), scale=1e6)[0]
    deductions = tier_deductions(floors, rates) if saved is None else saved
    row.tier[: len(rates)] = list(zip(floors, rates, deductions, [100.0] * len(rates), strict=True))
    return row


def _clock(rng: np.random.Generator, bars: int, rough: Rough) -> Ints:
    """(bars,) opens in ms; where the whole market was down some bars are not there at all."""
    down = np.where(rng.random(bars) < rough.missing / 4, rng.integers(1, 12, bars), 0)
    return START + HOUR * (np.arange(bars) + np.cumsum(down))


def paths(rng: np.random.Generator, start: Floats, ts: Ints, rough: Rough) -> Rows:
    """(bars, N) of BAR around `start` (N,), without funding and of unknown volume: a third of the jumps fall into the
    gap before a bar, a third inside it, and a third inside it and back."""
    shape = (len(ts), len(start))
    moved = np.exp(rng.normal(0.0, rough.drift, shape))
    jumped = np.where(rng.random(shape) < rough.often, 1.0 + rng.uniform(-rough.jump, rough.jump, shape), 1.0)
    where = rng.integers(0, 3, shape)
    valid = rng.random(shape) >= rough.missing
    gap, body = np.where(where == 0, jumped, 1.0), moved * np.where(where == 1, jumped, 1.0)
    gap, body = np.where(valid, gap, 1.0), np.where(valid, body, 1.0)
    close = start * np.cumprod(gap * body, axis=0)
    opened = np.vstack([start[None], close[:-1]]) * gap
    wick = 1.0 + np.abs(rng.normal(0.0, rough.drift, (2, *shape))) * valid
    spike = np.where(valid & (where == 2), jumped, 1.0)
    high, low = np.maximum(opened, close) * wick[0], np.minimum(opened, close) / wick[1]
    high, low = high * np.maximum(spike, 1.0), low * np.minimum(spike, 1.0)
    strayed = 1.0 + rng.uniform(-rough.basis, rough.basis, shape) * valid * (rng.random(shape) < 0.5)
    return rows(
        BAR, shape, open=opened, high=high, low=low, close=close, valid=valid, volume=np.inf,
        mark_open=opened * strayed, mark_high=high * strayed, mark_low=low * strayed, mark_close=close * strayed,
    )  # fmt: skip


def stamp(rng: np.random.Generator, bars: Rows, ts: Ints, rough: Rough) -> Rows:
    """(F,) of STAMP, and each bar's own of them: those in its time, and those in the hole before it."""
    size, symbols = bars.shape
    hole = np.diff(ts, prepend=ts[0] - HOUR)  # back to the open of the bar before
    counts = rng.poisson(rough.stamped * np.minimum(4, hole // HOUR)[:, None], (size, symbols))
    found, used = [], 0
    for n in range(symbols):
        at = np.repeat(np.arange(size), counts[:, n])
        # some stamps lie in the time that the market was down before the bar, which then is the next one
        times = ts[at] + HOUR - 1 - np.floor(rng.random(at.size) * hole[at]).astype(np.int64)
        times = np.sort(times)
        row = np.searchsorted(ts + HOUR, times, side="right")
        traded = np.flatnonzero(bars.valid[:, n])
        following = np.searchsorted(traded, row)
        kept = following < len(traded)
        owner = traded[following[kept]]
        bars.stamps_from[:, n] = used + np.searchsorted(owner, np.arange(size), side="left")
        bars.stamps_to[:, n] = used + np.searchsorted(owner, np.arange(size), side="right")
        rate = rng.uniform(-rough.funding, rough.funding, int(kept.sum()))
        found.append(rows(STAMP, len(rate), ts=times[kept], rate=rate))
        used += len(rate)
    bars.funding[:] = bars.stamps_to > bars.stamps_from
    return np.concatenate(found).view(np.recarray)


def trade(rng: np.random.Generator, bars: Rows, listing: Rows, around: float, rough: Rough) -> None:
    """Give some bars a volume: of none at all, or around what a vault of `around` minor units may hold."""
    shape = bars.shape
    price = np.where(listing.inverse, 1.0, bars.close)
    volume = around / (price * listing.scale) * np.exp(rng.uniform(-4.0, 6.0, shape))
    volume = np.where(rng.random(shape) < 0.1, 0.0, volume)
    bars.volume[:] = np.where(rng.random(shape) < rough.thin, volume, np.inf)


def venue_listing(rng: np.random.Generator, count: int, around: float, inverse: float = 0.0) -> tuple[Rows, Floats]:
    """`count` instruments whose tiers begin around a notional of `around` minor units, and their first prices."""
    table = rows(INSTRUMENT, count)
    price = np.zeros(count)
    for n in range(count):
        table[n].inverse = rng.random() < inverse
        scales = INVERSE_SCALES if table[n].inverse else SCALES
        scale, unit = scales[int(rng.integers(len(scales)))]
        price[n] = scale * rng.uniform(0.5, 2.0)
        tiers = int(rng.integers(1, 7))
        edges = np.unique((around * np.exp(rng.uniform(-3.0, 3.0, tiers - 1)) / MILLION).astype(np.int64) + 1)
        floors = [0, *(int(edge) * MILLION for edge in edges)]
        rates = [int(rate) for rate in np.cumsum(rng.integers(1_000, 40_000, len(floors)))]
        table[n].unit, table[n].tiers, table[n].scale = unit, len(floors), 1e8 if table[n].inverse else 1e6
        table[n].notional_min = int(rng.choice([0, 5_000_000, 100_000_000]))
        table[n].tier[: len(floors)] = [
            (floor, rate, deduction, min(100.0, MILLION / rate / 1.5))
            for floor, rate, deduction in zip(floors, rates, tier_deductions(floors, rates), strict=True)
        ]
    return table, price


def mandates(rng: np.random.Generator, vaults: int, each: int, rough: Rough, timeframe: int = HOUR) -> Limits:
    """Caps of 1 to 95 %, shares that sum to at most the whole and often to it, leverages up to 100, every band, sweep
    and way at the wall, a rebase after hardly any time."""
    count = vaults * each
    parts = rng.dirichlet(np.ones(each + 1), vaults)[:, :each]
    parts = np.where(rng.random((vaults, 1)) < 0.4, parts / parts.sum(axis=1, keepdims=True), parts)
    called = rng.integers(1_000_001, 4_000_000, count)
    whole = rows(
        VAULT_LIMITS, vaults,
        keep=rng.integers(50_000, 990_001, vaults),
        gross_leverage_max=rng.choice([0.5, 2.0, 10.0, 100.0], vaults),
        sweep=rng.integers(0, 2, vaults),
        at_wall=rng.integers(0, 3, vaults),
        rebase_after=timeframe * rng.integers(0, 4, vaults),
        rebase_notice=timeframe * rng.integers(1, 4, vaults),
        timeframe=timeframe,
    )  # fmt: skip
    return Limits(whole, rows(
        POSITION_LIMITS, count,
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
        volume_share=rng.choice([0.01, 0.1, 1.0], count),
    ))  # fmt: skip


def opinions(rng: np.random.Generator, decisions: int, positions: int, rough: Rough) -> Rows:
    """(decisions, positions) of PROPOSAL, of both signs, some of them absent, not finite or absurd."""
    shape = (decisions, positions)
    leverage = rng.normal(0.0, 1.0, shape) * rng.choice([0.5, 3.0, 30.0], positions)
    leverage = np.where(rng.random(shape) < 0.3, np.roll(leverage, 1, axis=0), leverage)
    leverage = np.where(rng.random(positions) < rough.calm, leverage[:1], leverage)
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


def requests(rng: np.random.Generator, decisions: int, vaults: int, rough: Rough) -> Rows:
    """(decisions, vaults) of FLOW: small and large ones, everybody, and all but crumbs."""
    shape = (decisions, vaults)
    size = [1_000, 50_000, 300_000, MILLION]
    entering = np.where(rng.random(shape) < rough.flows, rng.choice([*size, 10 * MILLION], shape), 0)
    leaving = np.where(rng.random(shape) < rough.flows, rng.choice(size, shape, p=[0.3, 0.4, 0.2, 0.1]), 0)
    return rows(FLOW, shape, entering=entering, leaving=leaving, left=rng.choice([0, 1, 999, 10**6], shape))


def fund(book: Book, allowed: Limits, nav: Ints) -> None:
    """Put `nav` minor units into each vault at a thousand shares a minor unit, the reserve at its wall."""
    for vault, limit, amount in zip(book.vaults, allowed.vaults, nav.tolist(), strict=True):
        vault.shares = shares = amount * 1000
        vault.high_water_mark = mark = -(-ONE // 1000)
        floor = -(-mark * int(limit.keep) // MILLION)
        vault.reserve = max(-(-floor * (shares + VIRTUAL) // ONE) - 1, -(-floor * shares // ONE))
        vault.cushion = amount - vault.reserve
        vault.world = -amount
        vault.nav_low, vault.locked_since, vault.rebase_at = INT_MAX, -1, -1


def world(
    rng: np.random.Generator, *, vaults: int, each: int, symbols: int, bars: int, every: int = 3,
    rough: Rough | None = None, nav_max: float = 1e11,
) -> World:  # fmt: skip
    """`vaults` vaults of `each` positions over `symbols` instruments, funded with 10 USDT to `nav_max` minor units; a
    decision every `every` bars."""
    rough = rough or Rough()
    nav = np.exp(rng.uniform(np.log(1e7), np.log(nav_max), vaults)).astype(np.int64)
    nav = np.where(rng.random(vaults) < rough.crumbs, rng.integers(1, 2_000, vaults), nav)
    around = float(np.median(nav))
    listing, start = venue_listing(rng, symbols, around, rough.inverse)
    allowed = mandates(rng, vaults, each, rough, every * HOUR)
    book = empty_book([0] * each, vaults)
    # neighbours on the same path make no path more random, so position p of vault v trades symbol v*each + p
    book.positions.symbol = np.arange(vaults * each) % symbols
    fund(book, allowed, nav)
    slot = np.full(bars, -1, np.int64)
    slot[every - 1 :: every] = np.arange(len(slot[every - 1 :: every]))
    decisions, ts = int(slot.max()) + 1, _clock(rng, bars, rough)
    table = paths(rng, start, ts, rough)
    stamps = stamp(rng, table, ts, rough)
    trade(rng, table, listing, around, rough)
    return World(
        book, allowed, listing, table, ts, HOUR, stamps, slot,
        opinions(rng, decisions, vaults * each, rough), requests(rng, decisions, vaults, rough),
    )  # fmt: skip


def copied(book: Book) -> Book:
    return Book(book.vaults.copy(), book.positions.copy())
