"""What a database says of an installation, at a glance: how far its vaults are, how near to wall and liquidation, what
is due and for how long, and how far its series are fed.

One reading of some queries, whatever the number of vaults; it writes nothing and holds no lock. The metrics, the health
page and the live view all show this one computation. What cannot be known is None, never a good value.

Two clocks. How far a series is behind, and a vault behind what is fed, is told in the feed's own time. How long a slot
has been due, and how long a bar has been late, is told in real time, as this observer has seen it: from the first look
at which it stood so. That is right at any pace of a replay, and short by no more than the time between two looks.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, and_, func, select

from ringfence.markets.instruments import listed
from ringfence.risk.book import INSTRUMENT, POSITION, POSITION_LIMITS, Rows, rows
from ringfence.risk.edges import AccountKind
from ringfence.risk.watch import nearest_triggers
from ringfence.runtime.clock import FOLLOWS
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.duties import Duties, Trouble, duty, troubles
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.shares import wall
from ringfence.vaults.tables import LATEST, account, bar, bar_series, fed, mandate, position, vault
from ringfence.words.refusal import RingfenceError

__all__ = ["Observer", "Seen", "SeenSeries", "SeenVault"]

_POSITIONS = select(
    position.c.vault_id, position.c.name, position.c.instrument, position.c.quantity, position.c.cost,
    func.coalesce(account.c.balance, 0).label("margin"),
).join(
    account, and_(account.c.vault_id == position.c.vault_id, account.c.name == margin_account("") + position.c.name),
    isouter=True,
)  # fmt: skip
_ENTERING = select(account.c.vault_id, account.c.balance).where(account.c.name == AccountKind.entering.value)
_own = bar.alias()
_last = select(func.max(_own.c.ts)).where(_own.c.instrument == bar_series.c.instrument).correlate(bar_series)
_SERIES = (
    select(bar_series.c.instrument, bar_series.c.timeframe, fed.c.until,
           func.coalesce(bar.c.mark_close, bar.c.close).label("mark"))
    .outerjoin(fed, fed.c.instrument == bar_series.c.instrument)
    .outerjoin(bar, and_(bar.c.instrument == bar_series.c.instrument, bar.c.ts == _last.scalar_subquery()))
    .order_by(bar_series.c.instrument)
)  # fmt: skip


_Row = Any
"""Of one of these queries."""


@dataclass(frozen=True)
class SeenSeries:
    """A series of bars."""

    instrument: str
    timeframe: int
    """ms."""
    until: int | None
    """How far it is fed, UTC ms."""
    age: int | None
    """How far `until` lies behind the feed's clock, ms of that clock. None where no clock is known."""
    late: float | None
    """Seconds for which a bar has been over, by the feed's clock, and is not there; 0.0 where none is."""
    mark: float | None
    """The last recorded one, else the last close."""


@dataclass(frozen=True)
class SeenVault:
    """A vault. Money in minor units of its currency, of which `decimals` are fractions."""

    name: str
    currency: str
    decimals: int
    shares: int
    waiting: int
    entering: int
    in_margin: int
    nav: int
    """At the last slot that it lived."""
    wall: int | None
    high_water_mark: int
    locked_since: int | None
    halted_since: int | None
    closing_since: int | None
    marked: int | None
    """Up to when it has lived, UTC ms."""
    journal_seq: int
    is_open: bool
    """Whether it holds a position."""
    leverage: float | None
    """The positions' notional at the last marks over the NAV."""
    liquidation_distance: float | None
    """Of the position that is nearest: what part of the last mark lies between it and the liquidation price; negative
    beyond it. None also where no position has such a price."""
    lag: int | None
    """ms of the feed's time that are fed in whole slots and not lived."""
    due: float | None
    """Seconds for which its next slot has been due; None where none is."""

    @property
    def over_wall(self) -> int | None:
        return None if self.wall is None else self.nav - self.wall

    @property
    def wall_distance(self) -> float | None:
        """What part of the NAV stands over the wall."""
        return None if self.over_wall is None or self.nav == 0 else self.over_wall / self.nav


@dataclass(frozen=True)
class Seen:
    """What one look found."""

    at: int
    """UTC ms."""
    vaults: tuple[SeenVault, ...]
    series: tuple[SeenSeries, ...]
    claimed: int
    """Vaults that somebody steps now, or whose next attempt waits."""
    troubles: tuple[Trouble, ...]

    @property
    def due(self) -> tuple[SeenVault, ...]:
        """Vaults with a slot to live, whoever is at it; those that are left aside are not among them."""
        return tuple(one for one in self.vaults if one.due is not None)

    @property
    def oldest(self) -> float:
        """Seconds for which the oldest of what is due has been due; 0.0 where nothing is."""
        return max((one.due for one in self.vaults if one.due is not None), default=0.0)

    @property
    def left_aside(self) -> tuple[Trouble, ...]:
        return tuple(one for one in self.troubles if one.left_aside)


@dataclass(frozen=True)
class _Terms:
    timeframe: int
    keep: int
    """1 - loss_cap, parts per million."""
    rows: Mapping[str, int]
    """By position, the row of the listing; empty where an instrument is not known here."""


@dataclass(eq=False)
class Observer:
    """Looks again and again; remembers mandates, and since when something has stood as it does."""

    engine: Engine
    _terms: dict[str, _Terms | None] = field(default_factory=dict, repr=False)
    """By fingerprint; None for a mandate that cannot be read here."""
    _listing: dict[bytes, int] = field(default_factory=dict, repr=False)
    _since: dict[tuple[str, str, int | None], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._duties = Duties(self.engine)

    def look(self, now: int, clock: int | None = None, *, ended: bool = False) -> Seen:
        """What stands in the database at `now` (UTC ms). `clock`: that of the feed that runs; where it is not known, a
        series that ends within FOLLOWS of now goes by `now`, and any other by a clock that nobody knows. `ended`: the
        feed has delivered all that it has, and nothing is late.

        Refused: what `unit_of_work` names, and MandateError where a mandate is none, since what is due is not known.
        """
        moment, standing = time.monotonic(), dict[tuple[str, str, int | None], float]()
        due = {one.vault for one in self._duties.due(LATEST)}
        with unit_of_work(self.engine, writes=False) as connection:
            found = connection.execute(select(vault).order_by(vault.c.name)).all()
            self._read_mandates(connection, {row.mandate for row in found})
            held: dict[int, list[_Row]] = {}
            for one in connection.execute(_POSITIONS):
                held.setdefault(one.vault_id, []).append(one)
            entering = dict(connection.execute(_ENTERING).all())
            series = connection.execute(_SERIES).all()
            claims = connection.execute(select(func.count()).select_from(duty).where(duty.c.not_before > now)).scalar()
            trouble = tuple(troubles(connection))

        def since(kind: str, name: str, stands: int | None) -> float:
            key = (kind, name, stands)
            standing[key] = self._since.get(key, moment)
            return moment - standing[key]

        seen = tuple(_series(row, None if ended else _clock(row, now, clock), since) for row in series)
        near = self._nearness(found, held, {one.instrument: one.mark for one in seen})
        ends = {one.instrument: one.until for one in seen}
        vaults = tuple(
            self._vault(row, held.get(row.id, ()), entering.get(row.id, 0), near.get(row.id, (0.0, None)), ends,
                        since("vault", row.name, row.last_bar) if row.name in due else None)
            for row in found
        )  # fmt: skip
        self._since = standing
        return Seen(now, vaults, seen, int(claims or 0), trouble)

    def _read_mandates(self, connection: Connection, fingerprints: set[str]) -> None:
        for fingerprint in fingerprints - self._terms.keys():
            body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == fingerprint)).scalar_one()
            self._terms[fingerprint] = None
            with suppress(RingfenceError):
                terms, numbers = Mandate.from_canonical(body), dict[str, int]()
                with suppress(RingfenceError):  # an instrument that this installation does not know
                    numbers |= {name: self._number(traded) for name, traded in instruments_of(terms).items()}
                self._terms[fingerprint] = _Terms(terms.timeframe, MILLION - terms.loss_cap, numbers)

    def _number(self, traded: Any) -> int:
        return self._listing.setdefault(listed(traded).tobytes(), len(self._listing))

    def _nearness(
        self, found: Sequence[_Row], held: Mapping[int, Sequence[_Row]], marks: Mapping[str, float | None]
    ) -> dict[int, tuple[float | None, float | None]]:
        """By vault that holds a position: the notional of all at the last marks, minor units, and how near the nearest
        one is to its liquidation."""
        legs = [
            (one, marks.get(one.instrument), None if terms is None else terms.rows.get(one.name))
            for row in found for terms in (self._terms[row.mandate],)
            for one in held.get(row.id, ()) if one.quantity != 0
        ]  # fmt: skip
        known = [(one, mark, number) for one, mark, number in legs if mark is not None and number is not None]
        answer: dict[int, tuple[float | None, float | None]] = {}
        if not known:
            return {one.vault_id: (None, None) for one, _, _ in legs}
        for one, notional, distance in zip(known, *_measured(known, self._table()), strict=True):
            size, nearest = answer.get(one[0].vault_id, (0.0, None))
            near = distance if nearest is None or (distance is not None and distance < nearest) else nearest
            answer[one[0].vault_id] = ((size or 0.0) + notional, near)
        return answer | {one.vault_id: (None, None) for one, mark, number in legs if mark is None or number is None}

    def _table(self) -> Rows:
        return np.frombuffer(b"".join(self._listing), INSTRUMENT).copy().view(np.recarray)

    def _vault(
        self,
        row: _Row,
        held: Sequence[_Row],
        entering: int,
        near: tuple[float | None, float | None],
        ends: Mapping[str, int | None],
        due: float | None,
    ) -> SeenVault:
        terms, (notional, distance) = self._terms[row.mandate], near
        until = [ends.get(one.instrument) for one in held]
        marked, lag = None if row.last_bar is None else row.clock, None
        if terms is not None:
            slot = terms.timeframe
            fed_to = min((end or 0 for end in until), default=0)
            lag = max(0, (fed_to // slot - row.clock // slot) * slot)
        return SeenVault(
            row.name, row.currency, row.decimals, row.shares, row.waiting, entering, sum(one.margin for one in held),
            row.last_nav, None if terms is None else wall(row.high_water_mark, terms.keep, row.shares),
            row.high_water_mark, row.locked_since, row.halted_since, row.closing_since, marked,
            row.journal_seq, any(one.quantity for one in held),
            None if notional is None or row.last_nav == 0 else notional / row.last_nav, distance, lag, due,
        )  # fmt: skip


def _clock(row: _Row, now: int, clock: int | None) -> int | None:
    if clock is None and row.until is not None and now - row.until <= FOLLOWS:
        return now
    return clock


def _series(row: _Row, clock: int | None, since: Callable[[str, str, int | None], float]) -> SeenSeries:
    age: int | None = None
    late: float | None = None
    if row.until is not None and clock is not None:
        age = max(0, clock - row.until)
        late = since("series", row.instrument, row.until) if age >= row.timeframe else 0.0
    return SeenSeries(row.instrument, row.timeframe, row.until, age, late, row.mark)


def _measured(legs: Sequence[tuple[_Row, float, int]], listing: Rows) -> tuple[list[float], list[float | None]]:
    """Of open positions: the notional at the mark, minor units, and which part of the mark lies between it and the
    liquidation price, negative beyond it; None where there is no such price."""
    numbers = [number for _, _, number in legs]
    table = rows(POSITION, len(legs), symbol=numbers)
    for name in ("quantity", "cost", "margin"):
        table[name] = [getattr(one, name) for one, _, _ in legs]
    marks = np.array([mark for _, mark, _ in legs])
    nearest_triggers(table, rows(POSITION_LIMITS, len(legs)), listing)
    traded = listing[numbers]
    size = np.abs(table.quantity).astype(np.float64) * traded.unit
    notional = np.where(traded.inverse, size / marks, size * marks)
    side, level = np.where(table.quantity > 0, 1.0, -1.0), table.liquidation_watch
    with np.errstate(invalid="ignore"):
        distance = side * (marks - level) / marks
    has_level = (level > 0.0) & np.isfinite(level)
    return notional.tolist(), [one if there else None for one, there in zip(distance.tolist(), has_level, strict=True)]
