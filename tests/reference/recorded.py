"""Digests of runs and of rough worlds, recorded once: what a change of the house must leave as it is.

A digest is taken over named columns in a fixed order, so that neither the layout of a row nor the name of an account is
part of it. `digests.json` beside this file was recorded at commit e29458b, before the house was re-laid; what stands in
it "as printed" is the digest that the commands print.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from ringfence.markets.simulator import POSITION_STATE, VAULT_STATE, simulate
from ringfence.risk.tape import rewind
from ringfence.runtime.runs import VaultRun
from tests.reference.worlds import Rough, world

__all__ = ["WORLDS", "digests", "of_run", "of_world"]

WORLDS = 300
_VAULT = ("reserve", "cushion", "entering", "shares", "waiting", "high_water_mark", "venue", "funding", "shortfall",
          "world", "costs", "wall", "locked_since", "rebase_at", "nav_low", "price_low", "distance_low")  # fmt: skip
_POSITION = ("quantity", "cost", "margin", "refused", "liquidation_watch", "call_watch")
_TRANSFER = ("bar", "vault", "edge", "position", "amount")
_EVENT = ("ts", "vault", "position", "kind", "reason", "quantity_before", "quantity_after", "amount", "fee",
          "shortfall", "price", "mark", "leverage_before", "leverage_after", "liquidation_price")  # fmt: skip
_RUN = ("ts", "nav", "wall", "shares", "high_water_mark")
_STATE = ("price", "quantity", "proposed", "allowed", "leverage", "bound", "volatility", "liquidation_distance")


def digests() -> dict[str, str]:
    """The table, by the case's name; a world's digest is under its number."""
    found: dict[str, str] = json.loads(Path(__file__).with_name("digests.json").read_text(encoding="utf-8"))
    return found


def _columns(content: Any, table: Any, names: Iterable[str]) -> None:
    for name in names:
        content.update(np.ascontiguousarray(table[name]).tobytes())


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
    # the account of the venue's costs was called fees when the digests were recorded
    balances = sorted(("fees" if name == "costs" else name, amount) for name, amount in run.balances.items())
    events = [list(astuple(event)) for event in run.events]
    lows = [repr(run.price_low), repr(run.distance_low)]
    content.update(json.dumps([run.vault, events, balances, lows], separators=(",", ":")).encode())
    return content.hexdigest()


def of_world(seed: int) -> str:
    """SHA-256 over tape, book and series after 200 bars of a rough world, in pieces whenever the tape is full."""
    rng = np.random.default_rng(seed)
    vaults, each = 1 + seed % 3, 1 + seed % 5
    one = world(rng, vaults=vaults, each=each, symbols=1 + seed % 4, bars=200, every=1 + seed % 4,
                rough=Rough(often=0.02 + 0.01 * (seed % 4)))  # fmt: skip
    book, content = one.book, hashlib.sha256()
    record, bar = one.record(2_000, 700), 0
    tape, series = record
    while bar < len(one.bars):
        bar = simulate(book, one.terms, one.walk, record, (bar, len(one.bars)))
        _columns(content, tape.transfers[: tape.used[0]], _TRANSFER)
        _columns(content, tape.events[: tape.used[1]], _EVENT)
        rewind(tape)
    _columns(content, book.vaults, _VAULT)
    _columns(content, book.positions, _POSITION)
    _columns(content, series.vaults, VAULT_STATE.names or ())
    _columns(content, series.positions, POSITION_STATE.names or ())
    return content.hexdigest()
