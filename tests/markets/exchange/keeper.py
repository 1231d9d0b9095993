"""Whoever keeps an account's books beside the exchange, as a vault does: intents are written down before they are sent,
what happened is booked once, and whoever steps them may die at any moment. Only the books survive."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ringfence.markets.errors import NoAnswer
from ringfence.markets.exchange.client import Client
from ringfence.markets.exchange.life import (
    Life,
    Phase,
    Read,
    abandoned,
    answered,
    left_behind,
    margin_ended_by_proof,
    read,
    sending,
)
from ringfence.markets.exchange.protocol import (
    Accepted,
    Answer,
    Balance,
    Ending,
    Fill,
    Funding,
    MarginRequest,
    Moved,
    OrderRequest,
    OrderState,
    Position,
    Rejected,
    Unreadable,
    client_id,
)
from ringfence.markets.exchange.reconcile import Books, Difference, differences, read_books
from ringfence.markets.exchange.settling import closed, funded, opened, split
from ringfence.markets.exchange.terms import contract_row
from ringfence.risk.book import Holding
from tests.markets.exchange.house import CONTRACT, USDT

ACCOUNT, LEGS = "btc", ("A", "B")
ROW = contract_row(CONTRACT)


@dataclass
class Kept:
    """What is written down, and survives."""

    lives: dict[str, Life] = field(default_factory=dict)
    positions: dict[str, Holding] = field(default_factory=dict)
    fills: dict[str, Fill] = field(default_factory=dict)
    fundings: dict[Any, Funding] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)
    cash: int = 10_000 * USDT
    moving: dict[str, MarginRequest] = field(default_factory=dict)
    """Collateral requests whose answer was not heard, by leg."""
    moves: dict[str, Moved] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    """Moves by which a request has ended."""

    def held(self, leg: str) -> Holding:
        return self.positions.get(leg, Holding(0, 0, 0))

    def blocked(self, leg: str) -> bool:
        return leg in self.moving or any(life.blocks for life in self.lives.values() if life.request.instrument == leg)

    def book(self, what: Fill | Moved | Funding | Ending | OrderState) -> None:
        """Once: a second time would be found by its name."""
        if isinstance(what, OrderState):
            life = self.lives[what.client_id]
            self.lives[what.client_id] = read(life, Read(what, 0), 0) if life.phase is Phase.open else life
            return
        held = self.held(what.instrument)
        match what:
            case Fill():
                assert what.trade not in self.fills
                self.fills[what.trade] = what
                self.cash -= what.margin
                held = held._replace(margin=held.margin + what.margin)
                closes = split(held.quantity, what.lots)[0] == what.lots
                change = (closed if closes else opened)(held, ROW, what.lots, what.price, what.fee)
                assert (change.realised, change.fee) == (what.realised, what.fee)
                held = change.held
            case Moved():
                assert what.trade not in self.moves
                self.moves[what.trade] = what
                self.cash -= what.amount
                held = held._replace(margin=held.margin + what.amount)
            case Funding():
                assert (what.instrument, what.stamp) not in self.fundings
                self.fundings[what.instrument, what.stamp] = what
                held = funded(held, False, what.amount)
            case Ending():
                assert what.trade not in self.endings
                self.endings[what.trade] = what
                held = closed(held, ROW, what.lots, what.price, what.fee).held
                held = held._replace(margin=held.margin - what.returned)
                self.cash += what.returned
        self.positions[what.instrument] = held

    def books(self) -> Books:
        """As reconciliation takes them."""
        held = sum(
            life.request.margin
            for name, life in self.lives.items()
            if life.phase is Phase.open
            and not any(fill.client_id == name and fill.margin for fill in self.fills.values())
        )
        return Books(
            0,
            tuple(Position(leg, *held_) for leg, held_ in sorted(self.positions.items())),
            tuple(_stated(life) for life in self.lives.values() if life.phase is not Phase.absent),
            tuple(self.fills.values()),
            tuple(self.moves.values()),
            tuple(self.fundings.values()),
            tuple(self.endings.values()),
            Balance(self.cash - held, held),
        )


def _stated(life: Life) -> OrderState:
    """An order as our books have it; one whose fate nobody knows is none that is known to be open."""
    asked = life.request
    final = life.phase is not Phase.open
    return life.state or OrderState(asked.client_id, asked.instrument, asked.lots, 0, 0, 0.0, 0, final, life.reason)


class Dead(Exception):
    """The keeper was killed."""


@dataclass
class Keeper:
    """One who steps the books, with a will that is drawn by lot."""

    client: Client
    kept: Kept
    lot: Random
    tick: int
    reads: dict[str, list[Sequence[Moved]]] = field(default_factory=dict)
    """What has moved that no request is known to have ended by, read by read, by leg."""
    deadly: float = 0.0
    """How often he dies, at each place where he can."""

    def step(self, *, acts: bool = True) -> list[Difference]:
        """Everything that is due at a tick; returns what differs and cannot be booked. `Dead` where he dies of it."""
        for name, life in self.kept.lives.items():
            self.kept.lives[name] = left_behind(life)
        left = self.settle()
        for leg in LEGS if acts else ():
            if not self.kept.blocked(leg):
                self.act(leg)
        return left

    def settle(self) -> list[Difference]:
        """Reads what became of what was sent, and books what differs; returns what still does."""
        left = self.reconcile()
        before = dict(self.kept.lives), dict(self.kept.moving)
        for name, life in list(self.kept.lives.items()):
            for _ in range(3):
                if life.phase in (Phase.open, Phase.unknown):
                    life = self.kept.lives[name] = self.ask(life)
            if life.phase is Phase.absent:
                again = self.lot.random() < 0.5 and not self.kept.blocked(life.request.instrument)
                self.kept.lives[name] = abandoned(life)
                if again:
                    self.kept.lives[name] = life
                    self.send(name)
        self.find_margins()
        return left if before == (self.kept.lives, self.kept.moving) else self.reconcile()

    def ask(self, life: Life) -> Life:
        """One read of an order and its position."""
        asked = life.request
        try:
            order = self.client.order(ACCOUNT, asked.client_id)
            quantity = self.quantity(asked.instrument)
        except NoAnswer:
            return life
        return read(life, Read(order, quantity), self.kept.held(asked.instrument).quantity)

    def standing(self, leg: str) -> Position:
        rows = self.client.positions(ACCOUNT)
        if any(isinstance(row, Unreadable) for row in rows):
            raise NoAnswer("paper", "positions", "a row that cannot be read")
        return next((row for row in rows if row.instrument == leg), Position(leg, 0, 0, 0))  # type: ignore[union-attr]

    def quantity(self, leg: str) -> int:
        return self.standing(leg).quantity

    def find_margins(self) -> None:
        """Collateral of which nobody knows whether it moved: read from what has moved, which is booked by itself."""
        for leg, request in list(self.kept.moving.items()):
            for _ in range(3):
                try:
                    rows = self.client.moves(ACCOUNT, 0)
                except NoAnswer:
                    continue
                if any(isinstance(row, Unreadable) for row in rows):
                    continue
                new = [row for row in rows if row.instrument == leg and row.trade not in self.kept.known]  # type: ignore[union-attr]
                self.reads.setdefault(leg, []).append(new)  # type: ignore[arg-type]
                if margin_ended_by_proof(request.amount, self.reads[leg]) is not None:
                    self.kept.known.update(row.trade for row in new)  # type: ignore[union-attr]
                    del self.kept.moving[leg], self.reads[leg]
                    break

    def reconcile(self) -> list[Difference]:
        """Books what can be booked, until nothing can; returns what differs then."""
        names = [name for name, life in self.kept.lives.items() if life.phase is Phase.open]
        for _ in range(4):
            found = differences(self.kept.books(), read_books(self.client, ACCOUNT, 0, names))
            bookings = [one.booking for one in found if one.booking is not None]
            for booking in bookings:
                self.kept.book(booking)
            if not bookings:
                break
        return found

    def act(self, leg: str) -> None:
        """An order, or a move of collateral, or nothing."""
        held, chance = self.kept.held(leg), self.lot.random()
        if chance < 0.2 and held.quantity:
            amount = self.lot.choice([50 * USDT, -20 * USDT])
            request = MarginRequest(ACCOUNT, leg, amount)
            self.kept.moving[leg] = request
            self.die()
            answer = self.client.move_margin(request)
            self.die()
            if isinstance(answer, Rejected):
                del self.kept.moving[leg]
        elif chance < 0.9:
            reduces = held.quantity != 0 and self.lot.random() < 0.4
            lots = self.lot.randint(1, 20) * (1 if self.lot.random() < 0.5 else -1)
            if held.quantity:
                side = 1 if held.quantity > 0 else -1
                lots = -side * self.lot.randint(1, abs(held.quantity)) if reduces else side * abs(lots)
            name = client_id("btc", self.tick, leg, "reduce" if reduces else "grow", len(self.kept.lives))
            margin = 0 if reduces else abs(lots) * 5 * USDT
            self.kept.lives[name] = Life(OrderRequest(name, ACCOUNT, leg, lots, reduces, margin))
            self.die()
            self.send(name)

    def send(self, name: str) -> None:
        """The intent is written down; so is that it is being sent."""
        life = self.kept.lives[name] = sending(self.kept.lives[name])
        answer = self.client.place(life.request)
        self.die()
        self.kept.lives[name] = self.after(life, answer)

    def after(self, life: Life, answer: Answer) -> Life:
        return answered(life, answer)

    def die(self) -> None:
        if self.lot.random() < self.deadly:
            raise Dead


class Careless(Keeper):
    """One for whom no answer is a refusal, as a timer would make it one."""

    def after(self, life: Life, answer: Answer) -> Life:
        return answered(life, answer if isinstance(answer, Accepted) else Rejected("no answer in time"))
