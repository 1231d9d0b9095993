"""How far each vault has lived, which may be inside a slot, and the lowest NAV since its last decision."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_RANGE = "clock BETWEEN 0 AND 7258118400000 AND nav_low >= 0"
_INTEGERS = "typeof(clock) = 'integer' AND typeof(nav_low) IN ('integer', 'null')"


def upgrade() -> None:
    """Whoever has lived has decided last: at the close of the slot of its last bar."""
    connection = op.get_bind()
    op.execute("ALTER TABLE vault ADD COLUMN clock BIGINT NOT NULL DEFAULT 0")
    if connection.dialect.name == "sqlite":
        checks = f"CONSTRAINT ck_vault_clock CHECK ({_RANGE}) CONSTRAINT ck_vault_clock_integers CHECK ({_INTEGERS})"
        op.execute(f"ALTER TABLE vault ADD COLUMN nav_low BIGINT {checks}")
    else:
        op.execute("ALTER TABLE vault ADD COLUMN nav_low BIGINT")
        op.execute(f"ALTER TABLE vault ADD CONSTRAINT ck_vault_clock CHECK ({_RANGE})")
        op.execute("ALTER TABLE vault ALTER COLUMN clock DROP DEFAULT")
    rows = connection.execute(
        sa.text("SELECT vault.id, opened, last_bar, body FROM vault JOIN mandate ON fingerprint = vault.mandate")
    )
    for vault, opened, last_bar, body in rows.all():
        timeframe = json.loads(body)["timeframe"]
        clock = opened if last_bar is None else (last_bar // timeframe + 1) * timeframe
        connection.execute(
            sa.text("UPDATE vault SET clock = :clock WHERE id = :vault"), {"clock": clock, "vault": vault}
        )
