"""The exact integer arithmetic against Python's unbounded integers, tolerance 0."""

from math import ceil, floor, nextafter

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ringfence.risk.arithmetic import (
    portion_down,
    portion_up,
    price_per_share_up,
    product_down,
    product_up,
    scaled_up,
)
from tests.reference import exact

TOP = 2**53
WIDE = 2**62

amounts = st.integers(0, TOP - 1) | st.integers(0, 53).map(lambda bit: min(2**bit, TOP - 1))
prices = st.floats(1e-12, 1e8, allow_nan=False) | st.integers(-40, 26).map(lambda power: 2.0**power)
wide = st.integers(0, WIDE - 1) | st.builds(
    lambda bit, near: min(max(2**bit + near, 0), WIDE - 1), st.integers(0, 62), st.integers(-3, 3)
)


@given(amounts, prices)
@example(2**52, 1.0)
@example(2**52 - 1, 1.0)
@example(TOP - 1, nextafter(1.0, 0.0))
@example(2**52, nextafter(1.0, 2.0))
@example(0, 50_000.0)
@example(3, 1e-12)
@example(1, 1e-8)
@example(10**8, 1e-8)
@example(10, 0.1)
@example(10**6, 0.000001)
@example(1_000_000, 0.7)
@example(9007199254740993 // 3, 3.0 - 2**-51)
def test_a_product_with_a_price_is_the_exact_floor_and_the_exact_ceiling(amount: int, price: float) -> None:
    true = exact.product(amount, price)
    assume(true < TOP - 1)
    assert product_down(amount, price) == floor(true)
    assert product_up(amount, price) == ceil(true)


@given(st.integers(1, 2**26), st.integers(1, 2**26), st.sampled_from([-1, 0, 1]))
def test_a_product_a_hair_beside_an_integer_falls_on_its_own_side(amount: int, whole: int, step: int) -> None:
    """The nearest floats to whole/amount make products within half an ulp of an integer, where naive floor errs."""
    price = whole / amount
    if step:
        price = nextafter(price, step * np.inf)
    true = exact.product(amount, price)
    assert product_down(amount, price) == floor(true)
    assert product_up(amount, price) == ceil(true)


def test_the_naive_product_would_have_been_wrong_where_ours_is_right() -> None:
    assert floor(10 * 0.1) == 1
    assert exact.product(10, 0.1) > 1
    assert ceil(10 * 0.1) == 1
    assert product_up(10, 0.1) == 2
    assert floor(1_000_000 * 0.7) == 700_000
    assert product_down(1_000_000, 0.7) == 699_999


@given(st.integers(0, WIDE), st.integers(0, 2 * 10**6))
@example(0, 10**6)
@example(2**61, 2 * 10**6)
@example(1, 1)
@example(10**6, 1)
@example(10**6 + 1, 1)
@example(999_999, 999_999)
@example(2**62, 10**6)
def test_a_portion_is_the_exact_floor_and_the_exact_ceiling(amount: int, parts: int) -> None:
    true = exact.portion(amount, parts)
    assume(true <= WIDE)
    assert portion_down(amount, parts) == floor(true)
    assert portion_up(amount, parts) == ceil(true)


@given(wide, wide)
@example(WIDE - 1, 1)
@example(2**50, 2**62 - 1)
@example(2**31, 2**31)
@example(2**31 - 1, 2**31 + 1)
@example(2**50 - 1, 2**50 + 1)
@example(0, 0)
def test_what_shares_are_worth_is_the_exact_ceiling(price: int, shares: int) -> None:
    true = exact.scaled(price, shares)
    assume(true < WIDE)
    assert scaled_up(price, shares) == ceil(true)


@given(wide, wide)
@example(2**52, 1000 * 2**52)
@example(1, 1000)
@example(0, 1000)
@example(WIDE - 1, WIDE - 1)
@example(2**61 + 2**8 + 1, 2**58 + 2**5 + 1)
@example(2**60 - 1, 2**57 + 1)
@example(72_057_594_037_928_936, 9_007_199_254_741_467)  # the float quotient lies two below
@example(8 * 1001, 1001)
def test_the_price_per_share_is_the_exact_ceiling(assets: int, shares: int) -> None:
    assume(shares > 0)
    true = exact.price_per_share(assets, shares)
    assume(true <= TOP)
    assert price_per_share_up(assets, shares) == ceil(true)


@given(st.integers(2**57, 2**59 - 1), st.integers(2**53, WIDE // 8), st.integers(-300, 300))
def test_the_price_per_share_is_exact_where_the_floats_are_coarsest(shares: int, base: int, shift: int) -> None:
    assets = min(shares * 8 - 1, base * 8 + shift)
    true = exact.price_per_share(assets, shares)
    assume(true <= TOP)
    assert price_per_share_up(assets, shares) == ceil(true)


@given(st.integers(1, WIDE - 1), st.integers(1, WIDE - 1))
def test_shares_priced_and_valued_again_never_lose_a_unit(assets: int, shares: int) -> None:
    """A mark is no lower than the price that it stands for, so that no wall made of it is."""
    assume(exact.price_per_share(assets, shares) < TOP)
    price = price_per_share_up(assets, shares)
    assume(exact.scaled(price, shares) < WIDE)
    assert scaled_up(price, shares) >= assets


@pytest.mark.parametrize("function", [product_down, product_up])
def test_the_product_of_an_array_is_the_array_of_the_products(function) -> None:
    quantities = np.array([1, 10, 2**52, 0])
    levels = np.array([0.1, 0.1, 1.0, 7.0])
    together = function(quantities, levels)
    assert together.tolist() == [int(function(int(q), float(p))) for q, p in zip(quantities, levels, strict=True)]
