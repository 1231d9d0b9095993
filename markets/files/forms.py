"""What sources call the columns of bars and funding rates: Binance, Bybit, OKX, Hyperliquid, Deribit, ccxt,
TradingView, CryptoDataDownload, freqtrade and pandas.

Names are compared without case and signs (`open_time`, `openTime` and `Open time` are one). Names of one letter, as
Hyperliquid and the streams write them, are compared as they are, since a bar opens at `t` and closes at `T`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ringfence.markets.errors import UnreadableFile
from ringfence.markets.files.contents import Content
from ringfence.markets.files.tables import Table
from ringfence.words.hints import did_you_mean

__all__ = ["PRICES", "Form", "bars_form", "funding_form"]

PRICES = ("open", "high", "low", "close")

_CLOCKS = ("ts", "opentime", "starttime", "startat", "candlebegintime", "timestamp", "timestampms", "unix", "unixtime",
           "unixtimestamp", "ticks", "t", "time", "datetime", "date", "index", "indexlevel0", "")  # fmt: skip
"""Where a bar opens, the first that is there; an index that pandas wrote without a name comes last."""
_STAMPS = ("calctime", "fundingtime", "fundingratetimestamp", "fundingtimestamp", *_CLOCKS)
_CLOSES = ("closetime", "T", "endtime", "endat", "closeat", "candleendtime")
_RATES = ("fundingrate", "lastfundingrate", "interest1h", "rate", "realizedrate")
_SYMBOLS = ("symbol", "s", "coin", "instrumentname", "instid", "instrument", "pair", "market", "ticker", "contract")
_INTERVALS = ("interval", "i", "period", "timeframe", "resolution")
_HOURS = ("fundingintervalhours", "fundinginterval", "intervalhours")
_FLAGS = ("confirm", "confirmed", "isclosed", "closed", "isfinal", "final", "x")
_SHORT = {"open": "o", "high": "h", "low": "l", "close": "c"}
_KLINE = ("open_time", "open", "high", "low", "close", "volume", "close_time")
"""Rows without names begin with these columns at Binance (12 of them), with the first 6 at Bybit (7) and in ccxt."""
_OKX = ("ts", "open", "high", "low", "close", "vol", "vol_ccy", "vol_quote", "confirm")
"""Rows without names that OKX answers with."""
_KLINE_WIDTH = 12


@dataclass(frozen=True)
class Form:
    """Where in a file's table is what; None for what it does not have."""

    names: Sequence[str]
    clock: int
    values: dict[str, int] = field(default_factory=dict)
    """The prices, or the rate, by what they are."""
    volume: int | None = None
    """In base units."""
    closes: int | None = None
    flag: int | None = None
    """Whether a bar is final."""
    interval: int | None = None
    symbol: int | None = None


def bars_form(content: Content, table: Table, base: str) -> Form:
    """Which columns hold bars; `base` is the coin that volumes are counted in. Refused: UnreadableFile."""
    names = table.names if table.names is not None else _unnamed(table.width)
    seen = _Seen(content, names)
    prices = {name: seen.place(name, f"{name}price", _SHORT[name]) for name in PRICES}
    clock = seen.place(*_CLOCKS)
    missing = [*(["ts"] if clock is None else []), *(name for name, place in prices.items() if place is None)]
    if clock is None or missing:
        raise seen.lacking(missing, ("ts", *PRICES, "volume"))
    return Form(
        names,
        clock,
        {name: place for name, place in prices.items() if place is not None},
        _volume(seen, base),
        seen.place(*_CLOSES),
        seen.place(*_FLAGS),
        seen.place(*_INTERVALS),
        seen.place(*_SYMBOLS),
    )


def funding_form(content: Content, table: Table) -> Form:
    """Which columns hold funding rates. Refused: UnreadableFile."""
    as_bars = "funding_rate" in content.name  # freqtrade keeps rates in the form of bars
    unnamed = _unnamed(table.width) if as_bars else [f"column {place + 1}" for place in range(table.width)]
    names = table.names if table.names is not None else unnamed
    seen = _Seen(content, names)
    clock, rate = seen.place(*_STAMPS), seen.place(*_RATES)
    if rate is None and as_bars:
        rate = seen.place("open")
    missing = [*(["ts"] if clock is None else []), *(["funding_rate"] if rate is None else [])]
    if clock is None or rate is None:
        raise seen.lacking(missing, ("ts", "funding_rate, a fraction"))
    return Form(names, clock, {"rate": rate}, interval=seen.place(*_HOURS), symbol=seen.place(*_SYMBOLS))


def _unnamed(width: int) -> list[str]:
    known = _OKX if width == len(_OKX) else _KLINE[:6] if width < _KLINE_WIDTH else _KLINE
    return [*known[:width], *(f"column {place + 1}" for place in range(len(known), width))]


def _volume(seen: "_Seen", base: str) -> int | None:
    # OKX counts contracts in `vol`, and coins in `vol_ccy` where the instrument is a contract, as all here are.
    if seen.place("volccyquote", "volquote") is not None and (coins := seen.place("volccy")) is not None:
        return coins
    return seen.place("volume", f"volume{base.lower()}", "basevolume", "volumebase", "vol", "v")


class _Seen:
    """The names of a file's columns, looked up as sources write them."""

    def __init__(self, content: Content, names: Sequence[str]) -> None:
        self._content, self._names = content, names
        self._places: dict[str, int] = {}
        for place, name in enumerate(names):
            self._places.setdefault(_plain(name), place)

    def place(self, *known: str) -> int | None:
        """The first of the known names that is there."""
        return next((self._places[name] for name in known if name in self._places), None)

    def lacking(self, missing: Sequence[str], expected: Sequence[str]) -> UnreadableFile:
        """The refusal that says which columns there are instead."""
        near = [name for name in self._names if name.isidentifier()]
        hints = "".join(did_you_mean(name, near) for name in missing)
        among = ", ".join(repr(name[:40])[1:-1] for name in self._names[:12])
        found = f"no column {', '.join(missing)} among {among or 'none'}{hints}"
        return UnreadableFile(self._content.file, found, f"columns {', '.join(expected)}")


def _plain(name: str) -> str:
    stripped = name.strip()
    return stripped if len(stripped) == 1 else re.sub(r"[\W_]", "", stripped.casefold())
