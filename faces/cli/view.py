"""The live view of an installation: its vaults, its parts and what happened last."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringfence.words.numbers import readable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from sqlalchemy import Engine

    from ringfence.runtime.installation import Installation, Part

__all__ = ["View"]

_EVERY = 1.0
"""Seconds between two looks at the database."""
_EVENTS = 8


class View:
    """On a terminal a screen that is drawn anew; anywhere else a line for each decision."""

    def __init__(self, engine: "Engine", installation: "Installation") -> None:
        self._engine, self._installation = engine, installation
        self._live: Live | None = None
        self._looked = 0.0
        self._told: list[str] = []
        self._decided: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.live import Live

            from ringfence.faces.cli.screen import Screen

            self._live = Live(console=Screen(sys.stdout), auto_refresh=False, screen=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str) -> None:
        """Something that happened to the installation itself."""
        if self._live is None:
            print(text, flush=True)
        self._told = [*self._told[-3:], text]

    def refresh(self, *, at_once: bool = False) -> None:
        """Look again, if it is time or `at_once`."""
        if not at_once and time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        from ringfence.faces import queries
        from ringfence.runtime.errors import DatabaseError

        try:
            vaults = queries.vaults(self._engine)
        except DatabaseError as failure:
            self.tell(str(failure))
            return
        if self._live is None:
            self._print(vaults)
        else:
            self._live.update(self._drawn(vaults), refresh=True)

    def _print(self, vaults: list[dict[str, Any]]) -> None:
        for vault in vaults:
            if vault["marked"] is not None and self._decided.get(vault["vault"]) != vault["marked"]:
                self._decided[vault["vault"]] = vault["marked"]
                print(
                    f"{vault['marked']} {vault['vault']}: NAV {readable(vault['nav'])}, wall {readable(vault['wall'])} "
                    f"{vault['currency']}, {vault['status']}", flush=True,
                )  # fmt: skip

    def _drawn(self, vaults: list[dict[str, Any]]) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        worth = Table(box=None, pad_edge=False)
        for head in ("vault", "status", "NAV", "over the wall", "NAV/share", "in margin", "marked at"):
            worth.add_column(
                head, justify="right" if head in ("NAV", "over the wall", "NAV/share", "in margin") else "left"
            )
        for vault in vaults:
            distance = "" if vault["wall_distance"] is None else f"{float(vault['wall_distance']):.2%}"
            worth.add_row(
                vault["vault"], vault["status"], readable(vault["nav"]), distance, readable(vault["nav_per_share"], 6),
                readable(vault["in_margin"]), vault["marked"] or "",
            )  # fmt: skip
        parts = ", ".join(f"{part.name} {_state(part)}" for part in self._installation.parts)
        return Group(worth, Text(), Text(parts), *map(Text, self._told))


def _state(part: "Part") -> str:
    return "is done" if part.is_done else "runs" if part.is_running else "starts"
