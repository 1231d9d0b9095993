"""Commands that keep vaults alive: the whole installation, and its parts one by one."""

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ringfence.faces.cli.app import Database, Venues, app, database, database_url
from ringfence.faces.cli.running import BarFiles, FundingFiles, Mandates, MarkFiles

__all__ = ["broker", "feed", "paper_exchange", "schedule", "up"]

BrokerAddress = Annotated[
    str | None,
    typer.Option(
        "--broker",
        metavar="URL",
        envvar="RINGFENCE_BROKER",
        help="The broker: redis://HOST:PORT/NUMBER. [default: redis://localhost:6379/0]",
    ),
]
FeedName = Annotated[
    str,
    typer.Option(
        "--feed",
        metavar="FEED",
        help="Where prices come from: replay:SCENARIO, or replay with --bars: history as if it happened now.",
    ),
]
Speed = Annotated[str, typer.Option("--speed", metavar="N", help="How many times as fast as it happened: 60x, or max.")]


def _until_stopped() -> Callable[[], bool]:
    """Whether this process has been told to stop, by SIGTERM, from the keyboard or by the end of its lifeline."""
    from ringfence.runtime.lifeline import hold_lifeline

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    hold_lifeline()
    return stopped.is_set


def _log_plainly() -> None:
    from ringfence.runtime.logs import log_plainly

    log_plainly(sys.stderr)


@app.command()
def schedule(
    db: Database = None,
    broker: BrokerAddress = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=1000, help="Among how many processes work is shared out.")
    ] = 2,
) -> None:
    """Look for what is due and ring the workers, until SIGTERM. Any number may run."""
    from ringfence.runtime.doorbell import Doorbell
    from ringfence.runtime.scheduler import Scheduler
    from ringfence.runtime.settings import settings
    from ringfence.runtime.tasks import clock

    _log_plainly()
    stopped = _until_stopped()
    address = settings(**({} if broker is None else {"broker": broker})).broker
    with database(db, writes=True, create=False) as engine:
        Scheduler(engine, Doorbell(address).settle, workers).serve(clock, stopped)


@app.command(hidden=True)
def broker(
    socket: Annotated[Path, typer.Option("--socket", metavar="FILE", help="Where it listens, in a folder of its own.")],
) -> None:
    """Run a broker for this user alone, until SIGTERM."""
    import time

    from ringfence.runtime.broker import EmbeddedBroker

    stopped = _until_stopped()
    with EmbeddedBroker(socket) as server:
        while not stopped():
            time.sleep(0.2)
            if not server.is_running():
                raise typer.Exit(1)


@app.command(hidden=True)
def paper_exchange(
    books: Annotated[Path, typer.Option("--books", metavar="FILE", help="Its own books, made where there are none.")],
    socket: Annotated[Path, typer.Option("--socket", metavar="FILE", help="Where its accounts speak to it.")],
    faults: Annotated[Path | None, typer.Option("--faults", metavar="FILE", help="What goes wrong: JSON.")] = None,
) -> None:
    """Run a paper exchange with books of its own, for this user alone, until SIGTERM."""
    from ringfence.markets.exchange.faults import NO_FAULTS, read_plan
    from ringfence.runtime.paper_exchange import serve

    _log_plainly()
    serve(books, socket, NO_FAULTS if faults is None else read_plan(faults), _until_stopped())


@app.command()
def feed(
    mandates: Mandates,
    feed: FeedName,
    bars: BarFiles = None,
    funding: FundingFiles = None,
    mark: MarkFiles = None,
    speed: Speed = "60x",
    venues: Venues = None,
    started: Annotated[int | None, typer.Option("--started", hidden=True)] = None,
    since: Annotated[int | None, typer.Option("--from", hidden=True)] = None,
    db: Database = None,
) -> None:
    """Record what a feed delivers for the mandates' instruments, until SIGTERM or its end."""
    from ringfence.faces.feeds import chosen
    from ringfence.runtime.feeding import Feeder, fed_until
    from ringfence.runtime.tasks import clock

    _log_plainly()
    stopped = _until_stopped()
    given = chosen(feed, speed, mandates, bars or (), funding or (), mark or (), venues)
    with database(db, writes=True, create=False) as engine:
        known = fed_until(engine, given.symbols)
        source = given.source(started or clock(), since, known)
        Feeder(engine, source).serve(clock, stopped)


@app.command()
def up(
    mandates: Annotated[
        list[Path] | None, typer.Argument(metavar="[MANDATE...]", help="Mandate files, or folders of them.")
    ] = None,
    feed: FeedName = "replay:2020-03",
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
) -> None:
    """Start a whole installation and show it, until Ctrl-C: broker, scheduler, feed, workers.

    Opens the vaults of the mandates. Deposit from another terminal while it runs.
    """
    from ringfence.faces.cli.supervision import Asked, run
    from ringfence.faces.demo import example_mandates
    from ringfence.faces.errors import InputRefused

    if demo:
        mandates, speed = mandates or [example_mandates()], "3600x"
        db = db or "out/live/ringfence.db"
        Path("out/live").mkdir(parents=True, exist_ok=True)
    if not mandates:
        raise InputRefused("MANDATE", "", "name the mandates whose vaults shall live, or --demo")
    asked = Asked(
        tuple(mandates), feed, tuple(bars or ()), tuple(funding or ()), tuple(mark or ()), speed,
        tuple(venues) if venues else None, workers, database_url(db), broker, logs, demo,
    )  # fmt: skip
    raise typer.Exit(run(asked))
