"""Files that commands write: whole or not at all, for their owner alone, and never over anything else than an earlier
one of the same kind.

Every writer goes through here, so that no slip of a name costs anyone his bars, his mandate or his database.
"""

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ringfence.runtime.errors import OutputNotWritten

__all__ = ["BACKUP", "BACKUP_MARK", "HEADS", "OWNER_ONLY", "PARQUET", "PARQUET_KEY", "REPORT", "SCHEMA", "SERIES",
           "TABLE", "Kind", "checked_output", "write_whole", "written_whole"]  # fmt: skip

_LOOKED_AT = 65_536
"""Bytes from a file's beginning, or its end, that tell what it is."""

OWNER_ONLY = 0o600
"""What is written tells who holds how much."""


@dataclass(frozen=True)
class Kind:
    """What a file holds, and how one that is there already is known to hold the same."""

    name: str
    known_by: Callable[[bytes], bool]
    """Of a file's beginning, or its end."""
    at_end: bool = False
    """Whether it is known by its end."""


REPORT = Kind("report", lambda head: head[:15].lower() == b"<!doctype html>" and b"Ringfence" in head)
SCHEMA = Kind("schema", lambda head: head.lstrip()[:1] == b"{" and b'"$defs"' in head)
TABLE = Kind("table of instruments", lambda head: b"venue:" in head and b"instruments:" in head)
SERIES = Kind("file of series", lambda head: head.startswith((b'"vault","close"', b"vault,close")))
PARQUET_KEY = b"ringfence.series"
"""Of the metadata of a Parquet file that holds a run's series; a Parquet file says what it is at its end."""
PARQUET = Kind("Parquet file of series", lambda end: end.endswith(b"PAR1") and PARQUET_KEY in end, at_end=True)
HEADS = Kind("file of heads", lambda head: head.startswith((b"vault ", b"bars ")) or b'"series": [' in head)

BACKUP_MARK = "ringfence-backup"
"""The name of a backup's first part, which stands at the file's beginning as it is."""
BACKUP = Kind("backup", lambda head: head.startswith(b"PK") and head[30:46] == BACKUP_MARK.encode())


def checked_output(path: Path, kind: Kind, inputs: Iterable[Path] = ()) -> Path:
    """The file behind `path`, once it is known that nothing but an earlier one of its kind stands there.

    Asked before the work begins, so that no hour is spent on what cannot be written. Refused: OutputNotWritten (an
    input of what writes it, another kind of file, a folder, a pipe or device, no such folder).
    """
    path = Path(os.path.expanduser(path))
    try:
        target = path.resolve()
        if target.is_dir():
            raise OutputNotWritten(path, kind.name, "it is a folder", f"name a file in it, such as {path / 'out'}")
        if not target.parent.is_dir():
            folder = f"the folder {target.parent} does not exist"
            raise OutputNotWritten(path, kind.name, folder, "create it or name a file elsewhere")
        _refuse_strangers(path, target, kind, inputs)
    except (OSError, RuntimeError) as fault:
        raise _not_written(path, kind, fault) from fault
    return target


def _refuse_strangers(path: Path, target: Path, kind: Kind, inputs: Iterable[Path]) -> None:
    if not target.exists():
        return
    if not target.is_file():
        what = "a pipe" if stat.S_ISFIFO(target.stat().st_mode) else "a device or a socket"
        reason = f"it is {what} and not a regular file"
        raise OutputNotWritten(path, kind.name, reason, "name a file that does not exist yet")
    for given in inputs:
        if given.exists() and given.samefile(target):
            raise OutputNotWritten(path, kind.name, "it is an input of this very run", "name another file")
    with target.open("rb") as stream:
        if kind.at_end:
            stream.seek(max(0, target.stat().st_size - _LOOKED_AT))
        content = stream.read(_LOOKED_AT)
    if content and not kind.known_by(content):
        reason = f"it holds something else than a {kind.name}"
        raise OutputNotWritten(path, kind.name, reason, "name another file, or move that one away")


def write_whole(path: Path, content: bytes, kind: Kind, inputs: Iterable[Path] = ()) -> None:
    """Write beside the target, then rename over it: a reader sees the old file or the new one, never a part.

    Refused, with the old file left as it is: OutputNotWritten.
    """
    with written_whole(path, kind, inputs) as stream:
        stream.write(content)


@contextmanager
def written_whole(
    path: Path, kind: Kind, inputs: Iterable[Path] = (), check: Callable[[Path], None] = lambda part: None
) -> Iterator[BinaryIO]:
    """The same for what is too long to be held: the stream's content takes the target's place when the block ends.

    `check` looks at the written file before it does, and refuses it by raising. Refused: OutputNotWritten.
    """
    target = checked_output(path, kind, inputs)
    part = target.with_name(f".{kind.name.replace(' ', '-')}-{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        check(part)
        part.replace(target)
    except BaseException as fault:
        with suppress(OSError):
            part.unlink()
        if isinstance(fault, OSError):
            raise _not_written(target, kind, fault) from fault
        raise
    with suppress(OSError):  # not every file system lets a folder be synced
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_written(path: Path, kind: Kind, fault: OSError | RuntimeError) -> OutputNotWritten:
    code = fault.errno if isinstance(fault, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT):
        return OutputNotWritten(path, kind.name, "the disk is full", "free some space or name a file on another disk")
    if code == errno.EFBIG:
        return OutputNotWritten(path, kind.name, "it would be larger than is allowed", "allow larger files (ulimit -f)")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"the folder {path.parent} is read-only"
        return OutputNotWritten(path, kind.name, reason, "name a file in a folder you may write")
    reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
    return OutputNotWritten(path, kind.name, reason, "name a file elsewhere")
