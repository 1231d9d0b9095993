"""Parameters in words: what a strategy's fields mean, in which unit they are written, and what they may be."""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from ringfence.words.numbers import format_percentage, format_ppm
from ringfence.words.times import format_duration
from ringfence.words.units import DurationUnit, MultipleUnit, Percentage

__all__ = ["Parameter", "parameter"]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy as a person reads it; every field is text that a mandate could hold."""

    name: str
    unit: str
    """`fraction`, `rate`, `duration`, `number`, the choices `long | short`, or `true | false`."""
    bounds: str
    """`above 0%, at most 100%`; empty when the unit says all."""
    required: bool
    default: str | None
    """How a mandate would write the default; None when there is none."""
    meaning: str


def parameter(name: str, field: FieldInfo) -> Parameter:
    """The description of one field of a strategy; units are read from the annotations of `words.units`."""
    kind, marks = _unwrapped(field.annotation, tuple(field.metadata))
    unit, bounds = _unit(kind, marks)
    default = None if field.is_required() or field.default is None else _written(field.default, marks)
    return Parameter(name, unit, bounds, field.is_required(), default, field.description or "")


def _unwrapped(kind: Any, marks: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """The type without `| None` and `Annotated`, and all that annotates it."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [part for part in get_args(kind) if part is not type(None)]
        return _unwrapped(inner[0], marks) if len(inner) == 1 else (kind, marks)
    if get_origin(kind) is Annotated:
        inner_kind, *inner_marks = get_args(kind)
        return _unwrapped(inner_kind, (*inner_marks, *marks))
    return kind, marks


def _unit(kind: Any, marks: tuple[Any, ...]) -> tuple[str, str]:
    for mark in marks:
        if isinstance(mark, Percentage):
            low = f"{'above' if mark.low_open else 'at least'} {format_percentage(float(mark.low))}"
            return mark.name, f"{low}, at most {format_percentage(float(mark.high))}"
        if isinstance(mark, DurationUnit):
            return "duration", ""
        if isinstance(mark, MultipleUnit):
            return "number", f"{'above' if mark.low_open else 'at least'} {mark.low}, at most {mark.high}"
    if get_origin(kind) is Literal:
        return " | ".join(str(choice) for choice in get_args(kind)), ""
    if kind is bool:
        return "true | false", ""
    words = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
    bounds = [f"{word} {getattr(mark, key)}" for mark in marks for key, word in words if hasattr(mark, key)]
    return {float: "number", int: "integer", str: "text"}.get(kind, getattr(kind, "__name__", str(kind))), ", ".join(
        bounds
    )


def _written(value: Any, marks: tuple[Any, ...]) -> str:
    for mark in marks:
        if isinstance(mark, Percentage):
            return format_ppm(value) if mark.ppm else format_percentage(value)
        if isinstance(mark, DurationUnit):
            return format_duration(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
