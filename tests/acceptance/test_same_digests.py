"""The house may be re-laid, but what it does stays: every back-test ends on the digest that its kernel was recorded
with. That a replay ends where the back-test does is what `test_two_drivers` shows."""

from pathlib import Path

import pytest

from ringfence.runtime.backtest import backtest
from ringfence.runtime.runs import digest
from tests.reference.histories import DEPOSITS, HISTORIES, MANDATES, mandate
from tests.reference.recorded import digests, of_run


@pytest.mark.parametrize("name", MANDATES)
@pytest.mark.parametrize("history", HISTORIES)
def test_a_back_test_ends_on_the_recorded_digest(project: Path, recorded: Path, history: str, name: str) -> None:
    setup = mandate(project, name)
    run = backtest(setup, HISTORIES[history](recorded, setup.symbols), DEPOSITS)
    assert of_run(run) == digests()[f"{history}, {name}"]
    assert digest([run]) == digests()[f"{history}, {name}, as printed"]
