"""Counts add up over processes, dead ones too, and never stand in the way; what a database says is told once, for all
who show it, and what cannot be known is not told."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, update

from ringfence.faces import queries
from ringfence.runtime import signs
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.duties import MOST, claim, put_off
from ringfence.runtime.metrics import Counted
from ringfence.runtime.observation import Observer
from ringfence.runtime.signs import FOLDER, Pulse, feed_clock
from ringfence.vaults.tables import fed as fed_table
from ringfence.vaults.tables import mandate
from tests.reference.tide import HOUR, START, SYMBOL, UNIT, Tide, contents, launch, tide, walk

NOW = 1_700_000_000_000
KEY = f"binance:{SYMBOL}"
COUNT = """
import sys
from ringfence.runtime import metrics
from ringfence.vaults.errors import StaleFence
for _ in range(int(sys.argv[1])):
    metrics.stepped(2, 0.5)
    metrics.failed(StaleFence("tide", 3))
    metrics.failed(ValueError())
    metrics.rung(3)
    metrics.recorded(5)
print("counted", flush=True)
sys.stdin.read()
"""


# ---------------------------------------------------------------------------------------------------- counts


def counting(folder: Path | str, times: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT, str(times)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {FOLDER: str(folder)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "counted\n"
    return process


def gathered(folder: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Counted(folder))
    text = generate_latest(registry).decode()
    return {one.name: one.value for family in text_string_to_metric_families(text) for one in family.samples
            if not one.labels}  # fmt: skip


def test_what_processes_count_adds_up_and_is_kept_when_they_die(tmp_path: Path) -> None:
    first, second = counting(tmp_path, 3), counting(tmp_path, 4)
    expected = {
        "ringfence_steps_total": 14.0, "ringfence_step_seconds_count": 7.0, "ringfence_step_seconds_sum": 1.75,
        "ringfence_retries_total": 14.0, "ringfence_stale_fences_total": 7.0, "ringfence_rings_total": 21.0,
        "ringfence_bars_recorded_total": 35.0, "ringfence_dead_letters_total": 0.0,
    }  # fmt: skip
    assert gathered(tmp_path) == expected
    first.kill()
    first.wait()
    assert gathered(tmp_path) == expected
    assert not list(tmp_path.glob(f"*_{first.pid}.db"))
    third = counting(tmp_path, 1)
    for process in (second, third):
        process.kill()
        process.wait()
    assert gathered(tmp_path)["ringfence_steps_total"] == 16.0
    assert sorted(place.name for place in tmp_path.iterdir()) == ["counter_gone.db", "histogram_gone.db"]
    assert gathered(tmp_path)["ringfence_bars_recorded_total"] == 40.0


def test_a_file_of_garbage_is_left_out(tmp_path: Path) -> None:
    process = counting(tmp_path, 1)
    (tmp_path / "counter_1.db").write_bytes(b"\xff" * 5_000)
    (tmp_path / "histogram_1.db").write_bytes(b"")
    assert gathered(tmp_path)["ringfence_steps_total"] == 2.0
    process.kill()
    process.wait()


@pytest.mark.parametrize("folder", ["absent", "file/inside", ""])
def test_counting_without_a_folder_that_can_be_used_is_nobody_s_trouble(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    named = str(tmp_path / folder) if folder else ""
    process = counting(named, 2)
    process.kill()
    process.wait()
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


# ---------------------------------------------------------------------------------------------------- signs of life


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setattr(signs, "_shown", {})
    return tmp_path


def gone() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_sign_is_of_this_process_and_grows_old(shared: Path) -> None:
    signs.show("schedule")
    (sign,) = signs.signs(shared)
    assert (sign.part, sign.pid, sign.ended) == ("schedule", os.getpid(), False)
    assert 0 <= sign.age < 5
    signs.show("schedule")  # not due yet
    assert signs.signs(shared)[0].age >= sign.age


def test_the_sign_of_a_process_that_has_gone_is_none_unless_it_ended_well(shared: Path) -> None:
    for part, ended in (("worker", "false"), ("feed", "true")):
        told = f'{{"part": "{part}", "pid": {gone()}, "at": {time.monotonic()}, "clock": 5, "ended": {ended}}}'
        (shared / f"{part}-{gone()}.sign").write_text(told)
    (shared / "broken-1.sign").write_text("{")
    assert [sign.part for sign in signs.signs(shared)] == ["feed"]
    assert feed_clock(signs.signs(shared)) == (None, True)
    signs.show("feed", 77)
    assert [sign.pid for sign in signs.signs(shared)] == [os.getpid()]
    assert feed_clock(signs.signs(shared)) == (77, False)


def test_a_sign_that_cannot_be_written_is_not_there_and_nobody_s_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "absent"))
    signs.show("schedule", ended=True)
    assert signs.signs(tmp_path / "absent") == ()
    monkeypatch.delenv(FOLDER)
    signs.show("schedule", ended=True)


def _beat(ready: "multiprocessing.synchronize.Event") -> None:
    signs._shown.clear()
    Pulse().start()
    ready.set()
    time.sleep(60)


def test_a_child_that_is_stopped_or_stuck_in_a_task_shows_no_sign(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "EVERY", 0.05)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=_beat, args=(ready,), daemon=True)
    child.start()
    ready.wait()
    deadline = time.monotonic() + 20
    while not signs.signs(shared) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(0.3)
    (sign,) = signs.signs(shared)
    assert sign.part == signs.CHILD
    assert sign.age >= 0.2
    child.kill()
    child.join()
    assert signs.signs(shared) == ()

    monkeypatch.setattr(signs, "STUCK", 0.2)
    pulse = Pulse("stuck")
    pulse.start()
    pulse.begin()
    time.sleep(0.6)
    ages = []
    for _ in range(2):
        (sign,) = signs.signs(shared)
        ages.append(sign.age)
        time.sleep(0.2)
    assert ages[1] >= ages[0] + 0.2
    pulse.end()
    while signs.signs(shared)[0].age > 0.2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert signs.signs(shared)[0].age <= 0.2
    pulse.stop()


# ---------------------------------------------------------------------------------------------------- observation


@pytest.fixture
def living(database_url: str) -> Iterator[Tide]:
    """A vault with money that has lived twenty of forty-eight hours."""
    one = launch(database_url, walk())
    deposit(one.engine, one.name, "alice", 1_000 * UNIT, START)
    one.step(20)
    yield one
    one.engine.dispose()


def test_it_says_of_a_vault_what_the_readings_say(living: Tide) -> None:
    (seen,) = Observer(living.engine).look(NOW).vaults
    (told,) = queries.vaults(living.engine)
    (held,) = queries.positions(living.engine)
    assert f"{seen.nav / UNIT:.6f}" == told["nav"]
    assert seen.wall is not None
    assert f"{seen.wall / UNIT:.6f}" == told["wall"]
    assert seen.wall_distance == pytest.approx(float(told["wall_distance"]), abs=1e-6)
    assert f"{seen.in_margin / UNIT:.6f}" == told["in_margin"]
    assert seen.is_open
    assert held["side"] == "long"
    # at the last recorded bar, not at that of the last decision
    mark = float(living.slots.bars[0].close[-1])
    quantity, liquidation = float(held["quantity"]), float(held["liquidation_price"])
    assert seen.leverage == pytest.approx(quantity * mark / float(told["nav"]), rel=1e-9)
    assert seen.liquidation_distance == pytest.approx((mark - liquidation) / mark, abs=1e-6)
    assert seen.lag == 28 * HOUR


def test_it_writes_nothing_and_asks_a_fixed_number_of_things(living: Tide) -> None:
    observer, asked = Observer(living.engine), list[str]()
    observer.look(NOW)
    before = contents(living.engine)
    event.listen(living.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    observer.look(NOW)
    few = len(asked)
    for name in ("ebb", "swell", "surf"):
        open_vault(living.engine, tide(name).mandate, START)
    before = contents(living.engine)
    observer.look(NOW)
    asked.clear()
    assert len(observer.look(NOW).vaults) == 4
    assert len(asked) == few
    assert not [text for text in asked if text.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE"))]
    assert contents(living.engine) == before


def test_a_slot_is_due_for_as_long_as_the_observer_has_seen_it_so(
    living: Tide, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([100.0, 107.0, 109.0, 112.0, 120.0])
    monkeypatch.setattr("ringfence.runtime.observation.time", SimpleNamespace(monotonic=lambda: next(moments)))
    observer = Observer(living.engine)
    assert observer.look(NOW).oldest == 0.0
    assert observer.look(NOW).oldest == 7.0
    living.step(1, 20)  # another slot is the next one now
    assert observer.look(NOW).oldest == 0.0
    assert observer.look(NOW).oldest == 3.0
    living.step(27, 21)
    seen = observer.look(NOW)
    assert (seen.due, seen.oldest) == ((), 0.0)
    assert seen.vaults[0].lag == 0


def test_claims_and_vaults_that_are_left_aside_are_told(living: Tide) -> None:
    observer = Observer(living.engine)
    assert claim(living.engine, ["tide"], NOW) == ("tide",)
    seen = observer.look(NOW)
    assert (seen.claimed, len(seen.due), seen.left_aside) == (1, 1, ())
    for attempt in range(MOST):
        put_off(living.engine, "tide", "no prices", NOW + attempt * 60_000)
        claim(living.engine, ["tide"], NOW + attempt * 60_000 + 30_000)
    seen = observer.look(NOW + 3_600_000)
    assert [(one.vault, one.failure) for one in seen.left_aside] == [("tide", "no prices")]
    assert seen.due == ()


def test_a_series_is_late_by_its_feed_s_clock_alone(living: Tide, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 104.0, 110.0, 111.0, 112.0, 113.0, 114.0])
    monkeypatch.setattr("ringfence.runtime.observation.time", SimpleNamespace(monotonic=lambda: next(moments)))
    observer, until = Observer(living.engine), START + 48 * HOUR

    def look(now: int, clock: int | None = None, *, ended: bool = False) -> tuple[int | None, float | None]:
        (series,) = observer.look(now, clock, ended=ended).series
        assert (series.instrument, series.until, series.timeframe) == (KEY, until, HOUR)
        return series.age, series.late

    assert look(NOW, until + HOUR // 2) == (HOUR // 2, 0.0)
    assert look(NOW, until + HOUR) == (HOUR, 0.0)
    assert look(NOW, until + 2 * HOUR) == (2 * HOUR, 6.0)
    assert look(NOW, until + 9 * HOUR, ended=True) == (None, None)
    assert look(NOW) == (None, None)  # history, and nobody tells its clock
    assert look(until + 2 * HOUR) == (2 * HOUR, 0.0)  # the present
    with unit_of_work(living.engine) as connection:
        connection.execute(update(fed_table).values(until=until + 2 * HOUR))
    assert observer.look(until + 2 * HOUR).series[0].late == 0.0


def test_what_cannot_be_known_is_none_and_no_good_value(living: Tide) -> None:
    open_vault(living.engine, tide("ebb").mandate, START)
    (before,) = [one for one in Observer(living.engine).look(NOW).vaults if one.name == "tide"]
    foreign = living.setup.mandate.canonical().replace("BTC/USDT", "XYZQ/USDT")
    with unit_of_work(living.engine) as connection:
        connection.execute(update(mandate).where(mandate.c.name == "tide").values(body=foreign))
    ebb, unmarked = Observer(living.engine).look(NOW).vaults
    assert (unmarked.nav, unmarked.wall, unmarked.lag) == (before.nav, before.wall, before.lag)
    assert before.leverage is not None
    assert (unmarked.leverage, unmarked.liquidation_distance) == (None, None)
    assert (ebb.wall, ebb.wall_distance, ebb.leverage, ebb.liquidation_distance) == (0, None, None, None)
    with unit_of_work(living.engine) as connection:
        connection.execute(update(mandate).where(mandate.c.name == "tide").values(body='{"mandate": "of tomorrow"}'))
    ebb, unread = Observer(living.engine).look(NOW).vaults
    assert (unread.wall, unread.lag, unread.leverage) == (None, None, None)
    assert unread.due is not None, "it is tried, told and left aside"
    assert ebb.wall == 0
