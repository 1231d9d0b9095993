"""A guard for each guard: a fault is planted in a small copy of the project, and the command that CI runs must find it.

The copy has the project's own Makefile and pyproject.toml; its rooms hold only what the case needs, so that each tool
answers in a second or two. The first test shows that the copy without a fault passes everything.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = ("words", "risk", "markets", "strategies", "vaults", "runtime", "faces")
CLEAN = '''"""A module without a fault."""


def double(quantity: int) -> int:
    """Twice the quantity."""
    return 2 * quantity
'''
LATE = '''"""A forbidden import, made only when the function is called."""


def late() -> None:
    """Late."""
    import celery
'''
VENUES = ("markets/exchange", "markets/paper")
BEHIND_THE_VENUE = (
    "markets/simulator",
    *(f"risk/{name}" for name in ("edges", "engine", "events", "orders", "settlement", "tape", "wall")),
)
PASSING = '"""A test that passes."""\n\n\ndef test_that_passes() -> None:\n    assert True\n'


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A small copy of the project in a folder with a space in its name."""
    top = tmp_path / "a copy"
    (top / "tests").mkdir(parents=True)
    (top / ".ci").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".gitignore", ".ci/run"):
        shutil.copy(project / name, top / name)
    (top / "ringfence").mkdir()
    (top / "ringfence" / "__init__.py").write_text('"""A copy."""\n')
    for room in ROOMS:
        (top / room).mkdir()
        (top / "ringfence" / room).symlink_to(Path("..") / room)
        (top / room / "__init__.py").write_text(f'"""The room {room}."""\n')
        (top / room / "planted.py").write_text(CLEAN)
    for module in VENUES + BEHIND_THE_VENUE:  # the contract between them names them
        (top / f"{module}.py").write_text(CLEAN)
    (top / "tests" / "test_planted.py").write_text(PASSING)
    return top


def surroundings() -> dict[str, str]:
    """This process's environment without what the outer make, pytest and pip would tell the inner ones."""
    mine = ("MAKE", "MFLAGS", "PYTEST", "PIP_", "ARGS", "PYTHON", "READY", "COVERAGE")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)}


def run(top: Path, *command: str) -> tuple[int, str]:
    """Exit code and output of a command in the copy, with the environment that runs this test instead of a new one."""
    (top / ".venv").symlink_to(sys.prefix)
    environment = surroundings() | {"MAKEFLAGS": "READY="}
    done = subprocess.run(command, cwd=top, env=environment, capture_output=True, text=True, timeout=300)
    (top / ".venv").unlink()
    return done.returncode, done.stdout + done.stderr


def test_the_copy_without_a_fault_passes_check_and_tests(copy: Path) -> None:
    code, output = run(copy, ".ci/run")
    assert code == 0, output
    assert "Contracts: 6 kept, 0 broken." in output
    assert output.rstrip().splitlines()[-1].startswith("1 passed"), "the last line is pytest's summary"


@pytest.mark.parametrize(
    ("target", "fault", "found"),
    [
        pytest.param("lint", CLEAN.replace("return 2", "import os\n    return 2"), "F401", id="an unused import"),
        pytest.param("lint", CLEAN.replace("def double", "def Double"), "N802", id="a function named as a class"),
        pytest.param("lint", CLEAN.replace("2 * quantity", "2*quantity"), "planted.py", id="an unformatted file"),
        pytest.param("types", CLEAN.replace("2 * quantity", '"2"'), "return-value", id="a wrong type"),
        pytest.param("types", CLEAN.replace("quantity: int", "quantity"), "no-untyped-def", id="a missing annotation"),
        pytest.param(
            "imports",
            f"{CLEAN}\n\nimport ringfence.runtime\n",
            "risk.planted -> ringfence.runtime",
            id="a room above it",
        ),
    ],
)
def test_a_planted_fault_fails_its_target_and_the_whole_check(copy: Path, target: str, fault: str, found: str) -> None:
    (copy / "risk" / "planted.py").write_text(fault)
    code, output = run(copy, "make", target)
    assert code != 0
    assert found in output
    if target == "lint":
        code, output = run(copy, ".ci/run")
        assert code != 0
        assert "passed" not in output, "CI stops at the first command that fails"


FORBIDDEN = [
    *(
        (room, f"ringfence.{above}")
        for room, rooms in (
            ("words", ("risk", "markets", "strategies", "vaults", "runtime", "faces")),
            ("risk", ("markets", "strategies", "vaults", "runtime", "faces")),
            ("markets", ("strategies", "vaults", "runtime", "faces")),
            ("strategies", ("vaults", "runtime", "faces")),
            ("vaults", ("strategies", "runtime", "faces")),
            ("runtime", ("faces",)),
        )
        for above in rooms
    ),
    *(("runtime", module) for module in ("typer", "rich", "plotly")),
    *(
        ("risk", module)
        for module in ("sqlalchemy", "sqlmodel", "pydantic", "celery", "redis", "yaml", "ccxt", "pyarrow")
    ),
    *(("risk", module) for module in ("typer", "rich", "pandas", "time", "socket", "sqlite3", "random")),
    *(
        (room, module)
        for room in ("words", "markets", "strategies", "vaults")
        for module in ("celery", "redis", "typer", "rich")
    ),
    *(("strategies", module) for module in ("sqlalchemy", "sqlmodel", "ccxt", "psycopg")),
]


def test_every_forbidden_import_breaks_a_contract_and_is_named(copy: Path) -> None:
    """All are planted at once, in a module each, since one import must be found beside others too."""
    for number, (room, module) in enumerate(FORBIDDEN):
        (copy / room / f"planted_{number}.py").write_text(f'"""Planted."""\n\nimport {module}\n')
    code, output = run(copy, "make", "imports")
    assert code != 0
    report = " ".join(output.split())
    missed = [
        (n, room, module)
        for n, (room, module) in enumerate(FORBIDDEN)
        if f"{room}.planted_{n} -> {module} " not in report
    ]
    assert missed == []


def test_a_venue_that_looks_at_the_vault_breaks_a_contract(copy: Path) -> None:
    """Through a module between them as well."""
    behind = [module.replace("/", ".") for module in BEHIND_THE_VENUE]
    imports = "".join(f"import ringfence.{module}\n" for module in behind)
    (copy / "markets" / "paper.py").write_text(f'"""Planted."""\n\n{imports}')
    (copy / "markets" / "exchange.py").write_text('"""Planted."""\n\nimport ringfence.risk.planted\n')
    (copy / "risk" / "planted.py").write_text('"""Planted."""\n\nimport ringfence.risk.wall\n')
    code, output = run(copy, "make", "imports")
    assert code != 0
    report = " ".join(output.split())
    assert [module for module in behind if f"markets.paper -> ringfence.{module} " not in report] == []
    assert "markets.exchange -> ringfence.risk.planted" in report


@pytest.mark.parametrize("room", ROOMS[:-2])
def test_one_forbidden_import_alone_breaks_a_contract(copy: Path, room: str) -> None:
    (copy / room / "planted.py").write_text(LATE)
    code, output = run(copy, "make", "imports")
    assert code != 0
    assert f"{room}.planted -> celery" in output


def test_a_room_that_imports_the_public_face_breaks_the_layers(copy: Path) -> None:
    late = "if TYPE_CHECKING:\n    from ringfence.faces import planted"
    face = f'"""A face."""\n\nfrom typing import TYPE_CHECKING\n\n{late}\n'
    (copy / "ringfence" / "__init__.py").write_text(face)
    code, output = run(copy, "make", "imports")
    assert code == 0, output
    (copy / "vaults" / "planted.py").write_text('"""Planted."""\n\nfrom ringfence import planted\n')
    code, output = run(copy, "make", "imports")
    assert code != 0
    assert "ringfence.vaults is not allowed to import ringfence.faces" in output


def test_the_contracts_hold_in_the_project_itself(project: Path) -> None:
    program = Path(sys.prefix) / "bin" / "lint-imports"
    done = subprocess.run([program, "--no-cache"], cwd=project, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 6 kept, 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        pytest.param(PASSING.replace("True", "False"), "1 failed", id="a failing test"),
        pytest.param(f"import nothing_of_this_name\n{PASSING}", "1 error", id="a test file that cannot be imported"),
        pytest.param(
            f"import pytest\n\n\n@pytest.mark.no_such_mark\n{PASSING.splitlines()[3]}\n    pass\n",
            "no_such_mark",
            id="an unknown mark",
        ),
        pytest.param(
            f"import pytest\n\n\n@pytest.mark.xfail(reason='long repaired')\n{PASSING.splitlines()[3]}\n    pass\n",
            "1 failed",
            id="an expected failure that passes",
        ),
    ],
)
def test_a_fault_in_a_test_fails_the_suite(copy: Path, fault: str, found: str) -> None:
    (copy / "tests" / "test_planted.py").write_text(fault)
    code, output = run(copy, "make", "test")
    assert code != 0
    assert found in output


def test_a_suite_that_selects_nothing_fails(copy: Path) -> None:
    code, _ = run(copy, "make", "test", "ARGS=-k no_test_has_this_name")
    assert code != 0


def test_coverage_below_its_bound_fails(copy: Path) -> None:
    for room in ("risk", "vaults", "laws", "reference"):
        (copy / "tests" / room).mkdir()
    code, output = run(copy, "make", "coverage", "ARGS=tests/test_planted.py")
    assert code != 0
    assert "less than fail-under=95" in output


def test_no_python_that_fits_is_said_with_what_was_tried(copy: Path) -> None:
    """Nothing is installed: the first step already refuses."""
    old = copy / "old python"
    old.write_text('#!/bin/sh\ncase "$2" in *version_info\\ *) exit 1;; *) echo 3.9.1;; esac\n')
    old.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(old)}
    done = subprocess.run(["make", "demo"], cwd=copy, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "is Python 3.9.1, too old" in done.stderr
    assert "make PYTHON=/path/to/python3.12" in done.stderr
    assert not (copy / ".venv").exists()


def test_an_index_out_of_reach_is_said_and_the_next_run_tries_again(copy: Path, tmp_path: Path) -> None:
    environment = surroundings() | {"PYTHON": sys.executable, "HOME": str(tmp_path)}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    done = subprocess.run(["make", "demo"], cwd=copy, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "is the network there? Then run the same command again." in done.stderr
    assert not (copy / ".venv" / "ready").exists()
