"""What the paper exchange knows of its markets: contracts, an account's charges, and the bars that it is fed, as plain
values for its books and as the rows that the rules of `markets.paper` read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringfence.markets.instruments import Instrument, listed
from ringfence.risk.book import BAR, INSTRUMENT, POSITION_LIMITS, rows

__all__ = ["PRICES", "Charges", "Contract", "TradedBar", "bar_row", "charges_row", "contract_of", "contract_row"]

PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")


@dataclass(frozen=True)
class Contract:
    """An instrument's terms, as a row of INSTRUMENT has them."""

    unit: int
    notional_min: int
    inverse: bool
    scale: float
    tiers: tuple[tuple[int, int, int, float], ...]
    """Floor, rate, deduction, largest leverage."""

    @classmethod
    def of(cls, chosen: Instrument) -> "Contract":
        """The terms of an instrument of the tables."""
        return contract_of(listed(chosen))


@dataclass(frozen=True)
class Charges:
    """What an account's trades in an instrument cost, as a row of POSITION_LIMITS has it."""

    half_spread: float
    slippage: float
    taker_fee: int
    liquidation_fee: int
    volume_share: float


@dataclass(frozen=True)
class TradedBar:
    """One bar of one instrument."""

    open: float
    high: float
    low: float
    close: float
    mark_open: float
    mark_high: float
    mark_low: float
    mark_close: float
    volume: float | None = None
    """Base units; None: unknown."""
    valid: bool = True
    """False: nothing traded; the prices repeat the last close."""
    stamps: tuple[tuple[int, float], ...] = field(default=())
    """Funding stamps that it settles, in order: UTC ms, and the rate that longs pay."""

    @classmethod
    def of(cls, row: Any, stamps: Any) -> "TradedBar":
        """From a row of BAR and the (F,) of STAMP that it points into."""
        settled = stamps[int(row.stamps_from) : int(row.stamps_to)]
        volume = None if row.volume == np.inf else float(row.volume)
        due = tuple((int(stamp.ts), float(stamp.rate)) for stamp in settled)
        prices: Mapping[str, float] = {name: float(row[name]) for name in PRICES}
        return cls(**prices, volume=volume, valid=bool(row.valid), stamps=due)

    def halted(self) -> "TradedBar":
        """The bar after it in which nothing is known to have traded."""
        last, mark = self.close, self.mark_close
        return TradedBar(last, last, last, last, mark, mark, mark, mark, valid=False)


def contract_of(row: Any) -> Contract:
    """The terms in a row of INSTRUMENT."""
    tiers = tuple(
        (int(tier["floor"]), int(tier["rate"]), int(tier["deduction"]), float(tier["leverage_max"]))
        for tier in row.tier[: int(row.tiers)]
    )
    return Contract(int(row.unit), int(row.notional_min), bool(row.inverse), float(row.scale), tiers)


def contract_row(terms: Contract) -> Any:
    """A row of INSTRUMENT."""
    row = rows(INSTRUMENT, 1)[0]
    row.unit, row.notional_min, row.inverse, row.scale = terms.unit, terms.notional_min, terms.inverse, terms.scale
    row.tiers = len(terms.tiers)
    row.tier[: row.tiers] = [tuple(tier) for tier in terms.tiers]
    return row


def charges_row(terms: Charges) -> Any:
    """A row of POSITION_LIMITS of which only the charges say anything."""
    return rows(POSITION_LIMITS, 1, **vars(terms))[0]


def bar_row(bar: TradedBar) -> Any:
    """A row of BAR; its stamps are counted from 0."""
    values: Mapping[str, Any] = {name: getattr(bar, name) for name in PRICES}
    volume = np.inf if bar.volume is None else bar.volume
    return rows(BAR, 1, **values, volume=volume, valid=bar.valid, funding=bool(bar.stamps),
                stamps_to=len(bar.stamps))[0]  # fmt: skip
