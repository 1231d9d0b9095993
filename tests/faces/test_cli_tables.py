"""Tables for people: within the screen, in as few parts as fit, and never a figure that is broken in two."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringfence.faces.cli.app import print_table
from ringfence.faces.cli.widths import Column, blocks, drawn, fitted

FIGURES = ("1,234,567.89", "-0.31%", "12.50×", "2,024", "–", "0.000001")
names = st.text("abcdefgh -", min_size=1, max_size=18).filter(str.strip)
words = st.text("abcdefgh ", max_size=60)
columns = st.lists(
    st.tuples(names, st.one_of(st.lists(st.sampled_from(FIGURES), min_size=3, max_size=3),
                               st.lists(words, min_size=3, max_size=3))),
    min_size=2, max_size=14,
)  # fmt: skip


@given(columns, st.integers(1, 2), st.integers(40, 200))
def test_every_column_is_drawn_once_and_no_word_of_one_is_broken(
    given: list[tuple[str, list[str]]], keys: int, width: int
) -> None:
    found = [Column.of(name, cells) for name, cells in given]
    parts = list(blocks(found, keys, width))
    assert [column for part in parts for column in part[keys:]] == found[keys:]
    assert all(part[:keys] == found[:keys] for part in parts)
    for part in parts:
        widths = fitted(part, width)
        assert all(column.least <= wide <= column.most for column, wide in zip(part, widths, strict=True))
        assert drawn(widths) <= width or widths == [column.least for column in part]


def test_a_table_that_fits_is_one_table() -> None:
    few = [Column.of(name, ["1"]) for name in ("a", "b", "c")]
    assert list(blocks(few, 1, 80)) == [few]


def test_a_table_without_columns_behind_its_keys_is_drawn_too() -> None:
    only = [Column.of("a", ["1"])]
    assert list(blocks(only, 1, 80)) == [only]


@pytest.mark.parametrize("columns", ["", "40", "80", "132"])
def test_no_line_is_wider_than_the_screen_and_every_figure_stands_whole(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    heads = ("vault", "why", *(f"figure {number}" for number in range(12)))
    row = ("btc-shield", "a cause that needs many words to be told in full", *(f"{n}1,234,567.89" for n in range(12)))
    print_table("Title", heads, [row, row])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= int(columns or 80)
    for figure in row[2:]:
        assert len(re.findall(rf"(?<![\d,]){re.escape(figure)}(?!\d)", shown)) == 2
    assert shown.count("Title") == 1


def test_what_cannot_be_narrower_is_not_broken_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table("", ("vault", "NAV"), [("a-vault-with-a-name", "123,456,789.000000")])
    assert "a-vault-with-a-name  123,456,789.000000" in capsys.readouterr().out
