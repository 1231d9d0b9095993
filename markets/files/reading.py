"""Series out of files: bars and funding rates of one instrument, from one file or several that continue each other."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import Finding, UnreadableFile
from ringfence.markets.files.clocks import interval, milliseconds, step
from ringfence.markets.files.contents import Content, content
from ringfence.markets.files.forms import PRICES, Form, bars_form, funding_form
from ringfence.markets.files.names import fits, interval_of_name, of_column, of_name
from ringfence.markets.files.tables import CLOCK, NUMBER, TEXT, Column, Table, table
from ringfence.markets.findings import OTHER_INSTRUMENT, admitted
from ringfence.markets.market import Funding
from ringfence.risk.book import Floats, Ints
from ringfence.words.times import format_duration, utc

__all__ = ["read_bars", "read_funding"]

_Files = str | PathLike[str] | Iterable[str | PathLike[str]]
_FINAL, _OPEN = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no"})
_HOUR, _MINUTE, _HOURS_MOST = 3_600_000, 60_000, 24


def read_bars(
    paths: _Files, symbol: str, timeframe: int | None = None, *, now: int | None = None, accept: Collection[str] = ()
) -> Bars:
    """Bars of one symbol from a file or from several, validated (InvalidBars).

    UnreadableFile says what is wrong with a file itself; SuspectData that its name or a column says another instrument,
    unless `accept` names that finding. Known are Parquet, Feather, JSON and CSV as `forms` lists them, plain or packed.

    `timeframe` in milliseconds; if not given it is the interval that the files state, else the greatest common step of
    their rows. A last bar that is not over is left out: where a file marks it so, where it closes after the file was
    written, or after `now` (UTC ms). Rows may run backwards. What was left out or mended stands in the bars' `notes`.
    """
    pieces = [_bars_of(Path(path), symbol, accept) for path in _each(paths)]
    whole = _joined(pieces)
    length = timeframe or _stated(pieces) or _grid(pieces, whole)
    whole = _over(whole, length, now)
    open_, high, low, close = (whole.columns[name] for name in PRICES)
    volume = whole.columns.get("volume")
    return validated(symbol, length, whole.ts, open_, high, low, close, volume, whole.notes)


def read_funding(paths: _Files, symbol: str, *, accept: Collection[str] = ()) -> Funding:
    """Funding rates of one symbol from a file or from several, validated (InvalidFunding); refused as for `read_bars`.

    Stamps lie on their grid (`Funding.validated`), and the interval that a file states goes with them.
    """
    pieces = [_funding_of(Path(path), symbol, accept) for path in _each(paths)]
    whole = _joined(pieces)
    return Funding.validated(symbol, whole.ts, whole.columns["rate"], whole.columns.get("interval"), whole.notes)


def _each(paths: _Files) -> list[str | PathLike[str]]:
    return [paths] if isinstance(paths, str | PathLike) else list(paths)


@dataclass(frozen=True, eq=False)
class _Piece:
    """What one file holds, in order of time."""

    file: Path
    ts: Ints
    columns: dict[str, Floats]
    notes: tuple[str, ...]
    interval: int | None = None
    """Milliseconds of a bar, as the file's columns state it."""
    named: int | None = None
    """The same, as its name states it."""

    def rows(self, chosen: "slice | Ints") -> "_Piece":
        return replace(
            self, ts=self.ts[chosen], columns={name: column[chosen] for name, column in self.columns.items()}
        )


# ---------------------------------------------------------------------------------------------------- one file


def _bars_of(file: Path, symbol: str, accept: Collection[str]) -> _Piece:
    held = content(file)
    found = table(held)
    form = bars_form(held, found, symbol.partition("/")[0])
    numbers = [*form.values.values(), *([form.volume] if form.volume is not None else [])]
    read = _columns(found, form, numbers)
    ts, told = milliseconds(file, form.names[form.clock], read[form.clock], found.first_row)
    notes = (*told, *_of_instrument(held, found, form, read, symbol, accept))
    columns = {name: read[place] for name, place in form.values.items()}
    if form.volume is not None:
        columns["volume"] = read[form.volume]
    closes = None
    if form.closes is not None:
        closes, _ = milliseconds(file, form.names[form.closes], read[form.closes], found.first_row)
    piece = _Piece(file, ts, columns, notes, _length(file, form, read, ts, closes), interval_of_name(held.name))
    flags = None if form.flag is None else [str(text).strip().lower() for text in read[form.flag].tolist()]
    order = slice(None, None, -1) if _backwards(ts) else slice(None)
    return _finished(
        piece.rows(order), held, None if flags is None else flags[order], None if closes is None else closes[order]
    )


def _funding_of(file: Path, symbol: str, accept: Collection[str]) -> _Piece:
    held = content(file)
    found = table(held)
    form = funding_form(held, found)
    hours = [form.interval] if form.interval is not None else []
    read = _columns(found, replace(form, interval=None), [form.values["rate"], *hours])
    ts, told = milliseconds(file, form.names[form.clock], read[form.clock], found.first_row)
    columns = {"rate": read[form.values["rate"]]}
    if form.interval is not None:
        stated = read[form.interval]  # hours, or minutes where they are too many for a day
        columns["interval"] = np.where(stated > _HOURS_MOST, stated * _MINUTE, stated * _HOUR)
    piece = _Piece(file, ts, columns, (*told, *_of_instrument(held, found, form, read, symbol, accept)))
    return piece.rows(slice(None, None, -1)) if _backwards(ts) else piece


def _columns(found: Table, form: Form, numbers: Sequence[int]) -> dict[int, Column]:
    kinds = {form.clock: CLOCK, **dict.fromkeys(numbers, NUMBER)}
    if form.closes is not None:
        kinds[form.closes] = CLOCK
    kinds |= {place: TEXT for place in (form.flag, form.interval, form.symbol) if place is not None}
    return found.read(kinds)


def _backwards(ts: Ints) -> bool:
    return len(ts) > 1 and bool((np.diff(ts) < 0).all())


def _of_instrument(
    held: Content, found: Table, form: Form, read: dict[int, Column], symbol: str, accept: Collection[str]
) -> tuple[str, ...]:
    """Notes of what was accepted, where name, column or envelope speak of another instrument."""
    if "/" not in symbol:
        return ()
    said = [found.said[name] for name in ("symbol", "instId", "coin", "instrument_name") if name in found.said]
    in_column = read[form.symbol].tolist() if form.symbol is not None else []
    in_rows = [stated for stated in of_column([*said, *in_column]) if not fits(stated, symbol)]
    names = of_name(held.name) or of_name(held.file.name)
    findings = []
    if in_rows:
        where = f"column {form.names[form.symbol]}" if form.symbol is not None else "answer"
        row = next((n for n, text in enumerate(in_column) if any(s in in_rows for s in of_column([text]))), 0)
        text = f"{held.file}:{row + found.first_row}: its {where} says {', '.join(map(str, in_rows[:3]))}"
        findings.append(Finding(OTHER_INSTRUMENT, symbol, text))
    if names and not any(fits(stated, symbol) for stated in names):
        text = f"{held.file}: its name says {', '.join(map(str, names[:3]))}"
        findings.append(Finding(OTHER_INSTRUMENT, symbol, text))
    return admitted(findings, accept)


def _length(file: Path, form: Form, read: dict[int, Column], ts: Ints, closes: Ints | None) -> int | None:
    """The length of a bar that the columns state: in words, or by when bars close."""
    if form.interval is not None:
        texts = list(dict.fromkeys(read[form.interval].tolist()))
        if len(texts) > 1:
            found = f"column {form.names[form.interval]} says {texts[0]} and {texts[1]}"
            raise UnreadableFile(file, found, "bars of one length; split the file")
        if stated := interval(str(texts[0])):
            return stated
    if closes is None:
        return None
    spans = closes - ts
    spans = np.where(spans % 1000 == 999, spans + 1, spans)  # the last millisecond that belongs to the bar
    stated, _ = Counter(spans.tolist()).most_common(1)[0]
    return stated if stated >= 1000 else None


def _finished(piece: _Piece, held: Content, flags: list[str] | None, closes: Ints | None) -> _Piece:
    """The bars that are over by the file's own word."""
    kept, why = len(piece.ts), ""
    if flags is not None and set(flags) <= _FINAL | _OPEN:
        while kept and flags[kept - 1] in _OPEN:
            kept -= 1
        why = "the file says that it is not final"
        row = next((row for row in range(kept) if flags[row] in _OPEN), None)
        if row is not None:
            found = f"the bar of {utc(int(piece.ts[row]))} is not final, and final ones come after it"
            raise UnreadableFile(piece.file, found, "final bars; download it again")
    if kept and kept == len(piece.ts) and closes is not None and piece.ts[-1] <= held.written < closes[-1]:
        kept, why = kept - 1, f"the file was written before it closed, {utc(held.written)}"
    if not kept:
        raise UnreadableFile(piece.file, "holds no bar that is over", "at least one; download it again")
    if kept == len(piece.ts):
        return piece
    left = len(piece.ts) - kept
    which = "the last bar" if left == 1 else f"the last {left} bars"
    note = f"{piece.file.name}: {which}, of {utc(int(piece.ts[kept]))}, left out: {why}"
    return replace(piece.rows(slice(kept)), notes=(*piece.notes, note))


# ---------------------------------------------------------------------------------------------------- several files


def _joined(pieces: Sequence[_Piece]) -> _Piece:
    """The files as one, in order of time; a row that two of them have stands once."""
    if len(pieces) == 1:
        return pieces[0]
    ordered = sorted(pieces, key=lambda piece: int(piece.ts[0]))
    names = [name for name in ordered[0].columns if all(name in piece.columns for piece in ordered)]
    ts = np.concatenate([piece.ts for piece in ordered])
    of = np.repeat(np.arange(len(ordered)), [len(piece.ts) for piece in ordered])
    last = np.concatenate([np.arange(len(piece.ts)) == len(piece.ts) - 1 for piece in ordered])
    columns = {name: np.concatenate([piece.columns[name] for piece in ordered]) for name in names}
    order = np.argsort(ts, kind="stable")
    ts, of, last = ts[order], of[order], last[order]
    columns = {name: column[order] for name, column in columns.items()}
    keep, notes = np.ones(len(ts), np.bool_), [note for piece in ordered for note in piece.notes]
    twice = np.flatnonzero((ts[1:] == ts[:-1]) & (of[1:] != of[:-1])) + 1
    for row in twice.tolist():
        if all(column[row] == column[row - 1] for column in columns.values()):
            keep[row] = False
        elif last[row - 1] != last[row]:  # it was not over when the one file was made
            worse = row - 1 if last[row - 1] else row
            keep[worse] = False
            of_file = ordered[of[worse]].file.name
            notes.append(f"{of_file}: its last row, {utc(int(ts[row]))}, differs in the file that goes on; left out")
        else:
            first, second = (ordered[of[at]].file for at in (row - 1, row))
            found = f"the row of {utc(int(ts[row]))} has other figures than in {first.name}"
            raise UnreadableFile(second, found, "the same in both; leave one of them out")
    joined = replace(ordered[0], ts=ts, columns=columns, notes=tuple(notes))
    return joined.rows(np.flatnonzero(keep))


def _stated(pieces: Sequence[_Piece]) -> int | None:
    """The length of a bar that the files state in their columns, if any does."""
    stated = [(piece.interval, piece.file) for piece in pieces if piece.interval is not None]
    for length, file in stated:
        if length != stated[0][0]:
            first = f"{format_duration(stated[0][0])} as {stated[0][1].name}"
            raise UnreadableFile(file, f"bars of {format_duration(length)}", f"{first}; give bars of one length")
    return stated[0][0] if stated else None


def _grid(pieces: Sequence[_Piece], whole: _Piece) -> int:
    """The length of a bar by the name of the file where the rows allow it, else the greatest common step."""
    named = {piece.named for piece in pieces}
    length, common = (named.pop() if len(named) == 1 else None), step(whole.ts)
    if length is not None and (common is None or common % length == 0):
        return length
    if common is not None:
        return common
    if len(whole.ts) > 1:
        return 1  # only duplicates: `validated` names the rows
    raise UnreadableFile(whole.file, "one row, so its timeframe is unknown", "at least two rows, or a stated timeframe")


def _over(whole: _Piece, length: int, now: int | None) -> _Piece:
    """The bars that are over at `now`."""
    kept = len(whole.ts) if now is None else int(np.searchsorted(whole.ts, now - length, side="right"))
    if kept == len(whole.ts) or now is None:
        return whole
    if not kept:
        raise UnreadableFile(whole.file, f"no bar is over at {utc(now)}", "bars that are, or a later now")
    left = len(whole.ts) - kept
    which = "the last bar" if left == 1 else f"the last {left} bars"
    note = f"{whole.file.name}: {which}, from {utc(int(whole.ts[kept]))}, left out: not over at {utc(now)}"
    return replace(whole.rows(slice(kept)), notes=(*whole.notes, note))
