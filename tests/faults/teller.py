"""Three processes with a plan each, killed at random moments until all plans are done: teller.py DATABASE SEED SECONDS.

Whoever is killed is started again and goes through its plan from the beginning: what was done is recognised by its key.
For so many SECONDS one of them is killed every few milliseconds; prints how often.
"""

import os
import random
import signal
import sys
import time

from ringfence.runtime.acts import cancel, deposit, redeem
from ringfence.runtime.database import open_engine
from ringfence.runtime.desk import Desk
from ringfence.runtime.warmth import warm
from tests.faults.fleet import NAMES
from tests.reference.tide import HOUR, START, UNIT

TELLERS = NAMES[:3]
ACTS = 5
"""Besides the slot, in each hour."""
HOURS = range(2, 20)


def go_through(url: str, name: str) -> None:
    """The plan of one vault, the same each time."""
    engine = open_engine(url, create=False)
    desk = Desk(engine)
    for hour in HOURS:
        now = START + hour * HOUR
        deposit(engine, name, "alice", hour * UNIT + 1, now, f"a-{hour}")
        redeem(engine, name, "alice", 10**9 + hour, now, f"b-{hour}")
        order = deposit(engine, name, "bob", hour * UNIT, now, f"c-{hour}").entry
        cancel(engine, name, "bob", None, now, f"d-{hour}")
        deposit(engine, name, "bob", order.amount, now, f"e-{hour}")
        desk.step(name, now)
    engine.dispose()


def begin(url: str, name: str) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            go_through(url, name)
            status = 0
        finally:
            os._exit(status)
    return child


def killed(url: str, chance: random.Random, seconds: float) -> int:
    """Runs the plans to their end; returns how often one of them was killed."""
    running, kills = {begin(url, name): name for name in TELLERS}, 0
    deadline = time.monotonic() + seconds
    while running:
        time.sleep(chance.uniform(0.01, 0.12))
        if time.monotonic() < deadline:
            os.kill(chance.choice(list(running)), signal.SIGKILL)
        ended, status = os.waitpid(-1, os.WNOHANG)
        if not ended:
            continue
        name = running.pop(ended)
        if os.WIFSIGNALED(status):
            kills += 1
            running[begin(url, name)] = name
        elif status:
            sys.exit(f"{name}: exit status {status}")
    return kills


if __name__ == "__main__":
    warm()  # here, so that the children have it from their birth
    print(killed(sys.argv[1], random.Random(sys.argv[2]), float(sys.argv[3])))
