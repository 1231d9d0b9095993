"""A whole installation on an exchange's public data: whatever the exchange does, nothing false is recorded, and vaults
decide again once it is back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from ringfence.markets.feeds.quality import Quality
from ringfence.runtime.acts import deposit
from ringfence.runtime.database import open_engine, unit_of_work
from ringfence.runtime.verification import verify
from ringfence.vaults.tables import bar, fed, position, quality, vault
from tests.faults.test_installation import MANDATE, Up, engine_of, installed
from tests.markets.feeds.standin import EIGHT_HOURS, MINUTE, Standin, price, serving
from tests.reference.tide import UNIT, breaches


@contextmanager
def ticking(exchange: Standin) -> Iterator["Ticking"]:
    """The stand-in's clock goes with the real one, and further on where it is told to."""
    ticking = Ticking(exchange)
    thread = threading.Thread(target=ticking.run, daemon=True)
    thread.start()
    try:
        yield ticking
    finally:
        ticking.stopped.set()
        thread.join()


class Ticking:
    def __init__(self, exchange: Standin) -> None:
        self.exchange, self.stopped = exchange, threading.Event()
        now = time.time_ns() // 1_000_000
        # Ten seconds before a minute is over, and no stamp within the quarter of an hour that comes.
        self.offset = -now % MINUTE - 10_000
        if (now + self.offset) % EIGHT_HOURS > EIGHT_HOURS - 15 * MINUTE:
            self.offset += 20 * MINUTE

    def run(self) -> None:
        while not self.stopped.wait(0.02):
            self.exchange.clock = time.time_ns() // 1_000_000 + self.offset


def rows(url: str) -> tuple[dict[int, float], int, int | None, int]:
    """Closes by open, how far the series is fed, the vault's clock, and the lots that it holds."""
    engine = engine_of(url)
    if engine is None:
        return {}, 0, None, 0
    with unit_of_work(engine, writes=False) as connection:
        closes = dict(connection.execute(select(bar.c.ts, bar.c.close)).all())
        until = connection.execute(select(fed.c.until)).scalar() or 0
        lived = connection.execute(select(vault.c.last_bar)).scalar()
        held = connection.execute(select(position.c.quantity)).scalar() or 0
    engine.dispose()
    return closes, until, lived, held


def levels(engine: Engine) -> list[Any]:
    with unit_of_work(engine, writes=False) as connection:
        return list(connection.execute(select(quality)).all())


def log(up: Up) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (up.logs / "feed.log").read_text()
    return ""


def more_requests(up: Up, exchange: Standin) -> None:
    """Wait until bars were asked for twice more: a round ends before the next one begins."""
    asked = exchange.asked["klines"]
    up.wait_for("request for bars", lambda: exchange.asked["klines"] > asked + 1)


def test_nothing_false_is_recorded_and_the_vault_decides_again(sqlite_database: str, tmp_path: Path) -> None:
    """Longer than 60 lines because one installation meets one fault after another."""
    (tmp_path / "tide.yaml").write_text(
        MANDATE.format(name="tide", slot="1m").replace("half_life: 12h, window: 24h", "half_life: 5m, window: 10m")
    )
    exchange = Standin(0)
    with ExitStack() as listening, ticking(exchange) as clock:
        port = listening.enter_context(serving(exchange))
        feed = f"ccxt:binanceusdm@{exchange.address}"
        time.sleep(0.1)
        with installed(tmp_path, sqlite_database, str(tmp_path / "tide.yaml"), "--feed", feed) as up:
            up.wait_for("decision", lambda: rows(sqlite_database)[2] is not None)
            assert len(rows(sqlite_database)[0]) >= 60  # what its strategy looks back on came first

            engine = open_engine(sqlite_database, create=False)
            deposit(engine, "tide", "alice", 100_000 * UNIT, time.time_ns() // 1_000_000, new=True)
            for fault in ("html", "half", "empty"):
                exchange.faults = {what: [f"always {fault}"] for what in ("klines", "markPriceKlines", "fundingRate")}
                clock.offset += MINUTE
                more_requests(up, exchange)  # what was on its way before the fault has come by then
                before = rows(sqlite_database)
                more_requests(up, exchange)
                assert rows(sqlite_database)[:2] == before[:2], fault
            listening.close()
            exchange.faults = {}
            clock.offset += MINUTE
            up.wait_for("word of its silence", lambda: "binanceusdm is stale: no answer for" in log(up))
            assert rows(sqlite_database)[:2] == before[:2]
            listening.enter_context(serving(exchange, port))
            up.wait_for(
                "decision after four minutes", lambda: (rows(sqlite_database)[2] or 0) >= before[1] + 3 * MINUTE
            )

            # These two ended more than a minute before the exchange was back.
            assert {row.ts for row in levels(engine)} >= {before[1], before[1] + MINUTE}
            assert {row.level for row in levels(engine)} == {Quality.stale}

            exchange.ahead = 60 * MINUTE  # what it says of the time, and nothing else
            clock.offset += MINUTE
            before = rows(sqlite_database)
            up.wait_for("bar of the minute", lambda: rows(sqlite_database)[1] > before[1])
            exchange.ahead = 0
            clock.offset += MINUTE
            up.wait_for("position on a fresh price", lambda: rows(sqlite_database)[3] > 0)

            exchange.faults = {"klines": ["always 429"]}
            clock.offset += MINUTE
            up.wait_for("word of the ban", lambda: "it asked to be left alone" in log(up))
            before = rows(sqlite_database)
            time.sleep(3)
            assert rows(sqlite_database)[:2] == before[:2]
            exchange.faults = {}
            up.wait_for("decision after the ban", lambda: (rows(sqlite_database)[2] or 0) > (before[2] or 0))
            up.wait_for("its end", lambda: "binanceusdm answers again after" in log(up))
            assert up.stop() == 0
        closes, until, _, _ = rows(sqlite_database)
    opens = sorted(closes)
    assert opens == list(range(opens[0], until, MINUTE)), "a hole was not filled"
    for ts, close in closes.items():
        assert abs(close - price("BTCUSDT", ts + MINUTE)) < 0.006, "a bar that was not over was recorded"
    assert breaches(engine) == []
    assert [verdict.breaches for verdict in verify(engine)] == [()], "held back, and decided the same again"
    engine.dispose()
    told = log(up)
    assert "came after a silence" in told
    assert "the clock of binanceusdm is" in told
    assert "bars_recorded" in told
