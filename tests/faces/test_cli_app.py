"""The command line's frame: what it loads, what it prints where, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ringfence.faces.cli.app import database_url, print_json, print_table
from ringfence.faces.cli.boundary import guarded
from ringfence.faces.errors import InputRefused
from ringfence.runtime.errors import SettingRefused

COMMANDS = ("check", "schema", "strategies", "margin", "replay", "backtest", "deposit", "redeem", "vaults", "positions",
            "statement", "events", "verify", "worker", "demo", "mandate", "scenarios", "figures")  # fmt: skip
HEAVY = ("numpy", "numba", "ccxt", "pandas", "sqlalchemy", "sqlmodel", "celery", "pyarrow", "plotly", "pydantic",
         "alembic", "rich")  # fmt: skip
SCRIPT = Path(sys.executable).with_name("ringfence")


def ringfence(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, env={**os.environ, **environment})


def test_help_names_every_command() -> None:
    shown = ringfence("--help")
    listed = {line.split()[0] for line in shown.stdout.splitlines() if line.startswith("  ")}
    assert shown.returncode == 0
    assert set(COMMANDS) <= listed


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['ringfence', '--help']\n"
        "from ringfence.faces.cli import main\n"
        "try: main()\n"
        f"finally: print(sorted(set(sys.modules) & set({HEAVY})), file=sys.stderr)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr.strip() == "[]"


def test_the_version_is_the_distributions() -> None:
    assert ringfence("--version").stdout == "ringfence 0.1.0\n"


@pytest.mark.parametrize("arguments", [("no-such-command",), ("backtest",), ("margin", "--no-such-option")])
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...]) -> None:
    ended = ringfence(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Error" in ended.stderr


def test_a_full_standard_output_is_a_failure() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([SCRIPT, "strategies", "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert "No space left" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_reader_that_leaves_is_not_complained_about() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run([SCRIPT, "schema"], stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def _raise(failure: BaseException) -> None:
    raise failure


@pytest.mark.parametrize(
    ("failure", "code", "told"),
    [
        (InputRefused("--thing", "3", "make it 4"), 1, "--thing 3: make it 4"),
        (OSError(28, "No space left on device", "/x"), 1, "/x: No space left on device; make room"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "what was committed is kept, and the same command goes on"),
        (BrokenPipeError(), 141, ""),
        (ZeroDivisionError("by\nzero"), 70, "ZeroDivisionError: by zero. This is a fault of the program"),
        (typer.Exit(5), 5, ""),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, BaseException) else "",
)
def test_every_way_to_end_has_a_code_and_a_message(
    failure: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(lambda: _raise(failure)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert bool(printed.err) == bool(told)
    assert "Traceback" not in printed.err


def test_the_traceback_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGFENCE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: _raise(ZeroDivisionError()))


def test_control_characters_do_not_reach_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    guarded(lambda: _raise(InputRefused("vault", "\x1b[31mred", "is no vault")))
    assert "\\x1b[31mred" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "sqlite:///ringfence.db"),
        ("my.db", "sqlite:///my.db"),
        ("./x.db", "sqlite:///./x.db"),
        ("/tmp/x.db", "sqlite:////tmp/x.db"),
        ("sqlite:///y.db", "sqlite:///y.db"),
        ("postgresql://u:p@h/n", "postgresql://u:p@h/n"),
    ],
)
def test_a_bare_path_is_an_sqlite_file(given: str | None, url: str) -> None:
    assert database_url(given) == url


@pytest.mark.parametrize("given", ["", "  ", "a\0b"])
def test_no_database_at_all_is_refused(given: str) -> None:
    with pytest.raises(SettingRefused, match="--db"):
        database_url(given)


def test_json_is_one_document_with_sorted_keys_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": "1.50", "a": ["ü"]})
    assert capsys.readouterr().out == '{\n  "a": [\n    "ü"\n  ],\n  "b": "1.50"\n}\n'
    with pytest.raises(ValueError, match="nan"):
        print_json({"a": float("nan")})


def test_a_table_puts_figures_to_the_right_and_shows_markup_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ["name", "worth"], [["[bold]a", "1.00"], ["b", None], ["c", "-1,000.00"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split() for line in lines if "[bold]a" in line] == [["[bold]a", "1.00"]]
    ends = {len(line) for line in lines if line.endswith(("1.00", "–", "-1,000.00"))}
    assert len(ends) == 1


def test_errors_leave_standard_output_empty_with_json(tmp_path: Path) -> None:
    ended = ringfence("backtest", str(tmp_path / "none.yaml"), "--scenario", "2020-03", "--json")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "none.yaml" in ended.stderr


def test_strategies_as_json_is_one_document() -> None:
    names = [strategy["name"] for strategy in json.loads(ringfence("strategies", "--json").stdout)]
    assert {"constant", "liquidation_distance", "trend", "vol_target"} <= set(names)
