"""Recorded market data in the database: what was fed to the vaults, append-only, so that anyone can replay it."""

import numpy as np
from sqlalchemy import Connection, func, insert, select

from markets.bars import Bars
from markets.errors import utc
from markets.market import Funding, Market, align
from risk.book import Ints
from runtime.errors import RecordingDiffers
from vaults.tables import bar, feed

__all__ = ["last_recorded", "load_market", "record_market"]

_PRICES = ("open", "high", "low", "close", "volume")
_MARKS = ("mark_open", "mark_high", "mark_low", "mark_close")
_FIGURES = (*_PRICES, *_MARKS, "funding_rate")
_BATCH = 5_000


def _rows(market: Market, column: int) -> list[dict[str, object]]:
    """One symbol's real bars as rows of the table."""
    real = np.flatnonzero(market.valid[:, column])
    names = _PRICES + (_MARKS if market.marked[column] else ())
    columns = {name: getattr(market, name)[real, column].tolist() for name in names}
    blank = dict.fromkeys(_FIGURES)
    funded = market.funding_valid[real, column].tolist()
    rates = market.funding_rate[real, column].tolist()
    symbol = market.symbols[column]
    return [
        {**blank, **dict(zip(names, figures, strict=True)), "symbol": symbol, "ts": ts,
         "funding_rate": rates[row] if funded[row] else None}
        for row, (ts, *figures) in enumerate(zip(market.ts[real].tolist(), *columns.values(), strict=True))
    ]  # fmt: skip


def record_market(connection: Connection, market: Market) -> int:
    """Append the bars that are not recorded yet and return their number.

    Bars already recorded must be the same to the last bit, and new ones must be later than every recorded one, since
    vaults may have lived through what is there: RecordingDiffers otherwise, with nothing written.
    """
    written = 0
    for column, symbol in enumerate(market.symbols):
        known = connection.execute(select(feed.c.timeframe).where(feed.c.symbol == symbol)).scalar_one_or_none()
        if known is None:
            connection.execute(insert(feed).values(symbol=symbol, timeframe=market.timeframe))
        elif known != market.timeframe:
            raise RecordingDiffers(symbol, f"bars of {known} ms are recorded, these are of {market.timeframe} ms")
        fresh = _rows(market, column)
        if known is not None:
            fresh = _unrecorded(connection, symbol, fresh)
        for start in range(0, len(fresh), _BATCH):
            connection.execute(insert(bar), fresh[start : start + _BATCH])
        written += len(fresh)
    return written


def _unrecorded(connection: Connection, symbol: str, given: list[dict[str, object]]) -> list[dict[str, object]]:
    columns = (bar.c.ts, *(bar.c[name] for name in _FIGURES))
    found = connection.execute(select(*columns).where(bar.c.symbol == symbol))
    recorded = {ts: tuple(figures) for ts, *figures in found.tuples()}
    last = max(recorded, default=-1)
    fresh = []
    for row in given:
        ts = row["ts"]
        assert isinstance(ts, int)
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
    bars, marks, funding = {}, {}, {}
    for symbol in symbols:
        timeframe = connection.execute(select(feed.c.timeframe).where(feed.c.symbol == symbol)).scalar_one()
        columns = (bar.c.ts, *(bar.c[name] for name in _FIGURES))
        found = connection.execute(select(*columns).where(bar.c.symbol == symbol).order_by(bar.c.ts))
        table = np.array(found.fetchall(), dtype=np.float64)
        ts: Ints = table[:, 0].astype(np.int64)
        bars[symbol] = Bars(symbol, timeframe, ts, *(np.ascontiguousarray(table[:, at]) for at in range(1, 6)))
        marked = ~np.isnan(table[:, 6])
        if marked.any():
            columns_of_mark = (np.ascontiguousarray(table[marked, at]) for at in range(6, 10))
            marks[symbol] = Bars(symbol, timeframe, ts[marked], *columns_of_mark, np.zeros(int(marked.sum())))
        funded = ~np.isnan(table[:, 10])
        if funded.any():
            funding[symbol] = Funding(symbol, ts[funded], np.ascontiguousarray(table[funded, 10]))
    return align(bars, marks, funding)
