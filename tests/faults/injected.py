"""The program `ringfence` with faults built into it; its words: FAULT... -- WORD...

slow:SECONDS      each unit of work of a vault that catches up takes so much longer, and so does the look after it
poison:VAULT      whoever steps this vault kills himself
lost:FILE         the first message is lost on its way, with the process that took it; FILE says that it was
claim:MS          a claim holds so long
visibility:SECONDS  the broker delivers again what was taken so long ago
ahead:SECONDS     this process's clock, as its tasks and its transport read it, goes so far ahead
room:BYTES        no file may grow beyond so many bytes
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kombu.transport.redis as transport

from ringfence.runtime import duties, tasks
from ringfence.runtime.desk import Desk


def slow(seconds: str) -> None:
    catch_up = Desk.catch_up

    def slowly(desk: Desk, vault: str, more: Callable[[], bool]) -> int:
        def goes_on() -> bool:
            time.sleep(float(seconds))
            return more()

        return catch_up(desk, vault, goes_on)

    Desk.catch_up = slowly  # type: ignore[method-assign]


def poison(poisoned: str) -> None:
    catch_up = Desk.catch_up

    def dying(desk: Desk, vault: str, more: Callable[[], bool]) -> int:
        if vault == poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        return catch_up(desk, vault, more)

    Desk.catch_up = dying  # type: ignore[method-assign]


def lost(flag: str) -> None:
    append = transport.QoS.append

    def losing(qos: Any, message: Any, delivery_tag: str) -> None:
        if message.delivery_info["routing_key"] == tasks.SETTLEMENT and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        append(qos, message, delivery_tag)

    transport.QoS.append = losing


def claim(ms: str) -> None:
    duties.CLAIM = int(ms)


def visibility(seconds: str) -> None:
    tasks.app.conf.broker_transport_options["visibility_timeout"] = float(seconds)
    tasks.app.conf.broker_transport_options["unacked_restore_interval"] = 1


def ahead(seconds: str) -> None:
    plain, transported = tasks.clock, transport.time
    tasks.clock = lambda: plain() + int(float(seconds) * 1000)
    transport.time = lambda: transported() + float(seconds)


def room(size: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))


def main() -> None:
    """The program, as it was asked for."""
    cut = sys.argv.index("--")
    for words in sys.argv[1:cut]:
        fault, _, value = words.partition(":")
        globals()[fault](value)
    sys.argv = [sys.argv[0], *sys.argv[cut + 1 :]]
    from ringfence.faces.cli import main as program

    program()
