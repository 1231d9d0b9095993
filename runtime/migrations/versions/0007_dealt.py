"""What a vault's venue is being asked for, what its positions wait for, and collateral on its way into them."""

import re

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_VENUE = "reported >= 0 AND (ordered IS NULL OR ordered BETWEEN 1 AND journal_seq)"
_VENUE_INTEGERS = "typeof(reported) = 'integer' AND typeof(ordered) IN ('integer', 'null')"
_ACCOUNTS = "name IN ('costs', 'cushion', 'entering', 'funding', 'reserve', 'shortfall', 'venue', 'world') OR "
_STATED = {
    ("account", "name"): f"{_ACCOUNTS}(name LIKE 'margin:_%') OR (name LIKE 'order_margin:_%')",
    ("transfer", "edge"): f"edge IN ({', '.join(map(str, range(3, 21)))})",
    ("transfer", "position"): "(position IS NOT NULL) = (edge IN (6, 7, 8, 9, 10, 11, 12, 13, 19, 20))",
}


def upgrade() -> None:
    """Whoever has lived so far has a venue that fills at once: nothing is on its way."""
    in_sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute("ALTER TABLE position ADD COLUMN pending TEXT")
    op.execute("ALTER TABLE vault ADD COLUMN ordered BIGINT")
    checks = {"ck_vault_venue": _VENUE} | ({"ck_vault_venue_integers": _VENUE_INTEGERS} if in_sqlite else {})
    stated = " ".join(f"CONSTRAINT {name} CHECK ({condition})" for name, condition in checks.items())
    op.execute(f"ALTER TABLE vault ADD COLUMN reported BIGINT DEFAULT 0 NOT NULL {stated}")
    if in_sqlite:
        for table in ("account", "transfer"):
            _rebuild(table)
        return
    for (table, name), condition in _STATED.items():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_{name}")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT ck_{table}_{name} CHECK ({condition})")


def _rebuild(table: str) -> None:
    """SQLite changes no check: the table is made anew beside itself, with its rows, and takes its place."""
    connection = op.get_bind()
    told = sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :name AND sql IS NOT NULL")
    parts = connection.execute(told, {"name": table}).all()
    (made,) = (sql for kind, sql in parts if kind == "table")
    for (of, name), condition in _STATED.items():
        if of == table:  # each stands in a line of its own
            made = re.sub(rf"(CONSTRAINT ck_{table}_{name} CHECK )\(.*\)", rf"\g<1>({condition})", made)
    op.execute(re.sub(rf'^CREATE TABLE "?{table}"?', f"CREATE TABLE {table}_anew", made))
    op.execute(f"INSERT INTO {table}_anew SELECT * FROM {table}")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE {table}_anew RENAME TO {table}")
    for kind, sql in parts:
        if kind != "table":
            op.execute(sql)
