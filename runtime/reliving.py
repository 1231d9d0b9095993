"""Living again: a vault's life, row by row of its journal, in a scratch database beside the one it is recorded in."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection as FileConnection
from tempfile import TemporaryDirectory, gettempdir

from sqlalchemy import Connection, create_engine, delete, event, select
from sqlalchemy.exc import IntegrityError

from ringfence.risk import KERNEL
from ringfence.runtime.bar_store import Window, load_inside
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.proposals import Proposed
from ringfence.runtime.reporting import booked
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import Step, book_of, decided_by, live_through, take
from ringfence.runtime.stretch import Stretch, passing, rest_of_slot, unfinished
from ringfence.vaults import journal
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Closing,
    Decided,
    DepositAsked,
    Entry,
    Halted,
    Lived,
    Opened,
    Ordered,
    RedemptionAsked,
    Reported,
    ResumeAsked,
    Resumed,
    Walked,
)
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import journal as journal_table
from ringfence.vaults.tables import metadata, vault
from ringfence.vaults.vault import Vault, create_vault
from ringfence.words.refusal import RingfenceError

__all__ = ["UNFIT", "Reliving", "emptied", "scratch"]

UNFIT = (RingfenceError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, IntegrityError)
"""What figures of another shape than ours end a formula with."""


@contextmanager
def scratch() -> Iterator[Connection]:
    """An empty database in the temporary folder: a million rows fit on a disk and not into memory."""
    with TemporaryDirectory(prefix="ringfence-verify-") as folder:
        engine = create_engine(f"sqlite:///{Path(folder) / 'again.db'}")
        engine = engine.execution_options(ringfence_name=f"the temporary folder {gettempdir()} (TMPDIR)")

        @event.listens_for(engine, "connect")
        def prepare(connection: FileConnection, _record: object) -> None:
            connection.isolation_level = None
            for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "locking_mode = EXCLUSIVE"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        try:
            with unit_of_work(engine) as again:
                metadata.create_all(again)
                yield again
        finally:
            engine.dispose()


def emptied(again: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        again.execute(delete(table))


class Reliving:
    """A vault that is lived again, alone in a database."""

    def __init__(self, connection: Connection, desk: Desk, again: Connection) -> None:
        self.connection, self.again = connection, again
        self._desk = desk
        self.terms: Mandate | None = None
        self._setup: Setup | None = None
        """Of the mandate, once a slot is decided again under it."""
        self.decided = 0
        self.others: Counter[str] = Counter()

    def under(self, terms: Mandate | None) -> None:
        """From now on it lives under this mandate; None: it is not opened yet."""
        if terms is not self.terms:
            self.terms, self._setup = terms, None

    def setup(self) -> Setup:
        """The mandate that it lives under, ready to run."""
        assert self.terms is not None
        self._setup = self._setup or set_up(self.terms)
        return self._setup

    def last(self) -> journal.Row | None:
        last = select(*journal.COLUMNS).order_by(journal_table.c.seq.desc()).limit(1)
        found = self.again.execute(last).one_or_none()
        return None if found is None else journal.Row(*found)

    def standing(self, entry: Entry | None) -> Vault:
        """The vault as it stands by now, about to do what the entry tells."""
        if self.terms is None:
            raise ValueError("no mandate stands before it")
        found = self.again.execute(select(vault)).mappings().one()
        return Vault(self.again, found, self.terms, None if entry is None else entry.asked)

    def repeat(self, row: journal.Row, entry: Entry | None) -> None:
        if isinstance(entry, Opened):
            terms = Mandate.from_canonical(entry.terms)
            create_vault(self.again, terms, entry.decimals, row.ts)
            self.under(terms)
            return
        repeated = self.standing(entry)
        match entry:
            case Amended():
                terms = Mandate.from_canonical(entry.terms)
                repeated.amend(row.ts, terms)
                self.under(terms)
            case DepositAsked():
                repeated.deposit(row.ts, entry.holder, entry.amount, entry.given, accepts_locked=entry.accepts_locked)
            case RedemptionAsked():
                repeated.redeem(row.ts, entry.holder, entry.shares, entry.given)
            case Cancelled():
                waiting = {order.seq: order for order in repeated.holders.requests()}
                repeated.cancel(row.ts, waiting[entry.request])
            case Halted():
                repeated.halt(row.ts, entry.by, entry.why, entry.breaches)
            case ResumeAsked():
                repeated.ask_resume(row.ts, entry.by, entry.why)
            case Resumed():
                repeated.resume(row.ts, entry.by, entry.why)
            case Closing():
                repeated.close(row.ts, entry.by, entry.why)
            case Ordered():
                repeated.order(row.ts, entry)
            case Reported():
                setup = self.setup()
                booked(setup, repeated, entry.reports, entry.differs, entry.reported)
            case Walked():
                self._walk(repeated, row.ts, entry)
            case Decided():
                self._decide(repeated, row.ts, entry)
            case None if row.kind == Decided.kind:
                self._decide(repeated, row.ts, None)
            case _:
                raise ValueError(f"a row of kind {row.kind!r} cannot be repeated")

    def _walk(self, repeated: Vault, ts: int, recorded: Walked) -> None:
        """Lives through the bars inside the slot again."""
        if recorded.kernel != KERNEL:
            repeated.walk(ts, recorded)
            self.others[f"kernel {recorded.kernel}"] += 1
            return
        setup = self.setup()
        timeframe, last_bar = setup.mandate.timeframe, repeated.last_bar
        is_halted = repeated.halted_since is not None
        if last_bar is None or (is_halted and ts % timeframe == 0):
            self._pass(repeated, setup, recorded)
            return
        rest = load_inside(self.connection, setup.symbols, timeframe, recorded.last_bar + 1, (last_bar, repeated.clock))
        if rest is None:
            raise ValueError("no recorded bars are left inside the slot")
        stretch = unfinished(rest, is_halted)
        if recorded.dealt is not None:  # what an exchange told may have ended it
            stretch = stretch.until(len(rest.market))
        self._lived(repeated, setup, stretch, recorded, repeated.strike_of(repeated.clock))

    def _pass(self, repeated: Vault, setup: Setup, recorded: Walked) -> None:
        """Lives again through what a vault lived through next that is halted, or stands before its first bar."""
        window, number = self.next_slot(repeated, setup)
        stretch = passing(window.slots, number, repeated.last_bar)
        close, count = stretch.close, int(stretch.walk.ts.searchsorted(recorded.last_bar)) + 1
        if recorded.dealt is not None and count < len(stretch.walk.ts):
            stretch = stretch.until(count)
        self._lived(repeated, setup, stretch, recorded, close)

    def _lived(self, repeated: Vault, setup: Setup, stretch: Stretch, recorded: Lived | None, close: int) -> Step:
        """Lives through a stretch again, with what its venue answered, and takes it over; what waits is settled at
        `close`. More than five arguments because both kinds of entry are lived so."""
        told = None if recorded is None else recorded.dealt
        step = live_through(setup, book_of(repeated, close), stretch, told, repeated.clock)
        if step is None:
            raise ValueError("nothing happened inside the slot")
        if step.foreseen:
            raise ValueError(f"its venue would have been asked for {step.foreseen} things more")
        if recorded is not None and recorded.reported is not None:
            step = replace(step, entry=step.entry.model_copy(update={"reported": recorded.reported}))
        take(repeated, step)
        return step

    def next_slot(self, repeated: Vault, setup: Setup) -> tuple[Window, int]:
        """The slot that a vault lives through next."""
        window = self._desk.window(self.connection, setup, repeated.clock)
        number = -1 if window is None else window.after(repeated.clock)
        if window is None or number == len(window.slots):
            raise ValueError("no recorded bars are left for it to decide on")
        return window, number

    def _decide(self, repeated: Vault, ts: int, recorded: Decided | None) -> None:
        """Decides the slot again; of a row that cannot be read, the next slot that there is."""
        mandate = repeated.terms
        others = () if recorded is None else _other_deciders(recorded, mandate)
        if recorded is not None and others:
            repeated.accept(ts, recorded)
            self.others.update(others)
            return
        setup = self.setup()
        window, number = self.next_slot(repeated, setup)
        slot = int(window.slots.opens[number])
        if recorded is not None and slot != recorded.slot:
            raise ValueError(f"the next slot with recorded bars opens at {slot}, this one at {recorded.slot}")
        failed = {} if recorded is None else recorded.failed
        is_closing = repeated.closing_since is not None
        table = setup.closing_at if is_closing else partial(setup.propose_at, failed=failed)
        proposed = Proposed(table(window.slots, number), failed)
        stretch = rest_of_slot(window.slots, number, repeated.last_bar, proposed)
        step = self._lived(repeated, setup, stretch, recorded, stretch.close)
        self.decided += isinstance(step.entry, Decided)


def _other_deciders(recorded: Decided, mandate: Mandate) -> tuple[str, ...]:
    """Who decided a slot and is not at hand: a kernel, or releases of strategies; empty where all are."""
    kernel, releases = decided_by(mandate)
    if recorded.kernel != kernel:
        return (f"kernel {recorded.kernel}",)
    return tuple(sorted({made for name, made in recorded.strategies.items() if releases.get(name) != made}))
