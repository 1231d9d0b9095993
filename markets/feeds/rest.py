"""An exchange's public data as a source: bars since the watermark with marks and stamps, and ticks, asked for again and
again. No answer is never a verdict."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import ClockApart, FeedRefused, InvalidBars, InvalidFunding, NoAnswer
from ringfence.markets.feeds.closing import GRACE, closed
from ringfence.markets.feeds.errand import Errand
from ringfence.markets.feeds.exchange import Budget, Exchange, Spent
from ringfence.markets.feeds.gathering import Gathered, Gathering
from ringfence.markets.feeds.silence import Silence
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.feeds.ticks import Tick
from ringfence.markets.findings import admitted, inspect
from ringfence.markets.market import Funding
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

__all__ = ["Asking", "Rest"]

_SILENT = 3
"""Requests in a row without an answer after which a round of them ends."""
_BEHIND = 500
"""Bars before the watermark among which the last one is looked for."""


@dataclass(frozen=True)
class Asking:
    """How an exchange is asked."""

    timeout: int = 10_000
    """Milliseconds that a poll waits."""
    grace: int = GRACE
    """Milliseconds after its end for which a bar may still change."""
    patience: int = 120_000
    """Milliseconds that a bar waits for its mark and its stamps."""
    published: int = 30_000
    """Milliseconds after which a stamp that exists can be asked for."""
    apart: int = 2_000
    """Milliseconds that the exchange's clock may differ from ours before it is told."""
    clock_every: int = 600_000
    """Milliseconds between two looks at the exchange's clock."""
    clock_again: int = 60_000
    """The same while the two differ by more."""
    silence: int = 30_000
    """Milliseconds between two answers without a bar before it is known not to exist."""
    stale: int = 15_000
    """Milliseconds without an answer after which that is told."""
    every: int = 0
    """Milliseconds between two rounds of requests where nothing is left to ask for at once."""
    pause: int = 30_000
    """Milliseconds for which an exchange that asked to be left alone is not asked."""
    page: int = 1_000
    """Rows that one request asks for."""
    ticks: bool = True
    accept: tuple[str, ...] = ()
    """Findings that are taken as they are."""


@dataclass
class _Round:
    """One round of requests, and what came of it."""

    now: int
    budget: Budget
    ticks: list[Tick] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[RingfenceError] = field(default_factory=list)
    silent: int = 0
    """Requests in a row that had no answer."""
    lacking: bool = False
    """Whether a request that bars wait for had no answer."""

    @property
    def clock(self) -> int:
        """Our clock, UTC ms."""
        return self.now + self.budget.elapsed


class Rest:
    """Symbols of one exchange, those of `since`, under ccxt's names for both.

    Refused: PackageMissing, UnknownExchange, ExchangeRefused (bars of a length that it does not have), FeedRefused (no
    symbols). `address` stands in for the exchange's own hosts.
    """

    def __init__(
        self,
        exchange: str,
        since: Mapping[str, int],
        timeframe: int,
        asking: Asking | None = None,
        address: str | None = None,
    ) -> None:
        if not since:
            raise FeedRefused(exchange, "no symbols", "at least one")
        self.name, self.asking = exchange, asking or Asking()
        self.counts: Counter[str] = Counter()
        """What was dropped or did not come, by its kind, since the source was made."""
        self._exchange = Exchange(exchange, timeframe, address)
        wants = (self._exchange.has("fetchMarkOHLCV"), self._exchange.has("fetchFundingRateHistory"))
        self._gatherings = {
            symbol: Gathering(symbol, timeframe, start, wants, self.asking.patience) for symbol, start in since.items()
        }
        self._silences = {symbol: Silence(self.asking.silence) for symbol in since}
        self._timeframe = timeframe
        self._order = list(since)
        self._ahead: int | None = None if self._exchange.has("fetchTime") else 0
        """Milliseconds that the exchange's clock is ahead of ours; None while that is not known."""
        self._looked = self._quiet_until = self._due = 0
        self._silent_since: int | None = None
        self._told_stale = False
        self._errand: Errand[Delivery] = Errand(f"feed {exchange}")

    def poll(self, now: int) -> Delivery:
        """What is new; an answer that came after the timeout is delivered by a later poll."""
        # A clock of ours that goes back makes no wait longer.
        if 0 < self._quiet_until - now <= self.asking.pause:
            reason = f"it asked to be left alone; it is asked again at {utc(self._quiet_until)}"
            return self._silent(now, reason)
        if 0 < self._due - now <= self.asking.every:
            return Delivery(now + (self._ahead or 0))
        found = self._errand.run(lambda: self._round(now), self.asking.timeout)
        if found is None:
            self.counts["no answer"] += 1
            return self._silent(now, f"nothing within {format_duration(self.asking.timeout)}")
        return found

    def _silent(self, now: int, reason: str) -> Delivery:
        notes = self._tell_silence(now, silent=True)
        return Delivery(now + (self._ahead or 0), notes=notes, faults=(NoAnswer(self.name, "anything", reason),))

    def _round(self, now: int) -> Delivery:
        # A tenth is left for what is done with the answers.
        about = _Round(now, Budget(self.asking.timeout * 9 // 10))
        self._exchange.begin()
        with suppress(Spent):
            self._ask(about)
            self._due = now + self.asking.every
        gathered = {symbol: each.let_go(about.clock) for symbol, each in self._gatherings.items()}
        about.notes += self._tell_silence(now, silent=about.lacking)
        return _delivery(about, gathered, about.clock + (self._ahead or 0))

    def _ask(self, about: _Round) -> None:
        about.lacking = not self._try(about, partial(self._exchange.load, about.budget))
        if about.lacking:
            return
        often = self.asking.clock_again if abs(self._ahead or 0) > self.asking.apart else self.asking.clock_every
        if self._ahead is None or about.now - self._looked >= often:
            self._try(about, partial(self._look_at_clock, about))
        about.lacking = self._ahead is None
        if self._ahead is None:  # no bar could be told from one that is not over
            return
        for symbol in tuple(self._order):
            if self._gives_up(about):
                return
            # Its turn is over once it began: the next round is led by one that this round does not come to.
            self._order.remove(symbol)
            self._order.append(symbol)
            if self._try(about, partial(self._exchange.demand_listed, symbol)):
                self._ask_for(self._gatherings[symbol], about)

    def _gives_up(self, about: _Round) -> bool:
        return about.silent >= _SILENT or self._exchange.overloaded

    def _try(self, about: _Round, call: Callable[[], None]) -> bool:
        """Whether the call had an answer; if not, why stands among the faults."""
        try:
            call()
        except NoAnswer as fault:
            about.silent += 1
            self._count(about, "no answer", fault)
            if self._exchange.overloaded:
                self._quiet_until = about.now + self.asking.pause
            return False
        except RingfenceError as fault:
            self._count(about, "refused", fault)
            return False
        about.silent = 0
        return True

    def _count(self, about: _Round, kind: str, fault: RingfenceError) -> None:
        self.counts[kind] += 1
        about.faults.append(fault)

    def _look_at_clock(self, about: _Round) -> None:
        before = about.clock
        there = self._exchange.clock(about.budget)
        self._ahead = there - (before + about.clock) // 2
        self._looked = about.now
        if abs(self._ahead) > self.asking.apart:
            self._count(about, "clock apart", ClockApart(self.name, self._ahead, self.asking.apart))

    def _ask_for(self, gathering: Gathering, about: _Round) -> None:
        reached = None
        while reached != (reached := gathering.reached) and not self._gives_up(about):
            if not gathering.marks_wanted and not gathering.funding_wanted and self._over_by_now(gathering, about):
                self._try(about, partial(self._ask_bars, gathering, about))
            if gathering.marks_wanted:
                self._try(about, partial(self._ask_marks, gathering, about))
            if gathering.funding_wanted:
                self._try(about, partial(self._ask_funding, gathering, about))
        about.lacking = about.lacking or bool(about.silent)
        if self.asking.ticks and not self._gives_up(about):
            asked: list[Callable[[Gathering, _Round], None]] = [self._ask_last]
            asked += [self._ask_premium] if self._exchange.has("fetchFundingRate") else []
            answered = [self._try(about, partial(ask, gathering, about)) for ask in asked]
            about.lacking = about.lacking or not any(answered)

    def _over_by_now(self, gathering: Gathering, about: _Round) -> bool:
        """Whether another bar can be over."""
        return gathering.bars_until + self._timeframe + self.asking.grace <= self._clock_there(about)

    def _wanted(self, since: int, about: _Round) -> int:
        """Rows to ask for: exchanges charge a request by them."""
        return min(self.asking.page, (self._clock_there(about) - since) // self._timeframe + 2)

    def _clock_there(self, about: _Round) -> int:
        """The exchange's clock, UTC ms, once it is known."""
        assert self._ahead is not None
        return about.clock + self._ahead

    def _ask_bars(self, gathering: Gathering, about: _Round) -> None:
        """From the last bar that is known on: it is read once more, and an answer without it is known as none."""
        symbol, asked_at = gathering.symbol, self._agreed_clock(about)
        since = gathering.bars_until if gathering.last is None else int(gathering.last.ts[0])
        rows = self._exchange.bars(symbol, since, self._wanted(since, about), about.budget)
        if not rows and gathering.last is None:
            self._look_behind(gathering, about)
            return
        over = self._over(gathering, rows, about, with_volume=True)
        if over is None:
            return
        bars, until = over
        new = int((bars.ts >= gathering.bars_until).sum())
        if until > gathering.bars_until:
            self._silences[symbol].broken()
        elif gathering.last is not None and max(row[0] for row in rows) == gathering.last.ts[0]:
            self._hear_silence(gathering, asked_at, about)
        admitted(inspect(bars), self.asking.accept) if len(bars) else ()
        if self._silent_since is not None and new > 1:
            about.notes.append(f"{symbol}: {new:,} bars from {utc(int(bars.ts[-new]))} came after a silence")
        if gathering.add_bars(bars, until, about.clock):
            self.counts["corrected"] += 1

    def _look_behind(self, gathering: Gathering, about: _Round) -> None:
        """Find the last bar before the watermark of a source that was made anew."""
        since = gathering.bars_until - _BEHIND * self._timeframe
        rows = self._exchange.bars(gathering.symbol, since, self._wanted(since, about), about.budget)
        before = [row for row in rows if row[0] < gathering.bars_until]
        over = self._over(gathering, before, about, with_volume=True)
        if over is not None and len(over[0]):
            gathering.last = over[0][-1:]

    def _hear_silence(self, gathering: Gathering, asked_at: int, about: _Round) -> None:
        """An answer ends with the last known bar. Where silence is proved by it, the exchange's clock is read anew, so
        that a clock of ours that jumped proves nothing."""
        proved = self._silences[gathering.symbol].heard(asked_at)
        if proved is None or not self._exchange.has("fetchTime"):
            return
        self._look_at_clock(about)
        ended = min(proved, self._agreed_clock(about) - self.asking.silence) - self.asking.grace
        gathering.bars_until = max(gathering.bars_until, ended // self._timeframe * self._timeframe)

    def _agreed_clock(self, about: _Round) -> int:
        """The earlier of the exchange's clock and ours, UTC ms, where ours may differ by `apart`."""
        return min(self._clock_there(about), about.clock + self.asking.apart)

    def _ask_marks(self, gathering: Gathering, about: _Round) -> None:
        since = gathering.marks_until
        wanted = self._wanted(since, about)
        rows = self._exchange.bars(gathering.symbol, since, wanted, about.budget, marks=True)
        over = self._over(gathering, rows, about, with_volume=False)
        if over is not None:
            gathering.add_marks(*over)

    def _over(
        self, gathering: Gathering, rows: list[list[Any]], about: _Round, *, with_volume: bool
    ) -> tuple[Bars, int] | None:
        """The bars of an answer that are over, up to the first row that cannot be right; how far they go."""
        clock = self._clock_there(about)
        unique = list({tuple(row[:6]): row for row in rows}.values())
        self.counts["duplicate"] += len(rows) - len(unique)
        begun = [row for row in unique if row[0] <= clock + self.asking.apart]
        self.counts["from the future"] += len(unique) - len(begun)
        if not begun:
            return None
        try:
            bars = _series(gathering.symbol, self._timeframe, begun, with_volume)
        except InvalidBars as fault:
            # What follows a wrong row is asked for again: a bar left out could not be put in afterwards.
            self._count(about, "wrong row", fault)
            wrong = min(ts for each in fault.faults for ts in each.first)
            right = list(takewhile(lambda row: row[0] < wrong, begun))
            if not right:
                return None
            bars = _series(gathering.symbol, self._timeframe, right, with_volume)
        over = closed(bars, clock, self.asking.grace, about.clock + self.asking.apart)
        return None if over.until is None else (over.bars, over.until)

    def _ask_funding(self, gathering: Gathering, about: _Round) -> None:
        since = max(gathering.funding_until, gathering.until)
        asked_at = self._clock_there(about)
        rows = self._exchange.funding(gathering.symbol, since, self.asking.page, about.budget)
        try:
            stamps = Funding.validated(gathering.symbol, [ts for ts, _ in rows], [rate for _, rate in rows])
        except InvalidFunding as fault:
            self._count(about, "wrong row", fault)
            return
        # A full page may be cut off; one that is not goes as far as stamps are published.
        whole = len(rows) < self.asking.page
        until = asked_at - self.asking.published if whole else int(stamps.ts[-1]) + 1
        gathering.add_funding(stamps, until)

    def _ask_last(self, gathering: Gathering, about: _Round) -> None:
        said = self._exchange.ticker(gathering.symbol, about.budget)
        held, last = _whole(said.get("timestamp")), _number(said.get("last"))
        self._notice_clock(held, about)
        about.ticks.append(Tick(self.name, gathering.symbol, about.clock, held, last))

    def _ask_premium(self, gathering: Gathering, about: _Round) -> None:
        said = self._exchange.premium(gathering.symbol, about.budget)
        mark, index, rate = (_number(said.get(name)) for name in ("markPrice", "indexPrice", "fundingRate"))
        held = _whole(said.get("timestamp"))
        # A mark is made anew all the time, so that its time is the exchange's own.
        self._notice_clock(held, about, fresh=True)
        about.ticks.append(Tick(self.name, gathering.symbol, about.clock, held, None, mark, index, rate))
        if (stamp := _whole(said.get("fundingTimestamp"))) is not None:
            gathering.announce(stamp, self._clock_there(about))

    def _notice_clock(self, held: int | None, about: _Round, *, fresh: bool = False) -> None:
        """What held later than it is there, or what is `fresh` and held earlier, says that our idea of the exchange's
        clock is wrong: it is read again."""
        away = 0 if held is None else held - self._clock_there(about)
        if away > self.asking.apart or (fresh and -away > self.asking.apart):
            self._looked = 0

    def _tell_silence(self, now: int, *, silent: bool) -> tuple[str, ...]:
        """That it is silent for long, or answers again, in words, once each."""
        since = self._silent_since
        lasted = 0 if since is None else max(1_000, round(now - since, -3))
        if not silent:
            self._silent_since, self._told_stale = None, False
            return () if since is None else (f"{self.name} answers again after {format_duration(lasted)}",)
        self._silent_since = now if since is None else since
        if self._told_stale or lasted < self.asking.stale:
            return ()
        self._told_stale = True
        return (f"{self.name} is stale: no answer for {format_duration(lasted)}; nothing goes on until it answers",)


def _series(symbol: str, timeframe: int, rows: list[list[Any]], with_volume: bool) -> Bars:
    """Bars of an answer's rows. Refused: InvalidBars."""
    # Here alone a missing figure is NaN: the check of the bars names its row.
    table = np.array([[np.nan if cell is None else cell for cell in row[1:6]] for row in rows], dtype=np.float64)
    ts = np.array([row[0] for row in rows], dtype=np.int64)
    stated = with_volume and any(row[5] is not None for row in rows)
    open_, high, low, close, volume = table.T
    bars = validated(symbol, timeframe, ts, open_, high, low, close, volume if stated else None)
    # One answer may hold no trade at all; that the exchange counts them is known all the same.
    return replace(bars, volume_known=stated)


def _delivery(about: _Round, gathered: Mapping[str, Gathered], clock: int) -> Delivery:
    def of(name: str) -> dict[str, Any]:
        found = ((symbol, getattr(each, name)) for symbol, each in gathered.items())
        return {symbol: series for symbol, series in found if series is not None}

    told: Iterable[str] = (note for each in gathered.values() for note in each.notes)
    notes, faults = (*about.notes, *told), tuple(about.faults)
    return Delivery(
        clock, of("bars"), of("marks"), of("funding"), tuple(about.ticks), of("until"), notes=notes, faults=faults
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
