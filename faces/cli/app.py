"""The command line's frame: the application, the options that commands share, and how a result is printed.

What a command prints on standard output is its result and nothing else: a table for people, or with `--json` one JSON
document. Progress and remarks go to standard error. Nothing heavy is imported here; commands import in their bodies.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ringfence.runtime.errors import SettingRefused

if TYPE_CHECKING:
    from rich.console import Console
    from sqlalchemy import Engine

__all__ = [
    "Database",
    "Exact",
    "Json",
    "app",
    "console",
    "database",
    "database_url",
    "print_figures",
    "print_json",
    "print_table",
    "program",
    "remark",
]

DATABASE_DEFAULT = "sqlite:///ringfence.db"
_WIDTH = 80
"""Of every table where there is no terminal: what a page, a mail or half a screen holds."""


def program() -> str:
    """How this program is called from here: by its name where that finds it, else by its path."""
    running = sys.argv[0]
    if shutil.which("ringfence") or os.path.basename(running) != "ringfence":
        return "ringfence"
    near = os.path.relpath(running)
    return running if near.startswith("..") else near


app = typer.Typer(
    name="ringfence",
    help="Vaults for leveraged strategies whose loss is capped in the ledger, before the market moves.",
    epilog="A first look: ringfence demo. Every command explains itself: ringfence COMMAND --help.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Database = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        envvar="RINGFENCE_DATABASE",
        help="The database: FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME. "
        f"[default: {DATABASE_DEFAULT}]",
    ),
]
Exact = Annotated[bool, typer.Option("--exact", help="Amounts and prices per share with all their digits.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table; amounts are texts.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"ringfence {version('ringfence')}")
        raise typer.Exit


@app.callback()
def _frame(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


# ---------------------------------------------------------------------------------------------------- database


def database_url(db: str | None) -> str:
    """The address behind `--db`: as given, a bare path as an SQLite file, or the default. Refused: SettingRefused."""
    if db is None:
        return DATABASE_DEFAULT
    if not db.strip() or "\0" in db:
        raise SettingRefused("--db (or RINGFENCE_DATABASE)", db, "FILE, sqlite:///FILE or postgresql://...")
    return db if "://" in db else f"sqlite:///{db}"


@contextmanager
def database(db: str | None, *, writes: bool) -> "Iterator[Engine]":
    """An engine on `--db` for the length of a command.

    A command that writes makes a missing SQLite file and brings an older schema up to date; one that reads refuses
    both and changes nothing.
    """
    from ringfence.runtime.database import SCHEMA, check_schema, migrate, open_engine

    engine = open_engine(database_url(db), create=writes)
    try:
        if writes:
            before = migrate(engine)
            if before not in (None, SCHEMA):
                remark(f"the database was brought up to date from schema {before}")
        else:
            check_schema(engine)
        yield engine
    finally:
        engine.dispose()


# ---------------------------------------------------------------------------------------------------- printing


def remark(text: str) -> None:
    """A line for the person at the screen, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One JSON document on standard output, keys sorted; refuses NaN and infinity (ValueError)."""
    sys.stdout.write(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def console(at_least: int = 0) -> "Console":
    """Standard output as rich sees it: the terminal's width (COLUMNS, where that is set), else 80 columns; `at_least`
    as wide as something that cannot be narrower."""
    from rich.console import Console

    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal() else _WIDTH
    found = Console(width=wide)
    return Console(width=max(found.width, at_least), highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, on: "Console | None" = None, keys: int = 1
) -> None:
    """A table on standard output. Columns that hold nothing but figures stand to the right; None is shown as a dash.

    What is wider than the screen is told in several tables under each other, each with the first `keys` columns again;
    words may be wrapped, a figure is never broken.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from ringfence.faces.cli.widths import Column, blocks, drawn, fitted

    shown = on or console()
    found = [Column.of(name, [row[at] for row in rows]) for at, name in enumerate(columns)]
    for number, block in enumerate(blocks(found, keys, shown.width)):
        table = Table(
            title=title if title and not number else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        widths = fitted(block, shown.width)
        for column, width in zip(block, widths, strict=True):
            side: Literal["left", "right"] = "right" if column.is_figures else "left"
            table.add_column(Text(column.name), justify=side, overflow="fold", width=width)
        for row in zip(*(column.cells for column in block), strict=True):
            table.add_row(*map(Text, row))
        needed = drawn(widths)
        (shown if needed <= shown.width else console(needed)).print(table)


def print_figures(title: str, figures: Mapping[str, object], *, on: "Console | None" = None) -> None:
    """Names and values under each other, for one thing that has many figures."""
    from rich.table import Table
    from rich.text import Text

    from ringfence.words.numbers import ABSENT

    grid = Table.grid(padding=(0, 2))
    for name, value in figures.items():
        grid.add_row(Text(name), Text(ABSENT if value is None else str(value)))
    shown = on or console()
    if title:
        shown.print(Text(title, style="bold"))
    shown.print(grid)
