"""A process of the nursery is as a new one would be, its end is told, and nothing is left behind whoever dies first."""

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringfence.runtime.installation import Installation, Part
from ringfence.runtime.nursery import Born, Nursery, NurseryGone

NEWBORN = "tests.reference.newborn"
PATIENCE = 60.0
"""Seconds for what takes one on an idle machine."""


@pytest.fixture
def surroundings(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project)}


@pytest.fixture
def nursery(surroundings: dict[str, str]) -> Iterator[Nursery]:
    made = Nursery(NEWBORN, ["json"], surroundings)
    yield made
    made.close()


def born(nursery: Nursery, *words: str) -> tuple[Born, dict[str, Any], int]:
    """A process, what it told of itself, and the end of its standard input."""
    heard, held = os.pipe()
    with tempfile.TemporaryFile() as out:
        one = nursery.bear(words, (heard, out.fileno(), out.fileno()))
        os.close(heard)
        until(lambda: os.fstat(out.fileno()).st_size > 0)
        out.seek(0)
        return one, json.loads(out.readline()), held


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_process_has_its_words_its_streams_and_nothing_of_the_nursery_s(nursery: Nursery) -> None:
    one, seen, held = born(nursery, "wait", "two words", "")
    assert seen == {
        "words": ["wait", "two words", ""], "leads": True, "open": [0, 1, 2], "threads": 1, "child": True,
        "title": "ringfence wait two words ",
    }  # fmt: skip
    assert one.poll() is None
    os.close(held)
    assert one.wait(PATIENCE) == 0
    assert not is_there(one.pid), "nobody waits for it"


@pytest.mark.parametrize(
    ("words", "code"), [(("end", "0"), 0), (("end", "7"), 7), (("raise",), 1), (("die",), -signal.SIGKILL)]
)
def test_how_it_ends_is_told(nursery: Nursery, words: tuple[str, ...], code: int) -> None:
    one, _, held = born(nursery, *words)
    assert one.wait(PATIENCE) == code
    os.close(held)


def test_a_long_line_of_words_arrives_whole(nursery: Nursery) -> None:
    words = ["wait", *(f"word-{number}" for number in range(30_000))]
    one, seen, held = born(nursery, *words)
    assert seen["words"] == words
    one.send_signal(signal.SIGTERM)
    assert one.wait(PATIENCE) == -signal.SIGTERM
    os.close(held)


def test_whoever_is_born_lives_on_when_the_nursery_is_killed_and_is_told_as_lost(nursery: Nursery) -> None:
    one, _, held = born(nursery, "wait")
    os.kill(nursery.pid, signal.SIGKILL)
    until(nursery.has_ended)
    assert one.poll() == -signal.SIGKILL, "nobody can say more"
    assert is_there(one.pid)
    with pytest.raises(NurseryGone):
        nursery.bear(["wait"], (0, 1, 2))
    os.close(held)
    until(lambda: not is_there(one.pid))


def test_a_nursery_that_cannot_load_ends_and_says_why(surroundings: dict[str, str]) -> None:
    made = Nursery("ringfence.no_such_room", [], surroundings)
    until(made.has_ended)
    made.log.seek(0)
    assert b"ModuleNotFoundError" in made.log.read()
    made.close()


def test_an_installation_starts_its_nursery_and_what_was_born_of_it_again(
    surroundings: dict[str, str], tmp_path: Path
) -> None:
    with Installation(tmp_path / "logs", surroundings, NEWBORN) as one:
        one.parts = (Part("first", ("wait",)), Part("second", ("end", "0"), ends=True))
        until(lambda: one.tend() is not None and one.parts[0].is_running and one.parts[1].is_done)
        first, nursery = one.parts[0].process, one._nursery
        assert first is not None
        assert nursery is not None
        os.kill(nursery.pid, signal.SIGKILL)
        told: list[str] = []
        until(lambda: told.extend(one.tend()) or (one.parts[0].is_running and one.parts[0].process is not first))
        assert [line.partition(" ended")[0] for line in told] == ["first", "the nursery of all parts"]
        until(lambda: not is_there(first.pid))
        second = one.parts[0].process
        assert second is not None
    until(lambda: not is_there(second.pid))
    assert len((tmp_path / "logs" / "first.log").read_text().splitlines()) == 2
