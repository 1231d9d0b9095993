"""What a back-test or a replay is given: mandates, series or a scenario, and deposits; read, checked and aligned."""

import glob
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ringfence.faces.errors import InputRefused
from ringfence.faces.table_lines import Table, notes_of, sentence, tables_of
from ringfence.markets.bars import Bars
from ringfence.markets.coverage import coverage
from ringfence.markets.errors import UnknownInstrument
from ringfence.markets.files import read_bars, read_funding
from ringfence.markets.files.contents import left_out
from ringfence.markets.findings import FINDINGS, admitted, inspect
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
from ringfence.words.times import format_duration, utc
from ringfence.words.units import UnitError, parse_duration

__all__ = ["DEPOSIT_DEFAULT", "Inputs", "Taking", "World", "checked_symbol", "demand_bars", "inputs_of", "of_scenario",
           "parse_deposits", "parse_series", "parse_taking", "prepare"]  # fmt: skip

DEPOSIT_DEFAULT = "depositor=100000"
"""Taken where no deposit is named."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that a run needs, checked; the same for both drivers."""

    vaults: tuple[tuple[Setup, Market], ...]
    deposits: dict[str, int]
    """Minor units by holder, in the order given."""
    source: str
    """Where the prices come from, in a sentence."""

    @property
    def told(self) -> str:
        """The source, with what the series do not cover: for outputs that have one line for both."""
        return "; ".join((self.sources, *self.notes))

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


@dataclass(frozen=True)
class Taking:
    """What is taken of the series, and as what."""

    timeframe: int | None = None
    """Of the bars, ms; None: as the files state it, or the greatest common step."""
    since: int | None = None
    """UTC ms: bars that open earlier are left out."""
    until: int | None = None
    """UTC ms: bars that open then or later are left out."""
    now: int | None = None
    """UTC ms: bars that close later are not over, and left out."""
    accept: tuple[str, ...] = ()
    """Findings that are taken as they are."""

    def bars(self, given: Bars) -> Bars:
        """The bars between `since` and `until`. Refused: InputRefused where none is left."""
        return replace(given[self._rows(given)], notes=given.notes)

    def funding(self, given: Funding) -> Funding:
        """The stamps between `since` and `until`. Refused: InputRefused where none is left."""
        rows = self._rows(given)
        interval = None if given.interval is None else given.interval[rows]
        return replace(given, ts=given.ts[rows], rate=given.rate[rows], interval=interval)

    def _rows(self, given: Bars | Funding) -> slice:
        first = 0 if self.since is None else int(np.searchsorted(given.ts, self.since))
        end = len(given.ts) if self.until is None else int(np.searchsorted(given.ts, self.until))
        if first >= end:
            there = f"the series of {given.symbol} goes from {utc(int(given.ts[0]))} to {utc(int(given.ts[-1]))}"
            raise InputRefused("--since, --until", "", f"leave nothing: {there}")
        return slice(first, end)


@dataclass(frozen=True, eq=False)
class World:
    """All series at hand, by symbol."""

    bars: Mapping[str, Bars]
    marks: Mapping[str, Bars]
    funding: Mapping[str, Funding]
    source: str

    def taken(self, taking: Taking) -> "World":
        """The world of the stretch that is taken. Refused: InputRefused."""
        if taking.since is None and taking.until is None:
            return self
        return World(
            {symbol: taking.bars(given) for symbol, given in self.bars.items()},
            {symbol: taking.bars(given) for symbol, given in self.marks.items()},
            {symbol: taking.funding(given) for symbol, given in self.funding.items()},
            self.source,
        )

    def market(self, symbols: Sequence[str], accept: Collection[str] = ()) -> Market:
        """The market of these symbols; its notes tell what the series do not cover and what was accepted in them.

        Refused: SuspectData, MisalignedMarket.
        """
        bars = {symbol: self.bars[symbol] for symbol in symbols}
        marks = {symbol: self.marks[symbol] for symbol in symbols if symbol in self.marks}
        funding = {symbol: self.funding[symbol] for symbol in symbols if symbol in self.funding}
        findings = [
            finding
            for symbol, series in bars.items()
            for finding in inspect(series, marks.get(symbol), funding.get(symbol))
        ]
        notes = admitted(findings, accept)
        market = align(bars, marks, funding)
        return replace(market, notes=(*notes, *coverage(bars, marks, funding), *market.notes))


def prepare(
    mandates: Sequence[Path],
    *,
    bars: Sequence[str] = (),
    funding: Sequence[str] = (),
    marks: Sequence[str] = (),
    scenario_name: str | None = None,
    deposits: Sequence[str] = (),
    venues: Sequence[Path] | None = None,
    taking: Taking | None = None,
) -> Inputs:
    """Read and check all that a run needs, before anything is started.

    `bars`, `funding` and `marks` are texts SYMBOL=FILE, several of a symbol where its files continue each other, and
    `deposits` NAME=AMOUNT; `venues` are tables of instruments, files and folders (None: those beside each mandate).
    Refused: InputRefused, NoBars, HolderRefused, and what mandates, tables, files and series are refused for.
    """
    taking = taking or Taking()
    terms = load(mandates, venues)
    taken = parse_deposits(deposits, terms)
    setups = [set_up(mandate) for mandate in terms]
    traded = tuple(dict.fromkeys(symbol for setup in setups for symbol in setup.symbols))
    if scenario_name is None:
        world = _from_files(setups, traded, bars, funding, marks, taking)
    else:
        world = _from_scenario(setups, scenario_name, bars, funding, marks, taking)
    return inputs_of(setups, world, taken, taking)


def inputs_of(setups: Sequence[Setup], world: World, deposits: dict[str, int], taking: Taking | None = None) -> Inputs:
    """Each mandate with the market of its symbols, which the world holds; deposits in minor units by holder.

    Refused: InputRefused where the bars fill no slot or nothing of them is taken, NeverEnoughBars, SuspectData, and
    what series that do not belong together are refused for.
    """
    taking = taking or Taking()
    held = world.taken(taking)
    vaults = tuple((setup, _market_of(setup, held, taking.accept)) for setup in setups)
    return Inputs(vaults, deposits, world.source)


def _market_of(setup: Setup, world: World, accept: Collection[str]) -> Market:
    """The market of one mandate's symbols, in its order and cut into its slots without a rest."""
    mandate, market = setup.mandate, world.market(setup.symbols, accept)
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
    setup.demand_history(market)
    return replace(market, notes=(*market.notes, *setup.warm_up(market)))


# ---------------------------------------------------------------------------------------------------- what is taken


def parse_taking(
    timeframe: str | None = None,
    since: str | None = None,
    until: str | None = None,
    now: str | None = None,
    accept: Sequence[str] = (),
) -> Taking:
    """What is taken of the series, from texts: a length like 1h, times like 2024-01-31 or 2024-01-31T08:00 (UTC unless
    they say otherwise), and names of findings. Refused: InputRefused."""
    try:
        length = None if timeframe is None else parse_duration(timeframe)
    except UnitError as refusal:
        raise InputRefused("--timeframe", "", str(refusal)) from None
    for name in accept:
        if name not in FINDINGS:
            known = "; ".join(f"{known} ({text})" for known, text in FINDINGS.items())
            raise InputRefused("--accept", name, f"is no finding{did_you_mean(name, FINDINGS)} (known: {known})")
    first, end = _moment("--since", since), _moment("--until", until)
    if first is not None and end is not None and end <= first:
        raise InputRefused("--until", str(until), f"is not after --since {since}")
    return Taking(length, first, end, _moment("--now", now), tuple(accept))


def _moment(option: str, text: str | None) -> int | None:
    """UTC epoch milliseconds of an ISO time."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        reason = "expected a time like 2024-01-31, 2024-01-31T08:00 or 2024-01-31T08:00+02:00; UTC where it says none"
        raise InputRefused(option, repr(text), reason) from None


# ---------------------------------------------------------------------------------------------------- series


def parse_series(option: str, texts: Sequence[str], traded: Sequence[str]) -> dict[str, list[Path]]:
    """The files of `SYMBOL=FILE`, by symbol, of which each must be a known instrument that is traded.

    FILE may be a pattern (`BTCUSDT-1h-2024-*.zip`) and may begin with a tilde; a symbol may be given several times. A
    file that is named twice, or that is none, is refused here or where it is read.
    """
    found: dict[str, list[Path]] = {}
    for text in texts:
        symbol, equals, file = text.partition("=")
        if not equals or not symbol or not file:
            example = f"{option} {traded[0] if traded else 'BTC/USDT:USDT'}=bars.parquet"
            raise InputRefused(option, repr(text), f"expected SYMBOL=FILE, like {example}")
        symbol = checked_symbol(option, symbol, traded)
        files = found.setdefault(symbol, [])
        for path in _matched(option, symbol, file):
            if path in files:
                raise InputRefused(option, symbol, f"{path} is given twice; give each file once")
            files.append(path)
    return found


def _matched(option: str, symbol: str, file: str) -> list[Path]:
    """The file, or the files that a pattern stands for, in order of their names; never hidden or half-finished ones."""
    place = os.path.expanduser(file)
    if not glob.has_magic(place) or os.path.lexists(place):
        return [Path(place)]
    matched = [Path(path) for path in sorted(glob.glob(place, recursive=True)) if not left_out(path)]
    if not matched:
        raise InputRefused(option, symbol, f"no file is like {place}; is the pattern right, and quoted for the shell?")
    return matched


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
    taking: Taking,
) -> World:
    files = parse_series("--bars", bars, traded)
    rates, marked = parse_series("--funding", funding, traded), parse_series("--mark", marks, traded)
    demand_bars(setups, files)
    now, accept = taking.now, taking.accept
    series = {
        symbol: read_bars(paths, symbol, taking.timeframe, now=now, accept=accept) for symbol, paths in files.items()
    }
    told = "; ".join(
        f"{symbol}: {len(series[symbol]):,} bars of {format_duration(series[symbol].timeframe)} from {_named(paths)}"
        for symbol, paths in files.items()
    )
    return World(
        series,
        {symbol: read_bars(paths, symbol, now=now, accept=accept) for symbol, paths in marked.items()},
        {symbol: read_funding(paths, symbol, accept=accept) for symbol, paths in rates.items()},
        told,
    )


def _named(paths: Sequence[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{len(paths)} files, {paths[0].name} to {paths[-1].name}"


def _from_scenario(
    setups: Sequence[Setup],
    name: str,
    bars: Sequence[str],
    funding: Sequence[str],
    marks: Sequence[str],
    taking: Taking,
) -> World:
    for option, given in (("--bars", bars), ("--funding", funding), ("--mark", marks)):
        if given:
            raise InputRefused(option, given[0], f"the scenario {name} brings its own; give one or the other")
    for option, stated in (("--timeframe", taking.timeframe), ("--now", taking.now)):
        if stated is not None:
            raise InputRefused(option, "", f"is for files, and the scenario {name} brings its own bars; leave it out")
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
