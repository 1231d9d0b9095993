"""Instruments: what one lot is worth, what the venue charges for it and how much margin it demands.

A catalogue holds the instruments that a run may trade: the shipped ones (`markets.tables.shipped`), with a user's own
tables over them. Nothing is computed from a table that does not come out as a whole number of minor units.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from ringfence.markets.errors import AmbiguousInstrument, InvalidInstrument, UnknownInstrument
from ringfence.risk.book import INSTRUMENT, TIERS_MAX, Rows, rows, tier_deductions
from ringfence.words.numbers import format_decimal

__all__ = [
    "VENUE_DEFAULT",
    "Catalogue",
    "Instrument",
    "Tier",
    "currency_decimals",
    "instrument_from",
    "instrument_key",
    "listed",
    "listing",
]

MILLION = 1_000_000
VENUE_DEFAULT = "binance"
"""Where a bare symbol is traded, unless no table of it lists the symbol and one other venue's does."""

_KEY = re.compile(r"(?P<venue>[a-z0-9][a-z0-9-]*):(?P<symbol>[^:/]+/[^:]*:.*)")
_VENUE = re.compile(r"[a-z0-9][a-z0-9-]{0,23}", re.ASCII)
_SYMBOL = re.compile(r"[A-Z0-9]+/[A-Z0-9]+:[A-Z0-9]+", re.ASCII)
_SYMBOL_MAX = 40
_WHOLE_MAX = 2**53
"""Minor units; products of larger ones would leave the kernel's integers."""
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
    notional_max: int | None
    """Largest value of a position, minor units of the settlement currency; None where no table states it."""
    valid_from: str | None
    """The day, ISO, from which the venue is known to have asked this; None where a person stated the terms."""
    source: str

    @property
    def key(self) -> str:
        """Venue and symbol, `binance:BTC/USDT:USDT`: what it is called where venues meet."""
        return f"{self.venue}:{self.symbol}"

    @property
    def name(self) -> str:
        """What people call it: its symbol at the default venue, else its key. `instrument_key` leads back."""
        return self.symbol if self.venue == VENUE_DEFAULT else self.key

    @property
    def size(self) -> Decimal:
        """What one lot is, in units of the base currency (inverse: of the quote currency)."""
        return self.lot * self.contract_size

    def quantity_text(self, lots: int) -> str:
        """Signed lots in units of the base currency (inverse: of the quote currency), exact: -3 -> `-0.003`."""
        return format(lots * self.size, "f")

    @property
    def ends(self) -> tuple[int | None, ...]:
        """Notional at which each tier ends, minor units; None where the last one's is not stated."""
        return (*(tier.floor for tier in self.tiers[1:]), self.notional_max)

    def record(self) -> dict[str, Any]:
        """Its terms as plain values that `instrument_from` reads back to the same: amounts in whole units and rates as
        fractions, exact, as texts."""
        unit = 10**self.decimals

        def whole(amount: int) -> str:
            return format_decimal(Decimal(amount) / unit)

        def fraction(rate: int) -> str:
            return format_decimal(Decimal(rate) / MILLION)

        return {
            "venue": self.venue,
            "symbol": self.symbol,
            "contract_size": format_decimal(self.contract_size),
            "lot": format_decimal(self.lot),
            "tick": format_decimal(self.tick),
            "notional_min": whole(self.notional_min),
            "taker_fee": fraction(self.taker_fee),
            "maker_fee": fraction(self.maker_fee),
            "liquidation_fee": fraction(self.liquidation_fee),
            "tiers": [
                [
                    whole(tier.floor),
                    None if end is None else whole(end),
                    fraction(tier.rate),
                    format_decimal(tier.leverage_max),
                    whole(tier.deduction),
                ]
                for tier, end in zip(self.tiers, self.ends, strict=True)
            ],
            "valid_from": self.valid_from,
            "source": self.source,
        }


@dataclass(frozen=True)
class Catalogue:
    """The instruments that may be traded, each key once."""

    instruments: tuple[Instrument, ...]

    @cached_property
    def _by_key(self) -> Mapping[str, Instrument]:
        return {known.key: known for known in self.instruments}

    @property
    def names(self) -> tuple[str, ...]:
        """What its instruments are called, in order."""
        return tuple(known.name for known in self.instruments)

    def at(self, key: str) -> Instrument | None:
        """The instrument of exactly this key, if there is one."""
        return self._by_key.get(key)

    def find(self, name: str) -> Instrument:
        """The instrument of a key or of a symbol: a bare symbol means the default venue's, else the one that lists it.

        Refused: UnknownInstrument with the nearest name, AmbiguousInstrument where several other venues list it.
        """
        found = self.at(instrument_key(name))
        if found is not None:
            return found
        elsewhere = [known for known in self.instruments if known.symbol == name]
        if len(elsewhere) > 1:
            raise AmbiguousInstrument(name, tuple(known.key for known in elsewhere))
        if elsewhere:
            return elsewhere[0]
        raise UnknownInstrument(name, self.names)

    def with_tables(self, own: Iterable[Instrument]) -> "Catalogue":
        """This catalogue with a user's instruments, which stand in place of those of the same keys."""
        return Catalogue(tuple({**self._by_key, **{known.key: known for known in own}}.values()))

    def replaced_by(self, other: Instrument) -> Instrument | None:
        """The instrument of this catalogue in whose place another one stands: of the same key, with other terms."""
        mine = self.at(other.key)
        return None if mine is None or mine == other else mine


def currency_decimals(currency: str) -> int:
    """Decimals of a currency's minor unit: 6 for USDT and USDC, 8 for coins."""
    return _CURRENCY_DECIMALS.get(currency, _COIN_DECIMALS)


def instrument_key(name: str, venue: str = VENUE_DEFAULT) -> str:
    """The key of an instrument by its key or by its symbol; a bare symbol means the one at `venue`."""
    return name if _KEY.fullmatch(name) else f"{venue}:{name}"


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


def instrument_from(entry: Mapping[str, Any], shared: Mapping[str, Any] | None = None) -> Instrument:
    """One instrument from a venue's table, checked; InvalidInstrument names the field at fault and where it stands.

    `entry` overrides `shared` key by key. Amounts are in whole units of the settlement currency, rates are fractions,
    `tiers` are rows [floor, cap or null, rate, leverage_max, deduction or null] in order of their floors. A deduction
    is worked out by continuity; one that is given must be that one.
    """
    table = {**(shared or {}), **entry}
    symbol = str(table["symbol"])
    pair, _, settle = symbol.partition(":")
    base, _, quote = pair.partition("/")
    kind: Literal["linear", "inverse"] = "linear" if settle == quote else "inverse"
    if not _SYMBOL.fullmatch(symbol) or len(symbol) > _SYMBOL_MAX or settle not in (base, quote):
        raise InvalidInstrument(symbol, "symbol", symbol, "BASE/QUOTE:SETTLE with SETTLE one of the two", ("symbol",))
    decimals = currency_decimals(settle)
    lot, contract_size = _positive(symbol, table, "lot"), _positive(symbol, table, "contract_size")
    unit = "unit (lot x contract_size in minor units)"
    tiers, notional_max = _tiers(symbol, table["tiers"], decimals)
    return Instrument(
        venue=_venue(symbol, str(table["venue"])),
        symbol=symbol,
        base=base,
        quote=quote,
        settle=settle,
        kind=kind,
        decimals=decimals,
        contract_size=contract_size,
        lot=lot,
        tick=_positive(symbol, table, "tick"),
        unit=_whole(symbol, unit, lot * contract_size * 10**decimals, ("lot",)),
        notional_min=_whole(
            symbol, "notional_min", _number(symbol, table["notional_min"], "notional_min") * 10**decimals
        ),
        **{fee: _fee(symbol, table, fee) for fee in ("taker_fee", "maker_fee", "liquidation_fee")},
        tiers=tiers,
        notional_max=notional_max,
        valid_from=_day(symbol, table["valid_from"]),
        source=str(table["source"]),
    )


def _tiers(symbol: str, stated: Sequence[Sequence[Any]], decimals: int) -> tuple[tuple[Tier, ...], int | None]:
    """The tiers and where the last one ends; deductions by continuity, whole minor units or refused."""
    if not 1 <= len(stated) <= TIERS_MAX:
        raise InvalidInstrument(symbol, "tiers", f"a list of {len(stated)}", f"1 to {TIERS_MAX} tiers", ("tiers",))
    tiers: list[Tier] = []
    reached: int | None = 0
    for number, (floor, cap, rate, leverage, published) in enumerate(stated):
        terms = {"floor": floor, "cap": cap, "rate": rate, "leverage_max": leverage, "deduction": published}
        row = _TierRow(symbol, number, terms, 10**decimals)
        tiers.append(row.tier(tiers, reached))
        reached = row.cap(tiers[-1].floor)
    return tuple(tiers), reached


@dataclass(frozen=True)
class _TierRow:
    """One stated tier, and where its values stand."""

    symbol: str
    number: int
    """From 0; people count from 1."""
    terms: Mapping[str, Any]
    unit: int
    """Minor units in one of the currency."""

    def refused(self, field: str, value: object, expected: str) -> InvalidInstrument:
        place = ("tiers", self.number, field)
        return InvalidInstrument(self.symbol, f"tier {self.number + 1} {field}", value, expected, place)

    def whole(self, field: str, scale: int) -> int:
        place, told = ("tiers", self.number, field), "rate in parts per million" if field == "rate" else field
        exact = _number(self.symbol, self.terms[field], f"tier {self.number + 1} {field}", place) * scale
        return _whole(self.symbol, f"tier {self.number + 1} {told}", exact, place)

    def cap(self, floor: int) -> int | None:
        """Where the tier ends, minor units; None where that is not stated."""
        if self.terms["cap"] is None:
            return None
        cap = self.whole("cap", self.unit)
        if cap <= floor:
            raise self.refused("cap", self.terms["cap"], "a cap above the floor")
        return cap

    def tier(self, before: Sequence[Tier], reached: int | None) -> Tier:
        """The tier behind those `before` it, which end at `reached` minor units (None: not stated where)."""
        terms, floor, rate = self.terms, self.whole("floor", self.unit), self.whole("rate", MILLION)
        place = ("tiers", self.number, "leverage_max")
        leverage = float(_number(self.symbol, terms["leverage_max"], f"tier {self.number + 1} leverage_max", place))
        if reached is not None and floor != reached:
            raise self.refused("floor", terms["floor"], f"{format_decimal(Decimal(reached) / self.unit)}, no gap")
        if before and floor <= before[-1].floor:
            raise self.refused("floor", terms["floor"], "a floor above the tier before")
        if before and rate <= before[-1].rate:
            raise self.refused("rate", terms["rate"], "a rate above the tier before")
        if before and leverage >= before[-1].leverage_max:
            raise self.refused("leverage_max", terms["leverage_max"], "a leverage below the tier before")
        if not 0 < rate * leverage < MILLION or leverage < 1:
            raise self.refused("rate", terms["rate"], f"a rate above 0 and below 1 / {leverage:g}")
        return Tier(floor, rate, self._deduction(before, floor, rate), leverage)

    def _deduction(self, before: Sequence[Tier], floor: int, rate: int) -> int:
        floors, rates = [*(tier.floor for tier in before), floor], [*(tier.rate for tier in before), rate]
        *_, deduction = tier_deductions(floors, rates)
        if before and floor * (rate - before[-1].rate) != (deduction - before[-1].deduction) * MILLION:
            expected = "a floor and rates that make it a whole number of minor units"
            raise self.refused("deduction", deduction, expected)
        if self.terms["deduction"] is not None and self.whole("deduction", self.unit) != deduction:
            expected = f"{format_decimal(Decimal(deduction) / self.unit)}, which makes the requirement continuous"
            raise self.refused("deduction", self.terms["deduction"], expected)
        return deduction


def _venue(symbol: str, venue: str) -> str:
    if not _VENUE.fullmatch(venue):
        expected = "at most 24 lower-case letters, digits and dashes, like binance"
        raise InvalidInstrument(symbol, "venue", venue, expected, ("venue",))
    return venue


def _day(symbol: str, day: object) -> str | None:
    try:
        return None if day is None else date.fromisoformat(str(day)).isoformat()
    except ValueError:
        raise InvalidInstrument(symbol, "valid_from", day, 'a day like "2024-10-01"', ("valid_from",)) from None


def _number(symbol: str, value: Any, field: str, path: tuple[str | int, ...] = ()) -> Decimal:
    try:
        number = Decimal(value)
    except (ArithmeticError, TypeError, ValueError):
        number = Decimal("NaN")
    if not number.is_finite():
        raise InvalidInstrument(symbol, field, value, "a number", path or (field,))
    return number


def _positive(symbol: str, table: Mapping[str, Any], field: str) -> Decimal:
    value = _number(symbol, table[field], field)
    if value <= 0:
        raise InvalidInstrument(symbol, field, table[field], "a number above 0", (field,))
    return value


def _fee(symbol: str, table: Mapping[str, Any], field: str) -> int:
    exact = _number(symbol, table[field], field) * MILLION
    value = _whole(symbol, f"{field} in parts per million", exact, (field,))
    if value >= MILLION // 10:
        raise InvalidInstrument(symbol, field, table[field], "a fraction below 0.1", (field,))
    return value


def _whole(symbol: str, field: str, value: Decimal, path: tuple[str | int, ...] = ()) -> int:
    if value != value.to_integral_value() or not 0 <= value <= _WHOLE_MAX:
        told = f"a whole number, 0 or more and at most {_WHOLE_MAX}"
        raise InvalidInstrument(symbol, field, value.normalize(), told, path or (field,))
    return int(value)
