"""Mandates from files, checked against the strategies that are installed here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ringfence.strategies.registry import build, problems
from ringfence.vaults.mandate.files import CheckedFiles, check_mandates
from ringfence.vaults.mandate.terms import Mandate

__all__ = ["check", "load"]


def check(paths: Iterable[Path], venues: Sequence[Path] | None = None) -> CheckedFiles:
    """The mandates of these files and folders and every problem of all of them; each file is read once.

    `venues` are tables of instruments, files and folders; None: those that stand beside each mandate.
    """
    return check_mandates(paths, check_strategy=problems, resolve_strategy=_with_defaults, venues=venues)


def load(paths: Iterable[Path], venues: Sequence[Path] | None = None) -> list[Mandate]:
    """The mandates of these files and folders, in this order and each once; MandateError with every problem of all."""
    return check(paths, venues).sound()


def _with_defaults(terms: dict[str, Any]) -> dict[str, Any]:
    """The terms with the strategy's defaults, as a mandate would write them."""
    strategy = build(terms)
    written = strategy.model_dump(mode="json", by_alias=True)
    return {"name": strategy.name, **{key: value for key, value in written.items() if value is not None}}
