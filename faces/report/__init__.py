"""The report of a run: one HTML file that needs no network, written whole or not at all."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ringfence.faces.errors import ReportEmpty, ReportWithoutVault

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
    inputs: Iterable[Path] = (),
) -> None:
    """Write one self-contained page about `runs`, their holders' `statements` and the `figures` of each to `path`.

    `source` says where the prices come from, `verified` what a verification of the journal found (None: there was
    none). The page loads nothing: scripts, styles and figures stand inside it. Refused: ReportEmpty,
    ReportWithoutVault (a statement's vault has no run here), OutputNotWritten (one of the `inputs` or another kind of
    file stands there, or the file system says no).
    """
    from ringfence.faces.report.page import page
    from ringfence.runtime.outputs import REPORT, checked_output, write_whole

    target = checked_output(Path(path), REPORT, inputs)
    vaults = {run.vault for run in runs}
    if not vaults:
        raise ReportEmpty(Path(path))
    for statement in statements:
        if statement.vault not in vaults:
            raise ReportWithoutVault(statement.holder, statement.vault, tuple(sorted(vaults)))
    text = page(runs, statements, figures, title=title, source=source, verified=verified)
    write_whole(target, text.encode(), REPORT, inputs)
