"""The scenario library: short stretches of real history that ship with the project, as a market to walk through.

A scenario is a folder under `episodes/` with `scenario.json` and one CSV of hourly bars per symbol, so that adding one
adds no code.
"""

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np

from ringfence.markets.bars import Bars, validated
from ringfence.markets.errors import UnknownScenario
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.path import path_within
from ringfence.risk.book import Floats

__all__ = ["Scenario", "scenario", "scenarios"]

_HOUR = 3_600_000
_STAMPS = (0, 8 * _HOUR, 16 * _HOUR)


@dataclass(frozen=True, eq=False)
class Scenario:
    """One stretch of history: the real hourly bars and the market that a replay walks through."""

    name: str
    title: str
    source: str
    """Where the figures come from and what was constructed."""
    bars: Mapping[str, Bars]
    """By symbol; as the exchange published them."""
    funding: Mapping[str, Funding]
    """By symbol; a symbol without known rates is absent."""
    market: Market
    """Constructed finer bars (`path_within`) with the real open, high, low, close and volume of every hour."""


def scenarios() -> tuple[str, ...]:
    """The names of the shipped scenarios, in order."""
    return tuple(sorted(folder.name for folder in _library().iterdir() if folder.joinpath("scenario.json").is_file()))


@functools.cache
def scenario(name: str) -> Scenario:
    """The scenario of that name, or UnknownScenario with the nearest one."""
    if name not in scenarios():
        raise UnknownScenario(name, scenarios())
    folder = _library().joinpath(name)
    card = json.loads(folder.joinpath("scenario.json").read_text(encoding="utf-8"))
    bars = {symbol: _bars(folder, symbol) for symbol in card["symbols"]}
    funding = {symbol: rates for symbol in card["symbols"] if (rates := _funding(folder, symbol)) is not None}
    paths = {symbol: path_within(series, card["steps"]) for symbol, series in bars.items()}
    return Scenario(name, card["title"], card["source"], bars, funding, align(paths, funding=funding))


def _library() -> Traversable:
    return resources.files("ringfence.markets").joinpath("episodes")


def _file_name(symbol: str) -> str:
    return symbol.replace("/", "-").replace(":", "-")


def _table(file: Traversable) -> dict[str, Floats]:
    """The columns of a small CSV; lines that begin with # say where it comes from."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    header, *rows = csv.reader(lines)
    figures = np.array(rows, dtype=np.float64)
    return dict(zip(header, figures.T, strict=True))


def _bars(folder: Traversable, symbol: str) -> Bars:
    table = _table(folder.joinpath(f"{_file_name(symbol)}.csv"))
    ts = table["ts"].astype(np.int64) * 1000
    return validated(symbol, _HOUR, ts, table["open"], table["high"], table["low"], table["close"], table["volume"])


def _funding(folder: Traversable, symbol: str) -> Funding | None:
    """The day's mean rate at each of the day's stamps."""
    file = folder.joinpath(f"{_file_name(symbol)}.funding.csv")
    if not file.is_file():
        return None
    table = _table(file)
    days = table["ts"].astype(np.int64) * 1000
    ts = (days[:, None] + np.array(_STAMPS, np.int64)).ravel()
    return Funding.validated(symbol, ts, np.repeat(table["funding_mean"], len(_STAMPS)))
