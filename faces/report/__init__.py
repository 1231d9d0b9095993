"""The report of a run: one HTML file that needs no network, written whole or not at all."""

import errno
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.faces.errors import ReportEmpty, ReportNotWritten, ReportWithoutVault

if TYPE_CHECKING:
    from ringfence.faces.report.statements import StatementRow
    from ringfence.runtime.figures import Figures
    from ringfence.runtime.runs import VaultRun

__all__ = ["write_report"]


def write_report(
    path: str | os.PathLike[str],
    runs: "Sequence[VaultRun]",
    statements: "Sequence[StatementRow]",
    figures: "Sequence[Figures | None]",
    *,
    title: str,
    source: str,
    verified: str | None,
) -> None:
    """Write one self-contained page about `runs`, their holders' `statements` and the `figures` of each to `path`.

    `source` says where the prices come from, `verified` what a verification of the journal found (None: there was
    none). The page loads nothing: scripts, styles and figures stand inside it. Refused: ReportEmpty,
    ReportWithoutVault (a statement's vault has no run here), ReportNotWritten (the file system says no).
    """
    from ringfence.faces.report.page import page

    target = _target(Path(path))
    vaults = {run.vault for run in runs}
    if not vaults:
        raise ReportEmpty(Path(path))
    for statement in statements:
        if statement.vault not in vaults:
            raise ReportWithoutVault(statement.holder, statement.vault, tuple(sorted(vaults)))
    text = page(runs, statements, figures, title=title, source=source, verified=verified)
    _write_whole(target, text.encode())


def _target(path: Path) -> Path:
    """The file behind `path`, refused early where a report can never stand."""
    try:
        target = path.resolve()
        if target.is_dir():
            raise ReportNotWritten(path, "it is a folder", f"name a file in it, such as {path / 'report.html'}")
        if not target.parent.is_dir():
            raise ReportNotWritten(
                path, f"the folder {target.parent} does not exist", "create it or name a file elsewhere"
            )
        if target.exists() and not target.is_file():
            raise ReportNotWritten(path, "it is not a regular file", "name a file that does not exist yet")
    except (OSError, RuntimeError) as fault:
        raise _not_written(path, fault) from fault
    return target


def _write_whole(target: Path, content: bytes) -> None:
    """Write beside the target, then rename over it: a reader sees the old file or the new one, never a part."""
    part = target.with_name(f".report-{secrets.token_hex(8)}.part")
    try:
        # 0o666 leaves the file's mode to the umask, which tempfile would not.
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(target)
    except BaseException as fault:
        with suppress(OSError):
            part.unlink()
        if isinstance(fault, OSError):
            raise _not_written(target, fault) from fault
        raise


def _not_written(path: Path, fault: OSError | RuntimeError) -> ReportNotWritten:
    code = fault.errno if isinstance(fault, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT):
        return ReportNotWritten(path, "the disk is full", "free some space or name a file on another disk")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReportNotWritten(path, f"the folder {path.parent} is read-only", "name a file in a folder you may write")
    reason = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
    return ReportNotWritten(path, reason, "name a file elsewhere")
