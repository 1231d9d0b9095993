"""Python's face: a handful of lazy names, runs from files and from objects, frames, and refusals with a way out."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ringfence
from ringfence.faces.errors import InputRefused, PandasMissing
from ringfence.faces.library import Result
from ringfence.markets.errors import InvalidBars, MisalignedMarket, UnknownScenario, UnreadableFile
from ringfence.markets.market import Funding
from ringfence.runtime.errors import NoBars
from ringfence.vaults.errors import MandateError
from tests.reference.commands import run

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
HOUR = 3_600_000
HEAVY = ("numpy", "numba", "pydantic", "sqlalchemy", "pandas", "typer", "celery", "ringfence.words")
FINGERPRINTS = {
    "btc-constant": "5a6e2965be96a17f2446b568b16e1170dab47c1d126e1264f2e005124f0d688f",
    "btc-distance": "7d8aca8cea76d5691a64476d89fccc4384891e9497ad9e4d7f37d756325eb698",
    "btc-eth-shield": "a0fb4c08eb5652e5192a5908cef1aeed9c476c59f7dc928c0a772daf83d3a535",
    "majors-trend": "fd2f0684ce0f3569e9eedf583769eb9f62c1b8bbdbd36ef9f923bfa21624124b",
}
"""Of the shipped mandates; they move only with what a mandate says."""


def fresh(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own."""
    told = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=told, timeout=120)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two hundred hours of the shipped scenario as CSV files: bars by symbol, and bitcoin's funding."""
    folder = tmp_path_factory.mktemp("series")
    history = ringfence.scenario("2020-03")
    written = {}
    for symbol, bars in history.bars.items():
        written[symbol] = folder / f"{symbol[:3].lower()}.csv"
        columns = zip(bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True)
        rows = [",".join(str(cell) for cell in row) for row in [*columns][:200]]
        written[symbol].write_text("\n".join(["ts,open,high,low,close,volume", *rows]) + "\n")
    written["funding"] = folder / "funding.csv"
    stamps = "\n".join(f"{int(history.bars[BTC].ts[0]) + 8 * HOUR * n},0.0001" for n in range(25))
    written["funding"].write_text(f"ts,funding_rate\n{stamps}\n")
    return written


@pytest.fixture(scope="module")
def constant(project: Path) -> Path:
    return project / "tests" / "reference" / "mandates" / "btc-constant.yaml"


@pytest.fixture(scope="module")
def shield(project: Path) -> Result:
    deposits = {"alice": "50000", "bob": Decimal("25000.000001")}
    return ringfence.backtest(
        project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml", scenario="2020-03", deposits=deposits
    )


# ---------------------------------------------------------------------------------------------------- names


def test_importing_the_package_loads_nothing_heavy() -> None:
    done = fresh(f"import sys, ringfence; dir(ringfence); print([name for name in {HEAVY} if name in sys.modules])")
    assert done.stdout == "[]\n", done.stderr


def test_a_strategys_author_loads_no_database_and_no_queue() -> None:
    done = fresh(
        "import sys\nfrom ringfence import Bars, Duration, Fraction, Multiple, Proposal, Rate, Strategy, check_causal\n"
        "print([name for name in ('sqlalchemy', 'celery', 'typer', 'pandas') if name in sys.modules])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_every_name_is_there_and_stands_where_editors_and_mypy_are_told_that_it_stands() -> None:
    tree = ast.parse(Path(ringfence.__file__).read_text(encoding="utf-8"))
    (told,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    places = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted([*places, "__version__"]) == sorted(ringfence.__all__) == dir(ringfence)
    for name, (module, attribute) in places.items():
        assert module is not None
        assert getattr(ringfence, name) is getattr(sys.modules[module], attribute), name


def test_the_docstring_names_every_name() -> None:
    assert set(ringfence.__all__) <= set(re.findall(r"\w+", ringfence.__doc__ or ""))


def test_the_version_is_the_distributions_and_an_unknown_name_is_no_attribute(project: Path) -> None:
    assert f'version = "{ringfence.__version__}"' in (project / "pyproject.toml").read_text()
    with pytest.raises(AttributeError, match="module 'ringfence' has no attribute 'back_test'"):
        ringfence.back_test  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'back_test'"):
        exec("from ringfence import back_test")


# ---------------------------------------------------------------------------------------------------- mandates


def test_the_shipped_mandates_keep_the_fingerprints_that_they_had(project: Path) -> None:
    found = ringfence.load_mandates(project / "mandates")
    assert {mandate.name: mandate.fingerprint for mandate in found} == FINGERPRINTS
    each = [ringfence.load_mandate(project / "mandates" / f"{name}.yaml") for name in FINGERPRINTS]
    assert [mandate.fingerprint for mandate in each] == [*FINGERPRINTS.values()]


def test_a_mandate_is_checked_against_the_strategies_that_are_installed(constant: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(constant.read_text().replace("name: constant", "name: constnat"))
    with pytest.raises(MandateError, match=r"wrong.yaml:17:\d+ .*did you mean constant\?"):
        ringfence.load_mandate(wrong)
    with pytest.raises(InputRefused, match="holds 4 mandates; name one file, or use load_mandates"):
        ringfence.load_mandate(constant.parent)


# ---------------------------------------------------------------------------------------------------- runs


def test_files_and_loaded_objects_give_the_same_run(constant: Path, files: dict[str, Path]) -> None:
    from_files = ringfence.backtest(
        str(constant),
        {BTC: str(files[BTC])},
        marks={BTC: files[BTC]},
        funding={BTC: files["funding"]},
        deposits={"alice": "50000"},
    )
    bars = ringfence.read_bars(files[BTC], BTC)
    from_objects = ringfence.backtest(
        ringfence.load_mandate(constant),
        {BTC: bars},
        marks={BTC: bars},
        funding={BTC: ringfence.read_funding(files["funding"], BTC)},
        deposits={"alice": Decimal("5E+4")},
    )
    assert len(from_files.ts) == 200
    assert from_files.digest == from_objects.digest
    assert from_files.digest != ringfence.backtest(constant, {BTC: bars}, deposits={"alice": "50000"}).digest


def test_it_is_the_run_of_the_command_line(project: Path, shield: Result) -> None:
    words = ["backtest", "tests/reference/mandates/btc-eth-shield.yaml", "--scenario", "2020-03", "--json"]
    deposits = ["--deposit", "alice=50000", "--deposit", "bob=25000.000001"]
    done = run(*words, *deposits, cwd=project)
    told = json.loads(done.stdout)
    assert (told["digest"], told["vaults"]) == (shield.digest, [shield.summary()])


def test_a_replay_into_a_file_ends_on_the_digest_of_the_back_test_and_goes_on_where_it_stands(
    constant: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    bars = {BTC: ringfence.read_bars(files[BTC], BTC)[:90]}
    expected = ringfence.backtest(constant, bars, deposits={"alice": "50000"})
    for _ in range(2):
        lived = ringfence.replay(constant, bars, into=tmp_path / "crash.db", deposits={"alice": "50000"})
        assert lived.digest == expected.digest
    assert [*tmp_path.glob("crash.db")]
    assert lived.frame().equals(expected.frame())


def test_a_replay_goes_into_the_database_of_an_address(
    constant: Path, files: dict[str, Path], database_url: str
) -> None:
    bars = {BTC: ringfence.read_bars(files[BTC], BTC)[:75]}
    lived = ringfence.replay(constant, bars, into=database_url, deposits={"alice": "50000"})
    assert lived.digest == ringfence.backtest(constant, bars, deposits={"alice": "50000"}).digest


def test_without_deposits_the_default_pays_in_and_with_none_the_vault_is_empty(
    constant: Path, files: dict[str, Path]
) -> None:
    assert set(ringfence.backtest(constant, {BTC: files[BTC]}).shares.tolist()) == {100_000 * 10**9}
    empty = ringfence.backtest(constant, {BTC: files[BTC]}, deposits={})
    assert empty.frame()[["nav_per_share", "high_water_mark"]].isna().all(axis=None)
    assert empty.summary()["nav_per_share"] is None


# ---------------------------------------------------------------------------------------------------- results


def test_the_arrays_are_integers_and_the_frame_shows_them_in_units_of_a_person(shield: Result) -> None:
    frame = shield.frame()
    for column in (shield.nav, shield.wall, shield.shares, shield.high_water_mark):
        assert column.dtype == np.int64
    assert frame["nav"].iloc[0] == 75000.000001
    assert frame["shares"].iloc[0] == 75000.000001
    assert np.array_equal(np.rint(frame["nav"] * 10**6).astype(np.int64), shield.nav)
    assert frame["nav_per_share"].iloc[-1] == pytest.approx(float(shield.summary()["nav_per_share"]), rel=1e-11)
    assert frame["high_water_mark"].iloc[-1] == pytest.approx(float(shield.summary()["high_water_mark"]), rel=1e-11)
    assert (frame["nav"] >= frame["wall"]).all()
    assert (frame["nav_per_share_low"] <= frame["nav_per_share"] * (1.0 + 1e-12)).all()
    assert frame["locked"].dtype == np.bool_


def test_a_result_has_the_figures_of_the_run(shield: Result) -> None:
    assert shield.figures is not None
    told = shield.summary()["figures"]
    assert told["vault"]["total_return"] == shield.figures.vault.performance.total_return
    assert told["vault"]["total_return"] == pytest.approx(shield.nav[-1] / 75_000_000_001 - 1.0)
    assert told["buy_and_hold"]["n"] == told["plain_cppi"]["n"] == len(shield.nav)


def test_the_frames_index_is_the_close_of_each_slot_in_utc(shield: Result) -> None:
    frame = shield.frame()
    assert (frame.index.name, str(frame.index.tz)) == ("close", "UTC")
    assert frame.index[0].isoformat() == "2020-03-01T01:00:00+00:00"
    assert [stamp.value // 10**6 for stamp in frame.index] == shield.ts.tolist()


def test_each_position_has_its_columns_and_what_does_not_exist_is_nan(shield: Result) -> None:
    frame = shield.frame()
    series = ("quantity", "leverage", "effective_leverage", "price", "proposed", "allowed", "volatility",
              "liquidation_distance", "bound")  # fmt: skip
    of_vault = ["nav", "wall", "shares", "high_water_mark", "nav_per_share", "nav_per_share_low", "locked", "struck"]
    assert [*frame.columns[:8]] == of_vault
    assert [*frame.columns[8:]] == [f"{name}.{column}" for name in ("btc", "eth") for column in series]
    bitcoin = shield.positions["btc"]
    assert np.array_equal(frame["btc.quantity"], [float(Decimal(int(n)) / 1000) for n in bitcoin.quantity])
    assert frame["btc.leverage"].isna().tolist() == (bitcoin.quantity == 0).tolist()
    assert frame["btc.leverage"].isna().any()
    assert frame["btc.leverage"].dropna().tolist() == bitcoin.leverage.compressed().tolist()
    assert frame["btc.proposed"].isna().tolist() == np.ma.getmaskarray(bitcoin.proposed).tolist()
    assert frame["btc.bound"].iloc[0] == "no_proposal"


def test_a_price_that_is_not_known_yet_is_nan(project: Path, files: dict[str, Path]) -> None:
    bars = {symbol: ringfence.read_bars(files[symbol], symbol) for symbol in (BTC, ETH)}
    bars[ETH] = bars[ETH][5:]
    run = ringfence.backtest(project / "tests" / "reference" / "mandates" / "btc-eth-shield.yaml", bars)
    assert run.frame()["eth.price"].isna().tolist() == [True] * 5 + [False] * 195


def test_events_name_what_happened_and_the_repr_is_one_line(shield: Result) -> None:
    assert {event.kind.name for event in shield.events} >= {"resize", "funding"}
    assert re.fullmatch(r"<Result of btc-eth-shield: 743 decisions, digest [0-9a-f]{12}>", repr(shield))


def test_without_pandas_a_run_works_and_a_frame_is_refused(constant: Path, files: dict[str, Path]) -> None:
    program = f"""
import sys
sys.modules["pandas"] = None
import ringfence
run = ringfence.backtest({str(constant)!r}, {{{BTC!r}: {str(files[BTC])!r}}})
try:
    run.frame()
except ringfence.RingfenceError as refusal:
    print(type(refusal).__name__, len(run.nav), refusal)
"""
    done = fresh(program)
    expected = f"{PandasMissing.__name__} 200 a frame needs pandas, which is not installed; pip install ringfence"
    assert done.stdout.startswith(expected), done.stderr


# ---------------------------------------------------------------------------------------------------- refusals


REFUSED: list[tuple[str, type[Exception], str, Callable[[Any, Any], dict[str, Any]]]] = [
    ("a float amount", InputRefused, 'deposits alice: 0.1 is of type float; write amounts .* as text or Decimal: "0.1"',
     lambda bars, file: {"bars": bars, "deposits": {"alice": 0.1}}),
    ("an integer amount", InputRefused, 'deposits alice: 5 is of type int; write amounts .* as text or Decimal: "5"',
     lambda bars, file: {"bars": bars, "deposits": {"alice": 5}}),
    ("numpy's float", InputRefused, 'is of type float64; write amounts .* as text or Decimal: "1.5"',
     lambda bars, file: {"bars": bars, "deposits": {"alice": np.float64(1.5)}}),
    ("an amount below 0", InputRefused, "deposits alice: -5 is below 0",
     lambda bars, file: {"bars": bars, "deposits": {"alice": Decimal(-5)}}),
    ("no number", InputRefused, "deposits alice: NaN is not an amount",
     lambda bars, file: {"bars": bars, "deposits": {"alice": Decimal("NaN")}}),
    ("an endless number", InputRefused, "deposits alice: .* has an exponent",
     lambda bars, file: {"bars": bars, "deposits": {"alice": Decimal("1E+999999999")}}),
    ("too many decimals", InputRefused, "deposits alice: 0.0000001 has 7 decimals; at most 6",
     lambda bars, file: {"bars": bars, "deposits": {"alice": "0.0000001"}}),
    ("no bars", NoBars, "no bars of BTC/USDT:USDT", lambda bars, file: {}),
    ("a symbol that is not traded", InputRefused, "bars ETH/USDT:USDT: no mandate here trades it",
     lambda bars, file: {"bars": {**bars, ETH: file}}),
    ("one file for all", InputRefused, r"bars: is a str; expected series by symbol, \{'BTC/USDT:USDT': FILE\}",
     lambda bars, file: {"bars": str(file)}),
    ("a table of another library", InputRefused, r"is a list; expected a file, several in a list, or .*\.read_bars",
     lambda bars, file: {"bars": {BTC: [1.0]}}),
    ("bars as funding", InputRefused, r"is a Bars; expected a file, several in a list, or what ringfence.read_funding",
     lambda bars, file: {"bars": bars, "funding": bars}),
    ("another symbol's bars", InputRefused, "are those of ETH/USDT:USDT; give them under their own symbol",
     lambda bars, file: {"bars": {BTC: replace(bars[BTC], symbol=ETH)}}),
    ("bars and a scenario", InputRefused, "bars BTC/USDT:USDT: a scenario brings its own",
     lambda bars, file: {"bars": bars, "scenario": "2020-03"}),
    ("an unknown scenario", UnknownScenario, "did you mean 2020-03", lambda bars, file: {"scenario": "2020-3"}),
    ("no such file", UnreadableFile, "no such file", lambda bars, file: {"bars": {BTC: "absent.csv"}}),
    ("bars of no order", InvalidBars, "timestamp out of order",
     lambda bars, file: {"bars": {BTC: replace(bars[BTC], ts=bars[BTC].ts[::-1])}}),
    ("marks of another time", MisalignedMarket, "expected marks of the bars' own time",
     lambda bars, file: {"bars": bars, "marks": {BTC: replace(bars[BTC], ts=bars[BTC].ts + 10**12 // HOUR * HOUR)}}),
    ("funding of no order", ringfence.RingfenceError, "stamp duplicate or out of order",
     lambda bars, file: {"bars": bars, "funding": {BTC: Funding(BTC, bars[BTC].ts[:1].repeat(2), np.zeros(2))}}),
]  # fmt: skip


@pytest.mark.parametrize(("error", "told", "given"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_used_is_refused_with_a_way_out(
    constant: Path, files: dict[str, Path], error: type[Exception], told: str, given: Callable[[Any, Any], Any]
) -> None:
    bars = {BTC: ringfence.read_bars(files[BTC], BTC)}
    with pytest.raises(error, match=told) as refusal:
        ringfence.backtest(constant, **given(bars, files[ETH]))
    assert isinstance(refusal.value, ringfence.RingfenceError)


def test_a_scenario_without_the_mandates_symbol_says_what_to_give_instead(constant: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(constant.read_text().replace(BTC, "SOL/USDT:USDT"))
    with pytest.raises(
        InputRefused, match=r"scenario 2020-03: has no prices of SOL.* Use bars=\{symbol: file\} instead"
    ):
        ringfence.backtest(other, scenario=ringfence.scenario("2020-03"))


@pytest.mark.parametrize("into", ["", " ", "a\0b"])
def test_a_replay_into_nowhere_is_refused(constant: Path, into: str) -> None:
    with pytest.raises(InputRefused, match=r"into .*expected FILE, sqlite:///FILE or postgresql://"):
        ringfence.replay(constant, scenario="2020-03", into=into)


# ---------------------------------------------------------------------------------------------------- documents


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("document", ["README.md", "examples/ringfence-mean-reversion/README.md"])
def test_the_python_in_the_documents_runs_as_it_stands(
    project: Path, files: dict[str, Path], tmp_path: Path, document: str
) -> None:
    """In a folder with the example mandates and a bars.csv, with the example package at hand."""
    shutil.copytree(project / "mandates", tmp_path / "mandates")
    shutil.copy(files[BTC], tmp_path / "bars.csv")
    found = blocks((project / document).read_text(encoding="utf-8"))
    assert found
    paths = os.pathsep.join((str(project), str(project / "examples" / "ringfence-mean-reversion")))
    for program in found:
        command = [sys.executable, "-W", "error", "-c", program]
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{program}\n{done.stderr}"
