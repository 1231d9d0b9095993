"""Every unit between a life at an exchange and the same life at a venue that fills at once has a cause, and the two are
what vaults that really lived so say."""

from pathlib import Path

import pytest

from ringfence.markets.exchange.faults import Fault, FaultPlan
from ringfence.markets.market import Market
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.divergence import Divergence, diverge
from ringfence.runtime.setup import Setup, set_up
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.vault import Vault
from tests.reference.tide import HOUR, MANDATE, START, UNIT, contents, tide, walk
from tests.runtime.test_dealing import NAME, House
from tests.runtime.test_inside import falling

WRONG = (Fault.partial, Fault.partial_only, Fault.late, Fault.reject, Fault.deleverage, Fault.stranger)
HOURS = 48


@pytest.fixture
def inside() -> Setup:
    text = MANDATE.format(name=NAME, leverage="7").replace("timeframe: 1h", "timeframe: 4h")
    return set_up(load_mandate(text.replace("window: 4h", "window: 8h").encode()))


def lived(folder: Path, market: Market, setup: Setup, plan: FaultPlan | None) -> House:
    """A vault whose holders come and go while it lives."""
    house = House(folder, market, setup, plan)
    house.desk.step(NAME, START)
    deposit(house.one.engine, NAME, "bob", 3_000 * UNIT + 1, START + HOUR, "second")
    redeem(house.one.engine, NAME, "alice", 2_000 * 10**9, START + HOUR, "half")
    house.live()
    return house


def made(house: House) -> int:
    """What its holders have made: NAV and what waits, less what was paid in."""
    with unit_of_work(house.one.engine, writes=False) as connection:
        vault = Vault(connection, lock_vault(connection, NAME), house.one.setup.mandate)
        return vault.nav + vault.ledger.balance("entering") + vault.ledger.balance("world")


def of(house: House) -> Divergence:
    assert house.sound()
    before = contents(house.one.engine)
    found = diverge(house.one.engine, NAME)
    assert contents(house.one.engine) == before
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_the_causes_sum_up_to_what_a_vault_at_a_venue_that_fills_at_once_made_otherwise(
    tmp_path: Path, seed: int
) -> None:
    market = walk(seed, HOURS, 0.008)
    plan = FaultPlan(seed, dict.fromkeys(WRONG, 60_000))
    faulty, ideal = lived(tmp_path / "faulty", market, tide(), plan), lived(tmp_path / "ideal", market, tide(), None)
    found = of(faulty)
    assert found.lived == made(faulty)
    assert found.foreseen == made(ideal)
    assert sum(cause.amount for cause in found.causes) == found.lived - found.foreseen != 0
    assert len(found.causes) > 3
    assert any(cause.amount for cause in found.causes)
    assert all(cause.told for cause in found.causes)
    assert (found.vault, found.currency, found.decimals) == (NAME, "USDT", 6)
    faulty.one.engine.dispose()
    ideal.one.engine.dispose()


def test_inside_slots_too(tmp_path: Path, inside: Setup) -> None:
    plan = FaultPlan(4, dict.fromkeys(WRONG, 80_000))
    faulty, ideal = (lived(tmp_path / name, falling(3), inside, given) for name, given in (("a", plan), ("b", None)))
    found = of(faulty)
    assert found.foreseen == made(ideal)
    assert sum(cause.amount for cause in found.causes) == found.lived - found.foreseen
    assert found.causes
    faulty.one.engine.dispose()
    ideal.one.engine.dispose()


@pytest.mark.parametrize("plan", [FaultPlan(1, {}), None], ids=["an exchange that does all", "a venue that fills"])
def test_where_all_is_as_foreseen_there_is_no_cause(tmp_path: Path, plan: FaultPlan | None) -> None:
    house = lived(tmp_path / "one", walk(5, HOURS, 0.008), tide(), plan)
    heard: list[tuple[int, int]] = []
    found = diverge(house.one.engine, NAME, lambda done, total: heard.append((done, total)))
    assert (found.lived, found.foreseen, found.causes) == (made(house), made(house), ())
    assert heard == [(done, HOURS) for done in range(1, HOURS + 1)]
    with pytest.raises(UnknownVault):
        diverge(house.one.engine, "ebb")
    house.one.engine.dispose()
