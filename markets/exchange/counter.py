"""The counter of the paper exchange: a request comes in as a line, meets its fault, is done, and its answer goes out.

One request at a time, in the order in which they came. So once a read has been answered, no request that came before it
can take effect any more.
"""

from collections.abc import Mapping
from typing import Any

from ringfence.markets.errors import ExchangeRefused
from ringfence.markets.exchange.books import ExchangeBooks, Logged
from ringfence.markets.exchange.faults import FILLING, NO_FAULTS, Fault, FaultPlan, Injected
from ringfence.markets.exchange.paper import PaperExchange
from ringfence.markets.exchange.protocol import MarginRequest, NotFound, OrderRequest
from ringfence.markets.exchange.terms import Charges, Contract, TradedBar
from ringfence.markets.exchange.wire import Malformed, document, parsed, taken, written

__all__ = ["Counter"]

_CLOSED, _TOO_MANY = "the exchange is being maintained", "too many requests"
_PAGE = b"<html><head><title>502 Bad Gateway</title></head></html>\n"
_KINDS: Mapping[str, str] = {
    "place": "place", "cancel": "change", "move_margin": "change", "time": "read", "order": "read", "balance": "read",
    "open_orders": "list", "positions": "list", "fills": "list", "moves": "list", "fundings": "list", "endings": "list",
}  # fmt: skip
"""The verbs of accounts, by the kind of occasion that asking them is."""


class Counter:
    """Requests of accounts, and those of the operator, which meet no faults."""

    def __init__(self, books: ExchangeBooks, plan: FaultPlan = NO_FAULTS) -> None:
        self.books, self.plan = books, plan
        self.exchange = PaperExchange(books, plan)
        self._faulty = bool(plan.script) or any(plan.rates.values())

    def serve(self, line: bytes) -> bytes:
        """A request of an account, and its answer. Raised: OSError, where none comes."""
        try:
            asked = parsed(line)
            verb, body = str(asked.get("verb")), asked.get("body")
            if verb not in _KINDS or not isinstance(body, dict):
                raise Malformed(f"no verb: {verb[:60]}")
            injected = self._occasion(verb, body)
            return self._served(verb, body, injected)
        except Malformed as fault:
            return _refusal(str(fault), transient=False)
        except ExchangeRefused as refusal:
            return _refusal(refusal.reason, transient=False)

    def operate(self, line: bytes) -> bytes:
        """A request of the operator, and its answer."""
        try:
            asked = parsed(line)
            with self.books.work():
                return written({"ok": self._operated(str(asked.get("verb")), asked.get("body"))})
        except (Malformed, TypeError, KeyError, AttributeError) as fault:
            return _refusal(f"malformed: {fault}", transient=False)
        except ExchangeRefused as refusal:
            return _refusal(refusal.reason, transient=False)

    # Accounts

    def _occasion(self, verb: str, body: Mapping[str, Any]) -> Injected | None:
        """The fault that this request meets, logged before anything else."""
        if not self._faulty:
            return None
        subject = _subject(verb, body)
        with self.books.work():
            attempt = self.books.attempt(subject)
            injected = self.plan.at(_KINDS[verb], subject, attempt)
            if injected is not None:
                clock = self.books.figure("clock")
                self.books.log(Logged(clock, subject, attempt, injected.fault.value, injected.bars))
        return injected

    def _served(self, verb: str, body: dict[str, Any], injected: Injected | None) -> bytes:
        fault = None if injected is None else injected.fault
        if fault is Fault.unheard:
            raise TimeoutError("no answer")
        if self.exchange.is_closed():
            return _refusal(_CLOSED, transient=True)
        if fault is Fault.too_many:
            return _refusal(_TOO_MANY, transient=True)
        if fault is Fault.reject:
            return _refusal("rejected", transient=False)
        with self.books.work():
            found = document(self._done(verb, body, injected))
        match fault:
            case Fault.silent:
                raise TimeoutError("no answer")
            case Fault.reply_lost | Fault.restart:
                raise ConnectionResetError("the connection ended before the answer did")
            case Fault.garbled:
                return _PAGE
            case Fault.duplicate:
                found = found + found
            case Fault.malformed if found:
                found = [dict(list(found[0].items())[:-2]), *found[1:]]
        return written({"ok": found})

    def _done(self, verb: str, body: dict[str, Any], injected: Injected | None) -> Any:
        exchange = self.exchange
        match verb:
            case "place":
                fills = injected if injected is not None and injected.fault in FILLING else None
                return exchange.place(taken(OrderRequest, body), fills)
            case "move_margin":
                exchange.move_margin(taken(MarginRequest, body))
                return None
            case "time":
                return exchange.time()
            case "cancel":
                return exchange.cancel(_text(body, "account"), _text(body, "client_id"))
            case "order":
                found = exchange.order(_text(body, "account"), _text(body, "client_id"))
                return None if isinstance(found, NotFound) else found
            case "fills" | "moves" | "fundings" | "endings":
                return getattr(exchange, verb)(_text(body, "account"), _whole(body, "since"))
            case _:
                return getattr(exchange, verb)(_text(body, "account"))

    # The operator

    def _operated(self, verb: str, body: Any) -> Any:
        exchange = self.exchange
        match verb:
            case "list_contract":
                return exchange.list_contract(_text(body, "instrument"), taken(Contract, body["contract"]))
            case "charge":
                charges = taken(Charges, body["charges"])
                return exchange.charge(_text(body, "account"), _text(body, "instrument"), charges)
            case "pay":
                return exchange.pay(_text(body, "account"), _whole(body, "amount"))
            case "trade":
                bars = {str(name): taken(TradedBar, bar) for name, bar in body["bars"].items()}
                return exchange.trade(_whole(body, "opening"), _whole(body, "length"), bars)
            case "injected":
                return self.books.injected()
            case "orders":
                return [order.state() for order in self.books.orders(_text(body, "account"), open_only=False)]
        raise Malformed(f"no verb: {verb[:60]}")


def _subject(verb: str, body: Mapping[str, Any]) -> str:
    """What the occasions are counted by: `place` by the order's name alone."""
    if verb == "place":
        return str(body.get("client_id"))
    named = [str(body[name]) for name in ("account", "instrument", "client_id") if name in body]
    return ":".join([verb, *named])


def _refusal(reason: str, *, transient: bool) -> bytes:
    return written({"refused": reason, "transient": transient})


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is no text")
    return value


def _whole(body: Mapping[str, Any], name: str) -> int:
    value = body.get(name)
    if type(value) is not int:
        raise Malformed(f"{name} is no whole number")
    return value
