"""Seeded plans of everything that an exchange can do wrong, and keepers who die: no order twice, none lost, and in the
end the two books are the same to the unit."""

from collections import Counter
from contextlib import suppress
from random import Random

import numba
import pytest

from ringfence.markets.exchange.faults import Fault, FaultPlan
from ringfence.markets.exchange.life import Phase
from ringfence.markets.exchange.protocol import Fill, OrderState
from ringfence.markets.exchange.reconcile import Difference
from tests.markets.exchange.house import House, flat
from tests.markets.exchange.keeper import ACCOUNT, Careless, Dead, Keeper, Kept
from tests.reference.worlds import HOUR, START

SLOW = bool(numba.config.DISABLE_JIT)
BARS = 6


def stormy(seed: int) -> FaultPlan:
    """Each fault at 1 to 10 % of its occasions, half of them not at all."""
    lot = Random(f"plan {seed}")
    return FaultPlan(seed, {fault: lot.choice([0, 10_000, 50_000, 100_000]) for fault in Fault})


def traded(house: House, lot: Random, price: float) -> float:
    """One bar: it moves, jumps, or falls past every trigger in passing; funding at every second."""
    after = price * (1.0 + lot.choice([0.02, -0.02, 0.1, -0.1]))
    low = min(price, after) * lot.choice([1.0, 1.0, 0.7])
    stamps = ((START + HOUR * house.bars, lot.choice([0.001, -0.001])),) if house.bars % 2 else ()
    bar = flat(
        after, open=price, mark_open=price, high=max(price, after), mark_high=max(price, after), low=low, mark_low=low,
        stamps=stamps,
    )  # fmt: skip
    house.trade({"A": bar, "B": flat(price, close=price, valid=lot.random() < 0.8)})
    return after


def lived(seed: int, kind: type[Keeper] = Keeper) -> tuple[House, Kept, list[Difference]]:
    """A storm, and calm after it until everything is settled."""
    lot, price = Random(seed), 20_000.0
    house, kept = House(stormy(seed)), Kept()
    for tick in range(BARS):
        price = traded(house, lot, price)
        with suppress(Dead):
            kind(house.client, kept, lot, tick, deadly=0.05).step()
    house.restart()
    for tick in range(BARS, BARS + 5):
        house.trade({"A": flat(price), "B": flat(price)})
        left = kind(house.client, kept, lot, tick).step(acts=False)
    return house, kept, left


def orphans(house: House, kept: Kept) -> set[str]:
    """Orders of ours of which the exchange has filled other lots than we know."""
    filled: Counter[str] = Counter()
    for fill in house.client.fills(ACCOUNT, 0):
        assert isinstance(fill, Fill)
        filled[fill.client_id] += fill.lots
    return {name for name, life in kept.lives.items() if filled[name] != life.filled}


def assert_settled(house: House, kept: Kept, left: list[Difference]) -> None:
    """Every intent has its end, no order of the exchange is without its intent, and both books say the same."""
    assert left == []
    assert not kept.moving
    assert {life.phase for life in kept.lives.values()} <= {Phase.final}
    assert orphans(house, kept) == set()
    orders = house.operator.orders(ACCOUNT)
    assert all(isinstance(order, OrderState) and order.is_final for order in orders)
    assert {order.client_id for order in orders if not order.client_id.startswith("web")} <= set(kept.lives)
    assert len({order.client_id for order in orders}) == len(orders)
    for life in kept.lives.values():
        assert abs(life.filled) <= abs(life.request.lots)
    balance = house.client.balance(ACCOUNT)
    assert (balance.wallet, balance.held) == (kept.cash, 0)
    assert {row.instrument: (row.quantity, row.cost, row.margin) for row in house.client.positions(ACCOUNT)} == {
        leg: tuple(held) for leg, held in kept.positions.items() if held.quantity or held.margin
    }


@pytest.mark.parametrize("start", range(4))
def test_after_every_storm_both_books_are_the_same_and_no_order_is_twice_or_lost(start: int) -> None:
    injected: Counter[str] = Counter()
    for seed in range(start, 8 if SLOW else 160, 4):
        house, kept, left = lived(seed)
        assert_settled(house, kept, left)
        injected.update(row["fault"] for row in house.operator.injected())
    assert SLOW or set(injected) == set(Fault)


def test_a_keeper_for_whom_silence_is_a_refusal_loses_orders() -> None:
    """The law above can be broken: what it sees is not what must be."""
    lost = [seed for seed in range(12) if orphans(*lived(seed, Careless)[:2])]
    assert lost
