"""A screen: rich's console, on which whatever is printed arrives as text and only rich's own styles as orders."""

from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from ringfence.faces.cli.streams import itself
from ringfence.words.terminal import printable

__all__ = ["Screen"]


class Screen(Console):
    """On the stream beneath, since styles are orders to the terminal that no filter may write out."""

    def __init__(self, stream: TextIO, **options: Any) -> None:
        super().__init__(file=itself(stream), highlight=False, markup=False, emoji=False, soft_wrap=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Every piece of text that is to be seen, with what is no text written out."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
