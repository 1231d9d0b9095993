"""A stand-in of one exchange on this machine: Binance USD-M's public answers, over figures of our own making, with
faults on demand."""

import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MINUTE, HOUR, EIGHT_HOURS = 60_000, 3_600_000, 28_800_000
START = 1_700_000_000_000 // EIGHT_HOURS * EIGHT_HOURS
"""A moment at which a funding stamp falls, UTC ms."""
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
_BASE = {"BTCUSDT": 50_000.0, "ETHUSDT": 3_000.0}


def price(market: str, ts: int) -> float:
    """A smooth price, of two decimals."""
    return round(_BASE[market] * (1 + 0.01 * math.sin(ts / MINUTE / 40)), 2)


def rate(market: str, stamp: int) -> float:
    """A rate that no two stamps near each other share."""
    return round(0.0001 + (stamp // EIGHT_HOURS % 97) * 1e-6, 8)


@dataclass
class Standin:
    """The state of the exchange; tests turn it."""

    clock: int
    """What time it is there, UTC ms."""
    address: str = ""
    publish_after: int = 0
    """Milliseconds after a stamp before the exchange answers with it."""
    holes: set[int] = field(default_factory=set)
    """Opens of bars that it does not have."""
    corrected: dict[int, float] = field(default_factory=dict)
    """By the open of a bar, what its close reads now instead."""
    ahead: int = 0
    """Milliseconds that what it says of the time is ahead of its clock."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """By the last part of the path: what goes wrong with the next requests, one after the other; a fault that begins
    with `always` stays."""
    asked: Counter[str] = field(default_factory=Counter)
    away: bool = False
    """Whether it is gone: connections that are open end without an answer."""
    slow: float = 3.0
    """Seconds."""

    def fault(self, what: str) -> str:
        waiting = self.faults.get(what, [])
        if not waiting:
            return ""
        return waiting[0].removeprefix("always ") if waiting[0].startswith("always ") else waiting.pop(0)

    def answer(self, path: str, query: dict[str, str]) -> Any:
        ways: dict[str, Callable[[dict[str, str]], Any]] = {
            "time": lambda _: {"serverTime": self.clock + self.ahead},
            "exchangeInfo": lambda _: {"timezone": "UTC", "symbols": [_market(name) for name in _BASE]},
            "klines": self.klines,
            "markPriceKlines": lambda asked: [
                [row[0], *(f"{float(cell) - 1:.2f}" for cell in row[1:5]), "0", *row[6:]] for row in self.klines(asked)
            ],
            "fundingRate": self.rates,
            "premiumIndex": self.premium,
            "24hr": self.ticker,
        }
        return ways[path](query)

    def klines(self, query: dict[str, str]) -> list[list[Any]]:
        first = -(-int(query["startTime"]) // MINUTE) * MINUTE
        opens = [ts for ts in range(first, self.clock + 1, MINUTE) if ts not in self.holes]
        return [self.kline(query["symbol"], ts) for ts in opens[: int(query["limit"])]]

    def kline(self, market: str, ts: int) -> list[Any]:
        """One bar; while it is not over its close and volume are others."""
        over = ts + MINUTE <= self.clock
        opens, closes = price(market, ts), price(market, min(ts + MINUTE, self.clock))
        closes = self.corrected.get(ts, closes)
        high, low = max(opens, closes) + 1, min(opens, closes) - 1
        volume = 1 + ts // MINUTE % 7 if over else 0.5
        figures = [f"{each:.2f}" for each in (opens, high, low, closes)]
        return [ts, *figures, f"{volume:.3f}", ts + MINUTE - 1, "0", 1, "0", "0", "0"]

    def rates(self, query: dict[str, str]) -> list[dict[str, Any]]:
        first = -(-int(query["startTime"]) // EIGHT_HOURS) * EIGHT_HOURS
        stamps = range(first, self.clock - self.publish_after + 1, EIGHT_HOURS)
        market = query["symbol"]
        rows = [
            {"symbol": market, "fundingTime": stamp + 3, "fundingRate": f"{rate(market, stamp):.8f}", "markPrice": "1"}
            for stamp in stamps
        ]
        return rows[: int(query["limit"])]

    def premium(self, query: dict[str, str]) -> dict[str, Any]:
        market = query["symbol"]
        due = (self.clock // EIGHT_HOURS + 1) * EIGHT_HOURS
        at = price(market, self.clock)
        return {"symbol": market, "markPrice": f"{at - 1:.8f}", "indexPrice": f"{at - 2:.8f}", "interestRate": "0.0001",
                "estimatedSettlePrice": f"{at:.8f}", "lastFundingRate": f"{rate(market, due):.8f}",
                "nextFundingTime": due, "time": self.clock}  # fmt: skip

    def ticker(self, query: dict[str, str]) -> dict[str, Any]:
        at = f"{price(query['symbol'], self.clock):.2f}"
        return {"symbol": query["symbol"], "lastPrice": at, "openPrice": at, "highPrice": at, "lowPrice": at,
                "volume": "1", "quoteVolume": "1", "openTime": self.clock - 86_400_000,
                "closeTime": self.clock}  # fmt: skip


def _market(name: str) -> dict[str, Any]:
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "1000000", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "100", "stepSize": "0.001"},
        {"filterType": "MIN_NOTIONAL", "notional": "5"},
    ]
    return {"symbol": name, "pair": name, "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
            "onboardDate": 1_569_398_400_000, "status": "TRADING", "baseAsset": name[:3], "quoteAsset": "USDT",
            "marginAsset": "USDT", "pricePrecision": 2, "quantityPrecision": 3, "filters": filters}  # fmt: skip


def _spoiled(kind: str, rows: Any) -> Any:
    """The rows of an answer, out of order, twice, without a field, or with a price that is none."""
    if not isinstance(rows, list) or not rows:
        return rows
    match kind:
        case "disordered":
            return rows[::-1]
        case "twice":
            return [row for row in rows for _ in range(2)]
        case "missing":
            middle = len(rows) // 2
            return [*rows[:middle], [*rows[middle][:3], None, *rows[middle][4:]], *rows[middle + 1 :]]
        case "zero":
            return [*rows[:-1], [rows[-1][0], "0", *rows[-1][2:]]]
        case "differing":
            return [*rows, [rows[-1][0], *rows[0][1:]]]
        case "future":
            return [*rows, [rows[-1][0] + 100 * MINUTE, *rows[-1][1:]]]
        case "short":
            return [row[:4] for row in rows]
    return rows


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        standin: Standin = self.server.standin  # type: ignore[attr-defined]
        if standin.away:
            self.close_connection = True
            return
        address = urlsplit(self.path)
        what = address.path.rpartition("/")[2]
        standin.asked[what] += 1
        kind = standin.fault(what)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        with suppress(OSError):  # whoever asked has gone
            self._do(standin, what, kind, query)

    def _do(self, standin: Standin, what: str, kind: str, query: dict[str, str]) -> None:
        body = json.dumps(_spoiled(kind, standin.answer(what, query))).encode()
        match kind:
            case "500" | "502" | "429" | "418":
                self._send(int(kind), b'{"code": -1003, "msg": "Too many requests"}' if kind[0] == "4" else b"")
            case "html":
                self._send(200, b"<html><body>Maintenance</body></html>", "text/html")
            case "html 503":
                self._send(503, b"<html><body>Unavailable</body></html>", "text/html")
            case "object":
                self._send(200, b'{"unexpected": true}')
            case "empty":
                self._send(200, b"[]")
            case "broken":
                self._send(200, body[: len(body) // 2])
            case "half":
                self._send(200, body[: len(body) // 2], length=len(body))
                self.close_connection = True
            case "hang":
                time.sleep(standin.slow)
                self.close_connection = True
            case "drip":
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                for at in range(int(standin.slow * 10)):
                    self.wfile.write(body[at : at + 1])
                    time.sleep(0.1)
                self.close_connection = True
            case "slow":
                time.sleep(standin.slow)
                self._send(200, body)
            case _:
                self._send(200, body)

    def _send(self, status: int, body: bytes, kind: str = "application/json", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: pytest shows what a test says."""


@contextmanager
def standing_in(clock: int) -> Iterator[Standin]:
    """The stand-in on a free port of this machine, its clock at `clock` (UTC ms)."""
    standin = Standin(clock)
    with serving(standin):
        yield standin


@contextmanager
def serving(standin: Standin, port: int = 0) -> Iterator[int]:
    """Its socket, on this port or on a free one; returns which. Nobody listens there before and after."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads, standin.away = True, False
    server.standin = standin  # type: ignore[attr-defined]
    standin.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        standin.away = True
        server.shutdown()
        server.server_close()
        thread.join()
