"""The two streams that a person reads: whatever is printed on them arrives as text.

A mandate's title, a holder, a file's name, a plug-in's message can hold what a terminal takes for orders. So every
`print` of every command goes through here, and no command has to think of it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ringfence.words.terminal import printable

__all__ = ["itself", "plain_streams"]


class _Plain:
    """A stream that writes out every character that is no text, and is the stream itself in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def itself(stream: Any) -> TextIO:
    """The stream beneath, for who writes orders of his own to a terminal (rich) and only text between them."""
    found: TextIO = stream._stream if isinstance(stream, _Plain) else stream
    return found


@contextmanager
def plain_streams() -> Iterator[None]:
    """Standard output and standard error as text for the time being."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _plain(before[0]), _plain(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _plain(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, _Plain) else _Plain(stream)


def opened() -> str | None:
    """Fills the places of the standard streams that are closed, so that no file takes one of them; returns the name of
    one that a result would be lost without."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    return "standard output" if sys.stdout is None else None
