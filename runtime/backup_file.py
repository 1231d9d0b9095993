"""A backup as a file: a ZIP of one part a table, each a line of JSON a row, and a manifest that says what they hold.

It belongs to no kind of database, so that either can be restored from it, and any program can read it. Every part's
rows are counted and hashed in the manifest; what does not agree with it is no backup. A float is written by its
shortest text and `inf`, `-inf`, `nan` as such, so that it is read back to the bit.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from ringfence.runtime.errors import BackupRefused, BackupUnreadable, HeadsUnreadable
from ringfence.runtime.heads import Heads, read_heads
from ringfence.runtime.outputs import BACKUP_MARK
from ringfence.vaults.tables import LATEST

__all__ = ["FORM", "KINDS", "BackupFile", "BackupWriter", "Columns", "Content", "Heard", "Manifest"]

FORM = 1
"""Of the file; a later form is refused by name."""
KINDS = {"integer": int, "float": float, "text": str, "boolean": bool}
"""What a column holds, besides nothing."""
_LINE = 64 * 2**20
"""Characters of a row, at most: a line that does not end is not read on."""
_MANIFEST = "manifest.json"
_NOT_FINITE = ("inf", "-inf", "nan")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, TypeError,
               LookupError, OverflowError, AttributeError)  # fmt: skip
"""What a file that is no backup, or a damaged one, ends its reading with."""

Columns = dict[str, str]
"""The kind of each column, by its name, in order."""
Heard = Callable[[str, int, int], None]
"""(table, rows done, rows in all)."""


@dataclass(frozen=True)
class Content:
    """One table's part."""

    table: str
    columns: Columns
    rows: int
    sha256: str
    """Over its lines."""


@dataclass(frozen=True)
class Manifest:
    form: int
    schema: str
    """Revision of the database that was kept."""
    made: int
    """UTC ms."""
    program: str
    database: str
    """Its kind: sqlite or postgresql."""
    tables: tuple[Content, ...]
    """In an order in which each refers to earlier ones alone."""
    heads: Heads


class BackupWriter:
    """Writes the parts in their order, the manifest last, inside a `with` block."""

    def __init__(self, stream: BinaryIO, database: str) -> None:
        """`database`: what is kept, for people."""
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self._database = database
        self._contents: list[Content] = []
        self._zip.writestr(zipfile.ZipInfo(BACKUP_MARK), f"{FORM}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        with suppress(OSError, ValueError):  # of a file that is given up
            self._zip.close()

    def table(self, name: str, columns: Columns, rows: Iterable[Sequence[Any]]) -> int:
        """Write a table; returns how many rows it had. Refused: BackupRefused (a value of another kind)."""
        hashed, count = hashlib.sha256(), 0
        part = zipfile.ZipInfo(_part(name))
        part.compress_type = zipfile.ZIP_DEFLATED
        kinds = [(column, KINDS[kind]) for column, kind in columns.items()]
        with self._zip.open(part, "w", force_zip64=True) as sink:
            for row in rows:
                count += 1
                line = self._line(name, count, kinds, row)
                hashed.update(line)
                sink.write(line)
        self._contents.append(Content(name, columns, count, hashed.hexdigest()))
        return count

    def _line(self, table: str, number: int, kinds: list[tuple[str, type]], row: Sequence[Any]) -> bytes:
        for (column, kind), value in zip(kinds, row, strict=True):
            if value is not None and type(value) is not kind:
                reason = f"holds {value!r:.80}, expected {kind.__name__} or nothing"
                raise BackupRefused(self._database, f"row {number} of {table}, {column},", reason)
        told = [str(value) if type(value) is float and value - value != 0.0 else value for value in row]
        line = json.dumps(told, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            return f"{line}\n".encode()
        except UnicodeEncodeError:
            raise BackupRefused(self._database, f"row {number} of {table}", "holds bytes that are no text") from None

    def end(self, schema: str, made: int, program: str, database: str, heads: Heads) -> Manifest:
        """End the file with its manifest, and return that."""
        manifest = Manifest(FORM, schema, made, program, database, tuple(self._contents), heads)
        self._zip.writestr(zipfile.ZipInfo(_MANIFEST), json.dumps(asdict(manifest), indent=1) + "\n")
        self._zip.close()
        return manifest


class BackupFile:
    """A backup that is read, inside a `with` block. Refused there: BackupUnreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise BackupUnreadable(self.path, "there is no such file")
        try:
            self._zip = zipfile.ZipFile(self.path)
        except _UNREADABLE:
            raise BackupUnreadable(self.path, "is no backup, or not all of one") from None
        try:
            self.manifest = self._manifest()
        except BaseException:
            self._zip.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        self._zip.close()

    def _manifest(self) -> Manifest:
        names = [part.filename for part in self._zip.infolist()]
        if BACKUP_MARK not in names:
            raise BackupUnreadable(self.path, "is no backup")
        try:
            form = int(self._zip.read(BACKUP_MARK))
            if form > FORM:
                reason = f"is a backup of form {form}, which this version (up to {FORM}) does not know"
                raise BackupUnreadable(self.path, f"{reason}; install the newer Ringfence that wrote it")
            told = json.loads(self._zip.read(_MANIFEST))
            tables = tuple(Content(**content) for content in told["tables"])
            found = read_heads(str(self.path), json.dumps(told["heads"]))
            manifest = Manifest(**{**told, "tables": tables, "heads": found})
            sound = form == manifest.form == FORM and _is_sound(manifest)
        except (*_UNREADABLE, OSError, HeadsUnreadable) as failure:
            raise BackupUnreadable(self.path, f"is damaged: its manifest cannot be read ({failure})") from None
        if not sound or sorted(names) != sorted(self._expected(manifest)):
            raise BackupUnreadable(self.path, "is damaged: its parts are not those that its manifest names")
        return manifest

    @staticmethod
    def _expected(manifest: Manifest) -> list[str]:
        return [BACKUP_MARK, _MANIFEST, *(_part(content.table) for content in manifest.tables)]

    def rows(self, content: Content) -> Iterator[list[Any]]:
        """A table's rows, each value of its column's kind. What is damaged is refused (BackupUnreadable) at the
        latest after the last one."""
        hashed, count = hashlib.sha256(), 0
        kinds = [KINDS[kind] for kind in content.columns.values()]
        try:
            with self._zip.open(_part(content.table)) as part:
                while line := part.readline(_LINE):
                    count += 1
                    hashed.update(line)
                    yield [_value(kind, told) for kind, told in zip(kinds, json.loads(line), strict=True)]
        except (*_UNREADABLE, OSError) as failure:
            reason = f"is damaged: row {count} of {content.table} cannot be read ({failure})"
            raise BackupUnreadable(self.path, reason) from None
        if (count, hashed.hexdigest()) != (content.rows, content.sha256):
            raise BackupUnreadable(self.path, f"is damaged: {content.table} holds other rows than its manifest says")

    def check(self, heard: Heard = lambda table, done, total: None) -> None:
        """Passes where every part is read whole and as the manifest says. Refused: BackupUnreadable."""
        for content in self.manifest.tables:
            for done, _ in enumerate(self.rows(content), 1):
                heard(content.table, done, content.rows)


def _part(table: str) -> str:
    return f"tables/{table}.jsonl"


def _is_sound(manifest: Manifest) -> bool:
    texts = (manifest.schema, manifest.program, manifest.database, *(content.table for content in manifest.tables))
    kinds = {kind for content in manifest.tables for kind in content.columns.values()}
    numbers = (manifest.made, *(content.rows for content in manifest.tables))
    return (
        all(type(told) is str for told in texts)
        and all(type(told) is int and 0 <= told <= LATEST for told in numbers)
        and kinds <= set(KINDS)
        and all(content.columns for content in manifest.tables)
    )


def _value(kind: type, told: object) -> object:
    if told is None or type(told) is kind:
        return told
    if kind is float and told in _NOT_FINITE:
        return float(str(told))
    raise ValueError(f"{told!r:.80} in place of {kind.__name__}")
