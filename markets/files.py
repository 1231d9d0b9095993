"""Files of bars and funding rates: Parquet, CSV, CSV.gz and the exchange's zip downloads, told apart by content.

pyarrow is imported only when a file is read.
"""

import contextlib
import csv
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import UnreadableFile
from ringfence.markets.market import Funding
from ringfence.risk.book import Ints
from ringfence.words.hints import did_you_mean

if TYPE_CHECKING:
    import pyarrow

__all__ = ["read_bars", "read_funding"]

Column = npt.NDArray[np.generic]
Columns = dict[str, Column]

_PRICES = ("open", "high", "low", "close")
_KLINE = ("open_time", "open", "high", "low", "close", "volume")
"""The exchange's kline download begins with these columns, with or without a header."""
_SECONDS_BELOW = 10**11
_MICROSECONDS_FROM = 10**14
_MINUTE = 60_000
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What Python's zipfile raises on damaged, encrypted and unknown archives."""


def read_bars(path: str | Path, symbol: str, timeframe: int | None = None) -> Bars:
    """Bars of one symbol from a file, validated (InvalidBars); UnreadableFile says what is wrong with the file itself.

    Columns: ts (UTC epoch milliseconds of the open), open, high, low, close and, unless it is a mark price, volume; or
    the exchange's kline download, whose open_time is in milliseconds or microseconds. `timeframe` in milliseconds; if
    not given it is the most common spacing of the timestamps.
    """
    file = Path(path)
    columns = _columns(file, _PRICES, ("ts", "open_time"), ("volume",))
    ts = _milliseconds(file, columns)
    if timeframe is None:
        timeframe = _common_spacing(file, ts)
    open_, high, low, close = (columns[name] for name in _PRICES)
    return validated(symbol, timeframe, ts, open_, high, low, close, columns.get("volume"))


def read_funding(path: str | Path, symbol: str) -> Funding:
    """Funding rates of one symbol from a file, validated (InvalidFunding).

    Columns: ts and funding_rate; or the exchange's download with calc_time and last_funding_rate, whose calc_time lags
    its stamp by some milliseconds and is taken down to the full minute.
    """
    file = Path(path)
    columns = _columns(file, (), ("ts", "calc_time"), ("funding_rate", "last_funding_rate"))
    rates = [columns[name] for name in ("funding_rate", "last_funding_rate") if name in columns]
    if not rates:
        raise UnreadableFile(file, "no column funding_rate", "columns ts and funding_rate, funding_rate a fraction")
    ts = _milliseconds(file, columns)
    return Funding.validated(symbol, ts // _MINUTE * _MINUTE if "calc_time" in columns else ts, rates[0])


def _columns(file: Path, wanted: tuple[str, ...], clocks: tuple[str, ...], optional: tuple[str, ...]) -> Columns:
    """The named columns of the file as arrays without gaps: one clock (int64), the others float64."""
    content = _content(file)
    if content[:4] == b"PAR1":
        return _parquet_columns(file, wanted, clocks, optional)
    if content[:2] == b"\x1f\x8b":
        content = _unzipped(file, content)
    elif content[:2] == b"PK":
        content = _member(file, content)
    return _csv_columns(file, content, wanted, clocks, optional)


def _content(file: Path) -> bytes:
    expected = "a Parquet, CSV, CSV.gz or zip file of bars or funding rates"
    if file.is_dir():
        raise UnreadableFile(file, "is a folder", expected)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise UnreadableFile(file, "no such file", expected) from None
    except OSError as error:
        raise UnreadableFile(file, error.strerror or str(error), "a file that can be read") from None
    if not content.strip():
        raise UnreadableFile(file, "is empty", expected)
    return content


def _unzipped(file: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFile(file, f"broken gzip ({error})", "a whole file; download or copy it again") from None


def _member(file: Path, content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise UnreadableFile(
                    file, f"zip with {len(names)} CSV files", "exactly one; unpack it and name the file"
                )
            return archive.read(names[0])
    except _ZIP_ERRORS as error:
        raise UnreadableFile(file, f"broken zip ({error})", "a whole file; download or copy it again") from None


def _chosen(
    file: Path, present: list[str], wanted: tuple[str, ...], clocks: tuple[str, ...], optional: tuple[str, ...]
) -> tuple[str, list[str]]:
    """The clock's column and the value columns to read, or a refusal that names what is missing."""
    clock = next((name for name in clocks if name in present), None)
    missing = [name for name in wanted if name not in present] + ([] if clock else [clocks[0]])
    if clock is None or missing:
        hints = "".join(did_you_mean(name, [other for other in present if other.isidentifier()]) for name in missing)
        among = ", ".join(repr(name[:40])[1:-1] for name in present[:12])
        found = f"no column {', '.join(missing)} among {among or 'none'}{hints}"
        raise UnreadableFile(file, found, f"columns {', '.join((clocks[0], *wanted, *optional[:1]))}")
    return clock, [*wanted, *(name for name in optional if name in present)]


def _parquet_columns(
    file: Path, wanted: tuple[str, ...], clocks: tuple[str, ...], optional: tuple[str, ...]
) -> Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(file)
        clock, values = _chosen(file, parquet.schema_arrow.names, wanted, clocks, optional)
        table = parquet.read(columns=[clock, *values])
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UnreadableFile(
            file, f"broken Parquet ({_first_line(error)})", "a whole file; download or copy it again"
        ) from None
    if not table.num_rows:
        raise UnreadableFile(file, "no rows", "at least one row")
    columns: Columns = {}
    for name in (clock, *values):
        kind = table.schema.field(name).type
        fits = pyarrow.types.is_integer(kind) or (name != clock and pyarrow.types.is_floating(kind))
        if not fits:
            expected = "integers (UTC epoch milliseconds)" if name == clock else "numbers"
            raise UnreadableFile(file, f"column {name} holds {kind}", expected)
        if table[name].null_count:
            row = table[name].is_null().to_numpy().argmax() + 1
            raise UnreadableFile(file, f"column {name} has {table[name].null_count} empty cells", "none", int(row))
        columns[name] = _array(table[name].chunks).astype(np.int64 if name == clock else np.float64)
    return columns


def _csv_columns(
    file: Path, content: bytes, wanted: tuple[str, ...], clocks: tuple[str, ...], optional: tuple[str, ...]
) -> Columns:
    import pyarrow
    import pyarrow.csv

    header = _header(file, content)
    bare = bool(header) and header[0].lstrip("-").isdigit()
    if bare:
        # Without a header only the exchange's kline download is known by its order of columns.
        kline = [*_KLINE, *(f"column {place + 1}" for place in range(len(_KLINE), len(header)))]
        header = kline[: len(header)] if "open_time" in clocks else [f"column {n + 1}" for n in range(len(header))]
    header = [name.strip().lower() for name in header]
    clock, values = _chosen(file, header, wanted, clocks, optional)
    types = {clock: pyarrow.int64(), **dict.fromkeys(values, pyarrow.float64())}
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(content),
            read_options=pyarrow.csv.ReadOptions(column_names=header, skip_rows=0 if bare else 1),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=[clock, *values], column_types=types, null_values=[], strings_can_be_null=False
            ),
        )
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        with contextlib.suppress(csv.Error):
            _blame_line(file, content, header, types, 0 if bare else 1)
        raise UnreadableFile(file, _first_line(error), "plain CSV") from None
    if not table.num_rows:
        raise UnreadableFile(file, "no rows below the header", "at least one row")
    return {name: _array(table[name].chunks) for name in (clock, *values)}


def _array(chunks: "list[pyarrow.Array]") -> Column:
    """One new array of pyarrow's chunks; pyarrow's own conversion would import pandas where it is installed."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in chunks])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _rows(content: bytes) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=""))


def _header(file: Path, content: bytes) -> list[str]:
    try:
        content[: 1 << 16].decode("utf-8-sig", errors="strict" if len(content) < 1 << 16 else "ignore")
        if b"\0" in content[: 1 << 16]:
            raise ValueError
        return next(_rows(content[: 1 << 16]))
    except (ValueError, csv.Error, StopIteration):
        raise UnreadableFile(file, "is not text", "Parquet, CSV, CSV.gz or zip") from None


def _blame_line(file: Path, content: bytes, header: list[str], types: dict[str, object], skip: int) -> None:
    """Finds the first row that pyarrow could not read, because it names rows but not lines of the file."""
    places = [(name, header.index(name)) for name in types]
    rows = _rows(content)
    for number, row in enumerate(rows, start=1):
        if number <= skip or not row:
            continue
        if len(row) != len(header):
            raise UnreadableFile(file, f"{len(row)} cells", f"{len(header)}", number)
        for position, (name, place) in enumerate(places):
            try:
                int(row[place]) if position == 0 else float(row[place])
            except ValueError:
                expected = "a whole number of milliseconds" if position == 0 else "a number"
                raise UnreadableFile(file, f"column {name} is {row[place]!r}", expected, number) from None


def _milliseconds(file: Path, columns: Columns) -> Ints:
    """The clock in milliseconds. The exchange's own downloads are in microseconds since 2025; any other file is not."""
    clock = next(name for name in ("ts", "open_time", "calc_time") if name in columns)
    ts = columns[clock].astype(np.int64)
    lowest, highest = int(ts.min()), int(ts.max())
    if lowest < _SECONDS_BELOW:
        expected = "UTC epoch milliseconds; did you mean seconds? multiply by 1000"
        raise UnreadableFile(file, f"column {clock} goes from {lowest} to {highest}", expected)
    if lowest < _MICROSECONDS_FROM and highest < _MICROSECONDS_FROM:
        return ts
    if clock == "ts" or lowest < _MICROSECONDS_FROM or (ts % 1000).any():
        raise UnreadableFile(
            file,
            f"column {clock} goes from {lowest} to {highest}",
            "UTC epoch milliseconds; did you mean microseconds? divide by 1000",
        )
    return ts // 1000


def _common_spacing(file: Path, ts: Ints) -> int:
    spacings = np.diff(ts)
    kinds, counts = np.unique(spacings[spacings > 0], return_counts=True)
    if len(kinds):
        return int(kinds[counts.argmax()])
    if len(ts) > 1:
        return 1  # only duplicates or a reversed file: `validated` names the rows
    raise UnreadableFile(file, "one row, so its timeframe is unknown", "at least two rows, or a stated timeframe")
