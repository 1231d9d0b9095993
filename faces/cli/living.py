"""Commands that keep vaults alive: the whole installation, and its parts one by one."""

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ringfence.faces.cli.app import Database, Venues, app, database, database_url, remark
from ringfence.faces.cli.running import BarFiles, FundingFiles, Mandates, MarkFiles

__all__ = ["BrokerAddress", "broker", "feed", "open_vaults", "schedule", "until_stopped", "up", "watch",
           "write_log_of"]  # fmt: skip

BrokerAddress = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        envvar="RINGFENCE_BROKER",
        help="The broker: redis://HOST:PORT/NUMBER. [default: redis://localhost:6379/0]",
    ),
]
FeedNames = Annotated[
    list[str] | None,
    typer.Option(
        "--feed",
        metavar="FEED",
        help="Where prices come from: replay:SCENARIO, or replay with --bars (history as if it happened now); "
        "folder:DIR (files dropped into it); ccxt:EXCHANGE (its public data). Several of these two witness each other.",
    ),
]
Speed = Annotated[str, typer.Option("--speed", metavar="N", help="How many times as fast as it happened: 60x, or max.")]


def until_stopped() -> Callable[[], bool]:
    """Returns what says whether this process was told to stop, by SIGTERM, from the keyboard or by its lifeline."""
    from ringfence.runtime.lifeline import hold_lifeline

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    hold_lifeline()
    return stopped.is_set


def write_log_of(part: str) -> None:
    """What this process logs goes to standard error from now on, said by `part`. Refused: SettingRefused."""
    from ringfence.runtime.logs import write_log
    from ringfence.runtime.settings import settings

    write_log(sys.stderr, part, settings().log)


@app.command()
def schedule(
    db: Database = None,
    broker: BrokerAddress = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=1000, help="Among how many processes work is shared out.")
    ] = 2,
) -> None:
    """Look for what is due and ring the workers, until SIGTERM. Any number may run."""
    from ringfence.runtime.broker import demand_answer
    from ringfence.runtime.doorbell import Doorbell
    from ringfence.runtime.scheduler import Scheduler
    from ringfence.runtime.settings import settings
    from ringfence.runtime.tasks import clock

    write_log_of("schedule")
    stopped = until_stopped()
    address = settings(**({} if broker is None else {"broker": broker})).broker
    demand_answer(address)
    with database(db, writes=True, create=False) as engine:
        bell = Doorbell(address)
        Scheduler(engine, bell.settle, workers, bell.audit).serve(clock, stopped)


@app.command()
def watch(
    db: Database = None,
    broker: BrokerAddress = None,
    shard: Annotated[
        str, typer.Option("--shard", metavar="K/N", help="Which of how many parts of the instruments: 1/2, 2/2.")
    ] = "1/1",
) -> None:
    """Watch every open position, and ring the workers for whom a price or a funding stamp calls, until SIGTERM.

    Any number may run.
    """
    from ringfence.runtime.doorbell import Bell, Doorbell
    from ringfence.runtime.settings import settings
    from ringfence.runtime.watching import Watching

    write_log_of("watch")
    number, count = _parsed_shard(shard)
    stopped = until_stopped()
    address = settings(**({} if broker is None else {"broker": broker})).broker
    with database(db, writes=False, create=False) as engine:
        Watching(engine, Doorbell(address).guard, number - 1, count).serve(Bell(address).wait, stopped)


def _parsed_shard(text: str) -> tuple[int, int]:
    from ringfence.faces.errors import InputRefused

    number, _, count = text.partition("/")
    if not (number.isascii() and number.isdecimal() and count.isascii() and count.isdecimal()) or not (
        1 <= int(number) <= int(count) <= 1000
    ):
        raise InputRefused("--shard", text, "expected which of how many, like 1/2")
    return int(number), int(count)


@app.command(hidden=True)
def broker(
    socket: Annotated[Path, typer.Option("--socket", metavar="FILE", help="Where it listens, in a folder of its own.")],
) -> None:
    """Run a broker for this user alone, until SIGTERM."""
    import time

    from ringfence.runtime.broker import EmbeddedBroker

    stopped = until_stopped()
    with EmbeddedBroker(socket) as server:
        while not stopped():
            time.sleep(0.2)
            if not server.is_running():
                raise typer.Exit(1)


@app.command()
def feed(
    mandates: Mandates,
    feed: FeedNames = None,
    bars: BarFiles = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    speed: Speed = "60x",
    venues: Venues = None,
    started: Annotated[int | None, typer.Option("--started", hidden=True)] = None,
    since: Annotated[int | None, typer.Option("--from", hidden=True)] = None,
    db: Database = None,
    broker: BrokerAddress = None,
) -> None:
    """Record what a feed delivers for the mandates' instruments, until SIGTERM or its end."""
    from ringfence.faces.errors import InputRefused
    from ringfence.faces.feeds import KINDS, Asked, named
    from ringfence.runtime.doorbell import Bell
    from ringfence.runtime.feeding import Feeder, fed_until
    from ringfence.runtime.settings import settings
    from ringfence.runtime.tasks import clock

    if not feed:
        raise InputRefused("--feed", "", "expected one of: " + "; ".join(kind.form for kind in KINDS.values()))
    write_log_of("feed")
    stopped = until_stopped()
    asked = Asked(
        tuple(feed), tuple(mandates), speed, tuple(bars or ()), tuple(funding or ()), tuple(mark or ()),
        tuple(venues) if venues else None,
    )  # fmt: skip
    given = named(asked)
    address = settings(**({} if broker is None else {"broker": broker})).broker
    with database(db, writes=True, create=False) as engine:
        known = fed_until(engine, given.symbols)
        source = given.source(started or clock(), since, known)
        feeder = Feeder(engine, source, Bell(address).ring)
        try:
            feeder.serve(clock, stopped)
        finally:
            remark(", ".join(f"{name} {count:,}" for name, count in feeder.counts.items() if count) or "nothing came")


@app.command("open")
def open_vaults(
    mandates: Mandates,
    feed: FeedNames = None,
    bars: BarFiles = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    venues: Venues = None,
    db: Database = None,
) -> None:
    """Open the vaults of mandates where a feed begins, and stop; what is open already stays as it is.

    Brings the database up to date, or makes it: the first step of an installation whose parts run one by one.
    """
    from ringfence.faces.cli.supervision import open_all
    from ringfence.faces.errors import InputRefused
    from ringfence.faces.feeds import KINDS, Asked, named

    if not feed:
        raise InputRefused("--feed", "", "expected one of: " + "; ".join(kind.form for kind in KINDS.values()))
    asked = Asked(
        tuple(feed), tuple(mandates), "max", tuple(bars or ()), tuple(funding or ()), tuple(mark or ()),
        tuple(venues) if venues else None,
    )  # fmt: skip
    with database(db, writes=True) as engine:
        open_all(engine, named(asked))


@app.command()
def up(
    mandates: Annotated[
        list[Path] | None, typer.Argument(metavar="[MANDATE...]", help="Mandate files, or folders of them.")
    ] = None,
    feed: FeedNames = None,
    bars: BarFiles = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    speed: Speed = "60x",
    venues: Venues = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="The example mandates, three holders, March 2020 at 3600x.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that step vaults.")] = 2,
    db: Database = None,
    broker: BrokerAddress = None,
    logs: Annotated[Path, typer.Option("--logs", metavar="DIR", help="Where each part writes its log.")] = Path(
        "out/logs"
    ),
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where /health and /metrics are. [default: 127.0.0.1:9464, or a free port where that is taken]",
        ),
    ] = None,
) -> None:
    """Start a whole installation and show it, until Ctrl-C: broker, scheduler, feed, workers, health and metrics.

    Opens the vaults of the mandates. Deposit from another terminal while it runs.
    """
    from ringfence.faces.cli.supervision import Asked, run
    from ringfence.faces.demo import example_mandates
    from ringfence.faces.errors import InputRefused
    from ringfence.faces.feeds import Asked as Prices

    if demo:
        mandates, speed = mandates or [example_mandates()], "3600x"
        db = db or "out/live/ringfence.db"
        Path("out/live").mkdir(parents=True, exist_ok=True)
    if not mandates:
        raise InputRefused("MANDATE", "", "name the mandates whose vaults shall live, or --demo")
    prices = Prices(
        tuple(feed or ("replay:2020-03",)), tuple(mandates), speed, tuple(bars or ()), tuple(funding or ()),
        tuple(mark or ()), tuple(venues) if venues else None,
    )  # fmt: skip
    raise typer.Exit(run(Asked(prices, workers, database_url(db), broker, logs, demo, listen)))
