"""The ledger's laws L1 to L5 and W2, on SQLite and on PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, func, insert, select, update

from ringfence.risk.edges import MAY_BE_NEGATIVE, AccountKind, Edge
from ringfence.runtime.database import in_unit, lock_vault, migrate, open_engine, unit_of_work
from ringfence.vaults.commands import answered, asked_under, remember
from ringfence.vaults.entries import Amended
from ringfence.vaults.errors import InsufficientBalance, KeyConflict
from ringfence.vaults.journal import Journal, genesis
from ringfence.vaults.journal import breaches as chain_breaches
from ringfence.vaults.ledger import Ledger, breaches, margin_account
from ringfence.vaults.tables import account, command, journal, mandate, metadata, transfer, vault

_numbers = itertools.count(1)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        connection.execute(insert(mandate), {"fingerprint": "f", "name": "shield", "body": "{}", "applied_ts": 0})
    yield engine
    engine.dispose()


def new_vault(engine: Engine) -> str:
    """A vault of its own for one example."""
    number = next(_numbers)
    name = f"vault-{number}"
    with unit_of_work(engine) as connection:
        connection.execute(
            insert(vault),
            {"id": number, "name": name, "mandate": "f", "currency": "USDT", "decimals": 6, "shares": 0, "waiting": 0,
             "high_water_mark": 0, "opened": 0, "clock": 0, "last_nav": 0, "price_low": 1.0,
             "distance_low": 1.0, "version": 0, "journal_seq": 0, "journal_hash": genesis(name), "journal_ts": 0,
             "transfer_seq": 0},
        )  # fmt: skip
    return name


Act = tuple[Edge, str | None, int]


def work(connection: Connection, name: str, acts: list[Act]) -> int:
    """One unit of work: post what the ledger allows, tell it in the journal, raise the fence."""
    row = lock_vault(connection, name)
    ledger = Ledger(connection, row["id"], row["transfer_seq"])
    chain = Journal(connection, row["id"], row["journal_seq"], row["journal_hash"])
    posted = 0
    for edge, position, amount in acts:
        try:
            ledger.post(edge, position, amount)
            posted += 1
        except InsufficientBalance:
            continue
    seq = chain.append(row["version"], Amended(mandate="f", terms="{}", to_reserve=posted, nav=0, wall=0))
    ledger.tell(row["version"], seq)
    ledger.write()
    chain.write()
    connection.execute(
        update(vault)
        .where(vault.c.id == row["id"], vault.c.version == row["version"])
        .values(version=row["version"] + 1, journal_seq=chain.seq, journal_hash=chain.hash,
                transfer_seq=ledger.transfer_seq)
    )  # fmt: skip
    return posted


def _act(edge: Edge) -> st.SearchStrategy[Act]:
    position = st.sampled_from(["btc", "eth"]) if edge.of_position else st.none()
    return st.tuples(st.just(edge), position, st.integers(1, 1000))


INSIDE = [edge for edge in Edge if AccountKind.entering not in (edge.debit, edge.credit)]
"""What waits to enter has an order that says whose it is."""
acts = st.lists(st.sampled_from(INSIDE).flatmap(_act), max_size=12)
PAID_IN: list[Act] = [
    (Edge.pay_in, None, 2800),
    (Edge.admit, None, 2800),
    (Edge.ratchet, None, 800),
    (Edge.post, "btc", 500),
]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(units=st.lists(acts, min_size=1, max_size=4))
def test_l1_l2_l3_hold_after_every_unit_of_work(engine: Engine, units: list[list[Act]]) -> None:
    name = new_vault(engine)
    for unit in [PAID_IN, *units]:
        with unit_of_work(engine) as connection:
            work(connection, name, unit)
        with unit_of_work(engine, writes=False) as connection:
            vault_id, seq = connection.execute(
                select(vault.c.id, vault.c.transfer_seq).where(vault.c.name == name)
            ).one()
            assert breaches(connection, vault_id) == []
            assert list(chain_breaches(connection, vault_id)) == []
            ledger = Ledger(connection, vault_id, seq)
            assert ledger.sum_to_zero()
            assert all(amount >= 0 or kind in MAY_BE_NEGATIVE for kind, amount in ledger.balances.items())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(unit=acts)
def test_w2_the_reserve_falls_only_by_what_holders_redeem_or_a_rebase_frees(engine: Engine, unit: list[Act]) -> None:
    name = new_vault(engine)
    with unit_of_work(engine) as connection:
        work(connection, name, PAID_IN + unit)
        rows = connection.execute(
            select(transfer.c.edge, func.sum(transfer.c.amount))
            .join(vault, vault.c.id == transfer.c.vault_id)
            .where(vault.c.name == name)
            .group_by(transfer.c.edge)
        ).all()
        moved = {Edge(edge): int(amount) for edge, amount in rows}
        reserve = connection.execute(
            select(account.c.balance)
            .join(vault, vault.c.id == account.c.vault_id)
            .where(vault.c.name == name, account.c.name == AccountKind.reserve.value)
        ).scalar_one()
    assert reserve == moved[Edge.ratchet] - moved.get(Edge.redeem_reserve, 0) - moved.get(Edge.rebase, 0)


def test_l4_the_same_key_and_body_have_one_effect_and_another_body_has_none(engine: Engine) -> None:
    name = new_vault(engine)

    def deposit(connection: Connection, body: dict[str, int]) -> int:
        row = lock_vault(connection, name)
        before = answered(connection, row["id"], "key-1", body)
        if isinstance(before, Amended):
            return before.to_reserve
        posted = work(connection, name, [(Edge.funding_received, "btc", body["amount"])])
        remember(connection, row["id"], asked_under("key-1", body), row["journal_seq"] + 1)
        return posted

    assert [in_unit(engine, lambda c: deposit(c, {"amount": 5})) for _ in range(3)] == [1] * 3
    with pytest.raises(KeyConflict):
        in_unit(engine, lambda c: deposit(c, {"amount": 6}))
    with unit_of_work(engine, writes=False) as connection:
        assert connection.execute(select(func.count()).select_from(transfer)).scalar_one() == 1
        assert connection.execute(select(func.count()).select_from(command)).scalar_one() == 1
        assert connection.execute(select(account.c.balance).order_by(account.c.name)).scalars().all() == [-5, 5]


class Crash(BaseException):
    """A process that dies: nothing may catch it."""


def _contents(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    with unit_of_work(engine, writes=False) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


def _crashing(engine: Engine, statement: int, moment: str, act: Callable[[Connection], object]) -> bool:
    """Whether `act` got through, with a crash before or after the given statement of its unit of work."""
    seen = itertools.count(1)

    def crash(*_: object) -> None:
        if next(seen) == statement:
            raise Crash

    event.listen(engine, moment, crash)
    try:
        with unit_of_work(engine) as connection:
            act(connection)
    except Crash:
        return False
    finally:
        event.remove(engine, moment, crash)
    return True


@pytest.mark.parametrize("moment", ["before_cursor_execute", "after_cursor_execute"])
def test_l5_a_crash_at_any_statement_leaves_all_of_a_unit_or_none(engine: Engine, moment: str) -> None:
    name = new_vault(engine)
    with unit_of_work(engine) as connection:
        work(connection, name, PAID_IN)
    before = _contents(engine)
    unit: list[Act] = [(Edge.post, "eth", 10), (Edge.profit, "btc", 7), (Edge.release, "btc", 9)]
    crashes = 0
    while not _crashing(engine, crashes + 1, moment, lambda connection: work(connection, name, unit)):
        crashes += 1
        assert _contents(engine) == before
    # the lock, the balances, transfers, opened accounts, changed accounts, the journal and the vault at least
    assert crashes >= 7
    after = _contents(engine)
    assert len(after["transfer"]) == len(before["transfer"]) + 3
    assert len(after["journal"]) == len(before["journal"]) + 1
    with unit_of_work(engine, writes=False) as connection:
        vault_id = connection.execute(select(vault.c.id)).scalar_one()
        assert breaches(connection, vault_id) == []
        assert Ledger(connection, vault_id, 0).balance(margin_account("eth")) == 10
        assert connection.execute(select(func.max(journal.c.seq))).scalar_one() == 2


def test_l5_a_crash_at_the_commit_leaves_nothing(engine: Engine) -> None:
    name = new_vault(engine)
    before = _contents(engine)

    def crash(_: Connection) -> None:
        raise Crash

    event.listen(engine, "commit", crash)
    try:
        with pytest.raises(Crash), unit_of_work(engine) as connection:
            work(connection, name, PAID_IN)
    finally:
        event.remove(engine, "commit", crash)
    assert _contents(engine) == before
