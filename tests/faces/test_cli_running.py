"""backtest, replay and demo through the console script: the same figures from both drivers, and what they print."""

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringfence.faces.cli.app import program
from ringfence.faces.demo import example_mandates, fresh_database
from ringfence.faces.errors import DemoRefused
from ringfence.faces.inputs import prepare
from ringfence.faces.queries import statement_rows
from ringfence.faces.report.statements import statements_of_run
from ringfence.markets.scenarios import scenario
from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import lock_vault, open_engine, unit_of_work
from tests.reference.commands import SCRIPT, run

SCENARIO = ("--scenario", "2020-03")
DEPOSITS = ("--deposit", "alice=50000", "--deposit", "bob=25000.000001")
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT")


def document(*arguments: str | Path) -> Any:
    ended = run(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def mandates(project: Path) -> Path:
    return project / "mandates"


@pytest.fixture(scope="module")
def shield(mandates: Path) -> Path:
    return mandates / "btc-eth-shield.yaml"


def both(mandates: Path) -> tuple[Path, Path]:
    return mandates / "btc-eth-shield.yaml", mandates / "majors-trend.yaml"


@pytest.fixture(scope="module")
def replayed(mandates: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    """Two mandates over the scenario: the folder, the JSON document, and what stood on standard error."""
    folder = tmp_path_factory.mktemp("replay")
    arguments = (
        "replay",
        *both(mandates),
        *SCENARIO,
        *DEPOSITS,
        "--db",
        folder / "r.db",
        "--report",
        folder / "r.html",
    )
    ended = run(*arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return folder, json.loads(ended.stdout), ended.stderr


@pytest.fixture(scope="module")
def tested(mandates: Path) -> Any:
    return document("backtest", *both(mandates), *SCENARIO, *DEPOSITS)


def test_both_drivers_print_the_same_document(replayed: tuple[Path, Any, str], tested: Any) -> None:
    assert replayed[1] == tested
    assert [vault["vault"] for vault in tested["vaults"]] == ["btc-eth-shield", "majors-trend"]
    assert re.fullmatch(r"[0-9a-f]{64}", tested["digest"])


def test_the_document_has_every_figure_and_amounts_as_texts(tested: Any) -> None:
    vault = tested["vaults"][0]
    texts = ("nav_per_share", "nav_per_share_low", "high_water_mark", "wall", "wall_distance_low", "shortfall", "nav")
    assert all(isinstance(vault[name], str) for name in texts)
    assert all(isinstance(vault[name], int) for name in ("resizes", "margin_calls", "liquidations", "refusals"))


def test_a_finished_replay_run_again_changes_nothing(replayed: tuple[Path, Any, str], mandates: Path) -> None:
    folder, found, _ = replayed
    again = document("replay", *both(mandates), *SCENARIO, *DEPOSITS, "--db", folder / "r.db")
    assert again | {"notes": found["notes"]} == found
    untaken = [note for note in again["notes"] if note not in found["notes"]]
    assert len(untaken) == 4, "two holders of two vaults"
    assert all("was taken by an earlier replay and is not taken again" in note for note in untaken)


def test_progress_stands_on_standard_error_one_line_a_vault(replayed: tuple[Path, Any, str]) -> None:
    assert replayed[2].splitlines() == [f"{vault['vault']}: {vault['slots']} slots" for vault in replayed[1]["vaults"]]


def test_the_report_tells_the_holders_what_the_register_says(replayed: tuple[Path, Any, str], mandates: Path) -> None:
    page = (replayed[0] / "r.html").read_text()
    inputs = prepare(both(mandates), scenario_name="2020-03", deposits=("alice=50000", "bob=25000.000001"))
    engine = open_engine(f"sqlite:///{replayed[0] / 'r.db'}", create=False)
    for compiled, market in inputs.vaults:
        run = backtest(compiled, market, inputs.deposits)
        expected = statements_of_run(run, inputs.deposits)
        with unit_of_work(engine, writes=False) as connection:
            booked = statement_rows(connection, lock_vault(connection, run.vault))
        assert [astuple(row) for row in booked] == [astuple(row) for row in expected]
        assert run.title in page
    engine.dispose()
    assert "alice" in page


def test_a_back_test_writes_a_report_too(shield: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    ended = run("backtest", shield, *SCENARIO, *DEPOSITS, "--report", report)
    assert ended.returncode == 0, ended.stderr
    assert str(report) in ended.stdout
    assert "bob" in report.read_text()


def test_without_a_deposit_a_default_is_taken_and_said(shield: Path) -> None:
    ended = run("backtest", shield, *SCENARIO, "--json")
    assert "depositor=100000" in ended.stderr
    assert json.loads(ended.stdout) == document("backtest", shield, *SCENARIO, "--deposit", "depositor=100000")


def test_people_see_the_figures_of_the_document(shield: Path, tested: Any) -> None:
    shown, exact = (run("backtest", shield, *SCENARIO, *DEPOSITS, *more).stdout for more in ((), ("--exact",)))
    vault = next(each for each in tested["vaults"] if each["vault"] == "btc-eth-shield")
    assert f"{float(vault['nav']):,.2f}" in shown
    assert f"{float(vault['nav']):,.6f}" in exact
    assert str(vault["resizes"]) in shown
    for words in ("buy and hold", "plain CPPI", "Sharpe ratio", "deepest drawdown", "a year = 365 days"):
        assert words in shown
    assert max(len(line) for line in shown.splitlines() if not line.startswith("Every formula")) <= 80


def written(folder: Path, symbol: str, suffix: str = "csv") -> str:
    """The scenario's bars of a symbol as a file, as `SYMBOL=FILE`."""
    bars = scenario("2020-03").market.bars(SYMBOLS.index(symbol))
    file = folder / f"{symbol[:3]}.{suffix}"
    with file.open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(("ts", "open", "high", "low", "close", "volume"))
        columns = (bars.ts, bars.open, bars.high, bars.low, bars.close, bars.volume)
        lines.writerows(zip(*(column.tolist() for column in columns), strict=True))
    return f"{symbol}={file}"


def rates(folder: Path, symbol: str) -> str:
    funding = scenario("2020-03").funding[symbol]
    file = folder / f"{symbol[:3]}-funding.csv"
    rows = "".join(f"{ts},{rate!r}\n" for ts, rate in zip(funding.ts.tolist(), funding.rate.tolist(), strict=True))
    file.write_text("ts,funding_rate\n" + rows)
    return f"{symbol}={file}"


def test_files_and_scenario_of_the_same_figures_give_the_same_digest(shield: Path, tmp_path: Path) -> None:
    given: list[str] = []
    for symbol in reversed(SYMBOLS):
        given += ["--bars", written(tmp_path, symbol)]
    given += ["--funding", rates(tmp_path, SYMBOLS[0])]
    assert document("backtest", shield, *given, *DEPOSITS) == document("backtest", shield, *SCENARIO, *DEPOSITS)


def test_marks_change_where_positions_are_liquidated(shield: Path, tmp_path: Path) -> None:
    """Marks that equal the last price change nothing; marks a tenth lower change the run."""
    given = [part for symbol in SYMBOLS for part in ("--bars", written(tmp_path, symbol))]
    plain = document("backtest", shield, *given, *DEPOSITS)
    same = document("backtest", shield, *given, *DEPOSITS, "--mark", written(tmp_path, SYMBOLS[0], "mark.csv"))
    assert same["digest"] == plain["digest"]
    mark = tmp_path / "low.csv"
    lines = (tmp_path / "BTC.csv").read_text().splitlines()
    lower = [",".join([ts, *(repr(float(x) * 0.97) for x in prices), "0"]) for ts, *prices, _ in
             (line.split(",") for line in lines[1:])]  # fmt: skip
    mark.write_text("\n".join([lines[0], *lower]) + "\n")
    other = document("backtest", shield, *given, *DEPOSITS, "--mark", f"{SYMBOLS[0]}={mark}")
    assert other["digest"] != plain["digest"]


def test_the_back_test_loads_no_database_and_no_queue(shield: Path) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['ringfence', 'backtest', {str(shield)!r}, '--scenario', '2020-03', '--json']\n"
        "from ringfence.faces.cli import main\n"
        "try: main()\n"
        "finally: print(sorted(set(sys.modules) & {'sqlalchemy', 'sqlmodel', 'celery', 'plotly', 'pandas', 'rich'}),"
        " file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1] == "[]"


def test_a_terminal_shows_a_bar_with_slots_worth_and_time_to_go(mandates: Path, tmp_path: Path) -> None:
    reading, writing = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    trend = mandates / "majors-trend.yaml"
    arguments = ("replay", trend, *SCENARIO, *DEPOSITS, "--db", tmp_path / "x.db", "--json")
    process = subprocess.Popen([SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=writing, env=environment, text=True)
    os.close(writing)
    drawn = b""
    with contextlib.suppress(OSError):  # what a terminal says when the other side has gone
        while chunk := os.read(reading, 65536):
            drawn += chunk
    os.close(reading)
    told, _ = process.communicate()
    assert json.loads(told)["vaults"][0]["vault"] == "majors-trend"
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())
    assert re.search(r"majors-trend .*[0-9]+/31 slots +NAV [0-9,]+ USDT +[0-9-]{2}:[0-9-]{2}", screen)


# ---------------------------------------------------------------------------------------------------- demo


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo")
    ended = run("demo", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder, ended.stdout


def test_the_demo_tells_worth_walls_events_and_statements(demo: tuple[Path, str]) -> None:
    folder, told = demo
    for words in ("What the vaults were worth", "its wall", "refusals", "resizes, by cause", "The 15 largest",
                  "statements", "alice", "bob", "carol", "0 breaches", "out/demo/report.html", "Try next"):  # fmt: skip
        assert words in told, words
    assert (folder / "out/demo/report.html").stat().st_size > 100_000


def test_the_demo_tells_every_margin_call_liquidation_and_refusal_with_its_cause(demo: tuple[Path, str]) -> None:
    folder, told = demo
    rare = [part for kind in ("margin_call", "liquidation", "refusal") for part in ("--kind", kind)]
    found = document("events", *rare, "--db", folder / "out/demo/ringfence.db")
    assert told.count("    cause: ") == len(found)


def test_the_commands_that_the_demo_proposes_work(demo: tuple[Path, str]) -> None:
    folder, told = demo
    proposed = [line.split()[1:] for line in told.splitlines() if line.startswith("  ringfence ")]
    assert len(proposed) == 5
    for arguments in proposed[:4]:
        ended = run(*arguments, cwd=folder)
        assert ended.returncode == 0, (arguments, ended.stderr)
    assert proposed[4] == ["up", "--demo"]


def test_the_vaults_of_the_demo_live_by_themselves_until_ctrl_c(tmp_path: Path) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RINGFENCE_")}
    with subprocess.Popen(
        [SCRIPT, "up", "--demo"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as living:  # fmt: skip
        patience = threading.Timer(120, living.kill)
        patience.start()
        assert living.stdout is not None
        decided = next((line for line in living.stdout if " USDT, " in line), "nothing")
        living.send_signal(signal.SIGINT)
        assert living.wait() == 0
        patience.cancel()
    assert "NAV 8" in decided, "three holders paid in 85,000.50"


def test_a_command_is_proposed_by_its_path_where_its_name_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    monkeypatch.chdir(Path(SCRIPT).parent.parent)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert program() == os.path.join("bin", "ringfence")
    monkeypatch.chdir("/")
    assert Path("/", program()) == Path(SCRIPT)
    monkeypatch.setenv("PATH", str(Path(SCRIPT).parent))
    assert program() == "ringfence"


def test_no_line_of_the_demo_is_wider_than_a_page(demo: tuple[Path, str]) -> None:
    assert max(len(line) for line in demo[1].splitlines()) <= 100


def test_a_demo_replaces_what_a_demo_left_and_nothing_else(tmp_path: Path) -> None:
    first = fresh_database(tmp_path)
    assert fresh_database(tmp_path) == first
    first.write_bytes(b"")
    with pytest.raises(DemoRefused, match="was not made by a demo"):
        fresh_database(tmp_path)
    shutil.copy(__file__, first)
    with pytest.raises(DemoRefused):
        fresh_database(tmp_path)
    assert first.read_bytes() == Path(__file__).read_bytes()


def test_the_example_mandates_are_found(project: Path) -> None:
    assert example_mandates() == project / "mandates"


def test_a_scenario_gives_each_mandate_its_own_symbols_in_its_order(mandates: Path) -> None:
    inputs = prepare([mandates], scenario_name="2020-03")
    assert [market.symbols for _, market in inputs.vaults] == [compiled.symbols for compiled, _ in inputs.vaults]
    whole = scenario("2020-03").market
    for compiled, market in inputs.vaults:
        for column, symbol in enumerate(compiled.symbols):
            assert np.array_equal(market.close[:, column], whole.close[:, whole.symbols.index(symbol)])
