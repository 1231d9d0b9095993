"""What a report does to the book: as many lots as were filled, along the ledger's edges and nothing else."""

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.risk import settlement
from ringfence.risk.book import POSITION, POSITION_LIMITS, VAULT, Holding, Report, ReportKind, Seat, rows
from ringfence.risk.edges import AccountKind, Edge
from ringfence.risk.events import Bound, Kind
from ringfence.risk.exposure import closed_part, profit
from ringfence.risk.tape import Tape, blank_tape
from tests.reference.worlds import contract

USDT = 10**6
PRICE = 20_000.0
BTC = contract(1_000, (10_000,))


def seat(quantity: int = 0, margin: int = 1_000 * USDT) -> Seat:
    """A position bought or sold at 20,000 whose limits ask for nothing, in a vault with a cushion of 500."""
    position = rows(POSITION, 1, quantity=quantity, margin=margin, cost=abs(quantity) * 1_000 * int(PRICE))[0]
    vault = rows(VAULT, 1, cushion=500 * USDT, last=1)[0]
    return Seat(vault, position, rows(POSITION_LIMITS, 1, call_at=1_500_000)[0], BTC)


def filled(lots: int, price: float, fee: int = 0, kind: ReportKind = ReportKind.fill) -> Report:
    return Report(kind, 0, lots, price, price, fee, 0)


def told(tape: Tape) -> tuple[Any, dict[Edge, int]]:
    """The one event, and what moved along each edge."""
    assert tape.used[1] == 1
    return tape.events[0], {Edge(row.edge): int(row.amount) for row in tape.transfers[: tape.used[0]]}


@pytest.mark.parametrize("side", [1, -1])
@given(parts=st.lists(st.integers(1, 400), min_size=1, max_size=4), price=st.floats(19_000.0, 21_000.0))
def test_an_order_filled_in_parts_is_settled_part_by_part(side: int, parts: list[int], price: float) -> None:
    """Opened in parts and closed in parts: nothing is left, and no part knows of the whole."""
    held, tape = seat(margin=5_000 * USDT), blank_tape(64, 16)
    for lots in parts:
        settlement.open_lots(held, tape, filled(side * lots, PRICE, USDT), Kind.resize, Bound.nothing)
    assert held.position.quantity == side * sum(parts)
    assert held.position.cost == sum(parts) * 1_000 * int(PRICE)
    gained = 0
    for lots in parts:
        gained += int(profit(closed_part(held.position, lots), BTC, price))
        settlement.close_lots(held, tape, filled(-side * lots, price, USDT), Kind.resize, Bound.nothing)
    assert (held.position.quantity, held.position.cost) == (0, 0)
    assert held.position.filled == 2 * sum(parts)  # what the bar's volume has borne so far
    whole = int(profit(Holding(side * sum(parts), sum(parts) * 1_000 * int(PRICE), 0), BTC, price))
    assert 0 <= whole - gained < len(parts)
    assert held.vault.costs == 2 * len(parts) * USDT
    assert held.position.margin == 5_000 * USDT + gained - held.vault.costs


def test_a_loss_beyond_the_margin_is_the_venues_and_leaves_no_fee() -> None:
    held, tape = seat(1_000), blank_tape(8, 1)
    settlement.liquidated(held, tape, filled(-1_000, 18_500.0, 7 * USDT, ReportKind.liquidation))
    event, moved = told(tape)
    assert moved == {Edge.loss: 1_000 * USDT, Edge.shortfall: 500 * USDT}
    assert (event.kind, event.amount, event.fee, event.shortfall) == (
        Kind.liquidation, -1_500 * USDT, 0, 500 * USDT,
    )  # fmt: skip
    assert (held.position.quantity, held.position.margin, held.vault.cushion) == (0, 0, 500 * USDT)


def test_what_a_liquidation_leaves_returns_to_the_cushion() -> None:
    held, tape = seat(-1_000), blank_tape(8, 1)
    settlement.liquidated(held, tape, filled(1_000, 20_900.0, 7 * USDT, ReportKind.liquidation))
    _, moved = told(tape)
    assert moved == {Edge.loss: 900 * USDT, Edge.liquidation_fee: 7 * USDT, Edge.release: 93 * USDT}
    assert held.vault.cushion == 593 * USDT


def test_a_margin_call_tells_the_trigger_before_it_and_a_reduction_the_one_after() -> None:
    called, reduced = blank_tape(8, 1), blank_tape(8, 1)
    settlement.close_lots(seat(1_000), called, filled(-500, 19_500.0), Kind.margin_call, Bound.margin_call)
    settlement.close_lots(seat(1_000), reduced, filled(-500, 19_500.0), Kind.resize, Bound.volatility)
    before, after = told(called)[0], told(reduced)[0]
    assert (before.kind, after.kind) == (Kind.margin_call, Kind.resize)
    assert (before.reason, after.reason) == (Bound.margin_call, Bound.volatility)
    assert before.liquidation_price == pytest.approx((20_000 - 1_000) / 0.99)
    assert after.liquidation_price == pytest.approx((20_000 - 1_500) / 0.99)


@pytest.mark.parametrize("side", [1, -1])
def test_a_roll_is_a_close_that_realises_and_an_opening_each_told_with_its_own_fee(side: int) -> None:
    """1,000 lots bought at 20,000 and rolled at 21,000: 1,000 of profit becomes margin, the lots and the notional
    stay."""
    held, tape = seat(side * 1_000), blank_tape(8, 2)
    price = PRICE + side * 1_000.0
    settlement.close_lots(held, tape, filled(-side * 1_000, price, 10 * USDT), Kind.roll, Bound.strike)
    settlement.open_lots(held, tape, filled(side * 1_000, price, 11 * USDT), Kind.roll, Bound.strike)
    found = [(row.kind, row.reason, row.quantity_after, row.amount, row.fee) for row in tape.events[: tape.used[1]]]
    assert found == [
        (Kind.roll, Bound.strike, 0, 1_000 * USDT, 10 * USDT), (Kind.roll, Bound.strike, side * 1_000, 0, 11 * USDT),
    ]  # fmt: skip
    assert (held.position.margin, held.position.cost) == (1_979 * USDT, int(price) * USDT)
    assert held.vault.costs == 21 * USDT


@pytest.mark.parametrize(("side", "inverse"), [(1, False), (-1, False), (1, True), (-1, True)])
def test_funding_that_the_margin_cannot_pay_is_carried_in_the_cost_basis(side: int, inverse: bool) -> None:
    """Of 20 due 12 are there: the position's own profit is lower by the other 8 and nothing else has moved."""
    held, tape = seat(side * 1_000, 12 * USDT), blank_tape(8, 1)
    row = contract(1_000 * int(PRICE) ** 2 if inverse else 1_000, (10_000,), inverse=inverse)
    held = held._replace(instrument=row)
    before = int(profit(held.position, row, PRICE))
    settlement.funding(held, tape, Report(ReportKind.funding, 0, 0, side * 0.001, PRICE, 0, -20 * USDT))
    event, moved = told(tape)
    assert (event.kind, event.amount, moved) == (Kind.funding, -20 * USDT, {Edge.funding_paid: 12 * USDT})
    assert int(profit(held.position, row, PRICE)) == before - 8 * USDT
    assert (held.position.margin, held.vault.cushion) == (0, 500 * USDT)


def test_a_refusal_is_told_once_until_its_reason_changes_or_lots_are_opened() -> None:
    held, tape = seat(100), blank_tape(8, 8)
    for reason in (Bound.volume, Bound.volume, Bound.costs, Bound.costs):
        settlement.refused(held, tape, PRICE, reason, 200)
    settlement.open_lots(held, tape, filled(1, PRICE), Kind.resize, Bound.nothing)
    settlement.refused(held, tape, PRICE, Bound.costs, 200)
    found = [(row.kind, row.reason) for row in tape.events[: tape.used[1]]]
    assert found == [
        (Kind.refusal, Bound.volume), (Kind.refusal, Bound.costs), (Kind.resize, Bound.nothing),
        (Kind.refusal, Bound.costs),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the wall alone

MONEY = {kind.value for kind in AccountKind}


def written(text: str) -> list[str]:
    """Assignments to a column that is an account's balance."""
    found = []
    for node in ast.walk(ast.parse(text)):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            columns = [inner for target in targets if target is not None for inner in ast.walk(target)]
            found += [ast.unparse(node) for name in columns if isinstance(name, ast.Attribute) and name.attr in MONEY]
    return found


def test_no_balance_is_written_but_by_the_wall(project: Path) -> None:
    paths = [path for room in ("risk", "markets") for path in sorted((project / room).glob("*.py"))]
    found = {path.name: written(path.read_text()) for path in paths}
    assert len(found.pop("wall.py")) > 10
    # an event's shortfall is what is told, not what is held
    told = [line for line in found.pop("tape.py") if line.startswith("row.")]
    assert len(told) == 2
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("line", ["position.margin -= fee", "a, seat.vault.cushion = b", "vault.costs = 0"])
def test_a_planted_balance_is_found(line: str) -> None:
    assert written(line) == [line]
