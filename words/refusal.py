"""The base of every refusal: a code, fields, the text made of them, and the way to another process and back."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from pathlib import PurePath
from typing import Any, ClassVar, Self, dataclass_transform

__all__ = ["RingfenceError"]

_BITS_MAX = 128
"""Longer integers are told by their length: JSON's readers, and Python's own writer, stop somewhere beyond."""


@dataclass_transform(eq_default=False, frozen_default=True)
class RingfenceError(Exception):
    """The request is refused whole and nothing has changed; the text names the thing, the value and what was expected.

    A subclass declares its fields as annotations and its text as `__str__`, and nothing else: `__init__` takes the
    fields, by place or by name. Fields are plain values (texts, numbers, paths, None; lists, tuples and dataclasses of
    them); what is not plain is kept as its text, so that a refusal always comes back whole from pickle or `copy`, with
    its notes, and with its cause where that is a refusal too (a stranger's exception may not be able to travel).

    A class without a `__str__` is a family: it can be caught and not raised.
    """

    code: ClassVar[str]
    """Its name outside Python: `no_bars` of `NoBars`, unless the class states another so as to outlive a renaming."""
    transient: ClassVar[bool] = False
    """Whether the same request may succeed later without anybody changing anything."""
    __match_args__: ClassVar[tuple[str, ...]] = ()
    """The names of the fields, in order."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        if "__init__" in vars(cls):
            raise TypeError(f"{cls.__name__} has an __init__; expected fields, which are annotations")
        if "code" not in vars(cls):
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        dataclass(eq=False, repr=False)(cls)

    def __new__(cls, *values: Any, **named: Any) -> Self:
        """A family is refused: it has no text."""
        if cls.__str__ is BaseException.__str__:
            raise TypeError(f"{cls.__name__} is a family of refusals; expected one of its kinds")
        return super().__new__(cls, *values)

    def __post_init__(self) -> None:
        """Keeps the fields as plain values."""
        self.args = tuple(_kept(getattr(self, name)) for name in self.__match_args__)
        self.__dict__.update(zip(self.__match_args__, self.args, strict=True))

    def __reduce__(self) -> tuple[Callable[..., "RingfenceError"], tuple[Any, ...]]:
        cause = self.__cause__ if isinstance(self.__cause__, RingfenceError) else None
        values = tuple(getattr(self, name) for name in self.__match_args__)
        return _remade, (type(self), values, tuple(getattr(self, "__notes__", ())), cause)

    def fields(self) -> dict[str, Any]:
        """Every field by its name, as values that JSON can hold."""
        return {name: _jsonable(getattr(self, name)) for name in self.__match_args__}

    def document(self) -> dict[str, Any]:
        """The refusal as a JSON document has it."""
        return {"code": self.code, "message": str(self), "fields": self.fields(), "transient": self.transient}


def _remade(
    kind: type[RingfenceError], values: tuple[Any, ...], notes: tuple[str, ...], cause: RingfenceError | None
) -> RingfenceError:
    refusal = kind(*values)
    for note in notes:
        refusal.add_note(note)
    if cause is not None:
        refusal.__cause__ = cause
    return refusal


def _kept(value: Any) -> Any:
    """The value as a refusal keeps it: nothing that can change, hold on to more, or refuse to be pickled."""
    match value:
        case None | bool() | Decimal() | Enum() | PurePath():
            return value
        case str():
            return str.__str__(value)
        case Integral():
            return int(value)
        case Real():
            return float(value)
        case list():
            return [_kept(part) for part in value]
        case tuple():
            return tuple(_kept(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return value
    try:
        return str(value)
    except Exception:  # a stranger's __str__
        return f"a {type(value).__name__}"


def _jsonable(value: Any) -> Any:
    match value:
        case Enum():
            return value.name
        case Decimal() | PurePath():
            return str(value)
        case int() if value.bit_length() > _BITS_MAX:
            return f"an integer of {value.bit_length()} bits"
        case float() if not math.isfinite(value):
            return str(value)
        case tuple() | list():
            return [_jsonable(part) for part in value]
        case dict():
            return {name: _jsonable(part) for name, part in value.items()}
    return _jsonable(asdict(value)) if is_dataclass(value) and not isinstance(value, type) else value
