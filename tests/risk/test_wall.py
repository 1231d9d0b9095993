"""The moves of money: each along its own edge, none from the reserve, and the wall's integers against their twin."""

import ast
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import ringfence.risk.wall
from ringfence.risk.book import POSITION, VAULT, rows
from ringfence.risk.edges import MAY_BE_NEGATIVE, OF_POSITIONS, AccountKind, Edge
from ringfence.risk.tape import blank_tape
from ringfence.risk.wall import (
    PRICE_LARGEST,
    VIRTUAL_SHARES,
    admit,
    charge_fee,
    pay_venue,
    post_margin,
    raised,
    rebase,
    receive_venue,
    release_margin,
    settle_venue_funding,
    strike,
    strike_price,
    wall_amount,
    wall_series,
)
from ringfence.vaults import shares as people

MILLION, ONE = 10**6, 2**50
marks = st.integers(0, PRICE_LARGEST)
keeps = st.integers(50_000, MILLION - 1)
share_counts = st.integers(1, 2**58)
amounts = st.integers(0, 2**50)


def vault_of(**columns: int) -> Any:
    return rows(VAULT, 1, **columns)[0]


def balances(vault: Any, position: Any) -> dict[AccountKind, int]:
    found = {kind: int(vault[kind.value]) for kind in AccountKind if kind not in OF_POSITIONS}
    return found | {AccountKind.margin: int(position.margin)}


def moves(vault: Any, position: Any, act: Any) -> tuple[int, dict[AccountKind, int]]:
    """(what the move returned, the change of each account); the tape must tell the same, edge by edge."""
    tape = blank_tape(8, 1)
    before = balances(vault, position)
    returned = act(vault, position, tape)
    after = balances(vault, position)
    changes = {kind: after[kind] - before[kind] for kind in after}
    told = dict.fromkeys(after, 0)
    for _, _, edge, of_position, amount in tape.transfers[: tape.used[0]].tolist():
        assert amount > 0
        assert Edge(edge).of_position == (of_position == 0)
        told[Edge(edge).debit] -= amount
        told[Edge(edge).credit] += amount
    assert told == changes
    assert sum(changes.values()) == 0
    assert all(after[kind] >= 0 for kind in after if kind not in MAY_BE_NEGATIVE)
    return int(returned or 0), {kind: change for kind, change in changes.items() if change}


@given(cushion=amounts, margin=amounts, amount=amounts)
def test_every_move_takes_what_is_there_and_no_more(cushion: int, margin: int, amount: int) -> None:
    def fresh() -> tuple[Any, Any]:
        return vault_of(cushion=cushion, reserve=5, entering=11), rows(POSITION, 1, margin=margin)[0]

    posted, released, paid = min(amount, cushion), min(amount, margin), min(amount, margin)
    expected: list[tuple[Any, int, dict[AccountKind, int]]] = [
        (lambda v, p, t: post_margin(v, p, t, amount), posted,
         {AccountKind.cushion: -posted, AccountKind.margin: posted}),
        (lambda v, p, t: release_margin(v, p, t, amount), released,
         {AccountKind.margin: -released, AccountKind.cushion: released}),
        (lambda v, p, t: admit(v, t), 0, {AccountKind.entering: -11, AccountKind.cushion: 11}),
        (lambda v, p, t: receive_venue(v, p, t, amount), 0,
         {AccountKind.venue: -amount, AccountKind.margin: amount}),
        (lambda v, p, t: pay_venue(v, p, t, amount), amount - paid,
         {AccountKind.margin: -paid, AccountKind.venue: amount, AccountKind.shortfall: paid - amount}),
        (lambda v, p, t: charge_fee(v, p, t, Edge.fee, amount), paid,
         {AccountKind.margin: -paid, AccountKind.costs: paid}),
        (lambda v, p, t: charge_fee(v, p, t, Edge.liquidation_fee, amount), paid,
         {AccountKind.margin: -paid, AccountKind.costs: paid}),
        (lambda v, p, t: settle_venue_funding(v, p, t, amount), 0,
         {AccountKind.funding: -amount, AccountKind.margin: amount}),
        (lambda v, p, t: settle_venue_funding(v, p, t, -amount), amount - paid,
         {AccountKind.margin: -paid, AccountKind.funding: paid}),
    ]  # fmt: skip
    for act, returned, changes in expected:
        assert moves(*fresh(), act) == (returned, {kind: change for kind, change in changes.items() if change})


@given(wanted=st.integers(-(2**50), -1))
def test_a_negative_amount_moves_nothing(wanted: int) -> None:
    vault, position = vault_of(cushion=7), rows(POSITION, 1, margin=7)[0]
    assert moves(vault, position, lambda v, p, t: post_margin(v, p, t, wanted)) == (0, {})
    assert moves(vault, position, lambda v, p, t: release_margin(v, p, t, wanted)) == (0, {})


def price(assets: int, shares: int) -> Fraction:
    """What a share unit is worth to whoever enters or leaves, minor units."""
    return Fraction(assets + 1, shares + VIRTUAL_SHARES)


@given(mark=marks, keep=keeps, shares=share_counts)
def test_the_wall_is_the_least_cash_that_keeps_its_part_of_the_mark_and_equals_the_twin_of_deposits(
    mark: int, keep: int, shares: int
) -> None:
    """Kept of the price at which holders enter and leave, and of what a share is worth without virtual ones (W1)."""
    assume(mark * keep * (shares + VIRTUAL_SHARES) < 2**61 * ONE * MILLION)
    found, floor = int(wall_amount(mark, keep, shares)), Fraction(-(-mark * keep // MILLION), ONE)
    assert found == people.wall(mark, keep, shares)
    assert price(found, shares) >= floor >= Fraction(mark * keep, MILLION * ONE)
    assert Fraction(found, shares) >= floor
    if found:
        assert price(found - 1, shares) < floor or Fraction(found - 1, shares) < floor


@pytest.mark.parametrize(
    ("shares", "wall"), [(1, 2_802), (2, 2_805), (999, 5_597), (1_000, 5_600), (10**6, 2_802_800), (0, 0)]
)
def test_the_wall_of_crumbs_holds_what_their_price_asks_for(shares: int, wall: int) -> None:
    """2.8 for each share unit and each of 1,000 virtual ones, rounded up, less the virtual unit of assets: a mark of 4
    minor units a share unit and a cap of 30 %, whose 2.8 in binary lies a hair above."""
    assert wall_amount(4 * ONE, 700_000, shares) == wall


@given(column=st.lists(marks, max_size=5), keep=keeps, shares=share_counts)
def test_a_series_of_walls_is_the_wall_of_each_mark_and_its_shares(column: list[int], keep: int, shares: int) -> None:
    held = [shares // (1 + row) for row in range(len(column))]
    assume(PRICE_LARGEST * (shares + VIRTUAL_SHARES) < 2**61 * ONE)
    found = wall_series(np.array(column, np.int64), keep, np.array(held, np.int64))
    assert found.tolist() == [people.wall(mark, keep, count) for mark, count in zip(column, held, strict=True)]


def test_the_virtual_shares_are_those_of_deposits() -> None:
    assert VIRTUAL_SHARES == people.VIRTUAL_SHARES


@given(nav=st.integers(0, 2**61), shares=st.integers(0, 2**58))
@example(nav=8 * VIRTUAL_SHARES - 1, shares=0)
@example(nav=8 * VIRTUAL_SHARES - 2, shares=0)
@example(nav=2**61, shares=0)
def test_the_price_of_a_strike_is_the_exact_ceiling_and_never_beyond_the_largest(nav: int, shares: int) -> None:
    true = price(nav, shares) * ONE
    assert int(strike_price(nav, shares)) == min(ceil(true), PRICE_LARGEST)
    assert int(strike_price(nav, shares)) == people.price_up(people.Pool(nav, shares))


@given(
    mark=st.integers(0, 2**42), keep=keeps, shares=st.integers(1, 2**50), above=st.integers(0, 2**45),
    equity=st.integers(0, 2**45),
)  # fmt: skip
def test_a_strike_lifts_the_mark_to_the_price_that_was_struck_and_fills_the_reserve_up_to_it(
    mark: int, keep: int, shares: int, above: int, equity: int
) -> None:
    """`equity` stands in positions; where cash does not reach the wall of the new price nobody may strike."""
    standing = int(wall_amount(mark, keep, shares))
    nav = standing + above + equity
    after = max(mark, min(PRICE_LARGEST, ceil(price(nav, shares) * ONE)))
    wall = people.wall(after, keep, shares)
    assume(wall <= standing + above)
    vault = vault_of(shares=shares, high_water_mark=mark, wall=standing, reserve=standing, cushion=above)
    _, changes = moves(vault, rows(POSITION, 1)[0], lambda v, p, t: strike(v, keep, t, nav))
    lifted = wall - standing
    assert changes == ({AccountKind.cushion: -lifted, AccountKind.reserve: lifted} if lifted else {})
    assert (int(vault.high_water_mark), int(vault.wall), int(vault.reserve)) == (after, wall, wall)


@given(
    mark=st.integers(1, PRICE_LARGEST), keep=keeps, shares=st.integers(1, 2**58), away=st.integers(-(2**12), 2**12),
)  # fmt: skip
def test_what_a_strike_would_leave_is_exact_where_nav_per_share_is_next_to_the_mark(
    mark: int, keep: int, shares: int, away: int
) -> None:
    nav = max(0, ceil(Fraction(mark * (shares + VIRTUAL_SHARES), ONE)) - 1 + away)
    assume(nav < 2**61)
    vault = vault_of(shares=shares, high_water_mark=mark, wall=people.wall(mark, keep, shares))
    after = max(mark, min(PRICE_LARGEST, ceil(price(nav, shares) * ONE)))
    assert tuple(map(int, raised(vault, keep, nav))) == (after, people.wall(after, keep, shares))


@given(mark=st.integers(2**30, 2**42), keep=keeps, shares=st.integers(1, 2**50), part=st.floats(0.0, 1.0))
def test_a_rebase_sets_the_mark_to_the_price_struck_and_frees_what_the_reserve_holds_beyond_its_wall(
    mark: int, keep: int, shares: int, part: float
) -> None:
    standing = int(wall_amount(mark, keep, shares))
    nav = standing + int(part * standing)
    vault = vault_of(shares=shares, high_water_mark=mark, reserve=standing, cushion=nav - standing)
    after = min(PRICE_LARGEST, ceil(price(nav, shares) * ONE))
    wall = people.wall(after, keep, shares)
    _, changes = moves(vault, rows(POSITION, 1)[0], lambda v, p, t: rebase(v, keep, t, nav))
    freed = max(0, standing - wall)
    assert changes == ({AccountKind.reserve: -freed, AccountKind.cushion: freed} if freed else {})
    assert (int(vault.high_water_mark), int(vault.wall)) == (after, wall)
    assert after <= mark or wall >= standing


@pytest.mark.parametrize("assets", [10**10, 10**15, 2**61])
def test_a_few_shares_that_own_everything_lift_the_mark_no_higher_than_the_kernel_counts(assets: int) -> None:
    """What many asked back and forwent may fall to a handful of shares; their price would not fit into an int64."""
    vault = vault_of(shares=1000, high_water_mark=ONE // 1000, reserve=1000, cushion=assets)
    for _ in range(2):
        strike(vault, 1, blank_tape(4, 1), assets + 1000)
        assert vault.high_water_mark == PRICE_LARGEST == people.PRICE_LARGEST
    assert int(vault.reserve) >= people.wall(PRICE_LARGEST, 1, 1000)


WRITERS = {"reserve": [("strike", "+="), ("rebase", "-=")], "entering": [("admit", "-=")], "world": []}


@pytest.mark.parametrize("field", WRITERS)
def test_w2_nothing_but_a_strike_and_a_rebase_writes_to_the_reserve_and_nothing_to_the_holders_side(field: str) -> None:
    """Read from the source: no other assignment in the compiled rooms names them."""
    rooms = Path(ringfence.risk.wall.__file__).parent, Path(ringfence.risk.wall.__file__).parent.parent / "markets"
    written = []
    for path in sorted(path for room in rooms for path in room.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                    if isinstance(node, ast.Assign | ast.AugAssign) and any(
                        isinstance(target, ast.Attribute) and target.attr == field for target in targets
                    ):
                        sign = {ast.Add: "+=", ast.Sub: "-="}.get(type(getattr(node, "op", None)), "=")
                        written.append((path.name, function.name, sign))
    assert written == [("wall.py", *one) for one in WRITERS[field]]
