"""One vault inside one unit of work: its money, its shares, its positions and its journal, changed together or not.

The caller brings the transaction, the vault's locked row, the time and, for a decision, the entry that says what was
decided. Here are its rules and what people ask of it; what it lives through is `living`, how it is written `unit`.
"""

import math

from sqlalchemy import Connection, insert, select, update

from ringfence.markets.instruments import instrument_key
from ringfence.risk.edges import Edge
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Closing,
    DepositAsked,
    Halted,
    Moved,
    Opened,
    RedemptionAsked,
    ResumeAsked,
    Resumed,
)
from ringfence.vaults.errors import (
    AlreadyClosing,
    AmendmentRefused,
    CancelTooLate,
    DepositAtRisk,
    DepositRefused,
    NotHalted,
    ResumeNotAsked,
    TimeRefused,
    ZeroShares,
)
from ringfence.vaults.journal import genesis
from ringfence.vaults.living import Living
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, Mandate
from ringfence.vaults.queue import Request, checked_redemption
from ringfence.vaults.shares import (
    VIRTUAL_ASSETS,
    VIRTUAL_SHARES,
    Pool,
    max_deposit,
    preview_deposit,
    price_up,
    wall,
)
from ringfence.vaults.shares import deposit as priced_deposit
from ringfence.vaults.tables import LATEST, mandate, position, vault
from ringfence.words.times import format_duration

__all__ = ["Vault", "create_vault"]


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


class Vault(Living):
    """A vault whose row the caller has locked."""

    # ------------------------------------------------------------------------------------------------ its rules

    def open(self, ts: int, decimals: int) -> Opened:
        """The journal's first row: the mandate itself."""
        entry = Opened(mandate=self.terms.fingerprint, terms=self.terms.canonical(), decimals=decimals)
        self._finish(ts, entry)
        return entry

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
