"""The slow twin's book: instruments, positions and a vault's accounts, in plain Python.

Money is unbounded integers and exact quotients of the floats' own fractions; floats appear where the rules are stated
in floats (leverage, fill prices, triggers), in the same expressions. Money moves only through `Vault.move`, along the
ledger's edges, and an overdrawn account is an AssertionError.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ringfence.risk.edges import MAY_BE_NEGATIVE, AccountKind, Edge
from ringfence.risk.events import Bound, Kind

MILLION = 10**6
ONE = 2**50
EXACT = 2**53
PRICE_LARGEST = 2**53 - 1
VIRTUAL = 1000
NEVER = -1
NO_LOW = 2**63 - 1


@dataclass
class _Record:
    """A numpy record as plain Python numbers."""

    fields: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]


def plain(row: Any) -> Any:
    """One record of a numpy table with Python's own numbers."""
    return _Record(dict(zip(row.dtype.names, row.tolist(), strict=True)))


def plain_rows(table: Any) -> list[Any]:
    return [_Record(dict(zip(table.dtype.names, row, strict=True))) for row in table.tolist()]


class TooLarge(Exception):
    """An amount or a value beyond what the compiled products promise to be exact for."""


def ceil_part(amount: int, parts: int) -> int:
    return -(-amount * parts // MILLION)


def ceil_ratio(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)


def product_down(amount: int, price: float) -> int:
    numerator, denominator = float(price).as_integer_ratio()
    value = amount * numerator // denominator
    if max(abs(amount), abs(value)) >= EXACT:
        raise TooLarge
    return value


def product_up(amount: int, price: float) -> int:
    return -product_down(-amount, price)


def price_of(nav: int, shares: int) -> int:
    """The price per share unit x 2**50, rounded up."""
    return min(ceil_ratio((nav + 1) * ONE, shares + VIRTUAL), PRICE_LARGEST)


def wall_of(mark: int, keep: int, shares: int) -> int:
    """The least cash at which (cash + 1) / (shares + V), and cash / shares, are the part of the mark that is kept."""
    if shares == 0:
        return 0
    floor = ceil_part(mark, keep)
    return max(ceil_ratio(floor * (shares + VIRTUAL), ONE) - 1, ceil_ratio(floor * shares, ONE))


@dataclass
class Instrument:
    unit: int
    scale: float
    inverse: bool
    notional_min: int
    floors: list[int]
    rates: list[int]
    deductions: list[int]
    leverages: list[float]

    @classmethod
    def of(cls, row: Any) -> "Instrument":
        floors, rates, deductions, leverages = map(list, zip(*row.tier[: int(row.tiers)].tolist(), strict=True))
        return cls(int(row.unit), float(row.scale), bool(row.inverse), int(row.notional_min),
                   floors, rates, deductions, leverages)  # fmt: skip

    def value(self, lots: int, price: float, *, up: bool) -> int:
        """What `lots` >= 0 are worth in minor units."""
        amount = lots * self.unit
        numerator, denominator = float(price).as_integer_ratio()
        if self.inverse:
            numerator, denominator = denominator, numerator
        value = ceil_ratio(amount * numerator, denominator) if up else amount * numerator // denominator
        if max(amount, value) >= EXACT:
            raise TooLarge
        return value

    def lot_value(self, price: float) -> float:
        return float(self.unit) / price if self.inverse else float(self.unit) * price

    def tier(self, notional: float) -> int:
        return max(k for k, floor in enumerate(self.floors) if floor <= notional or k == 0)

    def maintenance(self, notional: int) -> int:
        """By the tier that holds the notional, not by the largest line."""
        k = self.tier(notional)
        return ceil_part(notional, self.rates[k]) - self.deductions[k]


@dataclass
class Position:
    """`limit` is the row of POSITION_LIMITS as plain numbers."""

    index: int
    symbol: int
    quantity: int
    cost: int
    refused: int
    limit: Any
    instrument: Instrument
    filled: int = 0
    """Lots bought and sold at this bar."""

    @property
    def side(self) -> int:
        return (self.quantity > 0) - (self.quantity < 0)

    @property
    def held(self) -> int:
        return abs(self.quantity)

    @property
    def owns_value(self) -> bool:
        """Whether a higher value is a gain: of a linear long, and of an inverse short, which is long of coin."""
        return (self.quantity > 0) != self.instrument.inverse

    def gain(self, lots: int, basis: int, price: float) -> int:
        """What `lots` of it that were bought or sold for `basis` bring at a price, rounded down."""
        if self.owns_value:
            return self.instrument.value(lots, price, up=False) - basis
        return basis - self.instrument.value(lots, price, up=True)

    def profit(self, price: float) -> int:
        return self.gain(self.held, self.cost, price) if self.quantity else 0

    def notional(self, price: float) -> int:
        return self.instrument.value(self.held, price, up=True)

    def required(self, price: float, multiple: int) -> int:
        """multiple / 10**6 x maintenance margin; nothing of a flat one."""
        if not self.quantity:
            return 0
        return ceil_part(self.instrument.maintenance(self.notional(price)), multiple)


class Told(NamedTuple):
    """One event, by the names of EVENT."""

    ts: int
    vault: int
    position: int
    kind: int
    reason: int
    quantity_before: int
    quantity_after: int
    amount: int = 0
    fee: int = 0
    shortfall: int = 0
    price: float = 0.0
    mark: float = 0.0
    leverage_before: float = 0.0
    leverage_after: float = 0.0
    liquidation_price: float = 0.0


class Moved(NamedTuple):
    """One transfer, by the names of TRANSFER."""

    bar: int
    vault: int
    edge: int
    position: int
    amount: int


@dataclass
class Vault:
    """`limit` is the row of VAULT_LIMITS as plain numbers. `bar` is the one that is being lived through."""

    index: int
    shares: int
    waiting: int
    mark: int
    locked_since: int
    rebase_at: int
    nav_low: int
    price_low: float
    distance_low: float
    limit: Any
    positions: list[Position]
    accounts: dict[Any, int]
    bar: int = -1
    transfers: list[Moved] = field(default_factory=list)
    events: list[Told] = field(default_factory=list)

    def move(self, edge: Edge, position: Position | None, amount: int) -> None:
        assert amount >= 0, (edge, amount)
        if amount == 0:
            return
        assert edge.of_position == (position is not None)
        for kind, signed in ((edge.debit, -amount), (edge.credit, amount)):
            name: Any = (kind, position.index) if kind is AccountKind.margin and position else kind
            self.accounts[name] += signed
            assert self.accounts[name] >= 0 or kind in MAY_BE_NEGATIVE, (edge, name)
        self.transfers.append(Moved(self.bar, self.index, int(edge), position.index if position else -1, amount))

    def margin(self, position: Position) -> int:
        return self.accounts[AccountKind.margin, position.index]

    def equity(self, position: Position, price: float) -> int:
        return self.margin(position) + position.profit(price)

    @property
    def cushion(self) -> int:
        return self.accounts[AccountKind.cushion]

    @property
    def entering(self) -> int:
        return self.accounts[AccountKind.entering]

    @property
    def cash(self) -> int:
        return self.accounts[AccountKind.reserve] + self.cushion

    @property
    def wall(self) -> int:
        return wall_of(self.mark, self.limit.keep, self.shares)

    @property
    def locked(self) -> bool:
        return self.locked_since >= 0

    def nav(self, bars: Any) -> int:
        return self.cash + sum(max(0, self.equity(one, bars[one.symbol].mark_close)) for one in self.positions)

    def note_low(self, nav: int) -> None:
        if self.shares:
            self.price_low = min(self.price_low, float(nav) / float(self.shares))
            if nav:
                self.distance_low = min(self.distance_low, float(nav - self.wall) / float(nav))

    def signed_notional(self, position: Position, price: float) -> float:
        size = float(position.quantity) * float(position.instrument.unit)
        return size / price if position.instrument.inverse else size * price

    def leverage(self, position: Position, price: float) -> float:
        """Signed notional / equity; 0.0 when flat or when no equity is left."""
        equity = self.equity(position, price)
        if position.quantity == 0 or equity <= 0:
            return 0.0
        return self.signed_notional(position, price) / float(equity)

    def liquidation_price(self, position: Position) -> float:
        """Where equity meets maintenance: the extreme of the tiers' roots, in floats; 0.0 where there is none."""
        if position.quantity == 0:
            return 0.0
        one, margin, roots = position.instrument, self.margin(position), []
        size, sign = float(position.held * one.unit), -1 if position.owns_value else 1
        for rate, deduction in zip(one.rates, one.deductions, strict=True):
            # equity as a function of the value is a line; value = owed / kept is where it meets the tier's own
            owed, kept = float(position.cost + sign * (margin + deduction)), float(MILLION + sign * rate) / MILLION
            if position.owns_value and owed <= 0.0:
                continue  # no positive price brings it there
            roots.append(size * kept / owed if one.inverse else owed / (size * kept))
        return max(0.0, (max if position.side > 0 else min)(roots, default=0.0))

    def tell(
        self, ts: int, one: Position, kind: Kind, reason: Bound, quantities: tuple[int, int],
        amounts: tuple[int, int, int], prices: tuple[float, float, float], leverages: tuple[float, float],
    ) -> None:  # fmt: skip
        """Amounts: amount, fee, shortfall; prices: price, mark, liquidation price."""
        head = (ts, self.index, one.index, int(kind), int(reason))
        self.events.append(Told(*head, *quantities, *amounts, *prices[:2], *leverages, prices[2]))

    def announce(self, ts: int, kind: Kind, wall: int) -> None:
        """What happens to the vault as a whole, with its wall, or the one it would have."""
        self.events.append(Told(ts, self.index, -1, int(kind), int(Bound.nothing), 0, 0, wall))
