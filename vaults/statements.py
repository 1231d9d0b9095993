"""Statements: what each holder paid in, was paid, holds and waits for, derived from the journal alone.

Nothing here reads the register of shares to learn what it says: it is told again from the rows of the journal, and then
compared with the register (`holding`, `flow`, the vault's row) and with the ledger's transfers. Whoever reads a
statement reads one that all three agree on. Reads only, inside the caller's transaction.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, bindparam, func, select

from ringfence.risk.edges import Edge
from ringfence.vaults import journal
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Decided,
    DepositAsked,
    Entry,
    Lived,
    RedemptionAsked,
    Reported,
    Walked,
)
from ringfence.vaults.errors import EntryUnreadable, StatementDisagrees
from ringfence.vaults.ledger import Breach
from ringfence.vaults.queue import Settlement, Side
from ringfence.vaults.shares import Pool, preview_deposit, preview_redeem
from ringfence.vaults.tables import flow, holding, transfer, vault

__all__ = ["Act", "Register", "Statement", "Waiting", "breaches", "derive", "holder_statements"]

_PAID_OUT = (Edge.redeem_reserve, Edge.redeem_cushion)
_OF_HOLDERS = (Edge.pay_in, Edge.admit, Edge.pay_back, *_PAID_OUT)
_MONEY = (
    select(transfer.c.journal_seq, transfer.c.edge, func.sum(transfer.c.amount))
    .where(
        transfer.c.vault_id == bindparam("vault"),
        transfer.c.edge.in_([int(edge) for edge in _OF_HOLDERS]),
    )
    .group_by(transfer.c.journal_seq, transfer.c.edge)
)


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that a holder asked for, or that it came to."""

    seq: int
    """The journal's row that tells of it."""
    ts: int
    kind: Literal["order", "deposit", "request", "payment", "cancelled", "returned"]
    """An order to enter and what it came to (deposit); a request to leave and what it came to (payment); either of them
    taken back (cancelled); a deposit that nothing could be minted for (returned)."""
    amount: int
    """Minor units paid in (order), put to work (deposit), paid out (payment) or back; 0 for a request."""
    shares: int
    """Minted, asked back, burned, or no longer asked back."""
    nav: int
    """What the vault was worth, over `total` shares, when the act was priced; of what is not priced yet, then."""
    total: int
    request: int | None = None
    """The journal's row of the order that is settled."""
    cost: int = 0
    """Of the trading that it caused, minor units: in the amount of a deposit, taken off that of a payment."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An order, of which `remaining` waits: minor units of a deposit, share units of a redemption."""

    seq: int
    holder: str
    side: Side
    assets: int
    """Paid in by a deposit, paid out so far for a redemption."""
    shares: int
    """Minted for a deposit, asked back by a redemption."""
    remaining: int
    cancelled: int
    given: int
    """UTC ms: the first strike whose slot closes later settles it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A holder's account with one vault: minor units, and share units of three decimals more."""

    holder: str
    deposited: int
    """All that was paid in, less what went back without having entered."""
    redeemed: int
    shares: int
    """Held now, those that wait included."""
    waiting: int
    """Share units asked back that wait for a strike."""
    entering: int
    """Minor units paid in that wait for a strike."""
    cost: int
    """What was paid for `shares`, at average cost: each burned share takes its part along, rounded down."""
    value: int
    """What the shares would fetch at the last NAV. Rounded down."""
    value_worst: int
    """The same with the vault at its wall: what the shares' part of the wall is worth."""
    acts: tuple[Act, ...]
    orders: tuple[Waiting, ...]
    """Those that wait, in order."""

    @property
    def profit(self) -> int:
        """What is held, waits to enter and was paid out, less what was paid in."""
        return self.value + self.entering + self.redeemed - self.deposited


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
        self.orders: dict[int, Waiting] = {}
        self.money: dict[tuple[int, int], int] = {}
        """(journal row, edge) -> minor units that must have moved."""
        self.breaches: list[Breach] = []
        self.total = 0

    def row(self, row: journal.Row) -> None:
        entry = self.entry(row)
        match entry:
            case DepositAsked():
                self._deposit(row, entry)
            case RedemptionAsked():
                self._redemption(row, entry)
            case Cancelled():
                self._cancelled(row, entry)
            case Decided():
                changed = sum(one.shares if one.side == "deposit" else -one.shares for one in entry.settlements)
                first = entry.total_shares == changed  # an empty vault's: priced by what it came to
                nav, total = (entry.nav, entry.total_shares) if first else (entry.struck, entry.total_shares - changed)
                for one in entry.settlements:
                    most = preview_deposit(Pool(nav, total), one.assets - one.cost)
                    if one.side == "deposit" and not first and one.shares > most:
                        self._breach("S5", row.seq, f"at most {most} shares for order {one.request}", str(one.shares))
                    self._settled(row, one, nav, total)
                self._agrees(row.seq, "S3", "shares", entry.total_shares, self.total)

    def entry(self, row: journal.Row) -> Entry | None:
        """What a row says; an unreadable one is a breach."""
        try:
            return row.entry
        except EntryUnreadable as refusal:
            self._breach("L3", row.seq, f"the body of a {row.kind}", f"an unreadable one ({refusal.reason})")
            return None

    def _deposit(self, row: journal.Row, entry: DepositAsked) -> None:
        self.orders[row.seq] = Waiting(
            row.seq, entry.holder, "deposit", entry.amount, 0, entry.amount, 0, entry.given
        )  # fmt: skip
        account = self._account(entry.holder)
        account.deposited += entry.amount
        self._move(row.seq, Edge.pay_in, entry.amount)
        if entry.settled is None:
            account.acts.append(Act(row.seq, row.ts, "order", entry.amount, 0, entry.nav, entry.total_shares, row.seq))
            return
        minted = entry.settled.shares
        before = Pool(entry.nav - entry.amount if entry.total_shares > minted else 0, entry.total_shares - minted)
        self._agrees(row.seq, "S1", "shares minted", minted, preview_deposit(before, entry.amount))
        self._settled(row, entry.settled, entry.nav, entry.total_shares)
        self._agrees(row.seq, "S3", "total_shares", entry.total_shares, self.total)

    def _redemption(self, row: journal.Row, entry: RedemptionAsked) -> None:
        acts = self._account(entry.holder).acts
        acts.append(Act(row.seq, row.ts, "request", 0, entry.shares, entry.nav, entry.total_shares, row.seq))
        self.orders[row.seq] = Waiting(
            row.seq, entry.holder, "redemption", 0, entry.shares, entry.shares, 0, entry.given
        )  # fmt: skip

    def _cancelled(self, row: journal.Row, entry: Cancelled) -> None:
        order = self._order(row, entry.request, entry.side, entry.holder)
        if order is None:
            return
        self._agrees(row.seq, "S3", f"remaining of order {entry.request}", entry.remaining, order.remaining)
        self.orders[entry.request] = replace(order, remaining=0, cancelled=order.remaining)
        amount, shares = (entry.remaining, 0) if entry.side == "deposit" else (0, entry.remaining)
        self._move(row.seq, Edge.pay_back, amount)
        account = self._account(entry.holder)
        account.deposited -= amount
        account.acts.append(
            Act(row.seq, row.ts, "cancelled", amount, shares, entry.nav, entry.total_shares, entry.request)
        )

    def _settled(self, row: journal.Row, one: Settlement, nav: int, total: int) -> None:
        order = self._order(row, one.request, one.side, one.holder)
        if order is None:
            return
        enters = one.side == "deposit"
        moved = order.remaining - one.remaining
        self._agrees(row.seq, "S3", f"what was settled of order {one.request}", one.assets if enters else one.shares,
                     moved if enters or one.shares else 0)  # fmt: skip
        assets, shares = (0, one.shares) if enters else (one.assets, 0)
        self.orders[one.request] = replace(
            order, remaining=one.remaining, assets=order.assets + assets, shares=order.shares + shares
        )
        for edge, part in zip(_PAID_OUT, (one.from_reserve, one.from_cushion), strict=True):
            self._move(row.seq, edge, part)
        account = self._account(one.holder)
        if enters:
            self._entered(row, account, one, nav, total)
        elif one.shares:
            self._left(row, account, one, nav, total)

    def _entered(self, row: journal.Row, account: "_Account", one: Settlement, nav: int, total: int) -> None:
        self._move(row.seq, Edge.admit, one.assets)
        kind: Literal["deposit", "returned"] = "deposit" if one.shares else "returned"
        amount = one.assets if one.shares else one.paid
        if not one.shares:
            account.deposited -= one.paid
        account.cost += one.assets if one.shares else 0
        account.shares += one.shares
        self.total += one.shares
        account.acts.append(Act(row.seq, row.ts, kind, amount, one.shares, nav, total, one.request, one.cost))

    def _left(self, row: journal.Row, account: "_Account", one: Settlement, nav: int, total: int) -> None:
        most = preview_redeem(Pool(nav, total), one.shares)
        if one.paid + one.cost > most:
            self._breach("S5", row.seq, f"at most {most} for order {one.request}", str(one.paid + one.cost))
        if not 0 < one.shares <= account.shares:
            expected = f"1 to {account.shares} shares of {one.holder} to burn"
            self._breach("S3", row.seq, expected, str(one.shares))
            return
        account.cost -= account.cost * one.shares // account.shares
        account.shares -= one.shares
        account.redeemed += one.paid
        self.total -= one.shares
        account.acts.append(
            Act(row.seq, row.ts, "payment", one.paid, one.shares, nav, total, one.request, one.cost)
        )  # fmt: skip

    def _order(self, row: journal.Row, seq: int, side: Side, holder: str) -> Waiting | None:
        order = self.orders.get(seq)
        if order is None or (order.side, order.holder) != (side, holder):
            self._breach("S3", row.seq, f"an order {seq} of {holder} to settle", "none")
            return None
        return order

    def _move(self, seq: int, edge: Edge, amount: int) -> None:
        if amount:
            self.money[seq, int(edge)] = self.money.get((seq, int(edge)), 0) + amount

    def _account(self, holder: str) -> _Account:
        return self.accounts.setdefault(holder, _Account())

    def _agrees(self, seq: int, law: str, what: str, found: int, expected: int) -> None:
        if found != expected:
            self._breach(law, seq, f"{what} {expected}", str(found))

    def _breach(self, law: str, seq: int, expected: str, found: str) -> None:
        self.breaches.append(Breach(law, f"journal row {seq}", expected, found))

    def statement(self, holder: str, pool: Pool, wall: int) -> Statement:
        account = self.accounts[holder]
        orders = tuple(order for order in self.orders.values() if order.holder == holder and order.remaining > 0)

        def waits(side: Side) -> int:
            return sum(order.remaining for order in orders if order.side == side)

        return Statement(
            holder, account.deposited, account.redeemed, account.shares, waits("redemption"), waits("deposit"),
            account.cost, preview_redeem(pool, account.shares),
            preview_redeem(Pool(wall, pool.shares), account.shares), tuple(account.acts), orders,
        )  # fmt: skip


def derive(connection: Connection, vault_id: int) -> Register:
    """Read a vault's journal into statements and compare them with the register of shares and the ledger.

    Minor units and share units throughout. Nothing is refused here: each disagreement is a breach of the result
    (S1: shares minted, S3: shares, S5: a settlement beyond its strike's price, L2: money, L3: an unreadable row).
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
    row = journal.last_row(
        connection, vault_id, Amended, DepositAsked, RedemptionAsked, Cancelled, Reported, Walked, Decided
    )
    match None if row is None else reading.entry(row):
        case Amended() | DepositAsked() | RedemptionAsked() | Cancelled() | Reported() | Lived() as entry:
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
    columns = (flow.c.seq, flow.c.holder, flow.c.side, flow.c.assets, flow.c.shares, flow.c.remaining,
               flow.c.cancelled, flow.c.requested_ts)  # fmt: skip
    rows = connection.execute(select(*columns).where(flow.c.vault_id == vault_id))
    kept = {row.seq: Waiting(*row) for row in rows}
    for seq in sorted(kept.keys() | reading.orders.keys()):
        if kept.get(seq) != reading.orders.get(seq):
            yield Breach("S3", f"order {seq}", f"{reading.orders.get(seq)}", str(kept.get(seq)))
    total, waiting, last_nav = connection.execute(
        select(vault.c.shares, vault.c.waiting, vault.c.last_nav).where(vault.c.id == vault_id)
    ).one()
    figures = (
        ("S3", "all shares", total, reading.total),
        ("S3", "shares that wait", waiting, sum(
            order.remaining for order in reading.orders.values() if order.side == "redemption"
        )),
        ("L2", "the NAV", last_nav, nav),
    )  # fmt: skip
    for law, what, figure, expected in figures:
        if figure != expected:
            yield Breach(law, what, f"{expected}, as the journal says", str(figure))
