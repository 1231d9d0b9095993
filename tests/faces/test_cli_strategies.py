"""`ringfence strategies test`: every bar of several markets, by name and by file."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ringfence.faces.cli import opinions
from ringfence.faces.cli.app import app
from ringfence.faces.errors import InputRefused
from ringfence.strategies.errors import InvalidParameters, StrategyFileRefused, UnknownStrategy
from ringfence.strategies.trials import MARKETS
from ringfence.words.refusal import RingfenceError

assert opinions  # for the commands that it adds

FILE = """
from typing import ClassVar
import numpy as np
from ringfence import Strategy

SEEN = []

class Mine(Strategy):
    name: ClassVar[str] = "mine"
    depth: int

    def lookback(self, timeframe):
        return self.depth

    def propose(self, bars):
        print("thinking")
        {body}
"""
HONEST = "return np.where(bars.close > bars.open, 1.0, -1.0)"
CHEATS = {
    "next bar": ("return np.sign(np.append(bars.close[1:], bars.close[-1]) - bars.close)", "sees later bars"),
    "mean of all": ("return bars.close / bars.close.mean()", "sees later bars"),
    "a module's memory": ("SEEN.append(1); return np.full(len(bars), float(len(SEEN)))", "changes its mind"),
    "before its lookback": ("return np.cumsum(bars.close) / 1e6", "remembers bars before its lookback"),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["strategies", "test", *arguments])


def written(folder: Path, body: str) -> str:
    file = folder / "mine.py"
    file.write_text(FILE.format(body=body))
    return str(file)


@pytest.mark.parametrize("name", ["constant", "liquidation_distance", "trend", "vol_target"])
def test_the_built_in_strategies_hold_in_every_market(name: str) -> None:
    ended = run(name, "--json")
    assert ended.exit_code == 0, ended.output
    (told,) = json.loads(ended.stdout)
    assert (told["strategy"], told["sound"], told["timeframe"]) == (name, True, "1h")
    assert [trial["market"] for trial in told["trials"]] == [*MARKETS, "two markets in turn"]
    assert all(trial["cuts"] > 0 and trial["refusal"] is None for trial in told["trials"])


def test_an_honest_file_holds_and_what_it_prints_is_no_part_of_the_result(tmp_path: Path) -> None:
    ended = run(written(tmp_path, HONEST), "--set", "depth=5", "--json")
    assert ended.exit_code == 0, ended.output
    (told,) = json.loads(ended.stdout)
    assert (told["parameters"], told["lookback"], told["sound"]) == ({"depth": "5"}, 5, True)
    assert "thinking" in ended.stderr


@pytest.mark.parametrize(("body", "rule"), CHEATS.values(), ids=CHEATS)
def test_a_file_that_cheats_ends_with_1_and_its_bar_is_named(tmp_path: Path, body: str, rule: str) -> None:
    file = written(tmp_path, body)
    ended = run(file)
    assert ended.exit_code == 1
    assert "contract_broken" in ended.stdout
    (line,) = (line for line in ended.stderr.splitlines() if f"{file}:15 {rule}" in line)
    assert line.startswith("a walk and ")
    assert f" more: strategy mine at {file}:15 {rule}: for the bar of BTC/USDT:USDT at 2020-03-" in line
    assert "mine: must not be run" in ended.stderr


def test_a_file_that_fails_in_one_market_is_told_with_market_and_line(tmp_path: Path) -> None:
    body = "assert (bars.close[1:] != bars.close[:-1]).all(), 'a still market'; return np.zeros(len(bars))"
    file = written(tmp_path, body)
    (told,) = json.loads(run(file, "--json").stdout)
    failed = {trial["market"]: trial["refusal"] for trial in told["trials"] if trial["refusal"] is not None}
    assert [*failed] == ["one price, no volume"]
    assert failed["one price, no volume"]["fields"]["place"] == f"{file}:17"
    assert failed["one price, no volume"]["fields"]["reason"] == "AssertionError: a still market"


def test_parameters_that_are_needed_are_chosen_and_told_and_stated_ones_are_kept() -> None:
    shown = run("trend", "--set", "lookback=2d", "--timeframe", "4h")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("trend {lookback: 2d, target_volatility: 50%}: 18 bars of 4h a proposal\n")


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        (("trent",), UnknownStrategy, "did you mean trend?"),
        (("none.py",), StrategyFileRefused, "none.py: is no file"),
        (("constant", "--set", "leverage"), InputRefused, "expected PARAMETER=VALUE"),
        (("constant", "--set", "leverage=1", "--set", "leverage=2"), InputRefused, "leverage is set twice"),
        (("constant", "--set", "leverage=2x"), InvalidParameters, "did you mean 2?"),
        (("constant", "--set", "leverag=2"), InvalidParameters, "did you mean leverage?"),
        (("constant", "--timeframe", "60"), InputRefused, "--timeframe"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_runs(
    arguments: tuple[str, ...], kind: type[RingfenceError], told: str
) -> None:
    ended = run(*arguments)
    assert isinstance(ended.exception, kind), ended.output
    assert told in str(ended.exception)
    assert ended.stdout == ""
