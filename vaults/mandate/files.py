"""Mandates in files and folders: each file is read once, and a name that two of them give is told at both places."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.check import (
    Checked,
    Checks,
    CheckStrategy,
    ResolveStrategy,
    check_file,
)
from ringfence.vaults.mandate.terms import Mandate
from ringfence.words.source import Problem, system_reason
from ringfence.words.units import shown

if TYPE_CHECKING:
    from ringfence.markets.instruments import Catalogue

__all__ = ["CheckedFiles", "check_mandates"]


@dataclass(frozen=True)
class CheckedFiles:
    """What files came to: every mandate that has no problem of its own, and every problem of all of them."""

    mandates: tuple[Mandate, ...]
    """In the order in which the files were given, those of a folder in order of their names."""
    problems: tuple[Problem, ...]
    """Sorted; none: the mandates may run together."""

    def sound(self) -> list[Mandate]:
        """The mandates, or MandateError with every problem."""
        if self.problems:
            raise MandateError(self.problems)
        return list(self.mandates)


def check_mandates(
    paths: Iterable[Path | str],
    *,
    check_strategy: CheckStrategy | None = None,
    resolve_strategy: ResolveStrategy | None = None,
    venues: Sequence[Path] | None = None,
) -> CheckedFiles:
    """The mandates in these files and folders (their *.yaml and *.yml), and all that is wrong with any of them.

    Hidden files of a folder are left out, and so are an editor's locks. A file that is named twice is one file. The
    checks are those of `load_mandate`. Symbols mean the shipped instruments and, over them, those of the tables in
    `venues` (files and folders) or, where that is None, of the folder `venues` beside each mandate; what is wrong with
    such a table is told as well.
    """
    problems: list[Problem] = []
    tables = _Tables(venues, problems)
    checked = [
        check_file(file, str(file), Checks(check_strategy, resolve_strategy, tables.beside(file).find))
        for file in _files(paths, problems)
    ]
    problems += (problem for file in checked for problem in file.problems)
    problems += _shared_names(checked)
    mandates = tuple(file.mandate for file in checked if file.mandate is not None)
    return CheckedFiles(mandates, tuple(sorted(set(problems))))


class _Tables:
    """The instruments that each mandate's symbols mean; every table is read once."""

    def __init__(self, venues: Sequence[Path] | None, problems: list[Problem]) -> None:
        self._venues, self._problems = venues, problems
        self._read: dict[tuple[Path, ...], Catalogue] = {}

    def beside(self, mandate: Path) -> "Catalogue":
        """With the tables for this mandate; those with problems are left out, and their problems told."""
        from ringfence.markets.tables import beside, check_tables, shipped  # here, since it loads numpy

        paths = tuple(beside([mandate]) if self._venues is None else self._venues)
        if paths not in self._read:
            checked = check_tables(paths)
            self._problems += checked.problems
            self._read[paths] = shipped().with_tables(checked.instruments)
        return self._read[paths]


def _shared_names(checked: Sequence[Checked]) -> Iterator[Problem]:
    """A name that several files give to their mandates, told in each of them; a file with other faults counts too."""
    sources = [file.source for file in checked if file.source is not None]
    named = [(source, source.tree.get("mandate"), source.locate(("mandate",))) for source in sources]
    for source, name, place in named:
        others = ", ".join(
            f"{other.file}:{line}:{column}"
            for other, same, (line, column) in named
            if same == name and (other.file, line, column) != (source.file, *place)
        )
        if isinstance(name, str) and others:
            reason = f"{shown(name)} is also the name of the mandate at {others}; a vault has one mandate"
            yield source.problem(("mandate",), reason)


def _files(paths: Iterable[Path | str], problems: list[Problem]) -> Iterator[Path]:
    """Each file once; of a folder that cannot be read or holds no mandate there is a problem instead."""
    seen: set[Path] = set()
    for given in paths:
        path = Path(given)
        inside = [path]
        try:
            if path.is_dir():
                inside = sorted(entry for entry in path.iterdir() if _is_mandate(entry))
                if not inside:
                    problems.append(Problem(str(path), 1, 1, "", "holds no mandate; expected files *.yaml"))
        except (OSError, ValueError) as error:
            problems.append(Problem(str(path), 1, 1, "", f"cannot be read: {system_reason(error)}"))
            continue
        for entry in inside:
            identity = _identity(entry)
            if identity not in seen:
                seen.add(identity)
                yield entry


def _is_mandate(entry: Path) -> bool:
    """Whether a file in a folder is meant as one: not an editor's lock (.#m.yaml), nor macOS's twin (._m.yaml)."""
    return entry.suffix in (".yaml", ".yml") and not entry.name.startswith((".", "~$", "#"))


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no file can have
        return path.absolute()
