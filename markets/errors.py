"""What the world's room refuses: instruments, bars, files and scenarios that cannot be trusted as they stand."""

from dataclasses import dataclass
from pathlib import Path

from ringfence.words.hints import did_you_mean, near_or_known
from ringfence.words.refusal import RingfenceError
from ringfence.words.source import SourceRefused
from ringfence.words.times import format_duration, utc

__all__ = [
    "AmbiguousInstrument",
    "ClockApart",
    "ExchangeRefused",
    "Fault",
    "FeedRefused",
    "Finding",
    "InvalidBars",
    "InvalidFunding",
    "InvalidInstrument",
    "InvalidTimeframe",
    "MarketsRefused",
    "MisalignedMarket",
    "NoAnswer",
    "NotListed",
    "PackageMissing",
    "SuspectData",
    "UnknownExchange",
    "UnknownInstrument",
    "UnknownScenario",
    "UnreadableFile",
    "VenueError",
]

_SHOWN = 3
_MARKETS_SHOWN = 20


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


class InvalidBars(RingfenceError):
    """The bars are not used at all; no row was dropped, sorted or filled."""

    symbol: str
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return _series_refused("bars", self.symbol, self.faults)


class InvalidFunding(RingfenceError):
    """The funding series is not used at all; no row was dropped, sorted or filled."""

    symbol: str
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return _series_refused("funding", self.symbol, self.faults)


class InvalidTimeframe(RingfenceError):
    """The series stays at its own timeframe; nothing was resampled."""

    symbol: str
    timeframe: int
    wanted: int
    expected: str

    def __str__(self) -> str:
        given, wanted = format_duration(self.timeframe), format_duration(self.wanted)
        return f"{self.symbol}: bars of {given} cannot become bars of {wanted}; expected {self.expected}"


class MisalignedMarket(RingfenceError):
    """No market was made; the series do not belong together as given."""

    symbol: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.symbol}: {self.found}; expected {self.expected}"


class UnknownInstrument(RingfenceError):
    """The symbol cannot be traded or margined, because no table gives its lot, tiers and fees."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"unknown instrument {self.name!r}; {near_or_known(self.name, self.known)}"


class AmbiguousInstrument(RingfenceError):
    """The symbol stands for none of them; several venues list it, and none of them is the default one."""

    name: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} is listed by several venues; write one of {', '.join(self.keys)}"


class UnknownScenario(RingfenceError):
    """Nothing was loaded; only the scenarios of the library can be asked for by name."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return _unknown("scenario", self.name, self.known)


class InvalidInstrument(RingfenceError):
    """The instrument is left out of every listing; margin computed from its table would be wrong."""

    symbol: str
    field: str
    value: object
    expected: str
    path: tuple[str | int, ...] = ()
    """Where in the instrument's terms it stands: `("tiers", 2, "rate")`."""

    def __str__(self) -> str:
        return f"{self.symbol}: {self.field} is {self.value}; expected {self.expected}"


@dataclass(frozen=True)
class Finding:
    """Something in the data that can be right and hardly ever is."""

    name: str
    """Of the kind, by which it can be accepted."""
    symbol: str
    text: str
    """What was found, with its row."""

    def __str__(self) -> str:
        return f"{self.symbol}: {self.text} ({self.name})"


class SuspectData(RingfenceError):
    """Nothing of the data was used; it may be taken as it is where each finding's name is accepted."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        told = "; ".join(str(finding) for finding in self.findings)
        return f"{told}. Nothing was repaired; correct the source, or accept the finding by its name if it is true"


class MarketsRefused(RingfenceError):
    """No table is made of the exchange's files; a market with wrong terms would be margined wrongly."""

    markets: tuple[tuple[str, str], ...]
    """Symbols, and what is wrong with each."""

    def __str__(self) -> str:
        lines = [f"{symbol}: {reason}" for symbol, reason in self.markets[:_MARKETS_SHOWN]]
        more = len(self.markets) - _MARKETS_SHOWN
        return "\n".join([*lines, f"and {more} more"] if more > 0 else lines)


class VenueError(SourceRefused):
    """No table of these files is used, and no instrument of theirs can be traded; every problem found is listed."""


class UnreadableFile(RingfenceError):
    """Nothing of the file was used."""

    path: Path
    found: str
    expected: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        return f"{where}: {self.found}; expected {self.expected}"


class FeedRefused(RingfenceError):
    """No feed was made; it cannot deliver what was asked of it."""

    source: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"feed {self.source}: {self.found}; expected {self.expected}"


class PackageMissing(RingfenceError):
    """Nothing was started; what was asked for needs a package that is not installed."""

    wanted_for: str
    package: str
    extra: str

    def __str__(self) -> str:
        return f"{self.wanted_for} needs {self.package}, which is not installed; it comes with the extra {self.extra!r}"


class UnknownExchange(RingfenceError):
    """No feed was made; no exchange of that name is known to the library that speaks to them."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"unknown exchange {self.name!r}; {near_or_known(self.name, self.known)}"


class NotListed(RingfenceError):
    """No bars of this symbol come; the exchange does not list it, and its other symbols go on."""

    source: str
    symbol: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.source} does not list {self.symbol}{did_you_mean(self.symbol, self.known)}"


class NoAnswer(RingfenceError):
    """Nothing is known that was not known before; what was asked for is asked for again by the next poll."""

    transient = True

    source: str
    asked: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source} gave no answer to {self.asked}: {self.reason}"


class ExchangeRefused(RingfenceError):
    """Nothing came of this request and nothing will while it stays the same; the others go on."""

    source: str
    asked: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source} refused {self.asked}: {self.reason}"


class ClockApart(RingfenceError):
    """Bars are closed by the exchange's clock, and prices may be taken for stale or for future ones."""

    transient = True

    source: str
    milliseconds: int
    bound: int

    def __str__(self) -> str:
        where = "ahead of" if self.milliseconds > 0 else "behind"
        # To the second, so that two looks at one clock tell the same.
        apart, bound = format_duration(round(abs(self.milliseconds), -3)), format_duration(self.bound)
        return f"the clock of {self.source} is {apart} {where} this machine's; expected no more than {bound}"


def _series_refused(what: str, symbol: str, faults: tuple[Fault, ...]) -> str:
    listed = "; ".join(str(fault) for fault in faults)
    return f"{what} of {symbol} refused: {listed}. Nothing was repaired; correct the source and try again"


def _unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    return f"unknown {what} {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"
