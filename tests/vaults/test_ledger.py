"""The ledger of one vault: what it posts, what it refuses, what it writes and what its audit finds."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from ringfence.risk.edges import MAY_BE_NEGATIVE, AccountKind, Edge
from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.vaults import ledger as room
from ringfence.vaults.errors import InsufficientBalance, LedgerUnbalanced, TransferRefused
from ringfence.vaults.ledger import LARGEST, Breach, Ledger, breaches, margin_account
from ringfence.vaults.tables import account, flow, holding, mandate, transfer, vault


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        connection.execute(insert(mandate), {"fingerprint": "f", "name": "shield", "body": "{}", "applied_ts": 0})
        for number, name in enumerate(("shield", "spear"), 1):
            connection.execute(
                insert(vault),
                {"id": number, "name": name, "mandate": "f", "currency": "USDT", "decimals": 6, "shares": 0,
                 "waiting": 0, "high_water_mark": 0, "opened": 0, "clock": 0, "last_nav": 0, "price_low": 1.0,
                 "distance_low": 1.0, "version": 0, "journal_seq": 0, "journal_hash": "0" * 64, "journal_ts": 0,
                 "transfer_seq": 0},
            )  # fmt: skip
    yield engine
    engine.dispose()


def _keep(connection: Connection, ledger: Ledger, vault_id: int = 1) -> None:
    connection.execute(update(vault).where(vault.c.id == vault_id).values(transfer_seq=ledger.transfer_seq))


@pytest.fixture
def traded(engine: Engine) -> Engine:
    """A vault with one position that has paid in, posted, won, paid and lost."""
    with unit_of_work(engine) as connection:
        ledger = Ledger(connection, 1, 0)
        for edge, position, amount in (
            (Edge.pay_in, None, 1_000),
            (Edge.admit, None, 1_000),
            (Edge.ratchet, None, 800),
            (Edge.post, "btc", 150),
            (Edge.profit, "btc", 30),
            (Edge.fee, "btc", 1),
            (Edge.funding_paid, "btc", 2),
            (Edge.loss, "btc", 7),
        ):
            ledger.post(edge, position, amount)
        ledger.tell(1000, 1)
        ledger.write()
        _keep(connection, ledger)
    return engine


def test_the_reserve_gives_to_the_world_and_at_a_rebase_alone_to_the_cushion() -> None:
    assert {edge for edge in Edge if edge.debit is AccountKind.reserve} == {Edge.redeem_reserve, Edge.rebase}
    assert Edge.rebase.credit is AccountKind.cushion
    assert {edge.debit for edge in Edge if edge.credit is AccountKind.margin} == {
        AccountKind.cushion, AccountKind.venue, AccountKind.funding}  # fmt: skip
    assert {(edge.debit, edge.credit) for edge in Edge if AccountKind.order_margin in (edge.debit, edge.credit)} == {
        (AccountKind.cushion, AccountKind.order_margin), (AccountKind.order_margin, AccountKind.cushion)}  # fmt: skip


def test_every_edge_joins_two_different_accounts_and_has_a_number_of_its_own() -> None:
    assert [int(edge) for edge in Edge] == list(range(3, 21)), "1 and 2 were flows that were priced at once"
    assert all(edge.debit is not edge.credit for edge in Edge)
    assert {edge.debit for edge in Edge} | {edge.credit for edge in Edge} == set(AccountKind)
    assert {edge for edge in Edge if edge.of_position} == {
        Edge.post, Edge.release, Edge.loss, Edge.profit, Edge.fee, Edge.liquidation_fee, Edge.funding_paid,
        Edge.funding_received, Edge.commit, Edge.give_back}  # fmt: skip


def test_a_transfer_lowers_its_debit_and_raises_its_credit(traded: Engine) -> None:
    with unit_of_work(traded, writes=False) as connection:
        ledger = Ledger(connection, 1, 8)
        assert ledger.balances == {
            "costs": 1, "cushion": 50, "entering": 0, "funding": 2, "margin:btc": 170, "reserve": 800, "venue": -23,
            "world": -1000,
        }  # fmt: skip
        assert ledger.margin("btc") == ledger.balance(margin_account("btc")) == 170
        assert ledger.balance("shortfall") == ledger.margin("eth") == 0
        assert ledger.sum_to_zero()
        assert breaches(connection, 1) == []
        assert breaches(connection, 2) == []
        rows = connection.execute(select(transfer).order_by(transfer.c.seq)).all()
    assert [row.seq for row in rows] == list(range(1, 9))
    assert [row.edge for row in rows] == [15, 16, 5, 6, 9, 10, 12, 8]
    assert {(row.ts, row.journal_seq) for row in rows} == {(1000, 1)}


def test_only_changed_balances_are_written_and_nothing_posted_writes_nothing(traded: Engine) -> None:
    from sqlalchemy import event

    said: list[str] = []
    with unit_of_work(traded) as connection:
        ledger = Ledger(connection, 1, 8)
        event.listen(connection, "before_cursor_execute", lambda *a: said.append(f"{a[2].split()[0]} {a[3]}"))
        ledger.tell(2000, 2)
        assert ledger.write() == 0
        assert said == []
        ledger.post(Edge.release, "btc", 20)
        ledger.post(Edge.post, "eth", 5)
        ledger.tell(2000, 2)
        assert ledger.write() == 2
        assert ledger.transfer_seq == 10
        _keep(connection, ledger)
    assert [line.split()[0] for line in said[:3]] == ["INSERT", "INSERT", "UPDATE"]
    assert "margin:eth" in said[1]
    assert "cushion" in said[2]
    assert "reserve" not in said[2]
    with unit_of_work(traded, writes=False) as connection:
        assert Ledger(connection, 1, 10).balances["cushion"] == 65
        assert breaches(connection, 1) == []


def test_vaults_do_not_see_each_other(traded: Engine) -> None:
    with unit_of_work(traded) as connection:
        other = Ledger(connection, 2, 0)
        assert other.balances == {}
        other.post(Edge.pay_in, None, 9)
        other.post(Edge.admit, None, 9)
        other.tell(1, 1)
        other.write()
        _keep(connection, other, 2)
        assert Ledger(connection, 1, 8).balance("cushion") == 50
        assert breaches(connection, 1) == breaches(connection, 2) == []


BAD = [
    (Edge.pay_in, None, 0),
    (Edge.pay_in, None, -1),
    (Edge.pay_in, None, 1.0),
    (Edge.pay_in, None, True),
    (Edge.pay_in, None, "1"),
    (Edge.pay_in, None, np.int64(1)),
    (Edge.pay_in, None, LARGEST + 1),
    (Edge.pay_in, "btc", 1),
    (Edge.post, None, 1),
    (Edge.post, "", 1),
    (Edge.post, 7, 1),
    (6, "btc", 1),
    (0, None, 1),
    ("reserve->cushion", None, 1),
]


@pytest.mark.parametrize(("edge", "position", "amount"), BAD)
def test_what_is_no_transfer_is_refused_and_posts_nothing(
    traded: Engine, edge: Edge, position: str | None, amount: int
) -> None:
    with unit_of_work(traded) as connection:
        ledger = Ledger(connection, 1, 8)
        before = ledger.balances
        with pytest.raises(TransferRefused):
            ledger.post(edge, position, amount)
        assert ledger.balances == before
        ledger.tell(2, 2)
        assert ledger.write() == 0


@pytest.mark.parametrize(
    ("edge", "position", "held"),
    [
        (Edge.redeem_reserve, None, 800),
        (Edge.redeem_cushion, None, 50),
        (Edge.ratchet, None, 50),
        (Edge.post, "eth", 50),
        (Edge.release, "btc", 170),
        (Edge.loss, "btc", 170),
        (Edge.fee, "btc", 170),
        (Edge.liquidation_fee, "btc", 170),
        (Edge.funding_paid, "btc", 170),
    ],
)
def test_no_account_of_the_vault_gives_more_than_it_holds(
    traded: Engine, edge: Edge, position: str | None, held: int
) -> None:
    with unit_of_work(traded) as connection:
        ledger = Ledger(connection, 1, 8)
        with pytest.raises(InsufficientBalance, match=f"holds {held} minor units, {held + 1} were to be taken"):
            ledger.post(edge, position, held + 1)
        ledger.post(edge, position, held)
        ledger.tell(2, 2)
        assert ledger.write() == 1
        _keep(connection, ledger)
    with unit_of_work(traded, writes=False) as connection:
        assert breaches(connection, 1) == []


def test_a_balance_beyond_the_largest_is_refused(engine: Engine) -> None:
    with unit_of_work(engine) as connection:
        ledger = Ledger(connection, 1, 0)
        ledger.post(Edge.pay_in, None, LARGEST)
        with pytest.raises(TransferRefused, match="no balance beyond"):
            ledger.post(Edge.pay_in, None, 1)
        ledger.post(Edge.admit, None, LARGEST)
        with pytest.raises(TransferRefused, match="no balance beyond"):
            ledger.post(Edge.pay_in, None, 1)
        ledger.tell(1, 1)
        ledger.write()
        assert Ledger(connection, 1, 2).balance("cushion") == LARGEST


def test_a_ledger_that_does_not_sum_to_zero_writes_nothing(traded: Engine) -> None:
    with unit_of_work(traded) as connection:
        connection.execute(update(account).where(account.c.name == "cushion").values(balance=51))
        ledger = Ledger(connection, 1, 8)
        ledger.post(Edge.pay_in, None, 1)
        ledger.tell(2, 2)
        with pytest.raises(LedgerUnbalanced, match="sum to 1, expected 0"):
            ledger.write()
        assert connection.execute(select(transfer.c.seq)).scalars().all() == list(range(1, 9))


def test_the_schema_refuses_a_balance_that_the_code_let_through(
    traded: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MAY_BE_NEGATIVE", frozenset(AccountKind))
    with traded.connect() as connection:
        ledger = Ledger(connection, 1, 8)
        ledger.post(Edge.redeem_reserve, None, 801)
        ledger.tell(2, 2)
        with pytest.raises(IntegrityError, match="ck_account_balance"):
            ledger.write()
    assert AccountKind.reserve not in MAY_BE_NEGATIVE


def test_a_second_writer_with_an_old_number_meets_the_key(traded: Engine) -> None:
    with traded.connect() as connection:
        stale = Ledger(connection, 1, 7)
        stale.post(Edge.pay_in, None, 1)
        stale.tell(2, 2)
        with pytest.raises(IntegrityError):
            stale.write()


def _breaches(engine: Engine, *statements: str) -> list[Breach]:
    """What the audit says after someone has written past the ledger, triggers and checks switched off."""
    with unit_of_work(engine) as connection:
        for statement in statements:
            connection.execute(text(statement))
        return breaches(connection, 1)


def _forged(seq: int, edge: int, position: str, amount: int) -> str:
    return ("INSERT INTO transfer (vault_id, seq, edge, position, amount, ts, journal_seq) "
            f"VALUES (1, {seq}, {edge}, {position}, {amount}, 1, 1)")  # fmt: skip


def test_the_audit_finds_a_changed_balance(traded: Engine) -> None:
    found = _breaches(traded, "UPDATE account SET balance = 801 WHERE name = 'reserve'")
    assert [str(breach) for breach in found] == [
        "L2: account reserve: expected 800, the sum of its transfers, found 801",
        "L1: all accounts: expected a sum of 0, found 1",
    ]


def test_the_audit_finds_an_account_without_transfers(traded: Engine) -> None:
    found = _breaches(traded, "INSERT INTO account (vault_id, name, balance) VALUES (1, 'margin:x', 5)")
    assert found[0] == Breach("L2", "account margin:x", "0, the sum of its transfers", "5")


def test_the_audit_finds_a_forged_transfer(traded: Engine) -> None:
    found = _breaches(traded, _forged(9, 3, "NULL", 900))
    assert Breach("L1", "reserve after transfer 9", "a balance >= 0", "-100") in found
    assert Breach("L3", "the vault's last transfer", "8", "9") in found


def test_the_audit_finds_a_gap(traded: Engine) -> None:
    found = _breaches(
        traded, _forged(11, 5, "NULL", 5), _forged(12, 18, "NULL", 5), "UPDATE vault SET transfer_seq = 12 WHERE id = 1"
    )
    assert found == [Breach("L3", "transfer 11", "seq 9, without a gap", "11")]


@pytest.mark.parametrize(
    ("edge", "position", "amount", "law"),
    [(99, "NULL", 5, "L1"), (2, "NULL", 5, "L1"), (5, "NULL", -5, "L1"), (5, "'btc'", 5, "W2")],
)
def test_the_audit_finds_a_row_that_no_check_would_let_in(
    traded: Engine, edge: int, position: str, amount: int, law: str
) -> None:
    if traded.dialect.name == "sqlite":
        relax = ["PRAGMA ignore_check_constraints = ON"]
    else:
        relax = [f"ALTER TABLE transfer DROP CONSTRAINT ck_transfer_{name}" for name in ("edge", "position", "amount")]
    found = _breaches(traded, *relax, _forged(9, edge, position, amount))
    assert (law, "transfer 9") in [(breach.law, breach.thing) for breach in found]


def test_the_audit_finds_shares_that_do_not_add_up(traded: Engine) -> None:
    with unit_of_work(traded) as connection:
        connection.execute(update(vault).where(vault.c.id == 1).values(shares=10, waiting=4))
        connection.execute(insert(holding), [{"vault_id": 1, "holder": "alice", "shares": 3},
                                             {"vault_id": 1, "holder": "bob", "shares": 7}])  # fmt: skip
        queue = {"vault_id": 1, "seq": 1, "holder": "alice", "side": "redemption", "assets": 0, "shares": 4,
                 "remaining": 4, "cancelled": 0, "requested_ts": 1, "accepts_locked": 0}  # fmt: skip
        connection.execute(insert(flow), queue)
        assert breaches(connection, 1) == [Breach("S3", "alice's shares in the queue", "at most 3", "4")]
        connection.execute(update(flow).values(remaining=3))
        assert breaches(connection, 1) == [Breach("S3", "shares in the queue", "4, all that wait", "3")]
        connection.execute(update(vault).where(vault.c.id == 1).values(shares=11, waiting=3))
        assert breaches(connection, 1) == [Breach("S3", "holders' shares", "11, all shares", "10")]


def test_the_audit_finds_money_that_waits_for_nobody(traded: Engine) -> None:
    order = {"vault_id": 1, "seq": 1, "holder": "alice", "side": "deposit", "assets": 9, "shares": 0, "remaining": 9,
             "cancelled": 0, "requested_ts": 1, "accepts_locked": 0}  # fmt: skip
    with unit_of_work(traded) as connection:
        ledger = Ledger(connection, 1, 8)
        ledger.post(Edge.pay_in, None, 9)
        ledger.tell(2000, 2)
        ledger.write()
        _keep(connection, ledger)
        assert breaches(connection, 1) == [Breach("S3", "money in the queue", "9, all that waits to enter", "0")]
        connection.execute(insert(flow), order)
        assert breaches(connection, 1) == []


@given(edge=st.sampled_from(Edge), position=st.none() | st.text(max_size=3), amount=st.integers(-5, 40))
def test_whatever_is_posted_the_sum_is_zero_and_nothing_of_the_vault_is_negative(
    edge: Edge, position: str | None, amount: int
) -> None:
    from sqlalchemy import create_engine

    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        account.create(connection)
        ledger = Ledger(connection, 1, 0)
        ledger.post(Edge.pay_in, None, 30)
        ledger.post(Edge.admit, None, 30)
        ledger.post(Edge.post, "btc", 10)
        try:
            ledger.post(edge, position, amount)
        except (TransferRefused, InsufficientBalance):
            assert ledger.balances == {"cushion": 20, "entering": 0, "margin:btc": 10, "world": -30}
        assert ledger.sum_to_zero()
        assert all(balance >= 0 or name in MAY_BE_NEGATIVE for name, balance in ledger.balances.items())
    engine.dispose()
