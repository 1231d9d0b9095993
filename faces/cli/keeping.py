"""Commands that keep a database: its backup as one file, and a database restored from one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringfence.faces.cli.app import (
    Database,
    Json,
    app,
    database,
    database_files,
    database_url,
    print_figures,
    print_json,
    remark,
)

if TYPE_CHECKING:
    from ringfence.runtime.backup import Restored
    from ringfence.runtime.backup_file import Manifest

__all__ = ["backup", "restore"]


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where it is written; the folder must exist.")],
    force: Annotated[bool, typer.Option("--force", help="Over an earlier backup, once this is whole.")] = False,
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Write all that the database holds, as of one moment, to one file, while workers go on.

    The file is read again, and every part compared, before it takes its place. It belongs to no kind of database.
    """
    import time
    from importlib.metadata import version

    from ringfence.faces.cli.progress import bar
    from ringfence.faces.errors import InputRefused
    from ringfence.runtime.backup import back_up
    from ringfence.runtime.outputs import BACKUP, checked_output

    target = checked_output(file, BACKUP, database_files(db))
    if target.exists() and not force:
        raise InputRefused("FILE", str(file), "is there already; name another, or --force to write over that backup")
    made, program = time.time_ns() // 1_000_000, f"ringfence {version('ringfence')}"
    with database(db, writes=False) as engine, bar(before="looking", each="rows") as heard:
        manifest = back_up(engine, target, made, program, database_files(db), heard)
    _tell(manifest, file, as_json)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `ringfence backup` wrote.")],
    db: Database = None,
    rehearse: Annotated[
        bool, typer.Option("--dry-run", help="Read the file whole and look at the database; change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty database of either kind: whole, or not at all.

    Proved: every row is the one that was kept (counts, hashes, heads). Then the ledger's sums, the chain and the
    statements are checked. Not proved: that decisions follow from their inputs; `ringfence verify` makes them again.
    """
    from ringfence.faces.cli.progress import bar
    from ringfence.runtime.backup import demand_empty, readable
    from ringfence.runtime.backup import restore as run
    from ringfence.words.addresses import concealed

    url = database_url(db)
    with readable(file) as kept:
        if rehearse:
            demand_empty(url)
            with bar(before="looking", each="rows") as heard:
                kept.check(heard)
            _tell(kept.manifest, file, as_json)
            remark(f"dry run: nothing was changed; {concealed(url)} is empty and would hold this")
            return
        with bar(before="looking", each="rows") as heard:
            restored = run(url, kept, heard)
    _tell(restored.manifest, file, as_json)
    remark(f"{concealed(url)}: restored; let only one of the two live on")
    if restored.breaches:
        _tell_breaches(restored)
        raise typer.Exit(1)


def _tell(manifest: "Manifest", file: Path, as_json: bool) -> None:
    from ringfence.runtime.heads import heads_text
    from ringfence.words.numbers import format_count
    from ringfence.words.times import stamp

    if as_json:
        print_json(_document(manifest, file))
        return
    figures: dict[str, object] = {
        "backup": str(file),
        "made at": stamp(manifest.made),
        "by": f"{manifest.program}, of {manifest.database}, schema {manifest.schema}",
    }
    figures |= {content.table: f"{format_count(content.rows)} rows" for content in manifest.tables if content.rows}
    print_figures("", figures)
    print(heads_text(manifest.heads), end="")


def _document(manifest: "Manifest", file: Path) -> dict[str, Any]:
    from ringfence.runtime.heads import heads_document
    from ringfence.words.times import stamp

    return {
        "backup": str(file),
        "made": stamp(manifest.made),
        "program": manifest.program,
        "database": manifest.database,
        "schema": manifest.schema,
        "tables": {content.table: {"rows": content.rows, "sha256": content.sha256} for content in manifest.tables},
        "heads": heads_document(manifest.heads),
    }


def _tell_breaches(restored: "Restored") -> None:
    for vault, breach in restored.breaches[:20]:
        remark(f"{vault}: {breach}")
    remark(
        f"{len(restored.breaches)} faults were in the database that was kept, and are restored with it as they were; "
        "run `ringfence verify`"
    )
