"""What no tool checks: the layout, sizes, docstrings, exact versions, and what must not stand in any file.

Each rule is a function that returns what it finds in a folder or a text; beside the test that expects nothing of the
project stands one that plants a fault and expects it to be found.
"""

import ast
import fnmatch
import hashlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOMS = ("words", "risk", "markets", "strategies", "vaults", "runtime", "faces")
TOP = {
    *(".ci", ".dockerignore", ".editorconfig", ".env.example", ".gitignore"),
    *("CHANGELOG.md", "Dockerfile", "LICENSE", "Makefile", "README.md"),
    *("constraints.txt", "docker-compose.yml", "pyproject.toml"),
    *("benchmarks", "docs", "examples", "mandates", "ringfence", "tests"),
    *ROOMS,
}
BYTES_MAX = 400_000
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(?:wor" + r"k|roo" + r"t|hom" + r"e|User" + r"s|op" + r"t)/[\w.]",
    "a package index": r"py" + r"pi\.org|python" + r"hosted|https?://\S+/simple\b|index[-_]url\s*[= ]\s*\w+:",
    "work left undone": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
    "a guard switched off": r"\|\|\s*(?:tru" + r"e\b|:(?:\s|$))|continue-on-erro" + r"r|pytest\.mark\.ski" + r"p\b",
    "the number of a ticket": r"(?i)\bissu" + r"e\s+#?\d",
}


def files(top: Path) -> Iterator[Path]:
    """Every file that belongs to the project: all but what .gitignore names, and .git."""
    ignored = [".git", *(line.rstrip("/") for line in (top / ".gitignore").read_text().split())]
    for path in sorted(top.iterdir()):
        yield from _files(path, ignored)


def _files(path: Path, ignored: list[str]) -> Iterator[Path]:
    if any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored):
        return
    if path.is_symlink():  # a room as the package has it: its files are at the top
        return
    if path.is_dir():
        for inner in sorted(path.iterdir()):
            yield from _files(inner, ignored)
    else:
        yield path


def forbidden_words(text: str) -> list[str]:
    """What stands in the text and must not: rule and words."""
    return [f"{rule}: {match[0]}" for rule, words in FORBIDDEN.items() for match in re.finditer(words, text, re.M)]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def too_long(text: str) -> list[str]:
    """A module over 400 lines and functions over 60 without their docstring, unless they say why."""
    tree = ast.parse(text)
    found = []
    if text.count("\n") > MODULE_LINES_MAX and "Longer than 400 lines because" not in (ast.get_docstring(tree) or ""):
        found.append(f"module: {text.count(chr(10))} lines")
    for function in functions(tree):
        first = function.body[0]
        said = ast.get_docstring(function) or ""
        docstring = (first.end_lineno or 0) - first.lineno + 1 if said else 0
        lines = (function.end_lineno or 0) - function.lineno + 1 - docstring
        if lines > FUNCTION_LINES_MAX and "Longer than 60 lines because" not in " ".join(said.split()):
            found.append(f"{function.name}: {lines} lines")
    return found


def undocumented(text: str, functions_too: bool) -> list[str]:
    """The module, and its public classes and functions if asked, that have no docstring."""
    tree = ast.parse(text)
    found = [] if ast.get_docstring(tree) else ["module"]
    if functions_too:
        public = [
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        found += [node.name for node in public if not ast.get_docstring(node)]
    return found


def imported(text: str) -> set[str]:
    """The modules that a text imports, at its top or late."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def clock_reads(text: str) -> list[str]:
    """Calls that ask a clock or roll dice: what a pure room leaves to its caller."""
    names = {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "default_rng", "uuid1", "uuid4"}
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)]
    return [ast.unparse(node) for node in nodes if node.attr in names or ast.unparse(node) == "time.time"]


def inexact(text: str) -> list[str]:
    """Lines of constraints.txt that are not one name and one exact version."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==\d[A-Za-z0-9.]*", line)]


@pytest.fixture(scope="module")
def sources(project: Path) -> dict[str, str]:
    """The text of every Python file, by its path from the top."""
    paths = [path for path in files(project) if path.suffix == ".py"]
    return {path.relative_to(project).as_posix(): path.read_text() for path in paths}


@pytest.fixture(scope="module")
def declared(project: Path) -> list[Requirement]:
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in told["dependencies"] + told["optional-dependencies"]["dev"]]


@pytest.fixture(scope="module")
def pinned(project: Path) -> dict[str, str]:
    lines = (project / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def each(sources: dict[str, str], rule: Callable[[str], list[str]], *rooms: str) -> list[str]:
    """What a rule finds in the files of some rooms (of all, if none is named), each with its path."""
    chosen = {path: text for path, text in sources.items() if not rooms or path.split("/")[0] in rooms}
    assert chosen, "the rule would look at nothing"
    return [f"{path}: {found}" for path, text in chosen.items() for found in rule(text)]


def test_the_top_of_the_tree_is_the_plan_s(project: Path) -> None:
    assert {path.relative_to(project).parts[0] for path in files(project)} == TOP


def test_the_tests_mirror_the_rooms(project: Path) -> None:
    assert {path.name for path in (project / "tests").iterdir()} >= {*ROOMS, "laws", "reference", "acceptance"}


def test_no_file_holds_a_machine_s_path_an_index_unfinished_work_or_a_silenced_guard(project: Path) -> None:
    found = []
    for path in files(project):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(project)}: {words}" for words in forbidden_words(text)]
    assert found == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("a path of one machine", "open('/hom" + "e/alice/bars.csv')"),
        ("a path of one machine", "cd /wor" + "k/main"),
        ("a package index", "--index-" + "url https://mirror.example/"),
        ("a package index", "https://py" + "pi.org/project/numpy"),
        ("a package index", "find-links = http://mirror.example/sim" + "ple"),
        ("work left undone", "# TO" + "DO: later"),
        ("a guard switched off", "\tmypy . || tru" + "e"),
        ("a guard switched off", "\truff check . ||:"),
        ("the number of a ticket", "see issu" + "e 12"),
    ],
)
def test_a_planted_forbidden_word_is_found(rule: str, text: str) -> None:
    assert [found.split(":")[0] for found in forbidden_words(text)] == [rule]


def test_plain_words_and_addresses_are_not_taken_for_forbidden_ones() -> None:
    assert (
        forbidden_words("https://keepachangelog.com/en/1.1.0/ ./work/out todo-free issue an order a || b /optional")
        == []
    )


def test_no_recorded_market_data_is_part_of_the_project(project: Path) -> None:
    names = [path.relative_to(project).as_posix() for path in files(project)]
    assert [name for name in names if re.search(r"\.(parquet|feather|arrow|zip|pkl|npz?|db|sqlite3?)$", name)] == []
    assert [name for name, path in ((n, project / n) for n in names) if path.stat().st_size > BYTES_MAX] == []


def test_no_file_is_a_copy_of_a_recorded_one(project: Path, recorded: Path) -> None:
    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    theirs = {path.stat().st_size: digest(path) for path in recorded.iterdir() if path.is_file()}
    candidates = [path for path in files(project) if path.stat().st_size in theirs]
    assert [path for path in candidates if theirs[path.stat().st_size] == digest(path)] == []


def test_every_module_and_function_is_short_or_says_why(sources: dict[str, str]) -> None:
    # A file of tests is a list of cases, not one thing to hold in mind; its functions are held to the same length.
    long = [found for found in each(sources, too_long) if not re.match(r"tests/.*: module: \d+ lines", found)]
    assert long == []


def test_a_planted_long_module_or_function_is_found_and_a_reason_or_docstring_lets_it_pass() -> None:
    body = "    x = 1\n" * 60
    assert too_long(f"def long():\n{body}") == ["long: 61 lines"]
    assert too_long(f"def long():\n    '''Longer than 60 lines because it is a table.'''\n{body}") == []
    assert too_long("def short():\n    '''" + "word\n" * 80 + "'''\n    x = 1\n") == []
    assert too_long("x = 1\n" * 401) == ["module: 401 lines"]
    assert too_long("'''Longer than 400 lines because it is a table.'''\n" + "x = 1\n" * 400) == []


def test_every_module_says_its_one_job(sources: dict[str, str]) -> None:
    assert each(sources, lambda text: undocumented(text, functions_too=False)) == []


def test_every_public_class_and_function_of_risk_is_documented(sources: dict[str, str]) -> None:
    assert each(sources, lambda text: undocumented(text, functions_too=True), "risk") == []


def test_a_planted_missing_docstring_is_found() -> None:
    text = "def margin():\n    pass\n\n\ndef _private():\n    pass\n\n\nclass Book:\n    pass\n"
    assert undocumented(text, functions_too=True) == ["module", "margin", "Book"]
    assert undocumented("", functions_too=False) == ["module"]


def test_risk_imports_nothing_but_numpy_numba_itself_and_the_standard_library(sources: dict[str, str]) -> None:
    """The import contract names what is forbidden; this names what is allowed, so that a new library is found too."""
    allowed = sys.stdlib_module_names | {"numpy", "numba", "ringfence"}
    assert each(sources, lambda text: sorted({name.split(".")[0] for name in imported(text)} - allowed), "risk") == []
    # units check themselves, and what people write in YAML is read on the ground
    allowed = sys.stdlib_module_names | {"ringfence", "pydantic", "pydantic_core", "yaml"}
    assert each(sources, lambda text: sorted({name.split(".")[0] for name in imported(text)} - allowed), "words") == []


def test_strategies_see_bars_and_instruments_of_the_markets_only(sources: dict[str, str]) -> None:
    allowed = {f"ringfence.markets.{name}" for name in ("bars", "instruments", "errors")} | {"ringfence.markets"}

    def others(text: str) -> list[str]:
        parts = [name.split(".") for name in imported(text)]
        names = {".".join(part[:3]) for part in parts if part[:2] == ["ringfence", "markets"]}
        return sorted(names - allowed)

    assert each(sources, others, "strategies") == []
    assert others("from ringfence.markets.venues.paper import Paper") == ["ringfence.markets.venues"]
    assert others("def late():\n    from ringfence.markets import scenarios") == ["ringfence.markets.scenarios"]


def test_risk_and_vaults_read_no_clock_and_roll_no_dice(sources: dict[str, str]) -> None:
    assert each(sources, clock_reads, "risk", "vaults") == []


def test_a_planted_clock_is_found() -> None:
    assert clock_reads("import time, datetime\nt = time.time()\nd = datetime.datetime.now()") == [
        "time.time",
        "datetime.datetime.now",
    ]


def test_every_line_of_the_constraints_is_one_exact_version(project: Path) -> None:
    assert inexact((project / "constraints.txt").read_text()) == []


@pytest.mark.parametrize(
    "line", ["numpy>=2.4", "numpy", "numpy==2.*", "-i mirror", "numpy @ file:x", "a==1; sys_platform"]
)
def test_a_planted_inexact_constraint_is_found(line: str) -> None:
    assert inexact(f"# versions\nnumba==0.68.1\n{line}\n") == [line]


def test_every_declared_dependency_is_pinned_to_a_version_that_it_allows(
    declared: list[Requirement], pinned: dict[str, str]
) -> None:
    unfit = [
        str(wanted)
        for wanted in declared
        if not wanted.specifier.contains(pinned.get(canonicalize_name(wanted.name), "0"))
    ]
    assert unfit == []


def test_everything_that_is_installed_with_a_dependency_is_pinned_and_installed_so(
    declared: list[Requirement], pinned: dict[str, str]
) -> None:
    """The whole closure in this environment: what is missing would be taken in any version by a fresh machine."""
    queue, installed = list(declared), {}
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            pytest.fail(f"{wanted} is declared and not installed: `make setup` brings .venv up to date")
        if name in installed and not wanted.extras:
            continue
        installed[name] = found.version
        for inner in map(Requirement, found.requires or []):
            extras = wanted.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(inner)
    different = {
        name: (version, pinned.get(name)) for name, version in installed.items() if pinned.get(name) != version
    }
    assert different == {}


def test_the_build_uses_the_pinned_hatchling(project: Path, pinned: dict[str, str]) -> None:
    requires = tomllib.loads((project / "pyproject.toml").read_text())["build-system"]["requires"]
    assert requires == [f"hatchling=={pinned['hatchling']}"]


def test_the_changelog_has_a_heading_for_this_version(project: Path) -> None:
    version = tomllib.loads((project / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\]", (project / "CHANGELOG.md").read_text(), re.M)
    assert headings[:2] == ["Unreleased", version]


def test_the_licence_is_the_one_that_the_package_names(project: Path) -> None:
    text = (project / "LICENSE").read_text()
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_readme_shows_the_two_commands(project: Path) -> None:
    lines = [line.split("#")[0].strip() for line in (project / "README.md").read_text().splitlines()]
    assert {"make demo", "make test"} <= set(lines)


def test_links_between_documents_lead_somewhere(project: Path) -> None:
    lost = []
    for path in files(project):
        if path.suffix == ".md":
            for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", path.read_text()):
                if not (path.parent / link).exists():
                    lost.append(f"{path.relative_to(project)}: {link}")
    assert lost == []


def undefined(text: str, folder: Path) -> list[str]:
    """Names that a document links to a Python file which does not define them."""
    lost = []
    for name, link in re.findall(r"\[`(\w+)`\]\(([^)]+\.py)\)", text):
        tree = ast.parse((folder / link).read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        lost += [] if name in defined else [f"{link}: {name}"]
    return lost


def test_the_house_in_one_page_names_functions_that_stand_where_it_says(project: Path) -> None:
    page = project / "docs" / "ARCHITECTURE.md"
    assert undefined(page.read_text(), page.parent) == []
    assert undefined("[`fil`](../markets/paper.py)", page.parent) == ["../markets/paper.py: fil"]
    bar, deposit = (
        re.findall(r"^\d+\. \[`\w+`\]\(\S+\.py\)", part, re.M) for part in page.read_text().split("\n## ")[2:4]
    )
    assert 0 < len(bar) <= 13
    assert 0 < len(deposit) <= 12


def test_ci_runs_check_and_test_and_nothing_that_could_hide_a_failure(project: Path) -> None:
    lines = [line for line in (project / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make check", "make test"]
    assert (project / ".ci" / "run").stat().st_mode & 0o111


def test_the_shipped_console_script_and_strategies_can_be_loaded() -> None:
    points = list(distribution("ringfence").entry_points)
    assert {point.name for point in points if point.group == "ringfence.strategies"} == {
        *("constant", "liquidation_distance", "trend", "vol_target")
    }
    for point in points:
        point.load()
