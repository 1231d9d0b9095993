"""The demo: the shipped mandates, three holders and the crash of March 2020, replayed into a database and verified."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringfence.faces.errors import DemoRefused, ExamplesMissing
from ringfence.runtime.outputs import OWNER_ONLY

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from ringfence.faces.report.statements import StatementRow
    from ringfence.runtime.runs import VaultRun
    from ringfence.runtime.setup import Setup
    from ringfence.runtime.verification import Verdict

__all__ = ["DEPOSITS", "SCENARIO", "Demo", "example_mandates", "fresh_database", "play"]

SCENARIO = "2020-03"
DEPOSITS = ("alice=50000", "bob=25000", "carol=10000.50")
_APPLICATION = 0x52464445
"""SQLite's application_id of a database that a demo made: it may be replaced."""


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo came to."""

    database: Path
    report: Path
    scenario: str
    """Its title."""
    notes: tuple[str, ...]
    runs: "tuple[VaultRun, ...]"
    vaults: "dict[str, Setup]"
    """What each vault ran on, by its name."""
    verdicts: "tuple[Verdict, ...]"
    statements: "tuple[StatementRow, ...]"


def example_mandates() -> Path:
    """The folder of the example mandates: the wheel's copy, or the repository's own."""
    here = Path(__file__).resolve().parent
    for folder in (here / "examples", here.parent / "mandates"):
        if folder.is_dir():
            return folder
    raise ExamplesMissing(here / "examples")


def fresh_database(out: Path) -> Path:
    """An empty database file in `out` that is marked as a demo's; one that a demo left is replaced.

    Refused: DemoRefused for any other file in its place.
    """
    path = out / "ringfence.db"
    if path.exists() and not _of_a_demo(path):
        raise DemoRefused(path, "is there and was not made by a demo")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DemoRefused(out, "is no folder") from None
    for old in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        old.unlink(missing_ok=True)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    except (sqlite3.Error, OSError) as failure:
        raise DemoRefused(path, f"cannot be written ({failure})") from None
    return path


def _of_a_demo(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        header = stream.read(72)
    return header[:16] == b"SQLite format 3\0" and int.from_bytes(header[68:72], "big") == _APPLICATION


def play(
    out: Path,
    replaying: "Callable[[Engine], Any]",
    verifying: "Callable[[], Any]",
) -> Demo:
    """Run the demo into the folder `out`. The two make the progress of its acts, as context managers."""
    from ringfence.faces.inputs import prepare
    from ringfence.faces.queries import statement_rows
    from ringfence.faces.report import write_report
    from ringfence.runtime.database import lock_vault, migrate, open_engine, unit_of_work
    from ringfence.runtime.figures import figures
    from ringfence.runtime.replay import replay
    from ringfence.runtime.verification import verify
    from ringfence.words.addresses import file_address

    inputs = prepare([example_mandates()], scenario_name=SCENARIO, deposits=DEPOSITS)
    path, report = fresh_database(out), out / "report.html"
    engine = open_engine(file_address(str(path)), create=True)
    try:
        migrate(engine)
        with replaying(engine) as heard:
            runs = replay(engine, inputs.vaults, inputs.deposits, heard).runs
        with verifying() as heard:
            verdicts = verify(engine, progress=heard)
        with unit_of_work(engine, writes=False) as connection:
            statements = [row for run in runs for row in statement_rows(connection, lock_vault(connection, run.vault))]
        title = f"{len(runs)} vaults in the crash of March 2020"
        found = [figures(run, *given) for run, given in zip(runs, inputs.vaults, strict=True)]
        write_report(report, runs, statements, found, title=title, source=inputs.sources, verified=_verified(verdicts))
    finally:
        engine.dispose()
    ran = {setup.mandate.name: setup for setup, _ in inputs.vaults}
    return Demo(path, report, inputs.source, inputs.notes, tuple(runs), ran, tuple(verdicts), tuple(statements))


def _verified(verdicts: "list[Verdict]") -> str:
    from ringfence.words.numbers import format_count

    breaches = sum(len(verdict.breaches) for verdict in verdicts)
    slots, rows = (format_count(sum(getattr(verdict, name) for verdict in verdicts)) for name in ("slots", "rows"))
    found = "no breach" if not breaches else f"{breaches} BREACHES: run ringfence verify"
    return f"{rows} journal rows re-hashed, {slots} decisions made again from their inputs: {found}"
