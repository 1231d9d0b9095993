"""Verification: nothing that the database says of a vault is believed; all of it is worked out again.

The ledger is summed anew, the chain of the journal hashed anew, and the whole life of the vault lived again from its
mandates, the acts of its holders and the recorded bars, in a scratch database: every row of every table about the vault
(its journal and its keys too) must come out the same to the last byte (L2).

A slot that another kernel or another release of a strategy decided cannot be decided again. There the recorded entry is
booked as it stands, through the same ledger and the same checks: sums, chain and money hold, and the verdict says that
the decision itself was not repeated.

Longer than 400 lines because every kind of entry is lived again in this one place.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from sqlite3 import Connection as FileConnection
from tempfile import TemporaryDirectory, gettempdir

from sqlalchemy import Connection, Engine, RowMapping, create_engine, delete, event, func, select
from sqlalchemy.exc import IntegrityError

from ringfence.risk import KERNEL
from ringfence.runtime.bar_store import Window, load_inside
from ringfence.runtime.comparison import differences, strays
from ringfence.runtime.database import text_as_it_stands, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.heads import Heads, beside
from ringfence.runtime.proposals import Proposed
from ringfence.runtime.reporting import booked
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.step import Step, book_of, decided_by, live_through, take
from ringfence.runtime.stretch import Stretch, passing, rest_of_slot, unfinished
from ringfence.vaults import journal, ledger, statements
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
from ringfence.vaults.errors import EntryUnreadable, UnknownVault
from ringfence.vaults.ledger import Breach
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import journal as journal_table
from ringfence.vaults.tables import mandate, metadata, vault
from ringfence.vaults.vault import Vault, create_vault
from ringfence.words.refusal import RingfenceError

__all__ = ["Verdict", "standing", "verify"]

_LISTED = 200
"""Faults that one check tells one by one; those beyond are counted, since a broken history breaks all that follows."""

_HASH = 64
"""Characters of a hash."""

_UNFIT = (RingfenceError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, IntegrityError)
"""What figures of another shape than ours end a formula with."""


@dataclass(frozen=True)
class Verdict:
    vault: str | None
    """Its name; None: what was found belongs to no vault."""
    rows: int
    """Rows of its journal."""
    slots: int
    """Decisions made again from their recorded inputs."""
    breaches: tuple[Breach, ...]
    """Empty when every law holds."""
    undecided: tuple[tuple[str, int], ...]
    """Who else decided and how many slots: their sums, chain and money hold, the decisions were not made again."""
    head: str = field(default="", compare=False)
    """`SEQ:HASH` of its journal's last row: kept elsewhere, it lets nobody write the history anew unseen."""


def verify(
    engine: Engine,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int, int], None] = lambda vault, done, total: None,
    expected: Heads | None = None,
) -> list[Verdict]:
    """Re-check the named vaults, or all and whatever else the database holds; reads only.

    `expected` are heads of an earlier day, which must lie on the chains. `progress` hears (vault, journal rows done,
    rows in all). Refused: UnknownVault, and DiskFull where the temporary folder has no room for the life again.
    """
    desk = Desk(engine)
    with unit_of_work(engine, writes=False) as connection, text_as_it_stands(connection), _scratch() as again:
        rows = connection.execute(select(vault).order_by(vault.c.name)).mappings().all()
        known = tuple(row["name"] for row in rows)
        for name in names or ():
            if name not in known:
                raise UnknownVault(name, known)
        found, lived = [], set[str]()
        for row in rows:
            if not names or row["name"] in names:
                life = _Life(connection, desk, again)
                found.append(_verdict(connection, life, row, progress, expected))
                lived |= life.mandates
                _empty(again)
        stray = [] if names else list(_listed(_told("the database", strays, connection, lived)))
        if expected is not None:
            stray += beside(connection, expected, names if names else known)
        return found + ([Verdict(None, 0, 0, tuple(stray), ())] if stray else [])


def _verdict(
    connection: Connection,
    life: "_Life",
    row: RowMapping,
    progress: Callable[[str, int, int], None],
    expected: Heads | None,
) -> Verdict:
    name, vault_id = row["name"], row["id"]
    counted = select(func.count()).where(journal_table.c.vault_id == vault_id)
    rows: int = connection.execute(counted).scalar_one()
    checks = (
        *_standing(connection, vault_id),
        life.live_again(row, rows, lambda done: progress(name, done, rows)),
        expected.breaches(connection, vault_id, name) if expected is not None else (),
    )
    breaches = dict.fromkeys(breach for check in checks for breach in _listed(check))
    others, head = tuple(sorted(life.others.items())), f"{row['journal_seq']}:{row['journal_hash']}"
    return Verdict(name, rows, life.decided, tuple(breaches), others, head)


def standing(connection: Connection, vault_id: int) -> list[Breach]:
    """What does not hold in a vault's ledger, chain and statements as they stand; nothing is decided again."""
    return [breach for check in _standing(connection, vault_id) for breach in _listed(check)]


def _standing(connection: Connection, vault_id: int) -> tuple[Iterator[Breach], ...]:
    return (
        _told("the ledger", ledger.breaches, connection, vault_id),
        _told("the chain", journal.breaches, connection, vault_id),
        _told("the statements", statements.breaches, connection, vault_id),
    )


def _told(what: str, check: Callable[..., Iterable[Breach]], connection: Connection, about: object) -> Iterator[Breach]:
    """What a check finds; figures that it cannot even read are a breach too, and no end of the verification."""
    try:
        yield from check(connection, about)
    except _UNFIT as failure:
        yield Breach("L2", what, "figures that can be read", f"{type(failure).__name__}: {failure}")


def _listed(found: Iterable[Breach]) -> Iterator[Breach]:
    found = iter(found)
    yield from islice(found, _LISTED)
    more = sum(1 for _ in found)
    if more:
        yield Breach("L2", f"beyond the {_LISTED} faults told", "none", f"{more:,} more of the same check")


# ---------------------------------------------------------------------------------------------------- living again


@contextmanager
def _scratch() -> Iterator[Connection]:
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


def _empty(again: Connection) -> None:
    for table in reversed(metadata.sorted_tables):
        again.execute(delete(table))


class _Life:
    """A vault that is lived again, alone in a database."""

    def __init__(self, connection: Connection, desk: Desk, again: Connection) -> None:
        self._connection, self._desk, self._again = connection, desk, again
        self._mandate: Mandate | None = None
        self._setup: Setup | None = None
        """Of the mandate, once a slot is decided again under it."""
        self.decided = 0
        self.others: Counter[str] = Counter()
        self.mandates: set[str] = set()
        """Fingerprints of those that it lived under."""

    def live_again(self, row: RowMapping, rows: int, progress: Callable[[int], None]) -> Iterator[Breach]:
        """How the database differs from what the same acts give again: row by row as it lives, table by table after it.

        Where a row and the life disagree, the life goes on with the one that the next row's hash vouches for. A
        decision that cannot be made again is taken as it stands. After another act that cannot be repeated there is
        nothing to go on from; that is told, and what the other checks find is told beside it.
        """
        told = journal.rows(self._connection, row["id"])
        done = 0
        for this, following in pairwise(chain(told, (None,))):
            assert this is not None
            vouched = row["journal_hash"] if following is None else following.previous_hash
            goes_on = yield from self._live(this, vouched)
            done += 1
            progress(done)
            if not goes_on:
                if following is not None:
                    thing = f"the {rows - done:,} journal rows after row {this.seq}, and the tables"
                    yield Breach("R4", thing, "lived again", f"cannot be: row {this.seq} could not be repeated")
                return
        if not done:
            yield Breach("L3", f"vault {row['name']}", "a journal that begins with its opening", "no row")
            return
        self.mandates |= set(self._again.execute(select(mandate.c.fingerprint)).scalars())
        yield from differences(self._connection, row["id"], self._again)

    def _live(self, row: journal.Row, vouched: str) -> Generator[Breach, None, bool]:
        """Repeats one row; returns whether the life can go on."""
        thing = f"journal row {row.seq} ({row.kind})"
        entry: Entry | None = None
        try:
            entry = row.entry
        except EntryUnreadable as unreadable:
            yield Breach("L3", f"journal row {row.seq}", "an entry that can be read", str(unreadable))
        attempt, decided = self._again.begin_nested(), self.decided
        failure = self._tried(row, entry)
        lived = self._last()
        agrees = lived is not None and (lived.ts, lived.kind, lived.body) == (row.ts, row.kind, row.body)
        if failure is None and (agrees or (lived is not None and lived.hash == vouched)):
            attempt.commit()
            self._join(vouched)
            return True
        attempt.rollback()
        self.decided = decided
        yield Breach("R4", thing, *_disagreement(row, entry, lived, failure))
        if isinstance(entry, Lived) and self._mandate is not None:
            attempt = self._again.begin_nested()
            failure = self._taken(row, entry)
            if failure is None:
                attempt.commit()
                self._join(vouched)
                return True
            attempt.rollback()
            yield Breach("R4", thing, "a decision that the ledger can book as it stands", failure)
        return False

    def _last(self) -> journal.Row | None:
        last = select(*journal.COLUMNS).order_by(journal_table.c.seq.desc()).limit(1)
        found = self._again.execute(last).one_or_none()
        return None if found is None else journal.Row(*found)

    def _join(self, vouched: str) -> None:
        """The life takes up the chain as it stands, so that a changed row is told once; the chain has its own check."""
        if isinstance(vouched, str) and len(vouched) == _HASH:
            self._again.execute(vault.update().values(journal_hash=vouched))

    def _tried(self, row: journal.Row, entry: Entry | None) -> str | None:
        """Why the row cannot be repeated; None where it was."""
        try:
            self._repeat(row, entry)
        except _UNFIT as failure:
            return str(failure) or type(failure).__name__
        return None

    def _taken(self, row: journal.Row, entry: Lived) -> str | None:
        try:
            standing = self._standing(entry)
            if isinstance(entry, Decided):
                standing.accept(row.ts, entry)
            elif isinstance(entry, Walked):
                standing.walk(row.ts, entry)
        except _UNFIT as failure:
            return str(failure) or type(failure).__name__
        return None

    def _standing(self, entry: Entry | None) -> Vault:
        """The vault as it stands by now, about to do what the entry tells."""
        if self._mandate is None:
            raise ValueError("no mandate stands before it")
        found = self._again.execute(select(vault)).mappings().one()
        return Vault(self._again, found, self._mandate, None if entry is None else entry.asked)

    def _repeat(self, row: journal.Row, entry: Entry | None) -> None:
        if isinstance(entry, Opened):
            terms = Mandate.from_canonical(entry.terms)
            create_vault(self._again, terms, entry.decimals, row.ts)
            self._mandate = terms
            return
        repeated = self._standing(entry)
        match entry:
            case Amended():
                terms = Mandate.from_canonical(entry.terms)
                repeated.amend(row.ts, terms)
                self._mandate, self._setup = terms, None
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
                setup = self._setup = self._setup or set_up(repeated.terms)
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
        setup = self._setup = self._setup or set_up(repeated.terms)
        timeframe, last_bar = setup.mandate.timeframe, repeated.last_bar
        if repeated.halted_since is not None:
            self._pass(repeated, setup, recorded)
            return
        if last_bar is None:
            raise ValueError("a vault that has lived through no bar stands inside no slot")
        rest = load_inside(
            self._connection, setup.symbols, timeframe, recorded.last_bar + 1, (last_bar, repeated.clock)
        )
        if rest is None:
            raise ValueError("no recorded bars are left inside the slot")
        stretch = unfinished(rest, is_halted=False)
        if recorded.dealt is not None:  # what an exchange told may have ended it
            stretch = stretch.until(len(rest.market))
        self._lived(repeated, setup, stretch, recorded, repeated.strike_of(repeated.clock))

    def _pass(self, repeated: Vault, setup: Setup, recorded: Walked) -> None:
        """Lives again through what a halted vault lived through next."""
        window, number = self._next(repeated, setup)
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

    def _next(self, repeated: Vault, setup: Setup) -> tuple[Window, int]:
        """The slot that a vault lives through next."""
        window = self._desk.window(self._connection, setup, repeated.clock)
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
        setup = self._setup = self._setup or set_up(mandate)
        window, number = self._next(repeated, setup)
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


def _disagreement(
    row: journal.Row, entry: Entry | None, lived: journal.Row | None, failure: str | None
) -> tuple[str, str]:
    """What was expected of a row and what was found, in the parts that differ."""
    if failure is not None or lived is None:
        return "the same act again", failure or "nothing came of it"
    if entry is None or lived.kind != row.kind:
        return f"{lived.kind} {lived.body}, as lived again", f"{row.kind} {row.body}"
    wanted, told = {"ts": lived.ts, **lived.entry.body()}, {"ts": row.ts, **entry.body()}
    names = [name for name in wanted if repr(wanted[name]) != repr(told.get(name))]
    if not names:  # the same entry in another text
        return f"{lived.body}, as lived again", row.body
    return f"{ {name: wanted[name] for name in names} }, as lived again", str({name: told.get(name) for name in names})


def _other_deciders(recorded: Decided, mandate: Mandate) -> tuple[str, ...]:
    """Who decided a slot and is not at hand: a kernel, or releases of strategies; empty where all are."""
    kernel, releases = decided_by(mandate)
    if recorded.kernel != kernel:
        return (f"kernel {recorded.kernel}",)
    return tuple(sorted({made for name, made in recorded.strategies.items() if releases.get(name) != made}))
