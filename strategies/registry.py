"""The registry: which strategies are installed, and how a mandate's words become one of them.

Built-ins and strangers come through the same door, the entry point group `ringfence.strategies`. A strategy is loaded
when it is asked for by name, so a broken plug-in stops the vaults that use it and no others; and since a name that
Ringfence itself registers stays its own, no installation can take a built-in strategy away.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from pydantic import ValidationError

from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import (
    BrokenStrategy,
    DuplicateStrategy,
    InvalidParameters,
    Problem,
    StrategyFailed,
    TimeframeTooLong,
    UnknownStrategy,
)
from ringfence.strategies.guard import bars_needed, guarded
from ringfence.strategies.plugins import GROUP, broken, distribution, load
from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.units import shown

__all__ = ["Catalogue", "Registry", "build", "build_of", "catalogue", "problems", "release", "ships", "strategy"]

OWN = "ringfence"
"""The distribution whose names nobody else can register."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Catalogue:
    """All that is registered."""

    strategies: dict[str, type[Strategy]]
    """Those that can be used, in order of their names."""
    refused: tuple[RingfenceError, ...]
    """Why the others cannot."""

    def each(self, asked: Callable[[type[Strategy]], _Answer]) -> "tuple[dict[str, _Answer], Catalogue]":
        """What every strategy's class answers, by name, and the catalogue in which one that fails to is refused."""
        answers: dict[str, _Answer] = {}
        refused = [*self.refused]
        for name, strategy in self.strategies.items():
            try:
                answers[name] = _answer(strategy, asked)
            except StrategyFailed as refusal:
                refused.append(refusal)
        return answers, Catalogue({name: self.strategies[name] for name in answers}, tuple(refused))


def _answer(strategy: type[Strategy], asked: Callable[[type[Strategy]], _Answer]) -> _Answer:
    act = "telling its parameters"
    return guarded(lambda: asked(strategy), lambda told: StrategyFailed(strategy.name, act, *told), strategy)


class Registry:
    """The strategies that a set of entry points registers, by name."""

    def __init__(self, points: Iterable[EntryPoint]) -> None:
        self._points: dict[str, list[EntryPoint]] = {}
        for point in points:
            self._points.setdefault(point.name, []).append(point)
        self._usurped: list[EntryPoint] = []
        for name, claims in self._points.items():
            own = [point for point in claims if point.dist is not None and point.dist.name == OWN]
            if own:
                self._usurped += [point for point in claims if point not in own]
                self._points[name] = own
        self.names = tuple(sorted(self._points))

    def strategy(self, name: str) -> type[Strategy]:
        """The class registered under a name, or UnknownStrategy, DuplicateStrategy or BrokenStrategy."""
        return load(self._point(name))

    def release(self, name: str) -> str:
        """`vol_target==0.1.0`: a strategy's name and the version of the distribution that registers it, or
        UnknownStrategy, DuplicateStrategy or BrokenStrategy. Nothing is loaded."""
        point = self._point(name)
        if point.dist is None:
            raise broken(point, "is registered by no distribution and so has no version")
        return f"{name}=={point.dist.version}"

    def ships(self, name: str) -> bool:
        """Whether the strategy of that name is one of Ringfence's own."""
        return any(point.dist is not None and point.dist.name == OWN for point in self._points.get(name, ()))

    def _point(self, name: str) -> EntryPoint:
        points = self._points.get(name)
        if points is None:
            raise UnknownStrategy(name, self.names)
        if len(points) > 1:
            raise DuplicateStrategy(name, tuple(sorted(distribution(point) for point in points)))
        return points[0]

    def catalogue(self) -> Catalogue:
        """All of them; one that cannot be loaded takes no other along."""
        found: dict[str, type[Strategy]] = {}
        refused: list[RingfenceError] = []
        for name in self.names:
            try:
                found[name] = self.strategy(name)
            except (BrokenStrategy, DuplicateStrategy) as refusal:
                refused.append(refusal)
        refused += [broken(point, f"takes the name of a strategy of {OWN}, which keeps it") for point in self._usurped]
        return Catalogue(found, tuple(refused))

    def build(self, spec: Mapping[str, Any]) -> Strategy:
        """The strategy that `{name: ..., parameter: ...}` describes; InvalidParameters tells every problem at once."""
        if not isinstance(spec, Mapping):
            reason = f"{shown(spec)} is no strategy; expected a mapping with a name and its parameters"
            raise InvalidParameters("", [((), reason)])
        if "name" not in spec:
            raise InvalidParameters("", [(("name",), f"is missing; expected one of {', '.join(self.names)}")])
        strategy = self.strategy(str(spec["name"]))
        return build_of(strategy, {str(key): value for key, value in spec.items() if key != "name"})

    def problems(self, spec: Any, timeframe: int | None = None) -> list[Problem]:
        """All that is wrong with a specification, each with its path in it; with a timeframe in ms, whether the
        strategy can see bars of that length too."""
        try:
            strategy = self.build(spec)
            if timeframe is not None:
                bars_needed(strategy, timeframe)
        except InvalidParameters as refusal:
            return list(refusal.problems)
        except (UnknownStrategy, DuplicateStrategy, BrokenStrategy) as refusal:
            return [(("name",), str(refusal))]
        except TimeframeTooLong as refusal:
            return [((refusal.parameter,), str(refusal))]
        except RingfenceError as refusal:
            return [((), str(refusal))]
        return []


def build_of(strategy: type[Strategy], parameters: Mapping[str, Any]) -> Strategy:
    """A strategy of that class with parameters as a mandate writes them; every problem at once (InvalidParameters)."""
    try:
        return guarded(
            lambda: strategy.model_validate(dict(parameters)),
            lambda told: StrategyFailed(strategy.name, "validation", *told),
            strategy,
            (ValidationError,),
        )
    except ValidationError as refusal:
        found = [_problem(strategy, dict(error)) for error in refusal.errors(include_url=False)]
        raise InvalidParameters(strategy.name, found) from None


def _problem(strategy: type[Strategy], error: dict[str, Any]) -> Problem:
    """One of pydantic's complaints in plain words, with its place in the specification."""
    path = tuple(str(step) for step in error["loc"])
    known = {parameter.name: parameter for parameter in strategy.describe()}
    about = known.get(path[0]) if path else None
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden":
        listed = ", ".join(known)
        return path, f"is no parameter of {strategy.name}{did_you_mean(path[-1], known)} (known: {listed})"
    if kind == "missing" and about is not None:
        return path, f"is missing; {strategy.name} needs it: {about.meaning} ({about.unit})"
    if kind == "literal_error" and about is not None:
        choices = about.unit.split(" | ")
        return path, f"{shown(value)} is none of {', '.join(choices)}{did_you_mean(str(value), choices)}"
    if kind.startswith("bool"):
        return path, f"{shown(value)} is neither true nor false"
    message = str(error["msg"]).removeprefix("Value error, ")
    return path, message if kind in ("unit", "value_error") else f"{shown(value)}: {message}"


@cache
def _installed() -> Registry:
    """The registry of this environment; a plug-in installed later is seen by the next process."""
    return Registry(entry_points(group=GROUP))


def catalogue() -> Catalogue:
    """Every installed strategy by name, and why others that are registered cannot be used."""
    return _installed().catalogue()


@cache
def release(name: str) -> str:
    """An installed strategy by name and version, `vol_target==0.1.0` (UnknownStrategy, DuplicateStrategy)."""
    return _installed().release(name)


def ships(name: str) -> bool:
    """Whether the strategy of that name is one of Ringfence's own."""
    return _installed().ships(name)


def strategy(name: str) -> type[Strategy]:
    """The class of an installed strategy (UnknownStrategy, DuplicateStrategy, BrokenStrategy)."""
    return _installed().strategy(name)


def build(spec: Mapping[str, Any]) -> Strategy:
    """The strategy that `{name: ..., parameter: ...}` describes; every problem at once (InvalidParameters)."""
    return _installed().build(spec)


def problems(spec: Any, timeframe: int | None = None) -> list[Problem]:
    """(path, message) of everything that is wrong with a specification; empty when it can be built and, if a timeframe
    in ms is given, run on bars of that length."""
    return _installed().problems(spec, timeframe)
