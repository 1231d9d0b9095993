"""Marking many positions at once gives what marking them one by one gives."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringfence.risk.book import INSTRUMENT, POSITION, rows
from ringfence.risk.exposure import equity_at
from ringfence.risk.marking import mark_positions

_position = st.tuples(
    st.integers(0, 2),
    st.integers(-5_000, 5_000),
    st.integers(0, 10**12),
    st.integers(0, 10**12),
    st.floats(0.0, 1e5),
)


@given(st.lists(_position, max_size=20), st.lists(st.floats(0.01, 1e5), min_size=3, max_size=3))
def test_the_sum_of_equities_and_the_crossings_are_those_of_each_position_alone(
    held: list[tuple[int, int, int, int, float]], marks: list[float]
) -> None:
    table = rows(POSITION, len(held))
    triggers = np.zeros(len(held))
    for row, (symbol, quantity, cost, margin, trigger) in enumerate(held):
        table[row].symbol, table[row].quantity, table[row].margin = symbol, quantity, margin
        table[row].cost = cost if quantity else 0
        triggers[row] = trigger
    listing, prices = rows(INSTRUMENT, 3, unit=[1000, 1, 10**6]), np.array(marks)
    equities = [equity_at(one, listing[one.symbol], float(prices[one.symbol])) for one in table]
    crossed = [
        prices[one.symbol] <= trigger if one.quantity > 0 else prices[one.symbol] >= trigger
        for one, trigger in zip(table, triggers, strict=True)
    ]

    found = mark_positions(
        np.ascontiguousarray(table.symbol).astype(np.int32),
        *(np.ascontiguousarray(table[name]) for name in ("quantity", "cost", "margin")),
        triggers,
        np.ascontiguousarray(listing.unit),
        prices,
    )

    assert tuple(int(part) for part in found) == (sum(max(0, one) for one in equities), sum(map(bool, crossed)))
