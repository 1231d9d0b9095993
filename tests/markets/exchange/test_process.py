"""The paper exchange as a process: it is killed, started twice, frozen and asked by strangers; its books stay right."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ringfence.markets.errors import ExchangeRefused, NoAnswer
from ringfence.markets.exchange.client import Client, Operator, over_socket
from ringfence.markets.exchange.life import Life, Phase, Read, answered, read, sending
from ringfence.markets.exchange.protocol import (
    Accepted,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
    Unknown,
    client_id,
)
from ringfence.runtime.paper_exchange import operator_socket
from tests.conftest import _short_folder
from tests.markets.exchange.house import CONTRACT, FREE, HOUR, START, USDT, flat


@dataclass
class Running:
    """One exchange process and its folder."""

    folder: Path
    plan: dict[str, object] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        words = [sys.executable, "-m", "ringfence", "paper-exchange"]
        (self.folder / "plan").write_text(json.dumps(self.plan))
        places = {"--books": "books", "--socket": "socket", "--faults": "plan"}
        return [*words, *(part for option, name in places.items() for part in (option, str(self.folder / name)))]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.client(0.5).time()
                return
            except NoAnswer:
                time.sleep(0.02)
        pytest.fail("the exchange did not start")

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.process = None
        return code

    def client(self, seconds: float = 10.0) -> Client:
        return Client("paper", over_socket(self.folder / "socket", seconds))

    @property
    def operator(self) -> Operator:
        return Operator("paper", over_socket(operator_socket(self.folder / "socket"), 10.0))

    def open(self) -> None:
        """An account, a market, and a first price."""
        self.operator.list_contract("A", CONTRACT)
        self.operator.pay("btc", 10_000 * USDT)
        self.operator.charge("btc", "A", FREE)
        self.operator.trade(START, HOUR, {"A": flat(20_000.0)})


@pytest.fixture
def running() -> Iterator[Running]:
    one = Running(_short_folder())
    yield one
    if one.process is not None:
        one.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """An exchange for all who leave it as it was, but for their orders."""
    script = [{"subject": order(1).client_id, "fault": "restart"}, {"subject": order(2).client_id, "fault": "silent"}]
    one = Running(_short_folder(), {"script": script})
    one.start()
    one.open()
    yield one
    if one.process is not None:
        one.end(signal.SIGKILL)


def order(number: int) -> OrderRequest:
    return OrderRequest(
        client_id("btc", START, "A", "grow", number), "btc", "A", 1, reduce_only=False, margin=10 * USDT
    )


def test_books_survive_kill_9_in_the_middle_of_orders_and_each_is_there_once_or_not_at_all(running: Running) -> None:
    running.start()
    running.open()
    lives: list[Life] = []

    def give() -> Life:
        life = sending(Life(order(len(lives))))
        lives.append(answered(life, running.client(20.0).place(life.request)))
        return lives[-1]

    for killed_after in (0.02, 0.05):
        assert running.process is not None
        assert give().phase is Phase.final  # the first of a process takes its time
        threading.Timer(killed_after, running.process.kill).start()
        while give().phase is Phase.final:
            pass
        running.end(signal.SIGKILL)
        running.start()
    assert {life.phase for life in lives} == {Phase.final, Phase.unknown}
    found = [proved(running.client(), life) for life in lives]
    orders = running.operator.orders("btc")
    assert {row.client_id for row in orders} == {life.request.client_id for life in found if life.phase is Phase.final}
    held = running.client().positions("btc")[0]
    assert isinstance(held, Position)
    assert held.quantity == sum(life.filled for life in found) > 0
    assert running.end(signal.SIGTERM) == 0
    assert not (running.folder / "socket").exists()


def proved(client: Client, life: Life) -> Life:
    """Until the order is found or proved absent, by the quantity that our books would hold then."""
    while life.phase is Phase.unknown:
        found = client.order("btc", life.request.client_id)
        held = client.positions("btc")[0]
        assert isinstance(held, Position)
        life = read(life, Read(found, held.quantity), held.quantity)
    return life


def test_what_was_sent_to_a_frozen_exchange_happens_before_any_later_read_is_answered(shared: Running) -> None:
    assert shared.process is not None
    shared.process.send_signal(signal.SIGSTOP)
    life = answered(sending(Life(order(0))), shared.client(0.3).place(order(0)))
    assert life.phase is Phase.unknown
    shared.process.send_signal(signal.SIGCONT)
    found = shared.client().order("btc", life.request.client_id)
    assert isinstance(found, OrderState)
    assert found.filled == 1


def test_a_restart_breaks_every_connection_and_keeps_the_books(shared: Running) -> None:
    assert isinstance(shared.client().place(order(1)), Unknown)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            assert isinstance(shared.client(1.0).order("btc", order(1).client_id), OrderState)
            break
        except NoAnswer:
            time.sleep(0.02)
    assert isinstance(shared.client(0.3).place(order(2)), Unknown)
    assert isinstance(shared.client().place(order(3)), Accepted)
    assert [row["fault"] for row in shared.operator.injected()] == ["restart", "silent"]
    assert shared.client().place(order(1)) == Unknown("an order of that name is known")


def test_half_a_request_is_none_and_keeps_nobody_waiting_for_long(shared: Running) -> None:
    with socket.socket(socket.AF_UNIX) as half:
        half.connect(str(shared.folder / "socket"))
        half.sendall(b'{"verb": "place", "body": {"client_id"')
    assert isinstance(shared.client().order("btc", "anything"), NotFound)
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(shared.folder / "socket"))
        assert shared.client(20.0).time() == START + HOUR


def test_sockets_and_books_are_their_owners_alone_and_two_exchanges_never_share_books(shared: Running) -> None:
    for name in ("socket", "socket.operator", "books"):
        assert (shared.folder / name).stat().st_mode & 0o077 == 0
    second = subprocess.run(shared.command, capture_output=True, text=True, timeout=60)
    assert second.returncode != 0
    assert "another paper exchange serves these books" in second.stderr
    assert shared.client().time() == START + HOUR  # the first goes on


def test_a_plan_that_cannot_be_read_starts_nothing(running: Running) -> None:
    running.plan = {"rates": {"lates": 5}}
    done = subprocess.run(running.command, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "did you mean" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (running.folder / "socket").exists()


def test_an_account_cannot_do_what_is_the_operators(shared: Running) -> None:
    stranger = Operator("paper", over_socket(shared.folder / "socket", 10.0))
    with pytest.raises(ExchangeRefused, match="no verb"):
        stranger.pay("btc", 1)
    with pytest.raises(ExchangeRefused, match="no account"):
        shared.client().order("eth", "anything")
