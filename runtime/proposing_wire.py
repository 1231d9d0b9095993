"""The binary form of what the process of the strategies is asked and of what it answers.

Fixed structures, raw columns and bounded text, in the machine's own byte order, since both ends are one machine's.
Nothing in it can be executed, and reading it back makes nothing but numbers and text.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np

from ringfence.markets.bars import Bars

__all__ = ["PLACE_MAX", "TEXT_MAX", "TOKEN_BYTES", "Answer", "FailureKind", "Malformed", "Question", "Verb",
           "read_answer", "read_question", "written_answer", "written_question"]  # fmt: skip

TEXT_MAX, PLACE_MAX = 2_000, 1_000
"""Characters; what is longer is cut."""
TOKEN_BYTES = 16

_QUESTION = struct.Struct("=16sB?qIII")
"""Token, verb, whether volumes are known, timeframe (ms), bars, bytes of the statement, bytes of the symbol."""
_ANSWER = struct.Struct("=16sB?dqII")
"""Token, what came of it (0: an answer; else a failure), validity, leverage, bars, bytes of the text, of the place."""
_CHARACTER_BYTES = 4
"""The longest character of UTF-8."""


class FailureKind(StrEnum):
    """How a strategy failed to answer."""

    raised = "raised"
    """It raised, tried to end the process, or refused these bars."""
    hung = "hung"
    """It gave no answer in time."""
    died = "died"
    """Its process ended, or wrote something else than an answer."""
    memory = "memory"
    """It asked for more memory than there is for it."""
    nonsense = "nonsense"
    """Its answer is none that can be meant: NaN, infinity, another type or shape."""
    unknown_strategy = "unknown strategy"
    """The statement makes no strategy here: no such name, a broken plug-in, or other parameters."""


_TOLD = (FailureKind.raised, FailureKind.memory, FailureKind.nonsense, FailureKind.unknown_strategy)
"""Those that the process tells of itself, in the order of their numbers from 1 on."""


class Verb(IntEnum):
    """What is asked."""

    ready = 1
    propose = 2
    lookback = 3


class Malformed(ValueError):
    """The bytes are no answer to the question that was asked."""


@dataclass(frozen=True, eq=False)
class Question:
    """One question; questions are answered in the order in which they came."""

    token: bytes
    """Random; the answer carries it."""
    verb: Verb
    statement: bytes = b""
    """A strategy's name and parameters, as JSON."""
    timeframe: int = 0
    """ms."""
    bars: Bars | None = None
    """What a proposal is made from; without their notes."""


@dataclass(frozen=True)
class Answer:
    """One answer: a leverage, a number of bars, or how the strategy failed."""

    token: bytes
    failure: FailureKind | None = None
    leverage: float = 0.0
    valid: bool = False
    """Whether there is an opinion."""
    bars: int = 0
    text: str = ""
    place: str = ""
    """`file:line` in the plug-in, or ""."""


def written_question(question: Question) -> bytes:
    """The question as bytes: structure, six columns of 8 bytes a bar, statement, symbol."""
    bars = question.bars
    symbol = b"" if bars is None else bars.symbol.encode()
    head = _QUESTION.pack(
        question.token, question.verb, bars is not None and bars.volume_known, question.timeframe,
        0 if bars is None else len(bars), len(question.statement), len(symbol),
    )  # fmt: skip
    if bars is None:
        return b"".join((head, question.statement))
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    columns = (np.asarray(bars.ts, np.int64).tobytes(), *(np.asarray(each, np.float64).tobytes() for each in prices))
    return b"".join((head, *columns, question.statement, symbol))


def read_question(exactly: Callable[[int], bytes]) -> Question:
    """The next question from what reads so many bytes of it."""
    token, verb, known, timeframe, count, statement, symbol = _QUESTION.unpack(exactly(_QUESTION.size))
    size = 6 * 8 * count
    body = exactly(size + statement + symbol)
    bars = None
    if verb == Verb.propose:
        ts = np.frombuffer(body, np.int64, count)
        open, high, low, close, volume = np.frombuffer(body, np.float64, 5 * count, 8 * count).reshape(5, count)
        bars = Bars(body[size + statement :].decode(), timeframe, ts, open, high, low, close, volume, known)
    return Question(token, Verb(verb), body[size : size + statement], timeframe, bars)


def written_answer(answer: Answer) -> bytes:
    """The answer as bytes, its texts cut."""
    text, place = (
        words[:limit].encode("utf-8", "replace")
        for words, limit in ((answer.text, TEXT_MAX), (answer.place, PLACE_MAX))
    )
    came = 0 if answer.failure is None else 1 + _TOLD.index(answer.failure)
    head = _ANSWER.pack(answer.token, came, answer.valid, answer.leverage, answer.bars, len(text), len(place))
    return b"".join((head, text, place))


def read_answer(content: bytearray, token: bytes) -> Answer | None:
    """The answer to the question of that token, taken from the beginning of `content`, or None while it is not whole.

    Refused: Malformed (another token, numbers that no answer has, texts that are too long).
    """
    if len(content) < _ANSWER.size:
        return None
    found, came, valid, leverage, bars, text, place = _ANSWER.unpack_from(content)
    if found != token:
        raise Malformed("an answer to another question")
    if came > len(_TOLD) or text > _CHARACTER_BYTES * TEXT_MAX or place > _CHARACTER_BYTES * PLACE_MAX:
        raise Malformed("an answer of no known form")
    if not math.isfinite(leverage) or (leverage != 0.0 and not valid) or bars < 0:
        raise Malformed("a number that no answer has")
    end = _ANSWER.size + text + place
    if len(content) < end:
        return None
    words = bytes(content[_ANSWER.size : end])
    del content[:end]
    failure = _TOLD[came - 1] if came else None
    return Answer(
        token, failure, leverage, valid, bars, _text(words[:text], TEXT_MAX), _text(words[text:], PLACE_MAX)
    )  # fmt: skip


def _text(content: bytes, limit: int) -> str:
    return content.decode("utf-8", "replace")[:limit]
