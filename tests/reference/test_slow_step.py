"""The slow twin on scenes that were worked out by hand: what the rules come to in round numbers."""

from typing import Any

import numpy as np
import pytest

from ringfence.risk.book import (
    BAR,
    INSTRUMENT,
    POSITION_LIMITS,
    PROPOSAL,
    STAMP,
    VAULT_LIMITS,
    Limits,
    empty_book,
    rows,
)
from ringfence.risk.edges import AccountKind
from ringfence.risk.events import Bound, Kind
from tests.reference.slow_book import Vault, price_of
from tests.reference.slow_flows import ask, settle
from tests.reference.slow_step import Decision, SlowBook
from tests.reference.worlds import HOUR, START, fund

USDT = 1_000_000
NAV = 100_000 * USDT
PRICE = 20_000.0
LOT = 20 * USDT
"""What a lot of 0.001 is worth at the price."""


class Scene:
    """One vault of 100,000 with a cap of 30 %, one position of bitcoin, hourly decisions; no costs but those stated."""

    def __init__(self, *, inverse: bool = False, notional_min: int = 0, **terms: Any) -> None:
        self.listing = rows(INSTRUMENT, 1, unit=1_000, scale=1e6, tiers=1, inverse=inverse, notional_min=notional_min)
        self.listing[0].tier[0] = (0, 10_000, 0, 50.0)
        vault = {"keep": 700_000, "gross_leverage_max": 1e9, "timeframe": HOUR}
        position = {"share": 1_000_000, "leverage_max": 10.0, "volatility_max": 1e9, "call_at": 1_500_000,
                    "call_to": 2_000_000, "volume_share": 0.1}  # fmt: skip
        for name, value in terms.items():
            (vault if name in (VAULT_LIMITS.names or ()) else position)[name] = value
        self.limits = Limits(rows(VAULT_LIMITS, 1, **vault), rows(POSITION_LIMITS, 1, **position))
        book = empty_book([0])
        fund(book, self.limits, np.array([NAV]))
        self.twin, self.opened = SlowBook(book, self.limits, self.listing), START

    @property
    def vault(self) -> Vault:
        return self.twin.vaults[0]

    @property
    def told(self) -> list[tuple[int, int, int, int]]:
        """(kind, reason, quantity before, quantity after) of every event."""
        return [(one.kind, one.reason, one.quantity_before, one.quantity_after) for one in self.vault.events]

    def hold(self, lots: int, margin: int) -> None:
        """Bought at the price, with a margin from the cushion."""
        position, accounts = self.vault.positions[0], self.vault.accounts
        position.quantity, position.cost = lots, abs(lots) * LOT
        accounts[AccountKind.margin, 0] += margin
        accounts[AccountKind.cushion] -= margin

    def bar(self, price: float, leverage: float | None, stamps: Any = (), **prices: Any) -> list[Decision]:
        """Live one bar that stays at a price but for what is stated; a decision at its close unless that is None."""
        names = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")
        columns = {"valid": True, "volume": np.inf, **dict.fromkeys(names, price), **prices}
        bars = rows(BAR, (1, 1), **columns, funding=bool(stamps), stamps_to=len(stamps))
        proposals = rows(PROPOSAL, (1, 1), leverage=leverage or 0.0, volatility=0.5, proposed=True, known=True)

        class Walk:
            ts, length, slot = (self.opened,), HOUR, (-1 if leverage is None else 0,)

        walk: Any = Walk()
        walk.bars, walk.proposals = bars, proposals
        walk.stamps = rows(STAMP, len(stamps), ts=[ts for ts, _ in stamps], rate=[rate for _, rate in stamps])
        self.opened += HOUR
        return [made[0] for made in self.twin.live(walk, (0, 1))]


@pytest.mark.parametrize("trim", [0, 1])
def test_a_doubled_price_is_swept_until_seventy_per_cent_of_it_are_cash(trim: int) -> None:
    scene = Scene(sweep=trim)
    scene.bar(PRICE, 3.0)
    [found] = scene.bar(2 * PRICE, 3.0)
    # 90,000 of notional gained 90,000; 57,000 of collateral hold 171,000: 4,275 lots; margin down to twice maintenance
    kind = Kind.resize if trim else Kind.roll
    swept = [told for told in scene.told[1:] if told[1] == Bound.strike]
    assert scene.told[0] == (Kind.resize, Bound.nothing, 0, 4_499)  # a lot less, for the unit that the wall rounds up
    # 133,000 less 101,080 of cash from a profit of 85,500 on 4,275 lots; with each that is trimmed for good its part of
    # the margin call's 3,420 goes free as well
    assert swept[0][:2] == (kind, Bound.strike)
    assert swept[0][2:] == pytest.approx((4_275, 2_740 if trim else 2_679), abs=2)
    assert swept[1:] == ([] if trim else [(kind, Bound.strike, swept[0][3], swept[0][2])])
    assert found.vault.struck
    assert found.vault.nav == pytest.approx(190_000 * USDT, abs=2 * LOT)
    assert found.vault.high_water_mark == price_of(found.vault.nav, NAV * 1_000)
    assert scene.vault.accounts[AccountKind.reserve] * 10 >= found.vault.nav * 7
    margin, required = scene.vault.margin(scene.vault.positions[0]), scene.vault.positions[0].required(2 * PRICE, 10**6)
    assert margin >= 2 * required


def test_a_loss_is_counted_from_the_highest_strike_and_not_from_a_peak_between_two() -> None:
    scene = Scene()
    scene.bar(PRICE, 3.0)
    scene.bar(2 * PRICE, None)
    [found] = scene.bar(PRICE, 3.0)
    assert found.vault.nav == pytest.approx(NAV, abs=10)
    assert found.vault.high_water_mark == pytest.approx(price_of(NAV, NAV * 1_000), rel=1e-9)


def test_a_position_that_cannot_be_traded_strikes_nothing() -> None:
    scene = Scene()
    scene.bar(PRICE, 3.0)
    [found] = scene.bar(PRICE, 3.0, valid=False)
    assert not found.vault.struck
    assert found.positions[0].bound == Bound.no_price
    [found] = scene.bar(PRICE, 3.0)
    assert found.vault.struck


@pytest.mark.parametrize("side", [1, -1])
def test_a_margin_call_reaches_its_aim_with_its_own_costs_and_one_lot_more_would_not(side: int) -> None:
    scene = Scene(taker_fee=1_000, half_spread=0.0005)
    scene.hold(side * 1_000, 290 * USDT)  # 1,000 lots of 20: maintenance 200, called below 300, cut to 400
    scene.bar(PRICE, None)
    position = scene.vault.positions[0]
    equity, kept = scene.vault.equity(position, PRICE), abs(position.quantity)
    assert scene.told == [(Kind.margin_call, Bound.margin_call, side * 1_000, side * kept)]
    cost, lot = 1_000 - kept, LOT / 100_000  # fee 0.1 %, spread 0.05 %: 0.03 a lot; maintenance to reach: 0.4 a lot
    assert equity == pytest.approx(290 * USDT - cost * 0.03 * USDT, abs=5_000)
    assert equity >= position.required(PRICE, 2_000_000)
    assert equity - 0.03 * USDT < position.required(PRICE, 2_000_000) + 0.4 * USDT + lot


def test_no_more_is_filled_than_the_stated_share_of_the_bars_volume() -> None:
    scene = Scene()
    scene.bar(PRICE, 3.0, volume=1.0)  # 1,000 lots, a tenth of which
    scene.bar(PRICE, 3.0, volume=0.0)
    scene.bar(PRICE, 3.0, volume=0.0)
    scene.bar(PRICE, 3.0, volume=np.inf)
    assert scene.told == [
        (Kind.resize, Bound.nothing, 0, 100),
        (Kind.refusal, Bound.volume, 100, 4_499),
        (Kind.resize, Bound.nothing, 100, 4_499),
    ]


def test_a_close_whose_costs_exceed_the_margin_is_refused_and_told_once() -> None:
    scene = Scene(taker_fee=15_000, call_at=1, band=1.0)
    scene.hold(1_000, 299 * USDT)  # closing costs 300
    scene.bar(PRICE, 0.0)
    assert scene.told[-1] == (Kind.refusal, Bound.costs, 1_000, 0)
    scene.bar(PRICE, 0.0)
    assert [kind for kind, *_ in scene.told].count(Kind.refusal) == len(scene.told)
    assert scene.vault.positions[0].quantity == 1_000


def test_a_cut_below_the_smallest_order_is_made_and_an_increase_is_left() -> None:
    scene = Scene(notional_min=100 * USDT)
    scene.hold(4_499, 30_000 * USDT - 1)
    [found] = scene.bar(PRICE, 3.002)
    assert (found.positions[0].quantity, scene.told) == (4_499, [])
    [found] = scene.bar(PRICE, 2.998)
    assert scene.told == [(Kind.resize, Bound.nothing, 4_499, 4_496)]
    assert found.positions[0].leverage <= 2.998


def test_the_band_works_inside_a_hard_cap_that_binds() -> None:
    scene = Scene(leverage_max=2.0, band=0.1)
    scene.bar(PRICE, 5.0)
    [found] = scene.bar(PRICE * 1.001, 5.0)
    assert [told[2:] for told in scene.told if told[0] == Kind.resize] == [
        (0, 2_699)
    ]  # to the lower edge, 1.8, and then no more
    assert (found.positions[0].bound, found.positions[0].allowed) == (Bound.leverage_max, 5.0)


def test_every_stamp_is_paid_at_its_own_time() -> None:
    scene = Scene()
    scene.hold(1_000, 10_000 * USDT)
    stamps = [(START - HOUR, 0.001), (START, 0.002), (START + 1, -0.001)]
    scene.bar(PRICE, None, stamps)
    assert [one.ts for one in scene.vault.events] == [ts for ts, _ in stamps]
    # a rate is a float, and each payment is rounded against the position
    assert [one.amount for one in scene.vault.events] == [-20 * USDT - 1, -40 * USDT - 1, 20 * USDT]


@pytest.mark.parametrize(("opened", "ts"), [(19_000.0, START), (19_900.0, START + HOUR)])
def test_a_liquidation_has_the_time_of_the_open_that_gapped_or_of_the_close(opened: float, ts: int) -> None:
    scene = Scene()
    scene.hold(1_000, 500 * USDT)  # maintenance at about 19,697
    low = {"low": 19_000.0, "mark_low": 19_000.0}
    scene.bar(PRICE, None, open=opened, mark_open=opened, **low)
    [told] = scene.vault.events
    assert (told.kind, told.ts, told.price) == (Kind.liquidation, ts, pytest.approx(min(opened, 19_697), abs=1))
    assert scene.vault.nav_low == scene.vault.cash


def test_the_worst_point_inside_a_bar_is_the_low() -> None:
    scene = Scene()
    scene.hold(1_000, 5_000 * USDT)
    [found] = scene.bar(PRICE, 1.0, low=18_000.0, mark_low=18_000.0)
    assert found.vault.nav_low == NAV - 2_000 * USDT
    assert scene.vault.price_low == (NAV - 2_000 * USDT) / (NAV * 1_000)


def locked(**terms: Any) -> Scene:
    """A vault that lost 29,500 of its cushion of 30,000."""
    scene = Scene(**terms)
    scene.vault.accounts[AccountKind.cushion] -= 29_500 * USDT
    scene.vault.accounts[AccountKind.venue] += 29_500 * USDT
    return scene


def test_a_rebase_is_announced_after_its_time_and_frees_the_reserve_after_its_notice() -> None:
    scene = locked(at_wall=2, rebase_after=HOUR, rebase_notice=2 * HOUR)
    found = [scene.bar(PRICE, 0.0)[0].vault for _ in range(5)]
    assert [(one.kind, one.ts - START) for one in scene.vault.events] == [
        (Kind.locked, HOUR), (Kind.rebase_announced, 2 * HOUR), (Kind.rebased, 4 * HOUR),
    ]  # fmt: skip
    assert [state.locked for state in found] == [True, True, True, False, False]
    assert scene.vault.mark == price_of(70_500 * USDT, NAV * 1_000)
    assert scene.vault.accounts[AccountKind.reserve] == pytest.approx(49_350 * USDT, abs=2)
    assert scene.vault.events[-1].amount == scene.vault.wall


def test_a_slot_without_a_strike_puts_an_announced_rebase_off() -> None:
    scene = locked(at_wall=2, rebase_after=0, rebase_notice=HOUR)
    scene.hold(1, 100 * USDT)
    scene.bar(PRICE, 0.1)
    scene.bar(PRICE, 0.1, valid=False)
    scene.bar(PRICE, 0.1)
    whole = [one for one in scene.vault.events if one.position == -1]
    assert [(one.kind, one.ts - START) for one in whole] == [
        (Kind.locked, HOUR), (Kind.rebase_announced, HOUR), (Kind.rebased, 3 * HOUR),
    ]  # fmt: skip


def test_a_vault_that_winds_down_at_its_wall_holds_nothing_until_it_is_free() -> None:
    scene = locked(at_wall=1)
    first, second = scene.bar(PRICE, 3.0)[0], scene.bar(PRICE, 3.0)[0]
    assert first.positions[0].quantity > 0
    assert (second.positions[0].quantity, second.positions[0].bound) == (0, Bound.at_wall)


def test_whoever_leaves_takes_his_part_of_the_lots_and_bears_what_that_costs() -> None:
    scene = Scene(taker_fee=1_000, band=0.1)
    [before] = scene.bar(PRICE, 3.0)
    ask(scene.vault, 0, 500_000, 0)
    [after] = scene.bar(PRICE, 3.0)
    assert after.vault.nav == before.vault.nav
    lots = -(-before.positions[0].quantity // 2)
    assert scene.told[-2][:2] == (Kind.resize, Bound.flow)
    assert after.positions[0].quantity == pytest.approx(before.positions[0].quantity - lots, abs=1)
    assert after.vault.flow_cost == scene.vault.events[-2].fee
    settle(scene.vault, after.vault, 0)
    assert scene.vault.nav_low == 2**63 - 1
    assert price_of(scene.vault.cash + scene.vault.equity(scene.vault.positions[0], PRICE), scene.vault.shares) >= (
        price_of(after.vault.nav, NAV * 1_000) - 1
    )


def test_whoever_enters_brings_his_part_of_the_lots() -> None:
    scene = Scene(taker_fee=1_000, band=0.1)
    [before] = scene.bar(PRICE, 3.0)
    ask(scene.vault, 1_000_000, 0, 0)
    entering, equity = scene.vault.entering, scene.vault.margin(scene.vault.positions[0])
    [after] = scene.bar(PRICE, 3.0)
    part = entering / after.vault.nav
    assert after.positions[0].quantity == int(before.positions[0].quantity * (1 + part))
    assert scene.vault.margin(scene.vault.positions[0]) == pytest.approx(equity * (1 + part), rel=0.01)
    assert after.vault.flow_cost == scene.vault.events[-1].fee > 0
    assert (scene.vault.entering, scene.told[-1][:2]) == (0, (Kind.resize, Bound.flow))


def test_an_inverse_contract_counts_in_coin() -> None:
    position = Scene(inverse=True).vault.positions[0]
    position.instrument.unit = 10_000_000_000  # 100 USD, in coin of eight decimals
    position.quantity, position.cost = 3, 1_500_000
    assert position.profit(25_000.0) == 300_000
    assert position.profit(30_000.0) == 1_500_000 - 1_000_000
    position.quantity = -3
    assert position.profit(25_000.0) == -300_000
    assert position.profit(30_001.0) == 999_966 - 1_500_000
