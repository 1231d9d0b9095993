"""Silence: when answers without anything new prove that nothing was traded."""

__all__ = ["Silence"]


class Silence:
    """One symbol's answers that end with its last known bar, by the clock of where they come from.

    One such answer proves nothing: it may have been made before a bar was written down. Nothing was traded in a bar
    that two answers do not have, both asked for after its end and `length` ms apart, where none between them had it.
    What does not answer says nothing, and neither does an answer without the bar that is known.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._first: int | None = None
        """When the first of these answers was asked for, UTC ms."""

    def broken(self) -> None:
        """An answer had something new."""
        self._first = None

    def heard(self, clock: int) -> int | None:
        """An answer that was asked for at `clock` (UTC ms) had nothing new. Returns the moment (UTC ms) before which no
        other bar ended; None while that is not proved. A clock that went back begins anew."""
        if self._first is None or clock < self._first:
            self._first = clock
        if clock - self._first < self.length:
            return None
        proved, self._first = self._first, clock
        return proved
