"""Verification: nothing that the database says of a vault is believed; all of it is worked out again.

The ledger is summed anew, the chain of the journal hashed anew, and the whole life of the vault lived again from its
mandates, the acts of its holders and the recorded bars, in a scratch database: every row of every table about the vault
(its journal and its keys too) must come out the same to the last byte (L2).

A slot that another kernel or another release of a strategy decided cannot be decided again. There the recorded entry is
booked as it stands, through the same ledger and the same checks: sums, chain and money hold, and the verdict says that
the decision itself was not repeated.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise

from sqlalchemy import Connection, Engine, RowMapping, func, select

from ringfence.runtime.comparison import differences, strays
from ringfence.runtime.database import text_as_it_stands, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.heads import Heads, beside
from ringfence.runtime.reliving import UNFIT, Reliving, emptied, scratch
from ringfence.vaults import journal, ledger, statements
from ringfence.vaults.entries import (
    Decided,
    Entry,
    Lived,
    Walked,
)
from ringfence.vaults.errors import EntryUnreadable, UnknownVault
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import journal as journal_table
from ringfence.vaults.tables import mandate, vault

__all__ = ["Verdict", "standing", "verify"]

_LISTED = 200
"""Faults that one check tells one by one; those beyond are counted, since a broken history breaks all that follows."""

_HASH = 64
"""Characters of a hash."""


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
    with unit_of_work(engine, writes=False) as connection, text_as_it_stands(connection), scratch() as again:
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
                emptied(again)
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
    except UNFIT as failure:
        yield Breach("L2", what, "figures that can be read", f"{type(failure).__name__}: {failure}")


def _listed(found: Iterable[Breach]) -> Iterator[Breach]:
    found = iter(found)
    yield from islice(found, _LISTED)
    more = sum(1 for _ in found)
    if more:
        yield Breach("L2", f"beyond the {_LISTED} faults told", "none", f"{more:,} more of the same check")


# ---------------------------------------------------------------------------------------------------- living again


class _Life(Reliving):
    """A vault that is lived again and compared with what is recorded of it."""

    def __init__(self, connection: Connection, desk: Desk, again: Connection) -> None:
        super().__init__(connection, desk, again)
        self.mandates: set[str] = set()
        """Fingerprints of those that it lived under."""

    def live_again(self, row: RowMapping, rows: int, progress: Callable[[int], None]) -> Iterator[Breach]:
        """How the database differs from what the same acts give again: row by row as it lives, table by table after it.

        Where a row and the life disagree, the life goes on with the one that the next row's hash vouches for. A
        decision that cannot be made again is taken as it stands. After another act that cannot be repeated there is
        nothing to go on from; that is told, and what the other checks find is told beside it.
        """
        told = journal.rows(self.connection, row["id"])
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
        self.mandates |= set(self.again.execute(select(mandate.c.fingerprint)).scalars())
        yield from differences(self.connection, row["id"], self.again)

    def _live(self, row: journal.Row, vouched: str) -> Generator[Breach, None, bool]:
        """Repeats one row; returns whether the life can go on."""
        thing = f"journal row {row.seq} ({row.kind})"
        entry: Entry | None = None
        try:
            entry = row.entry
        except EntryUnreadable as unreadable:
            yield Breach("L3", f"journal row {row.seq}", "an entry that can be read", str(unreadable))
        attempt, decided = self.again.begin_nested(), self.decided
        failure = self._tried(row, entry)
        lived = self.last()
        agrees = lived is not None and (lived.ts, lived.kind, lived.body) == (row.ts, row.kind, row.body)
        if failure is None and (agrees or (lived is not None and lived.hash == vouched)):
            attempt.commit()
            self._join(vouched)
            return True
        attempt.rollback()
        self.decided = decided
        yield Breach("R4", thing, *_disagreement(row, entry, lived, failure))
        if isinstance(entry, Lived) and self.terms is not None:
            attempt = self.again.begin_nested()
            failure = self._taken(row, entry)
            if failure is None:
                attempt.commit()
                self._join(vouched)
                return True
            attempt.rollback()
            yield Breach("R4", thing, "a decision that the ledger can book as it stands", failure)
        return False

    def _join(self, vouched: str) -> None:
        """The life takes up the chain as it stands, so that a changed row is told once; the chain has its own check."""
        if isinstance(vouched, str) and len(vouched) == _HASH:
            self.again.execute(vault.update().values(journal_hash=vouched))

    def _taken(self, row: journal.Row, entry: Lived) -> str | None:
        try:
            standing = self.standing(entry)
            if isinstance(entry, Decided):
                standing.accept(row.ts, entry)
            elif isinstance(entry, Walked):
                standing.walk(row.ts, entry)
        except UNFIT as failure:
            return str(failure) or type(failure).__name__
        return None

    def _tried(self, row: journal.Row, entry: Entry | None) -> str | None:
        """Why the row cannot be repeated; None where it was."""
        try:
            self.repeat(row, entry)
        except UNFIT as failure:
            return str(failure) or type(failure).__name__
        return None


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
