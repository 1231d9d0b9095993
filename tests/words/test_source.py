"""The YAML reader: what it takes, what it refuses and where, and that no text makes it work hard."""

from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ringfence.words.source import DEPTH_MAX, Document, Source, SourceRefused, dotted
from ringfence.words.source import read_yaml as read_document

MANDATE = Document("mandate", "mandate: btc-shield", "use `defaults`")
SIZE_MAX, NODES_MAX = MANDATE.size_max, MANDATE.nodes_max
LOADERS = [yaml.CSafeLoader, yaml.SafeLoader]


def read_yaml(text: str | bytes, file: str, *, loader: Any = yaml.CSafeLoader) -> Source:
    """A mandate's text."""
    return read_document(text, file, MANDATE, loader=loader)


def told(text: str | bytes, loader: Any = yaml.CSafeLoader) -> list[str]:
    """Problems of a text, from an error or from a reading that went on."""
    try:
        return [str(problem) for problem in read_yaml(text, "f", loader=loader).problems]
    except SourceRefused as error:
        return [str(problem) for problem in error.problems]


@pytest.mark.parametrize("loader", LOADERS)
def test_plain_yaml_becomes_text_decimals_and_truth(loader: Any) -> None:
    text = "---\na: 1\nb: [2.50, -0, x, true, '010']\nc: {d: 20%, 'e f': \"no\"}\ng: |\n  two\n  lines\n...\n"
    assert read_yaml(text, "f", loader=loader).tree == {
        "a": Decimal(1),
        "b": [Decimal("2.50"), Decimal(0), "x", True, "010"],
        "c": {"d": "20%", "e f": "no"},
        "g": "two\nlines\n",
    }


def test_a_number_keeps_every_digit() -> None:
    tree = read_yaml("a: 0.1000000000000000000000000001", "f").tree
    assert tree["a"] == Decimal("0.1000000000000000000000000001")


def test_minus_zero_is_zero() -> None:
    assert str(read_yaml("a: -0", "f").tree["a"]) == "0"


@pytest.mark.parametrize("loader", LOADERS)
def test_every_key_and_value_has_its_place(loader: Any) -> None:
    source = read_yaml("a: 1\nb:\n  é: [x, {c: 2}]\n", "f", loader=loader)
    assert source.locate(("a",)) == (1, 4)
    assert source.locate_key(("b",)) == (2, 1)
    assert source.locate_key(("b", "é")) == (3, 3)
    assert source.locate(("b", "é", 0)) == (3, 7)
    assert source.locate(("b", "é", 1, "c")) == (3, 14)
    assert source.locate_key(("b", "é", 1)) == (3, 10)


def test_what_is_absent_is_placed_at_the_key_above_it() -> None:
    source = read_yaml("# a comment\na:\n  b: 1\n", "f")
    assert source.locate(("a", "x", "y")) == (2, 1)
    assert source.locate(("x",)) == (2, 1)
    assert source.locate(()) == (2, 1)


AMBIGUOUS = [
    "no", "No", "NO", "yes", "on", "off", "y", "N", "True", "FALSE", "null", "~",
    "", "Null", "010", "-07", "0_1", "01.5", "0x1F", "0o17", "0b11", "1:30", "12:34:56", "-1:30.5",
    "1e3", "1.5E-3", "1E+3", ".5e3", "1_000", "1_0.5", ".5", "-.5", "5.", "+5", "+0.5", ".nan",
    ".NaN", "nan", "NaN", ".inf", "-.inf", "+.INF", "Infinity", "2020-03-12", "2020-03-12T00:00:00Z",
    "2020-03-12 10:00:00", "=",
]  # fmt: skip


@pytest.mark.parametrize("scalar", AMBIGUOUS)
def test_a_scalar_that_two_readers_take_differently_is_refused_with_a_way_out(scalar: str) -> None:
    (problem,) = read_yaml(f"first: 1\nkey: {scalar}\n", "f").problems
    assert problem.line == 2
    assert problem.column == 6 if scalar else problem.column >= 5
    assert any(way in problem.message for way in ("write", "give one", "did you mean", "in quotes", "leave"))


@pytest.mark.parametrize("scalar", AMBIGUOUS)
def test_the_same_scalar_in_quotes_is_text(scalar: str) -> None:
    assert read_yaml(f"key: '{scalar}'", "f").tree == {"key": scalar}


@pytest.mark.parametrize(
    "scalar", ["none", "november", "i", "inflow", "12h", "20%", "1.2.3", "1-2", "-x", "on-line", "BTC/USDT:USDT"]
)
def test_plain_words_that_all_readers_take_alike_are_text(scalar: str) -> None:
    assert read_yaml(f"key: {scalar}", "f").tree == {"key": scalar}


def test_y_and_n_may_be_keys_since_parameters_are_called_so() -> None:
    assert read_yaml("n: 1\ny: 2", "f").tree == {"n": Decimal(1), "y": Decimal(2)}


REFUSED = [
    ("on: 1", "f:1:1 on: as a key, on is not plain text to every reader; write 'on' in quotes"),
    ("a: 1\n2: 3", "f:2:1 2: a key is text; write '2' in quotes"),
    ("true: 3", "f:1:1 true: a key is text; write 'true' in quotes"),
    (": 3", "f:1:1 "),
    ("a: 1\nb: 2\na: 3", "f:3:1 a: duplicate key; it stands at line 1 and again at line 3"),
    ("a: 1\n'a': 3", "f:2:1 a: duplicate key; it stands at line 1 and again at line 2"),
    ("a: {b: 1, b: {c: no}}", "f:1:11 a.b: duplicate key; it stands at line 1 and again at line 1"),
    ("a: 1\n<<: {b: 1}", "f:2:1 <<: merge keys are refused; use `defaults`"),
    ("a: &x 1", "f:1:4 a: anchor &x is refused"),
    ("&x a: 1", "f:1:1 anchor &x is refused"),
    ("a: *x", "f:1:4 a: alias *x is refused"),
    ("*x : 1", "f:1:1 alias *x is refused"),
    ("<<: *x", "f:1:5 alias *x is refused"),
    ("a: !!int '1'", "f:1:4 a: tag tag:yaml.org,2002:int is refused"),
    ("!x a: 1", "f:1:1 tag !x is refused"),
    ("!!set {a: 1}", "f:1:1 tag tag:yaml.org,2002:set is refused"),
    ("? [a]\n: b", "f:1:3 a key must be plain text"),
    ("%YAML 1.1\n---\na: 1", "directives (%YAML, %TAG) are refused"),
    ("%TAG ! tag:x,2000:\n---\na: 1", "directives (%YAML, %TAG) are refused"),
    ("a: 1\n---\nb: 1", "f:2:1 a second document begins here"),
    ("", "f:1:1 is empty; expected a mandate"),
    ("# only a comment\n", "f:1:1 is empty; expected a mandate"),
    ("[a]", "f:1:1 expected keys and values"),
    ("!x [a]", "f:1:1 tag !x is refused"),
    ("---\n", "expected keys and values"),
    ("a:\n\tb: 1", "f:2:1 a tab indents this line; use spaces"),
    ("a:\n  \tb: 1", "f:2:3 a tab indents this line; use spaces"),
    ("\ufeffa: 1", "f:1:1 begins with a byte-order mark; save it as UTF-8 without BOM"),
    (b"\xef\xbb\xbfa: 1", "f:1:1 begins with a byte-order mark"),
    ("a: 1".encode("utf-16"), "f:1:1 is UTF-16; save it as UTF-8"),
    ("a: é".encode("latin-1"), "f:1:4 byte 0xe9 is not UTF-8; save the file as UTF-8"),
    ("é: 1\nü: ".encode() + b"\xff", "f:2:4 byte 0xff is not UTF-8"),
    ("a: 1\nb: \x00", "f:2:4 has the invisible character U+0000; take it out"),
    ("a: 1\rb: 2", "f:1:5 has the invisible character U+000D"),
    ("a: \ud800", "has the invisible character U+D800"),
    ("a: x\u2028b: y", "f:1:5 has the invisible character U+2028"),
    ("a: \u202e1", "has the invisible character U+202E"),
    ('a: "\\0"', "f:1:4 a: has the invisible character U+0000"),
    ('"\\u200b": 1', "f:1:1 \\u200b: has the invisible character U+200B"),
    ("a: '", "is not valid YAML here: found unexpected end of stream (while scanning a quoted scalar from line 1)"),
    ("a: b: c", "f:1:5 is not valid YAML here: mapping values are not allowed in this context"),
    ("a: @x", "f:1:4 is not valid YAML here: found character that cannot start any token"),
    ("a: " + "1" * 41, "has 41 characters; a number may have at most 40"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[repr(text)[:40] for text, _ in REFUSED])
def test_what_is_refused_is_told_with_its_place(text: str | bytes, expected: str) -> None:
    assert any(expected in problem for problem in told(text)), told(text)


@pytest.mark.parametrize(("text", "expected"), REFUSED, ids=[repr(text)[:40] for text, _ in REFUSED])
def test_the_parser_without_libyaml_refuses_the_same(text: str | bytes, expected: str) -> None:
    assert told(text, yaml.SafeLoader)


def test_a_bare_error_of_the_parser_is_told_too() -> None:
    class Failing(yaml.SafeLoader):
        def check_event(self, *choices: Any) -> bool:
            raise yaml.YAMLError("out of sorts")

    assert told("a: 1", Failing) == ["f:1:1 is not valid YAML: out of sorts"]


def test_faults_of_scalars_are_all_told_and_their_values_left_out() -> None:
    source = read_yaml("a: no\nb: [1, 010]\nc: 3\non: {d: no}\n", "f")
    assert source.tree == {"c": Decimal(3)}
    assert [(problem.line, problem.column) for problem in source.problems] == [(1, 4), (2, 8), (4, 1)]
    assert source.refused == {("a",), ("b", 1), ("b",)}


def test_a_fault_that_stops_the_reading_comes_with_those_before_it() -> None:
    assert [problem.split(" ")[0] for problem in told("a: no\nb: &x 1\n")] == ["f:1:4", "f:2:4"]
    assert [problem.split(" ")[0] for problem in told("a: no\non: &x 1\n")] == ["f:1:4", "f:2:1", "f:2:5"]
    assert [problem.split(" ")[0] for problem in told("a: no\nb: [\n")] == ["f:1:4", "f:3:1"]


BOMBS = [
    ("a: " + "[" * 100_000, f"is nested deeper than {DEPTH_MAX} levels"),
    ("a: " + "{a: " * 60_000, f"is nested deeper than {DEPTH_MAX} levels"),
    ("- " * 100_000, "nested deeper"),
    ("a: [" + "1," * 120_000 + "]", f"has more than {NODES_MAX} keys and values"),
    ("".join(f"k{n}: 1\n" for n in range(20_000)), f"has more than {NODES_MAX} keys and values"),
    ("on: [" + "1," * 120_000 + "]", f"has more than {NODES_MAX} keys and values"),
    ("".join(f"on: [{'1,' * 300}]\n" for _ in range(20)), f"has more than {NODES_MAX} keys and values"),
    ("a: &a [x]\n" + "".join(f"b{n}: &b{n} {{<<: [*a, *a]}}\n" for n in range(20)), "anchor &a is refused"),
    ("#" * (SIZE_MAX + 1), "is larger than 256 KiB"),
]


@pytest.mark.parametrize(("text", "expected"), BOMBS, ids=[text[:12] for text, _ in BOMBS])
def test_a_bomb_stops_at_a_limit(text: str, expected: str) -> None:
    events: list[str] = []

    class Counting(yaml.CSafeLoader):
        def get_event(self) -> Any:
            event = super().get_event()
            events.append(type(event).__name__)
            return event

    assert any(expected in problem for problem in told(text.encode(), Counting))
    assert len(events) <= 2 * NODES_MAX + 10


def test_a_mandate_at_the_limits_is_read() -> None:
    deep = "a: " + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1)
    assert told(deep) == []
    assert told("a: " + "[" * DEPTH_MAX + "]" * DEPTH_MAX) != []
    assert told("".join(f"k{n}: v\n" for n in range((NODES_MAX - 1) // 2))) == []
    assert told(("a: b\n" + "#" * SIZE_MAX)[:SIZE_MAX]) == []


def test_a_path_is_shown_with_dots() -> None:
    assert dotted(("a", 0, "b" * 60)) == "a.0." + "b" * 37 + "..."


@given(st.one_of(st.text(), st.binary(), st.text(alphabet="ab:{}[]-?,'\"\n #&*!|>%@`01.~<=")))
def test_no_text_raises_anything_but_the_named_error(text: str | bytes) -> None:
    try:
        source = read_yaml(text, "f")
    except SourceRefused:
        return
    assert isinstance(source.tree, dict)


@given(st.text(alphabet="ab:{}[]-?,'\"\n #01.~no"))
def test_what_is_taken_means_the_same_to_yaml_with_every_scalar_as_text(text: str) -> None:
    try:
        source = read_yaml(text, "f")
    except SourceRefused:
        return
    if not source.problems:
        assert _as_text(source.tree) == _as_text(yaml.load(text, Loader=yaml.BaseLoader))


def _as_text(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _as_text(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_as_text(value) for value in tree]
    if isinstance(tree, bool):
        return str(tree).lower()
    try:
        return str(Decimal(tree) + 0) if "." in str(tree) or str(tree).lstrip("-").isdigit() else str(tree)
    except ArithmeticError:
        return str(tree)
