"""The compiled loop against its slow twin, to the last unit; cutting a run or a book into pieces changes nothing."""

from typing import Any

import numba
import numpy as np
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from ringfence.markets.simulator import Series, roomy_tape, simulate
from ringfence.risk.book import Book, Limits
from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.risk.tape import rewind
from tests.reference.side_by_side import assert_equals_the_twin
from tests.reference.slow_step import TooLarge
from tests.reference.worlds import OF_A_VENUE, Rough, World, copied, world

SLOW = bool(numba.config.DISABLE_JIT)
EXAMPLES, BARS = (8, 20) if SLOW else (120, 60)

SELDOM_TOLD = {int(Bound.no_price), int(Bound.band), int(Bound.no_proposal), int(Bound.venue), int(Bound.doubted_price)}
"""They bind a plan that asks for no order; without a proposal a position is closed where there is no risk capital.
A venue that fills at once refuses nothing, and of a price's quality the loop knows nothing."""

roughs = st.builds(
    Rough,
    jump=st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    often=st.sampled_from([0.0, 0.02, 0.2]),
    drift=st.sampled_from([0.0, 0.002, 0.02]),
    missing=st.sampled_from([0.0, 0.1, 0.5]),
    funding=st.sampled_from([0.0, 0.001, 0.05]),
    basis=st.sampled_from([0.0, 0.001, 0.05, 0.3]),
    cost=st.sampled_from([0.0, 0.0005, 0.005, 0.05]),
    odd=st.sampled_from([0.0, 0.1]),
    stamped=st.sampled_from([0.0, 0.1, 2.0]),
    thin=st.sampled_from([0.0, 0.3, 1.0]),
    inverse=st.sampled_from([0.0, 0.5]),
    flows=st.sampled_from([0.0, 0.2]),
    crumbs=st.sampled_from([0.0, 0.3]),
    calm=st.sampled_from([0.0, 0.5, 1.0]),
)
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5))


def drawn(seed: int, shape: tuple[int, int, int, int], rough: Rough, bars: int = BARS) -> World:
    vaults, each, symbols, every = shape
    return world(
        np.random.default_rng(seed), vaults=vaults, each=each, symbols=symbols, bars=bars, every=every, rough=rough
    )


def run(one: World, tape_rows: int = 20_000, pieces: tuple[int, ...] = ()) -> tuple[Book, Series, list[Any], list[Any]]:
    """The book after the bars of a world, its series, its transfers and its events; stops at each of `pieces`."""
    book = copied(one.book)
    tape, series = record = one.record(tape_rows, tape_rows)
    transfers: list[Any] = []
    events: list[Any] = []
    bar = 0
    for stop in sorted({*pieces, len(one.bars)}):
        while bar < stop:
            bar = simulate(book, one.terms, one.walk, record, (bar, stop))
            transfers += tape.transfers[: tape.used[0]].tolist()
            events += tape.events[: tape.used[1]].tolist()
            rewind(tape)
    return book, series, transfers, events


def smallest_tape(one: World) -> int:
    tape = roomy_tape(one.book, one.walk)
    return max(len(tape.transfers), len(tape.events))


@settings(max_examples=EXAMPLES)
@given(seed=seeds, shape=shapes, rough=roughs)
def test_every_event_transfer_balance_and_figure_equals_the_slow_twins(
    seed: int, shape: tuple[int, int, int, int], rough: Rough
) -> None:
    try:
        assert_equals_the_twin(drawn(seed, shape, rough))
    except TooLarge:
        reject()


def test_the_twin_meets_everything_that_can_happen() -> None:
    """A comparison of uneventful runs would prove little."""
    kinds: set[int] = set()
    edges: set[int] = set()
    reasons: set[int] = set()
    for seed in range(12 if SLOW else 40):
        rough = Rough(often=0.1 + 0.1 * (seed % 4), drift=0.03, cost=(0.005, 0.05)[seed % 2], flows=0.1, crumbs=0.1,
                      inverse=0.2, thin=0.3, calm=0.5)  # fmt: skip
        try:
            twin = assert_equals_the_twin(drawn(seed, (4, 2, 4, 2), rough, bars=80))
        except TooLarge:
            continue
        for vault in twin.vaults:
            kinds |= {row.kind for row in vault.events}
            reasons |= {row.reason for row in vault.events}
            edges |= {row.edge for row in vault.transfers}
    assert kinds == {int(kind) for kind in set(Kind) - OF_A_VENUE}
    assert reasons >= {int(bound) for bound in Bound} - SELDOM_TOLD
    assert edges == {int(edge) for edge in set(Edge) - {Edge.pay_back, Edge.commit, Edge.give_back}}


@settings(max_examples=EXAMPLES // 2)
@given(seed=seeds, shape=shapes, rough=roughs, cuts=st.lists(st.integers(1, BARS), max_size=8), tight=st.booleans())
def test_cutting_a_run_into_pieces_or_filling_its_tape_changes_no_byte(
    seed: int, shape: tuple[int, int, int, int], rough: Rough, cuts: list[int], tight: bool
) -> None:
    one = drawn(seed, shape, rough)
    whole, cut = run(one), run(one, smallest_tape(one) if tight else 20_000, tuple(cuts))
    derived = ["wall"]
    for name in one.book.vaults.dtype.names:
        if name not in derived:
            assert whole[0].vaults[name].tobytes() == cut[0].vaults[name].tobytes(), name
    assert whole[0].positions.tobytes() == cut[0].positions.tobytes()
    assert whole[1].vaults.tobytes() == cut[1].vaults.tobytes()
    assert whole[1].positions.tobytes() == cut[1].positions.tobytes()
    assert whole[2:] == cut[2:]


def alone(one: World, v: int) -> World:
    """The world of one vault of a book."""
    vaults = one.book.vaults[v : v + 1].copy()
    first, last = int(vaults[0].first), int(vaults[0].last)
    positions = one.book.positions[first:last].copy()
    positions.index -= first
    vaults.index, vaults.first, vaults.last = 0, 0, last - first
    allowed = Limits(one.limits.vaults[v : v + 1].copy(), one.limits.positions[first:last].copy())
    return one._replace(
        book=Book(vaults, positions), limits=allowed, proposals=np.ascontiguousarray(one.proposals[:, first:last])
    )


@settings(max_examples=EXAMPLES // 4)
@given(seed=seeds, shape=shapes, rough=roughs)
def test_m8_vaults_in_one_book_live_as_they_would_alone(
    seed: int, shape: tuple[int, int, int, int], rough: Rough
) -> None:
    together = drawn(seed, shape, rough)
    book, series, transfers, events = run(together)
    for v in range(len(book.vaults)):
        book_alone, series_alone, transfers_alone, events_alone = run(alone(together, v))
        first, last = int(book.vaults[v].first), int(book.vaults[v].last)
        assert series.vaults[:, v].tolist() == series_alone.vaults[:, 0].tolist()
        assert series.positions[:, first:last].tolist() == series_alone.positions.tolist()
        found = [(bar, edge, p - first if p >= 0 else p, amount) for bar, of, edge, p, amount in transfers if of == v]
        assert found == [(bar, edge, p, amount) for bar, _, edge, p, amount in transfers_alone]
        assert [(row[0], max(-1, row[2] - first), *row[3:]) for row in events if row[1] == v] == [
            (row[0], *row[2:]) for row in events_alone
        ]
        for name in ("quantity", "cost", "margin", "refused"):
            assert book.positions[name][first:last].tolist() == book_alone.positions[name].tolist()


@settings(max_examples=EXAMPLES // 4)
@given(seed=seeds, shape=shapes, rough=roughs)
def test_l1_after_every_bar_the_accounts_sum_to_zero_and_none_of_the_vaults_own_is_negative(
    seed: int, shape: tuple[int, int, int, int], rough: Rough
) -> None:
    one = drawn(seed, shape, rough)
    book, record = copied(one.book), one.record()
    for bar in range(len(one.bars)):
        assert bar + 1 == simulate(book, one.terms, one.walk, record, (bar, bar + 1))
        for row in book.vaults:
            margins = [int(margin) for margin in book.positions.margin[row.first : row.last]]
            own = [int(row.reserve), int(row.cushion), int(row.entering), int(row.costs), *margins]
            assert min(own) >= 0
            assert sum(own) + int(row.venue) + int(row.funding) + int(row.shortfall) + int(row.world) == 0


def test_a_run_stops_before_the_bar_that_its_tape_might_not_hold() -> None:
    one = drawn(5, (1, 2, 2, 1), Rough(often=0.2))
    record = one.record(smallest_tape(one), smallest_tape(one))
    arguments = (copied(one.book), one.terms, one.walk, record)
    stopped = simulate(*arguments, (0, len(one.bars)))
    assert 0 < stopped < len(one.bars)
    assert simulate(*arguments, (stopped, len(one.bars))) == stopped  # until what is on it has been read
    rewind(record.tape)
    assert simulate(*arguments, (stopped, len(one.bars))) > stopped


def test_an_empty_vault_decides_nothing_and_has_no_lows() -> None:
    one = drawn(1, (2, 2, 2, 1), Rough())
    empty = one.book.vaults[0]
    for name in ("reserve", "cushion", "shares", "high_water_mark", "world"):
        empty[name] = 0
    book, series, transfers, _ = run(one)
    assert all(row[1] == 1 for row in transfers)
    for name in ("nav", "high_water_mark", "flow_cost"):
        assert not series.vaults[name][:, 0].any()
    assert np.isinf(book.vaults[0].price_low)
    assert np.isinf(book.vaults[0].distance_low)
    assert_equals_the_twin(one)


def test_series_without_positions_change_nothing_else() -> None:
    one = drawn(9, (2, 2, 2, 2), Rough())
    book, series, *_ = run(one)
    bare, record = copied(one.book), one.record(detailed=False)
    simulate(bare, one.terms, one.walk, record, (0, len(one.bars)))
    short = record.series
    assert bare.positions.tobytes() == book.positions.tobytes()
    assert short.vaults.tobytes() == series.vaults.tobytes()
    assert short.positions.shape == (0, 4)
