"""Instruments: what one lot is worth, what the venue charges for it and how much margin it demands.

The shipped tables under `venues/` are figures that the exchanges published, with their source and date; nothing is
computed from them that does not come out as a whole number of minor units.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any, Literal

from ringfence.markets.errors import InvalidInstrument, UnknownInstrument
from ringfence.risk.book import INSTRUMENT, Rows, rows, tier_deductions

__all__ = [
    "VENUE_DEFAULT",
    "Instrument",
    "Tier",
    "currency_decimals",
    "instrument",
    "instrument_from",
    "instrument_key",
    "instruments",
    "listed",
    "listing",
]

MILLION = 1_000_000
VENUE_DEFAULT = "binance"
"""Where a bare symbol is traded: the venue of every mandate, until mandates name theirs."""

_KEY = re.compile(r"(?P<venue>[a-z0-9-]+):(?P<symbol>[^:/]+/[^:]*:.*)")
_CURRENCY_DECIMALS = {"USDT": 6, "USDC": 6}
_COIN_DECIMALS = 8


@dataclass(frozen=True)
class Tier:
    """One step of a venue's maintenance table."""

    floor: int
    """Notional from which the tier holds, minor units."""
    rate: int
    """Maintenance rate, parts per million."""
    deduction: int
    """What the requirement is lowered by, minor units, so that it is continuous in the notional."""
    leverage_max: float


@dataclass(frozen=True)
class Instrument:
    """A perpetual contract at one venue, under ccxt's name for it."""

    venue: str
    symbol: str
    base: str
    quote: str
    settle: str
    kind: Literal["linear", "inverse"]
    decimals: int
    """Of the settlement currency."""
    contract_size: Decimal
    """Base units (linear) or quote units (inverse) per contract."""
    lot: Decimal
    """Smallest step of a quantity, contracts."""
    tick: Decimal
    unit: int
    """Minor units one lot is worth at a price of 1: linear value = quantity * unit * price, inverse value = quantity *
    unit / price."""
    notional_min: int
    """Smallest order value, minor units of the settlement currency."""
    taker_fee: int
    """Parts per million of the fill value, as are the other fees."""
    maker_fee: int
    liquidation_fee: int
    tiers: tuple[Tier, ...]
    source: str

    @property
    def key(self) -> str:
        """Venue and symbol, `binance:BTC/USDT:USDT`: what it is called where venues meet."""
        return f"{self.venue}:{self.symbol}"

    def quantity_text(self, lots: int) -> str:
        """Signed lots in units of the base currency (inverse: of the quote currency), exact: -3 -> `-0.003`."""
        return format(lots * self.lot * self.contract_size, "f")


def currency_decimals(currency: str) -> int:
    """Decimals of a currency's minor unit: 6 for USDT and USDC, 8 for coins."""
    return _CURRENCY_DECIMALS.get(currency, _COIN_DECIMALS)


@functools.cache
def instruments() -> tuple[Instrument, ...]:
    """Every shipped instrument, in the order of the tables."""
    shipped: list[Instrument] = []
    tables = resources.files("ringfence.markets").joinpath("venues")
    for table in sorted(tables.iterdir(), key=lambda entry: entry.name):
        if table.name.endswith(".json"):
            venue = json.loads(table.read_text(encoding="utf-8"), parse_float=Decimal)
            shipped += [instrument_from(entry, venue) for entry in venue["instruments"]]
    return tuple(shipped)


def instrument_key(name: str, venue: str = VENUE_DEFAULT) -> str:
    """The key of an instrument by its key or by its symbol; a bare symbol means the one at `venue`."""
    return name if _KEY.fullmatch(name) else f"{venue}:{name}"


def instrument(name: str, venue: str = VENUE_DEFAULT) -> Instrument:
    """The shipped instrument of that key or symbol (at `venue`), or UnknownInstrument with the nearest name."""
    key = instrument_key(name, venue)
    for candidate in instruments():
        if candidate.key == key:
            return candidate
    raise UnknownInstrument(name, tuple(candidate.symbol for candidate in instruments()))


def listed(chosen: Instrument) -> Any:
    """The kernel's row of INSTRUMENT, linear or inverse."""
    row, count = rows(INSTRUMENT, 1)[0], len(chosen.tiers)
    row.scale = 10.0**chosen.decimals
    row.unit, row.notional_min, row.inverse = chosen.unit, chosen.notional_min, chosen.kind == "inverse"
    row.tiers = count
    row.tier[:count] = [(tier.floor, tier.rate, tier.deduction, tier.leverage_max) for tier in chosen.tiers]
    return row


def listing(chosen: Iterable[Instrument]) -> Rows:
    """The rows (N,) of INSTRUMENT that a vault's positions trade.

    An inverse instrument is refused (InvalidInstrument): a vault's cash is in the quote, its margin would be in coin.
    """
    traded = tuple(chosen)
    table = rows(INSTRUMENT, len(traded))
    for n, contract in enumerate(traded):
        if contract.kind != "linear":
            expected = "a linear instrument; the kernel settles in the quote"
            raise InvalidInstrument(contract.symbol, "kind", contract.kind, expected)
        table[n] = listed(contract)
    return table


def instrument_from(entry: Mapping[str, Any], venue: Mapping[str, Any]) -> Instrument:
    """One instrument from a venue's table, checked; InvalidInstrument names the field at fault.

    `entry` overrides `venue` key by key. Amounts are in whole units of the settlement currency, rates are fractions,
    `tiers` are rows [floor, cap, rate, leverage_max, deduction or null] in order of their floors.
    """
    table = {**venue, **entry}
    symbol = str(table["symbol"])
    pair, _, settle = symbol.partition(":")
    base, _, quote = pair.partition("/")
    kind: Literal["linear", "inverse"] = "linear" if settle == quote else "inverse"
    if settle not in (base, quote) or not base:
        raise InvalidInstrument(symbol, "symbol", symbol, "BASE/QUOTE:SETTLE with SETTLE one of the two")
    decimals = currency_decimals(settle)
    lot, contract_size = _positive(symbol, table, "lot"), _positive(symbol, table, "contract_size")
    return Instrument(
        venue=str(table["id"]),
        symbol=symbol,
        base=base,
        quote=quote,
        settle=settle,
        kind=kind,
        decimals=decimals,
        contract_size=contract_size,
        lot=lot,
        tick=_positive(symbol, table, "tick"),
        unit=_whole(symbol, "unit (lot x contract_size in minor units)", lot * contract_size * 10**decimals),
        notional_min=_whole(symbol, "notional_min", Decimal(table["notional_min"]) * 10**decimals),
        **{fee: _fee(symbol, table, fee) for fee in ("taker_fee", "maker_fee", "liquidation_fee")},
        tiers=_tiers(symbol, table["tiers"], decimals),
        source=str(table["source"]),
    )


def _tiers(symbol: str, rows: Sequence[Sequence[Any]], decimals: int) -> tuple[Tier, ...]:
    """Deductions by continuity (`tier_deductions`), whole minor units or refused."""
    if not rows:
        raise InvalidInstrument(symbol, "tiers", "empty", "at least one tier")
    tiers: list[Tier] = []
    reached = 0
    for number, (floor_, cap_, rate_, leverage_, published) in enumerate(rows, start=1):
        where = f"tier {number}"
        floor = _whole(symbol, f"{where} floor", Decimal(floor_) * 10**decimals)
        cap = _whole(symbol, f"{where} cap", Decimal(cap_) * 10**decimals)
        rate = _whole(symbol, f"{where} rate in parts per million", Decimal(rate_) * MILLION)
        leverage = float(leverage_)
        if floor != reached:
            raise InvalidInstrument(symbol, f"{where} floor", floor_, f"{Decimal(reached) / 10**decimals}, no gap")
        if cap <= floor:
            raise InvalidInstrument(symbol, f"{where} cap", cap_, "a cap above the floor")
        if tiers and rate <= tiers[-1].rate:
            raise InvalidInstrument(symbol, f"{where} rate", rate_, "a rate above the tier before")
        if tiers and leverage >= tiers[-1].leverage_max:
            raise InvalidInstrument(symbol, f"{where} leverage_max", leverage_, "a leverage below the tier before")
        if not 0 < rate * leverage < MILLION or leverage < 1:
            raise InvalidInstrument(symbol, f"{where} rate", rate_, f"a rate above 0 and below 1 / {leverage_}")
        *_, deduction = tier_deductions(
            [*(tier.floor for tier in tiers), floor], [*(tier.rate for tier in tiers), rate]
        )
        if tiers and floor * (rate - tiers[-1].rate) != (deduction - tiers[-1].deduction) * MILLION:
            expected = "a floor and rates that make it a whole number of minor units"
            raise InvalidInstrument(symbol, f"{where} deduction", deduction, expected)
        if published is not None and Decimal(published) * 10**decimals != deduction:
            expected = f"{Decimal(deduction) / 10**decimals}, which makes the requirement continuous"
            raise InvalidInstrument(symbol, f"{where} deduction", published, expected)
        tiers.append(Tier(floor, rate, deduction, leverage))
        reached = cap
    return tuple(tiers)


def _positive(symbol: str, table: Mapping[str, Any], field: str) -> Decimal:
    value = Decimal(table[field])
    if not value.is_finite() or value <= 0:
        raise InvalidInstrument(symbol, field, table[field], "a number above 0")
    return value


def _fee(symbol: str, table: Mapping[str, Any], field: str) -> int:
    value = _whole(symbol, f"{field} in parts per million", Decimal(table[field]) * MILLION)
    if value >= MILLION // 10:
        raise InvalidInstrument(symbol, field, table[field], "a fraction below 0.1")
    return value


def _whole(symbol: str, field: str, value: Decimal) -> int:
    if not value.is_finite() or value != value.to_integral_value() or value < 0:
        raise InvalidInstrument(symbol, field, value.normalize(), "a whole number, 0 or more")
    return int(value)
