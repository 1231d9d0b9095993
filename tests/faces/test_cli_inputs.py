"""What enters a back-test or a replay through the command line: refused, left out or told; never unseen."""

import gzip
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringfence
from ringfence.faces.cli import main
from ringfence.faces.cli.app import database_url
from ringfence.faces.errors import InputRefused
from ringfence.faces.inputs import parse_series, parse_taking
from ringfence.markets.errors import SuspectData
from ringfence.runtime.errors import NeverEnoughBars

BTC = "BTC/USDT:USDT"
MANDATE = """\
mandate: steady
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {estimator: close_to_close, window: 6h}
positions:
  btc: {symbol: BTC/USDT:USDT, share: 50%, strategy: {name: constant, leverage: 2}}
"""
Ended = tuple[int, str, str]
"""Exit code, standard output, standard error."""
Console = Callable[..., Ended]
START, HOUR = 1_777_852_800_000, 3_600_000  # 2026-05-04T00:00Z


def rows(first: int, last: int, base: float = 50_000.0, change: Callable[[int], float] = lambda hour: 0.0) -> str:
    """Hourly bars from hour `first` up to `last`, with a header; the price swings so that there is volatility."""
    told = ["ts,open,high,low,close,volume"]
    for hour in range(first, last):
        price = base + 50 * (hour % 3) + change(hour)
        told.append(f"{START + hour * HOUR},{price},{price + 10},{price - 10},{price},100.0")
    return "\n".join(told) + "\n"


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """The console script's own function, in this process."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ringfence", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(str(ended.value.code)), printed.out, printed.err

    return run


def refused(ended: Ended, *told: str) -> None:
    code, out, err = ended
    assert (code, out) == (1, ""), err
    for words in told:
        assert words in err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(MANDATE)
    (tmp_path / "b.csv").write_text(rows(0, 24))
    return tmp_path


def run(console: Console, *arguments: str) -> tuple[dict[str, Any], list[str]]:
    """The document of a command that succeeds, and its notes."""
    code, out, err = console(*arguments, "--deposit", "alice=50000", "--json")
    assert code == 0, err
    document = json.loads(out)
    return document, document["notes"]


def test_holes_are_told_in_the_document_the_terminal_the_report_and_python(here: Path, console: Console) -> None:
    (here / "b.csv").write_text(rows(0, 10) + rows(15, 30).partition("\n")[2])
    hole = f"{BTC}: 5 of 30 bars missing, first 2026-05-04T10:00:00Z"
    for command in ("backtest", "replay"):
        assert hole in run(console, command, "m.yaml", "--bars", f"{BTC}=b.csv", "--report", "r.html")[1]
        assert hole in (here / "r.html").read_text()
    assert f"note: {hole}" in console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv")[2]
    assert hole in ringfence.backtest("m.yaml", {BTC: "b.csv"}).notes


def test_a_vault_that_would_never_trade_is_refused_and_not_a_flat_line(here: Path, console: Console) -> None:
    (here / "b.csv").write_text(rows(0, 3))
    told = "position btc decides from 6 slots of 1h with bars, there are 3, and it would never trade"
    for command in ("backtest", "replay"):
        refused(console(command, "m.yaml", "--bars", f"{BTC}=b.csv"), told)
    with pytest.raises(NeverEnoughBars):
        ringfence.backtest("m.yaml", {BTC: "b.csv"})


def test_a_warm_up_that_takes_a_good_part_of_the_data_is_told(here: Path, console: Console) -> None:
    notes = run(console, "backtest", "m.yaml", "--bars", f"{BTC}=b.csv")[1]
    assert notes == [
        "steady: btc decides nothing in the first 5 of 24 slots, since it looks back on 6 slots of 1h; "
        "its first decision is at 2026-05-04T06:00:00Z"
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(rows(0, 24, change=lambda hour: -49_980.0 * (hour == 12)), id="a bad print"),
        pytest.param(rows(0, 24, change=lambda hour: 50_000_000.0 * (hour > 11)), id="another denomination"),
    ],
)
def test_a_finding_in_bars_is_refused_with_its_row_or_accepted_by_name(
    content: str, here: Path, console: Console
) -> None:
    name, told = "price-jump", "2026-05-04T12:00:00Z, row 13 of 24"
    (here / "b.csv").write_text(content)
    given = ("m.yaml", "--bars", f"{BTC}=b.csv")
    for command in ("backtest", "replay"):
        refused(console(command, *given), told, f"to take it as it is: --accept {name}")
    assert not (here / "ringfence.db").exists()
    refused(console("backtest", *given, "--accept", "marks-apart"), told)
    notes = run(console, "backtest", *given, "--accept", name)[1]
    assert [note for note in notes if note.startswith(f"accepted {BTC}:") and told in note]
    with pytest.raises(SuspectData):
        ringfence.backtest("m.yaml", {BTC: "b.csv"})
    assert "accepted" in ringfence.backtest("m.yaml", {BTC: "b.csv"}, accept=[name]).notes[0]


def test_another_instrument_s_bars_and_marks_are_refused(here: Path, console: Console) -> None:
    (here / "ETHUSDT-1h-2026-05.csv").write_text(rows(0, 24, 2_500.0))
    (here / "marks.csv").write_text(rows(0, 24, 2_500.0))
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=ETHUSDT-1h-2026-05.csv"), "its name says ETH/USDT",
            "--accept other-instrument")  # fmt: skip
    given = ("m.yaml", "--bars", f"{BTC}=b.csv", "--mark", f"{BTC}=marks.csv")
    refused(console("backtest", *given), "the mark is 2500.0 where the bar closes at 50000.0", "--accept marks-apart")


def test_a_funding_rate_beyond_any_cap_is_refused(here: Path, console: Console) -> None:
    (here / "f.csv").write_text(f"ts,funding_rate\n{START},0.0001\n{START + 8 * HOUR},0.5\n")
    given = ("m.yaml", "--bars", f"{BTC}=b.csv", "--funding", f"{BTC}=f.csv")
    refused(console("backtest", *given), "the funding rate is 50.00% at 2026-05-04T08:00:00Z", "--accept funding-cap")
    assert run(console, "backtest", *given, "--accept", "funding-cap")[1][0].startswith("accepted")


def test_funding_some_milliseconds_late_gives_what_exact_stamps_give(here: Path, console: Console) -> None:
    for name, late in (("exact", 0), ("late", 11)):
        stamps = [f"{START + hour * HOUR + late},0.001" for hour in (8, 16)]
        (here / f"{name}.csv").write_text("\n".join(["ts,funding_rate", *stamps]))
    given = ("backtest", "m.yaml", "--bars", f"{BTC}=b.csv", "--funding")
    exact, late = (run(console, *given, f"{BTC}={name}.csv")[0] for name in ("exact", "late"))
    assert exact == late


def test_several_files_patterns_and_a_tilde_give_what_one_file_gives(
    here: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "part-1.csv").write_text(rows(0, 10))
    (here / "part-2.csv.gz").write_bytes(gzip.compress(rows(10, 24).encode()))
    (here / ".part-0.csv").write_text("nobody's")
    (here / "part-3.csv.part").write_text("half")
    monkeypatch.setenv("HOME", str(here))
    whole = run(console, "backtest", "m.yaml", "--bars", f"{BTC}=b.csv")[0]
    for given in (("part-1.csv", "part-2.csv.gz"), ("part-*",), ("~/part-*",), ("~/b.csv",)):
        bars = [part for file in given for part in ("--bars", f"{BTC}={file}")]
        assert run(console, "backtest", "m.yaml", *bars)[0] == whole, given
    assert ringfence.backtest("m.yaml", {BTC: ["~/part-1.csv", "part-2.csv.gz"]}).digest == (
        ringfence.backtest("m.yaml", {BTC: "b.csv"}).digest
    )


def test_a_pattern_without_files_and_a_file_given_twice_are_refused(here: Path, console: Console) -> None:
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=part-*"), "no file is like part-*")
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv", "--bars", f"{BTC}=b.c*"), "b.csv is given twice")
    (here / "[1].csv").write_text(rows(0, 24))
    assert parse_series("--bars", [f"{BTC}=[1].csv"], [BTC]) == {BTC: [Path("[1].csv")]}


def test_a_stretch_of_the_data_is_taken(here: Path, console: Console) -> None:
    (here / "short.csv").write_text(rows(2, 20))
    given = ("--since", "2026-05-04T02:00", "--until", "2026-05-04 20:00Z")
    cut = run(console, "backtest", "m.yaml", "--bars", f"{BTC}=b.csv", *given)[0]
    assert cut == run(console, "backtest", "m.yaml", "--bars", f"{BTC}=short.csv")[0]
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv", "--since", "2027-01-01"),
            f"leave nothing: the series of {BTC} goes from 2026-05-04T00:00:00Z")  # fmt: skip


def test_a_scenario_is_cut_too_and_takes_nothing_that_is_for_files(here: Path, console: Console) -> None:
    document = run(console, "backtest", "m.yaml", "--scenario", "2020-03", "--until", "2020-03-12")[0]
    whole = run(console, "backtest", "m.yaml", "--scenario", "2020-03")[0]
    assert 0 < document["vaults"][0]["slots"] < whole["vaults"][0]["slots"]
    for option, text in (("--now", "2020-03-12"), ("--timeframe", "1h")):
        refused(console("backtest", "m.yaml", "--scenario", "2020-03", option, text), option, "brings its own bars")


def test_bars_that_are_not_over_at_a_stated_now_are_left_out_and_told(here: Path, console: Console) -> None:
    given = ("m.yaml", "--bars", f"{BTC}=b.csv", "--now", "2026-05-04T23:30")
    document, notes = run(console, "backtest", *given)
    assert notes[0] == "b.csv: the last bar, from 2026-05-04T23:00:00Z, left out: not over at 2026-05-04T23:30:00Z"
    (here / "b.csv").write_text(rows(0, 23))
    assert run(console, "backtest", "m.yaml", "--bars", f"{BTC}=b.csv")[0]["digest"] == document["digest"]


def test_a_download_in_the_middle_of_a_bar_does_not_stop_the_next_one(here: Path, console: Console) -> None:
    """The first holds a part of the last hour; left out by its age, the second download goes on from there."""
    (here / "b.csv").write_text(rows(0, 24, change=lambda hour: 3.0 * (hour == 23)))
    run(console, "replay", "m.yaml", "--bars", f"{BTC}=b.csv", "--now", "2026-05-04T23:30")
    (here / "b.csv").write_text(rows(0, 26))
    second = run(console, "replay", "m.yaml", "--bars", f"{BTC}=b.csv")[0]
    assert second["digest"] == run(console, "backtest", "m.yaml", "--bars", f"{BTC}=b.csv")[0]["digest"]


def test_a_stated_timeframe_makes_a_series_of_one_row(here: Path, console: Console) -> None:
    (here / "b.csv").write_text(rows(0, 1))
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv"), "one row, so its timeframe is unknown")
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv", "--timeframe", "1h"), "there are 1,")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--timeframe", "60"), ("--timeframe", "did you mean")),
        (("--since", "yesterday"), ("--since", "expected a time like 2024-01-31")),
        (("--until", "2026-05-04T25:00"), ("--until", "expected a time")),
        (("--since", "2026-05-05", "--until", "2026-05-05"), ("--until", "is not after --since")),
        (("--accept", "price-jumps"), ("--accept", "did you mean price-jump?")),
        (("--accept", "all"), ("--accept all", "is no finding", "other-instrument")),
    ],
)
def test_what_cannot_be_taken_is_refused_by_its_option(
    arguments: tuple[str, ...], told: tuple[str, ...], here: Path, console: Console
) -> None:
    refused(console("backtest", "m.yaml", "--bars", f"{BTC}=b.csv", *arguments), *told)


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert parse_taking(since="2026-05-04").since == START
    assert parse_taking(since="2026-05-04T02:00+02:00").since == START
    with pytest.raises(InputRefused):
        parse_taking(now="")


def test_a_tilde_is_expanded_where_the_shell_leaves_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert database_url("~/x.db") == f"sqlite:///{tmp_path}/x.db"
    assert database_url("x~.db") == "sqlite:///x~.db"


def test_hidden_files_and_an_editor_s_locks_are_no_mandates(here: Path, console: Console) -> None:
    folder = here / "mandates"
    folder.mkdir()
    (folder / "m.yaml").write_text(MANDATE)
    (folder / ".#m.yaml").symlink_to("someone@host.123")
    (folder / "._m.yaml").write_bytes(b"\0\5\x16\7")
    assert console("check", "mandates")[0] == 0
    (folder / "m.yaml").unlink()
    refused(console("backtest", "mandates", "--bars", f"{BTC}=b.csv"), "holds no mandate")
