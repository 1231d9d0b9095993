"""A vault's account at its exchange: what the exchange is asked for, act by act, what it told, and where it differs.

Nothing here knows the database. Each position has a place of its own there, called by the position's name.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from ringfence.markets.errors import NoAnswer
from ringfence.markets.exchange.life import (
    Life,
    Phase,
    Proof,
    Read,
    answered,
    left_behind,
    margin_ended_by_proof,
    sending,
)
from ringfence.markets.exchange.life import read as read_again
from ringfence.markets.exchange.protocol import (
    Accepted,
    Balance,
    ClientId,
    Ending,
    Exchange,
    Fill,
    Liquidated,
    MarginRequest,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
    Rejected,
    Unreadable,
)
from ringfence.markets.exchange.reconcile import Books, Theirs, differences, read_books
from ringfence.vaults.entries import Cause, Dealt, Differs, Report
from ringfence.vaults.pending import Pending
from ringfence.vaults.vault import Vault

__all__ = ["Account", "Heard", "Known"]

_TRIES = 5
"""Questions in a row to which no answer comes before the exchange counts as silent."""

_Answer = TypeVar("_Answer")
_Told = TypeVar("_Told")
_Row = TypeVar("_Row", Fill, Moved, Ending)
_Leg = TypeVar("_Leg", Moved, Position)


@dataclass(frozen=True)
class Heard:
    """What an exchange told that was not an answer to what it was just asked for."""

    reports: tuple[Report, ...]
    """In the order in which it happened."""
    differs: tuple[Differs, ...]
    last: int
    """Its number of the last thing that had happened by then."""

    @property
    def positions(self) -> tuple[str, ...]:
        """Of which something was told."""
        named = [*(one.position for one in self.reports), *(one.position for one in self.differs if one.position)]
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True)
class Known:
    """What a vault's books know when the exchange is listened to."""

    since: int
    """UTC ms: what happened before is booked."""
    until: int
    """UTC ms: what happened later is not listened to yet."""
    booked: int
    """The exchange's number of the last thing that is booked."""
    pending: Mapping[str, Pending]
    """By position."""
    marks: Mapping[str, float]
    stopped: frozenset[str] = frozenset()
    """Positions that are stopped already."""
    acts: Sequence[Dealt] = ()
    """What was just asked for and answered."""
    liquidations: frozenset[tuple[str, int]] = field(default=frozenset())
    """(position, UTC ms) of those that our books know of."""


class Account:
    """One vault's account. Where the exchange does not answer NoAnswer is raised, and nothing is taken for known."""

    def __init__(self, vault: str, exchange: Exchange) -> None:
        self.vault, self.exchange = vault, exchange

    # What is asked for

    def ask(self, act: Dealt, before: Sequence[Dealt], held: int, booked: int, *, is_new: bool, sends: bool) -> Dealt:
        """What comes of an act, asked for once and never twice.

        `before`: what was asked for at the same close and answered; `held`: lots of the position by our books after
        that. One that is not new may have been asked for by somebody who is gone: it is looked for first. Where it is
        too late, nothing `sends` it, and one that the exchange does not have is refused. More than five arguments
        because proof needs all of them.
        """
        if is_new and not sends:
            return refused(act)
        return self._order(act, held, is_new, sends) if act.lots else self._move(act, before, booked, is_new, sends)

    def _order(self, act: Dealt, held: int, is_new: bool, sends: bool) -> Dealt:
        request = OrderRequest(ClientId(act.name), self.vault, act.position, act.lots, reduce_only=act.reduces)
        life = Life(request)
        if not is_new:
            life = left_behind(life)
        for _ in range(4 * _TRIES):
            if life.phase in (Phase.committed, Phase.absent):
                if not sends:
                    return refused(act)
                life = sending(life)
                life = answered(life, self.exchange.place(request))
            elif life.phase is Phase.unknown:
                life = self._looked_for(life, held)
            else:
                state = life.state
                if state is None:
                    return refused(act)
                return act.model_copy(
                    update={"done": state.filled, "fee": state.fee, "price": state.price,
                            "pending": life.phase is Phase.open}
                )  # fmt: skip
        raise NoAnswer("the exchange", f"order {act.name}", "nothing proves whether it has it")

    def _looked_for(self, life: Life, held: int) -> Life:
        request = life.request
        order = again(lambda: self.exchange.order(self.vault, request.client_id))
        return read_again(life, Read(order, self._quantity(request.instrument)), held)

    def _quantity(self, position: str) -> int:
        return sum(row.quantity for row in self._of(lambda: self.exchange.positions(self.vault), position))

    def _move(self, act: Dealt, before: Sequence[Dealt], booked: int, is_new: bool, sends: bool) -> Dealt:
        """More than five arguments because a move has no name."""
        request = MarginRequest(self.vault, act.position, act.amount)
        mine = Counter(one.done for one in before if one.position == act.position and not one.lots)
        is_sent, reads = not is_new, list[Sequence[Moved]]()
        for _ in range(4 * _TRIES):
            if not (is_sent or sends):
                return refused(act)
            if not is_sent:
                match self.exchange.move_margin(request):
                    case Accepted():
                        return act.model_copy(update={"done": act.amount})
                    case Rejected():
                        return refused(act)
                is_sent, reads = True, []
            rows = self._of(lambda: self.exchange.moves(self.vault, act.ts), act.position)
            reads.append(_rest([row for row in rows if row.sequence > booked], mine))
            match margin_ended_by_proof(act.amount, reads):
                case Proof.found:
                    return act.model_copy(update={"done": act.amount})
                case Proof.absent:
                    is_sent = False
        raise NoAnswer("the exchange", f"collateral of {act.position}", "nothing proves whether it moved")

    # What it told

    def listen(self, known: Known, *, cancels: bool = False) -> Heard:
        """What has happened that our books do not know. `cancels`: orders that are open are taken back first."""
        exchange, pending = self.exchange, {p: one for p, one in known.pending.items() if one.order}
        if cancels:
            for one in pending.values():
                exchange.cancel(self.vault, one.order)  # whatever the answer: its state is read next
        orders = {p: again(partial(exchange.order, self.vault, one.order)) for p, one in pending.items()}
        dark: dict[str, str] = {}
        fills = self._rows(lambda: exchange.fills(self.vault, known.since), known, dark)
        moves = self._rows(lambda: exchange.moves(self.vault, known.since), known, dark)
        endings = self._rows(lambda: exchange.endings(self.vault, known.since), known, dark)
        names = {one.name for one in known.acts if one.name}
        told: list[tuple[int, Report]] = [
            *((row.sequence, _of_fill(row, pending)) for row in fills if row.client_id not in names),
            *((row.sequence, _of_move(row, known.marks)) for row in _strange_moves(moves, known.acts)),
            *((row.sequence, _of_ending(row)) for row in endings
              if not (isinstance(row, Liquidated) and (row.instrument, row.ts) in known.liquidations)),
        ]  # fmt: skip
        reports = [report for _, report in sorted(told, key=lambda one: one[0])]
        lost = [Differs(position=p, what="order_lost", ours=pending[p].order, theirs="no such order")
                for p, state in orders.items() if isinstance(state, NotFound) and not pending[p].is_halt]  # fmt: skip
        lost += [Differs(position=p, what="unreadable", ours="", theirs=reason) for p, reason in dark.items()
                 if p not in known.stopped]  # fmt: skip
        states = {p: state for p, state in orders.items() if isinstance(state, OrderState)}
        last = max([known.booked, *(row.sequence for rows in (fills, moves, endings) for row in rows)])
        return Heard(_with_states(reports, pending, states, known.until), tuple(lost), last)

    def _rows(
        self, question: Callable[[], Iterable[_Row | Unreadable]], known: Known, dark: dict[str, str]
    ) -> list[_Row]:
        """What is news, of the positions of which all can be read; `dark` takes up the others, by position."""
        rows, unreadable = readable(question)
        if any(row.instrument == "" for row in unreadable):
            raise NoAnswer("the exchange", "rows", unreadable[0].reason)
        dark |= {row.instrument: row.reason for row in unreadable}
        found = {row.sequence: row for row in rows if row.instrument not in dark}
        return [row for seq, row in sorted(found.items()) if seq > known.booked and row.ts <= known.until]

    def _of(self, question: Callable[[], Iterable[_Leg | Unreadable]], position: str) -> list[_Leg]:
        """The rows of one position; NoAnswer where some of them cannot be read."""
        rows, unreadable = readable(question)
        if any(row.instrument in (position, "") for row in unreadable):
            raise NoAnswer("the exchange", f"rows of {position}", unreadable[0].reason)
        return [row for row in rows if row.instrument == position]

    # Where it differs

    def theirs(self, clock: int, orders: Iterable[str]) -> Theirs:
        """The exchange's books after `clock` (UTC ms), with its orders of those names."""
        return read_books(self.exchange, self.vault, clock + 1, orders)

    @staticmethod
    def differs(vault: Vault, theirs: Theirs, owed: int) -> tuple[Differs, ...]:
        """What is not the same in both books, at the same time, with nothing left to be booked; positions that are
        stopped already have been told of. `owed`: money that is yet to be paid in (+) or out (-)."""
        legs = vault.positions
        stopped = {name for name, row in legs.items() if row.pending is not None and row.pending.is_halt}
        ours = Books(
            vault.clock + 1,
            tuple(Position(name, row.quantity, row.cost, vault.ledger.margin(name)) for name, row in legs.items()
                  if row.quantity or vault.ledger.margin(name)),
            tuple(_state(name, row.pending) for name, row in legs.items() if row.pending and row.pending.order),
            balance=Balance(sum(map(vault.ledger.balance, ("reserve", "cushion", "entering"))) - owed, 0),
        )  # fmt: skip
        return tuple(
            Differs(position=one.leg or None, what=one.cause.value, ours=str(one.ours), theirs=str(one.theirs))
            for one in differences(ours, theirs)
            if one.halts and not (one.leg in stopped or (one.leg == "" and stopped))
        )


def refused(act: Dealt) -> Dealt:
    """The act, of which nothing was done."""
    return act.model_copy(update={"done": 0, "fee": 0, "price": 0.0, "pending": False})


def again(question: Callable[[], _Answer]) -> _Answer:
    """The answer to a question that changes nothing, asked again where none comes. Raised: NoAnswer."""
    for _ in range(_TRIES - 1):
        try:
            return question()
        except NoAnswer:
            continue
    return question()


def readable(question: Callable[[], Iterable[_Told | Unreadable]]) -> tuple[list[_Told], list[Unreadable]]:
    """The rows of an answer, each once, and those that cannot be read however often it is asked."""
    unreadable: list[Unreadable] = []
    for _ in range(_TRIES):
        rows = list(again(question))
        unreadable = [row for row in rows if isinstance(row, Unreadable)]
        if not unreadable:
            break
    return list(dict.fromkeys(row for row in rows if not isinstance(row, Unreadable))), unreadable


def _rest(rows: Iterable[Moved], mine: Counter[int]) -> list[Moved]:
    """Those that are none of ours, of which there are so many of each amount."""
    left, found = Counter(mine), []
    for row in rows:
        if left[row.amount] > 0:
            left[row.amount] -= 1
        else:
            found.append(row)
    return found


def _strange_moves(rows: Iterable[Moved], acts: Iterable[Dealt]) -> list[Moved]:
    mine = Counter((one.position, one.done) for one in acts if not one.lots)
    found = []
    for row in rows:
        if mine[row.instrument, row.amount] > 0:
            mine[row.instrument, row.amount] -= 1
        else:
            found.append(row)
    return found


def _of_fill(row: Fill, pending: Mapping[str, Pending]) -> Report:
    waits = pending.get(row.instrument)
    cause = Cause.filled if waits is not None and waits.order == row.client_id else Cause.by_hand
    return Report(
        position=row.instrument, cause=cause, ts=row.ts, order=row.client_id, lots=row.lots, amount=row.margin,
        fee=row.fee, price=row.price, mark=row.mark,
    )  # fmt: skip


def _of_move(row: Moved, marks: Mapping[str, float]) -> Report:
    mark = marks.get(row.instrument, 0.0)
    return Report(position=row.instrument, cause=Cause.moved_by_hand, ts=row.ts, amount=row.amount, mark=mark)


def _of_ending(row: Ending) -> Report:
    cause = Cause.liquidated if isinstance(row, Liquidated) else Cause.deleveraged
    return Report(
        position=row.instrument, cause=cause, ts=row.ts, lots=row.lots, amount=-row.returned, fee=row.fee,
        price=row.price, mark=row.mark,
    )  # fmt: skip


def _with_states(
    reports: list[Report], pending: Mapping[str, Pending], states: Mapping[str, OrderState], now: int
) -> tuple[Report, ...]:
    """The reports, the last of each order with how it stands; and the ends of orders that filled no further."""
    found = list(reports)
    for position, state in states.items():
        of_order = [n for n, one in enumerate(found) if one.order == state.client_id]
        filled = pending[position].filled + sum(found[n].lots for n in of_order)
        if filled != state.filled:
            continue  # what is missing has happened later
        if not of_order and state.is_final:
            of_order = [len(found)]
            found.append(Report(position=position, cause=Cause.ended, ts=now, order=state.client_id))
        if of_order:
            told = {"order_price": state.price, "is_last": state.is_final, "reason": state.reason}
            found[of_order[-1]] = found[of_order[-1]].model_copy(update=told)
    return tuple(found)


def _state(position: str, one: Pending) -> OrderState:
    return OrderState(one.order, position, one.lots, one.filled, one.cost, one.price, one.fee, is_final=False)
