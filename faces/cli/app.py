"""The command line's frame: the application, the options that commands share, and how a result is printed.

What a command prints on standard output is its result and nothing else: a table for people, or with `--json` one JSON
document. Progress and remarks go to standard error. Nothing heavy is imported here; commands import in their bodies.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ringfence.runtime.errors import SettingRefused

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text
    from sqlalchemy import Engine

__all__ = [
    "Database",
    "Exact",
    "Json",
    "Venues",
    "app",
    "console",
    "database",
    "database_files",
    "database_url",
    "print_figures",
    "print_json",
    "print_table",
    "print_text",
    "program",
    "refuse_passwords",
    "remark",
    "shown",
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
        help="The database: FILE, sqlite:///FILE or postgresql://USER@HOST/NAME; one with a password only in "
        "RINGFENCE_DATABASE, since arguments are for all to see. "
        f"[default: {DATABASE_DEFAULT}]",
    ),
]
Venues = Annotated[
    list[Path] | None,
    typer.Option(
        "--venues",
        metavar="PATH",
        help="Tables of instruments, files or folders, in place of a folder `venues` beside the mandates.",
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
    """The address behind `--db`: as given, a file's name as an SQLite file, or the default. Refused: SettingRefused."""
    from ringfence.words.addresses import file_address, is_address

    if db is None:
        return DATABASE_DEFAULT
    if not db.strip() or "\0" in db:
        raise SettingRefused("--db (or RINGFENCE_DATABASE)", db, "FILE, sqlite:///FILE or postgresql://...")
    return db if is_address(db) else file_address(db)


def refuse_passwords(arguments: Sequence[str]) -> None:
    """Passes where no argument is an address with a password: everyone on the machine can read them (ps).

    Refused: PasswordShown.
    """
    from ringfence.faces.errors import PasswordShown
    from ringfence.words.addresses import concealed, has_password

    for argument in arguments:
        address = argument.partition("=")[2] if argument.startswith("--") and "=" in argument else argument
        if has_password(address):
            setting = "RINGFENCE_BROKER" if address.startswith("redis") else "RINGFENCE_DATABASE"
            raise PasswordShown(concealed(address), setting)


def database_files(db: str | None) -> list[Path]:
    """The files behind `--db`, which nothing else may be written over; none for a server."""
    from urllib.parse import unquote

    kind, _, file = database_url(db).partition(":///")
    if kind != "sqlite" or not file:
        return []
    path = Path(os.path.expanduser(unquote(file)))
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]


@contextmanager
def database(db: str | None, *, writes: bool, create: bool = True) -> "Iterator[Engine]":
    """An engine on `--db` for the length of a command.

    A command that writes makes a missing SQLite file (with `create`; a mistyped name is refused otherwise) and brings
    an older schema up to date; one that reads refuses both and changes nothing.
    """
    from ringfence.runtime.database import SCHEMA, check_schema, migrate, open_engine

    engine = open_engine(database_url(db), create=writes and create)
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
    from ringfence.words.terminal import json_text

    sys.stdout.write(json_text(document) + "\n")


def console(at_least: int = 0) -> "Console":
    """Standard output as a screen: the terminal's width (COLUMNS, where that is set), else 80 columns; `at_least` as
    wide as something that cannot be narrower."""
    from ringfence.faces.cli.screen import Screen

    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal() else _WIDTH
    found = Screen(sys.stdout, width=wide)
    return found if found.width >= at_least else Screen(sys.stdout, width=at_least)


def shown(value: object) -> "Text":
    """A value as it will be seen, so that its width is known; a dash where there is none."""
    from rich.text import Text

    from ringfence.words.numbers import ABSENT
    from ringfence.words.terminal import printable

    return Text(ABSENT if value is None else printable(str(value)))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, on: "Console | None" = None, keys: int = 1
) -> None:
    """A table on standard output. Columns that hold nothing but figures stand to the right; None is shown as a dash.

    What is wider than the screen is told in several tables under each other, each with the first `keys` columns again;
    words may be wrapped, a figure is never broken.
    """
    from rich import box
    from rich.table import Table

    from ringfence.faces.cli.widths import Column, blocks, drawn, fitted

    screen = on or console()
    found = [Column.of(shown(name).plain, [shown(row[at]).plain for row in rows]) for at, name in enumerate(columns)]
    for number, block in enumerate(blocks(found, keys, screen.width)):
        table = Table(
            title=shown(title) if title and not number else None,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        widths = fitted(block, screen.width)
        for column, width in zip(block, widths, strict=True):
            side: Literal["left", "right"] = "right" if column.is_figures else "left"
            table.add_column(shown(column.name), justify=side, overflow="fold", width=width)
        for row in zip(*(column.cells for column in block), strict=True):
            table.add_row(*map(shown, row))
        needed = drawn(widths)
        (screen if needed <= screen.width else console(needed)).print(table)


def print_text(text: str) -> None:
    """A sentence or more on standard output, broken between words where the screen ends."""
    console().print(shown(text))


def print_figures(title: str, figures: Mapping[str, object], *, on: "Console | None" = None) -> None:
    """Names and values under each other, for one thing that has many figures."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for name, value in figures.items():
        grid.add_row(shown(name), shown(value))
    screen = on or console()
    if title:
        screen.print(shown(title), style="bold")
    screen.print(grid)
