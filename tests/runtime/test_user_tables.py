"""A vault lives by the table it was opened with: in the database, in another process, and when it is lived again."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select

from ringfence.faces import queries
from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.markets.tables import shipped
from ringfence.runtime.backtest import backtest
from ringfence.runtime.database import lock_vault, migrate, open_engine, unit_of_work
from ringfence.runtime.mandates import check, load
from ringfence.runtime.replay import replay
from ringfence.runtime.runs import digest
from ringfence.runtime.setup import set_up
from ringfence.runtime.verification import verify
from ringfence.vaults.errors import AmendmentRefused, MandateChanged, MandateError
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import bar_series, mandate, position
from ringfence.vaults.vault import Vault

HOUR = 3_600_000
START = 1_740_787_200_000
TABLE = """\
venue: okx
valid_from: "2025-03-01"
source: read by hand
contract_size: 0.01
tick: 0.1
notional_min: 0
taker_fee: 0.05%
maker_fee: 0.02%
liquidation_fee: 1%
instruments:
  ODD/USDC:USDC:
    lot: 1
    tiers: [{from: 0, rate: 1%, leverage_max: 50}]
"""
MANDATE = """\
mandate: odd
currency: USDC
loss_cap: 30%
timeframe: 1h
volatility: {window: 12h, half_life: 2h}
positions:
  odd: {symbol: "ODD/USDC:USDC", share: 50%, strategy: {name: constant, leverage: 3}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "venues").mkdir()
    (tmp_path / "venues" / "okx.yaml").write_text(TABLE)
    (tmp_path / "odd.yaml").write_text(MANDATE)
    return tmp_path


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path}/vaults.db", create=True)
    migrate(engine)
    yield engine
    engine.dispose()


def market() -> Market:
    close = 8000.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0.0, 0.008, 60)))
    opened = np.concatenate(([8000.0], close[:-1]))
    ts = START + np.arange(60, dtype=np.int64) * HOUR
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) * 0.999
    name = "okx:ODD/USDC:USDC"
    return align({name: Bars(name, HOUR, ts, opened, high, low, close, np.full(60, 1e9))})


def odd(folder: Path) -> Mandate:
    (terms,) = load([folder / "odd.yaml"])
    return terms


def test_a_table_beside_the_mandate_is_recorded_with_it_and_read_back_whole(folder: Path) -> None:
    terms = odd(folder)
    assert terms.positions["odd"].symbol == "okx:ODD/USDC:USDC", "the bare symbol is recorded with its venue"
    (recorded,) = terms.instruments
    assert (recorded.valid_from, recorded.source) == ("2025-03-01", "read by hand")
    assert Mandate.from_canonical(terms.canonical()) == terms
    assert set_up(Mandate.from_canonical(terms.canonical())).instruments == (recorded,)


def test_other_terms_are_another_mandate_and_other_words_are_not(folder: Path) -> None:
    before, table = odd(folder).fingerprint, folder / "venues" / "okx.yaml"
    table.write_text(TABLE.replace("read by hand", "read again"))
    assert odd(folder).fingerprint == before
    table.write_text(TABLE.replace("rate: 1%", "rate: 1.1%"))
    assert odd(folder).fingerprint != before


def test_a_mandate_of_shipped_instruments_alone_records_nothing(folder: Path) -> None:
    (folder / "odd.yaml").write_text(MANDATE.replace("USDC", "USDT").replace("ODD/", "BTC/"))
    with_table = odd(folder)
    (folder / "venues" / "okx.yaml").unlink()
    (folder / "venues").rmdir()
    without = odd(folder)
    assert with_table.instruments == () == without.instruments
    assert "instruments" not in without.canonical()
    assert with_table.fingerprint == without.fingerprint
    (folder / "odd.yaml").write_text(MANDATE.replace("USDC", "USDT").replace('"ODD/', '"binance:BTC/'))
    assert odd(folder).fingerprint == without.fingerprint, "the default venue may be named or not"


def test_a_fault_of_a_table_is_told_beside_those_of_the_mandate(folder: Path) -> None:
    (folder / "venues" / "okx.yaml").write_text(TABLE.replace("rate: 1%", "rate: 1"))
    (folder / "odd.yaml").write_text(MANDATE.replace("30%", "30"))
    told = [str(problem) for problem in check([folder]).problems]
    assert any(
        line.startswith(f"{folder}/venues/okx.yaml:13:29 instruments.ODD/USDC:USDC.tiers.0.rate") for line in told
    )
    assert any(line.startswith(f"{folder}/odd.yaml:3:11 loss_cap") for line in told)


def test_a_mandate_cannot_state_what_it_records(folder: Path) -> None:
    (folder / "odd.yaml").write_text(MANDATE + "instruments: []\n")
    with pytest.raises(MandateError, match=r"odd\.yaml:8:1 instruments: is no key of a mandate"):
        odd(folder)


def test_tables_that_are_named_stand_in_place_of_those_beside_the_mandate(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(TABLE.replace("2025-03-01", "2025-04-01"))
    (terms,) = load([folder / "odd.yaml"], [own])
    assert terms.instruments[0].valid_from == "2025-04-01"
    with pytest.raises(MandateError, match="unknown instrument 'ODD/USDC:USDC'"):
        load([folder / "odd.yaml"], [])


def test_a_vault_lives_again_by_its_table_when_the_table_is_gone(folder: Path, engine: Engine) -> None:
    setup, world = set_up(odd(folder)), market()
    (lived,) = replay(engine, [(setup, world)], {"alice": 10**11}).runs
    assert digest([lived]) == digest([backtest(setup, world, {"alice": 10**11})])
    (folder / "venues" / "okx.yaml").write_text(TABLE.replace("rate: 1%", "rate: 1.9%"))
    (verdict,) = verify(engine)
    assert (verdict.breaches, verdict.slots, verdict.undecided) == ((), 60, ())
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(position.c.instrument)).scalars().all() == ["okx:ODD/USDC:USDC"]
        assert connection.execute(select(bar_series.c.instrument)).scalars().all() == ["okx:ODD/USDC:USDC"]
    (held,) = queries.positions(engine)
    assert (held["symbol"], held["table_valid_from"], held["base"]) == ("okx:ODD/USDC:USDC", "2025-03-01", "ODD")
    resizes = queries.events(engine, kinds=["resize"])
    assert resizes[0]["after"].endswith(" ODD")
    assert Decimal(resizes[0]["after"].split()[0]) % Decimal("0.01") == 0, "whole contracts of a hundredth"
    with pytest.raises(MandateChanged):
        replay(engine, [(set_up(odd(folder)), world)], {"alice": 10**11})


def test_a_changed_table_amends_a_vault_unless_its_lots_would_be_others(folder: Path, engine: Engine) -> None:
    replay(engine, [(set_up(odd(folder)), market())], {"alice": 10**11})
    table = folder / "venues" / "okx.yaml"

    def amend() -> None:
        with unit_of_work(engine) as connection:
            body = connection.execute(select(mandate.c.body).order_by(mandate.c.applied_ts.desc())).scalars().first()
            vault = Vault(connection, lock_vault(connection, "odd"), Mandate.from_canonical(str(body)))
            vault.amend(START + 60 * HOUR, odd(folder))

    table.write_text(TABLE.replace("contract_size: 0.01", "contract_size: 0.1"))
    with pytest.raises(AmendmentRefused, match="a lot of what it holds would be another quantity"):
        amend()
    table.write_text(TABLE.replace("rate: 1%", "rate: 1.5%").replace("2025-03-01", "2025-06-01"))
    amend()
    (held,) = queries.positions(engine)
    assert held["table_valid_from"] == "2025-06-01"
    (verdict,) = verify(engine)
    assert verdict.breaches == ()


def test_the_shipped_instruments_are_not_changed_by_a_users_table(folder: Path) -> None:
    (folder / "venues" / "okx.yaml").write_text(
        TABLE.replace("okx", "binance").replace("ODD/USDC:USDC", "BTC/USDC:USDC")
    )
    (folder / "odd.yaml").write_text(MANDATE.replace("ODD", "BTC"))
    before = shipped().find("BTC/USDC:USDC")
    terms = odd(folder)
    assert terms.instruments[0].tiers != before.tiers
    assert shipped().find("BTC/USDC:USDC") is before
