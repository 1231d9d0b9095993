"""Tables made of an exchange's own files: what is asked, what came of it, and what it would change."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from ringfence.faces.errors import InputRefused
from ringfence.markets.ccxt_files import day_of, imported, read_ccxt
from ringfence.markets.errors import VenueError
from ringfence.markets.instruments import MILLION, Catalogue, Instrument
from ringfence.markets.table_text import table_text
from ringfence.markets.tables import DOCUMENT, table_of
from ringfence.words.source import SourceRefused, file_text
from ringfence.words.units import Fee, Percentage, UnitError

__all__ = ["Asked", "Made", "make_table"]

_FEE: Percentage = Fee.__metadata__[0]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Asked:
    """What is asked, as it was typed."""

    files: tuple[Path, ...]
    venue: str
    valid_from: str | None
    liquidation_fee: str | None
    only: tuple[str, ...]
    without: tuple[str, ...]


@dataclass(frozen=True)
class Made:
    """A table, not yet written."""

    instruments: tuple[Instrument, ...]
    text: str
    left_out: Mapping[str, list[str]]
    """Symbols by what they lack."""

    def changes(self, out: Path, *, may_replace: bool) -> Iterator[str]:
        """What writing it to `out` changes, in lines. Refused: InputRefused where something stands there that is no
        table, or a table with other terms unless it may be replaced."""
        if not out.parent.is_dir():
            raise InputRefused("--out", str(out), f"the folder {out.parent} does not exist; make it first")
        if not out.exists():
            return
        try:
            before = {one.symbol: one for one in table_of(file_text(out, str(out), DOCUMENT), str(out))}
        except (VenueError, SourceRefused):
            raise InputRefused(
                "--out", str(out), "stands there and is no table that can be read; name another"
            ) from None
        after = {one.symbol: one for one in self.instruments}
        lines = [
            *(f"{out}: {symbol} is new" for symbol in after if symbol not in before),
            *(f"{out}: {symbol} would be gone" for symbol in before if symbol not in after),
            *(f"{out}: {symbol} changes {_changed(before[symbol], one)}" for symbol, one in after.items()
              if before.get(symbol, one) != one),
        ]  # fmt: skip
        if lines and not may_replace:
            told = "; ".join(line.removeprefix(f"{out}: ") for line in lines[:3])
            more = f" and {len(lines) - 3} more changes" if len(lines) > 3 else ""
            raise InputRefused(
                "--out", str(out), f"stands there ({told}{more}); --dry-run lists all, --force replaces it"
            )
        yield from lines


def make_table(asked: Asked, known: Catalogue) -> Made:
    """The table of the files. Refused: InputRefused (a day that nobody states, nothing left to write), and what
    the files are refused for."""
    fee = None
    if asked.liquidation_fee is not None:
        try:
            fee = Decimal(_FEE.parse(asked.liquidation_fee)) / MILLION
        except UnitError as refusal:
            raise InputRefused("--liquidation-fee", "", str(refusal)) from None
    source = f"ccxt's export of {asked.venue}, from {', '.join(file.name for file in asked.files)}"
    shared = {"venue": asked.venue, "valid_from": _day(asked), "source": source, "liquidation_fee": fee}
    found = imported(read_ccxt(asked.files), known, shared, asked.only, asked.without)
    left_out: dict[str, list[str]] = {}
    for symbol, lacks in found.left_out:
        left_out.setdefault(lacks, []).append(symbol)
    if not found.instruments:
        told = "; ".join(f"{lacks}: {', '.join(symbols[:3])}" for lacks, symbols in left_out.items())
        reason = (
            f"give no instrument whole ({told or 'no perpetual contract in them'}); give markets and tiers together"
        )
        raise InputRefused("FILE", ", ".join(map(str, asked.files)), reason)
    title = f"{asked.venue} perpetuals"
    return Made(found.instruments, table_text(title, found.instruments), left_out)


def _day(asked: Asked) -> str:
    day = asked.valid_from or day_of(asked.files)
    if day is None:
        raise InputRefused("--valid-from", "", "is missing and no file's name states one day; give it, like 2024-10-01")
    try:
        return date.fromisoformat(day).isoformat()
    except ValueError:
        raise InputRefused("--valid-from", day, "is no day; expected one like 2024-10-01") from None


def _changed(before: Instrument, after: Instrument) -> str:
    old, new = before.record(), after.record()
    return ", ".join(name for name in new if new[name] != old[name])
