"""The house may be re-laid, but what it does stays: every back-test and every rough world ends on the digest that was
recorded before. That a replay ends where the back-test does is what `test_two_drivers` shows."""

from pathlib import Path

import numba
import pytest

from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import digest
from tests.reference.histories import DEPOSITS, HISTORIES, MANDATES, mandate
from tests.reference.recorded import WORLDS, digests, of_run, of_world


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("history", HISTORIES)
def test_a_back_test_ends_on_the_recorded_digest(project: Path, recorded: Path, history: str, name: str) -> None:
    setup = mandate(project, name)
    run = backtest(setup, HISTORIES[history](recorded, setup.symbols), DEPOSITS)
    assert of_run(run) == digests()[f"{history}, {name}"]
    assert digest([run]) == digests()[f"{history}, {name}, as printed"]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="sixty thousand bars are walked compiled or not at all")
@pytest.mark.parametrize("block", range(0, WORLDS, 50))
def test_a_rough_world_ends_on_the_recorded_digest(block: int) -> None:
    found = {str(seed): of_world(seed) for seed in range(block, block + 50)}
    assert found == {seed: digests()[seed] for seed in found}
