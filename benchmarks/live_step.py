"""What one step of a vault costs as its recorded history grows: the desk loads a window, not the history.

A vault of two positions decides every hour on hourly bars, in a SQLite file of 1,000, 10,000 or 100,000 recorded slots.
Each measured step is the whole of a live one at a desk that has kept nothing but the mandate's set-up: the vault's row,
the window, the decision, the ledger, the journal and the commit. The histories are stepped in turn, and what counts is
the ratio of the medians; at most 1.2 is asked for.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, Engine, insert, select, update

from ringfence.markets.instruments import instrument_key
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import Recorded, load_window
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.mandates import load
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import bar, bar_series, fed, vault

ROOT = Path(__file__).resolve().parent.parent
HOUR = 3_600_000
START = 1_583_020_800_000
HISTORIES = (1_000, 10_000, 100_000)
BEHIND = 400
"""Slots at the end of a history that are stepped, one after the other."""


def recorded(engine: Engine, mandate: Mandate, slots: int) -> None:
    """A seeded walk of hourly bars for both symbols; each is a slot of its own."""
    symbols = [position.symbol for position in mandate.positions.values()]

    def work(connection: Connection) -> None:
        for number, symbol in enumerate(symbols):
            connection.execute(insert(bar_series).values(instrument=instrument_key(symbol), timeframe=HOUR))
            close = 20_000.0 * np.exp(np.cumsum(np.random.default_rng(number).normal(0.0, 0.006, slots)))
            opened = np.concatenate(([20_000.0], close[:-1]))
            high, low = np.maximum(opened, close), np.minimum(opened, close)
            columns = zip(opened.tolist(), high.tolist(), low.tolist(), close.tolist(), strict=True)
            blank = dict.fromkeys(("mark_open", "mark_high", "mark_low", "mark_close"))
            rows = [
                {**blank, "instrument": instrument_key(symbol), "ts": START + at * HOUR, "open": opens, "high": highs,
                 "low": lows, "close": closes, "volume": 1.0}
                for at, (opens, highs, lows, closes) in enumerate(columns)
            ]  # fmt: skip
            connection.execute(insert(bar), rows)
            connection.execute(insert(fed).values(instrument=instrument_key(symbol), until=START + slots * HOUR))

    in_unit(engine, work)


class History:
    """A vault that has lived through all but the last slots of a history of so many."""

    def __init__(self, folder: Path, mandate: Mandate, slots: int) -> None:
        self.slots, self.mandate, self.at = slots, mandate, slots - BEHIND
        self.engine = open_engine(f"sqlite:///{folder / f'{slots}.db'}", create=True)
        migrate(self.engine)
        recorded(self.engine, mandate, slots)
        open_vault(self.engine, mandate, START)
        deposit(self.engine, mandate.name, "alice", 10**12, START)
        # where it stands is all that a step asks of the slots before its window
        passed = START + (self.at - 1) * HOUR
        with unit_of_work(self.engine) as connection:
            connection.execute(update(vault).values(last_bar=passed, clock=passed + HOUR))

    def step(self) -> float:
        """Seconds of the next slot's step at a desk that has kept nothing but the mandate's set-up."""
        desk = Desk(self.engine)
        with unit_of_work(self.engine, writes=False) as connection:
            desk.setup(connection, connection.execute(select(vault.c.mandate)).scalar_one())
        begin = time.perf_counter()
        assert desk.step(self.mandate.name, START + self.at * HOUR) == 1
        taken = time.perf_counter() - begin
        self.at += 1
        return taken

    def whole(self) -> float:
        """Seconds of reading every recorded bar."""
        symbols = tuple(position.symbol for position in self.mandate.positions.values())
        last = START + (self.slots - 1) * HOUR
        recorded = Recorded((last,) * len(symbols), (0,) * len(symbols), last + HOUR)
        with unit_of_work(self.engine, writes=False) as connection:
            begin = time.perf_counter()
            load_window(connection, symbols, HOUR, self.slots, recorded, recorded.latest[0] - HOUR)
            return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=200, help=f"of each history, at most {BEHIND - 20}")
    parser.add_argument("--whole", action="store_true", help="time the reading of every recorded bar beside them")
    asked = parser.parse_args()
    (mandate,) = load([ROOT / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml"])
    with tempfile.TemporaryDirectory() as folder:
        histories = [History(Path(folder), mandate, slots) for slots in HISTORIES]
        for history in histories:
            for _ in range(10):
                history.step()
        taken = [[history.step() for history in histories] for _ in range(asked.steps)]
        medians = [statistics.median(column) for column in zip(*taken, strict=True)]
        found = [
            {"recorded_slots": history.slots, "milliseconds": round(median * 1e3, 3),
             "ratio": round(median / medians[0], 3)}
            | ({"every_bar_read_milliseconds": round(history.whole() * 1e3, 1)} if asked.whole else {})
            for history, median in zip(histories, medians, strict=True)
        ]  # fmt: skip
    if asked.json:
        print(json.dumps(found))
        return
    for row in found:
        read = f"   every bar read: {row['every_bar_read_milliseconds']} ms" if asked.whole else ""
        print(f"{row['recorded_slots']:>8,} recorded slots  {row['milliseconds']:>8.3f} ms  ratio {row['ratio']}{read}")


if __name__ == "__main__":
    main()
