"""Clocks jump and disagree: what is due is found all the same, and done once."""

import random

import pytest

from ringfence.runtime import tasks
from ringfence.runtime.desk import Desk
from ringfence.runtime.duties import CLAIM, Duties, claim, put_off
from ringfence.runtime.scheduler import AGAIN, EVERY, Scheduler
from ringfence.runtime.tasks import settle, using
from tests.faults.fleet import HOURS, NAMES, Ledger, assert_same, lived, opened, request

NOW = 1_700_000_000_000
DAY = 86_400_000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_schedulers_and_workers_whose_clocks_jump_and_disagree_have_one_effect(
    database_url: str, undisturbed: Ledger, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Every third message comes twice, every fourth is lost, and whoever hears one may be a day off."""
    chance, rung = random.Random(seed), list[list[str]]()
    with opened(database_url) as engine, using(Desk(engine)) as desk:
        request(engine)
        schedulers = [Scheduler(engine, lambda names, slow: rung.append(list(names))) for _ in range(2)]
        monkeypatch.setattr(tasks, "TIME", 0.05)
        monkeypatch.setattr(tasks, "clock", lambda: NOW + chance.randrange(-DAY, DAY))
        for number in range(2_000):
            for scheduler in schedulers:
                scheduler.round(NOW + round(1000 * EVERY * number) + chance.choice((-DAY, -1_000, 0, 0, 0, 1_000, DAY)))
            for names in chance.sample(rung, len(rung)):
                for _ in range(chance.choice((0, 1, 1, 2))):
                    settle(names)
            rung.clear()
            if lived(desk.engine) == HOURS * len(NAMES):
                break
        assert_same(engine, undisturbed)


@pytest.mark.parametrize("off", [-DAY, DAY])
def test_who_died_with_a_wrong_clock_holds_nothing_up_for_longer_than_a_claim(database_url: str, off: int) -> None:
    with opened(database_url) as engine:
        assert claim(engine, NAMES, NOW + off) == NAMES
        put_off(engine, NAMES[0], "it broke", NOW + off)
        assert {due.vault for due in Duties(engine).due(NOW + CLAIM)} == {*NAMES}
        assert claim(engine, NAMES, NOW + CLAIM) == NAMES


def test_a_clock_that_is_put_back_by_a_day_silences_no_scheduler(database_url: str) -> None:
    heard: list[list[str]] = []
    with opened(database_url) as engine:
        scheduler = Scheduler(engine, lambda names, slow: heard.append(list(names)), workers=1)
        for after in (DAY, 0, AGAIN - 1, AGAIN):
            scheduler.round(NOW + after)
    assert heard == [list(NAMES)] * 3
