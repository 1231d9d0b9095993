"""Plug-ins of strangers, installed beside Ringfence as they are: what they do harms nobody but themselves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.strategies.errors import StrategyFileRefused
from ringfence.strategies.plugins import GROUP, strategies_of_file

FLAT = """
from typing import ClassVar
import numpy as np
from ringfence import Strategy

class {kind}(Strategy):
    name: ClassVar[str] = "{name}"

    def lookback(self, timeframe):
        return 3

    def propose(self, bars):
        print("noise")
        return np.zeros(len(bars))
"""
AHEAD = FLAT.format(kind="Flat", name="aaj_ahead").replace(
    "np.zeros(len(bars))", "np.append(bars.close[1:], 1.0) / 1e5"
)
MANDATE = """
mandate: plugged
currency: USDT
loss_cap: 20%
timeframe: 1h
positions:
  btc: {{symbol: BTC/USDT:USDT, share: 50%, strategy: {{name: {name}}}}}
"""
TELLS = """
    @classmethod
    def describe(cls):
        print("noise")
        raise LookupError("lost")
"""
PLUGS = {
    # distribution: (entry points, module, source)
    "a-good-one": ("aaa_good = a_good_one:Flat", "a_good_one", FLAT.format(kind="Flat", name="aaa_good")),
    "b-imports": ("aab_imports = b_imports:Flat", "b_imports", "x = 1\nimport a_module_that_is_not_there\n"),
    "c-no-target": ("aac_no_target = c_no_target", "c_no_target", ""),
    "d-no-name": ("aad_no_name = 7 ways!", "d_no_name", ""),
    "e-first": ("aae_twice = e_first:Flat", "e_first", FLAT.format(kind="Flat", name="aae_twice")),
    "e-second": ("aae_twice = e_second:Flat", "e_second", FLAT.format(kind="Flat", name="aae_twice")),
    "f-usurper": ("constant = f_usurper:Flat", "f_usurper", FLAT.format(kind="Flat", name="constant")),
    "g-exits": ("aag_exits = g_exits:Flat", "g_exits", "import sys\nprint('noise')\nsys.exit(0)\n"),
    "h-leaves": ("aah_leaves = h_leaves:Flat", "h_leaves", "import os\nos.write(1, b'noise')\nos._exit(0)\n"),
    "i-tells": ("aai_tells = i_tells:Flat", "i_tells", FLAT.format(kind="Flat", name="aai_tells") + TELLS),
    "j-ahead": ("aaj_ahead = j_ahead:Flat", "j_ahead", AHEAD),
}  # fmt: skip


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of these installed."""
    folder = tmp_path_factory.mktemp("beside")
    for name, (points, module, source) in PLUGS.items():
        (folder / f"{module}.py").write_text(source)
        made = folder / f"{module}-2.0.dist-info"
        made.mkdir()
        (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (made / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")
    return folder


def ringfence(beside: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("ringfence"), *arguments],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "PYTHONPATH": str(beside)},
    )  # fmt: skip


REASONS = {
    "aab_imports": ("b_imports.py:2: cannot be imported, ModuleNotFoundError: No module named 'a_module", ""),
    "aac_no_target": ("of distribution c-no-target 2.0", "is no subclass of ringfence.Strategy"),
    "aad_no_name": ("of distribution d-no-name 2.0", "cannot be imported"),
    "aae_twice": ("strategy aae_twice is registered by e-first 2.0 and by e-second 2.0", ""),
    "constant": ("of distribution f-usurper 2.0", "takes the name of a strategy of ringfence, which keeps it"),
    "aag_exits": ("g_exits.py:3: cannot be imported, sys.exit(0) would have ended the process", ""),
    "aah_leaves": ("h_leaves.py:3: cannot be imported, os._exit(0) would have ended the process", ""),
    "aai_tells": ("failed in telling its parameters at ", "LookupError: lost"),
}


def test_the_good_ones_are_listed_and_each_broken_one_is_named_with_the_reason(beside: Path) -> None:
    ended = ringfence(beside, "strategies", "--json")
    assert ended.returncode == 0, ended.stderr
    listed = json.loads(ended.stdout)
    sound = [one["name"] for one in listed if one["refusal"] is None]
    assert {"aaa_good", "constant", "liquidation_distance", "trend", "vol_target"} <= set(sound)
    assert not {"aab_imports", "aae_twice", "aag_exits", "aah_leaves", "aai_tells"} & set(sound)
    constant = next(one for one in listed if one["name"] == "constant")
    assert [parameter["name"] for parameter in constant["parameters"]] == ["leverage"]
    told = [one["refusal"]["message"] for one in listed if one["refusal"] is not None]
    for name, parts in REASONS.items():
        assert any(name in message and all(part in message for part in parts) for message in told), (name, told)
    assert "noise" in ended.stderr


def test_people_see_the_list_on_standard_output_and_the_broken_ones_on_standard_error(beside: Path) -> None:
    ended = ringfence(beside, "strategies")
    assert ended.returncode == 0
    assert "aaa_good" in ended.stdout
    assert "noise" not in ended.stdout
    assert "not usable: strategy aae_twice is registered by e-first 2.0 and by e-second 2.0" in ended.stderr


def test_what_does_not_need_the_broken_ones_goes_on(beside: Path, project: Path) -> None:
    checked = ringfence(beside, "check", str(project / "mandates"))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    schema = ringfence(beside, "schema")
    assert schema.returncode == 0, schema.stderr
    assert "aaa_good" in json.dumps(json.loads(schema.stdout))
    assert "not in the schema: strategy aab_imports" in schema.stderr


@pytest.mark.parametrize("driver", [("backtest",), ("replay", "--db", "plugged.db")], ids=["backtest", "replay"])
def test_a_run_s_result_is_free_of_what_a_strategy_prints_and_a_cheat_s_run_is_refused_with_its_bar(
    beside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    mandate = tmp_path / "plugged.yaml"
    arguments = (driver[0], str(mandate), *driver[1:], "--scenario", "2020-03", "--json")
    mandate.write_text(MANDATE.format(name="aaa_good"))
    ended = ringfence(beside, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)
    assert "noise" in ended.stderr
    mandate.write_text(MANDATE.format(name="aaj_ahead").replace("plugged", "ahead"))
    ended = ringfence(beside, *arguments)
    assert (ended.returncode, ended.stdout) == (1, "")
    place = f"{beside / 'j_ahead.py'}:12"
    assert f"strategy aaj_ahead at {place} sees later bars: for the bar of BTC/USDT:USDT at 2020-03-" in ended.stderr
    assert "see every bar with `ringfence strategies test aaj_ahead`" in ended.stderr


def test_the_tests_of_strategies_pass_whatever_is_installed(beside: Path, project: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/strategies/test_registry.py",
         "tests/strategies/test_example_package.py", "tests/faces/test_cli_tools.py",
         "tests/faces/test_cli_strategies.py", "-k", "not whatever_is_installed"],
        cwd=project, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "PYTHONPATH": str(beside)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-3000:]


# ------------------------------------------------------------------------------------------------------ files


def test_a_file_s_strategies_are_those_that_it_defines_in_its_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        FLAT.format(kind="Second", name="second")
        + "class First(Second):\n    name: ClassVar[str] = 'first'\n"
        + "from ringfence.strategies.constant import Constant\n"
    )
    assert [kind.name for kind in strategies_of_file(file)] == ["second", "first"]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("x = 1\n", "mine.py: defines no strategy; expected a class derived from ringfence.Strategy"),
        ("from ringfence.strategies.constant import Constant\n", "defines no strategy"),
        ("x = 1\ny = 1 / 0\n", "mine.py:2: cannot be run, ZeroDivisionError: division by zero"),
        ("def (:\n", "mine.py:1: cannot be run, SyntaxError"),
        ("import sys\nsys.exit('bye')\n", "mine.py:2: cannot be run, sys.exit('bye') would have ended the process"),
        (FLAT.format(kind="Flat", name="flat").replace("def lookback", "def window"),
         "Flat calls its method `window`; it is `lookback` now"),
        (FLAT.format(kind="Flat", name="flat").replace('name: ClassVar[str] = "flat"', ""), "Flat has no name"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused_with_its_line(tmp_path: Path, source: str, told: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(StrategyFileRefused) as refusal:
        strategies_of_file(file)
    assert told in str(refusal.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StrategyFileRefused, match="is no file"):
        strategies_of_file(tmp_path / "none.py")
