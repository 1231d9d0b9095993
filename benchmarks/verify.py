"""How much memory a verification takes, and how long: a vault of many slots against one of four times as many.

    python benchmarks/verify.py [--slots N] [--json]

The rows are those that the programme itself writes: a journal row a slot, and the transfers of its resizes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SLOTS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = []
    for count in (asked.slots, 4 * asked.slots):
        with tempfile.TemporaryDirectory() as folder:
            lived = Path(folder) / "lived.db"
            for act in ("live", "verify"):  # each in a process of its own, so that its peak is its own
                command = [sys.executable, __file__, act, str(lived), str(count)]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(done.stdout))
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'rows':>10} {'seconds':>8} {'rows/s':>8} {'peak RSS, MB':>13}")
    for case in found:
        print(f"{case['rows']:>10,} {case['seconds']:>8.1f} {case['rows'] / case['seconds']:>8.0f} {case['mb']:>13.0f}")


def live(file: Path, slots: int) -> None:
    from ringfence.runtime.acts import deposit
    from tests.reference.tide import START, UNIT, launch, walk

    launched = launch(f"sqlite:///{file}", walk(bars=slots, deviation=0.003))
    deposit(launched.engine, "tide", "alice", 1_000_000 * UNIT, START, "once")
    launched.step(slots)
    launched.engine.dispose()


def verified(file: Path) -> None:
    from sqlalchemy import func, select

    from ringfence.runtime.database import open_engine, unit_of_work
    from ringfence.runtime.verification import verify
    from ringfence.vaults.tables import metadata

    engine = open_engine(f"sqlite:///{file}", create=False)
    with unit_of_work(engine, writes=False) as connection:
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.tables.values()
        ]
    started = time.perf_counter()
    (verdict,) = verify(engine)
    seconds, rows = time.perf_counter() - started, sum(counts)
    assert verdict.breaches == ()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "mb": peak}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    match sys.argv[1:]:
        case ["live", file, slots]:
            live(Path(file), int(slots))
        case ["verify", file, _]:
            verified(Path(file))
        case _:
            main()
