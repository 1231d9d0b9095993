"""Python's face: a back-test or a replay in one call, from files or from what is already loaded, and what it came to.

`ringfence` hands these names on. They do what the commands of the same names do, through the same checks; amounts are
taken as text or Decimal, never as float.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringfence.faces.errors import InputRefused, PandasMissing
from ringfence.faces.given import Files, given_in_python
from ringfence.faces.inputs import (
    DEPOSIT_DEFAULT,
    Inputs,
    Taking,
    inputs_of,
    of_scenario,
    parse_deposits,
    parse_taking,
)
from ringfence.faces.table_lines import Table
from ringfence.markets.bars import Bars
from ringfence.markets.instruments import currency_decimals
from ringfence.markets.market import Funding
from ringfence.markets.scenarios import Scenario, scenario
from ringfence.risk.book import Floats, Ints
from ringfence.risk.events import Bound, Event
from ringfence.runtime.mandates import load
from ringfence.runtime.runs import PositionRun, VaultRun, digest, summary
from ringfence.runtime.setup import set_up
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.shares import checked_holder
from ringfence.words.addresses import file_address, is_address
from ringfence.words.amounts import parse_amount
from ringfence.words.units import UnitError, shown

if TYPE_CHECKING:
    import pandas

    from ringfence.runtime.figures import Figures

__all__ = ["Result", "backtest", "load_mandate", "load_mandates", "replay"]

_SHARE_UNITS = 1000
"""Share units per minor unit at the first deposit: a share has three decimals more than the currency."""
_DIGITS_MAX = 40

_File = str | os.PathLike[str]


# ---------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a back-test or replay of one vault came to, decision by decision.

    Arrays are (K,), one element a decision, and integers wherever they count money or shares.
    """

    run: VaultRun
    """Everything, as reports and digests read it."""
    notes: tuple[str, ...]
    """What the given series and the tables of instruments did not cover, in words."""
    tables: tuple[Table, ...]
    """The tables of instruments that it went by, each with the day from which it holds."""
    figures: "Figures | None"
    """Return, ratios, drawdown, costs and the two yardsticks, as `ringfence figures` defines them; None where nobody
    held shares."""

    @property
    def ts(self) -> Ints:
        """The close of each slot, UTC epoch milliseconds."""
        return self.run.ts

    @property
    def nav(self) -> Ints:
        """Net asset value struck at each decision, minor units (10**-6 USDT)."""
        return self.run.nav

    @property
    def wall(self) -> Ints:
        """What the reserve must hold, minor units: NAV never falls below it."""
        return self.run.wall

    @property
    def shares(self) -> Ints:
        """All shares, in units of which 1000 are one minor unit's worth at the first deposit."""
        return self.run.shares

    @property
    def high_water_mark(self) -> Ints:
        """The highest NAV per share unit so far, minor units x 2**50."""
        return self.run.high_water_mark

    @property
    def positions(self) -> dict[str, PositionRun]:
        """Each sub-position by its name in the mandate: signed lots, prices, leverages; masked where absent."""
        return {position.name: position for position in self.run.positions}

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order; `event.position` counts the positions in the mandate's order."""
        return self.run.events

    @property
    def digest(self) -> str:
        """SHA-256 over events, balances and series: the command line prints the same for the same run."""
        return digest([self.run])

    def summary(self) -> dict[str, Any]:
        """The run in figures, amounts in the currency as text; None where there is nothing to say."""
        from ringfence.faces.figures import document

        told = None if self.figures is None else document(self.figures, self.run.decimals)
        return {**summary(self.run), "figures": told}

    def frame(self) -> "pandas.DataFrame":
        """The series as a DataFrame over the close of each slot (UTC); PandasMissing where pandas is not installed.

        For looking and plotting: float64 in units that a person uses, so that the last digits of large amounts may be
        gone; the arrays are exact. `nav` and `wall` are in the currency, `shares` in whole shares, `nav_per_share`,
        `nav_per_share_low` (since the decision before) and `high_water_mark` in currency per whole share; `locked` says
        whether the vault was cash-locked, `struck` whether a NAV was struck. For each position `NAME.quantity` (signed,
        base units), `NAME.leverage` (after the decision, signed: notional / collateral, which is what is limited),
        `NAME.effective_leverage` (notional / equity), `NAME.price`, `NAME.proposed` and `NAME.allowed` (leverage),
        `NAME.volatility` (per year), `NAME.liquidation_distance` (fraction of the price) and
        `NAME.bound` (text: which limit bound the decision). What does not exist is NaN.
        """
        try:
            import pandas
        except ImportError:
            raise PandasMissing("a frame") from None
        run = self.run
        unit = 10.0**run.decimals
        marks = run.high_water_mark / 2.0**50 * _SHARE_UNITS
        per_share = np.full(len(run.ts), np.nan)
        np.divide(run.nav * float(_SHARE_UNITS), run.shares, out=per_share, where=run.shares > 0)
        columns: dict[str, Any] = {
            "nav": run.nav / unit,
            "wall": run.wall / unit,
            "shares": run.shares / (unit * _SHARE_UNITS),
            "high_water_mark": np.where(run.high_water_mark > 0, marks, np.nan),
            "nav_per_share": per_share,
            "nav_per_share_low": run.low * float(_SHARE_UNITS),
            "locked": run.locked,
            "struck": run.struck,
        }
        for position in run.positions:
            columns |= {f"{position.name}.{name}": column for name, column in _columns(position).items()}
        closes = pandas.DatetimeIndex(pandas.to_datetime(run.ts, unit="ms", utc=True), name="close")
        return pandas.DataFrame(columns, index=closes)

    def __repr__(self) -> str:
        return f"<Result of {self.run.vault}: {len(self.run.ts)} decisions, digest {self.digest[:12]}>"


def _columns(position: PositionRun) -> dict[str, Any]:
    # A quotient of whole numbers is rounded once, so that 123 lots of 0.001 are 0.123 and nothing beside it.
    parts, whole = position.lot.as_integer_ratio()
    return {
        "quantity": position.quantity * float(parts) / float(whole),
        "leverage": _open(position.leverage),
        "effective_leverage": _open(position.effective_leverage),
        "price": np.where(position.price > 0.0, position.price, np.nan),
        "proposed": _open(position.proposed),
        "allowed": _open(position.allowed),
        "volatility": _open(position.volatility),
        "liquidation_distance": _open(position.liquidation_distance),
        "bound": [Bound(code).name for code in position.bound.tolist()],
    }


def _open(column: np.ma.MaskedArray) -> Floats:
    filled: Floats = np.ma.filled(column, np.nan)
    return filled


# ---------------------------------------------------------------------------------------------------- mandates


def load_mandate(path: _File, *, venues: Iterable[_File] | None = None) -> Mandate:
    """The one mandate of a file, checked against the strategies installed here, as `ringfence check` does.

    `venues` are tables of instruments, files and folders; left out, those in a folder `venues` beside the mandate.

    Refused: MandateError with every problem and its place; InputRefused for a folder of several.
    """
    found = load([Path(path)], _paths(venues))
    if len(found) != 1:
        raise InputRefused("mandate", str(path), f"holds {len(found)} mandates; name one file, or use load_mandates")
    return found[0]


def load_mandates(paths: _File | Iterable[_File], *, venues: Iterable[_File] | None = None) -> list[Mandate]:
    """The mandates of files and of folders (*.yaml, *.yml), each once; MandateError with every problem of all.

    `venues` as for `load_mandate`.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    return load((Path(path) for path in given), _paths(venues))


def _paths(venues: Iterable[_File] | None) -> list[Path] | None:
    return None if venues is None else [Path(path) for path in venues]


# ---------------------------------------------------------------------------------------------------- runs


def backtest(
    mandate: Mandate | _File,
    bars: Mapping[str, Bars | Files] | None = None,
    *,
    scenario: Scenario | str | None = None,
    marks: Mapping[str, Bars | Files] | None = None,
    funding: Mapping[str, Funding | Files] | None = None,
    deposits: Mapping[str, str | Decimal] | None = None,
    timeframe: str | None = None,
    since: str | None = None,
    until: str | None = None,
    now: str | None = None,
    accept: Iterable[str] = (),
) -> Result:
    """Run one mandate over history at once, without a database.

    `mandate` is a file or what `load_mandate` read. Prices are either `bars`, a file, a list of them or Bars by symbol,
    with the `marks` and `funding` that there are, or a shipped `scenario` by name. `deposits` are paid in before the
    first bar: by holder, in the mandate's currency, as text or Decimal ("50000", "0.25"); left out, `depositor` pays in
    100000.

    Of the bars those are taken that open between `since` and `until` and are over at `now`, as texts like 2024-01-31;
    `timeframe` states their length ("1h"), and `accept` names findings that are taken as they are.

    Refused: MandateError, InputRefused, NoBars, HolderRefused, and what files and series are refused for.
    """
    from ringfence.runtime.backtest import backtest as run
    from ringfence.runtime.figures import figures

    taking = parse_taking(timeframe, since, until, now, tuple(accept))
    inputs = _inputs(mandate, bars, scenario, marks, funding, deposits, taking)
    ((setup, market),) = inputs.vaults
    ended = run(setup, market, inputs.deposits)
    return Result(ended, inputs.notes, inputs.tables, figures(ended, setup, market))


def replay(
    mandate: Mandate | _File,
    bars: Mapping[str, Bars | Files] | None = None,
    *,
    into: _File,
    scenario: Scenario | str | None = None,
    marks: Mapping[str, Bars | Files] | None = None,
    funding: Mapping[str, Funding | Files] | None = None,
    deposits: Mapping[str, str | Decimal] | None = None,
    timeframe: str | None = None,
    since: str | None = None,
    until: str | None = None,
    now: str | None = None,
    accept: Iterable[str] = (),
) -> Result:
    """Live through history step by step, in a database: the task that runs live vaults, and the digest of `backtest`.

    `into` is an SQLite file (made where it is missing, brought up to date where it is older) or the address of a
    database, postgresql://USER:PASSWORD@HOST/NAME. What an interrupted replay has done is not done again. The rest is
    given, and refused, as for `backtest`; besides, what the database itself is refused for. A vault that lives already
    takes no deposit that is not named.
    """
    from ringfence.runtime.database import migrate, open_engine
    from ringfence.runtime.figures import figures
    from ringfence.runtime.replay import replay as run

    taking = parse_taking(timeframe, since, until, now, tuple(accept))
    inputs = _inputs(mandate, bars, scenario, marks, funding, deposits, taking)
    engine = open_engine(_address(into), create=True)
    try:
        migrate(engine)
        replayed = run(engine, inputs.vaults, inputs.deposits, defaulted=deposits is None)
    finally:
        engine.dispose()
    (lived,), notes = replayed.runs, (*inputs.notes, *replayed.notes)
    return Result(lived, notes, inputs.tables, figures(lived, *inputs.vaults[0]))


def _address(into: _File) -> str:
    place = os.fspath(into)
    if not place.strip() or "\0" in place:
        raise InputRefused("into", repr(place), "expected FILE, sqlite:///FILE or postgresql://...")
    return place if is_address(place) else file_address(place)


def _inputs(
    mandate: Mandate | _File,
    bars: Mapping[str, Bars | Files] | None,
    chosen: Scenario | str | None,
    marks: Mapping[str, Bars | Files] | None,
    funding: Mapping[str, Funding | Files] | None,
    deposits: Mapping[str, str | Decimal] | None,
    taking: Taking,
) -> Inputs:
    """Everything checked before anything is started, in the order in which the commands check it."""
    terms = mandate if isinstance(mandate, Mandate) else load_mandate(mandate)
    taken = _deposits(terms, deposits)
    setup = set_up(terms)
    if chosen is None:
        world = given_in_python(setup, bars or {}, marks or {}, funding or {}, taking)
    else:
        for name, series in (("bars", bars), ("marks", marks), ("funding", funding)):
            if series:
                raise InputRefused(name, ", ".join(series), "a scenario brings its own; give one or the other")
        history = chosen if isinstance(chosen, Scenario) else scenario(chosen)
        world = of_scenario([setup], history, option="scenario", instead="bars={symbol: file}")
    return inputs_of([setup], world, taken, taking)


def _deposits(terms: Mandate, deposits: Mapping[str, str | Decimal] | None) -> dict[str, int]:
    """Minor units by holder, in the order given."""
    if deposits is None:
        return parse_deposits((DEPOSIT_DEFAULT,), [terms])
    taken = {}
    for holder, amount in deposits.items():
        try:
            taken[checked_holder(holder)] = parse_amount(_amount(amount), currency_decimals(terms.currency))
        except UnitError as refusal:
            raise InputRefused("deposits", holder, str(refusal)) from None
    return taken


def _amount(amount: str | Decimal) -> str:
    """The amount as a person would type it. Refused (UnitError): whatever is neither text nor Decimal."""
    if isinstance(amount, Decimal):
        readable = amount.is_finite() and abs(amount.adjusted()) < _DIGITS_MAX
        return format(amount, "f") if readable else str(amount)
    if isinstance(amount, str):
        return amount
    kind = type(amount).__name__
    raise UnitError(amount, f'is of type {kind}; write amounts of the currency as text or Decimal: "{shown(amount)}"')
