"""Recorded bars delivered as if they happened now: once, in order, and the same however often it is asked."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import FeedRefused
from ringfence.markets.feeds import replay
from ringfence.markets.feeds.closing import joined, stamps_joined
from ringfence.markets.feeds.replay import Pace, Recording, Replay
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.scenarios import scenario, scenarios

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
MINUTE, HOUR = 60_000, 3_600_000
START = 1_699_977_600_000 // HOUR * HOUR
NOW = 1_800_000_000_000
COLUMNS = ("ts", "open", "high", "low", "close", "volume")


def series(symbol: str, opens: Iterable[int], price: float) -> Bars:
    ts = START + np.array(sorted(opens), dtype=np.int64) * MINUTE
    close = price + (ts - START) / MINUTE % 17
    return validated(symbol, MINUTE, ts, close, close + 1, close - 1, close, np.ones(len(ts)))


def recording(btc: Iterable[int] = range(600), eth: Iterable[int] = range(600)) -> Recording:
    bars = {BTC: series(BTC, btc, 100.0), ETH: series(ETH, eth, 50.0)}
    stamps = START + np.arange(0, 12) * HOUR
    funding = {BTC: Funding.validated(BTC, stamps, np.arange(12) * 1e-5)}
    return Recording(bars, {BTC: series(BTC, btc, 99.0)}, funding)


def together(deliveries: list[Delivery], symbol: str, what: str = "bars") -> Bars | None:
    pieces = [getattr(delivery, what)[symbol] for delivery in deliveries if symbol in getattr(delivery, what)]
    whole = joined(pieces)
    assert whole is None or sum(map(len, pieces)) == len(whole), "a bar came twice"
    return whole


def same(one: Bars | None, other: Bars | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_its_clock_goes_by_the_real_one_times_the_speed() -> None:
    source = Replay(recording(), Pace(NOW, START, 60.0))
    assert source.poll(NOW).bars == {}
    first = source.poll(NOW + 999)
    assert (first.clock, first.bars) == (START + 59_940, {})
    second = source.poll(NOW + 1_000)
    assert second.clock == START + MINUTE
    assert {symbol: bars.ts.tolist() for symbol, bars in second.bars.items()} == {BTC: [START], ETH: [START]}
    assert second.funding[BTC].ts.tolist() == [START]
    assert second.marks[BTC].close.tolist() == [99.0]
    assert second.until == {BTC: START + MINUTE, ETH: START + MINUTE}
    assert source.poll(NOW - 5_000).bars == {}, "a clock that goes back brings nothing"


def test_a_start_amid_the_recording_delivers_at_once_what_was_over_by_then() -> None:
    found = Replay(recording(), Pace(NOW, START + 5 * HOUR)).poll(NOW)
    assert len(found.bars[BTC]) == 300
    assert found.funding[BTC].ts.tolist() == [START + hour * HOUR for hour in range(5)]


def test_the_tick_of_a_bar_is_its_close_at_its_end() -> None:
    found = Replay(recording(), Pace(NOW, START, 60.0)).poll(NOW + 2_000)
    btc, eth = found.ticks
    assert (btc.symbol, btc.ts, btc.received) == (BTC, START + 2 * MINUTE, START + 2 * MINUTE)
    assert (btc.last, btc.mark, btc.index, btc.funding_rate) == (101.0, 100.0, None, 0.0)
    assert (eth.last, eth.mark, eth.funding_rate) == (51.0, None, None)


def test_a_hole_is_passed_and_nothing_is_put_into_it() -> None:
    found = Replay(recording(btc=[0, 1, 9]), Pace(NOW, START, 60.0)).poll(NOW + 8_000)
    assert found.bars[BTC].ts.tolist() == [START, START + MINUTE]
    assert found.until[BTC] == START + 8 * MINUTE
    assert len(found.bars[ETH]) == 8


def test_at_full_speed_a_poll_brings_a_portion_and_the_last_one_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PORTION", 250)
    source = Replay(recording(eth=range(300)), Pace(NOW, START, None))
    found = [source.poll(NOW) for _ in range(3)]
    assert [len(each.bars[BTC]) for each in found] == [250, 250, 100]
    assert [len(each.bars.get(ETH, ())) for each in found] == [250, 50, 0]
    assert [each.ended for each in found] == [False, False, True]
    assert found[-1].clock == START + 600 * MINUTE
    assert source.poll(NOW).bars == {}


@pytest.mark.parametrize(
    ("refused", "told"),
    [
        (lambda: Replay(Recording({}), Pace(NOW, START)), "without bars"),
        (lambda: Replay(recording(), Pace(NOW, START, 0.0)), "a speed of 0.0"),
        (lambda: Replay(recording(), Pace(NOW, START, float("nan"))), "a speed of nan"),
        (lambda: Replay(recording(), Pace(NOW, START, float("inf"))), "a speed of inf"),
        (lambda: Replay(recording(), Pace(NOW, START), {"DOGE/USDT:USDT": 0}), "a start of DOGE/USDT:USDT"),
    ],
)
def test_what_cannot_be_replayed_is_refused(refused: object, told: str) -> None:
    assert callable(refused)
    with pytest.raises(FeedRefused, match=told):
        refused()


@given(
    st.sets(st.integers(0, 90), min_size=1),
    st.sets(st.integers(0, 90), min_size=1),
    st.lists(st.tuples(st.integers(0, 120_000), st.booleans()), max_size=12),
    st.sampled_from([1.0, 0.7, 60.0, 1_000.0, None]),
)
def test_however_it_is_asked_and_made_anew_it_delivers_the_recording_once(
    btc: set[int], eth: set[int], polls: list[tuple[int, bool]], speed: float | None
) -> None:
    """Whenever it was killed, one that is made anew from the watermark goes on as if nothing had been."""
    source, pace = recording(btc, eth), Pace(NOW, START, speed)
    feed, found, since = Replay(source, pace), list[Delivery](), dict[str, int]()
    for after, killed in [*sorted(polls), (10**9, False)]:
        if killed:
            feed = Replay(source, pace, since)
        found.append(feed.poll(NOW + after))
        assert all(since.get(symbol, 0) <= until <= found[-1].clock for symbol, until in found[-1].until.items())
        since = dict(found[-1].until)
    assert found[-1].ended
    for symbol in (BTC, ETH):
        assert same(together(found, symbol), source.bars[symbol])
    assert same(together(found, BTC, "marks"), source.marks[BTC])
    pieces = [each.funding[BTC] for each in found if BTC in each.funding]
    stamps = stamps_joined(pieces)
    first, end = int(source.bars[BTC].ts[0]), int(source.bars[BTC].ts[-1]) + MINUTE
    expected = [ts for ts in source.funding[BTC].ts.tolist() if first <= ts < end]
    assert ([] if stamps is None else stamps.ts.tolist()) == expected
    assert sum(len(piece.ts) for piece in pieces) == len(expected)


@pytest.mark.parametrize("name", scenarios())
def test_a_market_that_was_replayed_is_the_same_market(name: str) -> None:
    """What a scenario's market holds comes out of its replay to the last bit, aligned anew."""
    market = scenario(name).market
    feed = Replay(Recording.of(market), Pace(NOW, int(market.ts[0]), 600.0))
    step = max(1, (market.close_ts - int(market.ts[0])) // 600 // 7)
    found = [feed.poll(NOW + at * step) for at in range(9)]
    assert found[-1].ended
    bars = {symbol: together(found, symbol) for symbol in market.symbols}
    assert all(bars.values())
    marks = {symbol: own for symbol in market.symbols if (own := together(found, symbol, "marks")) is not None}
    funding = {
        symbol: rates
        for symbol in market.symbols
        if (rates := stamps_joined(each.funding[symbol] for each in found if symbol in each.funding)) is not None
    }
    again: Market = align({symbol: own for symbol, own in bars.items() if own is not None}, marks, funding)
    for column in ("ts", *COLUMNS[1:], "valid", "mark_open", "mark_low", "stamps_from", "stamps_to", "stamps"):
        assert np.array_equal(getattr(again, column), getattr(market, column)), column
