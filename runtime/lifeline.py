"""The lifeline: a part of an installation ends when the process that started it is gone, however that ended."""

import os
import signal
import sys
import threading

__all__ = ["LIFELINE", "hold_lifeline"]

LIFELINE = "RINGFENCE_LIFELINE"
"""Set to `stdin` for a process whose standard input ends with the one that started it."""


def hold_lifeline() -> None:
    """From now on this process gets a SIGTERM once its lifeline ends; nothing, where it has none."""
    if os.environ.pop(LIFELINE, "") == "stdin":
        threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True, name="lifeline").start()


def _end_with(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
