"""How good a bar's close was as a price when it came, where no position may grow on it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """What is recorded so far came from recordings, which are judged nowhere."""
    integers = "typeof(ts) = 'integer' AND typeof(level) = 'integer'"
    in_sqlite = op.get_bind().dialect.name == "sqlite"
    op.create_table(
        "quality",
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("ts", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instrument", "ts", name=op.f("pk_quality")),
        sa.ForeignKeyConstraint(["instrument"], ["bar_series.instrument"], name=op.f("fk_quality_instrument")),
        sa.CheckConstraint("level BETWEEN 2 AND 6", name=op.f("ck_quality_level")),
        *([sa.CheckConstraint(integers, name=op.f("ck_quality_integers"))] if in_sqlite else []),
    )
    if not in_sqlite:
        op.execute(
            "CREATE TRIGGER quality_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON quality "
            "FOR EACH STATEMENT EXECUTE FUNCTION ringfence_append_only()"
        )
        return
    for act in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER quality_no_{act} BEFORE {act.upper()} ON quality "
            "BEGIN SELECT RAISE(ABORT, 'quality is append-only'); END"
        )
