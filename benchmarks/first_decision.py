"""From the command to the first decision: `ringfence up` on a new SQLite database with everything of its own, until a
vault has decided a slot, beside what it costs to start one process that loads the same modules.

At most 8 seconds are asked for on two processors. The kernel is compiled beforehand; each round has a database of its
own, and the installation is stopped after it.
"""

import argparse
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

MANDATES = Path(__file__).resolve().parent.parent / "tests" / "reference" / "mandates"
PATIENCE = 120.0
"""Seconds."""


def decided(database: Path) -> int:
    """How many slots are decided in it by now."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM journal WHERE kind = 'decided'").fetchone()[0])
    return 0


def started() -> float:
    """Seconds of starting one process of the installation's and ending it."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import ringfence.runtime.tasks"], check=True)
    return time.perf_counter() - begin


def first_decision() -> float:
    """Seconds from the command until it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [
            sys.executable,
            "-m",
            "ringfence",
            "up",
            str(MANDATES),
            "--speed",
            "max",
            "--logs",
            str(folder / "logs"),
        ]
        environment = {key: text for key, text in os.environ.items() if not key.startswith("RINGFENCE_")}
        environment["RINGFENCE_DATABASE"] = f"sqlite:///{folder / 'up.db'}"
        begin = time.perf_counter()
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as up:
            try:
                while not decided(folder / "up.db"):
                    if up.poll() is not None or time.perf_counter() - begin > PATIENCE:
                        raise SystemExit(f"no decision; `ringfence up` ended with {up.poll()}")
                    time.sleep(0.02)
                return time.perf_counter() - begin
            finally:
                up.send_signal(signal.SIGINT)
                up.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    first_decision()
    alone = statistics.median(started() for _ in range(asked.rounds))
    taken = [first_decision() for _ in range(asked.rounds)]
    found = {"seconds": round(statistics.median(taken), 2), "slowest": round(max(taken), 2),
             "one_process": round(alone, 2), "ratio": round(statistics.median(taken) / alone, 2)}  # fmt: skip
    if asked.json:
        print(json.dumps(found))
        return
    print(f"first decision after {found['seconds']} s, at most {found['slowest']} s of {asked.rounds} rounds; "
          f"one process of its starts in {found['one_process']} s: ratio {found['ratio']}")  # fmt: skip


if __name__ == "__main__":
    main()
