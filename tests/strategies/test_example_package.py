"""The example distribution: installed beside Ringfence, it is listed, built, causal and does what it says."""

import json
import os
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from ringfence.strategies.plugins import GROUP
from ringfence.strategies.registry import Registry

TOP = Path(__file__).resolve().parents[2]
EXAMPLE = TOP / "examples" / "ringfence-mean-reversion"

USE = """
import json
import numpy as np
from ringfence import Bars, check_causal
from ringfence.strategies.guard import proposals
from ringfence.strategies.registry import build, catalogue, problems, release

rng = np.random.default_rng(1)
close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.01, 200)))
kept = np.r_[0:120, 123:200]
ts = np.arange(200, dtype=np.int64) * 3_600_000
bars = Bars("BTC/USDT:USDT", 3_600_000, *(column[kept] for column in (ts, close, close, close, close, close)))
strategy = build({"name": "mean_reversion", "window": "1d", "leverage": 2, "at": "1.5"})
check_causal(strategy, bars, range(len(bars)))
leverage, valid = proposals(strategy, bars)
window = np.log(bars.close[60 - 23 : 61])
z = (window[-1] - window.mean()) / window.std(ddof=1)
still = Bars(bars.symbol, bars.timeframe, bars.ts, *(np.full(197, 0.3),) * 5)
print(json.dumps({
    "listed": {name: type.__module__ for name, type in catalogue().strategies.items()},
    "released": [release(name) for name in ("mean_reversion", "vol_target")],
    "parameters": [parameter.name for parameter in catalogue().strategies["mean_reversion"].describe()],
    "problems": problems({"name": "mean_reversion", "window": "1h", "leverage": 2}, 3_600_000),
    "mistyped": problems({"name": "mean_revertion"}),
    "absent": [int(row) for row in np.flatnonzero(~valid)],
    "largest": float(np.abs(leverage).max()),
    "found": float(leverage[60]),
    "expected": float(-2.0 * np.clip(z / 1.5, -1.0, 1.0)),
    "still": int(proposals(strategy, still)[1].sum()),
}))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What a fresh interpreter finds with the example installed into a folder of its own."""
    target = tmp_path_factory.mktemp("site")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    install = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(EXAMPLE)]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    assert installed.returncode == 0, installed.stderr
    assert [*target.glob("ringfence_mean_reversion-*.dist-info")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(target), str(TOP)))}
    used = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
        cwd=target,
    )
    assert used.returncode == 0, used.stderr
    answer: dict[str, object] = json.loads(used.stdout)
    return answer


def test_the_strangers_strategy_is_listed_beside_the_built_in_ones(told: dict[str, object]) -> None:
    expected = {
        "constant": "ringfence.strategies.constant",
        "liquidation_distance": "ringfence.strategies.liquidation_distance",
        "mean_reversion": "ringfence_mean_reversion",
        "trend": "ringfence.strategies.trend",
        "vol_target": "ringfence.strategies.vol_target",
    }
    assert isinstance(told["listed"], dict)
    assert expected.items() <= told["listed"].items()
    assert told["parameters"] == ["window", "leverage", "at"]


def test_its_release_is_that_of_its_own_distribution(told: dict[str, object]) -> None:
    assert told["released"] == ["mean_reversion==0.3.1", "vol_target==0.1.0"]


def test_its_name_and_its_timeframe_are_checked_like_those_of_the_built_in_ones(told: dict[str, object]) -> None:
    assert told["problems"] == [
        [["window"], "mean_reversion: window of 1h is too short for bars of 1h; expected at least 3h or a shorter "
                       "timeframe"]
    ]  # fmt: skip
    (((path,), message),) = told["mistyped"]
    assert path == "name"
    assert "did you mean mean_reversion?" in message


def test_it_leans_against_the_deviation_and_has_no_opinion_where_bars_are_missing(told: dict[str, object]) -> None:
    assert told["found"] == pytest.approx(told["expected"], rel=1e-9)
    assert told["largest"] == 2.0
    assert told["absent"] == [*range(23), *range(120, 143)]
    assert told["still"] == 0


def test_without_the_package_its_name_is_unknown() -> None:
    alone = Registry(distribution("ringfence").entry_points.select(group=GROUP))
    ((path, message),) = alone.problems({"name": "mean_reversion"})
    assert path == ("name",)
    assert message.startswith("unknown strategy 'mean_reversion'")
