"""How wide the columns of a table are: what fits stays beside each other, and nothing is broken inside a figure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ringfence.words.numbers import ABSENT

__all__ = ["Column", "blocks", "drawn", "fitted"]

_FIGURE = re.compile(r"[-+]?[0-9][0-9,.:]*(e[-+]?[0-9]+)?( ?(%|x|×))?|–|", re.ASCII)
_GAP, _EDGES = 2, 2
"""Columns of the screen between two of the table, and left and right of it together."""


@dataclass(frozen=True)
class Column:
    """A column as text, and between which widths it may be drawn."""

    name: str
    cells: tuple[str, ...]
    is_figures: bool
    least: int
    """Its longest word, its longest cell where it holds figures, or what its name needs to stand in two lines."""
    most: int
    """What needs no wrapping."""

    @classmethod
    def of(cls, name: str, values: Sequence[object]) -> "Column":
        """None is a dash."""
        cells = tuple(ABSENT if value is None else str(value) for value in values)
        is_figures = any(cells) and all(_FIGURE.fullmatch(cell) for cell in cells)
        lines = [line for text in (name, *cells) for line in text.split("\n")]
        unbroken = cells if is_figures else tuple(word for text in cells for word in text.split())
        least = max(map(len, unbroken), default=0)
        return cls(name, cells, is_figures, max(_in_two_lines(name), least), max(map(len, lines), default=0))


def _in_two_lines(name: str) -> int:
    """The least width at which a column's name needs no third line."""
    words = name.split()
    halves = ((" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words)))
    return min((max(map(len, each)) for each in halves), default=max(map(len, words), default=0))


def blocks(columns: Sequence[Column], keys: int, width: int) -> Iterator[list[Column]]:
    """The columns in as few tables as fit, each led by the first `keys`; one that fits nowhere stands alone."""
    head, rest = list(columns[:keys]), list(columns[keys:])
    block, started = list(head), False
    for column in rest:
        if started and drawn([each.least for each in (*block, column)]) > width:
            yield block
            block = list(head)
        block.append(column)
        started = True
    yield block


def fitted(columns: Sequence[Column], width: int) -> list[int]:
    """The columns' widths within `width`: the widest columns of words give way first, down to their longest word."""
    widths = [column.most for column in columns]
    while drawn(widths) > width:
        slack = [at for at, column in enumerate(columns) if widths[at] > column.least]
        if not slack:
            break
        widths[max(slack, key=lambda at: widths[at])] -= 1
    return widths


def drawn(widths: Sequence[int]) -> int:
    """How wide a table of such columns is."""
    return sum(widths) + _GAP * (len(widths) - 1) + _EDGES
