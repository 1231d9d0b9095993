"""Statements: what each holder paid in, was paid, holds and waits for, derived from the journal alone.

Nothing here reads the register of shares to learn what it says: it is told again from the rows of the journal, and then
compared with the register (`holding`, `redemption`, the vault's row) and with the ledger's transfers. Whoever reads a
statement reads one that all three agree on. Reads only, inside the caller's transaction.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, or_, select

from ringfence.risk.edges import Edge
from ringfence.vaults.errors import StatementDisagrees
from ringfence.vaults.ledger import Breach
from ringfence.vaults.shares import Pool, preview_deposit, preview_redeem
from ringfence.vaults.tables import holding, journal, redemption, transfer, vault

__all__ = ["Act", "Register", "Statement", "Waiting", "audit", "derive", "holder_statements"]

_ONE = 2**50
_PAID_SLOT = '"payments":[['
"""How a slot's canonical body begins a list of payments that is not empty; the other slots need not be read."""

_OF_VAULT = journal.c.vault_id == bindparam("vault")
_ROWS = (
    select(journal.c.seq, journal.c.ts, journal.c.kind, journal.c.body)
    .where(_OF_VAULT)
    .where(or_(journal.c.kind.in_(("deposit", "redeem")), journal.c.body.contains(_PAID_SLOT, autoescape=True)))
    .order_by(journal.c.seq)
)
_LAST = (
    select(journal.c.seq, journal.c.kind, journal.c.body)
    .where(_OF_VAULT, journal.c.kind.in_(("deposit", "redeem", "slot")))
    .order_by(journal.c.seq.desc())
    .limit(1)
)
_PAID_IN, _PAID_OUT = (Edge.deposit_reserve, Edge.deposit_cushion), (Edge.redeem_reserve, Edge.redeem_cushion)
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

    def row(self, seq: int, ts: int, kind: str, text: str) -> None:
        try:
            body = json.loads(text)
            if kind == "deposit":
                self._deposit(seq, ts, body)
            elif kind == "redeem":
                self._redeem(seq, ts, body)
            else:
                burned = sum(payment[2] for payment in body["payments"])
                self._payments(seq, ts, body["payments"], body["struck"], body["shares"] + burned)
                self._agrees(seq, "S3", "shares", body["shares"], self.total)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            self._breach("L3", seq, f"the body of a {kind}", f"an unreadable one ({type(error).__name__}: {error})")

    def _deposit(self, seq: int, ts: int, body: dict[str, Any]) -> None:
        amount, shares, total = body["amount"], body["shares"], body["total_shares"]
        before = Pool(body["nav"] - amount if total > shares else 0, total - shares)
        nav, priced = (body["nav"], total) if before.shares == 0 else (before.assets, before.shares)
        one = self._account(body["holder"])
        self._agrees(seq, "S1", "shares minted", shares, preview_deposit(before, amount))
        one.deposited += amount
        one.cost += amount
        one.shares += shares
        self.total += shares
        one.acts.append(Act(seq, ts, "deposit", amount, shares, nav, priced))
        self.money[seq, 0] = amount
        self._agrees(seq, "S3", "total_shares", total, self.total)

    def _redeem(self, seq: int, ts: int, body: dict[str, Any]) -> None:
        holder, shares, payments = body["holder"], body["shares"], body["payments"]
        total = body["total_shares"] + sum(payment[2] for payment in payments)
        nav = body["nav"] + sum(payment[3] + payment[4] for payment in payments)
        self._account(holder).acts.append(Act(seq, ts, "request", 0, shares, nav, total, seq))
        self.requests[seq] = Waiting(seq, holder, int(shares), int(body["price"]), int(shares))
        self._payments(seq, ts, payments, nav, total)
        self._agrees(seq, "S3", "total_shares", body["total_shares"], self.total)

    def _payments(self, seq: int, ts: int, payments: list[list[Any]], nav: int, total: int) -> None:
        for asked, holder, burned, from_reserve, from_cushion, remaining in payments:
            request, amount = self.requests.get(asked), from_reserve + from_cushion
            if request is None or request.holder != holder:
                self._breach("S3", seq, f"a request {asked} of {holder} to pay", "none")
                continue
            if amount > request.price * burned // _ONE:
                self._breach("S5", seq, f"at most {request.price * burned // _ONE} for request {asked}", str(amount))
            self._agrees(seq, "S3", f"remaining of request {asked}", remaining, request.remaining - burned)
            self.requests[asked] = Waiting(asked, holder, request.shares, request.price, request.remaining - burned)
            one = self._account(holder)
            if not 0 < burned <= one.shares:
                self._breach("S3", seq, f"1 to {one.shares} shares of {holder} to burn", str(burned))
                continue
            one.cost -= one.cost * burned // one.shares
            one.shares -= burned
            one.redeemed += amount
            self.total -= burned
            one.acts.append(Act(seq, ts, "payment", amount, burned, nav, total, asked))
            for edge, part in zip(_PAID_OUT, (from_reserve, from_cushion), strict=True):
                self.money[seq, int(edge)] = self.money.get((seq, int(edge)), 0) + part

    def _account(self, holder: str) -> _Account:
        if not isinstance(holder, str):
            raise TypeError(f"the holder is {holder!r}")
        return self.accounts.setdefault(holder, _Account())

    def _agrees(self, seq: int, law: str, what: str, found: int, expected: int) -> None:
        if found != expected:
            self._breach(law, seq, f"{what} {expected}", str(found))

    def _breach(self, law: str, seq: int, expected: str, found: str) -> None:
        self.breaches.append(Breach(law, f"journal row {seq}", expected, found))

    def statement(self, holder: str, pool: Pool, wall: int) -> Statement:
        one = self.accounts[holder]
        queue = [request for request in self.requests.values() if request.holder == holder and request.remaining > 0]
        return Statement(
            holder, one.deposited, one.redeemed, one.shares, sum(request.remaining for request in queue), one.cost,
            _worth(pool, one.shares, queue), _worth(Pool(wall, pool.shares), one.shares, queue), tuple(one.acts),
        )  # fmt: skip


def _worth(pool: Pool, shares: int, queue: list[Waiting]) -> int:
    """What shares would fetch from a pool, those in the queue at most at the price of their request; each floored."""
    free = shares - sum(request.remaining for request in queue)
    return preview_redeem(pool, free) + sum(
        min(request.price * request.remaining // _ONE, preview_redeem(pool, request.remaining)) for request in queue
    )


def derive(connection: Connection, vault_id: int) -> Register:
    """Read a vault's journal into statements and compare them with the register of shares and the ledger.

    Minor units and share units throughout. Nothing is refused here: each disagreement is a breach of the result
    (S1: shares minted, S3: shares, S5: a payment above its request's price, L2: money, L3: an unreadable row).
    """
    reading, key = _Reading(), {"vault": vault_id}
    for seq, ts, kind, text in connection.execute(_ROWS, key):
        reading.row(seq, ts, kind, text)
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


def audit(connection: Connection, vault_id: int) -> list[Breach]:
    """Every place where statements, the register of shares and the ledger disagree; empty when all agree."""
    return list(derive(connection, vault_id).breaches)


def _last(connection: Connection, vault_id: int, reading: _Reading) -> tuple[int, int]:
    """(NAV, wall) as the journal's last row of money says."""
    found = connection.execute(_LAST, {"vault": vault_id}).one_or_none()
    if found is None:
        return 0, 0
    seq, kind, text = found
    try:
        body = json.loads(text)
        return int(body["nav"]), int(body["wall"])
    except (ValueError, KeyError, TypeError) as error:
        unreadable = f"an unreadable one ({type(error).__name__}: {error})"
        reading.breaches.append(Breach("L3", f"journal row {seq}", f"the nav and wall of a {kind}", unreadable))
        return 0, 0


def _against_ledger(connection: Connection, vault_id: int, reading: _Reading) -> Iterator[Breach]:
    """What was paid in and out by the journal, and what the transfers of the same row sum to."""
    moved: dict[tuple[int, int], int] = {}
    for seq, edge, amount in connection.execute(_MONEY, {"vault": vault_id}):
        # The journal does not say how a deposit was split, so both of its edges count as one.
        side = 0 if edge in _PAID_IN else edge
        moved[seq, side] = moved.get((seq, side), 0) + int(amount)
    for seq, side in sorted(moved.keys() | reading.money.keys()):
        told, found = reading.money.get((seq, side), 0), moved.get((seq, side), 0)
        if told != found:
            what = Edge(side).name if side else "deposit"
            yield Breach("L2", f"{what} of journal row {seq}", f"{told} in transfers, as the journal says", str(found))


def _against_register(
    connection: Connection, vault_id: int, reading: _Reading, statements: dict[str, Statement], nav: int
) -> Iterator[Breach]:
    held: dict[str, int] = dict(
        connection.execute(select(holding.c.holder, holding.c.shares).where(holding.c.vault_id == vault_id)).all()
    )
    told = {holder: one.shares for holder, one in statements.items()}
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
