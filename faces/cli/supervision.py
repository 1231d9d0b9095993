"""`ringfence up`: the vaults opened, the parts started and watched, and what happens shown until Ctrl-C."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ringfence.faces.cli.app import database, remark
from ringfence.faces.cli.pending import PENDING, Files
from ringfence.faces.demo import DEPOSITS
from ringfence.words.addresses import socket_address

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.faces.feeds import Asked as Prices
    from ringfence.faces.feeds import Feed, Live
    from ringfence.runtime.installation import Installation, Part

__all__ = ["LOADED", "PROGRAM", "Asked", "open_all", "run"]

_EVERY = 0.25
"""Seconds between two looks at the parts."""
_FILES_EVERY = 2.0
"""Seconds between two looks at the mandates' files."""
PROGRAM = "ringfence.faces.cli"
"""What runs the parts' commands."""
LOADED = (
    "ringfence.faces.cli.living", "ringfence.faces.cli.observing", "ringfence.faces.feeds",
    "ringfence.faces.health", "ringfence.faces.observatory", "ringfence.faces.pages", "ringfence.runtime.feeding",
    "ringfence.runtime.monitor", "ringfence.runtime.scheduler", "ringfence.runtime.watching",
    "ringfence.runtime.worker",
    "ringfence.runtime.warmth:warm",
)  # fmt: skip
"""What the parts load, once for all of them."""


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
    listen: str | None


def run(asked: Asked) -> int:
    """Live until Ctrl-C or SIGTERM; returns the exit code. Everything is checked before anything is started."""
    from ringfence.faces.observatory import free_place
    from ringfence.runtime.installation import Installation
    from ringfence.runtime.signs import FOLDER

    listen = free_place(asked.listen)
    with ExitStack() as held:
        # A socket's path may have only about 100 characters.
        shared = Path(held.enter_context(TemporaryDirectory(prefix="ringfence-", dir="/tmp")))
        address, socket = asked.broker, None
        if address is None:
            socket = shared / "broker"
            address = socket_address(socket)
        signs = shared / "signs"
        signs.mkdir(mode=0o700)
        environment = {"RINGFENCE_DATABASE": asked.database, "RINGFENCE_BROKER": address, FOLDER: str(signs)}
        installation = held.enter_context(Installation(asked.logs, environment, PROGRAM, LOADED))
        from ringfence.faces.feeds import named

        given = named(asked.prices)
        _admit_logs(asked.logs)
        if asked.broker is not None:
            _admit_broker(asked.broker)
        engine = held.enter_context(database(asked.database, writes=True))
        start = open_all(engine, given, DEPOSITS if asked.demo else ())
        installation.parts = _parts(asked, start, socket, listen)
        held.callback(_stop, installation)
        remark(f"health and metrics: http://{listen}/health http://{listen}/metrics")
        _serve(engine, installation, Files(asked.prices.mandates, asked.prices.venues))
    return 0


def _admit_logs(folder: Path) -> None:
    """Makes the folder of the logs. Refused: InputRefused, where it is none or cannot be written in."""
    from ringfence.faces.errors import InputRefused

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (FileExistsError, NotADirectoryError):
        raise InputRefused("--logs", str(folder), "is not a folder, or stands below a file; name another") from None
    except OSError as failure:
        raise InputRefused("--logs", str(folder), f"cannot be made ({failure.strerror}); name another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputRefused("--logs", str(folder), "cannot be written in; allow it, or name another folder")


def _admit_broker(address: str) -> None:
    """Refused: SettingRefused, InputRefused, BrokerUnreachable."""
    from ringfence.faces.errors import InputRefused
    from ringfence.runtime.broker import demand_answer
    from ringfence.runtime.settings import settings

    settings(broker=address)
    if address.startswith("memory:"):
        raise InputRefused("--broker", address, "is inside one process, and an installation has several; name another")
    demand_answer(address)


def open_all(engine: "Engine", given: "Feed | Live", deposits: Sequence[str] = ()) -> int:
    """Open the vaults of the feed's mandates that are not open yet, with a demo's deposits; returns where the feed's
    clock starts, UTC ms. A vault whose mandate's file has changed lives on under the mandate that it has."""
    from ringfence.faces.inputs import parse_deposits
    from ringfence.runtime.acts import deposit, open_vault
    from ringfence.runtime.feeding import fed_until
    from ringfence.runtime.tasks import clock
    from ringfence.vaults.errors import MandateChanged

    start = given.opening(clock(), fed_until(engine, given.symbols))
    for setup in given.setups:
        mandate = setup.mandate
        try:
            is_new = open_vault(engine, mandate, start)
        except MandateChanged:
            remark(f"{mandate.name}: {PENDING}")
            continue
        if is_new:
            remark(f"{mandate.name}: opened")
            for holder, amount in parse_deposits(deposits, [mandate]).items() if deposits else ():
                deposit(engine, mandate.name, holder, amount, start, new=True)
    return start


def _parts(asked: Asked, start: int, socket: Path | None, listen: str) -> "tuple[Part, ...]":
    from ringfence.runtime.installation import Part
    from ringfence.runtime.signs import CHILD
    from ringfence.runtime.tasks import clock

    def repeated(option: str, values: tuple[object, ...]) -> tuple[str, ...]:
        return tuple(word for value in values for word in (option, str(value)))

    prices = asked.prices
    feed = (
        "feed", *map(str, prices.mandates), *repeated("--feed", prices.feeds), "--speed", prices.speed,
        *repeated("--bars", prices.bars), *repeated("--funding", prices.funding), *repeated("--mark", prices.marks),
        *repeated("--venues", prices.venues or ()), "--started", str(clock()), "--from", str(start),
    )  # fmt: skip
    expected = repeated("--expect", ("worker", CHILD, "schedule", "feed", "watch"))
    broker = () if socket is None else (Part("broker", ("broker", "--socket", str(socket))),)
    return (
        *broker,
        Part("worker", ("worker", "--concurrency", str(asked.workers), "--queues", "settlement"), socket),
        Part("schedule", ("schedule", "--workers", str(asked.workers)), socket),
        Part("feed", feed, socket, ends=True),
        Part("watch", ("watch",), socket),
        Part("guard", ("worker", "--concurrency", "1", "--queues", "risk"), socket),
        Part("patience", ("worker", "--concurrency", "1", "--queues", "strategy"), socket),
        Part("observe", ("observe", "--listen", listen, *expected)),
    )


def _serve(engine: "Engine", installation: "Installation", files: Files) -> None:
    from ringfence.faces.cli.view import View

    ended, looked = list[int](), time.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda given, _: ended.append(given))
    with View(engine, installation) as view:
        while not ended:
            for told in installation.tend():
                view.tell(told)
            if time.monotonic() - looked > _FILES_EVERY:
                for told in _pending(files, engine):
                    view.tell(told)
                looked = time.monotonic()
            view.refresh()
            time.sleep(_EVERY)
        view.refresh(at_once=True)


def _pending(files: Files, engine: "Engine") -> list[str]:
    from ringfence.runtime.errors import DatabaseError

    try:
        return files.told(engine)
    except DatabaseError:  # told by the view
        return []


def _stop(installation: "Installation") -> None:
    print("stopping; what was committed is kept", file=sys.stderr)
    for name in installation.stop():
        print(f"{name} did not stop and was killed", file=sys.stderr)
