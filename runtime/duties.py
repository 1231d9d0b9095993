"""What is due, found in the database: it is the queue, and a message only rings.

A vault is due when a slot that it has not lived is fed whole. Whoever is rung claims the vaults that he is about to
step, so that nobody else does so meanwhile, and lets them go afterwards; a claim runs out by itself, so that whoever
died holds nothing up. An attempt counts before it begins: a vault that kills its worker every time is left aside after
`MOST`, and says so.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Engine,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from ringfence.runtime.database import demand_vault, in_unit, unit_of_work
from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import bar, fed, mandate, position, vault

__all__ = ["CLAIM", "MOST", "Due", "Duties", "claim", "keep_slow", "let_go", "look", "looked", "put_off", "released",
           "troubles"]  # fmt: skip

CLAIM = 20_000
"""How long (ms) a claim holds, and no wait is longer: an end that is further away was written by a clock that was
wrong, and holds nothing up."""
MOST = 5
"""Attempts without success after which a vault is left aside."""
_WAITS = (1_000, 2_000, 4_000, 8_000, 16_000)
"""How long (ms) the next attempt waits after so many."""
_SHORTEST = 60_000
"""ms: no slot is shorter."""
_TOLD = 500
"""Characters of a failure that are kept."""

metadata = MetaData()
duty = Table(
    "duty",
    metadata,
    Column("vault_id", Integer, nullable=False, autoincrement=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("failure", Text),
    Column("slow", Integer, nullable=False),
    PrimaryKeyConstraint("vault_id", name="pk_duty"),
    ForeignKeyConstraint(["vault_id"], [vault.c.id], name="fk_duty_vault_id"),
    CheckConstraint("attempts >= 0 AND not_before >= 0", name="ck_duty_attempts"),
    CheckConstraint("slow IN (0, 1)", name="ck_duty_slow"),
    CheckConstraint(
        "typeof(vault_id) = 'integer' AND typeof(attempts) = 'integer' AND typeof(not_before) = 'integer' "
        "AND typeof(slow) = 'integer'",
        name="ck_duty_integers",
    ).ddl_if(dialect="sqlite"),
)
"""A row for each vault that is being stepped, could not be, or whose strategies are `slow`: `not_before` (UTC ms) is
the end of the claim or of the wait. State of the machinery, not of a vault's money: nothing is proved by it and nothing
decided."""
glance = Table(
    "glance",
    metadata,
    Column("vault_id", Integer, nullable=False, autoincrement=False),
    Column("until", BigInteger, nullable=False),
    PrimaryKeyConstraint("vault_id", name="pk_glance"),
    ForeignKeyConstraint(["vault_id"], [vault.c.id], name="fk_glance_vault_id"),
    CheckConstraint("until >= 0", name="ck_glance_until"),
    CheckConstraint("typeof(vault_id) = 'integer' AND typeof(until) = 'integer'", name="ck_glance_integers").ddl_if(
        dialect="sqlite"
    ),
)
"""Up to which bar (UTC ms) somebody has looked whether money moves inside a vault's slot, called by a price or a stamp.
State of the machinery, like `duty`."""

_LOOK = text(
    "INSERT INTO glance (vault_id, until) VALUES (:vault, :until) "
    "ON CONFLICT (vault_id) DO UPDATE SET until = :until WHERE glance.until < :until"
)
_OPEN = select(vault.c.id, vault.c.name, vault.c.mandate, vault.c.clock).order_by(vault.c.id)
_FED = select(position.c.vault_id, position.c.instrument, fed.c.until).outerjoin(
    fed, fed.c.instrument == position.c.instrument
)
_LAST = select(
    fed.c.instrument, select(func.max(bar.c.ts)).where(bar.c.instrument == fed.c.instrument).scalar_subquery()
)


class Due(NamedTuple):
    """A vault with a slot to live."""

    vault: str
    attempts: int
    """That came to nothing so far."""
    slow: bool
    """Whether its strategies take their time."""


class Duties:
    """One process's view of what is due; remembers nothing but the mandates' timeframes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._timeframes: dict[str, int] = {}

    def due(self, now: int) -> list[Due]:
        """Vaults that may be stepped at `now` (UTC ms): fed beyond a slot that they have not lived, claimed by nobody,
        not put off and not left aside. One with a hole of whole slots before it may be named in vain."""
        with unit_of_work(self._engine, writes=False) as connection:
            duties = {row.vault_id: row for row in connection.execute(select(duty))}
            last = dict(connection.execute(_LAST).all())
            ends: dict[int, int] = {}
            latest: dict[int, int] = {}
            for of, instrument, until in connection.execute(_FED):
                ends[of] = min(ends.get(of, until or 0), until or 0)
                latest[of] = max(latest.get(of, -1), -1 if last.get(instrument) is None else last[instrument])
            found = []
            for row in connection.execute(_OPEN):
                trouble = duties.get(row.id)
                attempts = 0 if trouble is None else trouble.attempts
                waits = trouble is not None and (now < trouble.not_before <= now + CLAIM or attempts >= MOST)
                timeframe = self._timeframe(connection, row.mandate)
                slot = row.clock // timeframe * timeframe
                if not waits and ends.get(row.id, 0) >= slot + timeframe and latest.get(row.id, -1) >= slot:
                    found.append(Due(row.name, attempts, trouble is not None and bool(trouble.slow)))
        return found

    def _timeframe(self, connection: Connection, fingerprint: str) -> int:
        """Of a mandate's slots; the shortest where it cannot be read, so that its vault is tried, told and left
        aside, and no other waits for it."""
        if fingerprint not in self._timeframes:
            body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == fingerprint)).scalar_one()
            try:
                self._timeframes[fingerprint] = Mandate.from_canonical(body).timeframe
            except MandateError:
                return _SHORTEST
        return self._timeframes[fingerprint]


def claim(engine: Engine, vaults: Sequence[str], now: int) -> tuple[str, ...]:
    """Those of the vaults that this caller steps now, in the order of their locks: each is claimed until CLAIM ms later
    and its attempt counted, whatever becomes of it. `now` (UTC ms) is also how a claim is known again."""

    def work(connection: Connection) -> tuple[str, ...]:
        named = select(vault.c.id, vault.c.name).where(vault.c.name.in_(vaults)).order_by(vault.c.id).with_for_update()
        names = dict(connection.execute(named).all())
        there = {row.vault_id: row for row in connection.execute(select(duty).where(duty.c.vault_id.in_(names)))}
        new = [of for of in names if of not in there]
        again = [of for of, row in there.items() if not now < row.not_before <= now + CLAIM and row.attempts < MOST]
        if new:
            rows = [
                {"vault_id": of, "attempts": 1, "not_before": now + CLAIM, "failure": None, "slow": 0} for of in new
            ]
            connection.execute(insert(duty), rows)
        if again:
            counted = {"attempts": duty.c.attempts + 1, "not_before": now + CLAIM}
            connection.execute(update(duty).where(duty.c.vault_id.in_(again)).values(counted))
        return tuple(name for of, name in names.items() if of in {*new, *again})

    return in_unit(engine, work)


def let_go(engine: Engine, vaults: Iterable[str], claimed: int, done: Iterable[str] = ()) -> None:
    """What was claimed at `claimed` (UTC ms) was done, or not begun. A claim that has run out and is somebody else's by
    now stays his; but a vault that was `done` can be stepped, and the attempts before his say nothing against it."""
    ids = select(vault.c.id).where(vault.c.name.in_(tuple(done)))

    def work(connection: Connection) -> None:
        connection.execute(delete(duty).where(_claimed(vaults, claimed)))
        connection.execute(update(duty).where(duty.c.vault_id.in_(ids), duty.c.attempts > 1).values(attempts=1))

    in_unit(engine, work)


def keep_slow(engine: Engine, vaults: Iterable[str], claimed: int) -> None:
    """The same for vaults whose strategies take their time: from now on they are rung for where nobody else waits."""
    told = {"slow": 1, "attempts": 0, "not_before": 0, "failure": None}
    changed = update(duty).where(_claimed(vaults, claimed)).values(told)
    in_unit(engine, lambda connection: connection.execute(changed))


def _claimed(vaults: Iterable[str], at: int) -> ColumnElement[bool]:
    ids = select(vault.c.id).where(vault.c.name.in_(tuple(vaults)))
    return and_(duty.c.vault_id.in_(ids), duty.c.not_before == at + CLAIM)


def look(connection: Connection, vault_id: int, until: int) -> None:
    """Somebody is looking whether money moves inside a vault's slot before `until`, UTC ms."""
    connection.execute(_LOOK, {"vault": vault_id, "until": until})


def looked(connection: Connection, vaults: Sequence[str]) -> dict[str, int]:
    """By vault, up to when (UTC ms) it has lived or somebody has looked."""
    until = func.coalesce(glance.c.until, 0)
    latest = case((until > vault.c.clock, until), else_=vault.c.clock)
    seen = select(vault.c.name, latest).outerjoin(glance, glance.c.vault_id == vault.c.id)
    return dict(connection.execute(seen.where(vault.c.name.in_(vaults))).all())


def put_off(engine: Engine, name: str, failure: str, now: int, *, blamed: bool = True) -> None:
    """A claimed vault could not be stepped: the next attempt waits, longer each time. One that is not `blamed`, since
    the database failed and not the vault, has not used up an attempt."""
    wait = case(*((duty.c.attempts <= number, now + wait) for number, wait in enumerate(_WAITS, 1)), else_=now)
    of = select(vault.c.id).where(vault.c.name == name).scalar_subquery()
    counted = duty.c.attempts if blamed else case((duty.c.attempts > 0, duty.c.attempts - 1), else_=0)
    values = {"failure": bindparam("told"), "not_before": wait, "attempts": counted}
    changed = update(duty).where(duty.c.vault_id == of).values(values)
    in_unit(engine, lambda connection: connection.execute(changed, {"told": failure[:_TOLD]}))


class Trouble(NamedTuple):
    """A vault whose last attempts came to nothing."""

    vault: str
    attempts: int
    failure: str | None
    """None: the worker died, or is at it still."""
    left_aside: bool


def troubles(connection: Connection) -> list[Trouble]:
    """Vaults that could not be stepped, by name."""
    found = connection.execute(
        select(vault.c.name, duty.c.attempts, duty.c.failure)
        .join(vault, vault.c.id == duty.c.vault_id)
        .order_by("name")
    )
    return [Trouble(*row, row.attempts >= MOST) for row in found if row.failure is not None or row.attempts > 1]


def released(engine: Engine, wanted: str | None = None, *, rehearsed: bool = False) -> tuple[Trouble, ...]:
    """What one vault's attempts, or all vaults', came to, now forgotten: they are stepped again, those left aside too.
    `rehearsed`: nothing is forgotten. Refused: UnknownVault."""

    def work(connection: Connection) -> tuple[Trouble, ...]:
        if wanted is not None:
            demand_vault(connection, wanted)
        found = tuple(trouble for trouble in troubles(connection) if wanted in (None, trouble.vault))
        ids = select(vault.c.id).where(vault.c.name.in_([trouble.vault for trouble in found]))
        if not rehearsed:
            connection.execute(delete(duty).where(duty.c.vault_id.in_(ids)))
        return found

    return in_unit(engine, work)
