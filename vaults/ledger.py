"""The double-entry ledger of one vault: the only way to move money is `post`, and only along an edge that exists.

A balance is credits - debits. The ledger works inside the caller's transaction and with the caller's time; it opens no
transaction and reads no clock. What it checks in memory the schema checks again on its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, insert, select, update

from ringfence.risk.edges import MAY_BE_NEGATIVE, OF_POSITIONS, AccountKind, Edge
from ringfence.vaults.errors import InsufficientBalance, LedgerUnbalanced, TransferRefused
from ringfence.vaults.tables import account, flow, holding, transfer, vault

__all__ = ["LARGEST", "Breach", "Ledger", "breaches", "margin_account"]

LARGEST = 2**62 - 1
"""No amount and no balance is larger than this, minor units: the kernel's exact products need it."""

_BALANCES = select(account.c.name, account.c.balance).where(account.c.vault_id == bindparam("vault"))
_TRANSFERS = insert(transfer)
_OPEN = insert(account)
_CHANGE = (
    update(account)
    .where(account.c.vault_id == bindparam("of_vault"), account.c.name == bindparam("of_name"))
    .values(balance=bindparam("new_balance"))
)
_MARGIN = f"{AccountKind.margin}:"


def margin_account(position: str) -> str:
    """The name of a position's margin account."""
    return _MARGIN + position


def _ends(edge: Edge, position: str | None) -> tuple[str, str]:
    """(debited, credited) account names."""
    return _account(edge.debit, position), _account(edge.credit, position)


def _account(kind: AccountKind, position: str | None) -> str:
    return f"{kind}:{position or ''}" if kind in OF_POSITIONS else kind.value


def _is_negative_allowed(name: str) -> bool:
    return name in MAY_BE_NEGATIVE


class Ledger:
    """The accounts of one vault, loaded in one query; `post` changes them in memory, `tell` says
    which row of the journal tells of it, `write` writes what changed.

    `transfer_seq` is the vault row's: the number of the last transfer. The caller holds the vault's lock and stores
    `transfer_seq` in the vault's row after `tell`; a second writer then meets the primary key.
    """

    def __init__(self, connection: Connection, vault_id: int, transfer_seq: int) -> None:
        self._connection = connection
        self._vault_id = vault_id
        self.transfer_seq = transfer_seq
        self._written: dict[str, int] = dict(connection.execute(_BALANCES, {"vault": vault_id}).all())
        self._balances = dict(self._written)
        self._pending: list[tuple[int, str | None, int]] = []
        self._told: list[dict[str, object]] = []

    def balance(self, name: str) -> int:
        """The balance of an account, what is posted but not yet written included; 0 for one never used."""
        return self._balances.get(name, 0)

    def margin(self, position: str) -> int:
        """The balance of a position's margin account."""
        return self.balance(_MARGIN + position)

    def order_margin(self, position: str) -> int:
        """What is on its way into a position."""
        return self.balance(f"{AccountKind.order_margin}:{position}")

    @property
    def balances(self) -> dict[str, int]:
        """Every account's balance, by name in order; a copy."""
        return dict(sorted(self._balances.items()))

    def sum_to_zero(self) -> bool:
        """Whether the vault's accounts sum to zero, as they must."""
        return sum(self._balances.values()) == 0

    def demand_balance(self) -> None:
        """Passes where the vault's accounts sum to zero, as they must. Refused: LedgerUnbalanced."""
        if not self.sum_to_zero():
            raise LedgerUnbalanced(self._vault_id, sum(self._balances.values()))

    def post(self, edge: Edge, position: str | None, amount: int) -> None:
        """Moves `amount` minor units along `edge`; `position` is named if and only if the edge touches its margin.

        Refused, with nothing posted: TransferRefused, InsufficientBalance.
        """
        if not isinstance(edge, Edge):
            raise TransferRefused(edge, position, amount, "an edge of the ledger")
        if type(amount) is not int or not 0 < amount <= LARGEST:
            raise TransferRefused(edge, position, amount, f"a whole number of minor units from 1 to {LARGEST}")
        if edge.of_position != (isinstance(position, str) and position != ""):
            expected = "the name of a position" if edge.of_position else "no position"
            raise TransferRefused(edge, position, amount, expected)
        debited, credited = _ends(edge, position)
        lower, higher = self.balance(debited) - amount, self.balance(credited) + amount
        if lower < 0 and not _is_negative_allowed(debited):
            raise InsufficientBalance(debited, self.balance(debited), amount)
        if lower < -LARGEST or higher > LARGEST:
            raise TransferRefused(edge, position, amount, f"no balance beyond {LARGEST}")
        self._balances[debited], self._balances[credited] = lower, higher
        self._pending.append((int(edge), position, amount))

    def tell(self, ts: int, journal_seq: int) -> None:
        """What was posted since the last call is told by the journal's row `journal_seq` at `ts` (UTC ms)."""
        for edge, position, amount in self._pending:
            self.transfer_seq += 1
            self._told.append(
                {"vault_id": self._vault_id, "seq": self.transfer_seq, "edge": edge, "position": position,
                 "amount": amount, "ts": ts, "journal_seq": journal_seq}
            )  # fmt: skip
        self._pending.clear()

    def write(self) -> int:
        """Writes what was told since the last call, and the balances that it changed; returns the number of transfers.

        Refused, with nothing written: LedgerUnbalanced.
        Whatever the database refuses (a CHECK, a key) is raised as it is and the caller's transaction must be undone.
        """
        written = len(self._told)
        if written:
            self.demand_balance()
            self._connection.execute(_TRANSFERS, self._told)
            self._write_balances()
            self._told = []
        return written

    def _write_balances(self) -> None:
        opened, changed = [], []
        for name, balance in self._balances.items():
            before = self._written.get(name)
            if before is None:
                opened.append({"vault_id": self._vault_id, "name": name, "balance": balance})
            elif before != balance:
                changed.append({"of_vault": self._vault_id, "of_name": name, "new_balance": balance})
        if opened:
            self._connection.execute(_OPEN, opened)
        if changed:
            self._connection.execute(_CHANGE, changed)
        self._written = dict(self._balances)


@dataclass(frozen=True)
class Breach:
    """A law that does not hold, where, and how."""

    law: str
    thing: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.law}: {self.thing}: expected {self.expected}, found {self.found}"


def breaches(connection: Connection, vault_id: int) -> list[Breach]:
    """Every place where a vault's ledger and shares break their laws (L1, L2, S3); empty when all hold.

    Sums every balance anew from the transfers and compares; reads only.
    """
    return [*_of_transfers(connection, vault_id), *_of_shares(connection, vault_id)]


def _of_transfers(connection: Connection, vault_id: int) -> Iterator[Breach]:
    summed: dict[str, int] = {}
    seq = 0
    columns = (transfer.c.seq, transfer.c.edge, transfer.c.position, transfer.c.amount)
    wanted = select(*columns).where(transfer.c.vault_id == vault_id).order_by(transfer.c.seq)
    rows = connection.execute(wanted.execution_options(yield_per=1_000))  # never the whole history at once
    for found, edge, position, amount in rows:
        seq += 1
        thing = f"transfer {found}"
        if found != seq:
            yield Breach("L3", thing, f"seq {seq}, without a gap", str(found))
            seq = found
        if edge not in _NUMBERS or type(amount) is not int or amount <= 0:
            yield Breach("L1", thing, "a known edge and an amount > 0", f"edge {edge}, amount {amount}")
            continue
        if Edge(edge).of_position != (position is not None):
            yield Breach("W2", thing, "a position exactly where the edge touches its margin", f"position {position}")
        debited, credited = _ends(Edge(edge), position)
        summed[debited] = summed.get(debited, 0) - amount
        summed[credited] = summed.get(credited, 0) + amount
        if summed[debited] < 0 and not _is_negative_allowed(debited):
            yield Breach("L1", f"{debited} after {thing}", "a balance >= 0", str(summed[debited]))
    kept: dict[str, int] = dict(connection.execute(_BALANCES, {"vault": vault_id}).all())
    for name in sorted(summed.keys() | kept.keys()):
        if kept.get(name, 0) != summed.get(name, 0):
            yield Breach("L2", f"account {name}", f"{summed.get(name, 0)}, the sum of its transfers",
                          str(kept.get(name, 0)))  # fmt: skip
    if sum(kept.values()) != 0:
        yield Breach("L1", "all accounts", "a sum of 0", str(sum(kept.values())))
    last = connection.execute(select(vault.c.transfer_seq).where(vault.c.id == vault_id)).scalar_one()
    if last != seq:
        yield Breach("L3", "the vault's last transfer", str(last), str(seq))


_NUMBERS = frozenset(int(edge) for edge in Edge)


def _of_shares(connection: Connection, vault_id: int) -> Iterator[Breach]:
    total, waiting = connection.execute(select(vault.c.shares, vault.c.waiting).where(vault.c.id == vault_id)).one()
    held = connection.execute(
        select(func.coalesce(func.sum(holding.c.shares), 0)).where(holding.c.vault_id == vault_id)
    ).scalar_one()
    if int(held) != total:
        yield Breach("S3", "holders' shares", f"{total}, all shares", str(held))
    waits = select(flow.c.holder, flow.c.side, func.sum(flow.c.remaining)).where(flow.c.vault_id == vault_id)
    rows = connection.execute(waits.group_by(flow.c.holder, flow.c.side)).all()
    asked = [(holder, int(remaining)) for holder, side, remaining in rows if side == "redemption"]
    in_queue = sum(remaining for _, remaining in asked)
    if in_queue != waiting:
        yield Breach("S3", "shares in the queue", f"{waiting}, all that wait", str(in_queue))
    paid_in = sum(int(remaining) for _, side, remaining in rows if side == "deposit")
    entering = select(account.c.balance).where(
        account.c.vault_id == vault_id, account.c.name == AccountKind.entering.value
    )
    held_for = connection.execute(entering).scalar_one_or_none() or 0
    if paid_in != held_for:
        yield Breach("S3", "money in the queue", f"{held_for}, all that waits to enter", str(paid_in))
    columns = select(holding.c.holder, holding.c.shares)
    owned: dict[str, int] = dict(connection.execute(columns.where(holding.c.vault_id == vault_id)).all())
    for holder, remaining in sorted(asked):
        if remaining > owned.get(holder, 0):
            yield Breach("S3", f"{holder}'s shares in the queue", f"at most {owned.get(holder, 0)}", str(remaining))
