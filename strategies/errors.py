"""What the room of opinions refuses: names, parameters, plug-ins and proposals that cannot be used."""

from collections.abc import Sequence
from pathlib import Path

from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

__all__ = ["BrokenStrategy", "ContractBroken", "DuplicateStrategy", "InvalidParameters", "InvalidProposal", "Problem",
           "StrategyFailed", "StrategyFileRefused", "TimeframeTooLong", "UnknownStrategy"]  # fmt: skip

Problem = tuple[tuple[str, ...], str]
"""Where in a strategy's specification, and what is wrong there."""


class UnknownStrategy(RingfenceError):
    """Nothing was built: no installed distribution registers a strategy of this name."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"unknown strategy {self.name!r}{did_you_mean(self.name, self.known)} (known: {', '.join(self.known)})"


class InvalidParameters(RingfenceError):
    """Nothing was built: the specification is refused whole, with every problem that it has."""

    strategy: str
    problems: Sequence[Problem]

    def __str__(self) -> str:
        listed = "; ".join(f"{'.'.join(path)}: {reason}" if path else reason for path, reason in self.problems)
        return f"strategy {self.strategy}: {listed}"


class TimeframeTooLong(RingfenceError):
    """The strategy proposes nothing on these bars: one of its lengths of time is too short to see with them."""

    strategy: str
    parameter: str
    duration: int
    timeframe: int
    bars: int

    def __str__(self) -> str:
        given, bar = format_duration(self.duration), format_duration(self.timeframe)
        least = format_duration(self.bars * self.timeframe)
        return (
            f"{self.strategy}: {self.parameter} of {given} is too short for bars of {bar}; "
            f"expected at least {least} or a shorter timeframe"
        )


class BrokenStrategy(RingfenceError):
    """The plug-in is not used: what its distribution registers cannot be loaded, or is no strategy. Others are."""

    name: str
    target: str
    distribution: str
    reason: str
    place: str = ""
    """`file:line` in the plug-in, or "" where the fault has none."""

    def __str__(self) -> str:
        return (
            f"strategy {self.name} ({self.target}) of distribution {self.distribution}{_at(self.place)}: "
            f"{self.reason}; mend or uninstall that distribution"
        )


class StrategyFileRefused(RingfenceError):
    """Nothing of the file is used: it cannot be run, or what it defines is no strategy."""

    path: Path
    reason: str
    place: str = ""
    """`file:line` in it, or "" where the fault has none."""

    def __str__(self) -> str:
        return f"{self.place or self.path}: {self.reason}"


class DuplicateStrategy(RingfenceError):
    """The name is not used at all, for nobody can say whose strategy a mandate means by it."""

    name: str
    distributions: tuple[str, ...]

    def __str__(self) -> str:
        return f"strategy {self.name} is registered by {' and by '.join(self.distributions)}; uninstall all but one"


class StrategyFailed(RingfenceError):
    """The strategy proposes nothing; its own exception is the cause."""

    strategy: str
    act: str
    reason: str
    place: str = ""
    """`file:line` in the strategy's own code, or "" where the exception never passed through it."""

    def __str__(self) -> str:
        return f"strategy {self.strategy} failed in {self.act}{_at(self.place)}: {self.reason}"


class InvalidProposal(RingfenceError):
    """None of the strategy's proposals is used, for one that cannot be meant makes all suspect."""

    strategy: str
    found: str
    expected: str
    symbol: str = ""
    ts: int | None = None
    place: str = ""
    """`file:line` of the method that said it, or "" where that is not known."""

    def __str__(self) -> str:
        where = f" on {self.symbol}" if self.symbol else ""
        when = "" if self.ts is None else f" for the bar at {utc(self.ts)}"
        said = f"strategy {self.strategy}{_at(self.place)} proposed {self.found}{where}{when}"
        return f"{said}; expected {self.expected}"


class ContractBroken(RingfenceError):
    """The strategy must not be run: its back-test would show what no live run can repeat."""

    strategy: str
    rule: str
    symbol: str
    ts: int
    """Open of the bar whose proposal is not one and the same, UTC ms."""
    cut: int
    """Open of the last bar that was shown the second time, UTC ms."""
    whole: str
    truncated: str
    lookback: int
    place: str = ""
    """`file:line` of its `propose`, or "" where that is not known."""

    def __str__(self) -> str:
        return (
            f"strategy {self.strategy}{_at(self.place)} {self.rule}: for the bar of {self.symbol} at {utc(self.ts)} it "
            f"proposes {self.whole} from all bars and {self.truncated} from the bars cut at {utc(self.cut)}; expected "
            f"one answer, made from the last {self.lookback} bars up to that one and from nothing else"
        )


def _at(place: str) -> str:
    return f" at {place}" if place else ""
