"""One vault inside one unit of work: its money, its shares, its positions and its journal, changed together or not.

The caller brings the transaction, the vault's locked row, the time and, for a decision, the entry that says what was
decided. The vault posts, checks, pays and journals it. Every act ends in `_finish`, which checks the wall in plain
integers (W1, independently of the compiled step), writes what changed and adds one row to the journal.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from ringfence.markets.instruments import instrument_key
from ringfence.risk.edges import Edge
from ringfence.vaults.commands import remember
from ringfence.vaults.entries import Amended, Asked, Decided, Deposited, Entry, Held, Moved, Opened, RedemptionAsked
from ringfence.vaults.errors import AmendmentRefused, EntryUnreadable, LedgerDisagrees, StaleFence, WallBreached
from ringfence.vaults.journal import Journal, genesis
from ringfence.vaults.ledger import Ledger, margin_account
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.queue import Payment, Request, request_redemption, settle
from ringfence.vaults.shares import State, split_deposit, wall
from ringfence.vaults.tables import holding, mandate, position, redemption, vault
from ringfence.words.times import format_duration

__all__ = ["PositionRow", "Vault", "create_vault"]

_POSITIONS = select(position).where(position.c.vault_id == bindparam("vault")).order_by(position.c.ordinal)
_CHANGE_POSITION = (
    update(position)
    .where(position.c.vault_id == bindparam("of_vault"), position.c.name == bindparam("of_name"))
    .values(quantity=bindparam("to_quantity"), cost=bindparam("to_cost"), refused=bindparam("to_refused"))
)
_WAITING = (
    select(redemption)
    .where(redemption.c.vault_id == bindparam("vault"), redemption.c.remaining > 0)
    .order_by(redemption.c.seq)
)
_HELD = select(holding.c.shares).where(
    holding.c.vault_id == bindparam("vault"), holding.c.holder == bindparam("of_holder")
)
_HOLDERS = select(holding.c.holder).where(holding.c.vault_id == bindparam("vault"))
_PRICE_STORED = 2**63 - 1
"""The largest price of a request that a database stores: 8,192 minor units a share unit, 8 million times the first."""


@dataclass(slots=True)
class PositionRow:
    """A position as its row has it; its margin stands in the ledger."""

    name: str
    instrument: str
    """Its key."""
    quantity: int
    cost: int
    refused: int


def create_vault(connection: Connection, terms: Mandate, decimals: int, ts: int) -> None:
    """Open an empty vault under a mandate and tell so in its journal. The name must be free."""
    fingerprint = _keep_mandate(connection, terms, ts)
    inserted = connection.execute(
        insert(vault).values(
            name=terms.name, mandate=fingerprint, currency=terms.currency, decimals=decimals, shares=0, waiting=0,
            high_water_mark=0, last_nav=0, price_low=math.inf, distance_low=math.inf, version=0, journal_seq=0,
            journal_hash=genesis(terms.name), transfer_seq=0,
        )
    )  # fmt: skip
    identity = inserted.inserted_primary_key
    assert identity is not None
    connection.execute(
        insert(position),
        [
            {"vault_id": identity[0], "name": name, "ordinal": ordinal, "instrument": instrument_key(stated.symbol),
             "quantity": 0, "cost": 0, "refused": 0}
            for ordinal, (name, stated) in enumerate(terms.positions.items())
        ],
    )  # fmt: skip
    row = connection.execute(select(vault).where(vault.c.id == identity[0])).mappings().one()
    Vault(connection, row, terms).open(ts, decimals)


def _keep_mandate(connection: Connection, terms: Mandate, ts: int) -> str:
    """The fingerprint under which the mandate stands in the database, where it is put if it is new."""
    fingerprint = terms.fingerprint
    if connection.execute(select(mandate.c.name).where(mandate.c.fingerprint == fingerprint)).one_or_none() is None:
        row = {"fingerprint": fingerprint, "name": terms.name, "body": terms.canonical(), "applied_ts": ts}
        connection.execute(insert(mandate).values(row))
    return fingerprint


class Vault:
    """A vault whose row the caller has locked."""

    def __init__(self, connection: Connection, row: RowMapping, terms: Mandate, asked: Asked | None = None) -> None:
        """`asked` is the request that the next act answers; the journal tells it and the act is known by its key."""
        self._connection, self._asked = connection, asked
        self._id: int = row["id"]
        self._version: int = row["version"]
        self.name: str = row["name"]
        self.terms = terms
        self.shares: int = row["shares"]
        self.waiting: int = row["waiting"]
        self.high_water_mark: int = row["high_water_mark"]
        self.nav: int = row["last_nav"]
        self.last_bar: int | None = row["last_bar"]
        """Open (UTC ms) of the last bar that it has lived through: its clock."""
        self.price_low: float = row["price_low"]
        self.distance_low: float = row["distance_low"]
        self.ledger = Ledger(connection, self._id, row["transfer_seq"])
        self._journal = Journal(connection, self._id, row["journal_seq"], row["journal_hash"])
        rows = connection.execute(_POSITIONS, {"vault": self._id}).mappings()
        self.positions = {
            row["name"]: PositionRow(row["name"], row["instrument"], row["quantity"], row["cost"], row["refused"])
            for row in rows
        }

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def keep(self) -> int:
        """1 - loss cap, parts per million."""
        return MILLION - self.terms.loss_cap

    @property
    def state(self) -> State:
        """What a deposit or redemption sees, marked at the last struck NAV."""
        reserve, cushion = self.ledger.balance("reserve"), self.ledger.balance("cushion")
        return State(reserve, cushion, self.shares, self.waiting, self.high_water_mark, self.nav - reserve - cushion)

    @property
    def wall(self) -> int:
        """What must stand in the reserve, minor units."""
        return wall(self.high_water_mark, self.keep, self.shares)

    @property
    def now(self) -> int | None:
        """The close (UTC ms) of the slot that it decided last: the time of what people do until the next one."""
        timeframe = self.terms.timeframe
        return None if self.last_bar is None else (self.last_bar // timeframe + 1) * timeframe

    @property
    def row(self) -> int:
        """Number of the journal's last row."""
        return self._journal.seq

    def held(self, holder: str) -> int:
        """A holder's shares, those that wait for redemption included."""
        found = self._connection.execute(_HELD, {"vault": self._id, "of_holder": holder}).scalar_one_or_none()
        return int(found or 0)

    def holders(self) -> tuple[str, ...]:
        """Everyone who has ever held shares, by name."""
        found = self._connection.execute(_HOLDERS, {"vault": self._id}).scalars().all()
        return tuple(sorted(found))

    def requests(self) -> list[Request]:
        """What waits, in order."""
        rows = self._connection.execute(_WAITING, {"vault": self._id}).mappings()
        return [Request(row["seq"], row["holder"], row["shares"], row["price"], row["remaining"]) for row in rows]

    # ------------------------------------------------------------------------------------------------ its rules

    def open(self, ts: int, decimals: int) -> Opened:
        """The journal's first row: the mandate itself."""
        entry = Opened(mandate=self.terms.fingerprint, terms=self.terms.canonical(), decimals=decimals)
        self._finish(ts, entry)
        return entry

    def amend(self, ts: int, terms: Mandate) -> Amended:
        """Go on under another version of the mandate; a higher wall takes what it lacks from the cushion.

        Refused whole: AmendmentRefused (another name, currency or timeframe, other positions, a wall
        beyond the cushion).
        """
        given = {name: instrument_key(stated.symbol) for name, stated in terms.positions.items()}
        if (terms.name, terms.currency) != (self.name, self.terms.currency):
            raise AmendmentRefused(self.name, f"it would become {terms.name} in {terms.currency}")
        if terms.timeframe != self.terms.timeframe:
            # between the last slot of one length and the first of another there would be bars that nobody lives through
            raise AmendmentRefused(self.name, f"its slots would be of {format_duration(terms.timeframe)}")
        if given != {held.name: held.instrument for held in self.positions.values()}:
            raise AmendmentRefused(self.name, "its positions would be others")
        must_stand = wall(self.high_water_mark, MILLION - terms.loss_cap, self.shares)
        lacking = max(0, must_stand - self.ledger.balance("reserve"))
        if lacking > self.ledger.balance("cushion"):
            raise AmendmentRefused(self.name, f"its wall would need {lacking} minor units more than the cushion has")
        self.terms = terms
        self._post([Moved(edge=Edge.ratchet, amount=lacking)])
        fingerprint = _keep_mandate(self._connection, terms, ts)
        self._connection.execute(update(vault).where(vault.c.id == self._id).values(mandate=fingerprint))
        entry = Amended(mandate=fingerprint, terms=terms.canonical(), to_reserve=lacking, nav=self.nav, wall=self.wall)
        self._finish(ts, entry)
        return entry

    # ------------------------------------------------------------------------------------------------ people's acts

    def deposit(self, ts: int, holder: str, amount: int) -> Deposited:
        """Mint shares at the last struck NAV; the reserve is filled up to its new wall first.

        Refused whole: DepositRefused, ZeroShares.
        """
        booked = split_deposit(self.state, amount, self.keep)
        parts = (
            (Edge.deposit_reserve, booked.to_reserve),
            (Edge.deposit_cushion, booked.to_cushion),
            (Edge.ratchet, booked.ratchet),
        )
        self._post(Moved(edge=edge, amount=part) for edge, part in parts)
        self.shares, self.high_water_mark = booked.state.shares, booked.state.high_water_mark
        self.nav += amount
        self._hold(holder, booked.shares)
        entry = Deposited(
            holder=holder, amount=amount, to_reserve=booked.to_reserve, to_cushion=booked.to_cushion,
            ratcheted=booked.ratchet, shares=booked.shares, total_shares=self.shares, nav=self.nav, wall=self.wall,
        )  # fmt: skip
        self._finish(ts, entry)
        return entry

    def redeem(self, ts: int, holder: str, shares: int) -> RedemptionAsked:
        """Ask for `shares` back: what is free is paid now, the rest waits for the next slots.

        Refused whole: RedeemExceeds, ZeroAssets.
        """
        waiting = sum(request.remaining for request in self.requests() if request.holder == holder)
        seq = self._journal.seq + 1
        request = request_redemption(self.state, seq, holder, shares, self.held(holder), waiting)
        price = min(request.price, _PRICE_STORED)
        self._connection.execute(
            insert(redemption).values(vault_id=self._id, seq=seq, holder=holder, shares=shares, price=price,
                                      remaining=shares, requested_ts=ts)
        )  # fmt: skip
        self.waiting += shares
        payments = self._pay_waiting()
        own = [payment for payment in payments if payment.request == seq]
        entry = RedemptionAsked(
            holder=holder, shares=shares, price=price, payments=payments,
            burned=sum(payment.shares for payment in own), paid=sum(payment.assets for payment in own),
            total_shares=self.shares, nav=self.nav, wall=self.wall,
        )  # fmt: skip
        self._finish(ts, entry)
        return entry

    def _pay_waiting(self) -> tuple[Payment, ...]:
        settled = settle(self.state, self.requests(), self.keep)
        for payment in settled.payments:
            parts = ((Edge.redeem_reserve, payment.from_reserve), (Edge.redeem_cushion, payment.from_cushion))
            self._post(Moved(edge=edge, amount=part) for edge, part in parts)
            self.nav -= payment.assets
            self._hold(payment.holder, -payment.shares)
            self._connection.execute(
                update(redemption)
                .where(redemption.c.vault_id == self._id, redemption.c.seq == payment.request)
                .values(remaining=payment.remaining)
            )
        after = settled.state
        self.shares, self.waiting, self.high_water_mark = after.shares, after.waiting, after.high_water_mark
        return settled.payments

    def _hold(self, holder: str, shares: int) -> None:
        of_holder = (holding.c.vault_id == self._id) & (holding.c.holder == holder)
        changed = self._connection.execute(update(holding).where(of_holder).values(shares=holding.c.shares + shares))
        if changed.rowcount == 0:
            self._connection.execute(insert(holding).values(vault_id=self._id, holder=holder, shares=shares))

    # ------------------------------------------------------------------------------------------------ decisions

    def accept(self, ts: int, decided: Decided, balances: Mapping[str, int] | None = None) -> Decided:
        """Take over what was decided at a slot's close `ts`: transfers, positions, the strike; then pay what waits.

        Returns the entry as it was journaled, with the payments and the vault after them. `balances` are what the step
        itself arrived at, account by account; the ledger has the last word. Refused whole: EntryUnreadable (other
        positions), LedgerDisagrees, whatever the ledger refuses, WallBreached.
        """
        if decided.positions.keys() != self.positions.keys():
            raise EntryUnreadable(decided.kind, f"positions: expected those of the vault, {', '.join(self.positions)}")
        self._post(decided.transfers)
        margins = {margin_account(name): held.margin for name, held in decided.positions.items()}
        for account, balance in {**(balances or {}), **margins}.items():
            if self.ledger.balance(account) != balance:
                raise LedgerDisagrees(self.name, account, self.ledger.balance(account), balance)
        for name, held in decided.positions.items():
            self._take(self.positions[name], held)
        self.high_water_mark, self.nav, self.last_bar = decided.high_water_mark, decided.struck, decided.last_bar
        self.price_low, self.distance_low = _low(decided.price_low), _low(decided.distance_low)
        payments = self._pay_waiting() if self.waiting else ()
        entry = decided.model_copy(
            update={"payments": payments, "total_shares": self.shares, "nav": self.nav, "wall": self.wall}
        )
        self._finish(ts, entry)
        return entry

    @staticmethod
    def _take(row: PositionRow, held: Held) -> None:
        row.quantity, row.cost, row.refused = held.quantity, held.cost, int(held.refused)

    # ------------------------------------------------------------------------------------------------ the end of an act

    def _post(self, moved: Iterable[Moved]) -> None:
        for transfer in moved:
            if transfer.amount:
                self.ledger.post(transfer.edge, transfer.position, transfer.amount)

    def _finish(self, ts: int, entry: Entry) -> None:
        if self.ledger.balance("reserve") < self.wall:
            raise WallBreached(self.name, self.ledger.balance("reserve"), self.wall)
        seq = self._journal.append(ts, entry.under(self._asked))
        self.ledger.flush(ts, seq)
        self._journal.flush()
        if self._asked is not None:
            remember(self._connection, self._id, self._asked, seq)
            self._asked = None
        self._connection.execute(
            _CHANGE_POSITION,
            [
                {"of_vault": self._id, "of_name": row.name, "to_quantity": row.quantity, "to_cost": row.cost,
                 "to_refused": row.refused}
                for row in self.positions.values()
            ],
        )  # fmt: skip
        fence = (vault.c.id == self._id) & (vault.c.version == self._version)
        written = self._connection.execute(
            update(vault).where(fence).values(
                shares=self.shares, waiting=self.waiting, high_water_mark=self.high_water_mark,
                last_bar=self.last_bar, last_nav=self.nav, price_low=self.price_low, distance_low=self.distance_low,
                version=self._version + 1, journal_seq=self._journal.seq, journal_hash=self._journal.hash,
                transfer_seq=self.ledger.transfer_seq,
            )
        )  # fmt: skip
        if written.rowcount != 1:
            raise StaleFence(self.name, self._version)
        self._version += 1


def _low(told: float | None) -> float:
    """A low before the first bar is infinite."""
    return math.inf if told is None else told
