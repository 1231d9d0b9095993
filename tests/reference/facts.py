"""The recorded facts that every clone has, and what is said of tests that want for larger ones."""

import functools
from collections.abc import Iterable
from pathlib import Path

from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.check import load_mandate

__all__ = ["ABSENT", "BEGIN", "END", "eight_hourly", "left_out", "years"]

ABSENT = "recorded market data is absent: no folder ../shared/data beside the project"
"""Why a test is skipped where the larger recordings are not there."""

BEGIN, END = 1_609_459_200_000, 1_767_225_600_000
"""2021-01-01 and 2026-01-01."""
_FOLDER = Path(__file__).with_name("facts")


@functools.cache
def years(symbols: tuple[str, ...], begin: int = BEGIN, end: int = END) -> Market:
    """2021 to 2025, or a part of it (UTC ms), in bars of eight hours, with the funding that is known then."""
    bars, funding = {}, {}
    for symbol in symbols:
        name = f"{symbol[:3]}USDT"
        every = read_bars(_FOLDER / f"{name}_8h.csv.gz", symbol)
        bars[symbol] = every[slice(*every.ts.searchsorted((begin, end)).tolist())]
        rates = read_funding(_FOLDER / f"{name}_funding_8h.csv.gz", symbol)
        kept = (rates.ts >= begin) & (rates.ts < end)
        if kept.any():
            funding[symbol] = Funding.validated(symbol, rates.ts[kept], rates.rate[kept])
    return align(bars, funding=funding)


@functools.cache
def eight_hourly(project: Path, name: str) -> Setup:
    """An example mandate that decides every eight hours, on windows that such slots can fill."""
    text = (project / "mandates" / f"{name}.yaml").read_text(encoding="utf-8")
    for written, coarser in (("timeframe: 1h", "timeframe: 8h"), ("timeframe: 4h", "timeframe: 8h")):
        text = text.replace(written, coarser)
    return set_up(load_mandate(text, file=name))


def left_out(reasons: Iterable[str]) -> list[str]:
    """What the end of a run says of the tests that were skipped for want of recordings, given every skip's reason."""
    wanting = sum(ABSENT in reason for reason in reasons)
    if not wanting:
        return []
    tests = "1 test was" if wanting == 1 else f"{wanting} tests were"
    return [
        f"{tests} skipped for want of recorded market data: there is no folder ../shared/data beside the project.",
        "What can be shown on the facts that every clone has (tests/reference/facts) was run.",
    ]
