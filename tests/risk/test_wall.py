"""The moves of money: each along its own edge, none from the reserve, and the wall's integers against their twin."""

import ast
from fractions import Fraction
from math import ceil, floor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringfence.risk.wall
from ringfence.risk.book import POSITION, VAULT, rows
from ringfence.risk.edges import MAY_BE_NEGATIVE, AccountKind, Edge
from ringfence.risk.tape import blank_tape
from ringfence.risk.wall import (
    PRICE_LARGEST,
    VIRTUAL_SHARES,
    charge_fee,
    pay_venue,
    post_margin,
    raise_wall,
    ratchet,
    receive_venue,
    release_margin,
    settle_venue_funding,
    wall_amount,
    wall_series,
)
from ringfence.vaults import shares as people

MILLION, ONE = 10**6, 2**50
marks = st.integers(0, 2**52)
keeps = st.integers(50_000, MILLION - 1)
share_counts = st.integers(1, 2**58)
amounts = st.integers(0, 2**50)


def vault_of(**columns: int) -> Any:
    return rows(VAULT, 1, **columns)[0]


def balances(vault: Any, position: Any) -> dict[AccountKind, int]:
    found = {kind: int(vault[kind.value]) for kind in AccountKind if kind is not AccountKind.margin}
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
        return vault_of(cushion=cushion, reserve=5), rows(POSITION, 1, margin=margin)[0]

    posted, released, paid = min(amount, cushion), min(amount, margin), min(amount, margin)
    expected: list[tuple[Any, int, dict[AccountKind, int]]] = [
        (lambda v, p, t: post_margin(v, p, t, amount), posted,
         {AccountKind.cushion: -posted, AccountKind.margin: posted}),
        (lambda v, p, t: release_margin(v, p, t, amount), released,
         {AccountKind.margin: -released, AccountKind.cushion: released}),
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


@given(mark=marks, keep=keeps, shares=share_counts)
def test_the_wall_is_never_below_its_exact_value_and_equals_the_twin_of_deposits(
    mark: int, keep: int, shares: int
) -> None:
    found = int(wall_amount(mark, keep, shares))
    assert found == people.wall(mark, keep, shares)
    assert found >= Fraction(mark * keep * shares, MILLION * ONE)
    assert found < Fraction(mark * keep * shares, MILLION * ONE) + Fraction(shares, ONE) + 1


@given(column=st.lists(marks, max_size=5), keep=keeps, shares=share_counts)
def test_a_series_of_walls_is_the_wall_of_each_mark(column: list[int], keep: int, shares: int) -> None:
    found = wall_series(np.array(column, np.int64), keep, shares)
    assert found.tolist() == [people.wall(mark, keep, shares) for mark in column]


def test_the_virtual_shares_are_those_of_deposits() -> None:
    assert VIRTUAL_SHARES == people.VIRTUAL_SHARES


@given(
    mark=st.integers(0, 2**42), keep=keeps, shares=st.integers(1, 2**50), above=st.integers(0, 2**45),
    equity=st.integers(0, 2**45),
)  # fmt: skip
def test_the_ratchet_lifts_the_mark_to_what_nav_and_cash_bear_and_no_higher(
    mark: int, keep: int, shares: int, above: int, equity: int
) -> None:
    vault = vault_of(shares=shares, high_water_mark=mark)
    raise_wall(vault, keep)
    vault.reserve = wall_before = int(vault.wall)
    vault.cushion = above
    cash, nav = wall_before + above, wall_before + above + equity
    most = Fraction(nav * ONE, shares + VIRTUAL_SHARES)
    position = rows(POSITION, 1)[0]
    _, changes = moves(vault, position, lambda v, p, t: ratchet(v, keep, t, nav))
    after = int(vault.high_water_mark)
    assert after >= mark
    assert int(vault.reserve) + int(vault.cushion) == cash
    assert int(vault.reserve) >= people.wall(after, keep, shares)
    assert int(vault.wall) == people.wall(after, keep, shares)
    if after > mark:
        assert after <= most
        # one more is above NAV per share, or above every mark, or more than the cash can wall off
        assert (
            after + 1 > min(floor(most), PRICE_LARGEST)
            or ceil(Fraction((after + 1) * keep, MILLION)) * shares > cash * ONE
        )
    else:
        assert changes == {}


@pytest.mark.parametrize("assets", [10**10, 10**15, 2**61])
def test_a_few_shares_that_own_everything_lift_the_mark_no_higher_than_the_kernel_counts(assets: int) -> None:
    """What many asked back and forwent may fall to a handful of shares; their price would not fit into an int64."""
    vault = vault_of(shares=1000, high_water_mark=ONE // 1000, reserve=1000, cushion=assets)
    raise_wall(vault, 1)
    ratchet(vault, 1, blank_tape(4, 1), assets + 1000)
    assert vault.high_water_mark == PRICE_LARGEST == people.PRICE_LARGEST
    assert int(vault.reserve) >= people.wall(PRICE_LARGEST, 1, 1000)
    ratchet(vault, 1, blank_tape(4, 1), assets + 1000)
    assert vault.high_water_mark == PRICE_LARGEST


def test_an_empty_vault_has_no_mark_to_lift() -> None:
    vault = vault_of(cushion=10**9)
    raise_wall(vault, 800_000)
    assert moves(vault, rows(POSITION, 1)[0], lambda v, p, t: ratchet(v, 800_000, t, 10**9)) == (0, {})
    assert vault.high_water_mark == 0


def test_crumbs_of_an_all_but_empty_vault_lift_no_mark() -> None:
    """One minor unit over one share unit is a thousand times the price at which anyone entered."""
    vault = vault_of(shares=1, high_water_mark=ONE // 1000, reserve=1)
    raise_wall(vault, 800_000)
    ratchet(vault, 800_000, blank_tape(4, 1), 1)
    assert vault.high_water_mark == ONE // 1000


@pytest.mark.parametrize("field", ["reserve", "world"])
def test_w2_nothing_but_the_ratchet_writes_to_the_reserve_and_nothing_to_the_holders_side(field: str) -> None:
    """Read from the source: no assignment in the compiled rooms names them, but the ratchet's one, which adds."""
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
                        adds = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)
                        written.append((path.name, function.name, adds))
    assert written == ([("wall.py", "ratchet", True)] if field == "reserve" else [])
