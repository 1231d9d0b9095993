"""The unit of work: how a database is opened, brought up to date, locked, and how a piece of work is all or nothing.

SQLite's own defaults lose updates; here every writing unit begins with BEGIN IMMEDIATE on a WAL file with full
synchronisation. PostgreSQL keeps READ COMMITTED with a row lock on the vault. A unit that fails for a reason that
passes (a busy file, a deadlock, a lost connection) is run again as a whole.
"""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, RowMapping, bindparam, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from ringfence.runtime.database_file import BUSY_MS, DatabaseFile
from ringfence.runtime.errors import (
    DatabaseBusy,
    DatabaseDamaged,
    DatabaseError,
    DatabaseReadOnly,
    DatabaseUnreachable,
    DiskFault,
    DiskFull,
    ForeignDatabase,
    NotADatabase,
    SchemaMissing,
    SchemaNewer,
    SchemaOlder,
    SchemaRetired,
    UnknownDatabase,
)
from ringfence.runtime.migrating import await_migrations, run_migrations
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.tables import vault
from ringfence.words.addresses import concealed, without_passwords

__all__ = [
    "SCHEMA",
    "check_revision",
    "check_schema",
    "demand_vault",
    "in_unit",
    "lock_vault",
    "migrate",
    "open_engine",
    "text_as_it_stands",
    "unit_of_work",
]

SCHEMA = "0007"
"""The revision that this code reads and writes; the newest of runtime/migrations."""

RETIRED = ("0001", "0002")
"""Revisions whose journals this version cannot read and nothing brings up to date: without forms, or with flows that
were priced at once."""

TRIES = 5
_TRANSIENT_STATES = ("40001", "40P01", "55P03", "57P01", "57P02", "57P03")
_Result = TypeVar("_Result")


# ---------------------------------------------------------------------------------------------------- opening


def open_engine(url: str, *, create: bool) -> Engine:
    """An engine on `url` (sqlite:///FILE or postgresql://...); connects once, so that a bad address fails here.

    With `create` a missing SQLite file is made (never its folder); without, it is refused and nothing is made.
    Refused: UnknownDatabase, DatabaseMissing, FolderMissing, DatabaseReadOnly, NotADatabase, DatabaseUnreachable.
    """
    try:
        address = make_url(url)
    except ArgumentError:
        raise UnknownDatabase(concealed(url), "this is not the address of a database") from None
    if address.get_backend_name() == "sqlite":
        engine = _sqlite(address, create=create)
    elif address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        engine = _postgresql(address)
    else:
        raise UnknownDatabase(concealed(url))
    try:
        with unit_of_work(engine, writes=False) as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master" if _is_sqlite(engine) else "SELECT 1")
    except BaseException:
        engine.dispose()
        raise
    return engine


def _is_sqlite(bound: Engine | Connection) -> bool:
    return bound.dialect.name == "sqlite"


def _sqlite(address: URL, *, create: bool) -> Engine:
    if address.query or address.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise UnknownDatabase(concealed(address.render_as_string()), "SQLite takes a file and nothing else")
    if not address.database or address.database == ":memory:":
        raise UnknownDatabase("sqlite://", "a database in memory would be gone with the process")
    named = address.database
    file = DatabaseFile(Path(os.path.expanduser(named)).absolute(), named)
    writable = file.admitted(create=create)
    if create:
        file.make()
    engine = create_engine(
        URL.create("sqlite", database=str(file.path)),
        creator=lambda: file.connect(writes=writable),
        poolclass=None if writable else NullPool,  # how it can be read is asked anew each time
    ).execution_options(ringfence_name=named, ringfence_file=file)

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        if create and connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal" and _is_ours(connection):
            _to_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # INSERT OR REPLACE fires the triggers of the row it removes only with this.
        connection.execute("PRAGMA recursive_triggers = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        file.check()
        writes = connection.get_execution_options().get("ringfence_writes", True)
        raw = connection.connection.dbapi_connection
        if isinstance(raw, sqlite3.Connection):
            raw.execute(f"PRAGMA query_only = {int(not writes)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "commit")
    def commit(_connection: Connection) -> None:
        file.check()

    @event.listens_for(engine, "invalidate")
    def undo(connection: sqlite3.Connection, _record: object, _exception: object) -> None:
        # Closed with an unread cursor, as Ctrl-C may leave it, it would keep its lock until that cursor is collected.
        with suppress(sqlite3.Error):
            connection.rollback()

    return engine


def database_file(engine: Engine) -> Path | None:
    """The file of an SQLite engine; None for a server."""
    file = engine.get_execution_options().get("ringfence_file")
    return file.path if isinstance(file, DatabaseFile) else None


def _is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the file is still empty or was set up by migrations: another programme's file keeps its mode."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return not names or "alembic_version" in names


def _to_wal(connection: sqlite3.Connection) -> None:
    """Turns the file to WAL; two processes that do so at once do not wait for each other by themselves."""
    deadline = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgresql(address: URL) -> Engine:
    options = f"{address.query.get('options', '')} -c lock_timeout={BUSY_MS} -c client_encoding=utf8".strip()
    named = concealed(address.render_as_string(hide_password=False))
    # An option may be a password, and an engine shows its address: only where the server is stays in it.
    told = {name: value for name, value in address.query.items() if name not in ("host", "port", "options")}
    address = address.set(drivername="postgresql+psycopg").difference_update_query([*told, "options"])
    engine = create_engine(
        address,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "application_name": "ringfence", **told, "options": options},
    )
    return engine.execution_options(ringfence_name=named)


# ---------------------------------------------------------------------------------------------------- units of work


@contextmanager
def unit_of_work(engine: Engine, *, writes: bool = True) -> Iterator[Connection]:
    """One transaction: committed at the end of the block, undone by any exception (Ctrl-C included).

    `writes=False` reads one consistent snapshot. A fault of the database is raised as a named error of
    runtime.errors; a refused CHECK or key stays an IntegrityError, since it means a fault of ours.
    """
    options: dict[str, Any] = {"ringfence_writes": writes}
    if not writes and not _is_sqlite(engine):
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection
        _still_whole(engine)
    except DBAPIError as error:
        named = _named(error, _name(engine))
        if named is None:
            raise
        raise named from error


def _still_whole(engine: Engine) -> None:
    """What was read from a file as if nobody wrote to it is worth something only if nobody did."""
    file = engine.get_execution_options().get("ringfence_file")
    if isinstance(file, DatabaseFile):
        file.was_quiet()


@contextmanager
def text_as_it_stands(connection: Connection) -> Iterator[None]:
    """Texts are read whatever bytes another programme has put there: those that are no UTF-8 as lone surrogates."""
    raw = connection.connection.dbapi_connection
    if not isinstance(raw, sqlite3.Connection):  # PostgreSQL lets nobody write such bytes
        yield
        return
    raw.text_factory = lambda found: found.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        raw.text_factory = str


def in_unit(
    engine: Engine,
    work: Callable[[Connection], _Result],
    *,
    tries: int = TRIES,
    sleep: Callable[[float], None] = time.sleep,
) -> _Result:
    """What `work` returns from a writing unit of work of its own, run again whole on a database's fault that passes.

    A connection lost during COMMIT leaves its outcome unknown, so `work` must recognise its own effect
    (a command's key, a vault's last slot) and return without a second one. Raises the last transient error
    after `tries`.
    """
    for attempt in range(1, tries + 1):
        try:
            with unit_of_work(engine) as connection:
                return work(connection)
        except DatabaseError as error:
            if not error.transient or attempt == tries:
                raise
            sleep(random.uniform(0.5, 1.0) * 0.05 * 2**attempt)
    raise AssertionError("tries must be at least 1")


def _name(engine: Engine) -> str:
    return str(engine.get_execution_options().get("ringfence_name", engine.url.render_as_string()))


def _named(error: DBAPIError, database: str) -> DatabaseError | None:
    """The named error for a fault of the database; None where it is a fault of the statement."""
    origin = error.orig
    if isinstance(origin, sqlite3.Error):
        return _named_sqlite(getattr(origin, "sqlite_errorcode", 0) & 0xFF, str(origin), database)
    state = getattr(origin, "sqlstate", None)
    told = without_passwords(str(origin)).strip()
    reason = told.splitlines()[0] if told else type(origin).__name__
    if state in ("53100",):
        return DiskFull(database)
    if state in ("25006",):
        return DatabaseReadOnly(database)
    if state in ("40001", "40P01", "55P03"):
        return DatabaseBusy(database)
    if error.connection_invalidated or (state or "08").startswith("08") or state in _TRANSIENT_STATES:
        return DatabaseUnreachable(database, reason) if _is_operational(error) else None
    return None


def _is_operational(error: DBAPIError) -> bool:
    return type(error).__name__ in ("OperationalError", "InterfaceError", "InternalError")


def _named_sqlite(code: int, reason: str, database: str) -> DatabaseError | None:
    match code:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusy(database)
        case sqlite3.SQLITE_FULL:
            return DiskFull(database)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return DatabaseReadOnly(database)
        case sqlite3.SQLITE_NOTADB:
            return NotADatabase(database)
        case sqlite3.SQLITE_CORRUPT:
            return DatabaseDamaged(database)
        case sqlite3.SQLITE_IOERR:
            return DiskFault(database, reason)
    return None


# ---------------------------------------------------------------------------------------------------- schema


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _known(revision: str) -> bool:
    folder = Path(__file__).parent / "migrations" / "versions"
    return any(path.name.startswith(f"{revision}_") for path in folder.glob("[0-9]*.py"))


def _unfit(database: str, found: str) -> DatabaseError:
    if found in RETIRED:
        return SchemaRetired(database, found, SCHEMA)
    return (SchemaOlder if _known(found) else SchemaNewer)(database, found, SCHEMA)


def check_schema(engine: Engine) -> None:
    """Passes where the schema is this version's. Refused: SchemaMissing, SchemaRetired, SchemaOlder, SchemaNewer."""
    with unit_of_work(engine, writes=False) as connection:
        found = _revision(connection)
    if found is None:
        raise SchemaMissing(_name(engine))
    if found != SCHEMA:
        raise _unfit(_name(engine), found)


def migrate(engine: Engine) -> str | None:
    """Brings the schema up to date, whole or not at all; two processes at once are safe.

    Returns the revision that was found: SCHEMA means nothing was done, None that the database was empty.
    Refused: SchemaRetired, SchemaNewer, ForeignDatabase, and what unit_of_work names.
    """
    with unit_of_work(engine, writes=False) as connection:
        found = _revision(connection)
    if found == SCHEMA:
        return found
    return in_unit(engine, _upgrade)


def _upgrade(connection: Connection) -> str | None:
    await_migrations(connection)
    found = _revision(connection)
    if found == SCHEMA:
        return found
    if found is not None:
        check_revision(_name(connection.engine), found)
    elif strangers := inspect(connection).get_table_names():
        raise ForeignDatabase(_name(connection.engine), sorted(strangers)[0])
    run_migrations(connection, "head")
    return found


def check_revision(named: str, found: str) -> None:
    """Passes where migrations lead from that revision to this version's. Refused: SchemaRetired, SchemaNewer."""
    if found in RETIRED or not _known(found):
        raise _unfit(named, found)


# ---------------------------------------------------------------------------------------------------- locks


_SEEN = select(vault).where(vault.c.name == bindparam("wanted"))
_LOCKED = _SEEN.with_for_update()


def lock_vault(connection: Connection, name: str) -> RowMapping:
    """The vault's row, held until the unit ends: FOR UPDATE on PostgreSQL, BEGIN IMMEDIATE's lock on SQLite.

    A unit that only reads sees a snapshot and takes no lock, which PostgreSQL would refuse it. Refused: UnknownVault.
    """
    writes = connection.get_execution_options().get("ringfence_writes", True)
    row = connection.execute(_LOCKED if writes else _SEEN, {"wanted": name}).mappings().one_or_none()
    if row is None:
        raise _unknown(connection, name)
    return row


def demand_vault(connection: Connection, name: str) -> None:
    """Passes where there is such a vault; nothing is locked. Refused: UnknownVault."""
    if connection.execute(select(vault.c.id).where(vault.c.name == name)).scalar() is None:
        raise _unknown(connection, name)


def _unknown(connection: Connection, name: str) -> UnknownVault:
    return UnknownVault(name, tuple(connection.execute(select(vault.c.name).order_by(vault.c.name)).scalars()))
