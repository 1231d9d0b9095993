"""The recorded histories that runs are compared on, by name, and the four mandates that live through them."""

import functools
from collections.abc import Callable
from pathlib import Path

from ringfence.markets.bars import Bars
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.scenarios import scenario
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.check import load_mandate

__all__ = ["DEPOSITS", "HISTORIES", "MANDATES", "REPLAYED", "mandate", "minutes"]

MANDATES = ("btc-constant", "btc-distance", "btc-eth-shield", "majors-trend")
DEPOSITS = {"alice": 50_000_000_000, "bob": 25_000_000_001, "carol": 1_000_000}
_QUARTER = (1_735_689_600_000, 1_743_465_600_000)


@functools.cache
def mandate(project: Path, name: str) -> Setup:
    """A mandate of the hourly four beside this file, ready to run."""
    return set_up(load_mandate(project / "tests" / "reference" / "mandates" / f"{name}.yaml"))


@functools.cache
def minutes(recorded: Path, month: str, symbol: str) -> Bars:
    """A month of one-minute bars."""
    return read_bars(recorded / f"spot_{symbol[:3]}USDT_1m_{month}.parquet", symbol)


def _scenario(recorded: Path, symbols: tuple[str, ...]) -> Market:
    market = scenario("2020-03").market
    return align({symbol: market.bars(market.symbols.index(symbol)) for symbol in symbols})


def _month(recorded: Path, symbols: tuple[str, ...], month: str) -> Market:
    return align({symbol: minutes(recorded, month, symbol) for symbol in symbols})


def _quarter(recorded: Path, symbols: tuple[str, ...]) -> Market:
    """January to March 2025, hourly, with the exchange's own marks and 8-hourly funding."""
    begin, end = _QUARTER

    def within(bars: Bars) -> Bars:
        return bars[slice(*bars.ts.searchsorted((begin, end)).tolist())]

    bars, marks, funding = {}, {}, {}
    for symbol in symbols:
        name = f"perp_{symbol[:3]}USDT"
        bars[symbol] = within(read_bars(recorded / f"{name}_1h.parquet", symbol))
        marks[symbol] = within(read_bars(recorded / f"{name}_mark_1h.parquet", symbol))
        every = read_funding(recorded / f"{name}_funding_8h.csv.gz", symbol)
        kept = (every.ts >= begin) & (every.ts < end)
        funding[symbol] = Funding(symbol, every.ts[kept], every.rate[kept])
    return align(bars, marks, funding)


def _years(recorded: Path, symbols: tuple[str, ...]) -> Market:
    """October 2020 to March 2026, hourly."""
    return align({symbol: read_bars(recorded / f"perp_{symbol[:3]}USDT_1h.parquet", symbol) for symbol in symbols})


HISTORIES: dict[str, Callable[[Path, tuple[str, ...]], Market]] = {
    "the scenario": _scenario,
    "March 2020": functools.partial(_month, month="2020-03"),
    "June 2022": functools.partial(_month, month="2022-06"),
    "August 2024": functools.partial(_month, month="2024-08"),
    "early 2025": _quarter,
    "all years": _years,
}
REPLAYED = tuple(name for name in HISTORIES if name != "all years")
"""Those that are short enough to be lived through in a database."""
