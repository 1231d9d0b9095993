"""What processes write down: one line an event, in UTC, without the password of any address.

Fields stand beside the event where they are known: `part`, the process of the installation; `vault` and `slot`, what is
being stepped; `command`, the message that asked for it. Other libraries' records go through the same chain. A text from
outside (a plug-in's message, a table's name) never breaks a line and never gives a terminal orders.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.contextvars import bound_contextvars as bound

from ringfence.words.addresses import without_passwords
from ringfence.words.terminal import printable

__all__ = ["FIELDS", "Form", "Line", "bound", "write_log"]

Form = Literal["text", "json"]
"""`text`: key=value, for people. `json`: one document a line, with whole tracebacks."""
FIELDS = ("part", "vault", "slot", "command")
"""What an event may be about, besides what it says."""

_ORDER = ("time", "level", *FIELDS, "logger", "event", "failure")
_LONGEST = 16_000
"""Characters of a value that are kept."""
_FRAMES = 12
"""Places of a failure that a line of text names, the innermost first."""

_Event = MutableMapping[str, Any]


class Line(structlog.stdlib.ProcessorFormatter):
    """Formats every record, whoever made it, as one line of the given form, said by `part`."""

    def __init__(self, part: str, form: Form = "text") -> None:
        def say_part(_logger: Any, _method: str, event: _Event) -> _Event:
            event["part"] = part
            return event

        before = (
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(allow=FIELDS),
            say_part,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        )
        render: Any = structlog.processors.LogfmtRenderer(key_order=_ORDER, drop_missing=True, bool_as_flag=False)
        if form == "json":
            render = structlog.processors.JSONRenderer(sort_keys=True)
        last = (self.remove_processors_meta, _whole if form == "json" else _short, _safe, render)
        super().__init__(processors=last, foreign_pre_chain=before)

    def format(self, record: logging.LogRecord) -> str:
        """The line. A record that cannot be told is told as such."""
        try:
            return super().format(record)
        except Exception as failure:
            told = f"an event of {record.name} could not be written down: {type(failure).__name__}"
            return super().format(logging.LogRecord("ringfence", logging.ERROR, "", 0, told, (), None))


def _short(_logger: Any, _method: str, event: _Event) -> _Event:
    """A failure in one line: each exception with the places that it went through, and what it came from."""
    given = event.pop("exc_info", None)
    if isinstance(given, tuple) and isinstance(given[1], BaseException):
        event["failure"] = "; from ".join(_chain(given[1], given[2]))
    return event


def _whole(_logger: Any, _method: str, event: _Event) -> _Event:
    given = event.pop("exc_info", None)
    if isinstance(given, tuple) and isinstance(given[1], BaseException):
        event["failure"] = "".join(traceback.format_exception(given[1]))
    return event


def _chain(raised: BaseException, at: Any) -> list[str]:
    found: list[str] = []
    cause: BaseException | None = raised
    while cause is not None and len(found) < _FRAMES:
        try:
            frames = traceback.extract_tb(at if cause is raised else cause.__traceback__)
        except AttributeError:  # what another process raised comes without its frames
            frames = traceback.StackSummary()
        places = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
        found.append(f"{type(cause).__name__}: {cause} ({' < '.join(places[:_FRAMES])})")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return found


def _safe(_logger: Any, _method: str, event: _Event) -> _Event:
    """Every value as text that stays on its line and holds no password; numbers stay numbers."""
    for name, value in event.items():
        if value is not None and not isinstance(value, bool | int | float):
            text = without_passwords(value if isinstance(value, str) else repr(value))
            text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... of {len(text)} characters"
            event[name] = printable(text).replace("\n", "\\n").replace("\t", "\\t")
    return event


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what standard error is when it writes, which a program may have exchanged since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def write_log(stream: TextIO, part: str, form: Form = "text") -> None:
    """Everything from INFO on, warnings of libraries too, to `stream`, said by `part`."""
    logging.captureWarnings(True)
    handler = _Stderr() if stream is sys.stderr else logging.StreamHandler(stream)
    handler.setFormatter(Line(part, form))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
