"""W1 and W3 as people read them, over ten thousand random worlds that the compiled step lives through, with flows.

Nothing but recorded figures and balances is looked at, in unbounded integers and fractions.
"""

from collections import Counter
from typing import Any

import numba
import numpy as np

from ringfence.markets.simulator import simulate
from ringfence.risk.events import Kind
from ringfence.risk.tape import rewind
from tests.laws.promise import Moment, assert_promise
from tests.reference.slow_book import Instrument, plain_rows, wall_of
from tests.reference.slow_flows import ask, copy_to, settle
from tests.reference.slow_step import vault_of
from tests.reference.worlds import OF_A_VENUE, Rough, World, world

SLOW = bool(numba.config.DISABLE_JIT)
BATCHES, VAULTS, BARS = (2, 30, 40) if SLOW else (10, 1_000, 60)
RICH = 10**12
"""Nobody pays into a vault that holds more, so that no product outgrows what it is exact for."""


class Lives:
    """Every vault of a world, slot by slot."""

    def __init__(self, one: World) -> None:
        self.one, self.book = one, one.book
        self.instruments = [Instrument.of(row) for row in one.listing]
        self.record = one.record(60 * len(one.book.positions), 40 * len(one.book.positions), detailed=False)
        self.keep = [int(keep) for keep in one.limits.vaults.keep]
        self.marks = [int(mark) for mark in one.book.vaults.high_water_mark]
        self.moments: list[list[Moment]] = [[] for _ in self.keep]
        self.told: Counter[str] = Counter()

    def _vault(self, v: int) -> Any:
        return vault_of(self.book, self.one.limits, v, self.instruments)

    def _ask(self, k: int) -> None:
        asked = self.one.flows[k]
        for v in np.flatnonzero(asked.entering + asked.leaving).tolist():
            row, vault = self.book.vaults[v], self._vault(v)
            ask(vault, int(asked.entering[v]) if vault.cash < RICH else 0, int(asked.leaving[v]), int(asked.left[v]))
            copy_to(vault, row)

    def _live(self, span: tuple[int, int]) -> set[int]:
        """Returns which vaults were rebased."""
        tape, bar, rebased = self.record.tape, span[0], set()
        while bar < span[1]:
            bar = simulate(self.book, self.one.terms, self.one.walk, self.record, (bar, span[1]))
            events = tape.events[: tape.used[1]]
            self.told.update(events.kind.tolist())
            rebased |= set(events.vault[events.kind == int(Kind.rebased)].tolist())
            rewind(tape)
        return rebased

    def _decided(self, k: int, shares: list[int], rebased: set[int]) -> list[Any]:
        states = plain_rows(self.record.series.vaults[k])
        for v, state in enumerate(states):
            self.moments[v].append(
                Moment(state.nav, shares[v], state.struck, state.high_water_mark, state.nav_low, v in rebased)
            )
        return states

    def _check_reserves(self, vaults: list[int]) -> None:
        for row in plain_rows(self.book.vaults[vaults]):
            wall = wall_of(row.high_water_mark, self.keep[row.index], row.shares)
            assert row.reserve >= wall, f"W1: vault {row.index}"

    def through(self) -> int:
        """Live through the whole world; returns at how many moments W3 was tested."""
        for k, span in enumerate(self.one.spans):
            if k < len(self.one.flows):
                self._ask(k)
            entered, shares = self.book.vaults.entering.tolist(), self.book.vaults.shares.tolist()
            rebased = self._live(span)
            if k < len(self.one.flows):
                states = self._decided(k, shares, rebased)
                moving = np.flatnonzero((np.array(entered) > 0) | (self.book.vaults.waiting > 0)).tolist()
                self._check_reserves(list(range(len(self.keep))))
                for v in moving:
                    vault = self._vault(v)
                    settle(vault, states[v], entered[v])
                    copy_to(vault, self.book.vaults[v])
                self._check_reserves(moving)
        return sum(
            assert_promise(moments, keep, mark)
            for moments, keep, mark in zip(self.moments, self.keep, self.marks, strict=True)
        )


def test_w3_no_share_is_ever_worth_less_than_the_kept_part_of_any_earlier_strike() -> None:
    told: Counter[str] = Counter()
    tested = 0
    for batch in range(BATCHES):
        rough = Rough(
            often=(0.02, 0.1, 0.3)[batch % 3], drift=(0.003, 0.03)[batch % 2], basis=(0.01, 0.3)[batch % 4 == 3],
            cost=0.01, flows=0.05, crumbs=0.05, inverse=0.2, stamped=0.2, thin=0.2, calm=0.5,
        )  # fmt: skip
        one = world(np.random.default_rng(batch), vaults=VAULTS, each=2, symbols=2 * VAULTS, bars=BARS, every=2,
                    rough=rough)  # fmt: skip
        lives = Lives(one)
        tested += lives.through()
        told.update(lives.told)
    assert tested > 0.9 * BATCHES * VAULTS * (BARS // 2)
    floor = 1 if SLOW else 50
    assert min(told[int(kind)] for kind in set(Kind) - OF_A_VENUE) >= floor, told
