"""Columns out of a file's bytes: Parquet, Feather, JSON and CSV behind one face, every refusal with its row.

Nothing that Python owns is handed to pyarrow's threads: a process that ends while one of them still lets go of it dies
of SIGABRT in place of its exit code, so that the bytes are copied into memory of pyarrow's own first.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ringfence.markets.errors import UnreadableFile
from ringfence.markets.files.contents import UNPACKED_MAX, Content

if TYPE_CHECKING:
    import pyarrow

__all__ = ["CLOCK", "NUMBER", "TEXT", "Column", "Table", "array", "arrow_bytes", "first_line", "table"]

Column = npt.NDArray[Any]
CLOCK, NUMBER, TEXT = "clock", "number", "text"
"""What a column is read as: times (int64, float64, datetime64 or texts), float64, texts."""
_VALUE, _COLUMNS = 8, 6
"""What a row takes in memory: bytes of a value, and columns that are read."""


class Table(Protocol):
    """A file's columns by place."""

    @property
    def names(self) -> Sequence[str] | None:
        """What the columns are called; None where the file does not say."""

    @property
    def width(self) -> int:
        """How many there are."""

    @property
    def first_row(self) -> int:
        """The line of a text file, or the row of any other, that the first values stand in."""

    @property
    def said(self) -> Mapping[str, str]:
        """What the file says outside its rows, like the symbol in an answer's envelope."""

    def read(self, kinds: Mapping[int, str]) -> dict[int, Column]:
        """The columns at these places as CLOCK, NUMBER or TEXT; at least one row. Refused: UnreadableFile."""


def table(content: Content) -> Table:
    """The table in a file. Refused: UnreadableFile."""
    from ringfence.markets.files.csv_table import csv_table
    from ringfence.markets.files.json_table import json_table

    body = content.body
    if body[:4] == b"PAR1":
        return _parquet(content)
    if body[:6] == b"ARROW1":
        return _feather(content)
    if body[:4] == b"FEA1":
        raise UnreadableFile(content.file, "is Feather of version 1", "version 2, which pandas and polars write today")
    start = body[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return json_table(content) if start[:1] in (b"[", b"{") else csv_table(content)


def first_line(error: Exception) -> str:
    """An error's first line, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def arrow_bytes(body: bytes) -> "pyarrow.BufferReader":
    """The bytes as a file in pyarrow's own memory."""
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    sink.write(body)
    return pyarrow.BufferReader(sink.getvalue())


# ---------------------------------------------------------------------------------------------------- Parquet, Feather


@dataclass(frozen=True, eq=False)
class _Arrow:
    content: Content
    names: Sequence[str]
    rows: "Callable[[list[str]], pyarrow.Table]"
    first_row: int = 1

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def said(self) -> Mapping[str, str]:
        return {}

    def read(self, kinds: Mapping[int, str]) -> dict[int, Column]:
        with _whole(self.content):
            found = self.rows([self.names[place] for place in kinds])
        if not found.num_rows:
            raise UnreadableFile(self.content.file, "no rows", "at least one row")
        return {
            place: _plain(self.content, self.names[place], found.column(self.names[place]), kind)
            for place, kind in kinds.items()
        }


@contextmanager
def _whole(content: Content) -> Iterator[None]:
    """What pyarrow makes of a damaged file, as a refusal."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        found = f"broken {'Parquet' if content.body[:4] == b'PAR1' else 'Feather'} ({first_line(error)})"
        raise UnreadableFile(content.file, found, "a whole file; download or copy it again") from None


def _parquet(content: Content) -> Table:
    import pyarrow.parquet

    with _whole(content):
        parquet = pyarrow.parquet.ParquetFile(arrow_bytes(content.body))
        rows, names = parquet.metadata.num_rows, parquet.schema_arrow.names
    _demand_bounds(content, rows * _VALUE * _COLUMNS)
    return _Arrow(content, names, lambda chosen: parquet.read(columns=chosen))


def _feather(content: Content) -> Table:
    import pyarrow
    import pyarrow.ipc

    with _whole(content):
        opened = pyarrow.ipc.open_file(arrow_bytes(content.body))
        names = opened.schema.names

    def rows(chosen: list[str]) -> "pyarrow.Table":
        wanted = pyarrow.ipc.IpcReadOptions(included_fields=[names.index(name) for name in chosen])
        reader = pyarrow.ipc.open_file(arrow_bytes(content.body), options=wanted)
        batches, size = [], 0
        for number in range(reader.num_record_batches):
            batches.append(reader.get_batch(number))
            size += batches[-1].nbytes
            _demand_bounds(content, size)
        return pyarrow.Table.from_batches(batches, reader.schema)

    return _Arrow(content, names, rows)


def _demand_bounds(content: Content, size: int) -> None:
    if size > UNPACKED_MAX:
        raise UnreadableFile(content.file, f"unpacks to more than {UNPACKED_MAX:,} bytes", "less; split it")


def _plain(content: Content, name: str, column: "pyarrow.ChunkedArray", kind: str) -> Column:
    """A column as numpy has it. Refused: empty cells, and types that cannot be what is wanted."""
    import pyarrow
    import pyarrow.types as types

    held = column.type
    if column.null_count and kind != TEXT:
        row = column.is_null().to_numpy().argmax() + 1
        raise UnreadableFile(content.file, f"column {name} has {column.null_count} empty cells", "none", int(row))
    if kind == TEXT:
        return np.array([str(value) for value in column.to_pylist()], dtype=object)
    if kind == CLOCK and (types.is_timestamp(held) or types.is_date(held)):
        moments = column.cast(pyarrow.timestamp("ms"), safe=False) if types.is_date(held) else column
        unit = moments.type.unit
        return array(moments.cast(pyarrow.int64()).chunks).astype(f"datetime64[{unit}]")
    if kind == CLOCK and (types.is_string(held) or types.is_large_string(held)):
        return np.array(column.to_pylist(), dtype=object)
    if types.is_decimal(held):
        column, held = column.cast(pyarrow.float64()), pyarrow.float64()
    if not (types.is_integer(held) or types.is_floating(held)):
        expected = "numbers since 1970, timestamps or ISO times" if kind == CLOCK else "numbers"
        raise UnreadableFile(content.file, f"column {name} holds {held}", expected)
    wanted = np.int64 if kind == CLOCK and types.is_integer(held) else np.float64
    return array(column.chunks).astype(wanted)


def array(chunks: "list[pyarrow.Array]") -> Column:
    """One new array of pyarrow's chunks; pyarrow's own conversion would import pandas where it is installed."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in chunks])
