"""What a vault's decision comes to in the loop, in round numbers: W5, volume, strikes, ways out at the wall, flows."""

import math

import numpy as np
import pytest

from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.risk.wall import strike_price, wall_amount
from tests.reference.exchange import HOUR, START, USDT, Exchange

PRICE = 20_000.0
SIDES = pytest.mark.parametrize("side", [1, -1], ids=["long", "short"])


def walk(hours: int, deviation: float = 0.006) -> list[float]:
    """A seeded geometric random walk of so many hours."""
    steps = np.random.default_rng(11).normal(0.0, deviation, hours)
    return [float(price) for price in PRICE * np.exp(np.cumsum(steps))]


# ---------------------------------------------------------------------------------------------------- W5


def small(**terms: float) -> Exchange:
    """A vault of 300 with a lot of 20 and a smallest order of 100."""
    return Exchange(
        terms={"share": 900_000, "taker_fee": 500, **terms}, cushion=60 * USDT, notional_min=100 * USDT,
        shares=300 * USDT * 1_000,
    )  # fmt: skip


@SIDES
def test_w5_three_hundred_units_never_hold_more_than_was_proposed(side: int) -> None:
    """5.4 times 54 are three of its smallest orders: a cut of one lot is made all the same."""
    venue, size = small(), 2_000
    asked = side * 5.4 * np.random.default_rng(3).uniform(0.7, 1.3, size)
    found = venue.hours(walk(size), asked.tolist())
    assert np.all(np.abs(found.leverage) <= np.abs(asked) * (1 + 1e-12))
    held = found.quantity != 0
    assert held.sum() > size // 4
    cuts = [event for event in venue.events if abs(event.quantity_after) < abs(event.quantity_before)]
    below = [one for one in cuts if one.mark * 1_000 * abs(one.quantity_before - one.quantity_after) < 100 * USDT]
    assert len(below) > 50


def test_w5_a_hard_cap_that_binds_trades_as_seldom_as_a_proposal_of_the_same_size() -> None:
    """A year of hours with the band inside the cap: the very same trades, a small part of the hours."""
    year = walk(8_760)
    capped = Exchange(terms={"leverage_max": 5.0, "share": 900_000})
    free = Exchange(terms={"leverage_max": 50.0, "share": 900_000})
    bound, unbound = capped.hours(year, [10.0] * len(year)), free.hours(year, [5.0] * len(year))
    assert bound.quantity.tolist() == unbound.quantity.tolist()
    assert np.all(np.abs(bound.leverage) <= 5.0 * (1 + 1e-12))
    assert {int(one) for one in np.unique(bound.bound)} == {Bound.leverage_max}
    traded = np.count_nonzero(np.diff(bound.quantity))
    assert 100 < traded < 0.2 * len(year)


# ---------------------------------------------------------------------------------------------------- volume


@SIDES
def test_all_fills_of_a_position_in_a_bar_share_its_part_of_the_volume(side: int) -> None:
    """A tenth of 2 bitcoin are 200 lots. The margin call takes all it can get of the 500 that it wants, and the
    decision at the same close finds none left; the next bar has its own."""
    venue = Exchange(terms={"volume_share": 0.1, "call_at": 2_000_000, "call_to": 3_000_000})
    held = venue.hold(side * 1_000, PRICE, 300 * USDT)
    venue.bar(PRICE, asked=(0.0,), volume=2.0)
    told = [(one.kind, one.reason, abs(one.quantity_after)) for one in venue.events if one.kind is not Kind.collateral]
    assert told == [(Kind.margin_call, Bound.margin_call, 800), (Kind.refusal, Bound.volume, 0)]
    venue.bar(PRICE, asked=(0.0,), volume=0.999)
    assert abs(held.quantity) == 800 - 99
    venue.bar(PRICE, asked=(0.0,))
    assert held.quantity == 0


def test_an_opening_fills_as_far_as_the_volume_goes_and_is_told_once_where_it_does_not() -> None:
    venue = Exchange(terms={"volume_share": 0.1, "band": 0.0})
    held = venue.book.positions[0]
    told = []
    for volume in (0.05, 0.0, 0.0, 0.05):
        told += [(one.kind, one.reason, one.quantity_after) for one in venue.bar(PRICE, asked=(1.0,), volume=volume)]
    assert told == [
        (Kind.resize, Bound.nothing, 5), (Kind.refusal, Bound.volume, 25), (Kind.resize, Bound.nothing, 10),
    ]  # fmt: skip
    assert held.margin == 500 * USDT


def test_a_roll_takes_back_no_more_than_the_volume_bears() -> None:
    """Both halves count: of 200 lots 60 are sold by the plan, 84 by the roll, and 56 are bought again."""
    venue, _ = doubled(0, volume=2.0, volume_share=0.1)
    assert [one.quantity_after for one in venue.events if one.kind is not Kind.collateral] == [239, 155, 211]


# ---------------------------------------------------------------------------------------------------- strikes


def doubled(sweep: int, volume: float = math.inf, **terms: float) -> tuple[Exchange, int]:
    """NAV 10,000, wall 8,000: three times 2,000 are held when the price doubles. Returns the cash before the bar."""
    allowed = {"share": 1_000_000, "band": 0.0, "sweep": sweep, **terms}
    venue = Exchange(terms=allowed, cushion=2_000 * USDT)
    venue.bar(PRICE, asked=(3.0,))
    cash = int(venue.vault.reserve + venue.vault.cushion)
    venue.bar(2 * PRICE, asked=(3.0,), volume=volume)
    return venue, cash


def test_open_profit_that_the_wall_needs_is_rolled_into_cash_and_the_lots_stay() -> None:
    """299 lots gained 5,980: NAV 15,980, of which 12,784 must be cash. The plan sells 60 and releases what the margin
    call lets go, to 11,104.4; 84 lots with 20 of profit each bring the other 1,679.6."""
    venue, cash = doubled(0)
    assert cash == 8_000 * USDT + 1  # whose price per share is rounded up
    held = venue.book.positions[0]
    told = [(one.kind, one.reason, one.quantity_before, one.quantity_after) for one in venue.events]
    assert [one for one in told if one[0] is not Kind.collateral] == [
        (Kind.resize, Bound.nothing, 299, 239), (Kind.roll, Bound.strike, 239, 155),
        (Kind.roll, Bound.strike, 155, 239),
    ]  # fmt: skip
    rolled = [one for one in venue.events if one.kind is Kind.roll]
    assert [one.amount for one in rolled] == [84 * 20 * USDT, 0]
    nav, cash = int(venue.state.nav), int(venue.vault.reserve + venue.vault.cushion)
    assert (nav, bool(venue.state.struck)) == (15_980 * USDT, True)
    assert 5 * cash >= 4 * nav
    assert venue.vault.high_water_mark == strike_price(nav, 10**13)
    assert venue.vault.reserve == wall_amount(int(venue.vault.high_water_mark), 800_000, 10**13)
    assert held.margin >= 95_600_000  # of a notional of 9,560


def test_a_mandate_that_trims_closes_for_good_and_needs_fewer_lots() -> None:
    """With each lot its part of the call's cash goes free as well."""
    venue, _ = doubled(1)
    told = [(one.kind, one.reason, one.quantity_after) for one in venue.events if one.kind is not Kind.collateral]
    assert told == [(Kind.resize, Bound.nothing, 239), (Kind.resize, Bound.strike, 156)]
    assert bool(venue.state.struck)


def test_a_roll_costs_both_its_fees_and_they_are_counted() -> None:
    """At 0.05 % of 40 a lot each way: NAV is lower by what was paid, and cash reaches the wall of that NAV."""
    venue, _ = doubled(0, taker_fee=500)
    fees = [one.fee for one in venue.events if one.kind is Kind.roll]
    assert len(fees) == 2
    assert fees[0] == fees[1] > 0
    nav, cash = int(venue.state.nav), int(venue.vault.reserve + venue.vault.cushion)
    assert nav == venue.own() + int(venue.book.positions[0].quantity) * 40 * USDT - int(venue.book.positions[0].cost)
    assert 5 * cash >= 4 * nav


@pytest.mark.parametrize("valid", [True, False])
def test_where_an_open_position_cannot_be_traded_there_is_no_strike(valid: bool) -> None:
    """NAV rises by 3,000 beyond the mark; the other symbol's bar is missing, and a flat position needs none."""
    venue = Exchange(symbols=2)
    mark = int(venue.vault.high_water_mark)
    venue.hold(100, PRICE, 500 * USDT)
    venue.hold(1, PRICE, 500 * USDT, position=1)
    for expected in (valid, True):
        venue.vault.cushion += 3_000 * USDT
        venue.vault.world -= 3_000 * USDT
        before = int(venue.vault.high_water_mark)
        venue.bar(PRICE, PRICE, asked=(1.0, 0.0), valid=[True, expected])
        assert bool(venue.state.struck) == expected
        assert (venue.vault.high_water_mark > before) == expected
    assert venue.vault.high_water_mark > mark
    assert venue.book.positions[1].quantity == 0
    venue.bar(PRICE, PRICE, asked=(1.0, 0.0), valid=[True, False])
    assert bool(venue.state.struck)


@SIDES
def test_lows_are_those_of_the_worst_point_inside_any_bar_since_the_decision_before(side: int) -> None:
    """100 lots lose 200 inside a bar without a decision and have it back at its close."""
    venue = Exchange()
    venue.hold(side * 100, PRICE, 500 * USDT)
    worst = {("mark_low" if side > 0 else "mark_high"): PRICE - side * 2_000.0}
    venue.bar(PRICE, low=min(PRICE, *worst.values()), high=max(PRICE, *worst.values()), **worst)
    assert venue.vault.nav_low == 9_300 * USDT
    assert venue.vault.price_low == math.inf  # it is noted at the decision
    venue.bar(PRICE, asked=(side * 0.5,))
    low, wall = 9_300 * USDT, int(venue.vault.wall)
    assert venue.state.nav_low == low
    assert venue.vault.price_low == low / 10**13
    assert venue.vault.distance_low == (low - wall) / low
    venue.bar(PRICE, asked=(side * 0.5,))
    assert (venue.state.nav_low, venue.vault.price_low) == (9_500 * USDT, low / 10**13)


# ---------------------------------------------------------------------------------------------------- at the wall


def spent(**terms: float) -> Exchange:
    """A NAV of 8,050 above a wall of 8,000: 50 of a full cushion of 1,610."""
    return Exchange(terms=terms, cushion=50 * USDT)


def whole(venue: Exchange) -> list[tuple[Kind, int]]:
    return [(one.kind, one.ts - START) for one in venue.events if one.position == -1]


def test_a_spent_cushion_is_told_at_its_strike_with_the_wall_and_again_once_it_is_more_than_a_tenth() -> None:
    venue = spent()
    (locked,) = venue.bar(PRICE, asked=(0.0,))
    assert (locked.kind, locked.ts, locked.amount) == (Kind.locked, START + HOUR, int(venue.vault.wall))
    assert bool(venue.state.locked)
    told = []
    for more in (60, 60):  # 110 of 1,622 are a fifteenth, 170 of 1,634 more than a tenth
        venue.vault.cushion += more * USDT
        venue.vault.world -= more * USDT
        venue.bar(PRICE, asked=(0.0,))
        told += whole(venue)
    assert told == [(Kind.unlocked, 3 * HOUR)]
    assert (venue.vault.locked_since, bool(venue.state.locked)) == (-1, False)


def test_a_rebase_is_announced_after_its_time_and_happens_after_its_notice() -> None:
    venue = spent(at_wall=2, rebase_after=HOUR, rebase_notice=2 * HOUR)
    told, mark, reserve = [], int(venue.vault.high_water_mark), int(venue.vault.reserve)
    for _ in range(4):
        assert venue.vault.high_water_mark == mark
        venue.bar(PRICE, asked=(0.0,))
        told += whole(venue)
    assert told == [(Kind.locked, HOUR), (Kind.rebase_announced, 2 * HOUR), (Kind.rebased, 4 * HOUR)]
    assert venue.vault.high_water_mark == strike_price(8_050 * USDT, 10**13) < mark
    assert venue.vault.reserve == venue.vault.wall == pytest.approx(6_440 * USDT, abs=1)
    assert venue.moved(Edge.rebase) == reserve - int(venue.vault.reserve)
    assert (venue.vault.locked_since, venue.vault.rebase_at) == (-1, -1)


def test_a_slot_without_a_strike_puts_an_announced_rebase_off_by_one() -> None:
    venue = spent(at_wall=2, rebase_notice=HOUR)
    venue.hold(1, PRICE, 20 * USDT)
    told = []
    for valid in (True, False, True):
        venue.bar(PRICE, asked=(1.0,), valid=valid)
        told += whole(venue)
    assert told == [(Kind.locked, HOUR), (Kind.rebase_announced, HOUR), (Kind.rebased, 3 * HOUR)]


def test_a_vault_that_winds_down_closes_what_it_holds_once_it_is_locked() -> None:
    venue = spent(at_wall=1, band=0.0)
    held = venue.book.positions[0]
    venue.bar(PRICE, asked=(2.0,))
    assert held.quantity > 0
    venue.bar(PRICE, asked=(2.0,))
    assert (held.quantity, held.margin, venue.detail[0].bound) == (0, 0, Bound.at_wall)
    assert [(one.kind, one.reason) for one in venue.events] == [(Kind.resize, Bound.at_wall)]


# ---------------------------------------------------------------------------------------------------- flows


def test_who_leaves_takes_his_part_of_the_lots_and_what_that_costs_is_told() -> None:
    """Half of the shares wait: half of the lots and, since the price counts a virtual unit, a hair more are closed at
    a fee of 0.1 %, in the same decision."""
    venue = Exchange(terms={"taker_fee": 1_000, "share": 900_000})
    venue.bar(PRICE, asked=(5.0,))
    lots = int(venue.book.positions[0].quantity)
    venue.vault.waiting = venue.vault.shares // 2
    venue.bar(PRICE, asked=(5.0,))
    (cut,) = [one for one in venue.events if one.reason is Bound.flow]
    assert (cut.kind, cut.quantity_before - cut.quantity_after) == (Kind.resize, lots // 2 + 1)
    assert cut.fee == venue.state.flow_cost > 0
    assert abs(venue.detail[0].leverage) <= 5.0
    margin = int(venue.book.positions[0].margin)
    assert margin == pytest.approx(450 * USDT, rel=0.02)
    assert venue.state.nav == pytest.approx(9_000 * USDT, rel=0.001)


def test_who_enters_brings_his_part_of_the_lots_and_margin() -> None:
    """4,500 enter a NAV of 9,000: half as many lots again."""
    venue = Exchange(terms={"share": 900_000})
    venue.bar(PRICE, asked=(5.0,))
    lots, margin = int(venue.book.positions[0].quantity), int(venue.book.positions[0].margin)
    venue.vault.entering = 4_500 * USDT
    venue.vault.world -= 4_500 * USDT
    venue.bar(PRICE, asked=(5.0,))
    (added,) = [one for one in venue.events if one.reason is Bound.flow]
    assert added.quantity_after == lots + lots // 2
    assert venue.moved(Edge.admit) == 4_500 * USDT
    assert venue.moved(Edge.post) == margin // 2
    assert (venue.vault.entering, venue.state.nav, venue.state.flow_cost) == (0, 9_000 * USDT, 0)


def test_nobody_enters_or_leaves_where_there_is_no_strike() -> None:
    venue = Exchange()
    venue.hold(10, PRICE, 100 * USDT)
    venue.vault.entering, venue.vault.waiting = 500 * USDT, venue.vault.shares // 2
    venue.vault.world -= 500 * USDT
    assert venue.bar(PRICE, asked=(0.4,), valid=False) == []
    assert (venue.vault.entering, venue.vault.waiting, bool(venue.state.struck)) == (500 * USDT, 5 * 10**12, False)
    assert venue.state.nav == 9_100 * USDT
