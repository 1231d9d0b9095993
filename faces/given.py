"""Series given in Python: files by their names, or what is already loaded, checked as a file's figures are."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ringfence.faces.errors import InputRefused
from ringfence.faces.inputs import Taking, World, checked_symbol, demand_bars
from ringfence.markets.bars import Bars, validated
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.instruments import instrument_key
from ringfence.markets.market import Funding
from ringfence.runtime.setup import Setup

__all__ = ["Files", "given_in_python"]

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_Series = TypeVar("_Series", Bars, Funding)


def given_in_python(
    setup: Setup,
    bars: Mapping[str, Bars | Files],
    marks: Mapping[str, Bars | Files],
    funding: Mapping[str, Funding | Files],
    taking: Taking,
) -> World:
    """The world of these series by symbol. Refused: InputRefused, NoBars, and what files and series are refused for."""
    every = (("bars", bars), ("marks", marks), ("funding", funding))
    for name, series in every:
        if not isinstance(series, Mapping):
            reason = f"is a {type(series).__name__}; expected series by symbol, {{'{setup.symbols[0]}': FILE}}"
            raise InputRefused(name, "", reason)
    bars, marks, funding = (_called(name, series, setup) for name, series in every)
    demand_bars([setup], bars)
    of_marks = partial(read_bars, now=taking.now, accept=taking.accept)
    of_bars, of_rates = partial(of_marks, timeframe=taking.timeframe), partial(read_funding, accept=taking.accept)
    return World(
        {symbol: _series("bars", symbol, held, Bars, of_bars, _checked_bars) for symbol, held in bars.items()},
        {symbol: _series("marks", symbol, held, Bars, of_marks, _checked_bars) for symbol, held in marks.items()},
        {symbol: _series("funding", symbol, held, Funding, of_rates, _checked_funding)
         for symbol, held in funding.items()},
        "given in Python",
    )  # fmt: skip


def _called(name: str, series: Mapping[str, Any], setup: Setup) -> dict[str, Any]:
    """The series by what the mandate calls their instruments. Refused: InputRefused, UnknownInstrument."""
    return {checked_symbol(name, symbol, setup.symbols): given for symbol, given in series.items()}


def _series(
    name: str,
    symbol: str,
    given: _Series | Files,
    kind: type[_Series],
    read: Callable[[list[Path], str], _Series],
    checked: Callable[[_Series], _Series],
) -> _Series:
    """A series from its file or files, or as it was given and checked as a file's is."""
    if isinstance(given, kind):
        if given.symbol != symbol and instrument_key(symbol).partition(":")[2] != given.symbol:
            raise InputRefused(name, symbol, f"are those of {given.symbol}; give them under their own symbol")
        return replace(checked(given), symbol=symbol)
    files = given if isinstance(given, list | tuple) else (given,)
    paths = [Path(file).expanduser() for file in files if isinstance(file, str | os.PathLike)]
    if not paths or len(paths) < len(files):
        reader = "read_bars" if kind is Bars else "read_funding"
        expected = f"a file, several in a list, or what ringfence.{reader}(file, symbol) returns"
        raise InputRefused(name, symbol, f"is a {type(given).__name__}; expected {expected}")
    return read(paths, symbol)


def _checked_bars(bars: Bars) -> Bars:
    volume = bars.volume if bars.volume_known else None
    return validated(
        bars.symbol, bars.timeframe, bars.ts, bars.open, bars.high, bars.low, bars.close, volume, bars.notes
    )


def _checked_funding(funding: Funding) -> Funding:
    return Funding.validated(funding.symbol, funding.ts, funding.rate, funding.interval, funding.notes)
