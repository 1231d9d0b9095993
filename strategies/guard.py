"""The guard: the one place where a strategy's code runs, and what that code cannot do from there.

What a strategy writes to standard output goes to standard error. An exception, an exit or an answer of the wrong kind
becomes a refusal that names the strategy with file and line. The process's own end by `sys.exit`, `os._exit`, `abort`
or `exec` is one of them; Ctrl-C still stops.

The guard is made against mistakes, and it stands in the same process. A strategy that kills its own process by a
signal, crashes in compiled code, never returns, or leaves a thread behind is out of its reach.
"""

import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.machinery import PathFinder
from traceback import walk_tb
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from ringfence.markets.bars import Bars
from ringfence.risk.book import Flags, Floats
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import InvalidProposal, StrategyFailed, TimeframeTooLong
from ringfence.words.times import format_duration, utc

__all__ = ["Told", "bars_needed", "confined", "guarded", "of_bars", "place_of_failure", "place_of_method", "proposals"]

Told = tuple[str, str]
"""What an exception says, and where (`file:line`) the plug-in raised or caused it; "" where it is nowhere in it."""

_Answer = TypeVar("_Answer")
_TEXT_MAX = 300
_ENDINGS = ("_exit", "abort", "execv", "execve")
_HOMES = tuple(sys.modules[name] for name in ("os", "posix") if name in sys.modules)


# ----------------------------------------------------------------------------------------------- confinement


class _Ended(SystemExit):
    """Raised in place of an end of the process that no `except` could have met."""


class _Confinement(AbstractContextManager[None]):
    """Standard output leads to standard error, and the process's ends to an exception, while anyone is inside.

    It is counted, so that it may be entered again from inside and by several threads, and the last to leave restores.
    What other threads print meanwhile goes to standard error too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                with contextlib.ExitStack() as entered:
                    entered.enter_context(_output_aside())
                    entered.enter_context(_process_kept())
                    self._restore = entered.pop_all()
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore.close()


confined = _Confinement()
"""Every call of the guard enters it; a caller of many enters it himself, so that it is made once."""


@contextlib.contextmanager
def _output_aside() -> Iterator[None]:
    """The stream and, for programs and libraries that write past it, the descriptor beneath."""
    streams = (sys.stdout, sys.__stdout__)
    _flush(*streams)
    kept = _led_aside()
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        _flush(*streams)  # what was written past `sys.stdout` is part of no result
        sys.stdout = streams[0]
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _flush(*streams: Any) -> None:
    for stream in streams:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _led_aside() -> int | None:
    """Leads descriptor 1 to where 2 leads and returns the old one; None where one of the two is closed."""
    try:
        kept = os.dup(1)
    except OSError:
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(kept)
        return None
    return kept


@contextlib.contextmanager
def _process_kept() -> Iterator[None]:
    own = os.getpid()
    kept = [(home, name, getattr(home, name)) for home in _HOMES for name in _ENDINGS if hasattr(home, name)]
    for home, name, end in kept:
        setattr(home, name, _instead_of(name, end, own))
    try:
        yield
    finally:
        for home, name, end in kept:
            setattr(home, name, end)


def _instead_of(name: str, end: Callable[..., Any], own: int) -> Callable[..., Any]:
    def ended(*arguments: Any, **named: Any) -> NoReturn:
        if os.getpid() != own:  # a child that the strategy started ends as it likes
            end(*arguments, **named)
        shown = ", ".join(repr(argument) for argument in arguments)
        raise _Ended(_cut(f"os.{name}({shown})"))

    return ended


# ------------------------------------------------------------------------------------------------- the guard


def guarded(
    call: Callable[[], _Answer],
    refuse: Callable[[Told], BaseException],
    source: type | str,
    passing: tuple[type[BaseException], ...] = (),
) -> _Answer:
    """What `call` answers; it runs a plug-in's code, whose class or module is `source`.

    Whatever it raises becomes what `refuse` makes of it, with itself as the cause. KeyboardInterrupt and `passing` go
    through as they are. numpy's error state is put back.
    """
    try:
        with confined, np.errstate():
            return call()
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        if isinstance(failure, passing):
            raise
        raise refuse((_said(failure), place_of_failure(failure, source))) from failure


def _said(failure: BaseException) -> str:
    if isinstance(failure, SystemExit):
        called = str(failure) if isinstance(failure, _Ended) else f"sys.exit({_text(failure.code)})"
        return f"{called} would have ended the process; expected an answer or an exception"
    try:
        text = str(failure)
    except Exception:  # a stranger's __str__
        text = "(its text cannot be read)"
    return f"{type(failure).__name__}: {_cut(text)}" if text else type(failure).__name__


def _text(value: object) -> str:
    try:
        return "" if value is None else _cut(repr(value))
    except Exception:  # a stranger's __repr__
        return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    """One line of printable text, whatever a plug-in says."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))
    return line if len(line) <= _TEXT_MAX else f"{line[: _TEXT_MAX - 1]}…"


def place_of_failure(failure: BaseException, source: type | str) -> str:
    """`file:line` of the innermost frame in the plug-in's own code, or ""."""
    if isinstance(failure, SyntaxError) and failure.filename:
        return f"{failure.filename}:{failure.lineno or 1}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(failure.__traceback__)]
    for files in _sources(source):
        inner = [place for place in frames if place[0].startswith(files)]
        if inner:
            return f"{inner[-1][0]}:{inner[-1][1]}"
    return ""


def place_of_method(strategy: type[Strategy], method: str) -> str:
    """`file:line` at which the strategy defines a method, or ""."""
    found = inspect.unwrap(getattr(strategy, method))
    code = getattr(found, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""


def _sources(source: type | str) -> Iterator[tuple[str, ...]]:
    """The files, and folders with a separator at the end, of a module or of a class and of what it inherits."""
    if isinstance(source, str):
        yield _module_files(source)
        return
    for kind in source.__mro__:
        if kind is Strategy:
            return
        own = (member for member in vars(kind).values() if getattr(member, "__module__", "") == kind.__module__)
        codes = (getattr(member, "__code__", None) for member in own)
        yield (*(code.co_filename for code in codes if code is not None), *_module_files(kind.__module__))


def _module_files(module: str) -> tuple[str, ...]:
    top = module.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is not None:
        folders, file = getattr(loaded, "__path__", None), getattr(loaded, "__file__", None)
    else:
        found = PathFinder.find_spec(top)
        folders, file = (found.submodule_search_locations, found.origin) if found else (None, None)
    if folders is not None:
        return tuple(os.path.join(folder, "") for folder in folders)
    return (file,) if file else ()


# ---------------------------------------------------------------------------------------- what a strategy says


def proposals(strategy: Strategy, bars: Bars, lookback: int | None = None) -> tuple[Floats, Flags]:
    """The strategy's leverage at each bar, as (leverage, valid), each (T,); invalid rows hold 0.0. Its lookback is
    asked for where it is not given.

    The bars are handed over as a read-only copy, so that neither they nor the bars around them can be reached, and not
    at all when they are fewer than the lookback. The first lookback - 1 rows are invalid whatever the strategy says.
    Refused: another shape or type than float64 (T,), NaN or infinity in a row that counts (InvalidProposal); any
    exception of the strategy becomes StrategyFailed, which names it with its place.
    """
    if lookback is None:
        lookback = bars_needed(strategy, bars.timeframe)
    if len(bars) < lookback:
        return np.zeros(len(bars)), np.zeros(len(bars), np.bool_)
    kind = type(strategy)

    def failed(told: Told) -> StrategyFailed:
        count = "1 bar" if len(bars) == 1 else f"{len(bars)} bars"
        act = f"propose on {bars.symbol}, {count} up to {utc(int(bars.ts[-1]))}"
        return StrategyFailed(strategy.name, act, *told)

    found, leverage, valid = guarded(lambda: _plain(strategy.propose(_shown(bars)), len(bars)), failed, kind)
    ts, expected = None, f"a float64 array of shape ({len(bars)},), one signed leverage a bar"
    if not found:
        valid[: lookback - 1] = False
        leverage = np.where(valid, leverage, 0.0)
        odd = np.flatnonzero(~np.isfinite(leverage))
        if len(odd):
            found, ts = f"a leverage of {float(leverage[odd[0]])}", int(bars.ts[odd[0]])
            expected = "a finite number, or a masked one for no opinion"
    if found:
        raise InvalidProposal(strategy.name, found, expected, bars.symbol, ts, place_of_method(kind, "propose"))
    # -0.0 and 0.0 are one proposal; with one sign they are also one byte pattern.
    return leverage + 0.0, valid


def _plain(proposed: object, size: int) -> tuple[str, Floats, Flags]:
    """The proposal as arrays of numpy's own class and in memory of their own, for the class that was proposed, and so
    its methods, may be the strategy's; or what it is in words where it is no float64 (size,)."""
    if not isinstance(proposed, np.ndarray):
        return f"a {type(proposed).__name__}", np.zeros(0), np.zeros(0, np.bool_)
    leverage = np.array(np.ma.getdata(proposed), subok=False)
    if leverage.shape != (size,) or leverage.dtype != np.float64:
        return f"a {leverage.dtype} array of shape {leverage.shape}", np.zeros(0), np.zeros(0, np.bool_)
    return "", leverage, ~np.array(np.ma.getmaskarray(proposed), subok=False)


def bars_needed(strategy: Strategy, timeframe: int) -> int:
    """The strategy's lookback on bars of `timeframe` ms behind the same guard; TimeframeTooLong passes as it is."""
    act, kind = f"lookback on bars of {format_duration(timeframe)}", type(strategy)
    lookback = guarded(
        lambda: strategy.lookback(timeframe),
        lambda told: StrategyFailed(strategy.name, act, *told),
        kind,
        (TimeframeTooLong,),
    )
    if isinstance(lookback, bool) or not isinstance(lookback, int | np.integer) or lookback < 1:
        found, expected = f"a lookback of {_text(lookback)} bars", "an integer of at least 1"
        raise InvalidProposal(strategy.name, found, expected, "", None, place_of_method(kind, "lookback"))
    return int(lookback)


def _shown(bars: Bars) -> Bars:
    return of_bars(bars, _read_only)


def _read_only(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    seen = column.copy()
    seen.flags.writeable = False
    return seen


def of_bars(bars: Bars, change: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Bars:
    """The bars with each column changed."""
    ts, open, high = change(bars.ts), change(bars.open), change(bars.high)
    low, close, volume = change(bars.low), change(bars.close), change(bars.volume)
    return replace(bars, ts=ts, open=open, high=high, low=low, close=close, volume=volume)
