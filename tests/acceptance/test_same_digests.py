"""The house may be re-laid, but what it does stays: every run and every rough world ends on the digest that was
recorded before."""

import functools
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from ringfence.markets.bars import Bars
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.scenarios import scenario
from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import migrate, open_engine
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import digest
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.check import load_mandate
from tests.reference.recorded import WORLDS, digests, of_run, of_world

MANDATES = ("btc-constant", "btc-distance", "btc-eth-shield", "majors-trend")
DEPOSITS = {"alice": 50_000_000_000, "bob": 25_000_000_001, "carol": 1_000_000}
QUARTER = (1_735_689_600_000, 1_743_465_600_000)
"""January to March 2025: hourly bars with the exchange's own marks and 8-hourly funding."""


@functools.cache
def mandate(project: Path, name: str) -> Setup:
    return set_up(load_mandate(project / "mandates" / f"{name}.yaml"))


def the_scenario(recorded: Path, symbols: tuple[str, ...]) -> Market:
    market = scenario("2020-03").market
    return align({symbol: market.bars(market.symbols.index(symbol)) for symbol in symbols})


def month(recorded: Path, symbols: tuple[str, ...], when: str) -> Market:
    files = {symbol: recorded / f"spot_{symbol[:3]}USDT_1m_{when}.parquet" for symbol in symbols}
    return align({symbol: read_bars(file, symbol) for symbol, file in files.items()})


def years(recorded: Path, symbols: tuple[str, ...]) -> Market:
    """October 2020 to March 2026, hourly."""
    return align({symbol: read_bars(recorded / f"perp_{symbol[:3]}USDT_1h.parquet", symbol) for symbol in symbols})


def quarter(recorded: Path, symbols: tuple[str, ...]) -> Market:
    begin, end = QUARTER

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


HISTORIES: dict[str, Callable[[Path, tuple[str, ...]], Market]] = {
    "the scenario": the_scenario,
    "March 2020": functools.partial(month, when="2020-03"),
    "June 2022": functools.partial(month, when="2022-06"),
    "August 2024": functools.partial(month, when="2024-08"),
    "early 2025": quarter,
    "all years": years,
}


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("history", HISTORIES)
def test_a_back_test_ends_on_the_recorded_digest(project: Path, recorded: Path, history: str, name: str) -> None:
    setup = mandate(project, name)
    run = backtest(setup, HISTORIES[history](recorded, setup.symbols), DEPOSITS)
    assert of_run(run) == digests()[f"{history}, {name}"]
    assert digest([run]) == digests()[f"{history}, {name}, as printed"]


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("history", [one for one in HISTORIES if one != "all years"])
def test_a_replay_ends_on_the_recorded_digest(
    project: Path, recorded: Path, sqlite_database: str, history: str, name: str
) -> None:
    setup = mandate(project, name)
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    market = HISTORIES[history](recorded, setup.symbols)
    (run,) = replay(engine, [(setup, market)], DEPOSITS)
    engine.dispose()
    assert of_run(run) == digests()[f"{history}, {name}"]
    assert digest([run]) == digests()[f"{history}, {name}, as printed"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="sixty thousand bars are walked compiled or not at all")
@pytest.mark.parametrize("block", range(0, WORLDS, 50))
def test_a_rough_world_ends_on_the_recorded_digest(block: int) -> None:
    found = {str(seed): of_world(seed) for seed in range(block, block + 50)}
    assert found == {seed: digests()[seed] for seed in found}
