"""One vault inside one unit of work: its money, its shares, its positions and its journal, changed together or not.

The caller brings the transaction, the vault's locked row, the time and, for a decision, the entry that says what was
decided. The vault posts, checks, settles and journals it. Every act ends in `_finish`, which checks the wall in plain
integers (W1, independently of the compiled step), writes what changed and adds one row to the journal.

Longer than 400 lines because all that changes a vault has to end in that one place.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, update

from ringfence.markets.instruments import instrument_key, listed
from ringfence.risk.edges import Edge
from ringfence.risk.exposure import traded_value
from ringfence.vaults.commands import remember
from ringfence.vaults.entries import (
    Amended,
    Asked,
    Cancelled,
    Closing,
    Dealt,
    Decided,
    DepositAsked,
    Entry,
    Halted,
    Lived,
    Moved,
    Opened,
    Ordered,
    RedemptionAsked,
    Reported,
    ResumeAsked,
    Resumed,
    Walked,
)
from ringfence.vaults.errors import (
    AlreadyClosing,
    AmendmentRefused,
    CancelTooLate,
    DepositAtRisk,
    DepositRefused,
    EntryUnreadable,
    LedgerDisagrees,
    MarkBelowStrike,
    NotHalted,
    OrdersOnTheirWay,
    ResumeNotAsked,
    StaleFence,
    TimeRefused,
    WallBreached,
    ZeroShares,
)
from ringfence.vaults.holders import Holders
from ringfence.vaults.journal import Journal, genesis
from ringfence.vaults.ledger import Ledger, margin_account
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.pending import Pending, read_pending
from ringfence.vaults.queue import Request, Settlement, checked_redemption, due, settle, strike_after
from ringfence.vaults.shares import (
    PRICE_LARGEST,
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    Pool,
    State,
    is_priced,
    max_deposit,
    preview_deposit,
    price_up,
    split_deposit,
    wall,
)
from ringfence.vaults.shares import deposit as priced_deposit
from ringfence.vaults.tables import LATEST, mandate, position, vault
from ringfence.words.times import format_duration

__all__ = ["PositionRow", "Vault", "create_vault"]

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


def create_vault(connection: Connection, terms: Mandate, decimals: int, ts: int) -> None:
    """Open an empty vault under a mandate and tell so in its journal, at `ts` (UTC ms). The name must be free.

    Refused: TimeRefused.
    """
    if not 0 <= ts <= LATEST:
        raise TimeRefused(terms.name, ts, 0, LATEST)
    fingerprint = _keep_mandate(connection, terms, ts)
    inserted = connection.execute(
        insert(vault).values(
            name=terms.name, mandate=fingerprint, currency=terms.currency, decimals=decimals, shares=0, waiting=0,
            high_water_mark=0, opened=ts, clock=ts, last_nav=0, price_low=math.inf, distance_low=math.inf, version=0,
            journal_seq=0, journal_hash=genesis(terms.name), journal_ts=ts, transfer_seq=0, reported=0,
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

    # ------------------------------------------------------------------------------------------------ its rules

    def open(self, ts: int, decimals: int) -> Opened:
        """The journal's first row: the mandate itself."""
        entry = Opened(mandate=self.terms.fingerprint, terms=self.terms.canonical(), decimals=decimals)
        self._finish(ts, entry)
        return entry

    def _demand_settled(self) -> None:
        """Passes where nothing is being asked of its venue. Refused: OrdersOnTheirWay."""
        if self.ordered is not None:
            raise OrdersOnTheirWay(self.name)

    def amend(self, ts: int, terms: Mandate) -> Amended:
        """Go on under another version of the mandate; a higher wall takes what it lacks from the cushion.

        Refused whole: AmendmentRefused (another name, currency or timeframe, other positions or lots, a wall
        beyond the cushion); OrdersOnTheirWay.
        """
        self._demand_settled()
        given = {name: instrument_key(stated.symbol) for name, stated in terms.positions.items()}
        if (terms.name, terms.currency) != (self.name, self.terms.currency):
            raise AmendmentRefused(self.name, f"it would become {terms.name} in {terms.currency}")
        if terms.timeframe != self.terms.timeframe:
            # between the last slot of one length and the first of another there would be bars that nobody lives through
            raise AmendmentRefused(self.name, f"its slots would be of {format_duration(terms.timeframe)}")
        if given != {held.name: held.instrument for held in self.positions.values()}:
            raise AmendmentRefused(self.name, "its positions would be others")
        before, after = instruments_of(self.terms), instruments_of(terms)
        if any(after[name].unit != one.unit for name, one in before.items()):
            raise AmendmentRefused(self.name, "a lot of what it holds would be another quantity")
        must_stand = wall(self.high_water_mark, MILLION - terms.loss_cap, self.shares)
        lacking = max(0, must_stand - self.ledger.balance("reserve"))
        if lacking > self.ledger.balance("cushion"):
            raise AmendmentRefused(self.name, f"its wall would need {lacking} minor units more than the cushion has")
        self.terms = terms
        if terms.at_wall.then != "rebase":
            self.rebase_at = None  # an announcement of the terms before; its date is no longer to come
        self._post([Moved(edge=Edge.ratchet, amount=lacking)])
        fingerprint = _keep_mandate(self._connection, terms, ts)
        self._connection.execute(update(vault).where(vault.c.id == self.id).values(mandate=fingerprint))
        entry = Amended(mandate=fingerprint, terms=terms.canonical(), to_reserve=lacking, nav=self.nav, wall=self.wall)
        self._finish(ts, entry)
        return entry

    # ------------------------------------------------------------------------------------------------ people's acts

    def deposit(self, ts: int, holder: str, amount: int, given: int, *, accepts_locked: bool = False) -> DepositAsked:
        """Take `amount` in, to wait for the first strike whose slot closes after `given` (UTC ms).

        A vault that is all cash, which is one before its first bar or without shares, takes it at once. Refused whole:
        DepositRefused, DepositAtRisk (`accepts_locked` says that he knows), ZeroShares, OrdersOnTheirWay.
        """
        self._demand_settled()
        self._check_deposit(amount, accepts_locked)
        self._post([Moved(edge=Edge.pay_in, amount=amount)])
        request = Request(self._journal.seq + 1, "deposit", holder, amount, amount, given, accepts_locked)
        settled, ratchet = None, 0
        if self.last_bar is None or self.shares == 0:
            settled, ratchet = self._take_at_once(request)
            self.holders.hold(holder, settled.shares)
        self.holders.ask(request, settled.shares if settled else 0)
        entry = DepositAsked(
            holder=holder, amount=amount, given=given, accepts_locked=accepts_locked, settled=settled,
            ratcheted=ratchet, total_shares=self.shares, nav=self.nav, wall=self.wall,
        )  # fmt: skip
        self._finish(ts, entry)
        return entry

    def _check_deposit(self, amount: int, accepts_locked: bool) -> None:
        if self.halted_since is not None or self.closing_since is not None:
            raise DepositRefused(amount, "the vault is closing" if self.closing_since else "the vault is halted")
        state = self.state
        if self.shares == 0:
            priced_deposit(state.pool, amount)
            return
        entering = self.ledger.balance("entering")
        # No strike can be below the wall, so that what fits at that price can be minted at any.
        fits = min(max_deposit(Pool(max(1, self.wall), self.shares)), max_deposit(state.pool)) - entering
        if state.pool.assets > 0 and amount > fits:
            raise DepositRefused(amount, f"the vault takes at most {max(0, fits)} minor units until the next strike")
        priced_deposit(state.pool, amount)
        if not self._takes_deposits:
            raise DepositRefused(amount, "a share is worth more than the vault's mark can say")
        if preview_deposit(state.pool, amount) <= 0:
            raise ZeroShares(amount)
        if self.locked_since is not None and not accepts_locked:
            raise DepositAtRisk(
                amount, "the vault is locked at its wall", self.name, self.locked_since, self.behind_wall(amount),
                self.terms.at_wall.then, self.rebase_at, amount * self.keep // MILLION,
            )  # fmt: skip

    def behind_wall(self, amount: int) -> int:
        """How much of a deposit at the last NAV stands behind the wall from the start, minor units, rounded down."""
        if self.shares == 0:
            return amount * self.keep // MILLION
        shares = preview_deposit(self.state.pool, amount)
        total = self.shares + shares
        mark = max(self.high_water_mark, price_up(self.state.pool))
        return shares * (wall(mark, self.keep, total) + VIRTUAL_ASSETS) // (total + VIRTUAL_SHARES)

    def _take_at_once(self, request: Request) -> tuple[Settlement, int]:
        """Settle a deposit into a vault that is all cash: (how, what went on to the reserve)."""
        booked = split_deposit(self.state, request.remaining, self.keep)
        self._post([Moved(edge=Edge.admit, amount=request.remaining), Moved(edge=Edge.ratchet, amount=booked.ratchet)])
        self.shares, self.high_water_mark = booked.state.shares, booked.state.high_water_mark
        self.nav += request.remaining
        amount = request.remaining
        return Settlement(request.seq, request.side, request.holder, amount, booked.shares, 0, 0, 0, 0), booked.ratchet

    def halt(self, ts: int, by: str, why: str, breaches: tuple[str, ...] = ()) -> Halted:
        """Decide nothing from now on. It is told whatever state the books are in: no law is asked for first."""
        self.halted_since, self.resume_asked = self.halted_since or ts, None
        entry = Halted(by=by, why=why, breaches=breaches)
        self._tell(ts, entry)
        return entry

    def ask_resume(self, ts: int, by: str, why: str) -> ResumeAsked:
        """The first of two steps to end a halt; a vault with stopped positions is halted until the second.
        Refused: NotHalted, WallBreached, LedgerUnbalanced."""
        self._demand_halted()
        self.halted_since, self.resume_asked = self.halted_since or ts, ts
        entry = ResumeAsked(by=by, why=why)
        self._finish(ts, entry)
        return entry

    def resume(self, ts: int, by: str, why: str) -> Resumed:
        """The second. Refused: NotHalted, ResumeNotAsked, WallBreached, LedgerUnbalanced."""
        self._demand_halted()
        if self.resume_asked is None:
            raise ResumeNotAsked(self.name)
        self.halted_since = self.resume_asked = None
        for held in self.positions.values():
            if held.pending is not None and held.pending.is_halt:
                held.pending = held.pending.model_copy(update={"why": ""}) if held.pending.order else None
        entry = Resumed(by=by, why=why)
        self._finish(ts, entry)
        return entry

    def _demand_halted(self) -> None:
        stopped = any(held.pending is not None and held.pending.is_halt for held in self.positions.values())
        if self.halted_since is None and not stopped:
            raise NotHalted(self.name)

    def close(self, ts: int, by: str, why: str) -> Closing:
        """Wind down for good: nobody enters, and positions are closed from the next slot on.
        Refused: AlreadyClosing, OrdersOnTheirWay."""
        self._demand_settled()
        if self.closing_since is not None:
            raise AlreadyClosing(self.name, self.closing_since)
        self.closing_since = ts
        entry = Closing(by=by, why=why)
        self._finish(ts, entry)
        return entry

    def redeem(self, ts: int, holder: str, shares: int, given: int) -> RedemptionAsked:
        """Ask for `shares` back at the first strike whose slot closes after `given` (UTC ms); they are the holder's
        until then.

        Refused whole: RedeemExceeds, ZeroAssets, OrdersOnTheirWay.
        """
        self._demand_settled()
        checked_redemption(self.state, shares, self.holders.held(holder), self.asked_back(holder))
        self.holders.ask(Request(self._journal.seq + 1, "redemption", holder, shares, shares, given))
        self.waiting += shares
        entry = RedemptionAsked(
            holder=holder, shares=shares, given=given, total_shares=self.shares, nav=self.nav, wall=self.wall
        )
        self._finish(ts, entry)
        return entry

    def asked_back(self, holder: str) -> int:
        """A holder's shares whose redemption waits."""
        return sum(request.remaining for request in self.holders.requests(holder) if request.side == "redemption")

    def cancel(self, ts: int, request: Request, given: int | None = None) -> Cancelled:
        """Take back what waits of a request: money is paid back, shares no longer wait.

        Refused: CancelTooLate, where the slot is over by the time `given` (UTC ms) whose strike settles it;
        OrdersOnTheirWay.
        """
        self._demand_settled()
        strike = self.strike_of(request.given)
        if given is not None and given >= strike:
            raise CancelTooLate(request.seq, strike)
        if request.side == "deposit":
            self._post([Moved(edge=Edge.pay_back, amount=request.remaining)])
        else:
            self.waiting -= request.remaining
        self.holders.cancel(request)
        entry = Cancelled(
            request=request.seq, side=request.side, holder=request.holder, remaining=request.remaining,
            total_shares=self.shares, nav=self.nav, wall=self.wall,
        )  # fmt: skip
        self._finish(ts, entry)
        return entry

    # ------------------------------------------------------------------------------------------------ settling

    def _settle(self, close: int, decided: Decided, requests: list[Request]) -> tuple[tuple[Settlement, ...], int]:
        """What a decision's strike comes to for those who wait: (how each was settled, cushion to reserve)."""
        if not decided.is_struck:
            return (), 0
        if self.shares == 0:
            return self._take_first(close)
        if not requests:
            return (), 0
        settled = settle(self.state, decided.struck, requests, self.keep, decided.flow_cost)
        for one in settled.settlements:
            self._post((Moved(edge=Edge.redeem_reserve, amount=one.from_reserve),
                        Moved(edge=Edge.redeem_cushion, amount=one.from_cushion)))  # fmt: skip
            self.nav -= one.paid
            self.holders.settle(one)
        self._post([Moved(edge=Edge.ratchet, amount=settled.ratchet)])
        after = settled.state
        self.shares, self.waiting, self.high_water_mark = after.shares, after.waiting, after.high_water_mark
        return settled.settlements, settled.ratchet

    def _take_first(self, close: int) -> tuple[tuple[Settlement, ...], int]:
        """Deposits that waited into a vault which has become empty meanwhile: each as if it came now. One that cannot
        be taken so waits on, and can be cancelled."""
        found, ratchets = list[Settlement](), 0
        for request in due(self.holders.requests(), close, False):
            try:
                settled, ratchet = self._take_at_once(request)
            except (DepositRefused, ZeroShares):
                continue
            self.holders.settle(settled)
            found.append(settled)
            ratchets += ratchet
        return tuple(found), ratchets

    # ------------------------------------------------------------------------------------------------ its venue

    def order(self, ts: int, ordered: Ordered) -> Ordered:
        """Write down what the venue is about to be asked for, and commit the collateral that is to move in.

        What was committed before it goes back first. Returns the entry as it was journaled. Refused whole:
        WallBreached, and what the ledger refuses.
        """
        self._give_back()
        wanted: dict[str, int] = {}
        for act in ordered.asked_for:
            wanted[act.position] = wanted.get(act.position, 0) + max(0, act.amount)
        transfers = []
        for name, amount in wanted.items():
            there = min(amount, self.ledger.balance("cushion"))
            if there > 0:
                transfers.append(Moved(edge=Edge.commit, position=name, amount=there))
                self._post(transfers[-1:])
        for name in ordered.still:
            row = self.positions[name]
            row.pending = row.pending or Pending(why=_TOLD)
        self.ordered = self._journal.seq + 1
        entry = ordered.model_copy(update={"transfers": tuple(transfers)})
        self._finish(ts, entry)
        return entry

    def report(self, ts: int, reported: Reported, pending: Mapping[str, Pending | None]) -> Reported:
        """Book what the venue told of its own accord; `pending`: what the positions of which it did wait for now.

        Returns the entry as it was journaled. Refused whole: OrdersOnTheirWay, LedgerDisagrees, WallBreached, and what
        the ledger refuses.
        """
        self._demand_settled()
        self._post(reported.transfers)
        for name, left in reported.positions.items():
            row, row_margin = self.positions[name], self.ledger.margin(name)
            if row_margin != left.margin:
                raise LedgerDisagrees(self.name, margin_account(name), row_margin, left.margin)
            row.quantity, row.cost = left.quantity, left.cost
        for name, waits in pending.items():
            self.positions[name].pending = waits
        stopped = {one.position for one in reported.differs}
        for name, row in self.positions.items():
            if stopped & {name, None}:
                why = next(one.what for one in reported.differs if one.position in (name, None))
                row.pending = (row.pending or Pending()).model_copy(update={"why": why})
        self.reported, self.nav = reported.reported, reported.nav
        entry = reported.model_copy(update={"wall": self.wall})
        self._finish(ts, entry)
        return entry

    def _give_back(self) -> None:
        """What was committed for orders returns to the cushion."""
        for name in self.positions:
            self._post([Moved(edge=Edge.give_back, position=name, amount=self.ledger.order_margin(name))])

    # ------------------------------------------------------------------------------------------------ decisions

    def accept(self, ts: int, decided: Decided, balances: Mapping[str, int] | None = None) -> Decided:
        """Take over what was decided at a slot's close `ts`: transfers, positions, the strike; then pay what waits.

        Returns the entry as it was journaled, with the settlements and the vault after them. `balances` are what the
        step itself arrived at, account by account, of `entering` only the part that was due; the ledger has the last
        word. Refused whole: EntryUnreadable (other positions), LedgerDisagrees, whatever the ledger refuses,
        WallBreached, MarkBelowStrike.
        """
        requests = self.due(ts)
        entering = sum(request.remaining for request in requests if request.side == "deposit")
        self._take_over(decided, balances or {}, self.ledger.balance("entering") - entering)
        self.clock, self.nav_low, self.high_water_mark = ts, None, decided.high_water_mark
        self.nav = decided.struck - decided.flow_cost + (entering if decided.is_struck else 0)
        self.price_low, self.distance_low = _low(decided.price_low), _low(decided.distance_low)
        self.locked_since, self.rebase_at = decided.locked_since, decided.rebase_at
        self._check_strike(decided)
        settlements, ratcheted = self._settle(ts, decided, requests)
        if self.shares == 0:
            self.locked_since = self.rebase_at = None
        entry = decided.model_copy(
            update={"settlements": settlements, "ratcheted": ratcheted, "total_shares": self.shares, "nav": self.nav,
                    "wall": self.wall}
        )  # fmt: skip
        self._finish(ts, entry)
        return entry

    def walk(self, ts: int, walked: Walked, balances: Mapping[str, int] | None = None) -> Walked:
        """Take over what bars inside a slot have come to, up to `ts`, the close of the last of them.

        Returns the entry as it was journaled. `balances` and what is refused: as for a decision.
        """
        self._take_over(walked, balances or {}, None)
        self.clock, self.nav_low, self.nav = ts, walked.nav_low, walked.nav
        entry = walked.model_copy(update={"wall": self.wall})
        self._finish(ts, entry)
        return entry

    def _take_over(self, lived: Lived, balances: Mapping[str, int], others: int | None) -> None:
        """Transfers and positions of what was lived; of what waits to enter `others` are for a later strike, None: all
        of it."""
        if lived.positions.keys() != self.positions.keys():
            raise EntryUnreadable(lived.kind, f"positions: expected those of the vault, {', '.join(self.positions)}")
        self._give_back()
        self._post(lived.transfers)
        self._agree(lived, dict(balances), others)
        for name, held in lived.positions.items():
            row = self.positions[name]
            row.quantity, row.cost, row.refused = held.quantity, held.cost, int(held.refused)
            if row.pending is not None and row.pending.why == _TOLD:
                row.pending = None  # what was told is booked next
        for act in lived.dealt or ():
            if act.pending:
                self.positions[act.position].pending = self._left_open(act)
        self.last_bar, self.ordered = lived.last_bar, None
        if lived.reported is not None:
            self.reported = lived.reported

    def _left_open(self, act: Dealt) -> Pending:
        """An order that may still fill, as far as it was booked."""
        terms = listed(instruments_of(self.terms)[act.position])
        cost = int(traded_value(terms, act.done, act.price)) if act.done else 0
        kind = "" if act.kind is None else act.kind.name
        return Pending(
            order=act.name, kind=kind, lots=act.lots, filled=act.done, cost=cost, fee=act.fee, price=act.price
        )

    def _agree(self, lived: Lived, balances: dict[str, int], others: int | None) -> None:
        """The ledger and the step have come to the same, account by account."""
        if others is None:
            balances.pop("entering", None)
        elif "entering" in balances:
            balances["entering"] += others
        balances |= {margin_account(name): held.margin for name, held in lived.positions.items()}
        for account, balance in balances.items():
            if self.ledger.balance(account) != balance:
                raise LedgerDisagrees(self.name, account, self.ledger.balance(account), balance)

    def _check_strike(self, decided: Decided) -> None:
        """W3: no NAV is struck above the mark."""
        pool = Pool(decided.struck, self.shares)
        if decided.is_struck and self.shares and self.high_water_mark < price_up(pool):
            raise MarkBelowStrike(self.name, self.high_water_mark, price_up(pool))

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


_TOLD = "its venue told something of it"
"""Why nothing is asked for a position at a close at which its venue told something that is yet to be booked."""


def _low(told: float | None) -> float:
    """A low before the first bar is infinite."""
    return math.inf if told is None else told
