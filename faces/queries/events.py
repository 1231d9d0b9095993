"""What a database says about what happened, read from the end of each journal, so that the last few of a million cost
little."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.faces.errors import NothingCalled
from ringfence.faces.event_lines import EVENT_KINDS, found_in, told
from ringfence.faces.queries.rows import terms_of, vault_rows
from ringfence.runtime.database import unit_of_work
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Opened
from ringfence.vaults.errors import EntryUnreadable
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import position as positions
from ringfence.words.times import utc

__all__ = ["events"]


def events(
    engine: Engine,
    name: str | None = None,
    kinds: Sequence[str] = (),
    position: str | None = None,
    since: int | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Everything that happened, oldest first: of one vault or all, of some kinds, of one position, since a time (UTC
    ms); `limit` keeps the last ones.

    Refused: UnknownVault, and NothingCalled for a kind or a position that does not exist.
    """
    for kind in kinds:
        if kind not in EVENT_KINDS:
            raise NothingCalled("kind", kind, EVENT_KINDS)
    with unit_of_work(engine, writes=False) as connection:
        rows = vault_rows(connection, name)
        if position is not None:
            _demand_position(connection, rows, position)
        asked = _Asked(tuple(kinds), position, since, limit)
        found = [event for row in rows for event in _last_of(connection, row, asked)]
    found.sort(key=lambda event: event["ts"])
    for event in found:
        del event["ts"]
    return found if limit is None else found[max(0, len(found) - limit) :]


@dataclass(frozen=True)
class _Asked:
    kinds: tuple[str, ...]
    position: str | None
    since: int | None
    limit: int | None

    def wants(self, event: Mapping[str, Any]) -> bool:
        is_recent = self.since is None or event["ts"] >= self.since
        return (
            is_recent and (not self.kinds or event["kind"] in self.kinds) and self.position in (None, event["position"])
        )


def _demand_position(connection: Connection, rows: Sequence[RowMapping], name: str) -> None:
    """Passes where one of the vaults holds a position of this name. Refused: NothingCalled."""
    known = select(positions.c.name).distinct().where(positions.c.vault_id.in_([row["id"] for row in rows]))
    names = tuple(connection.execute(known.order_by(positions.c.name)).scalars())
    if name not in names:
        raise NothingCalled("position", name, names)


def _last_of(connection: Connection, row: RowMapping, asked: _Asked) -> list[dict[str, Any]]:
    """What is asked of one vault, oldest first; read from the end, so that the last few of a million cost little."""
    # A decision's row bears its slot's close, which is no earlier than its events.
    since = asked.since
    first = 1 if since is None else journal.first_since(connection, row["id"], row["journal_seq"], since)
    terms, found = terms_of(connection, row), list[dict[str, Any]]()
    kinds, holding = found_in(asked.kinds)
    kinds = (*kinds, Amended.kind) if asked.kinds else kinds  # before an amendment other terms were in force
    for told_by in journal.newest(connection, row["id"], kinds, holding, first):
        entry = told_by.entry
        events = [event for event in told(told_by, entry, terms, row["decimals"]) if asked.wants(event)]
        events.sort(key=lambda event: event["ts"])  # positions are told one after the other
        found += ({"vault": row["name"], "row": told_by.seq, "time": utc(event["ts"]), **event}
                  for event in reversed(events))  # fmt: skip
        if asked.limit is not None and len(found) >= asked.limit:
            break
        if isinstance(entry, Amended):
            terms = _mandate_at(connection, row, told_by.seq - 1)
    return found[: asked.limit][::-1]


def _mandate_at(connection: Connection, row: RowMapping, seq: int) -> Mandate:
    """The mandate that was in force at a row of the journal."""
    found = journal.last_row(connection, row["id"], Opened, Amended, until=seq)
    entry = None if found is None else found.entry
    if not isinstance(entry, Opened | Amended):
        raise EntryUnreadable("opened", f"vault {row['name']} has no mandate before row {seq} of its journal")
    return Mandate.from_canonical(entry.terms)
