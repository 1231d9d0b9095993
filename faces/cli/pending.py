"""Files of mandates under running vaults: what changes there is told as pending and never applied by itself."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["PENDING", "Files"]

PENDING = "its file says another mandate now: pending, not applied; the vault lives on under the mandate that it has"
_State = dict[Path, tuple[int, int]]


class Files:
    """The files and folders that an installation was given, looked at again and again."""

    def __init__(self, paths: Sequence[Path], venues: Sequence[Path] | None) -> None:
        self._paths, self._venues = paths, venues
        self._state = self._found()

    def _found(self) -> _State:
        """Size and time of every file that is there."""
        found: _State = {}
        for path in self._paths:
            with suppress(OSError):
                for file in path.iterdir() if path.is_dir() else (path,):
                    seen = file.stat()
                    found[file] = (seen.st_size, seen.st_mtime_ns)
        return found

    def told(self, engine: "Engine") -> list[str]:
        """In words, what a change since the last look means for the vaults; nothing where there was none."""
        state = self._found()
        if state == self._state:
            return []
        self._state = state
        return self._changes(engine)

    def _changes(self, engine: "Engine") -> list[str]:
        from sqlalchemy import select

        from ringfence.runtime import mandates
        from ringfence.runtime.database import unit_of_work
        from ringfence.vaults.tables import vault

        checked = mandates.check(self._paths, self._venues)
        if checked.problems:
            return [f"{problem}; not applied: the vaults live on" for problem in checked.problems]
        with unit_of_work(engine, writes=False) as connection:
            running = dict(connection.execute(select(vault.c.name, vault.c.mandate)).all())
        told = []
        for mandate in checked.mandates:
            if mandate.name not in running:
                told.append(f"{mandate.name}: a new mandate; its vault opens when this is started again")
            elif running[mandate.name] != mandate.fingerprint:
                told.append(f"{mandate.name}: {PENDING}")
        return told
