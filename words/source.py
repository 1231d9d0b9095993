"""YAML as people may write it here: plain keys and values with their places, nothing that two readers take differently.

Built on PyYAML's parser events, never on its constructors. Size, depth and number of nodes are bounded; anchors,
aliases, tags, merge keys, directives and further documents are refused, as are duplicate keys and scalars that YAML 1.1
and 1.2 or two programs read differently (`no`, `010`, `1:30`, `1e3`, ...). Numbers become Decimal, the rest text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from ringfence.words.refusal import RingfenceError
from ringfence.words.units import shown

__all__ = ["DEPTH_MAX", "Document", "Path", "Problem", "Source", "SourceRefused", "Tree", "dotted", "file_text",
           "read_yaml", "system_reason"]  # fmt: skip

DEPTH_MAX: Final = 16
_PROBLEMS_SHOWN: Final = 100

Path = tuple[str | int, ...]
Tree = Any
"""dict[str, Tree] | list[Tree] | str | Decimal | bool; never None."""
Place = tuple[int, int]
"""Line and column, from 1."""

_FASTEST: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_REFUSED: Final = object()

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)
_NUMBER_MAX = 40
_UNREADABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00a0\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]|\r(?!\n)"
)
_TAB = re.compile(r"^ *\t", re.MULTILINE)
_FALSE = frozenset(("no", "off", "n"))
_TRUE = frozenset(("yes", "on", "y"))
_AMBIGUOUS: Final = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE), reason)
    for pattern, reason in (
        (r"[-+]?0[0-9_]+(?:\.[0-9_]*)?", "its leading zero makes it octal to some readers; write it without"),
        (r"[-+]?0[xob][0-9a-f_]+", "some readers take it as a number of another base; write it in decimal digits"),
        (
            r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?",
            "some readers take it as a number of base 60; write a duration like 1h30m",
        ),
        (r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9_]+)e[-+]?[0-9]+", "its exponent is not read by all; write all digits"),
        (r"[-+]?[0-9][0-9.]*(?:_[0-9.]*)+|[-+]?\.[0-9]*_[0-9_]*", "underscores are not read by all; write digits only"),
        (r"[-+]?\.[0-9]+", "it has no digit before the point; write the 0"),
        (r"[-+]?[0-9]+\.", "it has no digit after the point; leave the point out"),
        (r"\+[0-9]+(?:\.[0-9]+)?", "write the number without its plus sign"),
        (r"[-+]?\.?(?:nan|inf|infinity)", "it is not a finite number; write a number"),
        (r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", "some readers take it as a date"),
        (r"=", "some readers give it a meaning of its own"),
    )
)
_AMBIGUOUS_STARTS: Final = frozenset("0123456789+-.=niNI")


@dataclass(frozen=True)
class Document:
    """What a file is meant to hold, for its bounds and for the words of its refusals."""

    what: str
    """`mandate`."""
    example: str
    """A first line of one."""
    reuse: str
    """The way to state a value once for many: `use X`."""
    size_max: int = 256 * 1024
    """Bytes of UTF-8."""
    nodes_max: int = 2_000
    """Keys and values."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of a file: where it stands (line and column from 1), under which key, and the way out."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where} {self.path}: {self.message}" if self.path else f"{where} {self.message}"


class SourceRefused(RingfenceError):
    """Nothing that the files say is used; every problem found is listed."""

    problems: Sequence[Problem]
    """By place, each once."""

    def __post_init__(self) -> None:
        self.__dict__["problems"] = tuple(sorted(set(self.problems)))
        super().__post_init__()

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:_PROBLEMS_SHOWN]]
        if len(self.problems) > _PROBLEMS_SHOWN:
            lines.append(f"and {len(self.problems) - _PROBLEMS_SHOWN} more")
        return "\n".join(lines)


def dotted(path: Path) -> str:
    """A path as messages show it: `positions.btc.share`, with unusual keys shortened and made printable."""
    return ".".join(shown(part) for part in path)


@dataclass
class Source:
    """What a file said: its plain tree, the place of every key and value, and the faults that did not stop reading."""

    file: str
    document: Document
    tree: Tree = None
    problems: list[Problem] = field(default_factory=list)
    refused: set[Path] = field(default_factory=set)
    """Paths whose value was refused and is absent from the tree, so that they are not called missing as well."""
    _keys: dict[Path, Place] = field(default_factory=dict)
    _values: dict[Path, Place] = field(default_factory=dict)

    def locate(self, path: Path) -> Place:
        """Line and column of the value at `path`; for a path that is absent, of the nearest thing above it."""
        if path in self._values:
            return self._values[path]
        return self.locate_key(path[:-1]) if path else (1, 1)

    def locate_key(self, path: Path) -> Place:
        """Line and column of the key at `path`; for an element of a list or an absent path, as `locate`."""
        return self._keys.get(path) or self.locate(path)

    def problem(self, path: Path, message: str, *, key: bool = False) -> Problem:
        """The fault at `path` with its place, the key's or the value's."""
        line, column = self.locate_key(path) if key else self.locate(path)
        return Problem(self.file, line, column, dotted(path), message)


def read_yaml(text: str | bytes, file: str, document: Document, *, loader: Any = _FASTEST) -> Source:
    """Read one YAML document whose root is a mapping.

    Faults of single scalars and keys are collected in `problems` of the result and their values left out of the tree;
    a fault that leaves the rest in doubt (encoding, syntax, limits, anchors, tags) raises SourceRefused at once, with
    whatever was collected before it.
    """
    source = Source(file, document)
    _Reader(source, _parse(_readable(text, source), source, loader)).document()
    return source


def file_text(path: FilePath, name: str, document: Document) -> bytes:
    """What stands in a plain file, at most one byte more than it may have; SourceRefused about `name` if not."""
    try:
        if path.exists() and not path.is_file():
            raise SourceRefused([Problem(name, 1, 1, "", f"is not a file; name a {document.what}'s file")])
        with path.open("rb") as stream:
            return stream.read(document.size_max + 1)
    except (OSError, ValueError) as error:
        raise SourceRefused([Problem(name, 1, 1, "", f"cannot be read: {system_reason(error)}")]) from None


def system_reason(error: OSError | ValueError) -> str:
    """Why the system does not open a path, in its own words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _stop(source: Source, place: Place, message: str, path: Path = ()) -> SourceRefused:
    return SourceRefused([*source.problems, Problem(source.file, *place, dotted(path), message)])


def _readable(text: str | bytes, source: Source) -> str:
    most = source.document.size_max
    if len(text) > most:
        raise _stop(
            source, (1, 1), f"is larger than {most // 1024} KiB, the most that a {source.document.what} may have"
        )
    if isinstance(text, bytes):
        text = _decoded(text, source)
    if text.startswith("\ufeff"):
        raise _stop(source, (1, 1), "begins with a byte-order mark; save it as UTF-8 without BOM")
    found = _UNREADABLE.search(text)
    if found:
        character = f"U+{ord(found[0]):04X}"
        raise _stop(source, _place_of(text, found.start()), f"has the invisible character {character}; take it out")
    tab = _TAB.search(text)
    if tab:
        raise _stop(source, _place_of(text, tab.end() - 1), "a tab indents this line; use spaces")
    return text


def _decoded(raw: bytes, source: Source) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _stop(source, (1, 1), "is UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _stop(source, _place_of(before, len(before)), message) from None


def _place_of(text: str, index: int) -> Place:
    return text.count("\n", 0, index) + 1, index - (text.rfind("\n", 0, index) + 1) + 1


def _place(mark: Any) -> Place:
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def _parse(text: str, source: Source, loader: Any) -> Iterator[Any]:
    """The parser's events; its own complaints become a problem with a place."""
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        began = f" ({error.context} from line {error.context_mark.line + 1})" if error.context_mark else ""
        place = min(_place(mark), _place_of(text, len(text)))  # the parser may point past the end
        raise _stop(source, place, f"is not valid YAML here: {str(error.problem)[:120]}{began}") from None
    except yaml.YAMLError as error:
        raise _stop(source, (1, 1), f"is not valid YAML: {shown(error)}") from None


class _Reader:
    """Builds the tree from events; recursion is bounded by DEPTH_MAX, work by the document's `nodes_max`."""

    def __init__(self, source: Source, events: Iterator[Any]) -> None:
        self.source = source
        self.events = events
        self.nodes = 0

    def document(self) -> None:
        source = self.source
        next(self.events)  # stream start
        start = next(self.events)
        if isinstance(start, yaml.StreamEndEvent):
            raise _stop(source, (1, 1), f"is empty; expected a {source.document.what}")
        if start.version or start.tags:
            raise _stop(source, _place(start.start_mark), "directives (%YAML, %TAG) are refused; take the line out")
        root = next(self.events)
        if not isinstance(root, yaml.MappingStartEvent):
            self.node(root, (), 0)  # for its own refusals, such as a tag
            raise _stop(source, _place(root.start_mark), f"expected keys and values, like `{source.document.example}`")
        source.tree = self.node(root, (), 0)
        next(self.events)  # document end
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            message = f"a second document begins here; one file holds one {source.document.what}"
            raise _stop(source, _place(after.start_mark), message)

    def count(self, place: Place) -> None:
        self.nodes += 1
        document = self.source.document
        if self.nodes > document.nodes_max:
            message = f"has more than {document.nodes_max} keys and values; a {document.what} needs far fewer"
            raise _stop(self.source, place, message)

    def refuse_marks(self, event: Any, path: Path) -> None:
        place = _place(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise _stop(self.source, place, f"alias *{shown(event.anchor)} is refused; write the value out", path)
        if event.anchor is not None:
            message = f"anchor &{shown(event.anchor)} is refused; {self.source.document.reuse}, or write the values out"
            raise _stop(self.source, place, message, path)
        if event.tag is not None:
            raise _stop(self.source, place, f"tag {shown(event.tag)} is refused; write the plain value", path)

    def node(self, event: Any, path: Path, depth: int) -> Tree:
        source, place = self.source, _place(event.start_mark)
        self.count(place)
        self.refuse_marks(event, path)
        source._values[path] = place
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event, path)
        if depth >= DEPTH_MAX:
            raise _stop(source, place, f"is nested deeper than {DEPTH_MAX} levels", path)
        return self.mapping(path, depth) if isinstance(event, yaml.MappingStartEvent) else self.sequence(path, depth)

    def scalar(self, event: Any, path: Path) -> Tree:
        value, reason = _resolve(event.value) if not event.style else (event.value, _unreadable(event.value))
        if reason:
            self.source.problems.append(self.source.problem(path, reason))
            self.source.refused.add(path)
            return _REFUSED
        return value

    def sequence(self, path: Path, depth: int) -> Tree:
        elements = []
        for index, event in enumerate(self.events):
            if isinstance(event, yaml.SequenceEndEvent):
                break
            elements.append(self.node(event, (*path, index), depth + 1))
        if any(element is _REFUSED for element in elements):
            self.source.refused.add(path)
            return _REFUSED
        return elements

    def mapping(self, path: Path, depth: int) -> Tree:
        source = self.source
        tree: dict[str, Tree] = {}
        for event in self.events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            place = _place(event.start_mark)
            self.count(place)
            self.refuse_marks(event, path)
            if not isinstance(event, yaml.ScalarEvent):
                raise _stop(source, place, "a key must be plain text, not a list or a mapping", path)
            inner = (*path, event.value)
            first = source._keys.get(inner)
            reason = _unreadable(event.value) if event.style else _unfit_key(event.value, source.document)
            if first:
                reason = f"duplicate key; it stands at line {first[0]} and again at line {place[0]}"
            if reason:
                source.problems.append(Problem(source.file, *place, dotted(inner), reason))
                self.skip(next(self.events), depth + 1)
                continue
            source._keys[inner] = place
            value = self.node(next(self.events), inner, depth + 1)
            if value is not _REFUSED:
                tree[event.value] = value
        return tree

    def skip(self, event: Any, depth: int) -> None:
        """Read past the value of a refused key: for its own limits, anchors and tags, not for its scalars."""
        aside = _Reader(Source(self.source.file, self.source.document), self.events)
        aside.nodes = self.nodes
        try:
            aside.node(event, (), depth)
        except SourceRefused as error:
            raise SourceRefused([*self.source.problems, *error.problems]) from None
        self.nodes = aside.nodes


def _unreadable(text: str) -> str:
    """Why a quoted text is refused: an escape may hold what the file itself may not."""
    found = _UNREADABLE.search(text)
    return f"has the invisible character U+{ord(found[0]):04X}; take it out" if found else ""


def _resolve(text: str) -> tuple[Tree, str]:
    """What an unquoted scalar is: (value, "") or, where readers differ, (None, the reason and the way out)."""
    lower = text.lower()
    if lower in ("", "~", "null"):
        return None, "has no value; give one, or leave the key out"
    if text in ("true", "false"):
        return text == "true", ""
    if lower in ("true", "false"):
        return None, f"{text} is ambiguous; did you mean {lower}?"
    if lower in _TRUE or lower in _FALSE:
        meant = "true" if lower in _TRUE else "false"
        return None, f"{text} is ambiguous: some readers take it as {meant}; write {meant}, or '{text}' in quotes"
    if _NUMBER.fullmatch(text):
        if len(text) > _NUMBER_MAX:
            return None, f"{shown(text)} has {len(text)} characters; a number may have at most {_NUMBER_MAX}"
        return Decimal(text) or Decimal(0), ""
    if text[0] not in _AMBIGUOUS_STARTS or len(text) > 64:
        return text, ""
    for pattern, reason in _AMBIGUOUS:
        if pattern.fullmatch(text):
            return None, f"{shown(text)} is ambiguous: {reason}, or put it in quotes"
    return text, ""


def _unfit_key(text: str, document: Document) -> str:
    """Why an unquoted key is refused; "" where it is plain text to every reader."""
    if text == "<<":
        return f"merge keys are refused; {document.reuse}"
    if text == "":
        return "a key is missing before the colon"
    if text.lower() in ("y", "n"):
        return ""
    value, reason = _resolve(text)
    if reason:
        return f"as a key, {shown(text)} is not plain text to every reader; write '{shown(text)}' in quotes"
    return "" if isinstance(value, str) else f"a key is text; write '{shown(text)}' in quotes"
