"""Buy and hold and plain CPPI against loops that anybody would write, and where the floor of a CPPI breaks."""

import numpy as np
import pytest

from ringfence.markets.bars import Bars
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.slots import Slots
from ringfence.markets.yardsticks import Cushion, buy_and_hold, cppi

HOUR = 3_600_000
START = 1_583_020_800_000
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT")


def market(closes: list[list[float]], *, funding: float | None = None, dip: float = 0.0) -> Market:
    """Hourly bars of a symbol each, whose low lies `dip` below open and close; funding every eighth hour."""
    bars, rates = {}, {}
    for symbol, prices in zip(SYMBOLS, closes, strict=False):
        close = np.array(prices)
        opened = np.concatenate((close[:1], close[:-1]))
        ts = START + HOUR * np.arange(len(close), dtype=np.int64)
        low = np.minimum(opened, close) * (1.0 - dip)
        bars[symbol] = Bars(symbol, HOUR, ts, opened, np.maximum(opened, close), low, close, np.ones(len(close)))
        if funding is not None:
            rates[symbol] = Funding(symbol, ts[::8], np.full(len(ts[::8]), funding))
    return align(bars, funding=rates)


def walks(seed: int, bars: int = 400, deviation: float = 0.02) -> list[list[float]]:
    dice = np.random.default_rng(seed)
    return [(price * np.exp(np.cumsum(dice.normal(0.0, deviation, bars)))).tolist() for price in (8_000.0, 200.0)]


def terms(cap: float = 0.3, multiple: float = 3.0, gross: float = 2.0, band: float = 0.0, cost: float = 0.0) -> Cushion:
    return Cushion(cap, np.array([multiple, multiple / 2]), gross, np.full(2, band), np.full(2, cost))


def by_hand(found: Market, of: Cushion, every: int) -> tuple[list[float], list[float]]:
    """The value after each decision and the lowest since the one before, in plain Python, without a band."""
    cash, units, highest, worst = 1.0, [0.0, 0.0], 1.0, 1.0
    values, lows = [], []
    for bar in range(len(found)):
        for i in (0, 1):
            for rate in found.stamps.rate[found.stamps_from[bar, i] : found.stamps_to[bar, i]]:
                cash -= units[i] * found.mark_open[bar, i] * rate
        worst = min(worst, max(0.0, cash + sum(units[i] * found.low[bar, i] for i in (0, 1))))
        if (bar + 1) % every:
            continue
        close = found.close[bar].tolist()
        worth = cash + sum(units[i] * close[i] for i in (0, 1))
        highest = max(highest, worth)
        wanted = [of.multiplier[i] * max(0.0, worth - (1 - of.cap) * highest) for i in (0, 1)]
        scale = min(1.0, of.gross_max * worth / sum(wanted)) if sum(wanted) else 1.0
        for i in (0, 1):
            bought = wanted[i] * scale - units[i] * close[i]
            cash -= bought + abs(bought) * of.cost[i]
            units[i] = wanted[i] * scale / close[i]
        values.append(cash + sum(units[i] * close[i] for i in (0, 1)))
        highest = max(highest, values[-1])
        lows.append(min(worst, values[-1]))
        worst = values[-1]
    return values, lows


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("seed", range(4))
def test_plain_cppi_is_what_its_rule_says(seed: int, every: int) -> None:
    found = market(walks(seed), funding=0.0003, dip=0.004)
    slots, of = Slots(found, every * HOUR), terms(cost=0.0008)
    walked = cppi(slots, (0, len(slots)), of)
    values, lows = by_hand(found, of, every)
    np.testing.assert_allclose(walked.value, values, rtol=1e-12)
    np.testing.assert_allclose(walked.low, lows, rtol=1e-12)
    assert walked.turnover > 1.0
    assert walked.costs == pytest.approx(0.0008 * walked.turnover)


def test_without_gaps_and_costs_the_floor_of_a_cppi_stands_and_a_gap_beyond_its_multiple_breaks_it() -> None:
    calm = market([[100.0 * 0.99**k for k in range(300)], [100.0] * 300])
    slots = Slots(calm, HOUR)
    assert cppi(slots, (0, 300), terms()).value.min() >= 0.7
    gap = market([[100.0] * 5 + [60.0] * 5, [100.0] * 10])
    of = Cushion(0.3, np.array([3.0, 0.0]), 9.0, np.zeros(2), np.zeros(2))
    assert cppi(Slots(gap, HOUR), (0, 10), of).value[-1] == pytest.approx(1.0 - 0.9 * 0.4)
    assert 1.0 - 0.9 * 0.4 < 0.7


def test_a_gap_through_everything_leaves_nothing_and_stays_there() -> None:
    gone = market([[100.0] * 5 + [40.0] + [400.0] * 5, [100.0] * 11])
    of = Cushion(0.5, np.array([8.0, 0.0]), 4.0, np.zeros(2), np.zeros(2))
    walked = cppi(Slots(gone, HOUR), (0, 11), of)
    assert walked.value[5:].tolist() == [0.0] * 6
    assert walked.low.min() == 0.0
    assert walked.locked == pytest.approx(6 / 11)


def test_within_its_band_a_cppi_does_not_trade() -> None:
    found = market(walks(3))
    slots = Slots(found, HOUR)
    often, seldom = (cppi(slots, (0, len(slots)), terms(band=band, cost=0.001)) for band in (0.0, 0.2))
    assert seldom.turnover < often.turnover / 2


def test_buy_and_hold_is_bought_once_in_the_proportion_of_the_weights() -> None:
    closes = walks(5)
    found = market(closes, funding=0.01, dip=0.01)
    slots = Slots(found, 4 * HOUR)
    held = buy_and_hold(slots, (0, len(slots)), np.array([0.75, 0.25]), np.array([0.001, 0.002]))
    first = np.array([prices[3] for prices in closes])
    units = np.array([0.75 * 0.999, 0.25 * 0.998]) / first
    np.testing.assert_allclose(held.value, [units @ [prices[k] for prices in closes] for k in range(3, 400, 4)])
    assert held.low[7] == pytest.approx(min((found.low[bar] @ units) for bar in range(28, 32)))
    assert held.low[0] == held.value[0]
    assert (held.turnover, held.funding) == (1.0, 0.0)
    assert held.costs == pytest.approx(0.75 * 0.001 + 0.25 * 0.002)


def test_a_yardstick_begins_with_the_decision_that_it_is_given() -> None:
    found = market(walks(6), funding=0.0002)
    whole, later = Slots(found, HOUR), Slots(market([prices[100:] for prices in walks(6)]), HOUR)
    span, of = (100, 380), terms(cost=0.0005)
    weight, cost = np.array([0.5, 0.5]), np.full(2, 0.0005)
    assert (
        buy_and_hold(whole, span, weight, cost).value.tolist()
        == buy_and_hold(later, (0, 280), weight, cost).value.tolist()
    )
    assert len(cppi(whole, span, of).value) == 280
    assert cppi(whole, span, of).value[0] == pytest.approx(cppi(later, (0, 280), of).value[0])


def test_a_symbol_without_a_price_yet_is_bought_when_it_has_one() -> None:
    early = market([[100.0] * 20])
    late = market([[0.0] * 20, [10.0] * 20]).bars(1)
    bars = {SYMBOLS[0]: early.bars(0), SYMBOLS[1]: late[8:]}
    slots = Slots(align(bars), HOUR)
    held = buy_and_hold(slots, (0, 20), np.array([0.5, 0.5]), np.full(2, 0.01))
    assert held.value.tolist() == [1.0] * 8 + [pytest.approx(0.99)] * 12
