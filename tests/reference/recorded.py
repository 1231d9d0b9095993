"""Digests of runs, recorded once a kernel: what a change of the house must leave as it is.

A digest is taken over named columns in a fixed order, so that neither the layout of a row nor the name of an account
is part of it. `digests.json` beside this file is kernel 2's; what stands in it "as printed" is the digest that the
commands print. `python -m tests.reference.recorded` writes it anew, which only a new kernel or another example mandate
is a reason for.
"""

import hashlib
import json
from dataclasses import astuple
from pathlib import Path

import numpy as np

from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import VaultRun, digest
from tests.reference.histories import DEPOSITS, HISTORIES, MANDATES, mandate

__all__ = ["digests", "of_run"]

FILE = Path(__file__).with_name("digests.json")
_RUN = ("ts", "nav", "wall", "shares", "high_water_mark", "locked", "struck")
_STATE = (
    "price",
    "quantity",
    "proposed",
    "allowed",
    "leverage",
    "effective_leverage",
    "bound",
    "volatility",
    "liquidation_distance",
)


def digests() -> dict[str, str]:
    """The table, by the case's name."""
    found: dict[str, str] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def of_run(run: VaultRun) -> str:
    """SHA-256 over everything that a run says, the mandate's fingerprint left out."""
    content = hashlib.sha256()
    for name in _RUN:
        content.update(np.ascontiguousarray(getattr(run, name), np.int64).tobytes())
    for position in run.positions:
        content.update(f"{position.name} {position.symbol}\n".encode())
        for name in _STATE:
            column = getattr(position, name)
            content.update(np.ma.getmaskarray(column).tobytes())
            content.update(np.ascontiguousarray(np.ma.filled(column, 0)).tobytes())
    content.update(np.ma.filled(np.ma.masked_invalid(run.low), 0.0).tobytes())
    balances = sorted(run.balances.items())
    events = [list(astuple(event)) for event in run.events]
    lows = [repr(run.price_low), repr(run.distance_low)]
    content.update(json.dumps([run.vault, events, balances, lows], separators=(",", ":")).encode())
    return content.hexdigest()


def _record(project: Path) -> dict[str, str]:
    found = {}
    for history, market in HISTORIES.items():
        for name in MANDATES:
            setup = mandate(project, name)
            run = backtest(setup, market(project.parent / "shared" / "data", setup.symbols), DEPOSITS)
            found[f"{history}, {name}"], found[f"{history}, {name}, as printed"] = of_run(run), digest([run])
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(_record(Path(__file__).resolve().parents[2]), indent=1) + "\n", encoding="utf-8")
