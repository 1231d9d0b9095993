"""A feed is named by its kind; what cannot be had is refused before anything is started."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ringfence.faces.errors import InputRefused
from ringfence.faces.feeds import EXCHANGES, KINDS, Asked, Feed, Live, named
from ringfence.faces.ways_out import told
from ringfence.markets.errors import PackageMissing
from ringfence.markets.feeds.exchange import Exchange
from ringfence.markets.feeds.folder import Folder
from ringfence.markets.feeds.together import Together
from ringfence.runtime.database import migrate, open_engine
from ringfence.runtime.feeding import Feeder
from tests.faults.test_installation import MANDATE
from tests.markets.feeds.standin import MINUTE, START, Standin, standing_in
from tests.reference.tide import contents

BTC = "BTC/USDT:USDT"


@pytest.fixture
def mandate(tmp_path: Path) -> Path:
    path = tmp_path / "tide.yaml"
    slot = MANDATE.format(name="tide", slot="5m").replace("half_life: 12h, window: 24h", "half_life: 30m, window: 1h")
    path.write_text(slot)
    return path


@pytest.fixture
def exchange() -> Iterator[Standin]:
    with standing_in(START + 10 * MINUTE + 30_000) as standin:
        yield standin


def live(mandate: Path, *feeds: str) -> Live:
    found = named(Asked(feeds, (mandate,)))
    assert isinstance(found, Live)
    return found


def written(folder: Path, first: int, bars: int) -> None:
    ts = START + np.arange(first, first + bars) * MINUTE
    rows = [f"{at},100,101,99,100.5,3" for at in ts.tolist()]
    (folder / f"BTC-USDT-1m-{first}.csv").write_text("timestamp,open,high,low,close,volume\n" + "\n".join(rows) + "\n")


@pytest.mark.parametrize(
    ("feeds", "reason"),
    [
        (("nonsense:x",), "expected one of: replay:SCENARIO, or replay with --bars; folder:DIR; ccxt:EXCHANGE"),
        (("cxt:okx",), "did you mean ccxt?"),
        (("folder:nowhere",), "expected a folder that is there"),
        (("folder:",), "expected a folder that is there"),
        (("ccxt:kraken",), "expected one of binanceusdm, bybit, okx"),
        (("ccxt:binanceusd",), "did you mean binanceusdm?"),
        (("ccxt:okx@ftp://x",), "expected an address like http"),
        (("ccxt:okx@http://me:secret@x",), "without a password"),
        (("replay:2020-03", "ccxt:okx"), "a replay has a clock of its own"),
        (("ccxt:okx", "ccxt:okx@http://localhost:1"), "expected each exchange once"),
    ],
)
def test_what_no_feed_is_called_is_refused_with_what_there_is(
    feeds: tuple[str, ...], reason: str, mandate: Path
) -> None:
    with pytest.raises(InputRefused) as refused:
        named(Asked(feeds, (mandate,)))
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_series_go_with_a_replay_alone(mandate: Path) -> None:
    with pytest.raises(InputRefused, match="brings its own series"):
        named(Asked(("ccxt:okx",), (mandate,), bars=(f"{BTC}=x.csv",)))


def test_every_kind_is_told_by_its_form() -> None:
    assert all(kind.form.startswith(name) for name, kind in KINDS.items())


def test_without_the_package_the_way_out_is_its_line(mandate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccxt", None)
    with pytest.raises(PackageMissing) as refused:
        named(Asked(("ccxt:binanceusdm",), (mandate,)))
    assert "pip install 'ringfence[live]'" in told(refused.value)
    assert isinstance(named(Asked(("replay:2020-03",), (mandate,))), Feed)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_exchange_that_may_be_asked_can_be(exchange: str) -> None:
    """Its time, bars and marks since a moment, and funding."""
    asked = Exchange(exchange, MINUTE)
    assert all(asked.has(one) for one in ("fetchTime", "fetchOHLCV", "fetchMarkOHLCV", "fetchFundingRateHistory"))


def test_vaults_open_now_and_strategies_have_their_past_first(mandate: Path, exchange: Standin, tmp_path: Path) -> None:
    given = live(mandate, f"ccxt:binanceusdm@{exchange.address}")
    assert given.opening(exchange.clock, {}) == exchange.clock
    assert given.opening(exchange.clock, {BTC: START}) == START
    engine = open_engine(f"sqlite:///{tmp_path / 'ringfence.db'}", create=True)
    migrate(engine)
    source = given.source(exchange.clock, exchange.clock, {})
    assert isinstance(source, Together)
    Feeder(engine, source).take(exchange.clock)
    opens = [(row[1] - START) // MINUTE for row in contents(engine)["bar"]]
    first = (exchange.clock - given.warm) // MINUTE * MINUTE
    assert opens == list(range((first - START) // MINUTE, 10))
    assert len(opens) >= given.setups[0].lookback * 5
    assert contents(engine)["quality"] == []
    engine.dispose()


def test_a_folder_s_vaults_open_where_its_files_end(mandate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    given = live(mandate, f"folder:{folder}")
    now = START + 100 * MINUTE
    assert given.opening(now, {}) == now
    written(folder, 0, 60)
    assert given.opening(now, {}) == START + 60 * MINUTE
    source = given.source(now, None, {})
    assert isinstance(source, Folder)
    source.poll(now)
    assert len(source.poll(now + 2_000).bars[BTC]) == 60


def test_several_sources_give_one_series_and_witness_it(mandate: Path, exchange: Standin, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    written(folder, 0, 10)
    given = live(mandate, f"folder:{folder}", f"ccxt:binanceusdm@{exchange.address}")
    source = given.source(exchange.clock, START, {})
    closes = list[float]()
    for later in range(0, 40_000, 2_000):
        found = source.poll(exchange.clock + later)
        closes += found.bars[BTC].close.tolist() if BTC in found.bars else []
    assert len(closes) == len(set(range(len(closes)))) > 5
    assert 100.5 not in closes, "the exchange of the instrument's venue gives the series"


def test_a_flat_row_without_volume_says_that_nothing_was_traded(mandate: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bars"
    folder.mkdir()
    written(folder, 0, 3)
    with (folder / "BTC-USDT-1m-0.csv").open("a") as file:
        file.write(f"{START + 3 * MINUTE},100.5,100.5,100.5,100.5,0\n")
    source = live(mandate, f"folder:{folder}").source(START + 10 * MINUTE, None, {})
    source.poll(START + 10 * MINUTE)
    found = source.poll(START + 11 * MINUTE)
    assert (len(found.bars[BTC]), found.until[BTC]) == (3, START + 4 * MINUTE)
