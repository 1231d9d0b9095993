"""Where orders and bars meet the positions of the paper exchange: fills, funding, liquidation, auto-deleveraging.

So it does to a position what the compiled loop does, with the very functions that the loop calls. What a bar's volume
does not bear of an order lapses; where nothing traded an order waits.
"""

from typing import Any, NamedTuple

from ringfence.markets.errors import ExchangeRefused
from ringfence.markets.exchange.books import ExchangeBooks, Placed
from ringfence.markets.exchange.protocol import Deleveraged, Fill, Funding, Liquidated
from ringfence.markets.exchange.settling import Settled, closed, funded, is_affordable, opened, split
from ringfence.markets.exchange.terms import TradedBar, bar_row, charges_row, contract_row
from ringfence.markets.paper import fill, fund, liquidate
from ringfence.risk.book import POSITION, Holding, Order, rows
from ringfence.risk.exposure import fee, liquidation_price, profit, traded_value

__all__ = ["Leg", "Matching", "refusal"]

_NAME = "the paper exchange"


class Leg(NamedTuple):
    """One account's position in one instrument, with what the rules read."""

    account: str
    instrument: str
    contract: Any
    """INSTRUMENT."""
    charges: Any
    """POSITION_LIMITS."""
    prices: Any
    """BAR, the one in force or the one that is being lived through."""
    bar: TradedBar


class Matching:
    """The books' positions and orders, inside a `books.work()` of the caller's."""

    def __init__(self, books: ExchangeBooks) -> None:
        self.books = books
        self._contracts: dict[str, Any] = {}

    def leg_or_none(self, account: str, instrument: str, verb: str) -> Leg | None:
        """None before the instrument's first bar. Refused: an account that may not trade there."""
        charges, bar = self.books.charges(account, instrument), self.books.bar(instrument)
        if charges is None:
            raise refusal(verb, f"{account!r} does not trade {instrument!r}")
        if bar is None:
            return None
        if instrument not in self._contracts:
            self._contracts[instrument] = contract_row(self.books.contracts()[instrument])
        return Leg(account, instrument, self._contracts[instrument], charges_row(charges), bar_row(bar), bar)

    def leg(self, account: str, instrument: str, verb: str) -> Leg:
        leg = self.leg_or_none(account, instrument, verb)
        if leg is None:
            raise refusal(verb, f"{instrument!r} has no price")
        return leg

    def covers(self, leg: Leg, held: Holding, lots: int, margin: int) -> bool:
        """Whether what of `lots` opens has its initial margin at the close in force, filled whole."""
        closing, opening = split(held.quantity, lots)
        if opening == 0:
            return True
        left = held
        if closing:
            left = self._closed(leg, held, closing).held
        return is_affordable(left, leg.contract, opening, *self._price(leg, opening), margin, leg.prices.mark_close)

    def _price(self, leg: Leg, lots: int) -> tuple[float, int]:
        """What `lots` would fill at now, whole, and their fee."""
        price = fill(Order(0, lots), leg.charges, leg.contract, leg.prices, 0).price
        return price, int(fee(traded_value(leg.contract, lots, price), leg.charges.taker_fee))

    def _closed(self, leg: Leg, held: Holding, lots: int) -> Settled:
        return closed(held, leg.contract, lots, *self._price(leg, lots))

    def attempt(self, order: Placed, most: int | None = None, *, stays: bool = False) -> None:
        """Fill what can be filled of an open order now, at most `most` lots. The rest lapses, unless it `stays` or
        nothing trades."""
        leg = self.leg_or_none(order.account, order.instrument, "place")
        if leg is None or not leg.bar.valid:
            self.books.put_order(order)
            return
        left, side = abs(order.lots - order.filled), 1 if order.lots > 0 else -1
        lots = side * (left if most is None else min(left, most))
        held = self.books.held(order.account, order.instrument)
        closing, opening = split(held.quantity, lots)
        if order.reduce_only:
            opening = 0
        elif opening and not self.covers(leg, held, lots, order.held):
            self.end(order, "the margin is below the initial margin")
            return
        for part in (closing, opening):
            if part and self._fill(leg, order, part) != part:
                break
        if order.filled == order.lots:
            self.end(order, "")
        elif stays:
            self.books.put_order(order)
        else:
            self.end(order, _why(order, lots))

    def _fill(self, leg: Leg, order: Placed, lots: int) -> int:
        """Lots that all close or all open, as far as the volume goes; returns those that filled."""
        account, instrument = leg.account, leg.instrument
        held, used = self.books.held(account, instrument), self.books.traded(account, instrument)
        report = fill(Order(0, lots), leg.charges, leg.contract, leg.prices, used)
        if report.lots == 0:
            return 0
        opens, moved = held.quantity == 0 or (held.quantity > 0) == (lots > 0), 0
        if opens:
            moved, order.held = order.held, 0
            held = Holding(held.quantity, held.cost, held.margin + moved)
        change = (opened if opens else closed)(held, leg.contract, int(report.lots), report.price, int(report.fee))
        before, order.filled = order.filled, order.filled + int(report.lots)
        order.price = _average(order.price, before, float(report.price), order.filled)
        order.cost, order.fee = order.cost + change.value, order.fee + change.fee
        self.books.put_held(account, instrument, change.held)
        self.books.add_traded(account, instrument, abs(int(report.lots)))
        told = Fill("", order.client_id, instrument, int(report.lots), float(report.price), float(report.mark),
                    change.fee, change.realised, moved, self.books.figure("clock"), 0)  # fmt: skip
        self.books.add(account, told.ts, told)
        return int(report.lots)

    def end(self, order: Placed, reason: str) -> None:
        """What its collateral was held for will not come."""
        self.books.add_to_wallet(order.account, order.held)
        order.held, order.is_final, order.reason = 0, True, reason
        self.books.put_order(order)

    # What happens by itself

    def _row(self, held: Holding) -> Any:
        row = rows(POSITION, 1)[0]
        row.quantity, row.cost, row.margin = held
        return row

    def live(self, leg: Leg, held: Holding) -> None:
        """Funding of the bar's stamps, then maintenance at its worst mark."""
        for stamp, rate in leg.bar.stamps if held.quantity else ():
            report = fund(self._row(held), leg.contract, leg.prices, rate)
            held = funded(held, bool(leg.contract.inverse), int(report.amount))
            paid = Funding(leg.instrument, stamp, rate, float(report.mark), int(report.amount), 0)
            self.books.add(leg.account, stamp, paid)
        self.books.put_held(leg.account, leg.instrument, held)
        if held.quantity and leg.bar.valid:
            row = self._row(held)
            report = liquidate(row, leg.charges, leg.contract, leg.prices)
            if report.lots:
                trigger, long = liquidation_price(row, leg.contract), held.quantity > 0
                gapped = leg.bar.mark_open <= trigger if long else leg.bar.mark_open >= trigger
                length = self.books.figure("clock") - self.books.figure("opening")
                self._liquidated(leg, held, report, self.books.figure("clock") - (length if gapped else 0))

    def _liquidated(self, leg: Leg, held: Holding, report: Any, ts: int) -> None:
        change = closed(held, leg.contract, int(report.lots), report.price, int(report.fee))
        returned = change.held.margin
        self.books.put_held(leg.account, leg.instrument, Holding(0, 0, 0))
        self.books.add_to_wallet(leg.account, returned)
        told = Liquidated("", leg.instrument, int(report.lots), float(report.price), float(report.mark), change.fee,
                          change.realised, change.shortfall, returned, ts, 0)  # fmt: skip
        self.books.add(leg.account, ts, told)
        for order in self.books.orders(leg.account):
            if order.instrument == leg.instrument:
                self.end(order, "the position was liquidated")

    def is_lost(self, leg: Leg, held: Holding) -> bool:
        """Whether a position would be liquidated at the mark in force."""
        if held.quantity == 0:
            return False
        now = leg.bar.halted()
        return bool(liquidate(self._row(held), leg.charges, leg.contract, bar_row(now)).lots)

    def deleverage(self, leg: Leg, held: Holding) -> bool:
        """Half of a position in profit, rounded up, at the mark and without a fee; whether it is in profit."""
        mark = leg.bar.mark_close
        if held.quantity == 0 or profit(held, leg.contract, mark) <= 0:
            return False
        half = (abs(held.quantity) + 1) // 2
        lots = -half if held.quantity > 0 else half
        change = closed(held, leg.contract, lots, mark, 0)
        self.books.put_held(leg.account, leg.instrument, change.held)
        now = self.books.figure("clock")
        told = Deleveraged("", leg.instrument, lots, mark, mark, 0, change.realised, change.shortfall, 0, now, 0)
        self.books.add(leg.account, now, told)
        return True


def refusal(verb: str, reason: str) -> ExchangeRefused:
    """What is refused, and why; nothing has changed."""
    return ExchangeRefused(_NAME, verb, reason)


def _average(price: float, lots: int, last: float, all_lots: int) -> float:
    """The price of `lots` and of those up to `all_lots`, which were traded at `last`; exact where it is one price."""
    return last if lots == 0 or price == last else (price * lots + last * (all_lots - lots)) / all_lots


def _why(order: Placed, tried: int) -> str:
    """Why an order ended before all of it had filled."""
    if abs(tried) < abs(order.lots) and abs(order.filled) == abs(tried):
        return "the rest was given up"
    if order.reduce_only and order.filled == 0:
        return "there was nothing left to reduce, or too little was traded"
    return "too little was traded"
