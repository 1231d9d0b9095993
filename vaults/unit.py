"""A vault's unit of work: all that is known of it under its lock, and the one end that every act comes to.

The caller brings the transaction and the vault's locked row. Every act ends in `_finish`, which checks the wall in
plain integers (W1, independently of the compiled step), writes what changed and adds one row to the journal.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from ringfence.vaults.commands import remember
from ringfence.vaults.entries import (
    Asked,
    Entry,
    Moved,
)
from ringfence.vaults.errors import (
    OrdersOnTheirWay,
    StaleFence,
    TimeRefused,
    WallBreached,
)
from ringfence.vaults.holders import Holders
from ringfence.vaults.journal import Journal
from ringfence.vaults.ledger import Ledger
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.pending import Pending, read_pending
from ringfence.vaults.queue import Request, due, strike_after
from ringfence.vaults.shares import (
    PRICE_LARGEST,
    State,
    is_priced,
    wall,
)
from ringfence.vaults.tables import LATEST, position, vault

__all__ = ["PositionRow", "Unit"]

_POSITIONS = select(position).where(position.c.vault_id == bindparam("vault")).order_by(position.c.ordinal)
_CHANGE_POSITION = (
    update(position)
    .where(position.c.vault_id == bindparam("of_vault"), position.c.name == bindparam("of_name"))
    .values({name: bindparam(f"to_{name}") for name in ("quantity", "cost", "refused", "pending")})
)
_FIGURES = (
    "shares", "waiting", "high_water_mark", "last_bar", "last_nav", "price_low", "distance_low", "locked_since",
    "rebase_at", "clock", "nav_low", "halted_since", "resume_asked", "closing_since", "ordered", "reported", "version",
    "journal_seq", "journal_hash", "journal_ts", "transfer_seq",
)  # fmt: skip
_CHANGE = (
    update(vault)
    .where(vault.c.id == bindparam("of_vault"), vault.c.version == bindparam("of_version"))
    .values({name: bindparam(f"to_{name}") for name in _FIGURES})
)


@dataclass(slots=True)
class PositionRow:
    """A position as its row has it; its margin stands in the ledger."""

    name: str
    instrument: str
    """Its key."""
    quantity: int
    cost: int
    refused: int
    pending: Pending | None


class Unit:
    """A vault whose row the caller has locked: what it is, and how what was done to it is written."""

    def __init__(self, connection: Connection, row: RowMapping, terms: Mandate, asked: Asked | None = None) -> None:
        """`asked` is the request that the next act answers; the journal tells it and the act is known by its key."""
        self._connection, self._asked = connection, asked
        self.id: int = row["id"]
        """Of its row."""
        self._version: int = row["version"]
        self.name: str = row["name"]
        self.terms = terms
        self.shares: int = row["shares"]
        self.waiting: int = row["waiting"]
        self.opened: int = row["opened"]
        self.high_water_mark: int = row["high_water_mark"]
        self.nav: int = row["last_nav"]
        self.last_bar: int | None = row["last_bar"]
        """Open (UTC ms) of the last bar that it has lived through."""
        self.price_low: float = row["price_low"]
        self.distance_low: float = row["distance_low"]
        self.clock: int = row["clock"]
        """UTC ms up to which it has lived: the time of what people do until it has lived further."""
        self.nav_low: int | None = row["nav_low"]
        """Lowest NAV since the last decision, where it stands inside a slot."""
        self.locked_since: int | None = row["locked_since"]
        """UTC ms; None while less than the whole cushion is spent."""
        self.halted_since: int | None = row["halted_since"]
        """UTC ms; None while it may decide."""
        self.resume_asked: int | None = row["resume_asked"]
        self.closing_since: int | None = row["closing_since"]
        """UTC ms from which on it winds down for good."""
        self.rebase_at: int | None = row["rebase_at"]
        """UTC ms of an announced rebase."""
        self.ordered: int | None = row["ordered"]
        """The journal's row of what its venue is being asked for."""
        self.reported: int = row["reported"]
        """The venue's number of the last thing that is booked."""
        self._journal_ts: int = row["journal_ts"]
        self.ledger = Ledger(connection, self.id, row["transfer_seq"])
        self.holders = Holders(connection, self.id)
        self._journal = Journal(connection, self.id, row["journal_seq"], row["journal_hash"])
        rows = connection.execute(_POSITIONS, {"vault": self.id}).mappings()
        self.positions = {
            row["name"]: PositionRow(
                row["name"], row["instrument"], row["quantity"], row["cost"], row["refused"],
                None if row["pending"] is None else read_pending(row["pending"]),
            )
            for row in rows
        }  # fmt: skip
        self._written = {name: replace(held) for name, held in self.positions.items()}
        self._at_once, self._acts = True, 0

    # ------------------------------------------------------------------------------------------------ what it is

    @property
    def keep(self) -> int:
        """1 - loss cap, parts per million."""
        return MILLION - self.terms.loss_cap

    @property
    def state(self) -> State:
        """What a deposit or redemption sees, marked at the last decision."""
        reserve, cushion = self.ledger.balance("reserve"), self.ledger.balance("cushion")
        return State(reserve, cushion, self.shares, self.waiting, self.high_water_mark, self.nav - reserve - cushion)

    @property
    def wall(self) -> int:
        """What must stand in the reserve, minor units."""
        return wall(self.high_water_mark, self.keep, self.shares)

    def strike_of(self, given: int) -> int:
        """Close (UTC ms) of the next slot whose strike may settle what was given then."""
        return strike_after(max(given, self.clock), self.terms.timeframe)

    @property
    def row(self) -> int:
        """Number of the journal's last row."""
        return self._journal.seq

    def due(self, close: int) -> list[Request]:
        """What a strike at `close` (UTC ms) settles, of what waits now; nothing in an empty vault, where each deposit
        is a first one."""
        if self.shares == 0:
            return []
        found = due(self.holders.requests(), close, self.locked_since is not None)
        return found if self._takes_deposits else [request for request in found if request.side == "redemption"]

    @property
    def _takes_deposits(self) -> bool:
        """Whether a price per share can be named that somebody could enter at."""
        return self.high_water_mark < PRICE_LARGEST and is_priced(self.state.pool)

    def _demand_settled(self) -> None:
        """Passes where nothing is being asked of its venue. Refused: OrdersOnTheirWay."""
        if self.ordered is not None:
            raise OrdersOnTheirWay(self.name)

    # ------------------------------------------------------------------------------------------------ the end of an act

    def _post(self, moved: Iterable[Moved]) -> None:
        for transfer in moved:
            if transfer.amount:
                self.ledger.post(transfer.edge, transfer.position, transfer.amount)

    def _finish(self, ts: int, entry: Entry) -> None:
        if self.ledger.balance("reserve") < self.wall:
            raise WallBreached(self.name, self.ledger.balance("reserve"), self.wall)
        self.ledger.demand_balance()
        self._tell(ts, entry)

    def _tell(self, ts: int, entry: Entry) -> None:
        if not self._journal_ts <= ts <= LATEST:
            raise TimeRefused(self.name, ts, self._journal_ts, LATEST)
        self._journal_ts = ts
        seq = self._journal.append(ts, entry.under(self._asked))
        self.ledger.tell(ts, seq)
        self._acts += 1
        if self._asked is not None:
            remember(self._connection, self.id, self._asked, seq)
            self._asked = None
        if self._at_once:
            self._write()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is done inside is written at its end, all of it in a few statements; nothing after an exception."""
        self._at_once = False
        yield
        self._at_once = True
        if self._acts:
            self._write()

    def _write(self) -> None:
        self.ledger.write()
        self._journal.write()
        changed = [held for name, held in self.positions.items() if held != self._written[name]]
        if changed:
            self._connection.execute(
                _CHANGE_POSITION,
                [
                    {"of_vault": self.id, "of_name": row.name, "to_quantity": row.quantity, "to_cost": row.cost,
                     "to_refused": row.refused, "to_pending": None if row.pending is None else row.pending.text()}
                    for row in changed
                ],
            )  # fmt: skip
            self._written |= {row.name: replace(row) for row in changed}
        written = self._connection.execute(
            _CHANGE,
            {"of_vault": self.id, "of_version": self._version, "to_shares": self.shares, "to_waiting": self.waiting,
             "to_high_water_mark": self.high_water_mark, "to_last_bar": self.last_bar, "to_last_nav": self.nav,
             "to_price_low": self.price_low, "to_distance_low": self.distance_low,
             "to_locked_since": self.locked_since, "to_rebase_at": self.rebase_at, "to_clock": self.clock,
             "to_nav_low": self.nav_low, "to_halted_since": self.halted_since, "to_resume_asked": self.resume_asked,
             "to_closing_since": self.closing_since, "to_ordered": self.ordered, "to_reported": self.reported,
             "to_version": self._version + self._acts,
             "to_journal_seq": self._journal.seq, "to_journal_hash": self._journal.hash,
             "to_journal_ts": self._journal_ts, "to_transfer_seq": self.ledger.transfer_seq},
        )  # fmt: skip
        if written.rowcount != 1:
            raise StaleFence(self.name, self._version)
        self._version, self._acts = self._version + self._acts, 0
