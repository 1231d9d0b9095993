"""Tables of instruments: one YAML file a venue, read as strictly as mandates, with every fault told in its place.

    venue: binance
    title: Binance USD-M perpetuals
    valid_from: "2024-10-01"
    source: where the figures come from
    contract_size: 1
    taker_fee: 0.05%
    instruments:
      BTC/USDT:USDT:
        lot: 0.001
        tiers:
          - {from: 0, to: 50000, rate: 0.4%, leverage_max: 125, deduction: 0}

What stands above `instruments` holds for all of them that do not state their own. Amounts are in whole units of the
settlement currency, a lot is in contracts, a contract in units of the base currency (inverse: of the quote currency).
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib import resources
from pathlib import Path as FilePath
from typing import Any, Final

from ringfence.markets.errors import InvalidInstrument, VenueError
from ringfence.markets.instruments import MILLION, Catalogue, Instrument, instrument_from
from ringfence.words.hints import did_you_mean
from ringfence.words.source import (
    Document,
    Path,
    Problem,
    Source,
    SourceRefused,
    Tree,
    file_text,
    read_yaml,
    system_reason,
)
from ringfence.words.units import Fee, MultipleUnit, Percentage, UnitError, shown

__all__ = [
    "DOCUMENT",
    "FOLDER",
    "CheckedTables",
    "beside",
    "check_tables",
    "shipped",
    "stands_for",
    "table_of",
]

DOCUMENT = Document(
    "venue table", "venue: binance", "state the value once, above `instruments`", 4 * 1024 * 1024, 100_000
)
FOLDER: Final = "venues"
"""Tables in a folder of this name beside a mandate are its own."""

_TEXT_MAX = 2_000
_RATE = Percentage("maintenance rate", high="0.99", low_open=True, ppm=True)
_FEE: Percentage = Fee.__metadata__[0]  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------------- what is read


@dataclass(frozen=True)
class CheckedTables:
    """What tables came to: their instruments, and all that is wrong with any of them."""

    instruments: tuple[Instrument, ...]
    """In the order of the files, and of each file."""
    problems: tuple[Problem, ...]
    """Sorted; none: the instruments may be traded."""

    def over(self, catalogue: Catalogue) -> Catalogue:
        """The catalogue with these instruments over its own, or VenueError with every problem."""
        if self.problems:
            raise VenueError(self.problems)
        return catalogue.with_tables(self.instruments)


@functools.cache
def shipped() -> Catalogue:
    """The instruments that come with the program. A table that was shipped is never changed: vaults live by it."""
    found: list[Instrument] = []
    tables = resources.files("ringfence.markets").joinpath("venues")
    for table in sorted(tables.iterdir(), key=lambda entry: entry.name):
        if table.name.endswith(".yaml"):
            found += table_of(table.read_bytes(), table.name)
    return Catalogue(tuple(found))


def table_of(text: str | bytes, file: str) -> tuple[Instrument, ...]:
    """The instruments of one table's text, which messages call `file`; VenueError with every problem."""
    checked = _check_text(text, file)
    if checked.problems:
        raise VenueError(checked.problems)
    return tuple(read.instrument for read in checked.found)


def beside(mandates: Iterable[FilePath | str]) -> list[FilePath]:
    """The folders `venues` that stand beside these mandate files, or in these folders of mandates, each once."""
    folders = [path if path.is_dir() else path.parent for path in map(FilePath, mandates)]
    return [folder for folder in dict.fromkeys(folder / FOLDER for folder in folders) if folder.is_dir()]


def check_tables(paths: Iterable[FilePath | str]) -> CheckedTables:
    """The instruments of these files and folders (their *.yaml and *.yml); an instrument that two of them give is
    told at both places."""
    problems: list[Problem] = []
    checked = [_check_file(file) for file in _files(paths, problems)]
    problems += (problem for table in checked for problem in table.problems)
    found = [read for table in checked for read in table.found]
    problems += _given_twice(found)
    return CheckedTables(tuple(read.instrument for read in found), tuple(sorted(set(problems))))


def stands_for(own: Instrument) -> str:
    """What a person must know of an instrument that stands in place of a shipped one; nothing where it does not."""
    replaced = shipped().replaced_by(own)
    if replaced is None:
        return ""
    return f"{own.name}: your table of {own.valid_from} stands in place of the shipped one of {replaced.valid_from}"


@dataclass(frozen=True)
class _Read:
    """An instrument, and where its key stands."""

    instrument: Instrument
    file: str
    place: tuple[int, int]


@dataclass(frozen=True)
class _CheckedText:
    found: tuple[_Read, ...]
    problems: tuple[Problem, ...]


def _given_twice(found: Sequence[_Read]) -> Iterator[Problem]:
    by_key: dict[str, list[_Read]] = {}
    for read in found:
        by_key.setdefault(read.instrument.key, []).append(read)
    for key, several in by_key.items():
        for read in several[1:] and several:
            line, column = read.place
            others = ", ".join(f"{one.file}:{one.place[0]}:{one.place[1]}" for one in several if one is not read)
            reason = f"{key} is also given at {others}; one table gives an instrument's terms"
            yield Problem(read.file, line, column, f"instruments.{read.instrument.symbol}", reason)


def _files(paths: Iterable[FilePath | str], problems: list[Problem]) -> Iterator[FilePath]:
    """Each file once; of a folder that cannot be read or holds no table there is a problem instead."""
    seen: set[FilePath] = set()
    for path in map(FilePath, paths):
        inside = [path]
        try:
            if path.is_dir():
                tables = (entry for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
                inside = sorted(entry for entry in tables if not entry.name.startswith("."))
                if not inside:
                    problems.append(Problem(str(path), 1, 1, "", "holds no venue table; expected files *.yaml"))
        except (OSError, ValueError) as error:
            problems.append(Problem(str(path), 1, 1, "", f"cannot be read: {system_reason(error)}"))
            continue
        for entry in inside:
            if (identity := entry.absolute()) not in seen:
                seen.add(identity)
                yield entry


def _check_file(path: FilePath) -> _CheckedText:
    try:
        text = file_text(path, str(path), DOCUMENT)
    except SourceRefused as error:
        return _CheckedText((), tuple(error.problems))
    return _check_text(text, str(path))


def _check_text(text: str | bytes, file: str) -> _CheckedText:
    try:
        source = read_yaml(text, file, DOCUMENT)
    except SourceRefused as error:
        return _CheckedText((), tuple(error.problems))
    reader = _Reader(source)
    found = tuple(reader.instruments())
    return _CheckedText(found, (*source.problems, *reader.problems))


# ---------------------------------------------------------------------------------------------------- one table


def _decimal(value: Tree) -> Decimal:
    if not isinstance(value, Decimal):
        raise UnitError(value, "is not a number; write it like 0.001")
    return value


def _fraction(unit: Percentage) -> Callable[[Tree], Decimal]:
    return lambda value: Decimal(unit.parse(value)) / MILLION


def _leverage(value: Tree) -> float:
    return MultipleUnit().parse(value)


def _text(value: Tree) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _TEXT_MAX:
        raise UnitError(value, f"is no text of at most {_TEXT_MAX} characters; write some words")
    return value


def _day(value: Tree) -> str:
    try:
        return date.fromisoformat(_text(value)).isoformat()
    except (UnitError, ValueError):
        raise UnitError(value, 'is no day; write it in quotes, like "2024-10-01"') from None


_Unit = Callable[[Tree], Any]
"""What a value means, or UnitError with the way to write it."""
TERMS: Final[Mapping[str, _Unit]] = {
    "contract_size": _decimal,
    "lot": _decimal,
    "tick": _decimal,
    "notional_min": _decimal,
    "taker_fee": _fraction(_FEE),
    "maker_fee": _fraction(_FEE),
    "liquidation_fee": _fraction(_FEE),
    "valid_from": _day,
    "source": _text,
}
"""What every instrument has, stated by itself or above `instruments`."""
_SHARED: Final[Mapping[str, _Unit]] = {"venue": _text, "title": _text, **TERMS}
"""What may stand above `instruments`."""
_TIER: Final[Mapping[str, _Unit]] = {
    "from": _decimal,
    "to": _decimal,
    "rate": _fraction(_RATE),
    "leverage_max": _leverage,
    "deduction": _decimal,
}
_TIER_EXAMPLE: Final = "one like {from: 0, rate: 0.4%, leverage_max: 125}"
_OPTIONAL_IN_TIER: Final = ("to", "deduction")
_NAME_IN_TABLE: Final = {"floor": "from", "cap": "to"}
_EXPECTED: Final = {
    "venue": "expected a venue's short name like binance",
    "instruments": "expected at least one instrument under it",
    "contract_size": "expected what one contract is, in the base currency, like 1",
    "lot": "expected the smallest step of a quantity, in contracts, like 0.001",
    "tick": "expected the smallest step of a price, like 0.1",
    "notional_min": "expected the smallest order's value in the settlement currency, like 5, or 0",
    "taker_fee": "expected a part of the fill's value, like 0.05%",
    "maker_fee": "expected a part of the fill's value, like 0.02%",
    "liquidation_fee": "expected a part of the liquidation fill's value, like 1.25%",
    "valid_from": 'expected the day from which the venue asks these terms, in quotes, like "2024-10-01"',
    "source": "expected where the figures come from",
    "tiers": f"expected a list of tiers, {_TIER_EXAMPLE}",
    "from": "expected the notional from which the tier holds, like 50000",
    "rate": "expected the maintenance rate, like 0.5%",
    "leverage_max": "expected the highest leverage, like 100",
}


class _Reader:
    """What a table's tree means; whatever means nothing is a problem in its place."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.problems: list[Problem] = []

    def instruments(self) -> Iterator[_Read]:
        """Every instrument that has no problem of its own, of a table whose shared terms have none."""
        tree = self.source.tree
        self._unknown((), tree, ("venue", "title", *TERMS, "instruments"))
        shared = self._values((), {key: value for key, value in tree.items() if key in _SHARED}, _SHARED)
        if "venue" not in tree:
            self._missing(("venue",))
        listed = tree.get("instruments")
        if listed is None:
            self._missing(("instruments",))
        elif not isinstance(listed, dict) or not listed:
            self._problem(("instruments",), f"{shown(listed)} is no section; {_EXPECTED['instruments']}")
        else:
            sound = not self.problems and not self.source.refused
            for symbol, terms in listed.items():
                found = self._listed(symbol, terms, shared)
                if found is not None and sound:
                    yield _Read(found, self.source.file, self.source.locate_key(("instruments", symbol)))

    def _listed(self, symbol: str, terms: Tree, shared: Mapping[str, Any]) -> Instrument | None:
        """The instrument of a symbol, or None with its problems told."""
        path: Path = ("instruments", symbol)
        if not isinstance(terms, dict):
            self._problem(path, f"{shown(terms)} is no section; expected lot, tick, tiers, ... under it")
            return None
        before = len(self.problems)
        self._unknown(path, terms, (*TERMS, "tiers"))
        entry = self._values(path, {key: value for key, value in terms.items() if key in TERMS}, TERMS)
        for key in TERMS:
            if key not in terms and key not in self.source.tree and (key,) not in self.source.refused:
                self._missing((*path, key))
        entry["tiers"] = self._tiers((*path, "tiers"), terms.get("tiers"))
        understood = all(key in entry or key in shared for key in ("venue", *TERMS))
        if len(self.problems) > before or self.source.refused or not understood:
            return None
        try:
            return instrument_from({**entry, "symbol": symbol}, shared)
        except InvalidInstrument as fault:
            self._refused(path, terms, fault)
            return None

    def _refused(self, path: Path, terms: Mapping[str, Tree], fault: InvalidInstrument) -> None:
        """A fault of values that were each understood, at the value: the instrument's own, or the shared one."""
        inner = tuple(_NAME_IN_TABLE.get(str(step), step) for step in fault.path)
        if inner == ("symbol",):
            self._problem(path, f"{shown(fault.value)} is no symbol; expected {fault.expected}", key=True)
            return
        stands = (*path, *inner) if inner and inner[0] in terms else inner
        told = f"{fault.field} is {shown(fault.value)}; expected {fault.expected}"
        self._problem(stands, told)

    def _tiers(self, path: Path, stated: Tree) -> list[list[Any]]:
        rows: list[list[Any]] = []
        if stated is None:
            self._missing(path)
        elif not isinstance(stated, list):
            self._problem(path, f"{shown(stated)} is no list; {_EXPECTED['tiers']}")
        else:
            for number, tier in enumerate(stated):
                rows += self._tier((*path, number), tier)
        return rows

    def _tier(self, path: Path, tier: Tree) -> list[list[Any]]:
        if not isinstance(tier, dict):
            self._problem(path, f"{shown(tier)} is no tier; expected {_TIER_EXAMPLE}")
            return []
        self._unknown(path, tier, tuple(_TIER))
        values = self._values(path, {key: value for key, value in tier.items() if key in _TIER}, _TIER)
        for key in _TIER:
            if key not in tier and key not in _OPTIONAL_IN_TIER:
                self._missing((*path, key))
        return [[values.get(key) for key in _TIER]]

    def _values(self, path: Path, tree: Mapping[str, Tree], units: Mapping[str, _Unit]) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for key, value in tree.items():
            try:
                read[key] = units[key](value)
            except UnitError as refusal:
                self._problem((*path, key), str(refusal))
        return read

    def _unknown(self, path: Path, tree: Mapping[str, Tree], known: Sequence[str]) -> None:
        for key in tree:
            if key not in known:
                hint = did_you_mean(key, known) or f"; known here: {', '.join(known)}"
                self._problem((*path, key), f"unknown key{hint}", key=True)

    def _missing(self, path: Path) -> None:
        if path not in self.source.refused:
            self._problem(path, f"is missing; {_EXPECTED[str(path[-1])]}", key=True)

    def _problem(self, path: Path, message: str, *, key: bool = False) -> None:
        self.problems.append(self.source.problem(path, message, key=key))
