"""Files: what is read, and what every broken file is told."""

import gzip
import io
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringfence.markets.errors import InvalidBars, InvalidFunding, UnreadableFile
from ringfence.markets.files import read_bars, read_funding
from ringfence.words.refusal import RingfenceError

START = 1_583_971_200_000
MINUTE = 60_000
HEADER = "ts,open,high,low,close,volume"
KLINE_HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


def rows(count: int = 5, scale: int = 1) -> list[str]:
    return [f"{(START + n * MINUTE) * scale},{100 + n},{102 + n}.5,{98 + n},{101 + n},{n}.25" for n in range(count)]


def klines(count: int = 5, scale: int = 1) -> list[str]:
    tail = [f"{(START + (n + 1) * MINUTE) * scale - 1},0.5,7,0.1,0.2,0" for n in range(count)]
    return [f"{row},{end}" for row, end in zip(rows(count, scale), tail, strict=True)]


TIMES = [START + n * MINUTE for n in range(5)]


def moments(form: str) -> list[str]:
    """The rows with their times as texts."""
    times = [datetime.fromtimestamp(ts / 1000, UTC).strftime(form) for ts in TIMES]
    return [f"{time},{row.partition(',')[2]}" for time, row in zip(times, rows(), strict=True)]


def text(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def zipped(*members: tuple[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return sink.getvalue()


def parquet(**columns: object) -> bytes:
    sink = io.BytesIO()
    whole: dict[str, object] = {
        "ts": [START + n * MINUTE for n in range(5)],
        "open": [100.0 + n for n in range(5)],
        "high": [102.5 + n for n in range(5)],
        "low": [98.0 + n for n in range(5)],
        "close": [101.0 + n for n in range(5)],
        "volume": pa.array([n + 0.25 for n in range(5)], pa.float32()),
    }
    kept = {name: column for name, column in (whole | columns).items() if column is not None}
    pq.write_table(pa.table(kept), sink, compression="zstd")
    return sink.getvalue()


def written(folder: Path, content: bytes, name: str = "bars.csv") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(text(HEADER, *rows()), id="plain CSV"),
        pytest.param(text(HEADER, *rows()).replace(b"\n", b"\r\n"), id="CSV with Windows line ends"),
        pytest.param(b"\xef\xbb\xbf" + text(HEADER, *rows()), id="CSV with a byte order mark"),
        pytest.param(text("TS, Open,High,Low,Close,Volume", *rows()), id="CSV with a header in capitals"),
        pytest.param(text(HEADER + ",extra", *(row + ",word" for row in rows())), id="CSV with another column"),
        pytest.param(gzip.compress(text(HEADER, *rows())), id="gzipped CSV"),
        pytest.param(parquet(), id="Parquet"),
        pytest.param(text(KLINE_HEADER, *klines()), id="kline download with a header"),
        pytest.param(text(*klines()), id="kline download without a header"),
        pytest.param(text(*klines(scale=1000)), id="kline download in microseconds"),
        pytest.param(text(HEADER, *rows(scale=1_000_000)), id="CSV in nanoseconds"),
        pytest.param(text(HEADER, *(row.replace("000,", ",", 1) for row in rows())), id="CSV in seconds"),
        pytest.param(text(HEADER, *reversed(rows())), id="CSV with the newest first"),
        pytest.param(text(HEADER, *rows()).replace(b",", b";"), id="CSV with semicolons"),
        pytest.param(text(HEADER, *moments("%Y-%m-%d %H:%M:%S")), id="CSV with times as pandas writes them"),
        pytest.param(text(HEADER, *moments("%Y-%m-%d %H:%M:%S+00:00")), id="CSV with times and an offset"),
        pytest.param(text(HEADER, *moments("%Y-%m-%dT%H:%M:%SZ")), id="CSV with ISO times"),
        pytest.param(parquet(ts=pa.array(TIMES, pa.timestamp("ms"))), id="Parquet with timestamps"),
        pytest.param(parquet(ts=pa.array([ts * 1000 for ts in TIMES], pa.timestamp("us", "UTC"))), id="Parquet in UTC"),
        pytest.param(zipped(("__MACOSX/._a.csv", b"x"), ("a.csv", text(HEADER, *rows()))), id="zip made on macOS"),
        pytest.param(zipped(("BTCUSDT-1m-2020-03.csv", text(*klines()))), id="zipped kline download"),
        pytest.param(
            zipped(("a.csv", text(KLINE_HEADER, *klines(scale=1000)))), id="zipped microseconds with a header"
        ),
    ],
)
def test_every_known_format_gives_the_same_bars(tmp_path: Path, content: bytes) -> None:
    bars = read_bars(written(tmp_path, content), "BTC/USDT:USDT")
    assert bars.symbol == "BTC/USDT:USDT"
    assert bars.timeframe == MINUTE
    assert bars.ts.tolist() == [START + n * MINUTE for n in range(5)]
    assert bars.open.tolist() == [100.0, 101.0, 102.0, 103.0, 104.0]
    assert bars.high.tolist() == [102.5, 103.5, 104.5, 105.5, 106.5]
    assert bars.low.tolist() == [98.0, 99.0, 100.0, 101.0, 102.0]
    assert bars.close.tolist() == [101.0, 102.0, 103.0, 104.0, 105.0]
    assert bars.volume.tolist() == [0.25, 1.25, 2.25, 3.25, 4.25]
    assert bars.ts.dtype == np.int64


MARK = text("ts,open,high,low,close", *(row.rpartition(",")[0] for row in rows()))


@pytest.mark.parametrize("content", [pytest.param(MARK, id="CSV"), pytest.param(parquet(volume=None), id="Parquet")])
def test_a_mark_price_has_no_volume(tmp_path: Path, content: bytes) -> None:
    bars = read_bars(written(tmp_path, content), "X")
    assert bars.volume.tolist() == [0.0] * 5
    assert not bars.volume_known


def test_the_timeframe_is_the_greatest_common_step(tmp_path: Path) -> None:
    lines = rows(8)
    bars = read_bars(written(tmp_path, text(HEADER, *lines[:3], *lines[6:])), "X")
    assert bars.timeframe == MINUTE
    assert bars.gaps()[0].missing == 3


def test_one_row_needs_a_stated_timeframe(tmp_path: Path) -> None:
    file = written(tmp_path, text(HEADER, *rows(1)))
    with pytest.raises(UnreadableFile, match="timeframe"):
        read_bars(file, "X")
    assert len(read_bars(file, "X", timeframe=MINUTE)) == 1


FUNDING = text("ts,funding_rate", *(f"{START + n * 480 * MINUTE},{0.0001 * n:.6f}" for n in range(4)))
CALCULATED = text(
    "calc_time,funding_interval_hours,last_funding_rate",
    *(f"{START + n * 480 * MINUTE + 7 * n},8,{0.0001 * n:.6f}" for n in range(4)),
)
BAD = text(HEADER, *rows())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "is empty", id="an empty file"),
        pytest.param(b"\n \n", "is empty", id="a file of blanks"),
        pytest.param(text(HEADER), "no rows below the header", id="a header alone"),
        pytest.param(text("when,open,high,low,close,volume", *rows()), "no column ts", id="no clock"),
        pytest.param(text("time,open,high,low,close", *rows()), ":2: 6 cells; expected 5", id="a column too many"),
        pytest.param(BAD.replace(b"close", b"clsoe", 1), "did you mean clsoe?", id="a misspelt column"),
        pytest.param(
            BAD.replace(b",103.5", b",high"),
            "bars.csv:3: column high is 'high'; expected a number",
            id="a word for a number",
        ),
        pytest.param(BAD.replace(b",103.5", b","), "bars.csv:3: column high is ''", id="an empty cell"),
        pytest.param(BAD.replace(b",103.5", b""), "bars.csv:3: 5 cells; expected 6", id="a missing cell"),
        pytest.param(
            BAD.replace(b"1583971320000", b"2020-03-12"),
            "bars.csv:4: column ts is '2020-03-12'; expected a whole number",
            id="a date for a timestamp",
        ),
        pytest.param(
            text(HEADER, "60000,100,102,98,101,1", "120000,101,103,99,102,1"),
            "bars.csv:2: column ts goes from 60000 to 120000: not an epoch at all",
            id="milliseconds since midnight",
        ),
        pytest.param(
            text(HEADER, "20200312,100,102,98,101,1", "20200313,101,103,99,102,1"),
            "write them as 2024-01-31",
            id="dates without signs",
        ),
        pytest.param(b"\0\1\2\3" * 100, "is not text", id="bytes of no format"),
        pytest.param(gzip.compress(BAD)[:-12], "broken gzip", id="a truncated gzip"),
        pytest.param(gzip.compress(BAD)[:20] + b"garbage" * 9, "broken gzip", id="a damaged gzip"),
        pytest.param(gzip.compress(b""), "is empty", id="a gzip of nothing"),
        pytest.param(parquet()[:-30], "broken Parquet", id="a truncated Parquet"),
        pytest.param(b"PAR1" + b"x" * 100 + b"PAR1", "broken Parquet", id="a damaged Parquet"),
        pytest.param(parquet(close=None), "no column close", id="a Parquet without a column"),
        pytest.param(parquet(ts=[True] * 5), "column ts holds bool", id="a Parquet with flags for times"),
        pytest.param(parquet(close=["a"] * 5), "column close holds string", id="a Parquet with words"),
        pytest.param(
            parquet(close=[1.0, None, 2.0, 3.0, 4.0]), ":2: column close has 1 empty cells", id="a Parquet with nulls"
        ),
        pytest.param(zipped(("a.csv", BAD))[:-20], "broken zip", id="a truncated zip"),
        pytest.param(zipped(("a.csv", BAD), ("b.csv", BAD)), "zip with 2 CSV files", id="a zip of two files"),
        pytest.param(zipped(("a.pdf", BAD)), "zip with 0 CSV files", id="a zip of something else"),
    ],
)
def test_a_broken_file_is_refused_by_name_with_what_was_expected(tmp_path: Path, content: bytes, expected: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(UnreadableFile) as refused:
        read_bars(file, "X")
    message = str(refused.value)
    assert message.startswith(str(file))
    assert expected in message
    assert "\n" not in message


WHOLE = (BAD, parquet(), gzip.compress(BAD), zipped(("a.csv", text(*klines()))), text(KLINE_HEADER, *klines()), FUNDING)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WHOLE), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.binary(max_size=3)), min_size=1)
)
def test_no_damage_to_a_file_escapes_as_anything_but_a_refusal(
    tmp_path: Path, content: bytes, damage: list[tuple[float, int, bytes]]
) -> None:
    for where, removed, inserted in damage:
        place = int(where * len(content))
        content = content[:place] + inserted + content[place + removed :]
    file = written(tmp_path, content)
    messages = []
    for read in (read_bars, read_funding):
        try:
            read(file, "X")
        except RingfenceError as refused:
            messages.append(str(refused))
    assert not any("\n" in message for message in messages)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        read_bars(tmp_path / "absent.parquet", "X")
    with pytest.raises(UnreadableFile, match="is a folder"):
        read_bars(tmp_path, "X")


def test_bars_with_a_fault_are_refused_by_symbol_and_timestamp(tmp_path: Path) -> None:
    lines = rows()
    with pytest.raises(InvalidBars, match="X refused: timestamp out of order: 3 rows, at 2020-03-12T00:03:00Z"):
        read_bars(written(tmp_path, text(HEADER, lines[0], *reversed(lines[1:]))), "X")
    with pytest.raises(InvalidBars, match="duplicate timestamp: 1 row"):
        read_bars(written(tmp_path, text(HEADER, *lines, lines[-1])), "X")
    with pytest.raises(InvalidBars, match="price not finite: 1 row"):
        read_bars(written(tmp_path, BAD.replace(b",102.5,", b",nan,")), "X")


def test_a_timeframe_that_changes_is_refused_at_the_rows_off_the_grid(tmp_path: Path) -> None:
    moved = BAD.replace(str(START + 4 * MINUTE).encode(), str(START + 4 * MINUTE + 1000).encode())
    with pytest.raises(InvalidBars, match="off the grid of 1m: 1 row, at 2020-03-12T00:04:01Z"):
        read_bars(written(tmp_path, moved), "X")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(FUNDING, id="CSV"),
        pytest.param(gzip.compress(FUNDING), id="gzipped CSV"),
        pytest.param(CALCULATED, id="the exchange's download"),
        pytest.param(zipped(("BTCUSDT-fundingRate-2020-03.csv", CALCULATED)), id="the exchange's zip"),
    ],
)
def test_every_known_funding_format_gives_the_same_rates(tmp_path: Path, content: bytes) -> None:
    funding = read_funding(written(tmp_path, content), "BTC/USDT:USDT")
    assert funding.symbol == "BTC/USDT:USDT"
    assert funding.ts.tolist() == [START + n * 480 * MINUTE for n in range(4)]
    assert funding.rate.tolist() == [0.0, 0.0001, 0.0002, 0.0003]


def test_funding_without_its_column_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, FUNDING.replace(b"funding_rate", b"price"))
    with pytest.raises(UnreadableFile, match="no column funding_rate"):
        read_funding(file, "X")
    with pytest.raises(UnreadableFile, match="no column ts"):
        read_funding(written(tmp_path, text("day,funding_rate", "1,2")), "X")


def test_funding_in_per_cent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFunding, match="not a fraction"):
        read_funding(written(tmp_path, FUNDING.replace(b"0.000100", b"1.25")), "X")


def test_every_recorded_series_is_read_and_valid(recorded: Path) -> None:
    lengths = {
        file.name: len(read_bars(file, f"{file.name.split('_')[1].removesuffix('USDT')}/USDT:USDT"))
        for file in sorted(recorded.glob("*.parquet"))
    }
    assert lengths["spot_BTCUSDT_1m_2020-03.parquet"] == 44_512
    assert lengths["perp_ETHUSDT_mark_1h.parquet"] == 9_978
    assert len(lengths) == 16
    assert len(read_funding(recorded / "perp_BTCUSDT_funding_8h.csv.gz", "BTC/USDT:USDT").ts) == 3_699


def modules_after(program: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after a program."""
    tail = "import sys; print(*{'pyarrow', 'pandas', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{tail}"], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_only_reading_a_file_imports_pyarrow_and_nothing_imports_pandas(tmp_path: Path) -> None:
    assert (
        modules_after("import ringfence.markets.files, ringfence.markets.scenarios, ringfence.markets.instruments")
        == set()
    )
    for content in (parquet(), BAD):
        file = written(tmp_path, content)
        assert modules_after(f"from ringfence.markets.files import read_bars; read_bars({str(file)!r}, 'X')") == {
            "pyarrow"
        }


def test_read_columns_may_be_written_to_like_any_array(tmp_path: Path) -> None:
    # Read-only arrays are another type to compiled code, which would be compiled a second time for them.
    for content in (parquet(), BAD):
        bars = read_bars(written(tmp_path, content), "X")
        assert all(
            column.flags.writeable and column.flags.c_contiguous for column in (bars.ts, bars.close, bars.volume)
        )
