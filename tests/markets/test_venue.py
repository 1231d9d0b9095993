"""The venue: its five verbs give the fills that the compiled loop books, and it knows nothing of who trades or why."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from ringfence.markets.paper import PaperVenue
from ringfence.markets.simulator import decide, simulate
from ringfence.markets.trades import winds_down
from ringfence.markets.venue import Order, Report, ReportKind, Venue
from ringfence.risk import orders, settlement
from ringfence.risk.arithmetic import portion_up
from ringfence.risk.book import BAR, STAMP, Book, Seat, rows
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import equity_at, fee, liquidation_price, market_price, traded_value
from ringfence.risk.tape import Tape, at, begin_bar, close_of_bar, open_of_bar
from ringfence.risk.wall import post_margin, release_margin, strike, strike_price, wall_amount
from tests.reference.exchange import HOUR, START, USDT, Exchange
from tests.reference.worlds import Rough, World, copied, world

SLOW = bool(numba.config.DISABLE_JIT)


class Driver:
    """A book that is lived through by a venue's verbs alone: it asks `risk.orders`, places, and settles what is
    reported. It has neither the loop's watches nor its shortcuts. Its mandates do nothing at their wall."""

    def __init__(self, one: World) -> None:
        self.one, self.book, self.tape = one, copied(one.book), one.record().tape
        self.paper = PaperVenue(self.book.positions, one.limits.positions, one.listing)
        self.venue: Venue = self.paper
        for vault, limit in zip(self.book.vaults, one.limits.vaults, strict=True):
            assert not winds_down(vault, limit)
            vault.wall = wall_amount(int(vault.high_water_mark), int(limit.keep), int(vault.shares))

    def run(self) -> tuple[Book, Tape]:
        for bar in range(len(self.one.bars)):
            begin_bar(self.tape, bar, int(self.one.ts[bar]), self.one.length)
            self.bars = self.one.bars[bar]
            self.paper.trade(self.bars, self.one.stamps)
            self.settle_what_the_venue_does()
            for p, position in enumerate(self.venue.positions()):
                if position.quantity and self.prices(p).valid:
                    self.close(p, orders.margin_call(self.seat(p), self.prices(p)), Kind.margin_call)
            if self.one.slot[bar] >= 0:
                self.decide(int(self.one.slot[bar]))
        return self.book, self.tape

    def seat(self, p: int) -> Seat:
        book, limits, position = self.book, self.one.limits, self.book.positions[p]
        owner = int(np.searchsorted(book.vaults["last"], p, side="right"))
        return Seat(book.vaults[owner], position, limits.positions[p], self.one.listing[position.symbol])

    def prices(self, p: int) -> Any:
        return self.bars[self.book.positions[p].symbol]

    def settle_what_the_venue_does(self) -> None:
        paid = Counter[int]()
        while reports := self.venue.reports():
            for report in reports:
                seat, prices = self.seat(report.position), self.prices(report.position)
                if report.kind == ReportKind.funding:
                    at(self.tape, int(self.one.stamps[prices.stamps_from + paid[report.position]].ts))
                    paid[report.position] += 1
                    settlement.funding(seat, self.tape, report)
                else:
                    trigger = liquidation_price(seat.position, seat.instrument)
                    past = prices.mark_open <= trigger if report.lots < 0 else prices.mark_open >= trigger
                    (open_of_bar if past else close_of_bar)(self.tape)
                    settlement.liquidated(seat, self.tape, report)
                close_of_bar(self.tape)

    # orders

    def filled(self, order: Order) -> Report:
        self.venue.place(order)
        (report,) = self.venue.reports()
        return report

    def refuse(self, p: int, bound: Bound, wanted: int) -> None:
        settlement.refused(self.seat(p), self.tape, self.prices(p).mark_close, bound.value, wanted)

    def close(self, p: int, intent: orders.Intent, kind: Kind) -> int:
        if not intent.order.lots:
            if intent.bound == Bound.costs:
                self.refuse(p, Bound.costs, 0)
            return 0
        report = self.filled(intent.order)
        if report.lots:
            settlement.close_lots(self.seat(p), self.tape, report, kind, intent.bound)
        else:
            self.refuse(p, Bound.volume, int(self.book.positions[p].quantity) + intent.order.lots)
        return abs(report.lots)

    def open(self, p: int, intent: orders.Intent, kind: Kind) -> None:
        report = self.filled(intent.order)
        if report.lots:
            settlement.open_lots(self.seat(p), self.tape, report, kind, intent.bound)
        else:
            self.refuse(p, Bound.volume, int(self.book.positions[p].quantity) + intent.order.lots)

    # a decision

    def decide(self, slot: int) -> None:
        strikes = [
            all(self.prices(p).valid or not self.book.positions[p].quantity for p in range(vault.first, vault.last))
            for vault in self.book.vaults
        ]
        self.plans = decide(self.book, self.one.terms, self.bars, self.one.proposals[slot])
        for v, vault in enumerate(self.book.vaults):
            unsettled = [p for p in range(vault.first, vault.last) if not self.plans[p].settled]
            for half in (self.shrink, self.grow):
                for p in unsettled:
                    half(p)
            if strikes[v]:
                self.strike(vault, self.one.limits.vaults[v])

    def shrink(self, p: int) -> None:
        self.close(p, orders.reduction(self.seat(p), self.prices(p), self.plans[p]), Kind.resize)
        self.sweep(p)

    def grow(self, p: int) -> None:
        seat, prices, plan = self.seat(p), self.prices(p), self.plans[p]
        lacking = orders.lacking_margin(seat, prices.mark_close, plan)
        if not orders.grows(seat.position, plan):
            if lacking:
                settlement.shift_collateral(seat, self.tape, prices.mark_close, lacking)
            return
        post_margin(seat.vault, seat.position, self.tape, lacking)
        intent = orders.increase(seat, prices, plan)
        if intent.order.lots:
            self.open(p, intent, Kind.resize)
        elif intent.bound:
            self.refuse(p, Bound(intent.bound), int(plan.target))
        self.sweep(p)

    def sweep(self, p: int) -> None:
        seat, mark = self.seat(p), self.prices(p).mark_close
        excess = orders.excess_margin(seat, mark, self.plans[p])
        if not seat.position.quantity:
            release_margin(seat.vault, seat.position, self.tape, excess)
        elif excess:
            settlement.shift_collateral(seat, self.tape, mark, -excess)

    # a strike

    def equity(self, p: int) -> int:
        return int(equity_at(self.book.positions[p], self.seat(p).instrument, self.prices(p).mark_close))

    def nav(self, vault: Any) -> int:
        held = range(vault.first, vault.last)
        return int(vault.reserve + vault.cushion) + sum(max(0, self.equity(p)) for p in held)

    def lacking(self, vault: Any, keep: int) -> int:
        """What cash lacks of the wall of a strike now."""
        nav, shares = self.nav(vault), int(vault.shares)
        mark = max(int(vault.high_water_mark), int(strike_price(nav, shares)))
        due = max(int(wall_amount(mark, keep, shares)), int(portion_up(nav, keep)))
        return due - int(vault.reserve + vault.cushion)

    def strike(self, vault: Any, limit: Any) -> None:
        keep = int(limit.keep)
        for respected, realising in ((True, False), (True, True), (False, False), (False, True)):
            for p in range(vault.first, vault.last):
                above = self.equity(p) - int(self.plans[p].collateral)
                if realising and (wanted := self.lacking(vault, keep)) > 0:
                    self.realise(p, min(wanted, above) if respected else wanted, bool(limit.sweep))
                    above = self.equity(p) - int(self.plans[p].collateral)
                wanted = self.lacking(vault, keep)
                self.free(p, min(wanted, above) if respected else wanted)
        for p in range(vault.first, vault.last):
            held = abs(int(self.book.positions[p].quantity))
            if held and self.lacking(vault, keep) > 0:
                self.close(p, orders.closing(self.seat(p), held, self.prices(p).close, Bound.strike), Kind.resize)
                flat = not self.book.positions[p].quantity
                self.free(p, int(self.book.positions[p].margin) if flat else self.lacking(vault, keep))
        if self.lacking(vault, keep) <= 0:
            strike(vault, keep, self.tape, self.nav(vault))

    def realise(self, p: int, wanted: int, trim: bool) -> None:
        """A roll is a close and an opening of the same lots; a trim is the close alone."""
        seat, prices, kind = self.seat(p), self.prices(p), Kind.resize if trim else Kind.roll
        if not seat.position.quantity or wanted <= 0:
            return
        lots = orders.lots_realising(seat, prices, wanted, trim)
        if not lots:
            return
        side = 1 if seat.position.quantity > 0 else -1
        again = side * self.close(p, orders.closing(seat, lots, prices.close, Bound.strike), kind)
        if again and not trim and orders.affordable(seat, int(seat.position.margin), again, prices):
            self.open(p, orders.Intent(Order(p, again), Bound.strike), kind)

    def free(self, p: int, wanted: int) -> None:
        seat, mark = self.seat(p), self.prices(p).mark_close
        if not seat.position.quantity:
            release_margin(seat.vault, seat.position, self.tape, wanted)
        elif wanted > 0:
            settlement.shift_collateral(seat, self.tape, mark, -min(wanted, int(orders.spare_margin(seat, mark))))


def by_position(tape: Tape) -> dict[int, list[Any]]:
    """Events in order, position by position: a venue reports the liquidations of all positions before any call. What
    happens to a vault as a whole is no venue's."""
    found: dict[int, list[Any]] = {}
    for row in tape.events[: tape.used[1]].tolist():
        if row[2] >= 0:
            found.setdefault(row[2], []).append(row)
    return found


def assert_same_books(one: World) -> set[int]:
    """The driver books what the loop books, unit by unit; returns the kinds of event of positions."""
    looped, record = copied(one.book), one.record()
    simulate(looped, one.terms, one.walk, record, (0, len(one.bars)))
    book, tape = Driver(one).run()
    assert by_position(tape) == by_position(record.tape)
    assert sorted(tape.transfers[: tape.used[0]].tolist()) == sorted(
        record.tape.transfers[: record.tape.used[0]].tolist()
    )
    for name in ("reserve", "cushion", "venue", "funding", "shortfall", "costs", "high_water_mark"):
        assert book.vaults[name].tolist() == looped.vaults[name].tolist()
    for name in ("quantity", "cost", "margin", "refused"):
        assert book.positions[name].tolist() == looped.positions[name].tolist()
    return {row[3] for events in by_position(tape).values() for row in events}


def test_a_driver_that_speaks_the_verbs_books_what_the_loop_books() -> None:
    kinds: set[int] = set()
    for seed in range(2 if SLOW else 12):
        rough = Rough(often=0.1, drift=0.02, stamped=0.5, thin=(0.0, 0.5)[seed % 2], inverse=0.2, calm=0.7)
        one = world(np.random.default_rng(seed), vaults=2, each=3, symbols=4, bars=60, every=2, rough=rough)
        one.limits.vaults.at_wall = 0
        kinds |= assert_same_books(one)
    assert kinds >= {Kind.resize, Kind.collateral, Kind.funding, Kind.refusal}
    assert SLOW or kinds >= {Kind.margin_call, Kind.liquidation, Kind.roll}


@pytest.mark.parametrize("sweep", [0, 1])
def test_the_driver_rolls_and_trims_as_the_loop_does(sweep: int) -> None:
    """A position held through a market that only rises, in a vault whose wall follows it."""
    rough = Rough(often=0.0, drift=0.02, basis=0.0, missing=0.0, odd=0.0, stamped=0.3, thin=0.5)
    one = world(np.random.default_rng(21), vaults=1, each=1, symbols=1, bars=40, every=1, rough=rough)
    one.limits.vaults.at_wall, one.limits.vaults.sweep = 0, sweep
    one.limits.vaults.keep, one.limits.vaults.gross_leverage_max = 800_000, 1e9
    one.limits.positions.leverage_max, one.limits.positions.volatility_max = 20.0, 1e9
    one.limits.positions.share, one.limits.positions.distance_sigmas = 1_000_000, 0.0
    one.proposals.leverage, one.proposals.volatility = 3.0, 0.5
    one.listing.notional_min = 0
    rise = 1.0 + 0.01 * np.arange(40)[:, None]
    for name in BAR.names or ():
        if name in ("open", "high", "low", "close") or name.startswith("mark_"):
            one.bars[name] = float(one.bars.close[0, 0]) * rise
    kinds = assert_same_books(one)
    assert (Kind.roll in kinds) == (sweep == 0)
    _, tape = Driver(one).run()
    assert Bound.strike in {row[4] for row in by_position(tape)[0]}


@pytest.fixture
def one() -> World:
    """Two flat positions on two instruments, and bars at which both trade."""
    return world(np.random.default_rng(0), vaults=1, each=2, symbols=2, bars=2, rough=Rough(missing=0.0))


@pytest.fixture
def venue(one: World) -> PaperVenue:
    paper = PaperVenue(one.book.positions, one.limits.positions, one.listing)
    paper.trade(one.bars[0], one.stamps)
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
    venue.trade(one.bars[1], one.stamps)
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


def test_stamps_are_reported_one_after_the_other_so_that_each_is_on_what_the_last_has_left() -> None:
    bench = Exchange()
    bench.hold(1_000, 20_000.0, 500 * USDT)
    paper = PaperVenue(bench.book.positions, bench.limits.positions, bench.listing)
    prices = rows(BAR, 1, valid=True, volume=np.inf, funding=True, stamps_from=1, stamps_to=3,
                  **{name: 20_000.0 for name in BAR.names or () if name in ("open", "high", "low", "close")
                     or name.startswith("mark_")})  # fmt: skip
    stamps = rows(STAMP, 3, ts=[0, START, START + HOUR // 2], rate=[0.5, 0.0078125, -0.0078125])
    paper.trade(prices, stamps)
    found = [paper.reports() for _ in range(4)]
    assert [[(one.kind, one.price, one.amount) for one in part] for part in found] == [
        [(ReportKind.funding, 0.0078125, -156_250_000)], [(ReportKind.funding, -0.0078125, 156_250_000)], [], [],
    ]  # fmt: skip
    bench.book.positions.margin = 0  # it was settled so; nothing is left that maintenance could be asked of
    paper.trade(prices[:1], stamps)
    assert [one.kind for part in (paper.reports(), paper.reports(), paper.reports()) for one in part] == [
        ReportKind.funding, ReportKind.funding, ReportKind.liquidation,
    ]  # fmt: skip


def test_the_fills_of_a_position_in_a_bar_share_its_part_of_the_volume_and_the_rest_lapses() -> None:
    """A tenth of 2 bitcoin are 200 lots: 150 sold and 50 of 150 bought back; the next bar has its own."""
    bench = Exchange(terms={"volume_share": 0.1})
    paper = PaperVenue(bench.book.positions, bench.limits.positions, bench.listing)
    prices = rows(BAR, 1, valid=True, volume=2.0, close=20_000.0, mark_close=20_000.0)
    for expected in ([-150, 50, 0], [-150, 50, 0]):
        paper.trade(prices, rows(STAMP, 0))
        filled = []
        for lots in (-150, 150, 1):
            paper.place(Order(0, lots))
            filled += [report.lots for report in paper.reports()]
        assert filled == expected
        assert paper.orders() == ()


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
    # what part of a bar's volume may be filled is a venue's limit
    text = (project / "markets" / name).read_text().replace("volume_share", "volume")
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
