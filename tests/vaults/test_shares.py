"""Shares, prices and the wall, against exact fractions."""

from fractions import Fraction
from math import ceil, floor

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.vaults.errors import DepositRefused, RedeemExceeds, ZeroAssets, ZeroShares
from ringfence.vaults.shares import (
    LARGEST,
    PRICE_LARGEST,
    Pool,
    State,
    convert_to_assets,
    convert_to_shares,
    deposit,
    is_priced,
    max_deposit,
    max_mint,
    max_redeem,
    max_withdraw,
    mint,
    preview_deposit,
    preview_mint,
    preview_redeem,
    preview_withdraw,
    price_up,
    redeem,
    split_deposit,
    wall,
    withdraw,
)

ONE = 2**50
money = st.integers(1, 10**15) | st.integers(1, 2000)
pools = st.one_of(
    st.just(Pool(0, 0)),
    st.builds(
        Pool, st.integers(1, 10**15) | st.integers(1, 50), st.integers(1, 10**18) | st.integers(1, 50_000)
    ).filter(is_priced),
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
    pool = Pool(pool.assets + 10_000, pool.shares)
    pool, of_victim = deposit(pool, 50_000)
    assert of_victim > 0
    assert preview_redeem(pool, of_attacker) < 10_001
    assert 50_000 - preview_redeem(pool, of_victim) <= 50_000 // 1000 + 2


def test_a_donation_that_lifts_the_price_beyond_its_mark_shuts_the_victim_out_before_he_pays() -> None:
    pool, _ = deposit(Pool(0, 0), 1)
    with pytest.raises(DepositRefused, match="worth more than can be divided fairly"):
        deposit(Pool(pool.assets + 100_000, pool.shares), 50_000)


@given(st.integers(1, 10**6), st.integers(0, 10**12), st.integers(1, 10**12))
@example(1, 10_000, 50_000)
def test_a_donation_before_the_first_depositor_never_profits(stake: int, donated: int, paid: int) -> None:
    pool, of_attacker = deposit(Pool(0, 0), stake)
    pool = Pool(pool.assets + donated, pool.shares)
    assume(is_priced(pool) and preview_deposit(pool, paid) > 0)
    pool, of_victim = deposit(pool, paid)
    assert preview_redeem(pool, of_attacker) <= stake + donated
    # a share unit is what rounding can take of the victim: (donated + stake) / 1000 of a unit's worth at most
    assert paid - preview_redeem(pool, of_victim) <= (donated + stake) // 1000 + 2


def test_zero_and_less_are_refused_with_nothing_taken() -> None:
    rich = Pool(7_000, 1_000)
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
counts = st.integers(0, LARGEST // 8)


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_a_price_is_the_exact_fraction_rounded_up_and_no_higher_than_a_mark_can_say(assets: int, shares: int) -> None:
    exact = ceil(Fraction((assets + 1) * ONE, shares + 1000))
    assert price_up(Pool(assets, shares)) == min(exact, PRICE_LARGEST)
    if assets or not shares:
        assert is_priced(Pool(assets, shares)) == (exact <= PRICE_LARGEST)


@given(marks, keeps, counts)
def test_the_wall_holds_the_floor_of_every_share_virtual_ones_included_and_at_most_a_rounding_more(
    mark: int, keep: int, shares: int
) -> None:
    floor_price = Fraction(mark * keep, 10**6) / ONE
    found = wall(mark, keep, shares)
    if shares == 0:
        assert found == 0
        return
    assert found >= floor_price * shares
    assert Fraction(found + 1, shares + 1000) >= floor_price
    assert found < max(floor_price * (shares + 1000), floor_price * shares + 1) + Fraction(shares + 1000, ONE) + 1


@given(marks, keeps, counts)
def test_the_wall_is_the_compiled_step_s(mark: int, keep: int, shares: int) -> None:
    from ringfence.risk.wall import wall_amount

    assert wall(mark, keep, shares) == wall_amount(mark, keep, shares)


def test_a_crumb_of_shares_is_walled_at_the_price_that_people_enter_at() -> None:
    """One share unit is left of an emptied vault, the virtual thousand beside it: both count in the price, so both
    count in the wall, which would else be a thousandth of what the price promises."""
    price = price_up(Pool(1_000, 1))
    assert wall(price, 700_000, 1) == pytest.approx(700, abs=1)


# ---------------------------------------------------------------------------------------------------- taken at once


@st.composite
def cash_vaults(draw: st.DrawFn) -> tuple[State, int]:
    """A vault that is all cash and has never lived through a bar, or is empty: (state, keep)."""
    keep = draw(st.integers(1, 999_999))
    if draw(st.booleans()):
        return State(draw(st.integers(0, 3)), draw(st.integers(0, 3)), 0, 0, 0, 0), keep
    return split_deposit(State(0, 0, 0, 0, 0, 0), draw(money), keep).state, keep


@given(cash_vaults(), money)
def test_a_deposit_taken_at_once_stands_behind_its_wall_or_is_refused(case: tuple[State, int], amount: int) -> None:
    state, keep = case
    try:
        booked = split_deposit(state, amount, keep)
    except (ZeroShares, DepositRefused):
        assert state.shares == 0
        return
    after = booked.state
    assert booked.shares == preview_deposit(state.pool, amount)
    assert after.nav == state.nav + amount
    assert after.shares == state.shares + booked.shares
    assert after.reserve == state.reserve + booked.ratchet
    assert after.cushion >= 0
    assert after.reserve >= wall(after.high_water_mark, keep, after.shares)
    assert after.high_water_mark >= price_up(after.pool)


@given(st.integers(1, 10**15), st.integers(0, 999_999))
def test_a_first_deposit_sets_the_mark_and_is_never_refused(amount: int, keep: int) -> None:
    booked = split_deposit(State(0, 0, 0, 0, 0, 0), amount, keep)
    assert booked.shares == 1000 * amount
    assert booked.state.high_water_mark == ceil(Fraction(ONE, 1000))
    assert booked.ratchet == wall(booked.state.high_water_mark, keep, booked.shares) <= amount


def test_a_deposit_of_fifty_thousand_behind_a_wall_of_a_fifth() -> None:
    booked = split_deposit(State(0, 0, 0, 0, 0, 0), 50_000_000_000, 800_000)
    # the floor price, rounded up to 2**-50 of a minor unit, needs a minor unit more over so many shares
    assert (booked.ratchet, booked.state.cushion) == (40_000_000_001, 9_999_999_999)


def test_what_an_empty_vault_still_holds_falls_to_the_next_depositor_and_never_shuts_it() -> None:
    booked = split_deposit(State(9_000, 1_000, 0, 0, 0, 0), 10_000, 800_000)
    assert booked.shares == 10_000_000
    assert booked.state.high_water_mark == ceil(Fraction(20_001 * ONE, 10_001_000))
    assert booked.state.reserve == 16_000
    with pytest.raises(DepositRefused, match="still holds 20000 minor units, pay in more"):
        split_deposit(State(0, 20_000, 0, 0, 0, 0), 1, 800_000)
    assert split_deposit(State(0, 10_000, 0, 0, 0, 0), 2, 800_000).state.cushion >= 0


def test_nobody_enters_at_a_price_that_no_mark_can_say() -> None:
    for pool in (Pool(8 * 1_001, 1), Pool(LARGEST, 10**9)):
        assert not is_priced(pool)
        with pytest.raises(DepositRefused, match="worth more than can be divided fairly"):
            deposit(pool, 10**12)
    assert is_priced(Pool(8 * 1_001 - 2, 1))
