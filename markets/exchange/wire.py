"""The form in which an exchange is asked and answers: one line of JSON each way, amounts as whole numbers.

JSON keeps int64 and float64 exactly as Python writes and reads them; what has no place in it (infinity, NaN) has none
here either. Reading makes nothing but the types of `protocol` and `terms`, field by field, and refuses everything else.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ringfence.markets.exchange.protocol import Deleveraged, Ending, Liquidated, Unreadable

__all__ = ["Malformed", "document", "parsed", "rows_of", "taken", "taken_ending", "written"]

_Kind = TypeVar("_Kind")
_ENDINGS: Mapping[str, type[Ending]] = {"Liquidated": Liquidated, "Deleveraged": Deleveraged}


class Malformed(ValueError):
    """What came is not what it should be."""


def document(value: Any) -> Any:
    """A value of the protocol, or a list of such, as plain JSON; an ending says which it is."""
    if isinstance(value, tuple | list):
        return [document(part) for part in value]
    if is_dataclass(value) and not isinstance(value, type):
        told = dict(vars(value))
        return told | {"ending": type(value).__name__} if isinstance(value, Ending) else told
    return value


def written(value: Any) -> bytes:
    """One line."""
    return json.dumps(value, default=vars, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def parsed(line: bytes) -> dict[str, Any]:
    """The object in a line. Refused: Malformed, anything else, a line that is not whole included."""
    if not line.endswith(b"\n"):
        raise Malformed("an answer that is not whole")
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise Malformed(f"no JSON: {line[:60]!r}") from None
    if not isinstance(found, dict):
        raise Malformed(f"no object: {line[:60]!r}")
    return found


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def taken(kind: Callable[..., _Kind], told: Any) -> _Kind:
    """A dataclass of plain fields, each there and of its type. Refused: Malformed."""
    if not isinstance(told, dict):
        raise Malformed(f"no {_name(kind)}: {str(told)[:60]}")
    hints = _hints(kind)
    if told.keys() != hints.keys():
        raise Malformed(f"a {_name(kind)} with wrong fields: {sorted(told.keys() ^ hints.keys())}")
    try:
        return kind(**{
            name: told[name] if type(told[name]) is hint and hint is not float else _value(hint, told[name])
            for name, hint in hints.items()
        })  # fmt: skip
    except (TypeError, ValueError) as fault:
        raise Malformed(f"no {_name(kind)}: {fault}") from None


def _name(kind: Any) -> str:
    return str(kind.__name__)


def _value(hint: Any, given: Any) -> Any:
    hint = getattr(hint, "__supertype__", hint)
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        kinds = inner[:1] * len(given) if inner[1:] == (...,) else inner
        return tuple(_value(kind, part) for kind, part in zip(kinds, given, strict=True))
    if get_args(hint):  # a kind or None
        return None if given is None else _value(get_args(hint)[0], given)
    fits = type(given) is hint or (hint is float and type(given) is int)
    if not fits or (hint is float and not math.isfinite(given)):
        raise Malformed(f"{str(given)[:60]!r} is no {hint.__name__}")
    return float(given) if hint is float else given


def taken_ending(told: Any) -> Ending:
    """A liquidation or an auto-deleveraging. Refused: Malformed."""
    kind = _ENDINGS.get(str(told.get("ending"))) if isinstance(told, dict) else None
    if kind is None:
        raise Malformed(f"no ending: {str(told)[:60]}")
    return taken(kind, {field: value for field, value in told.items() if field != "ending"})


def rows_of(kind: Any, told: Any) -> tuple[Any, ...]:
    """The rows of a list; one that cannot be read stands in its place as Unreadable. `kind` a dataclass, or what reads
    a row. Refused: Malformed, what is no list."""
    if not isinstance(told, list):
        raise Malformed(f"no list: {str(told)[:60]}")
    return tuple(_row(kind, row) for row in told)


def _row(kind: Any, row: Any) -> Any:
    try:
        return taken(kind, row) if isinstance(kind, type) else kind(row)
    except Malformed as fault:
        instrument = row.get("instrument") if isinstance(row, dict) else None
        return Unreadable(str(fault), instrument if isinstance(instrument, str) else "")
