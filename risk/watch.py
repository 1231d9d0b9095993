"""The watch: open positions by their triggers, so that a price touches only those that it crosses.

A trigger is the mark at or past which a position needs a closer look: at or below it a long, at or above it a short.
Each symbol has two heaps, one of its longs and one of its shorts, the nearest trigger on top. Marks are asked from the
top down, and a branch ends where its trigger is not reached: with k positions crossed, asking looks at 2k + 2 of them
at most. Placing or removing one of n looks at log2(n).

Exact: triggers are compared and never calculated with. A long's key is its trigger with the sign changed, so that in
both heaps the smallest key is on top and the marks reach every key up to -low, or up to high.
"""

from itertools import pairwise
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from ringfence.risk.book import Floats, Ints, Rows
from ringfence.risk.compiled import compiled
from ringfence.risk.errors import MarksRefused, TriggerRefused
from ringfence.risk.exposure import arm

__all__ = ["Marks", "Watch", "nearest_triggers"]

_Numbers = npt.NDArray[np.int32]
_Column = npt.NDArray[Any]

_NOT_WATCHED = -1
_NOBODY = np.empty(0, np.int64)


class Marks(NamedTuple):
    """Between what a symbol was marked."""

    low: float
    high: float


@compiled
def nearest_triggers(positions: Rows, limits: Rows, listing: Rows) -> Floats:
    """(P,) the trigger of each position that is not flat, its margin call's or its liquidation's, whichever is nearer;
    0.0 of a long that has none, inf of such a short.

    `positions` (P,) of POSITION, whose `symbol` is the row of `listing`, (N,) of INSTRUMENT; `limits` (P,) of
    POSITION_LIMITS. Sets the watches of `positions`.
    """
    found = np.zeros(positions.size)
    for p in range(positions.size):
        position = positions[p]
        arm(position, limits[p], listing[position.symbol])
        if position.quantity > 0:
            found[p] = max(position.liquidation_watch, position.call_watch)
        elif position.quantity < 0:
            found[p] = min(position.liquidation_watch, position.call_watch)
    return found


# One heap


@compiled
def _settle(keys: Floats, positions: _Numbers, places: _Numbers, at: int, size: int) -> None:
    """Move the entry at `at` to where it belongs among `size` entries, all others of which stand where they belong."""
    key, position = keys[at], positions[at]
    while at > 0 and key < keys[(at - 1) // 2]:
        above = (at - 1) // 2
        keys[at], positions[at] = keys[above], positions[above]
        places[positions[at]] = at
        at = above
    while 2 * at + 1 < size:
        below = 2 * at + 1
        if below + 1 < size and keys[below + 1] < keys[below]:
            below += 1
        if key <= keys[below]:
            break
        keys[at], positions[at] = keys[below], positions[below]
        places[positions[at]] = at
        at = below
    keys[at], positions[at] = key, position
    places[position] = at


@compiled
def _reached(keys: Floats, positions: _Numbers, size: int, bound: float) -> Ints:
    """The positions of all keys up to `bound`, which is at least the first one's."""
    places, count, done = np.zeros(64, np.int64), 1, 0
    while done < count:
        for below in range(2 * places[done] + 1, min(2 * places[done] + 3, size)):
            if keys[below] <= bound:
                if count == places.size:
                    places = np.concatenate((places, np.zeros(count, np.int64)))
                places[count] = below
                count += 1
        done += 1
    found = np.empty(count, np.int64)
    for n in range(count):
        found[n] = positions[places[n]]
    return found


class _Heap:
    """The longs or the shorts of one symbol; no entry's key is below that of the one above it."""

    __slots__ = ("first", "keys", "positions", "size")

    def __init__(self, keys: Floats, positions: _Numbers) -> None:
        """Of keys that rise and their positions."""
        self.keys, self.positions, self.size = keys, positions, len(keys)
        self._look()

    def _look(self) -> None:
        """What is asked of a heap that no mark reaches is this one number: its first key, inf where it is empty."""
        self.first = self.keys.item(0) if self.size else np.inf

    def add(self, key: float, position: int, places: _Numbers) -> None:
        if self.size == len(self.keys):
            self.keys = _longer(self.keys, self.size + 1)
            self.positions = _longer(self.positions, self.size + 1)
        self.keys[self.size], self.positions[self.size] = key, position
        self.size += 1
        _settle(self.keys, self.positions, places, self.size - 1, self.size)
        self._look()

    def drop(self, at: int, places: _Numbers) -> None:
        """The last entry takes the place of the one that goes."""
        self.size -= 1
        if at < self.size:
            self.keys[at], self.positions[at] = self.keys[self.size], self.positions[self.size]
            _settle(self.keys, self.positions, places, at, self.size)
        self._look()

    def reached(self, bound: float) -> Ints:
        """The positions of all keys up to `bound`, of which there is one."""
        return _reached(self.keys, self.positions, self.size, bound)


def _longer(column: _Column, size: int) -> _Column:
    """The column with room for `size` values, and for half as many as it has besides, so that growing is rare."""
    room = max(size, len(column) + len(column) // 2 + 8)
    return np.concatenate((column, np.full(room - len(column), _NOT_WATCHED, column.dtype)))


# All of them


class Watch:
    """Positions by their triggers. A position is a whole number from 0 on, as is a symbol; the memory grows with the
    largest of each, by 20 bytes a position and half as much again where they were placed one by one."""

    def __init__(self) -> None:
        self._heaps: list[_Heap] = []  # of symbol s: its longs 2s, its shorts 2s + 1
        self._heap_of = np.empty(0, np.int32)  # by position
        self._places = np.empty(0, np.int32)  # by position: where in its heap it stands

    @classmethod
    def build(cls, symbols: Ints, sides: Ints, triggers: Floats) -> Self:
        """The watch of many positions at once: position p is row p of the columns, each as `place` takes it. Refused:
        TriggerRefused."""
        faulty = np.flatnonzero(~(triggers >= 0.0))
        if faulty.size:
            raise TriggerRefused(int(faulty[0]), float(triggers[faulty[0]]))
        if symbols.size and symbols.min() < 0:
            raise ValueError(f"symbol {symbols.min()}: expected a whole number from 0 on")
        watch = cls()
        watch._admit(len(symbols), int(symbols.max(initial=-1)))
        long, short = (sides > 0) & (triggers > 0.0), (sides < 0) & (triggers < np.inf)
        rows = np.flatnonzero(long | short)
        heaps, keys = (2 * symbols + (sides < 0))[rows], np.where(long, -triggers, triggers)[rows]
        order = np.lexsort((keys, heaps))
        rows, heaps, keys = rows[order], heaps[order], keys[order]
        ends = np.searchsorted(heaps, np.arange(len(watch._heaps) + 1))
        for number, (first, end) in enumerate(pairwise(ends)):
            watch._heaps[number] = _Heap(keys[first:end].copy(), rows[first:end].astype(np.int32))
        watch._heap_of[rows], watch._places[rows] = heaps, np.arange(len(rows)) - ends[heaps]
        return watch

    def __len__(self) -> int:
        """How many positions are watched."""
        return sum(heap.size for heap in self._heaps)

    def place(self, position: int, symbol: int, side: int, trigger: float) -> None:
        """Watch a position, which may be watched already: `side` > 0 a long, < 0 a short.

        No trigger (0.0 of a long, inf of a short) and no side (0) leave it without a watch. Refused, with nothing
        changed: TriggerRefused for a trigger that is no mark (NaN, or below 0), ValueError for numbers below 0.
        """
        if position < 0 or symbol < 0:
            raise ValueError(f"position {position}, symbol {symbol}: expected whole numbers from 0 on")
        if not trigger >= 0.0:
            raise TriggerRefused(position, trigger)
        self.remove(position)
        if side == 0 or (trigger == 0.0 if side > 0 else trigger == np.inf):
            return
        self._admit(position + 1, symbol)
        number = 2 * symbol + (side < 0)
        self._heap_of[position] = number
        self._heaps[number].add(-trigger if side > 0 else trigger, position, self._places)

    def remove(self, position: int) -> None:
        """Watch a position no longer; one that is not watched stays so."""
        if not 0 <= position < len(self._heap_of) or self._heap_of[position] == _NOT_WATCHED:
            return
        self._heaps[self._heap_of[position]].drop(int(self._places[position]), self._places)
        self._heap_of[position] = _NOT_WATCHED

    def crossed(self, symbol: int, low: float, high: float) -> Ints:
        """The positions of a symbol whose triggers lie at or past marks from `low` to `high`, in rising order: longs
        with a trigger of `low` or more, shorts with one of `high` or less. All of them stay watched.

        Refused: MarksRefused for what no market can have shown; a NaN would cross nothing.
        """
        if not 0.0 < low <= high < np.inf:
            raise MarksRefused(symbol, low, high)
        if not 0 <= symbol < len(self._heaps) // 2:
            return _NOBODY
        longs, shorts = self._heaps[2 * symbol], self._heaps[2 * symbol + 1]
        if longs.first > -low and shorts.first > high:
            return _NOBODY
        return np.sort(np.concatenate([heap.reached(bound) for heap, bound in ((longs, -low), (shorts, high))
                                       if heap.first <= bound]))  # fmt: skip

    def _admit(self, positions: int, symbol: int) -> None:
        """Room for so many positions, and for this symbol."""
        if positions > len(self._heap_of):
            self._heap_of = _longer(self._heap_of, positions)
            self._places = _longer(self._places, positions)
        while len(self._heaps) <= 2 * symbol + 1:
            self._heaps.append(_Heap(np.empty(0), np.empty(0, np.int32)))
