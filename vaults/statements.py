"""Statements: what each holder paid in, was paid, holds and waits for, derived from the journal alone.

Nothing here reads the register of shares to learn what it says: it is told again from the rows of the journal, and then
compared with the register (`holding`, `redemption`, the vault's row) and with the ledger's transfers. Whoever reads a
statement reads one that all three agree on. Reads only, inside the caller's transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, bindparam, func, select

from ringfence.risk.edges import Edge
from ringfence.vaults import journal
from ringfence.vaults.entries import Amended, Decided, Deposited, Entry, RedemptionAsked
from ringfence.vaults.errors import EntryUnreadable, StatementDisagrees
from ringfence.vaults.ledger import Breach
from ringfence.vaults.queue import Payment
from ringfence.vaults.shares import ONE, Pool, preview_deposit, preview_redeem
from ringfence.vaults.tables import holding, redemption, transfer, vault

__all__ = ["Act", "Register", "Statement", "Waiting", "breaches", "derive", "holder_statements"]

_PAID_IN = (Edge.deposit_reserve, Edge.deposit_cushion)
_PAID_OUT = (Edge.redeem_reserve, Edge.redeem_cushion)
_MONEY = (
    select(transfer.c.journal_seq, transfer.c.edge, func.sum(transfer.c.amount))
    .where(
        transfer.c.vault_id == bindparam("vault"),
        transfer.c.edge.in_([int(edge) for edge in (*_PAID_IN, *_PAID_OUT)]),
    )
    .group_by(transfer.c.journal_seq, transfer.c.edge)
)


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a holder did or was paid."""

    seq: int
    """The journal's row that tells of it."""
    ts: int
    kind: Literal["deposit", "request", "payment"]
    amount: int
    """Minor units paid in (deposit) or out (payment); 0 for a request."""
    shares: int
    """Minted, asked back or burned."""
    nav: int
    """What the vault was worth, over `total` shares, when the act was priced."""
    total: int
    request: int | None = None
    """The journal's row of the request that is paid."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request to redeem of which `remaining` shares wait; none is paid more than `price` (2**50) a share unit."""

    seq: int
    holder: str
    shares: int
    price: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A holder's account with one vault: minor units, and share units of three decimals more."""

    holder: str
    deposited: int
    redeemed: int
    shares: int
    """Held now, those that wait included."""
    waiting: int
    cost: int
    """What was paid for `shares`, at average cost: each burned share takes its part along, rounded down."""
    value: int
    """What they would fetch at the last NAV; those that wait, at most at the price of their request. Rounded down."""
    value_worst: int
    """The same with the vault at its wall: what the shares' part of the wall is worth."""
    acts: tuple[Act, ...]

    @property
    def profit(self) -> int:
        """What is held and was paid out, less what was paid in."""
        return self.value + self.redeemed - self.deposited


@dataclass(frozen=True)
class Register:
    """All that the journal says about a vault's holders, and where the books disagree with it."""

    nav: int
    wall: int
    shares: int
    statements: dict[str, Statement]
    """By holder, in order of their first deposit."""
    breaches: tuple[Breach, ...]


class _Account:
    """One holder, while the journal is being read."""

    def __init__(self) -> None:
        self.deposited = self.redeemed = self.shares = self.cost = 0
        self.acts: list[Act] = []


class _Reading:
    """The journal read row by row. What contradicts itself becomes a breach; the reading goes on."""

    def __init__(self) -> None:
        self.accounts: dict[str, _Account] = {}
        self.requests: dict[int, Waiting] = {}
        self.money: dict[tuple[int, int], int] = {}
        """(journal row, edge) -> minor units that must have moved."""
        self.breaches: list[Breach] = []
        self.total = 0

    def row(self, row: journal.Row) -> None:
        entry = self.entry(row)
        match entry:
            case Deposited():
                self._deposit(row, entry)
            case RedemptionAsked():
                self._redemption(row, entry)
            case Decided():
                burned = sum(payment.shares for payment in entry.payments)
                self._payments(row, entry.payments, entry.struck, entry.total_shares + burned)
                self._agrees(row.seq, "S3", "shares", entry.total_shares, self.total)

    def entry(self, row: journal.Row) -> Entry | None:
        """What a row says; an unreadable one is a breach."""
        try:
            return row.entry
        except EntryUnreadable as refusal:
            self._breach("L3", row.seq, f"the body of a {row.kind}", f"an unreadable one ({refusal.reason})")
            return None

    def _deposit(self, row: journal.Row, entry: Deposited) -> None:
        before = Pool(entry.nav - entry.amount if entry.total_shares > entry.shares else 0,
                      entry.total_shares - entry.shares)  # fmt: skip
        nav, priced = (before.assets, before.shares) if before.shares else (entry.nav, entry.total_shares)
        self._agrees(row.seq, "S1", "shares minted", entry.shares, preview_deposit(before, entry.amount))
        self._agrees(row.seq, "L2", "amount", entry.amount, entry.to_reserve + entry.to_cushion)
        account = self._account(entry.holder)
        account.deposited += entry.amount
        account.cost += entry.amount
        account.shares += entry.shares
        self.total += entry.shares
        account.acts.append(Act(row.seq, row.ts, "deposit", entry.amount, entry.shares, nav, priced))
        for edge, part in zip(_PAID_IN, (entry.to_reserve, entry.to_cushion), strict=True):
            self.money[row.seq, int(edge)] = part
        self._agrees(row.seq, "S3", "total_shares", entry.total_shares, self.total)

    def _redemption(self, row: journal.Row, entry: RedemptionAsked) -> None:
        total = entry.total_shares + sum(payment.shares for payment in entry.payments)
        nav = entry.nav + sum(payment.assets for payment in entry.payments)
        acts = self._account(entry.holder).acts
        acts.append(Act(row.seq, row.ts, "request", 0, entry.shares, nav, total, row.seq))
        self.requests[row.seq] = Waiting(row.seq, entry.holder, entry.shares, entry.price, entry.shares)
        self._payments(row, entry.payments, nav, total)
        self._agrees(row.seq, "S3", "total_shares", entry.total_shares, self.total)

    def _payments(self, row: journal.Row, payments: tuple[Payment, ...], nav: int, total: int) -> None:
        for paid in payments:
            asked = self.requests.get(paid.request)
            if asked is None or asked.holder != paid.holder:
                self._breach("S3", row.seq, f"a request {paid.request} of {paid.holder} to pay", "none")
                continue
            most = asked.price * paid.shares // ONE
            if paid.assets > most:
                self._breach("S5", row.seq, f"at most {most} for request {paid.request}", str(paid.assets))
            left = asked.remaining - paid.shares
            self._agrees(row.seq, "S3", f"remaining of request {paid.request}", paid.remaining, left)
            self.requests[paid.request] = Waiting(paid.request, paid.holder, asked.shares, asked.price, left)
            account = self._account(paid.holder)
            if not 0 < paid.shares <= account.shares:
                expected = f"1 to {account.shares} shares of {paid.holder} to burn"
                self._breach("S3", row.seq, expected, str(paid.shares))
                continue
            account.cost -= account.cost * paid.shares // account.shares
            account.shares -= paid.shares
            account.redeemed += paid.assets
            self.total -= paid.shares
            account.acts.append(Act(row.seq, row.ts, "payment", paid.assets, paid.shares, nav, total, paid.request))
            for edge, part in zip(_PAID_OUT, (paid.from_reserve, paid.from_cushion), strict=True):
                self.money[row.seq, int(edge)] = self.money.get((row.seq, int(edge)), 0) + part

    def _account(self, holder: str) -> _Account:
        return self.accounts.setdefault(holder, _Account())

    def _agrees(self, seq: int, law: str, what: str, found: int, expected: int) -> None:
        if found != expected:
            self._breach(law, seq, f"{what} {expected}", str(found))

    def _breach(self, law: str, seq: int, expected: str, found: str) -> None:
        self.breaches.append(Breach(law, f"journal row {seq}", expected, found))

    def statement(self, holder: str, pool: Pool, wall: int) -> Statement:
        account = self.accounts[holder]
        queue = [request for request in self.requests.values() if request.holder == holder and request.remaining > 0]
        return Statement(
            holder, account.deposited, account.redeemed, account.shares,
            sum(request.remaining for request in queue), account.cost, _worth(pool, account.shares, queue),
            _worth(Pool(wall, pool.shares), account.shares, queue), tuple(account.acts),
        )  # fmt: skip


def _worth(pool: Pool, shares: int, queue: list[Waiting]) -> int:
    """What shares would fetch from a pool, those in the queue at most at the price of their request; each floored."""
    free = shares - sum(request.remaining for request in queue)
    return preview_redeem(pool, free) + sum(
        min(request.price * request.remaining // ONE, preview_redeem(pool, request.remaining)) for request in queue
    )


def derive(connection: Connection, vault_id: int) -> Register:
    """Read a vault's journal into statements and compare them with the register of shares and the ledger.

    Minor units and share units throughout. Nothing is refused here: each disagreement is a breach of the result
    (S1: shares minted, S3: shares, S5: a payment above its request's price, L2: money, L3: an unreadable row).
    """
    reading = _Reading()
    for row in journal.rows(connection, vault_id, paying=True):
        reading.row(row)
    nav, wall = _last(connection, vault_id, reading)
    pool = Pool(nav if reading.total else 0, reading.total)
    statements = {holder: reading.statement(holder, pool, wall) for holder in reading.accounts}
    breaches = [
        *reading.breaches,
        *_against_ledger(connection, vault_id, reading),
        *_against_register(connection, vault_id, reading, statements, nav),
    ]
    return Register(nav, wall, reading.total, statements, tuple(breaches))


def holder_statements(connection: Connection, name: str, vault_id: int) -> Register:
    """`derive`, for people: refused (StatementDisagrees) where the journal and the books say different things."""
    register = derive(connection, vault_id)
    if register.breaches:
        raise StatementDisagrees(name, tuple(str(breach) for breach in register.breaches))
    return register


def breaches(connection: Connection, vault_id: int) -> list[Breach]:
    """Every place where statements, the register of shares and the ledger disagree; empty when all agree."""
    return list(derive(connection, vault_id).breaches)


def _last(connection: Connection, vault_id: int, reading: _Reading) -> tuple[int, int]:
    """(NAV, wall) as the journal's last row of money says."""
    row = journal.last_row(connection, vault_id, Amended, Deposited, RedemptionAsked, Decided)
    match None if row is None else reading.entry(row):
        case Amended() | Deposited() | RedemptionAsked() | Decided() as entry:
            return entry.nav, entry.wall
    return 0, 0


def _against_ledger(connection: Connection, vault_id: int, reading: _Reading) -> Iterator[Breach]:
    """What was paid in and out by the journal, and what the transfers of the same row sum to."""
    rows = connection.execute(_MONEY, {"vault": vault_id})
    moved: dict[tuple[int, int], int] = {(seq, edge): int(amount) for seq, edge, amount in rows}
    for seq, edge in sorted(moved.keys() | reading.money.keys()):
        told, found = reading.money.get((seq, edge), 0), moved.get((seq, edge), 0)
        if told != found:
            thing = f"{Edge(edge).name} of journal row {seq}"
            yield Breach("L2", thing, f"{told} in transfers, as the journal says", str(found))


def _against_register(
    connection: Connection, vault_id: int, reading: _Reading, statements: dict[str, Statement], nav: int
) -> Iterator[Breach]:
    held: dict[str, int] = dict(
        connection.execute(select(holding.c.holder, holding.c.shares).where(holding.c.vault_id == vault_id)).all()
    )
    told = {holder: statement.shares for holder, statement in statements.items()}
    for holder in sorted(held.keys() | told.keys()):
        if held.get(holder, 0) != told.get(holder, 0):
            found = str(held.get(holder, 0))
            yield Breach("S3", f"shares of {holder}", f"{told.get(holder, 0)}, as the journal says", found)
    columns = (redemption.c.seq, redemption.c.holder, redemption.c.shares, redemption.c.price, redemption.c.remaining)
    rows = connection.execute(select(*columns).where(redemption.c.vault_id == vault_id))
    kept = {row.seq: Waiting(*row) for row in rows}
    for seq in sorted(kept.keys() | reading.requests.keys()):
        if kept.get(seq) != reading.requests.get(seq):
            yield Breach("S3", f"redemption {seq}", f"{reading.requests.get(seq)}", str(kept.get(seq)))
    total, waiting, last_nav = connection.execute(
        select(vault.c.shares, vault.c.waiting, vault.c.last_nav).where(vault.c.id == vault_id)
    ).one()
    figures = (
        ("S3", "all shares", total, reading.total),
        ("S3", "shares that wait", waiting, sum(request.remaining for request in reading.requests.values())),
        ("L2", "the NAV", last_nav, nav),
    )
    for law, what, figure, expected in figures:
        if figure != expected:
            yield Breach(law, what, f"{expected}, as the journal says", str(figure))
