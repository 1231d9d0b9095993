"""Shares and the wall arithmetic of deposits and redemptions, against exact fractions."""

from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.vaults.errors import DepositRefused, RedeemExceeds, ZeroAssets, ZeroShares
from ringfence.vaults.queue import Request, redemption_price, request_redemption, settle
from ringfence.vaults.shares import (
    LARGEST,
    PRICE_LARGEST,
    Pool,
    State,
    convert_to_assets,
    convert_to_shares,
    deposit,
    max_deposit,
    max_mint,
    max_redeem,
    max_withdraw,
    mint,
    preview_deposit,
    preview_mint,
    preview_redeem,
    preview_withdraw,
    redeem,
    split_deposit,
    wall,
    withdraw,
)

ONE = 2**50
money = st.integers(1, 10**15) | st.integers(1, 2000)
pools = st.one_of(
    st.just(Pool(0, 0)),
    st.builds(Pool, st.integers(1, 10**15) | st.integers(1, 50), st.integers(1, 10**18) | st.integers(1, 50_000)),
)


# ---------------------------------------------------------------------------------------------------- ERC-4626


@given(pools, money)
def test_previews_are_the_exact_fraction_rounded_against_the_one_who_asks(pool: Pool, amount: int) -> None:
    per_asset = Fraction(pool.shares + 1000, pool.assets + 1)
    assert preview_deposit(pool, amount) == convert_to_shares(pool, amount) == floor(amount * per_asset)
    assert preview_withdraw(pool, amount) == ceil(amount * per_asset)
    assert preview_mint(pool, amount) == ceil(amount / per_asset)
    assert preview_redeem(pool, amount) == convert_to_assets(pool, amount) == floor(amount / per_asset)


@given(pools, money)
def test_deposit_then_redeem_gives_no_more_back(pool: Pool, assets: int) -> None:
    assume(preview_deposit(pool, assets) > 0 and assets <= max_deposit(pool))
    after, shares = deposit(pool, assets)
    assert preview_redeem(after, shares) <= assets


@given(pools, money)
def test_deposit_then_withdraw_burns_at_least_what_was_minted(pool: Pool, assets: int) -> None:
    assume(preview_deposit(pool, assets) > 0 and assets <= max_deposit(pool))
    after, shares = deposit(pool, assets)
    assert preview_withdraw(after, assets) >= shares


@given(pools, money)
def test_mint_then_redeem_gives_no_more_back_than_was_paid(pool: Pool, shares: int) -> None:
    assume(shares <= max_mint(pool))
    after, assets = mint(pool, shares)
    assert preview_redeem(after, shares) <= assets


@given(pools, money)
def test_mint_then_withdraw_of_what_was_paid_burns_at_least_the_minted(pool: Pool, shares: int) -> None:
    assume(shares <= max_mint(pool))
    after, assets = mint(pool, shares)
    assert preview_withdraw(after, assets) >= shares


@given(pools, st.data())
def test_redeem_then_deposit_of_the_proceeds_buys_no_more_shares(pool: Pool, draw: st.DataObject) -> None:
    shares = draw.draw(st.integers(1, max(1, pool.shares)))
    assume(shares <= pool.shares and preview_redeem(pool, shares) > 0)
    after, assets = redeem(pool, shares, pool.shares)
    assert preview_deposit(after, assets) <= shares


@given(pools, st.data())
def test_redeem_then_mint_of_the_same_shares_costs_at_least_the_proceeds(pool: Pool, draw: st.DataObject) -> None:
    shares = draw.draw(st.integers(1, max(1, pool.shares)))
    assume(shares <= pool.shares and preview_redeem(pool, shares) > 0)
    after, assets = redeem(pool, shares, pool.shares)
    assert preview_mint(after, shares) >= assets


@given(pools, st.data())
def test_withdraw_then_deposit_buys_no_more_than_was_burned(pool: Pool, draw: st.DataObject) -> None:
    assets = draw.draw(st.integers(1, max(1, pool.assets)))
    assume(0 < preview_withdraw(pool, assets) <= pool.shares and assets <= pool.assets)
    after, shares = withdraw(pool, assets, pool.shares)
    assert preview_deposit(after, assets) <= shares


@given(pools, st.data())
def test_withdraw_then_mint_of_the_burned_costs_at_least_the_proceeds(pool: Pool, draw: st.DataObject) -> None:
    assets = draw.draw(st.integers(1, max(1, pool.assets)))
    assume(0 < preview_withdraw(pool, assets) <= pool.shares and assets <= pool.assets)
    after, shares = withdraw(pool, assets, pool.shares)
    assert preview_mint(after, shares) >= assets


@given(pools, money, st.data())
def test_an_act_gives_exactly_what_its_preview_promised(pool: Pool, amount: int, draw: st.DataObject) -> None:
    if preview_deposit(pool, amount) > 0 and amount <= max_deposit(pool):
        after, shares = deposit(pool, amount)
        assert shares == preview_deposit(pool, amount)
        assert after == Pool(pool.assets + amount, pool.shares + shares)
    if amount <= max_mint(pool):
        assert mint(pool, amount)[1] == preview_mint(pool, amount)
    held = draw.draw(st.integers(0, pool.shares))
    if held and preview_redeem(pool, held) > 0:
        after, assets = redeem(pool, held, held)
        assert assets == preview_redeem(pool, held) == max_withdraw(pool, held)
        assert withdraw(pool, assets, held)[1] <= held


@given(pools, money)
def test_no_act_lowers_the_price_for_those_who_stay(pool: Pool, assets: int) -> None:
    assume(preview_deposit(pool, assets) > 0 and assets <= max_deposit(pool))
    after, shares = deposit(pool, assets)
    price = Fraction(pool.assets + 1, pool.shares + 1000)
    assert Fraction(after.assets + 1, after.shares + 1000) >= price
    if preview_redeem(after, shares) > 0:
        left, _ = redeem(after, shares, shares)
        assert Fraction(left.assets + 1, left.shares + 1000) >= price


def test_the_donation_attack_costs_the_attacker_and_spares_the_victim() -> None:
    pool, of_attacker = deposit(Pool(0, 0), 1)
    assert of_attacker == 1000
    pool = Pool(pool.assets + 100_000, pool.shares)
    pool, of_victim = deposit(pool, 50_000)
    assert of_victim > 0
    assert preview_redeem(pool, of_attacker) < 100_001
    assert 50_000 - preview_redeem(pool, of_victim) <= 50_000 // 1000 + 2


@given(st.integers(1, 10**6), st.integers(0, 10**12), st.integers(1, 10**12))
@example(1, 100_000, 50_000)
def test_a_donation_before_the_first_depositor_never_profits(stake: int, donated: int, paid: int) -> None:
    pool, of_attacker = deposit(Pool(0, 0), stake)
    pool = Pool(pool.assets + donated, pool.shares)
    assume(preview_deposit(pool, paid) > 0)
    pool, of_victim = deposit(pool, paid)
    assert preview_redeem(pool, of_attacker) <= stake + donated
    # a share unit is what rounding can take of the victim: (donated + stake) / 1000 of a unit's worth at most
    assert paid - preview_redeem(pool, of_victim) <= (donated + stake) // 1000 + 2


def test_zero_and_less_are_refused_with_nothing_taken() -> None:
    rich = Pool(10**9, 1000)
    for assets in (0, -1, 1):
        with pytest.raises(ZeroShares):
            deposit(rich, assets)
    for shares in (0, -1):
        with pytest.raises(ZeroShares):
            mint(rich, shares)
        with pytest.raises(ZeroAssets):
            redeem(rich, shares, 1000)
        with pytest.raises(ZeroAssets):
            withdraw(rich, shares, 1000)
    with pytest.raises(ZeroAssets):
        redeem(Pool(1, 10**6), 1, 10**6)


def test_more_than_is_held_is_refused() -> None:
    pool = Pool(1000, 1_000_000)
    with pytest.raises(RedeemExceeds, match="501 were to be redeemed, 500 can be"):
        redeem(pool, 501, 500)
    with pytest.raises(RedeemExceeds):
        redeem(pool, 1_000_001, 2_000_000)
    with pytest.raises(RedeemExceeds):
        withdraw(pool, 1001, 10**9)
    assert max_redeem(500, 200) == 300
    assert max_redeem(5, 9) == 0


def test_a_vault_that_lost_everything_takes_no_deposit() -> None:
    ruined = Pool(0, 1)
    assert max_deposit(ruined) == max_mint(ruined) == 0
    with pytest.raises(DepositRefused, match="lost everything"):
        deposit(ruined, 10**6)
    with pytest.raises(DepositRefused, match="lost everything"):
        mint(ruined, 10**6)


@given(pools)
def test_max_deposit_is_taken_and_one_more_is_not(pool: Pool) -> None:
    largest = max_deposit(pool)
    after, shares = deposit(pool, largest)
    assert after.assets <= LARGEST
    assert after.shares <= LARGEST
    assert shares == max_mint(pool)
    with pytest.raises(DepositRefused, match=f"at most {largest}"):
        deposit(pool, largest + 1)


def test_minting_past_the_largest_is_refused() -> None:
    with pytest.raises(DepositRefused, match="at most"):
        mint(Pool(0, 0), LARGEST + 1)
    with pytest.raises(DepositRefused, match="at most"):
        mint(Pool(1, LARGEST), 1)


# ---------------------------------------------------------------------------------------------------- the wall

marks = st.integers(0, PRICE_LARGEST)
keeps = st.integers(0, 10**6)
counts = st.integers(0, LARGEST)


@given(marks, keeps, counts)
def test_the_wall_is_never_below_its_exact_fraction_and_at_most_a_rounding_above(
    mark: int, keep: int, shares: int
) -> None:
    exact = Fraction(mark * keep, 10**6) * shares / ONE
    found = wall(mark, keep, shares)
    assert found >= exact
    assert found < exact + Fraction(shares, ONE) + 1


@given(marks, keeps, st.integers(0, 10**15))
def test_the_wall_is_the_compiled_step_s(mark: int, keep: int, shares: int) -> None:
    from ringfence.risk.arithmetic import portion_up, scaled_up

    assert wall(mark, keep, shares) == scaled_up(int(portion_up(mark, keep)), shares)


@st.composite
def states(draw: st.DrawFn) -> tuple[State, int]:
    """A vault that keeps its law: (state, keep)."""
    keep = draw(st.integers(1, 10**6))
    if draw(st.integers(0, 5)) == 0:
        return State(draw(st.integers(0, 3)), draw(st.integers(0, 3)), 0, 0, 0, 0), keep
    shares = draw(st.integers(1, 10**16) | st.integers(1, 100_000))
    mark = draw(st.integers(1, PRICE_LARGEST // 4) | st.integers(ONE // 1000, ONE // 500))
    least = wall(mark, keep, shares)
    surplus, cushion, equity = (draw(st.just(0) | st.integers(0, 10**15) | st.integers(0, 100)) for _ in range(3))
    state = State(least + surplus, cushion, shares, 0, mark, equity)
    assume(state.nav > 0)
    return state, keep


def lawful(state: State, keep: int) -> bool:
    return state.cushion >= 0 and state.reserve >= wall(state.high_water_mark, keep, state.shares)


@given(states(), money)
def test_a_deposit_leaves_the_reserve_at_or_above_the_wall_or_is_refused(case: tuple[State, int], amount: int) -> None:
    state, keep = case
    try:
        booked = split_deposit(state, amount, keep)
    except (ZeroShares, DepositRefused):
        return
    after = booked.state
    assert booked.to_reserve + booked.to_cushion == amount
    assert min(booked.to_reserve, booked.to_cushion, booked.ratchet) >= 0
    assert booked.shares == preview_deposit(state.pool, amount)
    assert after.reserve == state.reserve + booked.to_reserve + booked.ratchet
    assert after.cushion == state.cushion + booked.to_cushion - booked.ratchet
    assert after.shares == state.shares + booked.shares
    assert booked.ratchet == 0 or booked.to_cushion == 0
    assert lawful(after, keep)
    missing = wall(after.high_water_mark, keep, after.shares) - state.reserve
    assert booked.to_reserve + booked.ratchet == max(0, missing)
    if state.shares:
        assert after.high_water_mark == state.high_water_mark


@given(st.integers(1, 10**15), keeps)
def test_a_first_deposit_sets_the_mark_and_is_never_refused(amount: int, keep: int) -> None:
    booked = split_deposit(State(0, 0, 0, 0, 0, 0), amount, keep)
    assert booked.shares == 1000 * amount
    assert booked.state.high_water_mark == ONE // 1000
    assert booked.ratchet == 0
    assert booked.to_reserve == ceil(Fraction(ceil(Fraction(ONE // 1000 * keep, 10**6)) * 1000 * amount, ONE))


def test_a_deposit_of_fifty_thousand_behind_a_wall_of_a_fifth() -> None:
    booked = split_deposit(State(0, 0, 0, 0, 0, 0), 50_000_000_000, 800_000)
    assert (booked.to_reserve, booked.to_cushion) == (40_000_000_000, 10_000_000_000)


def test_a_deposit_that_cannot_meet_its_wall_is_refused() -> None:
    # one unit a share, marked at two: below its wall per share, as only a broken vault can be
    state = State(0, 10, 1_000_000, 0, 2 * ONE // 1000, 990)
    with pytest.raises(DepositRefused, match="wait until positions have been reduced"):
        split_deposit(state, 100, 1_000_000)


def test_the_cushion_helps_a_deposit_over_a_rounding() -> None:
    state = State(1600, 10, 1_000_000, 0, 2 * ONE // 1000, 0)
    booked = split_deposit(state, 100, 800_000)
    assert booked.to_reserve == 100
    assert booked.to_cushion == 0
    assert booked.ratchet >= 0
    assert lawful(booked.state, 800_000)


def test_what_an_empty_vault_still_holds_falls_to_the_next_depositor_and_never_shuts_it() -> None:
    booked = split_deposit(State(9_000, 1_000, 0, 0, 0, 0), 10_000, 800_000)
    assert booked.shares == 10_000_000
    assert booked.state.high_water_mark == 20_000 * ONE // 10_000_000
    assert booked.to_reserve == 7_000
    with pytest.raises(DepositRefused, match="still holds 10000 minor units, pay in more"):
        split_deposit(State(0, 10_000, 0, 0, 0, 0), 1, 800_000)
    assert lawful(split_deposit(State(0, 10_000, 0, 0, 0, 0), 2, 800_000).state, 800_000)


# ---------------------------------------------------------------------------------------------------- redemptions


@st.composite
def queues(draw: st.DrawFn) -> tuple[State, list[Request], int]:
    state, keep = draw(states())
    requests, left = [], state.shares
    for seq in range(1, draw(st.integers(0, 4)) + 1):
        if left == 0:
            break
        shares = draw(st.integers(1, left) | st.just(left))
        left -= shares
        now = redemption_price(state.pool)
        price = draw(st.integers(0, 2 * now) | st.just(now))
        remaining = draw(st.just(shares) | st.integers(1, shares))
        requests.append(Request(seq, "alice", shares, price, remaining))
    return replace(state, waiting=sum(request.remaining for request in requests)), requests, keep


@given(queues())
def test_a_settlement_pays_only_what_is_free_and_keeps_the_wall(case: tuple[State, list[Request], int]) -> None:
    state, requests, keep = case
    settlement = settle(state, requests, keep)
    after = settlement.state
    assert lawful(after, keep)
    assert after.reserve == state.reserve - sum(payment.from_reserve for payment in settlement.payments)
    assert after.cushion == state.cushion - sum(payment.from_cushion for payment in settlement.payments)
    assert after.shares == state.shares - sum(payment.shares for payment in settlement.payments)
    assert after.waiting == state.waiting - sum(payment.shares for payment in settlement.payments) >= 0
    assert after.margin_equity == state.margin_equity
    assert after.high_water_mark == (state.high_water_mark if after.shares else 0)


@given(queues())
def test_nobody_is_paid_more_than_at_the_request_or_than_now(case: tuple[State, list[Request], int]) -> None:
    state, requests, keep = case
    by_seq = {request.seq: request for request in requests}
    reserve, cushion, shares = state.reserve, state.cushion, state.shares
    for payment in settle(state, requests, keep).payments:
        request = by_seq[payment.request]
        pool = Pool(reserve + cushion + state.margin_equity, shares)
        assert payment.assets <= Fraction(request.price * payment.shares, ONE)
        assert payment.assets <= payment.shares * Fraction(pool.assets + 1, pool.shares + 1000)
        assert payment.assets == min(request.price * payment.shares // ONE, preview_redeem(pool, payment.shares))
        assert 0 < payment.shares <= request.remaining
        assert payment.remaining == request.remaining - payment.shares
        assert min(payment.from_reserve, payment.from_cushion) >= 0
        reserve, cushion = reserve - payment.from_reserve, cushion - payment.from_cushion
        shares -= payment.shares


@given(queues())
def test_those_who_wait_are_served_in_order_and_only_the_last_in_part(case: tuple[State, list[Request], int]) -> None:
    state, requests, keep = case
    payments = settle(state, requests, keep).payments
    assert [payment.request for payment in payments] == sorted({payment.request for payment in payments})
    assert all(payment.remaining == 0 for payment in payments[:-1])


@given(queues())
def test_a_payment_never_lowers_the_price_of_those_who_stay(case: tuple[State, list[Request], int]) -> None:
    state, requests, keep = case
    after = settle(state, requests, keep).state
    assert Fraction(after.nav + 1, after.shares + 1000) >= Fraction(state.nav + 1, state.shares + 1000)


@given(queues())
def test_settling_again_at_once_pays_next_to_nothing(case: tuple[State, list[Request], int]) -> None:
    """What is free was paid: the next settlement finds at most roundings."""
    state, requests, keep = case
    first = settle(state, requests, keep)
    paid = {payment.request: payment.remaining for payment in first.payments}
    rest = [replace(r, remaining=paid.get(r.seq, r.remaining)) for r in requests if paid.get(r.seq, 1) > 0]
    again = settle(first.state, rest, keep)
    for payment in again.payments[:1]:
        request = next(request for request in rest if request.seq == payment.request)
        price = min(request.price, redemption_price(first.state.pool))
        floor_price = first.state.high_water_mark * keep // 10**6
        if price > floor_price + 2:
            # a share frees less than it costs, so what was left over is a rounding, worth one step of the search
            assert payment.assets <= 4 + Fraction(4 * price, price - floor_price)


@given(st.integers(1, 10**15), keeps, st.integers(-(10**6), 10**6))
def test_all_shares_of_a_flat_vault_redeem_to_the_last_crumb(amount: int, keep: int, gain: int) -> None:
    start = split_deposit(State(0, 0, 0, 0, 0, 0), amount, keep).state
    state = replace(start, cushion=max(0, start.cushion + gain))
    assume(preview_redeem(state.pool, state.shares) > 0)
    asked = request_redemption(state, 1, "alice", state.shares, state.shares, 0)
    settlement = settle(replace(state, waiting=state.shares), [asked], keep)
    assert settlement.state.shares == settlement.state.waiting == settlement.state.high_water_mark == 0
    assert settlement.state.nav <= 3 + state.nav // amount + state.shares // ONE
    assert settlement.payments[0].remaining == 0


def test_what_is_not_free_waits() -> None:
    start = split_deposit(State(0, 0, 0, 0, 0, 0), 1_000_000, 800_000).state
    # the whole cushion stands in positions: half of the reserve's release is what can be paid
    state = replace(start, cushion=0, margin_equity=200_000, waiting=500_000_000)
    asked = request_redemption(state, 1, "alice", 500_000_000, 1_000_000_000, 0)
    settlement = settle(state, [asked], 800_000)
    assert sum(payment.assets for payment in settlement.payments) <= 1
    richer = replace(state, cushion=10_000, margin_equity=190_000)
    (payment,) = settle(richer, [asked], 800_000).payments
    # 20 % of a share's value is not freed by burning it, so 10,000 free pay about 50,000
    assert payment.assets == pytest.approx(50_000, abs=20)
    assert payment.from_cushion == pytest.approx(10_000, abs=1)
    assert payment.remaining == 500_000_000 - payment.shares


def test_a_worthless_request_waits_without_holding_up_the_next() -> None:
    state = State(1_000_000, 0, 1_000_000_000, 500_000_001, 0, 0)
    crumb = Request(1, "alice", 1, redemption_price(state.pool), 1)
    whole = Request(2, "bob", 500_000_000, redemption_price(state.pool), 500_000_000)
    (payment,) = settle(state, [crumb, whole], 800_000).payments
    assert payment.request == 2
    assert payment.remaining == 0


def test_the_tail_of_a_partly_paid_request_that_is_worth_nothing_is_closed() -> None:
    state = State(1_000_000, 0, 1_000_000_000, 999, 0, 0)
    tail = Request(1, "alice", 10_000, redemption_price(state.pool), 999)
    (payment,) = settle(state, [tail], 800_000).payments
    assert (payment.shares, payment.assets, payment.remaining) == (999, 0, 0)


def test_a_request_for_more_than_is_free_of_the_queue_or_for_nothing_is_refused() -> None:
    state = split_deposit(State(0, 0, 0, 0, 0, 0), 1_000, 800_000).state
    with pytest.raises(RedeemExceeds, match="600000 were to be redeemed, 500000 can be"):
        request_redemption(state, 1, "alice", 600_000, 1_000_000, 500_000)
    for shares in (0, -5, 1):
        with pytest.raises(ZeroAssets):
            request_redemption(state, 1, "alice", shares, 1_000_000, 0)
    asked = request_redemption(state, 7, "alice", 500_000, 1_000_000, 500_000)
    assert asked == Request(7, "alice", 500_000, redemption_price(state.pool), 500_000)


def test_a_vault_below_its_wall_pays_nobody() -> None:
    state = State(0, 10, 1_000_000, 1_000_000, ONE // 1000, 990)
    asked = Request(1, "alice", 1_000_000, ONE // 1000, 1_000_000)
    assert settle(state, [asked], 1_000_000).payments == ()
