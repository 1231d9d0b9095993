"""When the rows of a file are: seconds to nanoseconds since 1970 by their size, calendar times, lengths of time."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ringfence.markets.errors import UnreadableFile
from ringfence.risk.book import Ints
from ringfence.words.times import MILLISECONDS

if TYPE_CHECKING:
    from ringfence.markets.files.tables import Column

__all__ = ["interval", "milliseconds", "step"]

_UNITS = (("seconds", 10**8, 1_000, 1), ("milliseconds", 10**11, 1, 1), ("microseconds", 10**14, 1, 1_000),
          ("nanoseconds", 10**17, 1, 1_000_000))  # fmt: skip
"""From which size on a number since 1970 is of which unit, and what makes milliseconds of it: factor and divisor. The
ranges do not meet for any moment between 1973 and 5138."""
_DAY = 86_400_000
_DATE_LEAST, _DATE_MOST = 19_700_101, 21_001_231
_LENGTH = re.compile(r"(?P<count>[0-9]*)\s*(?P<unit>[A-Za-z]*)", re.ASCII)
_LENGTHS = {
    "": 60_000,  # a bare number is minutes, as Bybit and TradingView write
    "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000, "m": 60_000, "t": 60_000,
    "hour": 3_600_000, "hours": 3_600_000, "day": _DAY, "days": _DAY, **MILLISECONDS,
}  # fmt: skip


def milliseconds(file: Path, name: str, column: "Column", first_row: int) -> tuple[Ints, tuple[str, ...]]:
    """The clock in UTC epoch milliseconds, and in words where its unit changes inside the file.

    Numbers are taken by their size, each row by its own; texts as ISO times, UTC where they name no offset. Digits
    finer than a millisecond are cut off. `first_row` is the line or row of the file that the first value stands in.
    """
    if column.dtype.kind == "M":
        return column.astype("datetime64[ms]").astype(np.int64), ()
    if column.dtype.kind == "O":
        return _from_texts(file, name, column, first_row), ()
    if column.dtype.kind == "f":
        column = _whole(file, name, column, first_row)
    return _by_size(file, name, column.astype(np.int64), first_row)


def _whole(file: Path, name: str, column: "Column", first_row: int) -> "Column":
    odd = np.flatnonzero(~(np.isfinite(column) & (np.abs(column) < 2.0**63)))
    if len(odd):
        found = f"column {name} is {column[odd[0]]}"
        raise UnreadableFile(file, found, "a time since 1970", int(odd[0]) + first_row)
    seconds = (column >= _UNITS[0][1]) & (column < _UNITS[1][1])
    return np.where(seconds, np.round(column * 1_000.0), column)  # a fraction of a second counts


def _by_size(file: Path, name: str, raw: Ints, first_row: int) -> tuple[Ints, tuple[str, ...]]:
    odd = np.flatnonzero(raw < _UNITS[0][1])
    if len(odd):
        raise _no_epoch(file, name, raw, int(odd[0]) + first_row)
    unit = np.searchsorted([least for _, least, _, _ in _UNITS], raw, side="right") - 1
    factor = np.array([factor for _, _, factor, _ in _UNITS])[unit]
    divisor = np.array([divisor for _, _, _, divisor in _UNITS])[unit]
    changes = np.flatnonzero(np.diff(unit)) + 1
    told = tuple(
        f"{file.name}: times are in {_UNITS[unit[row - 1]][0]} up to row {row - 1 + first_row} and in "
        f"{_UNITS[unit[row]][0]} from row {row + first_row} on"
        for row in changes[:1].tolist()
    )
    return raw * factor // divisor, told


def _no_epoch(file: Path, name: str, raw: Ints, row: int) -> UnreadableFile:
    lowest, highest = int(raw.min()), int(raw.max())
    if lowest >= _DATE_LEAST and highest <= _DATE_MOST:
        guess = "these look like dates; write them as 2024-01-31"
    elif lowest >= 0 and highest < _DAY:
        guess = "these look like milliseconds since midnight; add the day"
    else:
        guess = "which are above 100,000,000 in every unit"
    found = f"column {name} goes from {lowest} to {highest}: not an epoch at all"
    return UnreadableFile(file, found, f"seconds, milliseconds, microseconds or nanoseconds since 1970; {guess}", row)


def _from_texts(file: Path, name: str, column: "Column", first_row: int) -> Ints:
    import pyarrow
    import pyarrow.compute

    texts = pyarrow.array([str(text).strip().removesuffix(" UTC") for text in column.tolist()], pyarrow.string())
    for kind in (pyarrow.timestamp("ns"), pyarrow.timestamp("ns", "UTC")):
        try:
            found = pyarrow.compute.cast(texts, kind)
        except pyarrow.ArrowException:
            continue
        return np.asarray(found.cast(pyarrow.int64()).to_numpy()) // 1_000_000
    for row, text in enumerate(texts.to_pylist()):
        if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+)?\s?(Z|UTC|[-+][0-9:]+)?$", text):
            found = f"column {name} is {text[:40]!r}"
            raise UnreadableFile(
                file, found, "a time since 1970 as a number, or like 2024-01-31 08:00", row + first_row
            )
    raise UnreadableFile(file, f"column {name} holds times with and without an offset from UTC", "all of one form")


def interval(text: str) -> int | None:
    """Milliseconds of a length as sources write them: 1h, 60, 1D, 15min, W; None where it is none of fixed length.

    M alone, or behind a number (1M), is a month to every source that writes minutes as m or bare.
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None or match["unit"] == "M" or not text.strip():
        return None
    unit = _LENGTHS.get(match["unit"].lower())
    count = int(match["count"] or 1) if len(match["count"]) < 6 else 0
    return unit * count or None if unit is not None else None


def step(ts: Ints) -> int | None:
    """The greatest length that every distance between rows is a multiple of, ms; None of fewer than two moments.

    Where less than a tenth of such a grid would be filled, a single row off the grid of all others is the likelier
    story: then the most common distance, so that the rows off it can be named.
    """
    distances = np.diff(ts)
    distances = distances[distances > 0]
    if not len(distances):
        return None
    common = int(np.gcd.reduce(distances))
    kinds, counts = np.unique(distances, return_counts=True)
    filled = len(ts) * common / (int(ts.max()) - int(ts.min()) + common)
    return common if filled >= 0.1 else int(kinds[counts.argmax()])
