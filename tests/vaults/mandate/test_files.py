"""Mandates in files and folders: read once, checked together, in the order in which they are given."""

import subprocess
import sys
from pathlib import Path

import pytest

from ringfence.vaults.errors import MandateError
from ringfence.vaults.mandate.files import check_mandates
from ringfence.words.source import Problem

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
"""


def test_a_folder_is_checked_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("btc-eth", "other"))
    (tmp_path / "notes.txt").write_text("not a mandate")
    assert check_mandates([tmp_path]).problems == ()
    (tmp_path / "c.yaml").write_text("mandate: [")
    (tmp_path / "d.yaml").write_text(GOOD.replace("btc-eth", "third").replace("20%", "20"))
    found = [(Path(problem.file).name, problem.line, problem.column) for problem in check_mandates([tmp_path]).problems]
    assert found == [("c.yaml", 1, 11), ("d.yaml", 3, 11)]


def test_a_name_that_two_files_share_is_told_at_both_places(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(GOOD)
    second.write_text("# a copy\n" + GOOD)
    checked = check_mandates([str(second), first, tmp_path])
    assert checked.problems == (
        Problem(
            str(first),
            1,
            10,
            "mandate",
            f"btc-eth is also the name of the mandate at {second}:2:10; a vault has one mandate",
        ),
        Problem(
            str(second),
            2,
            10,
            "mandate",
            f"btc-eth is also the name of the mandate at {first}:1:10; a vault has one mandate",
        ),
    )
    assert [mandate.name for mandate in checked.mandates] == ["btc-eth", "btc-eth"]
    with pytest.raises(MandateError, match="a vault has one mandate"):
        checked.sound()


def test_a_file_named_twice_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "link.yml").symlink_to(tmp_path / "a.yaml")
    checked = check_mandates([tmp_path / "a.yaml", tmp_path, str(tmp_path / "a.yaml")])
    assert (checked.problems, len(checked.mandates)) == ((), 1)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    missing = str(tmp_path / "missing.yaml")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    endless = "x" * 5000
    problems = check_mandates([tmp_path / "empty", missing, "nul\0byte.yaml", endless, tmp_path / "loop.yaml"]).problems
    told = {problem.file: problem.message for problem in problems}
    assert told[str(tmp_path / "empty")] == "holds no mandate; expected files *.yaml"
    assert told[missing] == "cannot be read: No such file or directory"
    assert "cannot be read" in told["nul\0byte.yaml"]
    assert "cannot be read: Too many levels" in told[str(tmp_path / "loop.yaml")]
    assert told[endless] == "cannot be read: File name too long"


def test_sound_mandates_are_in_the_order_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("z.yaml", "folder/b.yaml", "folder/a.yml"):
        (tmp_path / name).write_text(GOOD.replace("btc-eth", Path(name).stem + "-vault"))
    checked = check_mandates([tmp_path / "z.yaml", tmp_path / "folder"])
    assert [mandate.name for mandate in checked.sound()] == ["z-vault", "a-vault", "b-vault"]


def test_a_mandate_without_a_fault_is_there_beside_one_that_has_some(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("mandate: [")
    checked = check_mandates([tmp_path])
    assert [mandate.name for mandate in checked.mandates] == ["btc-eth"]
    assert [problem.file for problem in checked.problems] == [str(tmp_path / "b.yaml")]


def test_what_is_not_a_plain_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (problem,) = check_mandates(["/dev/null"]).problems
    assert problem.message == "is not a file; name a mandate's file"
    (problem,) = check_mandates([tmp_path]).problems
    assert problem.message == "is not a file; name a mandate's file"


def test_terms_and_checks_load_neither_numpy_nor_the_kernel() -> None:
    program = (
        "import sys, ringfence.vaults.mandate.terms, ringfence.vaults.mandate.files; "
        "print(sorted(set(sys.modules) & {'numpy', 'numba', 'sqlalchemy', 'ringfence.risk', 'ringfence.markets'}))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
