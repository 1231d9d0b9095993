"""Dealing: a vault lives through its next stretch at an exchange that has books of its own.

The loop foresees what will be asked for. That is written down first, then asked for in its order; after the first
answer that is not what was foreseen the loop runs again from the same book with the answers so far. Once nothing is
left to be asked, the step is booked with the answers, together with what the exchange told besides. Whoever comes after
a crash finds what was written down, looks up at the exchange what became of it, and goes on.

The exchange is led bar by bar, no further than the next close at which something is asked of it. What it tells at a bar
inside the slot ends the stretch there; at the close itself, the positions concerned are asked nothing.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy import Connection, Engine, RowMapping, select

from ringfence.markets.errors import NoAnswer
from ringfence.risk.book import Book, Walk
from ringfence.risk.events import Kind
from ringfence.runtime.account import Known
from ringfence.runtime.database import in_unit, lock_vault, unit_of_work
from ringfence.runtime.errors import ExchangeBlank
from ringfence.runtime.paper_accounts import PaperAccount, PaperAccounts
from ringfence.runtime.reporting import booked
from ringfence.runtime.setup import Setup
from ringfence.runtime.step import Step, book_of, heed, live_through, take
from ringfence.runtime.stretch import Stretch
from ringfence.vaults import journal
from ringfence.vaults.entries import Dealt, Decided, Differs, Ordered
from ringfence.vaults.errors import StaleFence
from ringfence.vaults.pending import Pending
from ringfence.vaults.tables import journal as journal_table
from ringfence.vaults.vault import Vault

__all__ = ["Ahead", "Choice", "Dealer", "ordered"]


@dataclass(frozen=True, eq=False)
class Ahead:
    """What a vault may live through next."""

    setup: Setup
    stretch: Stretch
    beyond: Walk
    """The bars that are recorded from there on, for an exchange that goes on while it does not answer."""


Choice = Callable[[Connection, RowMapping, Vault], Ahead | None]
"""What a vault lives through next; None where there is nothing."""
SetUp = Callable[[Connection, str], Setup]
"""The mandate of that fingerprint, ready to run."""


@dataclass(frozen=True, eq=False)
class _Look:
    """A vault as it stands before the stretch."""

    ahead: Ahead
    book: Book
    clock: int
    """UTC ms up to which it has lived; the names of its orders have it."""
    last_bar: int | None
    booked: int
    """The exchange's number of the last thing that is booked."""
    version: int
    """The vault's fence."""
    paid_in: int
    """By its holders, net, minor units."""
    is_halted: bool
    pending: dict[str, Pending]
    """By position, what it waits for."""
    written: Ordered | None
    """What was written down, and is not booked, by somebody who is gone."""

    @property
    def is_called_off(self) -> bool:
        """Whether the vault was halted while what it had decided was on its way: nothing more of that is sent."""
        return self.is_halted and self.written is not None and self.written.slot is not None

    def step(self, stretch: Stretch, answers: Sequence[Dealt], still: Sequence[str]) -> Step | None:
        """What comes of the stretch with these answers, while nothing is asked for the positions that stand `still`."""
        book = Book(self.book.vaults.copy(), self.book.positions.copy())
        for name in still:
            book.positions[self.ahead.setup.names.index(name)].pending = 1
        return live_through(self.ahead.setup, book, stretch, answers, self.clock)


@dataclass(eq=False)
class Dealer:
    """Who deals for the vaults of a database at their exchanges."""

    engine: Engine
    accounts: PaperAccounts
    setup: SetUp

    def deal(self, name: str, choose: Choice) -> Step | None:
        """Live through a vault's next stretch, all of it or nothing; None where there is nothing to live through, or
        the vault was changed meanwhile.

        Refused: ExchangeRunning (somebody else is at it), NoAnswer (what was written down stays, and is gone on with),
        ExchangeBlank.
        """
        with self.accounts.of(name) as account, suppress(StaleFence):
            look = self._look(name, choose)
            if look is None:
                return None
            if account.opening < 0 and look.last_bar is not None:
                raise ExchangeBlank(name, str(self.accounts.folder))
            account.prepare(look.ahead.setup, look.paid_in)
            if look.written is None:
                found = self._listened(look, account)
                if found is None:
                    return None
                stretch, still = found
                return self._asked(name, look, account, stretch, still, [], None)
            stretch = look.ahead.stretch
            count = int(stretch.walk.ts.searchsorted(look.written.last_bar)) + 1
            if look.written.slot is None and not (stretch.passes and count == len(stretch.walk.ts)):
                stretch = stretch.until(count)
            answers = list(look.written.answered)
            return self._asked(name, look, account, stretch, look.written.still, answers, look.written)
        return None

    def _look(self, name: str, choose: Choice) -> _Look | None:
        with unit_of_work(self.engine, writes=False) as connection:
            row = lock_vault(connection, name)
            setup = self.setup(connection, row["mandate"])
            vault = Vault(connection, row, setup.mandate)
            ahead = choose(connection, row, vault)
            if ahead is None:
                return None
            close = ahead.stretch.close if ahead.stretch.slot is not None else vault.strike_of(vault.clock)
            return _Look(
                ahead, book_of(vault, close), vault.clock, vault.last_bar, vault.reported, row["version"],
                -vault.ledger.balance("world"), vault.halted_since is not None, _waiting(vault),
                ordered(connection, vault),
            )  # fmt: skip

    # ------------------------------------------------------------------------------------------------ before it

    def _listened(self, look: _Look, account: PaperAccount) -> tuple[Stretch, tuple[str, ...]] | None:
        """Lead the exchange up to where something is asked of it: what the vault lives through until then, and the
        positions that stand still at its close; None where nothing happens to it."""
        stretch, walk = look.ahead.stretch, look.ahead.stretch.walk
        foreseen = look.step(stretch, (), ())
        reach = len(walk.ts) - 1 if foreseen is None else foreseen.bar
        for bar in range(reach + 1):
            try:
                account.live(look.ahead.setup, walk, bar)
                heard = account.listen(_known(look, walk, bar, foreseen, ()), cancels=look.is_halted)
            except NoAnswer:
                self._goes_on(look, account)
                raise
            if heard.positions and (foreseen is None or bar < reach):
                return stretch.until(bar + 1), ()
            if heard.positions and foreseen is not None:
                decides = foreseen.entry.dealt or isinstance(foreseen.entry, Decided)
                return stretch, heard.positions if decides else ()
        return None if foreseen is None else (stretch, ())

    @staticmethod
    def _goes_on(look: _Look, account: PaperAccount) -> None:
        """An exchange that does not answer lives through its next bar nevertheless, where it is recorded."""
        beyond = look.ahead.beyond
        bar = int(beyond.ts.searchsorted(account.opening, side="right"))
        if bar < len(beyond.ts):
            account.live(look.ahead.setup, beyond, bar)

    # ------------------------------------------------------------------------------------------------ the step

    def _asked(
        self, name: str, look: _Look, account: PaperAccount, stretch: Stretch, still: Sequence[str],
        answers: list[Dealt], written: Ordered | None,
    ) -> Step:  # fmt: skip
        """Ask for what is foreseen until nothing is left to be asked, and book it. `written`: what is written down
        already. More than five arguments because it goes on where somebody else ended."""
        version = look.version
        while True:
            step = look.step(stretch, answers, still)
            assert step is not None
            assert step.entry.dealt is not None
            open_acts = step.entry.dealt[len(answers) :]
            if not open_acts and (written is not None or answers or not still):
                return self._booked(name, look, account, step, stretch.walk, version)
            is_new = written is None
            if written is None:
                written = Ordered(
                    last_bar=step.entry.last_bar, slot=step.entry.slot if isinstance(step.entry, Decided) else None,
                    answered=tuple(answers), asked_for=open_acts, still=tuple(still),
                )  # fmt: skip
                version = in_unit(self.engine, partial(self._order, name=name, version=version, wanted=written))
            self._ask(look, account, answers, open_acts, is_new)
            written = None if open_acts else written

    @staticmethod
    def _ask(
        look: _Look, account: PaperAccount, answers: list[Dealt], acts: Sequence[Dealt], is_new: bool
    ) -> None:  # fmt: skip
        """Ask for one after the other, up to the first answer that is not what was foreseen."""
        quantities = {
            name: int(row.quantity) for name, row in zip(look.ahead.setup.names, look.book.positions, strict=True)
        }
        for act in acts:
            in_time = account.exchange_clock == act.ts
            held = quantities[act.position] + sum(
                one.done for one in answers if one.position == act.position and one.lots
            )
            sends = in_time and not look.is_called_off
            answer = account.ask(act, answers, held, look.booked, is_new=is_new, sends=sends)
            answers.append(answer)
            if answer != act:
                return

    def _order(self, connection: Connection, name: str, version: int, wanted: Ordered) -> int:
        """Write down what is about to be asked for; returns the vault's version after it. Once it is written down,
        nothing is done."""
        vault = self._fenced(connection, name, version)
        there = ordered(connection, vault)
        if there is not None and there.model_copy(update={"transfers": ()}) == wanted:
            return version
        vault.order(vault.clock, wanted)
        return version + 1

    def _fenced(self, connection: Connection, name: str, version: int) -> Vault:
        """The vault, to which nothing has happened since that version; while its orders are on their way it may have
        been halted. Refused: StaleFence."""
        row = lock_vault(connection, name)
        if row["version"] != version and row["ordered"] is None:
            raise StaleFence(name, version)
        return Vault(connection, row, self.setup(connection, row["mandate"]).mandate)

    def _booked(
        self, name: str, look: _Look, account: PaperAccount, step: Step, walk: Walk, version: int
    ) -> Step:  # fmt: skip
        """Book the step, what the exchange told besides, and where both books differ after it."""
        acts = step.entry.dealt or ()
        heard = account.listen(_known(look, walk, step.bar, step, acts))
        step = replace(step, entry=step.entry.model_copy(update={"reported": heard.last}))
        names = [one.order for one in look.pending.values() if one.order] + [one.name for one in acts if one.pending]
        theirs = account.theirs(step.close, names) if account.opening == step.entry.last_bar else None
        paid_in = account.paid_in

        def work(connection: Connection) -> None:
            vault = self._fenced(connection, name, version)
            with vault.together():
                take(vault, step)
                if heard.positions:
                    booked(look.ahead.setup, vault, heard.reports, heard.differs, heard.last)
                owed = -vault.ledger.balance("world") - paid_in
                differs = () if theirs is None else account.differs(vault, theirs, owed)
                if differs:
                    booked(look.ahead.setup, vault, (), differs, heard.last)
                heed(vault, step)

        in_unit(self.engine, work)
        return step

    # ------------------------------------------------------------------------------------------------ reconciliation

    def reconcile(self, name: str) -> tuple[Differs, ...]:
        """Compare a vault's books with its exchange's, where both stand at the same bar and nothing is on its way;
        positions that differ are stopped. Refused: ExchangeRunning, NoAnswer, UnknownVault."""
        with self.accounts.of(name) as account:

            def work(connection: Connection) -> tuple[Differs, ...]:
                row = lock_vault(connection, name)
                setup = self.setup(connection, row["mandate"])
                vault = Vault(connection, row, setup.mandate)
                if vault.ordered is not None or vault.last_bar is None or account.opening != vault.last_bar:
                    return ()
                account.prepare(setup, -vault.ledger.balance("world"))
                waiting = _waiting(vault)
                theirs = account.theirs(vault.clock, [one.order for one in waiting.values() if one.order])
                found = account.differs(vault, theirs, 0)
                if found:
                    booked(setup, vault, (), found, vault.reported)
                return found

            return in_unit(self.engine, work)


def _waiting(vault: Vault) -> dict[str, Pending]:
    return {name: row.pending for name, row in vault.positions.items() if row.pending is not None}


def ordered(connection: Connection, vault: Vault) -> Ordered | None:
    """What a vault's exchange is being asked for; None: nothing."""
    if vault.ordered is None:
        return None
    found = select(*journal.COLUMNS).where(journal_table.c.vault_id == vault.id, journal_table.c.seq == vault.ordered)
    entry = journal.Row(*connection.execute(found).one()).entry
    assert isinstance(entry, Ordered)
    return entry


def _known(look: _Look, walk: Walk, bar: int, step: Step | None, acts: Sequence[Dealt]) -> Known:
    """What our books know once they have lived up to a bar."""
    names = look.ahead.setup.names
    ended = () if step is None else step.entry.events
    return Known(
        since=look.clock - walk.length, until=int(walk.ts[bar]) + walk.length, booked=look.booked,
        pending=look.pending, acts=acts,
        stopped=frozenset(name for name, one in look.pending.items() if one.is_halt),
        marks={name: float(row.mark_close) for name, row in zip(names, walk.bars[bar], strict=True)},
        liquidations=frozenset(
            (str(event.position), event.ts) for event in ended if event.kind is Kind.liquidation
        ),
    )  # fmt: skip
