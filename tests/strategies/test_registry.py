"""The registry: one door for built-ins and strangers, and refusals that say whose plug-in it is."""

import sys
from importlib.metadata import EntryPoint, distributions, version
from pathlib import Path

import pytest

from ringfence.strategies.contract import Strategy
from ringfence.strategies.errors import (
    BrokenStrategy,
    DuplicateStrategy,
    InvalidParameters,
    StrategyFailed,
    UnknownStrategy,
)
from ringfence.strategies.plugins import GROUP
from ringfence.strategies.registry import Registry, build, catalogue, problems, release
from ringfence.strategies.vol_target import VolTarget

HOUR = 3_600_000


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs distributions, each of one module and one entry point, and gives the registry over them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)

    def install(*plugs: tuple[str, str, str, str]) -> Registry:
        for distribution, name, target, source in plugs:
            (tmp_path / f"{target.partition(':')[0]}.py").write_text(source)
            folder = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
            (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")
        found = sorted(distributions(path=[str(tmp_path)]), key=lambda distribution: distribution.name)
        return Registry(point for distribution in found for point in distribution.entry_points)

    yield install
    for module in set(sys.modules) - modules:
        del sys.modules[module]


GOOD = """
from typing import ClassVar
import numpy as np
from ringfence import Strategy

class Flat(Strategy):
    name: ClassVar[str] = "flat"
    depth: int = 3

    def lookback(self, timeframe):
        return self.depth

    def propose(self, bars):
        return np.zeros(len(bars))
"""


def test_the_built_in_strategies_come_through_the_entry_points_of_the_distribution() -> None:
    found = catalogue().strategies
    assert {"constant", "liquidation_distance", "trend", "vol_target"} <= set(found)
    assert list(found) == sorted(found)
    assert found["vol_target"] is VolTarget
    assert all(name == strategy.name and issubclass(strategy, Strategy) for name, strategy in found.items())


def test_a_strangers_strategy_is_listed_and_built(installed) -> None:
    registry = installed(("stranger-flat", "flat", "stranger_flat:Flat", GOOD))
    assert [*registry.catalogue().strategies] == ["flat"]
    assert registry.build({"name": "flat", "depth": 7}).lookback(HOUR) == 7


FIELD = 'has a parameter of the name of its method lookback; give the field another name and alias="lookback"'
BROKEN = [
    ("missing_module", "broken_a:Flat", "import a_module_that_is_not_there\n", "cannot be imported, ModuleNotFound"),
    ("syntax", "broken_b:Flat", "def (:\n", "cannot be imported, SyntaxError"),
    ("raising", "broken_c:Flat", "raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
    ("absent", "broken_d:Flat", "", "cannot be imported, AttributeError"),
    ("function", "broken_e:Flat", "def Flat(): pass\n", "is no subclass of ringfence.Strategy"),
    ("other_class", "broken_f:Flat", "class Flat: pass\n", "is no subclass of ringfence.Strategy"),
    ("flat_", "broken_g:Flat", GOOD, "calls itself 'flat'; expected 'flat_'"),
    ("nameless", "broken_h:Flat", GOOD.replace('name: ClassVar[str] = "flat"', ""), "calls itself None"),
    ("flat", "broken_i:Flat", GOOD.replace("def lookback", "def lookbacks"), "does not define lookback;"),
    ("flat", "broken_j:Flat", GOOD.replace("def lookback", "lookback: int\n    def lookbacks"), FIELD),
    ("flat", "broken_k:Flat", GOOD.replace("depth: int = 3", "lookback: int = 3"), FIELD),
    (
        "flat",
        "broken_l:Flat",
        GOOD.replace("def propose", "def leverage"),
        "calls its method `leverage`; it is `propose` now;",
    ),
    (
        "flat",
        "broken_m:Flat",
        GOOD.replace("def propose", "def leverage").replace("def lookback", "def window"),
        "calls its method `window`; it is `lookback` now; calls its method `leverage`; it is `propose` now;",
    ),
    (
        "flat",
        "broken_n:Flat",
        GOOD.replace("depth: int = 3", "leverage: float = 3.0").replace("def propose", "def p"),
        "does not define propose;",
    ),
]


@pytest.mark.parametrize(("name", "target", "source", "reason"), BROKEN, ids=[row[1] for row in BROKEN])
@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
def test_a_broken_plug_in_is_refused_with_its_distribution_and_harms_no_other(
    installed, name: str, target: str, source: str, reason: str
) -> None:
    registry = installed(("broken-plug", name, target, source), ("good-plug", "good", "good_plug:Flat",
                         GOOD.replace('"flat"', '"good"')))  # fmt: skip
    known = registry.catalogue()
    assert [*known.strategies] == ["good"]
    (refusal,) = known.refused
    assert isinstance(refusal, BrokenStrategy)
    assert refusal.distribution == "broken-plug 1.2"
    assert reason in str(refusal)
    assert f"strategy {name} ({target}) of distribution broken-plug 1.2" in str(refusal)
    assert registry.problems({"name": name}) == [(("name",), str(refusal))]
    assert registry.build({"name": "good"}).lookback(HOUR) == 3


def test_a_release_is_the_name_and_its_own_distributions_version_and_loads_nothing(installed) -> None:
    registry = installed(("stranger-flat", "flat", "stranger_flat:Flat", "raise RuntimeError"))
    assert registry.release("flat") == "flat==1.2"
    assert release("vol_target") == f"vol_target=={version('ringfence')}"
    with pytest.raises(UnknownStrategy):
        registry.release("flatt")


def test_an_entry_point_of_no_distribution_has_no_release() -> None:
    registry = Registry([EntryPoint("flat", "somewhere:Flat", GROUP)])
    with pytest.raises(BrokenStrategy, match="is registered by no distribution and so has no version"):
        registry.release("flat")


def test_a_name_that_two_distributions_register_is_refused_with_both(installed) -> None:
    registry = installed(("first-plug", "flat", "plug_one:Flat", GOOD), ("second-plug", "flat", "plug_two:Flat", GOOD))
    with pytest.raises(DuplicateStrategy) as refusal:
        registry.build({"name": "flat"})
    assert str(refusal.value) == (
        "strategy flat is registered by first-plug 1.2 and by second-plug 1.2; uninstall all but one"
    )


def test_a_strangers_validator_that_raises_is_told_as_his(installed) -> None:
    source = GOOD.replace(
        "    def lookback", "    def model_post_init(self, context):\n        raise KeyError('x')\n\n    def lookback"
    )
    registry = installed(("raising-plug", "flat", "raising_plug:Flat", source))
    with pytest.raises(StrategyFailed, match=r"flat failed in validation at .*raising_plug\.py:11: KeyError: 'x'"):
        registry.build({"name": "flat"})


def test_an_unknown_name_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownStrategy) as refusal:
        build({"name": "voltarget", "target_volatility": "80%"})
    assert str(refusal.value).startswith("unknown strategy 'voltarget'; did you mean vol_target? (known: ")
    assert "constant, " in str(refusal.value)


SPECS = [
    ({"name": "vol_target"}, "target_volatility", "is missing; vol_target needs it: volatility per year"),
    ({"name": "vol_target", "target_volatility": 150}, "target_volatility", "150 is not a rate; did you mean 150%?"),
    ({"name": "vol_target", "target_volatility": "0%"}, "target_volatility", "0% is out of range; expected above 0%"),
    ({"name": "vol_target", "target_volatility": float("nan")}, "target_volatility", "nan is not a rate"),
    ({"name": "constant", "leverage": "2x"}, "leverage", "2x is not a number; did you mean 2?"),
    ({"name": "constant", "leverage": 1, "leverag": 2}, "leverag",
     "is no parameter of constant; did you mean leverage?"),
    ({"name": "constant", "leverage": 1, "leverage_": 2}, "leverage_", "is no parameter of constant"),
    ({"name": "trend", "lookback": 30, "target_volatility": "1"}, "lookback",
     "30 is not a duration; did you mean 30h?"),
    ({"name": "trend", "lookback": "30d", "target_volatility": "1", "allow_short": "maybe"}, "allow_short",
     "maybe is neither true nor false"),
    ({"name": "liquidation_distance", "side": "lnog"}, "side", "lnog is none of long, short; did you mean long?"),
    ({"name": "liquidation_distance", "estimator": "garman-klass"}, "estimator", "did you mean garman_klass?"),
    ({"name": "liquidation_distance", "estimator": "parkinson", "half_life": "2h"}, "",
     "half_life is read by ewma only, not by parkinson"),
    ({"name": "liquidation_distance", "window": "30m"}, "window",
     "window of 30m is too short for bars of 1h; expected at least 2h"),
    ({"name": "nothing_like_it"}, "name", "unknown strategy 'nothing_like_it' (known: "),
    ({"name": ["trend"]}, "name", "unknown strategy"),
    ({}, "name", "is missing; expected one of "),
    ("trend", "", "trend is no strategy; expected a mapping"),
    (None, "", "None is no strategy; expected a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "path", "message"), SPECS, ids=[message for _, _, message in SPECS])
def test_a_fault_in_a_specification_is_told_with_its_place(spec: object, path: str, message: str) -> None:
    found = problems(spec, HOUR)
    assert [where for where, _ in found] == [(path,) if path else ()]
    assert message in found[0][1]


def test_every_fault_is_told_at_once_and_building_refuses_with_all_of_them() -> None:
    spec = {"name": "vol_target", "target_volatility": 150, "halflife": "2h", "side": "lnog", "window": "3x"}
    found = problems(spec)
    assert {path for path, _ in found} == {("target_volatility",), ("halflife",), ("side",), ("window",)}
    with pytest.raises(InvalidParameters) as refusal:
        build(spec)
    assert [*refusal.value.problems] == found
    assert all(message in str(refusal.value) for _, message in found)


def test_without_a_timeframe_a_specification_is_checked_for_itself_alone() -> None:
    spec = {"name": "liquidation_distance", "window": "30m"}
    assert problems(spec) == []
    assert [path for path, _ in problems(spec, HOUR)] == [("window",)]


def test_a_strangers_lookback_that_raises_is_a_problem_of_the_whole_specification(installed) -> None:
    registry = installed(
        ("raising-lookback", "flat", "raising_lookback:Flat", GOOD.replace("return self.depth", "return 1 / 0"))
    )
    found = registry.problems({"name": "flat"}, HOUR)
    (path, message), *others = found
    assert (path, others) == ((), [])
    assert message.startswith("strategy flat failed in lookback on bars of 1h at ")
    assert message.endswith("raising_lookback.py:11: ZeroDivisionError: division by zero")


def test_a_constraint_of_pydantics_own_is_told_with_the_value(installed) -> None:
    source = GOOD.replace("depth: int = 3", "depth: int = Field(3, ge=2, lt=9)").replace(
        "import numpy", "from pydantic import Field\nimport numpy"
    )
    registry = installed(("bounded-plug", "flat", "bounded_plug:Flat", source))
    assert registry.problems({"name": "flat", "depth": 1}) == [
        (("depth",), "1: Input should be greater than or equal to 2")
    ]
    parameter = registry.strategy("flat").describe()[0]
    assert (parameter.unit, parameter.bounds, parameter.default) == ("integer", "at least 2, below 9", "3")


def test_a_good_specification_has_no_problems() -> None:
    assert problems({"name": "vol_target", "target_volatility": "150%", "half_life": "12h", "window": "3d"}, HOUR) == []
