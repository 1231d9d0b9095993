"""What processes write down: lines of plain text, in UTC, without the password of any address."""

import logging
import time
from typing import TextIO

from ringfence.words.addresses import without_passwords
from ringfence.words.terminal import printable

__all__ = ["Plain", "log_plainly"]


class Plain(logging.Formatter):
    """Another formatter's lines, tracebacks included, as text and without the password of any address in them."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_passwords(self._inner.format(record)))


def log_plainly(stream: TextIO) -> None:
    """Everything from INFO on, to `stream`."""
    inner = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    inner.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Plain(inner))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
