"""Two databases row by row: what stands in one that people use, against a vault that was lived again in another (L2).

The tables themselves say what is compared: every table with a `vault_id` belongs to a vault, all of its columns count,
and both sides are read in the order of its key, so that a million rows need no more memory than two of them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, Text, func, or_, select

from ringfence.runtime.database import SCHEMA
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import APPEND_ONLY, bar, bar_series, fed, funding, mandate, metadata, quality, vault

__all__ = ["differences", "owner", "strays"]

_BATCH = 1_000
"""Rows that a server hands over at a time."""

SERIES = (bar, bar_series, fed, funding, quality)
"""What vaults are lived on: a slot's bars and stamps are hashed into the journal's row that decided on them."""


def owner(table: Table) -> Column[Any] | None:
    """The column that says whose a row is; None for what belongs to no single vault."""
    return vault.c.id if table is vault else table.c.get("vault_id")


def differences(real: Connection, vault_id: int, again: Connection) -> Iterator[Breach]:
    """Every row of every table about a vault that is not as living again, alone in its database, leaves it."""
    name = again.execute(select(vault.c.name)).scalar_one()
    mine = again.execute(select(vault.c.id)).scalar_one()
    for table in metadata.sorted_tables:
        of_vault = owner(table)
        if of_vault is not None:
            columns = [column for column in table.c if column is not of_vault]
            keys = [column for column in table.primary_key if column is not of_vault] or [vault.c.name]
            yield from _compared(
                table.name, [key.name for key in keys],
                _ordered(real, columns, keys, of_vault == vault_id), _ordered(again, columns, keys, of_vault == mine),
            )  # fmt: skip
    fingerprints = again.execute(select(mandate.c.fingerprint)).scalars().all()
    mine_or_named = or_(mandate.c.name == name, mandate.c.fingerprint.in_(fingerprints))
    columns, keys = list(mandate.c), [mandate.c.fingerprint]
    yield from _compared(
        mandate.name, ["fingerprint"],
        _ordered(real, columns, keys, mine_or_named), _ordered(again, columns, keys, mine_or_named),
    )  # fmt: skip


def _ordered(
    connection: Connection, columns: list[Column[Any]], keys: list[Column[Any]], condition: ColumnElement[bool]
) -> Iterator[dict[str, Any]]:
    """Rows by their key, texts in the order of their bytes, which SQLite, PostgreSQL ("C") and Python share."""
    plain = connection.dialect.name == "sqlite"
    order = [key if plain or not isinstance(key.type, Text) else key.collate("C") for key in keys]
    found = connection.execute(select(*columns).where(condition).order_by(*order).execution_options(yield_per=_BATCH))
    for row in found.mappings():
        yield dict(row)


def _rank(value: Any) -> tuple[int, Any]:
    """SQLite's order of values of any type: nothing, numbers, texts, bytes."""
    match value:
        case None:
            return 0, 0
        case int() | float():
            return 1, value
        case str():
            return 2, value.encode("utf-8", "surrogateescape")
    return 3, bytes(value)


def _compared(
    table: str, keys: list[str], found: Iterator[dict[str, Any]], lived: Iterator[dict[str, Any]]
) -> Iterator[Breach]:
    def place(row: dict[str, Any]) -> tuple[tuple[int, Any], ...]:
        return tuple(_rank(row[key]) for key in keys)

    there, wanted = next(found, None), next(lived, None)
    while there is not None or wanted is not None:
        at = _side(there, wanted, place)
        left, right = (there if at <= 0 else None), (wanted if at >= 0 else None)
        # By their reprs, so that 1, 1.0 and "1", or 0.0 and -0.0, are not taken for each other.
        if repr(left) != repr(right):
            yield _breach(table, keys, left, right)
        there = next(found, None) if at <= 0 else there
        wanted = next(lived, None) if at >= 0 else wanted


def _side(there: dict[str, Any] | None, wanted: dict[str, Any] | None, place: Any) -> int:
    """-1: the row that was found has no counterpart; 1: the one that was lived has none; 0: they stand together."""
    if there is None or wanted is None:
        return 1 if there is None else -1
    left, right = place(there), place(wanted)
    return -1 if left < right else 1 if left > right else 0


def _breach(table: str, keys: list[str], there: dict[str, Any] | None, wanted: dict[str, Any] | None) -> Breach:
    left, right = there or {}, wanted or {}
    differing = [name for name in (right or left) if repr(left.get(name)) != repr(right.get(name))]
    told, said = (
        str({name: side.get(name) for name in differing}) if side else "no such row" for side in (right, left)
    )
    key = ", ".join(str((left or right)[key]) for key in keys)
    return Breach("L2", f"{table} {key}", f"{told}, as lived again", said)


# ---------------------------------------------------------------------------------------------------- nobody's rows


def strays(connection: Connection, lived: Iterable[str]) -> Iterator[Breach]:
    """What belongs to no vault and should: rows of vaults that are not there, mandates that nobody lived under
    (`lived` are the fingerprints of the others), bars without a series, a schema that is not this version's."""
    vaults = select(vault.c.id)
    for table in metadata.sorted_tables:
        of_vault = owner(table)
        if of_vault is not None and table is not vault:
            stray = select(of_vault).where(of_vault.not_in(vaults)).distinct().order_by(of_vault)
            for identity in connection.execute(stray).scalars():
                yield Breach(
                    "L2", f"{table.name} of vault {identity}", "rows of vaults that are there", "no such vault"
                )
    known = set(lived)
    named = set(connection.execute(select(vault.c.name)).scalars())
    columns = select(mandate.c.fingerprint, mandate.c.name).order_by(mandate.c.fingerprint)
    for fingerprint, name in connection.execute(columns):
        if fingerprint not in known and name not in named:
            yield Breach("L2", f"mandate {fingerprint}", "a mandate that a vault lives or lived under", f"of {name}")
    yield from _of_series(connection)
    yield from _of_schema(connection)


def _of_series(connection: Connection) -> Iterator[Breach]:
    spacing = dict(connection.execute(select(bar_series.c.instrument, bar_series.c.timeframe)).all())
    ends = dict(connection.execute(select(fed.c.instrument, fed.c.until)).all())
    recorded = set(connection.execute(select(bar.c.instrument).distinct()).scalars())
    for instrument in sorted(ends.keys() - recorded, key=_rank):
        yield Breach("L2", f"fed {instrument}", "bars of it", "none")
    for instrument in connection.execute(select(funding.c.instrument).distinct()).scalars():
        if instrument not in recorded:
            yield Breach("L2", f"funding of {instrument}", "bars that settle it", "none")
    there = select(bar.c.ts).where(bar.c.instrument == quality.c.instrument, bar.c.ts == quality.c.ts)
    for instrument, ts in connection.execute(select(quality.c.instrument, quality.c.ts).where(~there.exists())):
        yield Breach("L2", f"quality {instrument}, {ts}", "a bar that it is of", "none")
    for instrument in sorted(recorded | spacing.keys(), key=_rank):
        if instrument not in spacing:
            yield Breach("L2", f"bars of {instrument}", "a series that states their timeframe", "no such row")
        elif instrument not in recorded:
            yield Breach("L2", f"bar_series {instrument}", "bars of it", "none")
        else:
            timeframe = spacing[instrument]
            off = select(bar.c.ts).where(bar.c.instrument == instrument, bar.c.ts % timeframe != 0).limit(1)
            ts = connection.execute(off).scalar()
            if ts is not None:
                yield Breach("L2", f"bar {instrument}, {ts}", f"a multiple of {timeframe} ms", str(ts))
            end = connection.execute(select(func.max(bar.c.ts)).where(bar.c.instrument == instrument)).scalar_one()
            until = ends.get(instrument)
            if not isinstance(until, int) or until < end + timeframe:
                yield Breach("L2", f"fed {instrument}", f"at least its last bar's close, {end + timeframe}", str(until))


def _of_schema(connection: Connection) -> Iterator[Breach]:
    versions = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars().all()
    if versions != [SCHEMA]:
        yield Breach("L2", "alembic_version", str([SCHEMA]), str(versions))
    expected, found = _triggers(connection.dialect.name), _triggers_of(connection)
    for name in sorted(expected - found):
        yield Breach("L3", f"trigger {name}", "that rows are only ever added", "no such trigger")
    for name in sorted(found - expected):
        yield Breach("L3", f"trigger {name}", "no trigger but those that refuse", "a stranger's")


def _triggers(dialect: str) -> set[str]:
    if dialect == "sqlite":
        return {f"{table}_no_{act}" for table in APPEND_ONLY for act in ("update", "delete")}
    return {f"{table}_append_only" for table in APPEND_ONLY} | {"bar_no_update"}


def _triggers_of(connection: Connection) -> set[str]:
    """Those that act: PostgreSQL can switch one off and keep it."""
    if connection.dialect.name == "sqlite":
        asked = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    else:
        asked = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'"
    return set(connection.exec_driver_sql(asked).scalars())
