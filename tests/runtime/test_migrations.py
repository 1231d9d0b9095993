"""The schema that the migrations make is the schema that the tables describe, and it refuses what it must."""

import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, Table, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

import ringfence.runtime.database
from ringfence.runtime import duties
from ringfence.runtime.database import SCHEMA, check_schema, migrate, open_engine, unit_of_work
from ringfence.runtime.errors import ForeignDatabase, SchemaMissing, SchemaNewer, SchemaOlder, SchemaRetired
from ringfence.vaults import tables

EMPTY_HASH = "0" * 64
ROWS: dict[str, dict[str, object]] = {
    "mandate": {"fingerprint": "f", "name": "shield", "body": "{}", "applied_ts": 1},
    "vault": {"id": 1, "name": "shield", "mandate": "f", "currency": "USDT", "decimals": 6, "shares": 5, "waiting": 1,
              "high_water_mark": 7, "opened": 1, "last_bar": None, "last_nav": 3, "price_low": 1.0,
              "distance_low": 1.0, "locked_since": None, "rebase_at": None, "version": 1, "journal_seq": 1,
              "journal_hash": EMPTY_HASH, "journal_ts": 1, "transfer_seq": 1, "clock": 1, "nav_low": None,
              "halted_since": None, "resume_asked": None, "closing_since": None, "ordered": None, "reported": 0},
    "account": {"vault_id": 1, "name": "cushion", "balance": 5},
    "transfer": {"vault_id": 1, "seq": 1, "edge": 16, "position": None, "amount": 5, "ts": 1, "journal_seq": 1},
    "position": {"vault_id": 1, "name": "btc", "ordinal": 0, "instrument": "binance:BTC/USDT:USDT", "quantity": 1,
                 "cost": 2, "refused": 0, "pending": None},
    "holding": {"vault_id": 1, "holder": "alice", "shares": 5},
    "flow": {"vault_id": 1, "seq": 1, "holder": "alice", "side": "redemption", "assets": 3, "shares": 2,
             "remaining": 1, "cancelled": 0, "requested_ts": 1, "accepts_locked": 0},
    "command": {"vault_id": 1, "key": "k", "request_hash": "h", "journal_seq": 1},
    "journal": {"vault_id": 1, "seq": 1, "ts": 1, "kind": "k", "body": "{}", "previous_hash": EMPTY_HASH,
                "hash": EMPTY_HASH},
    "bar_series": {"instrument": "binance:BTC/USDT:USDT", "timeframe": 60000, "volume_known": True,
                   "corrected": 0},
    "bar": {"instrument": "binance:BTC/USDT:USDT", "ts": 1, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0,
            "volume": 0.0, "mark_open": None, "mark_high": None, "mark_low": None, "mark_close": None},
    "funding": {"instrument": "binance:BTC/USDT:USDT", "ts": 1, "rate": 0.0001},
    "quality": {"instrument": "binance:BTC/USDT:USDT", "ts": 1, "level": 3},
    "fed": {"instrument": "binance:BTC/USDT:USDT", "until": 1},
    "duty": {"vault_id": 1, "attempts": 1, "not_before": 1, "failure": None, "slow": 0},
    "glance": {"vault_id": 1, "until": 1},
}  # fmt: skip
TABLES = {**tables.metadata.tables, **duties.metadata.tables}


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with unit_of_work(engine) as connection:
        for name, row in ROWS.items():
            connection.execute(insert(TABLES[name]), row)
    return engine


def _shape(engine: Engine) -> dict[str, object]:
    """Columns, keys and checks as the database itself tells them, without alembic's own table."""
    seen = inspect(engine)
    shape: dict[str, object] = {}
    for name in sorted(set(seen.get_table_names()) - {"alembic_version"}):
        shape[name] = {
            "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(name)],
            "key": seen.get_pk_constraint(name),
            "unique": sorted(str(u) for u in seen.get_unique_constraints(name)),
            "foreign": sorted(str(f) for f in seen.get_foreign_keys(name)),
            "checks": sorted(
                (c["name"] or "", " ".join(c["sqltext"].split())) for c in seen.get_check_constraints(name)
            ),
        }
    return shape


def test_the_migrated_schema_is_the_one_the_tables_describe(engine: Engine) -> None:
    with unit_of_work(engine, writes=False) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, [tables.metadata, duties.metadata]) == []


def test_keys_checks_and_types_are_the_same_whether_migrated_or_made_from_the_tables(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    migrated = _shape(engine)
    assert set(migrated) == set(ROWS)
    if engine.dialect.name == "sqlite":
        direct = open_engine(f"sqlite:///{tmp_path / 'direct.db'}", create=True)
        with unit_of_work(direct) as connection:
            tables.metadata.create_all(connection)
            duties.metadata.create_all(connection)
    else:
        direct = engine
        with unit_of_work(engine) as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
            tables.metadata.create_all(connection)
            duties.metadata.create_all(connection)
    assert _shape(direct) == migrated
    direct.dispose()


def test_the_code_names_the_newest_step() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(ringfence.runtime.database.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url, create=True)
    assert migrate(engine) is None
    before = _shape(engine)
    assert migrate(engine) == SCHEMA
    assert _shape(engine) == before
    check_schema(engine)
    engine.dispose()


def test_two_that_migrate_at_once_both_succeed(database_url: str) -> None:
    faults: list[BaseException] = []
    together = threading.Barrier(4)

    def one() -> None:
        try:
            engine = open_engine(database_url, create=True)
            together.wait(10)
            migrate(engine)
            check_schema(engine)
            engine.dispose()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []


def test_a_migration_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_engine(database_url, create=True)
    from alembic import op

    monkeypatch.setattr(op, "execute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        migrate(engine)
    monkeypatch.undo()
    assert inspect(engine).get_table_names() == []
    assert migrate(engine) is None
    check_schema(engine)
    engine.dispose()


def test_an_empty_database_an_older_and_a_newer_schema_are_told_apart(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_engine(database_url, create=True)
    with pytest.raises(SchemaMissing, match="holds no vaults"):
        check_schema(engine)
    migrate(engine)
    monkeypatch.setattr(ringfence.runtime.database, "SCHEMA", "0999")
    with pytest.raises(SchemaOlder, match=f"its schema is {SCHEMA}, this version reads 0999"):
        check_schema(engine)
    monkeypatch.undo()
    with unit_of_work(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    for act in (check_schema, migrate):
        with pytest.raises(SchemaNewer, match="its schema is 0999"):
            act(engine)
    engine.dispose()


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_a_database_whose_journal_cannot_be_read_is_refused_and_left_as_it_is(database_url: str, revision: str) -> None:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    before = _shape(engine)
    for act in (check_schema, migrate):
        with pytest.raises(SchemaRetired, match=rf"its schema is {revision}, .* start a new database beside it"):
            act(engine)
    assert _shape(engine) == before
    engine.dispose()


def test_another_programme_s_database_gets_none_of_our_tables(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    if database_url.startswith("sqlite"):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.close()
        before = path.read_bytes()
    engine = open_engine(database_url, create=True)
    if engine.dialect.name == "postgresql":
        with unit_of_work(engine) as postgresql:
            postgresql.execute(text("CREATE TABLE recipes (name TEXT)"))
    with pytest.raises(ForeignDatabase, match=r"tables of another programme \(recipes\); expected an empty database"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["recipes"]
    engine.dispose()
    if engine.dialect.name == "sqlite":
        assert path.read_bytes() == before


@pytest.mark.parametrize("name", tables.APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {0} SET ts = 2", "DELETE FROM {0}"])
def test_an_append_only_row_is_neither_changed_nor_removed(filled: Engine, name: str, statement: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"), unit_of_work(filled) as connection:
        connection.execute(text(statement.format(name)))
    with unit_of_work(filled, writes=False) as connection:
        assert connection.execute(select(TABLES[name].c.ts)).scalars().all() == [1]


@pytest.mark.parametrize("name", tables.APPEND_ONLY)
def test_an_append_only_row_is_not_replaced_either(filled: Engine, name: str) -> None:
    if filled.dialect.name == "sqlite":
        row = ROWS[name] | {"ts": 1}
        names, places = ", ".join(row), ", ".join(f":{column}" for column in row)
        statement = text(f"INSERT OR REPLACE INTO {name} ({names}) VALUES ({places})").bindparams(**row)
    else:
        statement = text(f"TRUNCATE {name} CASCADE")
    with pytest.raises(DBAPIError, match="append-only"), unit_of_work(filled) as connection:
        connection.execute(statement)


WRONG = [
    ("account", {"name": "reserve", "balance": -1}, "balance"),
    ("account", {"name": "cushion", "balance": -1}, "balance"),
    ("account", {"name": "margin:btc", "balance": -1}, "balance"),
    ("account", {"name": "costs", "balance": -1}, "balance"),
    ("account", {"name": "margin:"}, "name"),
    ("account", {"name": "pocket"}, "name"),
    ("transfer", {"seq": 2, "amount": 0}, "amount"),
    ("transfer", {"seq": 2, "amount": -1}, "amount"),
    ("transfer", {"seq": 0}, "seq"),
    ("transfer", {"seq": 2, "edge": 0}, "edge"),
    ("transfer", {"seq": 2, "edge": 1}, "edge"),
    ("transfer", {"seq": 2, "edge": 21}, "edge"),
    ("transfer", {"seq": 2, "edge": 16, "position": "btc"}, "position"),
    ("account", {"name": "entering", "balance": -1}, "balance"),
    ("transfer", {"seq": 2, "edge": 6, "position": None}, "position"),
    ("vault", {"id": 2, "name": "b", "shares": -1, "waiting": 0}, "shares"),
    ("vault", {"id": 2, "name": "b", "shares": 1, "waiting": 2}, "shares"),
    ("vault", {"id": 2, "name": "b", "high_water_mark": -1}, "high_water_mark"),
    ("vault", {"id": 2, "name": "b", "last_nav": -1}, "last_nav"),
    ("vault", {"id": 2, "name": "b", "version": -1}, "sequences"),
    ("vault", {"id": 2, "name": "b", "decimals": 9}, "decimals"),
    ("vault", {"id": 2, "name": "b", "journal_hash": ""}, "journal_hash"),
    ("position", {"name": "eth", "cost": -1}, "cost"),
    ("position", {"name": "eth", "quantity": 0, "cost": 1}, "flat"),
    ("holding", {"holder": "bob", "shares": -1}, "shares"),
    ("flow", {"seq": 2, "side": "gift"}, "side"),
    ("flow", {"seq": 2, "shares": 0, "remaining": 0}, "whole"),
    ("flow", {"seq": 2, "remaining": 3}, "whole"),
    ("flow", {"seq": 2, "cancelled": 2}, "whole"),
    ("flow", {"seq": 2, "side": "deposit", "assets": 0, "remaining": 0}, "whole"),
    ("flow", {"seq": 2, "side": "deposit", "remaining": 4}, "whole"),
    ("flow", {"seq": 2, "remaining": -1}, "amounts"),
    ("flow", {"seq": 2, "accepts_locked": 2}, "accepts_locked"),
    ("vault", {"id": 2, "name": "b", "opened": -1}, "times"),
    ("vault", {"id": 2, "name": "b", "journal_ts": 0}, "times"),
    ("vault", {"id": 2, "name": "b", "journal_ts": 7_258_118_400_001}, "times"),
    ("vault", {"id": 2, "name": "b", "rebase_at": 9}, "locked"),
    ("vault", {"id": 2, "name": "b", "clock": -1}, "clock"),
    ("vault", {"id": 2, "name": "b", "nav_low": -1}, "clock"),
    ("vault", {"id": 2, "name": "b", "resume_asked": 1}, "halted"),
    ("journal", {"seq": 0}, "seq"),
    ("journal", {"seq": 2, "ts": -1}, "ts"),
    ("journal", {"seq": 2, "ts": 7_258_118_400_001}, "ts"),
    ("journal", {"seq": 2, "hash": "00"}, "hash"),
    ("bar_series", {"instrument": "binance:ETH/USDT:USDT", "timeframe": 0}, "timeframe"),
    ("bar", {"ts": 2, "low": 0.0}, "low"),
    ("bar", {"ts": 2, "high": float("inf")}, "high"),
    ("bar", {"ts": 2, "mark_close": -1.0}, "mark_close"),
    ("bar", {"ts": 2, "volume": -1.0}, "volume"),
    ("funding", {"ts": 2, "rate": 1.5}, "rate"),
    ("fed", {"instrument": "binance:ETH/USDT:USDT", "until": -1}, "until"),
    ("duty", {"vault_id": 2, "attempts": -1}, "attempts"),
    ("duty", {"vault_id": 2, "not_before": -1}, "attempts"),
    ("duty", {"vault_id": 2, "slow": 2}, "slow"),
    ("glance", {"vault_id": 2, "until": -1}, "until"),
    ("bar", {"ts": 2, "open": float("nan")}, "open"),
]


@pytest.mark.parametrize(("name", "change", "guard"), WRONG, ids=[f"{n} {c}" for n, c, _ in WRONG])
def test_the_schema_itself_refuses_a_wrong_row(
    filled: Engine, name: str, change: dict[str, object], guard: str
) -> None:
    with pytest.raises(IntegrityError) as caught, unit_of_work(filled) as connection:
        connection.execute(insert(TABLES[name]), ROWS[name] | change)
    assert re.search(rf"ck_{name}_{guard}\b|NOT NULL constraint failed: {name}\.{guard}", str(caught.value.orig))


def test_what_may_be_negative_is_accepted(filled: Engine) -> None:
    with unit_of_work(filled) as connection:
        for name in ("venue", "funding", "shortfall", "world"):
            connection.execute(insert(tables.account), {"vault_id": 1, "name": name, "balance": -(2**62)})


def test_a_row_of_no_vault_and_a_bar_of_no_series_are_refused(filled: Engine) -> None:
    for table, change in ((tables.account, {"vault_id": 9}), (tables.bar, {"instrument": "X"})):
        with pytest.raises(IntegrityError), unit_of_work(filled) as connection:
            connection.execute(insert(table), ROWS[table.name] | change)


def _integer_columns(table: Table) -> list[str]:
    return [
        column.name for column in table.columns if "INT" in str(column.type) and column.name not in ("id", "vault_id")
    ]


INTEGERS = [(name, column) for name in ROWS for column in _integer_columns(TABLES[name])]


@pytest.mark.parametrize(("name", "column"), INTEGERS, ids=[f"{n}.{c}" for n, c in INTEGERS])
@pytest.mark.parametrize("value", ["a lot", 1.5], ids=["a text", "a float"])
def test_sqlite_refuses_what_is_not_an_integer(tmp_path: Path, name: str, column: str, value: object) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'db'}", create=True)
    migrate(engine)
    engine.dispose()
    with sqlite3.connect(tmp_path / "db") as connection:
        row = ROWS[name] | {column: value}
        names = ", ".join(f'"{key}"' for key in row)
        with pytest.raises(sqlite3.IntegrityError, match=rf"CHECK constraint failed: ck_{name}_"):
            connection.execute(f"INSERT INTO {name} ({names}) VALUES ({','.join('?' * len(row))})", [*row.values()])
    connection.close()


def test_every_table_has_a_sample_row_here(filled: Engine) -> None:
    with unit_of_work(filled, writes=False) as connection:
        for table in tables.metadata.sorted_tables:
            assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 1, table.name
