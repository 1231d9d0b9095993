"""Mandates checked against the installed strategies: each file is opened once, whatever is asked of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.runtime.mandates import check, load
from ringfence.vaults.errors import MandateError

MANDATE = """\
mandate: steady
currency: USDT
loss_cap: 20%
timeframe: 1h
positions:
  btc: {symbol: BTC/USDT:USDT, share: 50%, strategy: {name: constant, leverage: 2}}
"""
WINDOW = "{name: vol_target, target_volatility: 50%, half_life: 12h, window: 3h}"

COUNTED = """\
import atexit, sys
from pathlib import Path

folder, opened = Path(sys.argv[1]), []
sys.addaudithook(lambda name, given: opened.append(str(given[0])) if name == "open" else None)
names = lambda: "\\n".join(sorted(Path(file).name for file in opened if Path(file).parent == folder))
atexit.register(lambda: folder.with_name("opened").write_text(names()))
"""


def opened(folder: Path, program: str) -> list[str]:
    """The files of a folder that a program opens, each as often as it is opened."""
    subprocess.run([sys.executable, "-c", COUNTED + program, folder], capture_output=True, timeout=120)
    return folder.with_name("opened").read_text().split()


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder of three mandates: two share a name, and one of those has a fault."""
    folder = tmp_path / "mandates"
    folder.mkdir()
    (folder / "a.yaml").write_text(MANDATE)
    (folder / "b.yaml").write_text(MANDATE.replace("20%", "20"))
    (folder / "c.yaml").write_text(MANDATE.replace("steady", "other"))
    return folder


COMMAND = "from ringfence.faces.cli import main; sys.argv[1:] = ['check', str(folder){more}]; main()"
LOAD = "from ringfence.runtime.mandates import load; load([folder, folder / 'a.yaml'])"


@pytest.mark.parametrize(
    "program",
    [COMMAND.format(more=""), COMMAND.format(more=", str(folder / 'a.yaml'), '--json'"), LOAD],
    ids=["check", "check as JSON, a file named twice", "load"],
)
def test_each_file_is_opened_once_with_faults_and_without(three: Path, program: str) -> None:
    assert opened(three, program) == ["a.yaml", "b.yaml", "c.yaml"]
    (three / "b.yaml").unlink()
    assert opened(three, program) == ["a.yaml", "c.yaml"]


def test_a_second_look_at_a_file_would_be_counted(three: Path) -> None:
    assert opened(three, f"{LOAD.partition(';')[0]}; file = folder / 'c.yaml'; load([file]); load([file])") == [
        "c.yaml",
        "c.yaml",
    ]


def test_what_check_finds_is_what_load_refuses(three: Path) -> None:
    found = check([three])
    assert [mandate.name for mandate in found.mandates] == ["steady", "other"]
    assert len(found.problems) == 3, "the fault, and the shared name at both places"
    with pytest.raises(MandateError) as refusal:
        load([three])
    assert refusal.value.problems == found.problems


def test_a_strategy_is_asked_about_the_slots_of_its_own_mandate(tmp_path: Path) -> None:
    text = MANDATE.replace("{name: constant, leverage: 2}", WINDOW)
    (tmp_path / "a.yaml").write_text(text)
    (tmp_path / "b.yaml").write_text(text.replace("steady", "slow").replace("1h", "4h"))
    (problem,) = check([tmp_path]).problems
    assert (problem.file, problem.path) == (str(tmp_path / "b.yaml"), "positions.btc.strategy.window")
    assert "window of 3h is too short for bars of 4h" in problem.message


def test_a_loaded_mandate_has_its_strategies_defaults_written_out(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANDATE)
    (mandate,) = load([tmp_path / "a.yaml"])
    assert set(mandate.positions["btc"].strategy.parameters) >= {"leverage"}
