"""Paper exchanges of the installation: for each vault one with books of its own, a file in a folder, fed with the bars
that the vault lives through.

Whoever deals for a vault holds its file: nobody else asks its exchange for anything meanwhile, and a process that is
killed lets go.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ringfence.markets.exchange.books import ExchangeBooks
from ringfence.markets.exchange.client import Client, Operator
from ringfence.markets.exchange.counter import Counter
from ringfence.markets.exchange.faults import NO_FAULTS, FaultPlan, read_plan
from ringfence.markets.exchange.terms import Charges, TradedBar, contract_of
from ringfence.risk.book import Walk
from ringfence.runtime.account import Account
from ringfence.runtime.errors import ExchangeRunning
from ringfence.runtime.settings import Settings
from ringfence.runtime.setup import Setup

__all__ = ["PaperAccount", "PaperAccounts", "paper_accounts"]

_NAME = "the paper exchange"
_CHARGES = ("half_spread", "slippage", "taker_fee", "liquidation_fee", "volume_share")


class PaperAccount(Account):
    """A vault's account, and what the operator of its exchange does."""

    def __init__(self, vault: str, books: ExchangeBooks, plan: FaultPlan) -> None:
        counter = Counter(books, plan)
        super().__init__(vault, Client(_NAME, lambda line: counter.serve(line)))
        self._operator, self._books = Operator(_NAME, counter.operate), books
        self._charged: Setup | None = None

    @property
    def opening(self) -> int:
        """Open (UTC ms) of the last bar that the exchange has lived through; -1 before the first."""
        return self._books.figure("opening") if self._books.figure("bars") else -1

    @property
    def exchange_clock(self) -> int:
        """Close of that bar, UTC ms."""
        return self._books.figure("clock")

    @property
    def paid_in(self) -> int:
        """Money that was paid into the account, net of what was paid out."""
        return self._books.paid_in(self.vault) if self._books.wallet(self.vault) is not None else 0

    def prepare(self, setup: Setup, paid_in: int) -> None:
        """Its markets and charges as the mandate has them, and the account's money as its holders paid it in."""
        if paid_in != self.paid_in or self._books.wallet(self.vault) is None:
            self._operator.pay(self.vault, paid_in - self.paid_in)
        if self._charged is setup:
            return
        for name, listed, limit in zip(setup.names, setup.listing, setup.limits.positions, strict=True):
            self._operator.list_contract(name, contract_of(listed))
            charges = Charges(**{charge: getattr(limit, charge).item() for charge in _CHARGES})
            self._operator.charge(self.vault, name, charges)
        self._charged = setup

    def live(self, setup: Setup, walk: Walk, bar: int) -> None:
        """Live through a bar; nothing, for one that it has lived through."""
        if int(walk.ts[bar]) <= self.opening:
            return
        rows = zip(setup.names, walk.bars[bar], strict=True)
        self._operator.trade(
            int(walk.ts[bar]), walk.length, {name: TradedBar.of(row, walk.stamps) for name, row in rows}
        )


@dataclass(eq=False)
class PaperAccounts:
    """The exchanges in a folder, each opened where it is needed."""

    folder: Path
    plan: FaultPlan = NO_FAULTS
    _kept: dict[str, PaperAccount] = field(default_factory=dict, repr=False)

    @contextmanager
    def of(self, vault: str) -> Iterator[PaperAccount]:
        """The vault's account, for this caller alone. Refused: ExchangeRunning, where somebody else has it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self.folder / f"{vault}.db"
        with file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExchangeRunning(str(file)) from None
            if vault not in self._kept:
                self._kept[vault] = PaperAccount(vault, ExchangeBooks(file), self.plan)
            yield self._kept[vault]


def paper_accounts(stated: Settings) -> PaperAccounts | None:
    """Those of the settings; None where none are named. Refused: UnreadableFile, for a plan of faults."""
    if stated.exchange is None:
        return None
    plan = NO_FAULTS if stated.exchange_faults is None else read_plan(stated.exchange_faults)
    return PaperAccounts(stated.exchange, plan)
