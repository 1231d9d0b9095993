"""docs/FAULTS.md names tests that are there, and every test of faults is named in it."""

import ast
import re
from pathlib import Path

PAGE = "FAULTS.md"


def named_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_row_of_the_page_names_a_test_that_is_there(project: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (project / "docs" / PAGE).read_text())
    assert len(named) > 20
    assert [(file, test) for file, test in named if test not in named_in(project / file)] == []
    assert len(named) == len(set(named))


def test_the_page_leaves_no_test_of_queue_broker_database_process_and_clock_out(project: Path) -> None:
    told = (project / "docs" / PAGE).read_text()
    for file in ("test_broker.py", "test_clocks.py", "test_databases.py", "test_processes.py"):
        path = project / "tests" / "faults" / file
        assert [test for test in named_in(path) if f"`tests/faults/{file}::{test}`" not in told] == []
