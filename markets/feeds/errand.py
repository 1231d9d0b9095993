"""Errands: work that may hang, done beside its caller, who waits no longer than he says."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Errand"]

Result = TypeVar("Result")


class Errand(Generic[Result]):
    """One piece of work at a time, in a thread that ends with the process.

    Libraries bound a silence, not a whole answer: a server that sends a byte a second, or a folder on a machine that is
    gone, holds them as long as it likes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._outcome: list[Result | BaseException] = []

    def run(self, work: Callable[[], Result], timeout: int) -> Result | None:
        """What the work comes to; None after `timeout` ms.

        Work that was not done in time goes on, and no other is begun before it ends: what it comes to is returned by
        the next call after that. What it raises is raised here.
        """
        if self._thread is None:
            self._outcome = []
            self._thread = threading.Thread(target=self._do, args=(work,), name=self._name, daemon=True)
            self._thread.start()
        self._thread.join(timeout / 1000)
        if self._thread.is_alive():
            return None
        self._thread = None
        outcome = self._outcome[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _do(self, work: Callable[[], Result]) -> None:
        try:
            self._outcome.append(work())
        except BaseException as failure:  # it is raised where the work was asked for
            self._outcome.append(failure)
