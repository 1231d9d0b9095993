"""What the world's room refuses: instruments, bars, files and scenarios that cannot be trusted as they stand."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from risk.errors import RingfenceError

__all__ = [
    "Fault",
    "InvalidBars",
    "InvalidFunding",
    "InvalidInstrument",
    "InvalidTimeframe",
    "MisalignedMarket",
    "UnknownInstrument",
    "UnknownScenario",
    "UnreadableFile",
    "did_you_mean",
    "spelled",
    "utc",
]

_SHOWN = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms"))


def utc(ts: int) -> str:
    """A timestamp in UTC epoch milliseconds as `2020-03-12T00:00:00Z`; the bare number where no calendar reaches."""
    try:
        moment = _EPOCH + timedelta(milliseconds=int(ts))
    except OverflowError:
        return f"ts {int(ts)}"
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{int(ts) % 1000:03d}Z" if int(ts) % 1000 else f"{text}Z"


def spelled(milliseconds: int) -> str:
    """A duration in milliseconds in its largest whole unit: 3600000 is `1h`, 5400000 is `90m`."""
    for size, unit in _UNITS:
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean X?)` for the closest of the known names, else nothing."""
    by_folded = {_folded(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def _folded(name: str) -> str:
    """Exchanges write one market as BTCUSDT, BTC-USDT and BTC/USDT:USDT; only the letters before the colon differ."""
    return name.partition(":")[0].replace("/", "").replace("-", "").replace("_", "").casefold()


@dataclass(frozen=True)
class Fault:
    """One broken rule in a series: which, how often, and the first rows that break it."""

    rule: str
    count: int
    first: tuple[int, ...]
    """Timestamps of the first offenders, UTC epoch milliseconds."""

    def __str__(self) -> str:
        where = ", ".join(utc(ts) for ts in self.first[:_SHOWN])
        more = f" and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
        return f"{self.rule}: {self.count} row{'s' if self.count != 1 else ''}, at {where}{more}"


class _InvalidSeries(RingfenceError):
    what = "series"

    def __init__(self, symbol: str, faults: tuple[Fault, ...]) -> None:
        self.symbol, self.faults = symbol, faults
        super().__init__(symbol, faults)

    def __str__(self) -> str:
        listed = "; ".join(str(fault) for fault in self.faults)
        return f"{self.what} of {self.symbol} refused: {listed}. Nothing was repaired; correct the source and try again"


class InvalidBars(_InvalidSeries):
    """The bars are not used at all; no row was dropped, sorted or filled."""

    what = "bars"


class InvalidFunding(_InvalidSeries):
    """The funding series is not used at all; no row was dropped, sorted or filled."""

    what = "funding"


class InvalidTimeframe(RingfenceError):
    """The series stays at its own timeframe; nothing was resampled."""

    def __init__(self, symbol: str, timeframe: int, wanted: int, expected: str) -> None:
        self.symbol, self.timeframe, self.wanted, self.expected = symbol, timeframe, wanted, expected
        super().__init__(symbol, timeframe, wanted, expected)

    def __str__(self) -> str:
        return (
            f"{self.symbol}: bars of {spelled(self.timeframe)} cannot become bars of {spelled(self.wanted)}; "
            f"expected {self.expected}"
        )


class MisalignedMarket(RingfenceError):
    """No market was made; the series do not belong together as given."""

    def __init__(self, symbol: str, found: str, expected: str) -> None:
        self.symbol, self.found, self.expected = symbol, found, expected
        super().__init__(symbol, found, expected)

    def __str__(self) -> str:
        return f"{self.symbol}: {self.found}; expected {self.expected}"


class _Unknown(RingfenceError):
    what = "name"

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name, self.known = name, known
        super().__init__(name, known)

    def __str__(self) -> str:
        return (
            f"unknown {self.what} {self.name!r}{did_you_mean(self.name, self.known)} (known: {', '.join(self.known)})"
        )


class UnknownInstrument(_Unknown):
    """The symbol cannot be traded or margined, because no table gives its lot, tiers and fees."""

    what = "instrument"


class UnknownScenario(_Unknown):
    """Nothing was loaded; only the scenarios of the library can be asked for by name."""

    what = "scenario"


class InvalidInstrument(RingfenceError):
    """The instrument is left out of every listing; margin computed from its table would be wrong."""

    def __init__(self, symbol: str, field: str, value: object, expected: str) -> None:
        self.symbol, self.field, self.value, self.expected = symbol, field, value, expected
        super().__init__(symbol, field, value, expected)

    def __str__(self) -> str:
        return f"{self.symbol}: {self.field} is {self.value}; expected {self.expected}"


class UnreadableFile(RingfenceError):
    """Nothing of the file was used."""

    def __init__(self, path: Path, found: str, expected: str, line: int | None = None) -> None:
        self.path, self.found, self.expected, self.line = path, found, expected, line
        super().__init__(path, found, expected, line)

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        return f"{where}: {self.found}; expected {self.expected}"
