"""What the paper exchange does wrong, and when: a pure function of a seed, of what is asked, and of how often it was.

A plan never looks at a clock or at what it did before, so that the same requests meet the same faults in any process
and after any restart. What it injected stands in the exchange's own books.
"""

import json
from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

from ringfence.markets.errors import UnreadableFile
from ringfence.words.hints import near_or_known

__all__ = ["FILLING", "NO_FAULTS", "Fault", "FaultPlan", "Injected", "Scripted", "plan_from", "read_plan"]

_MILLION, _LONGEST = 10**6, 3


class Fault(StrEnum):
    """One thing that goes wrong."""

    partial = "partial"
    """Of an order: half now, the rest some bars later."""
    partial_only = "partial_only"
    """Half now, the rest never."""
    late = "late"
    """All of it some bars later."""
    reject = "reject"
    """An order or collateral is refused."""
    unheard = "unheard"
    """It does not happen, and nothing is answered until whoever asked gives up."""
    silent = "silent"
    """It happens, and nothing is answered until whoever asked gives up."""
    reply_lost = "reply_lost"
    """It happens, and the connection breaks before the answer."""
    garbled = "garbled"
    """It happens, and the answer is a page of HTML."""
    restart = "restart"
    """It happens, and the exchange is gone before the answer; it is there again at once, with the books that it had."""
    too_many = "too_many"
    """It is refused: too many requests."""
    duplicate = "duplicate"
    """Rows of an answer come twice."""
    malformed = "malformed"
    """A field of the answer's first row is missing."""
    maintenance = "maintenance"
    """For some bars, and at the bar of their beginning, everything is refused."""
    deleverage = "deleverage"
    """At a bar's close: half of a position in profit is closed against its will."""
    stranger = "stranger"
    """At a bar's close: the owner of the account trades by hand."""


FILLING = frozenset({Fault.partial, Fault.partial_only, Fault.late})
"""Those of an order's fills; its answer comes as it should."""
_READING = frozenset({Fault.unheard, Fault.reply_lost, Fault.garbled, Fault.restart, Fault.too_many})
_OF_KIND: Mapping[str, frozenset[Fault]] = {
    "place": _READING | FILLING | {Fault.reject, Fault.silent},
    "change": _READING | {Fault.reject, Fault.silent},
    "read": _READING,
    "list": _READING | {Fault.duplicate, Fault.malformed},
    "bar": frozenset({Fault.maintenance}),
    "position": frozenset({Fault.deleverage, Fault.stranger}),
}
"""By kind of occasion, what can go wrong at it."""


@dataclass(frozen=True)
class Injected:
    """A fault at one occasion."""

    fault: Fault
    bars: int
    """For how many bars, where that says something."""


@dataclass(frozen=True)
class Scripted:
    """A fault at a stated occasion."""

    subject: str
    """A client id; a verb and an account, `positions:btc`; or what happens at a bar, see `PaperExchange`."""
    fault: Fault
    attempt: int = 1
    """At which of the occasions of that subject, from 1 on."""
    bars: int = 1


@dataclass(frozen=True)
class FaultPlan:
    """Faults by chance, and faults by script; a script goes first."""

    seed: int = 0
    rates: Mapping[Fault, int] = field(default_factory=dict)
    """Parts per million of the occasions at which a fault can be; together at most a million at one occasion."""
    script: tuple[Scripted, ...] = ()

    def __post_init__(self) -> None:
        for kind, possible in _OF_KIND.items():
            if sum(self.rates.get(fault, 0) for fault in possible) > _MILLION:
                raise ValueError(f"the rates of the faults of {kind} come to more than a million")

    @cached_property
    def _told(self) -> Mapping[tuple[str, int], Scripted]:
        return {(one.subject, one.attempt): one for one in self.script}

    @cached_property
    def _ladders(self) -> Mapping[str, tuple[list[Fault], list[int]]]:
        ladders = {}
        for kind, possible in _OF_KIND.items():
            faults = [fault for fault in Fault if fault in possible and self.rates.get(fault, 0) > 0]
            ladders[kind] = (faults, list(accumulate(self.rates[fault] for fault in faults)))
        return ladders

    def at(self, kind: str, subject: str, attempt: int) -> Injected | None:
        """The fault at an occasion of a kind (place, change, read, list, bar, position), if there is one."""
        told = self._told.get((subject, attempt))
        if told is not None and told.fault in _OF_KIND[kind]:
            return Injected(told.fault, told.bars)
        faults, ladder = self._ladders[kind]
        if not faults:
            return None
        hashed = blake2b(f"{self.seed} {kind} {subject} {attempt}".encode(), digest_size=16).digest()
        chance, length = (int.from_bytes(part) for part in (hashed[:8], hashed[8:]))
        rung = bisect(ladder, chance % _MILLION)
        return Injected(faults[rung], 1 + length % _LONGEST) if rung < len(faults) else None


NO_FAULTS = FaultPlan()


def read_plan(path: Path) -> FaultPlan:
    """A plan from a JSON file. Refused: UnreadableFile."""
    try:
        return plan_from(json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, ValueError) as fault:
        raise UnreadableFile(path, str(fault), 'a plan such as {"seed": 7, "rates": {"late": 50000}}') from None


def plan_from(document: Any) -> FaultPlan:
    """A plan from a JSON document: `seed`, `rates` by fault, `script` as a list. Refused: ValueError."""
    _fields(document, "a plan", {"seed", "rates", "script"})
    rates = document.get("rates", {})
    if not isinstance(rates, dict):
        raise ValueError("rates are no object")
    return FaultPlan(
        _whole(document.get("seed", 0), "seed", 0),
        {_fault(name): _whole(rate, f"the rate of {name}", 0) for name, rate in rates.items()},
        tuple(_scripted(told) for told in document.get("script", ())),
    )


def _scripted(told: Any) -> Scripted:
    _fields(told, "a line of the script", {"subject", "fault", "attempt", "bars"})
    return Scripted(
        str(told.get("subject", "")),
        _fault(str(told.get("fault", ""))),
        _whole(told.get("attempt", 1), "attempt", 1),
        _whole(told.get("bars", 1), "bars", 1),
    )


def _fields(document: Any, what: str, known: Iterable[str]) -> None:
    if not isinstance(document, dict):
        raise ValueError(f"{what} is no object")
    for name in document:
        if name not in known:
            raise ValueError(f"{what} has a field {name!r}; {near_or_known(name, tuple(sorted(known)))}")


def _fault(name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError:
        raise ValueError(f"unknown fault {name!r}; {near_or_known(name, tuple(Fault))}") from None


def _whole(value: Any, what: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what} is {value!r}; expected a whole number from {least} on")
    return value
