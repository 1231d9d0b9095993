"""How far each vault has lived, which may be inside a slot, the lowest NAV since its last decision, and whether it is
halted or closing."""

import json

import sqlalchemy as sa
from alembic import op

from ringfence.words.units import parse_duration

revision = "0005"
down_revision = "0004"

_RANGE = "clock BETWEEN 0 AND 7258118400000 AND nav_low >= 0"
_OPTIONAL = ("nav_low", "halted_since", "resume_asked", "closing_since")
_INTEGERS = " AND ".join(
    ["typeof(clock) = 'integer'", *(f"typeof({name}) IN ('integer', 'null')" for name in _OPTIONAL)]
)
_HALTED = "resume_asked IS NULL OR halted_since IS NOT NULL"


def upgrade() -> None:
    """Whoever has lived has decided last: at the close of the slot of its last bar."""
    connection = op.get_bind()
    op.execute("ALTER TABLE vault ADD COLUMN clock BIGINT NOT NULL DEFAULT 0")
    checks = {"ck_vault_clock": _RANGE, "ck_vault_halted": _HALTED}
    if connection.dialect.name == "sqlite":
        checks["ck_vault_clock_integers"] = _INTEGERS
        stated = " ".join(f"CONSTRAINT {name} CHECK ({condition})" for name, condition in checks.items())
        for name in _OPTIONAL:
            op.execute(f"ALTER TABLE vault ADD COLUMN {name} BIGINT {stated if name == _OPTIONAL[-1] else ''}")
    else:
        for name in _OPTIONAL:
            op.execute(f"ALTER TABLE vault ADD COLUMN {name} BIGINT")
        for name, condition in checks.items():
            op.execute(f"ALTER TABLE vault ADD CONSTRAINT {name} CHECK ({condition})")
        op.execute("ALTER TABLE vault ALTER COLUMN clock DROP DEFAULT")
    rows = connection.execute(
        sa.text("SELECT vault.id, opened, last_bar, body FROM vault JOIN mandate ON fingerprint = vault.mandate")
    )
    for vault, opened, last_bar, body in rows.all():
        timeframe = parse_duration(json.loads(body)["timeframe"])
        clock = opened if last_bar is None else (last_bar // timeframe + 1) * timeframe
        connection.execute(
            sa.text("UPDATE vault SET clock = :clock WHERE id = :vault"), {"clock": clock, "vault": vault}
        )
