"""One vault inside one unit of work: its money, its shares, its positions and its journal, changed together or not.

The caller brings the transaction, the vault's locked row and the time. Every act ends in `_finish`, which checks the
wall in plain integers (W1, independently of the compiled step), writes what changed and adds one row to the journal.
"""

import math
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from ringfence.markets.simulator import Record, Walk, blank_series, simulate
from ringfence.risk.book import Book, Limits, Rows, Terms, empty_book
from ringfence.risk.edges import AccountKind, Edge
from ringfence.risk.events import Event
from ringfence.risk.tape import Tape, blank_tape, read_events, rewind
from ringfence.vaults.errors import LedgerDisagrees, WallBreached
from ringfence.vaults.journal import Journal, genesis
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.shares import Payment, Request, State, request_redemption, settle, split_deposit, wall
from ringfence.vaults.tables import holding, mandate, position, redemption, vault

__all__ = ["SlotInputs", "Vault", "create_vault"]

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
_CONTRA = ("venue", "costs", "funding", "shortfall", "world")


@dataclass(frozen=True, eq=False)
class SlotInputs:
    """What one slot is stepped on."""

    slot: int
    """Open of the slot, UTC ms."""
    close: int
    """End of the slot, UTC ms."""
    ts: Any
    """(B,) opens of its bars, UTC ms."""
    bars: Rows
    """(B, P) of risk.book.BAR; position p trades column p."""
    proposals: Rows
    """(1, P) of risk.book.PROPOSAL."""
    fingerprint: str
    """SHA-256 of the bars."""


def create_vault(connection: Connection, terms: Mandate, decimals: int, ts: int) -> None:
    """Open an empty vault under a mandate and tell so in its journal. The name must be free."""
    fingerprint, body = terms.fingerprint, terms.canonical()
    if connection.execute(select(mandate.c.name).where(mandate.c.fingerprint == fingerprint)).one_or_none() is None:
        connection.execute(insert(mandate).values(fingerprint=fingerprint, name=terms.name, body=body, applied_ts=ts))
    row = connection.execute(
        insert(vault).values(
            name=terms.name, mandate=fingerprint, currency=terms.currency, decimals=decimals, shares=0, waiting=0,
            high_water_mark=0, last_nav=0, price_low=math.inf, distance_low=math.inf, version=0, journal_seq=0,
            journal_hash=genesis(terms.name), transfer_seq=0,
        )
    )  # fmt: skip
    identity = row.inserted_primary_key
    assert identity is not None
    connection.execute(
        insert(position),
        [
            {"vault_id": identity[0], "name": name, "ordinal": ordinal, "symbol": one.symbol, "quantity": 0, "cost": 0,
             "refused": 0}
            for ordinal, (name, one) in enumerate(terms.positions.items())
        ],
    )  # fmt: skip
    opened = connection.execute(select(vault).where(vault.c.id == identity[0])).mappings().one()
    Vault(connection, opened, terms).open(ts)


class Vault:
    """A vault whose row the caller has locked."""

    def __init__(self, connection: Connection, row: RowMapping, terms: Mandate) -> None:
        self._connection = connection
        self._id: int = row["id"]
        self._version: int = row["version"]
        self._keep = MILLION - terms.loss_cap
        self.name: str = row["name"]
        self.terms = terms
        self.shares: int = row["shares"]
        self.waiting: int = row["waiting"]
        self.high_water_mark: int = row["high_water_mark"]
        self.nav: int = row["last_nav"]
        self.last_slot: int | None = row["last_slot"]
        self.price_low: float = row["price_low"]
        self.distance_low: float = row["distance_low"]
        self.ledger = Ledger(connection, self._id, row["transfer_seq"])
        self._journal = Journal(connection, self._id, row["journal_seq"], row["journal_hash"])
        self.positions = [dict(one) for one in connection.execute(_POSITIONS, {"vault": self._id}).mappings()]

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def state(self) -> State:
        """What a deposit or redemption sees, marked at the last struck NAV."""
        reserve, cushion = self.ledger.balance("reserve"), self.ledger.balance("cushion")
        return State(reserve, cushion, self.shares, self.waiting, self.high_water_mark, self.nav - reserve - cushion)

    @property
    def wall(self) -> int:
        """What must stand in the reserve, minor units."""
        return wall(self.high_water_mark, self._keep, self.shares)

    def held(self, holder: str) -> int:
        """A holder's shares, those that wait for redemption included."""
        found = self._connection.execute(_HELD, {"vault": self._id, "of_holder": holder}).scalar_one_or_none()
        return int(found or 0)

    def holders(self) -> tuple[str, ...]:
        """Everyone who has ever held shares, by name."""
        found = self._connection.execute(_HOLDERS, {"vault": self._id}).scalars().all()
        return tuple(sorted(found))

    def requests(self) -> list[tuple[str, Request]]:
        """What waits, in order: (holder, request)."""
        rows = self._connection.execute(_WAITING, {"vault": self._id}).mappings()
        return [
            (row["holder"], Request(row["seq"], row["holder"], row["shares"], row["price"], row["remaining"]))
            for row in rows
        ]

    # ------------------------------------------------------------------------------------------------ people's acts

    def open(self, ts: int) -> None:
        """The journal's first row: the mandate itself."""
        self._finish(ts, "mandate", {"fingerprint": self.terms.fingerprint, "mandate": self.terms.canonical()})

    def deposit(self, ts: int, holder: str, amount: int) -> dict[str, Any]:
        """Mint shares at the last struck NAV; the reserve is filled up to its new wall first.

        Refused whole: DepositRefused, ZeroShares.
        """
        booked = split_deposit(self.state, amount, self._keep)
        parts = {
            Edge.deposit_reserve: booked.to_reserve,
            Edge.deposit_cushion: booked.to_cushion,
            Edge.ratchet: booked.ratchet,
        }
        for edge, part in parts.items():
            if part:
                self.ledger.post(edge, None, part)
        self.shares, self.high_water_mark = booked.state.shares, booked.state.high_water_mark
        self.nav += amount
        self._hold(holder, booked.shares)
        body = {"holder": holder, "amount": amount, "shares": booked.shares, "total_shares": self.shares,
                "nav": self.nav, "wall": self.wall}  # fmt: skip
        self._finish(ts, "deposit", body)
        return body

    def redeem(self, ts: int, holder: str, shares: int) -> dict[str, Any]:
        """Ask for `shares` back: what is free is paid now, the rest waits for the next slots.

        Refused whole: RedeemExceeds, ZeroAssets.
        """
        waiting = sum(request.remaining for owner, request in self.requests() if owner == holder)
        seq = self._journal.seq + 1
        request = request_redemption(self.state, seq, holder, shares, self.held(holder), waiting)
        price = min(request.price, _PRICE_STORED)
        self._connection.execute(
            insert(redemption).values(vault_id=self._id, seq=seq, holder=holder, shares=shares, price=price,
                                      remaining=shares, requested_ts=ts)
        )  # fmt: skip
        self.waiting += shares
        paid = self._pay_waiting()
        own = [payment for payment in paid if payment.seq == seq]
        body = {
            "holder": holder, "shares": shares, "price": price,
            "payments": [list(astuple(one)) for one in paid],  # lists, as JSON gives the same answer back under a key
            "paid": sum(one.assets for one in own), "burned": sum(one.shares for one in own),
            "nav": self.nav, "total_shares": self.shares, "wall": self.wall,
        }  # fmt: skip
        self._finish(ts, "redeem", body)
        return body

    def _pay_waiting(self) -> tuple[Payment, ...]:
        settled = settle(self.state, [request for _, request in self.requests()], self._keep)
        for payment in settled.payments:
            parts = {Edge.redeem_reserve: payment.from_reserve, Edge.redeem_cushion: payment.from_cushion}
            for edge, part in parts.items():
                if part:
                    self.ledger.post(edge, None, part)
            self.nav -= payment.assets
            self._hold(payment.holder, -payment.shares)
            self._connection.execute(
                update(redemption)
                .where(redemption.c.vault_id == self._id, redemption.c.seq == payment.seq)
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

    # ------------------------------------------------------------------------------------------------ the step

    def step(self, inputs: SlotInputs, limits: Limits, listing: Rows) -> None:
        """Live through one slot: the venue's rules bar by bar, the decision at its close, then what waits is paid."""
        count = len(self.positions)
        book = self._book()
        decision = np.full(len(inputs.bars), -1, np.int64)
        decision[-1] = 0
        tape, series = blank_tape(64 * (count + 1), 32 * (count + 1)), blank_series(1, 1, count)
        events: list[Event] = []
        moves: list[tuple[int, str | None, int]] = []
        bar = 0
        while bar < len(inputs.bars):
            walk = Walk(inputs.bars, decision, inputs.proposals)
            bar = simulate(book, Terms(limits, listing), walk, Record(tape, series), (bar, len(inputs.bars)))
            events += read_events(tape, inputs.ts, 0, 0)
            moves += self._moves(tape)
            rewind(tape)
        for edge, name, amount in moves:
            self.ledger.post(Edge(edge), name, amount)
        self._take_over(book)
        state, details = series.vaults[0, 0], series.positions[0]
        self.nav, self.last_slot = int(state.nav), inputs.slot
        struck = self.nav
        payments = self._pay_waiting() if self.waiting else ()
        self._finish(
            inputs.close,
            "slot",
            {
                "slot": inputs.slot, "bars": inputs.fingerprint, "struck": struck, "nav": self.nav, "wall": self.wall,
                "high_water_mark": self.high_water_mark, "shares": self.shares,
                "price_low": _finite(self.price_low), "distance_low": _finite(self.distance_low),
                "positions": [
                    self._described(p, inputs, details[p]) for p in range(count)
                ],
                "events": [astuple(event) for event in events], "transfers": moves,
                "payments": [astuple(one) for one in payments],
            },
        )  # fmt: skip

    def _book(self) -> Book:
        book = empty_book(range(len(self.positions)))
        one = book.vaults[0]
        one.reserve, one.cushion = self.ledger.balance("reserve"), self.ledger.balance("cushion")
        for name in _CONTRA:
            one[name] = self.ledger.balance(name)
        one.shares, one.waiting, one.high_water_mark = self.shares, self.waiting, self.high_water_mark
        one.price_low, one.distance_low = self.price_low, self.distance_low
        for row, held in zip(book.positions, self.positions, strict=True):
            row.quantity, row.cost, row.refused = held["quantity"], held["cost"], held["refused"]
            row.margin = self.ledger.margin(held["name"])
        return book

    def _moves(self, tape: Tape) -> list[tuple[int, str | None, int]]:
        return [
            (edge, None if p < 0 else str(self.positions[p]["name"]), amount)
            for _, _, edge, p, amount in tape.transfers[: int(tape.used[0])].tolist()
        ]

    def _take_over(self, book: Book) -> None:
        """The book after a step must agree with the ledger, which has the last word, balance by balance."""
        one = book.vaults[0]
        expected = {name: int(one[name]) for name in ("reserve", "cushion", *_CONTRA)}
        for row, held in zip(book.positions, self.positions, strict=True):
            expected[f"{AccountKind.margin}:{held['name']}"] = int(row.margin)
            held |= {"quantity": int(row.quantity), "cost": int(row.cost), "refused": int(row.refused)}
        for name, balance in expected.items():
            if self.ledger.balance(name) != balance:
                raise LedgerDisagrees(self.name, name, self.ledger.balance(name), balance)
        self.high_water_mark = int(one.high_water_mark)
        self.price_low, self.distance_low = float(one.price_low), float(one.distance_low)

    def _described(self, p: int, inputs: SlotInputs, detail: Any) -> dict[str, Any]:
        held, proposal = self.positions[p], inputs.proposals[0, p]
        return {
            "name": held["name"], "quantity": held["quantity"], "cost": held["cost"],
            "margin": self.ledger.margin(held["name"]), "price": float(inputs.bars[-1, p].mark_close),
            "proposed": float(proposal.leverage) if proposal.proposed else None,
            "volatility": float(proposal.volatility) if proposal.known else None,
            "allowed": float(detail.allowed), "leverage": float(detail.leverage),
            "liquidation_price": float(detail.liquidation_price), "bound": int(detail.bound),
        }  # fmt: skip

    # ------------------------------------------------------------------------------------------------ the end of an act

    def _finish(self, ts: int, kind: str, body: dict[str, Any]) -> None:
        if self.ledger.balance("reserve") < self.wall:
            raise WallBreached(self.name, self.ledger.balance("reserve"), self.wall)
        seq = self._journal.append(ts, kind, body)
        self.ledger.flush(ts, seq)
        self._journal.flush()
        self._connection.execute(
            _CHANGE_POSITION,
            [
                {"of_vault": self._id, "of_name": one["name"], "to_quantity": one["quantity"], "to_cost": one["cost"],
                 "to_refused": one["refused"]}
                for one in self.positions
            ],
        )  # fmt: skip
        fence = (vault.c.id == self._id) & (vault.c.version == self._version)
        written = self._connection.execute(
            update(vault).where(fence).values(
                shares=self.shares, waiting=self.waiting, high_water_mark=self.high_water_mark,
                last_slot=self.last_slot, last_nav=self.nav, price_low=self.price_low, distance_low=self.distance_low,
                version=self._version + 1, journal_seq=self._journal.seq, journal_hash=self._journal.hash,
                transfer_seq=self.ledger.transfer_seq,
            )
        )  # fmt: skip
        if written.rowcount != 1:
            raise LedgerDisagrees(self.name, "version", written.rowcount, 1)
        self._version += 1


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
