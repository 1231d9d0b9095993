"""What people get wrong, and what machines run out of: a message that names the thing, the value and the way out, an
exit code, no traceback, nothing half-written, and the same command can be run again."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ringfence.faces.cli import main
from ringfence.markets.files import read_bars
from ringfence.runtime.duties import MOST, claim, put_off
from tests.reference.tide import launch, walk

SCRIPT = Path(sys.executable).with_name("ringfence")
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
HOUR = 3_600_000
START = 1_583_020_800_000
MANDATE = """\
mandate: steady
currency: USDT
loss_cap: 20%
timeframe: 1h
volatility: {estimator: close_to_close, window: 6h}
positions:
  btc: {symbol: BTC/USDT:USDT, share: 50%, strategy: {name: constant, leverage: 2}}
"""
OLD = "<!doctype html>an earlier report of Ringfence"
HEADER = "ts,open,high,low,close,volume"

Ended = tuple[int, str, str]
"""Exit code, standard output, standard error."""
Console = Callable[..., Ended]


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """The console script's own function, in this process: (exit code, standard output, standard error)."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ringfence", *(str(argument) for argument in arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(str(ended.value.code)), printed.out, printed.err

    return run


def start(*arguments: object, **options: object) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGFENCE_")}
    environment |= options.pop("env", {})  # type: ignore[call-overload]
    command = [str(SCRIPT), *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )


def finished(process: "subprocess.Popen[str]") -> Ended:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def bars(hours: int = 24, step: int = HOUR) -> str:
    rows = [f"{START + k * step},100,{101 + k % 3},99,{100 + k % 3},5" for k in range(hours)]
    return "\n".join([HEADER, *rows]) + "\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good mandate and good bars, and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(MANDATE)
    (tmp_path / "b.csv").write_text(bars())
    return tmp_path


GOOD = ("m.yaml", "--bars", f"{BTC}=b.csv")


def refused(ended: Ended, *told: str) -> str:
    code, out, err = ended
    assert (code, out) == (1, ""), err
    assert "Traceback" not in err
    err = err[max(0, err.find("ringfence: ")) :]  # remarks and progress may stand before it
    assert err.startswith("ringfence: ")
    for words in told:
        assert words in err
    return err


def test_the_good_command_works_so_that_only_the_fault_is_refused(here: Path, console: Console) -> None:
    assert console("backtest", *GOOD, "--json")[0] == 0
    assert console("replay", *GOOD, "--json")[0] == 0


@pytest.mark.parametrize("command", ["backtest", "replay"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none.yaml", "--bars", f"{BTC}=b.csv"), ("none.yaml", "No such file")),
        ((".", "--bars", f"{BTC}=b.csv", "--scenario", "2020-03"), ("--bars", "one or the other")),
        (("empty", "--bars", f"{BTC}=b.csv"), ("empty", "holds no mandate")),
        (("b.csv", "--bars", f"{BTC}=b.csv"), ("b.csv:1:",)),
        (("m.yaml",), ("vault steady", f"--bars {BTC}=FILE")),
        (("m.yaml", "--bars", "b.csv"), ("'b.csv'", "expected SYMBOL=FILE")),
        (("m.yaml", "--bars", f"{BTC}="), ("expected SYMBOL=FILE",)),
        (("m.yaml", "--bars", "BTCUSDT=b.csv"), ("'BTCUSDT'", f"did you mean {BTC}?")),
        (("m.yaml", "--bars", f"{ETH}=b.csv"), (f"--bars {ETH}", "no mandate here trades it", f"traded: {BTC}")),
        ((*GOOD, "--bars", f"{BTC}=c.csv"), ("c.csv", "no such file")),
        ((*GOOD, "--bars", f"{BTC}=b.csv"), ("b.csv is given twice",)),
        (("m.yaml", "--bars", f"{BTC}=none.csv"), ("none.csv", "no such file")),
        (("m.yaml", "--bars", f"{BTC}=empty"), ("empty", "is a folder")),
        (("m.yaml", "--bars", f"{BTC}=m.yaml"), ("m.yaml", "expected")),
        ((*GOOD, "--funding", f"{BTC}=b.csv"), ("b.csv", "no column funding_rate")),
        ((*GOOD, "--funding", f"{ETH}=b.csv"), (f"--funding {ETH}", "no mandate here trades it")),
        ((*GOOD, "--mark", f"{BTC}=none.csv"), ("none.csv", "no such file")),
        (("m.yaml", "--scenario", "2020-3"), ("'2020-3'", "did you mean 2020-03?")),
        ((*GOOD, "--deposit", "alice"), ("'alice'", "expected NAME=AMOUNT")),
        ((*GOOD, "--deposit", "alice="), ("is no amount",)),
        ((*GOOD, "--deposit", "alice=0"), ("0 is not above 0",)),
        ((*GOOD, "--deposit", "alice=-1"), ("-1 is below 0",)),
        ((*GOOD, "--deposit", "alice=NaN"), ("NaN is not an amount",)),
        ((*GOOD, "--deposit", "alice=1e400"), ("1e400 has an exponent",)),
        ((*GOOD, "--deposit", "alice=0.123456789012"), ("has 12 decimals; at most 6",)),
        ((*GOOD, "--deposit", "alice=9999999999999"), ("is too large",)),
        ((*GOOD, "--deposit", "alice=1", "--deposit", "alice=2"), ("alice is given twice",)),
        ((*GOOD, "--deposit", "a b=1"), ("holder 'a b'",)),
        ((*GOOD, "--report", "none/r.html"), ("none/r.html", "does not exist")),
        ((*GOOD, "--report", "empty"), ("empty", "is a folder")),
        ((*GOOD, "--report", "/proc/r.html"), ("/proc/r.html",)),
    ],
)  # fmt: skip
def test_a_wrong_input_is_refused_by_name_and_nothing_is_left(
    command: str, arguments: tuple[str, ...], told: tuple[str, ...], here: Path, console: Console
) -> None:
    (here / "empty").mkdir()
    before = sorted(here.rglob("*"))
    refused(console(command, *arguments), *told)
    if "--report" not in arguments:
        assert sorted(here.rglob("*")) == before
    assert not list(here.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("loss_cap: 20%", "loss_cap: 20"), "m.yaml:3:11 loss_cap: 20 is not a fraction; did you mean 20%?"),
        (("constant", "konstant"), "did you mean constant?"),
        (("leverage: 2", "leverage: two"), "two is not"),
        (("BTC/USDT:USDT", "BTC/USDT"), "did you mean BTC/USDT:USDT?"),
        (("share: 50%", "share: 150%"), "m.yaml:7:"),
        (("timeframe: 1h", "timeframe: 1"), "did you mean 1h?"),
        (("currency: USDT", "currency: USDT\ncurrency: USDC"), "m.yaml:3:"),
        (("timeframe: 1h", "timeframe: 15m"), "decides every 15m, and the bars of BTC/USDT:USDT are of 1h"),
        (("timeframe: 1h", "timeframe: 1d\n#"), "m.yaml"),
        (("6h", "30m"), "m.yaml"),
    ],
)
def test_a_mandate_with_a_fault_is_refused_in_its_place(
    change: tuple[str, str], told: str, here: Path, console: Console
) -> None:
    (here / "m.yaml").write_text(MANDATE.replace(*change))
    for command in ("backtest", "replay"):
        refused(console(command, *GOOD), told)
    assert not (here / "ringfence.db").exists()


STAMP = "2020-03-01T05:00:00Z"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: [*rows[:6], rows[6].replace(",99,", ",199,"), *rows[7:]], STAMP),
        (lambda rows: [*rows[:6], rows[6].replace("100,10", "nan,10"), *rows[7:]], STAMP),
        (lambda rows: [*rows[:6], rows[6].replace("100,10", "-1,10"), *rows[7:]], STAMP),
        (lambda rows: [*rows[:7], rows[6], *rows[7:]], STAMP),
        (lambda rows: [rows[0], *rows[2:], rows[1]], "Nothing was repaired"),
        (lambda rows: [*rows[:6], rows[6] + "x", *rows[7:]], "b.csv:7"),
        (lambda rows: [rows[0].replace("close", "klose"), *rows[1:]], "no column close"),
        (lambda rows: [rows[0], *(row[8:] for row in rows[1:])], "not an epoch at all"),
        (lambda rows: rows[:1], "b.csv"),
        (lambda rows: [], "is empty"),
    ],
    ids=[
        "high below low",
        "NaN",
        "negative",
        "twice",
        "out of order",
        "no number",
        "column",
        "no epoch",
        "no rows",
        "empty",
    ],
)
def test_bars_with_a_fault_are_refused_by_name_and_time(
    change: Callable[[list[str]], list[str]], told: str, here: Path, console: Console
) -> None:
    (here / "b.csv").write_text("\n".join(change(bars().splitlines())))
    for command in ("backtest", "replay"):
        refused(console(command, *GOOD), told)
    assert not (here / "ringfence.db").exists()


def test_bars_that_fill_no_slot_are_refused(here: Path, console: Console) -> None:
    (here / "b.csv").write_text(bars(30, 60_000))
    refused(console("backtest", *GOOD), "decides every 1h, and 30 bars of 1m fill no such slot")


def test_two_mandates_of_different_bars_or_of_one_name_are_told_apart(here: Path, console: Console) -> None:
    (here / "n.yaml").write_text(MANDATE)
    refused(console("backtest", "m.yaml", "n.yaml", *GOOD[1:]), "steady is also the name of the mandate at")
    assert console("backtest", "m.yaml", "m.yaml", "./m.yaml", *GOOD[1:], "--json")[0] == 0


# ---------------------------------------------------------------------------------------------------- databases


@pytest.mark.parametrize(
    ("db", "told"),
    [
        ("none/x.db", "the folder"),
        ("m.yaml", "not a database"),
        ("empty", "not a database"),
        ("/proc/x.db", "/proc/x.db"),
        ("mysql://u@h/n", "use sqlite:///FILE or postgresql://"),
        ("sqlite://", "in memory"),
        ("", "--db"),
        ("postgresql://u@localhost:1/n", "cannot be reached"),
        ("postgresql://u:secret@localhost:1/n", "u:***@localhost:1/n: a password among the arguments"),
        ("postgresql://localhost:1/n?password=secret", "a password among the arguments"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused_and_its_password_is_not_shown(
    db: str, told: str, here: Path, console: Console
) -> None:
    (here / "empty").mkdir()
    before = (here / "m.yaml").read_bytes()
    err = refused(console("replay", *GOOD, "--db", db), told)
    assert "secret" not in err
    assert (here / "m.yaml").read_bytes() == before


@pytest.mark.parametrize("place", ["m.yaml", "b.csv", "x.db", "pipe", "notes.txt"])
@pytest.mark.parametrize("command", ["backtest", "replay"])
def test_a_report_is_written_over_nothing_but_an_earlier_report(
    place: str, command: str, here: Path, console: Console
) -> None:
    (here / "notes.txt").write_text("mine")
    (here / "x.db").write_bytes(b"SQLite format 3\0")
    os.mkfifo(here / "pipe")
    before = (here / place).read_bytes() if place != "pipe" else b""
    refused(console(command, *GOOD, "--report", place), place, "the report was not written")
    assert place == "pipe" or (here / place).read_bytes() == before
    assert not (here / "ringfence.db").exists(), "refused before anything is started"


def test_a_report_over_an_input_is_refused_even_where_it_looks_like_a_report(here: Path, console: Console) -> None:
    (here / "m.yaml").rename(here / "r.html")
    (here / "r.html").write_text(OLD)
    (here / "m.yaml").symlink_to(here / "r.html")
    refused(console("backtest", *GOOD, "--report", "r.html"), "it is an input of this very run")


@pytest.mark.parametrize("words", [("schema", "--output"), ("heads", "-o")])
def test_no_command_writes_over_a_file_of_another_kind(words: tuple[str, ...], here: Path, console: Console) -> None:
    before = (here / "m.yaml").read_bytes()
    refused(console(*words, "m.yaml"), "m.yaml", "it holds something else than a")
    assert (here / "m.yaml").read_bytes() == before


@pytest.mark.parametrize("db", ["a?b.db", "a#b.db", "a%41.db", "with space.db", "file:x.db", "~x.db"])
def test_a_database_is_the_file_of_that_very_name_and_its_owners_alone(db: str, here: Path, console: Console) -> None:
    before = set(here.iterdir())
    assert console("replay", *GOOD, "--db", db, "--json")[0] == 0
    assert json.loads(console("vaults", "--db", db, "--json")[1])[0]["vault"] == "steady"
    (made,) = set(here.iterdir()) - before
    assert (made.name, made.stat().st_mode & 0o777) == (db, 0o600)


def test_a_tilde_in_a_databases_name_is_the_home(here: Path, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert console("replay", *GOOD, "--db=~/x.db", "--json")[0] == 0
    assert (here / "x.db").is_file()


def test_a_pipe_is_no_database(here: Path, console: Console) -> None:
    os.mkfifo(here / "pipe")
    for command in (("replay", *GOOD), ("vaults",)):
        refused(console(*command, "--db", "pipe"), "pipe: this file is not a database")


def _revision(file: Path, revision: str | None = None) -> str:
    with closing(sqlite3.connect(file)) as connection:
        if revision is not None:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
            connection.commit()
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_a_database_of_a_newer_schema_is_left_as_it_is(here: Path, console: Console) -> None:
    assert console("replay", *GOOD, "--db", "x.db")[0] == 0
    _revision(here / "x.db", "9999")
    refused(console("replay", *GOOD, "--db", "x.db"), "its schema is 9999", "install the newer Ringfence")
    assert _revision(here / "x.db") == "9999"


def test_another_programmes_database_is_left_as_it_is(here: Path, console: Console) -> None:
    with closing(sqlite3.connect(here / "other.db")) as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    before = (here / "other.db").read_bytes()
    refused(console("replay", *GOOD, "--db", "other.db"), "other.db", "songs")
    assert (here / "other.db").read_bytes() == before


def test_other_terms_or_other_bars_for_a_vault_that_lives_are_refused(here: Path, console: Console) -> None:
    digest = json.loads(console("replay", *GOOD, "--json")[1])["digest"]
    (here / "m.yaml").write_text(MANDATE.replace("leverage: 2", "leverage: 3"))
    refused(console("replay", *GOOD), "steady")
    (here / "m.yaml").write_text(MANDATE)
    (here / "b.csv").write_text(bars().replace(",100,", ",100.5,"))
    refused(console("replay", *GOOD), BTC, "recorded with other figures", "--db")
    refused(console("replay", *GOOD[:1], "--bars", f"{BTC}=b.csv", "--deposit", "alice=1"), BTC)
    (here / "b.csv").write_text(bars())
    refused(console("replay", *GOOD, "--deposit", "depositor=1"), "key replay:depositor")
    assert json.loads(console("replay", *GOOD, "--json")[1])["digest"] == digest


# ---------------------------------------------------------------------------------------------------- the machine

MARCH = ("--scenario", "2020-03", "--deposit", "alice=50000", "--json")


@pytest.fixture(scope="module")
def trend(project: Path) -> Path:
    return project / "mandates" / "majors-trend.yaml"


@pytest.fixture(scope="module")
def undisturbed(trend: Path) -> str:
    code, out, err = finished(start("backtest", trend, *MARCH))
    assert code == 0, err
    return str(json.loads(out)["digest"])


def test_ctrl_c_in_the_middle_of_a_replay_keeps_what_was_done_and_the_same_command_goes_on(
    trend: Path, undisturbed: str, tmp_path: Path
) -> None:
    database = tmp_path / "x.db"
    report = tmp_path / "r.html"
    arguments = ("replay", trend, *MARCH, "--db", database, "--report", report)
    process = start(*arguments)
    deadline = time.monotonic() + 90
    while _slots(database) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    code, out, err = finished(process)
    assert (code, out) == (130, "")
    assert err == "ringfence: stopped; what was committed is kept, and the same command goes on from there\n"
    done = _slots(database)
    assert 20 <= done < 186
    assert not report.exists()
    code, out, err = finished(start(*arguments))
    assert code == 0, err
    assert json.loads(out)["digest"] == undisturbed
    assert report.exists()


def _slots(database: Path) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM journal WHERE kind = 'decided'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _small_files(size: int) -> Callable[[], None]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("size", [40_000, 3_000_000], ids=["at once", "in the middle"])
def test_a_full_disk_under_the_database_stops_it_and_the_same_command_goes_on(
    size: int, trend: Path, undisturbed: str, tmp_path: Path
) -> None:
    arguments = ("replay", trend, *MARCH, "--db", tmp_path / "x.db")
    err = refused(finished(start(*arguments, preexec_fn=_small_files(size))), "x.db", "nothing was written")
    assert len(err.splitlines()) <= 2, err
    code, out, err = finished(start(*arguments))
    assert code == 0, err
    assert json.loads(out)["digest"] == undisturbed


def test_a_full_disk_under_the_report_leaves_the_old_report(trend: Path, tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    report.write_text(OLD)
    arguments = ("backtest", trend, *MARCH, "--report", report)
    refused(finished(start(*arguments, preexec_fn=_small_files(100_000))), "r.html", "the report was not written")
    assert report.read_text() == OLD
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]


def test_a_device_is_no_place_for_a_report(here: Path, console: Console) -> None:
    refused(console("backtest", *GOOD, "--report", "/dev/full"), "/dev/full", "not a regular file")


def test_a_full_disk_under_a_schema_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"$defs": {}}')
    refused(finished(start("schema", "--output", file, preexec_fn=_small_files(1_000))), "s.json")
    assert file.read_text() == '{"$defs": {}}'
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.json"]


def test_a_home_that_cannot_be_written_does_not_stop_the_kernel(here: Path) -> None:
    home = {"HOME": "/proc", "XDG_CACHE_HOME": "/proc/cache", "TMPDIR": str(here)}
    code, out, err = finished(start("margin", "--symbol", BTC, "--side", "long", "--quantity", "1", "--entry", "50000",
                                    "--leverage", "10", "--json", env=home))  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["bankruptcy_price"] == "45000.0000"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--broker", "redis://localhost:1/0"), "the broker cannot be reached"),
        (("--broker", "redis://:secret@localhost:1/0"), "set RINGFENCE_BROKER"),
        (("--broker", "amqp://localhost"), "redis://"),
        (("--db", "/none/x.db"), "/none"),
        (("--db", "typo.db"), "typo.db: no such database"),
    ],
)
def test_a_worker_without_broker_or_database_says_so(
    arguments: tuple[str, ...], told: str, here: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert console("replay", *GOOD, "--db", "w.db", "--json")[0] == 0
    for name in ("RINGFENCE_DATABASE", "RINGFENCE_BROKER"):
        monkeypatch.setenv(name, "sqlite:///w.db" if name.endswith("DATABASE") else "redis://localhost:1/0")
    before = sorted(here.iterdir())
    assert "secret" not in refused(console("worker", *arguments), told)
    assert sorted(here.iterdir()) == before, "a mistyped name makes no empty database"


def test_a_demo_does_not_write_over_somebody_elses_database(here: Path, console: Console) -> None:
    (here / "out").mkdir()
    (here / "out" / "ringfence.db").write_text("mine")
    code, out, err = console("demo", "--out", "out")
    assert (code, out) == (1, "")
    assert "was not made by a demo" in err
    assert (here / "out" / "ringfence.db").read_text() == "mine"
    assert [entry.name for entry in (here / "out").iterdir()] == ["ringfence.db"]


@pytest.mark.parametrize("out", ["/proc/demo", "m.yaml"])
def test_a_demo_in_a_place_that_cannot_be_written_says_so(out: str, here: Path, console: Console) -> None:
    code, printed, err = console("demo", "--out", out)
    assert (code, printed) == (1, "")
    assert out in err
    assert "Traceback" not in err


def test_the_bars_of_these_tests_are_good(here: Path) -> None:
    assert len(read_bars(here / "b.csv", BTC)) == 24


# ---------------------------------------------------------------------------------------------- a vault left aside


def test_a_vault_that_was_left_aside_is_tried_again_on_demand(here: Path, console: Console) -> None:
    one = launch(f"sqlite:///{here / 'ringfence.db'}", walk())
    for attempt in range(MOST):
        claim(one.engine, ["tide"], attempt * 60_000)
        put_off(one.engine, "tide", "no bars of it", attempt * 60_000)
    rehearsed = console("retry", "all", "--dry-run")
    assert rehearsed[:2] == (0, f"tide: would be tried again, after {MOST} attempts: no bars of it\n")
    code, told, _ = console("retry", "tide", "--json")
    assert (code, json.loads(told)) == (
        0,
        [{"vault": "tide", "attempts": MOST, "failure": "no bars of it", "left_aside": True, "dry_run": False}],
    )
    assert console("retry", "tide")[:2] == (0, "tide: no attempt has failed.\n")
    code, _, told = console("retry", "ebb")
    assert code == 1
    assert "ebb" in told
    one.engine.dispose()
