"""What is wrong with an installation, and the way out of it: each thing that it stands on looked at, whatever else is
broken. Nothing is changed."""

import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sqlalchemy import Engine, select

from ringfence.faces.checks import Check, failed
from ringfence.words.numbers import format_count
from ringfence.words.times import format_duration

__all__ = ["Patient", "diagnose"]

CLOCK = 1_000
"""ms by which two clocks may differ."""
LATE = 60_000
"""ms for which a bar may be over and not be there."""
ROOM = 512 << 20
"""Bytes that the disk should have left, at least."""
FILES, MEMORY = 1_024, 1 << 30
"""Open files and bytes of memory that a process should be allowed, at least."""


@dataclass(frozen=True)
class Patient:
    """What is looked at."""

    database: str
    """Its address."""
    broker: str | None
    """None: where one stands by default."""
    mandates: tuple[Path, ...] = ()
    """Files and folders, compared with what the vaults live under."""
    venues: tuple[Path, ...] | None = None


def diagnose(patient: Patient, clock: Callable[[], int]) -> tuple[Check, ...]:
    """Everything that was looked at, in the order in which one thing stands on another. `clock`: now, UTC ms."""
    found = [
        *_guarded("settings", "the addresses and the log's form", _settings(patient)),
        *_guarded("packages", "their versions", _packages()),
        *_guarded("limits", "of this process", _limits()),
        *_guarded("database file", "its disk and its rights", _file(patient.database)),
        *_guarded("database", "it was opened", _database(patient, clock)),
        *_guarded("broker", "it was asked for its time", _broker(patient, clock)),
    ]
    return tuple(found)


def _guarded(part: str, tried: str, checks: Iterable[Check]) -> Iterator[Check]:
    """The checks, up to the one that cannot be made; that one is told."""
    try:
        yield from checks
    except Exception as failure:
        yield failed(part, tried, failure)


# ---------------------------------------------------------------------------------------------------- the machine


def _settings(patient: Patient) -> Iterator[Check]:
    from ringfence.runtime.settings import settings

    chosen = {"database": patient.database} | ({} if patient.broker is None else {"broker": patient.broker})
    yield Check("settings", "the addresses and the log's form", str(settings(**chosen)))


def _packages() -> Iterator[Check]:
    found = {}
    for name in ("celery", "kombu", "redis", "sqlalchemy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    yield _judged_packages(found)


def _judged_packages(found: dict[str, str]) -> Check:
    tried, told = "their versions", ", ".join(f"{name} {release}" for name, release in found.items())
    if found.get("celery", "").startswith("5.7.0"):
        reason = f"{told}: a worker of celery 5.7.0 ends when its broker is started again during a task"
        return Check("packages", tried, reason, False, "pip install celery==5.6.3")
    if tuple(map(int, found.get("kombu", "0").split(".")[:2])) < (5, 7):
        reason = f"{told}: kombu before 5.7 does not come back from a half-open connection"
        return Check("packages", tried, reason, False, "pip install kombu==5.7.0")
    return Check("packages", tried, told)


def _limits() -> Iterator[Check]:
    files, memory = resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_AS)[0]
    is_enough = files == resource.RLIM_INFINITY or files >= FILES
    told = "without a limit" if files == resource.RLIM_INFINITY else format_count(files)
    yield Check("limits", "open files", told, is_enough, "" if is_enough else f"ulimit -n {4 * FILES}")
    allowed = [memory] if memory != resource.RLIM_INFINITY else []
    allowed.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        allowed.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    is_enough = min(allowed) >= MEMORY
    way = "" if is_enough else f"allow {_bytes(MEMORY)} or more (ulimit -v, the container's limit, the machine)"
    yield Check("limits", "memory", _bytes(min(allowed)), is_enough, way)


def _bytes(number: int) -> str:
    return f"{number / (1 << 30):.1f} GiB" if number >= 1 << 30 else f"{number / (1 << 20):.0f} MiB"


# ---------------------------------------------------------------------------------------------------- the database


def _file(address: str) -> Iterator[Check]:
    from ringfence.faces.cli.app import database_files

    files = database_files(address)
    if not files:
        return
    path, folder = files[0].absolute(), files[0].absolute().parent
    room = shutil.disk_usage(folder).free
    way = "" if room >= ROOM else f"make room: a step needs some, and what the disk refuses is not done ({folder})"
    yield Check("database file", "room on its disk", _bytes(room), room >= ROOM, way)
    if not path.exists():
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    wrong = [str(place) for place in (path, folder) if not os.access(place, os.W_OK)]
    if wrong:
        yield Check("database file", "its rights", f"{' and '.join(wrong)} cannot be written", False, "allow writing")
    elif mode & 0o022:
        yield Check("database file", "its rights", f"{mode:o}: others can write to it", False, f"chmod 600 {path}")
    else:
        yield Check("database file", "its rights", f"{mode:o}")


def _database(patient: Patient, clock: Callable[[], int]) -> Iterator[Check]:
    from ringfence.runtime.database import SCHEMA, check_schema, open_engine

    engine = open_engine(patient.database, create=False)
    try:
        check_schema(engine)
        yield Check("database", "it was opened", f"schema {SCHEMA}")
        yield from _guarded("clock", "the database server's was compared", _server_clock(engine, clock))
        yield from _guarded("vaults", "duties and series were read", _seen(engine, clock()))
        yield from _guarded("positions", "whether their venues agree", _positions(engine))
        yield from _guarded("mandates", "they were compared with the vaults'", _mandates(engine, patient))
    finally:
        engine.dispose()


def _server_clock(engine: Engine, clock: Callable[[], int]) -> Iterator[Check]:
    from ringfence.runtime.clock import server_clock
    from ringfence.runtime.database import unit_of_work

    with unit_of_work(engine, writes=False) as connection:
        before, told, after = clock(), server_clock(connection), clock()
    if told is not None:
        yield _compared("the database server's", (before, told, after))


def _compared(whose: str, told: tuple[int, int, int]) -> Check:
    """`told`: this clock, the other's, this clock again, UTC ms."""
    before, other, after = told
    off = other - after if other > after else min(0, other - before)
    tried = f"{whose} was compared"
    if abs(off) <= CLOCK:
        return Check("clock", tried, f"within {CLOCK / 1_000:.0f} s of this one")
    found = f"{whose} is {format_duration(abs(off))} {'ahead of' if off > 0 else 'behind'} this one"
    return Check("clock", tried, found, False, "set both by one time server (NTP)")


def _seen(engine: Engine, now: int) -> Iterator[Check]:
    from ringfence.runtime.observation import Observer

    seen = Observer(engine).look(now)
    yield Check("vaults", "they were read", f"{len(seen.vaults)}, of which {len(seen.due)} have a slot to live")
    for trouble in seen.troubles:
        told = trouble.failure or "its worker died, or is at it still"
        found = f"{'left aside after ' if trouble.left_aside else ''}{trouble.attempts} attempts: {told}"
        way = f"mend what it says, then ringfence retry {trouble.vault}" if trouble.left_aside else ""
        yield Check(f"vault {trouble.vault}", "whether it is stepped", found, not trouble.left_aside, way)
    for vault in seen.vaults:
        if vault.is_open and vault.leverage is None:
            found, way = "an instrument of it or its mark is not known here", "see `ringfence instruments` and the feed"
            yield Check(f"vault {vault.name}", "its positions were marked", found, False, way)
    for series in seen.series:
        part, tried = f"series {series.instrument}", "how far it is fed"
        if series.age is None:
            yield Check(part, tried, "history: no feed follows this clock")
        elif series.age < series.timeframe + LATE:
            yield Check(part, tried, f"{format_duration(series.age // 1_000 * 1_000)} before this clock")
        else:
            found = f"{format_duration(series.age // 1_000 * 1_000)} before this clock, bars of "
            found += format_duration(series.timeframe)
            yield Check(part, tried, found, False, "see that `ringfence feed` runs, and what it logs")


def _positions(engine: Engine) -> Iterator[Check]:
    """Those that wait for something: an order that is open is news, one that is stopped a fault."""
    from ringfence.faces.queries.positions import positions

    for found in positions(engine):
        if found["pending"] is not None:
            name, stopped = found["vault"], found["is_stopped"]
            part = f"position {name}/{found['position']}"
            way = f"see `ringfence events {name}` and its venue; then ringfence resume {name} --why TEXT, in two steps"
            yield Check(part, "whether its venue agrees", found["pending"], not stopped, way if stopped else "")


def _mandates(engine: Engine, patient: Patient) -> Iterator[Check]:
    from ringfence.runtime import mandates
    from ringfence.runtime.database import unit_of_work
    from ringfence.vaults.tables import vault

    if not patient.mandates:
        return
    checked = mandates.check(patient.mandates, patient.venues)
    for problem in checked.problems:
        yield Check("mandates", "they were read", str(problem), False, "mend the file")
    if checked.problems:
        return
    with unit_of_work(engine, writes=False) as connection:
        living = dict(connection.execute(select(vault.c.name, vault.c.mandate)).all())
    for mandate in checked.mandates:
        part, tried = f"mandate {mandate.name}", "whether its vault lives under it"
        if mandate.name not in living:
            yield Check(part, tried, "there is no such vault yet")
        elif living[mandate.name] == mandate.fingerprint:
            yield Check(part, tried, "the same")
        else:
            found = f"the file is {mandate.fingerprint[:12]}, the vault lives under {living[mandate.name][:12]}"
            way = f"compare with `ringfence mandate show {mandate.name}`; the vault goes on under its own"
            yield Check(part, tried, found, False, way)


# ---------------------------------------------------------------------------------------------------- the broker


def _broker(patient: Patient, clock: Callable[[], int]) -> Iterator[Check]:
    from ringfence.runtime.broker import ask_broker
    from ringfence.runtime.settings import Settings

    before = clock()
    told = ask_broker(patient.broker or Settings.model_fields["broker"].default)
    yield Check("broker", "it was asked for its time", "answers")
    yield _compared("the broker's", (before, told.clock, clock()))
    if told.evicts is not None:
        found = f"{told.evicts}: it forgets messages where its memory is full"
        yield Check("broker", "what it does without memory", found, False, "set maxmemory-policy noeviction")
