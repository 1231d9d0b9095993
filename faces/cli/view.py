"""The live view of an installation: its vaults, its series, its parts and what happened last."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringfence.words.numbers import ABSENT, format_amount, format_per_share, readable
from ringfence.words.refusal import RingfenceError
from ringfence.words.times import format_duration, utc

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from sqlalchemy import Engine

    from ringfence.runtime.installation import Installation, Part
    from ringfence.runtime.observation import Seen, SeenVault

__all__ = ["View"]

_EVERY = 1.0
"""Seconds between two looks at the database."""
_EVENTS = 6
_LOOKED_INTO = 4
"""Vaults whose journals are read for one drawing, at most: those with the latest rows."""
_NOISE = frozenset({"funding", "collateral", "mandate"})
"""Kinds of events that would hide all others."""
_FIGURES = ("NAV", "over the wall", "NAV/share", "leverage", "to liquidation", "in margin", "behind")


class View:
    """On a terminal a screen that is drawn anew; anywhere else a line for each decision."""

    def __init__(self, engine: "Engine", installation: "Installation") -> None:
        from ringfence.runtime.observation import Observer

        self._engine, self._installation = engine, installation
        self._observer = Observer(engine)
        self._live: Live | None = None
        self._looked = 0.0
        self._told: list[str] = []
        self._decided: dict[str, int | None] = {}
        self._rows: dict[str, int] = {}
        """By vault, how much of its journal was seen."""
        self._events: list[dict[str, Any]] = []

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
        from ringfence.runtime.errors import DatabaseError

        try:
            seen = self._look()
            if self._live is not None:
                self._follow(seen)
        except DatabaseError as failure:
            self.tell(str(failure))
            return
        if self._live is None:
            self._print(seen)
        else:
            self._live.update(self._drawn(seen), refresh=True)

    def _look(self) -> "Seen":
        from ringfence.runtime.signs import feed_clock, signs

        shared = self._installation.shared
        told = feed_clock(() if shared is None else signs(shared))
        return self._observer.look(time.time_ns() // 1_000_000, told.clock, ended=told.ended)

    def _follow(self, seen: "Seen") -> None:
        """The last events, of the vaults whose journals have grown."""
        from ringfence.faces import queries

        grown = [one for one in seen.vaults if one.journal_seq > self._rows.get(one.name, 0)]
        grown.sort(key=lambda one: one.marked or 0)
        for one in grown[-_LOOKED_INTO:]:
            known = {(event["vault"], event["row"]) for event in self._events}
            try:
                found = queries.events(self._engine, one.name, limit=4 * _EVENTS)
            except RingfenceError as failure:
                self.tell(str(failure))
                continue
            self._events += [event for event in found if event["kind"] not in _NOISE
                             and (event["vault"], event["row"]) not in known]  # fmt: skip
        self._rows = {one.name: one.journal_seq for one in seen.vaults}
        self._events = sorted(self._events, key=lambda event: event["time"])[-_EVENTS:]

    def _print(self, seen: "Seen") -> None:
        for vault in seen.vaults:
            if vault.marked is not None and self._decided.get(vault.name) != vault.marked:
                self._decided[vault.name] = vault.marked
                wall = ABSENT if vault.wall is None else readable(format_amount(vault.wall, vault.decimals))
                print(
                    f"{utc(vault.marked)} {vault.name}: NAV {readable(format_amount(vault.nav, vault.decimals))}, "
                    f"wall {wall} {vault.currency}, {_status(vault)}", flush=True,
                )  # fmt: skip

    def _drawn(self, seen: "Seen") -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        worth = Table(box=None, pad_edge=False)
        for head in ("vault", "status", *_FIGURES, "marked at"):
            worth.add_column(head, justify="right" if head in _FIGURES else "left")
        for vault in seen.vaults:
            worth.add_row(vault.name, _status(vault), *_figures(vault))
        parts = ", ".join(f"{part.name} {_state(part)}" for part in self._installation.parts)
        events = (
            f"{event['time']} {event['vault']} {event['position'] or ''} {event['kind']}: {event['cause']}"
            for event in self._events
        )
        return Group(worth, Text(), Text(_queue(seen)), *map(Text, _feeds(seen)), Text(), *map(Text, events), Text(),
                     Text(parts), *map(Text, self._told))  # fmt: skip


def _status(vault: "SeenVault") -> str:
    from ringfence.faces.queries.vaults import status

    return status(
        shares=vault.shares, waiting=vault.waiting, entering=vault.entering, is_open=vault.is_open,
        is_locked=vault.locked_since is not None, is_halted=vault.halted_since is not None,
        is_closing=vault.closing_since is not None,
    )  # fmt: skip


def _figures(vault: "SeenVault") -> tuple[str, ...]:
    """In the order of the columns."""

    def percent(part: float | None) -> str:
        return ABSENT if part is None else f"{part:.2%}"

    return (
        readable(format_amount(vault.nav, vault.decimals)) or ABSENT, percent(vault.wall_distance),
        readable(format_per_share(vault.nav, vault.shares), 6) or ABSENT,
        ABSENT if vault.leverage is None else f"{vault.leverage:.2f}", percent(vault.liquidation_distance),
        readable(format_amount(vault.in_margin, vault.decimals)) or ABSENT,
        ABSENT if vault.lag is None else format_duration(vault.lag) if vault.lag else "",
        "" if vault.marked is None else utc(vault.marked),
    )  # fmt: skip


def _queue(seen: "Seen") -> str:
    if not seen.due and not seen.left_aside:
        return "queue: nothing is due"
    aside = f", {len(seen.left_aside)} left aside: {', '.join(one.vault for one in seen.left_aside)}"
    told = f"queue: {len(seen.due)} due, the oldest for {seen.oldest:.0f} s, {seen.claimed} claimed"
    return told + (aside if seen.left_aside else "")


def _feeds(seen: "Seen") -> list[str]:
    """How far behind its feed's clock each series is, alike ones in one line."""
    alike: dict[str, list[str]] = {}
    for one in seen.series:
        age = "nothing more is to come" if one.age is None else f"{format_duration(one.age // 1_000 * 1_000)} old"
        alike.setdefault(f"{age}, late by {one.late:.0f} s" if one.late else age, []).append(one.instrument)
    return [f"feed: {', '.join(names)}: {told}" for told, names in alike.items()]


def _state(part: "Part") -> str:
    return "is done" if part.is_done else "runs" if part.is_running else "starts"
