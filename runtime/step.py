"""The pure middle of a step: from a vault's book and the bars of one slot to the entry that says what was decided."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass

from ringfence.markets.simulator import Record, Series, blank_series, simulate
from ringfence.markets.slots import Slots
from ringfence.risk import KERNEL
from ringfence.risk.book import Book, Terms, Walk, empty_book
from ringfence.risk.edges import AccountKind, Edge
from ringfence.risk.events import Bound, Event
from ringfence.risk.tape import Tape, blank_tape, read_events, rewind
from ringfence.runtime.levels import held_back
from ringfence.runtime.setup import Setup
from ringfence.strategies.errors import DuplicateStrategy, UnknownStrategy
from ringfence.strategies.registry import release
from ringfence.vaults.entries import Decided, Happened, Held, Moved
from ringfence.vaults.ledger import margin_account
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.vault import Vault

__all__ = ["Decision", "SlotInputs", "book_of", "decided_by", "live_through", "slot_inputs"]

_ENTERING = AccountKind.entering.value
_ACCOUNTS = tuple(kind.value for kind in AccountKind if kind is not AccountKind.margin)


@dataclass(frozen=True, eq=False)
class SlotInputs:
    """What one slot is decided on."""

    slot: int
    """Open of the slot, UTC ms."""
    close: int
    """End of the slot, UTC ms."""
    walk: Walk
    """Its bars and one row of proposals; position p trades column p."""
    fingerprint: str
    """SHA-256 of the bars."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a slot came to."""

    close: int
    """End of the slot, UTC ms."""
    entry: Decided
    """Before anybody is paid."""
    balances: Mapping[str, int]
    """What the step arrived at, by account: the ledger must find the same."""


def slot_inputs(setup: Setup, slots: Slots, number: int) -> SlotInputs:
    """What slot `number` is decided on, from bars up to its close and no later ones."""
    slot = int(slots.opens[number])
    return SlotInputs(
        slot=slot,
        close=slot + slots.timeframe,
        walk=slots.walk(held_back(setup.propose_at(slots, number), slots, number), number),
        fingerprint=slots.fingerprint(number),
    )


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
    row.price_low, row.distance_low = vault.price_low, vault.distance_low
    for position, held in zip(book.positions, vault.positions.values(), strict=True):
        position.quantity, position.cost, position.refused = held.quantity, held.cost, held.refused
        position.margin = vault.ledger.margin(held.name)
    return book


def live_through(setup: Setup, book: Book, inputs: SlotInputs) -> Decision:
    """Live through one slot: the venue's rules bar by bar, and the decision at its close. Changes `book` alone."""
    count = len(setup.names)
    terms, walk = Terms(setup.limits, setup.listing), inputs.walk
    tape, series = blank_tape(64 * (count + 1), 32 * (count + 1)), blank_series(1, 1, count)
    events: list[Happened] = []
    transfers: list[Moved] = []
    bar = 0
    while bar < len(walk.ts):
        bar = simulate(book, terms, walk, Record(tape, series), (bar, len(walk.ts)))
        events += [_happened(event, setup.names) for event in read_events(tape, 0, 0)]
        transfers += _moved(tape, setup.names)
        rewind(tape)
    row, state = book.vaults[0], series.vaults[0, 0]
    kernel, strategies = decided_by(setup.mandate)
    entry = Decided(
        kernel=kernel, strategies=strategies, slot=inputs.slot, last_bar=int(walk.ts[-1]), bars=inputs.fingerprint,
        struck=int(state.nav), is_struck=bool(state.struck), high_water_mark=int(row.high_water_mark),
        flow_cost=int(state.flow_cost), nav_low=int(state.nav_low) if row.shares else None,
        locked_since=_told(row.locked_since), rebase_at=_told(row.rebase_at),
        price_low=_finite(row.price_low), distance_low=_finite(row.distance_low),
        positions={name: _held(p, book, inputs, series) for p, name in enumerate(setup.names)},
        events=tuple(events), transfers=tuple(transfers),
    )  # fmt: skip
    balances = {name: int(row[name]) for name in _ACCOUNTS}
    balances |= {margin_account(name): int(book.positions[p].margin) for p, name in enumerate(setup.names)}
    return Decision(inputs.close, entry, balances)


def _happened(event: Event, names: tuple[str, ...]) -> Happened:
    return Happened(**{**asdict(event), "position": names[event.position] if event.position >= 0 else None})


def _moved(tape: Tape, names: tuple[str, ...]) -> list[Moved]:
    return [
        Moved(edge=Edge(edge), position=None if p < 0 else names[p], amount=amount)
        for _, _, edge, p, amount in tape.transfers[: int(tape.used[0])].tolist()
    ]


def _held(p: int, book: Book, inputs: SlotInputs, series: Series) -> Held:
    row, detail, proposal = book.positions[p], series.positions[0, p], inputs.walk.proposals[0, p]
    return Held(
        quantity=int(row.quantity), cost=int(row.cost), margin=int(row.margin), refused=Bound(int(row.refused)),
        price=float(inputs.walk.bars[-1, p].mark_close),
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
