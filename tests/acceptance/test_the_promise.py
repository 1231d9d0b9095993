"""W3 and W3b as people read them, over every recorded month and year: nobody who holds a share ever has less than the
kept part of the highest price struck, nor of what was put to work for him. Exact, at every bar's worst point."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ringfence.markets.files import read_bars
from ringfence.markets.market import Market, align
from ringfence.risk.events import Kind
from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import VaultRun
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.mandate.terms import MILLION
from tests.laws.promise import VIRTUAL, Moment, assert_promise
from tests.reference.histories import DEPOSITS, HISTORIES, MANDATES, mandate

BTC = "BTC/USDT:USDT"
YEARS = range(2021, 2026)
MULTIPLE = """
mandate: multiple
currency: USDT
loss_cap: {cap}%
timeframe: 1h
sweep: {sweep}
at_wall: {at_wall}
limits: {{gross_leverage_max: 20}}
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 100%
    strategy: {{name: constant, leverage: {multiple}}}
    leverage_max: 40
    volatility_max: 100000%
    liquidation_distance_min: {{sigmas: 0, horizon: 1h, slippage: 0%}}
    margin_call: {{at: 1.1, then: reduce, to: 1.5}}
"""
REBASE = "{rebase: {after: 30d, notice: 7d}}"
REACHING = [(30, 3, "roll", "hold"), (30, 10, "trim", "hold"), (5, 40, "roll", "hold"), (90, 5, "roll", "wind_down"),
            (30, 6, "roll", REBASE)]  # fmt: skip


def assert_kept(run: VaultRun, setup: Setup) -> int:
    """Returns how many rebases the run had; the promise counts anew from each."""
    rebased = {event.ts for event in run.events if event.kind is Kind.rebased}
    worst = np.rint(run.low * run.shares).astype(np.int64).tolist()
    moments = [
        Moment(nav, shares, struck, mark, low, ts in rebased)
        for ts, nav, shares, struck, mark, low in zip(
            run.ts.tolist(), run.nav.tolist(), run.shares.tolist(), run.struck.tolist(),
            run.high_water_mark.tolist(), worst, strict=True,
        )
    ]  # fmt: skip
    keep = MILLION - setup.mandate.loss_cap
    assert assert_promise(moments, keep) == len(run.ts) > 0
    if not rebased:
        paid_in, lowest = sum(DEPOSITS.values()), min(worst)
        assert Fraction(lowest + 1, int(run.shares[0]) + VIRTUAL) >= Fraction(keep, MILLION) * Fraction(1, 1000)
        assert lowest >= paid_in * keep // MILLION
    return len(rebased)


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("history", HISTORIES)
def test_w3_the_example_mandates_keep_their_promise(project: Path, recorded: Path, history: str, name: str) -> None:
    setup = mandate(project, name)
    assert_kept(backtest(setup, HISTORIES[history](recorded, setup.symbols), DEPOSITS), setup)


def year(recorded: Path, wanted: int | None) -> Market:
    """Hourly bars of a year, or of all of them."""
    bars = read_bars(recorded / "perp_BTCUSDT_1h.parquet", BTC)
    if wanted is None:
        return align({BTC: bars})
    start, stop = (np.datetime64(f"{found}-01-01", "ms").astype(np.int64) for found in (wanted, wanted + 1))
    return align({BTC: bars[slice(*np.searchsorted(bars.ts, (start, stop)).tolist())]})


@pytest.mark.parametrize(("cap", "multiple", "sweep", "at_wall"), REACHING)
@pytest.mark.parametrize("wanted", [*YEARS, None], ids=str)
def test_w3_a_reaching_mandate_keeps_it_in_every_year(
    recorded: Path, wanted: int | None, cap: int, multiple: int, sweep: str, at_wall: str
) -> None:
    setup = set_up(load_mandate(MULTIPLE.format(cap=cap, multiple=multiple, sweep=sweep, at_wall=at_wall).encode()))
    rebases = assert_kept(backtest(setup, year(recorded, wanted), DEPOSITS), setup)
    if at_wall == REBASE and wanted is None:
        assert rebases > 0
