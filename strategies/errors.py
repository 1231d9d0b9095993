"""What the room of opinions refuses: names, parameters, plug-ins and proposals that cannot be used."""

from collections.abc import Sequence

from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

__all__ = ["BrokenStrategy", "ContractBroken", "DuplicateStrategy", "InvalidParameters", "InvalidProposal", "Problem",
           "StrategyFailed", "TimeframeTooLong", "UnknownStrategy"]  # fmt: skip

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
    """The plug-in is not used: what its distribution registers cannot be loaded, or is no strategy."""

    name: str
    target: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return (
            f"strategy {self.name} ({self.target}) of distribution {self.distribution}: {self.reason}; "
            "mend or uninstall that distribution"
        )


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

    def __str__(self) -> str:
        return f"strategy {self.strategy} failed in {self.act}: {self.reason}"


class InvalidProposal(RingfenceError):
    """None of the strategy's proposals is used, for one that cannot be meant makes all suspect."""

    strategy: str
    found: str
    expected: str
    symbol: str = ""
    ts: int | None = None

    def __str__(self) -> str:
        where = f" on {self.symbol}" if self.symbol else ""
        when = "" if self.ts is None else f" for the bar at {utc(self.ts)}"
        return f"strategy {self.strategy} proposed {self.found}{where}{when}; expected {self.expected}"


class ContractBroken(RingfenceError):
    """The strategy must not be run: its back-test would show what no live run can repeat."""

    strategy: str
    rule: str
    ts: int
    cut: int
    whole: str
    truncated: str

    def __str__(self) -> str:
        return (
            f"strategy {self.strategy} {self.rule}: for the bar at {utc(self.ts)} it proposes {self.whole} from all "
            f"bars and {self.truncated} from the bars cut at {utc(self.cut)}"
        )
