"""A fleet of vaults stepped by real worker processes, beside tasks that do nothing in the same pool, and what a step
asks of the database.

Vaults of four positions each, on hourly bars of four symbols, in PostgreSQL (synchronous_commit on) or SQLite, two
processes of one worker. First as they live: one slot is recorded, everybody is rung for, and all are waited for; then
as they catch up: all of the remaining slots at once. What counts is slots a second over tasks a second, in one run; 3
is asked for on PostgreSQL.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import redis
from sqlalchemy import Engine, event, func, select

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.broker import EmbeddedBroker
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.doorbell import Doorbell
from ringfence.runtime.scheduler import Scheduler
from ringfence.runtime.tasks import SETTLEMENT, audit, clock
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import vault
from ringfence.words.addresses import socket_address
from tests.reference.postgresql import PostgreSQL

HOUR = 3_600_000
START = 1_583_020_800_000
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT")
WARM = 6
"""Slots before anything is measured."""
MANDATE = """
mandate: {name}
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {{estimator: ewma, half_life: 2h, window: 4h, floor: 20%}}
limits: {{gross_leverage_max: 3}}
positions:
"""
POSITION = """  {name}:
    symbol: {symbol}
    share: 22%
    strategy: {{name: constant, leverage: 2}}
    leverage_max: 4
    volatility_max: 1000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 1%}}
    band: 10%
    margin_call: {{at: 1.5, then: reduce, to: 3}}
"""


def history(slots: int) -> Market:
    """Hourly walks of the four symbols, seeded."""
    dice, series = np.random.default_rng(7), {}
    for symbol in SYMBOLS:
        close = 100.0 * np.exp(np.cumsum(dice.normal(0.0, 0.01, slots)))
        opened = np.concatenate(([100.0], close[:-1]))
        ts = START + HOUR * np.arange(slots, dtype=np.int64)
        high, low = np.maximum(opened, close), np.minimum(opened, close)
        series[symbol] = Bars(symbol, HOUR, ts, opened, high, low, close, np.full(slots, 1e9))
    return align(series)


def populate(engine: Engine, vaults: int, market: Market) -> None:
    """The vaults, paid in to, in a database in which the first slots are recorded."""
    migrate(engine)
    in_unit(engine, lambda connection: store_bars(connection, market.before(START + WARM * HOUR)))
    positions = "".join(POSITION.format(name=symbol[:3].lower(), symbol=symbol) for symbol in SYMBOLS)
    for number in range(vaults):
        name = f"fleet-{number:04}"
        mandate = load_mandate((MANDATE.format(name=name) + positions).encode())
        open_vault(engine, mandate, START)
        deposit(engine, name, "alice", 10_000 * 10**6, START)


@contextlib.contextmanager
def working(address: str, broker: str, processes: int, log: Path) -> Iterator[None]:
    """A worker with so many processes."""
    words = [sys.executable, "-m", "ringfence", "worker", "--concurrency", str(processes), "--queues", SETTLEMENT]
    environment = os.environ | {"RINGFENCE_DATABASE": address, "RINGFENCE_BROKER": broker}
    with log.open("wb") as sink, subprocess.Popen(words, env=environment, stdout=sink, stderr=sink) as process:
        try:
            while " ready." not in log.read_text(errors="replace"):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(errors="replace")[-2_000:])
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


def seconds(reached: Callable[[], bool], during: Callable[[], object] = lambda: None) -> float:
    """Until it is reached."""
    begin = time.perf_counter()
    while not reached():
        during()
        time.sleep(0.02)
    return time.perf_counter() - begin


def no_ops(broker: str, socket: Path, count: int) -> float:
    """Tasks a second that are told of no vault."""
    from ringfence.runtime.tasks import app

    with app.connection_for_write(broker) as connection:
        for _ in range(count):
            audit.apply_async(([],), queue=SETTLEMENT, connection=connection)
    client: Any = redis.Redis(unix_socket_path=str(socket))  # its answers are typed as if they might be awaited
    begun = client.llen(SETTLEMENT)
    return float(begun / seconds(lambda: client.llen(SETTLEMENT) + client.hlen("unacked") == 0))


def lived(engine: Engine) -> int:
    """UTC ms up to which all of them have lived."""
    with unit_of_work(engine, writes=False) as connection:
        return int(connection.execute(select(func.min(vault.c.clock))).scalar_one())


def statements(folder: Path, market: Market) -> dict[str, float]:
    """Statements a step, counted at one vault: where each is a step alone, and where it catches up."""
    engine, counted = open_engine(f"sqlite:///{folder / 'counted.db'}", create=True), [0]
    populate(engine, 1, market)
    desk, found = Desk(engine), {}
    desk.catch_up("fleet-0000", lambda: True)

    def count(*_: object) -> None:
        counted[0] += 1

    for case, ticks, slots in (("alone", 8, 1), ("caught up", 1, len(market) - WARM - 8)):
        counted[0], steps = 0, 0
        for _ in range(ticks):
            until = lived(engine) + slots * HOUR
            in_unit(engine, lambda connection, until=until: store_bars(connection, market.before(until)))
            event.listen(engine, "before_cursor_execute", count)
            steps += desk.catch_up("fleet-0000", lambda: True)
            event.remove(engine, "before_cursor_execute", count)
        found[case] = round(counted[0] / steps, 2)
    engine.dispose()
    return found


def measured(address: str, folder: Path, asked: argparse.Namespace, market: Market) -> dict[str, float]:
    """Rates a second: of tasks that do nothing, of slots as they come, and of slots that are caught up."""
    engine, socket = open_engine(address, create=True), folder / "broker"
    populate(engine, asked.vaults, market)
    broker = socket_address(socket)
    with EmbeddedBroker(socket), working(address, broker, asked.processes, folder / "log"):
        scheduler = Scheduler(engine, Doorbell(broker).settle, workers=asked.processes)

        def ring() -> None:
            scheduler.round(clock())

        seconds(lambda: lived(engine) >= START + WARM * HOUR, ring)
        before, taken, until = no_ops(broker, socket, asked.no_ops), 0.0, START + WARM * HOUR
        for _ in range(asked.ticks):
            until += HOUR
            in_unit(engine, lambda connection, until=until: store_bars(connection, market.before(until)))
            taken += seconds(lambda until=until: lived(engine) >= until, ring)
        live = asked.vaults * asked.ticks / taken
        in_unit(engine, lambda connection: store_bars(connection, market))
        end = START + len(market) * HOUR
        caught_up = asked.vaults * ((end - until) // HOUR) / seconds(lambda: lived(engine) >= end, ring)
        empty = (before + no_ops(broker, socket, asked.no_ops)) / 2
    engine.dispose()
    return {"no_op_tasks": empty, "slots_live": live, "slots_caught_up": caught_up,
            "ratio_live": live / empty, "ratio_caught_up": caught_up / empty}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sqlite", action="store_true", help="on SQLite, in place of PostgreSQL")
    parser.add_argument("--vaults", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ticks", type=int, default=3, help="slots that are lived as they come")
    parser.add_argument("--no-ops", type=int, default=4_000)
    asked = parser.parse_args()
    market = history(WARM + asked.ticks + 24)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        address = f"sqlite:///{folder / 'fleet.db'}" if asked.sqlite else stack.enter_context(PostgreSQL()).url
        found = {key: round(value, 3) for key, value in measured(address, folder, asked, market).items()}
        told = statements(folder, market)
    if asked.json:
        print(json.dumps(found | {"statements": told}))
        return
    for key, value in found.items():
        print(f"{key.replace('_', ' '):<20} {value:>12,.2f}{'' if key.startswith('ratio') else ' /s'}")
    for case, count in told.items():
        print(f"statements a step, {case}: {count}")


if __name__ == "__main__":
    main()
