"""An exchange's public data over a real socket: whatever goes wrong on the way, the series is that of a day without
faults, and no answer is never a verdict."""

import ast
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.bars import Bars
from ringfence.markets.errors import ExchangeRefused, FeedRefused, PackageMissing, UnknownExchange
from ringfence.markets.feeds.closing import joined, stamps_joined
from ringfence.markets.feeds.rest import Asking, Rest
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.feeds.ticks import Intake
from tests.markets.feeds.standin import BTC, EIGHT_HOURS, ETH, MINUTE, START, Standin, price, rate, standing_in

GRACE = 2_000


@pytest.fixture
def exchange() -> Iterator[Standin]:
    with standing_in(START + 10 * MINUTE + 30_000) as standin:
        yield standin


def feed(exchange: Standin, since: int = START, symbols: tuple[str, ...] = (BTC,), **asking: object) -> Rest:
    terms = Asking(**{"timeout": 20_000, "ticks": False, **asking})  # type: ignore[arg-type]
    return Rest("binanceusdm", dict.fromkeys(symbols, since), MINUTE, terms, exchange.address)


def opens(series: Bars | None) -> list[int]:
    return [] if series is None else [(ts - START) // MINUTE for ts in series.ts.tolist()]


def polled(source: Rest, exchange: Standin, times: int, every: int = MINUTE, now: int | None = None) -> list[Delivery]:
    """Deliveries of polls, between which the clocks go on."""
    found = []
    for _ in range(times):
        found.append(source.poll(exchange.clock if now is None else now))
        exchange.clock += every
    return found


def together(found: list[Delivery], what: str = "bars", symbol: str = BTC) -> Bars | None:
    pieces = [getattr(each, what)[symbol] for each in found if symbol in getattr(each, what)]
    whole = joined(pieces)
    assert whole is None or sum(map(len, pieces)) == len(whole), "a bar came twice"
    return whole


def assert_true(series: Bars | None, first: int, last: int, below: float = 0.0) -> None:
    """The bars are those of the stand-in once they were over, all of them from minute `first` to `last`."""
    assert series is not None
    assert opens(series) == list(range(first, last + 1))
    opened = [price("BTCUSDT", ts) - below for ts in series.ts.tolist()]
    closes = [price("BTCUSDT", ts + MINUTE) - below for ts in series.ts.tolist()]
    assert np.allclose(series.open, opened, atol=0.006)
    assert np.allclose(series.close, closes, atol=0.006), "a bar that was not over was taken"


# ------------------------------------------------------------------------------------------------ a day without faults


def test_bars_come_once_when_they_are_over_with_their_marks_and_stamps(exchange: Standin) -> None:
    found = polled(feed(exchange), exchange, 4)
    assert [opens(each.bars.get(BTC)) for each in found] == [list(range(10)), [10], [11], [12]]
    assert_true(together(found), 0, 12)
    assert_true(together(found, "marks"), 0, 12, below=1.0)
    stamps = stamps_joined(each.funding[BTC] for each in found if BTC in each.funding)
    assert stamps is not None
    assert (stamps.ts.tolist(), stamps.rate.tolist()) == ([START], [rate("BTCUSDT", START)])
    assert [each.until[BTC] for each in found] == [START + minute * MINUTE for minute in (10, 11, 12, 13)]
    assert all(each.faults == () and each.notes == () for each in found)
    assert together(found).volume_known  # type: ignore[union-attr]


def test_a_bar_is_left_out_until_the_grace_after_its_end_is_over(exchange: Standin) -> None:
    source = feed(exchange)
    exchange.holes = {START + 3 * MINUTE}  # else the later bar would close it
    exchange.clock = START + 3 * MINUTE + GRACE - 1_000
    assert opens(source.poll(exchange.clock).bars[BTC]) == [0, 1]
    exchange.clock += 2_000
    assert opens(source.poll(exchange.clock).bars[BTC]) == [2]


def test_what_was_missed_is_asked_for_page_by_page(exchange: Standin) -> None:
    exchange.clock = START + 350 * MINUTE + 30_000
    source = feed(exchange, page=100)
    assert_true(together([source.poll(exchange.clock)]), 0, 349)
    assert exchange.asked["klines"] == 4


def test_stamps_of_a_long_absence_come_with_their_bars(exchange: Standin) -> None:
    since = START - 3 * EIGHT_HOURS
    found = feed(exchange, since).poll(exchange.clock)
    assert found.funding[BTC].ts.tolist() == [since, since + EIGHT_HOURS, since + 2 * EIGHT_HOURS, START]
    assert len(found.bars[BTC]) == len(found.marks[BTC]) == 3 * 480 + 10


def test_one_that_is_made_anew_goes_on_from_the_watermark(exchange: Standin) -> None:
    first = polled(feed(exchange), exchange, 2)
    again = feed(exchange, first[-1].until[BTC])
    assert_true(together([*first, *polled(again, exchange, 2)]), 0, 12)


def test_a_hole_in_the_exchange_s_own_bars_stays_one(exchange: Standin) -> None:
    exchange.holes = {START + minute * MINUTE for minute in (4, 5, 9, 10, 11)}
    found = polled(feed(exchange), exchange, 5)
    assert opens(together(found)) == [0, 1, 2, 3, 6, 7, 8, 12, 13]
    assert [(each.until[BTC] - START) // MINUTE for each in found] == [9, 10, 12, 13, 14]


def test_silence_is_known_once_two_answers_half_a_minute_apart_have_nothing_new(exchange: Standin) -> None:
    exchange.holes = {START + minute * MINUTE for minute in range(8, 100)}
    found = polled(feed(exchange, silence=25_000), exchange, 10, every=10_000)
    # Answers at 11:00, 11:30 and 12:00 prove what had ended when those at 10:30, 11:00 and 11:30 were asked for.
    assert [(each.until[BTC] - START) // MINUTE for each in found] == [8, 8, 8, 10, 10, 10, 10, 10, 10, 11]
    exchange.holes, exchange.clock = {START + minute * MINUTE for minute in (8, 9)}, START + 15 * MINUTE + 30_000
    assert opens(feed(exchange, START + 12 * MINUTE).poll(exchange.clock).bars[BTC]) == [12, 13, 14]


@pytest.mark.parametrize("fault", ["empty", "object", "500", "html", "half", "zero", "missing", "future"])
def test_an_answer_that_is_wrong_proves_no_silence(fault: str, exchange: Standin) -> None:
    source = feed(exchange)
    source.poll(exchange.clock)
    exchange.faults = {"klines": [f"always {fault}"]}
    exchange.clock += MINUTE
    spoiled = polled(source, exchange, 5)
    exchange.faults = {}
    assert_true(together([*spoiled, source.poll(exchange.clock)]), 10, 15)


def test_an_exchange_that_is_away_says_nothing_however_long_and_that_is_told_once(exchange: Standin) -> None:
    source = feed(exchange)
    source.poll(exchange.clock)
    exchange.faults = {what: ["always 502"] for what in ("klines", "markPriceKlines", "fundingRate", "time")}
    exchange.clock += MINUTE
    found = polled(source, exchange, 30)
    assert {each.until[BTC] for each in found} == {START + 10 * MINUTE}
    assert [note for each in found for note in each.notes] == [
        "binanceusdm is stale: no answer for 1m; nothing goes on until it answers"
    ]


def test_silence_is_proved_behind_a_source_that_is_made_anew(exchange: Standin) -> None:
    exchange.holes = {START + minute * MINUTE for minute in range(5, 100)}
    source = feed(exchange, START + 8 * MINUTE)
    found = polled(source, exchange, 4)
    assert [(each.until[BTC] - START) // MINUTE for each in found] == [8, 8, 11, 12]


def test_a_clock_of_ours_that_jumped_proves_no_silence(exchange: Standin) -> None:
    exchange.holes = {START + 10 * MINUTE, START + 11 * MINUTE}
    source = feed(exchange, clock_every=10**9, ticks=True)
    for jump in (0, 60, 120):
        assert source.poll(exchange.clock + jump * MINUTE).until[BTC] == START + 10 * MINUTE
    exchange.clock += 4 * MINUTE
    assert opens(together(polled(source, exchange, 2, every=0))) == [12, 13]


def test_a_time_without_trade_waits_for_its_stamps_and_not_for_ever(exchange: Standin) -> None:
    exchange.clock, exchange.publish_after = START - 30_000, EIGHT_HOURS
    exchange.holes = {START + minute * MINUTE for minute in range(-3, 100)}
    found = polled(feed(exchange, START - 5 * MINUTE, ticks=True), exchange, 9)
    assert (found[3].until[BTC] - START) // MINUTE <= 0
    assert (found[-1].until[BTC] - START) // MINUTE >= 5
    assert [note.partition(" from ")[0] for each in found for note in each.notes] == [f"{BTC}: the time without trade"]


def test_the_last_bar_is_read_once_more_and_comes_again_corrected(exchange: Standin) -> None:
    source = feed(exchange)
    assert source.poll(exchange.clock).bars[BTC].close[-1] == price("BTCUSDT", START + 10 * MINUTE)
    exchange.corrected = {START + 9 * MINUTE: 50_123.0, START + 8 * MINUTE: 1.0}
    exchange.clock += MINUTE
    again = source.poll(exchange.clock)
    assert opens(again.bars[BTC]) == [9, 10]
    assert again.bars[BTC].close[0] == 50_123.0
    assert source.counts["corrected"] == 1
    exchange.clock += MINUTE
    assert opens(source.poll(exchange.clock).bars[BTC]) == [11]


def test_marks_that_never_come_stop_no_bar(exchange: Standin) -> None:
    exchange.faults = {"markPriceKlines": ["always 502"]}
    found = polled(feed(exchange, patience=90_000), exchange, 12)
    assert len(opens(together(found))) >= 17


def test_an_exchange_is_asked_no_more_often_than_stated(exchange: Standin) -> None:
    source = feed(exchange, every=2_000, ticks=True)
    polled(source, exchange, 20, every=250)
    assert exchange.asked["24hr"] == 3


def test_a_clock_there_that_runs_ahead_ends_no_bar(exchange: Standin) -> None:
    """What it says of the time is an hour off, and its bars are not: only a later bar ends one."""
    exchange.ahead = 60 * MINUTE
    source = feed(exchange, clock_every=10**9)
    found = polled(source, exchange, 5)
    assert_true(together(found), 0, 13)
    assert found[0].faults[0].code == "clock_apart"
    exchange.ahead = 0
    found = polled(source, exchange, 3)
    assert found[-1].faults == ()
    assert_true(together(found), 14, 16)


def test_a_stamp_that_is_not_published_yet_is_waited_for(exchange: Standin) -> None:
    exchange.clock, exchange.publish_after = START - 30_000, 100_000
    found = polled(feed(exchange, START - 5 * MINUTE, ticks=True), exchange, 5)
    assert [opens(each.bars.get(BTC)) for each in found] == [[-5, -4, -3, -2], [-1], [], [0, 1], [2]]
    assert found[3].funding[BTC].ts.tolist() == [START]


def test_a_stamp_that_never_comes_is_waited_for_no_longer_than_the_patience(exchange: Standin) -> None:
    exchange.clock, exchange.publish_after = START - 30_000, EIGHT_HOURS
    found = polled(feed(exchange, START - 2 * MINUTE, ticks=True, patience=119_000), exchange, 6)
    assert_true(together(found), -2, 3)
    assert [note for each in found for note in each.notes] == [
        f"{BTC}: the bar of 2023-11-14T16:00:00Z goes without its funding rate, which did not come within 1m59s",
    ]


def test_ticks_carry_each_field_with_the_exchange_s_time(exchange: Standin) -> None:
    found = feed(exchange, symbols=(BTC, ETH), ticks=True).poll(exchange.clock)
    last, mark = (tick for tick in found.ticks if tick.symbol == BTC)
    at = price("BTCUSDT", exchange.clock)
    assert (last.exchange_ts, last.last, last.mark) == (exchange.clock, at, None)
    assert (mark.exchange_ts, mark.mark, mark.index) == (exchange.clock, round(at - 1, 2), round(at - 2, 2))
    assert mark.funding_rate == rate("BTCUSDT", START + EIGHT_HOURS)
    assert last.received >= exchange.clock
    intake = Intake([BTC, ETH])
    assert [intake.take(tick) for tick in found.ticks] == [None] * 4


# ------------------------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        *((kind, "no_answer") for kind in ("500", "502", "html", "html 503", "object", "broken", "half")),
        *((kind, "invalid_bars") for kind in ("missing", "zero", "differing", "short")),
        ("empty", None),
        ("disordered", None),
        ("twice", None),
        ("future", None),
    ],
)
def test_after_any_fault_the_series_is_that_of_a_day_without(fault: str, code: str | None, exchange: Standin) -> None:
    exchange.faults = {"klines": [fault, "", fault], "markPriceKlines": ["", fault, ""]}
    source = feed(exchange)
    found = polled(source, exchange, 6)
    assert not any(exchange.faults.values()), "a fault was never met"
    told = {each.code for delivery in found for each in delivery.faults}
    assert told == ({code} if code else set())
    last = found[-1].until[BTC]
    assert last >= START + 14 * MINUTE
    assert_true(together(found), 0, (last - START) // MINUTE - 1)
    assert_true(together(found, "marks"), 0, (last - START) // MINUTE - 1, below=1.0)
    assert source.counts["no answer"] == (3 if code == "no_answer" else 0)
    assert (source.counts["duplicate"] > 0) == (fault == "twice")
    assert (source.counts["from the future"] > 0) == (fault == "future")


@pytest.mark.parametrize("fault", ["500", "html", "broken", "half", "object"])
@pytest.mark.parametrize("what", ["exchangeInfo", "time", "fundingRate"])
def test_a_fault_in_what_stands_around_the_bars_delays_and_changes_nothing(
    what: str, fault: str, exchange: Standin
) -> None:
    exchange.faults = {what: [fault]}
    found = polled(feed(exchange), exchange, 2)
    assert_true(together(found), 0, 10)
    assert found[0].faults[0].code == "no_answer"
    stamps = [each.funding[BTC].ts.tolist() for each in found if BTC in each.funding]
    assert stamps == [[START]]


def test_a_fault_of_one_symbol_stops_no_other(exchange: Standin) -> None:
    source = feed(exchange, symbols=("DOGE/USDT:USDT", BTC, ETH))
    found = source.poll(exchange.clock)
    assert set(found.bars) == {BTC, ETH}
    assert str(found.faults[0]).startswith("binanceusdm does not list DOGE/USDT:USDT")


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_poll_waits_no_longer_than_its_timeout_and_the_next_one_has_it_all(fault: str, exchange: Standin) -> None:
    """A server that sends a byte now and then is as slow as one that sends nothing."""
    source = feed(exchange, timeout=1_000)
    source.poll(exchange.clock)
    exchange.clock += 3 * MINUTE
    exchange.faults, exchange.slow = {"klines": [fault]}, 3.0
    began = time.monotonic()
    found = source.poll(exchange.clock)
    assert time.monotonic() - began < 2.5
    assert found.faults[0].code == "no_answer"
    assert found.faults[0].transient
    deliveries = [found]
    while not deliveries[-1].bars and time.monotonic() - began < 30:
        deliveries.append(source.poll(exchange.clock))
    assert_true(together(deliveries), 10, 12)


def test_a_symbol_that_catches_up_starves_no_other(exchange: Standin) -> None:
    far = {BTC: START - 40_000 * MINUTE, ETH: START}
    asking = Asking(timeout=1_500, ticks=False, page=100)
    source = Rest("binanceusdm", far, MINUTE, asking, exchange.address)
    polls = [source.poll(exchange.clock)]
    assert set(polls[0].bars) <= {BTC}
    while ETH not in polls[-1].bars and len(polls) < 10:  # on a busy machine a round may end before it asks
        polls.append(source.poll(exchange.clock))
    assert opens(polls[-1].bars[ETH]) == list(range(10))
    assert polls[0].until[BTC] < polls[-1].until[BTC] < START


@pytest.mark.parametrize("fault", ["500", "html", "object", "empty", "broken"])
def test_a_fault_in_a_price_makes_no_tick_that_is_let_in(fault: str, exchange: Standin) -> None:
    source = feed(exchange, ticks=True)
    exchange.faults = {"24hr": [fault], "premiumIndex": [fault]}
    found = source.poll(exchange.clock)
    assert_true(together([found]), 0, 9)
    intake = Intake([BTC])
    assert all(intake.take(tick) for tick in found.ticks)
    assert (intake.seen(BTC, "last"), intake.seen(BTC, "mark")) == ({}, {})
    assert [intake.take(tick) for tick in source.poll(exchange.clock).ticks] == [None, None]


def test_silence_ends_a_round_and_its_end_is_told(exchange: Standin) -> None:
    source = feed(exchange, symbols=(BTC, ETH))
    assert set(source.poll(exchange.clock).bars) == {BTC, ETH}
    exchange.faults = {what: ["always 502"] for what in ("klines", "markPriceKlines", "fundingRate")}
    exchange.clock += MINUTE
    silent = source.poll(exchange.clock)
    assert (silent.bars, {fault.code for fault in silent.faults}) == ({}, {"no_answer"})
    assert silent.until == {BTC: START + 10 * MINUTE, ETH: START + 10 * MINUTE}
    exchange.faults = {}
    exchange.clock += 3 * MINUTE
    back = source.poll(exchange.clock)
    assert back.notes == (
        f"{BTC}: 4 bars from 2023-11-14T16:10:00Z came after a silence",
        f"{ETH}: 4 bars from 2023-11-14T16:10:00Z came after a silence",
        "binanceusdm answers again after 3m",
    )


@pytest.mark.parametrize("fault", ["429", "418"])
def test_an_exchange_that_asks_to_be_left_alone_is_left_alone(fault: str, exchange: Standin) -> None:
    source = feed(exchange)
    exchange.faults = {"klines": [fault]}
    assert source.poll(exchange.clock).faults[0].code == "no_answer"
    asked = exchange.asked.total()
    told = source.poll(exchange.clock + 20_000)
    assert "it asked to be left alone" in str(told.faults[0])
    assert exchange.asked.total() == asked
    exchange.clock += MINUTE
    assert_true(together([source.poll(exchange.clock)]), 0, 10)


def test_marks_that_never_come_hold_the_bars_back_no_longer_than_the_patience(exchange: Standin) -> None:
    exchange.faults = {"markPriceKlines": ["always 502"]}
    found = polled(feed(exchange, patience=90_000), exchange, 4)
    assert [opens(each.bars.get(BTC)) for each in found[:2]] == [[], []]
    assert opens(together(found))[:10] == list(range(10))
    assert together(found, "marks") is None
    assert any("goes without its mark" in note for each in found for note in each.notes)


# ------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize("apart", [-90_000, 90_000])
def test_bars_are_closed_by_the_exchange_s_clock_and_one_that_is_off_is_named(apart: int, exchange: Standin) -> None:
    source = feed(exchange)
    found = source.poll(exchange.clock - apart)
    assert_true(together([found]), 0, 9)
    assert [fault.code for fault in found.faults] == ["clock_apart"]
    where = "ahead of" if apart > 0 else "behind"
    assert f"{where} this machine's; expected no more than 2s" in str(found.faults[0])
    assert re.search(r"is 1m(29s9|30s)", str(found.faults[0]))


def test_while_the_exchange_s_clock_is_unknown_no_bar_is_taken_for_over(exchange: Standin) -> None:
    exchange.faults = {"time": ["500", "html"]}
    found = polled(feed(exchange), exchange, 3, now=exchange.clock + 600 * MINUTE)
    assert [opens(each.bars.get(BTC)) for each in found] == [[], [], list(range(12))]


# ------------------------------------------------------------------------------------------------ what is refused


def test_names_and_lengths_that_no_exchange_has_are_refused(exchange: Standin) -> None:
    with pytest.raises(UnknownExchange, match="did you mean"):
        Rest("binanceusd", {BTC: 0}, MINUTE)
    with pytest.raises(ExchangeRefused, match="refused bars of 7m: it offers"):
        Rest("binanceusdm", {BTC: 0}, 7 * MINUTE)
    with pytest.raises(FeedRefused, match="no symbols"):
        Rest("binanceusdm", {}, MINUTE)


def test_without_the_package_the_refusal_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(PackageMissing, match="needs ccxt, which is not installed; it comes with the extra 'live'"):
        Rest("binanceusdm", {BTC: 0}, MINUTE)


def test_the_package_is_imported_by_one_module_and_only_when_a_feed_is_made(project: Path) -> None:
    importing = []
    rooms = ("words", "risk", "markets", "strategies", "vaults", "runtime", "faces")
    for path in (path for room in rooms for path in (project / room).rglob("*.py") if "ccxt" in path.read_text()):
        names = [
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in (
                [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            )
        ]
        importing += [path.name] if any(name.split(".")[0] == "ccxt" for name in names) else []
    assert set(importing) == {"exchange.py"}
    program = "import sys; import ringfence.markets.feeds.rest; sys.exit('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=project).returncode == 0
