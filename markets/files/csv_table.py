"""CSV: the header or its absence, the separator, and the line of whatever cannot be read."""

import contextlib
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ringfence.markets.errors import UnreadableFile
from ringfence.markets.files.contents import Content
from ringfence.markets.files.tables import CLOCK, NUMBER, Column, Table, array, arrow_bytes, first_line

__all__ = ["csv_table"]

_START = 1 << 16
"""Bytes in which header and first row must end."""
_NUMBER = re.compile(r"\s*[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\s*", re.ASCII)
_PREFACE = 3
"""Lines that may stand before the header: where the file is from, and whose it is."""
_LIKE = "Parquet, Feather, JSON or CSV, plain, .gz or .zip"


@dataclass(frozen=True, eq=False)
class _Csv:
    content: Content
    names: Sequence[str] | None
    example: Sequence[str]
    """The first row of values."""
    separator: str
    skipped: int
    """Lines before the first row of values."""

    @property
    def width(self) -> int:
        return len(self.example)

    @property
    def first_row(self) -> int:
        return self.skipped + 1

    @property
    def said(self) -> Mapping[str, str]:
        return {}

    def read(self, kinds: Mapping[int, str]) -> dict[int, Column]:
        import pyarrow
        import pyarrow.csv

        types = {str(place): self._type(place, kind) for place, kind in kinds.items()}
        try:
            found = pyarrow.csv.read_csv(
                arrow_bytes(self.content.body),
                read_options=pyarrow.csv.ReadOptions(
                    column_names=[str(place) for place in range(self.width)], skip_rows=self.skipped
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=self.separator),
                convert_options=pyarrow.csv.ConvertOptions(
                    include_columns=list(types), column_types=types, null_values=[], strings_can_be_null=False
                ),
            )
        except (pyarrow.ArrowException, UnicodeDecodeError) as error:
            with contextlib.suppress(csv.Error):
                self._blame_line(kinds)
            raise UnreadableFile(self.content.file, first_line(error), "plain CSV") from None
        return {
            place: np.array(found[str(place)].to_pylist(), dtype=object)
            if types[str(place)] == pyarrow.string()
            else array(found[str(place)].chunks)
            for place in kinds
        }

    def _type(self, place: int, kind: str) -> object:
        import pyarrow

        if kind == NUMBER:
            return pyarrow.float64()
        shown = self.example[place].strip()
        if kind == CLOCK and shown.lstrip("-").isdigit():
            return pyarrow.int64()
        return pyarrow.float64() if kind == CLOCK and _NUMBER.fullmatch(shown) else pyarrow.string()

    def _blame_line(self, kinds: Mapping[int, str]) -> None:
        """Finds the first row that pyarrow could not read, because it names rows but not lines of the file."""
        file = self.content.file
        for number, row in enumerate(_rows(self.content.body, self.separator), start=1):
            if number <= self.skipped or not row:
                continue
            if len(row) != self.width:
                raise UnreadableFile(file, f"{len(row)} cells", f"{self.width}", number)
            for place, kind in kinds.items():
                name = self.names[place] if self.names is not None else f"column {place + 1}"
                self._blame_cell(name, row[place], place, kind, number)

    def _blame_cell(self, name: str, cell: str, place: int, kind: str, number: int) -> None:
        if kind not in (CLOCK, NUMBER):
            return
        whole = kind == CLOCK and self.example[place].strip().lstrip("-").isdigit()
        try:
            int(cell) if whole else float(cell)
        except ValueError:
            if kind == CLOCK and not whole and not _NUMBER.fullmatch(self.example[place]):
                return
            expected = "a whole number, as in the rows before it" if whole else "a number"
            raise UnreadableFile(self.content.file, f"column {name} is {cell!r}", expected, number) from None


def csv_table(content: Content) -> Table:
    """The table in a file of separated values. Refused: UnreadableFile."""
    start = content.body[:_START]
    try:
        start.decode("utf-8-sig", errors="strict" if len(content.body) < _START else "ignore")
        if b"\0" in start:
            raise ValueError
        separator = _separator(start)
        lines = [line for line, _ in zip(_rows(start, separator), range(_PREFACE + 2), strict=False)]
    except (ValueError, csv.Error):
        raise UnreadableFile(content.file, "is not text", _LIKE) from None
    at = next((n for n, line in enumerate(lines) if len(line) > 1), 0)
    if not lines or not lines[at]:
        raise UnreadableFile(content.file, "is not text", _LIKE)
    if _values(lines[at]):
        return _Csv(content, None, lines[at], separator, at)
    rows = [line for line in lines[at + 1 :] if line]
    if not rows:
        raise UnreadableFile(content.file, "no rows below the header", "at least one row")
    names = [name.strip() for name in lines[at]]
    if len(rows[0]) != len(names):
        raise UnreadableFile(content.file, f"{len(rows[0])} cells", f"{len(names)} as in the header", at + 2)
    return _Csv(content, names, rows[0], separator, at + 1)


def _values(line: Sequence[str]) -> bool:
    """Whether a first line holds values and no names: numbers but for a time in the first place."""
    return bool(line[0][:1].isdigit()) and sum(bool(_NUMBER.fullmatch(cell)) for cell in line[1:5]) == len(line[1:5])


def _separator(start: bytes) -> str:
    lines = start.decode("utf-8-sig", errors="replace").splitlines()[: _PREFACE + 1]
    counts = {mark: max((line.count(mark) for line in lines), default=0) for mark in ",;\t|"}
    return max(counts, key=lambda mark: counts[mark])


def _rows(content: bytes, separator: str) -> Iterator[list[str]]:
    text = io.StringIO(content.decode("utf-8-sig", errors="replace"), newline="")
    return csv.reader(text, delimiter=separator)
