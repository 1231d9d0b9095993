"""What the runtime refuses, and what may fail under it: settings and the database."""

import difflib

from ringfence.words.refusal import RingfenceError

__all__ = ["ActRefused", "DatabaseBusy", "DatabaseDamaged", "DatabaseError", "DatabaseMissing", "DatabaseReadOnly",
           "DatabaseUnreachable", "DiskFault", "DiskFull", "FolderMissing", "ForeignDatabase", "NoBars",
           "NotADatabase", "NothingCalled", "RecordingDiffers", "SchemaMissing", "SchemaNewer", "SchemaOlder",
           "SchemaRetired", "SettingRefused", "UnknownDatabase"]  # fmt: skip


class SettingRefused(RingfenceError):
    """A setting cannot be used; nothing was started."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}: {value!r} cannot be used; expected {expected}")
        self.name, self.value, self.expected = name, value, expected


class DatabaseError(RingfenceError):
    """The database did not do what was asked; the unit of work has left nothing behind."""

    def __init__(self, database: str, message: str) -> None:
        super().__init__(f"{database}: {message}")
        self.database = database


class UnknownDatabase(DatabaseError):
    """The address names no kind of database that is supported; nothing was opened."""

    def __init__(self, database: str, reason: str = "this kind of database is not supported") -> None:
        super().__init__(database, f"{reason}; use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME")


class DatabaseMissing(DatabaseError):
    """The file to read from does not exist; none was made."""

    def __init__(self, database: str) -> None:
        super().__init__(
            database,
            "no such database; name another with --db, or make this one with `ringfence replay`",
        )


class FolderMissing(DatabaseError):
    """The folder that the database file should stand in does not exist; none was made."""

    def __init__(self, database: str, folder: str) -> None:
        super().__init__(database, f"the folder {folder} does not exist; make it, or name another file")
        self.folder = folder


class ForeignDatabase(DatabaseError):
    """The database holds another programme's tables; nothing was added to it."""

    def __init__(self, database: str, table: str) -> None:
        super().__init__(database, f"holds tables of another programme ({table}); name an empty database with --db")
        self.table = table


class DatabaseReadOnly(DatabaseError):
    """The file or its folder cannot be written; nothing has changed."""

    def __init__(self, database: str) -> None:
        super().__init__(
            database, "the file or its folder cannot be written; allow writing to both, or name another file with --db"
        )


class NotADatabase(DatabaseError):
    """The file holds something else than a database; it was left as it is."""

    def __init__(self, database: str) -> None:
        super().__init__(database, "this file is not a database; name another file with --db")


class DatabaseDamaged(DatabaseError):
    """The file's structure is broken; nothing was written. Restore a copy."""

    def __init__(self, database: str) -> None:
        super().__init__(database, "the database file is damaged; restore it from a copy")


class DiskFull(DatabaseError):
    """There is no room left; nothing of this unit of work was written, and what was there before is whole."""

    def __init__(self, database: str) -> None:
        super().__init__(database, "the disk is full; nothing was written. Make room and run the same command again")


class DiskFault(DatabaseError):
    """The disk refused to read or write; nothing of this unit of work was written."""

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(
            database, f"the disk refused ({reason}); nothing was written. Check its room and health and run it again"
        )


class DatabaseBusy(DatabaseError):
    """Another process held what was needed for too long; nothing was written, and the same may succeed later."""

    transient = True

    def __init__(self, database: str) -> None:
        super().__init__(database, "another process keeps the database busy; nothing was written. Run it again")


class DatabaseUnreachable(DatabaseError):
    """The server did not answer or the connection was lost; what was not committed is undone."""

    transient = True

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(
            database, f"the server cannot be reached ({reason}); check that it runs and that the address is right"
        )


class SchemaMissing(DatabaseError):
    """The database has no Ringfence tables; nothing was read or made."""

    def __init__(self, database: str) -> None:
        super().__init__(database, "holds no vaults yet; a command that writes (`ringfence replay`) sets it up")


class SchemaOlder(DatabaseError):
    """The database was last written by an older version; nothing was read or changed."""

    def __init__(self, database: str, found: str, expected: str) -> None:
        super().__init__(
            database,
            f"its schema is {found}, this version reads {expected}; a command that writes (`ringfence replay`, "
            "`ringfence deposit`) brings it up to date. Keep a copy first",
        )
        self.found, self.expected = found, expected


class SchemaRetired(DatabaseError):
    """The database is of a version whose journal had no forms; nothing was read or changed, and nothing converts it."""

    def __init__(self, database: str, found: str, expected: str) -> None:
        super().__init__(
            database,
            f"its schema is {found}, of a version whose journal this one ({expected}) cannot read; keep it with the "
            "version that wrote it, and start a new database beside it",
        )
        self.found, self.expected = found, expected


class SchemaNewer(DatabaseError):
    """The database was written by a newer version or by another programme; nothing was read or changed."""

    def __init__(self, database: str, found: str, expected: str) -> None:
        super().__init__(
            database,
            f"its schema is {found}, which this version (up to {expected}) does not know; install the newer Ringfence "
            "that wrote it, or name another database with --db",
        )
        self.found, self.expected = found, expected


class RecordingDiffers(RingfenceError):
    """The given bars contradict what the vaults of this database have lived through; nothing was recorded."""

    def __init__(self, symbol: str, reason: str) -> None:
        super().__init__(f"{symbol}: {reason}; use the same files again, or another database with --db")
        self.symbol, self.reason = symbol, reason


class NoBars(RingfenceError):
    """A vault cannot be stepped or tested without bars of every symbol it trades; nothing was started."""

    def __init__(self, vault: str, symbols: "tuple[str, ...]") -> None:
        missing = " ".join(f"--bars {symbol}=FILE" for symbol in symbols)
        super().__init__(f"vault {vault}: no bars of {', '.join(symbols)}; add {missing}")
        self.vault, self.symbols = vault, symbols


class NothingCalled(RingfenceError):
    """No such word is known where one was expected; nothing was read."""

    def __init__(self, what: str, word: str, known: "tuple[str, ...]") -> None:
        near = difflib.get_close_matches(word, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none yet'}"
        super().__init__(f"{what} {word}: there is none of this name; {hint}")
        self.what, self.word, self.known = what, word, known


class ActRefused(RingfenceError):
    """A deposit or redemption is refused whole; nothing was taken, minted or paid."""

    def __init__(self, vault: str, holder: str, reason: str) -> None:
        super().__init__(f"vault {vault}, holder {holder}: {reason}")
        self.vault, self.holder, self.reason = vault, holder, reason
