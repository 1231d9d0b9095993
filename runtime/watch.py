"""The watch over all open positions of all vaults: whom a price calls.

It holds the triggers of what the database says is open, and finds the vaults whose position a mark crosses. It decides
nothing and writes nothing: whoever asks rings, and the step decides under the vault's lock. So what it finds too early
costs a step that does nothing; what it would find too late is what its laws are about:

* No position is older than the version of its vault that is held beside it: both are of one snapshot.
* A reading that fails leaves the watch as it was, and is owed: the next one reads the same vaults.
* Every instrument belongs to one shard, by its key alone, so that shards together miss nothing and share nothing.
* A vault whose mandate cannot be read is told (`unwatched`), and no other vault suffers from it.

Funding moves a margin without a price: who settles a stamp steps the vaults that hold the instrument, crossed or not.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from sys import intern
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import numpy as np
from sqlalchemy import Connection, Engine, and_, bindparam, func, select

from ringfence.markets.instruments import listing
from ringfence.risk.book import INSTRUMENT, POSITION, POSITION_LIMITS, Ints, Rows, rows
from ringfence.risk.watch import Marks, Watch, nearest_triggers
from ringfence.runtime.database import unit_of_work
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.limits import compile_limits
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import account, mandate, position, vault
from ringfence.words.refusal import RingfenceError

__all__ = ["Marks", "PositionWatch", "shard_of"]

_AT_ONCE, _NAMED_AT_ONCE = 5_000, 500
"""Rows that are read and armed together, and ids that one query names."""

_VERSIONS = select(vault.c.id, vault.c.version).order_by(vault.c.id)
_OPEN = (
    select(vault.c.id, vault.c.name.label("vault"), vault.c.mandate, position.c.name, position.c.instrument,
           position.c.quantity, position.c.cost, func.coalesce(account.c.balance, 0).label("margin"))
    .join(position, position.c.vault_id == vault.c.id)
    .join(account, and_(account.c.vault_id == vault.c.id, account.c.name == margin_account("") + position.c.name),
          isouter=True)
    .where(position.c.quantity != 0)
)  # fmt: skip
_OPEN_OF = _OPEN.where(vault.c.id.in_(bindparam("vaults", expanding=True)))
_BODIES = select(mandate.c.fingerprint, mandate.c.body).where(
    mandate.c.fingerprint.in_(bindparam("mandates", expanding=True))
)

_Named = TypeVar("_Named")
_Row = Any
"""Of `_OPEN`."""


def shard_of(instrument: str, shards: int) -> int:
    """Which of so many shards an instrument belongs to, by its key; the same in every process and release."""
    return crc32(instrument.encode()) % shards


class _Leg(NamedTuple):
    """What decides, beside what it holds, where a position's triggers lie: rows of the tables that keep each once."""

    limit: int
    instrument: int


class _Armed(NamedTuple):
    """An open position with its trigger."""

    vault: int
    name: str
    """Of the vault."""
    instrument: str
    side: int
    trigger: float


class _Unread(NamedTuple):
    """A vault with an open position whose trigger is unknown."""

    vault: int
    name: str
    reason: str


class _Distinct:
    """Rows of one type, each kept once."""

    def __init__(self, kind: "np.dtype[Any]") -> None:
        self._kind = kind
        self._numbers: dict[bytes, int] = {}

    def number(self, row: Any) -> int:
        return self._numbers.setdefault(row.tobytes(), len(self._numbers))

    def table(self) -> Rows:
        return np.frombuffer(b"".join(self._numbers), self._kind).copy().view(np.recarray)


@dataclass(eq=False)
class _Held:
    """What a watch holds of the database; of many positions, so that there is no object for each."""

    vaults: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Ids of every vault, in order."""
    versions: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Of each of them."""
    unread: dict[int, _Unread] = field(default_factory=dict)
    """By id of the vault."""
    watch: Watch = field(default_factory=Watch)
    owners: list[str] = field(default_factory=list)
    """By row of the watch, the name of the vault."""
    owned_by: "array[int]" = field(default_factory=lambda: array("q"))
    """By row of the watch, the id of the vault; -1 where the row is free."""
    free: list[int] = field(default_factory=list)
    symbols: dict[str, int] = field(default_factory=dict)
    """By key of an instrument, its number in the watch."""

    def drop(self, vaults: Ints) -> None:
        for one in vaults.tolist():
            self.unread.pop(one, None)
        for row in np.flatnonzero(np.isin(np.frombuffer(self.owned_by, np.int64), vaults)).tolist():
            self.watch.remove(row)
            self.owned_by[row] = -1
            self.free.append(row)

    def add(self, one: _Armed | _Unread) -> None:
        if isinstance(one, _Unread):
            self.unread[one.vault] = one
            return
        if not self.free:
            self.free.append(len(self.owners))
            self.owners.append("")
            self.owned_by.append(-1)
        row = self.free.pop()
        self.owners[row], self.owned_by[row] = intern(one.name), one.vault
        self.watch.place(row, self.symbols.setdefault(one.instrument, len(self.symbols)), one.side, one.trigger)


class PositionWatch:
    """The open positions whose instruments belong to one of `shards` shards, by their triggers.

    Reads everything at once, and compiles what it asks with, so that the first price finds it ready. Refused:
    ValueError for a shard that there is not.
    """

    def __init__(self, engine: Engine, shard: int = 0, shards: int = 1) -> None:
        if not 0 <= shard < shards:
            raise ValueError(f"shard {shard} of {shards}: expected one from 0 to {shards - 1}")
        self.engine, self.shard, self.shards = engine, shard, shards
        self._legs: dict[bytes, Mapping[str, _Leg]] = {}  # by fingerprint, by position
        self._alike: dict[tuple[tuple[str, _Leg], ...], Mapping[str, _Leg]] = {}
        self._limits, self._listing = _Distinct(POSITION_LIMITS), _Distinct(INSTRUMENT)
        self._held = _Held()
        self.renewed: tuple[str, ...] = ()
        """Names of the vaults with open positions that were read when it was refreshed last."""
        _warm_up()
        self.rebuild()

    def __len__(self) -> int:
        """How many positions have a trigger."""
        return len(self._held.watch)

    @property
    def unwatched(self) -> dict[str, str]:
        """By name, vaults that hold a position whose trigger is unknown, and why in words."""
        return {one.name: one.reason for one in self._held.unread.values()}

    def crossed(self, prices: Mapping[str, Marks]) -> tuple[str, ...]:
        """The names, in order, of the vaults that hold a position whose trigger lies at or past these marks, by key of
        the instrument. Instruments of other shards, and those that nobody holds, cross nothing.

        Refused: MarksRefused for what no market can have shown, whatever else would be crossed.
        """
        held, found = self._held, set[str]()
        for instrument, marks in prices.items():
            symbol = held.symbols.get(instrument)
            if symbol is not None:
                found.update(held.owners[row] for row in held.watch.crossed(symbol, *marks).tolist())
        return tuple(sorted(found))

    def refresh(self) -> int:
        """Read anew the vaults that have changed since they were read last; returns how many. Where a version has
        fallen or a vault has gone, the database is not the one that it was, and everything is read."""
        held = self._held
        with unit_of_work(self.engine, writes=False) as connection:
            vaults, versions = _versions(connection)
            known = np.isin(vaults, held.vaults, assume_unique=True)
            is_another = known.sum() < len(held.vaults) or bool((versions[known] < held.versions).any())
            if not is_another:
                known[known] = versions[known] == held.versions
                changed = vaults[~known]
                found = list(self._armed(connection, changed.tolist()))
        if is_another:
            return self.rebuild()
        self.renewed = tuple(sorted({one.name for one in found}))
        if len(changed):
            held.drop(changed)
        for one in found:
            held.add(one)
        held.vaults, held.versions = vaults, versions  # last, so that what was not finished is read again
        return len(changed)

    def rebuild(self) -> int:
        """Read everything, as at the start and after any doubt; returns the number of vaults."""
        held = _Held()
        with unit_of_work(self.engine, writes=False) as connection:
            held.vaults, held.versions = _versions(connection)
            for one in self._armed(connection, None):
                held.add(one)
        self._held = held
        return len(held.vaults)

    # ------------------------------------------------------------------------------------------------ reading

    def _armed(self, connection: Connection, vaults: Sequence[int] | None) -> Iterator[_Armed | _Unread]:
        """The open positions of these vaults (None: of all) that belong to this shard."""
        for part in _open_positions(connection, vaults):
            mine = [row for row in part if shard_of(row.instrument, self.shards) == self.shard]
            unread = self._read_mandates(connection, {row.mandate for row in mine})
            found = [(row, self._legs.get(bytes.fromhex(row.mandate), {}).get(row.name)) for row in mine]
            yield from self._arm([(row, leg) for row, leg in found if leg is not None])
            for row in (row for row, leg in found if leg is None):
                yield _Unread(row.id, row.vault, unread.get(row.mandate, f"its mandate knows no position {row.name}"))

    def _arm(self, found: Sequence[tuple[_Row, _Leg]]) -> Iterator[_Armed]:
        if not found:
            return
        held, legs = zip(*found, strict=True)
        table = rows(POSITION, len(found), symbol=[leg.instrument for leg in legs])
        for name in ("quantity", "cost", "margin"):
            table[name] = [getattr(row, name) for row in held]
        limits = self._limits.table()[[leg.limit for leg in legs]]
        triggers = nearest_triggers(table, limits, self._listing.table()).tolist()
        for row, trigger in zip(held, triggers, strict=True):
            yield _Armed(row.id, row.vault, row.instrument, 1 if row.quantity > 0 else -1, trigger)

    def _read_mandates(self, connection: Connection, fingerprints: set[str]) -> dict[str, str]:
        """Keep what the mandates of these fingerprints say of their positions; returns those that cannot be read, each
        with the reason. No strategy is asked for: one that is not installed here puts nobody at risk."""
        unread, new = {}, sorted(one for one in fingerprints if bytes.fromhex(one) not in self._legs)
        for part in _parts(new):
            for fingerprint, body in connection.execute(_BODIES, {"mandates": part}).all():
                try:
                    self._legs[bytes.fromhex(fingerprint)] = self._read(Mandate.from_canonical(body))
                except RingfenceError as refused:
                    unread[fingerprint] = str(refused)
        return unread

    def _read(self, terms: Mandate) -> Mapping[str, _Leg]:
        traded = instruments_of(terms)
        limits = compile_limits(terms, {terms.positions[name].symbol: one for name, one in traded.items()}).positions
        legs = {
            name: _Leg(self._limits.number(limit), self._listing.number(instrument))
            for name, limit, instrument in zip(traded, limits, listing(traded.values()), strict=True)
        }
        return self._alike.setdefault(tuple(legs.items()), legs)  # one for all mandates that agree on them


def _versions(connection: Connection) -> tuple[Ints, Ints]:
    """Of every vault, in order of their ids: (ids, versions)."""
    found = np.fromiter(chain.from_iterable(connection.execute(_VERSIONS).all()), np.int64)
    return found[::2].copy(), found[1::2].copy()


def _open_positions(connection: Connection, vaults: Sequence[int] | None) -> Iterable[Sequence[_Row]]:
    """The open positions of these vaults (None: of all) with their margins, some at once."""
    if vaults is None:
        return connection.execute(_OPEN.execution_options(yield_per=_AT_ONCE)).partitions()
    return (connection.execute(_OPEN_OF, {"vaults": part}).all() for part in _parts(vaults))


def _parts(named: Sequence[_Named]) -> Iterator[Sequence[_Named]]:
    """What is named, as much at once as one query may name."""
    return (named[first : first + _NAMED_AT_ONCE] for first in range(0, len(named), _NAMED_AT_ONCE))


def _warm_up() -> None:
    """Compile, or load, what is called for the first time while a price waits."""
    limits, table = rows(POSITION_LIMITS, 1), rows(INSTRUMENT, 1, tiers=1)
    nearest_triggers(rows(POSITION, 1), limits, table)
    watch = Watch()
    watch.place(0, 0, 1, 1.0)
    watch.place(1, 0, 1, 1.0)
    watch.remove(0)
    watch.crossed(0, 1.0, 1.0)
