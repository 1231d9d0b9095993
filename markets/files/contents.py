"""What stands in a file: of a regular file only, unpacked, and never more of it than the bounds allow."""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from ringfence.markets.errors import UnreadableFile

__all__ = ["PACKED_MAX", "RATIO_MAX", "UNPACKED_MAX", "Content", "content", "left_out"]

PACKED_MAX = 1 << 30
"""Bytes of a file on the disk."""
UNPACKED_MAX = 2 << 30
"""Bytes of what comes out of it."""
RATIO_MAX = 200
"""How many times its packed size a file may grow to once it is larger than `_RATIO_FROM`; prices as text pack to a
third or a tenth, even where they stand still."""
_RATIO_FROM = 64 << 20
_PIECE = 1 << 20
_WHOLE = "a whole file; download or copy it again"
_READABLE = "a Parquet, Feather, CSV or JSON file of bars or funding rates, plain, .gz or .zip"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)
"""What Python's zipfile raises on damaged, encrypted and unknown archives."""
_LOCKS = (".lock", ".lck", ".part", ".crdownload", ".tmp", "~")


@dataclass(frozen=True)
class Content:
    """A file's bytes, unpacked."""

    file: Path
    name: str
    """Its name, or that of the one file inside the archive: what it says of instrument and interval."""
    body: bytes
    written: int
    """When the file was last written, UTC epoch milliseconds."""


def content(file: Path) -> Content:
    """The bytes of a regular file, out of its gzip or zip. Refused: UnreadableFile."""
    body, written = _bytes(file)
    name = file.name
    if body[:2] == b"\x1f\x8b":
        body, name = _ungzipped(file, body), name.removesuffix(".gz")
    elif body[:2] == b"PK":
        name, body = _member(file, body)
    if not body.strip():
        raise UnreadableFile(file, "is empty", _READABLE)
    return Content(file, name, body, written)


def left_out(name: str) -> bool:
    """Whether a file in a folder or an archive is nobody's data: hidden, an editor's lock, a half-finished download, or
    what macOS puts beside the files of an archive."""
    parts = name.replace("\\", "/").split("/")
    return "__MACOSX" in parts or parts[-1].startswith((".", "~$")) or parts[-1].endswith(_LOCKS)


def _bytes(file: Path) -> tuple[bytes, int]:
    try:
        # Not blocking, so that a FIFO without a writer is refused and not waited for.
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise UnreadableFile(file, "no such file", _READABLE) from None
    except (OSError, ValueError) as error:
        raise UnreadableFile(file, getattr(error, "strerror", None) or str(error), "a file that can be read") from None
    try:
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            raise UnreadableFile(file, "is a folder", _READABLE)
        if not stat.S_ISREG(about.st_mode):
            raise UnreadableFile(file, "is a device, a pipe or a socket", "a regular file; copy it into one first")
        if about.st_size > PACKED_MAX:
            raise UnreadableFile(file, f"holds {about.st_size:,} bytes", f"at most {PACKED_MAX:,}; split it")
        with os.fdopen(handle, "rb", closefd=False) as stream:
            return stream.read(PACKED_MAX + 1), about.st_mtime_ns // 1_000_000
    except OSError as error:
        raise UnreadableFile(file, error.strerror or str(error), "a file that can be read") from None
    finally:
        os.close(handle)


def _ungzipped(file: Path, packed: bytes) -> bytes:
    def pieces() -> Iterator[bytes]:
        rest = packed
        while rest:  # a gzip may consist of several, one after the other
            stream = zlib.decompressobj(wbits=31)
            yield stream.decompress(rest, _PIECE)
            while stream.unconsumed_tail:
                yield stream.decompress(stream.unconsumed_tail, _PIECE)
            if not stream.eof:
                raise EOFError("it ends too early")
            rest = stream.unused_data.lstrip(b"\0")

    try:
        return _bounded(file, len(packed), pieces())
    except (EOFError, zlib.error) as error:
        raise UnreadableFile(file, f"broken gzip ({error})", _WHOLE) from None


def _member(file: Path, packed: bytes) -> tuple[str, bytes]:
    """Name and bytes of the one file in a zip that can hold series."""
    try:
        with zipfile.ZipFile(BytesIO(packed)) as archive:
            names = [name for name in archive.namelist() if _holds_series(name)]
            if len(names) != 1:
                raise UnreadableFile(
                    file, f"zip with {len(names)} CSV files", "exactly one; unpack it and name its files one by one"
                )
            with archive.open(names[0]) as stream:
                return names[0].rpartition("/")[2], _bounded(file, len(packed), iter(_reader(stream), b""))
    except _ZIP_ERRORS as error:
        raise UnreadableFile(file, f"broken zip ({error})", _WHOLE) from None


def _holds_series(name: str) -> bool:
    return name.lower().endswith((".csv", ".json", ".txt")) and not left_out(name)


def _reader(stream: IO[bytes]) -> Callable[[], bytes]:
    return lambda: stream.read(_PIECE)


def _bounded(file: Path, packed: int, pieces: Iterator[bytes]) -> bytes:
    """All pieces as one, refused as soon as they are too many."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) > UNPACKED_MAX:
            raise UnreadableFile(file, f"unpacks to more than {UNPACKED_MAX:,} bytes", "less; split it")
        if len(found) > _RATIO_FROM and len(found) > packed * RATIO_MAX:
            grown = f"unpacks to more than {RATIO_MAX} times its {packed:,} bytes"
            raise UnreadableFile(file, grown, "a file of prices, which packs to a third or a tenth")
    return bytes(found)
