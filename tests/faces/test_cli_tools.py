"""check, schema, strategies and margin, as a person types them."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

from ringfence.faces.cli import opinions, tools
from ringfence.faces.cli.app import app
from ringfence.words.refusal import RingfenceError

assert tools
assert opinions  # for the commands that they add


MANDATE = """\
mandate: steady
currency: USDT
loss_cap: 20%
timeframe: 1h
positions:
  btc: {symbol: BTC/USDT:USDT, share: 50%, strategy: {name: constant, leverage: 2}}
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def refusal(*arguments: str) -> str:
    ended = run(*arguments)
    assert isinstance(ended.exception, RingfenceError), ended.output
    assert ended.stdout == ""
    return str(ended.exception)


def margin(*arguments: str) -> dict[str, str]:
    ended = run("margin", *arguments, "--json")
    assert ended.exit_code == 0, ended.output or ended.exception
    found: dict[str, str] = json.loads(ended.stdout)
    return found


def position(symbol: str, side: str, quantity: str, *rest: str) -> dict[str, str]:
    return margin("--symbol", symbol, "--side", side, "--quantity", quantity, "--entry", "50000", *rest)


# ---------------------------------------------------------------------------------------------------- margin


@pytest.mark.parametrize(
    ("side", "rest", "liquidated"),
    [
        ("long", ("--rate", "0.5%"), "45226.1307"),
        ("long", ("--rate", "0.5%", "--fee", "0.05%"), "45248.8688"),
        ("short", ("--rate", "0.5%"), "54726.3682"),
    ],
)
def test_one_bitcoin_with_a_tenth_posted_is_liquidated_at(side: str, rest: tuple[str, ...], liquidated: str) -> None:
    for symbol in ("BTC/USDT:USDT", "ANY/USDT:USDT", "whatever"):
        found = position(symbol, side, "1", "--margin", "5000", *rest)
        assert found["liquidation_price"] == liquidated


@pytest.mark.parametrize(
    ("side", "liquidated", "bankrupt"),
    [("long", "45681.8182", "45454.5455"), ("short", "55277.7778", "55555.5556")],
)
def test_sixty_thousand_inverse_dollars_at_ten_times(side: str, liquidated: str, bankrupt: str) -> None:
    for symbol in ("BTC/USD:BTC", "XBTUSD"):
        found = position(symbol, side, "60000", "--leverage", "10", "--rate", "0.5%", "--inverse")
        assert (found["liquidation_price"], found["bankruptcy_price"]) == (liquidated, bankrupt)
        assert found["margin"] == "0.12000000"


def test_the_tier_is_the_one_that_holds_the_notional_at_the_liquidation_price() -> None:
    found = position("BTC/USDT:USDT", "long", "40", "--leverage", "20")
    assert found["liquidation_price"] == "47786.8646"
    assert (found["tier_rate"], found["tier_deduction"]) == ("0.65%", "950.000000")
    assert (found["margin"], found["maintenance_margin"]) == ("100000.000000", "12050.000000")


def test_a_stated_deduction_moves_the_liquidation_price() -> None:
    """(50 000 - 5 000 - 100) / (1 - 0.01)"""
    found = position("X/USDT:USDT", "long", "1", "--margin", "5000", "--rate", "1%", "--amount", "100")
    assert found["liquidation_price"] == "45353.5354"
    assert found["maintenance_margin"] == "400.000000"


def test_the_mark_decides_what_it_is_worth_and_how_far_liquidation_is() -> None:
    found = position("BTC/USDT:USDT", "long", "1", "--margin", "5000", "--rate", "0.5%", "--mark", "47000")
    assert (found["open_profit"], found["equity"]) == ("-3000.000000", "2000.000000")
    assert found["leverage"] == "23.5000"
    assert float(found["liquidation_distance"]) == pytest.approx((47000 - 45226.1307) / 47000, abs=1e-6)


def test_a_long_of_less_than_one_times_is_never_liquidated() -> None:
    found = position("BTC/USDT:USDT", "long", "1", "--margin", "50000")
    assert (found["liquidation_price"], found["bankruptcy_price"], found["liquidation_distance"]) == (None, None, None)
    shown = run("margin", "--symbol", "BTC/USDT:USDT", "--side", "long", "--quantity", "1", "--entry", "50000",
                "--margin", "50000").stdout  # fmt: skip
    assert "none: no price reaches it" in shown


def test_a_position_past_its_liquidation_price_has_no_distance_left() -> None:
    found = position("BTC/USDT:USDT", "short", "1", "--margin", "5000", "--rate", "0.5%", "--mark", "60000")
    assert found["liquidation_distance"] == "0.000000"
    assert (found["equity"], found["leverage"]) == ("-5000.000000", None)


def test_prices_far_below_one_keep_their_figures() -> None:
    found = margin("--symbol", "PEPE/USDT:USDT", "--side", "long", "--quantity", "1000000", "--entry", "0.00001234",
                   "--leverage", "10", "--rate", "1%")  # fmt: skip
    assert float(found["liquidation_price"]) == pytest.approx(0.00001234 * 0.9 / 0.99, rel=1e-6)


def test_what_people_see_is_what_json_says() -> None:
    arguments = ("margin", "--symbol", "BTC/USDT:USDT", "--side", "long", "--quantity", "0.5", "--entry", "50000",
                 "--leverage", "10")  # fmt: skip
    shown, told = run(*arguments).stdout, json.loads(run(*arguments, "--json").stdout)
    for name in ("notional", "margin", "maintenance_margin", "liquidation_price", "bankruptcy_price"):
        assert told[name] in shown


BITCOIN = ("--symbol", "BTC/USDT:USDT", "--side", "long", "--entry", "50000")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*BITCOIN, "--quantity", "0.00155", "--leverage", "5"), "steps of 0.001 BTC; nearest: 0.001 and 0.002"),
        ((*BITCOIN, "--quantity", "0.0004", "--leverage", "5"), "nearest: 0.001"),
        ((*BITCOIN, "--quantity", "1"), "exactly one of the two"),
        ((*BITCOIN, "--quantity", "1", "--margin", "1", "--leverage", "1"), "exactly one of the two"),
        ((*BITCOIN, "--quantity", "1", "--leverage", "126"), "highest for this size is 100"),
        ((*BITCOIN, "--quantity", "1", "--leverage", "0"), "--leverage: 0 is out of range"),
        ((*BITCOIN, "--quantity", "0", "--leverage", "5"), "--quantity: 0 is not above 0"),
        ((*BITCOIN, "--quantity", "-1", "--leverage", "5"), "--quantity: -1 is below 0"),
        ((*BITCOIN, "--quantity", "NaN", "--leverage", "5"), "--quantity: NaN is not an amount"),
        ((*BITCOIN, "--quantity", "1e400", "--leverage", "5"), "has an exponent"),
        ((*BITCOIN, "--quantity", "900000000", "--leverage", "1"), "is too large"),
        ((*BITCOIN, "--quantity", "1", "--margin", "0.000000000001"), "has 12 decimals; at most 6"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--mark", "0"), "--mark: 0 is not above 0"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--amount", "1"), "belongs to --rate"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--rate", "5"), "did you mean 5%?"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--rate", "0%"), "--rate: 0% is out of range"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--fee", "0.05"), "did you mean 0.05%?"),
        ((*BITCOIN, "--quantity", "1", "--margin", "5", "--inverse"), "is linear; inverse are: BTC/USD:BTC"),
        (("--symbol", "BTCUSDT", "--side", "long", "--entry", "1", "--quantity", "1", "--margin", "1"),
         "did you mean BTC/USDT:USDT?"),
        (("--symbol", "BTC/USDT:USDT", "--side", "up", "--entry", "1", "--quantity", "1", "--margin", "1"),
         "--side up: expected long or short"),
    ],
)  # fmt: skip
def test_what_the_calculator_cannot_mean_is_refused(arguments: tuple[str, ...], told: str) -> None:
    assert told in refusal("margin", *arguments)


# ---------------------------------------------------------------------------------------------------- check


def test_the_shipped_mandates_are_clean_and_each_is_said_in_a_line(project: Path) -> None:
    ended = run("check", str(project / "mandates"))
    lines = [line for line in ended.stdout.splitlines() if not line.startswith("warning: ")]
    assert ended.exit_code == 0
    told = dict(line.split(":", 1) for line in lines)
    assert list(told) == [file.stem for file in sorted((project / "mandates").glob("*.yaml"))]
    assert "wall 20% below the highest price struck" in told["btc-eth-shield"]
    assert "BTC/USDT:USDT (45% of the risk capital, vol_target, at most 5× that)" in told["btc-eth-shield"]


def test_every_fault_has_its_file_line_and_column(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(MANDATE.replace("loss_cap: 20%", "loss_cap: 20").replace("leverage: 2", "levrage: 2"))
    second.write_text(MANDATE.replace("BTC/USDT:USDT", "BTC/USDT"))
    ended = run("check", str(tmp_path))
    assert ended.exit_code == 1
    places = [line.split()[0] for line in ended.stdout.splitlines()]
    assert f"{first}:3:11" in places
    assert any(place.startswith(f"{first}:6:") for place in places)
    assert any(place.startswith(f"{second}:6:") for place in places)
    assert "did you mean 20%?" in ended.stdout
    assert "did you mean leverage?" in ended.stdout
    assert "did you mean BTC/USDT:USDT?" in ended.stdout


def test_a_strategy_that_cannot_see_with_the_mandates_bars_is_told_where(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    slow = "{name: vol_target, target_volatility: 50%, half_life: 12h, window: 3h}"
    file.write_text(MANDATE.replace("{name: constant, leverage: 2}", slow).replace("timeframe: 1h", "timeframe: 4h"))
    ended = run("check", str(file))
    assert ended.exit_code == 1
    assert "window of 3h is too short for bars of 4h" in ended.stdout
    assert ended.stdout.startswith(f"{file}:6:")


def test_two_mandates_of_one_name_are_told_at_both_places(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(MANDATE)
    found = json.loads(run("check", str(tmp_path), "--json").stdout)["problems"]
    assert [Path(problem["file"]).name for problem in found] == ["a.yaml", "b.yaml"]


def test_check_as_json_says_what_a_clean_mandate_means(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANDATE)
    found = json.loads(run("check", str(tmp_path), "--json").stdout)
    assert found["problems"] == []
    assert found["mandates"][0]["loss_cap"] == "20%"
    assert found["mandates"][0]["positions"]["btc"]["strategy"] == "constant"


# ------------------------------------------------------------------------------------------ schema and strategies


def test_the_schema_takes_the_shipped_mandates_and_not_a_misspelt_one(project: Path) -> None:
    schema = json.loads(run("schema").stdout)
    checker = jsonschema.Draft202012Validator(schema)
    for file in sorted((project / "mandates").glob("*.yaml")):
        assert list(checker.iter_errors(yaml.safe_load(file.read_text()))) == []
    wrong = yaml.safe_load(MANDATE.replace("leverage: 2", "levrage: 2"))
    assert list(checker.iter_errors(wrong))


def test_the_schema_can_be_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mandate.schema.json"
    ended = run("schema", "--output", str(file))
    assert (ended.exit_code, ended.stdout) == (0, "")
    assert json.loads(file.read_text()) == json.loads(run("schema").stdout)
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_strategies_are_listed_with_parameters_units_bounds_and_defaults() -> None:
    shown = run("strategies").stdout
    for word in ("vol_target", "target_volatility", "half_life", "duration", "required", "at most", "default"):
        assert word in shown
    listed = {strategy["name"]: strategy for strategy in json.loads(run("strategies", "--json").stdout)}
    parameters = {parameter["name"]: parameter for parameter in listed["vol_target"]["parameters"]}
    assert parameters["target_volatility"]["required"] is True
    assert parameters["side"]["default"] == "long"
