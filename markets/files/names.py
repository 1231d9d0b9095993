"""Which instrument a file speaks of, by its name and by its columns, and which interval its name states."""

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from ringfence.markets.files.clocks import interval

__all__ = ["Stated", "fits", "interval_of_name", "of_column", "of_name"]

_QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "EUR")
_ALIASES = {"XBT": "BTC"}
_UNMISTAKABLE = frozenset({"BTC", "XBT", "ETH", "BNB", "XRP", "DOGE", "LTC", "BCH", "ADA", "AVAX", "SOL"})
"""Coins whose names are no words, so that they name a coin in small letters too."""
_KNOWN_NAMES = (
    # Binance: BTCUSDT-1h-2024-01.zip; freqtrade: BTC_USDT_USDT-1h-futures.feather, BTC_USDT-5m.json.gz
    re.compile(r"[A-Za-z0-9_]+-(?P<interval>[0-9]+[smhdw])(-[0-9]{4}-[0-9]{2}(-[0-9]{2})?|-[a-z_]+)?\.[a-z.]+"),
    # TradingView: BINANCE_BTCUSDT.P, 60.csv
    re.compile(r"[A-Z0-9]+_[A-Za-z0-9.!]+, (?P<interval>[0-9]*[SDW]?)(_[0-9a-f]+)?\.csv"),
)


class Stated(NamedTuple):
    """An instrument as a source names it."""

    base: str
    quote: str | None

    def __str__(self) -> str:
        return f"{self.base}/{self.quote}" if self.quote else self.base


def fits(stated: Stated, symbol: str) -> bool:
    """Whether a source that names this instrument can mean `symbol` (BTC/USDT:USDT)."""
    base, _, rest = symbol.partition("/")
    quote = rest.partition(":")[0]
    return stated.base == base.upper() and stated.quote in (None, quote.upper() or None)


def of_column(texts: Iterable[str]) -> list[Stated]:
    """The instruments that the cells of a column name, each once."""
    found = [_of_cell(text) for text in dict.fromkeys(texts)]
    return list(dict.fromkeys(stated for stated in found if stated is not None))


def _of_cell(text: str) -> Stated | None:
    words = re.findall(r"[A-Z0-9]+", text.upper().removeprefix("BINANCE:"))
    if not words:
        return None
    joined = _joined(words[0])
    if joined is not None:
        return joined
    quote = words[1] if len(words) > 1 and words[1] in _QUOTES else None
    return Stated(_ALIASES.get(words[0], words[0]), quote)


def _joined(word: str) -> Stated | None:
    """BTC and USDT of BTCUSDT."""
    quote = next((quote for quote in _QUOTES if word.endswith(quote) and len(word) > len(quote) + 1), None)
    if quote is None:
        return None
    base = word.removesuffix(quote)
    return Stated(_ALIASES.get(base, base), quote)


def of_name(name: str) -> list[Stated]:
    """The instruments that a file's name speaks of: BTCUSDT, BTC_USDT, or a coin that is known.

    A word that is no coin for certain says nothing: of two ways to read a name the innocent one is taken.
    """
    words = re.findall(r"[A-Za-z0-9]+", name.rpartition(".")[0] or name)
    found: list[Stated] = []
    for at, word in enumerate(words):
        capital = word.upper()
        joined = _joined(capital)
        if joined is not None and (joined.quote in ("USDT", "USDC") or joined.base in _coins()):
            found.append(joined)
        elif capital in _UNMISTAKABLE or (word == capital and capital in _coins()):
            after = words[at + 1].upper() if at + 1 < len(words) else ""
            found.append(Stated(_ALIASES.get(capital, capital), after if after in _QUOTES else None))
    return list(dict.fromkeys(found))


@cache
def _coins() -> frozenset[str]:
    from ringfence.markets.tables import shipped

    return _UNMISTAKABLE | {symbol.partition("/")[0] for symbol in shipped().names}


def interval_of_name(name: str) -> int | None:
    """Milliseconds of the interval in a file's name, where the name is one that a known source gives."""
    found = next((match for known in _KNOWN_NAMES if (match := known.fullmatch(name))), None)
    return interval(found["interval"]) if found else None
