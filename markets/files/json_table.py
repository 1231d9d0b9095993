"""JSON as exchanges answer and libraries keep it: rows of values, rows with names, or a list for each name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ringfence.markets.errors import UnreadableFile
from ringfence.markets.files.contents import Content
from ringfence.markets.files.tables import CLOCK, NUMBER, Column, Table

__all__ = ["json_table"]

_ENVELOPE = ("result", "data", "list")
"""What the rows of an answer stand under, one inside the other."""
_ROWS = "rows of values, rows with names, or a list for each name"


@dataclass(frozen=True, eq=False)
class _Json:
    content: Content
    names: Sequence[str] | None
    columns: Sequence[Sequence[Any]]
    said: Mapping[str, str]
    first_row: int = 1

    @property
    def width(self) -> int:
        return len(self.columns)

    def read(self, kinds: Mapping[int, str]) -> dict[int, Column]:
        return {place: self._column(place, kind) for place, kind in kinds.items()}

    def _column(self, place: int, kind: str) -> Column:
        values = self.columns[place]
        if kind == NUMBER:
            return np.array([self._number(place, row, value) for row, value in enumerate(values)], np.float64)
        if kind != CLOCK:
            return np.array([str(value) for value in values], dtype=object)
        if all(type(value) is int and abs(value) < 1 << 62 for value in values):
            return np.array(values, np.int64)
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) == len(values) and not all(text.isdigit() and len(text) < 19 for text in texts):
            return np.array(values, dtype=object)
        if len(texts) == len(values):
            return np.array([int(text) for text in texts], np.int64)
        return np.array([self._number(place, row, value) for row, value in enumerate(values)], np.float64)

    def _number(self, place: int, row: int, value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            name = self.names[place] if self.names is not None else place + 1
            found = f"column {name} is {json.dumps(value)[:40]}"
            raise UnreadableFile(self.content.file, found, "a number", row + 1) from None


def json_table(content: Content) -> Table:
    """The table in a file of JSON. Refused: UnreadableFile."""
    try:
        held = json.loads(content.body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        found = f"broken JSON ({(str(error).splitlines() or ['too deep'])[0]})"
        raise UnreadableFile(content.file, found, "a whole file; download or copy it again") from None
    said: dict[str, str] = {}
    for name in _ENVELOPE:
        if isinstance(held, dict):
            said |= {key: value for key, value in held.items() if isinstance(value, str)}
            held = held.get(name, held)
    names, columns = _columns(content, held)
    if not columns or not len(columns[0]):
        raise UnreadableFile(content.file, "no rows", "at least one row")
    return _Json(content, names, columns, said)


def _columns(content: Content, held: Any) -> tuple[list[str] | None, list[Sequence[Any]]]:
    """Names, where there are some, and the columns, equally long."""
    if isinstance(held, dict):
        lists = {str(name): values for name, values in held.items() if isinstance(values, list)}
        longest = max((len(values) for values in lists.values()), default=0)
        whole = {name: values for name, values in lists.items() if len(values) == longest}
        return list(whole), list(whole.values())
    if not isinstance(held, list):
        raise UnreadableFile(content.file, f"holds one {type(held).__name__}", _ROWS)
    if not held:
        return None, []
    kind, names = type(held[0]), list(held[0]) if isinstance(held[0], dict) else None
    if kind not in (dict, list):
        raise UnreadableFile(content.file, f"row 1 is {json.dumps(held[0])[:40]}", _ROWS, 1)
    for row, values in enumerate(held):
        if type(values) is not kind or len(values) != len(held[0]) or (names is not None and list(values) != names):
            found = f"{'another set of names' if names is not None else 'another number of values'} than row 1"
            raise UnreadableFile(content.file, found, "the same in every row", row + 1)
    if names is not None:
        return [str(name) for name in names], [[row[name] for row in held] for name in names]
    return None, [list(column) for column in zip(*held, strict=True)]
