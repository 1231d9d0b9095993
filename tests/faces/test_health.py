"""The pages are honest: well only where all was seen to be well, and what dies or hangs is named with the way out; and
whatever is sent to their server, it goes on."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ringfence.faces import observatory
from ringfence.faces.cli.supervision import LOADED, PROGRAM
from ringfence.faces.demo import example_mandates
from ringfence.faces.errors import InputRefused
from ringfence.faces.feeds import chosen
from ringfence.faces.gauges import gauges
from ringfence.faces.health import Expected, health
from ringfence.faces.observatory import Observatory, free_place, parse_listen
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.broker import BrokerTold
from ringfence.runtime.database import migrate, open_engine
from ringfence.runtime.duties import Trouble
from ringfence.runtime.errors import BrokerUnreachable, DatabaseMissing
from ringfence.runtime.installation import Installation, Part
from ringfence.runtime.monitor import EVERY, Answer, Monitor, State
from ringfence.runtime.observation import Seen, SeenSeries, SeenVault
from ringfence.runtime.signs import CHILD, FOLDER, Sign
from ringfence.runtime.tasks import clock
from ringfence.words.addresses import socket_address

PATIENCE = 150.0
"""Seconds for what takes a few on an idle machine."""


# ---------------------------------------------------------------------------------------------------- judged


def vault(name: str = "tide", due: float | None = None, **changed: Any) -> SeenVault:
    told: dict[str, Any] = {
        "currency": "USDT", "decimals": 6, "shares": 10**9, "waiting": 0, "entering": 0, "in_margin": 5,
        "nav": 10**9, "wall": 8 * 10**8, "high_water_mark": 1, "locked_since": None, "halted_since": None,
        "closing_since": None, "marked": 0, "journal_seq": 1,
        "is_open": True, "leverage": 2.0, "liquidation_distance": 0.25, "lag": 0,
    }  # fmt: skip
    return SeenVault(name=name, due=due, **(told | changed))


def seen(*vaults: SeenVault, late: float | None = 0.0, aside: tuple[Trouble, ...] = ()) -> Seen:
    return Seen(0, vaults or (vault(),), (SeenSeries("binance:X", 60_000, 1, 30_000, late, 1.0),), 0, aside)


def state(found: Seen | None = None, **changed: Any) -> State:
    signs = (Sign("feed", 7, 1.0, 5, False), Sign("worker", 8, 1.0, None, False))
    told: dict[str, Any] = {"database": Answer(found or seen()), "broker": Answer(BrokerTold(0, None)), "signs": signs}
    return State(**(told | changed))


def wrong(given: State, *parts: str) -> list[tuple[str, str]]:
    """What is not well, by part; each must say what to do."""
    checks = health(given, Expected(parts, 60.0))
    assert all(check.way_out for check in checks if not check.well)
    return [(check.part, check.found) for check in checks if not check.well]


def test_an_installation_that_was_seen_to_be_well_is_well() -> None:
    assert wrong(state(), "feed", "worker") == []
    assert wrong(state(seen(vault(due=59.0), late=59.0)), "feed") == []
    assert wrong(state(signs=None)) == []


@pytest.mark.parametrize(
    ("given", "part", "told"),
    [
        (lambda: state(database=Answer()), "database", "not heard of yet"),
        (lambda: state(database=Answer(failure=DatabaseMissing("x.db"))), "database", "no such database"),
        (lambda: state(database=Answer(seen(), at=time.monotonic() - 1_000)),
         "database", "has not answered for 1000 s"),
        (lambda: state(broker=Answer()), "broker", "not heard of yet"),
        (lambda: state(broker=Answer(failure=BrokerUnreachable("redis://h", "no"))), "broker", "cannot be reached"),
        (lambda: state(broker=Answer(BrokerTold(0, None), at=time.monotonic() - 500)),
         "broker", "has not answered for 500 s"),
        (lambda: state(seen(vault("ebb", 5.0), vault(due=61.0))), "queue", "2 vaults are due, tide for 61 s"),
        (lambda: state(seen(late=61.0)), "series binance:X", "over for 61 s and is not there"),
        (lambda: state(seen(aside=(Trouble("tide", 5, "boom", True),))),
         "vault tide", "left aside after 5 attempts: boom"),
        (lambda: state(seen(aside=(Trouble("tide", 5, None, True),))), "vault tide", "its worker died each time"),
        (lambda: state(signs=(Sign("worker", 8, 1.0, None, False),)), "feed", "has shown none"),
        (lambda: state(signs=None), "feed", "cannot be known"),
        (lambda: state(signs=(Sign("feed", 7, 61.0, 5, False),)), "feed", "process 7 has shown none for 61 s"),
        (lambda: state(signs=(Sign("feed", 7, 1.0, 5, False), Sign("feed", 9, 99.0, 5, False))), "feed", "process 9"),
    ],
)  # fmt: skip
def test_whatever_is_not_seen_to_be_well_is_named(given: Callable[[], State], part: str, told: str) -> None:
    ((found, words),) = wrong(given(), "feed")
    assert found == part
    assert told in words


def test_a_feed_that_has_delivered_everything_is_well() -> None:
    ended = state(seen(late=None), signs=(Sign("feed", 7, 9_999.0, 5, True),))
    assert wrong(ended, "feed") == []


def samples(given: State) -> dict[str, float]:
    checks = health(given, Expected(("feed",)))
    return {one.name: one.value for family in gauges(given, checks) for one in family.samples}


def test_what_is_not_known_has_no_sample() -> None:
    told = samples(state())
    assert told["ringfence_well"] == told["ringfence_database_answers"] == 1.0
    assert told["ringfence_vault_nav"] == 1_000.0
    assert told["ringfence_vault_over_wall"] == 200.0
    assert told["ringfence_vault_wall_distance_ratio"] == 0.2
    assert told["ringfence_vault_liquidation_distance_ratio"] == 0.25
    assert told["ringfence_feed_age_seconds"] == 30.0
    unknown = samples(state(seen(vault(wall=None, leverage=None, liquidation_distance=None, lag=None), late=None)))
    absent = {name for name in told if name not in unknown}
    assert absent == {
        "ringfence_vault_over_wall", "ringfence_vault_wall_distance_ratio", "ringfence_vault_leverage_ratio",
        "ringfence_vault_liquidation_distance_ratio", "ringfence_vault_lag_seconds", "ringfence_feed_late_seconds",
    }  # fmt: skip
    silent = samples(state(database=Answer(seen(), at=time.monotonic() - 1_000)))
    assert silent["ringfence_well"] == silent["ringfence_database_answers"] == 0.0
    assert not [name for name in silent if name.startswith(("ringfence_vault", "ringfence_feed", "ringfence_queue"))]


def test_a_database_that_hangs_makes_nobody_wait(sqlite_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = threading.Event()
    monkeypatch.setattr("ringfence.runtime.monitor.open_engine", lambda *_, **__: held.wait(PATIENCE))
    with Monitor(sqlite_database, "redis://127.0.0.1:1/0", None, clock) as monitor:
        begun = time.monotonic()
        checks = health(monitor.state(), Expected())
        assert time.monotonic() - begun < 2 * EVERY
        assert not checks[0].well
        held.set()


# ---------------------------------------------------------------------------------------------------- served


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Observatory]:
    monkeypatch.setattr(observatory, "PATIENCE", 1.0)
    monkeypatch.setattr(observatory._Handler, "timeout", 1.0)

    def broken() -> tuple[HTTPStatus, str, bytes]:
        raise RuntimeError("a secret")

    pages: dict[str, observatory.Page] = {
        "/health": lambda: (HTTPStatus.OK, "text/plain", b"well\n"),
        "/broken": broken,
    }
    with Observatory("127.0.0.1:0", pages) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def asked(server: Observatory, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.headers), body


def sent(server: Observatory, given: bytes) -> bytes:
    """What comes back for these bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(given)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(65_536), b""))
        return b""


def test_pages_are_given_to_get_and_head_and_nothing_else_is(server: Observatory) -> None:
    code, headers, body = asked(server, "GET", "/health?x=1")
    assert (code, body, headers["Content-Length"]) == (200, b"well\n", "5")
    assert "Server" not in headers
    assert asked(server, "HEAD", "/health")[::2] == (200, b"")
    code, _, body = asked(server, "GET", "/../../etc/passwd")
    assert (code, body) == (404, b"404 Not Found: there are /health and /broken\n")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
        code, headers, body = asked(server, method, "/health")
        assert (code, headers["Allow"]) == (405, "GET, HEAD")
        assert body == b"405 Method Not Allowed: GET and HEAD are answered\n"


def test_a_page_that_cannot_be_made_says_so_and_no_more(server: Observatory) -> None:
    code, _, body = asked(server, "GET", "/broken")
    assert code == 500
    assert b"secret" not in body


@pytest.mark.parametrize(
    "garbage",
    [
        b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"<script> /health HTTP/1.1\r\n\r\n", b"\xff\xfe\x00" * 999,
        b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"GET /health HTTP/1.1\r\nbroken\r\n\r\n",
        b"GET  HTTP/1.1 x y z\r\n\r\n",
    ],
)  # fmt: skip
def test_garbage_is_answered_or_dropped_never_echoed_and_the_server_goes_on(
    server: Observatory, garbage: bytes
) -> None:
    back = sent(server, garbage)
    assert b"script" not in back
    assert b"Python" not in back
    assert b"Traceback" not in back
    assert asked(server, "GET", "/health")[0] == 200


def test_the_slow_are_cut_off_and_too_many_at_once_are_sent_away(server: Observatory) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.server_port), timeout=20) for _ in range(observatory.LIMIT)]
    deadline = time.monotonic() + 20
    while len(server._open) < observatory.LIMIT and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sent(server, b"") == b""
    for one in slow:
        with contextlib.suppress(OSError):
            one.sendall(b"G")
    for one in slow:
        one.close()
    while server._open and time.monotonic() < deadline:
        time.sleep(0.02)
    assert asked(server, "GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("text", "place"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), (":0", ("127.0.0.1", 0)), ("80", ("127.0.0.1", 80)),
     ("[::1]:5", ("::1", 5)), ("host:1", ("host", 1))],
)  # fmt: skip
def test_a_place_is_a_host_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text) == place


@pytest.mark.parametrize("text", ["", "127.0.0.1", "host:", "host:70000", "host:-1", "host:٣", "a b:1"])
def test_no_place_is_refused(text: str) -> None:
    with pytest.raises(InputRefused, match="expected HOST:PORT"):
        parse_listen(text)


def test_a_place_that_is_taken_is_refused_unless_none_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        for attempt in (lambda: Observatory(place, {}), lambda: free_place(place)):
            with pytest.raises(InputRefused, match="name another port"):
                attempt()
        monkeypatch.setattr(observatory, "LISTEN", place)
        found = free_place(None)
    assert found != place
    assert parse_listen(found)[1] > 0


# ---------------------------------------------------------------------------------------------------- lived


class Living:
    """An installation of real processes, and its pages."""

    def __init__(self, folder: Path) -> None:
        database, self.socket = folder / "ringfence.db", folder / "broker"
        mandates = example_mandates()
        given = chosen("replay:2020-03", "3600x", [mandates], (), (), (), None)
        engine = open_engine(f"sqlite:///{database}", create=True)
        migrate(engine)
        for setup in given.setups[:2]:
            open_vault(engine, setup.mandate, given.start)
            deposit(engine, setup.mandate.name, "alice", 10**10, given.start, new=True)
        engine.dispose()
        signs = folder / "signs"
        signs.mkdir()
        listen = free_place("127.0.0.1:0")
        self.address = listen
        expected = [word for part in ("worker", CHILD, "schedule", "feed") for word in ("--expect", part)]
        parts = (
            Part("broker", ("broker", "--socket", str(self.socket))),
            Part("worker", ("worker", "--concurrency", "1"), self.socket),
            Part("schedule", ("schedule",), self.socket),
            Part("feed", ("feed", str(mandates), "--feed", "replay:2020-03", "--speed", "3600x")),
            Part("observe", ("observe", "--listen", listen, "--patience", "5", *expected)),
        )
        addresses = {"RINGFENCE_DATABASE": f"sqlite:///{database}", "RINGFENCE_BROKER": socket_address(self.socket)}
        self.installation = Installation(folder / "logs", addresses | {FOLDER: str(signs)}, PROGRAM, LOADED)
        self.installation.parts = parts
        self.signs = signs

    def pid(self, part: str) -> int:
        if part == CHILD:
            (sign,) = self.signs.glob(f"{CHILD}-*.sign")
            return int(sign.stem.partition("-")[2])
        (found,) = (one for one in self.installation.parts if one.name == part)
        assert found.process is not None
        if part == "broker":  # the server that it runs
            told = subprocess.run(["pgrep", "-P", str(found.process.pid)], capture_output=True, text=True, check=True)
            return int(told.stdout.split()[0])
        return found.process.pid

    def health(self) -> tuple[int, dict[str, str]]:
        """The status, and what is wrong by part."""
        try:
            connection = http.client.HTTPConnection(self.address, timeout=5)
            connection.request("GET", "/health")
            answer = connection.getresponse()
            document = json.loads(answer.read())
        except OSError as failure:
            return 0, {"observe": str(failure)}
        assert document["well"] == (answer.status == 200)
        assert all(check["way_out"] for check in document["checks"] if not check["well"])
        return answer.status, {check["part"]: check["found"] for check in document["checks"] if not check["well"]}

    def wait_for(self, what: str, condition: Callable[[int, dict[str, str]], bool]) -> None:
        deadline, told = time.monotonic() + PATIENCE, (0, dict[str, str]())
        while not condition(*told):
            if time.monotonic() > deadline:
                logs = "".join(f"== {log}\n{log.read_text()[-1_000:]}" for log in self.installation._logs.iterdir())
                pytest.fail(f"not {what}: {told}\n{logs}")
            self.installation.tend()
            time.sleep(0.2)
            told = self.health()


@pytest.fixture(scope="module")
def living() -> Iterator[Living]:
    folder = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
    one = Living(folder)
    try:
        yield one
    finally:
        one.installation.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_it_becomes_well_and_its_metrics_say_what_was_done(living: Living) -> None:
    living.wait_for("well", lambda code, _: code == 200)
    deadline = time.monotonic() + PATIENCE
    told: dict[str, float] = {}
    while told.get("ringfence_steps_total", 0.0) < 1 and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(living.address, timeout=5)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        told = {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples}
        time.sleep(0.2)
    assert told["ringfence_steps_total"] >= 1
    assert told["ringfence_rings_total"] >= 1
    assert told["ringfence_bars_recorded_total"] >= 1
    assert told["ringfence_step_seconds_count"] >= 1
    assert told["ringfence_vaults"] == 2
    assert 0 < told["ringfence_vault_wall_distance_ratio"] < 1
    assert "ringfence_feed_age_seconds" in told


@pytest.mark.parametrize("part", ["schedule", "worker", CHILD, "feed", "broker"])
def test_a_part_that_hangs_is_named_until_it_goes_on(living: Living, part: str) -> None:
    living.wait_for("well", lambda code, _: code == 200)
    pid = living.pid(part)
    os.kill(pid, signal.SIGSTOP)
    try:
        living.wait_for(f"told of {part}", lambda code, wrong: code == 503 and part in wrong)
    finally:
        with contextlib.suppress(ProcessLookupError):  # a broker that hangs is ended by its own part
            os.kill(pid, signal.SIGCONT)
    living.wait_for(f"{part} again", lambda _, wrong: wrong.keys().isdisjoint({part, "observe"}))


def test_logs_of_every_part_are_lines_of_their_fields(living: Living) -> None:
    lines = (living.installation._logs / "worker.log").read_text().splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("time=")] == []
    assert all(" part=worker " in line for line in lines)
    assert any(" command=" in line for line in lines)


def test_a_broker_that_is_killed_is_named_and_its_return_is_seen(living: Living) -> None:
    living.wait_for("well", lambda code, _: code == 200)
    os.kill(living.pid("broker"), signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while "broker" not in living.health()[1] and time.monotonic() < deadline:
        time.sleep(0.1)  # nobody starts it again meanwhile
    code, wrong = living.health()
    assert code == 503
    assert "cannot be reached" in wrong["broker"]
    living.wait_for("broker again", lambda _, wrong: wrong.keys().isdisjoint({"broker", "observe"}))


def test_a_database_that_is_missing_is_said_and_the_pages_stay(tmp_path: Path) -> None:
    environment = os.environ | {"RINGFENCE_DATABASE": f"sqlite:///{tmp_path / 'none.db'}"}
    environment |= {"RINGFENCE_BROKER": "redis://:hunter2@127.0.0.1:1/0"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ringfence", "observe", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    page = process.stdout.readline().split()[0]
    address, _, path = page.removeprefix("http://").partition("/")
    deadline, text = time.monotonic() + PATIENCE, ""
    while "no such database" not in text and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(address, timeout=5)
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 503
        time.sleep(0.1)
    assert "no such database" in text
    assert "hunter2" not in text
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in said
    assert not (tmp_path / "none.db").exists()
