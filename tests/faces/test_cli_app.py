"""The command line's frame: what it loads, what it prints where, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ringfence.faces.cli.app import console, database_url, print_figures, print_json, print_table, remark
from ringfence.faces.cli.boundary import guarded
from ringfence.faces.errors import InputRefused
from ringfence.runtime.errors import SettingRefused

COMMANDS = ("check", "schema", "strategies", "margin", "replay", "backtest", "deposit", "redeem", "vaults", "positions",
            "statement", "events", "heads", "verify", "worker", "demo", "mandate", "scenarios", "figures")  # fmt: skip
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
    assert "what was committed is kept" in ended.stderr
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
        (
            OSError(5, "Input/output error"),
            1,
            "standard output, or a file: Input/output error; what was committed is kept",
        ),
        (ValueError("no postgresql://me:secret@host/db"), 70, "no postgresql://me:***@host/db"),
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


HOSTILE = "a\x1b[2Jb\x9b1mc\u202ed"
SEEN = "a\\x1b[2Jb\\x9b1mc\\u202ed"


def test_no_print_of_any_command_reaches_a_terminal_as_an_order(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        print(HOSTILE)
        remark(HOSTILE)
        print_table(HOSTILE, ["name"], [[HOSTILE]])
        print_figures(HOSTILE, {HOSTILE: HOSTILE})
        console().print(HOSTILE)
        return 0

    assert guarded(command) == 0
    printed = capsys.readouterr()
    assert printed.out.count(SEEN) == 7
    assert printed.err == SEEN + "\n"
    assert all(c.isprintable() or c == "\n" for c in printed.out)


def test_json_says_what_is_no_text_in_its_own_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"title": HOSTILE, "mask": "\U000e0001"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"title": HOSTILE, "mask": "\U000e0001"}
    assert all(c.isprintable() or c == "\n" for c in out)


def test_a_closed_standard_output_is_named_and_nothing_is_started(tmp_path: Path) -> None:
    words = f"cd '{tmp_path}' && exec '{SCRIPT}' deposit tide alice 1 --db x.db >&-"
    ended = subprocess.run(["sh", "-c", words], stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("ringfence: standard output is closed")
    silent = subprocess.run(["sh", "-c", f"exec '{SCRIPT}' strategies --json 2>&- <&-"], stdout=subprocess.PIPE)
    assert silent.returncode == 0
    assert json.loads(silent.stdout)


@pytest.mark.parametrize("word", ["--db=postgresql://me:secret@host/db", "postgresql://h/db?password=secret"])
def test_a_password_among_the_arguments_is_refused_wherever_it_stands(word: str) -> None:
    ended = ringfence("vaults", word)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "***" in ended.stderr
    assert "secret" not in ended.stderr


def test_a_cache_folder_that_cannot_be_used_is_gone_without() -> None:
    words = ("margin", "--symbol", "BTC/USDT:USDT", "--side", "long", "--quantity", "1", "--entry", "50000",
             "--leverage", "10", "--json")  # fmt: skip
    ended = ringfence(*words, NUMBA_CACHE_DIR="/proc/nonexistent")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["bankruptcy_price"] == "45000.0000"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "sqlite:///ringfence.db"),
        ("my.db", "sqlite:///my.db"),
        ("./x.db", "sqlite:///./x.db"),
        ("/tmp/x.db", "sqlite:////tmp/x.db"),
        ("file:a?b#c%41 d.db", "sqlite:///file:a%3Fb#c%2541 d.db"),
        ("~/x.db", f"sqlite:///{Path.home()}/x.db"),
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
