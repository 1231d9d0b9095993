"""An exchange's public data through ccxt: what was asked for, or a refusal that says whether it was an answer at all.

ccxt comes with the extra `live`; it is imported here alone, when a feed is made.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit, urlunsplit

from ringfence.markets.errors import ExchangeRefused, NoAnswer, NotListed, PackageMissing, UnknownExchange
from ringfence.words.times import format_duration

__all__ = ["Budget", "Exchange", "Spent"]

Answer = TypeVar("Answer")
_SHOWN = 160
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, OSError)
"""What ccxt raises on an answer of another form than it knows."""


class Spent(Exception):
    """The time for this round of requests is over."""


class Budget:
    """Time for a round of requests, by a clock that never jumps."""

    def __init__(self, milliseconds: int) -> None:
        self._began = time.monotonic()
        self._milliseconds = milliseconds

    @property
    def elapsed(self) -> int:
        """Milliseconds since it began."""
        return int((time.monotonic() - self._began) * 1000)

    @property
    def left(self) -> int:
        """Milliseconds that are left, 0 or less when it is spent."""
        return self._milliseconds - self.elapsed


class Exchange:
    """One exchange, asked without credentials.

    Refused: PackageMissing, UnknownExchange, and ExchangeRefused for bars of a length that it does not have.
    """

    def __init__(self, name: str, timeframe: int, address: str | None = None) -> None:
        try:
            import ccxt
        except ImportError as failure:
            raise PackageMissing(f"the exchange {name}", "ccxt", "live") from failure
        if name not in ccxt.exchanges:
            raise UnknownExchange(name, tuple(ccxt.exchanges))
        self.name = name
        self.loaded = self.overloaded = False
        """Whether its list of markets is known, and whether it asked to be left alone."""
        self._ccxt: Any = ccxt
        self._api: Any = getattr(ccxt, name)({"enableRateLimit": True, "options": {"defaultType": "swap"}})
        # ccxt hands on what is no JSON as text and makes an empty list, or no markets, of it.
        self._raw: Any = None
        self._fetch, self._api.fetch = self._api.fetch, self._fetched
        if address is not None:
            self._api.urls["api"] = _elsewhere(self._api.urls["api"], address)
        self._timeframe = self._named(timeframe)

    def has(self, ability: str) -> bool:
        """Whether the exchange can be asked for it, by ccxt's name: `fetchTime`."""
        return self._api.has.get(ability) is True

    def begin(self) -> None:
        """A new round of requests: that it asked to be left alone is forgotten."""
        self.overloaded = False

    def load(self, budget: Budget) -> None:
        """The list of markets, once."""
        if self.loaded:
            return
        self._asked("its markets", budget, lambda: self._api.load_markets(True))
        if not self._api.markets:
            self._no_answer("its markets", "an answer without markets")
        self.loaded = True

    def demand_listed(self, symbol: str) -> None:
        """Refused: NotListed."""
        if symbol not in self._api.markets:
            raise NotListed(self.name, symbol, tuple(self._api.markets))

    def clock(self, budget: Budget) -> int:
        """What time it is there, UTC ms."""
        said = self._asked("the time", budget, self._api.fetch_time)
        return said if isinstance(said, int) else self._no_answer("the time", "an answer without a time")

    def bars(self, symbol: str, since: int, most: int, budget: Budget, *, marks: bool = False) -> list[list[Any]]:
        """Rows of ts, open, high, low, close and volume, at most `most`, from `since` (UTC ms) on; None where a field
        is missing. The last one may not be over."""
        what = f"{'marks' if marks else 'bars'} of {symbol}"
        fetch = self._api.fetch_mark_ohlcv if marks else self._api.fetch_ohlcv
        rows: Any = self._asked(what, budget, lambda: fetch(symbol, self._timeframe, since, most))
        shaped = isinstance(rows, list) and all(
            isinstance(row, list) and len(row) >= 6 and isinstance(row[0], int) for row in rows
        )
        if not shaped or not (rows or _says_none(self._raw)):
            self._no_answer(what, "an answer that is no list of bars")
        return list(rows)

    def funding(self, symbol: str, since: int, most: int, budget: Budget) -> list[tuple[int, float]]:
        """Stamps (UTC ms) from `since` on, at most `most`, and their rates, ascending."""
        what = f"funding rates of {symbol}"
        rows = self._asked(what, budget, lambda: self._api.fetch_funding_rate_history(symbol, since, most))
        try:
            stamps = sorted((int(row["timestamp"]), float(row["fundingRate"])) for row in rows)
        except _UNREADABLE:
            self._no_answer(what, "an answer that is no list of rates")
        if not stamps and not _says_none(self._raw):
            self._no_answer(what, "an answer that is no list of rates")
        return stamps

    def ticker(self, symbol: str, budget: Budget) -> Mapping[str, Any]:
        """The last price (`last`, `timestamp`), as ccxt names it; None where the answer lacks a field."""
        return self._table(f"the price of {symbol}", budget, lambda: self._api.fetch_ticker(symbol))

    def premium(self, symbol: str, budget: Budget) -> Mapping[str, Any]:
        """Mark, index, rate and next stamp (`markPrice`, `indexPrice`, `fundingRate`, `fundingTimestamp`)."""
        return self._table(f"the mark of {symbol}", budget, lambda: self._api.fetch_funding_rate(symbol))

    def _table(self, what: str, budget: Budget, call: Callable[[], Any]) -> Mapping[str, Any]:
        found = self._asked(what, budget, call)
        return found if isinstance(found, dict) else self._no_answer(what, "an answer of another form")

    def _asked(self, what: str, budget: Budget, call: Callable[[], Answer]) -> Answer:
        """What the call returns. A refusal is definite only where ccxt knows the exchange's word for it."""
        if budget.left <= 0:
            raise Spent
        self._api.timeout = budget.left
        self.overloaded = False
        try:
            return call()
        except (self._ccxt.DDoSProtection, self._ccxt.RateLimitExceeded) as failure:
            self.overloaded = True
            self._no_answer(what, self._told(failure))
        except self._ccxt.ExchangeError as failure:
            if type(failure) is self._ccxt.ExchangeError:
                self._no_answer(what, self._told(failure))
            raise ExchangeRefused(self.name, what, self._told(failure)) from None
        except self._ccxt.BaseError as failure:
            self._no_answer(what, self._told(failure))
        except _UNREADABLE as failure:
            self._no_answer(what, f"an answer that cannot be read ({type(failure).__name__})")

    def _fetched(self, *asked: Any, **named: Any) -> Any:
        """What a request brought, if it is JSON."""
        self._raw = self._fetch(*asked, **named)
        if not isinstance(self._raw, dict | list):
            raise self._ccxt.BadResponse(f"no JSON: {str(self._raw)[:40]!r}")
        return self._raw

    def _no_answer(self, what: str, reason: str) -> NoReturn:
        raise NoAnswer(self.name, what, reason) from None

    def _told(self, failure: Exception) -> str:
        words = " ".join(str(failure).split()).removeprefix(f"{self.name} ")
        return f"{type(failure).__name__} ({words[:_SHOWN]})"

    def _named(self, timeframe: int) -> str:
        for name in self._api.timeframes or {}:
            if name[-1:] in "smhdw" and self._api.parse_timeframe(name) * 1000 == timeframe:
                return str(name)
        offered = ", ".join(self._api.timeframes or {}) or "none"
        raise ExchangeRefused(self.name, f"bars of {format_duration(timeframe)}", f"it offers {offered}")


def _says_none(answer: Any) -> bool:
    """Whether an answer has a list with nothing in it, at its top or inside: then it says that there is nothing."""
    if isinstance(answer, dict):
        return any(map(_says_none, answer.values()))
    return isinstance(answer, list) and not answer


def _elsewhere(urls: Any, address: str) -> Any:
    """The addresses of an exchange's services, each with its own path, at another host."""
    if isinstance(urls, dict):
        return {name: _elsewhere(url, address) for name, url in urls.items()}
    scheme, host, *_ = urlsplit(address)
    return urlunsplit((scheme, host, *urlsplit(urls)[2:])) if isinstance(urls, str) else urls
