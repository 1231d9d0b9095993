"""What a back-test or a replay is given: mandates, series or a scenario, and deposits; read, checked and aligned."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ringfence.faces.errors import InputRefused
from ringfence.faces.table_lines import Table, notes_of, sentence, tables_of
from ringfence.markets.bars import Bars
from ringfence.markets.errors import UnknownInstrument
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.instruments import currency_decimals, instrument_key
from ringfence.markets.market import Funding, Market, align
from ringfence.markets.scenarios import Scenario, scenario
from ringfence.markets.tables import shipped
from ringfence.runtime.errors import NoBars
from ringfence.runtime.mandates import load
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.shares import checked_holder
from ringfence.words.amounts import parse_amount
from ringfence.words.hints import did_you_mean
from ringfence.words.times import format_duration
from ringfence.words.units import UnitError

__all__ = ["DEPOSIT_DEFAULT", "Inputs", "World", "checked_symbol", "demand_bars", "inputs_of", "of_scenario",
           "parse_deposits", "parse_series", "prepare"]  # fmt: skip

DEPOSIT_DEFAULT = "depositor=100000"
"""Taken where no deposit is named."""

_Series = TypeVar("_Series", Bars, Funding)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that a run needs, checked; the same for both drivers."""

    vaults: tuple[tuple[Setup, Market], ...]
    deposits: dict[str, int]
    """Minor units by holder, in the order given."""
    source: str
    """Where the prices come from, in a sentence."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the given series and the tables of instruments do not cover, in words."""
        told = [note for _, market in self.vaults for note in market.notes]
        return tuple(dict.fromkeys([*told, *notes_of(self.vaults)]))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of instruments that the runs go by."""
        return tables_of(traded for setup, _ in self.vaults for traded in setup.instruments)

    @property
    def sources(self) -> str:
        """Where the prices and the instruments' terms come from, as a report says it."""
        return f"{self.source}. Instruments of {sentence(self.tables)}"


@dataclass(frozen=True, eq=False)
class World:
    """All series at hand, by symbol."""

    bars: Mapping[str, Bars]
    marks: Mapping[str, Bars]
    funding: Mapping[str, Funding]
    source: str

    def market(self, symbols: Sequence[str]) -> Market:
        return align(
            {symbol: self.bars[symbol] for symbol in symbols},
            {symbol: self.marks[symbol] for symbol in symbols if symbol in self.marks},
            {symbol: self.funding[symbol] for symbol in symbols if symbol in self.funding},
        )


def prepare(
    mandates: Sequence[Path],
    *,
    bars: Sequence[str] = (),
    funding: Sequence[str] = (),
    marks: Sequence[str] = (),
    scenario_name: str | None = None,
    deposits: Sequence[str] = (),
    venues: Sequence[Path] | None = None,
) -> Inputs:
    """Read and check all that a run needs, before anything is started.

    `bars`, `funding` and `marks` are texts SYMBOL=FILE, `deposits` NAME=AMOUNT; `venues` are tables of instruments,
    files and folders (None: those beside each mandate). Refused: InputRefused, NoBars, HolderRefused, and what
    mandates, tables, files and series are refused for.
    """
    terms = load(mandates, venues)
    taken = parse_deposits(deposits, terms)
    setups = [set_up(mandate) for mandate in terms]
    traded = tuple(dict.fromkeys(symbol for setup in setups for symbol in setup.symbols))
    if scenario_name is None:
        world = _from_files(setups, traded, bars, funding, marks)
    else:
        world = _from_scenario(setups, scenario_name, bars, funding, marks)
    return inputs_of(setups, world, taken)


def inputs_of(setups: Sequence[Setup], world: World, deposits: dict[str, int]) -> Inputs:
    """Each mandate with the market of its symbols, which the world holds; deposits in minor units by holder.

    Refused: InputRefused where the bars fill no slot, and what series that do not belong together are refused for.
    """
    return Inputs(tuple((setup, _market_of(setup, world)) for setup in setups), deposits, world.source)


def _market_of(setup: Setup, world: World) -> Market:
    """The market of one mandate's symbols, in its order and cut into its slots without a rest."""
    mandate, market = setup.mandate, world.market(setup.symbols)
    slot, bar = format_duration(mandate.timeframe), format_duration(market.timeframe)
    if mandate.timeframe % market.timeframe:
        raise InputRefused(
            "mandate",
            mandate.name,
            f"decides every {slot}, and the bars of {', '.join(setup.symbols)} are of {bar}; "
            f"give bars of {slot} or of a whole part of it, or choose a longer timeframe in the mandate",
        )
    if not len(market.slots(mandate.timeframe)[1]):
        raise InputRefused(
            "mandate",
            mandate.name,
            f"decides every {slot}, and {len(market)} bars of {bar} fill no such slot; give longer series",
        )
    return market


# ---------------------------------------------------------------------------------------------------- series


def parse_series(option: str, texts: Sequence[str], traded: Sequence[str]) -> dict[str, Path]:
    """The files of `SYMBOL=FILE`, by symbol; each must be a known instrument that is traded, and named once."""
    found: dict[str, Path] = {}
    for text in texts:
        symbol, equals, file = text.partition("=")
        if not equals or not symbol or not file:
            example = f"{option} {traded[0] if traded else 'BTC/USDT:USDT'}=bars.parquet"
            raise InputRefused(option, repr(text), f"expected SYMBOL=FILE, like {example}")
        symbol = checked_symbol(option, symbol, traded)
        if symbol in found:
            raise InputRefused(option, symbol, f"is given twice, as {found[symbol]} and as {file}; give one file")
        found[symbol] = Path(file)
    return found


def checked_symbol(option: str, symbol: str, traded: Sequence[str]) -> str:
    """What the mandates call the instrument of this key or symbol: a bare symbol may mean another venue's where they
    trade one of that symbol. Refused: UnknownInstrument, InputRefused with the nearest one that is traded."""
    called = {name: name for name in traded} | {instrument_key(name): name for name in traded}
    elsewhere = [name for name in traded if name.endswith(f":{symbol}")]
    if symbol in called:
        return called[symbol]
    if len(elsewhere) == 1:
        return elsewhere[0]
    if shipped().at(instrument_key(symbol)) is None:
        raise UnknownInstrument(symbol, tuple(dict.fromkeys((*traded, *shipped().names))))
    known = ", ".join(traded)
    raise InputRefused(option, symbol, f"no mandate here trades it{did_you_mean(symbol, traded)} (traded: {known})")


def demand_bars(setups: Sequence[Setup], given: Collection[str]) -> None:
    """Passes where bars of every symbol are given. Refused: NoBars, for the first mandate that lacks some."""
    for setup in setups:
        missing = tuple(symbol for symbol in setup.symbols if symbol not in given)
        if missing:
            raise NoBars(setup.mandate.name, missing)


def _from_files(
    setups: Sequence[Setup],
    traded: Sequence[str],
    bars: Sequence[str],
    funding: Sequence[str],
    marks: Sequence[str],
) -> World:
    files = parse_series("--bars", bars, traded)
    rates, marked = parse_series("--funding", funding, traded), parse_series("--mark", marks, traded)
    demand_bars(setups, files)
    series = {symbol: read_bars(file, symbol) for symbol, file in files.items()}
    told = "; ".join(
        f"{symbol}: {len(series[symbol]):,} bars of {format_duration(series[symbol].timeframe)} from {file.name}"
        for symbol, file in files.items()
    )
    return World(
        series,
        {symbol: read_bars(file, symbol) for symbol, file in marked.items()},
        {symbol: read_funding(file, symbol) for symbol, file in rates.items()},
        told,
    )


def _from_scenario(
    setups: Sequence[Setup], name: str, bars: Sequence[str], funding: Sequence[str], marks: Sequence[str]
) -> World:
    for option, given in (("--bars", bars), ("--funding", funding), ("--mark", marks)):
        if given:
            raise InputRefused(option, given[0], f"the scenario {name} brings its own; give one or the other")
    return of_scenario(setups, scenario(name), option="--scenario", instead="--bars SYMBOL=FILE")


def of_scenario(setups: Sequence[Setup], chosen: Scenario, *, option: str, instead: str) -> World:
    """The world of a scenario. Refused: InputRefused for a symbol that it has no prices of; `option` is how the caller
    asked for the scenario, and `instead` what he can give in its place."""
    for setup in setups:
        missing = [symbol for symbol in setup.symbols if symbol not in chosen.market.symbols]
        if missing:
            known = ", ".join(chosen.market.symbols)
            reason = f"has no prices of {', '.join(missing)}, which the mandate {setup.mandate.name} trades"
            raise InputRefused(option, chosen.name, f"{reason}; it has {known}. Use {instead} instead")
    return World(_paths(chosen), {}, chosen.funding, f"{chosen.title}. {chosen.source}")


def _paths(chosen: Scenario) -> dict[str, Bars]:
    return {symbol: chosen.market.bars(column) for column, symbol in enumerate(chosen.market.symbols)}


# ---------------------------------------------------------------------------------------------------- deposits


def parse_deposits(texts: Sequence[str], mandates: Sequence[Mandate]) -> dict[str, int]:
    """Minor units by holder, in the order given, of `NAME=AMOUNT`; the amounts are in the mandates' currency.

    Refused: InputRefused (form, amount, a holder named twice, mandates of different currencies), HolderRefused.
    """
    currencies = tuple(dict.fromkeys(mandate.currency for mandate in mandates))
    if len(currencies) != 1:
        found = ", ".join(f"{mandate.name} is in {mandate.currency}" for mandate in mandates)
        raise InputRefused(
            "mandates", "", f"{found}; one command takes deposits in one currency: run one after another"
        )
    taken: dict[str, int] = {}
    for text in texts or (DEPOSIT_DEFAULT,):
        holder, equals, amount = text.partition("=")
        if not equals:
            raise InputRefused("--deposit", repr(text), "expected NAME=AMOUNT, like --deposit alice=50000")
        if checked_holder(holder) in taken:
            raise InputRefused("--deposit", text, f"{holder} is given twice; give one amount, the sum")
        try:
            taken[holder] = parse_amount(amount, currency_decimals(currencies[0]))
        except UnitError as refusal:
            raise InputRefused("--deposit", f"{holder}=", str(refusal)) from None
    return taken
