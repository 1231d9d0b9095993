"""How good the recorded bars were as prices when they came, and what a step may not do on them.

Only what is worse than a price to grow on is recorded, together with its bar; nothing is changed afterwards. So a
decision that was held back by it is decided the same again.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import Connection, insert, select

from ringfence.markets.feeds.quality import Action, Quality, permitted
from ringfence.markets.instruments import instrument_key
from ringfence.markets.slots import Slots
from ringfence.risk.book import Ints, Rows
from ringfence.vaults.tables import quality

__all__ = ["Doubts", "doubts", "load_levels", "shrinking", "store_levels", "without"]


def store_levels(connection: Connection, symbol: str, levels: Mapping[int, Quality]) -> None:
    """Append the levels (by open, UTC ms) of the symbol's bars; what is recorded of a bar stays, so that one that comes
    again corrected is no better than it was."""
    if not levels:
        return
    key = instrument_key(symbol)
    span = (quality.c.ts >= min(levels), quality.c.ts <= max(levels))
    there = set(connection.execute(select(quality.c.ts).where(quality.c.instrument == key, *span)).scalars())
    rows = [{"instrument": key, "ts": ts, "level": int(level)} for ts, level in levels.items() if ts not in there]
    if rows:
        connection.execute(insert(quality), rows)


def load_levels(
    connection: Connection, symbols: Sequence[str], start: int, stop: int
) -> tuple[Mapping[int, Quality], ...]:
    """Of each symbol, the levels of its bars that open from `start` on and before `stop`, by open, UTC ms; of one that
    is absent nothing speaks against growing."""
    found: dict[str, dict[int, Quality]] = {instrument_key(symbol): {} for symbol in symbols}
    told = select(quality).where(quality.c.instrument.in_(found), quality.c.ts >= start, quality.c.ts < stop)
    for instrument, ts, level in connection.execute(told):
        found[instrument][ts] = Quality(level)
    return tuple(found[instrument_key(symbol)] for symbol in symbols)


Doubts = Mapping[int, Mapping[int, Quality]]
"""By number of a bar, the positions whose price there is good for nothing, and how good it is."""


def doubts(levels: Sequence[Mapping[int, int]], ts: Ints) -> Doubts:
    """Of the bars that open at `ts`, UTC ms."""
    found: dict[int, dict[int, Quality]] = {}
    for p, own in enumerate(levels):
        for at, level in own.items():
            bar = int(np.searchsorted(ts, at))
            if bar < len(ts) and ts[bar] == at and not permitted(Quality(level), Action.reduce):
                found.setdefault(bar, {})[p] = Quality(level)
    return found


def without(bars: Rows, doubted: Doubts) -> Rows:
    """The bars (T, P) of BAR, those excepted whose prices are good for nothing: they are as if nothing had traded."""
    if not doubted:
        return bars
    left = bars.copy()
    for bar, found in doubted.items():
        left.valid[bar, list(found)] = False
    return left


def shrinking(slots: Slots, number: int) -> tuple[int, ...]:
    """The positions that may only become smaller at the close of slot `number`: those whose last price is none to grow
    on, and all of them where the last price of one is good for nothing, since what the vault is worth counts it."""
    first, last = slots.span(number)
    found, everybody = [], False
    for p, levels in enumerate(slots.levels):
        real = np.flatnonzero(slots.market.valid[first:last, p])
        level = levels.get(int(slots.market.ts[first + real[-1]])) if levels and len(real) else None
        if level is not None and not permitted(Quality(level), Action.increase):
            found.append(p)
            everybody = everybody or not permitted(Quality(level), Action.reduce)
    return tuple(range(len(slots.levels))) if everybody else tuple(found)
