"""The progress of a long command on standard error: a bar on a terminal, one line a vault anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from sqlalchemy import Engine

__all__ = ["Heard", "bar"]

Heard = Callable[[str, int, int], None]
"""(vault, done, total)."""

_EVERY = 0.25
"""Seconds between two looks at the vault's worth."""


@contextmanager
def bar(engine: "Engine | None" = None, before: str = "recording prices", each: str = "slots") -> Iterator[Heard]:
    """What a long act reports to. With an engine the bar shows what the vault is worth as it goes."""
    if not sys.stderr.isatty():
        yield _told_once(each)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ringfence.faces.cli.screen import Screen

    columns = (
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn(each + "  {task.fields[worth]}"),
        TimeRemainingColumn(compact=True),
    )
    shown = Progress(
        *columns, console=Screen(sys.stderr), expand=True, transient=True,
        redirect_stdout=False, redirect_stderr=False,  # what others print meanwhile would not go through our streams
    )  # fmt: skip
    with shown as progress:
        waiting = progress.add_task(before, total=None, worth="")
        yield _Bar(progress, waiting, engine)


def _told_once(each: str) -> Heard:
    def heard(vault: str, done: int, total: int) -> None:
        if done == total:
            print(f"{vault}: {total} {each}", file=sys.stderr, flush=True)

    return heard


class _Bar:
    def __init__(self, progress: "Progress", waiting: "TaskID", engine: "Engine | None") -> None:
        self._progress, self._waiting, self._engine = progress, waiting, engine
        self._tasks: dict[str, TaskID] = {}
        self._looked = 0.0

    def __call__(self, vault: str, done: int, total: int) -> None:
        if vault not in self._tasks:
            self._progress.update(self._waiting, visible=False)
            self._tasks[vault] = self._progress.add_task(vault, total=total, worth="")
        task = self._tasks[vault]
        if done == total or time.monotonic() - self._looked > _EVERY:
            self._progress.update(task, completed=done, worth=self._worth(vault))
            self._looked = time.monotonic()

    def _worth(self, name: str) -> str:
        if self._engine is None:
            return ""
        from sqlalchemy import select

        from ringfence.vaults.tables import vault
        from ringfence.words.numbers import format_amount

        with self._engine.connect() as connection:
            columns = select(vault.c.last_nav, vault.c.decimals, vault.c.currency)
            nav, decimals, currency = connection.execute(columns.where(vault.c.name == name)).one()
            connection.rollback()
        return f"NAV {format_amount(nav, decimals, for_people=True, places=0)} {currency}"
