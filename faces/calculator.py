"""The margin calculator: what every exchange tells of an isolated position before it is opened."""

import math
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ringfence.faces.errors import InputRefused
from ringfence.faces.table_lines import Table, tables_of
from ringfence.markets.errors import AmbiguousInstrument, UnknownInstrument
from ringfence.markets.instruments import Catalogue, Instrument, Tier, currency_decimals, listed
from ringfence.markets.tables import shipped
from ringfence.risk.book import Holding
from ringfence.risk.exposure import (
    bankruptcy_price,
    initial_margin,
    liquidation_price,
    risk_at,
    tier_of,
    value_up,
)
from ringfence.words.amounts import AMOUNT_MAX, parse_amount
from ringfence.words.numbers import format_amount
from ringfence.words.numbers import format_ppm as percent_of
from ringfence.words.units import Fee, MultipleUnit, Percentage, UnitError

__all__ = ["Calculation", "Request", "calculate"]

_FEE: Percentage = Fee.__metadata__[0]  # type: ignore[attr-defined]
_RATE = Percentage("rate", high="0.99", low_open=True, ppm=True)
_VALUE_MAX = 2**53
_PRICE_PLACES = 12


@dataclass(frozen=True)
class Request:
    """What is asked, as it was typed."""

    symbol: str
    side: str
    quantity: str
    """Of the base currency; of an inverse contract, of the quote currency."""
    entry: str
    margin: str | None
    leverage: str | None
    rate: str | None
    amount: str | None
    fee: str | None
    inverse: bool
    mark: str | None


@dataclass(frozen=True)
class Calculation:
    """The position, and what follows for it. Money in minor units, prices None where there is none."""

    instrument: Instrument
    table: Table | None
    """Where its terms stand; None where all were stated."""
    side: int
    quantity: Decimal
    entry: Decimal
    mark: Decimal
    margin: int
    notional_entry: int
    notional: int
    """At the mark, as is what follows."""
    initial_margin: int | None
    """At the leverage asked for, else the least that the venue takes; None where its table is not known."""
    maintenance_margin: int
    tier: int
    """Number of the tier that holds the notional at the mark, from 1."""
    open_profit: int
    equity: int
    liquidation_price: float | None
    liquidation_tier: int | None
    bankruptcy_price: float | None

    @property
    def distance(self) -> float | None:
        """|mark - liquidation price| / mark; None without one; 0 where the mark is there or past it."""
        if self.liquidation_price is None:
            return None
        return max(0.0, self.side * (float(self.mark) - self.liquidation_price) / float(self.mark))

    @property
    def leverage(self) -> float | None:
        """Notional / equity at the mark; None where no equity is left."""
        return self.notional / self.equity if self.equity > 0 else None

    def document(self) -> dict[str, object]:
        """As JSON: amounts and prices as texts."""
        contract = self.instrument

        def money(amount: int) -> str:
            return format_amount(amount, contract.decimals)

        held = contract.tiers[self.tier - 1]
        return {
            "symbol": contract.name if self.table else contract.symbol,
            "table": None if self.table is None else self.table.document(),
            "kind": contract.kind,
            "currency": contract.settle,
            "side": "long" if self.side > 0 else "short",
            "quantity": format(self.quantity, "f"),
            "quantity_currency": contract.base if contract.kind == "linear" else contract.quote,
            "entry_price": format(self.entry, "f"),
            "mark_price": format(self.mark, "f"),
            "margin": money(self.margin),
            "notional": money(self.notional),
            "notional_at_entry": money(self.notional_entry),
            "initial_margin": None if self.initial_margin is None else money(self.initial_margin),
            "maintenance_margin": money(self.maintenance_margin),
            "tier": self.tier,
            "tier_rate": percent_of(held.rate),
            "tier_deduction": money(held.deduction),
            "open_profit": money(self.open_profit),
            "equity": money(self.equity),
            "leverage": None if self.leverage is None else f"{self.leverage:.4f}",
            "liquidation_price": _price_text(self.liquidation_price),
            "liquidation_tier": self.liquidation_tier,
            "bankruptcy_price": _price_text(self.bankruptcy_price),
            "liquidation_distance": None if self.distance is None else f"{self.distance:.6f}",
        }


def _price_text(price: float | None) -> str | None:
    """At least four decimals and nine significant figures."""
    if price is None:
        return None
    return f"{price:.{min(20, max(4, 8 - math.floor(math.log10(price))))}f}"


def calculate(asked: Request, catalogue: Catalogue | None = None) -> Calculation:
    """Margin, liquidation and bankruptcy of one isolated position in an instrument of the catalogue (None: shipped).

    Refused: UnknownInstrument, and InputRefused for what cannot be meant (sizes that are no whole lots, both or none
    of margin and leverage, ...).
    """
    if asked.side not in ("long", "short"):
        raise InputRefused("--side", asked.side, "expected long or short")
    side = 1 if asked.side == "long" else -1
    known = _known(asked, shipped() if catalogue is None else catalogue)
    contract = _instrument(asked, known)
    lots, quantity = _lots(contract, asked.quantity)
    entry = _price("--entry", asked.entry)
    mark = entry if asked.mark is None else _price("--mark", asked.mark)
    for price in (entry, mark):
        _within_range(contract, lots, price, asked.quantity)
    row = listed(contract)
    at_entry, at_mark = (value_up(row, lots, float(price)) for price in (entry, mark))
    margin, initial = _margin(asked, contract, at_entry, tier_of(row, at_entry))
    fee = 0 if asked.fee is None else int(_read("--fee", _FEE, asked.fee))
    position = Holding(side * lots, _cost(contract, lots, entry, side), margin)
    risk, level = risk_at(position, row, float(mark)), liquidation_price(position, row, fee)
    return Calculation(
        instrument=contract, table=None if known is None else tables_of([known])[0], side=side, quantity=quantity,
        entry=entry, mark=mark, margin=margin, notional_entry=at_entry, notional=at_mark, initial_margin=initial,
        maintenance_margin=risk.maintenance, tier=tier_of(row, at_mark) + 1, open_profit=risk.equity - margin,
        equity=risk.equity, liquidation_price=level or None,
        liquidation_tier=tier_of(row, value_up(row, lots, level)) + 1 if level else None,
        bankruptcy_price=bankruptcy_price(position, row, fee) or None,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the contract


def _known(asked: Request, catalogue: Catalogue) -> Instrument | None:
    """The instrument of a table, or with `--rate` None for any other name."""
    try:
        known = catalogue.find(asked.symbol)
    except (UnknownInstrument, AmbiguousInstrument) as refusal:
        if asked.rate is None:
            raise InputRefused("--symbol", "", f"{refusal}; or state its terms with --rate") from None
        return None
    if asked.inverse and known.kind == "linear":
        inverse = ", ".join(one.name for one in catalogue.instruments if one.kind == "inverse") or "none known"
        raise InputRefused("--inverse", "", f"{known.name} is linear; inverse are: {inverse}, or any with --rate")
    return known


def _instrument(asked: Request, known: Instrument | None) -> Instrument:
    """The known instrument, or with `--rate` one of a single tier, under any name."""
    if asked.rate is None:
        if asked.amount is not None:
            raise InputRefused("--amount", asked.amount, "belongs to --rate, the maintenance rate; give both")
        assert known is not None, "without --rate it is known"
        return known
    base = _stated(asked) if known is None else known
    tier = Tier(0, int(_read("--rate", _RATE, str(asked.rate))), _deduction(asked, base), math.inf)
    return replace(base, tiers=(tier,), notional_max=None)


def _stated(asked: Request) -> Instrument:
    """A contract of a name that is not shipped: its lot is the last decimal of the quantity."""
    pair, _, settled = asked.symbol.partition(":")
    base, slash, quote = pair.partition("/")
    quote = quote if slash else "USD" if asked.inverse else "USDT"
    settle = settled or (base if asked.inverse else quote)
    decimals = currency_decimals(settle)
    places = len(asked.quantity.partition(".")[2])
    if places > decimals:
        raise InputRefused("--quantity", asked.quantity, f"has {places} decimals; at most {decimals} are possible here")
    lot = Decimal(1).scaleb(-places)
    return Instrument(
        venue="stated",
        symbol=asked.symbol, base=base, quote=quote, settle=settle, kind="inverse" if asked.inverse else "linear",
        decimals=decimals, contract_size=Decimal(1), lot=lot, tick=Decimal("1e-12"), unit=int(lot * 10**decimals),
        notional_min=0, taker_fee=0, maker_fee=0, liquidation_fee=0, tiers=(), notional_max=None,
        valid_from=None, source="as stated",
    )  # fmt: skip


def _deduction(asked: Request, contract: Instrument) -> int:
    if asked.amount is None or asked.amount.strip("0") in ("", "."):
        return 0
    return _amount("--amount", asked.amount, contract.decimals)


# ---------------------------------------------------------------------------------------------------- readings


def _read(option: str, unit: Percentage | MultipleUnit, text: str) -> float:
    try:
        return unit.parse(text)
    except UnitError as refusal:
        raise InputRefused(option, "", str(refusal)) from None


def _amount(option: str, text: str, decimals: int) -> int:
    try:
        return parse_amount(text, decimals)
    except UnitError as refusal:
        raise InputRefused(option, "", str(refusal)) from None


def _price(option: str, text: str) -> Decimal:
    places = min(_PRICE_PLACES, len(text.partition(".")[2]))
    _amount(option, text, places)
    return Decimal(text)


def _lots(contract: Instrument, text: str) -> tuple[int, Decimal]:
    """Whole lots and the quantity, or a refusal that names the nearest."""
    places = max(0, -int(Decimal(contract.unit).scaleb(-contract.decimals).normalize().as_tuple().exponent))
    _amount("--quantity", text, max(places, min(_PRICE_PLACES, len(text.partition(".")[2]))))
    quantity, step = Decimal(text), contract.lot * contract.contract_size
    lots = quantity / step
    if lots != lots.to_integral_value():
        near = {lots.to_integral_value(ROUND_FLOOR) * step, lots.to_integral_value(ROUND_CEILING) * step} - {Decimal(0)}
        told = " and ".join(format(size.normalize(), "f") for size in sorted(near))
        unit = contract.base if contract.kind == "linear" else contract.quote
        reason = f"{contract.symbol} trades in steps of {format(step.normalize(), 'f')} {unit}; nearest: {told}"
        raise InputRefused("--quantity", text, reason)
    return int(lots), quantity


def _within_range(contract: Instrument, lots: int, price: Decimal, quantity: str) -> None:
    size = lots * contract.unit
    value = size * price if contract.kind == "linear" else size / price
    if max(value, Decimal(size)) >= _VALUE_MAX or value > AMOUNT_MAX * 9:
        most = format_amount(AMOUNT_MAX, contract.decimals)
        raise InputRefused(
            "--quantity", quantity, f"is too large at {price:f}; expected a value below {most} {contract.settle}"
        )


def _cost(contract: Instrument, lots: int, entry: Decimal, side: int) -> int:
    """What the lots were bought or sold for, minor units, rounded against the position."""
    exact = lots * contract.unit * entry if contract.kind == "linear" else lots * contract.unit / entry
    up = (side > 0) == (contract.kind == "linear")
    return int(exact.to_integral_value(ROUND_CEILING if up else ROUND_FLOOR))


def _margin(asked: Request, contract: Instrument, notional: int, tier: int) -> tuple[int, int | None]:
    """(margin posted, initial margin)."""
    if (asked.margin is None) == (asked.leverage is None):
        raise InputRefused("--margin, --leverage", "", "expected exactly one of the two")
    most = contract.tiers[tier].leverage_max
    if asked.leverage is not None:
        leverage = _read("--leverage", MultipleUnit(), asked.leverage)
        if leverage > most:
            raise InputRefused("--leverage", asked.leverage, f"the venue's highest for this size is {most:g}")
        margin = initial_margin(notional, leverage)
        return margin, margin
    margin = _amount("--margin", str(asked.margin), contract.decimals)
    return margin, (initial_margin(notional, most) if math.isfinite(most) else None)
