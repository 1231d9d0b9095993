"""One mandate's text: checked whole, every fault told at once and in its place.

What a strategy's parameters mean is asked of functions that the caller passes in; this room imports no strategy.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.recorded import not_shipped
from ringfence.vaults.mandate.terms import (
    SHARE,
    AtWall,
    Defaults,
    Distance,
    Mandate,
    MandateLimits,
    MarginCall,
    Position,
    Rebase,
    Terms,
    Venue,
    Volatility,
    across,
    as_written,
)
from ringfence.words.hints import did_you_mean
from ringfence.words.refusal import RingfenceError
from ringfence.words.source import Document, Path, Problem, Source, SourceRefused, Tree, file_text, read_yaml
from ringfence.words.units import MultipleUnit, UnitError, parse_duration, shown

if TYPE_CHECKING:
    from ringfence.markets.instruments import Instrument

__all__ = [
    "DOCUMENT",
    "CheckStrategy",
    "Checked",
    "Checks",
    "FindInstrument",
    "ResolveStrategy",
    "check_file",
    "check_text",
    "load_mandate",
]

CheckStrategy = Callable[[dict[str, Any], int | None], Sequence[tuple[Path, str]]]
"""What is wrong with {"name": ..., parameter: value, ...} on slots of so many ms (None: not known): paths in it, and
messages."""
ResolveStrategy = Callable[[dict[str, Any]], dict[str, Any]]
"""The same terms with the strategy's own defaults written out, so that a later default does not change a mandate."""
FindInstrument = Callable[[str], "Instrument"]
"""The instrument of a symbol, or a RingfenceError that names the nearest."""

DOCUMENT = Document("mandate", "mandate: btc-shield", "use `defaults`")

_SYMBOL_MAX = 65
_RECORDED = "instruments"
"""The mandate's field that a file cannot state."""
_NOTICE = Rebase.model_fields["notice"].default
_LEVERAGE_MAX = Terms.model_fields["leverage_max"].default

_SECTIONS: dict[str, type[BaseModel]] = {
    "venue": Venue,
    "volatility": Volatility,
    "limits": MandateLimits,
    "at_wall": AtWall,
    "rebase": Rebase,
    "defaults": Defaults,
    "liquidation_distance_min": Distance,
    "margin_call": MarginCall,
}


@dataclass(frozen=True)
class Checks:
    """What a mandate's own terms cannot answer, as functions of the rooms beside this one; None: not asked."""

    strategy: CheckStrategy | None = None
    resolve: ResolveStrategy | None = None
    find: FindInstrument | None = None
    """Defaults to the shipped instruments."""

    def instrument(self, symbol: str) -> "Instrument":
        if self.find is not None:
            return self.find(symbol)
        from ringfence.markets.tables import shipped  # here, since it loads numpy and the venues' tables

        return shipped().find(symbol)


@dataclass(frozen=True)
class Checked:
    """What a text came to: the mandate if and only if there is no problem."""

    mandate: Mandate | None
    source: Source | None
    """What was written, and where; None where it could not be read at all."""
    problems: tuple[Problem, ...]


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
    checks = Checks(check_strategy, resolve_strategy, find)
    checked = check_file(source, name, checks) if isinstance(source, FilePath) else check_text(source, name, checks)
    if checked.mandate is None:
        raise MandateError(checked.problems)
    return checked.mandate


def check_file(path: FilePath, name: str, checks: Checks) -> Checked:
    """As `check_text`, of what stands in a file; that it cannot be read is a problem like another."""
    try:
        text = file_text(path, name, DOCUMENT)
    except SourceRefused as error:
        return Checked(None, None, tuple(error.problems))
    return check_text(text, name, checks)


def check_text(text: str | bytes, file: str, checks: Checks) -> Checked:
    """Everything that is wrong with a mandate's text, which messages call `file`; the mandate if nothing is."""
    try:
        source = read_yaml(text, file, DOCUMENT)
    except SourceRefused as error:
        return Checked(None, None, tuple(error.problems))
    merged = _Merged(source)
    problems = (*source.problems, *merged.check(checks))
    if problems:
        return Checked(None, source, problems)
    if checks.resolve is not None:
        for position in merged.positions.values():
            position["strategy"] = checks.resolve(as_written(position["strategy"]))
    for name, traded in merged.traded.items():
        merged.positions[name]["symbol"] = traded.name
    tree = {**merged.tree, _RECORDED: not_shipped(merged.traded)}
    return Checked(Mandate.model_validate(tree), source, ())


class _Merged:
    """A source's tree with `defaults` merged under each position, and the way back to where each value was written."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tree: dict[str, Tree] = {
            key: value for key, value in source.tree.items() if key not in ("defaults", _RECORDED)
        }
        defaults = source.tree.get("defaults", {})
        self.defaults = defaults if isinstance(defaults, dict) else {}
        self.inherited: set[Path] = set()
        given = self.tree.get("positions")
        self.positions: dict[str, dict[str, Tree]] = {}
        self.traded: dict[str, Instrument] = {}
        """By position, once checked, as far as its symbol is known."""
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
        if path == ("at_wall", "then") and isinstance(self.tree.get("at_wall"), str):
            return ("at_wall",)
        return ("defaults", *path[2:]) if path[:3] in self.inherited else path

    def problem(self, path: Path, message: str, *, key: bool = False) -> list[Problem]:
        path = self.written(path)
        if path in self.source.refused:  # told already, by the reader
            return []
        return [self.source.problem(path, message, key=key)]

    def check(self, checks: Checks) -> list[Problem]:
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
        against = [*self._against_instruments(checks)]
        for path, message in (*self._across(), *against, *self._strategies(checks)):
            problems += self.problem(path, message)
        if _RECORDED in self.source.tree:
            reason = "is no key of a mandate; instruments stand in tables of their own, in a folder venues beside it"
            problems += self.problem((_RECORDED,), reason, key=True)
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
        at_wall = self.tree.get("at_wall", {})
        rebase = at_wall.get("rebase") if isinstance(at_wall, dict) else {} if at_wall == "rebase" else None
        notice = rebase.get("notice", _NOTICE) if isinstance(rebase, dict) else None
        shares, symbols = {}, {}
        for name, terms in sorted(self.positions.items()):
            share = _read(SHARE.parse, terms.get("share"))
            if share is not None:
                shares[name] = int(share)
            if isinstance(terms.get("symbol"), str):
                symbols[name] = self.traded[name].name if name in self.traded else terms["symbol"]
        given = self.tree.get("positions")
        refused = [path for path in self.source.refused if len(path) == 2 and path[0] == "positions"]
        names = [*given, *refused] if isinstance(given, dict) else ["not known"]
        return across(
            _read(parse_duration, self.tree.get("timeframe")),
            _read(parse_duration, window),
            _read(parse_duration, notice),
            names,
            shares,
            symbols,
        )

    def _against_instruments(self, checks: Checks) -> Iterator[tuple[Path, str]]:
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
            self.traded[name] = instrument
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

    def _strategies(self, checks: Checks) -> Iterator[tuple[Path, str]]:
        timeframe = _read(parse_duration, self.tree.get("timeframe"))
        for name, terms in self.positions.items():
            strategy = terms.get("strategy")
            if checks.strategy is None or not isinstance(strategy, dict) or not isinstance(strategy.get("name"), str):
                continue
            for path, message in checks.strategy(as_written(strategy), timeframe):
                yield ("positions", name, "strategy", *path), message


def _read(parse: Callable[[Any], Any], value: Any) -> Any:
    """What a value means, or None where its own check will say that it means nothing."""
    try:
        return parse(value)
    except UnitError:
        return None


def _names(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items() if name != _RECORDED]


def _section_of(path: Path) -> list[str]:
    """The keys that may stand beside the last part of a path."""
    above = path[:-1]
    if not above:
        return [*_names(Mandate), "defaults"]
    if above[0] == "positions" and len(above) == 2:
        return _names(Position)
    return _names(_SECTIONS[str(above[-1])])


def _closest(word: str, known: Iterable[str]) -> str:
    return did_you_mean(word[:_SYMBOL_MAX], known)


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
