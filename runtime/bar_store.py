"""Recorded market data in the database: what was fed to the vaults, append-only, so that anyone can replay it."""

import numpy as np
from sqlalchemy import Connection, case, func, insert, select, text

from ringfence.markets.bars import Bars
from ringfence.markets.market import Funding, Market, align
from ringfence.risk.book import Ints
from ringfence.runtime.errors import RecordingDiffers
from ringfence.vaults.tables import bar, feed, journal, position, vault
from ringfence.words.times import utc

__all__ = ["last_recorded", "load_market", "record_market"]

_PRICES = ("open", "high", "low", "close", "volume")
_MARKS = ("mark_open", "mark_high", "mark_low", "mark_close")
_FIGURES = (*_PRICES, *_MARKS, "funding_rate")
_BATCH = 5_000
_CLAIM = text("INSERT INTO feed (symbol, timeframe) VALUES (:symbol, :timeframe) ON CONFLICT DO NOTHING")


def _rows(market: Market, column: int) -> list[dict[str, object]]:
    """One symbol's real bars as rows of the table."""
    real = np.flatnonzero(market.valid[:, column])
    names = _PRICES + (_MARKS if market.marked[column] else ())
    # SQLite forgets the sign of -0.0 and PostgreSQL keeps it; adding 0.0 drops it for both.
    columns = {name: (getattr(market, name)[real, column] + 0.0).tolist() for name in names}
    blank = dict.fromkeys(_FIGURES)
    funded = market.funding_valid[real, column].tolist()
    rates = (market.funding_rate[real, column] + 0.0).tolist()
    symbol = market.symbols[column]
    return [
        {**blank, **dict(zip(names, figures, strict=True)), "symbol": symbol, "ts": ts,
         "funding_rate": rates[row] if funded[row] else None}
        for row, (ts, *figures) in enumerate(zip(market.ts[real].tolist(), *columns.values(), strict=True))
    ]  # fmt: skip


def record_market(connection: Connection, market: Market) -> int:
    """Append the bars that are not recorded yet and return their number.

    Bars already recorded must be the same to the last bit, and new ones must be later than every recorded one of their
    symbol and no earlier than the close of what a vault that trades it has lived through: RecordingDiffers otherwise.
    """
    lived = _lived_through(connection, market.symbols)
    written = 0
    for column, symbol in enumerate(market.symbols):
        connection.execute(_CLAIM, {"symbol": symbol, "timeframe": market.timeframe})
        # The lock of the symbol's row makes two recorders take turns.
        known = select(feed.c.timeframe).where(feed.c.symbol == symbol).with_for_update()
        timeframe = connection.execute(known).scalar_one()
        if timeframe != market.timeframe:
            raise RecordingDiffers(symbol, f"bars of {timeframe} ms are recorded, these are of {market.timeframe} ms")
        fresh = _unrecorded(connection, symbol, _rows(market, column))
        name, close = lived.get(symbol, ("", -1))
        for row in fresh[:1]:
            if (ts := _ts(row)) < close:
                raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is new, but {name} has lived up to {utc(close)}")
        for start in range(0, len(fresh), _BATCH):
            connection.execute(insert(bar), fresh[start : start + _BATCH])
        written += len(fresh)
    return written


def _lived_through(connection: Connection, symbols: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """By symbol, the vault that has been stepped furthest and the close (UTC ms) it has reached.

    Every vault that trades one of them stays locked, so that none steps on half of what is being recorded.
    """
    trading = select(position.c.vault_id).where(position.c.symbol.in_(symbols))
    locked = select(vault.c.id).where(vault.c.id.in_(trading)).order_by(vault.c.id).with_for_update()
    identities = connection.execute(locked).scalars().all()
    # The last row of a journal that has slots stands at the close of the last one.
    last_row = (journal.c.vault_id == vault.c.id) & (journal.c.seq == vault.c.journal_seq)
    found = connection.execute(
        select(position.c.symbol, vault.c.name, journal.c.ts)
        .join(vault, vault.c.id == position.c.vault_id)
        .join(journal, last_row)
        .where(vault.c.id.in_(identities), vault.c.last_slot.is_not(None))
        .order_by(journal.c.ts)
    )
    return {symbol: (name, close) for symbol, name, close in found}


def _ts(row: dict[str, object]) -> int:
    ts = row["ts"]
    assert isinstance(ts, int)
    return ts


def _unrecorded(connection: Connection, symbol: str, given: list[dict[str, object]]) -> list[dict[str, object]]:
    columns = (bar.c.ts, *(bar.c[name] for name in _FIGURES))
    found = connection.execute(select(*columns).where(bar.c.symbol == symbol))
    recorded = {ts: tuple(figures) for ts, *figures in found}
    last = max(recorded, default=-1)
    fresh = []
    for row in given:
        ts = _ts(row)
        there = recorded.get(ts)
        if there is None and ts <= last:
            raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is not among the recorded ones, which go on after it")
        if there is not None and there != tuple(row[name] for name in _FIGURES):
            raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is recorded with other figures")
        if there is None:
            fresh.append(row)
    return fresh


def last_recorded(connection: Connection, symbols: tuple[str, ...]) -> tuple[int, ...]:
    """The last recorded bar of each symbol, UTC ms; -1 for none. Changes exactly when something was recorded."""
    latest = select(func.max(bar.c.ts))
    return tuple(
        int(found) if (found := connection.execute(latest.where(bar.c.symbol == symbol)).scalar()) is not None else -1
        for symbol in symbols
    )


def load_market(connection: Connection, symbols: tuple[str, ...]) -> Market:
    """The recorded market of these symbols, in their order; all of them must have bars."""
    spacing = dict(connection.execute(select(feed.c.symbol, feed.c.timeframe).where(feed.c.symbol.in_(symbols))).all())
    column = case({symbol: number for number, symbol in enumerate(symbols)}, value=bar.c.symbol)
    # One statement sees one state of the table: no symbol can be further than the others by a recorder's commit.
    found = connection.execute(
        select(column, bar.c.ts, *(bar.c[name] for name in _FIGURES))
        .where(bar.c.symbol.in_(symbols))
        .order_by(column, bar.c.ts)
    )
    everything = np.array(found.fetchall(), dtype=np.float64)
    ends = np.searchsorted(everything[:, 0], np.arange(len(symbols) + 1))
    bars, marks, funding = {}, {}, {}
    for number, symbol in enumerate(symbols):
        table = everything[ends[number] : ends[number + 1], 1:]
        timeframe = spacing[symbol]
        ts: Ints = table[:, 0].astype(np.int64)
        bars[symbol] = Bars(symbol, timeframe, ts, *(np.ascontiguousarray(table[:, at]) for at in range(1, 6)))
        marked = ~np.isnan(table[:, 6])
        if marked.any():
            of_mark = [np.ascontiguousarray(table[marked, at]) for at in range(6, 10)] + [np.zeros(int(marked.sum()))]
            marks[symbol] = Bars(symbol, timeframe, ts[marked], *of_mark)
        funded = ~np.isnan(table[:, 10])
        if funded.any():
            funding[symbol] = Funding(symbol, ts[funded], np.ascontiguousarray(table[funded, 10]))
    return align(bars, marks, funding)
