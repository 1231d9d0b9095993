"""The client of an exchange that is asked line by line: it never takes silence for an answer.

A request to which no whole answer came is `Unknown` where it was to change something, also where it could not even be
sent: whoever asks reads it back in any case.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ringfence.markets.errors import ExchangeRefused, NoAnswer
from ringfence.markets.exchange.protocol import (
    NAME_USED,
    Accepted,
    Answer,
    Balance,
    Ending,
    Fill,
    Funding,
    MarginRequest,
    Moved,
    NotFound,
    OrderRequest,
    OrderState,
    Position,
    Rejected,
    Unknown,
    Unreadable,
)
from ringfence.markets.exchange.terms import Charges, Contract, TradedBar
from ringfence.markets.exchange.wire import Malformed, document, parsed, rows_of, taken, taken_ending, written

__all__ = ["Client", "Operator", "Send"]

_Kind = TypeVar("_Kind")
Send = Callable[[bytes], bytes]
"""Takes a line there and brings the answer's line; OSError where none came."""


@dataclass(frozen=True)
class _Refused:
    """What the exchange would not do."""

    reason: str
    transient: bool


def _asked(send: Send, verb: str, body: Mapping[str, Any]) -> Any:
    """What was answered. Raised: OSError or Malformed, no answer."""
    found = parsed(send(written({"verb": verb, "body": body})))
    if found.keys() == {"refused", "transient"}:
        return _Refused(str(found["refused"]), bool(found["transient"]))
    if found.keys() != {"ok"}:
        raise Malformed(f"an answer of no known form: {sorted(found)}")
    return found["ok"]


def _why(fault: Exception) -> str:
    return str(fault) or type(fault).__name__


class Client:
    """The verbs of `protocol.Exchange`."""

    def __init__(self, name: str, send: Send) -> None:
        """`name`: what the exchange is called in refusals."""
        self._name, self._send = name, send

    # Verbs that change something

    def place(self, request: OrderRequest) -> Answer:
        """Give an order."""
        return self._changed("place", request, order=True)

    def cancel(self, account: str, client_id: str) -> Answer:
        """Take back what is open of an order."""
        return self._changed("cancel", {"account": account, "client_id": client_id}, order=True)

    def move_margin(self, request: MarginRequest) -> Answer:
        """Move collateral."""
        return self._changed("move_margin", request, order=False)

    def _changed(self, verb: str, body: Any, *, order: bool) -> Answer:
        try:
            found = _asked(self._send, verb, document(body))
            if isinstance(found, _Refused):
                if found.reason == NAME_USED:
                    return Unknown(NAME_USED)
                return Rejected(found.reason, found.transient)
            return Accepted(taken(OrderState, found) if order else None)
        except (OSError, Malformed) as fault:
            return Unknown(_why(fault))

    # Verbs that read

    def time(self) -> int:
        """The exchange's clock."""
        return self._found("time", {}, _int)

    def order(self, account: str, client_id: str) -> OrderState | NotFound:
        """How an order stands."""
        body = {"account": account, "client_id": client_id}
        return self._found("order", body, lambda told: NotFound(client_id) if told is None else taken(OrderState, told))

    def open_orders(self, account: str) -> tuple[OrderState | Unreadable, ...]:
        """Those that have not ended."""
        return self._listed("open_orders", OrderState, account)

    def positions(self, account: str) -> tuple[Position | Unreadable, ...]:
        """All that hold lots or margin."""
        return self._listed("positions", Position, account)

    def fills(self, account: str, since: int) -> tuple[Fill | Unreadable, ...]:
        """From `since` on."""
        return self._listed("fills", Fill, account, since)

    def moves(self, account: str, since: int) -> tuple[Moved | Unreadable, ...]:
        """Collateral that moved from `since` on."""
        return self._listed("moves", Moved, account, since)

    def fundings(self, account: str, since: int) -> tuple[Funding | Unreadable, ...]:
        """Of stamps from `since` on."""
        return self._listed("fundings", Funding, account, since)

    def endings(self, account: str, since: int) -> tuple[Ending | Unreadable, ...]:
        """From `since` on."""
        return self._listed("endings", taken_ending, account, since)

    def balance(self, account: str) -> Balance:
        """What the account has outside its positions."""
        return self._found("balance", {"account": account}, lambda told: taken(Balance, told))

    def _listed(self, verb: str, kind: Any, account: str, since: int | None = None) -> tuple[Any, ...]:
        body: dict[str, Any] = {"account": account} if since is None else {"account": account, "since": since}
        return self._found(verb, body, lambda told: rows_of(kind, told))

    def _found(self, verb: str, body: Mapping[str, Any], made: Callable[[Any], _Kind]) -> _Kind:
        try:
            found = _asked(self._send, verb, body)
            if not isinstance(found, _Refused):
                return made(found)
        except (OSError, Malformed) as fault:
            raise NoAnswer(self._name, verb, _why(fault)) from None
        if found.transient:
            raise NoAnswer(self._name, verb, found.reason)
        raise ExchangeRefused(self._name, verb, found.reason)


def _int(told: Any) -> int:
    if type(told) is not int:
        raise Malformed(f"{str(told)[:60]!r} is no time")
    return told


class Operator:
    """The verbs of the paper exchange's operator, asked the same way. Refused: ExchangeRefused; NoAnswer,
    after which the same may be asked again: only `pay` would do it twice."""

    def __init__(self, name: str, send: Send) -> None:
        self._name, self._send = name, send

    def list_contract(self, instrument: str, contract: Contract) -> None:
        """A market."""
        self._operated("list_contract", {"instrument": instrument, "contract": contract})

    def charge(self, account: str, instrument: str, charges: Charges) -> None:
        """What an account pays there from now on."""
        self._operated("charge", {"account": account, "instrument": instrument, "charges": charges})

    def pay(self, account: str, amount: int) -> None:
        """Money in (+), which opens the account, or out (-)."""
        self._operated("pay", {"account": account, "amount": amount})

    def trade(self, opening: int, length: int, bars: Mapping[str, TradedBar]) -> None:
        """Live through a bar; the same one again changes nothing."""
        self._operated("trade", {"opening": opening, "length": length, "bars": bars})

    def injected(self) -> list[dict[str, Any]]:
        """The faults that were injected so far, in order."""
        found: list[dict[str, Any]] = self._operated("injected", {})
        return found

    def orders(self, account: str) -> tuple[OrderState, ...]:
        """All orders of an account, ended ones included."""
        return rows_of(OrderState, self._operated("orders", {"account": account}))

    def _operated(self, verb: str, body: Mapping[str, Any]) -> Any:
        try:
            found = _asked(self._send, verb, document(body))
        except (OSError, Malformed) as fault:
            raise NoAnswer(self._name, verb, _why(fault)) from None
        if isinstance(found, _Refused):
            raise ExchangeRefused(self._name, verb, found.reason)
        return found
