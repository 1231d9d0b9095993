"""The slow twin of the whole step: paper exchange, wall and decision, vault by vault and bar by bar, in plain Python.

It knows nothing of watches, of shortcuts for settled positions or of tapes that fill up: every position is checked at
every bar and every plan is carried out. Money is unbounded integers and exact quotients of the floats' own fractions;
floats appear where the rules are stated in floats (leverage, bands, fill prices, triggers), in the same expressions.
Money moves only through `Vault.move`, along the ledger's edges, and an overdrawn account is an AssertionError.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from ringfence.risk.edges import MAY_BE_NEGATIVE, AccountKind, Edge
from ringfence.risk.events import Bound, Kind

MILLION = 10**6
ONE = 2**50
LOTS_MAX, FLOAT_LOTS_MAX = 2**40, 2.0**61
EXACT = 2**53
VIRTUAL = 1000


class TooLarge(Exception):
    """An amount or a value beyond what the compiled products promise to be exact for."""


def floor_value(amount: int, price: float) -> int:
    numerator, denominator = float(price).as_integer_ratio()
    value = amount * numerator // denominator
    if max(abs(amount), abs(value)) >= EXACT:
        raise TooLarge
    return value


def ceil_value(amount: int, price: float) -> int:
    return -floor_value(-amount, price)


def ceil_part(amount: int, parts: int) -> int:
    return -(-amount * parts // MILLION)


@dataclass
class Instrument:
    unit: int
    notional_min: int
    floors: list[int]
    rates: list[int]
    deductions: list[int]
    leverages: list[float]

    @classmethod
    def of(cls, row: Any) -> "Instrument":
        floors, rates, deductions, leverages = map(list, zip(*row.tier[: int(row.tiers)].tolist(), strict=True))
        return cls(int(row.unit), int(row.notional_min), floors, rates, deductions, leverages)

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

    @property
    def side(self) -> int:
        return (self.quantity > 0) - (self.quantity < 0)

    def profit(self, price: float) -> int:
        amount = abs(self.quantity) * self.instrument.unit
        if self.quantity >= 0:
            return floor_value(amount, price) - self.cost if self.quantity else 0
        return self.cost - ceil_value(amount, price)

    def notional(self, price: float) -> int:
        return ceil_value(abs(self.quantity) * self.instrument.unit, price)


@dataclass
class Plan:
    collateral: int = 0
    allowed: float = 0.0
    leverage: float = 0.0
    target: int = 0
    bound: Bound = Bound.nothing


@dataclass
class Vault:
    index: int
    shares: int
    waiting: int
    mark: int
    keep: int
    gross_leverage_max: float
    positions: list[Position]
    accounts: dict[Any, int]
    price_low: float
    distance_low: float
    transfers: list[tuple[int, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------ money

    def move(self, bar: int, edge: Edge, position: Position | None, amount: int) -> None:
        assert amount >= 0, (edge, amount)
        if amount == 0:
            return
        assert edge.of_position == (position is not None)
        for kind, signed in ((edge.debit, -amount), (edge.credit, amount)):
            name: Any = (kind, position.index) if kind is AccountKind.margin and position else kind
            self.accounts[name] += signed
            assert self.accounts[name] >= 0 or kind in MAY_BE_NEGATIVE, (edge, name)
        self.transfers.append((bar, self.index, int(edge), position.index if position else -1, amount))

    def margin(self, position: Position) -> int:
        return self.accounts[AccountKind.margin, position.index]

    def equity(self, position: Position, price: float) -> int:
        return self.margin(position) + position.profit(price)

    @property
    def cash(self) -> int:
        return self.accounts[AccountKind.reserve] + self.accounts[AccountKind.cushion]

    @property
    def wall(self) -> int:
        return -(-ceil_part(self.mark, self.keep) * self.shares // ONE)

    def nav(self, bars: Any) -> int:
        return self.cash + sum(max(0, self.equity(one, bars[one.symbol].mark_close)) for one in self.positions)

    # ------------------------------------------------------------------------------------------------ what is told

    def leverage(self, position: Position, price: float) -> float:
        equity = self.equity(position, price)
        if position.quantity == 0 or equity <= 0:
            return 0.0
        return float(position.quantity) * float(position.instrument.unit) * price / float(equity)

    def liquidation_price(self, position: Position) -> float:
        """Where equity meets maintenance: the extreme of the tiers' roots, in floats; 0.0 where there is none."""
        if position.quantity == 0:
            return 0.0
        side, margin, roots = position.side, self.margin(position), []
        size = float(abs(position.quantity) * position.instrument.unit)
        for rate, deduction in zip(position.instrument.rates, position.instrument.deductions, strict=True):
            numerator = position.cost - side * (margin + deduction)
            if numerator > 0 or side < 0:
                roots.append(float(numerator) / (size * (float(MILLION - side * rate) / MILLION)))
        return max(0.0, max(roots, default=0.0) if side > 0 else min(roots))

    def tell(
        self, bar: int, one: Position, kind: Kind, reason: Bound, quantities: tuple[int, int],
        amounts: tuple[int, int, int], prices: tuple[float, float, float], leverages: tuple[float, float],
    ) -> None:  # fmt: skip
        head = (bar, self.index, one.index, int(kind), int(reason))
        self.events.append((*head, *quantities, *amounts, *prices[:2], *leverages, prices[2]))

    # ------------------------------------------------------------------------------------------------ the venue

    def settle_funding(self, bar: int, one: Position, mark: float, rate: float) -> None:
        size, before = abs(one.quantity) * one.instrument.unit, self.leverage(one, mark)
        if one.side * rate > 0:
            amount = -ceil_value(ceil_value(size, mark), abs(rate))
            paid = min(-amount, self.margin(one))
            self.move(bar, Edge.funding_paid, one, paid)
            one.cost += one.side * (-amount - paid)
        else:
            amount = floor_value(floor_value(size, mark), abs(rate))
            self.move(bar, Edge.funding_received, one, amount)
        self.tell(
            bar, one, Kind.funding, Bound.nothing, (one.quantity,) * 2, (amount, 0, 0),
            (rate, mark, self.liquidation_price(one)), (before, self.leverage(one, mark)),
        )  # fmt: skip

    def fill_price(self, one: Position, price: float, buying: bool) -> float:
        limit = one.limit
        if buying:
            return price * (1.0 + limit.half_spread + limit.slippage)
        return price * (1.0 - limit.half_spread - limit.slippage)

    def close(self, bar: int, one: Position, lots: int, price: float, edge: Edge, rate: int) -> tuple[Any, ...]:
        """(fill, realised profit, fee paid, shortfall). Closes whole where a part's loss and fee outgrow the margin."""
        held, side = abs(one.quantity), one.side
        fill = self.fill_price(one, price, side < 0)

        def outcome(count: int) -> tuple[int, int, int]:
            size = count * one.instrument.unit
            value = floor_value(size, fill) if side > 0 else ceil_value(size, fill)
            basis = one.cost * count // held
            return basis, side * (value - basis), ceil_part(value, rate)

        basis, profit, due = outcome(lots)
        if lots < held and self.margin(one) + profit < due:
            lots = held
            basis, profit, due = outcome(lots)
        one.quantity -= side * lots
        one.cost -= basis
        shortfall = max(0, -profit - self.margin(one))
        self.move(bar, Edge.profit, one, max(0, profit))
        self.move(bar, Edge.loss, one, max(0, -profit) - shortfall)
        self.move(bar, Edge.shortfall, None, shortfall)
        paid = min(due, self.margin(one))
        self.move(bar, edge, one, paid)
        return fill, profit, paid, shortfall

    def liquidate(self, bar: int, one: Position, prices: Any) -> None:
        worst = prices.mark_low if one.quantity > 0 else prices.mark_high
        if self.equity(one, worst) >= one.instrument.maintenance(one.notional(worst)):
            return
        quantity, trigger = one.quantity, self.liquidation_price(one)
        before = self.leverage(one, trigger)
        if quantity > 0:
            price = prices.open if prices.open < trigger else max(trigger, prices.low)
        else:
            price = prices.open if prices.open > trigger else min(trigger, prices.high)
        fill, profit, paid, shortfall = self.close(
            bar, one, abs(quantity), price, Edge.liquidation_fee, one.limit.liquidation_fee
        )
        self.move(bar, Edge.release, one, self.margin(one))
        self.tell(
            bar, one, Kind.liquidation, Bound.maintenance_margin, (quantity, 0), (profit, paid, shortfall),
            (fill, worst, trigger), (before, 0.0),
        )  # fmt: skip

    def call(self, bar: int, one: Position, prices: Any) -> None:
        mark = prices.mark_close
        equity, required = self.equity(one, mark), one.instrument.maintenance(one.notional(mark))
        if equity >= ceil_part(required, one.limit.call_at):
            return
        quantity, trigger, before = one.quantity, self.liquidation_price(one), self.leverage(one, mark)
        kept = int(abs(quantity) * (max(0, equity) / (required * (one.limit.call_to * 1e-6))))
        told = self.close(bar, one, abs(quantity) - kept, prices.close, Edge.fee, one.limit.taker_fee)
        self.tell(
            bar, one, Kind.margin_call, Bound.margin_call, (quantity, one.quantity), told[1:],
            (told[0], mark, trigger), (before, self.leverage(one, mark)),
        )  # fmt: skip

    def venue(self, bar: int, bars: Any) -> None:
        for one in self.positions:
            prices = bars[one.symbol]
            if one.quantity and prices.funding:
                self.settle_funding(bar, one, prices.mark_open, prices.funding_rate)
            if one.quantity and prices.valid:
                self.liquidate(bar, one, prices)
            if one.quantity and prices.valid:
                self.call(bar, one, prices)

    # ------------------------------------------------------------------------------------------------ the decision

    def ratchet(self, bar: int, nav: int) -> None:
        if self.shares == 0 or self.cash <= self.wall:  # a mark may not rise by what no cash at all stands behind
            return
        # the highest mark whose wall the cash can fill, and never more than NAV per share
        backed = (self.cash * ONE // self.shares) * MILLION // self.keep
        mark = min(nav * ONE // (self.shares + VIRTUAL), backed, 2**53 - 1)
        if mark > self.mark:
            self.mark = mark
            self.move(bar, Edge.ratchet, None, max(0, self.wall - self.accounts[AccountKind.reserve]))

    def capital(self, nav: int) -> int:
        capital = max(0, nav - self.wall)
        if self.waiting:
            return int(float(capital) * (float(self.shares - self.waiting) / float(self.shares)))
        return capital

    def plan(self, bars: Any, proposals: Any, nav: int) -> list[Plan]:
        plans, gross, capital = [], 0.0, self.capital(nav)
        for one in self.positions:
            proposal = proposals[one.index]
            plan = Plan(collateral=capital * one.limit.share // MILLION, bound=Bound.no_price)
            plans.append(plan)
            if bars[one.symbol].valid:
                self._limit(one, plan, proposal)
                if plan.bound is not Bound.no_proposal:
                    gross += min(abs(proposal.leverage), one.limit.leverage_max) * plan.collateral
        ceiling = self.gross_leverage_max * nav
        multiplier = ceiling / gross if gross > ceiling else 1.0
        for one, plan in zip(self.positions, plans, strict=True):
            if plan.bound is Bound.no_price:
                plan.target = one.quantity
                continue
            leverage = proposals[one.index].leverage
            fair = min(abs(leverage), one.limit.leverage_max) * multiplier
            if multiplier < 1.0 and plan.bound is not Bound.no_proposal and fair < abs(plan.allowed):
                plan.allowed, plan.bound = math.copysign(fair, leverage), Bound.gross_leverage
            if plan.collateral > 0:
                self._aim(one, plan, bars[one.symbol].mark_close)
        return plans

    def _limit(self, one: Position, plan: Plan, proposal: Any) -> None:
        volatility, leverage = proposal.volatility, proposal.leverage
        known = proposal.proposed and proposal.known and math.isfinite(leverage)
        if not (known and math.isfinite(volatility) and volatility > 0.0):
            plan.bound = Bound.no_proposal
            return
        size, plan.bound = abs(leverage), Bound.nothing
        rate = one.instrument.rates[one.instrument.tier(size * plan.collateral)]
        distance = rate / MILLION + one.limit.distance_sigmas * volatility + one.limit.distance_slippage
        if size * volatility > one.limit.volatility_max:
            size, plan.bound = one.limit.volatility_max / volatility, Bound.volatility
        if size * distance > 1.0:
            size, plan.bound = 1.0 / distance, Bound.liquidation_distance
        plan.allowed = math.copysign(size, leverage)

    def _aim(self, one: Position, plan: Plan, mark: float) -> None:
        lot_value = float(one.instrument.unit) * mark
        held = abs(one.quantity) * lot_value / plan.collateral
        side, aim = one.side, held
        if plan.bound is not Bound.no_proposal:
            side = int(math.copysign(1.0, plan.allowed))
            allowed, held = abs(plan.allowed), held if side == one.side else 0.0
            low = allowed * (1.0 - one.limit.band)
            aim = allowed if held > allowed else held if held > low else low
            if aim == held and held > 0.0 and plan.bound is Bound.nothing:
                plan.bound = Bound.band
        if aim > one.limit.leverage_max:
            aim, plan.bound = one.limit.leverage_max, Bound.leverage_max
        highest = one.instrument.leverages[one.instrument.tier(aim * plan.collateral)]
        if aim > highest:
            aim, plan.bound = highest, Bound.venue_leverage
        plan.leverage = aim
        if aim == held and side == one.side and side != 0:
            plan.target = one.quantity
            return
        plan.target = side * int(min(aim * plan.collateral / lot_value, FLOAT_LOTS_MAX))
        # an order on an open position that the venue would find too small is left, unless a hard cap asks for it
        small = abs(plan.target - one.quantity) * lot_value < one.instrument.notional_min
        if small and one.quantity * plan.target > 0 and held <= min(one.limit.leverage_max, highest):
            plan.target = one.quantity

    # ------------------------------------------------------------------------------------------------ its execution

    def carry_out(self, bar: int, bars: Any, plans: list[Plan]) -> None:
        open_to_orders = [
            (one, plan, bars[one.symbol])
            for one, plan in zip(self.positions, plans, strict=True)
            if plan.bound is not Bound.no_price and not self._settled(one, plan, bars[one.symbol].mark_close)
        ]
        for one, plan, prices in open_to_orders:
            if one.quantity and (one.quantity * plan.target <= 0 or abs(plan.target) < abs(one.quantity)):
                self._reduce(bar, one, plan, prices)
            self._release(bar, one, plan, prices.mark_close)
        for one, plan, prices in open_to_orders:
            growing = abs(plan.target) > abs(one.quantity) and one.quantity * plan.target >= 0
            lacking = plan.collateral - self.equity(one, prices.mark_close)
            if growing:
                self.move(bar, Edge.post, one, min(max(0, lacking), self.accounts[AccountKind.cushion]))
                self._increase(bar, one, plan, prices)
                self._release(bar, one, plan, prices.mark_close)
            elif one.quantity and lacking > plan.collateral * one.limit.band and lacking > 0:
                self._shift(bar, one, prices.mark_close, min(lacking, self.accounts[AccountKind.cushion]))

    def _settled(self, one: Position, plan: Plan, mark: float) -> bool:
        """No order, and the equity within its collateral's band: the position is left alone."""
        if plan.target != one.quantity or one.quantity == 0:
            return plan.target == one.quantity and self.margin(one) == 0
        return abs(max(0, self.equity(one, mark)) - plan.collateral) <= one.limit.band * plan.collateral

    def _reduce(self, bar: int, one: Position, plan: Plan, prices: Any) -> None:
        kept = abs(plan.target) if one.quantity * plan.target > 0 else 0
        lots, quantity, mark = abs(one.quantity) - kept, one.quantity, prices.mark_close
        before = self.leverage(one, mark)
        told = self.close(bar, one, lots, prices.close, Edge.fee, one.limit.taker_fee)
        self.tell(
            bar, one, Kind.resize, plan.bound, (quantity, one.quantity), told[1:],
            (told[0], mark, self.liquidation_price(one)), (before, self.leverage(one, mark)),
        )  # fmt: skip

    def _shift(self, bar: int, one: Position, mark: float, amount: int) -> None:
        before = self.leverage(one, mark)
        self.move(bar, Edge.post if amount > 0 else Edge.release, one, abs(amount))
        if amount:
            self.tell(
                bar, one, Kind.collateral, Bound.nothing, (one.quantity,) * 2, (amount, 0, 0),
                (0.0, mark, self.liquidation_price(one)), (before, self.leverage(one, mark)),
            )  # fmt: skip

    def _release(self, bar: int, one: Position, plan: Plan, mark: float) -> None:
        if one.quantity == 0:
            self.move(bar, Edge.release, one, self.margin(one))
            return
        equity = self.equity(one, mark)
        if equity > plan.collateral * (1.0 + one.limit.band):
            kept = ceil_part(one.instrument.maintenance(one.notional(mark)), one.limit.call_to)
            excess = min(equity - max(plan.collateral, kept), self.margin(one) - kept)
            self._shift(bar, one, mark, -max(0, excess))

    def _refuse(self, bar: int, one: Position, plan: Plan, mark: float, reason: Bound) -> None:
        if one.refused != reason:
            one.refused = int(reason)
            leverage = self.leverage(one, mark)
            self.tell(
                bar, one, Kind.refusal, reason, (one.quantity, plan.target), (0, 0, 0),
                (0.0, mark, self.liquidation_price(one)), (leverage, leverage),
            )  # fmt: skip

    def _increase(self, bar: int, one: Position, plan: Plan, prices: Any) -> None:
        mark, unit, long = prices.mark_close, one.instrument.unit, plan.target > 0
        wanted, reason, equity = min(abs(plan.target), LOTS_MAX), plan.bound, self.equity(one, mark)
        if equity < plan.collateral:
            borne = int(min(plan.leverage * float(max(0, equity)) / (float(unit) * mark), FLOAT_LOTS_MAX))
            if borne < wanted:
                wanted, reason = borne, Bound.cushion
        lots, quantity = wanted - abs(one.quantity), one.quantity
        if lots <= 0 or floor_value(lots * unit, prices.close) < one.instrument.notional_min:
            if reason is Bound.cushion or quantity == 0:
                self._refuse(bar, one, plan, mark, Bound.cushion if reason is Bound.cushion else Bound.notional_min)
            return
        fill = self.fill_price(one, prices.close, long)
        value = ceil_value(lots * unit, fill) if long else floor_value(lots * unit, fill)
        due = ceil_part(value, one.limit.taker_fee)
        if not self._affordable(one, plan, lots, value, due, mark):
            self._refuse(bar, one, plan, mark, Bound.venue_leverage)
            return
        before = self.leverage(one, mark)
        one.quantity += lots if long else -lots
        one.cost += value
        self.move(bar, Edge.fee, one, due)
        one.refused = 0
        self.tell(
            bar, one, Kind.resize, reason, (quantity, one.quantity), (0, due, 0),
            (fill, mark, self.liquidation_price(one)), (before, self.leverage(one, mark)),
        )  # fmt: skip

    def _affordable(self, one: Position, plan: Plan, lots: int, value: int, due: int, mark: float) -> bool:
        if due > self.margin(one):
            return False
        side = 1 if plan.target > 0 else -1
        after = Position(
            one.index, one.symbol, one.quantity + side * lots, one.cost + value, 0, one.limit, one.instrument
        )
        equity, notional = self.margin(one) - due + after.profit(mark), after.notional(mark)
        highest = one.instrument.leverages[one.instrument.tier(float(notional))]
        called_below = ceil_part(one.instrument.maintenance(notional), one.limit.call_at)
        numerator, denominator = highest.as_integer_ratio()
        initial = -(-notional * denominator // numerator)
        return equity >= initial and equity >= called_below

    # ------------------------------------------------------------------------------------------------ one bar

    def step(self, bar: int, bars: Any, proposals: Any) -> tuple[int, list[Plan]] | None:
        """(NAV after, plans) where a decision falls at the bar's close, else None."""
        self.venue(bar, bars)
        nav = self.nav(bars)
        if self.shares:
            self.price_low = min(self.price_low, float(nav) / float(self.shares))
            self.distance_low = min(self.distance_low, float(nav - self.wall) / float(nav))
        if proposals is None:
            return None
        self.ratchet(bar, nav)
        plans = self.plan(bars, proposals, nav)
        self.carry_out(bar, bars, plans)
        return self.nav(bars), plans


@dataclass
class _Record:
    """A numpy record as plain Python numbers."""

    fields: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        return self.fields[name]


def plain(row: Any) -> Any:
    """One record of a numpy table with Python's own numbers."""
    return _Record(dict(zip(row.dtype.names, row.tolist(), strict=True)))


_KINDS = {kind: kind.value for kind in AccountKind if kind is not AccountKind.margin}


class SlowBook:
    """The twin of a book under its limits: `step` it bar by bar, then compare."""

    def __init__(self, book: Any, limits: Any, listing: Any) -> None:
        instruments = [Instrument.of(row) for row in listing]
        self.vaults: list[Vault] = []
        for v, row in enumerate(book.vaults):
            positions, accounts = [], {kind: int(row[name]) for kind, name in _KINDS.items()}
            for p in range(int(row["first"]), int(row["last"])):
                held = plain(book.positions[p])
                accounts[AccountKind.margin, p] = held.margin
                positions.append(
                    Position(p, held.symbol, held.quantity, held.cost, held.refused, plain(limits.positions[p]),
                             instruments[held.symbol])
                )  # fmt: skip
            one, allowed = plain(row), plain(limits.vaults[v])
            self.vaults.append(
                Vault(v, one.shares, one.waiting, one.high_water_mark, allowed.keep, allowed.gross_leverage_max,
                      positions, accounts, one.price_low, one.distance_low)
            )  # fmt: skip

    def run(self, bars: Any, slot: Any, proposals: Any) -> tuple[list[Any], list[Any]]:
        """(rows of VAULT_STATE, rows of POSITION_STATE) in order of decision, then vault or position."""
        states, details = [], []
        for bar in range(len(bars)):
            at = int(slot[bar])
            prices = [plain(row) for row in bars[bar]]
            asked = [plain(row) for row in proposals[at]] if at >= 0 else None
            for vault in self.vaults:
                outcome = vault.step(bar, prices, asked)
                if outcome is None:
                    continue
                nav, plans = outcome
                states.append((nav, vault.mark))
                for one, plan in zip(vault.positions, plans, strict=True):
                    mark = prices[one.symbol].mark_close
                    details.append((one.quantity, plan.allowed, vault.leverage(one, mark),
                                    vault.liquidation_price(one), int(plan.bound)))  # fmt: skip
        return states, details

    def transfers(self, vault: int) -> list[tuple[int, ...]]:
        return self.vaults[vault].transfers

    def events(self, vault: int) -> list[tuple[Any, ...]]:
        return self.vaults[vault].events
