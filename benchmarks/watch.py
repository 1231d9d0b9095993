"""The watch over a million positions in two hundred symbols, and over those of ten thousand vaults in a database.

A quiet tick is one symbol's mark that crosses nobody; at most 20 microseconds are asked for, 2 milliseconds where 1,000
positions are crossed, 50 microseconds for placing or removing one, and fewer than 100 bytes a position. Beside them
stands what looking at every position would cost at the least: a compiled read of their triggers.

The vaults hold four positions each, in a SQLite file; what is measured there is everything read at the start, and a
reading after nothing, one vault or a hundred have changed.
"""

import argparse
import hashlib
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, insert, update

from benchmarks._inputs import best
from ringfence.markets.instruments import instrument_key
from ringfence.markets.tables import shipped
from ringfence.risk.compiled import compiled
from ringfence.risk.watch import Watch
from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.runtime.mandates import load
from ringfence.runtime.watch import Marks, PositionWatch
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import account, mandate, position, vault

ROOT = Path(__file__).resolve().parent.parent
POSITIONS, SYMBOLS, CROSSED = 1_000_000, 200, 1_000
EACH, COST, LOTS = 4, 10**9, 10**4
"""Positions of a vault, and what each holds."""
TRADED = [one for one in shipped().instruments if one.kind == "linear"]


@compiled
def read_triggers(triggers: Any) -> float:
    highest = 0.0
    for p in range(triggers.size):
        highest = max(highest, triggers[p])
    return highest


def mean(work: Callable[[Any], object], each: Iterable[Any]) -> float:
    """Seconds of one call, on average."""
    chosen = list(each)
    begin = time.perf_counter()
    for one in chosen:
        work(one)
    return (time.perf_counter() - begin) / len(chosen)


def held_bytes(make: Callable[[], Any]) -> tuple[Any, int]:
    """What is made, and the memory that it holds."""
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def million(positions: int) -> dict[str, float]:
    random = np.random.default_rng(0)
    symbols, sides = random.integers(0, SYMBOLS, positions), random.choice([-1, 1], positions)
    marks = random.uniform(0.5, 50_000.0, SYMBOLS)
    triggers = marks[symbols] * (1.0 - sides * random.uniform(0.0001, 0.5, positions))
    watch, built = held_bytes(lambda: Watch.build(symbols, sides, triggers))
    rows = list(zip(range(positions), symbols.tolist(), sides.tolist(), triggers.tolist(), strict=True))
    at = marks.tolist()
    whole_market = list(enumerate(at))

    def placed() -> Watch:
        grown = Watch()
        for row in rows[: positions // 10]:
            grown.place(*row)
        return grown

    longs = np.sort(triggers[(symbols == 0) & (sides > 0)])
    crossed = min(CROSSED, len(longs))
    low = float(longs[-crossed])
    assert len(watch.crossed(0, low, at[0])) == crossed
    assert all(len(watch.crossed(symbol, mark, mark)) == 0 for symbol, mark in whole_market)
    floor = best(lambda: read_triggers(triggers))
    quiet = min(mean(lambda one: watch.crossed(one[0], one[1], one[1]), whole_market * 20) for _ in range(5))
    crossing = best(lambda: watch.crossed(0, low, at[0]))
    _, grown = held_bytes(placed)
    chosen = [rows[p] for p in random.permutation(positions)[: positions // 10].tolist()]
    removing = mean(lambda row: watch.remove(row[0]), chosen)
    placing = mean(lambda row: watch.place(*row), chosen)
    moving = mean(lambda row: watch.place(row[0], row[1], row[2], row[3] * 1.0001), chosen)
    return {
        "positions": positions, "symbols": SYMBOLS, "reading_triggers_us": floor * 1e6, "quiet_tick_us": quiet * 1e6,
        "crossed": crossed, "crossing_tick_us": crossing * 1e6,
        "place_us": placing * 1e6, "move_us": moving * 1e6, "remove_us": removing * 1e6,
        "bytes_a_position": built / positions, "bytes_a_position_placed_singly": grown / (positions // 10),
    }  # fmt: skip


def vaults_in(engine: Engine, count: int) -> None:
    """So many vaults, each under a mandate of its own and with four open positions."""
    (shown,) = load([ROOT / "tests" / "reference" / "mandates" / "btc-constant.yaml"])
    form = json.loads(shown.canonical())
    (stated,) = form["positions"].values()
    mandates, vaults, positions, accounts = [], [], [], []
    for number in range(count):
        symbols = [TRADED[(number + each) % len(TRADED)].symbol for each in range(EACH)]
        legs = {f"leg-{each}": {**stated, "share": "20%", "symbol": symbol} for each, symbol in enumerate(symbols)}
        body = json.dumps({**form, "mandate": f"vault-{number}", "positions": legs}, sort_keys=True)
        fingerprint = hashlib.sha256(body.encode()).hexdigest()
        mandates.append({"fingerprint": fingerprint, "name": f"vault-{number}", "body": body, "applied_ts": 0})
        vaults.append({"id": number + 1, "name": f"vault-{number}", "mandate": fingerprint, "currency": "USDT",
                       "decimals": 6, "opened": 0, "journal_hash": fingerprint, "journal_ts": 0})  # fmt: skip
        for each, symbol in enumerate(symbols):
            cost = COST + number
            positions.append({"vault_id": number + 1, "name": f"leg-{each}", "ordinal": each, "cost": cost,
                              "instrument": instrument_key(symbol), "quantity": LOTS * (-1) ** number})  # fmt: skip
            accounts.append({"vault_id": number + 1, "name": margin_account(f"leg-{each}"), "balance": cost // 5})
    assert Mandate.from_canonical(mandates[0]["body"]).positions.keys() == {f"leg-{each}" for each in range(EACH)}
    with unit_of_work(engine) as connection:
        for table, found in ((mandate, mandates), (vault, vaults), (position, positions), (account, accounts)):
            connection.execute(insert(table), found)


def change(engine: Engine, vaults: int) -> None:
    with unit_of_work(engine) as connection:
        connection.execute(update(vault).where(vault.c.id <= vaults).values(version=vault.c.version + 1))


def in_database(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine(f"sqlite:///{Path(folder) / 'vaults.db'}", create=True)
        migrate(engine)
        vaults_in(engine, count)
        begin = time.perf_counter()
        watch = PositionWatch(engine)
        started = time.perf_counter()
        watch.rebuild()
        rebuilt = time.perf_counter()
        prices = {one.key: Marks(COST / LOTS / one.unit, COST / LOTS / one.unit) for one in TRADED}
        assert watch.crossed(prices) == ()
        quiet = best(lambda: watch.crossed(prices))
        refreshed = {
            changed: best(watch.refresh, lambda changed=changed: change(engine, changed), runs=5)  # type: ignore[misc]
            for changed in (0, 1, 100)
        }
        _, memory = held_bytes(lambda: PositionWatch(engine))
        found = len(watch)
        engine.dispose()
    return {
        "vaults": count, "open_positions": found, "start_ms": (started - begin) * 1e3,
        "rebuild_ms": (rebuilt - started) * 1e3, "quiet_tick_of_all_symbols_us": quiet * 1e6,
        **{f"refresh_after_{changed}_changed_ms": seconds * 1e3 for changed, seconds in refreshed.items()},
        "bytes_an_open_position": memory / found,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--positions", type=int, default=POSITIONS, help="of the first part")
    parser.add_argument("--vaults", type=int, default=10_000, help="of the second part; 0 leaves it out")
    asked = parser.parse_args()
    parts = [million(asked.positions)]
    if asked.vaults:
        parts.append(in_database(asked.vaults))
    found = [{name: round(value, 3) for name, value in part.items()} for part in parts]
    if asked.json:
        print(json.dumps(found))
        return
    for part in found:
        for name, value in part.items():
            print(f"{value:>14,}  {name.replace('_', ' ')}")
        print()


if __name__ == "__main__":
    main()
