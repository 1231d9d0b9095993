"""What the world's room refuses: instruments, bars, files and scenarios that cannot be trusted as they stand."""

from dataclasses import dataclass
from pathlib import Path

from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

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
]

_SHOWN = 3


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
        given, wanted = format_duration(self.timeframe), format_duration(self.wanted)
        return f"{self.symbol}: bars of {given} cannot become bars of {wanted}; expected {self.expected}"


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
