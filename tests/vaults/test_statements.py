"""Statements derived from the journal: hand-computed figures, and every disagreement between the books is found."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, select, text, update

from ringfence.risk.events import Bound
from ringfence.runtime.acts import cancel, deposit, redeem
from ringfence.runtime.database import unit_of_work
from ringfence.vaults.entries import Decided, Held
from ringfence.vaults.errors import RedeemExceeds, StatementDisagrees, ZeroAssets
from ringfence.vaults.journal import canonical
from ringfence.vaults.statements import Register, breaches, derive, holder_statements
from ringfence.vaults.tables import flow, holding, journal, transfer, vault
from ringfence.vaults.vault import Vault
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, forge, launch, path, scratch, tide, walk


@pytest.fixture
def small(database_url: str) -> Iterator[Tide]:
    one = launch(database_url, walk())
    yield one
    one.engine.dispose()


def register(one: Tide) -> Register:
    with unit_of_work(one.engine, writes=False) as connection:
        return holder_statements(connection, "tide", 1)


def test_a_vault_without_holders_has_no_statements(small: Tide) -> None:
    found = register(small)
    assert (found.statements, found.nav, found.wall, found.shares, found.breaches) == ({}, 0, 0, 0, ())


def test_a_statement_over_deposits_a_loss_and_a_redemption_is_what_a_person_computes(database_url: str) -> None:
    # Four flat hours, the position is opened in the fourth; then the price falls and stays.
    one = launch(database_url, path([8_000.0] * 4 + [7_900.0] * 5, 8_000.0))
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    deposit(one.engine, "tide", "bob", 500 * UNIT, START)
    one.step(8)
    deposit(one.engine, "tide", "alice", 100 * UNIT, START)
    redeem(one.engine, "tide", "bob", 50 * SHARE, START)
    waits = register(one).statements
    assert (waits["alice"].entering, waits["bob"].waiting) == (100 * UNIT, 50 * SHARE)
    assert [(order.side, order.remaining) for order in waits["bob"].orders] == [("redemption", 50 * SHARE)]
    one.step(1, 8)
    found = register(one)
    with unit_of_work(one.engine, writes=False) as connection:
        slot = json.loads(
            connection.execute(
                select(journal.c.body).where(journal.c.kind == "decided").order_by(journal.c.seq.desc()).limit(1)
            ).scalar_one()
        )
        row = connection.execute(select(vault)).mappings().one()
    nav, shares = slot["struck"], 1_500 * SHARE
    assert nav < 1_500 * UNIT
    cost = slot["settlements"][0]["cost"]
    minted = (100 * UNIT - cost) * (shares + 1_000) // (nav + 1)
    paid = 50 * SHARE * (nav + 1) // (shares + 1_000)
    alice, bob = found.statements["alice"], found.statements["bob"]
    told = (alice.deposited, alice.redeemed, alice.shares, alice.waiting, alice.entering)
    assert told == (1_100 * UNIT, 0, 1_000 * SHARE + minted, 0, 0)
    assert (bob.deposited, bob.redeemed, bob.shares, bob.waiting) == (500 * UNIT, paid, 450 * SHARE, 0)
    assert alice.cost == 1_100 * UNIT
    assert bob.cost == 450 * UNIT, "a tenth of the shares took a tenth of what they cost along"
    assert (found.nav, found.shares) == (row["last_nav"], row["shares"]) == (
        nav + 100 * UNIT - slot["flow_cost"] - paid, shares + minted - 50 * SHARE
    )  # fmt: skip
    assert alice.value == alice.shares * (found.nav + 1) // (found.shares + 1_000)
    assert alice.value_worst == alice.shares * (found.wall + 1) // (found.shares + 1_000)
    assert bob.profit == bob.value + paid - 500 * UNIT < 0
    close = START + 8 * HOUR
    acts = [(act.kind, act.amount, act.shares, act.ts) for act in bob.acts]
    assert acts == [("deposit", 500 * UNIT, 500 * SHARE, START), ("request", 0, 50 * SHARE, close),
                    ("payment", paid, 50 * SHARE, close + HOUR)]  # fmt: skip
    assert [(act.kind, act.amount, act.cost) for act in alice.acts[1:]] == [
        ("order", 100 * UNIT, 0), ("deposit", 100 * UNIT, cost)
    ]  # fmt: skip
    assert alice.acts[-1].request == alice.acts[-2].seq
    assert [(act.nav, act.total) for act in (alice.acts[0], alice.acts[-1])] == [
        (1_000 * UNIT, 1_000 * SHARE), (nav, shares)
    ]  # fmt: skip
    one.engine.dispose()


def test_a_payment_stands_in_the_statement_with_the_value_it_was_priced_at(small: Tide) -> None:
    deposit(small.engine, "tide", "alice", 1_000 * UNIT, START)
    small.step(12)
    redeem(small.engine, "tide", "alice", None, START)
    waiting = register(small).statements["alice"]
    assert 0 < waiting.waiting == waiting.shares
    assert waiting.value_worst <= waiting.value
    small.step(3, 12)
    done = register(small).statements["alice"]
    assert (done.shares, done.waiting, done.cost, done.value, done.value_worst) == (0, 0, 0, 0, 0)
    (paid,) = [act for act in done.acts if act.kind == "payment"]
    assert paid.amount == done.redeemed == done.profit + 1_000 * UNIT
    assert paid.shares == 1_000 * SHARE
    assert paid.amount + paid.cost == (paid.nav + 1) * paid.shares // (paid.total + 1_000)
    assert paid.ts == START + 13 * HOUR


def test_what_was_taken_back_is_neither_paid_in_nor_asked(small: Tide) -> None:
    deposit(small.engine, "tide", "alice", 1_000 * UNIT, START)
    small.step(12)
    before = register(small).statements["alice"]
    deposit(small.engine, "tide", "alice", 5 * UNIT, START)
    cancel(small.engine, "tide", "alice", None, START)
    redeem(small.engine, "tide", "alice", 5 * SHARE, START)
    cancel(small.engine, "tide", "alice", None, START)
    after = register(small).statements["alice"]
    assert replace(after, acts=before.acts) == before
    assert [(act.kind, act.amount, act.shares) for act in after.acts[1:]] == [
        ("order", 5 * UNIT, 0), ("cancelled", 5 * UNIT, 0), ("request", 0, 5 * SHARE), ("cancelled", 0, 5 * SHARE)
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- forged books


STILL = Decided(
    kernel=2, strategies={}, slot=START, last_bar=START, bars="b", struck=1_500 * UNIT, is_struck=True,
    high_water_mark=0, flow_cost=0, nav_low=1_500 * UNIT, locked_since=None, rebase_at=None, price_low=None,
    distance_low=None, events=(), transfers=(),
    positions={"btc": Held(quantity=0, cost=0, margin=0, refused=Bound.nothing, price=8_000.0, proposed=None,
                           volatility=None, allowed=0.0, leverage=0.0, effective_leverage=0.0, liquidation_price=0.0,
                           bound=Bound.no_proposal)},
)  # fmt: skip
"""A slot in which nothing was traded."""


def forged(change: Callable[[Connection], None], acts: Callable[[Vault], None] | None = None) -> list[str]:
    """Breaches of a vault with two deposits and a redemption paid in row 5 after `change` in its books."""
    engine, identity = scratch()
    with engine.begin() as connection:
        one = Vault(connection, connection.execute(select(vault)).mappings().one(), tide().mandate)
        one.deposit(START, "alice", 1_000 * UNIT, START)
        one.deposit(START, "bob", 500 * UNIT, START)
        one.redeem(START, "bob", 100 * SHARE, START)
        one.accept(START + HOUR, STILL.model_copy(update={"high_water_mark": one.high_water_mark}))
        assert breaches(connection, identity) == []
        change(connection)
        found = [str(breach) for breach in breaches(connection, identity)]
        if found:
            with pytest.raises(StatementDisagrees, match="vault tide: no statement"):
                holder_statements(connection, "tide", identity)
    engine.dispose()
    return found


def body(connection: Connection, seq: int, **figures: Any) -> None:
    """Rewrite a row of the journal as one would who can write to the file."""
    row = json.loads(connection.execute(select(journal.c.body).where(journal.c.seq == seq)).scalar_one()) | figures
    connection.execute(update(journal).where(journal.c.seq == seq).values(body=canonical(row)))


def payment(**figures: Any) -> dict[str, Any]:
    """The payment of bob's redemption (row 4), with some of its figures changed."""
    told = {"request": 4, "side": "redemption", "holder": "bob", "assets": 100 * UNIT, "shares": 100 * SHARE,
            "cost": 0, "from_reserve": 80 * UNIT, "from_cushion": 20 * UNIT, "remaining": 0}  # fmt: skip
    return told | figures


def minted(**figures: Any) -> dict[str, Any]:
    """What alice's deposit (row 2) came to, with some of its figures changed."""
    told = {"request": 2, "side": "deposit", "holder": "alice", "assets": 1_000 * UNIT, "shares": 1_000 * SHARE,
            "cost": 0, "from_reserve": 0, "from_cushion": 0, "remaining": 0}  # fmt: skip
    return told | figures


REGISTER: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "shares given to a holder": (
        lambda c: c.execute(update(holding).where(holding.c.holder == "alice").values(shares=2_000 * SHARE)),
        f"S3: shares of alice: expected {1_000 * SHARE}, as the journal says, found {2_000 * SHARE}",
    ),
    "a holder the journal does not know": (
        lambda c: forge(c, "holding", vault_id=1, holder="mallory", shares=5),
        "S3: shares of mallory: expected 0, as the journal says, found 5",
    ),
    "a holder struck off": (lambda c: c.execute(delete(holding).where(holding.c.holder == "bob")), "S3: shares of bob"),
    "a paid redemption set to wait again": (
        lambda c: c.execute(update(flow).where(flow.c.seq == 4).values(remaining=SHARE)), "S3: order 4"
    ),
    "a redemption that was never asked": (
        lambda c: forge(c, "flow", vault_id=1, seq=9, holder="bob", side="redemption", assets=0, shares=1, remaining=1,
                        cancelled=0, requested_ts=0, accepts_locked=0),
        "S3: order 9: expected None",
    ),
    "all shares raised": (lambda c: c.execute(update(vault).values(shares=vault.c.shares + 1)), "S3: all shares"),
    "waiting shares raised": (lambda c: c.execute(update(vault).values(waiting=1)), "S3: shares that wait"),
    "a NAV raised": (lambda c: c.execute(update(vault).values(last_nav=1)), "L2: the NAV: expected"),
}  # fmt: skip

MONEY: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "a deposit's transfer changed": (
        lambda c: c.execute(update(transfer).where(transfer.c.seq == 1).values(amount=1)),
        "L2: pay_in of journal row 2: expected 1000000000 in transfers, as the journal says, found 1",
    ),
    "a payment's transfer removed": (
        lambda c: c.execute(delete(transfer).where(transfer.c.edge == 3)), "L2: redeem_reserve of journal row 5"
    ),
    "a payment that the journal does not tell": (
        lambda c: forge(c, "transfer", vault_id=1, seq=99, edge=4, position=None, amount=7, ts=0, journal_seq=3),
        "L2: redeem_cushion of journal row 3: expected 0 in transfers, as the journal says, found 7",
    ),
}  # fmt: skip

JOURNAL: dict[str, tuple[Callable[[Connection], Any], str]] = {
    "more shares minted than the price gives": (
        lambda c: body(c, 2, settled=minted(shares=1_001 * SHARE), total_shares=1_001 * SHARE),
        "S1: journal row 2: expected shares minted",
    ),
    "a deposit of which less entered than was paid in": (
        lambda c: body(c, 2, settled=minted(assets=1)), "S3: journal row 2: expected what was settled of order 2"
    ),
    "a form that a later version wrote": (
        lambda c: body(c, 2, form=2), "L3: journal row 2: expected the body of a deposit_asked, found an unreadable one"
    ),
    "all shares told wrong": (lambda c: body(c, 5, total_shares=1), "S3: journal row 5: expected shares"),
    "a payment above the price of its request": (
        lambda c: body(c, 5, settlements=[payment(from_cushion=21 * UNIT)]), "S5: journal row 5: expected at most"
    ),
    "a payment to another than who asked": (
        lambda c: body(c, 5, settlements=[payment(holder="alice")]), "S3: journal row 5: expected an order 4 of alice"
    ),
    "a payment of a request that nobody made": (
        lambda c: body(c, 5, settlements=[payment(request=3)]), "S3: journal row 5: expected an order 3 of bob"
    ),
    "more burned than held": (
        lambda c: body(c, 5, settlements=[payment(shares=900 * SHARE)]),
        f"S3: journal row 5: expected 1 to {500 * SHARE} shares of bob to burn",
    ),
    "a remainder that does not add up": (
        lambda c: body(c, 5, settlements=[payment(remaining=1)]), "S3: journal row 5: expected what was settled"
    ),
    "a body without its holder": (
        lambda c: body(c, 2, holder=None), "L3: journal row 2: expected the body of a deposit_asked"
    ),
    "a body that is not JSON": (
        lambda c: c.execute(update(journal).where(journal.c.seq == 2).values(body="{")),
        "L3: journal row 2: expected the body of a deposit_asked",
    ),
    "a number that is a word": (
        lambda c: body(c, 4, shares="many"), "L3: journal row 4: expected the body of a redemption_asked"
    ),
    "the last row cut short": (
        lambda c: c.execute(update(journal).where(journal.c.seq == 5).values(body="[]")),
        "L3: journal row 5: expected the body of a decided",
    ),
}  # fmt: skip

FORGERIES = REGISTER | MONEY | JOURNAL


@pytest.mark.parametrize("case", FORGERIES)
def test_a_statement_is_refused_and_the_audit_says_where_for(case: str) -> None:
    change, expected = FORGERIES[case]
    found = forged(change)
    assert any(line.startswith(expected) for line in found), found


def test_the_real_database_does_not_let_a_transfer_be_rewritten_at_all(small: Tide) -> None:
    deposit(small.engine, "tide", "alice", 1_000 * UNIT, START)
    with pytest.raises(Exception, match=r"transfer|append"), unit_of_work(small.engine) as connection:
        connection.execute(text("UPDATE transfer SET amount = 1"))
    assert register(small).statements["alice"].deposited == 1_000 * UNIT


# ---------------------------------------------------------------------------------------------------- laws


ACT = st.tuples(
    st.sampled_from(["deposit", "redeem", "cancel"]), st.sampled_from(["alice", "bob", "carol"]), st.integers(1, 10**9)
)


@settings(max_examples=40)
@example([("deposit", "alice", 411_538), ("deposit", "bob", 2_102), ("redeem", "bob", 1_191_036),
          ("redeem", "bob", 1_215_530)])  # fmt: skip
@example([("deposit", "alice", 2), ("redeem", "alice", 500_500_000), ("redeem", "alice", 1)])
@given(st.lists(ACT, min_size=1, max_size=12))
def test_after_any_acts_statements_agree_with_the_books_and_promise_no_more_than_there_is(
    acts: list[tuple[str, str, int]],
) -> None:
    engine: Engine
    engine, identity = scratch()
    with engine.begin() as connection:
        one = Vault(connection, connection.execute(select(vault)).mappings().one(), tide().mandate)
        for act, holder, amount in acts:
            if act == "deposit":
                one.deposit(START, holder, amount, START)
            elif act == "cancel":
                for order in one.holders.requests(holder):
                    one.cancel(START, order)
            elif held := one.holders.held(holder):
                with suppress(ZeroAssets, RedeemExceeds):  # what is worth less than a unit stays
                    one.redeem(START, holder, min(held, max(held * amount // 10**9, 1_000)), START)
        told = STILL.model_copy(update={"high_water_mark": one.high_water_mark, "struck": one.nav})
        one.accept(START + HOUR, told)
        found = derive(connection, identity)
        owned = {holder: one.holders.held(holder) for holder in found.statements}
    engine.dispose()
    assert found.breaches == ()
    assert {holder: told.shares for holder, told in found.statements.items()} == owned
    assert sum(owned.values()) == found.shares
    assert sum(told.value for told in found.statements.values()) <= found.nav
    assert sum(told.value_worst for told in found.statements.values()) <= found.wall
    for told in found.statements.values():
        assert told.value_worst <= told.value
        assert 0 <= told.cost <= told.deposited
        assert told.profit <= len(acts), "without a market nobody gains but the crumbs that those who moved left behind"
