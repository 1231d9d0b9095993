"""The schema's migrations run inside the caller's transaction, by one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from ringfence.runtime.errors import DatabaseNotEmpty

__all__ = ["await_migrations", "lay_schema", "run_migrations"]

_LOCK = 0x52494E47


def await_migrations(connection: Connection) -> None:
    """Returns once nobody else is at the schema, and nobody else will be until the transaction ends."""
    if connection.dialect.name != "sqlite":  # there a writing transaction is alone from its beginning
        connection.execute(text("SET LOCAL lock_timeout = '60s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def run_migrations(connection: Connection, revision: str) -> None:
    """Brings the schema up to `revision`; `head` is the newest."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@contextmanager
def lay_schema(connection: Connection, named: str, revision: str) -> Iterator[None]:
    """The empty tables of `revision` in an empty database, to be filled in the block; brought up to this version's
    after it. `named`: the database, for people. Refused: DatabaseNotEmpty."""
    await_migrations(connection)
    if there := inspect(connection).get_table_names():
        raise DatabaseNotEmpty(named, min(there))
    run_migrations(connection, revision)
    yield
    run_migrations(connection, "head")
