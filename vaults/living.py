"""A vault that lives: what a decision, a bar inside a slot and its venue come to, booked as it is told.

The vault posts what is told, compares the ledger with what the step arrived at, settles who waits and checks the
strike.
"""

import math
from collections.abc import Mapping

from ringfence.markets.instruments import listed
from ringfence.risk.edges import Edge
from ringfence.risk.exposure import traded_value
from ringfence.vaults.entries import (
    Dealt,
    Decided,
    Lived,
    Moved,
    Ordered,
    Reported,
    Walked,
)
from ringfence.vaults.errors import (
    DepositRefused,
    EntryUnreadable,
    LedgerDisagrees,
    MarkBelowStrike,
    ZeroShares,
)
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.pending import Pending
from ringfence.vaults.queue import Request, Settlement, due, settle
from ringfence.vaults.shares import (
    Pool,
    price_up,
    split_deposit,
)
from ringfence.vaults.unit import Unit

__all__ = ["Living"]


class Living(Unit):
    """What is lived, and what a venue does."""

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

    def _take_at_once(self, request: Request) -> tuple[Settlement, int]:
        """Settle a deposit into a vault that is all cash: (how, what went on to the reserve)."""
        booked = split_deposit(self.state, request.remaining, self.keep)
        self._post([Moved(edge=Edge.admit, amount=request.remaining), Moved(edge=Edge.ratchet, amount=booked.ratchet)])
        self.shares, self.high_water_mark = booked.state.shares, booked.state.high_water_mark
        self.nav += request.remaining
        amount = request.remaining
        return Settlement(request.seq, request.side, request.holder, amount, booked.shares, 0, 0, 0, 0), booked.ratchet

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


_TOLD = "its venue told something of it"
"""Why nothing is asked for a position at a close at which its venue told something that is yet to be booked."""


def _low(told: float | None) -> float:
    """A low before the first bar is infinite."""
    return math.inf if told is None else told
