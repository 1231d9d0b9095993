"""What is said of the tables of instruments that an answer rests on: whose they are, from which day on they hold."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ringfence.markets.instruments import Instrument
from ringfence.markets.market import Market
from ringfence.markets.tables import shipped, stands_for
from ringfence.runtime.setup import Setup

__all__ = ["Table", "notes_of", "sentence", "tables_of"]

_NAMES_SHOWN = 4


@dataclass(frozen=True)
class Table:
    """Instruments of one venue whose terms hold from one day on."""

    venue: str
    valid_from: str | None
    """ISO; None where a person stated the terms."""
    is_shipped: bool
    """Whether it came with the program."""
    instruments: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        whose = "shipped" if self.is_shipped else "yours"
        names = ", ".join(self.instruments[:_NAMES_SHOWN])
        more = len(self.instruments) - _NAMES_SHOWN
        return f"{self.venue}, valid from {self.valid_from} ({whose}): {names}{f' and {more} more' if more > 0 else ''}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "instruments": list(self.instruments)}


def tables_of(traded: Iterable[Instrument]) -> tuple[Table, ...]:
    """The tables that these instruments stand in, in order of their first one."""
    by_table: dict[tuple[str, str | None, bool, str], dict[str, None]] = {}
    for one in traded:
        is_shipped = shipped().at(one.key) == one
        by_table.setdefault((one.venue, one.valid_from, is_shipped, one.source), {})[one.name] = None
    return tuple(
        Table(venue, valid_from, is_shipped, tuple(names), source)
        for (venue, valid_from, is_shipped, source), names in by_table.items()
    )


def sentence(tables: Sequence[Table]) -> str:
    """The tables in one line."""
    return "; ".join(map(str, tables))


def notes_of(vaults: Iterable[tuple[Setup, Market]]) -> Iterator[str]:
    """What a person must know: a user's table in place of a shipped one, and terms younger than the prices."""
    for setup, market in vaults:
        start = datetime.fromtimestamp(int(market.ts[0]) / 1000, UTC).date().isoformat()
        yield from filter(None, map(stands_for, setup.instruments))
        for table in tables_of(setup.instruments):
            if table.valid_from is not None and table.valid_from > start:
                terms = f"{table.venue}'s tiers, lots and fees of {table.valid_from}"
                names = ", ".join(table.instruments)
                yield f"{names}: {terms} are used for bars from {start} on; before that day they may have been others"
