"""A desk that asks strategies apart decides the same; what one does wrong costs its own proposal, is told in the
journal and lived again from there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from ringfence.faces import queries
from ringfence.runtime.acts import deposit
from ringfence.runtime.bar_store import feed_until
from ringfence.runtime.database import in_unit, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.errors import SlowStrategy
from ringfence.runtime.proposals import Apart
from ringfence.runtime.proposers import Proposers
from ringfence.runtime.scheduler import AGAIN, Scheduler
from ringfence.runtime.setup import Setup, set_up
from ringfence.runtime.tasks import settle, using
from ringfence.runtime.verification import verify
from ringfence.strategies import registry
from ringfence.strategies.plugins import GROUP
from ringfence.vaults import journal
from ringfence.vaults.entries import Decided
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import position
from tests.reference.tide import HOUR, MANDATE, START, SYMBOL, UNIT, Tide, breaches, launch, walk

FICKLE = '''
import os, time
from typing import ClassVar
import numpy as np
from ringfence import Strategy


class Fickle(Strategy):
    """Holds 4, until the hour at which it does what it is told to."""

    name: ClassVar[str] = "fickle"
    act: str
    hour: int

    def lookback(self, timeframe):
        return 1

    def propose(self, bars):
        if int(bars.ts[-1]) // 3_600_000 % 24 == self.hour:
            exec(self.act)
        return np.full(len(bars), 4.0)
'''
BAD_HOUR = 9
ACTS = {
    "raised": "raise RuntimeError('lost')",
    "died": "os._exit(3)",
    "nonsense": "raise SystemExit",
    "hung": "time.sleep(30)",
    "memory": "bytearray(4 << 30)",
}


@pytest.fixture(scope="module", autouse=True)
def fickle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("fickle")
    (folder / "a_fickle.py").write_text(FICKLE)
    made = folder / "a_fickle-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: a-fickle\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(f"[{GROUP}]\nfickle = a_fickle:Fickle\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("NUMBA_DISABLE_JIT", "1")  # in the process that is asked: it starts sooner
        for kept in (registry._installed, registry.release):
            kept.cache_clear()
        yield
    for kept in (registry._installed, registry.release):
        kept.cache_clear()


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    with Proposers(seconds=2.0, memory=256 << 20) as proposers:
        yield Apart(proposers)


def mandate(act: str, rule: str = "hold") -> Setup:
    text = MANDATE.format(name="tide", leverage="4").replace(
        "{name: constant, leverage: 4}", f'{{name: fickle, act: "{act}", hour: {BAD_HOUR}}}'
    )
    return set_up(load_mandate((text + f"on_strategy_failure: {rule}\n").encode()))


def opened(tmp_path: Path, setup: Setup, name: str = "one") -> Tide:
    one = launch(f"sqlite:///{tmp_path / f'{name}.db'}", walk(bars=14), setup)
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START, "first")
    return one


def decided(one: Tide) -> dict[int, Decided]:
    with unit_of_work(one.engine, writes=False) as connection:
        found = [row.entry for row in journal.rows(connection, 1, Decided)]
    return {(entry.slot - START) // HOUR: entry for entry in found if isinstance(entry, Decided)}


def lots(one: Tide) -> int:
    with unit_of_work(one.engine, writes=False) as connection:
        return int(connection.execute(select(position.c.quantity)).scalar_one())


def test_asked_apart_a_vault_decides_what_it_decides_here(tmp_path: Path, apart: Apart) -> None:
    setup = mandate("pass")
    here, there = opened(tmp_path, setup, "here"), opened(tmp_path, setup, "there")
    assert here.desk.catch_up("tide", lambda: True) == 14
    assert Desk(there.engine, proposer=apart).catch_up("tide", lambda: True) == 14
    assert decided(here) == decided(there)


@pytest.mark.parametrize("kind", ACTS)
def test_whatever_a_strategy_does_its_vault_goes_on_and_says_so(tmp_path: Path, apart: Apart, kind: str) -> None:
    one = opened(tmp_path, mandate(ACTS[kind]))
    assert Desk(one.engine, proposer=apart).catch_up("tide", lambda: True) == 14
    failed = {hour: entry.failed for hour, entry in decided(one).items() if entry.failed}
    assert [*failed] == [BAD_HOUR]
    failure = failed[BAD_HOUR]["btc"]
    assert failure.kind in (kind, "raised"), failure  # an end that it could not make was raised to it
    assert "fickle" in failure.told
    assert decided(one)[BAD_HOUR].positions["btc"].proposed is None
    assert decided(one)[BAD_HOUR].positions["btc"].quantity != 0, "it holds"
    assert decided(one)[BAD_HOUR].is_struck, "and whoever is to be paid is"
    assert breaches(one.engine) == []
    (event,) = queries.events(one.engine, kinds=["strategy_failure"])
    assert event["position"] == "btc"
    assert "no proposal" in event["cause"]


def test_a_mandate_may_say_that_a_position_is_closed_then(tmp_path: Path, apart: Apart) -> None:
    one = opened(tmp_path, mandate(ACTS["raised"], "derisk"))
    desk = Desk(one.engine, proposer=apart)
    desk.step("tide", START + (BAD_HOUR - 1) * HOUR)
    assert lots(one)
    desk.step("tide", START + BAD_HOUR * HOUR)
    assert lots(one) == 0
    desk.step("tide", START + (BAD_HOUR + 1) * HOUR)
    assert lots(one), "it is asked again"


def test_what_was_decided_without_a_strategy_is_lived_again_without_it(tmp_path: Path, apart: Apart) -> None:
    one = opened(tmp_path, mandate(ACTS["hung"]))
    assert Desk(one.engine, proposer=apart).catch_up("tide", lambda: True) == 14
    (verdict,) = verify(one.engine)
    assert (verdict.breaches, verdict.slots, verdict.undecided) == ((), 14, ())


def test_without_patience_who_takes_long_is_no_failure_yet(tmp_path: Path, apart: Apart) -> None:
    one = opened(tmp_path, mandate(ACTS["hung"]))
    desk = Desk(one.engine, proposer=apart)
    desk.step("tide", START + (BAD_HOUR - 1) * HOUR)
    before = len(decided(one))
    apart.is_patient = False
    try:
        with pytest.raises(SlowStrategy, match="fickle takes longer than 1 s"):
            desk.step("tide", START + BAD_HOUR * HOUR)
    finally:
        apart.is_patient = True
    assert len(decided(one)) == before, "nothing was decided"
    assert desk.step("tide", START + BAD_HOUR * HOUR) == 1


def test_a_slow_strategy_is_asked_with_patience_where_nobody_else_waits(tmp_path: Path, apart: Apart) -> None:
    one, now = opened(tmp_path, mandate("time.sleep(1.5)")), START + 14 * HOUR
    in_unit(one.engine, lambda connection: feed_until(connection, SYMBOL, now))
    rung: list[tuple[list[str], bool]] = []
    scheduler = Scheduler(one.engine, lambda names, slow: rung.append((list(names), slow)))
    with using(Desk(one.engine, proposer=apart)):
        assert scheduler.round(now) == 1
        assert settle(["tide"]) == 0
        assert decided(one) == {}
        assert scheduler.round(now + AGAIN) == 1, "no claim holds it up"
        assert settle(["tide"], patient=True) == 14
    assert rung == [(["tide"], False), (["tide"], True)]
    assert not any(entry.failed for entry in decided(one).values())
    assert scheduler.round(now + 2 * AGAIN) == 0


def test_a_strategy_that_is_not_there_stops_no_vault(tmp_path: Path, apart: Apart) -> None:
    setup = mandate("pass")
    one = opened(tmp_path, setup)
    with unit_of_work(one.engine) as connection:
        from ringfence.vaults.tables import mandate as mandates

        body = setup.mandate.canonical().replace('"fickle"', '"vanished"')
        connection.execute(mandates.update().values(body=body))
    assert Desk(one.engine, proposer=apart).catch_up("tide", lambda: True) == 14
    assert {entry.failed["btc"].kind for entry in decided(one).values()} == {"unknown strategy"}
