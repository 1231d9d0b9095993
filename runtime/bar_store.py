"""Recorded market data in the database: what was fed to the vaults, so that anyone can replay it.

Bars are appended; none is changed but the last of its series, and that only until a vault has lived it: a download in
the middle of a bar holds a part of it, and the next one the whole.

Longer than 400 lines because what is recorded and how it is read back are one agreement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Select, bindparam, func, insert, select, text, update

from ringfence.markets.bars import Bars
from ringfence.markets.instruments import instrument_key
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.slots import Slots
from ringfence.risk.book import Ints
from ringfence.runtime.errors import RecordingDiffers
from ringfence.runtime.levels import load_levels
from ringfence.vaults.tables import LATEST, bar, bar_series, fed, funding, position, vault
from ringfence.words.times import utc

__all__ = ["Recorded", "Window", "feed_until", "last_bar", "last_recorded", "load_inside", "load_window",
           "recorded_stamps", "store_bars", "store_stamps"]  # fmt: skip

_PRICES = ("open", "high", "low", "close", "volume")
_MARKS = ("mark_open", "mark_high", "mark_low", "mark_close")
_FIGURES = (*_PRICES, *_MARKS)
_BATCH = 5_000
_AHEAD = 20_000
"""Bars of each symbol that a window holds beyond its first slot, about: a vault that catches up reads them once."""

_COLUMNS = (bar.c.ts, *(bar.c[name] for name in _FIGURES))
_OF_INSTRUMENT = bar.c.instrument == bindparam("instrument")
_NEXT = select(func.min(bar.c.ts)).where(_OF_INSTRUMENT, bar.c.ts > bindparam("ts"))
_BEFORE = (
    select(*_COLUMNS)
    .where(_OF_INSTRUMENT, bar.c.ts < bindparam("ts"))
    .order_by(bar.c.ts.desc())
    .limit(bindparam("most"))
)
_BETWEEN = (
    select(*_COLUMNS)
    .where(_OF_INSTRUMENT, bar.c.ts >= bindparam("start"), bar.c.ts < bindparam("stop"))
    .order_by(bar.c.ts)
)
_FUNDED = (
    select(funding.c.ts, funding.c.rate)
    .where(
        funding.c.instrument == bindparam("instrument"),
        funding.c.ts >= bindparam("start"),
        funding.c.ts < bindparam("stop"),
    )
    .order_by(funding.c.ts)
)
_CLAIM = text(
    "INSERT INTO bar_series (instrument, timeframe, volume_known, corrected) "
    "VALUES (:instrument, :timeframe, :volume_known, 0) ON CONFLICT DO NOTHING"
)
_CORRECT = (
    update(bar)
    .where(bar.c.instrument == bindparam("of"), bar.c.ts == bindparam("at"))
    .values({name: bindparam(f"new_{name}") for name in _FIGURES})
)
_FEED = text(
    "INSERT INTO fed (instrument, until) "
    "SELECT instrument, CAST(:until AS BIGINT) FROM bar_series WHERE instrument = :of "
    "ON CONFLICT (instrument) DO UPDATE SET until = :until WHERE fed.until < :until"
)
_COUNT = (
    update(bar_series).where(bar_series.c.instrument == bindparam("of")).values(corrected=bar_series.c.corrected + 1)
)


def _rows(market: Market, column: int) -> list[dict[str, object]]:
    """One symbol's real bars as rows of the table."""
    real = np.flatnonzero(market.valid[:, column])
    names = _PRICES + (_MARKS if market.marked[column] else ())
    # SQLite forgets the sign of -0.0 and PostgreSQL keeps it; adding 0.0 drops it for both.
    columns = {name: (getattr(market, name)[real, column] + 0.0).tolist() for name in names}
    blank = dict.fromkeys(_FIGURES)
    key = instrument_key(market.symbols[column])
    return [
        {**blank, **dict(zip(names, figures, strict=True)), "instrument": key, "ts": ts}
        for ts, *figures in zip(market.ts[real].tolist(), *columns.values(), strict=True)
    ]


def store_bars(connection: Connection, market: Market, until: int | None = None) -> int:
    """Append the bars and funding stamps that are not recorded yet, correct the last bar, and return the number of bars
    that were written. From then on the series are fed up to `until` (UTC ms; None: the market's last close), so that
    the slots that close by then may be lived.

    Bars already recorded must be the same to the last bit, but for the last of its symbol, which may differ as long as
    no vault has lived it. New ones must be later than every recorded one of their symbol and no earlier than the close
    of what a vault that trades it has lived through. RecordingDiffers otherwise.
    """
    lived = _lived_through(connection, tuple(instrument_key(symbol) for symbol in market.symbols))
    written = 0
    for column, symbol in enumerate(market.symbols):
        key = instrument_key(symbol)
        _claim(connection, market, column)
        name, close = lived.get(key, ("", -1))
        last = last_recorded(connection, (symbol,)).latest[0]
        fresh, corrected = _unrecorded(connection, symbol, _rows(market, column), name, close)
        stamps = _unrecorded_stamps(connection, market, column, max(last, close))
        for row in fresh[:1]:
            if (ts := _ts(row)) < close:
                raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is new, but {name} has lived up to {utc(close)}")
        if corrected is not None:
            figures = {f"new_{figure}": corrected[figure] for figure in _FIGURES}
            connection.execute(_CORRECT, {"of": key, "at": _ts(corrected), **figures})
        if corrected is not None or any(_ts(stamp) < last + market.timeframe for stamp in stamps):
            connection.execute(_COUNT, {"of": key})
        for start in range(0, len(fresh), _BATCH):
            connection.execute(insert(bar), fresh[start : start + _BATCH])
        for start in range(0, len(stamps), _BATCH):
            connection.execute(insert(funding), stamps[start : start + _BATCH])
        feed_until(connection, symbol, market.close_ts if until is None else until)
        written += len(fresh) + (corrected is not None)
    return written


def store_stamps(connection: Connection, symbol: str, stamps: Funding) -> None:
    """Append the funding stamps that are not recorded yet; those of a hole settle at the next bar.

    Refused: RecordingDiffers (another rate, or a new stamp in a time that a vault has lived).
    """
    key = instrument_key(symbol)
    name, close = _lived_through(connection, (key,)).get(key, ("", -1))
    recorded = recorded_stamps(connection, symbol, int(stamps.ts[0]))
    there = {} if recorded is None else dict(zip(recorded.ts.tolist(), recorded.rate.tolist(), strict=True))
    rows = []
    for ts, rate in zip(stamps.ts.tolist(), (stamps.rate + 0.0).tolist(), strict=True):
        if there.get(ts, rate) != rate:
            raise RecordingDiffers(symbol, f"the funding rate of {utc(ts)} is recorded as {there[ts]}")
        if ts not in there:
            rows.append({"instrument": key, "ts": ts, "rate": rate})
    if rows and _ts(rows[0]) < close:
        raise RecordingDiffers(
            symbol, f"the stamp of {utc(_ts(rows[0]))} is new, but {name} has lived up to {utc(close)}"
        )
    if rows:
        connection.execute(insert(funding), rows)


def recorded_stamps(connection: Connection, symbol: str, since: int) -> Funding | None:
    """The recorded funding stamps from `since` on, UTC ms; None where there are none."""
    span = {"instrument": instrument_key(symbol), "start": since, "stop": LATEST + 1}
    found = connection.execute(_FUNDED, span).all()
    if not found:
        return None
    return Funding(symbol, np.array([ts for ts, _ in found]), np.array([rate for _, rate in found]))


def feed_until(connection: Connection, symbol: str, until: int) -> None:
    """Every bar of the symbol that opens before `until` (UTC ms) and ever comes is recorded; nothing, for a series of
    which no bar is."""
    connection.execute(_FEED, {"of": instrument_key(symbol), "until": until})


def last_bar(connection: Connection, symbol: str) -> Market | None:
    """The last recorded bar of a symbol, with its marks; None where none is recorded."""
    key = instrument_key(symbol)
    found = connection.execute(_BEFORE, {"instrument": key, "ts": LATEST, "most": 1}).all()
    if not found:
        return None
    about = select(bar_series.c.timeframe, bar_series.c.volume_known).where(bar_series.c.instrument == key)
    timeframe, volume_known = connection.execute(about).one()
    return _market({symbol: _series(symbol, timeframe, bool(volume_known), found, ())})


def _claim(connection: Connection, market: Market, column: int) -> None:
    """The row of the symbol's series, locked, so that two recorders take turns. Refused: RecordingDiffers."""
    symbol, volume_known = market.symbols[column], bool(market.volume_known[column])
    key = instrument_key(symbol)
    connection.execute(_CLAIM, {"instrument": key, "timeframe": market.timeframe, "volume_known": volume_known})
    known = select(bar_series.c.timeframe, bar_series.c.volume_known).where(bar_series.c.instrument == key)
    timeframe, with_volume = connection.execute(known.with_for_update()).one()
    if timeframe != market.timeframe:
        raise RecordingDiffers(symbol, f"bars of {timeframe} ms are recorded, these are of {market.timeframe} ms")
    if with_volume != volume_known:
        there, here = ("with", "without") if with_volume else ("without", "with")
        raise RecordingDiffers(symbol, f"bars {there} volumes are recorded, these are {here}")


def _lived_through(connection: Connection, keys: tuple[str, ...]) -> dict[str, tuple[str, int]]:
    """By instrument, the vault that has been stepped furthest and the close (UTC ms) it has reached.

    Every vault that trades one of them stays locked, so that none steps on half of what is being recorded.
    """
    trading = select(position.c.vault_id).where(position.c.instrument.in_(keys))
    locked = select(vault.c.id).where(vault.c.id.in_(trading)).order_by(vault.c.id).with_for_update()
    identities = connection.execute(locked).scalars().all()
    found = connection.execute(
        select(position.c.instrument, vault.c.name, vault.c.clock)
        .join(vault, vault.c.id == position.c.vault_id)
        .where(vault.c.id.in_(identities), vault.c.last_bar.is_not(None))
        .order_by(vault.c.clock)
    )
    return {key: (name, close) for key, name, close in found}


def _ts(row: dict[str, object]) -> int:
    ts = row["ts"]
    assert isinstance(ts, int)
    return ts


def _unrecorded(
    connection: Connection, symbol: str, given: list[dict[str, object]], vault_name: str, lived: int
) -> tuple[list[dict[str, object]], dict[str, object] | None]:
    """The rows that are new, and the last recorded one where it is to be corrected.

    `lived` is the close (UTC ms) up to which the vault of that name has lived. Refused: RecordingDiffers.
    """
    if not given:
        return [], None
    between = {"instrument": instrument_key(symbol), "start": _ts(given[0]), "stop": _ts(given[-1]) + 1}
    recorded = {ts: tuple(figures) for ts, *figures in connection.execute(_BETWEEN, between)}
    last = last_recorded(connection, (symbol,)).latest[0]
    fresh, corrected = [], None
    for row in given:
        ts = _ts(row)
        there = recorded.get(ts)
        if there is None and ts <= last:
            raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is not among the recorded ones, which go on after it")
        if there is not None and there != tuple(row[name] for name in _FIGURES):
            if ts < last:
                raise RecordingDiffers(symbol, f"the bar of {utc(ts)} is recorded with other figures")
            if ts < lived:
                found = f"the bar of {utc(ts)} is recorded with other figures, and {vault_name} has lived it"
                raise RecordingDiffers(symbol, found)
            corrected = row
        if there is None:
            fresh.append(row)
    return fresh, corrected


def _unrecorded_stamps(connection: Connection, market: Market, column: int, final: int) -> list[dict[str, object]]:
    """The funding stamps of one symbol that are new, as rows of their table.

    Before `final` (UTC ms), the last recorded bar's open or the close up to which a vault has lived, none may be new.
    Refused: RecordingDiffers (a stamp that is recorded with another rate, or not at all before `final`).
    """
    symbol = market.symbols[column]
    funded = market.stamps_from[:, column] < market.stamps_to[:, column]
    starts, stops = market.stamps_from[funded, column], market.stamps_to[funded, column]
    own = market.stamps[starts[0] : stops[-1]] if len(starts) else market.stamps[:0]
    given = dict(zip(own.ts.tolist(), (own.rate + 0.0).tolist(), strict=True))
    # A stamp of the hole before the first bar settles at that bar, and may have been recorded while nothing traded.
    span = {"instrument": instrument_key(symbol), "start": min([int(market.ts[0]), *given]), "stop": market.close_ts}
    recorded: dict[int, float] = dict(map(tuple, connection.execute(_FUNDED, span)))
    for ts in sorted(given.keys() | recorded.keys()):
        if given.get(ts) != recorded.get(ts) and (ts in recorded or ts < final):
            raise RecordingDiffers(
                symbol, f"the funding rate of {utc(ts)} is recorded as {recorded.get(ts, 'unknown')}"
            )
    return [
        {"instrument": span["instrument"], "ts": ts, "rate": rate} for ts, rate in given.items() if ts not in recorded
    ]


class Recorded(NamedTuple):
    """How far the series of some symbols go; it changes exactly when something was recorded or corrected."""

    latest: tuple[int, ...]
    """The last recorded bar of each symbol, UTC ms; -1 for none."""
    corrected: tuple[int, ...]
    """How many times the last bar of each was corrected."""
    until: int
    """UTC ms up to which all of them are fed."""


@lru_cache(maxsize=256)
def _extent(symbols: tuple[str, ...]) -> Select[Any]:
    """Last bars, corrections and ends of the symbols' series. One statement sees one state of the tables: no symbol can
    be further than the others by a recorder's commit."""
    keys = list(map(instrument_key, symbols))
    each = [select(func.max(bar.c.ts)).where(bar.c.instrument == key).scalar_subquery() for key in keys]
    times = [select(bar_series.c.corrected).where(bar_series.c.instrument == key).scalar_subquery() for key in keys]
    ends = [select(fed.c.until).where(fed.c.instrument == key).scalar_subquery() for key in keys]
    return select(*each, *times, *ends)


def last_recorded(connection: Connection, symbols: tuple[str, ...]) -> Recorded:
    """How far the series of the symbols go."""
    row = connection.execute(_extent(symbols)).one()
    found, count = [-1 if value is None else int(value) for value in row], len(symbols)
    return Recorded(tuple(found[:count]), tuple(found[count : 2 * count]), max(0, min(found[2 * count :])))


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of recorded market with what the decisions in it look back on."""

    slots: Slots
    recorded: Recorded
    """How far the series went when this was loaded."""
    first: int
    """Open of the first slot that can be decided from it, UTC ms."""

    def reaches(self, recorded: Recorded, clock: int) -> bool:
        """Whether nothing was recorded since, and the first slot that closes after `clock` can be decided from it."""
        later = self.after(clock)
        return recorded == self.recorded and later < len(self.slots) and self.slots.opens[later] >= self.first

    def after(self, clock: int) -> int:
        """Number of the first slot that closes after `clock`, UTC ms."""
        return int(np.searchsorted(self.slots.opens, clock - self.slots.timeframe, side="right"))


def load_window(
    connection: Connection,
    symbols: tuple[str, ...],
    timeframe: int,
    lookback: int,
    recorded: Recorded,
    clock: int,
) -> Window | None:
    """The slots of `timeframe` ms that close after `clock` (UTC ms) and that all symbols are fed for, as many as one
    load brings, behind `lookback` slots with bars of each symbol; None where there is none.

    All symbols have recorded bars. What is read does not grow with the history: by rows
    backwards, by time forwards.
    """
    keys, since = tuple(map(instrument_key, symbols)), clock // timeframe * timeframe - 1
    later = [
        first
        for key in keys
        if (first := connection.execute(_NEXT, {"instrument": key, "ts": since}).scalar()) is not None
    ]
    if not later:
        return None
    about = select(bar_series.c.instrument, bar_series.c.timeframe, bar_series.c.volume_known)
    claimed = connection.execute(about.where(bar_series.c.instrument.in_(keys))).all()
    spacing = {key: timeframe for key, timeframe, _ in claimed}
    with_volume = {key: bool(known) for key, _, known in claimed}
    start = min(later) // timeframe * timeframe
    if recorded.until < start + timeframe:
        return None
    each = max(1, timeframe // spacing[keys[0]])  # slots shorter than bars are refused by the slots themselves
    stop = start + max(1, _AHEAD // each) * timeframe
    series = {}
    for symbol, key, last in zip(symbols, keys, recorded.latest, strict=True):
        # a slot has at most `each` bars, so that these hold `lookback` whole slots and a part of one more
        behind = connection.execute(_BEFORE, {"instrument": key, "ts": start, "most": lookback * each}).all()
        end = min(stop, last + 1)  # what is recorded meanwhile belongs to the next window
        ahead = connection.execute(_BETWEEN, {"instrument": key, "start": start, "stop": end}).all()
        found: Sequence[Any] = [*reversed(behind), *ahead]
        if not found:  # it begins after this window: the column is there, without a bar
            at = connection.execute(_NEXT, {"instrument": key, "ts": stop - 1}).scalar_one()
            found = connection.execute(_BETWEEN, {"instrument": key, "start": at, "stop": at + 1}).all()
        span = {"instrument": key, "start": found[0].ts, "stop": found[-1].ts + spacing[key]}
        stamps = connection.execute(_FUNDED, span).all()
        series[symbol] = _series(symbol, spacing[key], with_volume[key], found, stamps)
    until = min(stop, recorded.until // timeframe * timeframe)  # no part of a slot that is not fed whole
    levels = load_levels(connection, symbols, start, until)
    return Window(Slots(_market(series).before(until), timeframe, until, levels), recorded, start)


def load_inside(
    connection: Connection, symbols: tuple[str, ...], timeframe: int, until: int, lived: tuple[int, int]
) -> Slots | None:
    """The bars before `until` (UTC ms) that lie inside the slot of `timeframe` ms that they begin in, all but the one
    that ends with it, for a vault that has `lived`: its last bar, and the time up to which it has lived. None where
    there is none; a slot in which it stands is decided before any bar of the next one is lived."""
    last_bar, clock = lived
    keys, series = tuple(map(instrument_key, symbols)), {}
    about = select(bar_series.c.instrument, bar_series.c.timeframe, bar_series.c.volume_known)
    known = {key: (length, bool(volume)) for key, length, volume in connection.execute(
        about.where(bar_series.c.instrument.in_(keys)))}  # fmt: skip
    stop = min(until, (last_bar // timeframe + 2) * timeframe)
    if clock % timeframe:
        stop = min(stop, (clock // timeframe + 1) * timeframe)
    for symbol, key in zip(symbols, keys, strict=True):
        length, with_volume = known[key]
        before = connection.execute(_BEFORE, {"instrument": key, "ts": last_bar + 1, "most": 1}).all()
        ahead = connection.execute(_BETWEEN, {"instrument": key, "start": last_bar + 1, "stop": stop}).all()
        found: Sequence[Any] = [*before, *ahead]
        if not found:  # it begins later: the column is there, without a bar
            at = connection.execute(_NEXT, {"instrument": key, "ts": last_bar}).scalar_one()
            found = connection.execute(_BETWEEN, {"instrument": key, "start": at, "stop": at + 1}).all()
        span = {"instrument": key, "start": found[0].ts, "stop": found[-1].ts + length}
        series[symbol] = _series(symbol, length, with_volume, found, connection.execute(_FUNDED, span).all())
    market = _market(series).after(last_bar).before(stop)
    if not len(market):
        return None
    market = market.before((int(market.ts[0]) // timeframe + 1) * timeframe - market.timeframe)
    if not len(market):
        return None
    levels = load_levels(connection, symbols, int(market.ts[0]), int(market.ts[-1]) + 1)
    return Slots(market, timeframe, levels=levels)


class _Series(NamedTuple):
    """One symbol's recorded bars, with the marks and funding rates where they are known."""

    bars: Bars
    marks: Bars | None
    funding: Funding | None


def _series(symbol: str, timeframe: int, volume_known: bool, found: Sequence[Any], stamps: Sequence[Any]) -> _Series:
    table = np.array([tuple(row) for row in found], dtype=np.float64).reshape(-1, 1 + len(_FIGURES))
    ts: Ints = table[:, 0].astype(np.int64)
    open_, high, low, close, volume = (np.ascontiguousarray(table[:, at]) for at in range(1, 6))
    marked = ~np.isnan(table[:, 6])
    marks = rates = None
    if marked.any():
        first, highest, lowest, last = (np.ascontiguousarray(table[marked, at]) for at in range(6, 10))
        none = np.zeros(int(marked.sum()))
        marks = Bars(symbol, timeframe, ts[marked], first, highest, lowest, last, none, volume_known=False)
    if stamps:
        rates = Funding(symbol, np.array([ts for ts, _ in stamps]), np.array([rate for _, rate in stamps]))
    bars = Bars(symbol, timeframe, ts, open_, high, low, close, volume, volume_known=volume_known)
    return _Series(bars, marks, rates)


def _market(series: Mapping[str, _Series]) -> Market:
    return align(
        {symbol: read.bars for symbol, read in series.items()},
        {symbol: read.marks for symbol, read in series.items() if read.marks is not None},
        {symbol: read.funding for symbol, read in series.items() if read.funding is not None},
    )
