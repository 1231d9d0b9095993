"""Mandates from files, checked against the strategies that are installed here."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ringfence.strategies.registry import build, problems
from ringfence.vaults.errors import MandateError, Problem
from ringfence.vaults.mandate.check import check_mandates, load_mandate
from ringfence.vaults.mandate.source import SIZE_MAX, read_yaml
from ringfence.vaults.mandate.terms import Mandate
from ringfence.words.units import UnitError, parse_duration

__all__ = ["check", "load", "mandate_files"]


def mandate_files(paths: Iterable[Path]) -> list[Path]:
    """The files, and those of the folders (*.yaml, *.yml) in order of their names; a path that cannot be read stays."""
    return list(_files(paths))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            inside = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml")) if path.is_dir() else []
        except (OSError, ValueError):
            inside = []
        yield from inside or [path]


def check(paths: Iterable[Path]) -> list[Problem]:
    """Every problem of the mandates in these files and folders: of each file, and of names that two of them share."""
    given = list(paths)
    found = [problem for file in mandate_files(given) for problem in _check_one(file)]
    return sorted({*found, *check_mandates(given)})


def _check_one(file: Path) -> list[Problem]:
    return check_mandates([file], check_strategy=_strategy_check(file), resolve_strategy=_with_defaults)


def load(paths: Iterable[Path]) -> list[Mandate]:
    """The mandates of these files and folders, in this order and each once; MandateError with every problem of all."""
    files = mandate_files(paths)
    found: dict[str, Mandate] = {}
    faults: list[Problem] = []
    named_twice = False
    for file in {_identity(file): file for file in files}.values():
        try:
            one = load_mandate(file, check_strategy=_strategy_check(file), resolve_strategy=_with_defaults)
        except MandateError as refusal:
            faults += refusal.problems
        else:
            named_twice |= one.name in found
            found[one.name] = one
    if named_twice:
        faults += check_mandates(files)
    if faults:
        raise MandateError(faults)
    return list(found.values())


def _identity(file: Path) -> Path:
    try:
        return file.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
        return file.absolute()


def _strategy_check(file: Path) -> Callable[[dict[str, Any]], list[tuple[tuple[Any, ...], str]]]:
    """What is wrong with a strategy's terms in this file, whose timeframe says how long its bars are."""
    timeframe = _timeframe(file)

    def check_strategy(terms: dict[str, Any]) -> list[tuple[tuple[Any, ...], str]]:
        return list(problems(terms, timeframe))

    return check_strategy


def _timeframe(file: Path) -> int | None:
    """The file's timeframe in ms; None where the file's own check will say what is wrong with it."""
    try:
        if not file.is_file():
            return None
        with file.open("rb") as stream:
            tree = read_yaml(stream.read(SIZE_MAX + 1), str(file)).tree
        return parse_duration(tree["timeframe"]) if isinstance(tree, Mapping) else None
    except (OSError, ValueError, KeyError, MandateError, UnitError):
        return None


def _with_defaults(terms: dict[str, Any]) -> dict[str, Any]:
    """The terms with the strategy's defaults, as a mandate would write them."""
    strategy = build(terms)
    written = strategy.model_dump(mode="json", by_alias=True)
    return {"name": strategy.name, **{key: value for key, value in written.items() if value is not None}}
