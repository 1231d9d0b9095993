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
from ringfence.risk.book import Rows
from ringfence.vaults.tables import quality

__all__ = ["held_back", "load_levels", "store_levels"]


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


def held_back(proposals: Rows, slots: Slots, number: int) -> Rows:
    """(1, P) of PROPOSAL: the proposals for slot `number` without those of the positions whose last bar in it was no
    price to grow on; what is held stays, and may be cut, and a proposal to hold nothing stands."""
    first, last = slots.span(number)
    for p, levels in enumerate(slots.levels):
        real = np.flatnonzero(slots.market.valid[first:last, p])
        if levels and len(real):
            level = levels.get(int(slots.market.ts[first + real[-1]]))
            if level is not None and not permitted(Quality(level), Action.increase):
                proposals[0, p].proposed &= proposals[0, p].leverage == 0.0
    return proposals
