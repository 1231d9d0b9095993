"""Plug-ins: from an entry point, or a file, to the classes that are strategies, behind the guard."""

import inspect
import sys
from importlib.metadata import EntryPoint
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import BrokenStrategy, StrategyFileRefused
from ringfence.strategies.guard import guarded, place_of_method

__all__ = ["GROUP", "broken", "distribution", "load", "strategies_of_file"]

GROUP = "ringfence.strategies"

_METHODS = {"propose": "leverage", "lookback": "window"}
"""What a strategy defines, and what it was called before."""
_MODULE = "ringfence_strategy_file"


def distribution(point: EntryPoint) -> str:
    """`name version` of the distribution that registers an entry point."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "(unknown)"


def broken(point: EntryPoint, reason: str, place: str = "") -> BrokenStrategy:
    """The refusal of what an entry point registers."""
    return BrokenStrategy(point.name, point.value, distribution(point), reason, place)


def load(point: EntryPoint) -> type[Strategy]:
    """The strategy's class that an entry point names, or BrokenStrategy."""
    module = point.value.partition(":")[0].strip()
    strategy = guarded(point.load, lambda told: broken(point, f"cannot be imported, {told[0]}", told[1]), module)
    if not (isinstance(strategy, type) and issubclass(strategy, Strategy)):
        raise broken(point, "is no subclass of ringfence.Strategy")
    fault = _fault(strategy)
    if not fault and getattr(strategy, "name", None) != point.name:
        fault = f"calls itself {getattr(strategy, 'name', None)!r}; expected {point.name!r}"
    if fault:
        raise broken(point, fault)
    return strategy


def strategies_of_file(path: Path) -> tuple[type[Strategy], ...]:
    """The strategies that a Python file defines itself, in its order. Its folder may be imported from, after all
    others.

    Refused: StrategyFileRefused.
    """
    if not path.is_file():
        raise StrategyFileRefused(path, "is no file; expected a Python file that defines a ringfence.Strategy")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # and it stays, since imports may be late
    module = guarded(
        lambda: _run(path), lambda told: StrategyFileRefused(path, f"cannot be run, {told[0]}", told[1]), _MODULE
    )
    found = [
        member
        for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, Strategy) and member.__module__ == _MODULE
    ]
    if not found:
        reason = "defines no strategy; expected a class derived from ringfence.Strategy with propose and lookback"
        raise StrategyFileRefused(path, reason)
    bases = {base for strategy in found for base in strategy.__mro__[1:]}
    strategies = tuple(kind for kind in dict.fromkeys(found) if not (inspect.isabstract(kind) and kind in bases))
    for strategy in strategies:
        fault = _fault(strategy)
        if not fault and not isinstance(getattr(strategy, "name", None), str):
            fault = 'has no name; expected name: ClassVar[str] = "..."'
        if fault:
            raise StrategyFileRefused(path, f"{strategy.__name__} {fault}", place_of_method(strategy, "propose"))
    return strategies


def _run(path: Path) -> ModuleType:
    spec = spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file; its name ends in .py")
    module = module_from_spec(spec)
    sys.modules[_MODULE] = module  # where pydantic looks for the names in annotations
    spec.loader.exec_module(module)
    return module


def _fault(strategy: type[Strategy]) -> str:
    """What keeps a class from being a strategy, or ""."""
    for method in _METHODS:
        if method in strategy.model_fields:
            way_out = f'give the field another name and alias="{method}"'
            return f"has a parameter of the name of its method {method}; {way_out}"
    if inspect.isabstract(strategy):
        return "; ".join(_missing(strategy, method) for method in sorted(strategy.__abstractmethods__))
    return ""


def _missing(strategy: type[Strategy], method: str) -> str:
    former = _METHODS.get(method, "")
    if inspect.isfunction(getattr(strategy, former, None)):
        return f"calls its method `{former}`; it is `{method}` now"
    return f"does not define {method}"
