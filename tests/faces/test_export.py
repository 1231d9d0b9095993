"""The series of runs as CSV and Parquet: every digit of money, nothing made up, and no other file overwritten."""

import stat
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from pyarrow import csv, parquet

from ringfence.faces.export import table_of, write_csv, write_parquet
from ringfence.runtime.backtest import backtest
from ringfence.runtime.errors import OutputNotWritten
from ringfence.runtime.runs import VaultRun
from tests.reference.tide import UNIT, tide, walk


@pytest.fixture(scope="module")
def run() -> VaultRun:
    return backtest(tide(), walk(), {"alice": 1_000 * UNIT + 1})


def test_money_and_quantities_have_every_digit(run: VaultRun) -> None:
    table = table_of([run])
    assert table["nav"].to_pylist() == [Decimal(int(nav)).scaleb(-6) for nav in run.nav]
    assert table["wall"].to_pylist() == [Decimal(int(wall)).scaleb(-6) for wall in run.wall]
    assert table["shares"].to_pylist() == [Decimal(int(shares)).scaleb(-9) for shares in run.shares]
    lots = Decimal(tide().instruments[0].lot)
    assert table["btc.quantity"].to_pylist() == [int(held) * lots for held in run.positions[0].quantity]
    assert [int(close.timestamp() * 1000) for close in table["close"].to_pylist()] == run.ts.tolist()


def test_what_does_not_exist_is_empty(run: VaultRun) -> None:
    table = table_of([run])
    masked = np.ma.getmaskarray(run.positions[0].leverage)
    assert [value is None for value in table["btc.leverage"].to_pylist()] == masked.tolist()
    assert masked.any()
    assert not masked.all()


def test_two_vaults_stand_under_each_other_and_their_positions_beside_each_other(run: VaultRun) -> None:
    from dataclasses import replace

    other = replace(run, vault="other", positions=(replace(run.positions[0], name="coin"),))
    table = table_of([run, other])
    assert table["vault"].to_pylist() == ["tide"] * len(run.ts) + ["other"] * len(run.ts)
    assert table["coin.price"].to_pylist()[: len(run.ts)] == [None] * len(run.ts)
    assert table["btc.price"].to_pylist()[len(run.ts) :] == [None] * len(run.ts)


def test_both_files_hold_the_table_and_are_their_owners_alone(run: VaultRun, tmp_path: Path) -> None:
    table = table_of([run])
    write_csv(tmp_path / "a.csv", [run])
    write_parquet(tmp_path / "a.parquet", [run])
    read = csv.read_csv(tmp_path / "a.csv")
    assert read.column_names == table.column_names
    assert [Decimal(str(value)) for value in read["nav"].to_pylist()] == table["nav"].to_pylist()
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == table.to_pydict()
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_an_earlier_export_is_replaced_and_nothing_else_is(run: VaultRun, tmp_path: Path) -> None:
    for name, write in (("a.csv", write_csv), ("a.parquet", write_parquet)):
        write(tmp_path / name, [run])
        write(tmp_path / name, [run])
    strangers = {"bars.csv": b"ts,open,high,low,close\n", "x.parquet": b"PAR1 and no more"}
    for name, content in strangers.items():
        (tmp_path / name).write_bytes(content)
        for write in (write_csv, write_parquet):
            with pytest.raises(OutputNotWritten, match="something else than a"):
                write(tmp_path / name, [run])
        assert (tmp_path / name).read_bytes() == content
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputNotWritten, match="is a folder"):
        write_csv(tmp_path / "folder", [run])
    with pytest.raises(OutputNotWritten, match="does not exist"):
        write_csv(tmp_path / "nowhere" / "a.csv", [run])
    pyarrow_s_own = tmp_path / "bars.parquet"
    parquet.write_table(table_of([run]).replace_schema_metadata(None), pyarrow_s_own)
    with pytest.raises(OutputNotWritten, match="something else than a Parquet file of series"):
        write_parquet(pyarrow_s_own, [run])
    with pytest.raises(OutputNotWritten, match="an input of this very run"):
        write_parquet(tmp_path / "a.parquet", [run], [tmp_path / "a.parquet"])
    assert not list(tmp_path.glob(".*"))
