"""The registry: which strategies are installed, and how a mandate's words become one of them.

Built-ins and strangers come through the same door, the entry point group `ringfence.strategies`. A strategy is loaded
when it is asked for by name, so a broken plug-in stops the vaults that use it and no others.
"""

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from ringfence.strategies.contract import Strategy, bars_needed
from ringfence.strategies.errors import (
    BrokenStrategy,
    DuplicateStrategy,
    InvalidParameters,
    Problem,
    StrategyFailed,
    TimeframeTooLong,
    UnknownStrategy,
)
from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.units import shown

__all__ = ["GROUP", "Registry", "build", "problems", "release", "strategies"]

GROUP = "ringfence.strategies"
_METHODS = {"propose": "leverage", "lookback": "window"}
"""What a strategy defines, and what it was called before."""


class Registry:
    """The strategies that a set of entry points registers, by name."""

    def __init__(self, points: Iterable[EntryPoint]) -> None:
        self._points: dict[str, list[EntryPoint]] = {}
        for point in points:
            self._points.setdefault(point.name, []).append(point)
        self.names = tuple(sorted(self._points))

    def strategy(self, name: str) -> type[Strategy]:
        """The class registered under a name, or UnknownStrategy, DuplicateStrategy or BrokenStrategy."""
        return _loaded(self._point(name))

    def release(self, name: str) -> str:
        """`vol_target==0.1.0`: a strategy's name and the version of the distribution that registers it, or
        UnknownStrategy, DuplicateStrategy or BrokenStrategy. Nothing is loaded."""
        point = self._point(name)
        if point.dist is None:
            raise _broken(point, "is registered by no distribution and so has no version")
        return f"{name}=={point.dist.version}"

    def _point(self, name: str) -> EntryPoint:
        points = self._points.get(name)
        if points is None:
            raise UnknownStrategy(name, self.names)
        if len(points) > 1:
            raise DuplicateStrategy(name, tuple(sorted(_distribution(point) for point in points)))
        return points[0]

    def strategies(self) -> dict[str, type[Strategy]]:
        """All of them in order of their names; one that cannot be loaded is refused by name."""
        return {name: self.strategy(name) for name in self.names}

    def build(self, spec: Mapping[str, Any]) -> Strategy:
        """The strategy that `{name: ..., parameter: ...}` describes; InvalidParameters tells every problem at once."""
        if not isinstance(spec, Mapping):
            reason = f"{shown(spec)} is no strategy; expected a mapping with a name and its parameters"
            raise InvalidParameters("", [((), reason)])
        if "name" not in spec:
            raise InvalidParameters("", [(("name",), f"is missing; expected one of {', '.join(self.names)}")])
        strategy = self.strategy(str(spec["name"]))
        parameters = {str(key): value for key, value in spec.items() if key != "name"}
        try:
            return strategy.model_validate(parameters)
        except ValidationError as refusal:
            found = [_problem(strategy, dict(error)) for error in refusal.errors(include_url=False)]
            raise InvalidParameters(strategy.name, found) from None
        except Exception as failure:  # a stranger's validator may raise anything
            raise StrategyFailed(strategy.name, "validation", f"{type(failure).__name__}: {failure}") from failure

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


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "(unknown)"


def _broken(point: EntryPoint, reason: str) -> BrokenStrategy:
    return BrokenStrategy(point.name, point.value, _distribution(point), reason)


def _loaded(point: EntryPoint) -> type[Strategy]:
    try:
        strategy = point.load()
    except Exception as failure:  # a stranger's module may raise anything
        raise _broken(point, f"cannot be imported, {type(failure).__name__}: {failure}") from failure
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise _broken(point, "is no subclass of ringfence.Strategy")
    for method in _METHODS:
        if method in strategy.model_fields:
            way_out = f'give the field another name and alias="{method}"'
            raise _broken(point, f"has a parameter of the name of its method {method}; {way_out}")
    if inspect.isabstract(strategy):
        raise _broken(point, "; ".join(_missing(strategy, method) for method in sorted(strategy.__abstractmethods__)))
    if getattr(strategy, "name", None) != point.name:
        raise _broken(point, f"calls itself {getattr(strategy, 'name', None)!r}; expected {point.name!r}")
    return strategy


def _missing(strategy: type[Strategy], method: str) -> str:
    former = _METHODS.get(method, "")
    if inspect.isfunction(getattr(strategy, former, None)):
        return f"calls its method `{former}`; it is `{method}` now"
    return f"does not define {method}"


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


def strategies() -> dict[str, type[Strategy]]:
    """Every installed strategy by name, in order of the names (BrokenStrategy, DuplicateStrategy)."""
    return _installed().strategies()


@cache
def release(name: str) -> str:
    """An installed strategy by name and version, `vol_target==0.1.0` (UnknownStrategy, DuplicateStrategy)."""
    return _installed().release(name)


def build(spec: Mapping[str, Any]) -> Strategy:
    """The strategy that `{name: ..., parameter: ...}` describes; every problem at once (InvalidParameters)."""
    return _installed().build(spec)


def problems(spec: Any, timeframe: int | None = None) -> list[Problem]:
    """(path, message) of everything that is wrong with a specification; empty when it can be built and, if a timeframe
    in ms is given, run on bars of that length."""
    return _installed().problems(spec, timeframe)
