"""The slow twin's venue: funding, liquidation, the margin call, and what an order fills at and costs.

It knows nothing of watches: every position is checked at every bar.
"""

import math
from typing import Any, NamedTuple

from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from tests.reference.slow_book import MILLION, Position, Vault, ceil_part, plain_rows, product_down, product_up


class Tick(NamedTuple):
    """One bar of the whole market."""

    open: int
    """UTC ms, as the next."""
    close: int
    bars: Any
    """By symbol, BAR as plain numbers."""
    stamps: Any
    """(F,) of STAMP."""


class Outcome(NamedTuple):
    """What closing some lots comes to."""

    price: float
    basis: int
    gain: int
    due: int


# ---------------------------------------------------------------------------------------------------- fills


def fill_price(one: Position, price: float, buying: bool) -> float:
    if buying:
        return price * (1.0 + one.limit.half_spread + one.limit.slippage)
    return price * (1.0 - one.limit.half_spread - one.limit.slippage)


def traded(one: Position, lots: int, price: float) -> int:
    """What signed `lots` are bought or sold for, rounded against who trades them."""
    return one.instrument.value(abs(lots), price, up=(lots > 0) != one.instrument.inverse)


def at_most(one: Position, lots: int, prices: Any) -> int:
    """As many of the lots as the bar's volume bears."""
    if math.isinf(prices.volume):
        return lots
    each = float(one.instrument.unit) / prices.close if one.instrument.inverse else float(one.instrument.unit)
    bearable = math.floor(one.limit.volume_share * (prices.volume * one.instrument.scale / each))
    return min(lots, max(0, bearable - one.filled))


def outcome(one: Position, lots: int, price: float, rate: int) -> Outcome:
    """Of closing `lots` around `price`."""
    fill, basis = fill_price(one, price, one.side < 0), one.cost * lots // one.held
    return Outcome(fill, basis, one.gain(lots, basis, fill), ceil_part(traded(one, -one.side * lots, fill), rate))


def closable(vault: Vault, one: Position, lots: int, price: float) -> int:
    """The lots; all where loss and fee of a part exceed the margin; none where they do of all."""
    for count in (lots, one.held):
        found = outcome(one, count, price, one.limit.taker_fee)
        if vault.margin(one) + found.gain >= found.due:
            return count
    return 0


def refuse(vault: Vault, tick: Tick, one: Position, reason: Bound, wanted: int) -> None:
    """Told once, until the reason changes or lots are opened."""
    if one.refused != reason:
        one.refused, mark = int(reason), tick.bars[one.symbol].mark_close
        leverage = vault.leverage(one, mark)
        vault.tell(
            tick.close, one, Kind.refusal, reason, (one.quantity, wanted), (0, 0, 0),
            (0.0, mark, vault.liquidation_price(one)), (leverage, leverage),
        )  # fmt: skip


def book_close(vault: Vault, one: Position, lots: int, found: Outcome, edge: Edge) -> tuple[int, int, int]:
    """(realised, fee paid, shortfall)."""
    one.quantity -= one.side * lots
    one.cost -= found.basis
    shortfall = max(0, -found.gain - vault.margin(one))
    vault.move(Edge.profit, one, max(0, found.gain))
    vault.move(Edge.loss, one, max(0, -found.gain) - shortfall)
    vault.move(Edge.shortfall, None, shortfall)
    paid = min(found.due, vault.margin(one))
    vault.move(edge, one, paid)
    return found.gain, paid, shortfall


def close_lots(
    vault: Vault, tick: Tick, one: Position, lots: int, kind: Kind, reason: Bound
) -> int:  # fmt: skip
    """Close up to `lots` > 0 by order of the vault; returns how many were closed."""
    prices = tick.bars[one.symbol]
    mark = prices.mark_close
    bearable = closable(vault, one, lots, prices.close)
    filled = at_most(one, bearable, prices)
    if filled == 0:
        reason = Bound.volume if bearable else Bound.costs
        refuse(vault, tick, one, reason, one.quantity - one.side * bearable if bearable else 0)
        return 0
    one.filled += filled
    quantity, before, trigger = one.quantity, vault.leverage(one, mark), vault.liquidation_price(one)
    found = outcome(one, filled, prices.close, one.limit.taker_fee)
    amounts = book_close(vault, one, filled, found, Edge.fee)
    if kind is not Kind.margin_call:  # which tells the trigger that it came before
        trigger = vault.liquidation_price(one)
    vault.tell(
        tick.close, one, kind, reason, (quantity, one.quantity), amounts,
        (found.price, mark, trigger), (before, vault.leverage(one, mark)),
    )  # fmt: skip
    return filled


def open_lots(vault: Vault, tick: Tick, one: Position, lots: int, kind: Kind, reason: Bound) -> None:
    """Open signed `lots`."""
    prices, quantity = tick.bars[one.symbol], one.quantity
    mark, fill = prices.mark_close, fill_price(one, prices.close, lots > 0)
    before, value = vault.leverage(one, mark), traded(one, lots, fill)
    one.filled += abs(lots)
    one.quantity += lots
    one.cost += value
    paid = min(ceil_part(value, one.limit.taker_fee), vault.margin(one))
    vault.move(Edge.fee, one, paid)
    one.refused = int(Bound.nothing)
    vault.tell(
        tick.close, one, kind, reason, (quantity, one.quantity), (0, paid, 0),
        (fill, mark, vault.liquidation_price(one)), (before, vault.leverage(one, mark)),
    )  # fmt: skip


def shift(vault: Vault, tick: Tick, one: Position, amount: int) -> None:
    """Post margin (+) or release it (-), and tell it; what a flat one leaves behind is no news."""
    mark = tick.bars[one.symbol].mark_close
    before = vault.leverage(one, mark)
    vault.move(Edge.post if amount > 0 else Edge.release, one, abs(amount))
    if amount and one.quantity:
        vault.tell(
            tick.close, one, Kind.collateral, Bound.nothing, (one.quantity,) * 2, (amount, 0, 0),
            (0.0, mark, vault.liquidation_price(one)), (before, vault.leverage(one, mark)),
        )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- the venue's rules


def settle_funding(vault: Vault, one: Position, mark: float, stamp: Any) -> None:
    before, rate = vault.leverage(one, mark), stamp.rate
    if one.side * rate > 0:
        amount = -product_up(one.notional(mark), abs(rate))
        paid = min(-amount, vault.margin(one))
        vault.move(Edge.funding_paid, one, paid)
        unpaid = -amount - paid  # is carried in the cost basis
        one.cost += unpaid if one.owns_value else -unpaid
    else:
        amount = product_down(one.instrument.value(one.held, mark, up=False), abs(rate))
        vault.move(Edge.funding_received, one, amount)
    vault.tell(
        stamp.ts, one, Kind.funding, Bound.nothing, (one.quantity,) * 2, (amount, 0, 0),
        (rate, mark, vault.liquidation_price(one)), (before, vault.leverage(one, mark)),
    )  # fmt: skip


def liquidate(vault: Vault, tick: Tick, one: Position) -> None:
    prices, long = tick.bars[one.symbol], one.quantity > 0
    worst = prices.mark_low if long else prices.mark_high
    if vault.equity(one, worst) >= one.required(worst, MILLION):
        return
    quantity, trigger = one.quantity, vault.liquidation_price(one)
    before = vault.leverage(one, trigger) if trigger else 0.0
    past = prices.mark_open <= trigger if long else prices.mark_open >= trigger
    price = min(prices.open, max(trigger, prices.low)) if long else max(prices.open, min(trigger, prices.high))
    found = outcome(one, one.held, price, one.limit.liquidation_fee)
    amounts = book_close(vault, one, one.held, found, Edge.liquidation_fee)
    vault.move(Edge.release, one, vault.margin(one))
    vault.tell(
        tick.open if past else tick.close, one, Kind.liquidation, Bound.maintenance_margin, (quantity, 0), amounts,
        (found.price, worst, trigger), (before, 0.0),
    )  # fmt: skip


def call(vault: Vault, tick: Tick, one: Position) -> None:
    mark = tick.bars[one.symbol].mark_close
    if vault.equity(one, mark) >= one.required(mark, one.limit.call_at):
        return
    kept = kept_by_call(vault, tick.bars[one.symbol], one)
    close_lots(vault, tick, one, one.held - kept, Kind.margin_call, Bound.margin_call)


def cost_of_whole(vault: Vault, prices: Any, one: Position) -> int:
    """What closing all lots costs against the mark: fee, spread, slippage, and where the last price is not the mark."""
    found = outcome(one, one.held, prices.close, one.limit.taker_fee)
    return found.due + one.profit(prices.mark_close) - found.gain


def estimate(vault: Vault, prices: Any, one: Position) -> int:
    """Cost and requirement taken to be in proportion to the lots: equity - cost x (1 - k) = required x k."""
    mark, cost = prices.mark_close, cost_of_whole(vault, prices, one)
    required = one.instrument.maintenance(one.notional(mark)) * (one.limit.call_to * 1e-6)
    free = vault.equity(one, mark) - cost
    if free <= 0 or required <= cost:
        return 0
    return int(one.held * (free / (required - cost)))


def kept_by_call(vault: Vault, prices: Any, one: Position) -> int:
    """How many lots a margin call leaves: as many as the estimate says, lot by lot fewer until `call_to` is reached."""
    mark, call_to, kept = prices.mark_close, one.limit.call_to, estimate(vault, prices, one)
    # one lot fewer brings at most its value at the highest rate, and what closing it may gain, roundings apart
    steepest = one.instrument.lot_value(mark) * max(one.instrument.rates) * call_to / MILLION**2
    steepest += max(0.0, -cost_of_whole(vault, prices, one) / one.held)
    while kept > 0:
        found = outcome(one, one.held - kept, prices.close, one.limit.taker_fee)
        rest = Position(one.index, one.symbol, one.side * kept, one.cost - found.basis, 0, one.limit, one.instrument)
        equity = vault.margin(one) + found.gain - found.due + rest.profit(mark)
        lacking = rest.required(mark, call_to) - equity
        if lacking <= 0:
            return kept
        kept -= max(1, int((lacking - 20) / steepest * (1.0 - 1e-9)))
    return 0


def venue(vault: Vault, tick: Tick) -> int:
    """Funding, liquidations and margin calls of a bar; returns the NAV at the bar's worst point."""
    worst = 0
    for one in vault.positions:
        prices, one.filled = tick.bars[one.symbol], 0
        for stamp in plain_rows(tick.stamps[prices.stamps_from : prices.stamps_to]) if prices.funding else ():
            if one.quantity:
                settle_funding(vault, one, prices.mark_open, stamp)
        if one.quantity and prices.valid:
            liquidate(vault, tick, one)
        worst += max(0, vault.equity(one, prices.mark_high if one.quantity < 0 else prices.mark_low))
        if one.quantity and prices.valid:
            call(vault, tick, one)
    return worst + vault.cash
