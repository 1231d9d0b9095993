"""How a formula becomes machine code: one scalar function, three uses.

`formula` turns a scalar function into a ufunc, so that the same text serves a scalar, an array of a million positions
and a call inside a `compiled` loop. With `NUMBA_DISABLE_JIT=1` both leave plain Python, which is how branch coverage
is measured.

numba's cache looks only at the file of the function it stores, so a changed formula would live on inside a loop that
was compiled before. The cache therefore sits in a folder named after the content of every module of this package and
of the compiled rooms that call it: a change anywhere starts an empty cache.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np
from numba.core import config

__all__ = ["compiled", "formula", "inlined"]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SOURCES = ("risk", "markets")


def _fingerprint() -> str:
    top = Path(__file__).resolve().parent.parent
    content = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for room in _SOURCES:
        for path in sorted((top / room).glob("*.py")):
            content.update(path.name.encode() + b"\0" + path.read_bytes())
    return content.hexdigest()[:16]


def _own(folder: Path) -> bool:
    """Whether nobody but this user could have put something there: what numba caches is code that will be run."""
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


def _cache_folder() -> Path:
    """The first folder that is this user's own and can be written: in the user's cache, else in the temporary folder,
    else one for this process only."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringfence"
    for base in (home, Path(tempfile.gettempdir()) / f"ringfence-{os.getuid()}"):
        folder = base / f"kernel-{_fingerprint()}"
        try:
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _own(base):
                folder.mkdir(exist_ok=True, mode=0o700)
                if _own(folder) and os.access(folder, os.W_OK):
                    return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="ringfence-kernel-"))


def _stated_is_usable() -> bool:
    """Whether NUMBA_CACHE_DIR names a folder that can be written, or made."""
    stated = os.environ.get("NUMBA_CACHE_DIR", "")
    try:
        if stated:
            Path(stated).mkdir(parents=True, exist_ok=True)
        return bool(stated) and os.access(stated, os.W_OK | os.X_OK)
    except OSError:
        return False


# A stated folder that cannot be used would end every command in numba's own traceback; ours takes its place.
if not config.DISABLE_JIT and not _stated_is_usable():
    config.CACHE_DIR = str(_cache_folder())


def compiled(function: _Function) -> _Function:
    """A function over arrays, compiled at its first call and cached on disk. No fast-math: the same inputs give the
    same bits in every driver."""
    if config.DISABLE_JIT:
        return function
    result: _Function = numba.njit(function, cache=True)
    return result


def inlined(function: _Function) -> _Function:
    """`compiled`, and always inlined by LLVM into its compiled callers: for what runs on every bar.

    Such functions take records and scalars. An array as an argument costs a counted reference at every call, which is
    why loops over rows stand in the few functions that own the arrays.
    """
    if config.DISABLE_JIT:
        return function
    result: _Function = numba.njit(function, cache=True, forceinline=True)
    return result


def formula(function: _Function) -> _Function:
    """A scalar function as a ufunc: scalars, broadcast arrays, and calls inside `compiled` code."""
    if not config.DISABLE_JIT:
        result: _Function = numba.vectorize(cache=True)(function)
        return result

    def plain(*arguments: Any) -> Any:
        if all(np.ndim(argument) == 0 for argument in arguments):
            return function(*arguments)
        return np.vectorize(function)(*arguments)

    plain.__name__, plain.__doc__ = function.__name__, function.__doc__
    return plain  # type: ignore[return-value]
