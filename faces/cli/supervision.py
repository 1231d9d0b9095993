"""`ringfence up`: the vaults opened, the parts started and watched, and what happens shown until Ctrl-C."""

import signal
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ringfence.faces.cli.app import database, remark
from ringfence.faces.demo import DEPOSITS

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.faces.feeds import Asked as Prices
    from ringfence.faces.feeds import Feed, Live
    from ringfence.runtime.installation import Installation, Part

__all__ = ["Asked", "run"]

_EVERY = 0.25
"""Seconds between two looks at the parts."""


@dataclass(frozen=True)
class Asked:
    """What `up` was asked for."""

    prices: "Prices"
    """The mandates, and where prices come from."""
    workers: int
    database: str
    broker: str | None
    logs: Path
    demo: bool


def run(asked: Asked) -> int:
    """Live until Ctrl-C or SIGTERM; returns the exit code. Everything is checked before anything is started."""
    from ringfence.faces.feeds import named
    from ringfence.runtime.broker import broker_at
    from ringfence.runtime.installation import Installation

    given = named(asked.prices)
    with ExitStack() as held:
        engine = held.enter_context(database(asked.database, writes=True))
        start = _open(engine, given, asked)
        address, socket = asked.broker, None
        if address is None:
            # A socket's path may have only about 100 characters.
            socket = Path(held.enter_context(TemporaryDirectory(prefix="ringfence-", dir="/tmp"))) / "broker"
            address = broker_at(socket)
        environment = {"RINGFENCE_DATABASE": asked.database, "RINGFENCE_BROKER": address}
        installation = Installation(_parts(asked, start, socket), asked.logs, environment)
        held.callback(_stop, installation)
        _serve(engine, installation)
    return 0


def _open(engine: "Engine", given: "Feed | Live", asked: Asked) -> int:
    """Open the vaults of the mandates that are not open yet; returns where the feed's clock starts, UTC ms."""
    from ringfence.faces.inputs import parse_deposits
    from ringfence.runtime.acts import deposit, open_vault
    from ringfence.runtime.feeding import fed_until
    from ringfence.runtime.tasks import clock

    start = given.opening(clock(), fed_until(engine, given.symbols))
    for setup in given.setups:
        mandate = setup.mandate
        if open_vault(engine, mandate, start):
            remark(f"{mandate.name}: opened")
            for holder, amount in parse_deposits(DEPOSITS if asked.demo else (), [mandate]).items():
                if asked.demo:
                    deposit(engine, mandate.name, holder, amount, start, new=True)
    return start


def _parts(asked: Asked, start: int, socket: Path | None) -> "tuple[Part, ...]":
    from ringfence.runtime.installation import Part
    from ringfence.runtime.tasks import clock

    def repeated(option: str, values: tuple[object, ...]) -> tuple[str, ...]:
        return tuple(word for value in values for word in (option, str(value)))

    prices = asked.prices
    feed = (
        "feed", *map(str, prices.mandates), *repeated("--feed", prices.feeds), "--speed", prices.speed,
        *repeated("--bars", prices.bars), *repeated("--funding", prices.funding), *repeated("--mark", prices.marks),
        *repeated("--venues", prices.venues or ()), "--started", str(clock()), "--from", str(start),
    )  # fmt: skip
    broker = () if socket is None else (Part("broker", ("broker", "--socket", str(socket))),)
    return (
        *broker,
        Part("worker", ("worker", "--concurrency", str(asked.workers)), socket),
        Part("schedule", ("schedule", "--workers", str(asked.workers)), socket),
        Part("feed", feed),
    )


def _serve(engine: "Engine", installation: "Installation") -> None:
    from ringfence.faces.cli.view import View

    ended = list[int]()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: ended.append(given))
    with View(engine, installation) as view:
        while not ended:
            for told in installation.tend():
                view.tell(told)
            view.refresh()
            time.sleep(_EVERY)
        view.refresh(at_once=True)


def _stop(installation: "Installation") -> None:
    print("stopping; what was committed is kept", file=sys.stderr)
    for name in installation.stop():
        print(f"{name} did not stop and was killed", file=sys.stderr)
