"""Trials of strategies as a person asks for them: by name or by file, with parameters as a mandate writes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringfence.faces.errors import InputRefused
from ringfence.strategies.contract import Strategy
from ringfence.strategies.guard import bars_needed
from ringfence.strategies.plugins import strategies_of_file
from ringfence.strategies.registry import build_of, strategy
from ringfence.strategies.trials import Trial, exemplary, trials
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration
from ringfence.words.units import UnitError, parse_duration

__all__ = ["Tried", "tried"]


@dataclass(frozen=True)
class Tried:
    """One strategy with the parameters that it was tried with."""

    name: str
    parameters: dict[str, str]
    """Those stated and those chosen, as a mandate writes them."""
    lookback: int
    timeframe: int
    """Of the bars, ms."""
    trials: tuple[Trial, ...]

    @property
    def sound(self) -> bool:
        """Whether every trial holds."""
        return all(trial.refusal is None for trial in self.trials)

    def refusals(self) -> list[tuple[RingfenceError, list[str]]]:
        """What it is refused for, each kind once as it was met first, with the markets in which it was."""
        found: dict[tuple[object, ...], tuple[RingfenceError, list[str]]] = {}
        for trial in self.trials:
            if trial.refusal is not None:
                said = trial.refusal.fields()
                kind = (trial.refusal.code, *(said.get(name) for name in ("rule", "reason", "found", "place")))
                found.setdefault(kind, (trial.refusal, []))[1].append(trial.market)
        return list(found.values())

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "strategy": self.name,
            "parameters": self.parameters,
            "lookback": self.lookback,
            "timeframe": format_duration(self.timeframe),
            "sound": self.sound,
            "trials": [
                {
                    "market": trial.market,
                    "bars": trial.bars,
                    "cuts": trial.cuts,
                    "refusal": None if trial.refusal is None else trial.refusal.document(),
                }
                for trial in self.trials
            ],
        }


def tried(target: str, stated: Sequence[str], timeframe: str) -> list[Tried]:
    """Every strategy that `target` names, a file's one after the other, at every bar of each market.

    Refused: InputRefused, and what a strategy that cannot be loaded or built is refused for.
    """
    given, length = _parameters(stated), _timeframe(timeframe)
    return [_tried(kind, given, length) for kind in _kinds(target)]


def _tried(kind: type[Strategy], given: dict[str, str], timeframe: int) -> Tried:
    parameters = exemplary(kind, given, timeframe)
    built = build_of(kind, parameters)
    return Tried(kind.name, parameters, bars_needed(built, timeframe), timeframe, tuple(trials(built, timeframe)))


def _kinds(target: str) -> tuple[type[Strategy], ...]:
    path = Path(target)
    if path.suffix == ".py" or len(path.parts) > 1 or path.is_file():
        return strategies_of_file(path.expanduser())
    return (strategy(target),)


def _parameters(stated: Sequence[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for one in stated:
        name, equals, value = one.partition("=")
        if not equals or not name.strip():
            raise InputRefused("--set", one, "expected PARAMETER=VALUE, like window=3d")
        if name.strip() in given:
            raise InputRefused("--set", one, f"{name.strip()} is set twice")
        given[name.strip()] = value.strip()
    return given


def _timeframe(text: str) -> int:
    try:
        return parse_duration(text)
    except UnitError as refusal:
        raise InputRefused("--timeframe", "", str(refusal)) from None
