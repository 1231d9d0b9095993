"""Strategies in a process of their own: what they do there costs their own answer, and good ones say the same bits."""

import gc
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringfence.markets.bars import Bars
from ringfence.markets.market import align
from ringfence.markets.slots import Slots
from ringfence.runtime.proposers import Asked, Failed, FailureKind, Opinion, Proposers
from ringfence.runtime.proposing_process import OUTPUT_MAX, surroundings
from ringfence.runtime.proposing_wire import (
    Answer,
    Malformed,
    Question,
    Verb,
    read_answer,
    read_question,
    written_answer,
    written_question,
)
from ringfence.runtime.setup import set_up
from ringfence.strategies.guard import proposals
from ringfence.strategies.plugins import GROUP
from ringfence.strategies.registry import build
from ringfence.strategies.trials import walk
from ringfence.vaults.mandate.check import load_mandate

HOUR = 3_600_000
BARS = walk(1, HOUR, beyond=19)
GOOD = Asked({"name": "constant", "leverage": 1.5}, BARS)
YES = Opinion(1.5, True)

DOING = '''
import ctypes, json, os, signal, sys, threading, time
from typing import ClassVar
import numpy as np
from ringfence import Strategy

kept = []


def answers():
    """The pipe that answers go through, as a stranger finds it."""
    return max(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))


class Doing(Strategy):
    name: ClassVar[str] = "doing"
    act: str

    def lookback(self, timeframe):
        if self.act == "a long lookback":
            return 1 << 70
        if self.act == "a lookback that raises":
            raise LookupError("lost")
        return 1

    def propose(self, bars):
        found = {"bars": bars, "answer": None, **globals()}
        exec(self.act, found)
        return np.full(len(bars), 0.5) if found["answer"] is None else found["answer"]


class Other(Doing):
    name: ClassVar[str] = "other"


class Cached(Strategy):
    """Compiles a function of its own and would cache it."""

    name: ClassVar[str] = "cached"

    def lookback(self, timeframe):
        return 1

    def propose(self, bars):
        import numba
        return numba.njit(half, cache=True)(bars.close)


def half(close):
    return close * 0.0 + 0.5
'''


def installed(folder: Path, name: str, source: str, *points: str) -> None:
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    made = folder / f"{module}-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(f"[{GROUP}]\n" + "\n".join(points) + "\n")


@pytest.fixture(scope="module", autouse=True)
def beside(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Path]:
    """A folder with strangers' strategies on this process's own path, from which a process takes it over."""
    folder = tmp_path_factory.mktemp("strangers")
    points = (f"{name} = a_stranger:{name.title()}" for name in ("doing", "other", "cached"))
    installed(folder, "a-stranger", DOING, *points)
    example = project / "examples" / "ringfence-mean-reversion" / "ringfence_mean_reversion" / "__init__.py"
    installed(folder, "mean-one", example.read_text(), "mean_reversion = mean_one:MeanReversion")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def plain() -> Iterator[None]:
    """Formulas are left in Python, which starts sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_DISABLE_JIT", "1")
        yield


@pytest.fixture(scope="module")
def proposers(plain: None) -> Iterator[Proposers]:
    with Proposers(seconds=2.0, memory=256 << 20) as opened:
        yield opened


def doing(act: str, name: str = "doing") -> Asked:
    return Asked({"name": name, "act": textwrap.dedent(act)}, BARS)


def failure(proposers: Proposers, act: str) -> Failed:
    """How it failed, with good ones before and behind it, which are answered."""
    before, failed, behind = proposers.propose([GOOD, doing(act), GOOD])
    assert (before, behind) == (YES, YES)
    assert isinstance(failed, Failed), failed
    assert failed.strategy == "doing"
    return failed


def said(proposers: Proposers, expression: str) -> Any:
    """What a JSON expression is in there."""
    (failed,) = proposers.propose([doing(f"raise ValueError(json.dumps({expression}))")])
    assert isinstance(failed, Failed)
    return json.loads(failed.told.partition("ValueError: ")[2])


def process_of(proposers: Proposers) -> int:
    found = said(proposers, "os.getpid()")
    assert isinstance(found, int)
    return found


def until(condition: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def running(process: int) -> bool:
    """Whether it is there and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ------------------------------------------------------------------------------------------------ what fails

ENDS = {
    # what it does: (the code, how it is said to have ended)
    "ends by its own system call": ("ctypes.CDLL(None)._exit(7)", "ended with exit code 7"),
    "ends beside a child that holds its pipes": (
        "os.fork() or (os.setsid(), time.sleep(4), os._exit(0)); ctypes.CDLL(None)._exit(7)",
        "ended with exit code 7",
    ),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL"),
    "crashes": ("ctypes.string_at(0)", "was ended by SIGSEGV"),
    "closes every descriptor": ("os.closerange(0, 4096)", "ended with exit code"),
    "writes into the answers": ("os.write(answers(), b'x' * 300)", "wrote an answer to another question"),
    "closes the pipe and waits": ("os.closerange(200, 300); time.sleep(60)", "closed the pipe that answers go through"),
}


def test_strategies_that_end_their_process_fail_alone(proposers: Proposers) -> None:
    before, *failed, behind = proposers.propose([GOOD, *(doing(act) for act, _ in ENDS.values()), GOOD])
    assert (before, behind) == (YES, YES)
    for one, (what, (_, how)) in zip(failed, ENDS.items(), strict=True):
        assert isinstance(one, Failed), what
        assert (one.kind, one.strategy) == (FailureKind.died, "doing"), what
        assert one.told.startswith(f"strategy doing: its process {how}"), what
        assert one.told.endswith(" when it was asked to propose on BTC/USDT:USDT up to 2020-03-01T19:00:00Z"), what


HANGS = {
    "loops": "while True: pass",
    "sleeps with every signal blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(60)",
    "begins an answer": "os.write(answers(), b'x'); time.sleep(60)",
}


@pytest.mark.parametrize("act", HANGS.values(), ids=HANGS)
def test_a_strategy_that_never_returns_is_killed_and_fails_alone(proposers: Proposers, act: str) -> None:
    before = process_of(proposers)
    failed = failure(proposers, act)
    assert failed.kind is FailureKind.hung
    assert "its process did not answer within 2 s when it was asked to propose on BTC/USDT:USDT" in failed.told
    assert not running(before)
    assert process_of(proposers) != before


def test_what_a_strategy_started_ends_with_its_process(proposers: Proposers, tmp_path: Path) -> None:
    (failed,) = proposers.propose([doing("import subprocess; raise ValueError(subprocess.Popen(['sleep', '60']).pid)")])
    assert isinstance(failed, Failed)
    started = int(failed.told.rpartition(" ")[2])
    assert running(started)
    proposers.close()
    assert until(lambda: not running(started))


RAISES = {
    "raises": ("raise LookupError('lost')", "LookupError: lost"),
    "leaves": ("sys.exit(3)", "sys.exit(3) would have ended the process"),
    "ends the process": ("os._exit(4)", "os._exit(4) would have ended the process"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "says what no terminal may see": ("raise ValueError('\\x1b[2J' + 'x' * 10**6)", "ValueError: \\x1b[2Jxxx"),
    "opens a file to write": ("open(__file__ + '.txt', 'w').write('x' * 10**6)", "File too large"),
    "opens many files": ("kept.append([open('/dev/null') for _ in range(100)])", "Too many open files"),
}


@pytest.mark.parametrize(("act", "text"), RAISES.values(), ids=RAISES)
def test_a_strategy_that_raises_is_named_and_its_process_goes_on(proposers: Proposers, act: str, text: str) -> None:
    before = process_of(proposers)
    failed = failure(proposers, act)
    assert failed.kind is FailureKind.raised
    assert text in failed.told
    assert failed.told.isprintable()
    assert len(failed.told) <= 2_000
    assert process_of(proposers) == before


def test_a_failure_has_the_place_in_the_plug_in(proposers: Proposers, beside: Path) -> None:
    (failed,) = proposers.lookbacks([{"name": "doing", "act": "a lookback that raises"}], HOUR)
    assert isinstance(failed, Failed)
    line = 1 + DOING[: DOING.index("raise LookupError")].count("\n")
    assert failed.place == f"{beside / 'a_stranger.py'}:{line}"
    assert "LookupError: lost" in failed.told


def test_a_strategy_that_eats_memory_fails_and_leaves_none_of_it_to_the_next(proposers: Proposers) -> None:
    assert failure(proposers, "np.ones(10**10)").kind is FailureKind.memory
    hoards = doing("kept.append(np.ones(25 << 20))")  # 200 of the 256 MiB
    told = proposers.propose([hoards, doing("answer = np.ones(10 << 20)[: len(bars)] * 0.25", "other")])
    assert told == (Opinion(0.5, True), Opinion(0.25, True))


def test_whoever_is_asked_when_another_s_thread_ends_the_process_is_asked_again(proposers: Proposers) -> None:
    leaves = "threading.Thread(target=lambda: (time.sleep(0.2), ctypes.CDLL(None)._exit(1))).start()"
    told = proposers.propose([doing(leaves), doing("time.sleep(0.4)", "other")])
    assert told == (Opinion(0.5, True), Opinion(0.5, True))


NONSENSE = {
    "NaN": ("answer = np.full(len(bars), np.nan)", "a leverage of nan"),
    "infinity": ("answer = np.full(len(bars), -np.inf)", "a leverage of -inf"),
    "whole numbers": ("answer = np.ones(len(bars), np.int64)", "a int64 array"),
    "another shape": ("answer = np.ones(3)", "a float64 array of shape (3,)"),
    "a text": ("answer = 'all of it'", "a str"),
}


@pytest.mark.parametrize(("act", "found"), NONSENSE.values(), ids=NONSENSE)
def test_an_answer_that_cannot_be_meant_is_none(proposers: Proposers, act: str, found: str) -> None:
    failed = failure(proposers, act)
    assert failed.kind is FailureKind.nonsense
    assert found in failed.told


def test_a_statement_that_makes_no_strategy_is_told_and_no_other_suffers(proposers: Proposers) -> None:
    wrong = ({"name": "nobody"}, {"name": "constant"}, {}, {"name": "doing", "act": "a long lookback"})
    *refused, one = proposers.lookbacks([*wrong, GOOD.statement], HOUR)
    kinds = [each.kind for each in refused if isinstance(each, Failed)]
    assert kinds == [*[FailureKind.unknown_strategy] * 3, FailureKind.nonsense]
    assert one == 1
    assert "unknown strategy 'nobody'" in str(refused[0])


def test_questions_longer_than_a_pipe_are_asked_and_an_answer_before_an_end_counts(proposers: Proposers) -> None:
    long = walk(1, HOUR, beyond=20_000)
    fine, ends = (replace(doing(act), bars=long) for act in ("", "os.kill(os.getpid(), signal.SIGKILL)"))
    half = Opinion(0.5, True)
    proposers.close()
    first, failed, *others = proposers.propose([fine, ends, fine, fine])
    assert (first, others) == (half, [half, half])
    assert isinstance(failed, Failed)
    assert failed.kind is FailureKind.died


def test_an_answer_counts_though_no_more_questions_are_read(proposers: Proposers) -> None:
    long = replace(doing(""), bars=walk(1, HOUR, beyond=20_000))
    told = proposers.propose([doing("os.close(200); time.sleep(0.3)"), long, long])
    assert told == (Opinion(0.5, True),) * 3


def test_no_bars_are_no_opinion(proposers: Proposers) -> None:
    assert proposers.propose([replace(GOOD, bars=BARS[:0])]) == (Opinion(0.0, False),)
    assert proposers.propose([]) == ()


# --------------------------------------------------------------------------------------- what is out of reach


def test_nothing_of_the_owner_is_there(proposers: Proposers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_DATABASE", "postgresql://user:secret@host/name")
    monkeypatch.setenv("PGPASSWORD", "secret")
    with closing(sqlite3.connect(tmp_path / "vaults.db")) as connection, (tmp_path / "open").open("w") as stream:
        connection.execute("CREATE TABLE held (id)")
        os.set_inheritable(stream.fileno(), True)
        proposers.close()
        assert said(proposers, "sorted(name for name in os.environ if 'RINGFENCE' in name or 'PG' in name)") == []
        paths = "[f'/proc/self/fd/{name}' for name in os.listdir('/proc/self/fd')]"
        kinds = said(proposers, f"sorted(os.readlink(p).partition(':')[0] for p in {paths} if os.path.exists(p))")
    assert kinds == ["/dev/null", *["pipe"] * 5]  # two of them its own, and three ways to standard error
    assert said(proposers, "os.getsid(0) == os.getpid()") is True


def test_the_environment_is_given_by_name() -> None:
    given = {"PATH": "/bin", "PYTHONPATH": "x", "NUMBA_NUM_THREADS": "1", "LC_ALL": "C"}
    secret = {"RINGFENCE_BROKER": "redis://h", "DATABASE_URL": "d", "AWS_SECRET_ACCESS_KEY": "k", "PGHOST": "h"}
    assert surroundings(given | secret) == given


def test_its_limits_are_what_they_say(proposers: Proposers) -> None:
    told = said(proposers, "{n: __import__('resource').getrlimit(getattr(__import__('resource'), 'RLIMIT_' + n)) "
                           "for n in ('AS', 'CORE', 'FSIZE', 'NOFILE')}")  # fmt: skip
    assert (told["CORE"], told["FSIZE"], told["NOFILE"]) == ([0, 0], [0, 0], [64, 64])
    assert 256 << 20 < told["AS"][0] == told["AS"][1] < 2 << 30


def test_what_strategies_print_is_shown_bounded_and_as_text(
    proposers: Proposers, capfd: pytest.CaptureFixture[str]
) -> None:
    assert proposers.propose([doing("print('noise\\x1b[2J'); os.write(1, b'beneath\\n')"), GOOD])[1] == YES
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "noise\\x1b[2J\n" in shown.err
    assert "beneath\n" in shown.err
    flood = "sys.stdout.write('0123456789abcde\\n' * 300_000); sys.stdout.flush()"
    assert proposers.propose([doing(flood), GOOD]) == (Opinion(0.5, True), YES)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("0123456789abcde\n")
    kept, _, told = shown.err.partition("(")
    assert len(kept) == OUTPUT_MAX
    assert told == f"strategies printed {4_800_000 - OUTPUT_MAX:,} bytes more in this call, which are not shown)\n"


def test_closing_standard_output_and_a_thread_left_behind_do_no_harm(proposers: Proposers) -> None:
    closes = "os.close(1); os.close(2); os.close(0)"
    stays = "threading.Thread(target=lambda: [time.sleep(0.01) for _ in iter(int, 1)]).start()"
    half = Opinion(0.5, True)
    assert proposers.propose([doing(closes), GOOD, doing(stays), GOOD]) == (half, YES, half, YES)
    assert proposers.propose([GOOD, doing(stays)]) == (YES, half)
    gone = process_of(proposers)
    proposers.close()
    assert not running(gone)


FORGED = """
import struct
frame = struct.pack("=16sB?dqII", b"t" * 16, 0, True, 9.0, 0, 0, 0)
threading.Thread(target=lambda: (time.sleep(0.2), os.write(answers(), frame))).start()
"""


def test_an_answer_written_by_a_strategy_for_another_is_not_taken(proposers: Proposers) -> None:
    assert struct.calcsize("=16sB?dqII") == len(written_answer(Answer(b"t" * 16)))  # the form that is forged
    told = proposers.propose([doing(FORGED), doing("time.sleep(0.5)", "other"), GOOD])
    assert told == (Opinion(0.5, True), Opinion(0.5, True), YES)
    assert proposers.propose([doing(FORGED)]) == (Opinion(0.5, True),)
    time.sleep(0.5)  # it is written when nobody asks, and is not the fault of what is asked next
    assert proposers.propose([doing("")]) == (Opinion(0.5, True),)


# -------------------------------------------------------------------------------------------------- its life

OWNER = """
import sys, time
from ringfence.runtime.proposers import Asked, Proposers
from ringfence.strategies.trials import walk
proposers = Proposers()
(failed,) = proposers.propose([Asked({"name": "doing", "act": "raise ValueError(os.getpid())"}, walk(1, 3_600_000))])
print(failed.told.rpartition(" ")[2], flush=True)
proposers.propose([Asked({"name": "doing", "act": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); "
                                                  "time.sleep(60)"}, walk(1, 3_600_000))])
"""


def test_it_is_gone_soon_after_its_owner_is_killed(plain: None) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, env=environment) as owner:
        assert owner.stdout is not None
        process = int(owner.stdout.readline())
        assert running(process)
        owner.kill()
    assert until(lambda: not running(process), 5.0)


def test_many_calls_and_restarts_leave_no_zombie_and_no_descriptor(plain: None) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # what tests before have dropped
    before = descriptors()
    with Proposers(seconds=5.0) as proposers:
        first = process_of(proposers)
        opened = descriptors()
        for _ in range(200):
            assert proposers.propose([GOOD]) == (YES,)
        assert (descriptors(), process_of(proposers)) == (opened, first)
        proposers.propose([doing("os.kill(os.getpid(), signal.SIGKILL)")])
        second = process_of(proposers)
        assert descriptors() == opened
    assert descriptors() == before
    assert not any(Path(f"/proc/{process}").exists() for process in (first, second))


def test_a_process_killed_while_nobody_asks_is_nobody_s_fault(proposers: Proposers) -> None:
    os.kill(process_of(proposers), signal.SIGKILL)
    assert proposers.propose([doing("")]) == (Opinion(0.5, True),)


def test_an_interrupted_call_ends_the_process(proposers: Proposers) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    process = process_of(proposers)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interrupted):
            proposers.propose([GOOD, doing("time.sleep(60)"), GOOD])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
    assert not running(process)
    assert proposers.propose([GOOD]) == (YES,)


def test_threads_that_ask_at_once_each_get_their_own_answers(proposers: Proposers) -> None:
    proposers.propose([GOOD])
    found: dict[int, tuple[Opinion | Failed, ...]] = {}

    def ask(number: int) -> None:
        asked = Asked({"name": "constant", "leverage": number}, BARS)
        found[number] = proposers.propose([asked] * 20)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {number: (Opinion(float(number), True),) * 20 for number in range(1, 5)}


def test_a_copy_of_the_owner_made_by_a_fork_has_a_process_of_its_own(proposers: Proposers) -> None:
    first = process_of(proposers)
    inner, outer = os.pipe()
    copy = os.fork()
    if not copy:  # a failure here must not run on as a second pytest
        try:
            own = process_of(proposers)
            proposers.close()
            os.write(outer, f"{own} {running(own)} {running(first)}".encode())
        finally:
            os._exit(0)
    os.waitpid(copy, 0)
    own, gone, kept = os.read(inner, 100).decode().split()
    os.close(inner)
    os.close(outer)
    assert (int(own) != first, gone, kept) == (True, "False", "True")
    assert process_of(proposers) == first


def test_where_no_process_can_be_started_each_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with Proposers() as proposers:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        (failed,) = proposers.propose([GOOD])
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.died
        expected = "the process that strategies run in could not be started (No such file or directory)"
        assert failed.told == f"strategy constant was not asked: {expected}"
        monkeypatch.setattr(sys, "executable", "/bin/false")
        (failed,) = proposers.propose([GOOD])
        assert isinstance(failed, Failed)
        assert failed.told.endswith("the process that strategies run in ended with exit code 1")


# --------------------------------------------------------------------------------------------- the same bits

STATEMENTS: tuple[dict[str, Any], ...] = (
    {"name": "constant", "leverage": "-2.5"},
    {"name": "liquidation_distance", "window": "12h"},
    {"name": "trend", "lookback": "20h", "target_volatility": "80%", "window": "12h"},
    {"name": "vol_target", "target_volatility": "150%", "half_life": "4h", "window": "12h"},
    {"name": "vol_target", "target_volatility": "150%", "window": "9h", "estimator": "yang_zhang"},
    {"name": "mean_reversion", "window": "1d", "leverage": 2, "at": "1.5"},
)


@pytest.fixture(scope="module")
def compiling() -> Iterator[Proposers]:
    with Proposers() as opened:
        yield opened


def bits(opinion: Opinion | Failed) -> bytes:
    assert isinstance(opinion, Opinion), opinion
    return struct.pack("=d?", opinion.leverage, opinion.valid)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.1, 0.4]), size=st.integers(1, 60),
       known=st.booleans())  # fmt: skip
def test_every_strategy_answers_the_same_bits_as_in_this_process(
    compiling: Proposers, seed: int, missing: float, size: int, known: bool
) -> None:
    bars = walk(1, HOUR, seed=seed, beyond=size - 1)
    bars = replace(bars.chosen(np.random.default_rng(seed).random(size) >= missing), volume_known=known)
    if not len(bars):
        return
    told = compiling.propose([Asked(each, bars) for each in STATEMENTS])
    expected = (proposals(of(statement), bars) for statement in STATEMENTS)
    assert [bits(each) for each in told] == [
        bits(Opinion(float(leverage[-1]), bool(valid[-1]))) for leverage, valid in expected
    ]


def of(statement: dict[str, Any]) -> Any:
    """The strategy here; the example's from its own file, since this process may have looked at what is installed
    before it was."""
    if statement["name"] != "mean_reversion":
        return build(statement)
    import mean_one

    return mean_one.MeanReversion(**{name: value for name, value in statement.items() if name != "name"})


MANDATE = """
mandate: asked
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {window: 12h}
positions:
  a: {symbol: BTC/USDT:USDT, share: 20%, strategy: {name: constant, leverage: -2.5}}
  b: {symbol: ETH/USDT:USDT, share: 20%, strategy: {name: liquidation_distance, window: 12h}}
  c: {symbol: SOL/USDT:USDT, share: 20%, strategy: {name: trend, lookback: 20h, target_volatility: 80%, window: 12h}}
  d: {symbol: XRP/USDT:USDT, share: 20%, strategy: {name: vol_target, target_volatility: 150%, window: 12h}}
"""


def test_a_mandate_s_positions_are_proposed_the_same_as_by_its_set_up(compiling: Proposers) -> None:
    mandate = load_mandate(MANDATE)
    setup = set_up(mandate)
    market = {name: walk(1, HOUR, seed=5 + seed, symbol=name, beyond=40) for seed, name in enumerate(setup.symbols)}
    slots = Slots(align(market), HOUR)
    statements = [position.strategy.model_dump() for position in mandate.positions.values()]
    looked = compiling.lookbacks(statements, HOUR)
    assert looked == (1, 12, 21, 12)
    for number in (3, 15, 30, 40):
        rows = setup.propose_at(slots, number)[0]
        asked = [Asked(each, bars[: number + 1]) for each, bars in zip(statements, slots.bars, strict=True)]
        told = [(each.leverage, each.valid) for each in compiling.propose(asked) if isinstance(each, Opinion)]
        assert told == [(float(row.leverage), bool(row.proposed)) for row in rows]


def test_a_plug_in_that_compiles_needs_no_cache(compiling: Proposers) -> None:
    assert compiling.propose([Asked({"name": "cached"}, BARS)]) == (Opinion(0.5, True),)


# ------------------------------------------------------------------------------------------- the binary form

TOKEN = b"0123456789abcdef"


@given(size=st.integers(0, 30), symbol=st.text(st.characters(codec="utf-8"), max_size=20), known=st.booleans())
def test_a_question_is_read_as_it_was_written(size: int, symbol: str, known: bool) -> None:
    bars = replace(walk(1, HOUR, beyond=30)[:size], symbol=symbol, volume_known=known)
    content = written_question(Question(TOKEN, Verb.propose, b'{"name": "x"}', HOUR, bars))
    rest = memoryview(content)

    def exactly(count: int) -> bytes:
        nonlocal rest
        part, rest = bytes(rest[:count]), rest[count:]
        return part

    found = read_question(exactly)
    assert not rest
    assert (found.token, found.verb, found.statement, found.timeframe) == (TOKEN, Verb.propose, b'{"name": "x"}', HOUR)
    assert isinstance(found.bars, Bars)
    assert (found.bars.symbol, found.bars.timeframe, found.bars.volume_known) == (symbol, HOUR, known)
    for name in ("ts", "open", "high", "low", "close", "volume"):
        assert getattr(found.bars, name).tobytes() == getattr(bars, name).tobytes()


ANSWERS = st.builds(
    Answer, st.just(TOKEN), st.sampled_from([None, FailureKind.raised, FailureKind.unknown_strategy]),
    st.floats(allow_nan=False, allow_infinity=False), st.just(True), st.integers(0, 2**53),
    st.text(st.characters(codec="utf-8"), max_size=2_000), st.text(st.characters(codec="utf-8"), max_size=1_000),
)  # fmt: skip


@given(answer=ANSWERS, cut=st.integers(0, 10_000))
def test_an_answer_is_read_as_it_was_written_and_only_whole(answer: Answer, cut: int) -> None:
    content = written_answer(answer)
    whole, part = bytearray(content + b"next"), bytearray(content[: cut % len(content)])
    assert read_answer(whole, TOKEN) == answer
    assert whole == b"next"
    assert read_answer(part, TOKEN) is None
    assert content.startswith(part)
    with pytest.raises(Malformed):
        read_answer(bytearray(content), TOKEN[::-1])


@given(content=st.binary(min_size=42, max_size=200))
def test_no_bytes_are_an_answer_without_the_token(content: bytes) -> None:
    with pytest.raises(Malformed):
        read_answer(bytearray(content), TOKEN)


FORM = struct.Struct("=16sB?dqII")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        pytest.param((5, True, 1.0, 0, 0, 0), "no known form", id="a failure that there is not"),
        pytest.param((1, True, 1.0, 0, 8_001, 0), "no known form", id="a text beyond any that is written"),
        pytest.param((1, True, 1.0, 0, 0, 4_001), "no known form", id="a place beyond any that is written"),
        pytest.param((0, True, float("nan"), 0, 0, 0), "a number", id="NaN"),
        pytest.param((0, True, float("inf"), 0, 0, 0), "a number", id="infinity"),
        pytest.param((0, False, 1.0, 0, 0, 0), "a number", id="a leverage without an opinion"),
        pytest.param((0, False, 0.0, -1, 0, 0), "a number", id="bars below none"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_before_its_end(fields: tuple[Any, ...], fault: str) -> None:
    with pytest.raises(Malformed, match=fault):
        read_answer(bytearray(FORM.pack(TOKEN, *fields)), TOKEN)
