"""Backup and restore: all that a database holds, from one snapshot into a file, and from the file into an empty one.

Tables and columns are asked of the database itself, so that none can be forgotten; the schema is laid by the same
migrations as ever, so that its checks, triggers and counters are those of a new database.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, TableClause, column, func, insert, inspect, select, table, text
from sqlalchemy import types as sql
from sqlalchemy.exc import DataError, IntegrityError

from ringfence.runtime.backup_file import BackupFile, BackupWriter, Columns, Content, Heard, Manifest
from ringfence.runtime.database import (
    SCHEMA,
    check_revision,
    database_file,
    open_engine,
    text_as_it_stands,
    unit_of_work,
)
from ringfence.runtime.errors import BackupRefused, BackupUnreadable, DatabaseMissing, DatabaseNotEmpty
from ringfence.runtime.heads import heads_in
from ringfence.runtime.migrating import lay_schema
from ringfence.runtime.outputs import BACKUP, written_whole
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import vault

__all__ = ["Restored", "back_up", "demand_empty", "readable", "restore"]

_BATCH = 5_000
"""Rows that are held at a time."""
_KIND_OF = ((sql.Boolean, "boolean"), (sql.Integer, "integer"), (sql.Float, "float"), (sql.String, "text"))
_SCHEMA_TABLE = "alembic_version"


def _quiet(table: str, done: int, total: int) -> None:
    """Nobody listens."""


# ---------------------------------------------------------------------------------------------------- backup


def back_up(
    engine: Engine, path: Path, made: int, program: str, inputs: Iterable[Path] = (), heard: Heard = _quiet
) -> Manifest:
    """Write everything that the database holds, as of one moment, to the file; others read and write meanwhile.

    The file is read again before it takes its place, in which an earlier backup stands until then. `made`: now, UTC ms.
    Refused: OutputNotWritten, BackupRefused, and what unit_of_work names.
    """
    named = _named(engine)
    manifest: Manifest

    def check(part: Path) -> None:
        with BackupFile(part) as written:
            written.check(lambda name, done, total: heard(f"{name}, read again", done, total))
            if written.manifest != manifest:
                raise BackupUnreadable(path, "was not read back as it was written")

    with written_whole(path, BACKUP, inputs, check) as stream, BackupWriter(stream, named) as writer:
        with unit_of_work(engine, writes=False) as connection, text_as_it_stands(connection):
            for found in _tables(connection, named):
                writer.table(found.name, _columns(found, named), _read(connection, found, heard))
            heads = heads_in(connection)
        manifest = writer.end(SCHEMA, made, program, engine.dialect.name, heads)
    return manifest


def _named(engine: Engine) -> str:
    return str(engine.get_execution_options().get("ringfence_name"))


def _tables(connection: Connection, named: str) -> Iterator[TableClause]:
    """Every table but that of the schema's revision, each after those that it refers to."""
    seen = inspect(connection)
    needs = {
        name: {key["referred_table"] for key in seen.get_foreign_keys(name)} - {name}
        for name in seen.get_table_names()
        if name != _SCHEMA_TABLE
    }
    done: list[str] = []
    while needs:
        ready = sorted(name for name, others in needs.items() if others <= {*done})
        if not ready:
            raise BackupRefused(named, f"the tables {', '.join(sorted(needs))}", "refer to each other in a circle")
        done += ready
        needs = {name: others for name, others in needs.items() if name not in ready}
    for name in done:
        yield table(name, *(column(found["name"], found["type"]) for found in seen.get_columns(name)))


def _columns(found: TableClause, named: str) -> Columns:
    return {each.name: _kind(found.name, each, named) for each in found.columns}


def _kind(name: str, each: Any, named: str) -> str:
    for kind, told in _KIND_OF:
        if isinstance(each.type, kind):
            return told
    raise BackupRefused(named, f"{name}.{each.name}", f"is of type {each.type}, which no backup carries")


def _read(connection: Connection, found: TableClause, heard: Heard) -> Iterator[Any]:
    """The rows in the order of their key, which is the same in every database."""
    keys = inspect(connection).get_pk_constraint(found.name)["constrained_columns"] or [*found.columns.keys()]
    bytewise = "BINARY" if connection.dialect.name == "sqlite" else "C"
    order = [
        found.c[key].collate(bytewise) if isinstance(found.c[key].type, sql.String) else found.c[key] for key in keys
    ]
    total = connection.execute(select(func.count()).select_from(found)).scalar_one()
    wanted = select(*found.columns).order_by(*order).execution_options(yield_per=_BATCH)
    for done, row in enumerate(connection.execute(wanted), 1):
        yield row
        heard(found.name, done, total)


# ---------------------------------------------------------------------------------------------------- restore


@dataclass(frozen=True)
class Restored:
    """What a database was restored to."""

    manifest: Manifest
    breaches: tuple[tuple[str, Breach], ...]
    """Of each vault by name: laws that did not hold in the database that was kept and do not hold now."""


@contextmanager
def readable(path: Path) -> Iterator[BackupFile]:
    """A backup that this version can restore, opened. Refused: BackupUnreadable, SchemaNewer, SchemaRetired."""
    path = Path(os.path.expanduser(path))
    with BackupFile(path) as backup:
        check_revision(str(path), backup.manifest.schema)
        yield backup


def demand_empty(url: str) -> bool:
    """Passes where a backup may be restored; makes nothing. Returns whether a file has to be made for it.

    Refused: DatabaseNotEmpty, and what open_engine refuses but DatabaseMissing.
    """
    try:
        engine = open_engine(url, create=False)
    except DatabaseMissing:
        return True
    try:
        with unit_of_work(engine, writes=False) as connection:
            if there := inspect(connection).get_table_names():
                raise DatabaseNotEmpty(_named(engine), min(there))
    finally:
        engine.dispose()
    return False


def restore(url: str, backup: BackupFile, heard: Heard = _quiet) -> Restored:
    """Make the empty database at `url` the one that was kept: whole, in one transaction, or not at all.

    A missing SQLite file is made, and gone again where nothing was restored. Refused: DatabaseNotEmpty,
    BackupUnreadable, BackupRefused, and what open_engine and unit_of_work name.
    """
    is_missing, done = demand_empty(url), False
    engine = open_engine(url, create=True)
    try:
        named = _named(engine)
        with unit_of_work(engine) as connection:
            with lay_schema(connection, named, backup.manifest.schema):
                _fill(connection, backup, named, heard)
            restored = _checked(connection, backup)
        done = True
    finally:
        file = database_file(engine)
        engine.dispose()
        if is_missing and not done and file is not None:
            _remove_empty(file)
    return restored


def _remove_empty(file: Path) -> None:
    """Removes the file that was made for a restoring that failed, unless somebody has laid tables in it since."""
    with suppress(OSError, sqlite3.Error), closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for path in (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm", "-journal"))):
                path.unlink(missing_ok=True)


def _fill(connection: Connection, backup: BackupFile, named: str, heard: Heard) -> None:
    there = {found.name: found for found in _tables(connection, named)}
    for content in backup.manifest.tables:
        target = there.pop(content.table, None)
        if target is None or _columns(target, named) != content.columns:
            raise BackupUnreadable(backup.path, f"is damaged: its {content.table} is not that of its schema")
        _insert(connection, target, backup, content, heard)
        _count_on(connection, target)
    if there:
        raise BackupUnreadable(backup.path, f"is damaged: it lacks {min(there)}")


def _insert(connection: Connection, target: TableClause, backup: BackupFile, content: Content, heard: Heard) -> None:
    rows, done = backup.rows(content), 0
    while batch := list(islice(rows, _BATCH)):
        try:
            connection.execute(insert(target), [dict(zip(content.columns, row, strict=True)) for row in batch])
        except (IntegrityError, DataError, OverflowError) as refusal:
            told = str(getattr(refusal, "orig", refusal)).partition("\n")[0]
            place = f"rows {done + 1} to {done + len(batch)} of {content.table}"
            raise BackupRefused(_named(connection.engine), place, f"are not taken ({told})") from refusal
        done += len(batch)
        heard(content.table, done, content.rows)


def _count_on(connection: Connection, target: TableClause) -> None:
    """A counter of the server's goes on after the rows that are there; SQLite's do by themselves."""
    if connection.dialect.name == "sqlite":
        return
    for each in target.columns:
        if isinstance(each.type, sql.Integer):
            counter = select(func.pg_get_serial_sequence(target.name, each.name))
            sequence = connection.execute(counter).scalar_one()
            last = None if sequence is None else connection.execute(select(func.max(each))).scalar_one()
            if last is not None:
                connection.execute(text("SELECT setval(:sequence, :last)"), {"sequence": sequence, "last": last})


def _checked(connection: Connection, backup: BackupFile) -> Restored:
    """Every head is that of the manifest, and what of the laws does not hold."""
    from ringfence.runtime.verification import standing  # the kernel is loaded with it, and a backup needs none

    if backup.manifest.schema == SCHEMA and heads_in(connection) != backup.manifest.heads:
        raise BackupUnreadable(backup.path, "its rows do not lead to the heads that its manifest tells")
    named = connection.execute(select(vault.c.id, vault.c.name).order_by(vault.c.name)).all()
    breaches = tuple((name, breach) for of, name in named for breach in standing(connection, of))
    return Restored(backup.manifest, breaches)
