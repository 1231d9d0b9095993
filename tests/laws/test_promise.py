"""The promise, tested on the slow twin: it holds there, and the check that says so sees every way of breaking it."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from ringfence.risk.edges import AccountKind, Edge
from ringfence.risk.events import Kind
from tests.laws.promise import ONE, Moment, assert_promise, price
from tests.reference.slow_book import Vault, price_of, wall_of
from tests.reference.slow_flows import ask, settle
from tests.reference.slow_step import Decision, SlowBook, TooLarge
from tests.reference.worlds import OF_A_VENUE, Rough, World, world

KEEP = 700_000
SHARES = 100_000_000


def moment(nav: int, worst: int | None = None, struck: bool = True, highest: int | None = None) -> Moment:
    """A moment of a vault of 100,000 share units x 1,000, whose mark is the price of a NAV of `highest`."""
    top = nav if highest is None else highest
    return Moment(nav, SHARES, struck, price_of(top, SHARES), nav if worst is None else worst)


FIRST = price_of(100_000, SHARES)


@pytest.mark.parametrize(
    "moments",
    [
        [moment(100_000, 70_000)],
        [moment(120_000), moment(84_000, 84_000, highest=120_000), moment(130_000, 84_001)],
        [moment(140_000, struck=False, highest=100_000), moment(70_000, highest=100_000)],
        [moment(120_000), moment(90_000)._replace(rebased=True), moment(63_000, highest=90_000)],
        [moment(120_000), Moment(3, 0, True, 0, 3), moment(90_000), moment(63_000, highest=90_000)],
    ],
)
def test_a_run_that_keeps_to_the_law_passes(moments: list[Moment]) -> None:
    assert assert_promise(moments, KEEP, FIRST) == sum(1 for found in moments if found.shares)


@pytest.mark.parametrize(
    "moments",
    [
        [moment(100_000, 69_999)],  # inside a bar, though its end is fine
        [moment(69_999, 70_000, highest=100_000)],
        [moment(120_000), moment(100_000, 83_999, highest=120_000)],  # from a strike in between
        [moment(120_000), moment(130_000, 84_000, struck=False), moment(84_000, highest=130_000)],  # a mark unstruck
        [moment(120_000), moment(110_000)],  # a mark that falls
        [moment(120_000, highest=100_000)],  # a mark that lags
        [moment(120_000), moment(90_000, struck=False)._replace(rebased=True)],
        [moment(120_000), moment(90_000)._replace(rebased=True), moment(62_999, highest=90_000)],
    ],
)
def test_a_planted_breach_is_found(moments: list[Moment]) -> None:
    with pytest.raises(AssertionError, match="moment"):
        assert_promise(moments, KEEP, FIRST)


@pytest.mark.parametrize("shares", [1, 2, 999, 1_000, 1_001, 10**6 + 1, 10**14])
@pytest.mark.parametrize("keep", [50_000, 333_333, 990_000])
def test_the_wall_is_the_least_cash_at_which_the_price_is_kept(shares: int, keep: int) -> None:
    for nav in (1, 2, 7, shares // 1_000 + 1, 3 * shares + 1):
        mark = price_of(nav, shares)
        floor, wall = Fraction(-(-mark * keep // 10**6), ONE), wall_of(mark, keep, shares)
        assert price(wall, shares) >= floor >= Fraction(keep, 10**6) * price(nav, shares)
        assert Fraction(wall, shares) >= floor
        assert price(wall - 1, shares) < floor or Fraction(wall - 1, shares) < floor


# ---------------------------------------------------------------------------------------------------- the twin keeps it


def moment_of(vault: Vault, decision: Decision, moment: int) -> Moment:
    """`moment`: the close at which was decided, UTC ms."""
    state = decision.vault
    rebased = any(event.kind == Kind.rebased and event.ts == moment for event in vault.events)
    return Moment(state.nav, vault.shares, state.struck, state.high_water_mark, state.nav_low, rebased)


def stand(vault: Vault) -> None:
    """L1, W1: nothing is made or lost, and the reserve holds the wall."""
    assert sum(vault.accounts.values()) == 0
    assert vault.accounts[AccountKind.reserve] >= vault.wall


def keeps_its_promise(one: World) -> tuple[Counter[str], int]:
    """Live a world with its flows in the twin and check L1, W1, W3 and W3c; what happened, and where W3 was tested."""
    twin = SlowBook(one.book, one.limits, one.listing)
    marks = [vault.mark for vault in twin.vaults]
    moments: list[list[Moment]] = [[] for _ in twin.vaults]
    for k, span in enumerate(one.spans):
        entered = [0] * len(twin.vaults)
        for v, vault in enumerate(twin.vaults):
            vault.bar = span[0]
            if k < len(one.flows):
                ask(vault, *(int(part) for part in one.flows[k, v]))
            entered[v] = vault.entering
        for made in twin.live(one.walk, span):
            for v, (vault, decision) in enumerate(zip(twin.vaults, made, strict=True)):
                state = decision.vault
                moments[v].append(moment_of(vault, decision, int(one.ts[vault.bar]) + one.length))
                stand(vault)
                if state.struck and not (entered[v] or vault.waiting):
                    strike = price_of(state.nav, vault.shares)
                    assert vault.cash >= wall_of(strike, vault.limit.keep, vault.shares), "W3c"
                settle(vault, state, entered[v])
                stand(vault)
    told: Counter[str] = Counter()
    tested = 0
    for v, vault in enumerate(twin.vaults):
        tested += assert_promise(moments[v], vault.limit.keep, marks[v])
        told.update(Kind(event.kind).name for event in vault.events)
        told.update(Edge(moved.edge).name for moved in vault.transfers)
        told["unstruck"] += sum(not found.struck for found in moments[v])
    return told, tested


def test_w3_the_twin_keeps_its_promise_in_rough_worlds_with_flows_and_meets_everything_that_can_happen() -> None:
    told: Counter[str] = Counter()
    tested = large = 0
    for seed in range(60):
        rough = Rough(
            often=(0.02, 0.1, 0.3)[seed % 3], drift=(0.004, 0.03)[seed % 2], basis=(0.01, 0.3)[seed % 4 == 3],
            inverse=0.3, flows=0.15, crumbs=0.1, stamped=0.3, thin=0.3, calm=0.5,
        )  # fmt: skip
        one = world(np.random.default_rng(seed), vaults=2, each=1 + seed % 3, symbols=3, bars=60, every=1 + seed % 3,
                    rough=rough)  # fmt: skip
        try:
            found, moments = keeps_its_promise(one)
        except TooLarge:
            large += 1
            continue
        told, tested = told + found, tested + moments
    assert large < 6
    assert tested > 2_000
    kinds, edges = set(Kind) - OF_A_VENUE, set(Edge) - {Edge.pay_back, Edge.commit, Edge.give_back}
    assert {one.name for one in kinds | edges} <= set(told), told
    assert told["unstruck"] > 20
