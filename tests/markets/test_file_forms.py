"""Files as sources write them: each form gives the same bars and the same rates, from small files made here."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from ringfence.markets.files import read_bars, read_funding

BTC = "BTC/USDT:USDT"
START, HOUR = 1_777_852_800_000, 3_600_000  # 2026-05-04T00:00Z
TIMES = [START + n * HOUR for n in range(4)]
OPEN, HIGH = [50_000.0, 50_100.5, 50_050.0, 50_200.0], [50_200.0, 50_150.0, 50_300.25, 50_250.0]
LOW, CLOSE = [49_900.5, 50_000.0, 50_010.0, 50_100.0], [50_100.5, 50_050.0, 50_200.0, 50_125.5]
VOLUME = [12.5, 3.25, 7.0, 0.5]
ROWS = list(zip(TIMES, OPEN, HIGH, LOW, CLOSE, VOLUME, strict=True))
STAMPS, RATES = [START + n * 8 * HOUR for n in range(3)], [0.0001, -0.000025, 0.0003]


def lines(*given: object) -> bytes:
    return "".join(f"{line}\n" for line in given).encode()


def cells(*values: object) -> str:
    return ",".join(map(str, values))


def iso(ts: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return datetime.fromtimestamp(ts / 1000, UTC).strftime(form)


def answer(document: object) -> bytes:
    return json.dumps(document).encode()


def binance_download(header: bool, scale: int) -> bytes:
    names = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote,ignore"
    held = [cells(ts * scale, *prices, (ts + HOUR) * scale - 1, 1.5, 9, 0.5, 0.25, 0) for ts, *prices in ROWS]
    return lines(*([names] if header else []), *held)


def bybit_answer() -> bytes:
    newest_first = [[str(ts), *map(str, values), "1234.5"] for ts, *values in reversed(ROWS)]
    return answer({"retCode": 0, "result": {"symbol": "BTCUSDT", "category": "linear", "list": newest_first}})


def bybit_table() -> bytes:
    return lines("startTime,openPrice,highPrice,lowPrice,closePrice,volume,turnover",
                 *(cells(*row, 1234.5) for row in reversed(ROWS)))  # fmt: skip


def okx_download() -> bytes:
    """`vol` counts contracts of 0.01 BTC, `vol_ccy` coins."""
    return lines("instrument_name,open,high,low,close,vol,vol_ccy,vol_quote,open_time,confirm",
                 *(cells("BTC-USDT-SWAP", *prices, volume * 100, volume, 1e6, ts, 1)
                   for ts, *prices, volume in ROWS))  # fmt: skip


def okx_answer() -> bytes:
    rows = [
        [str(ts), *map(str, prices), str(volume * 100), str(volume), "1000000", "1"] for ts, *prices, volume in ROWS
    ]
    return answer({"code": "0", "msg": "", "data": rows[::-1]})


def hyperliquid_answer() -> bytes:
    return answer([{"t": ts, "T": ts + HOUR - 1, "s": "BTC", "i": "1h", "o": str(o), "c": str(c), "h": str(h),
                    "l": str(low), "v": str(v), "n": 12} for ts, o, h, low, c, v in ROWS])  # fmt: skip


def hyperliquid_table() -> bytes:
    rows = [cells(ts + HOUR - 1, c, h, "1h", low, 12, o, "BTC", ts, v) for ts, o, h, low, c, v in ROWS]
    return lines("T,c,h,i,l,n,o,s,t,v", *rows)


def deribit_answer() -> bytes:
    held = {"status": "ok", "ticks": TIMES, "open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE, "volume": VOLUME,
            "cost": [1.0] * 4}  # fmt: skip
    return answer({"jsonrpc": "2.0", "result": held, "usIn": 1, "usOut": 2})


def ccxt_table() -> bytes:
    return lines("timestamp,open,high,low,close,volume", *(cells(*row) for row in ROWS))


def pandas_table() -> bytes:
    """A frame with its index of times, as `to_csv` writes it."""
    return lines(",open,high,low,close,volume", *(cells(f"{iso(ts)}+00:00", *rest) for ts, *rest in ROWS))


def tradingview_export() -> bytes:
    return lines("time,open,high,low,close,Volume", *(cells(ts // 1000, *rest) for ts, *rest in ROWS))


def tradingview_export_in_iso() -> bytes:
    return lines(
        "time,open,high,low,close,Volume", *(cells(iso(ts, "%Y-%m-%dT%H:%M:%SZ"), *rest) for ts, *rest in ROWS)
    )


def cryptodatadownload() -> bytes:
    """A line on where it is from, newest first, quoted volume beside the coin's."""
    rows = [cells(ts, iso(ts), "BTCUSDT", *prices, volume, 99.5, 12) for ts, *prices, volume in reversed(ROWS)]
    names = "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount"
    return lines("https://www.CryptoDataDownload.com", names, *rows)


def freqtrade_feather() -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"date": pa.array(TIMES, pa.timestamp("ms", "UTC")), "open": OPEN, "high": HIGH, "low": LOW,
               "close": CLOSE, "volume": VOLUME}  # fmt: skip
    pyarrow.feather.write_feather(pa.table(columns), sink, compression="lz4")
    return sink.getvalue().to_pybytes()


def freqtrade_json() -> bytes:
    return gzip.compress(answer([list(row) for row in ROWS]))


BARS: list[tuple[str, str, Callable[[], bytes]]] = [
    ("Binance's download", "BTCUSDT-1h-2026-05.csv", lambda: binance_download(True, 1)),
    ("Binance's download without names", "BTCUSDT-1h-2026-05.csv", lambda: binance_download(False, 1)),
    ("Binance's download since 2025, in microseconds", "BTCUSDT-1h-2026-05.csv", lambda: binance_download(False, 1000)),
    ("Binance's answer", "answer.json", lambda: answer([[ts, *map(str, rest), ts + HOUR - 1, "1", 9, "1", "1", "0"]
                                                        for ts, *rest in ROWS])),
    ("Bybit's answer, newest first", "kline.json", bybit_answer),
    ("a table with Bybit's names", "bars.csv", bybit_table),
    ("OKX's download", "BTC-USDT-SWAP-candlesticks-2026-05-04.csv", okx_download),
    ("OKX's answer", "candles.json", okx_answer),
    ("Hyperliquid's answer", "candles.json", hyperliquid_answer),
    ("a table with Hyperliquid's names", "hl.csv", hyperliquid_table),
    ("Deribit's answer", "BTC-PERPETUAL.json", deribit_answer),
    ("ccxt's columns", "ohlcv.csv", ccxt_table),
    ("ccxt's lists", "ohlcv.json", lambda: answer([list(row) for row in ROWS])),
    ("a frame of pandas", "frame.csv", pandas_table),
    ("TradingView's export", "BINANCE_BTCUSDT.P, 60.csv", tradingview_export),
    ("TradingView's export with ISO times", "BINANCE_BTCUSDT.P, 60.csv", tradingview_export_in_iso),
    ("CryptoDataDownload", "Binance_BTCUSDT_1h.csv", cryptodatadownload),
    ("freqtrade's feather", "BTC_USDT_USDT-1h-futures.feather", freqtrade_feather),
    ("freqtrade's JSON", "BTC_USDT-1h.json.gz", freqtrade_json),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), [case[1:] for case in BARS], ids=[case[0] for case in BARS])
def test_bars_are_read_as_the_source_writes_them(name: str, write: Callable[[], bytes], tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(write())
    bars = read_bars(file, BTC)
    assert bars.timeframe == HOUR
    assert bars.ts.tolist() == TIMES
    assert [bars.open.tolist(), bars.high.tolist(), bars.low.tolist(), bars.close.tolist()] == [OPEN, HIGH, LOW, CLOSE]
    assert bars.volume.tolist() == VOLUME
    assert bars.volume_known
    assert bars.notes == ()


FUNDING: list[tuple[str, str, Callable[[], bytes]]] = [
    ("Binance's download", "BTCUSDT-fundingRate-2026-05.csv", lambda: lines(
        "calc_time,funding_interval_hours,last_funding_rate",
        *(cells(ts + 7, 8, rate) for ts, rate in zip(STAMPS, RATES, strict=True)))),
    ("Binance's answer", "funding.json", lambda: answer(
        [{"symbol": "BTCUSDT", "fundingTime": ts + 3, "fundingRate": str(rate), "markPrice": "50000"}
         for ts, rate in zip(STAMPS, RATES, strict=True)])),
    ("Bybit's answer, newest first", "funding.json", lambda: answer({"result": {"category": "linear", "list": [
        {"symbol": "BTCUSDT", "fundingRate": str(rate), "fundingRateTimestamp": str(ts)}
        for ts, rate in reversed(list(zip(STAMPS, RATES, strict=True)))]}})),
    ("OKX's download", "BTC-USDT-SWAP-fundingrates.csv", lambda: lines(
        "instrument_name,funding_rate,funding_time",
        *(cells("BTC-USDT-SWAP", rate, ts) for ts, rate in zip(STAMPS, RATES, strict=True)))),
    ("Hyperliquid's answer, some milliseconds late", "funding.json", lambda: answer(
        [{"coin": "BTC", "fundingRate": str(rate), "premium": "0.0", "time": ts + 76}
         for ts, rate in zip(STAMPS, RATES, strict=True)])),
    ("Deribit's answer", "funding.json", lambda: answer({"result": [
        {"timestamp": ts, "index_price": 50000.0, "interest_8h": 0.5, "interest_1h": rate}
        for ts, rate in zip(STAMPS, RATES, strict=True)]})),
    ("ccxt's rows", "funding.json", lambda: answer(
        [{"symbol": BTC, "fundingRate": rate, "timestamp": ts, "datetime": iso(ts)}
         for ts, rate in zip(STAMPS, RATES, strict=True)])),
    ("freqtrade's bars of rates", "BTC_USDT_USDT-8h-funding_rate.json", lambda: answer(
        [[ts, rate, 0.0, 0.0, 0.0, 0.0] for ts, rate in zip(STAMPS, RATES, strict=True)])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), [case[1:] for case in FUNDING], ids=[case[0] for case in FUNDING])
def test_rates_are_read_as_the_source_writes_them(name: str, write: Callable[[], bytes], tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(write())
    funding = read_funding(file, BTC)
    assert funding.ts.tolist() == STAMPS
    assert funding.rate.tolist() == RATES


def test_the_interval_that_a_funding_file_states_goes_with_its_stamps(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    rows = [cells(START + hour * HOUR, length, 0.1) for hour, length in ((0, 8), (4, 4), (5, 1))]
    file.write_bytes(lines("calc_time,funding_interval_hours,last_funding_rate", *rows))
    interval = read_funding(file, BTC).interval
    assert interval is not None
    assert interval.tolist() == [8 * HOUR, 4 * HOUR, HOUR]


def test_the_interval_that_a_bar_file_states_is_believed_where_its_rows_are_sparse(tmp_path: Path) -> None:
    """Two hours apart, each closing after one: hours, of which every other is missing."""
    sparse = ROWS[::2]
    by_close, by_word = tmp_path / "a.csv", tmp_path / "b.csv"
    by_close.write_bytes(lines("open_time,open,high,low,close,volume,close_time",
                               *(cells(*row, row[0] + HOUR - 1) for row in sparse)))  # fmt: skip
    by_word.write_bytes(lines("time,open,high,low,close,volume,interval", *(cells(*row, 60) for row in sparse)))
    by_name = tmp_path / "BTCUSDT-1h-2026-05.csv"
    by_name.write_bytes(lines(*(cells(*row) for row in sparse)))
    for file in (by_close, by_word, by_name):
        bars = read_bars(file, BTC)
        assert (bars.timeframe, [gap.missing for gap in bars.gaps()]) == (HOUR, [1]), file.name
