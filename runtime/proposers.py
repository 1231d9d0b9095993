"""Strategies asked in a process of their own, so that none can hurt the one that holds the database.

What a strategy does there (raise, never return, eat memory, end or crash the process, print without end, close what it
finds) costs its own answer and nobody else's. It reaches no connection, lock or address of the owner, for the process
is a new interpreter; it can write no file, and its memory is limited.

This is made against faults, not against an enemy: strategies run as the same user and share one process. One that means
to can signal other processes, read what that user may read, change files in other ways than by writing to them, or
answer for the strategies after it, whose questions it can find; what it starts in a session of its own outlives it.
Each question carries a random token that its answer must echo. So whatever a strategy writes into the answers without
having looked for a token, even in the form of one, is found out, and costs the process and no answer.
"""

import json
import os
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any

from ringfence.markets.bars import Bars
from ringfence.runtime.proposing_process import Ending, Printed, StrategyProcess
from ringfence.runtime.proposing_wire import (
    PLACE_MAX,
    TEXT_MAX,
    TOKEN_BYTES,
    Answer,
    FailureKind,
    Question,
    Verb,
    written_question,
)
from ringfence.words.terminal import printable
from ringfence.words.times import format_duration, utc

__all__ = ["MEMORY", "SECONDS", "Asked", "Failed", "FailureKind", "Opinion", "Proposers"]

SECONDS = 10.0
"""Within which a strategy answers, where nothing else is stated."""
MEMORY = 2 << 30
"""Bytes of address space for strategies beyond what the interpreter, numpy and numba take, where nothing else is
stated."""
_START_SECONDS = 120.0
"""A first start may have to compile the formulas."""
_NAME_MAX = 100
_AHEAD = 2
"""Questions that lie ready when one is answered, so that neither process waits for the other to wake."""
_JSON = json.JSONEncoder(allow_nan=False)


@dataclass(frozen=True, eq=False)
class Asked:
    """A strategy, and the bars whose last it shall have an opinion on."""

    statement: Mapping[str, Any]
    """Name and parameters as the mandate has them: values that JSON holds."""
    bars: Bars
    """The last bars of one instrument, as many as the strategy looks back on; their notes are not shown."""


@dataclass(frozen=True)
class Opinion:
    """What a strategy proposes for the last bar."""

    leverage: float
    """Signed, finite; 0.0 where there is no opinion."""
    valid: bool
    """Whether there is one."""


@dataclass(frozen=True)
class Failed:
    """A strategy gave no answer that can be used."""

    kind: FailureKind
    strategy: str
    told: str
    """A sentence for people, of printable text."""
    place: str = ""
    """`file:line` in the plug-in, or "" where it is not known."""


class Proposers(AbstractContextManager["Proposers"]):
    """One long-lived process that strategies are asked in, started with the first question and anew when it is lost.

    Threads wait for each other. On Linux the process ends with the *thread* that first asked, elsewhere when its pipe
    closes; either way the next question starts another.
    """

    def __init__(self, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds, self._memory = seconds, memory
        self._lock = threading.Lock()
        self._printed = Printed()
        self._process: StrategyProcess | None = None

    def propose(self, asked: Sequence[Asked], seconds: float | None = None) -> tuple[Opinion | Failed, ...]:
        """What each proposes for the last of its bars, in order; the same bits as asked in this process. `seconds`:
        within which each answers, where it is not as long as ever.

        Nothing is raised for what a strategy does.
        """
        questions = [_Asking(Verb.propose, one.statement, one.bars.timeframe, one.bars) for one in asked]
        told = self._ask_all(questions, self._seconds if seconds is None else seconds)
        return tuple(each if isinstance(each, Failed) else Opinion(each.leverage, each.valid) for each in told)

    def lookbacks(self, statements: Sequence[Mapping[str, Any]], timeframe: int) -> tuple[int | Failed, ...]:
        """How many bars of `timeframe` ms each looks back on, in order; nothing is raised for what a strategy does."""
        told = self._ask_all([_Asking(Verb.lookback, one, timeframe) for one in statements], self._seconds)
        return tuple(each if isinstance(each, Failed) else each.bars for each in told)

    def close(self) -> None:
        """Ends the process; a later question starts another."""
        with self._lock:
            self._end()

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self.close()

    def _ask_all(self, questions: "Sequence[_Asking]", seconds: float) -> list[Answer | Failed]:
        with self._lock:
            try:
                return [self._answer(questions, number, seconds) for number in range(len(questions))]
            except BaseException:
                self._end()  # answers may be under way
                raise
            finally:
                if self._process is not None:
                    self._process.drain()
                _tell(*self._printed.taken())

    def _answer(self, questions: "Sequence[_Asking]", number: int, seconds: float) -> Answer | Failed:
        """The answer, or whose fault it is that there is none.

        A process that dies or runs out of memory may do so by what was left behind in it, or was killed while nobody
        asked; so nobody is blamed for that but who was the first to be asked in a fresh one, and others are asked there
        again. Whoever gives no answer in time is blamed at once.
        """
        asking = questions[number]
        while True:
            process = self._living()
            if isinstance(process, Ending):
                return asking.never_asked(process)
            for ahead in range(number, min(number + 1 + _AHEAD, len(questions))):
                if ahead not in process.posted:
                    _post(process, questions[ahead], ahead)
            fresh, process.fresh = process.fresh, False
            answer = process.answer(process.posted.pop(number), seconds)
            failure = answer.kind if isinstance(answer, Ending) else answer.failure
            if failure in (FailureKind.died, FailureKind.hung, FailureKind.memory):
                self._end()
            if fresh or failure not in (FailureKind.died, FailureKind.memory):
                return asking.judged(answer, seconds)

    def _living(self) -> StrategyProcess | Ending:
        """The process, started if there is none, or where a fork has left it to another."""
        if self._process is not None and self._process.owner != os.getpid():
            self._end()
        if self._process is None:
            try:
                self._process = StrategyProcess(self._memory, self._printed)
            except OSError as fault:
                return Ending(FailureKind.died, f"could not be started ({fault.strerror or fault})")
            _post(self._process, _Asking(Verb.ready, {}, 0), 0)
            ready = self._process.answer(self._process.posted.pop(0), _START_SECONDS)
            if isinstance(ready, Ending):
                self._end()
                return ready
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None


def _post(process: StrategyProcess, asking: "_Asking", number: int) -> None:
    process.posted[number] = token = secrets.token_bytes(TOKEN_BYTES)
    process.post(written_question(asking.question(token)))


@dataclass(frozen=True, eq=False)
class _Asking:
    """A question until it is answered, by whatever process."""

    verb: Verb
    statement: Mapping[str, Any]
    timeframe: int
    bars: Bars | None = None

    @cached_property
    def strategy(self) -> str:
        """Its name, for people."""
        return printable(str(self.statement.get("name", "")))[:_NAME_MAX]

    def question(self, token: bytes) -> Question:
        """As it is sent; TypeError or ValueError where the statement is no JSON."""
        return Question(token, self.verb, _JSON.encode(self.statement).encode(), self.timeframe, self.bars)

    def judged(self, answer: Answer | Ending, seconds: float) -> Answer | Failed:
        """The answer where it is one; otherwise the failure in words."""
        if isinstance(answer, Ending):
            did = f"did not answer within {seconds:g} s" if answer.kind is FailureKind.hung else answer.how
            told = f"strategy {self.strategy}: its process {did} when it was asked to {self._act()}"
            return Failed(answer.kind, self.strategy, _shown(told, TEXT_MAX))
        if answer.failure is None:
            return answer
        return Failed(answer.failure, self.strategy, _shown(answer.text, TEXT_MAX), _shown(answer.place, PLACE_MAX))

    def never_asked(self, ending: Ending) -> Failed:
        """The failure where no process could be started."""
        did = f"did not answer within {_START_SECONDS:g} s" if ending.kind is FailureKind.hung else ending.how
        told = f"strategy {self.strategy} was not asked: the process that strategies run in {did}"
        return Failed(ending.kind, self.strategy, _shown(told, TEXT_MAX))

    def _act(self) -> str:
        if self.bars is None:
            return f"tell its lookback on bars of {format_duration(self.timeframe)}"
        until = f" up to {utc(int(self.bars.ts[-1]))}" if len(self.bars) else ""
        return f"propose on {self.bars.symbol}{until}"


def _shown(text: str, limit: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _tell(kept: bytes, dropped: int) -> None:
    """What strategies printed, on standard error."""
    text = printable(kept.decode("utf-8", "replace"))
    if text and not text.endswith("\n"):
        text += "\n"
    if dropped:
        text += f"(strategies printed {dropped:,} bytes more in this call, which are not shown)\n"
    if text:
        with suppress(OSError, ValueError, AttributeError):  # closed, or none
            sys.stderr.write(text)
            sys.stderr.flush()
