"""Mandates: what is refused and where, what a mandate means, and what the kernel and editors get of it."""

import difflib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from ringfence.markets.tables import shipped
from ringfence.risk.book import POSITION_LIMITS
from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.check import DOCUMENT, load_mandate
from ringfence.vaults.mandate.limits import compile_limits
from ringfence.vaults.mandate.schema import json_schema
from ringfence.vaults.mandate.terms import Mandate, MarginCall, StrategyTerms, millionths
from ringfence.words.source import read_yaml

BAD = Path(__file__).parent / "mandates_bad"
EXAMPLES = Path(__file__).parents[3] / "mandates"
PARAMETERS = {"constant": {"leverage"}, "vol_target": {"target_volatility", "half_life", "window"}}

GOOD = """\
mandate: btc-eth
currency: USDT
loss_cap: 20%
timeframe: 1h
positions:
  btc:
    symbol: BTC/USDT:USDT
    share: 45%
    strategy: {name: constant, leverage: 2}
  eth:
    symbol: ETH/USDT:USDT
    share: 45%
    strategy: {name: vol_target, target_volatility: 150%, half_life: 12h}
"""


def check_strategy(terms: dict[str, Any], timeframe: int | None = None) -> list[tuple[tuple[str | int, ...], str]]:
    """A small registry: it knows two strategies and their parameters' names."""
    name = terms["name"]
    if name not in PARAMETERS:
        near = difflib.get_close_matches(name, PARAMETERS, n=1)
        return [(("name",), f"unknown strategy {name}" + (f"; did you mean {near[0]}?" if near else ""))]
    wrong = [key for key in terms if key != "name" and key not in PARAMETERS[name]]
    return [((key,), f"unknown parameter; did you mean {sorted(PARAMETERS[name])[0]}?") for key in wrong]


def refusal(text: str | bytes | Path, **given: Any) -> MandateError:
    with pytest.raises(MandateError) as caught:
        load_mandate(text, **given)
    return caught.value


@pytest.mark.parametrize("path", sorted(BAD.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_fault_is_told_where_it_stands_and_with_the_way_out(path: Path) -> None:
    expected = re.findall(r"^# expect: (\d+):(\d+) (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    found = refusal(path, check_strategy=check_strategy).problems
    told = {(problem.line, problem.column): f"{problem.path}: {problem.message}" for problem in found}
    assert sorted(told) == sorted((int(line), int(column)) for line, column, _ in expected), found
    assert len(found) == len(expected), found
    for line, column, fragment in expected:
        assert fragment in told[int(line), int(column)]
    assert all(problem.file == str(path) for problem in found)


def test_the_corpora_of_bad_mandates_and_of_examples_have_not_shrunk() -> None:
    assert len(list(BAD.glob("*.yaml"))) >= 90
    assert len(list(EXAMPLES.glob("*.yaml"))) >= 4


def test_all_problems_are_listed_by_line() -> None:
    error = refusal(GOOD.replace("20%", "20").replace("1h\n", "1\n").replace("share: 45%", "share: 55"), file="m.yaml")
    assert str(error).splitlines() == [
        "m.yaml:3:11 loss_cap: 20 is not a fraction; did you mean 20%?",
        "m.yaml:4:12 timeframe: 1 is not a duration; did you mean 1h?",
        "m.yaml:8:12 positions.btc.share: 55 is not a fraction; did you mean 55%?",
        "m.yaml:12:12 positions.eth.share: 55 is not a fraction; did you mean 55%?",
    ]


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    error = refusal(GOOD + "".join(f"zz{n}: 1\n" for n in range(150)))
    assert len(error.problems) == 150
    assert str(error).endswith("and 50 more")


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_mandates_are_sound_and_round_trip(path: Path) -> None:
    mandate = load_mandate(path)
    assert mandate.name == path.stem
    assert Mandate.from_canonical(mandate.canonical()) == mandate
    assert Mandate.from_canonical(mandate.canonical()).fingerprint == mandate.fingerprint


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_mandates_satisfy_the_schema_that_editors_use(path: Path) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "change",
    [("loss_cap", 20), ("loss_cap", "x"), ("timeframe", 12), ("mandate", "B C"), ("loss_cpa", 1), ("venue", None),
     ("positions", {}), ("venue", {"taker_fee": 0.05}), ("defaults", {"symbol": "BTC/USDT:USDT"})],
)  # fmt: skip
def test_the_schema_refuses_what_the_loader_refuses(change: tuple[str, Any]) -> None:
    tree = yaml.safe_load(GOOD)
    jsonschema.validate(tree, json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**tree, change[0]: change[1]}, json_schema())


def test_the_schema_offers_defaults_as_a_person_writes_them() -> None:
    schema = json_schema()
    assert schema["$defs"]["Position"]["properties"]["band"]["default"] == "10%"
    assert schema["$defs"]["Distance"]["properties"]["horizon"]["default"] == "8h"
    assert '"null"' not in json.dumps(schema)


def test_the_schema_knows_the_strategies_that_it_is_told_of() -> None:
    part = {
        "properties": {"leverage": {"$ref": "#/$defs/Lever"}},
        "required": ["leverage"],
        "$defs": {"Lever": {"type": "number"}},
    }
    schema = json_schema({"constant": part})
    jsonschema.Draft202012Validator.check_schema(schema)
    tree = yaml.safe_load(GOOD)
    del tree["positions"]["eth"]
    jsonschema.validate(tree, schema)
    for wrong in ({"name": "konstant"}, {"name": "constant"}, {"name": "constant", "leverage": "x"},
                  {"name": "constant", "leverage": 1, "levrage": 2}):  # fmt: skip
        tree["positions"]["btc"]["strategy"] = wrong
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tree, schema)


def test_silence_means_the_documented_defaults() -> None:
    mandate = load_mandate(GOOD)
    position = mandate.positions["btc"]
    assert mandate.title == "btc-eth"
    assert (position.leverage_max, position.volatility_max, position.band) == (5.0, 3.0, 0.1)
    assert (position.margin_call.at, position.margin_call.to) == (1.5, 3.0)
    assert (position.liquidation_distance_min.sigmas, position.liquidation_distance_min.horizon) == (4.0, 28_800_000)
    assert (mandate.volatility.estimator, mandate.volatility.half_life) == ("ewma", 43_200_000)
    assert mandate.limits.gross_leverage_max == 2.0
    assert mandate.venue.taker_fee is None


def test_a_position_overrides_the_defaults_key_by_key() -> None:
    defaults = "defaults: {band: 5%, leverage_max: 3, margin_call: {at: 2, to: 2.5}}\n"
    mandate = load_mandate(defaults + GOOD.replace("share: 45%\n", "share: 45%\n    margin_call: {at: 2}\n", 1))
    btc, eth = mandate.positions["btc"], mandate.positions["eth"]
    assert (btc.band, btc.leverage_max) == (eth.band, eth.leverage_max) == (0.05, 3.0)
    assert (btc.margin_call.at, btc.margin_call.to) == (2.0, 3.0)  # the key replaces the default's whole
    assert (eth.margin_call.at, eth.margin_call.to) == (2.0, 2.5)


def test_a_default_that_every_position_overrides_is_checked_all_the_same() -> None:
    error = refusal("defaults: {band: 70%}\n" + GOOD.replace("share: 45%\n", "share: 45%\n    band: 5%\n"))
    assert [(p.line, p.column, p.path) for p in error.problems] == [(1, 18, "defaults.band")]


SPELLINGS = [
    ("loss_cap: 20%", "loss_cap: 0.20"),
    ("loss_cap: 20%", "loss_cap: '0.2'"),
    ("timeframe: 1h", "timeframe: 60m"),
    ("target_volatility: 150%", "target_volatility: 1.50"),
    ("target_volatility: 150%", "target_volatility: 150.0%"),
    ("half_life: 12h", "half_life: 720m"),
    ("leverage: 2", "leverage: 2.0"),
    ("currency: USDT\nloss_cap: 20%", "loss_cap: 20%\ncurrency: USDT"),
    ("currency: USDT", "title: btc-eth\ncurrency: USDT"),
    ("currency: USDT", "currency: USDT\ndefaults: {band: 10%}"),
    ("currency: USDT", "currency: USDT\nvolatility: {half_life: 12h, window: 72h}"),
    ("currency: USDT", "currency: USDT # the dollar's shadow"),
]


@pytest.mark.parametrize(("written", "instead"), SPELLINGS)
def test_another_spelling_of_the_same_meaning_has_the_same_fingerprint(written: str, instead: str) -> None:
    assert written in GOOD
    assert load_mandate(GOOD.replace(written, instead)).fingerprint == load_mandate(GOOD).fingerprint


def test_the_order_of_the_positions_changes_nothing() -> None:
    head, btc, eth = re.split(r"^(?=  btc:|  eth:)", GOOD, flags=re.MULTILINE)
    turned = load_mandate(head + eth + btc)
    assert turned == load_mandate(GOOD)
    assert list(turned.positions) == list(load_mandate(GOOD).positions) == ["btc", "eth"]
    assert turned.fingerprint == load_mandate(GOOD).fingerprint


CHANGES = [
    ("mandate: btc-eth", "mandate: btc-ether"),
    ("currency: USDT", "title: other\ncurrency: USDT"),
    ("loss_cap: 20%", "loss_cap: 20.0001%"),
    ("timeframe: 1h", "timeframe: 2h"),
    ("share: 45%", "share: 44%"),
    ("leverage: 2", "leverage: 3"),
    ("leverage: 2", "leverage: '2'"),
    ("target_volatility: 150%", "target_volatility: 151%"),
    ("half_life: 12h", "half_life: 13h"),
    ("half_life: 12h", "halflife: 12h"),
    ("name: constant", "name: constants"),
    ("BTC/USDT:USDT", "SOL/USDT:USDT"),
    ("  btc:", "  bitcoin:"),
    ("currency: USDT", "currency: USDT\nlimits: {gross_leverage_max: 2.5}"),
    ("currency: USDT", "currency: USDT\nvenue: {taker_fee: 0.05%}"),
    ("currency: USDT", "currency: USDT\nvenue: {half_spread: 0.02%}"),
    ("currency: USDT", "currency: USDT\nvolatility: {estimator: parkinson}"),
    ("currency: USDT", "currency: USDT\nvolatility: {floor: 21%}"),
    ("currency: USDT", "currency: USDT\ndefaults: {band: 11%}"),
    ("currency: USDT", "currency: USDT\ndefaults: {volatility_max: 299%}"),
    ("currency: USDT", "currency: USDT\ndefaults: {liquidation_distance_min: {horizon: 9h}}"),
    ("currency: USDT", "currency: USDT\ndefaults: {margin_call: {at: 1.6}}"),
]


@pytest.mark.parametrize(("written", "instead"), CHANGES)
def test_another_meaning_has_another_fingerprint(written: str, instead: str) -> None:
    assert written in GOOD
    changed = load_mandate(GOOD.replace(written, instead, 1))
    assert changed.fingerprint != load_mandate(GOOD).fingerprint
    assert Mandate.from_canonical(changed.canonical()) == changed


@given(st.permutations(GOOD.split("positions:")[0].splitlines()), st.integers(1, 999_999))
def test_a_fingerprint_does_not_depend_on_key_order_or_on_how_a_percentage_is_written(
    lines: list[str], cap: int
) -> None:
    tail = "positions:" + GOOD.split("positions:")[1]
    percent, fraction = f"{cap // 10_000}.{cap % 10_000:04d}%", f"0.{cap:06d}"
    ordered = GOOD.replace("20%", percent, 1)
    shuffled = "\n".join(lines).replace("20%", fraction, 1) + "\n" + tail
    assert load_mandate(shuffled).loss_cap == cap
    assert load_mandate(shuffled).fingerprint == load_mandate(ordered).fingerprint


DAMAGED = ["", "{", "[]", '"x"', "{}", '{"mandate": "x"}', "[" * 100_000, "nul", '{"mandate": NaN}']


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:20])
def test_a_damaged_stored_mandate_is_refused_by_name(text: str) -> None:
    with pytest.raises(MandateError, match="stored mandate"):
        Mandate.from_canonical(text)


def test_a_stored_mandate_that_contradicts_itself_is_refused() -> None:
    stored = load_mandate(GOOD).canonical().replace('"share":"45%"', '"share":"60%"')
    with pytest.raises(MandateError, match="the shares sum to 120%"):
        Mandate.from_canonical(stored)


def test_a_section_made_in_python_checks_itself() -> None:
    with pytest.raises(ValidationError, match="2 is not above `at`, 3"):
        MarginCall.model_validate({"at": 3, "to": 2})


def test_strategy_terms_keep_their_types_and_unify_their_spelling() -> None:
    written = {"a": "60m", "b": "20.0%", "c": 1.0, "d": [True, "12h"], "e": {"f": "0.50%"}, "g": "x%", "h": ["50%"]}
    terms = StrategyTerms.model_validate({"name": "x", **written})
    unified = {"a": "1h", "b": "20%", "c": 1, "d": [True, "12h"], "e": {"f": "0.5%"}, "g": "x%", "h": ["50%"]}
    assert terms.parameters == unified
    assert terms.parameters["d"][0] is True
    assert terms.meaning == {"name": "x", **unified, "b": 0.2, "e": {"f": 0.005}, "h": [0.5]}


def test_the_checker_sees_what_the_strategy_will_get() -> None:
    seen: list[tuple[dict[str, Any], int | None]] = []

    def check(terms: dict[str, Any], timeframe: int | None) -> list[tuple[tuple[str | int, ...], str]]:
        seen.append((terms, timeframe))
        return []

    mandate = load_mandate(GOOD, check_strategy=check)
    assert seen == [({"name": p.strategy.name, **p.strategy.parameters}, 3_600_000) for p in mandate.positions.values()]
    seen.clear()
    refusal(GOOD.replace("1h", "soon"), check_strategy=check)
    assert [timeframe for _, timeframe in seen] == [None, None], "what its own check refuses is not known"


def test_instruments_may_come_from_elsewhere() -> None:
    bitcoin = replace(
        shipped().find("BTC/USDT:USDT"), tiers=(replace(shipped().find("BTC/USDT:USDT").tiers[0], leverage_max=4.0),)
    )
    error = refusal(GOOD, find=lambda symbol: bitcoin if symbol.startswith("BTC") else shipped().find(symbol))
    assert [(p.path, p.line, p.column) for p in error.problems] == [("positions.btc.leverage_max", 6, 3)]
    assert "5 is above 4" in str(error)


def test_a_resolver_pins_the_strategys_own_defaults_in_the_mandate() -> None:
    pinned = load_mandate(GOOD, resolve_strategy=lambda terms: {**terms, "window": "3d"})
    assert pinned.positions["btc"].strategy.parameters == {"leverage": 2, "window": "3d"}
    explicit = GOOD.replace("leverage: 2}", "leverage: 2, window: 3d}").replace(" 12h}", " 12h, window: 72h}")
    assert pinned.fingerprint == load_mandate(explicit).fingerprint


def test_limits_carry_every_number_in_the_kernels_units() -> None:
    more = (
        "    margin_call: {at: 1.25, to: 2.5}\n    liquidation_distance_min: {sigmas: 3, horizon: 1d, slippage: 2%}\n"
    )
    venue = "venue: {half_spread: 0.03%, slippage: 0.04%, taker_fee: 0.06%}\n"
    mandate = load_mandate(venue + GOOD.replace("share: 45%\n", "share: 40%\n" + more, 1))
    instruments = {symbol: shipped().find(symbol) for symbol in ("BTC/USDT:USDT", "ETH/USDT:USDT")}
    limits = compile_limits(mandate, instruments)
    assert limits.vaults["keep"].tolist() == [800_000]
    assert limits.vaults["gross_leverage_max"].tolist() == [2.0]
    row = dict(zip(POSITION_LIMITS.names or (), limits.positions[0].tolist(), strict=True))
    assert row == {
        "share": 400_000,
        "leverage_max": 5.0,
        "volatility_max": 3.0,
        "distance_sigmas": pytest.approx(3 * math.sqrt(1 / 365), rel=1e-15),
        "distance_slippage": 0.02,
        "band": 0.1,
        "call_at": 1_250_000,
        "call_to": 2_500_000,
        "half_spread": 0.0003,
        "slippage": 0.0004,
        "taker_fee": 600,
        "liquidation_fee": instruments["BTC/USDT:USDT"].liquidation_fee,
        "volume_share": 0.1,
    }
    assert limits.positions["share"].tolist() == [400_000, 450_000]


AT_WALL = [
    ("", ("hold", 0, 0, 0)),
    ("at_wall: wind_down\n", ("wind_down", 1, 0, 0)),
    ("at_wall: rebase\n", ("rebase", 2, 30 * 24, 7 * 24)),
    ("at_wall: {rebase: {after: 10d, notice: 1h}}\n", ("rebase", 2, 10 * 24, 1)),
    ("at_wall:\n  rebase:\n    notice: 3d\n", ("rebase", 2, 30 * 24, 3 * 24)),
]


@pytest.mark.parametrize(("written", "meant"), AT_WALL, ids=[written for written, _ in AT_WALL])
def test_what_a_locked_vault_does_is_one_word_or_a_rebase_with_its_times(
    written: str, meant: tuple[str, int, int, int]
) -> None:
    mandate = load_mandate(written + GOOD)
    instruments = {symbol: shipped().find(symbol) for symbol in ("BTC/USDT:USDT", "ETH/USDT:USDT")}
    row = compile_limits(mandate, instruments).vaults[0]
    hour = 3_600_000
    assert (mandate.at_wall.then, row.at_wall, row.rebase_after // hour, row.rebase_notice // hour) == meant
    assert row.timeframe == mandate.timeframe
    assert Mandate.from_canonical(mandate.canonical()) == mandate


AT_WALL_BAD = [
    ("at_wall: holdd", "1:10 at_wall: holdd is not known; did you mean hold?"),
    ("at_wall: {rebas: {after: 1d}}", "at_wall.rebas: unknown key; did you mean rebase?"),
    ("at_wall: {rebase: {aftr: 1d}}", "at_wall.rebase.aftr: unknown key; did you mean after?"),
    ("at_wall: {rebase: 7d}", "at_wall.rebase: 7d is no section"),
    ("at_wall: {rebase: {after: 0d}}", "at_wall.rebase.after: 0d is no length of time"),
    ("at_wall: {rebase: {notice: 30m}}",
     "at_wall.rebase.notice: 30m is shorter than the longest exit: an order to leave waits up to one slot, 1h; "
     "expected at least 1h"),
    ("at_wall: {then: hold, rebase: {after: 1d}}", "at_wall.rebase: a rebase is stated beside `hold`"),
    ("sweep: rol", "sweep: rol is not known; did you mean roll?"),
    ("venue: {volume_share: 0%}", "venue.volume_share: 0% is out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "told"), AT_WALL_BAD, ids=[written for written, _ in AT_WALL_BAD])
def test_terms_of_the_wall_that_cannot_be_kept_are_refused_in_their_place(written: str, told: str) -> None:
    assert told in str(refusal(f"{written}\n{GOOD}"))


def test_profit_is_rolled_unless_the_mandate_says_trim_and_a_bar_is_filled_by_a_tenth_unless_it_says_more() -> None:
    instruments = {symbol: shipped().find(symbol) for symbol in ("BTC/USDT:USDT", "ETH/USDT:USDT")}
    said = load_mandate(f"sweep: trim\nvenue: {{volume_share: 25%}}\n{GOOD}")
    for mandate, sweep, share in ((load_mandate(GOOD), 0, 0.1), (said, 1, 0.25)):
        limits = compile_limits(mandate, instruments)
        assert limits.vaults["sweep"].tolist() == [sweep]
        assert set(limits.positions["volume_share"].tolist()) == {share}


EXACT = [(1.5, 1_500_000), (0.000001, 1), (1.0000001, None), (1e-7, None), (100, 10**8)]


@pytest.mark.parametrize(("value", "exact"), EXACT)
def test_millionths_are_exact_or_refused(value: float, exact: int | None) -> None:
    assert millionths(value) == exact


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * 300_000)
    assert "is larger than 256 KiB" in str(refusal(large))


@example("mandate: x\npositions: {a: {b: [no]}}\ndefaults: {a: no}\n")
@example("positions:\n  a:\n    strategy: {name: [1]}\n")
@example("volatility: 3\nvenue: x\npositions: {1x: {symbol: 3}}")
@given(st.one_of(st.text(max_size=200), st.text(alphabet="abc:{}[]-?,'\"\n #&*!|>%@`0129.~<=", max_size=120)))
def test_no_text_raises_anything_but_the_named_error(text: str) -> None:
    with pytest.raises(MandateError) as caught:
        load_mandate(text)
    assert caught.value.problems


@given(st.data())
def test_a_mandate_with_one_value_replaced_by_anything_is_taken_or_refused_by_name(data: st.DataObject) -> None:
    tree = yaml.safe_load(GOOD)
    tree |= {"venue": {"name": "paper"}, "volatility": {"window": "3d"}, "limits": {}, "defaults": {"band": "5%"}}
    anything = st.recursive(
        st.one_of(st.integers(), st.text(max_size=8), st.booleans(), st.sampled_from(["20%", "12h", "-1%", "1e5"])),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
        max_leaves=4,
    )
    places = [((key,), tree) for key in tree] + [(("positions", "btc", key), tree) for key in tree["positions"]["btc"]]
    path, _ = data.draw(st.sampled_from(places))
    at = tree
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = data.draw(anything)
    try:
        load_mandate(json.dumps(tree), check_strategy=lambda *_: [])
    except MandateError as error:
        lines = [(problem.line, problem.column) for problem in error.problems]
        assert lines == sorted(lines)


def test_every_key_of_the_examples_can_be_located() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        lines = path.read_text(encoding="utf-8").splitlines()
        source = read_yaml(path.read_bytes(), str(path), DOCUMENT)
        for inner in (("loss_cap",), ("positions", "btc", "share"), ("positions", "btc", "symbol")):
            line, column = source.locate_key(inner)
            assert lines[line - 1][column - 1 :].startswith(str(inner[-1]))
