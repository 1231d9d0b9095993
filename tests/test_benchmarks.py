"""The benchmarks' own inputs are lived through as they are measured."""

import numpy as np

from benchmarks.compiled_loop import Case
from benchmarks.watch import EACH, in_database, million


def test_the_whole_and_the_bare_loop_trade_on_what_is_measured() -> None:
    case = Case(2_000, 2, 3, 15)
    case.whole()
    vaults, positions = case.book
    assert (positions.quantity != 0).all()
    assert (vaults.funding != 0).all()
    assert (vaults.reserve >= vaults.wall).all()
    case.prepare()
    case.bare()
    assert np.count_nonzero(case.navs != 1.0) == len(case.navs)
    assert (case.book.positions.quantity != 0).all()


def test_the_watch_is_measured_on_as_many_positions_as_it_says() -> None:
    found = million(20_000)
    assert 0 < found["crossed"] < 100, "of one symbol's longs, all"
    assert found["bytes_a_position"] < 100
    assert in_database(5)["open_positions"] == 5 * EACH
