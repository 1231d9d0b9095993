"""What ccxt writes of an exchange's markets, as JSON: `load_markets` or `fetch_markets`, and `fetch_leverage_tiers`.

ccxt says what a market is (lot, tick, contract, fees) in the first and what margin it asks in the second; neither says
from when on. What the files do not say is taken from instruments that are known already, or the market is left out and
named. Precision is read as the step itself, as ccxt gives it for nearly every exchange (`TICK_SIZE`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from ringfence.markets.errors import InvalidInstrument, MarketsRefused, UnreadableFile
from ringfence.markets.instruments import Catalogue, Instrument, instrument_from

__all__ = ["Imported", "day_of", "imported", "read_ccxt"]

SIZE_MAX: Final = 256 * 1024 * 1024
"""Bytes; the markets of the largest exchanges are a tenth of it."""
_DAY = re.compile(r"(?<![0-9])(20[0-9]{2}-[0-9]{2}-[0-9]{2})(?![0-9])", re.ASCII)
_EXPECTED = "ccxt's markets (load_markets, fetch_markets) or its leverage tiers (fetch_leverage_tiers), as JSON"

Markets = Mapping[str, Mapping[str, Any]]
Tiers = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Exported:
    """What one or more files say, by symbol."""

    markets: Markets
    tiers: Tiers


@dataclass(frozen=True)
class Imported:
    """The instruments that came of files, and why others did not."""

    instruments: tuple[Instrument, ...]
    left_out: tuple[tuple[str, str], ...]
    """Symbols and what they lack."""


def day_of(files: Iterable[Path]) -> str | None:
    """The day that the files' names state (`tiers-2024-10-01.json`); None where they state none or several."""
    days = {found for file in files for found in _DAY.findall(file.name)}
    try:
        return date.fromisoformat(days.pop()).isoformat() if len(days) == 1 else None
    except ValueError:
        return None


def read_ccxt(files: Iterable[Path]) -> Exported:
    """What the files say, each of which holds markets or tiers. Refused: UnreadableFile."""
    markets: dict[str, Mapping[str, Any]] = {}
    tiers: dict[str, Sequence[Mapping[str, Any]]] = {}
    for file in files:
        found = _parsed(file)
        entries = (
            {str(entry.get("symbol")): entry for entry in found if isinstance(entry, dict)}
            if isinstance(found, list)
            else found
        )
        if not isinstance(entries, dict) or not entries:
            raise UnreadableFile(file, "no markets and no tiers in it", _EXPECTED)
        for symbol, entry in entries.items():
            if isinstance(entry, dict) and "precision" in entry:
                markets[symbol] = entry
            elif isinstance(entry, list) and all(isinstance(tier, dict) and "maxLeverage" in tier for tier in entry):
                tiers[symbol] = entry
            else:
                raise UnreadableFile(file, f"{symbol[:40]!r} is neither a market nor a list of tiers", _EXPECTED)
    return Exported(markets, tiers)


def _parsed(file: Path) -> Any:
    if file.exists() and not file.is_file():
        raise UnreadableFile(file, "no regular file", _EXPECTED)
    with file.open("rb") as stream:
        raw = stream.read(SIZE_MAX + 1)
    if len(raw) > SIZE_MAX:
        raise UnreadableFile(file, f"more than {SIZE_MAX // 1024**2} MiB", _EXPECTED)
    try:
        return json.loads(raw, parse_float=Decimal)
    except (ValueError, RecursionError) as fault:
        raise UnreadableFile(file, f"no JSON ({str(fault)[:80]})", _EXPECTED) from None


def imported(
    exported: Exported,
    known: Catalogue,
    shared: Mapping[str, Any],
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Imported:
    """The perpetual contracts of the files as instruments of the venue of `shared`, which has `venue`, `valid_from`,
    `source` and may have fees that the files do not say.

    `only` and `without` choose among the symbols. Refused: MarketsRefused with every market whose terms cannot be
    right, and for symbols that the files do not have.
    """
    listed = {symbol for symbol, market in exported.markets.items() if market.get("swap") is True} | set(exported.tiers)
    absent = [symbol for symbol in (*only, *without) if symbol not in listed]
    if absent:
        raise MarketsRefused(tuple((symbol, "is not in the files, as a perpetual contract") for symbol in absent))
    _demand_steps(exported.markets)
    instruments: list[Instrument] = []
    left_out: list[tuple[str, str]] = []
    faults: list[tuple[str, str]] = []
    for symbol in dict.fromkeys((*exported.tiers, *exported.markets)):
        if symbol not in listed or symbol in without or (only and symbol not in only):
            continue
        base = known.at(f"{shared['venue']}:{symbol}")
        entry = _entry(symbol, exported, base, shared)
        lacking = [name for name in (*_STATED, "tiers") if entry.get(name) is None]
        if lacking:
            left_out.append((symbol, f"no {', '.join(lacking)}"))
            continue
        try:
            instruments.append(instrument_from({**entry, "symbol": symbol}))
        except InvalidInstrument as fault:
            faults.append((symbol, str(fault).removeprefix(f"{symbol}: ")))
    if faults:
        raise MarketsRefused(tuple(faults))
    return Imported(tuple(instruments), tuple(left_out))


_STATED: Final = ("contract_size", "lot", "tick", "notional_min", "taker_fee", "maker_fee", "liquidation_fee")


def _entry(symbol: str, exported: Exported, base: Instrument | None, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of one market: what the files say, else what the user states, else what is known of it."""
    before = {} if base is None else base.record()
    market, tiers = exported.markets.get(symbol), exported.tiers.get(symbol)
    said = {} if market is None else _of_market(market)
    terms = {name: _first(said.get(name), shared.get(name), before.get(name)) for name in _STATED}
    settle = symbol.partition(":")[2]
    stated = before.get("tiers") if tiers is None else list(_rows(symbol, settle, tiers))
    return {**terms, "tiers": stated, **{name: shared[name] for name in ("venue", "valid_from", "source")}}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _of_market(market: Mapping[str, Any]) -> dict[str, Any]:
    def inside(*names: str) -> Any:
        found: Any = market
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    least = inside("limits", "cost", "min")
    return {
        "contract_size": inside("contractSize"),
        "lot": inside("precision", "amount"),
        "tick": inside("precision", "price"),
        "notional_min": 0 if least is None else least,
        "taker_fee": inside("taker"),
        "maker_fee": inside("maker"),
        "liquidation_fee": inside("info", "liquidationFee"),
    }


def _rows(symbol: str, settle: str, tiers: Sequence[Mapping[str, Any]]) -> Iterator[list[Any]]:
    """The tiers as rows of a table. Refused (InvalidInstrument): tiers counted in another currency."""
    for number, tier in enumerate(tiers, start=1):
        currency = tier.get("currency")
        if currency not in (None, settle):
            raise MarketsRefused(
                ((symbol, f"tier {number} counts in {currency}; expected {settle}, which it settles in"),)
            )
        published = tier.get("info", {}).get("cum") if isinstance(tier.get("info"), dict) else None
        yield [tier.get("minNotional"), tier.get("maxNotional"), tier.get("maintenanceMarginRate"),
               tier.get("maxLeverage"), published]  # fmt: skip


def _demand_steps(markets: Markets) -> None:
    """Refuses a file whose precision counts decimals: no lot or tick in it is below one."""
    steps = [
        (symbol, Decimal(str(step)))
        for symbol, market in markets.items()
        for step in (market.get("precision") or {}).values()
        if isinstance(step, int | Decimal) and not isinstance(step, bool)
    ]
    if steps and all(step == step.to_integral_value() for _, step in steps) and any(step > 1 for _, step in steps):
        reason = "precision is a count of decimals in this file; expected steps (ccxt's TICK_SIZE), like 0.001"
        raise MarketsRefused(((steps[0][0], reason),))
