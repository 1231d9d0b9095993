"""How far each series is fed, so that a slot is lived only when its bars are all there, and what each vault's next step
has cost in attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _table(name: str, *parts: sa.Column[object] | sa.Constraint, integers: str) -> None:
    """A table; on SQLite, which keeps any type it is handed, with a check that its integers are integers."""
    if op.get_bind().dialect.name == "sqlite":
        checks = " AND ".join(f"typeof({column}) = 'integer'" for column in integers.split())
        parts = (*parts, sa.CheckConstraint(checks, name=op.f(f"ck_{name}_integers")))
    op.create_table(name, *parts)


def upgrade() -> None:
    """Whatever is recorded was fed whole: nothing recorded it piece by piece."""
    _table(
        "fed",
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("instrument", name=op.f("pk_fed")),
        sa.ForeignKeyConstraint(["instrument"], ["bar_series.instrument"], name=op.f("fk_fed_instrument")),
        sa.CheckConstraint("until >= 0", name=op.f("ck_fed_until")),
        integers="until",
    )
    op.execute(
        "INSERT INTO fed (instrument, until) "
        "SELECT instrument, (SELECT coalesce(max(bar.ts + own.timeframe), 0) FROM bar "
        "JOIN bar_series AS own ON own.instrument = bar.instrument) FROM bar_series"
    )
    _table(
        "duty",
        sa.Column("vault_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("slow", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", name=op.f("pk_duty")),
        sa.ForeignKeyConstraint(["vault_id"], ["vault.id"], name=op.f("fk_duty_vault_id")),
        sa.CheckConstraint("attempts >= 0 AND not_before >= 0", name=op.f("ck_duty_attempts")),
        sa.CheckConstraint("slow IN (0, 1)", name=op.f("ck_duty_slow")),
        integers="vault_id attempts not_before slow",
    )
    _table(
        "glance",
        sa.Column("vault_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("vault_id", name=op.f("pk_glance")),
        sa.ForeignKeyConstraint(["vault_id"], ["vault.id"], name=op.f("fk_glance_vault_id")),
        sa.CheckConstraint("until >= 0", name=op.f("ck_glance_until")),
        integers="vault_id until",
    )
