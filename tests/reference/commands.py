"""Commands of the program, each in a process of its own with its own folder and environment, forked of one that has
everything loaded: what a new interpreter would do, without the three seconds that loading takes.

Tests of the start itself (streams that are closed, what is imported, signals while it starts) use the script.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ringfence.faces.cli import _COMMANDS
from ringfence.faces.cli.supervision import LOADED
from ringfence.runtime.nursery import Born, Nursery

__all__ = ["SCRIPT", "begin", "main", "plain_environment", "run"]

SCRIPT = Path(sys.executable).with_name("ringfence")
"""The program as it is installed."""
_PATIENCE = 600.0
"""Seconds for what takes a few; on its first day a machine compiles the kernel."""
_TURN = threading.Lock()
_ROOT = Path(__file__).resolve().parents[2]


@cache
def _nursery() -> Nursery:
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**plain_environment(), "PYTHONPATH": os.pathsep.join(paths)}
    loaded = [f"ringfence.faces.cli.{name}" for name in _COMMANDS]
    made = Nursery("tests.reference.commands", [*loaded, *LOADED], environment)
    while not made.is_ready:
        assert not made.has_ended(), "it cannot load"
        time.sleep(0.01)
    return made


def plain_environment(**changed: str) -> dict[str, str]:
    """This process's environment without what would set the program up, and what a test puts into it."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
    return {**plain, "PATH": f"{SCRIPT.parent}{os.pathsep}{plain.get('PATH', '')}", **changed}


def begin(
    words: Sequence[str],
    out: IO[bytes],
    err: IO[bytes],
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    program: str = "ringfence.faces.cli",
) -> Born:
    """A process that runs the `main` of a module with these words, and waits for nobody."""
    surroundings = plain_environment() if environment is None else dict(environment)
    asked = {"program": program, "words": [*words], "cwd": str(cwd or Path.cwd()), "environment": surroundings}
    with open(os.devnull, "rb") as nothing, _TURN:
        return _nursery().bear([json.dumps(asked)], (nothing.fileno(), out.fileno(), err.fileno()))


def run(
    *words: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command ended with and wrote, as `subprocess.run` tells it; from any thread."""
    given = list(map(str, words))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        born, deadline = begin(given, out, err, cwd, environment), time.monotonic() + _PATIENCE
        while (code := _ended(born)) is None:
            if time.monotonic() > deadline:
                os.killpg(born.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(given, _PATIENCE)
            time.sleep(0.01)
        texts = (stream.seek(0) or stream.read().decode() for stream in (out, err))
        return subprocess.CompletedProcess(given, code, *texts)


def _ended(born: Born) -> int | None:
    with _TURN:
        return born.poll()


def main() -> None:
    """In the new process: the program, as it was asked for."""
    asked = json.loads(sys.argv[1])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = [str(SCRIPT), *asked["words"]]
    program: Any = import_module(asked["program"])
    program.main()
