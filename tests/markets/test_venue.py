"""The venue: its five verbs give the fills that the compiled loop books, and it knows nothing of who trades or why."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from ringfence.markets.paper import PaperVenue
from ringfence.markets.simulator import decide, simulate
from ringfence.markets.venue import Order, Report, ReportKind, Venue
from ringfence.risk import orders, settlement
from ringfence.risk.book import Book, Seat
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import equity_at, fee, market_price, traded_value
from ringfence.risk.tape import Tape
from ringfence.risk.wall import post_margin, raise_wall, ratchet, release_margin
from tests.reference.worlds import Rough, World, copied, world

SLOW = bool(numba.config.DISABLE_JIT)


class Driver:
    """A book that is lived through by a venue's verbs alone: it asks `risk.orders`, places, and settles what is
    reported. It has neither the loop's watches nor its shortcuts."""

    def __init__(self, one: World) -> None:
        self.one, self.book, self.tape = one, copied(one.book), one.record().tape
        self.paper = PaperVenue(self.book.positions, one.limits.positions, one.listing)
        self.venue: Venue = self.paper
        for vault, limit in zip(self.book.vaults, one.limits.vaults, strict=True):
            raise_wall(vault, int(limit.keep))

    def run(self) -> tuple[Book, Tape]:
        for bar in range(len(self.one.bars)):
            self.tape.used[2] = bar
            self.paper.trade(self.one.bars[bar])
            while reports := self.venue.reports():
                for report in reports:
                    seat = self.seat(report.position)
                    if report.kind == ReportKind.funding:
                        settlement.funding(seat, self.tape, report)
                    else:
                        settlement.liquidated(seat, self.tape, report)
            for p, position in enumerate(self.venue.positions()):
                prices = self.one.bars[bar, position.symbol]
                if position.quantity and prices.valid:
                    self.send(orders.margin_call(self.seat(p), prices), settlement.close_lots, Bound.margin_call)
            if self.one.slot[bar] >= 0:
                self.decide(bar)
        return self.book, self.tape

    def seat(self, p: int) -> Seat:
        book, limits, position = self.book, self.one.limits, self.book.positions[p]
        owner = int(np.searchsorted(book.vaults["last"], p, side="right"))
        return Seat(book.vaults[owner], position, limits.positions[p], self.one.listing[position.symbol])

    def send(self, order: Order, settle: Callable[..., None], bound: int) -> None:
        if order.lots:
            self.venue.place(order)
            (report,) = self.venue.reports()
            settle(self.seat(order.position), self.tape, report, bound)

    def decide(self, bar: int) -> None:
        bars, proposals = self.one.bars[bar], self.one.proposals[self.one.slot[bar]]
        for vault, limit in zip(self.book.vaults, self.one.limits.vaults, strict=True):
            seats = [self.seat(p) for p in range(vault.first, vault.last)]
            held = [equity_at(s.position, s.instrument, bars[s.position.symbol].mark_close) for s in seats]
            nav = int(vault.reserve + vault.cushion) + sum(max(0, equity) for equity in held)
            if vault.reserve + vault.cushion > vault.wall:
                ratchet(vault, int(limit.keep), self.tape, nav)
        plans = decide(self.book, self.one.terms, bars, proposals)
        unsettled = [p for p in range(len(plans)) if not plans[p].settled]
        for vault in self.book.vaults:
            mine = [p for p in unsettled if vault.first <= p < vault.last]
            for half in (self.shrink, self.grow):
                for p in mine:
                    half(self.seat(p), bars[self.book.positions[p].symbol], plans[p])

    def shrink(self, seat: Seat, prices: Any, plan: Any) -> None:
        self.send(orders.reduction(seat, prices, plan), settlement.close_lots, int(plan.bound))
        self.sweep(seat, prices, plan)

    def grow(self, seat: Seat, prices: Any, plan: Any) -> None:
        lacking = orders.lacking_margin(seat, prices.mark_close, plan)
        if not orders.grows(seat.position, plan):
            if lacking:
                settlement.shift_collateral(seat, self.tape, prices.mark_close, lacking)
            return
        post_margin(seat.vault, seat.position, self.tape, lacking)
        intent = orders.increase(seat, prices, plan)
        self.send(intent.order, settlement.open_lots, intent.bound)
        if not intent.order.lots and intent.bound:
            settlement.refused(seat, self.tape, prices.mark_close, intent.bound, int(plan.target))
        self.sweep(seat, prices, plan)

    def sweep(self, seat: Seat, prices: Any, plan: Any) -> None:
        excess = orders.excess_margin(seat, prices.mark_close, plan)
        if not seat.position.quantity:
            release_margin(seat.vault, seat.position, self.tape, excess)
        elif excess:
            settlement.shift_collateral(seat, self.tape, prices.mark_close, -excess)


def by_position(tape: Tape) -> dict[int, list[Any]]:
    """Events in order, position by position: a venue reports the liquidations of all positions before any call."""
    found: dict[int, list[Any]] = {}
    for row in tape.events[: tape.used[1]].tolist():
        found.setdefault(row[2], []).append(row)
    return found


@pytest.mark.parametrize("seed", range(2 if SLOW else 6))
def test_a_driver_that_speaks_the_verbs_books_what_the_loop_books(seed: int) -> None:
    one = world(np.random.default_rng(seed), vaults=2, each=3, symbols=4, bars=60, every=2, rough=Rough(often=0.1))
    looped, record = copied(one.book), one.record()
    simulate(looped, one.terms, one.walk, record, (0, len(one.bars)))
    book, tape = Driver(one).run()
    assert by_position(tape) == by_position(record.tape)
    kinds = {row[3] for rows in by_position(tape).values() for row in rows}
    assert kinds >= {Kind.resize, Kind.funding, Kind.liquidation}
    assert sorted(tape.transfers[: tape.used[0]].tolist()) == sorted(
        record.tape.transfers[: record.tape.used[0]].tolist()
    )
    for name in ("reserve", "cushion", "venue", "funding", "shortfall", "costs", "high_water_mark"):
        assert book.vaults[name].tolist() == looped.vaults[name].tolist()
    for name in ("quantity", "cost", "margin", "refused"):
        assert book.positions[name].tolist() == looped.positions[name].tolist()


@pytest.fixture
def one() -> World:
    """Two flat positions on two instruments, and bars at which both trade."""
    return world(np.random.default_rng(0), vaults=1, each=2, symbols=2, bars=2, rough=Rough(missing=0.0))


@pytest.fixture
def venue(one: World) -> PaperVenue:
    paper = PaperVenue(one.book.positions, one.limits.positions, one.listing)
    paper.trade(one.bars[0])
    return paper


def test_an_order_is_open_until_it_is_reported_or_taken_back(venue: PaperVenue) -> None:
    first, second = venue.place(Order(0, 5)), venue.place(Order(1, -7))
    assert venue.orders() == (Order(0, 5), Order(1, -7))
    assert venue.cancel(first)
    assert not venue.cancel(first)
    (report,) = venue.reports()
    assert (report.kind, report.position, report.lots) == (ReportKind.fill, 1, -7)
    assert venue.orders() == ()
    assert venue.reports() == []
    assert not venue.cancel(second)


def test_an_order_waits_until_its_symbol_trades(one: World, venue: PaperVenue) -> None:
    one.bars.valid[0] = [False, True]
    venue.place(Order(0, 5))
    venue.place(Order(1, 5))
    assert [report.position for report in venue.reports()] == [1]
    assert venue.orders() == (Order(0, 5),)
    venue.trade(one.bars[1])
    assert [report.position for report in venue.reports()] == [0]


@pytest.mark.parametrize("lots", [5, -5])
def test_a_fill_is_at_the_close_with_spread_slippage_and_fee_against_it(
    one: World, venue: PaperVenue, lots: int
) -> None:
    limit, instrument, prices = one.limits.positions[0], one.listing[0], one.bars[0, 0]
    venue.place(Order(0, lots))
    (report,) = venue.reports()
    price = market_price(limit, prices.close, lots)
    assert (price > prices.close) == (lots > 0)
    due = fee(traded_value(instrument, lots, price), int(limit.taker_fee))
    assert report == Report(ReportKind.fill, 0, lots, price, prices.mark_close, due, 0)


# ---------------------------------------------------------------------------------------------------- what it may know

FILES = ("venue.py", "paper.py")
THE_VAULTS = {
    *("cap", "caps", "capital", "cushion", "mandate", "nav", "plan", "plans", "planned", "proposal", "proposals"),
    *("proposed", "ratchet", "reserve", "seat", "share", "shares", "slot", "strategy", "vault", "vaults", "wall"),
}
"""Words that a venue has no use for."""


def words(text: str) -> set[str]:
    """Every word of a text's identifiers and strings, docstrings among them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        for value in vars(node).values():
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str):
                    found |= {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_venue_does_not_name_what_is_the_vaults(project: Path, name: str) -> None:
    text = (project / "markets" / name).read_text()
    assert {"order", "report"} <= words(text), "the rule would look at nothing"
    assert words(text) & THE_VAULTS == set()


@pytest.mark.parametrize(
    "planted",
    [
        "due = limit.leverage_cap",
        "def f(cushion):\n    return 0",
        "from ringfence.risk.wall import post_margin",
        'rows["reserve"]',
        "class PlanOrder:\n    pass",
        '"""Fills what the proposals ask for."""',
        "fill(order, wall=3)",
    ],
)
def test_a_planted_word_of_the_vaults_is_found(planted: str) -> None:
    assert words(planted) & THE_VAULTS
