"""A paper exchange in this process, asked line by line, and bars of round numbers for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringfence.markets.exchange.books import ExchangeBooks
from ringfence.markets.exchange.client import Client, Operator
from ringfence.markets.exchange.counter import Counter
from ringfence.markets.exchange.faults import NO_FAULTS, FaultPlan
from ringfence.markets.exchange.terms import Charges, Contract, TradedBar
from tests.reference.worlds import HOUR, START

USDT = 10**6
FREE = Charges(half_spread=0.0, slippage=0.0, taker_fee=500, liquidation_fee=10_000, volume_share=1.0)
CONTRACT = Contract(unit=1_000, notional_min=0, inverse=False, scale=1e6, tiers=((0, 10_000, 0, 50.0),))
"""A lot is a thousandth of a coin; maintenance is 1 %."""


def flat(price: float, **others: Any) -> TradedBar:
    """A bar that stays at a price, but for what is stated."""
    prices = (
        dict.fromkeys(("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close"), price)
        | others
    )
    return TradedBar(**prices)


@dataclass
class House:
    """One exchange with an account `btc` of 10,000 USDT that trades A and B."""

    plan: FaultPlan = NO_FAULTS
    path: Path | None = None
    bars: int = 0
    charges: Charges = field(default=FREE)

    def __post_init__(self) -> None:
        self.books = ExchangeBooks(self.path)
        self.counter = Counter(self.books, self.plan)
        self.client = Client("paper", lambda line: self.counter.serve(line))
        self.operator = Operator("paper", lambda line: self.counter.operate(line))
        for instrument in ("A", "B"):
            self.operator.list_contract(instrument, CONTRACT)
        self.operator.pay("btc", 10_000 * USDT)
        for instrument in ("A", "B"):
            self.operator.charge("btc", instrument, self.charges)

    def trade(self, bars: Mapping[str, TradedBar] | float) -> None:
        """The next bar; a number: of that price for both."""
        found = dict.fromkeys(("A", "B"), flat(bars)) if isinstance(bars, float) else bars
        self.operator.trade(START + HOUR * self.bars, HOUR, found)
        self.bars += 1

    def restart(self, plan: FaultPlan = NO_FAULTS) -> None:
        """The exchange comes again, with its books and another plan."""
        self.counter = Counter(self.books, plan)
