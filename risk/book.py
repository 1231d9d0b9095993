"""The book: every vault and position of one currency as rows of records, and what its mandates allow.

All money is int64 minor units, all quantities int64 lots, prices and rates float64. The positions of a vault are the
rows `first` to `last - 1`. A position's `margin` is the balance of its margin account, loaded from the ledger; it is no
second truth. Rows are records because compiled functions then pass one pointer a row.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringfence.risk.errors import TiersRefused

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = Any
"""A numpy record array of one of the row types below."""

__all__ = ["BAR", "INSTRUMENT", "INT_MAX", "POSITION", "POSITION_LIMITS", "PROPOSAL", "STAMP", "TIER", "TIERS_MAX",
           "VAULT", "VAULT_LIMITS", "AtWall", "Book", "Flags", "Floats", "Holding", "Ints", "Limits", "Order", "Report",
           "ReportKind", "Rows", "Seat", "Sweep", "Terms", "Walk", "empty_book",
           "limits", "rows", "tier_deductions"]  # fmt: skip

TIERS_MAX = 20
INT_MAX = 2**63 - 1
_INT, _FLOAT, _FLAG = np.int64, np.float64, np.bool_

TIER = np.dtype(
    [
        ("floor", _INT),  # notional from which the tier holds, minor units
        ("rate", _INT),  # maintenance rate, parts per million
        ("deduction", _INT),  # minor units; makes the requirement continuous in the notional
        ("leverage_max", _FLOAT),
    ]
)

INSTRUMENT = np.dtype(
    [
        ("unit", _INT),  # minor units of the settlement currency that one lot is worth at a price of 1
        ("notional_min", _INT),  # smallest order value, minor units
        ("tiers", _INT),  # how many of the tiers are in use
        ("inverse", _FLAG),  # settled in the base coin: a lot is worth unit / price in place of unit * price
        ("scale", _FLOAT),  # minor units of one whole unit of the settlement currency: 10**decimals
        ("tier", TIER, (TIERS_MAX,)),
    ],
    align=True,
)

VAULT_LIMITS = np.dtype(
    [
        ("keep", _INT),  # 1 - loss_cap, parts per million
        ("gross_leverage_max", _FLOAT),  # largest sum of |notional| over NAV
        ("sweep", _INT),  # Sweep: how open profit that the wall needs becomes cash
        ("at_wall", _INT),  # AtWall: what happens once the cushion is spent
        ("rebase_after", _INT),  # how long it must have been spent before a rebase is announced, ms
        ("rebase_notice", _INT),  # and how long before the rebase it is, ms
        ("timeframe", _INT),  # of the slots, ms
    ],
    align=True,
)

POSITION_LIMITS = np.dtype(
    [
        ("share", _INT),  # of the risk capital, parts per million
        ("leverage_max", _FLOAT),  # hard cap on |notional| / collateral
        ("volatility_max", _FLOAT),  # limiter: leverage x realised volatility, per year
        ("distance_sigmas", _FLOAT),  # limiter: k x sqrt(horizon in years)
        ("distance_slippage", _FLOAT),  # limiter: added to the distance, fraction of price
        ("band", _FLOAT),  # width of the no-trade band below the allowed leverage, fraction of it
        ("call_at", _INT),  # margin call when equity < call_at / 10**6 x maintenance margin
        ("call_to", _INT),  # a called position is cut until equity >= call_to / 10**6 x maintenance margin
        ("half_spread", _FLOAT),  # paper venue, fraction of price
        ("slippage", _FLOAT),  # paper venue, fraction of price
        ("taker_fee", _INT),  # parts per million of the fill value
        ("liquidation_fee", _INT),  # parts per million of the fill value
        ("volume_share", _FLOAT),  # paper venue: the part of a bar's volume that may be filled
    ],
    align=True,
)

VAULT = np.dtype(
    [
        ("index", _INT),
        ("first", _INT),
        ("last", _INT),
        ("reserve", _INT),
        ("cushion", _INT),
        ("entering", _INT),  # deposits that the next strike puts to work, minor units; no part of NAV
        ("shares", _INT),
        ("waiting", _INT),  # shares whose redemption the next strike pays
        ("high_water_mark", _INT),  # minor units per share unit x 2**50; 0 while the vault is empty
        ("venue", _INT),  # the venue's side of profit and loss; may be negative, as may the next three
        ("funding", _INT),
        ("shortfall", _INT),
        ("world", _INT),  # the holders' side: minus what they have paid in, net
        ("costs", _INT),  # the venue's fees
        ("wall", _INT),  # what the reserve must hold; derived from mark, loss cap and shares by risk.wall.wall_amount
        ("locked_since", _INT),  # strike at which the cushion was found spent, UTC ms; -1 while it is not
        ("rebase_at", _INT),  # the announced rebase falls on the first strike from then on, UTC ms; -1: none
        ("nav_low", _INT),  # lowest NAV at any bar's worst point since the last decision; INT_MAX before one
        ("price_low", _FLOAT),  # lowest NAV per share at any bar's worst point, minor units per share unit; inf: none
        ("distance_low", _FLOAT),  # lowest (NAV - wall) / NAV at any bar's worst point; inf: none
    ],
    align=True,
)

POSITION = np.dtype(
    [
        ("index", _INT),
        ("symbol", _INT),  # row of the instrument
        ("quantity", _INT),  # signed lots
        ("cost", _INT),  # the sum that the open lots were bought (sold) for, minor units: an exact cost basis
        ("margin", _INT),
        ("filled", _INT),  # lots bought and sold at the bar that is being lived through
        ("pending", _INT),  # 1: the end of something that its venue was asked for is not known yet
        ("refused", _INT),  # the last refusal's reason, so that a standing refusal is told once
        ("liquidation_watch", _FLOAT),  # mark at or past which maintenance is checked; derived by the venue
        ("call_watch", _FLOAT),  # mark at or past which the margin call is checked; derived by the venue
    ],
    align=True,
)

BAR = np.dtype(
    [
        # what every step reads comes first, on one cache line
        *((name, _FLOAT) for name in ("mark_high", "mark_low", "mark_close")),
        ("valid", _FLAG),  # false: no bar; the prices repeat the last close
        ("funding", _FLAG),  # some stamps are settled at this bar
        *((name, _FLOAT) for name in ("open", "high", "low", "close", "mark_open")),
        ("volume", _FLOAT),  # traded in the bar, units of the base currency; inf where unknown
        ("stamps_from", _INT),  # its stamps are these rows of the walk's, up to but without `stamps_to`
        ("stamps_to", _INT),
    ],
    align=True,
)

STAMP = np.dtype(
    [
        ("ts", _INT),  # UTC ms
        ("rate", _FLOAT),  # fraction of the notional that longs pay to shorts
    ]
)

PROPOSAL = np.dtype(
    [
        ("leverage", _FLOAT),  # signed |notional| / collateral
        ("volatility", _FLOAT),  # realised, per year
        ("proposed", _FLAG),  # false: `leverage` is absent
        ("known", _FLAG),  # false: `volatility` is absent
    ],
    align=True,
)


class Sweep(IntEnum):
    """How open profit that must stand behind the wall becomes cash."""

    roll = 0
    """Lots are closed and opened again."""
    trim = 1
    """Lots are closed."""


class AtWall(IntEnum):
    """What a mandate does about a spent cushion."""

    hold = 0
    """Nothing: the vault goes on with what is left."""
    wind_down = 1
    """Every position is closed; nothing is opened any more."""
    rebase = 2
    """After notice, the promise counts anew from the NAV of a strike."""


class Limits(NamedTuple):
    """What the mandates and the venue allow."""

    vaults: Rows
    """(V,) of VAULT_LIMITS."""
    positions: Rows
    """(P,) of POSITION_LIMITS."""


class Book(NamedTuple):
    """Vaults and their positions; what the step changes."""

    vaults: Rows
    """(V,) of VAULT."""
    positions: Rows
    """(P,) of POSITION."""


class Terms(NamedTuple):
    """What a book is run under."""

    limits: Limits
    listing: Rows
    """(N,) of INSTRUMENT; a position's `symbol` is the row of its instrument."""


class Walk(NamedTuple):
    """What a book lives through."""

    bars: Rows
    """(T, N) of BAR."""
    ts: Ints
    """(T,) opens of the bars, UTC ms."""
    length: int
    """Of a bar, ms."""
    stamps: Rows
    """(F,) of STAMP."""
    slot: Ints
    """(T,): the row of `proposals` that is decided at the bar's close, or -1."""
    proposals: Rows
    """(K, P) of PROPOSAL."""


class Seat(NamedTuple):
    """One position with everything that decides about it, a row each; as an argument it costs four pointers."""

    vault: Any
    """VAULT."""
    position: Any
    """POSITION."""
    limit: Any
    """POSITION_LIMITS."""
    instrument: Any
    """INSTRUMENT."""


class Holding(NamedTuple):
    """A position as it would be. Whatever reads these three columns of a POSITION takes a holding in its place."""

    quantity: int
    """Signed lots."""
    cost: int
    margin: int


class Order(NamedTuple):
    """What a venue is asked for: lots at the market. No lots are no order."""

    position: int
    """Row of the position; an option's or a basket's leg would be named beside it."""
    lots: int
    """Bought (+) or sold (-)."""


class ReportKind(IntEnum):
    """What a venue reports."""

    fill = 1
    liquidation = 2
    funding = 3


class Report(NamedTuple):
    """What a venue did to a position. No lots of a fill or a liquidation: nothing happened."""

    kind: int
    """ReportKind."""
    position: int
    lots: int
    """Bought (+) or sold (-); fewer than were ordered where a venue fills in parts. 0 of a funding payment."""
    price: float
    """What they were filled at; the rate of a funding payment."""
    mark: float
    """The mark at which it happened."""
    fee: int
    """What the venue charges for it, minor units."""
    amount: int
    """Funding received (+) or due (-), minor units; 0 of a fill or a liquidation."""


def tier_deductions(floors: Sequence[int], rates: Sequence[int]) -> tuple[int, ...]:
    """The deductions that make maintenance continuous: c_0 = 0, c_k = c_(k-1) + floor_k * (r_k - r_(k-1)) / 10**6.

    Summed exactly, then rounded down to whole minor units (no rounding where floors are whole units of a currency with
    six decimals). Refused: tables that do not start at 0 or in which floors or rates do not rise, since only rising
    tables make the requirement the largest of its lines.
    """
    if len(floors) != len(rates) or not floors or floors[0] != 0:
        raise TiersRefused(tuple(floors), tuple(rates), "one rate a floor, from 0 up")
    exact = 0
    deductions = [0]
    for k in range(1, len(floors)):
        if floors[k] <= floors[k - 1] or rates[k] <= rates[k - 1]:
            expected = "both to rise; sort the table by floor and merge tiers of one rate"
            raise TiersRefused(tuple(floors[k - 1 : k + 1]), tuple(rates[k - 1 : k + 1]), expected, k)
        exact += floors[k] * (rates[k] - rates[k - 1])
        deductions.append(exact // 10**6)
    return tuple(deductions)


def rows(kind: "np.dtype[Any]", size: int | tuple[int, ...], **columns: Any) -> Rows:
    """Zeroed records with the named columns filled in; a column that the row type does not know is a KeyError."""
    table = np.zeros(size, kind).view(np.recarray)
    for name, values in columns.items():
        table[name] = values
    return table


def limits(vaults: Mapping[str, Sequence[float]], positions: Mapping[str, Sequence[float]]) -> Limits:
    """Limits from columns: every one of VAULT_LIMITS and of POSITION_LIMITS."""
    for kind, columns in ((VAULT_LIMITS, vaults), (POSITION_LIMITS, positions)):
        absent = set(kind.names or ()) ^ set(columns)
        if absent:
            raise KeyError(f"limits: columns missing or unknown: {sorted(absent)}")
    return Limits(
        rows(VAULT_LIMITS, len(vaults["keep"]), **vaults),
        rows(POSITION_LIMITS, len(positions["share"]), **positions),
    )


def empty_book(symbols: Sequence[int], vaults: int = 1) -> Book:
    """A book of `vaults` vaults that each hold one flat position per entry of `symbols`."""
    each, count = len(symbols), len(symbols) * vaults
    first = np.arange(vaults) * each
    return Book(
        rows(
            VAULT,
            vaults,
            index=np.arange(vaults),
            first=first,
            last=first + each,
            locked_since=-1,
            rebase_at=-1,
            nav_low=INT_MAX,
            price_low=np.inf,
            distance_low=np.inf,
        ),
        rows(POSITION, count, index=np.arange(count), symbol=np.tile(np.array(symbols, np.int64), vaults)),
    )
