"""What somebody with an editor can do to a database's file, and that `verify` sees all of it.

Every column of every table is changed, some are exchanged and emptied, rows are removed, added and exchanged, figures
halved, chains hashed anew; what cannot be seen from inside (a bar that nobody has lived through, a history written anew
with this very software) is seen with the heads of the day before.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringfence.markets.feeds.quality import Quality
from ringfence.markets.market import Funding, align
from ringfence.runtime.acts import deposit, open_vault, redeem
from ringfence.runtime.comparison import SERIES, owner
from ringfence.runtime.database import in_unit, open_engine, unit_of_work
from ringfence.runtime.heads import Heads, heads
from ringfence.runtime.levels import store_levels
from ringfence.runtime.verification import Verdict, verify
from ringfence.vaults import journal
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import mandate, metadata
from tests.reference.tide import HOUR, SHARE, START, SYMBOL, UNIT, launch, tide, walk

TABLES = {table.name: table for table in metadata.sorted_tables}
COLUMNS = [(table.name, column.name) for table in TABLES.values() for column in table.c]
OTHER: dict[str, Callable[[Any], Any]] = {
    "integer": lambda value: value + 1_000,
    "real": lambda value: value * 0.5,
    "text": lambda value: f"{value}x",
    "null": lambda _: 0.5,
}
"""Another value of the same kind."""


@dataclass(frozen=True)
class Yesterday:
    """A database of two vaults that is sound, and its heads."""

    file: Path
    heads: Heads


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Yesterday:
    file = tmp_path_factory.mktemp("yesterday") / "ringfence.db"
    bars = walk().bars(0)
    stamps = bars.ts[::2]
    rates = Funding(SYMBOL, stamps, np.linspace(1e-5, 3e-5, len(stamps)))
    lived = launch(f"sqlite:///{file}", align({SYMBOL: bars}, funding={SYMBOL: rates}))
    levels = {START + HOUR: Quality.stale, START + 3 * HOUR: Quality.guarded}
    in_unit(lived.engine, lambda connection: store_levels(connection, SYMBOL, levels))
    for setup, slots in ((tide("ebb", "3"), 1), (lived.setup, 6)):
        name = setup.mandate.name
        open_vault(lived.engine, setup.mandate, START)
        deposit(lived.engine, name, "alice", 1_000 * UNIT, START, "pay-1")
        deposit(lived.engine, name, "bob", 400 * UNIT, START)
        lived.desk.step(name, int(lived.slots.opens[slots - 1]))
        redeem(lived.engine, name, "alice", 100 * SHARE, START, "leave-1")
        redeem(lived.engine, name, "bob", 350 * SHARE, START)
        lived.desk.step(name, int(lived.slots.opens[slots]))
    terms = lived.setup.mandate.model_dump(by_alias=True, mode="json") | {"title": "The spring tide"}
    with unit_of_work(lived.engine) as connection:
        lived.vault(connection).amend(START + 7 * HOUR, Mandate.model_validate(terms))
    found = heads(lived.engine)
    lived.engine.dispose()  # the last to close takes the log's rows over into the file
    return Yesterday(file, found)


class Editor:
    """A copy of the file without triggers, checks and keys, as somebody with an editor sees it."""

    def __init__(self, sound: Path, file: Path) -> None:
        shutil.copy(sound, file)
        self.file = sqlite3.connect(file)
        self._triggers = self.file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in self._triggers:
            self.file.execute(f"DROP TRIGGER {name}")
        self.file.execute("PRAGMA foreign_keys = OFF")
        self.file.execute("PRAGMA ignore_check_constraints = ON")

    def close(self) -> None:
        for _, text in self._triggers:
            self.file.execute(text)
        self.file.commit()
        self.file.close()

    def rows(self, table: str) -> list[int]:
        """Their numbers; without the last bar, which a better download may still correct."""
        found = [row for (row,) in self.file.execute(f"SELECT rowid FROM {table} ORDER BY rowid")]
        return found[:-1] if table == "bar" else found

    def value(self, table: str, column: str, row: int) -> Any:
        return self.file.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (row,)).fetchone()[0]

    def kind(self, table: str, column: str, row: int) -> str:
        return str(self.file.execute(f"SELECT typeof({column}) FROM {table} WHERE rowid = ?", (row,)).fetchone()[0])

    def put(self, table: str, column: str, row: int, value: Any) -> None:
        self.file.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))


Alteration = Callable[[Editor], bool]
"""Does it, and says whether anything is other than before."""


def changed(table: str, column: str, last: bool) -> Alteration:
    def alter(editor: Editor) -> bool:
        row = editor.rows(table)[-1 if last else 0]
        value, kind = editor.value(table, column, row), editor.kind(table, column, row)
        editor.put(table, column, row, OTHER[kind](value))
        return True

    return alter


def exchanged(table: str, column: str) -> Alteration:
    """A value that is right elsewhere: the first and the last row that differ exchange theirs."""

    def alter(editor: Editor) -> bool:
        rows = editor.rows(table)
        first = rows[0]
        mine = editor.value(table, column, first)
        other = next((row for row in reversed(rows) if editor.value(table, column, row) != mine), None)
        if other is None or TABLES[table].c[column].unique or is_key(table, column):
            return False
        its = editor.value(table, column, other)
        editor.put(table, column, first, its)
        editor.put(table, column, other, mine)
        return True

    return alter


def emptied(table: str, column: str) -> Alteration:
    """Nothing where nothing may be: an empty text, which every column of a file takes."""

    def alter(editor: Editor) -> bool:
        row = editor.rows(table)[len(editor.rows(table)) // 2]
        if column == "id":
            return False  # SQLite keeps whole numbers alone there
        editor.put(table, column, row, b"\xff")
        return True

    return alter


def is_key(table: str, column: str) -> bool:
    return TABLES[table].c[column].primary_key


def removed(table: str, place: float) -> Alteration:
    def alter(editor: Editor) -> bool:
        rows = editor.rows(table)
        editor.file.execute(f"DELETE FROM {table} WHERE rowid = ?", (rows[int(place * (len(rows) - 1))],))
        return True

    return alter


def added(table: str) -> Alteration:
    """The last row again, under another key."""

    def alter(editor: Editor) -> bool:
        columns = [column.name for column in TABLES[table].c]
        row = editor.rows(table)[-1]
        values = [editor.value(table, column, row) for column in columns]
        for at, column in enumerate(columns):
            if TABLES[table].c[column].unique or (is_key(table, column) and column not in ("vault_id", "instrument")):
                values[at] = OTHER[editor.kind(table, column, row)](values[at])
        if table in ("bar_series", "fed"):
            values[0] = f"{values[0]}x"
        marks = ", ".join("?" * len(columns))
        editor.file.execute(f'INSERT INTO "{table}" VALUES ({marks})', values)
        return True

    return alter


def rows_exchanged(table: str) -> Alteration:
    """All that two rows say, but for their keys."""

    def alter(editor: Editor) -> bool:
        rest = [column.name for column in TABLES[table].c if not column.primary_key and not column.unique]
        first, *_, last = [0, *editor.rows(table)][1:] * 2
        before = [editor.value(table, column, row) for row in (first, last) for column in rest]
        if before[: len(rest)] == before[len(rest) :]:
            return False
        for at, column in enumerate(rest):
            editor.put(table, column, first, before[len(rest) + at])
            editor.put(table, column, last, before[at])
        return True

    return alter


def run(*statements: str) -> Alteration:
    def alter(editor: Editor) -> bool:
        before = editor.file.total_changes
        for statement in statements:
            editor.file.execute(statement)
        return editor.file.total_changes > before or any("TRIGGER" in statement for statement in statements)

    return alter


def hashed_anew(editor: Editor, seq: int, change: dict[str, Any]) -> bool:
    """A row of the first vault changed and every later one hashed anew, its end in the vault's row too."""
    found = editor.file.execute("SELECT seq, ts, kind, body FROM journal WHERE vault_id = 1 ORDER BY seq").fetchall()
    name = editor.file.execute("SELECT name FROM vault WHERE id = 1").fetchone()[0]
    previous = journal.genesis(name)
    for number, ts, kind, body in found:
        text = journal.canonical(json.loads(body) | change) if number == seq else body
        hashed = journal.row_hash(previous, number, ts, kind, text)
        editor.file.execute(
            "UPDATE journal SET body = ?, previous_hash = ?, hash = ? WHERE vault_id = 1 AND seq = ?",
            (text, previous, hashed, number),
        )
        previous = hashed
    editor.file.execute("UPDATE vault SET journal_hash = ? WHERE id = 1", (previous,))
    return True


ALTERATIONS: dict[str, Alteration] = {}
for _number, (_table, _column) in enumerate(COLUMNS):
    ALTERATIONS[f"{_table}.{_column} of the first row changed"] = changed(_table, _column, last=False)
    ALTERATIONS[f"{_table}.{_column} of the last row changed"] = changed(_table, _column, last=True)
    if _number % 2 == 0:
        ALTERATIONS[f"{_table}.{_column} exchanged between rows"] = exchanged(_table, _column)
    if _number % 4 == 1:
        ALTERATIONS[f"{_table}.{_column} no text at all"] = emptied(_table, _column)
for _table in TABLES:
    ALTERATIONS[f"{_table}: the first row removed"] = removed(_table, 0.0)
    ALTERATIONS[f"{_table}: a row in the middle removed"] = removed(_table, 0.5)
    ALTERATIONS[f"{_table}: the last row removed"] = removed(_table, 1.0)
    ALTERATIONS[f"{_table}: every row removed"] = run(f"DELETE FROM {_table}")
    ALTERATIONS[f"{_table}: a row added"] = added(_table)
    ALTERATIONS[f"{_table}: two rows exchanged"] = rows_exchanged(_table)
ALTERATIONS |= {
    "the mark halved": run("UPDATE vault SET high_water_mark = high_water_mark / 2"),
    "the version of the schema changed": run("UPDATE alembic_version SET version_num = 'x'"),
    "the version of the schema twice": run("INSERT INTO alembic_version VALUES ('0001')"),
    "the version of the schema gone": run("DELETE FROM alembic_version"),
    "a vault without a journal": run(
        "CREATE TEMP TABLE copied AS SELECT * FROM vault WHERE id = 1",
        "UPDATE copied SET id = 99, name = 'spring'",
        "INSERT INTO vault SELECT * FROM copied",
    ),
    "a trigger of a stranger": run(
        "CREATE TRIGGER more AFTER UPDATE ON holding BEGIN UPDATE holding SET shares = shares + 1; END"
    ),
    "a row of the journal that is no JSON": run("UPDATE journal SET body = '{' WHERE vault_id = 1 AND seq = 7"),
    "a deposit of the journal that is no JSON": run("UPDATE journal SET body = 'x' WHERE vault_id = 1 AND seq = 2"),
    "a key under which nothing is remembered": run("DELETE FROM command WHERE key = 'pay-1'"),
    "what was asked back raised tenfold": run("UPDATE flow SET shares = shares * 10 WHERE side = 'redemption'"),
    "a deposit hashed anew": lambda editor: hashed_anew(editor, 2, {"amount": 2_000 * UNIT}),
    "a decision hashed anew": lambda editor: hashed_anew(editor, 8, {"struck": 1}),
    "the last row hashed anew": lambda editor: hashed_anew(editor, 13, {"to_reserve": 1}),
}

FROM_OUTSIDE = ("bar.", "bar:", "bar_series.", "funding.", "funding:")
"""Bars that no vault has lived through, and what does not move a decision, are seen with the heads alone."""

SAYS_NOTHING = ("bar_series.corrected of the first row changed", "bar_series.corrected of the last row changed",
                "bar_series.corrected no text at all", "fed.until of the first row changed",
                "fed.until of the last row changed")  # fmt: skip
"""A count that only makes a desk read its window again, and a later end of what is fed, at which slots fall due:
nothing is paid or promised by either, and what a slot was decided on is hashed into its row."""


def verdicts(file: Path, expected: Heads | None = None) -> list[Verdict]:
    engine = open_engine(f"sqlite:///{file}", create=False)
    try:
        return verify(engine, expected=expected)
    finally:
        engine.dispose()


def altered(sound: Path, file: Path, alteration: Alteration) -> bool:
    """Whether the alteration, done to a copy, changed it."""
    editor = Editor(sound, file)
    try:
        return alteration(editor)
    finally:
        editor.close()


def test_no_table_is_left_out_of_the_comparison() -> None:
    """A new table is compared by its `vault_id`, or stands among those that are here named one by one."""
    assert {table for table in TABLES.values() if owner(table) is None} == {mandate, *SERIES}
    assert {table for table, _ in COLUMNS} == set(TABLES)


def test_a_sound_database_has_no_breach_and_lies_on_its_heads(yesterday: Yesterday) -> None:
    found = verdicts(yesterday.file, yesterday.heads)
    assert [(verdict.vault, verdict.breaches) for verdict in found] == [("ebb", ()), ("tide", ())]
    assert [verdict.head for verdict in found] == [str(head) for head in yesterday.heads.vaults]
    assert len(yesterday.heads.series) == 1


@pytest.mark.parametrize("table", [*TABLES, "the rest"])
def test_every_alteration_is_found(yesterday: Yesterday, tmp_path: Path, table: str) -> None:
    missed, done = [], 0
    for number, (name, alteration) in enumerate(ALTERATIONS.items()):
        of_table = next((found for found in TABLES if name.startswith((f"{found}.", f"{found}:"))), "the rest")
        file = tmp_path / f"{number}.db"
        if name in SAYS_NOTHING or of_table != table or not altered(yesterday.file, file, alteration):
            continue
        done += 1
        seen = any(verdict.breaches for verdict in verdicts(file))
        if not seen and name.startswith(FROM_OUTSIDE):
            seen = any(verdict.breaches for verdict in verdicts(file, yesterday.heads))
        if not seen:
            missed.append(name)
        file.unlink()
    assert missed == []
    assert done >= 6, "the alterations themselves must not fall asleep"


def test_a_history_written_anew_with_this_software_holds_every_law_and_not_the_heads(
    yesterday: Yesterday, tmp_path: Path
) -> None:
    forged = launch(f"sqlite:///{tmp_path / 'forged.db'}", walk())
    for setup in (tide("ebb", "3"), forged.setup):
        open_vault(forged.engine, setup.mandate, START)
        deposit(forged.engine, setup.mandate.name, "mallory", 1_000 * UNIT, START, "pay-1")
        forged.desk.step(setup.mandate.name, int(forged.slots.opens[20]))
    found = verify(forged.engine)
    assert [verdict.breaches for verdict in found] == [(), ()]
    found = verify(forged.engine, expected=yesterday.heads)
    assert all(verdict.breaches for verdict in found)
    forged.engine.dispose()


def test_heads_stay_on_the_chain_as_a_vault_lives_on(yesterday: Yesterday, tmp_path: Path) -> None:
    file = tmp_path / "today.db"
    shutil.copy(yesterday.file, file)
    engine = open_engine(f"sqlite:///{file}", create=False)
    deposit(engine, "ebb", "carol", 50 * UNIT, START)
    later = heads(engine)
    assert later != yesterday.heads
    assert [verdict.breaches for verdict in verify(engine, expected=yesterday.heads + later)] == [(), ()]
    engine.dispose()


def test_a_row_that_is_no_json_is_named_and_what_else_is_wrong_with_it(yesterday: Yesterday, tmp_path: Path) -> None:
    """The decision is made again from its bars, so that all that follows is compared, too."""
    file = tmp_path / "broken.db"
    assert altered(
        yesterday.file,
        file,
        run(
            "UPDATE journal SET body = '{' WHERE vault_id = 1 AND seq = 7",
            "UPDATE holding SET shares = shares + 1 WHERE vault_id = 1 AND holder = 'bob'",
            "UPDATE vault SET high_water_mark = high_water_mark / 2 WHERE id = 1",
        ),
    )
    (tide_s,) = [verdict for verdict in verdicts(file) if verdict.vault == "tide"]
    things = {(breach.law, breach.thing) for breach in tide_s.breaches}
    assert {("L3", "journal row 7"), ("L2", "journal 7"), ("L2", "holding bob"), ("L2", "vault tide")} <= things


def test_after_an_act_that_cannot_be_repeated_the_rest_is_said_to_be_unknown(
    yesterday: Yesterday, tmp_path: Path
) -> None:
    file = tmp_path / "broken.db"
    broken = run(
        "UPDATE journal SET body = 'x' WHERE vault_id = 1 AND seq = 3",
        "UPDATE journal SET hash = previous_hash WHERE vault_id = 1 AND seq = 9",
    )
    assert altered(yesterday.file, file, broken)
    (tide_s,) = [verdict for verdict in verdicts(file) if verdict.vault == "tide"]
    told = {breach.thing for breach in tide_s.breaches}
    assert {"journal row 3", "journal row 9", "the 10 journal rows after row 3, and the tables"} <= told


@pytest.mark.parametrize("seq", [-5, 0, 3, 10**9])
def test_a_row_is_compared_wherever_its_key_has_put_it(yesterday: Yesterday, tmp_path: Path, seq: int) -> None:
    file = tmp_path / "moved.db"
    moved = run(f"UPDATE transfer SET seq = {seq}, ts = ts + 1 WHERE vault_id = 1 AND seq = 3")
    assert altered(yesterday.file, file, moved)
    (tide_s,) = [verdict for verdict in verdicts(file) if verdict.vault == "tide"]
    assert {breach.thing for breach in tide_s.breaches} >= {f"transfer {seq}", "transfer 3"}
