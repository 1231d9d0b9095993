"""Divergence: what a vault's life at its exchange came to beside the same life at a venue that fills at once, and what
caused every unit between the two.

The vault's life is taken slot by slot. From where it stood before a slot it is lived on with everything that was
recorded there, and with a venue that fills at once; where both end alike the exchange did what was foreseen. Each slot
at which it did not is a cause: what the whole rest of the life comes to, at a venue that fills at once, from after that
slot, less what it comes to from before it. So the causes sum up to the whole difference, to the unit, and what followed
from an order that was late is told with the order and not with what followed.

Holders' acts are repeated in every life. Where a life has less to give than somebody asked back, all of it goes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine, select, update

from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import DatabaseError, LifeNotRepeatable
from ringfence.runtime.proposals import Proposed
from ringfence.runtime.reliving import UNFIT, Reliving, scratch
from ringfence.runtime.step import book_of, live_through, take
from ringfence.runtime.stretch import passing, rest_of_slot
from ringfence.vaults import journal
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Dealt,
    Decided,
    DepositAsked,
    Lived,
    Opened,
    Ordered,
    RedemptionAsked,
    Reported,
)
from ringfence.vaults.errors import NotHalted, ResumeNotAsked, UnknownVault
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import position, vault

__all__ = ["Cause", "Divergence", "diverge"]


@dataclass(frozen=True)
class Cause:
    """One slot at which an exchange did something else than was foreseen."""

    ts: int
    """The slot's close, UTC ms."""
    row: int
    """Of the journal: the one that ends it."""
    told: tuple[str, ...]
    """What it did, in words."""
    amount: int
    """What that was worth to the holders in the end, minor units."""


@dataclass(frozen=True)
class Divergence:
    vault: str
    currency: str
    decimals: int
    until: int
    """Close of the last whole slot of its life, UTC ms."""
    lived: int
    """What its holders have made by then, minor units: NAV and what waits to enter, less what was paid in, net."""
    foreseen: int
    """The same at a venue that fills at once."""
    causes: tuple[Cause, ...]
    """In order; their amounts sum up to `lived - foreseen`."""


_Found = TypeVar("_Found")
_Group = Sequence[journal.Row]
"""The rows of one slot, the last of which is its close; of what came after the last one, none."""


def diverge(engine: Engine, name: str, progress: Callable[[int, int], None] = lambda done, total: None) -> Divergence:
    """What a vault's exchange cost its holders, or brought them, slot by slot; reads only.

    `progress` hears (slots done, slots in all). Refused: UnknownVault, LifeNotRepeatable.
    """
    with unit_of_work(engine, writes=False) as connection, scratch() as again:
        row = connection.execute(select(vault).where(vault.c.name == name)).mappings().one_or_none()
        if row is None:
            raise UnknownVault(name, tuple(connection.execute(select(vault.c.name)).scalars()))
        life = _Life(Reliving(connection, Desk(engine), again))
        slots = tuple(_slots(journal.rows(connection, row["id"])))
        worth, causes = None, list[tuple[Cause, int]]()
        for number, group in enumerate(slots):
            try:
                before = life.tail(slots[number:]) if life.differs(group) else None
                life.repeat(group)
            except DatabaseError:
                raise
            except UNFIT as failure:
                raise LifeNotRepeatable(name, group[-1].seq, str(failure) or type(failure).__name__) from failure
            if before is not None:
                worth = before if worth is None else worth
                causes.append((Cause(group[-1].ts, group[-1].seq, _told(group), 0), before))
            progress(number + 1, len(slots))
            if life.others:
                raise LifeNotRepeatable(name, group[-1].seq, f"it was decided by {', '.join(life.others)}")
        lived = life.worth()
        after = [*(before for _, before in causes), lived][1:]
        return Divergence(
            name, row["currency"], row["decimals"], slots[-1][-1].ts if slots else row["clock"], lived,
            lived if worth is None else worth,
            tuple(
                Cause(cause.ts, cause.row, cause.told, then - before)
                for (cause, before), then in zip(causes, after, strict=True)
            ),
        )  # fmt: skip


def _slots(rows: Iterator[journal.Row]) -> Iterator[_Group]:
    """The journal cut behind each row that ends a slot, and behind what its venue told at that close."""
    group: list[journal.Row] = []
    timeframe, is_over = 0, False
    for row in rows:
        if is_over and not isinstance(row.entry, Reported):
            yield tuple(group)
            group, is_over = [], False
        group.append(row)
        if isinstance(row.entry, Opened | Amended):
            timeframe = Mandate.from_canonical(row.entry.terms).timeframe
        is_over = is_over or isinstance(row.entry, Decided) or (isinstance(row.entry, Lived) and not row.ts % timeframe)
    if is_over:
        yield tuple(group)


class _Life:
    """A vault's life as it was recorded, and from anywhere in it as it would have been foreseen."""

    def __init__(self, life: Reliving) -> None:
        self._life = life
        self._orders: dict[int, int] = {}
        """By the journal's row of an order that waits, the row that it is in the life that is lived."""

    @property
    def others(self) -> tuple[str, ...]:
        """Who decided that is not at hand."""
        return tuple(self._life.others)

    def repeat(self, group: _Group) -> None:
        """Live a slot as it was recorded."""
        for row in group:
            self._life.repeat(row, row.entry)

    def differs(self, group: _Group) -> bool:
        """Whether a slot that is about to be repeated ends otherwise at a venue that fills at once."""
        if not any(isinstance(row.entry, Reported) or _is_dealt(row) for row in group):
            return False
        foreseen = self._tried(lambda: self._foresee(group), self._state)
        recorded = self._tried(lambda: self.repeat(group), self._state)
        return foreseen != recorded

    def tail(self, groups: Sequence[_Group]) -> int:
        """What the holders have made at the end, if from here on everything is as foreseen."""

        def act() -> None:
            for group in groups:
                self._foresee(group)

        return self._tried(act, self.worth)

    def worth(self) -> int:
        found = self._life.standing(None)
        return found.nav + found.ledger.balance("entering") + found.ledger.balance("world")

    def _state(self) -> tuple[object, ...]:
        found = self._life.standing(None)
        held = tuple((row.quantity, row.cost, found.ledger.margin(name)) for name, row in found.positions.items())
        return found.nav, found.ledger.balance("reserve"), found.ledger.balance("cushion"), held

    def _tried(self, act: Callable[[], None], look: Callable[[], _Found]) -> _Found:
        """What is seen after an act that is undone."""
        life, kept = self._life, (self._life.terms, self._life.decided, dict(self._orders))
        attempt = life.again.begin_nested()
        try:
            act()
            return look()
        finally:
            attempt.rollback()
            terms, life.decided, self._orders = kept
            life.under(terms)

    def _foresee(self, group: _Group) -> None:
        """Live a slot at a venue that fills at once; what is on its way or waits there is called off."""
        again = self._life.again
        again.execute(update(vault).values(ordered=None))
        again.execute(update(position).values(pending=None))
        for row in group:
            if isinstance(row.entry, Lived):
                self._live(row)
            elif not isinstance(row.entry, Ordered | Reported):
                self._act(row)

    def _live(self, row: journal.Row) -> None:
        """Whole slots up to the close of a row."""
        life = self._life
        failed = row.entry.failed if isinstance(row.entry, Decided) else {}
        while True:
            standing = life.standing(None)
            if standing.clock >= row.ts:
                return
            setup = life.setup()
            window, number = life.next_slot(standing, setup)
            if int(window.slots.opens[number]) + window.slots.timeframe > row.ts:
                return
            if standing.halted_since is not None:
                stretch = passing(window.slots, number, standing.last_bar)
            else:
                closing = standing.closing_since is not None
                table = setup.closing_at(window.slots, number) if closing else setup.propose_at(
                    window.slots, number, failed=failed)  # fmt: skip
                stretch = rest_of_slot(window.slots, number, standing.last_bar, Proposed(table, failed))
            step = live_through(setup, book_of(standing, stretch.close), stretch)
            assert step is not None
            take(standing, step)

    def _act(self, row: journal.Row) -> None:
        """What a person did, as far as it can be done in this life."""
        entry, life = row.entry, self._life
        if isinstance(entry, RedemptionAsked):
            standing = life.standing(entry)
            left = standing.holders.held(entry.holder) - standing.asked_back(entry.holder)
            shares = min(entry.shares, left)
            if shares > 0:
                standing.redeem(row.ts, entry.holder, shares, entry.given)
                self._remember(row)
        elif isinstance(entry, Cancelled):
            standing = life.standing(entry)
            waiting = {order.seq: order for order in standing.holders.requests()}
            request = waiting.get(self._orders.get(entry.request, entry.request))
            if request is not None:
                standing.cancel(row.ts, request)
        elif isinstance(entry, DepositAsked):
            standing = life.standing(entry)
            standing.deposit(row.ts, entry.holder, entry.amount, entry.given, accepts_locked=True)
            self._remember(row)
        else:
            with suppress(NotHalted, ResumeNotAsked):  # where this life was not halted
                life.repeat(row, entry)

    def _remember(self, row: journal.Row) -> None:
        last = self._life.last()
        assert last is not None
        self._orders[row.seq] = last.seq


def _is_dealt(row: journal.Row) -> bool:
    return isinstance(row.entry, Lived) and row.entry.dealt is not None


def _told(group: _Group) -> tuple[str, ...]:
    """What an exchange did in a slot, as far as it is not what it was asked for."""
    told: list[str] = []
    for row in group:
        if isinstance(row.entry, Reported):
            told += [f"{one.position}: {one.cause.value.replace('_', ' ')}" for one in row.entry.reports]
            told += [f"{one.position or 'account'}: {one.what}" for one in row.entry.differs]
        elif isinstance(row.entry, Lived):
            told += filter(None, map(_outcome, row.entry.dealt or ()))
    return tuple(dict.fromkeys(told)) or ("what was asked for before was not done yet",)


def _outcome(one: Dealt) -> str:
    what = f"{one.position}: " + ("collateral" if one.kind is None else one.kind.name.replace("_", " "))
    asked, done = (one.amount, one.done) if one.kind is None else (one.lots, one.done)
    if one.pending:
        return f"{what}, {done:,} of {asked:,} done and the rest on its way"
    return "" if done == asked else f"{what}, {done:,} of {asked:,} done"
