"""What runs inside the process of the strategies: one question after the other, behind the guard, within limits.

It knows strategies and bars and nothing else of Ringfence; no database, broker or address can be reached from what it
imports.
"""

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ringfence.markets.bars import Bars
from ringfence.risk.volatility import ESTIMATORS
from ringfence.runtime.proposing_wire import (
    Answer,
    FailureKind,
    Question,
    Verb,
    read_question,
    written_answer,
)
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import (
    BrokenStrategy,
    DuplicateStrategy,
    InvalidParameters,
    InvalidProposal,
    UnknownStrategy,
)
from ringfence.strategies.guard import bars_needed, confined, proposals
from ringfence.strategies.registry import build
from ringfence.strategies.trials import walk
from ringfence.strategies.vol_target import VolTarget
from ringfence.words.refusal import RingfenceError

__all__ = ["serve"]

_FILES, _ABOVE = 64, 200
"""Open files at most, and where the two pipes lie: above any that a strategy could open or close by counting."""
_KEPT = 1_024
"""Strategies that are kept built."""
_LOOKBACK_MAX = 1 << 53
_HOUR, _WARM_BARS = 3_600_000, 24
_PR_SET_PDEATHSIG = 1
_leave = os._exit  # the guard puts another in its place


class _Closed(Exception):
    """Nobody asks any more."""


def serve(parent: int, memory: int, questions: int, answers: int) -> None:
    """Answer the questions that come through one pipe into the other until it is closed or `parent` (process id) ends.

    `memory` bytes of address space are allowed beyond what the interpreter takes once numpy, numba and the built-in
    strategies' formulas are loaded.
    """
    questions, answers = (_moved_up(pipe) for pipe in (questions, answers))
    _end_with(parent)
    _load_formulas()
    gc.freeze()
    _limit(memory)
    built: dict[bytes, Strategy] = {}
    exactly = partial(_exactly, questions)
    with confined, contextlib.suppress(_Closed):
        while True:
            _write(answers, written_answer(_answered(read_question(exactly), built)))
    _leave(0)  # threads that a strategy left behind hold nothing up


# ---------------------------------------------------------------------------------------------------- limits


def _moved_up(pipe: int) -> int:
    moved = fcntl.fcntl(pipe, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    os.close(pipe)
    return moved


def _end_with(parent: int) -> None:
    """On Linux the kernel ends this process with the one that started it, whatever a strategy is doing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _leave(0)


def _load_formulas() -> None:
    """Every volatility as a strategy calls it, while what numba compiles may still be written to its cache."""
    bars = walk(_WARM_BARS, _HOUR, beyond=1)
    for estimator in ESTIMATORS:
        proposals(VolTarget.model_validate({"target_volatility": "1", "window": "12h", "estimator": estimator}), bars)


def _limit(memory: int) -> None:
    """No core, no file written, few open, and so much address space; root alone could raise them again."""
    _without_writing()
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: _FILES}
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + memory
    for limit, wanted in limits.items():
        _, hard = resource.getrlimit(limit)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(limit, (value, value))


def _without_writing() -> None:
    """Python and numba go on where what they compiled cannot be written to their caches."""
    from numba.core import caching

    @contextlib.contextmanager
    def passing(_: object) -> Iterator[None]:
        with contextlib.suppress(OSError):
            yield

    sys.dont_write_bytecode = True
    caching.Cache._guard_against_spurious_io_errors = passing


# --------------------------------------------------------------------------------------------------- answers


def _exactly(pipe: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.read(pipe, min(size, 1 << 20))
        if not part:
            raise _Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write(pipe: int, content: bytes) -> None:
    while content:
        content = content[os.write(pipe, content) :]


def _answered(question: Question, built: dict[bytes, Strategy]) -> Answer:
    if question.verb == Verb.ready:
        return Answer(question.token)
    try:
        strategy = _built(question.statement, built)
        if question.bars is not None:
            return _opinion(question.token, strategy, question.bars)
        lookback = bars_needed(strategy, question.timeframe)
        if lookback > _LOOKBACK_MAX:
            raise InvalidProposal(strategy.name, "a lookback beyond all time", f"at most {_LOOKBACK_MAX} bars")
        return Answer(question.token, bars=lookback)
    except BaseException as failure:  # KeyboardInterrupt too: nobody sits at this process's terminal
        return _failure(question.token, failure)


def _built(statement: bytes, built: dict[bytes, Strategy]) -> Strategy:
    strategy = built.get(statement)
    if strategy is None:
        strategy = build(json.loads(statement))
        if len(built) >= _KEPT:
            built.clear()
        built[statement] = strategy
    return strategy


def _opinion(token: bytes, strategy: Strategy, bars: Bars) -> Answer:
    if not len(bars):
        return Answer(token)
    leverage, valid = proposals(strategy, bars)
    return Answer(token, leverage=float(leverage[-1]), valid=bool(valid[-1]))


def _failure(token: bytes, failure: BaseException) -> Answer:
    try:
        text = str(failure) if isinstance(failure, RingfenceError) else f"{type(failure).__name__}: {failure}"
    except Exception:  # a stranger's __str__
        text = f"{type(failure).__name__}: (its text cannot be read)"
    return Answer(token, _kind(failure), text=text, place=str(getattr(failure, "place", "")))


def _kind(failure: BaseException) -> FailureKind:
    if isinstance(failure, MemoryError) or isinstance(failure.__cause__, MemoryError):
        return FailureKind.memory
    if isinstance(failure, UnknownStrategy | DuplicateStrategy | BrokenStrategy | InvalidParameters):
        return FailureKind.unknown_strategy
    return FailureKind.nonsense if isinstance(failure, InvalidProposal) else FailureKind.raised
