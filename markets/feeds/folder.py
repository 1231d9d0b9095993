"""A watched folder: files of bars, marks and funding rates that are dropped into it, read once they are whole.

A file's name says of which instrument it is (`BTC-USDT-1m.csv`), and holds the word `funding` or `mark` where it is not
of bars. Every form that `markets.files` knows is read.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ringfence.markets.bars import Bars
from ringfence.markets.errors import FeedRefused, NoAnswer, UnreadableFile
from ringfence.markets.feeds.closing import between, differing, joined, stamps_joined, traded
from ringfence.markets.feeds.errand import Errand
from ringfence.markets.feeds.source import Delivery
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.files.contents import left_out
from ringfence.markets.files.names import fits, of_name
from ringfence.markets.findings import admitted, inspect
from ringfence.markets.market import Funding
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

__all__ = ["Folder", "Watching"]

Series = TypeVar("Series")
_BARS, _MARKS, _FUNDING = "bars", "marks", "funding"
_Signature = tuple[int, int, int]
"""Size, time of the last change and number of a file."""


@dataclass(frozen=True)
class Watching:
    """How a folder is watched."""

    settle: int = 1_000
    """Milliseconds for which a file must stay the same, from one poll to another, before it is read."""
    timeout: int = 10_000
    """Milliseconds that a poll waits."""
    timeframe: int | None = None
    """Of the bars, ms; None: each file's own."""
    accept: tuple[str, ...] = ()
    """Findings that are taken as they are."""


@dataclass
class _Entry:
    """One file as it was seen."""

    signature: _Signature
    since: int
    """When it was first seen like this, UTC ms."""
    done: bool = False


@dataclass
class _Symbol:
    """What was delivered of one symbol."""

    until: int
    last: Bars | None = None
    """The last bar; it may come again, corrected."""
    volume_known: bool = False
    marks: Bars | None = None
    funding: Funding | None = None
    """Those of bars that have not come yet."""


@dataclass
class _Found:
    """What one look at the folder came to."""

    bars: dict[str, Bars] = field(default_factory=dict)
    marks: dict[str, Bars] = field(default_factory=dict)
    funding: dict[str, Funding] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: list[RingfenceError] = field(default_factory=list)
    late: int = 0
    """Rows that came after what they belong to was delivered."""


class Folder:
    """The symbols of `since`, out of one folder. Refused (FeedRefused): no symbols.

    Files that are whole at the same look are taken together, in order of time; rows from before what was delivered are
    left out and told, since nothing can be put before what is recorded. A file that is refused is told once, and read
    again when it changes.
    """

    name = "folder"

    def __init__(self, folder: Path, since: Mapping[str, int], watching: Watching | None = None) -> None:
        if not since:
            raise FeedRefused(self.name, "no symbols", "at least one")
        self.folder, self.watching = folder, watching or Watching()
        self.counts: Counter[str] = Counter()
        """Files refused and rows left out, since the source was made."""
        self._symbols = {symbol: _Symbol(start) for symbol, start in since.items()}
        self._entries: dict[Path, _Entry] = {}
        self._missing = False
        self._errand: Errand[_Found] = Errand(f"feed {folder}")

    def poll(self, now: int) -> Delivery:
        """The bars of the files that became whole; how far a symbol goes is the end of its last bar."""
        found = self._errand.run(lambda: self._look(now), self.watching.timeout)
        if found is None:
            reason = f"nothing within {format_duration(self.watching.timeout)}"
            return Delivery(now, faults=(NoAnswer(self.name, str(self.folder), reason),))
        self.counts["refused"] += len(found.faults)
        self.counts["late"] += found.late
        series = (found.bars, found.marks, found.funding)
        return Delivery(now, *series, until=found.until, notes=tuple(found.notes), faults=tuple(found.faults))

    def _look(self, now: int) -> _Found:
        found = _Found()
        groups: dict[tuple[str, str], list[Path]] = {}
        for path in self._whole(now, found):
            self._entries[path].done = True
            try:
                groups.setdefault(self._addressed(path), []).append(path)
            except UnreadableFile as fault:
                found.faults.append(fault)
        for symbol, known in self._symbols.items():
            bars, marks, funding = self._read(symbol, groups, now, found)
            _keep(known, marks, funding, found)
            if bars is not None:
                _deliver(symbol, known, bars, found)
            found.until[symbol] = known.until
        return found

    # ------------------------------------------------------------------------------------------------ the files

    def _whole(self, now: int, found: _Found) -> list[Path]:
        """The files that stayed the same since an earlier look and were not read like this, by name."""
        seen: dict[Path, _Signature] = {}
        try:
            with os.scandir(self.folder) as entries:
                paths = sorted(Path(entry.path) for entry in entries if not left_out(entry.name))
        except OSError as failure:
            if not self._missing:
                expected = "a folder that can be read; it is looked for again"
                found.faults.append(UnreadableFile(self.folder, failure.strerror or str(failure), expected))
            self._missing = True
            return []
        self._missing = False
        ready = []
        for path in paths:
            try:
                about = os.lstat(path)
            except OSError:  # it went between two looks
                continue
            seen[path] = signature = (about.st_size, about.st_mtime_ns, about.st_ino)
            entry = self._entries.get(path)
            if entry is None or entry.signature != signature:
                self._entries[path] = entry = _Entry(signature, now)
                if not stat.S_ISREG(about.st_mode):
                    entry.done = True
                    what = "is a folder" if stat.S_ISDIR(about.st_mode) else "is no regular file"
                    found.faults.append(UnreadableFile(path, what, "a regular file; copy it into one first"))
            elif not entry.done and now - entry.since >= self.watching.settle:
                ready.append(path)
        self._entries = {path: entry for path, entry in self._entries.items() if path in seen}
        return ready

    def _addressed(self, path: Path) -> tuple[str, str]:
        """Symbol and kind, by the file's name. Refused: UnreadableFile."""
        lower = path.name.lower()
        kind = _FUNDING if "funding" in lower else _MARKS if "mark" in lower else _BARS
        stated = of_name(path.name)
        symbols = [symbol for symbol in self._symbols if any(fits(each, symbol) for each in stated)]
        if not stated and len(self._symbols) == 1:
            symbols = list(self._symbols)
        if len(symbols) != 1:
            said = " and ".join(symbols) or ", ".join(map(str, stated)) or "no instrument"
            listed = ", ".join(self._symbols)
            raise UnreadableFile(path, f"its name says {said}", f"one of {listed}, like BTC-USDT-1m.csv")
        return symbols[0], kind

    # ------------------------------------------------------------------------------------------------ what is in them

    def _read(
        self, symbol: str, groups: Mapping[tuple[str, str], Sequence[Path]], now: int, found: _Found
    ) -> tuple[Bars | None, Bars | None, Funding | None]:
        accept, length = self.watching.accept, self.watching.timeframe

        def bars_of(paths: Sequence[Path]) -> Bars:
            return read_bars(paths, symbol, length, now=now, accept=accept)

        def funding_of(paths: Sequence[Path]) -> Funding:
            return read_funding(paths, symbol, accept=accept)

        bars = _taken(groups.get((symbol, _BARS), ()), bars_of, found)
        marks = _taken(groups.get((symbol, _MARKS), ()), bars_of, found)
        funding = _taken(groups.get((symbol, _FUNDING), ()), funding_of, found)
        if bars is not None:
            try:
                found.notes += admitted(inspect(bars, marks, funding), accept)
            except RingfenceError as fault:
                found.faults.append(fault)
                return None, None, None
        return bars, marks, funding


def _keep(known: _Symbol, marks: Bars | None, funding: Funding | None, found: _Found) -> None:
    """Puts marks and stamps where their bars find them, without those whose bars were delivered."""
    for series, what in ((marks, "marks"), (funding, "funding stamps")):
        if series is None:
            continue
        found.notes += series.notes
        if early := int((series.ts < known.until).sum()):
            found.late += early
            told = f"{early:,} {what} from {utc(int(series.ts[0]))}"
            found.notes.append(f"{series.symbol}: {told} came after their bars were delivered, left out")
    if marks is not None:
        older = known.marks if known.marks is not None and known.marks.timeframe == marks.timeframe else None
        known.marks = joined([older, marks] if older is not None else [marks])
    if funding is not None:
        known.funding = stamps_joined([known.funding, funding] if known.funding is not None else [funding])


def _deliver(symbol: str, known: _Symbol, bars: Bars, found: _Found) -> None:
    """Puts what is new among the bars, with its marks and stamps, and the last bar where it is corrected."""
    known.volume_known = known.volume_known or bars.volume_known
    found.notes += bars.notes
    begin, end = known.until, int(bars.ts[-1]) + bars.timeframe
    known.until = max(begin, end)
    if end < begin:
        found.late += len(bars)
        told = f"{len(bars):,} bars from {utc(int(bars.ts[0]))} lie before what was delivered"
        found.notes.append(f"{symbol}: {told}, left out")
    bars = traded(replace(bars, volume_known=known.volume_known))
    corrected = None if known.last is None else differing(known.last, bars)
    new = bars.chosen(bars.ts >= (begin if corrected is None else corrected.ts[0]))
    if not len(new):
        return
    found.bars[symbol], known.last = new, new[-1:]
    if known.marks is not None:
        if len(own := known.marks.chosen((known.marks.ts >= new.ts[0]) & (known.marks.ts < known.until))):
            found.marks[symbol] = own
        known.marks = known.marks.chosen(known.marks.ts >= new.ts[-1])
    if known.funding is not None:
        if len((stamps := between(known.funding, begin, known.until)).ts):
            found.funding[symbol] = stamps
        known.funding = between(known.funding, known.until, int(known.funding.ts[-1]) + 1)


def _taken(paths: Collection[Path], read: Callable[[Sequence[Path]], Series], found: _Found) -> Series | None:
    """What the files hold together, without those that are refused; each refusal is a fault."""
    left = list(paths)
    while left:
        try:
            return read(left)
        except RingfenceError as fault:
            blamed = _blamed(left, read, fault)
            found.faults += [refusal for _, refusal in blamed]
            left = [path for path in left if path not in {path for path, _ in blamed}]
    return None


def _blamed(
    paths: Sequence[Path], read: Callable[[Sequence[Path]], object], fault: RingfenceError
) -> list[tuple[Path, RingfenceError]]:
    """The files that cannot be read alone; else the one that does not fit the others, or the last."""
    if len(paths) == 1:
        return [(paths[0], fault)]
    alone = list(_refusals(paths, read))
    if alone:
        return alone
    if isinstance(fault, UnreadableFile) and fault.path in paths:
        return [(fault.path, fault)]
    return [(paths[-1], fault)]


def _refusals(paths: Sequence[Path], read: Callable[[Sequence[Path]], object]) -> Iterator[tuple[Path, RingfenceError]]:
    for path in paths:
        try:
            read([path])
        except RingfenceError as fault:
            yield path, fault
