"""The pure middle of a step: from a vault's book and the bars of a slot to the entry that says what came of them."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ringfence.markets.exchange.protocol import client_id
from ringfence.markets.feeds.quality import HALTS, Action, Quality
from ringfence.markets.simulator import Record, Series, blank_series, simulate
from ringfence.risk import KERNEL
from ringfence.risk.book import INT_MAX, Book, Terms, Walk, empty_book
from ringfence.risk.edges import OF_POSITIONS, AccountKind, Edge
from ringfence.risk.events import Bound, Event, Kind
from ringfence.risk.exposure import equity_at, leverage_of, liquidation_price
from ringfence.risk.tape import Tape, blank_tape, read_events, rewind
from ringfence.runtime.levels import without
from ringfence.runtime.setup import Setup
from ringfence.runtime.stretch import Stretch
from ringfence.strategies.errors import DuplicateStrategy, UnknownStrategy
from ringfence.strategies.registry import release
from ringfence.vaults.entries import Dealt, Decided, Happened, Held, Moved, Standing, Walked
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.vault import Vault

__all__ = ["HALTED_BY", "Step", "Stretch", "book_of", "decided_by", "happened", "heed", "live_through", "moved",
           "take"]  # fmt: skip

log = logging.getLogger(__name__)

HALTED_BY = "ringfence"
"""By whom a vault is halted where nobody asked for it."""
_ACTS = 32
"""What one position may be asked for at a bar: orders and moves of collateral."""
_ENTERING = AccountKind.entering.value
_ACCOUNTS = tuple(kind.value for kind in AccountKind if kind not in OF_POSITIONS)


@dataclass(frozen=True, eq=False)
class Step:
    """What living through a stretch, or the first part of it, came to."""

    close: int
    """UTC ms up to which the vault has lived."""
    entry: Decided | Walked
    """Before anybody is paid."""
    balances: Mapping[str, int]
    """What the step arrived at, by account: the ledger must find the same."""
    bar: int
    """Number, in the stretch, of the last bar that was lived through."""
    foreseen: int = 0
    """How many of the entry's last acts the venue has not answered: what is told of them is foreseen."""
    halts: str = ""
    """Why the vault is to be halted with it."""


def decided_by(mandate: Mandate) -> tuple[int, dict[str, str]]:
    """Who would decide here and now: the kernel's version, and by position the release of its strategy, if
    it is installed."""
    releases = {}
    for name, stated in mandate.positions.items():
        with suppress(UnknownStrategy, DuplicateStrategy):
            releases[name] = release(stated.strategy.name)
    return KERNEL, releases


def book_of(vault: Vault, close: int) -> Book:
    """The vault as the kernel's rows, before the slot that ends at `close` (UTC ms); of what waits to enter or to leave
    only what a strike then settles."""
    book = empty_book(range(len(vault.positions)))
    row = book.vaults[0]
    for name in _ACCOUNTS:
        row[name] = vault.ledger.balance(name)
    due = vault.due(close)
    row[_ENTERING], row.waiting = (
        sum(order.remaining for order in due if order.side == side) for side in ("deposit", "redemption")
    )
    row.shares, row.high_water_mark = vault.shares, vault.high_water_mark
    row.locked_since, row.rebase_at = _known(vault.locked_since), _known(vault.rebase_at)
    row.nav_low = INT_MAX if vault.nav_low is None else vault.nav_low
    row.price_low, row.distance_low = vault.price_low, vault.distance_low
    for position, held in zip(book.positions, vault.positions.values(), strict=True):
        position.quantity, position.cost, position.refused = held.quantity, held.cost, held.refused
        position.margin, position.pending = vault.ledger.margin(held.name), held.pending is not None
    for name in vault.positions:  # what was committed is given back before anything else is booked
        row.cushion += vault.ledger.order_margin(name)
    return book


def live_through(
    setup: Setup, book: Book, stretch: Stretch, answers: Sequence[Dealt] | None = None, tick: int = 0
) -> Step | None:
    """Live through a stretch: the venue's rules bar by bar, and the decision at the slot's close. Changes `book` alone.

    `answers`: what the venue has said so far to what it was asked for, in order; None: it fills at once. `tick` (UTC
    ms), of which each is one stretch's, goes into the names of its orders.

    A slot that passes ends with a Walked. Any other stretch ends early with one, after a bar inside the slot at which
    money moved (funding, a liquidation, a margin call) or which halts the vault. So a journal tells the same whoever
    looked when. None where the slot's end is yet to come and neither happened.
    """
    walk, end = stretch.walk, len(stretch.walk.ts)
    is_tried = stretch.inside or stretch.shrinking
    before = Book(book.vaults.copy(), book.positions.copy()) if is_tried else book
    # Where the last bar is inside as well, money may move at it before anything is decided there.
    looked = walk if stretch.inside < end else walk._replace(slot=np.full(end, -1, np.int64))

    def again(through: Walk, until: int, heard: Sequence[Dealt] | None = answers) -> _Run:
        book.vaults[:], book.positions[:] = before.vaults, before.positions
        run = _Run(setup, book, stretch, through, heard, tick)
        run.until(until, 0)
        return run

    def ended(run: _Run, bar: int, close: int, decides: bool) -> Step:
        run.hear()
        entry = _decided(setup, book, stretch, run) if decides else _walked(setup, book, stretch, run, bar)
        return Step(close, entry, _balances(setup, book), bar, run.foreseen, run.halts)

    run = _Run(setup, book, stretch, looked, answers, tick)
    acted = run.until(end, stretch.inside)
    if acted is not None:
        return ended(again(looked, acted + 1), acted, int(walk.ts[acted]) + walk.length, False)
    if stretch.slot is None and not stretch.stops:
        return None
    if stretch.passes or stretch.stops:
        return ended(run, end - 1, stretch.close if stretch.passes else int(walk.ts[-1]) + walk.length, False)
    if stretch.shrinking:
        walk = _shrinking(stretch, walk, lambda through: again(through, end, None))
    if stretch.shrinking or looked is not walk:
        run = again(walk, end)
    return ended(run, end - 1, stretch.close, True)


def _shrinking(stretch: Stretch, walk: Walk, lived: Callable[[Walk], "_Run"]) -> Walk:
    """The walk without that by which a position would grow that may only become smaller: its proposal, and where money
    that enters would buy for it, the price itself, so that nobody enters at this close.

    Found by living through it, with all proposals and with that one alone, at a venue that fills at once: what is
    decided may not depend on what a venue answers.
    """
    held = lived(walk._replace(slot=np.full(len(walk.ts), -1, np.int64))).quantities

    def grown(through: Walk) -> list[int]:
        found = lived(through).quantities
        return [p for p in stretch.shrinking if abs(found[p]) > abs(held[p]) or found[p] * held[p] < 0]

    for p in stretch.shrinking:
        alone = walk.proposals.copy()
        alone.proposed[0, [other for other in range(len(held)) if other != p]] = False
        if walk.proposals.proposed[0, p] and p in grown(walk._replace(proposals=alone)):
            walk = _unproposed(walk, [p])
    while left := grown(walk):
        proposed = [p for p in left if walk.proposals.proposed[0, p]]
        walk = _unproposed(walk, proposed) if proposed else walk._replace(
            bars=without(walk.bars, {len(walk.ts) - 1: dict.fromkeys(left, Quality.stale)}))  # fmt: skip
    return walk


def _unproposed(walk: Walk, positions: Sequence[int]) -> Walk:
    table = walk.proposals.copy()
    table.proposed[0, list(positions)] = False
    return walk._replace(proposals=table)


def take(vault: Vault, step: Step) -> None:
    """Hand a step's entry to the vault."""
    if isinstance(step.entry, Decided):
        vault.accept(step.close, step.entry, step.balances)
    else:
        vault.walk(step.close, step.entry, step.balances)


def heed(vault: Vault, step: Step) -> None:
    """Halt a vault that the step is a reason to halt."""
    if step.halts and vault.halted_since is None:
        vault.halt(step.close, HALTED_BY, step.halts)
        log.critical("vault %s is halted: %s", vault.name, step.halts)


class _Run:
    """A book that lives through a walk, and what it writes down."""

    def __init__(
        self, setup: Setup, book: Book, stretch: Stretch, walk: Walk, answers: Sequence[Dealt] | None, tick: int
    ) -> None:
        """More than five arguments because answers are heard at a tick."""
        self.series = blank_series(1, 1, len(setup.names))
        self.events: list[Happened] = []
        self.transfers: list[Moved] = []
        self.dealt: tuple[Dealt, ...] | None = None
        self.foreseen = 0
        self.halts = ""
        self._setup, self._book, self._walk, self._answers, self._tick = setup, book, walk, answers, tick
        self._doubted, self._is_halted = stretch.doubted, stretch.is_halted
        self._tape = blank_tape(0, 0)

    @property
    def quantities(self) -> list[int]:
        """What its positions hold, lots."""
        return [int(quantity) for quantity in self._book.positions.quantity]

    def until(self, end: int, inside: int) -> int | None:
        """Live through the bars before `end`; or, once money moved at one of the first `inside` or the vault is to be
        halted there, return that one."""
        setup, walk, count = self._setup, self._walk, len(self._setup.names)
        terms, answers = Terms(setup.limits, setup.listing), self._answers
        tape = blank_tape(64 * (count + 1), 32 * (count + 1), 0 if answers is None else _ACTS * (count + 1))
        for act, answer in zip(tape.acts, answers or (), strict=False):
            _answer(act, answer, setup.names)
        bar = 0
        while bar < end:
            halting = bar if bar in self._doubted and self._refuse(bar) else None
            stop = min([at for at in self._doubted if bar < at < end], default=end) if halting is None else bar + 1
            bar = simulate(self._book, terms, walk, Record(tape, self.series), (bar, stop))
            shifted, acts = tape.transfers[: int(tape.used[0])], tape.acts[: int(tape.used[6])]
            ends = [*shifted.bar[shifted.bar < inside], *acts.bar[acts.bar < inside]]
            if halting is not None and halting < inside:
                ends.append(halting)
            if ends:
                return int(min(ends))
            self.events += [happened(event, setup.names) for event in read_events(tape, 0, 0)]
            self.transfers += moved(tape, setup.names)
            rewind(tape)
        self._tape = tape
        return None

    def _refuse(self, bar: int) -> bool:
        """Tell what would be done at a bar on prices that are good for nothing; whether that halts the vault."""
        doubted, names = self._doubted[bar], self._setup.names
        book, bars = Book(self._book.vaults.copy(), self._book.positions.copy()), self._walk.bars.copy()
        bars.valid[bar, list(doubted)] = True
        taken = self._walk._replace(bars=bars, slot=np.full(len(bars), -1, np.int64))
        tape = blank_tape(64 * (len(names) + 1), 32 * (len(names) + 1))
        terms = Terms(self._setup.limits, self._setup.listing)
        simulate(book, terms, taken, Record(tape, blank_series(1, 1, len(names))), (bar, bar + 1))
        for event in read_events(tape, 0, 0):
            if event.position not in doubted or event.kind not in (Kind.margin_call, Kind.liquidation):
                continue
            refused = replace(
                event, kind=Kind.refusal, reason=Bound.doubted_price, quantity_after=event.quantity_before, amount=0,
                fee=0, shortfall=0, leverage_after=event.leverage_before,
            )  # fmt: skip
            self.events.append(happened(refused, names))
            if doubted[event.position] in HALTS[Action.liquidate] and not self._is_halted and not self.halts:
                what = event.kind.name.replace("_", " ")
                self.halts = f"the {what} of {names[event.position]} is due on a price that is guarded"
                return True
        return False

    def hear(self) -> None:
        """Take down what the venue was asked for. Refused: ValueError, where it has answered to something else."""
        if self._answers is None:
            return
        asked = int(self._tape.used[6])
        if self._tape.used[7] or asked < len(self._answers):
            raise ValueError("the venue has answered to something else than what is asked of it")
        self.dealt = tuple(self._dealt(number, act) for number, act in enumerate(self._tape.acts[:asked]))
        self.foreseen = asked - len(self._answers)

    def _dealt(self, number: int, act: Any) -> Dealt:
        position, kind = self._setup.names[act.position], Kind(int(act.kind)) if act.lots else None
        name = client_id(self._setup.mandate.name, self._tick, position, kind.name, number) if kind else ""
        return Dealt(
            ts=int(self._walk.ts[act.bar]) + self._walk.length, position=position, kind=kind, lots=int(act.lots),
            amount=int(act.amount), reduces=bool(act.reduces), pending=bool(act.pending), done=int(act.done),
            fee=int(act.fee), price=float(act.price), name=name,
        )  # fmt: skip


def _decided(setup: Setup, book: Book, stretch: Stretch, run: _Run) -> Decided:
    row, state, walk = book.vaults[0], run.series.vaults[0, 0], stretch.walk
    kernel, strategies = decided_by(setup.mandate)
    assert stretch.slot is not None
    return Decided(
        kernel=kernel, strategies=strategies, failed=dict(stretch.failed), slot=stretch.slot,
        last_bar=int(walk.ts[-1]), bars=stretch.bars, struck=int(state.nav), is_struck=bool(state.struck),
        high_water_mark=int(row.high_water_mark), flow_cost=int(state.flow_cost),
        nav_low=int(state.nav_low) if row.shares else None,
        locked_since=_told(row.locked_since), rebase_at=_told(row.rebase_at),
        price_low=_finite(row.price_low), distance_low=_finite(row.distance_low),
        positions={name: _held(p, book, walk, run.series) for p, name in enumerate(setup.names)},
        events=tuple(run.events), transfers=tuple(run.transfers), dealt=run.dealt,
    )  # fmt: skip


def _walked(setup: Setup, book: Book, stretch: Stretch, run: _Run, bar: int) -> Walked:
    row, walk = book.vaults[0], stretch.walk
    marks = [float(mark) for mark in walk.bars[bar].mark_close]
    seats = list(zip(setup.names, book.positions, setup.listing, marks, strict=True))
    equity = sum(max(0, int(equity_at(held, instrument, mark))) for _, held, instrument, mark in seats)
    return Walked(
        kernel=KERNEL, last_bar=int(walk.ts[bar]),
        bars=stretch.bars_of(bar + 1),
        nav_low=int(row.nav_low) if row.shares else None,
        positions={
            name: Standing(
                quantity=int(held.quantity), cost=int(held.cost), margin=int(held.margin),
                refused=Bound(int(held.refused)), price=mark,
                effective_leverage=float(leverage_of(held, instrument, mark)),
                liquidation_price=float(liquidation_price(held, instrument)),
            )
            for name, held, instrument, mark in seats
        },
        events=tuple(run.events), transfers=tuple(run.transfers), dealt=run.dealt,
        nav=int(row.reserve) + int(row.cushion) + equity,
    )  # fmt: skip


def _balances(setup: Setup, book: Book) -> dict[str, int]:
    row = book.vaults[0]
    balances = {name: int(row[name]) for name in _ACCOUNTS}
    return balances | {margin_account(name): int(book.positions[p].margin) for p, name in enumerate(setup.names)}


def _answer(act: Any, answer: Dealt, names: tuple[str, ...]) -> None:
    """Write an answer where the kernel finds it."""
    act.answered, act.position, act.kind = True, names.index(answer.position), int(answer.kind or 0)
    for name in ("lots", "amount", "reduces", "pending", "done", "fee", "price"):
        act[name] = getattr(answer, name)


def happened(event: Event, names: tuple[str, ...]) -> Happened:
    """The kernel's event, with the position's name."""
    return Happened(**{**asdict(event), "position": names[event.position] if event.position >= 0 else None})


def moved(tape: Tape, names: tuple[str, ...]) -> list[Moved]:
    """The tape's transfers in order, with the positions' names."""
    return [
        Moved(edge=Edge(edge), position=None if p < 0 else names[p], amount=amount)
        for _, _, edge, p, amount in tape.transfers[: int(tape.used[0])].tolist()
    ]


def _held(p: int, book: Book, walk: Walk, series: Series) -> Held:
    row, detail, proposal = book.positions[p], series.positions[0, p], walk.proposals[0, p]
    return Held(
        quantity=int(row.quantity), cost=int(row.cost), margin=int(row.margin), refused=Bound(int(row.refused)),
        price=float(walk.bars[-1, p].mark_close),
        proposed=float(proposal.leverage) if proposal.proposed else None,
        volatility=float(proposal.volatility) if proposal.known else None,
        allowed=float(detail.allowed), leverage=float(detail.leverage),
        effective_leverage=float(detail.effective_leverage),
        liquidation_price=float(detail.liquidation_price), bound=Bound(int(detail.bound)),
    )  # fmt: skip


def _known(ts: int | None) -> int:
    """A time as the kernel has it: -1 for none."""
    return -1 if ts is None else ts


def _told(ts: int) -> int | None:
    return int(ts) if ts >= 0 else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
