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

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name, self.known = name, known
        super().__init__(name, known)

    def __str__(self) -> str:
        return f"unknown strategy {self.name!r}{did_you_mean(self.name, self.known)} (known: {', '.join(self.known)})"


class InvalidParameters(RingfenceError):
    """Nothing was built: the specification is refused whole, with every problem that it has."""

    def __init__(self, strategy: str, problems: Sequence[Problem]) -> None:
        self.strategy, self.problems = strategy, tuple(problems)
        super().__init__(strategy, self.problems)

    def __str__(self) -> str:
        listed = "; ".join(f"{'.'.join(path)}: {reason}" if path else reason for path, reason in self.problems)
        return f"strategy {self.strategy}: {listed}"


class TimeframeTooLong(RingfenceError):
    """The strategy proposes nothing on these bars: one of its lengths of time is too short to see with them."""

    def __init__(self, strategy: str, parameter: str, duration: int, timeframe: int, bars: int) -> None:
        self.strategy, self.parameter, self.duration = strategy, parameter, duration
        self.timeframe, self.bars = timeframe, bars
        super().__init__(strategy, parameter, duration, timeframe, bars)

    def __str__(self) -> str:
        given, bar = format_duration(self.duration), format_duration(self.timeframe)
        least = format_duration(self.bars * self.timeframe)
        return (
            f"{self.strategy}: {self.parameter} of {given} is too short for bars of {bar}; "
            f"expected at least {least} or a shorter timeframe"
        )


class BrokenStrategy(RingfenceError):
    """The plug-in is not used: what its distribution registers cannot be loaded, or is no strategy."""

    def __init__(self, name: str, target: str, distribution: str, reason: str) -> None:
        self.name, self.target, self.distribution, self.reason = name, target, distribution, reason
        super().__init__(name, target, distribution, reason)

    def __str__(self) -> str:
        return (
            f"strategy {self.name} ({self.target}) of distribution {self.distribution}: {self.reason}; "
            "mend or uninstall that distribution"
        )


class DuplicateStrategy(RingfenceError):
    """The name is not used at all, for nobody can say whose strategy a mandate means by it."""

    def __init__(self, name: str, distributions: tuple[str, ...]) -> None:
        self.name, self.distributions = name, distributions
        super().__init__(name, distributions)

    def __str__(self) -> str:
        return f"strategy {self.name} is registered by {' and by '.join(self.distributions)}; uninstall all but one"


class StrategyFailed(RingfenceError):
    """The strategy proposes nothing; its own exception is the cause."""

    def __init__(self, strategy: str, act: str, reason: str) -> None:
        self.strategy, self.act, self.reason = strategy, act, reason
        super().__init__(strategy, act, reason)

    def __str__(self) -> str:
        return f"strategy {self.strategy} failed in {self.act}: {self.reason}"


class InvalidProposal(RingfenceError):
    """None of the strategy's proposals is used, for one that cannot be meant makes all suspect."""

    def __init__(self, strategy: str, found: str, expected: str, symbol: str = "", ts: int | None = None) -> None:
        self.strategy, self.found, self.expected, self.symbol, self.ts = strategy, found, expected, symbol, ts
        super().__init__(strategy, found, expected, symbol, ts)

    def __str__(self) -> str:
        where = f" on {self.symbol}" if self.symbol else ""
        when = "" if self.ts is None else f" for the bar at {utc(self.ts)}"
        return f"strategy {self.strategy} proposed {self.found}{where}{when}; expected {self.expected}"


class ContractBroken(RingfenceError):
    """The strategy must not be run: its back-test would show what no live run can repeat."""

    def __init__(self, strategy: str, rule: str, ts: int, cut: int, whole: str, truncated: str) -> None:
        self.strategy, self.rule, self.ts, self.cut = strategy, rule, ts, cut
        self.whole, self.truncated = whole, truncated
        super().__init__(strategy, rule, ts, cut, whole, truncated)

    def __str__(self) -> str:
        return (
            f"strategy {self.strategy} {self.rule}: for the bar at {utc(self.ts)} it proposes {self.whole} from all "
            f"bars and {self.truncated} from the bars cut at {utc(self.cut)}"
        )
