"""Mandates from files: read and checked whole, every fault told at once and in its place.

What a strategy's parameters mean is asked of functions that the caller passes in; this room imports no strategy.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ringfence.vaults.errors import MandateError, Problem
from ringfence.vaults.mandate.limits import compile_limits
from ringfence.vaults.mandate.schema import json_schema
from ringfence.vaults.mandate.source import SIZE_MAX, Path, Source, Tree, read_yaml
from ringfence.vaults.mandate.terms import (
    SHARE,
    Defaults,
    Distance,
    Mandate,
    MandateLimits,
    MarginCall,
    Position,
    Terms,
    Venue,
    Volatility,
    across,
    as_written,
)
from ringfence.words.refusal import RingfenceError
from ringfence.words.units import MultipleUnit, UnitError, parse_duration, shown

if TYPE_CHECKING:
    from ringfence.markets.instruments import Instrument

__all__ = ["Mandate", "Problem", "check_mandates", "compile_limits", "json_schema", "load_mandate"]

CheckStrategy = Callable[[dict[str, Any]], list[tuple[Path, str]]]
"""What is wrong with {"name": ..., parameter: value, ...}: paths inside it, and messages."""
ResolveStrategy = Callable[[dict[str, Any]], dict[str, Any]]
"""The same terms with the strategy's own defaults written out, so that a later default does not change a mandate."""
FindInstrument = Callable[[str], "Instrument"]
"""The instrument of a symbol, or a RingfenceError that names the nearest."""

_SYMBOL_MAX = 40
_LEVERAGE_MAX = Terms.model_fields["leverage_max"].default

_SECTIONS: dict[str, type[BaseModel]] = {
    "venue": Venue,
    "volatility": Volatility,
    "limits": MandateLimits,
    "defaults": Defaults,
    "liquidation_distance_min": Distance,
    "margin_call": MarginCall,
}


@dataclass(frozen=True)
class _Checks:
    strategy: CheckStrategy | None
    resolve: ResolveStrategy | None
    find: FindInstrument | None

    def instrument(self, symbol: str) -> "Instrument":
        if self.find is not None:
            return self.find(symbol)
        from ringfence.markets.instruments import instrument  # here, since it loads numpy and the venues' tables

        return instrument(symbol)


def load_mandate(
    source: FilePath | str | bytes,
    *,
    file: str | None = None,
    check_strategy: CheckStrategy | None = None,
    resolve_strategy: ResolveStrategy | None = None,
    find: FindInstrument | None = None,
) -> Mandate:
    """The mandate in a file (a pathlib.Path) or in a text (str or bytes, called `file` in messages).

    Either a whole, consistent mandate or MandateError with every problem found, sorted by line. `find` defaults to the
    shipped instruments; without `check_strategy` the strategies' names and parameters are not checked.
    """
    name = file or (str(source) if isinstance(source, FilePath) else "mandate")
    text = _text_of(source, name) if isinstance(source, FilePath) else source
    mandate, _, problems = _examine(text, name, _Checks(check_strategy, resolve_strategy, find))
    if mandate is None:
        raise MandateError(problems)
    return mandate


def check_mandates(
    paths: Iterable[FilePath | str],
    *,
    check_strategy: CheckStrategy | None = None,
    resolve_strategy: ResolveStrategy | None = None,
    find: FindInstrument | None = None,
) -> list[Problem]:
    """Every problem of the mandates in these files and folders (their *.yaml and *.yml), sorted; none: an empty list.

    A name that two files give to their mandates is a problem at both places.
    """
    checks = _Checks(check_strategy, resolve_strategy, find)
    problems: list[Problem] = []
    named: dict[str, list[tuple[Source, str]]] = {}
    for path in _files(paths, problems):
        try:
            _, source, found = _examine(_text_of(path, str(path)), str(path), checks)
        except MandateError as error:
            problems += error.problems
            continue
        problems += found
        if source is not None and isinstance(source.tree.get("mandate"), str):
            named.setdefault(source.tree["mandate"], []).append((source, _where(source)))
    for name, places in named.items():
        for source, here in places:
            others = ", ".join(place for _, place in places if place != here)
            if others:
                reason = f"{shown(name)} is also the name of the mandate at {others}; a vault has one mandate"
                problems.append(source.problem(("mandate",), reason))
    return sorted(set(problems))


def _where(source: Source) -> str:
    line, column = source.locate(("mandate",))
    return f"{source.file}:{line}:{column}"


def _files(paths: Iterable[FilePath | str], problems: list[Problem]) -> Iterator[FilePath]:
    seen: set[FilePath] = set()
    for given in paths:
        path = FilePath(given)
        inside = [path]
        try:
            if path.is_dir():
                inside = sorted(entry for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
                if not inside:
                    problems.append(Problem(str(path), 1, 1, "", "holds no mandate; expected files *.yaml"))
        except (OSError, ValueError) as error:
            problems.append(Problem(str(path), 1, 1, "", f"cannot be read: {_reason(error)}"))
            continue
        for entry in inside:
            identity = _identity(entry)
            if identity not in seen:
                seen.add(identity)
                yield entry


def _identity(path: FilePath) -> FilePath:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
        return path.absolute()


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _text_of(path: FilePath, name: str) -> bytes:
    """At most one byte more than a mandate may have, from a plain file."""
    try:
        if path.exists() and not path.is_file():
            raise MandateError([Problem(name, 1, 1, "", "is not a file; name a mandate's file")])
        with path.open("rb") as stream:
            return stream.read(SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        raise MandateError([Problem(name, 1, 1, "", f"cannot be read: {_reason(error)}")]) from None


def _examine(text: str | bytes, file: str, checks: _Checks) -> tuple[Mandate | None, Source | None, list[Problem]]:
    """(mandate, source, problems): the mandate if and only if there is no problem."""
    try:
        source = read_yaml(text, file)
    except MandateError as error:
        return None, None, list(error.problems)
    merged = _Merged(source)
    problems = [*source.problems, *merged.check(checks)]
    if problems:
        return None, source, problems
    if checks.resolve is not None:
        for position in merged.positions.values():
            position["strategy"] = checks.resolve(as_written(position["strategy"]))
    return Mandate.model_validate(merged.tree), source, []


class _Merged:
    """A source's tree with `defaults` merged under each position, and the way back to where each value was written."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tree: dict[str, Tree] = {key: value for key, value in source.tree.items() if key != "defaults"}
        defaults = source.tree.get("defaults", {})
        self.defaults = defaults if isinstance(defaults, dict) else {}
        self.inherited: set[Path] = set()
        given = self.tree.get("positions")
        self.positions: dict[str, dict[str, Tree]] = {}
        if isinstance(given, dict):
            self.positions = {
                name: self._with_defaults(name, terms) for name, terms in given.items() if isinstance(terms, dict)
            }
            self.tree["positions"] = {**given, **self.positions}

    def _with_defaults(self, name: str, terms: dict[str, Tree]) -> dict[str, Tree]:
        here: Path = ("positions", name)
        taken = [key for key in self.defaults if key not in terms and (*here, key) not in self.source.refused]
        self.inherited.update((*here, key) for key in taken if key in Defaults.model_fields)
        return {**{key: self.defaults[key] for key in taken if key in Defaults.model_fields}, **terms}

    def written(self, path: Path) -> Path:
        """Where the value at a path of the merged tree was written."""
        return ("defaults", *path[2:]) if path[:3] in self.inherited else path

    def problem(self, path: Path, message: str, *, key: bool = False) -> list[Problem]:
        path = self.written(path)
        if path in self.source.refused:  # told already, by the reader
            return []
        return [self.source.problem(path, message, key=key)]

    def check(self, checks: _Checks) -> list[Problem]:
        """Everything that is wrong, as far as each part can be understood on its own."""
        problems: list[Problem] = []
        for model, tree, at in (
            (Mandate, self.tree, ()),
            (Defaults, self.source.tree.get("defaults", {}), ("defaults",)),
        ):
            try:
                model.model_validate(tree)
            except ValidationError as error:
                problems += self._told(error, at)
        for path, message in (*self._across(), *self._against_instruments(checks), *self._strategies(checks)):
            problems += self.problem(path, message)
        return list(dict.fromkeys(problems))

    def _told(self, error: ValidationError, at: Path) -> Iterator[Problem]:
        for fault in error.errors(include_url=False):
            path: Path = (*at, *fault["loc"])
            kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
            if kind == "contradiction":
                for inner, message in context["found"]:
                    yield from self.problem((*path, *inner), message)
            elif kind == "extra_forbidden":
                yield from self.problem(path, _unknown_key(path), key=True)
            elif path[-1] == "[key]":
                yield from self.problem(path[:-1], fault["msg"], key=True)
            elif path == ("title",) and "title" not in self.tree:
                continue  # it is the name, whose own fault is told
            elif kind == "missing":
                yield from self.problem(path, f"is missing; {_EXPECTED[str(path[-1])]}", key=True)
            elif kind in ("model_type", "dict_type", "model_attributes_type"):
                found = "a list" if isinstance(value, list) else shown(value)
                yield from self.problem(path, f"{found} is no section; expected keys and values under it")
            elif kind == "literal_error":
                expected = context["expected"].replace("'", "")
                hint = _closest(shown(value), expected.replace(" or ", ", ").split(", "))
                yield from self.problem(path, f"{shown(value)} is not known{hint or f'; expected {expected}'}")
            elif not (path[-1] == "symbol" and isinstance(value, str) and len(path) == 3):
                yield from self.problem(path, fault["msg"])

    def _across(self) -> Iterator[tuple[Path, str]]:
        volatility = self.tree.get("volatility", {})
        window = volatility.get("window", "3d") if isinstance(volatility, dict) else None
        shares, symbols = {}, {}
        for name, terms in sorted(self.positions.items()):
            share = _read(SHARE.parse, terms.get("share"))
            if share is not None:
                shares[name] = int(share)
            if isinstance(terms.get("symbol"), str):
                symbols[name] = terms["symbol"]
        given = self.tree.get("positions")
        refused = [path for path in self.source.refused if len(path) == 2 and path[0] == "positions"]
        names = [*given, *refused] if isinstance(given, dict) else ["not known"]
        return across(
            _read(parse_duration, self.tree.get("timeframe")), _read(parse_duration, window), names, shares, symbols
        )

    def _against_instruments(self, checks: _Checks) -> Iterator[tuple[Path, str]]:
        currency = self.tree.get("currency")
        for name, terms in self.positions.items():
            symbol, at = terms.get("symbol"), ("positions", name, "symbol")
            if not isinstance(symbol, str):
                continue
            if len(symbol) > _SYMBOL_MAX:
                yield at, f"{shown(symbol)} is no symbol; expected one like BTC/USDT:USDT"
                continue
            try:
                instrument = checks.instrument(symbol)
            except RingfenceError as error:
                yield at, str(error)
                continue
            if instrument.kind == "inverse":
                reason = f"it settles in {instrument.settle}, the coin it bets on, and its margin would fall with it"
                yield at, f"{symbol} is inverse: {reason}; a mandate takes linear instruments only"
            elif isinstance(currency, str) and instrument.settle != currency:
                reason = f"the mandate's currency is {currency}; they must be equal"
                yield at, f"{symbol} settles in {instrument.settle}, {reason}"
            leverage = _read(MultipleUnit().parse, terms.get("leverage_max", _LEVERAGE_MAX))
            most = instrument.tiers[0].leverage_max
            if leverage is not None and leverage > most:
                reason = f"{leverage:g} is above {most:g}, the venue's highest for {symbol}"
                yield ("positions", name, "leverage_max"), reason

    def _strategies(self, checks: _Checks) -> Iterator[tuple[Path, str]]:
        for name, terms in self.positions.items():
            strategy = terms.get("strategy")
            if checks.strategy is None or not isinstance(strategy, dict) or not isinstance(strategy.get("name"), str):
                continue
            for path, message in checks.strategy(as_written(strategy)):
                yield ("positions", name, "strategy", *path), message


def _read(parse: Callable[[Any], Any], value: Any) -> Any:
    """What a value means, or None where its own check will say that it means nothing."""
    try:
        return parse(value)
    except UnitError:
        return None


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _section_of(path: Path) -> list[str]:
    """The keys that may stand beside the last part of a path."""
    above = path[:-1]
    if not above:
        return [*_names(Mandate), "defaults"]
    if above[0] == "positions" and len(above) == 2:
        return _names(Position)
    return _names(_SECTIONS[str(above[-1])])


def _closest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word[:_SYMBOL_MAX].lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _unknown_key(path: Path) -> str:
    key, known = str(path[-1]), _section_of(path)
    if path[0] == "defaults" and key in ("symbol", "share"):
        return "belongs to each position, not under defaults"
    hint = _closest(key, known)
    elsewhere = [name for name, model in _SECTIONS.items() if key in _names(model) and name != "defaults"]
    if key in _names(Position):
        elsewhere.append("a position" if key in ("symbol", "share") else "a position, or defaults")
    if key in (*_names(Mandate), "defaults"):
        elsewhere.append("the top level")
    if elsewhere:
        return f"unknown key here; it belongs under {' or '.join(elsewhere)}{hint}"
    return f"unknown key{hint or '; known here: ' + ', '.join(known)}"


_EXPECTED = {
    "mandate": "expected a name like btc-shield",
    "currency": "expected the currency that depositors pay in, like USDT",
    "loss_cap": "expected the most that may be lost from the high-water mark, like 20%",
    "timeframe": "expected the length of a slot, like 1h",
    "positions": "expected at least one position under it",
    "symbol": "expected a symbol like BTC/USDT:USDT",
    "share": "expected a share of the risk capital, like 45%",
    "strategy": "expected a strategy like {name: constant, leverage: 2}, here or under defaults",
    "name": "expected the strategy's name",
}
