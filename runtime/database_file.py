"""An SQLite file as it stands in its folder: made for its owner alone, opened so that every committed row is seen, and
watched, so that nobody works on in a file that is no longer there."""

import os
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path

from ringfence.runtime.errors import (
    DatabaseBusy,
    DatabaseMissing,
    DatabaseReadOnly,
    DatabaseReplaced,
    FolderMissing,
    LogUnreadable,
    NotADatabase,
)

__all__ = ["BUSY_MS", "DatabaseFile"]

BUSY_MS = 5_000
OWNER_ONLY = 0o600
"""SQLite gives the files beside it (-wal, -shm, -journal) the same rights."""

_Identity = tuple[int, int]
_State = tuple[int, int, int]


class DatabaseFile:
    """One file, from its opening on."""

    def __init__(self, path: Path, named: str) -> None:
        self.path, self.named = path, named
        """`named`: as the person wrote it."""
        self._log = path.with_name(path.name + "-wal")
        self._identity: _Identity | None = None
        self._quiet: _State | None = None

    def admitted(self, *, create: bool) -> bool:
        """Whether the file can be written. Refused: FolderMissing, NotADatabase, DatabaseMissing, DatabaseReadOnly."""
        path = self.path
        if not path.parent.is_dir():
            raise FolderMissing(self.named, str(path.parent))
        if path.exists() and not path.is_file():  # a pipe would keep whoever opens it waiting for ever
            raise NotADatabase(self.named)
        if not path.exists() and not create:
            raise DatabaseMissing(self.named)
        if path.exists() and not os.access(path, os.R_OK):
            raise DatabaseReadOnly(self.named)
        writable = os.access(path if path.exists() else path.parent, os.W_OK) and os.access(path.parent, os.W_OK)
        if create and not writable:
            raise DatabaseReadOnly(self.named)
        return writable

    def make(self) -> None:
        """An empty file that its owner alone can read, unless there is one."""
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, OWNER_ONLY))

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        """A connection to the very file that was opened first. Refused: DatabaseReplaced, LogUnreadable."""
        if self._identity is None:
            self._identity = self._found()
        self.check()
        self._quiet = None
        if writes:
            return self._opened("mode=rw")
        try:
            # With the log and its index beside it the file is read as others write it, without a right to write.
            connection = self._opened("mode=ro")
            try:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except BaseException:
                connection.close()
                raise
            return connection
        except sqlite3.OperationalError as failure:
            if failure.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        if self._log.exists() and (not os.access(self._log, os.R_OK) or self._log.stat().st_size):
            raise LogUnreadable(self.named)
        self._quiet = self._state()
        # Nothing stands beside it: the file is all that there is, as long as nobody writes meanwhile.
        return self._opened("mode=ro&immutable=1")

    def _opened(self, mode: str) -> sqlite3.Connection:
        address = f"{self.path.as_uri()}?{mode}"
        return sqlite3.connect(address, uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)

    def check(self) -> None:
        """Passes while the file that was opened stands at its place. Refused: DatabaseReplaced."""
        if self._identity is not None and self._found() != self._identity:
            raise DatabaseReplaced(self.named)

    def was_quiet(self) -> None:
        """Passes where nobody wrote while the file was read as if nobody did. Refused: DatabaseBusy."""
        if self._quiet is not None and (
            self._state() != self._quiet or (self._log.exists() and self._log.stat().st_size)
        ):
            raise DatabaseBusy(self.named)

    def _found(self) -> _Identity | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None

    def _state(self) -> _State:
        found = os.stat(self.path)
        return found.st_ino, found.st_size, found.st_mtime_ns
