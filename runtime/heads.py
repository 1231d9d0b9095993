"""Heads: the hash of each journal's last row and of each series of bars, to be kept where nobody can rewrite them.

Whoever can write to a database can make all of it anew with this very software, and every law will hold in it. What he
cannot do is make a chain that still goes through a head of an earlier day.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Integer, cast, func, select

from ringfence.runtime.database import unit_of_work
from ringfence.runtime.errors import HeadsUnreadable
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import bar, bar_series, funding, journal, position, vault

__all__ = ["Heads", "SeriesHead", "VaultHead", "beside", "head_of", "heads", "heads_document", "heads_in",
           "heads_text", "read_heads", "vault_names"]  # fmt: skip

_BATCH = 1_000
_HASH = r"[0-9a-f]{64}"
_FIGURES = [column for column in bar.c if column is not bar.c.instrument]
_NUMBERS = ("seq", "bars", "until")


@dataclass(frozen=True)
class VaultHead:
    vault: str
    seq: int
    hash: str
    """Of the journal's row `seq`."""

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


@dataclass(frozen=True)
class SeriesHead:
    instrument: str
    bars: int
    """How many are recorded up to `until`."""
    until: int
    """Open of the last bar that it covers, UTC ms."""
    hash: str
    """Over the timeframe, whether volumes are known, every figure of those bars and every funding stamp up to their
    close."""

    def __str__(self) -> str:
        return f"{self.bars}:{self.until}:{self.hash}"


@dataclass(frozen=True)
class Heads:
    vaults: tuple[VaultHead, ...] = ()
    series: tuple[SeriesHead, ...] = ()

    def __add__(self, other: "Heads") -> "Heads":
        return Heads(self.vaults + other.vaults, self.series + other.series)

    def breaches(self, connection: Connection, vault_id: int, name: str) -> Iterator[Breach]:
        """Heads of a vault that are not on its chain (L3)."""
        hashes = select(journal.c.hash).where(journal.c.vault_id == vault_id)
        for head in self.vaults:
            if head.vault == name:
                there = connection.execute(hashes.where(journal.c.seq == head.seq)).scalar_one_or_none()
                if there != head.hash:
                    yield Breach("L3", f"journal row {head.seq}", f"the head {head}", there or "no such row")


def beside(connection: Connection, expected: Heads, vaults: Sequence[str]) -> list[Breach]:
    """Heads of vaults that are not among `vaults`, and of series that are not as they were (L2, L3)."""
    found = [
        Breach("L3", f"vault {head.vault}", f"the head {head}", "no such vault")
        for head in expected.vaults
        if head.vault not in vaults and _is_gone(connection, head.vault)
    ]
    for head in expected.series:
        there = _series_head(connection, head.instrument, head.until)
        if there != head:
            told = "no bars" if there is None else str(there)
            found.append(Breach("L2", f"bars of {head.instrument}", f"the head {head}", told))
    return found


def _is_gone(connection: Connection, name: str) -> bool:
    return connection.execute(select(vault.c.id).where(vault.c.name == name)).first() is None


def heads(engine: Engine) -> Heads:
    """The heads of every vault, and of every series up to the last bar that can no longer be corrected."""
    with unit_of_work(engine, writes=False) as connection:
        return heads_in(connection)


def heads_in(connection: Connection) -> Heads:
    """The same inside the caller's transaction."""
    rows = connection.execute(select(vault.c.name, vault.c.journal_seq, vault.c.journal_hash).order_by(vault.c.name))
    vaults = tuple(VaultHead(*row) for row in rows)
    instruments = connection.execute(select(bar_series.c.instrument).order_by(bar_series.c.instrument)).scalars()
    series = []
    for instrument in instruments.all():
        until = _settled(connection, instrument)
        head = None if until is None else _series_head(connection, instrument, until)
        if head is not None:
            series.append(head)
    return Heads(vaults, tuple(series))


def vault_names(engine: Engine) -> tuple[str, ...]:
    """Of every vault, in order."""
    with unit_of_work(engine, writes=False) as connection:
        return tuple(connection.execute(select(vault.c.name).order_by(vault.c.name)).scalars())


def _settled(connection: Connection, instrument: str) -> int | None:
    """The last bar (UTC ms) that a vault has lived through or that another one follows."""
    recorded = select(bar.c.ts).where(bar.c.instrument == instrument).order_by(bar.c.ts.desc())
    last_two = connection.execute(recorded.limit(2)).scalars().all()
    lived = connection.execute(
        select(func.max(vault.c.last_bar))
        .join(position, position.c.vault_id == vault.c.id)
        .where(position.c.instrument == instrument)
    ).scalar()
    if last_two and lived is not None and lived >= last_two[0]:
        return int(last_two[0])
    return int(last_two[1]) if len(last_two) == 2 else None


def _series_head(connection: Connection, instrument: str, until: int) -> SeriesHead | None:
    stated = select(bar_series.c.timeframe, cast(bar_series.c.volume_known, Integer))
    series = connection.execute(stated.where(bar_series.c.instrument == instrument)).one_or_none()
    if series is None or not isinstance(series.timeframe, int):
        return None
    wanted = select(*_FIGURES).where(bar.c.instrument == instrument, bar.c.ts <= until).order_by(bar.c.ts)
    content, bars, last = hashlib.sha256(f"{instrument} {tuple(series)!r}\n".encode()), 0, 0
    for row in connection.execute(wanted.execution_options(yield_per=_BATCH)):
        content.update(f"{tuple(row)!r}\n".encode())
        bars, last = bars + 1, row.ts
    before = funding.c.ts < until + series.timeframe
    stamps = select(funding.c.ts, funding.c.rate).where(funding.c.instrument == instrument, before)
    for row in connection.execute(stamps.order_by(funding.c.ts).execution_options(yield_per=_BATCH)):
        content.update(f"{tuple(row)!r}\n".encode())
    return SeriesHead(instrument, bars, last, content.hexdigest()) if bars else None


# ---------------------------------------------------------------------------------------------------- as text


def heads_text(found: Heads) -> str:
    """One head a line: `vault NAME SEQ:HASH`, `bars INSTRUMENT COUNT:UNTIL:HASH`."""
    lines = [f"vault {head.vault} {head}" for head in found.vaults]
    lines += [f"bars {head.instrument} {head}" for head in found.series]
    return "".join(f"{line}\n" for line in lines)


def heads_document(found: Heads) -> dict[str, Any]:
    """The same as a JSON document has it."""
    return {"vaults": [vars(head) for head in found.vaults], "series": [vars(head) for head in found.series]}


def head_of(vault: str, text: str) -> VaultHead | None:
    """The head that `SEQ:HASH` says; None where it says none."""
    found = re.fullmatch(rf"([1-9][0-9]{{0,18}}):({_HASH})", text)
    return None if found is None else VaultHead(vault, int(found[1]), found[2])


def read_heads(file: str, text: str) -> Heads:
    """The heads of a file, in either form. Refused: HeadsUnreadable, with the line."""
    if text.lstrip().startswith("{"):
        return _read_document(file, text)
    vaults, series = [], []
    for number, line in enumerate(text.splitlines(), 1):
        kind, _, rest = line.strip().partition(" ")
        name, _, told = rest.rpartition(" ")
        head = head_of(name, told) if kind == "vault" else None
        of_series = re.fullmatch(rf"([1-9][0-9]{{0,18}}):([0-9]{{1,18}}):({_HASH})", told) if kind == "bars" else None
        if name and head is not None:
            vaults.append(head)
        elif name and of_series is not None:
            series.append(SeriesHead(name, int(of_series[1]), int(of_series[2]), of_series[3]))
        elif kind and not kind.startswith("#"):
            raise HeadsUnreadable(file, number, "expected `vault NAME SEQ:HASH` or `bars INSTRUMENT COUNT:UNTIL:HASH`")
    if not vaults and not series:
        raise HeadsUnreadable(file, 1, "it holds no head")
    return Heads(tuple(vaults), tuple(series))


def _read_document(file: str, text: str) -> Heads:
    try:
        told = json.loads(text)
        found = Heads(
            tuple(VaultHead(**head) for head in told["vaults"]), tuple(SeriesHead(**head) for head in told["series"])
        )
    except (ValueError, TypeError, LookupError, RecursionError) as failure:
        raise HeadsUnreadable(file, getattr(failure, "lineno", 1), f"no document of heads ({failure})") from None
    every: list[VaultHead | SeriesHead] = [*found.vaults, *found.series]
    for head in every:
        parts = vars(head)
        sound = all(type(part) is (int if name in _NUMBERS else str) for name, part in parts.items())
        if not sound or not re.fullmatch(_HASH, head.hash):
            raise HeadsUnreadable(file, 1, f"{parts!r:.200} is no head")
    return found
