"""A vault at an exchange with books of its own: the same life to the last unit where nothing goes wrong, both books the
same and every order asked for once whatever does, and whoever is killed is followed by somebody who goes on."""

import contextlib
import dataclasses
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from ringfence.markets.errors import NoAnswer
from ringfence.markets.exchange.counter import Counter as ExchangeCounter
from ringfence.markets.exchange.faults import NO_FAULTS, Fault, FaultPlan, Scripted
from ringfence.markets.exchange.protocol import MarginRequest
from ringfence.markets.market import Market, align
from ringfence.risk.events import Kind
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import ExchangeBlank, ExchangeNotNamed, ExchangeRunning
from ringfence.runtime.halting import halt, resume
from ringfence.runtime.paper_accounts import PaperAccounts
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.verification import verify
from ringfence.vaults import journal
from ringfence.vaults.entries import Cause, Decided, DepositAsked, Entry, Lived, Ordered, Reported, Walked
from ringfence.vaults.errors import OrdersOnTheirWay
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.pending import Pending
from ringfence.vaults.tables import position
from tests.reference.tide import HOUR, MANDATE, START, UNIT, contents, launch, tide, walk
from tests.runtime.test_inside import BARS, falling

NAME = "tide"
FAULTY = (Fault.partial, Fault.partial_only, Fault.late, Fault.reject, Fault.unheard, Fault.silent, Fault.reply_lost,
          Fault.garbled, Fault.restart, Fault.too_many, Fault.duplicate, Fault.malformed,
          Fault.maintenance)  # fmt: skip
"""What an exchange does wrong that is nobody's doing."""


def faulty(seed: int, rate: int = 40_000, *more: Fault) -> FaultPlan:
    return FaultPlan(seed, dict.fromkeys((*FAULTY, *more), rate))


@pytest.fixture(scope="module")
def inside() -> Setup:
    text = MANDATE.format(name=NAME, leverage="7").replace("timeframe: 1h", "timeframe: 4h")
    return set_up(load_mandate(text.replace("window: 4h", "window: 8h").encode()))


class House:
    """One vault with a depositor, and its exchange."""

    def __init__(self, folder: Path, market: Market, setup: Setup, plan: FaultPlan | None = NO_FAULTS) -> None:
        self.folder, self.plan = folder, plan
        folder.mkdir(exist_ok=True)
        self.one = launch(f"sqlite:///{folder / 'one.db'}", market, setup)
        self.move_in()
        deposit(self.one.engine, NAME, "alice", 10_000 * UNIT, START, "first")

    def move_in(self) -> None:
        """Another process takes over."""
        self.one.desk._windows.clear()
        self.one.desk.accounts = None if self.plan is None else PaperAccounts(self.folder / "exchanges", self.plan)

    @property
    def desk(self) -> Desk:
        return self.one.desk

    def live(self, tries: int = 60) -> int:
        """Up to what is fed, however often the exchange gives no answer; returns how often it did not."""
        for silent in range(tries):
            try:
                self.desk.catch_up(NAME, lambda: True)
            except NoAnswer:
                continue
            return silent
        raise AssertionError(f"{tries} times no answer")

    def rows(self) -> list[journal.Row]:
        with unit_of_work(self.one.engine, writes=False) as connection:
            return list(journal.rows(connection, 1))

    def entries(self, *kinds: type[Entry]) -> list[Any]:
        return [row.entry for row in self.rows() if isinstance(row.entry, kinds or (Entry,))]

    def sound(self) -> bool:
        """Whether the whole life can be lived again to the last byte, and both books are the same at its end."""
        (verdict,) = verify(self.one.engine)
        assert verdict.breaches == ()
        return self.desk.reconcile(NAME) == 0

    def given(self) -> dict[str, tuple[int, int]]:
        """(lots, lots that filled) of every order that the exchange knows, by name."""
        with self.accounts.of(NAME) as account:
            return {order.client_id: (order.lots, order.filled) for order in account._operator.orders(NAME)}

    @property
    def accounts(self) -> PaperAccounts:
        assert self.desk.accounts is not None
        return self.desk.accounts

    def asked(self) -> dict[str, list[int]]:
        """Lots that the journal booked of every order, by name."""
        found: dict[str, list[int]] = {}
        for entry in self.entries(Lived, Reported):
            for act in getattr(entry, "dealt", None) or ():
                if act.name:
                    found.setdefault(act.name, []).append(act.done)
            for report in getattr(entry, "reports", ()):
                if report.cause is Cause.filled:
                    found[report.order].append(report.lots)
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(name: str, market: Market, setup: Setup, plan: FaultPlan | None = NO_FAULTS) -> House:
        made.append(House(tmp_path / name, market, setup, plan))
        return made[-1]

    yield make
    for one in made:
        one.one.engine.dispose()


def bare(entries: list[Entry]) -> list[Entry]:
    """Without what only an exchange with books of its own adds."""
    return [
        one.model_copy(update={"dealt": None, "reported": None}) if isinstance(one, Lived) else one
        for one in entries
        if not isinstance(one, Ordered)
    ]


# ------------------------------------------------------------------------------------------------ nothing goes wrong


@pytest.mark.parametrize("seed", [1, 3])
def test_where_nothing_goes_wrong_it_is_the_life_of_a_venue_that_fills_at_once(
    house: Callable[..., House], inside: Setup, seed: int
) -> None:
    plain, dealt = house("plain", falling(seed), inside, None), house("dealt", falling(seed), inside)
    for one in (plain, dealt):
        one.live()
        redeem(one.one.engine, NAME, "alice", None, START + BARS * HOUR, "leave")
    assert bare(dealt.entries()) == plain.entries()
    assert {Decided, Walked, Ordered} <= {type(entry) for entry in dealt.entries()}
    assert dealt.entries(Reported) == []
    assert dealt.sound()


def test_whoever_looks_when_it_is_the_same_life(house: Callable[..., House], inside: Setup) -> None:
    straight, guarded = house("straight", falling(3), inside), house("guarded", falling(3), inside)
    straight.live()
    while guarded.desk.guard(NAME) + guarded.desk.step(NAME, _next_slot(guarded)):
        pass
    assert guarded.entries() == straight.entries()


def _next_slot(one: House) -> int:
    with unit_of_work(one.one.engine, writes=False) as connection:
        return int(one.one.vault(connection).clock // (4 * HOUR) * 4 * HOUR)


def test_collateral_is_committed_before_it_is_asked_for_and_the_wall_counts_it(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seen = house("one", walk(8, 12, 0.03), tide()), list[tuple[int, int]]()
    serve = ExchangeCounter.serve

    def looking(counter: ExchangeCounter, line: bytes) -> Any:
        if b'"move_margin"' in line or b'"place"' in line:
            with unit_of_work(one.one.engine, writes=False) as connection:
                vault = one.one.vault(connection)
                assert vault.ordered is not None
                cash = vault.ledger.balance("cushion") + vault.ledger.balance("reserve")
                seen.append((vault.ledger.order_margin("btc"), cash))
                assert vault.ledger.balance("reserve") >= vault.wall
        return serve(counter, line)

    monkeypatch.setattr(ExchangeCounter, "serve", looking)
    one.live()
    assert max(committed for committed, _ in seen) > 0
    with unit_of_work(one.one.engine, writes=False) as connection:
        assert one.one.vault(connection).ledger.order_margin("btc") == 0


# ------------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("seed", range(4))
def test_whatever_an_exchange_does_wrong_both_books_are_the_same_and_no_order_is_given_twice(
    house: Callable[..., House], inside: Setup, seed: int
) -> None:
    is_inside = seed % 2 == 0
    one = house(
        "one", falling(seed) if is_inside else walk(seed, 40, 0.03), inside if is_inside else tide(), faulty(seed)
    )
    one.live()
    assert one.sound()
    given, asked = one.given(), one.asked()
    assert {name: sum(lots) for name, lots in asked.items() if sum(lots)} == {
        name: filled for name, (_, filled) in given.items() if filled
    }
    assert set(given) <= set(asked)
    assert [differs for entry in one.entries(Reported) for differs in entry.differs] == []


def test_faults_were_met_and_late_fills_booked(house: Callable[..., House]) -> None:
    """Of the storms above, together: none of them is a calm."""
    causes: Counter[Cause] = Counter()
    for seed in (0, 4):
        one = house(
            f"{seed}", walk(seed, 40, 0.03), tide(), FaultPlan(seed, {Fault.late: 200_000, Fault.partial: 100_000})
        )
        one.live()
        causes += Counter(report.cause for entry in one.entries(Reported) for report in entry.reports)
        assert one.sound()
    assert causes[Cause.filled] >= 4


def test_lots_that_the_venue_closed_are_booked_with_their_cause(house: Callable[..., House]) -> None:
    one = house("one", walk(8, 40, 0.03), tide(), FaultPlan(6, {Fault.deleverage: 400_000}))
    one.live()
    causes = Counter(report.cause for entry in one.entries(Reported) for report in entry.reports)
    assert causes[Cause.deleveraged] >= 2
    assert set(causes) == {Cause.deleveraged}
    assert one.sound()


def test_what_somebody_else_traded_is_booked_and_the_position_is_stopped_until_it_is_resumed(
    house: Callable[..., House],
) -> None:
    careful = set_up(load_mandate(MANDATE.format(name=NAME, leverage="5").replace("90%", "20%").encode()))
    one = house("one", walk(8, 40, 0.03), careful, FaultPlan(0, {Fault.stranger: 80_000}))
    one.live()
    (first, *_) = one.entries(Reported)
    assert [report.cause for report in first.reports] == [Cause.by_hand]
    after = one.entries(Decided)[-1]
    assert not after.is_struck
    assert one.sound()
    resume(one.one.engine, NAME, "carol", "it was me", START + 41 * HOUR, confirmed=False)
    resume(one.one.engine, NAME, "carol", "it was me", START + 41 * HOUR, confirmed=True)
    with unit_of_work(one.one.engine, writes=False) as connection:
        assert one.one.vault(connection).positions["btc"].pending is None
    assert one.sound()


def test_what_nothing_explains_stops_the_position_and_says_what_differs(house: Callable[..., House]) -> None:
    one = house("one", walk(8, 20, 0.03), tide())
    one.live()
    assert one.sound()
    with one.accounts.of(NAME) as account:
        account.exchange.move_margin(MarginRequest(NAME, "btc", 5 * UNIT))
    assert one.desk.reconcile(NAME) == 2
    (entry,) = one.entries(Reported)
    differs, wallet = entry.differs
    assert (wallet.position, wallet.what) == (None, "wallet")
    assert (differs.position, differs.what) == ("btc", "margin")
    assert int(differs.theirs) - int(differs.ours) == 5 * UNIT
    assert one.sound(), "it is told once"
    with unit_of_work(one.one.engine, writes=False) as connection:
        assert one.one.vault(connection).positions["btc"].pending is not None


def with_an_open_order(house: Callable[..., House]) -> House:
    """Its first order is late by some bars."""
    one = house("one", walk(8, 30, 0.03), tide(), FaultPlan(0, {Fault.late: 1_000_000}))
    for hour in range(30):
        one.desk.step(NAME, START + hour * HOUR)
        if waiting(one) is not None:
            return one
    raise AssertionError("no order was ever late")


def waiting(one: House) -> Pending | None:
    with unit_of_work(one.one.engine, writes=False) as connection:
        return one.one.vault(connection).positions["btc"].pending


def test_an_order_that_is_open_is_taken_back_once_the_vault_is_halted(house: Callable[..., House]) -> None:
    one = with_an_open_order(house)
    (name, (lots, filled)) = next(iter(one.given().items()))
    assert (waiting(one), filled) == (Pending(order=name, kind="resize", lots=lots), 0)
    halt(one.one.engine, NAME, "carol", "enough", START + HOUR)
    one.live()
    told = [report for entry in one.entries(Reported) for report in entry.reports]
    assert [(report.cause, report.order, report.is_last) for report in told] == [(Cause.ended, name, True)]
    assert one.given() == {name: (lots, 0)}
    assert waiting(one) is None
    assert one.sound()


def test_an_order_that_the_exchange_has_lost_stops_its_position_and_is_told_once(house: Callable[..., House]) -> None:
    one = with_an_open_order(house)
    with contextlib.closing(sqlite3.connect(one.folder / "exchanges" / f"{NAME}.db")) as books, books:
        books.execute("DELETE FROM placed")
    one.live()
    assert [found.what for entry in one.entries(Reported) for found in entry.differs] == ["order_lost"]
    stopped = waiting(one)
    assert stopped is not None
    assert stopped.is_halt
    (verdict,) = verify(one.one.engine)
    assert verdict.breaches == ()


def test_a_row_that_cannot_be_read_stops_its_position_and_no_other(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two positions is late with its first order; of one the fills are told without their lots."""
    text = MANDATE.format(name=NAME, leverage="2").replace("share: 90%", "share: 40%")
    second = text[text.index("  btc:") :].replace("btc:", "eth:").replace("BTC/", "ETH/")
    both = set_up(load_mandate((text + second).encode()))
    bars = walk(8, 20, 0.03).bars(0)
    symbols = ("BTC/USDT:USDT", "ETH/USDT:USDT")
    market = align({symbol: dataclasses.replace(bars, symbol=symbol) for symbol in symbols})
    one = house("one", market, both, FaultPlan(0, {Fault.late: 1_000_000}))
    serve = ExchangeCounter.serve

    def garbling(counter: ExchangeCounter, line: bytes) -> Any:
        served = serve(counter, line)
        if b'"verb":"fills"' not in line:
            return served
        told = json.loads(served)
        for row in told["ok"]:
            if row["instrument"] == "btc":
                del row["lots"]
        return json.dumps(told).encode() + b"\n"

    monkeypatch.setattr(ExchangeCounter, "serve", garbling)
    one.live()
    differs = [found for entry in one.entries(Reported) for found in entry.differs]
    assert [(found.position, found.what) for found in differs] == [("btc", "unreadable")]
    filled = {report.position for entry in one.entries(Reported) for report in entry.reports}
    assert filled == {"eth"}
    last = one.entries(Decided)[-1]
    assert (last.positions["btc"].quantity, last.positions["eth"].quantity != 0) == (0, True)
    (verdict,) = verify(one.one.engine)
    assert verdict.breaches == ()


# ------------------------------------------------------------------------------------------------ whoever is killed


class Dead(BaseException):
    """The process was killed."""


@pytest.mark.parametrize("plan", [NO_FAULTS, faulty(4)], ids=["calm", "faulty"])
def test_whoever_is_killed_at_any_request_is_followed_by_somebody_who_goes_on(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch, plan: FaultPlan
) -> None:
    market = walk(8, 9, 0.03)
    whole = house("whole", market, tide(), plan)
    whole.live()
    serve, sent = ExchangeCounter.serve, 0
    deadly, after = 0, False

    def killing(counter: ExchangeCounter, line: bytes) -> Any:
        nonlocal sent
        sent += 1
        if sent == deadly and not after:
            raise Dead
        try:
            return serve(counter, line)
        finally:
            if sent == deadly:
                raise Dead

    monkeypatch.setattr(ExchangeCounter, "serve", killing)
    one = house("counted", market, tide(), plan)
    one.live()
    total, kills = sent, 0
    for number, deadly in enumerate(range(1, total, max(1, total // 11))):
        sent, after = 0, number % 2 == 0
        one = house(f"{deadly}", market, tide(), plan)
        for _ in range(3):
            try:
                one.live()
                break
            except Dead:
                kills += 1
                one.move_in()
        given = one.given()
        assert {name: sum(lots) for name, lots in one.asked().items() if sum(lots)} == {
            name: filled for name, (_, filled) in given.items() if filled
        }
        if plan is NO_FAULTS:
            assert contents(one.one.engine) == contents(whole.one.engine)
        else:
            assert one.sound()
    assert kills >= 10


# ------------------------------------------------------------------------------------------------ people meanwhile


def left_on_the_way(one: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process died after the first order was sent."""
    serve = ExchangeCounter.serve

    def killing(counter: ExchangeCounter, line: bytes) -> Any:
        served = serve(counter, line)
        if b'"place"' in line:
            raise Dead
        return served

    with monkeypatch.context() as patched:
        patched.setattr(ExchangeCounter, "serve", killing)
        with pytest.raises(Dead):
            one.live()
    one.move_in()


def test_nobody_enters_or_leaves_while_orders_are_on_their_way(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house("one", walk(8, 14, 0.03), tide())
    left_on_the_way(one, monkeypatch)
    monkeypatch.setattr("ringfence.runtime.acts._PATIENCE", 0.2)
    with pytest.raises(OrdersOnTheirWay, match="try again in a moment"):
        deposit(one.one.engine, NAME, "bob", 1_000 * UNIT, START)
    one.live()
    deposit(one.one.engine, NAME, "bob", 1_000 * UNIT, START)
    assert one.sound()


def test_a_halt_counts_at_once_and_what_was_not_sent_is_not_sent_any_more(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house("one", walk(8, 14, 0.03), tide())
    left_on_the_way(one, monkeypatch)
    before = one.given()
    halt(one.one.engine, NAME, "carol", "enough", START + HOUR)
    one.live()
    assert one.given() == before
    (held,) = [entry for entry in one.entries(Decided) if entry.dealt and any(act.name for act in entry.dealt)]
    assert sum(act.done for act in held.dealt if act.lots) == sum(filled for _, filled in before.values())
    assert one.sound()


def test_a_halted_vault_is_still_called_for_margin_and_asks_its_exchange_for_it(
    house: Callable[..., House], inside: Setup
) -> None:
    plain, dealt = house("plain", falling(3), inside, None), house("dealt", falling(3), inside)
    for one in (plain, dealt):
        one.desk.step(NAME, START + 20 * HOUR)
        halt(one.one.engine, NAME, "carol", "enough", START + 24 * HOUR)
        one.live()
    assert bare(dealt.entries(Lived)) == plain.entries(Lived)
    kinds = {event.kind for entry in dealt.entries(Walked) for event in entry.events}
    assert kinds & {Kind.margin_call, Kind.liquidation}
    assert dealt.sound()


def test_who_pays_in_between_two_looks_is_not_overlooked(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, serve = house("one", walk(8, 14, 0.03), tide()), ExchangeCounter.operate
    coming = ["bob", "carol", "dave", "erin", "frank", "grace"]

    def paying(counter: ExchangeCounter, line: bytes) -> Any:
        if b'"trade"' in line and coming:
            deposit(one.one.engine, NAME, coming.pop(), 100 * UNIT, START)
        return serve(counter, line)

    monkeypatch.setattr(ExchangeCounter, "operate", paying)
    one.live()
    assert len(one.entries(DepositAsked)) == 7
    assert sum(len(entry.settlements) for entry in one.entries(Decided)) >= 5
    assert one.sound()


def test_two_do_not_deal_for_one_vault(house: Callable[..., House]) -> None:
    one = house("one", walk(8, 14, 0.03), tide())
    with PaperAccounts(one.folder / "exchanges").of(NAME), pytest.raises(ExchangeRunning):
        one.live()
    one.live()
    assert one.sound()


# ------------------------------------------------------------------------------------------------ wrong books


def test_books_that_begin_in_the_middle_of_a_life_are_refused_and_so_are_none(
    house: Callable[..., House], tmp_path: Path
) -> None:
    one, plain = house("one", walk(8, 14, 0.03), tide()), house("plain", walk(8, 14, 0.03), tide(), None)
    one.desk.step(NAME, START + 8 * HOUR)
    plain.desk.step(NAME, START + 8 * HOUR)
    plain.desk.accounts = PaperAccounts(tmp_path / "elsewhere")
    with pytest.raises(ExchangeBlank, match="has lived before these books"):
        plain.live()
    one.desk.accounts = None
    with pytest.raises(ExchangeNotNamed, match="RINGFENCE_EXCHANGE"):
        one.live()


def test_a_position_that_waits_for_what_cannot_be_read_is_stopped(house: Callable[..., House]) -> None:
    one = house("one", walk(8, 14, 0.03), tide())
    one.desk.step(NAME, START + 8 * HOUR)
    with unit_of_work(one.one.engine) as connection:
        connection.execute(update(position).values(pending="{"))
    one.live()
    assert not one.entries(Decided)[-1].is_struck


def test_no_answer_while_books_are_compared_stops_nothing_and_is_no_difference(house: Callable[..., House]) -> None:
    plan = FaultPlan(0, {}, tuple(Scripted(f"positions:{NAME}", Fault.unheard, attempt) for attempt in range(1, 12)))
    one = house("one", walk(8, 14, 0.03), tide(), plan)
    silent = one.live()
    assert silent == 0, "positions are read to compare, and no answer stops nothing"
    assert one.sound()
