"""What a file is before its figures are: regular, within bounds, of this instrument, over, and one of several."""

import gzip
import io
import json
import os
import stat
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pytest

from ringfence.markets.errors import InvalidBars, SuspectData, UnreadableFile
from ringfence.markets.files import contents, read_bars, read_funding
from ringfence.markets.files.clocks import interval, step
from ringfence.markets.files.contents import left_out
from ringfence.markets.files.names import Stated, fits, of_column, of_name
from ringfence.markets.files.tables import arrow_bytes

BTC = "BTC/USDT:USDT"
START, MINUTE, HOUR = 1_777_852_800_000, 60_000, 3_600_000
NAMES = "ts,open,high,low,close,volume"


def bar(hour: int, price: float = 100.0, volume: float = 1.0) -> str:
    return f"{START + hour * HOUR},{price},{price + 1},{price - 1},{price},{volume}"


def written(folder: Path, *rows: str, name: str = "b.csv", names: str = NAMES) -> Path:
    file = folder / name
    file.write_text("\n".join([*([names] if names else []), *rows]) + "\n")
    return file


def refused(file: Path | list[Path], symbol: str = BTC) -> str:
    with pytest.raises(UnreadableFile) as found:
        read_bars(file, symbol)
    return str(found.value)


# ---------------------------------------------------------------------------------------------------- regular files


def test_a_pipe_a_device_and_a_socket_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    begun = time.monotonic()
    assert "is a device, a pipe or a socket; expected a regular file" in refused(pipe)
    assert "is a device, a pipe or a socket" in refused(Path("/dev/zero"))
    assert time.monotonic() - begun < 5


def test_a_pipe_that_is_written_to_is_refused_too(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    both = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    os.write(both, b"ts,open\n")
    assert "a regular file" in refused(pipe)
    os.close(both)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("packing", ["gzip", "zip"])
def test_a_file_that_unpacks_beyond_all_measure_is_refused_early(packing: str, tmp_path: Path) -> None:
    """A bomb of some hundred kilobytes, whose figures would fill the memory: little more than the bound is unpacked."""
    bomb = tmp_path / f"bomb.csv.{packing}"
    body = (NAMES + "\n").encode() + bytes(100 << 20)
    if packing == "gzip":
        bomb.write_bytes(gzip.compress(body, 9))
    else:
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.csv", body)
    assert bomb.stat().st_size < 1 << 18
    assert "unpacks to more than 200 times its" in refused(bomb)


def test_what_is_large_on_the_disk_or_unpacked_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [bar(hour) for hour in range(40)]
    plain, packed, feather = written(tmp_path, *rows), tmp_path / "b.csv.gz", tmp_path / "b.feather"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    columns = {name: [float(row) for row in range(1000)] for name in NAMES.split(",")[1:]}
    pyarrow.feather.write_feather(pa.table({"ts": list(range(START, START + 1000)), **columns}), feather)
    monkeypatch.setattr(contents, "UNPACKED_MAX", 500)
    assert "unpacks to more than 500 bytes" in refused(packed)
    monkeypatch.setattr("ringfence.markets.files.tables.UNPACKED_MAX", 500)
    assert "unpacks to more than 500 bytes" in refused(feather)
    monkeypatch.setattr(contents, "PACKED_MAX", 1000)
    assert f"holds {plain.stat().st_size:,} bytes; expected at most 1,000" in refused(plain)


def test_what_macos_editors_and_browsers_leave_is_nobody_s_data() -> None:
    for name in ("__MACOSX/._a.csv", "a/.a.csv", ".#m.csv", "~$a.csv", "a.csv.lock", "a.csv.crdownload", "a.csv~"):
        assert left_out(name), name
    for name in ("a.csv", "folder.of/a.csv", "a.lock.csv"):
        assert not left_out(name), name


def test_a_zip_is_read_past_what_macos_put_into_it(tmp_path: Path) -> None:
    file = tmp_path / "b.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data/b.csv", "\n".join([NAMES, bar(0), bar(1)]))
        archive.writestr("__MACOSX/data/._b.csv", b"\0\5\x16\7")
        archive.writestr("data/.b.csv.swp.csv", b"\0")
    assert len(read_bars(file, BTC)) == 2


def test_an_encrypted_or_lying_zip_is_refused(tmp_path: Path) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("b.csv", "\n".join([NAMES, bar(0), bar(1)]))
    body = bytearray(sink.getvalue())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        body[body.index(signature) + flags] |= 1  # the flag of an encrypted member
    file = tmp_path / "b.zip"
    file.write_bytes(body)
    assert "broken zip" in refused(file)


def test_nothing_that_python_owns_is_handed_to_the_reader_s_threads() -> None:
    """A thread that lets go of it while the interpreter goes takes the process along: SIGABRT and no exit code."""
    body = (NAMES + "\n" + bar(0)).encode()
    before = sys.getrefcount(body)
    reader = arrow_bytes(body)
    assert sys.getrefcount(body) == before
    assert reader.read() == body


# ---------------------------------------------------------------------------------------------------- clocks


def test_every_row_s_unit_is_told_by_its_size_and_a_change_by_its_row(tmp_path: Path) -> None:
    rows = [bar(0), bar(1), bar(2).replace(",", "000,", 1), bar(3).replace(",", "000,", 1)]
    bars = read_bars(written(tmp_path, *rows), BTC)
    assert bars.ts.tolist() == [START + n * HOUR for n in range(4)]
    assert bars.notes == ("b.csv: times are in milliseconds up to row 3 and in microseconds from row 4 on",)


def test_the_greatest_common_step_of_a_thin_market_is_its_timeframe(tmp_path: Path) -> None:
    """Bars of a minute, most of them two minutes apart and none one."""
    minutes = [0, 2, 4, 7, 9, 11, 14]
    rows = [bar(0).replace(str(START), str(START + minute * MINUTE)) for minute in minutes]
    bars = read_bars(written(tmp_path, *rows), BTC)
    assert bars.timeframe == MINUTE
    assert sum(gap.missing for gap in bars.gaps()) == 15 - len(minutes)


def test_one_row_off_the_grid_of_all_others_is_named_and_makes_no_grid_of_its_own(tmp_path: Path) -> None:
    rows = [bar(hour) for hour in range(10)]
    rows[5] = rows[5].replace(str(START + 5 * HOUR), str(START + 5 * HOUR + 1000))
    with pytest.raises(InvalidBars, match="off the grid of 1h: 1 row, at 2026-05-04T05:00:01Z"):
        read_bars(written(tmp_path, *rows), BTC)


def test_a_stated_timeframe_is_taken_and_rows_off_it_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, bar(0), bar(2))
    assert read_bars(file, BTC).timeframe == 2 * HOUR
    assert read_bars(file, BTC, HOUR).gaps()[0].missing == 1
    with pytest.raises(InvalidBars, match="off the grid of 4h"):
        read_bars(file, BTC, 4 * HOUR)


def test_lengths_are_read_as_sources_write_them() -> None:
    minutes = {
        "1": 1,
        "60": 60,
        "1m": 1,
        "15min": 15,
        "1h": 60,
        "4H": 240,
        "D": 1440,
        "1D": 1440,
        "1d": 1440,
        "W": 10_080,
    }
    assert {text: (interval(text) or 0) // MINUTE for text in minutes} == minutes
    assert [interval(text) for text in ("1M", "M", "", "fast", "0", "0h", "9999999")] == [None] * 7
    assert interval("30s") == 30_000


def test_a_step_needs_two_moments() -> None:
    assert [step(np.array(ts, np.int64)) for ts in ([5], [5, 5], [0, 6, 10])] == [None, None, 2]


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (["2026-05-04", "soon"], "b.csv:3: column ts is 'soon'; expected a time since 1970"),
        (["2026-05-04 00:00", "2026-05-04 01:00+00:00"], "times with and without an offset"),
        (["1.5e300", "2"], "expected a time since 1970"),
        (["nan", "2"], "expected a time since 1970"),
        (["99999999", "100000000"], "b.csv:2: column ts goes from 99999999 to 100000000: not an epoch at all"),
    ],
)
def test_a_time_that_is_none_is_refused_with_its_row(times: list[str], told: str, tmp_path: Path) -> None:
    assert told in refused(written(tmp_path, *(f"{text},100,101,99,100,1" for text in times)))


def test_a_volume_of_nothing_in_some_bars_is_known_and_in_all_bars_is_none(tmp_path: Path) -> None:
    some = read_bars(written(tmp_path, bar(0), bar(1, volume=0.0)), BTC)
    assert (some.volume.tolist(), some.volume_known) == ([1.0, 0.0], True)
    assert not read_bars(written(tmp_path, bar(0, volume=0.0), bar(1, volume=0.0)), BTC).volume_known


# ---------------------------------------------------------------------------------------------------- instruments


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("ETHUSDT-1h-2024-01.csv", True),
        ("eth_usdt_usdt-1h-futures.feather", True),
        ("ETH-USDT-SWAP-candlesticks.csv", True),
        ("BTCUSDC-1h-2024-01.csv", True),
        ("eth-marks.csv", True),
        ("KRAKEN_XBTUSDT, 60.csv", False),
        ("perp_BTCUSDT_1h.parquet", False),
        ("BTC and ETH compared.csv", False),
        ("btc.csv", False),
        ("bars.csv", False),
        ("data-usd.csv", False),
        ("link-to-file.csv", False),
    ],
)
def test_a_name_that_says_another_instrument_is_refused_unless_accepted(
    name: str, others: bool, tmp_path: Path
) -> None:
    file = written(tmp_path, bar(0), bar(1), name=name)
    file = file.rename(file.with_suffix(".csv"))
    if not others:
        assert read_bars(file, BTC).notes == ()
        return
    with pytest.raises(SuspectData, match=r"its name says .*other-instrument"):
        read_bars(file, BTC)
    (note,) = read_bars(file, BTC, accept=["other-instrument"]).notes
    assert note.startswith(f"accepted {BTC}: {file}: its name says")


def test_a_column_that_says_another_instrument_is_refused_with_its_row(tmp_path: Path) -> None:
    file = written(tmp_path, f"BTCUSDT,{bar(0)}", f"ETHUSDT,{bar(1)}", names=f"symbol,{NAMES}")
    with pytest.raises(SuspectData, match=r"b\.csv:3: its column symbol says ETH/USDT"):
        read_bars(file, BTC)
    rates = written(tmp_path, f"BTC,{START},0.1", f"ETH,{START + HOUR},0.1", names="coin,time,fundingRate")
    with pytest.raises(SuspectData, match=r"b\.csv:3: its column coin says ETH"):
        read_funding(rates, BTC)


def test_an_answer_that_says_another_instrument_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kline.json"
    held = {"symbol": "ETHUSDT", "list": [[str(START), "1", "2", "1", "1", "5", "9"]]}
    file.write_text(json.dumps({"result": held}))
    with pytest.raises(SuspectData, match="its answer says ETH/USDT"):
        read_bars(file, BTC, HOUR)


def test_instruments_are_recognised_in_every_spelling() -> None:
    for text in (
        "BTCUSDT",
        "BTC-USDT-SWAP",
        "BTC/USDT:USDT",
        "BTC",
        "btc_usdt",
        "XBTUSDT",
        "BTC-PERPETUAL",
        "BINANCE:BTCUSDT",
    ):
        assert all(fits(stated, BTC) for stated in of_column([text])), text
    for text in ("ETHUSDT", "BTCUSDC", "BTC/USD", "1000PEPEUSDT", "WBTCUSDT"):
        assert not any(fits(stated, BTC) for stated in of_column([text])), text
    assert of_name("BTC_USDT_USDT-1h.feather") == [Stated("BTC", "USDT")]


# ---------------------------------------------------------------------------------------------------- unfinished bars


def test_a_last_bar_that_is_not_confirmed_is_left_out_and_told(tmp_path: Path) -> None:
    file = written(tmp_path, f"{bar(0)},1", f"{bar(1)},1", f"{bar(2)},0", names=f"{NAMES},confirm")
    bars = read_bars(file, BTC)
    assert len(bars) == 2
    assert bars.notes == ("b.csv: the last bar, of 2026-05-04T02:00:00Z, left out: the file says that it is not final",)


def test_an_unconfirmed_bar_before_confirmed_ones_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, f"{bar(0)},1", f"{bar(1)},0", f"{bar(2)},1", names=f"{NAMES},confirm")
    assert "the bar of 2026-05-04T01:00:00Z is not final" in refused(file)
    alone = written(tmp_path, f"{bar(0)},false", names=f"{NAMES},closed")
    assert "holds no bar that is over" in refused(alone)


def test_a_bar_that_closes_after_the_file_was_written_is_left_out_and_told(tmp_path: Path) -> None:
    rows = [f"{bar(hour)},{START + (hour + 1) * HOUR - 1}" for hour in range(3)]
    file = written(tmp_path, *rows, names=f"{NAMES},close_time")
    os.utime(file, (START / 1000 + 2.5 * 3600,) * 2)
    bars = read_bars(file, BTC)
    assert len(bars) == 2
    assert bars.notes[0].endswith("left out: the file was written before it closed, 2026-05-04T02:30:00Z")
    os.utime(file, (START / 1000 + 3 * 3600,) * 2)
    assert len(read_bars(file, BTC)) == 3
    os.utime(file, (START / 1000 - 86_400,) * 2)  # bars of the future are a made-up world, and no download
    assert len(read_bars(file, BTC)) == 3


def test_bars_that_are_not_over_at_a_stated_time_are_left_out_and_told(tmp_path: Path) -> None:
    file = written(tmp_path, bar(0), bar(1), bar(2))
    assert len(read_bars(file, BTC, now=START + 3 * HOUR)) == 3
    bars = read_bars(file, BTC, now=START + 3 * HOUR - 1)
    assert len(bars) == 2
    assert bars.notes == (
        "b.csv: the last bar, from 2026-05-04T02:00:00Z, left out: not over at 2026-05-04T02:59:59.999Z",
    )
    with pytest.raises(UnreadableFile, match="no bar is over at 2026-05-04T00:00:00Z"):
        read_bars(file, BTC, now=START)


# ---------------------------------------------------------------------------------------------------- several files


def test_several_files_are_one_series_whatever_their_order(tmp_path: Path) -> None:
    first = written(tmp_path, bar(0), bar(1), name="a.csv")
    second = written(tmp_path, bar(4), bar(3), bar(2), name="c.csv")
    last = written(tmp_path, bar(5), bar(6), name="b.csv")
    bars = read_bars([last, first, second], BTC)
    assert bars.ts.tolist() == [START + n * HOUR for n in range(7)]
    assert bars.notes == ()


def test_rows_that_two_files_have_alike_stand_once(tmp_path: Path) -> None:
    first = written(tmp_path, bar(0), bar(1), bar(2), name="a.csv")
    second = written(tmp_path, bar(1), bar(2), bar(3), name="b.csv")
    assert len(read_bars([first, second], BTC)) == 4


def test_a_row_that_was_not_over_in_the_first_download_is_taken_from_the_second(tmp_path: Path) -> None:
    first = written(tmp_path, bar(0), bar(1, 100.5), name="a.csv")
    second = written(tmp_path, bar(1, 100.0), bar(2), name="b.csv")
    for files in ([first, second], [second, first]):
        bars = read_bars(files, BTC)
        assert bars.close.tolist() == [100.0] * 3
        assert bars.notes == ("a.csv: its last row, 2026-05-04T01:00:00Z, differs in the file that goes on; left out",)


def test_two_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path, bar(0), bar(1, 100.5), bar(2), name="a.csv")
    second = written(tmp_path, bar(1), bar(2), bar(3), name="b.csv")
    assert "b.csv: the row of 2026-05-04T01:00:00Z has other figures than in a.csv" in refused([first, second])


def test_files_of_different_lengths_of_bars_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path, f"{bar(0)},60", name="a.csv", names=f"{NAMES},interval")
    second = written(tmp_path, f"{bar(1)},30", name="b.csv", names=f"{NAMES},interval")
    assert "bars of 30m; expected 1h as a.csv" in refused([first, second])


def test_several_files_of_rates_are_one_series(tmp_path: Path) -> None:
    first = written(tmp_path, f"{START},0.1", f"{START + 8 * HOUR},0.2", names="ts,funding_rate", name="a.csv")
    second = written(
        tmp_path, f"{START + 16 * HOUR},0.3", f"{START + 8 * HOUR},0.2", names="ts,funding_rate", name="b.csv"
    )
    assert read_funding([second, first], BTC).rate.tolist() == [0.1, 0.2, 0.3]
