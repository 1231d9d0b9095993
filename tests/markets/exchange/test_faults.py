"""Each fault of the paper exchange: what it does to a request, what stands in the books, and that a plan is pure."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.markets.errors import NoAnswer, UnreadableFile
from ringfence.markets.exchange.faults import Fault, FaultPlan, Injected, Scripted, plan_from, read_plan
from ringfence.markets.exchange.protocol import (
    Accepted,
    Answer,
    Fill,
    MarginRequest,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
    Rejected,
    Unknown,
    Unreadable,
    client_id,
)
from tests.markets.exchange.house import HOUR, START, USDT, House, flat

LOTS = 10


def order(number: int = 0, lots: int = LOTS, *, reduces: bool = False) -> OrderRequest:
    name = client_id("btc", 0, "A", "grow", number)
    return OrderRequest(name, "btc", "A", lots, reduces, 0 if reduces else 20 * USDT)


def house(fault: Fault | None, subject: str = "", *, bars: int = 2) -> House:
    """With that fault at the first order, or at the first occasion of `subject`; one bar has traded."""
    script = () if fault is None else (Scripted(subject or order().client_id, fault, bars=bars),)
    one = House(FaultPlan(script=script))
    one.trade(20_000.0)
    return one


def filled(answer: Answer) -> tuple[int, bool]:
    assert isinstance(answer, Accepted)
    assert answer.order is not None
    return answer.order.filled, answer.order.is_final


def now(one: House) -> tuple[int, bool] | None:
    state = one.client.order("btc", order().client_id)
    return (state.filled, state.is_final) if isinstance(state, OrderState) else None


@pytest.mark.parametrize(
    ("fault", "at_once", "later"),
    [
        (Fault.partial, (5, False), (10, True)),
        (Fault.partial_only, (5, True), (5, True)),
        (Fault.late, (0, False), (10, True)),
        (None, (10, True), (10, True)),
    ],
)
def test_fills_that_come_in_parts_late_or_never(
    fault: Fault | None, at_once: tuple[int, bool], later: tuple[int, bool]
) -> None:
    one = house(fault)
    assert filled(one.client.place(order())) == at_once
    held = one.client.balance("btc").held
    assert held == (20 * USDT if at_once == (0, False) else 0)
    one.trade(20_000.0)
    assert now(one) == at_once  # two bars later, not one
    one.trade(21_000.0)
    assert now(one) == later
    assert one.client.balance("btc").held == 0
    (position,) = one.client.positions("btc")
    assert isinstance(position, Position)
    assert position.quantity == later[0]
    assert [row["fault"] for row in one.operator.injected()] == ([fault.value] if fault else [])


@pytest.mark.parametrize(
    ("fault", "happens"),
    [
        (Fault.unheard, False), (Fault.silent, True), (Fault.reply_lost, True), (Fault.garbled, True),
        (Fault.restart, True),
    ],
)  # fmt: skip
def test_an_order_of_which_nothing_is_heard_may_have_happened_or_not(fault: Fault, happens: bool) -> None:
    one = house(fault)
    assert isinstance(one.client.place(order()), Unknown)
    assert now(one) == ((10, True) if happens else None)
    again = one.client.place(order())
    assert isinstance(again, Unknown if happens else Accepted)
    assert now(one) == (10, True)
    assert len(one.client.fills("btc", 0)) == 1


@pytest.mark.parametrize(("fault", "transient"), [(Fault.reject, False), (Fault.too_many, True)])
def test_a_refusal_is_definite_and_leaves_nothing_behind(fault: Fault, transient: bool) -> None:
    one = house(fault)
    answer = one.client.place(order())
    assert isinstance(answer, Rejected)
    assert answer.transient == transient
    assert isinstance(one.client.order("btc", order().client_id), NotFound)
    assert one.client.balance("btc").wallet == 10_000 * USDT


def test_maintenance_refuses_everything_for_some_bars_while_the_market_goes_on() -> None:
    one = house(Fault.maintenance, f"bar:{START + HOUR}")
    one.client.place(order())
    for _ in range(2):
        one.trade(18_000.0)
        assert isinstance(one.client.place(order(1)), Rejected)
        with pytest.raises(NoAnswer, match="maintained"):
            one.client.positions("btc")
    one.trade(18_000.0)
    assert len(one.client.endings("btc", 0)) == 1
    assert isinstance(one.client.order("btc", order(1).client_id), NotFound)


def test_rows_that_come_twice_or_without_a_field() -> None:
    one = House(FaultPlan(script=(Scripted("fills:btc", Fault.duplicate), Scripted("fills:btc", Fault.malformed, 2))))
    one.trade(20_000.0)
    one.client.place(order())
    first, second = one.client.fills("btc", 0)
    assert first == second
    (row,) = one.client.fills("btc", 0)
    assert isinstance(row, Unreadable)
    assert row.instrument == "A"
    (row,) = one.client.fills("btc", 0)
    assert isinstance(row, Fill)


def test_half_of_a_position_in_profit_is_deleveraged_and_one_at_a_loss_is_not() -> None:
    for price, left in ((21_000.0, 5), (19_500.0, 10)):
        one = house(Fault.deleverage, f"bar:{START + HOUR}:btc:A")
        one.client.place(order())
        one.trade(price)
        (position,) = one.client.positions("btc")
        assert isinstance(position, Position)
        assert position.quantity == left
        assert len(one.client.endings("btc", 0)) == len(one.operator.injected()) == (left == 5)


def test_the_owner_trades_by_hand_under_a_name_that_is_not_ours() -> None:
    one = house(Fault.stranger, f"bar:{START + HOUR}:btc:B")
    one.trade(20_000.0)
    (fill,) = one.client.fills("btc", 0)
    assert isinstance(fill, Fill)
    assert (fill.client_id, fill.instrument, fill.lots) == ("web2B", "B", 3)


@pytest.mark.parametrize("fault", [Fault.silent, Fault.reply_lost, Fault.garbled, Fault.unheard, Fault.reject])
def test_collateral_is_read_back_whatever_was_answered(fault: Fault) -> None:
    one = house(fault, "move_margin:btc:A")
    one.client.place(order())
    answer = one.client.move_margin(MarginRequest("btc", "A", 7 * USDT))
    assert isinstance(answer, Rejected if fault is Fault.reject else Unknown)
    moves = one.client.moves("btc", 0)
    assert len(moves) == (fault in (Fault.silent, Fault.reply_lost, Fault.garbled))


# ---------------------------------------------------------------------------------------------------- its own rules


def test_what_an_exchange_refuses_by_itself() -> None:
    one = house(None)
    refused = [
        order(1, reduces=True, lots=-1),  # nothing to reduce
        OrderRequest(client_id("btc", 0, "A", "x", 2), "btc", "A", 10, reduce_only=False),  # no initial margin
        OrderRequest(client_id("btc", 0, "A", "x", 3), "btc", "A", 1, reduce_only=False, margin=10_001 * USDT),
        OrderRequest(client_id("btc", 0, "A", "x", 4), "btc", "C", 1, reduce_only=False, margin=USDT),
        OrderRequest(client_id("btc", 0, "A", "x", 5), "eth", "A", 1, reduce_only=False, margin=USDT),
    ]
    assert all(isinstance(one.client.place(request), Rejected) for request in refused)
    one.client.place(order())
    for amount in (-15 * USDT, 10_000 * USDT, -21 * USDT):  # -15: one tenth of a per cent of margin would be left
        answer = one.client.move_margin(MarginRequest("btc", "A", amount))
        assert isinstance(answer, Accepted if amount == -15 * USDT else Rejected), amount
    assert isinstance(one.client.move_margin(MarginRequest("btc", "A", -4 * USDT)), Rejected)  # below maintenance
    assert isinstance(one.client.cancel("btc", order().client_id), Rejected)  # it has ended


def test_an_order_waits_where_nothing_trades_and_can_be_taken_back() -> None:
    one = house(None)
    one.trade({"A": flat(20_000.0, valid=False)})
    assert filled(one.client.place(order())) == (0, False)
    assert filled(one.client.place(order(1))) == (0, False)
    assert one.client.balance("btc").held == 40 * USDT
    assert isinstance(one.client.cancel("btc", order(1).client_id), Accepted)
    assert one.client.balance("btc").held == 20 * USDT
    one.trade(20_000.0)
    assert now(one) == (10, True)
    assert one.client.open_orders("btc") == ()


def test_a_reduction_never_opens_the_other_side() -> None:
    one = house(None)
    one.client.place(order())
    assert filled(one.client.place(order(1, -25, reduces=True))) == (-10, True)
    (held,) = one.client.positions("btc")
    assert isinstance(held, Position)
    assert (held.quantity, held.cost) == (0, 0)
    assert held.margin > 0  # it stays until it is taken out


def test_an_order_past_zero_closes_and_then_opens() -> None:
    one = house(None)
    one.client.place(order())
    assert filled(one.client.place(order(1, -25))) == (-25, True)
    closing, opening = one.client.fills("btc", 0)[1:]
    assert isinstance(closing, Fill)
    assert isinstance(opening, Fill)
    assert (closing.lots, opening.lots) == (-10, -15)


# ---------------------------------------------------------------------------------------------------- plans


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), subject=st.text(max_size=20), attempt=st.integers(1, 100))
def test_a_plan_is_a_function_of_seed_subject_and_attempt(seed: int, subject: str, attempt: int) -> None:
    rates = dict.fromkeys(Fault, 100000)
    for kind in ("place", "change", "read", "list", "bar", "position"):
        one, other = (FaultPlan(seed, rates).at(kind, subject, attempt) for _ in range(2))
        assert one == other
        assert FaultPlan(seed).at(kind, subject, attempt) is None


def test_faults_come_as_often_as_is_said_and_a_script_goes_first() -> None:
    plan = FaultPlan(7, {Fault.reject: 100_000}, (Scripted("x", Fault.late, 2, bars=4),))
    met = [plan.at("place", f"{n}", 1) for n in range(5_000)]
    assert 400 < sum(one is not None for one in met) < 600
    assert plan.at("place", "x", 2) == Injected(Fault.late, 4)
    assert plan.at("read", "x", 2) is None  # nothing that a read could meet


def test_the_same_requests_meet_the_same_faults_after_a_restart(tmp_path: Path) -> None:
    plan = FaultPlan(3, {Fault.reject: 300_000, Fault.silent: 300_000})
    logs = []
    for restarts in (False, True):
        one = House(plan, tmp_path / f"books{restarts}")
        one.trade(20_000.0)
        for number in range(12):
            if restarts:
                one.restart(plan)
            one.client.place(order(number % 6, 1))
        logs.append(one.operator.injected())
    assert logs[0] == logs[1] != []


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ([], "no object"), ({"seeds": 1}, "did you mean"), ({"seed": -1}, "expected a whole number"),
        ({"rates": {"lates": 1}}, "did you mean"), ({"rates": {"late": 1.5}}, "expected a whole number"),
        ({"rates": {"late": 900_000, "reject": 200_000}}, "more than a million"), ({"rates": []}, "no object"),
        ({"script": [{"fault": "none"}]}, "unknown fault"), ({"script": [3]}, "no object"),
    ],
)  # fmt: skip
def test_a_plan_that_is_none_is_refused(document: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        plan_from(document)


def test_a_plan_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"seed": 7, "rates": {"late": 50000}, "script": [{"subject": "x", "fault": "late", "bars": 2}]}')
    assert read_plan(path) == FaultPlan(7, {Fault.late: 50_000}, (Scripted("x", Fault.late, 1, 2),))
    path.write_text("{")
    with pytest.raises(UnreadableFile, match="a plan such as"):
        read_plan(path)
