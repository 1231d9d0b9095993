"""The paper exchange: books of its own, the rules of `markets.paper`, and time of its own, which is the bars it is fed.

At each bar it settles funding, liquidates at the worst mark, and then fills at the close what is due; an order that is
given between two bars fills at the close in force. So it does to a position what the compiled loop does, with the very
functions that the loop calls. What a bar's volume does not bear lapses; where nothing traded an order waits.

It takes any order down to one lot, and an increase only with the venue's initial margin. Margin stays with a position
that is flat until it is taken out. A position that is liquidated loses its open orders.
"""

from collections.abc import Mapping

from ringfence.markets.errors import ExchangeRefused
from ringfence.markets.exchange.books import ExchangeBooks, Logged, Placed
from ringfence.markets.exchange.faults import NO_FAULTS, Fault, FaultPlan, Injected
from ringfence.markets.exchange.matching import Leg, Matching, refusal
from ringfence.markets.exchange.protocol import (
    NAME_USED,
    Balance,
    ClientId,
    Deleveraged,
    Ending,
    Fill,
    Funding,
    Liquidated,
    MarginRequest,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
)
from ringfence.markets.exchange.settling import split
from ringfence.markets.exchange.terms import Charges, Contract, TradedBar
from ringfence.risk.book import Holding
from ringfence.risk.exposure import initial_margin, value_up

__all__ = ["PaperExchange"]


class PaperExchange:
    """The verbs of `protocol.Exchange` over the books, and those of its operator. What is refused raises
    ExchangeRefused and changes nothing; each call must run inside one `books.work()`."""

    def __init__(self, books: ExchangeBooks, plan: FaultPlan = NO_FAULTS) -> None:
        self.books, self.plan = books, plan
        self._matching = Matching(books)

    # What its operator does

    def list_contract(self, instrument: str, contract: Contract) -> None:
        """A market; it can be listed again only with the same terms."""
        known = self.books.contract(instrument)
        if known is None:
            self.books.list_contract(instrument, contract)
        elif known != contract:
            raise refusal("list_contract", f"{instrument} is listed with other terms")

    def charge(self, account: str, instrument: str, charges: Charges) -> None:
        """What an account pays there from now on; without it the account cannot trade there."""
        if self.books.wallet(account) is None or self.books.contract(instrument) is None:
            raise refusal("charge", f"no account {account!r}, or no contract {instrument!r}")
        self.books.put_charges(account, instrument, charges)

    def pay(self, account: str, amount: int) -> None:
        """Money in (+), which opens the account, or out (-) of what is free."""
        if amount < 0 and (self.books.wallet(account) or 0) < -amount:
            raise refusal("pay", f"less than {-amount} is free")
        self.books.pay_in(account, amount)

    def trade(self, opening: int, length: int, bars: Mapping[str, TradedBar]) -> None:
        """Live through the bar that opens at `opening` (UTC ms) and is `length` ms long; an instrument without one did
        not trade. The same bar again changes nothing; an earlier one is refused."""
        books, contracts = self.books, self.books.contracts()
        last = books.figure("opening")
        if opening == last:
            return
        if opening < last or not set(bars) <= set(contracts):
            raise refusal("trade", f"a bar of {opening} after one of {last}, or of an instrument that is not listed")
        for name, value in (("opening", opening), ("clock", opening + length), ("bars", books.figure("bars") + 1)):
            books.note(name, value)
        books.begin_bar()
        for instrument in contracts:
            before = books.bar(instrument)
            bar = bars.get(instrument) or (before and before.halted())
            if bar is not None:
                books.put_bar(instrument, bar)
        for account, instrument, held in books.positions():
            self._matching.live(self._matching.leg(account, instrument, "trade"), held)
        self._go_wrong(opening)
        for order in books.orders():
            if order.due <= books.figure("bars"):
                self._matching.attempt(order)

    # What an account reads

    def time(self) -> int:
        """The close of the last bar; 0 before the first."""
        return self.books.figure("clock")

    def order(self, account: str, client_id: str) -> OrderState | NotFound:
        """As `protocol.Exchange` has it, as have the next seven."""
        self._demand(account, "order")
        found = self.books.order(account, client_id)
        return NotFound(client_id) if found is None else found.state()

    def open_orders(self, account: str) -> tuple[OrderState, ...]:
        self._demand(account, "open_orders")
        return tuple(order.state() for order in self.books.orders(account))

    def positions(self, account: str) -> tuple[Position, ...]:
        self._demand(account, "positions")
        return tuple(Position(instrument, *held) for _, instrument, held in self.books.positions(account))

    def fills(self, account: str, since: int) -> tuple[Fill, ...]:
        self._demand(account, "fills")
        return tuple(self.books.happened(account, since, Fill))

    def moves(self, account: str, since: int) -> tuple[Moved, ...]:
        self._demand(account, "moves")
        return tuple(self.books.happened(account, since, Moved))

    def fundings(self, account: str, since: int) -> tuple[Funding, ...]:
        self._demand(account, "fundings")
        return tuple(self.books.happened(account, since, Funding))

    def endings(self, account: str, since: int) -> tuple[Ending, ...]:
        self._demand(account, "endings")
        return tuple(self.books.happened(account, since, Liquidated, Deleveraged))

    def balance(self, account: str) -> Balance:
        wallet = self._demand(account, "balance")
        return Balance(wallet, sum(order.held for order in self.books.orders(account)))

    def _demand(self, account: str, verb: str) -> int:
        wallet = self.books.wallet(account)
        if wallet is None:
            raise refusal(verb, f"no account {account!r}")
        return wallet

    # What an account does

    def place(self, request: OrderRequest, injected: Injected | None = None) -> OrderState:
        """Take an order and fill what can be filled now. Refused: a name that was used, more margin than is free, a
        reduction of nothing, an increase without the venue's initial margin."""
        account, instrument, margin = request.account, request.instrument, request.margin
        wallet, leg = self._demand(account, "place"), self._matching.leg_or_none(account, instrument, "place")
        if self.books.order(account, request.client_id) is not None:
            raise refusal("place", NAME_USED)
        if margin > wallet:
            raise refusal("place", f"{margin} of margin were to come from {wallet}")
        held = self.books.held(account, instrument)
        if request.reduce_only and split(held.quantity, request.lots)[0] == 0:
            raise refusal("place", "there is nothing to reduce")
        checked = None if request.reduce_only else leg
        if checked is not None and not self._matching.covers(checked, held, request.lots, margin):
            raise refusal("place", "the margin is below the initial margin")
        order = Placed(0, account, request.client_id, instrument, request.lots, request.reduce_only, margin, 0)
        self.books.place(order)
        self.books.add_to_wallet(account, -margin)
        fault = None if injected is None else injected.fault
        if injected is not None and fault in (Fault.late, Fault.partial):
            order.due = self.books.figure("bars") + injected.bars
        if fault is not Fault.late:
            part = abs(request.lots) // 2 if fault in (Fault.partial, Fault.partial_only) else abs(request.lots)
            self._matching.attempt(order, part, stays=fault is Fault.partial)
        else:
            self.books.put_order(order)
        return order.state()

    def cancel(self, account: str, client_id: str) -> OrderState:
        """Take back what is open of an order."""
        self._demand(account, "cancel")
        order = self.books.order(account, client_id)
        if order is None or order.is_final:
            raise refusal("cancel", "no such order is open")
        self._matching.end(order, "cancelled")
        return order.state()

    def move_margin(self, request: MarginRequest) -> None:
        """Move collateral in or out. Refused: more than is free, or than the position may lose at the close in
        force."""
        account, instrument, amount = request.account, request.instrument, request.amount
        wallet = self._demand(account, "move_margin")
        leg = self._matching.leg_or_none(account, instrument, "move_margin")
        held = self.books.held(account, instrument)
        if amount > wallet or held.margin + amount < 0:
            raise refusal("move_margin", f"{amount} were to move between {wallet} and {held.margin}")
        self.books.add_to_wallet(account, -amount)
        after = Holding(held.quantity, held.cost, held.margin + amount)
        if amount < 0 and leg is not None and self._matching.is_lost(leg, after):
            raise refusal("move_margin", "less than the maintenance margin would be left")
        self.books.put_held(account, instrument, after)
        self.books.add(account, self.time(), Moved("", instrument, amount, self.time(), 0))

    # What goes wrong at a bar. Its subjects: `bar:OPENING`, and `bar:OPENING:ACCOUNT:INSTRUMENT`

    def _go_wrong(self, opening: int) -> None:
        broken = self.plan.at("bar", f"bar:{opening}", 1)
        if broken is not None:
            self.books.note("closed_until", self.books.figure("bars") + broken.bars)
            self._log(f"bar:{opening}", broken)
        for account, instrument in self.books.legs():
            subject = f"bar:{opening}:{account}:{instrument}"
            injected = self.plan.at("position", subject, 1)
            leg = self._matching.leg_or_none(account, instrument, "trade")
            if injected is None or leg is None or not leg.bar.valid:
                continue
            happens = self._matching.deleverage if injected.fault is Fault.deleverage else self._trade_by_hand
            if happens(leg, self.books.held(account, instrument)):
                self._log(subject, injected)

    def is_closed(self) -> bool:
        """Whether it is being maintained, and refuses everything."""
        return self.books.figure("bars") < self.books.figure("closed_until")

    def _log(self, subject: str, injected: Injected) -> None:
        self.books.log(Logged(self.time(), subject, 1, injected.fault.value, injected.bars))

    def _trade_by_hand(self, leg: Leg, held: Holding) -> bool:
        """The owner adds a quarter to the position, or buys three lots; whether his money was enough for it."""
        lots = (1 if held.quantity >= 0 else -1) * max(3, abs(held.quantity) // 4)
        value = int(value_up(leg.contract, abs(lots), leg.bar.mark_close))
        name = ClientId(f"web{self.books.figure('bars')}{leg.instrument}")
        margin = int(initial_margin(value, 2.0))
        asked = OrderRequest(name, leg.account, leg.instrument, lots, reduce_only=False, margin=margin)
        try:
            self.place(asked)
        except ExchangeRefused:
            return False
        return True
