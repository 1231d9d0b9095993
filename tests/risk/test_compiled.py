"""Where compiled code is kept: only where nobody else could have put it."""

import os
import tempfile
from pathlib import Path

import pytest

from ringfence.risk.compiled import _cache_folder


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The user's cache and the temporary folder's fallback."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home / "ringfence", temporary / f"ringfence-{os.getuid()}"


def test_the_users_own_cache_is_taken_and_closed_to_others(folders: tuple[Path, Path]) -> None:
    found = _cache_folder()
    assert found.parent == folders[0]
    assert found.stat().st_mode & 0o777 == 0o700
    assert _cache_folder() == found


def test_a_cache_that_others_may_write_is_not_read(folders: tuple[Path, Path]) -> None:
    own, fallback = folders
    own.mkdir(parents=True)
    own.chmod(0o777)
    assert _cache_folder().parent == fallback


def test_a_fallback_planted_by_somebody_else_is_not_used(folders: tuple[Path, Path], tmp_path: Path) -> None:
    own, fallback = folders
    own.parent.write_text("no folder can be made here")
    (tmp_path / "planted").mkdir()
    fallback.symlink_to(tmp_path / "planted")
    first, second = _cache_folder(), _cache_folder()
    assert first != second
    assert list((tmp_path / "planted").iterdir()) == []


def test_a_kernel_folder_that_others_may_write_is_not_read(folders: tuple[Path, Path]) -> None:
    _cache_folder().chmod(0o770)
    assert _cache_folder().parent == folders[1]
