"""The queue of both directions: one price for all, who moves pays, and what stays behind the wall stays there."""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.vaults.errors import RedeemExceeds, ZeroAssets
from ringfence.vaults.queue import Request, Settled, checked_redemption, due, settle, strike_after
from ringfence.vaults.shares import (
    LARGEST,
    PRICE_LARGEST,
    Pool,
    State,
    is_priced,
    preview_deposit,
    preview_redeem,
    price_up,
    split_deposit,
    wall,
)

ONE, V = 2**50, 1000
HOUR = 3_600_000


@dataclass(frozen=True)
class Strike:
    """A vault after the trading for its flows, and what it settles."""

    state: State
    struck: int
    requests: tuple[Request, ...]
    keep: int
    cost: int

    @property
    def price(self) -> Fraction:
        return Fraction(self.struck + 1, self.state.shares + V)

    def worth(self, side: str) -> int:
        pool = Pool(self.struck, self.state.shares)
        asked = [request.remaining for request in self.requests if request.side == side]
        return sum(asked) if side == "deposit" else sum(preview_redeem(pool, shares) for shares in asked)

    def settle(self) -> Settled:
        return settle(self.state, self.struck, self.requests, self.keep, self.cost)


amounts = st.integers(1, 10**14) | st.integers(1, 3_000)


def struck(
    keep: int, shares: int, nav: int, spare: int, requests: tuple[Request, ...], cost: int = 0, peak: int = 0
) -> Strike:
    """A strike as the step leaves it: cash beyond the wall by `spare`, positions cut or grown in proportion to the net
    flow, its cost in `cost`."""
    mark = max(price_up(Pool(nav, shares)), peak)
    least = wall(mark, keep, shares)
    cash = min(nav, least + spare)
    equity = nav - cash
    incoming = sum(request.remaining for request in requests if request.side == "deposit")
    waiting = sum(request.remaining for request in requests if request.side == "redemption")
    net = incoming - Fraction(waiting * (nav + 1), shares + V)
    if net < 0:
        part = Fraction(1) if waiting == shares and not incoming else min(Fraction(1), -net / nav)
        moved = min(equity, ceil(part * equity) + 1)
    else:
        moved = -floor(net / nav * equity)
    cost = min(cost, equity - moved)
    state = State(least, cash - least + incoming + moved, shares, waiting, mark, equity - moved - cost)
    return Strike(state, nav, requests, keep, cost)


@st.composite
def strikes(draw: st.DrawFn) -> Strike:
    keep = draw(st.integers(1, 999_999))
    shares = draw(st.integers(1, 10**16) | st.integers(1, 100_000))
    nav = draw(st.integers(1, 10**14) | st.integers(1, 5_000))
    assume(price_up(Pool(nav, shares)) < PRICE_LARGEST // 4)
    assume(wall(price_up(Pool(nav, shares)), keep, shares) <= nav)
    requests, left = [], shares
    for seq in range(1, draw(st.integers(1, 5)) + 1):
        if draw(st.booleans()):
            amount = draw(amounts)
            requests.append(Request(seq, "deposit", f"in-{seq}", amount, amount, 0))
        elif left:
            part = draw(st.integers(1, left) | st.just(left) | st.just(max(1, left - draw(st.integers(0, 10**6)))))
            left -= part
            requests.append(Request(seq, "redemption", f"out-{seq}", part, part, 0))
    assume(requests)
    incoming = sum(request.remaining for request in requests if request.side == "deposit")
    assume(shares + preview_deposit(Pool(nav, shares), incoming) <= LARGEST)  # else refused when it was asked
    cost = draw(st.just(0) | st.integers(0, nav // 100))
    return struck(keep, shares, nav, draw(st.integers(0, 10**13) | st.just(0)), tuple(requests), cost)


@given(strikes())
def test_what_a_strike_leaves_keeps_its_wall_and_every_unit_is_accounted_for(case: Strike) -> None:
    settled = case.settle()
    before, after = case.state, settled.state
    minted = sum(one.shares for one in settled.settlements if one.side == "deposit")
    burned = sum(one.shares for one in settled.settlements if one.side == "redemption")
    assert after.shares == before.shares + minted - burned >= 0
    assert after.nav == before.nav - sum(one.paid for one in settled.settlements)
    assert after.margin_equity == before.margin_equity
    assert after.high_water_mark == (before.high_water_mark if after.shares else 0)
    assert min(after.cushion, settled.ratchet) >= 0
    assert after.reserve >= wall(after.high_water_mark, case.keep, after.shares)
    assert all(min(one.from_reserve, one.from_cushion, one.cost, one.remaining) >= 0 for one in settled.settlements)


@given(strikes())
@example(
    struck(
        700_000,
        100_000_000_000,
        100_000_000,
        0,
        (Request(1, "redemption", "alice", 99_999_000_000, 99_999_000_000, 0),),
    )
)
@example(struck(700_000, 1_000_000, 900, 0, (Request(1, "deposit", "bob", 50_000_000_000, 50_000_000_000, 0),), 20))
def test_s7_a_flow_never_lowers_the_price_of_those_who_stay(case: Strike) -> None:
    after = case.settle().state
    bears = [one for one in case.settle().settlements if one.cost]
    paid = sum(one.assets if one.side == "deposit" else one.assets + one.cost for one in bears)
    assume(case.cost == 0 or paid >= case.cost)
    assert Fraction(after.nav + 1, after.shares + V) >= case.price


@given(strikes())
def test_everybody_is_settled_at_the_one_price_less_his_part_of_the_cost(case: Strike) -> None:
    pool = Pool(case.struck, case.state.shares)
    for one in case.settle().settlements:
        if one.side == "deposit":
            assert one.shares <= preview_deposit(pool, one.assets - one.cost)
            assert one.paid == 0 or one.shares == 0
        elif one.shares:
            assert one.paid == one.assets == preview_redeem(pool, one.shares) - one.cost > 0


@given(strikes())
def test_the_larger_direction_bears_the_cost_and_the_smaller_none(case: Strike) -> None:
    settled = case.settle().settlements
    enters = case.worth("deposit") > case.worth("redemption")
    for one in settled:
        if (one.side == "deposit") != enters:
            assert one.cost == 0
    served = [one for one in settled if (one.side == "deposit") == enters]
    worth = sum(one.assets + (one.cost if one.side == "redemption" else 0) for one in served)
    if (
        worth >= case.cost
        and all(one.shares for one in served)
        and len(served) == sum((request.side == "deposit") == enters for request in case.requests)
    ):
        assert case.cost <= sum(one.cost for one in served) <= case.cost + len(served)


@given(strikes())
def test_w3b_behind_a_newcomer_stands_his_part_of_the_wall_from_the_start(case: Strike) -> None:
    settled = case.settle()
    after = settled.state
    for one in settled.settlements:
        if one.side == "deposit" and one.shares:
            at_work = one.shares * case.price
            behind = Fraction(one.shares * (wall(after.high_water_mark, case.keep, after.shares) + 1), after.shares + V)
            assert behind >= at_work * case.keep / 10**6
            assert Fraction(one.shares * (after.nav + 1), after.shares + V) >= at_work


@given(strikes())
def test_first_come_are_first_served_and_only_the_last_in_part(case: Strike) -> None:
    settled = [one for one in case.settle().settlements if one.side == "redemption"]
    assert [one.request for one in settled] == sorted({one.request for one in settled})
    assert all(one.remaining == 0 for one in [one for one in settled if one.shares][:-1])


@given(strikes())
@example(
    struck(
        1_268, 23, 816, 0, (Request(1, "deposit", "a", 437_671, 437_671, 0), Request(2, "redemption", "b", 23, 23, 0))
    )
)
def test_all_but_crumbs_are_paid_when_positions_were_cut_for_them(case: Strike) -> None:
    """The step frees what a redemption is worth, so that what waits on is a rounding of its price and of the wall; that
    of the wall grows with the vault, where positions are grown in proportion."""
    assume(case.cost == 0)
    left = {request.seq: request.remaining for request in case.requests if request.side == "redemption"}
    left |= {one.request: one.remaining for one in case.settle().settlements if one.side == "redemption"}
    roundings = len(case.requests) + 4 + Fraction(case.worth("deposit"), case.struck)
    crumb = roundings / (1 - Fraction(case.keep, 10**6)) + 2 * ceil(case.price) + 2
    assert sum(left.values()) * case.price <= crumb * (1 + case.price)


# ---------------------------------------------------------------------------------------------------- cases


def order(side: str, amount: int, seq: int = 1) -> Request:
    return Request(seq, "deposit" if side == "deposit" else "redemption", f"holder-{seq}", amount, amount, 0)


def test_a_deposit_bears_the_trading_that_it_causes_and_buys_with_the_rest() -> None:
    case = struck(800_000, 10**12, 10**9, 0, (order("deposit", 10**9),), cost=1_000_000)
    (one,) = case.settle().settlements
    assert one.cost == case.cost == 1_000_000
    assert one.shares == preview_deposit(Pool(10**9, 10**12), 10**9 - 1_000_000)


def test_one_who_leaves_is_paid_less_what_the_cut_for_him_cost() -> None:
    case = struck(800_000, 10**12, 10**9, 0, (order("redemption", 5 * 10**11),), cost=700)
    (one,) = case.settle().settlements
    assert (one.cost, one.remaining) == (700, 0)
    assert one.paid == preview_redeem(Pool(10**9, 10**12), 5 * 10**11) - 700


def test_who_enters_pays_out_who_leaves_and_neither_bears_a_cost() -> None:
    case = struck(800_000, 10**12, 10**9, 0, (order("deposit", 10**8), order("redemption", 10**11, 2)))
    entered, left = case.settle().settlements
    assert (entered.cost, left.cost, left.remaining) == (0, 0, 0)
    assert left.paid == preview_redeem(Pool(10**9, 10**12), 10**11)
    assert entered.shares == preview_deposit(Pool(10**9, 10**12), 10**8)


def test_the_last_to_leave_empties_the_vault_and_its_mark_is_forgotten() -> None:
    case = struck(700_000, 10**12, 10**9, 10**8, (order("redemption", 10**12),), cost=5_000)
    after = case.settle().state
    assert (after.shares, after.waiting, after.high_water_mark) == (0, 0, 0)
    assert after.nav <= 2


def test_a_redemption_that_cannot_be_freed_waits_and_the_next_does_not_overtake() -> None:
    """As where a venue's volume did not let the positions be cut: cash is at its wall, nothing beyond it."""
    state = State(800_000_001, 50_000, 10**12, 2 * 10**11, price_up(Pool(10**9, 10**12)), 199_949_999)
    requests = (order("redemption", 10**11), order("redemption", 10**11, 2))
    (one,) = settle(state, 10**9, requests, 800_000, 0).settlements
    # a share frees 80 % of its value from the wall, so 50,000 free pay about 250,000
    assert one.request == 1
    assert one.paid == pytest.approx(250_000, abs=20)
    assert one.remaining == 10**11 - one.shares


def test_a_redemption_worth_nothing_is_closed_and_its_shares_stay() -> None:
    state = State(900, 100, 10**9, 10**9, price_up(Pool(1_000, 10**9)), 0)
    crumb, whole = order("redemption", 5), order("redemption", 10**8, 2)
    closed, paid = settle(state, 1_000, (crumb, whole), 700_000, 0).settlements
    assert (closed.shares, closed.paid, closed.remaining) == (0, 0, 0)
    assert (paid.request, paid.paid) == (2, 100)


def test_a_deposit_that_buys_nothing_goes_back_whole() -> None:
    price_of_two = State(1_500, 502, 1, 0, price_up(Pool(2_001, 1)), 0)
    (one,) = settle(replace(price_of_two, cushion=503), 2_001, (order("deposit", 1),), 700_000, 0).settlements
    assert (one.shares, one.paid, one.remaining) == (0, 1, 0)


def test_a_deposit_at_a_price_that_no_mark_can_say_goes_back_whole() -> None:
    nav = 9 * 1_001
    assert not is_priced(Pool(nav, 1))
    state = State(nav, 10**9, 1, 0, PRICE_LARGEST, 0)
    (one,) = settle(state, nav, (order("deposit", 10**9),), 700_000, 0).settlements
    assert (one.shares, one.paid) == (0, 10**9)


def test_a_gain_of_the_trading_is_the_vaults_and_nobody_is_paid_more() -> None:
    case = replace(struck(800_000, 10**12, 10**9, 0, (order("redemption", 10**11),)), cost=-500)
    (one,) = case.settle().settlements
    assert (one.cost, one.paid) == (0, preview_redeem(Pool(10**9, 10**12), 10**11))


# ---------------------------------------------------------------------------------------------------- asking


def test_an_order_is_settled_at_the_first_strike_that_closes_after_it_was_given() -> None:
    assert [strike_after(given, HOUR) for given in (0, 1, HOUR - 1, HOUR)] == [HOUR, HOUR, HOUR, 2 * HOUR]
    orders = [replace(order("redemption", 1, seq), given=given) for seq, given in enumerate((0, HOUR - 1, HOUR))]
    assert [one.seq for one in due(orders, HOUR, False)] == [0, 1]


def test_a_locked_vault_takes_only_deposits_that_accept_it_and_still_lets_people_out() -> None:
    knows = replace(order("deposit", 1), accepts_locked=True)
    orders = [order("deposit", 1, 2), knows, order("redemption", 1, 3)]
    assert due(orders, 1, True) == [knows, orders[2]]
    assert due(orders, 1, False) == orders


def test_a_request_for_more_than_is_free_of_the_queue_or_for_nothing_is_refused() -> None:
    state = split_deposit(State(0, 0, 0, 0, 0, 0), 1_000, 800_000).state
    with pytest.raises(RedeemExceeds, match="600000 were to be redeemed, 500000 can be"):
        checked_redemption(state, 600_000, 1_000_000, 500_000)
    for shares in (0, -5, 1):
        with pytest.raises(ZeroAssets):
            checked_redemption(state, shares, 1_000_000, 0)
    assert checked_redemption(state, 500_000, 1_000_000, 500_000) == 500
