"""The edge of the programme: every way that a command can end, as one message and one exit code.

0 done, 1 refused or failed for a stated reason, 2 the command line was wrong, 3 verified as far as this version can,
70 a fault of the program, 130 stopped from the keyboard, 141 whoever read the output has gone. A traceback is shown
only where RINGFENCE_DEBUG is set.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable

import typer

from ringfence.faces.cli.streams import opened, plain_streams
from ringfence.faces.ways_out import told
from ringfence.words.addresses import without_passwords
from ringfence.words.refusal import RingfenceError

__all__ = ["guarded"]

REFUSED, MISUSED, FAULT, STOPPED, UNHEARD = 1, 2, 70, 130, 141

_ADVICE = {
    errno.ENOSPC: "make room and run the same command again",
    errno.EDQUOT: "make room and run the same command again",
    errno.EFBIG: "allow larger files (ulimit -f) and run the same command again",
    errno.EACCES: "allow it, or name another place",
    errno.EPERM: "allow it, or name another place",
    errno.EROFS: "name another place",
    errno.ENOENT: "is the name right?",
    errno.EISDIR: "name a file in it",
    errno.EMFILE: "allow more open files (ulimit -n) and run the same command again",
}


_KEPT = "what was committed is kept"


def guarded(command: Callable[[], int | None]) -> int:
    """Run `command`, tell on standard error what stopped it, and return the exit code."""
    closed = opened()
    if closed is not None:
        return _say(f"{closed} is closed, and the result would be lost; nothing was started. Send it to /dev/null "
                    "if it is not wanted", REFUSED)  # fmt: skip
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with plain_streams():
        try:
            code = _told(command)
        except BrokenPipeError:
            code = UNHEARD
        except KeyboardInterrupt:
            code = _say(f"stopped; {_KEPT}, and the same command goes on from there", STOPPED)
        return _flushed(code)


def _told(command: Callable[[], int | None]) -> int:
    try:
        return command() or 0
    except typer.Exit as end:
        return end.exit_code
    except typer.TyperException as misuse:
        return _misused(misuse)
    except RingfenceError as refusal:
        _debug(refusal)
        return _say(told(refusal), REFUSED)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as failure:
        _debug(failure)
        return _say(_system(failure), REFUSED)
    except MemoryError as failure:
        _debug(failure)
        return _say("there is not enough memory; use shorter series or coarser bars", REFUSED)
    except Exception as fault:
        _debug(fault)
        found = f"{type(fault).__name__}: {fault}".replace("\n", " ")[:300]
        way_out = "This is a fault of the program; set RINGFENCE_DEBUG=1 and run it again for the traceback to report"
        return _say(f"{found}. {way_out}", FAULT)


def _misused(misuse: typer.TyperException) -> int:
    show = getattr(misuse, "show", None)
    if show is None:  # `Abort`: a prompt was left
        return _say("stopped", STOPPED)
    show()
    return int(getattr(misuse, "exit_code", MISUSED))


def _system(failure: OSError) -> str:
    if failure.filename is None:
        return f"standard output, or a file: {failure.strerror or failure}; {_KEPT}"
    place = os.fsdecode(failure.filename) if isinstance(failure.filename, bytes) else failure.filename
    advice = _ADVICE.get(failure.errno or 0, "nothing half-written is left behind")
    return f"{place}: {failure.strerror or failure}; {advice}"


def _debug(fault: BaseException) -> None:
    if os.environ.get("RINGFENCE_DEBUG"):
        raise fault


def _say(text: str, code: int) -> int:
    """The message on standard error, without the password of any address in it, whoever wrote it."""
    with contextlib.suppress(OSError):
        print(f"ringfence: {without_passwords(text)}", file=sys.stderr, flush=True)
    return code


def _flushed(code: int) -> int:
    """A result that could not be written is a failure too; the streams are left so that nothing complains at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or UNHEARD
    except OSError as failure:
        # Not "run it again": a deposit whose answer could not be printed has been made.
        code = _say(f"standard output: {failure.strerror}; the result was not shown whole, {_KEPT}", REFUSED)
    else:
        return code
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
