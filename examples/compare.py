"""The example mandates on recorded years, beside buy and hold and plain CPPI: the tables of docs/EXAMPLES.md.

    python examples/compare.py [--data FOLDER] [--write FILE] [MANDATE...]

Bars and funding are the hourly recordings of `../shared/data` (its README says what they are); each year is a vault of
its own, opened on 1 January, and the five years together are one.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ringfence.faces.figures import LINES
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.market import Funding, Market, align
from ringfence.runtime.backtest import backtest
from ringfence.runtime.figures import Figures, Measured, figures
from ringfence.runtime.mandates import load
from ringfence.runtime.setup import Setup, set_up

PROJECT = Path(__file__).resolve().parent.parent
YEARS = range(2021, 2026)
DEPOSIT = {"depositor": 100_000_000_000}
SHOWN = ("cagr", "drawdown", "locked", "costs_yearly")


def moment(year: int) -> int:
    """1 January of a year, UTC ms."""
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1000


def market(data: Path, symbols: tuple[str, ...], begin: int, end: int) -> Market:
    """The recorded hours of some symbols from `begin` to `end` (UTC ms), with the funding that is known."""
    bars, funding = {}, {}
    for symbol in symbols:
        name = data / f"perp_{symbol.partition('/')[0]}USDT"
        every = read_bars(Path(f"{name}_1h.parquet"), symbol)
        bars[symbol] = every[slice(*every.ts.searchsorted((begin, end)).tolist())]
        rates = read_funding(Path(f"{name}_funding_8h.csv.gz"), symbol)
        kept = (rates.ts >= begin) & (rates.ts < end)
        if kept.any():
            funding[symbol] = Funding.validated(symbol, rates.ts[kept], rates.rate[kept])
    return align(bars, funding=funding)


def measured(setup: Setup, data: Path, first: int, last: int) -> Figures:
    """The figures of a vault that lived from 1 January of the first year to the end of the last."""
    lived = market(data, setup.symbols, moment(first), moment(last + 1))
    found = figures(backtest(setup, lived, DEPOSIT), setup, lived)
    assert found is not None, "somebody paid in"
    return found


def three(found: Figures) -> Iterator[tuple[str, Measured]]:
    """The vault and its yardsticks."""
    for name, of in (("vault", found.vault), ("buy and hold", found.hold), ("plain CPPI", found.plain)):
        if of is not None:
            yield name, of


def own(found: Figures) -> list[str | None]:
    """What is told of the vault alone: the part of its costs that is funding, and its trades a year."""
    years = found.vault.performance.years
    return [f"{found.costs.funding / found.nav_mean / years:.2%}", f"{found.trades / years:,.0f}"]


def row(cells: list[str | None]) -> str:
    return "| " + " | ".join("–" if cell is None else cell or " " for cell in cells) + " |"


def overall(runs: dict[str, Figures]) -> Iterator[str]:
    """All years as one: a row for each mandate and each of its yardsticks."""
    by_key = {line.key: line for line in LINES}
    lines = [by_key[key] for key in SHOWN]
    heads = ["mandate", "", *(line.label for line in lines), "of it funding", "trades a year"]
    yield row(list(heads))
    yield row(["---", "---", *["---:"] * (len(heads) - 2)])
    for name, found in runs.items():
        for label, of in three(found):
            alone = of is found.vault
            rest = own(found) if alone else [None, None]
            yield row([f"`{name}`" if alone else "", label, *(line.show(of) for line in lines), *rest])


def by_year(runs: dict[str, dict[int, Figures]]) -> Iterator[str]:
    """Each year alone: return, and for the vault the part of the year that it was locked."""
    yield row(["mandate", "", *map(str, YEARS)])
    yield row(["---", "---", *["---:"] * len(YEARS)])
    show = {line.key: line.show for line in LINES}
    for name, years in runs.items():
        for at, (label, _) in enumerate(three(next(iter(years.values())))):
            each = [list(three(found))[at][1] for found in years.values()]
            yield row(["" if at else f"`{name}`", label, *(show["total_return"](of) for of in each)])
        locked = [show["locked"](found.vault) for found in years.values()]
        yield row(["", "vault locked", *locked])


def document(mandates: list[Path], data: Path) -> Iterator[str]:
    """The page, line by line."""
    setups = {terms.name: set_up(terms) for terms in load(mandates)}
    whole = {name: measured(setup, data, YEARS[0], YEARS[-1]) for name, setup in setups.items()}
    single = {name: {year: measured(setup, data, year, year) for year in YEARS} for name, setup in setups.items()}
    yield "# The example mandates on recorded years"
    yield ""
    yield (
        f"Hourly bars of Binance's perpetuals from {YEARS[0]} to {YEARS[-1]}, with the funding that is recorded "
        "(bitcoin from November 2022, ether from January 2023; before that none is counted, on no side). Printed by"
    )
    yield ""
    yield "```\nmake examples\n```"
    yield ""
    yield (
        "which needs the recordings of `../shared/data`. Formulas and the rules of the two yardsticks: `ringfence "
        "figures`. What these rules did at past prices is no forecast."
    )
    yield ""
    yield f"## {YEARS[0]} to {YEARS[-1]} as one"
    yield ""
    yield from overall(whole)
    yield ""
    yield (
        "Trading (fees, spread, slippage, rolls) is what the rules choose; funding is what the market asks of whoever "
        "is long, and is paid on what is held, traded or not."
    )
    yield ""
    yield "## Each year alone"
    yield ""
    yield "A vault of its own for each year, opened on 1 January: its return, and how much of the year it was locked."
    yield ""
    yield from by_year(single)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("mandates", nargs="*", type=Path, default=[PROJECT / "mandates"])
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--write", type=Path, help="write the page to this file instead")
    asked = parser.parse_args()
    if not asked.data.is_dir():
        print(f"{asked.data}: there are no recordings; name their folder with --data", file=sys.stderr)
        return 1
    page = "\n".join(document(asked.mandates, asked.data)) + "\n"
    if asked.write is None:
        sys.stdout.write(page)
    else:
        asked.write.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
