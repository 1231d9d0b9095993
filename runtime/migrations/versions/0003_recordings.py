"""Recordings say whether volumes are known, and the last recorded bar may be corrected until a vault has lived it."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FINAL = """new.instrument <> old.instrument OR new.ts <> old.ts
    OR old.ts < (SELECT max(later.ts) FROM bar AS later WHERE later.instrument = old.instrument)
    OR EXISTS (
        SELECT 1 FROM position
        JOIN vault ON vault.id = position.vault_id
        JOIN journal ON journal.vault_id = vault.id AND journal.seq = vault.journal_seq
        WHERE position.instrument = old.instrument AND vault.last_bar IS NOT NULL AND journal.ts > old.ts
    )"""
"""A bar is final when another follows it, or when a vault that trades it has lived beyond its open."""


def upgrade() -> None:
    op.add_column("bar_series", sa.Column("volume_known", sa.Boolean(), nullable=False, server_default=sa.true()))
    if op.get_bind().dialect.name == "sqlite":
        # alembic adds a column without its checks there
        op.execute(
            "ALTER TABLE bar_series ADD COLUMN corrected BIGINT DEFAULT '0' NOT NULL "
            "CONSTRAINT ck_bar_series_corrected CHECK (typeof(corrected) = 'integer')"
        )
    else:
        op.add_column("bar_series", sa.Column("corrected", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE bar_series SET volume_known = "
        "EXISTS (SELECT 1 FROM bar WHERE bar.instrument = bar_series.instrument AND bar.volume > 0)"
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER bar_no_update")
        op.execute(
            f"CREATE TRIGGER bar_no_update BEFORE UPDATE ON bar WHEN {_FINAL} "
            "BEGIN SELECT RAISE(ABORT, 'bar is append-only'); END"
        )
        return
    op.execute("DROP TRIGGER bar_append_only ON bar")
    op.execute(
        "CREATE TRIGGER bar_append_only BEFORE DELETE OR TRUNCATE ON bar "
        "FOR EACH STATEMENT EXECUTE FUNCTION ringfence_append_only()"
    )
    op.execute(
        f"CREATE FUNCTION ringfence_bar_is_final() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {_FINAL} THEN "
        "RAISE EXCEPTION 'bar is append-only' USING ERRCODE = '23001'; END IF; RETURN new; END $$"
    )
    op.execute(
        "CREATE TRIGGER bar_no_update BEFORE UPDATE ON bar FOR EACH ROW EXECUTE FUNCTION ringfence_bar_is_final()"
    )
