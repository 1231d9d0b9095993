"""The command line knows its own options and commands, and nobody below it does."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

from ringfence.faces import cli
from ringfence.faces.cli.app import app
from ringfence.faces.cli.boundary import guarded
from ringfence.faces.errors import ActRefused
from ringfence.faces.ways_out import WAYS_OUT, told, way_out
from ringfence.runtime.errors import DatabaseBusy, DatabaseMissing, DiskFault, NoBars, SettingRefused
from ringfence.vaults.errors import LedgerDisagrees, StatementDisagrees, ZeroShares
from ringfence.words.refusal import RingfenceError
from tests.reference.refusals import SAMPLES, refusals, sample

LOWER = ("words", "risk", "markets", "strategies", "vaults", "runtime")


def commands() -> dict[str, set[str]]:
    """The options of every command of the command line, by its name; of a group of commands, those of all of them."""
    for module in cli._COMMANDS:
        import_module(f"ringfence.faces.cli.{module}")
    return {name: options(command) for name, command in get_group(app).commands.items()}


def options(command: Any) -> set[str]:
    own = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


def texts(source: str) -> Iterator[str]:
    """Every string literal, the pieces of f-strings and the docstrings among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def words_of_the_command_line(source: str) -> list[str]:
    """Options, commands and talk of commands that stand in the strings of a source."""
    names = "|".join(commands())
    found = re.compile(rf"(?<![\w-])--[a-z][a-z-]*|\bringfence (?:{names})\b|\b(?:same|another) command\b")
    return [match[0] for text in texts(source) for match in found.finditer(text)]


def test_no_room_below_the_faces_names_an_option_or_a_command(project: Path) -> None:
    sources = [path for room in LOWER for path in sorted((project / room).rglob("*.py"))]
    assert len(sources) > 50, "the rule would look at nothing"
    found = {str(path.relative_to(project)): words_of_the_command_line(path.read_text()) for path in sources}
    assert {path: words for path, words in found.items() if words} == {}


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ('raise Refused("name another with --db")', ["--db"]),
        ('raise Refused(f"add --bars {symbol}=FILE")', ["--bars"]),
        ('def __str__(self):\n    """Told by `ringfence verify`."""', ["ringfence verify"]),
        ('x = f"run `ringfence replay` on {name}, or the same command"', ["ringfence replay", "same command"]),
        ('x = "a - b -- c, ringfence journal of tide, well--known"  # --db', []),
    ],
)
def test_a_planted_option_or_command_is_found(planted: str, found: list[str]) -> None:
    assert words_of_the_command_line(planted) == found


def test_every_way_out_is_that_of_a_refusal_and_names_what_exists() -> None:
    kinds = {kind.code: kind for kind in refusals()}
    assert set(WAYS_OUT) <= set(kinds)
    known = commands()
    options = set().union(*known.values())
    for code in WAYS_OUT:
        words = way_out(sample(kinds[code]))
        assert words, code
        assert set(re.findall(r"--[a-z-]+", words)) <= options, words
        assert set(re.findall(r"`ringfence ([a-z-]+)", words)) <= set(known), words


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (
            DatabaseMissing("x.db"),
            "x.db: no such database; name another with --db, or make this one with `ringfence replay`",
        ),
        (
            NoBars("tide", ("BTC/USDT:USDT", "ETH/USDT:USDT")),
            "vault tide: no bars of BTC/USDT:USDT, ETH/USDT:USDT; "
            "add --bars BTC/USDT:USDT=FILE --bars ETH/USDT:USDT=FILE",
        ),
        (
            StatementDisagrees("tide", ("W1 reserve: {5}",)),
            "vault tide: no statement, since the books disagree:\nW1 reserve: {5}\nrun `ringfence verify tide`",
        ),
        (
            DatabaseBusy("x.db"),
            "x.db: another process keeps the database busy; nothing was written; the same command may succeed later",
        ),
        (
            DiskFault("x.db", "disk I/O error"),
            "x.db: the disk refused (disk I/O error); nothing was written of this step, and what was committed is "
            "kept; check its room and health; then run the same command again",
        ),
        (
            SettingRefused("RINGFENCE_BROKER", "x", "redis://..."),
            "RINGFENCE_BROKER: 'x' cannot be used; expected redis://...; --broker sets it too",
        ),
        (SettingRefused("--since", "x", "a time"), "--since: 'x' cannot be used; expected a time"),
    ],
    ids=lambda case: type(case).__name__ if isinstance(case, RingfenceError) else "",
)
def test_the_command_line_adds_its_way_out_to_the_text(
    refusal: RingfenceError, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(refusal) == text

    def refused() -> None:
        raise refusal

    assert guarded(refused) == 1
    assert capsys.readouterr().err == f"ringfence: {text}\n"


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_only_what_may_pass_is_said_to_pass(kind: type[RingfenceError]) -> None:
    assert ("may succeed later" in told(sample(kind))) == kind.transient


def test_an_act_that_is_refused_says_so_in_the_units_that_were_typed() -> None:
    from ringfence.faces.cli import acts

    refusals_of = {
        ZeroShares(5): ActRefused,
        LedgerDisagrees("tide", "reserve", 1, 2): LedgerDisagrees,
    }
    for refused, expected in refusals_of.items():
        with pytest.raises(expected), acts._worded("tide", "alice", 6):
            raise refused
