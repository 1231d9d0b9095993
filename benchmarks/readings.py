"""What readings cost where there is much: a journal of a million rows, and ten thousand vaults.

The journal's rows are those of a real replay, told again and again with later times (their chain is not one, which no
reading looks at). The last hundred events must cost the same however long the journal is.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, insert, select, update

from benchmarks._inputs import best
from ringfence.faces import queries
from ringfence.faces.inputs import prepare
from ringfence.runtime.database import in_unit, migrate, open_engine
from ringfence.runtime.replay import replay
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.tables import journal, vault
from ringfence.vaults.vault import create_vault

ROOT = Path(__file__).resolve().parent.parent
MANDATE = ROOT / "mandates" / "btc-eth-shield.yaml"
SLOT, START = 3_600_000, 1_583_020_800_000
BATCH = 20_000


def lengthened(engine: Engine, name: str, rows: int) -> None:
    """The vault's journal, told on until it has so many rows."""

    def work(connection: Connection) -> None:
        row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one()
        found = connection.execute(
            select(journal).where(journal.c.vault_id == row["id"], journal.c.kind == "decided").order_by(journal.c.seq)
        ).mappings()
        decided = [dict(each) for each in found]
        last = decided[-1]["ts"]
        for start in range(row["journal_seq"] + 1, rows + 1, BATCH):
            told = range(start, min(start + BATCH, rows + 1))
            connection.execute(insert(journal), [
                decided[seq % len(decided)] | {"seq": seq, "ts": last + (seq - row["journal_seq"]) * SLOT}
                for seq in told
            ])  # fmt: skip
        connection.execute(update(vault).where(vault.c.id == row["id"]).values(journal_seq=rows))

    in_unit(engine, work)


def many_vaults(engine: Engine, count: int) -> None:
    """So many empty vaults, each under a mandate of its own."""
    (setup, _), *_ = prepare([MANDATE], scenario_name="2020-03", deposits=("a=1",)).vaults

    def work(connection: Connection) -> None:
        for number in range(count):
            create_vault(connection, setup.mandate.model_copy(update={"name": f"vault-{number:05d}"}), 6, START)

    in_unit(engine, work)


def unknown(engine: Engine) -> None:
    """A vault that is not there, among ten thousand."""
    with suppress(UnknownVault):
        queries.positions(engine, "vault-0001x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--vaults", type=int, default=10_000)
    asked = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        inputs = prepare([MANDATE], scenario_name="2020-03", deposits=("alice=50000",))
        (setup, _), *_ = inputs.vaults
        name = setup.mandate.name
        long = open_engine(f"sqlite:///{Path(folder) / 'long.db'}", create=True)
        migrate(long)
        replay(long, inputs.vaults, inputs.deposits)
        readings: dict[str, Callable[[], object]] = {
            "the last 100 events": lambda: queries.events(long, name, limit=100),
            "the last 10 of a kind that is common": lambda: queries.events(long, name, ["funding"], limit=10),
            "the last 10 of a kind that never was": lambda: queries.events(long, name, ["liquidation"], limit=10),
            "vaults": lambda: queries.vaults(long),
        }
        for rows in (1_000, asked.rows):
            lengthened(long, name, rows)
            for what, read in readings.items():
                seconds[f"{rows:,} rows: {what}"] = best(read, runs=2)
        long.dispose()
        wide = open_engine(f"sqlite:///{Path(folder) / 'wide.db'}", create=True)
        migrate(wide)
        many_vaults(wide, asked.vaults)
        seconds[f"{asked.vaults:,} vaults: listed"] = best(lambda: queries.vaults(wide), runs=2)
        seconds[f"{asked.vaults:,} vaults: one that is not there"] = best(lambda: unknown(wide), runs=2)
        wide.dispose()
    if asked.json:
        print(json.dumps({what: round(taken, 4) for what, taken in seconds.items()}))
        return
    for what, taken in seconds.items():
        print(f"{taken:>9.4f} s  {what}")


if __name__ == "__main__":
    main()
