"""One vault on one or two instruments of round numbers, lived through the compiled loop bar by bar."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ringfence.markets.simulator import Record, Walk, blank_series, roomy_tape, simulate
from ringfence.risk.book import (
    BAR,
    INSTRUMENT,
    POSITION_LIMITS,
    PROPOSAL,
    STAMP,
    VAULT_LIMITS,
    Limits,
    Terms,
    empty_book,
    rows,
)
from ringfence.risk.edges import Edge
from ringfence.risk.events import Event
from ringfence.risk.tape import read_events
from ringfence.risk.wall import wall_amount
from tests.reference.worlds import HOUR, START

__all__ = ["HOUR", "START", "USDT", "Exchange"]

MILLION = USDT = 10**6
PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")
FREE: dict[str, float] = {
    "keep": 800_000, "gross_leverage_max": 1e9, "timeframe": HOUR, "share": 500_000, "leverage_max": 100.0,
    "volatility_max": 1e9, "band": 0.1, "call_at": 1_000_001, "call_to": 1_000_002, "volume_share": 1.0,
}  # fmt: skip
"""Limits that bind nothing, and no costs."""


@dataclass
class Exchange:
    """A vault whose mark is a NAV of 10,000, whose wall is 8,000 and whose cushion is 1,000; `bar` lives through one
    bar of an hour and keeps what it brought."""

    terms: dict[str, float] = field(default_factory=dict)
    symbols: int = 1
    rate: int = 10_000
    cushion: int = 1_000 * USDT
    unit: int = 1_000
    notional_min: int = 0
    leverage_max: float = 100.0
    shares: int = 10**13

    def __post_init__(self) -> None:
        self.listing = rows(
            INSTRUMENT, self.symbols, unit=self.unit, notional_min=self.notional_min, tiers=1, scale=1e6
        )
        for row in self.listing:
            row.tier[:1] = [(0, self.rate, 0, self.leverage_max)]
        self.book = empty_book(range(self.symbols))
        allowed = FREE | self.terms
        whole = {name: value for name, value in allowed.items() if name in (VAULT_LIMITS.names or ())}
        single = {name: value for name, value in allowed.items() if name not in whole}
        self.limits = Limits(rows(VAULT_LIMITS, 1, **whole), rows(POSITION_LIMITS, self.symbols, **single))
        self.vault = self.book.vaults[0]
        self.vault.shares, self.vault.high_water_mark = self.shares, 2**50 // 1000
        self.vault.reserve = wall_amount(int(self.vault.high_water_mark), int(allowed["keep"]), self.shares)
        self.vault.cushion = self.cushion
        self.vault.world = -self.own()
        self.opened = START
        self.events: list[Event] = []
        self.transfers: list[tuple[int, int, int]] = []
        self.state: Any = None
        self.detail: Any = None

    def hold(self, quantity: int, price: float, margin: int, position: int = 0) -> Any:
        """A position bought or sold at `price` with `margin` minor units of its own."""
        row = self.book.positions[position]
        row.quantity, row.margin = quantity, margin
        row.cost = int(abs(quantity) * int(self.listing[position].unit) * price)
        self.vault.world = -self.own()
        return row

    def own(self) -> int:
        """Everything that is the vault's."""
        vault = self.vault
        cash = int(vault.reserve) + int(vault.cushion) + int(vault.entering)
        return cash + int(self.book.positions.margin.sum())

    def bar(
        self, close: float, *others: float, low: float | None = None, high: float | None = None,
        opened: float | None = None, asked: tuple[float, ...] | None = None,
        stamps: Sequence[tuple[int, float]] = (), **columns: float,
    ) -> list[Event]:  # fmt: skip
        """Live through a bar; with `asked` a decision falls at its close. `stamps` are (ms after the bar's open, rate).
        More than five arguments because a bar has many sides, most of which a test leaves alone."""
        bars = rows(BAR, (1, self.symbols), valid=True, volume=np.inf, funding=bool(stamps), stamps_to=len(stamps))
        for s, after in enumerate((close, *others)):
            start = after if opened is None else opened
            figures = {
                "open": start, "close": after, "high": max(start, after) if high is None else high,
                "low": min(start, after) if low is None else low,
            }  # fmt: skip
            for name in PRICES:
                bars[name][0, s] = figures[name.removeprefix("mark_")]
        for name, value in columns.items():
            bars[name][0] = value
        proposals = rows(PROPOSAL, (1, self.symbols), volatility=0.5, proposed=True, known=True)
        if asked is not None:
            proposals.leverage[0] = asked
        due = rows(STAMP, len(stamps), ts=[self.opened + at for at, _ in stamps], rate=[rate for _, rate in stamps])
        slot = np.array([-1 if asked is None else 0])
        walk = Walk(bars, np.array([self.opened]), HOUR, due, slot, proposals)
        record = Record(roomy_tape(self.book, walk), blank_series(1, 1, self.symbols))
        simulate(self.book, Terms(self.limits, self.listing), walk, record, (0, 1))
        tape = record.tape
        self.opened += HOUR
        self.events = read_events(tape, 0, 0)
        self.transfers = [row[2:] for row in tape.transfers[: tape.used[0]].tolist()]
        self.state, self.detail = record.series.vaults[0, 0], record.series.positions[0]
        vault = self.vault
        assert self.own() + sum(int(vault[name]) for name in ("venue", "costs", "funding", "shortfall", "world")) == 0
        return self.events

    def hours(self, closes: Sequence[float], asked: Sequence[float]) -> Any:
        """Live through hours of one symbol at once that open at the close before, with a decision on `asked` at each
        close; returns the rows of POSITION_STATE, and keeps the events."""
        close, size = np.array(closes), len(closes)
        opened = np.concatenate((close[:1], close[:-1]))
        high, low = np.maximum(opened, close), np.minimum(opened, close)
        prices = {"open": opened, "high": high, "low": low, "close": close}
        columns = {name: prices[name.removeprefix("mark_")][:, None] for name in PRICES}
        bars = rows(BAR, (size, 1), valid=True, volume=np.inf, **columns)
        proposals = rows(PROPOSAL, (size, 1), leverage=np.array(asked)[:, None], volatility=0.5, proposed=True,
                         known=True)  # fmt: skip
        walk = Walk(bars, self.opened + HOUR * np.arange(size), HOUR, rows(STAMP, 0), np.arange(size), proposals)
        record = Record(roomy_tape(self.book, walk, size), blank_series(size, 1, 1))
        assert simulate(self.book, Terms(self.limits, self.listing), walk, record, (0, size)) == size
        self.opened += HOUR * size
        self.events = read_events(record.tape, 0, 0)
        return record.series.positions[:, 0]

    def moved(self, edge: Edge, position: int = 0) -> int:
        """What the last bar moved along an edge, of a position or of none."""
        return sum(amount for of, p, amount in self.transfers if of == edge and p in (position, -1))
