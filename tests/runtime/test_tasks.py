"""The task is a thin door: it takes a vault's name and a slot, refuses all else, and works at the desk it has."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery import current_app
from sqlalchemy import Engine, select

from ringfence.markets.bars import Bars
from ringfence.markets.market import Market, align
from ringfence.runtime.acts import deposit, open_vault
from ringfence.runtime.bar_store import store_bars
from ringfence.runtime.database import in_unit, migrate, open_engine, unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.setup import set_up
from ringfence.runtime.tasks import app, step, using
from ringfence.vaults.errors import UnknownVault
from ringfence.vaults.mandate.check import load_mandate
from ringfence.vaults.tables import vault

HOUR = 3_600_000
START = 1_583_712_000_000
VAULT = "btc-distance"


def few_hours(symbol: str) -> Market:
    ts = START + np.arange(6, dtype=np.int64) * HOUR
    price = np.linspace(8000.0, 7900.0, 6)
    return align({symbol: Bars(symbol, HOUR, ts, price, price, price, price, np.ones(6))})


@pytest.fixture
def desk(sqlite_database: str, project: Path) -> Iterator[Desk]:
    setup = set_up(load_mandate(project / "tests" / "reference" / "mandates" / f"{VAULT}.yaml"))
    engine = open_engine(sqlite_database, create=True)
    migrate(engine)
    in_unit(engine, lambda connection: store_bars(connection, few_hours(setup.symbols[0])))
    open_vault(engine, setup.mandate, START)
    deposit(engine, VAULT, "alice", 1_000_000_000, START)
    yield Desk(engine)
    engine.dispose()


def last_bar(engine: Engine) -> int | None:
    with unit_of_work(engine, writes=False) as connection:
        found: int | None = connection.execute(select(vault.c.last_bar)).scalar_one()
    return found


def test_the_task_steps_at_the_desk_in_use_and_tells_how_many_slots(desk: Desk) -> None:
    with using(desk):
        assert step(VAULT, START + HOUR) == 2
        assert step(VAULT, START + HOUR) == 0
        assert step.apply((VAULT, START + 3 * HOUR)).get() == 2
    assert last_bar(desk.engine) == START + 3 * HOUR


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        (VAULT, "1583712000000"), (VAULT, float(START)), (VAULT, math.nan), (VAULT, math.inf), (VAULT, None),
        (VAULT, True), (VAULT, [START]), (None, START), (7, START), ({"name": VAULT}, START),
    ],
)  # fmt: skip
def test_anything_but_a_name_and_a_whole_number_is_refused_and_changes_nothing(
    desk: Desk, name: Any, slot: Any
) -> None:
    with using(desk), pytest.raises(TypeError, match=r"expected a vault's name and a slot's open in UTC ms"):
        step(name, slot)
    assert last_bar(desk.engine) is None


def test_a_refusal_shows_only_the_beginning_of_a_giant_argument(desk: Desk) -> None:
    with using(desk), pytest.raises(TypeError) as refusal:
        step(VAULT, "9" * 100_000)
    assert len(str(refusal.value)) < 300


def test_an_unknown_vault_is_refused_by_name(desk: Desk) -> None:
    with using(desk), pytest.raises(UnknownVault, match="btc-distence"):
        step("btc-distence", START)


def test_desks_nest_and_the_outer_one_is_back_after_the_inner_even_when_it_fails(desk: Desk) -> None:
    class Fault(Exception):
        pass

    inner = Desk(desk.engine)
    with using(desk):
        with pytest.raises(Fault), using(inner):
            raise Fault
        assert step(VAULT, START) == 1


def test_without_a_desk_the_task_says_so_instead_of_opening_a_database_of_its_own() -> None:
    with pytest.raises(RuntimeError, match="no desk"):
        step(VAULT, START)


def test_messages_are_json_acknowledged_after_the_work_and_never_answered() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.task_ignore_result
    assert app.conf.result_backend is None
    assert app.conf.task_time_limit < app.conf.broker_transport_options["visibility_timeout"]


def test_the_app_does_not_make_itself_the_current_one_of_whoever_imports_it() -> None:
    assert current_app._get_current_object() is not app
    assert app.tasks["ringfence.step"].name == step.name
