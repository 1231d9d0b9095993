"""docs/OPERATING.md: its commands run, and what it says of settings, commands and messages is what the code has."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from ringfence.runtime.settings import Settings
from tests.faces.test_ways_out import commands
from tests.reference.commands import run

ROOMS = ("words", "markets", "vaults", "runtime", "faces")


@pytest.fixture(scope="module")
def page(project: Path) -> str:
    return (project / "docs" / "OPERATING.md").read_text()


@pytest.fixture(scope="module")
def code(project: Path) -> str:
    """Every source of the rooms that speak to people."""
    return "\n".join(path.read_text() for room in ROOMS for path in sorted((project / room).rglob("*.py")))


def blocks(page: str, kind: str) -> list[str]:
    found = re.findall(rf"^```{kind}\n(.*?)^```", page, re.M | re.S)
    return [line for block in found for line in block.splitlines()]


def rows(page: str, head: str) -> list[list[str]]:
    table = page.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.split(" | ")] for line in table.splitlines()[2:]]


def test_the_commands_run_in_their_order(page: str, project: Path, tmp_path: Path) -> None:
    (tmp_path / "mandates").mkdir()
    shutil.copy(project / "mandates" / "btc-constant.yaml", tmp_path / "mandates")
    lines = blocks(page, "sh")
    assert len(lines) >= 9
    for line in lines:
        name, *words = shlex.split(line)
        assert name == "ringfence", line
        done = run(*words, cwd=tmp_path)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_every_command_that_it_names_exists_with_its_options(page: str) -> None:
    known = commands()
    named = [line for kind in ("sh", "console") for line in blocks(page, kind)]
    named += re.findall(r"`(ringfence [^`]+)`", page)
    ours = [match[1] for line in named if (match := re.match(r"(?:\w+=\S+ )?(ringfence .*)", line))]
    ours += [f"ringfence {line.split(' worker ')[1]}" for line in named if " worker " in line and "run" in line]
    assert len(ours) > 20
    for line in ours:
        _, command, *words = line.split()
        assert command in known, line
        assert {word for word in words if word.startswith("--")} <= known[command], line


def test_every_setting_is_told_and_no_other(page: str, code: str) -> None:
    told = {row[0].strip("|` ") for row in rows(page, "setting")}
    read = set(re.findall(r"RINGFENCE_[A-Z]+(?:_[A-Z]+)*", code))
    assert {f"RINGFENCE_{name.upper()}" for name in Settings.model_fields} <= told
    assert told == read


def test_what_it_says_is_said_is_said_by_the_code(page: str, code: str) -> None:
    """The words of each message, without what is filled in, stand in one of the sources."""
    spoken = re.sub(r'"\s*\n\s*f?"', "", code)
    told = re.findall(r"^\| `([^`]+)`", page.partition("| said |")[2].partition("\n\n")[0], re.M)
    assert len(told) >= 10
    for message in told:
        for part in re.split(r"\.\.\.|NAME|FILE|SIGKILL|1\)|[()]|: ", message):
            words = part.strip(" :;")
            assert words in ("", "replay") or words in spoken, f"{message}: {words!r}"
