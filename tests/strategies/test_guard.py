"""The guard: what a strategy's code cannot do from behind it, and what is told of it."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

from ringfence.markets.bars import Bars
from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import InvalidProposal, StrategyFailed
from ringfence.strategies.guard import bars_needed, confined, proposals
from ringfence.strategies.trials import walk

HOUR = 3_600_000
BARS = walk(1, HOUR, beyond=19)


class Doing(Strategy):
    """Does what the test gives it, and proposes nothing but zeros."""

    name: ClassVar[str] = "doing"
    act: Any
    early: Any = None

    def lookback(self, timeframe: int) -> int:
        if self.early is not None:
            self.early()
        return 1

    def propose(self, bars: Bars) -> Any:
        answer = self.act()
        return np.zeros(len(bars)) if answer is None else answer


def failure(act: Callable[[], object]) -> StrategyFailed:
    with pytest.raises(StrategyFailed) as refusal:
        proposals(Doing(act=act), BARS)
    return refusal.value


# ----------------------------------------------------------------------------------------------------- output

WAYS_OF_WRITING: dict[str, Callable[[], object]] = {
    "print": lambda: print("noise"),
    "the stream": lambda: sys.stdout.write("noise\n") and None,
    "the first stream": lambda: print("noise", file=sys.__stdout__),
    "the descriptor": lambda: os.write(1, b"noise\n") and None,
    "a program": lambda: subprocess.run([sys.executable, "-c", "print('noise')"], check=True) and None,
}


@pytest.mark.parametrize("write", WAYS_OF_WRITING.values(), ids=WAYS_OF_WRITING)
def test_whatever_way_a_strategy_writes_it_goes_to_standard_error(
    capfd: pytest.CaptureFixture[str], write: Callable[[], object]
) -> None:
    print("before")
    proposals(Doing(act=write), BARS)
    print("after")
    told = capfd.readouterr()
    assert told.out == "before\nafter\n"
    assert "noise" in told.err


def test_what_is_printed_in_the_lookback_goes_there_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert bars_needed(Doing(act=None, early=lambda: print("noise")), HOUR) == 1
    assert capfd.readouterr() == ("", "noise\n")


def test_threads_that_enter_and_leave_in_any_order_restore_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        first_in.set()
        assert second_in.wait(10)

    def second() -> None:
        second_in.set()
        assert first_out.wait(10)

    early = threading.Thread(target=lambda: (proposals(Doing(act=first), BARS), first_out.set()))
    early.start()
    assert first_in.wait(10)
    late = threading.Thread(target=lambda: proposals(Doing(act=second), BARS))
    late.start()
    early.join(10)
    late.join(10)
    assert not early.is_alive()
    assert not late.is_alive()
    print("after")
    assert capfd.readouterr().out == "after\n"


def test_a_closed_standard_output_keeps_no_strategy_from_proposing() -> None:
    program = (
        "import os; os.close(1)\n"
        "from tests.strategies.test_guard import BARS, Doing, proposals\n"
        "assert len(proposals(Doing(act=lambda: print('noise')), BARS)[0]) == 20\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "noise\n")


# ------------------------------------------------------------------------------------------------------- ends

ENDS: dict[str, tuple[Callable[[], object], str]] = {
    "sys.exit": (lambda: sys.exit(3), "sys.exit(3)"),
    "sys.exit with a text": (lambda: sys.exit("enough"), "sys.exit('enough')"),
    "raise SystemExit": (lambda: (_ for _ in ()).throw(SystemExit), "sys.exit()"),
    "os._exit": (lambda: os._exit(4), "os._exit(4)"),
    "posix._exit": (lambda: __import__("posix")._exit(5), "os._exit(5)"),
    "os.abort": (lambda: os.abort(), "os.abort()"),
    "os.execv": (lambda: os.execv("/bin/true", ["true"]), "os.execv('/bin/true', ['true'])"),
    "os.execlp": (lambda: os.execlp("true", "true"), "os.execv"),
}


@pytest.mark.parametrize(("end", "called"), ENDS.values(), ids=ENDS)
def test_an_end_of_the_process_is_a_refusal_with_file_and_line(end: Callable[[], object], called: str) -> None:
    refusal = failure(end)
    assert refusal.reason.startswith(called)
    assert refusal.reason.endswith("would have ended the process; expected an answer or an exception")
    assert refusal.place == f"{__file__}:{end.__code__.co_firstlineno}"


def test_an_end_is_not_met_by_an_except_of_the_strategy_itself() -> None:
    def stubborn() -> None:
        try:
            os._exit(0)
        except Exception:
            pytest.fail("an exit is no Exception")

    assert failure(stubborn).reason.startswith("os._exit(0)")


def test_the_ends_are_put_back_afterwards() -> None:
    before = os._exit, os.abort, os.execv, os.execve
    failure(lambda: os._exit(0))
    assert (os._exit, os.abort, os.execv, os.execve) == before


def test_a_child_that_the_strategy_starts_ends_as_it_likes() -> None:
    def forks() -> None:
        child = multiprocessing.get_context("fork").Process(target=os._exit, args=(7,))
        child.start()
        child.join(30)
        assert child.exitcode == 7

    proposals(Doing(act=forks), BARS)


def test_ctrl_c_still_stops() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        proposals(Doing(act=interrupted), BARS)
    assert sys.stdout is not sys.stderr


# ------------------------------------------------------------------------------------------- what is told of it


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Below(BaseException):
    """No Exception, and no way around the guard for that."""


def raises(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no\nsuch \x1b[31mthing"), "ValueError: no such \\x1b[31mthing"),
        (ValueError("x" * 5000), "ValueError: " + "x" * 299 + "…"),
        (Mute(), "Mute: (its text cannot be read)"),
        (Below("deep"), "Below: deep"),
        (MemoryError(), "MemoryError"),
    ],
    ids=["lines", "a long text", "no text", "no Exception", "nothing said"],
)
def test_an_exception_is_told_on_one_line_of_bounded_length(error: BaseException, reason: str) -> None:
    assert failure(raises(error)).reason == reason


def test_the_line_is_the_innermost_of_the_plug_in_and_not_of_the_library_it_called() -> None:
    refusal = failure(lambda: np.linalg.inv(np.zeros((2, 2))))
    assert refusal.reason == "LinAlgError: Singular matrix"
    assert refusal.place.startswith(f"{__file__}:")


def test_an_array_whose_methods_are_the_strategys_cannot_reach_past_the_guard() -> None:
    class Trap(np.ndarray):
        def __array_finalize__(self, obj: object) -> None:
            if obj is not None and self.size == 20 and sys.stdout is not sys.stderr:
                raise AssertionError("called outside of the guard")

    leverage, _ = proposals(Doing(act=lambda: np.ones(20).view(Trap)), BARS)
    assert type(leverage) is np.ndarray
    assert leverage.tolist() == [1.0] * 20


def test_an_answer_that_is_changed_afterwards_is_not_changed_here() -> None:
    answer = np.ones(20)
    leverage, _ = proposals(Doing(act=lambda: answer), BARS)
    answer[:] = 9.0
    assert leverage.tolist() == [1.0] * 20


def test_a_structured_answer_is_refused_in_words() -> None:
    with pytest.raises(InvalidProposal, match="expected a float64 array"):
        proposals(Doing(act=lambda: np.ma.zeros(20, dtype=[("a", "f8")])), BARS)


def test_numpy_s_error_state_is_put_back() -> None:
    before = np.geterr()
    proposals(Doing(act=lambda: np.seterr(all="raise") and None), BARS)
    assert np.geterr() == before


def test_the_bars_cannot_be_written_through_what_is_shown() -> None:
    class Vandal(Strategy):
        name: ClassVar[str] = "vandal"

        def lookback(self, timeframe: int) -> int:
            return 1

        def propose(self, bars: Bars) -> Any:
            bars.close.setflags(write=True)
            bars.close[:] = 1.0
            base = bars.close.base
            assert base is None
            return np.zeros(len(bars))

    before = BARS.close.copy()
    proposals(Vandal(), BARS[2:9])
    assert BARS.close.tolist() == before.tolist()


def test_the_confinement_is_left_when_all_have_left_it() -> None:
    stream = sys.stdout
    with confined, confined:
        assert sys.stdout is sys.stderr
    assert sys.stdout is stream
