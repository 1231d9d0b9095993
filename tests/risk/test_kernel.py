"""What the source of the kernel keeps to: no function of many arguments without a reason, no number beside its name."""

import ast
from pathlib import Path

import pytest

ARGUMENTS_MAX = 5
REASON = "More than five arguments because"


def kernel(project: Path) -> dict[str, str]:
    """The text of every module of risk/, and of those of markets/ that hold compiled code, by its path."""
    paths = [path for room in ("risk", "markets") for path in sorted((project / room).glob("*.py"))]
    texts = {path.relative_to(project).as_posix(): path.read_text() for path in paths}
    return {name: text for name, text in texts.items() if name.startswith("risk/") or "risk.compiled import" in text}


def many_arguments(text: str) -> list[str]:
    """Functions of more than five arguments that do not say why."""
    found = []
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef):
            told = function.args
            count = len([*told.posonlyargs, *told.args, *told.kwonlyargs]) + bool(told.vararg) + bool(told.kwarg)
            if count > ARGUMENTS_MAX and REASON not in " ".join((ast.get_docstring(function) or "").split()):
                found.append(f"{function.name}: {count}")
    return found


def doubled_members(text: str) -> list[str]:
    """Module-wide constants that repeat a member of an enumeration as a plain int."""
    return [
        ast.unparse(node)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "int"
        and any(isinstance(argument, ast.Attribute) for argument in call.args)
    ]  # fmt: skip


def test_no_function_of_the_kernel_takes_many_arguments_without_a_reason(project: Path) -> None:
    texts = kernel(project)
    assert {"risk/orders.py", "markets/paper.py", "markets/simulator.py"} <= set(texts)
    assert [f"{name}: {found}" for name, text in texts.items() for found in many_arguments(text)] == []


@pytest.mark.parametrize(
    "arguments", ["a, b, c, d, e, f", "a, /, b, c, d, *, e, f", "a, b, c, d, *e, **f", "self, a, b, c, d, e"]
)
def test_a_planted_function_of_six_arguments_is_found_and_a_reason_lets_it_pass(arguments: str) -> None:
    assert many_arguments(f"def crowded({arguments}):\n    '''Crowded.'''\n") == ["crowded: 6"]
    assert many_arguments(f"def crowded({arguments}):\n    '''Crowded. {REASON} it\n    is a table.'''\n") == []
    assert many_arguments("def enough(a, b, c, d, e):\n    pass\n") == []


def test_members_of_enumerations_are_used_as_they_are(project: Path) -> None:
    assert [f"{name}: {found}" for name, text in kernel(project).items() for found in doubled_members(text)] == []


def test_a_planted_number_beside_its_name_is_found() -> None:
    assert doubled_members("_FEE, _LOSS = int(Edge.fee), int(Edge.loss)") != []
    assert doubled_members("LIMIT = int(1e6)") == []
