"""Two databases of many rows are compared in the memory of a few."""

import tracemalloc
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert

from ringfence.risk.edges import Edge
from ringfence.runtime.comparison import differences
from ringfence.vaults.tables import metadata, transfer
from ringfence.vaults.vault import create_vault
from tests.reference.tide import START, tide

ROWS = 30_000
BOUND = 4_000_000
"""Bytes; the rows themselves would take ten times as much on each side."""


def filled(connection: Connection, rows: int) -> None:
    """A vault with so many transfers."""
    metadata.create_all(connection)
    create_vault(connection, tide().mandate, 6, START)
    for first in range(1, rows + 1, 10_000):
        connection.execute(
            insert(transfer),
            [
                {"vault_id": 1, "seq": seq, "edge": int(Edge.ratchet), "amount": seq, "ts": START, "journal_seq": 1}
                for seq in range(first, min(first + 10_000, rows + 1))
            ],
        )


def test_many_rows_are_compared_in_the_memory_of_a_few(tmp_path: Path) -> None:
    real, again = (create_engine(f"sqlite:///{tmp_path / name}") for name in ("real.db", "again.db"))
    with real.begin() as left, again.begin() as right:
        filled(left, ROWS)
        filled(right, ROWS)
        left.exec_driver_sql(f"UPDATE transfer SET amount = amount + 1 WHERE seq = {ROWS - 1}")
        assert len(list(differences(left, 1, right))) == 1  # once before it is measured, so that all is imported
        tracemalloc.start()
        (found,) = differences(left, 1, right)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert found.thing == f"transfer {ROWS - 1}"
    assert peak < BOUND
    real.dispose()
    again.dispose()
