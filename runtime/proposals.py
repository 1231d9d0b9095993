"""What strategies propose at slots' closes: asked in this process, as a back-test does, or in one of their own.

A worker holds a database and asks strangers apart: what a strategy does there costs its own proposal, and the mandate
says what is decided without it (`on_strategy_failure`). Those that ship with the program are no strangers, and need no
process of their own. Nothing is asked while a vault is locked, since a proposal depends on the mandate and the bars
alone.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from ringfence.markets.bars import Bars
from ringfence.markets.slots import Slots
from ringfence.risk.book import PROPOSAL, Rows, rows
from ringfence.runtime.errors import SlowStrategy
from ringfence.runtime.proposers import Asked, Failed, FailureKind, Opinion, Proposers
from ringfence.runtime.setup import Setup, set_up, set_up_apart
from ringfence.strategies.contract import Strategy
from ringfence.strategies.guard import bars_needed, confined, proposals
from ringfence.strategies.registry import build, ships
from ringfence.vaults.entries import Failure
from ringfence.vaults.mandate.terms import Mandate
from ringfence.words.refusal import RingfenceError

__all__ = ["MOMENT", "Apart", "Here", "Proposed", "Proposer"]

MOMENT = 1.0
"""Seconds that a strategy has where others wait for it."""
_Answer = TypeVar("_Answer")
_REMEMBERED = 10_000
"""Opinions that are kept: vaults of one mandate's strategies share them."""


class Proposed(NamedTuple):
    """What is proposed at one slot's close."""

    table: Rows
    """(1, P) of PROPOSAL."""
    failed: Mapping[str, Failure]
    """By position, why a strategy gave none."""


class Proposer(Protocol):
    """Whom a desk asks."""

    def set_up(self, mandate: Mandate) -> Setup:
        """The mandate, ready to run."""

    def propose(self, setup: Setup, slots: Slots, numbers: Sequence[int]) -> list[Proposed]:
        """What is proposed at the closes of these slots, in order."""


class Here:
    """Asks in this process; what a strategy does wrong is raised."""

    def set_up(self, mandate: Mandate) -> Setup:
        return set_up(mandate)

    def propose(self, setup: Setup, slots: Slots, numbers: Sequence[int]) -> list[Proposed]:
        return [Proposed(setup.propose_at(slots, number), {}) for number in numbers]


class Apart:
    """Asks strangers in a process of their own; a strategy that gives no answer is a failure, told, and nothing is
    raised but, where there is no patience, SlowStrategy."""

    def __init__(self, proposers: Proposers) -> None:
        self._proposers = proposers
        self.is_patient = True
        """Whether a strategy is given all of its time. Else a moment, for others wait: whoever takes longer is no
        failure yet, and is to be asked again with patience."""
        self.took = 0.0
        """Seconds that the slowest call took since this was set back."""
        self._own: dict[str, Strategy | None] = {}
        """By its statement, a strategy that ships with the program; None for a stranger."""
        self._opinions: dict[object, Opinion] = {}
        self._unknown: dict[str, dict[str, Failure]] = {}
        """By mandate, the positions whose strategies could not even tell their lookback."""

    def set_up(self, mandate: Mandate) -> Setup:
        statements = [position.strategy.model_dump() for position in mandate.positions.values()]
        strange = [one for one in statements if self._shipped(one) is None]
        answers = iter(self._proposers.lookbacks(strange, mandate.timeframe))
        told = [
            next(answers) if own is None else _answered(own, partial(bars_needed, own, mandate.timeframe))
            for own in map(self._shipped, statements)
        ]
        named = dict(zip(mandate.positions, told, strict=True))
        self._unknown[mandate.fingerprint] = {
            name: _failure(answer) for name, answer in named.items() if isinstance(answer, Failed)
        }
        return set_up_apart(mandate, tuple(1 if isinstance(answer, Failed) else answer for answer in told))

    def propose(self, setup: Setup, slots: Slots, numbers: Sequence[int]) -> list[Proposed]:
        unknown = self._unknown.get(setup.mandate.fingerprint, {})
        seen = {
            (number, p): bars
            for number in numbers
            for p in range(len(setup.names))
            if (bars := setup.seen(slots, number, p)) is not None
        }
        keys = {at: _key(setup, at[1], bars) for at, bars in seen.items() if setup.names[at[1]] not in unknown}
        answers = self._asked(setup, {keys[at]: (at[1], bars) for at, bars in seen.items() if at in keys})
        return [
            self._proposed(
                setup,
                {p: bars for (of, p), bars in seen.items() if of == number},
                unknown | {
                    setup.names[p]: _failure(answer)
                    for (of, p), key in keys.items()
                    if of == number and isinstance(answer := answers[key], Failed)
                },
                {p: answers[key] for (of, p), key in keys.items() if of == number},
            )
            for number in numbers
        ]  # fmt: skip

    @staticmethod
    def _proposed(
        setup: Setup,
        seen: Mapping[int, Bars],
        failed: Mapping[str, Failure],
        answers: Mapping[int, Opinion | Failed],
    ) -> Proposed:
        table = rows(PROPOSAL, (1, len(setup.names)))
        for p, bars in seen.items():
            answer = answers.get(p)
            if isinstance(answer, Opinion):
                table[0, p] = setup.stated(bars, answer.leverage, answer.valid)
            else:
                table[0, p] = setup.without(bars)
        there = {setup.names[p] for p in seen}
        return Proposed(table, {name: failure for name, failure in failed.items() if name in there})

    def _asked(self, setup: Setup, questions: Mapping[object, tuple[int, Bars]]) -> dict[object, Opinion | Failed]:
        """Every question's answer: remembered, or asked for now, all in one call."""
        answers: dict[object, Opinion | Failed] = {
            key: self._opinions[key] for key in questions if key in self._opinions
        }
        positions = list(setup.mandate.positions.values())
        fresh = {key: question for key, question in questions.items() if key not in answers}
        asked = [Asked(positions[p].strategy.model_dump(), bars) for p, bars in fresh.values()]
        if len(self._opinions) + len(asked) > _REMEMBERED:
            self._opinions.clear()
        for key, answer in zip(fresh, self._answers(asked), strict=True):
            answers[key] = answer
            if isinstance(answer, Opinion):
                self._opinions[key] = answer
            elif answer.kind is FailureKind.hung and not self.is_patient:
                raise SlowStrategy(setup.mandate.name, answer.strategy, MOMENT)
        return answers

    def close(self) -> None:
        """End the process that is asked."""
        self._proposers.close()

    def _answers(self, asked: Sequence[Asked]) -> tuple[Opinion | Failed, ...]:
        if not asked:
            return ()
        begun = time.monotonic()
        strange = [one for one in asked if self._shipped(one.statement) is None]
        answers = iter(self._proposers.propose(strange, None if self.is_patient else MOMENT))
        with confined:
            told = tuple(
                next(answers) if own is None else _answered(own, partial(_opinion, own, one.bars))
                for own, one in ((self._shipped(one.statement), one) for one in asked)
            )
        self.took = max(self.took, time.monotonic() - begun)
        return told

    def _shipped(self, statement: Mapping[str, Any]) -> Strategy | None:
        """The strategy, where it ships with the program and can be built."""
        key = json.dumps(statement, sort_keys=True)
        if key not in self._own:
            try:
                self._own[key] = build(statement) if ships(str(statement["name"])) else None
            except RingfenceError:  # told by the process that it is asked in
                self._own[key] = None
        return self._own[key]


def _answered(strategy: Strategy, asked: Callable[[], _Answer]) -> _Answer | Failed:
    """What a strategy that ships with the program answers; its refusal is a failure as any other's."""
    try:
        return asked()
    except RingfenceError as failure:
        return Failed(FailureKind.raised, strategy.name, str(failure))


def _opinion(strategy: Strategy, bars: Bars) -> Opinion:
    leverage, valid = proposals(strategy, bars)
    return Opinion(float(leverage[-1]), bool(valid[-1]))


def _key(setup: Setup, p: int, bars: Bars) -> object:
    """What an answer depends on: the statement, and bars of which only the last can ever be another one."""
    statement = json.dumps(list(setup.mandate.positions.values())[p].strategy.model_dump(), sort_keys=True)
    last = tuple(float(column[-1]) for column in (bars.open, bars.high, bars.low, bars.close, bars.volume))
    return statement, bars.symbol, bars.timeframe, int(bars.ts[0]), int(bars.ts[-1]), len(bars), last


def _failure(failed: Failed) -> Failure:
    place = f" ({failed.place})" if failed.place else ""
    return Failure(kind=failed.kind.value, told=f"{failed.told}{place}")
