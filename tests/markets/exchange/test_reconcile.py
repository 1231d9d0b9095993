"""Reconciliation: every difference is named, its cause found where there is one, and booking it makes it go away."""

from dataclasses import replace
from typing import Any

import pytest

from ringfence.markets.exchange.client import Client
from ringfence.markets.exchange.faults import Fault, FaultPlan, Scripted
from ringfence.markets.exchange.protocol import (
    Balance,
    Deleveraged,
    Fill,
    Funding,
    Liquidated,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
    Unreadable,
    client_id,
)
from ringfence.markets.exchange.reconcile import Books, Cause, Silent, Theirs, differences, read_books
from tests.markets.exchange.house import HOUR, START, USDT, House

OURS = OrderState("rf1", "A", 5, 5, 100, 20.0, 1, is_final=True)
OPEN = OrderState("rf2", "B", 5, 2, 40, 20.0, 1, is_final=False)
FILL = Fill("1", "rf1", "A", 5, 20.0, 20.0, 1, 0, 10, 1_000, 1)
MOVED = Moved("2", "A", 3, 1_000, 2)
PAID = Funding("A", 1_000, 0.001, 20.0, -1, 3)
GONE = Liquidated("4", "B", -5, 19.0, 19.0, 1, -5, 0, 4, 2_000, 4)
LESS = Deleveraged("5", "B", -5, 21.0, 21.0, 0, 5, 0, 0, 2_000, 5)
POSITION = Position("A", 5, 100, 12)
BOOKS = Books(0, (POSITION,), (OURS, OPEN), (FILL,), (MOVED,), (PAID,), (GONE, LESS), Balance(50, 2))
SAME = Theirs((POSITION,), (OPEN,), {"rf2": OPEN}, (FILL,), (MOVED,), (PAID,), (GONE, LESS), Balance(50, 2))


def told(ours: Books, theirs: Theirs) -> list[tuple[Cause, str]]:
    return [(one.cause, one.leg) for one in differences(ours, theirs)]


def test_the_same_books_have_no_difference() -> None:
    assert differences(BOOKS, SAME) == []
    doubled = replace(
        SAME, fills=(FILL, FILL), moves=(MOVED, MOVED), fundings=(PAID, PAID), endings=(GONE, LESS, GONE),
        positions=(POSITION, POSITION), open_orders=(OPEN, OPEN),
    )  # fmt: skip
    assert differences(BOOKS, doubled) == []


@pytest.mark.parametrize(
    ("field", "row", "cause"),
    [
        ("fills", FILL, Cause.fill_missing), ("moves", MOVED, Cause.move_missing),
        ("fundings", PAID, Cause.funding_missing), ("endings", GONE, Cause.liquidated),
        ("endings", LESS, Cause.deleveraged),
    ],
)  # fmt: skip
def test_what_happened_there_and_is_not_booked_here_is_named_with_its_booking(
    field: str, row: Any, cause: Cause
) -> None:
    ours = replace(BOOKS, **{field: tuple(one for one in getattr(BOOKS, field) if one != row)})
    ours = replace(ours, balance=Balance(1, 1), positions=())  # what it did to the figures is not told beside it
    (one,) = [each for each in differences(ours, SAME) if each.leg == row.instrument]
    assert (one.cause, one.leg, one.booking, one.halts) == (cause, row.instrument, row, False)


@pytest.mark.parametrize(
    ("field", "other", "cause"),
    [
        ("fills", replace(FILL, fee=2), Cause.fill_denied), ("fills", None, Cause.fill_denied),
        ("moves", replace(MOVED, amount=4), Cause.move_denied), ("moves", None, Cause.move_denied),
        ("fundings", replace(PAID, amount=-2), Cause.funding_differs), ("fundings", None, Cause.funding_differs),
        ("endings", replace(GONE, shortfall=1), Cause.ending_denied),
    ],
)  # fmt: skip
def test_what_is_booked_here_and_is_not_so_there_halts_its_leg(field: str, other: Any, cause: Cause) -> None:
    rows = tuple(one for one in getattr(SAME, field)[1:]) + (() if other is None else (other,))
    (one,) = differences(BOOKS, replace(SAME, **{field: rows}))
    assert (one.cause, one.leg, one.booking, one.halts) == (cause, one.leg, None, True)


def test_trades_and_orders_of_somebody_else_are_told_from_ours() -> None:
    web = replace(FILL, trade="9", client_id="web", sequence=9)
    (one,) = differences(BOOKS, replace(SAME, fills=(FILL, web)))
    assert (one.cause, one.booking, one.halts) == (Cause.fill_by_hand, web, True)
    resting = replace(OPEN, client_id="web")
    assert told(BOOKS, replace(SAME, open_orders=(OPEN, resting))) == [(Cause.order_by_hand, "B")]
    assert told(BOOKS, replace(SAME, positions=(POSITION, Position("C", 1, 20, 5)))) == [(Cause.position_by_hand, "C")]


def test_orders_that_ended_there_or_here_or_nowhere() -> None:
    ended = replace(OPEN, filled=5, is_final=True)
    (one,) = differences(BOOKS, replace(SAME, open_orders=(), orders={"rf2": ended}))
    assert (one.cause, one.booking, one.halts) == (Cause.order_ended, ended, False)
    lost = replace(SAME, open_orders=(), orders={"rf2": NotFound("rf2")})
    assert told(BOOKS, lost) == [(Cause.order_lost, "B")]
    here = replace(BOOKS, orders=(OURS, replace(OPEN, is_final=True)))
    assert told(here, SAME) == [(Cause.order_open, "B")]
    assert told(BOOKS, replace(SAME, orders={"rf2": Silent("no")})) == [(Cause.silent, "B")]


@pytest.mark.parametrize("figure", ["quantity", "cost", "margin"])
def test_a_figure_without_a_cause_halts_its_leg_alone(figure: str) -> None:
    theirs = replace(SAME, positions=(replace(POSITION, **{figure: 1}),))
    (one,) = differences(BOOKS, theirs)
    assert (one.cause, one.leg, one.theirs, one.halts) == (Cause(figure), "A", 1, True)
    assert told(BOOKS, replace(SAME, balance=Balance(49, 3))) == [(Cause.wallet, ""), (Cause.held, "")]


def test_no_answer_is_never_flat() -> None:
    quiet = replace(SAME, positions=Silent("nothing was heard"))
    assert told(BOOKS, quiet) == [(Cause.silent, "")]
    assert told(BOOKS, replace(SAME, positions=())) == [(Cause.quantity, "A"), (Cause.cost, "A"), (Cause.margin, "A")]
    for part in ("fills", "moves", "fundings", "endings"):
        missing = replace(BOOKS, fills=(), fundings=(), endings=())
        found = differences(missing, replace(SAME, **{part: Silent("no")}))
        assert all(one.booking is None for one in found), "something before it may not have been read"
        assert not {one.cause for one in found} & {Cause.quantity, Cause.cost, Cause.margin, Cause.wallet}


def test_one_legs_unreadable_row_never_stops_the_others() -> None:
    other = replace(FILL, trade="8", instrument="B", sequence=8)
    theirs = replace(SAME, fills=(Unreadable("no price", "A"), other), positions=(replace(POSITION, quantity=9),))
    found = differences(BOOKS, theirs)
    assert [(one.cause, one.leg, one.booking) for one in found] == [
        (Cause.unreadable, "A", None), (Cause.fill_missing, "B", other)
    ]  # fmt: skip
    nameless = replace(SAME, positions=(Unreadable("no instrument"),))
    assert told(BOOKS, nameless) == [(Cause.unreadable, "")]


# ---------------------------------------------------------------------------------------------------- read


def opened(house: House) -> OrderState:
    """An account that holds ten lots of A, and the order that bought them."""
    house.trade(20_000.0)
    name = client_id("btc", 0, "A", "grow", 0)
    house.client.place(OrderRequest(name, "btc", "A", 10, reduce_only=False, margin=20 * USDT))
    found = house.client.order("btc", name)
    assert isinstance(found, OrderState)
    return found


def test_a_liquidation_and_a_deleveraging_are_found_with_what_to_book() -> None:
    house = House()
    order = opened(house)
    house.trade(18_000.0)
    found = differences(Books(0, orders=(order,)), read_books(house.client, "btc", 0, ()))
    assert [one.cause for one in found] == [Cause.fill_missing, Cause.liquidated]
    house = House(FaultPlan(script=(Scripted(f"bar:{START + HOUR}:btc:A", Fault.deleverage),)))
    order = opened(house)
    house.trade(21_000.0)
    found = differences(Books(0, orders=(order,)), read_books(house.client, "btc", 0, ()))
    assert [one.cause for one in found] == [Cause.fill_missing, Cause.deleveraged]
    (lots,) = [one.booking.lots for one in found if isinstance(one.booking, Deleveraged)]
    assert lots == -5


def test_positions_that_change_while_the_books_are_read_count_as_not_answered() -> None:
    house = House()
    opened(house)

    class Meanwhile(Client):
        def balance(self, account: str) -> Balance:
            house.client.place(OrderRequest(client_id("btc", 1, "A", "x", 0), "btc", "A", -3, reduce_only=True))
            return super().balance(account)

    theirs = read_books(Meanwhile("paper", house.counter.serve), "btc", 0, ())
    assert isinstance(theirs.positions, Silent)
    assert isinstance(read_books(house.client, "btc", 0, ()).positions, tuple)
