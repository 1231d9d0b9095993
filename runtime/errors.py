"""What the runtime refuses, and what may fail under it: settings, the broker and the database."""

from pathlib import Path

from ringfence.words.refusal import RingfenceError

__all__ = ["BackupRefused", "BackupUnreadable", "BrokerUnreachable", "DatabaseBusy", "DatabaseDamaged",
           "DatabaseError", "DatabaseMissing", "DatabaseNotEmpty", "DatabaseReadOnly", "DatabaseReplaced",
           "DatabaseUnreachable", "DiskFault", "DiskFull", "ExchangeRunning", "FolderMissing", "ForeignDatabase",
           "HeadsUnreadable", "LogUnreadable", "NeverEnoughBars", "NoBars", "NotADatabase", "OutputNotWritten",
           "RecordingDiffers", "SchemaError", "SchemaMissing", "SchemaNewer", "SchemaOlder", "SchemaRetired",
           "SettingRefused", "SlowStrategy", "UnknownDatabase"]  # fmt: skip


class SettingRefused(RingfenceError):
    """A setting cannot be used; nothing was started."""

    name: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"{self.name}: {self.value!r} cannot be used; expected {self.expected}"


class BrokerUnreachable(RingfenceError):
    """The broker did not answer; nothing was started."""

    transient = True

    broker: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.broker}: the broker cannot be reached ({self.reason}); check that it runs and that the address "
            "is right"
        )


class DatabaseError(RingfenceError):
    """The database did not do what was asked; the unit of work has left nothing behind."""

    database: str


class UnknownDatabase(DatabaseError):
    """The address names no kind of database that is supported; nothing was opened."""

    reason: str = "this kind of database is not supported"

    def __str__(self) -> str:
        return f"{self.database}: {self.reason}; use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"


class DatabaseMissing(DatabaseError):
    """The file to read from does not exist; none was made."""

    def __str__(self) -> str:
        return f"{self.database}: no such database"


class FolderMissing(DatabaseError):
    """The folder that the database file should stand in does not exist; none was made."""

    folder: str

    def __str__(self) -> str:
        return f"{self.database}: the folder {self.folder} does not exist; make it, or name another file"


class ForeignDatabase(DatabaseError):
    """The database holds another programme's tables; nothing was added to it."""

    table: str

    def __str__(self) -> str:
        return f"{self.database}: holds tables of another programme ({self.table}); expected an empty database"


class DatabaseNotEmpty(DatabaseError):
    """The database to restore into holds tables already; nothing was added to it."""

    table: str

    def __str__(self) -> str:
        return f"{self.database}: is not empty (it holds {self.table}); expected an empty database, or none"


class DatabaseReadOnly(DatabaseError):
    """The file or its folder cannot be written; nothing has changed."""

    def __str__(self) -> str:
        return f"{self.database}: the file or its folder cannot be written; allow writing to both"


class DatabaseReplaced(DatabaseError):
    """The file was deleted, or another was put in its place, while it was open; nothing more is written to either."""

    def __str__(self) -> str:
        return (
            f"{self.database}: the file was deleted or replaced while it was open; nothing was written. What was "
            "committed stands in the file that was opened: put it back, or start again on the new one"
        )


class LogUnreadable(DatabaseError):
    """Committed rows stand in the log beside the file, and it cannot be read without the right to write; nothing was
    read, since what the file alone holds is of an earlier time."""

    def __str__(self) -> str:
        return (
            f"{self.database}: committed rows stand in {self.database}-wal, which cannot be read without the right to "
            "write in its folder; allow writing, or copy the file with its -wal and -shm to a folder of your own"
        )


class NotADatabase(DatabaseError):
    """The file holds something else than a database; it was left as it is."""

    def __str__(self) -> str:
        return f"{self.database}: this file is not a database"


class DatabaseDamaged(DatabaseError):
    """The file's structure is broken; nothing was written. Restore a copy."""

    def __str__(self) -> str:
        return f"{self.database}: the database file is damaged; restore it from a copy"


class DiskFull(DatabaseError):
    """There is no room left; nothing of this unit of work was written, and what was there before is whole."""

    def __str__(self) -> str:
        return f"{self.database}: the disk is full; nothing was written of this step, and what was committed is kept"


class DiskFault(DatabaseError):
    """The disk refused to read or write; nothing of this unit of work was written."""

    reason: str

    def __str__(self) -> str:
        kept = "nothing was written of this step, and what was committed is kept"
        return f"{self.database}: the disk refused ({self.reason}); {kept}; check its room and health"


class DatabaseBusy(DatabaseError):
    """Another process held what was needed for too long; nothing was written."""

    transient = True

    def __str__(self) -> str:
        return f"{self.database}: another process keeps the database busy; nothing was written"


class DatabaseUnreachable(DatabaseError):
    """The server did not answer or the connection was lost; what was not committed is undone."""

    transient = True

    reason: str

    def __str__(self) -> str:
        return (
            f"{self.database}: the server cannot be reached ({self.reason}); check that it runs and that the address "
            "is right"
        )


class SchemaMissing(DatabaseError):
    """The database has no Ringfence tables; nothing was read or made."""

    def __str__(self) -> str:
        return f"{self.database}: holds no vaults yet"


class SchemaError(DatabaseError):
    """The database's tables are another version's; nothing was read or changed."""

    found: str
    expected: str


class SchemaOlder(SchemaError):
    """The database was last written by an older version; nothing was read or changed."""

    def __str__(self) -> str:
        return f"{self.database}: its schema is {self.found}, this version reads {self.expected}"


class SchemaRetired(SchemaError):
    """The database is of a version whose journal this one cannot read; nothing was read or changed, and nothing
    converts it: what was decided and paid then cannot be decided or paid again."""

    def __str__(self) -> str:
        written = f"its schema is {self.found}, of a version whose journal this one ({self.expected}) cannot read"
        return f"{self.database}: {written}; keep it with the version that wrote it, and start a new database beside it"


class SchemaNewer(SchemaError):
    """The database was written by a newer version or by another programme; nothing was read or changed."""

    def __str__(self) -> str:
        known = f"which this version (up to {self.expected}) does not know"
        return f"{self.database}: its schema is {self.found}, {known}; install the newer Ringfence that wrote it"


class ExchangeRunning(RingfenceError):
    """Nothing was asked of the exchange; another process is dealing for the same vault, and two at once could not tell
    whose order is whose."""

    transient = True

    books: str

    def __str__(self) -> str:
        return f"{self.books}: another process deals at this exchange; it will be done in a moment"


class ExchangeBlank(RingfenceError):
    """The vault stays where it is; an exchange whose books begin later than its life cannot hold what it holds."""

    vault: str
    books: str

    def __str__(self) -> str:
        return (
            f"vault {self.vault} has lived before these books of an exchange begin: {self.books}; put its own books "
            f"back there, or let it live on where it did (RINGFENCE_EXCHANGE as it was)"
        )


class LifeNotRepeatable(RingfenceError):
    """Nothing is compared: a row of the vault's journal cannot be lived again."""

    vault: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"vault {self.vault}: journal row {self.row} cannot be lived again ({self.reason})"


class ExchangeNotNamed(RingfenceError):
    """The vault stays where it is; its positions stand in the books of an exchange that is not named here."""

    vault: str

    def __str__(self) -> str:
        return (
            f"vault {self.vault} deals at a paper exchange with books of its own; name their folder in "
            f"RINGFENCE_EXCHANGE, as it was when it was opened"
        )


class RecordingDiffers(RingfenceError):
    """The given bars contradict what the vaults of this database have lived through; nothing was recorded."""

    symbol: str
    reason: str

    def __str__(self) -> str:
        return f"{self.symbol}: {self.reason}"


class BackupUnreadable(RingfenceError):
    """A file cannot be read as a whole backup; no database was touched."""

    file: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}; nothing was restored"


class BackupRefused(RingfenceError):
    """A database holds what a backup cannot carry, or the other database does not take; nothing was written."""

    database: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.database}: {self.place} {self.reason}; nothing was written"


class HeadsUnreadable(RingfenceError):
    """A file of heads cannot be read as one; nothing was verified."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


class OutputNotWritten(RingfenceError):
    """There is no new file; what stood at the path before still stands there, unchanged."""

    path: Path
    what: str
    reason: str
    way_out: str

    def __str__(self) -> str:
        return f"{self.path}: the {self.what} was not written: {self.reason}; {self.way_out}"


class NoBars(RingfenceError):
    """A vault cannot be stepped or tested without bars of every symbol it trades; nothing was started."""

    vault: str
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        return f"vault {self.vault}: no bars of {', '.join(self.symbols)}"


class NeverEnoughBars(RingfenceError):
    """A position would never be traded: its strategy or its volatility looks back on more than there is; nothing was
    started."""

    vault: str
    position: str
    needed: int
    there: int
    slot: str

    def __str__(self) -> str:
        return (
            f"vault {self.vault}: position {self.position} decides from {self.needed} slots of {self.slot} with bars, "
            f"there are {self.there}, and it would never trade; give longer series, or a mandate that looks back less"
        )


class SlowStrategy(RingfenceError):
    """A strategy took longer than the moment it has where others wait; the vault is asked for again, with patience."""

    vault: str
    strategy: str
    seconds: float

    def __str__(self) -> str:
        return f"vault {self.vault}: strategy {self.strategy} takes longer than {self.seconds:g} s; it is asked apart"
