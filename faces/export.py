"""The series of runs as files for other programs: one table, a row for each vault and decision, as CSV or Parquet.

Money, shares and prices per share are decimals with all their digits, ratios float64, times UTC. Columns of positions
are `NAME.quantity`, `NAME.price` and so on; what does not exist is empty.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringfence.risk.events import Bound
from ringfence.runtime.outputs import PARQUET, PARQUET_KEY, SERIES, write_whole
from ringfence.runtime.runs import PositionRun, VaultRun
from ringfence.words.numbers import SHARE_DECIMALS

if TYPE_CHECKING:
    import pyarrow

__all__ = ["table_of", "write_csv", "write_parquet"]

_FIRST = "vault"
_PER_SHARE = 12
_DIGITS = 38


def table_of(runs: Sequence[VaultRun]) -> "pyarrow.Table":
    """The series of the runs, one under the other in their order."""
    import pyarrow

    return pyarrow.concat_tables([_table(run) for run in runs], promote_options="default")


def write_csv(path: Path, runs: Sequence[VaultRun], inputs: Iterable[Path] = ()) -> None:
    """The table as CSV with a header line. Refused: OutputNotWritten (one of the `inputs` or another kind of file
    stands there, or the file system says no)."""
    import pyarrow
    from pyarrow import csv

    sink = pyarrow.BufferOutputStream()
    csv.write_csv(table_of(runs), sink)
    write_whole(path, sink.getvalue().to_pybytes(), SERIES, inputs)


def write_parquet(path: Path, runs: Sequence[VaultRun], inputs: Iterable[Path] = ()) -> None:
    """The table as Parquet. Refused: OutputNotWritten, as for `write_csv`."""
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table_of(runs).replace_schema_metadata({PARQUET_KEY: b"1"}), sink)
    write_whole(path, sink.getvalue().to_pybytes(), PARQUET, inputs)


# ---------------------------------------------------------------------------------------------------- the table


def _table(run: VaultRun) -> "pyarrow.Table":
    import pyarrow

    per_share = [
        Decimal(int(nav) * 10 ** (SHARE_DECIMALS + _PER_SHARE) // int(shares)).scaleb(-_PER_SHARE) if shares else None
        for nav, shares in zip(run.nav, run.shares, strict=True)
    ]
    marks = [
        Decimal(int(mark) * 10 ** (SHARE_DECIMALS + _PER_SHARE) >> 50).scaleb(-_PER_SHARE) if mark else None
        for mark in run.high_water_mark
    ]
    price = pyarrow.decimal128(_DIGITS, _PER_SHARE)
    columns: dict[str, Any] = {
        _FIRST: pyarrow.array([run.vault] * len(run.ts), pyarrow.string()),
        "close": pyarrow.array(run.ts, pyarrow.timestamp("ms", "UTC")),
        "nav": _decimals(run.nav, run.decimals),
        "wall": _decimals(run.wall, run.decimals),
        "shares": _decimals(run.shares, run.decimals + SHARE_DECIMALS),
        "nav_per_share": pyarrow.array(per_share, price),
        "nav_per_share_low": pyarrow.array(run.low * 10**SHARE_DECIMALS, mask=~np.isfinite(run.low)),
        "high_water_mark": pyarrow.array(marks, price),
        "locked": pyarrow.array(run.locked),
        "struck": pyarrow.array(run.struck),
    }
    for position in run.positions:
        columns |= {f"{position.name}.{name}": column for name, column in _position(position).items()}
    return pyarrow.table(columns)


def _decimals(amounts: Any, places: int) -> "pyarrow.Array":
    import pyarrow

    exact = [Decimal(int(amount)).scaleb(-places) for amount in amounts]
    return pyarrow.array(exact, pyarrow.decimal128(_DIGITS, places))


def _position(position: PositionRun) -> dict[str, Any]:
    import pyarrow

    places = max(0, -int(position.lot.normalize().as_tuple().exponent))
    quantities = [int(lots) * position.lot for lots in position.quantity]
    masked = ("leverage", "effective_leverage", "proposed", "allowed", "volatility", "liquidation_distance")
    return {
        "quantity": pyarrow.array(quantities, pyarrow.decimal128(_DIGITS, places)),
        "price": pyarrow.array(position.price, mask=~(position.price > 0.0)),
        **{name: _open(getattr(position, name)) for name in masked},
        "bound": pyarrow.array([Bound(code).name for code in position.bound.tolist()], pyarrow.string()),
    }


def _open(column: np.ma.MaskedArray) -> "pyarrow.Array":
    import pyarrow

    values = np.ma.filled(column, np.nan)
    return pyarrow.array(values, mask=~np.isfinite(values))
