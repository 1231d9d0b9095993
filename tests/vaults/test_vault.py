"""Acts and steps of one vault, each a unit of work of its own, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from sqlalchemy import insert, select, update

from ringfence.risk.edges import Edge
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.step import book_of, live_through
from ringfence.vaults.entries import Deposited
from ringfence.vaults.errors import LedgerDisagrees, StaleFence, WallBreached
from ringfence.vaults.shares import LARGEST
from ringfence.vaults.tables import account, holding, journal, mandate, position, redemption, transfer, vault
from ringfence.vaults.vault import Vault
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, breaches, contents, launch, path, tide, walk


@pytest.fixture
def small(database_url: str) -> Iterator[Tide]:
    """An open vault on 48 hours of a random walk, without money."""
    one = launch(database_url, walk())
    yield one
    one.engine.dispose()


def balances(one: Tide) -> dict[str, int]:
    with unit_of_work(one.engine, writes=False) as connection:
        return {name: amount for name, amount in one.vault(connection).ledger.balances.items() if amount}


def figures(one: Tide) -> dict[str, int]:
    with unit_of_work(one.engine, writes=False) as connection:
        return dict(lock_vault(connection, one.name))


def quantity(one: Tide) -> int:
    with unit_of_work(one.engine, writes=False) as connection:
        found: int = connection.execute(select(position.c.quantity)).scalar_one()
        return found


def pay_in(one: Tide, holder: str, units: int) -> Deposited:
    return deposit(one.engine, one.name, holder, units * UNIT, START)


# ---------------------------------------------------------------------------------------------------- deposits


def test_a_first_deposit_is_split_at_the_wall_and_buys_one_share_per_unit_of_currency(small: Tide) -> None:
    answer = pay_in(small, "alice", 1_000)
    assert answer == Deposited(
        holder="alice", amount=1_000 * UNIT, to_reserve=800 * UNIT, to_cushion=200 * UNIT, ratcheted=0,
        shares=1_000 * SHARE, total_shares=1_000 * SHARE, nav=1_000 * UNIT, wall=800 * UNIT,
    )  # fmt: skip
    assert balances(small) == {"reserve": 800 * UNIT, "cushion": 200 * UNIT, "world": -1_000 * UNIT}
    assert figures(small)["high_water_mark"] == 2**50 // 1_000
    assert breaches(small.engine) == []


def test_a_second_deposit_at_the_same_value_leaves_the_price_and_the_mark_alone(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    before = figures(small)
    answer = pay_in(small, "bob", 250)
    assert answer.shares == 250 * SHARE
    assert figures(small)["high_water_mark"] == before["high_water_mark"]
    assert balances(small) == {"reserve": 1_000 * UNIT, "cushion": 250 * UNIT, "world": -1_250 * UNIT}


def test_a_deposit_after_a_loss_is_priced_below_the_mark_and_fills_the_whole_wall_of_its_shares(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(24)
    before = figures(small)
    assert before["last_nav"] < 1_000 * UNIT, "the walk of this seed loses"
    answer = pay_in(small, "bob", 500)
    exact = Fraction(500 * UNIT * (before["shares"] + 1_000), before["last_nav"] + 1)
    assert answer.shares == exact.numerator // exact.denominator > 500 * SHARE
    after = figures(small)
    assert after["high_water_mark"] == before["high_water_mark"]
    least = Fraction(8, 10) * after["high_water_mark"] * after["shares"] / 2**50
    assert balances(small)["reserve"] >= least
    assert breaches(small.engine) == []


def test_the_same_mandate_already_known_to_the_database_opens_its_vault_without_a_second_copy(
    database_url: str,
) -> None:
    first = launch(database_url, walk(bars=5))
    terms = tide("ebb").mandate
    with unit_of_work(first.engine) as connection:
        row = {"fingerprint": terms.fingerprint, "name": "ebb", "body": terms.canonical(), "applied_ts": 1}
        connection.execute(insert(mandate), row)
    launch(database_url, walk(bars=5), tide("ebb")).engine.dispose()
    assert [row[3] for row in contents(first.engine)["mandate"] if row[1] == "ebb"] == [1]
    first.engine.dispose()


# ---------------------------------------------------------------------------------------------------- redemptions


def test_a_vault_without_positions_pays_a_redemption_at_once_and_what_stays_stays_behind_its_wall(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    answer = redeem(small.engine, "tide", "alice", 400 * SHARE, START)
    assert (answer.paid, answer.burned, answer.wall) == (400 * UNIT, 400 * SHARE, 480 * UNIT)
    assert figures(small)["waiting"] == 0
    # The reserve gives what it holds above the smaller wall, the cushion the rest.
    assert balances(small) == {"reserve": 480 * UNIT, "cushion": 120 * UNIT, "world": -600 * UNIT}
    assert breaches(small.engine) == []


def test_redeeming_every_share_empties_the_vault_and_forgets_its_mark(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    pay_in(small, "bob", 3)
    redeem(small.engine, "tide", "bob", None, START)
    assert redeem(small.engine, "tide", "alice", None, START).paid == 1_000 * UNIT
    after = figures(small)
    assert (after["shares"], after["high_water_mark"], after["last_nav"]) == (0, 0, 0)
    assert balances(small) == {}
    assert breaches(small.engine) == []


def test_what_stands_in_positions_waits_and_is_paid_at_the_next_slots_until_the_vault_is_empty(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    pay_in(small, "bob", 1_000)
    small.step(12)
    assert quantity(small) > 0
    first = redeem(small.engine, "tide", "alice", None, START)
    assert 0 < first.burned < 1_000 * SHARE, "a part is free, a part stands in the position"
    second = redeem(small.engine, "tide", "bob", None, START)
    assert second.burned == 0, "nobody overtakes"
    burned = sum(payment.shares for payment in (*first.payments, *second.payments))
    assert figures(small)["waiting"] == 2_000 * SHARE - burned
    small.step(2, 12)
    after = figures(small)
    assert (after["shares"], after["waiting"], after["high_water_mark"], quantity(small)) == (0, 0, 0, 0)
    with unit_of_work(small.engine, writes=False) as connection:
        paid = connection.execute(select(transfer.c.amount).where(transfer.c.edge.in_([3, 4]))).scalars().all()
        asked = connection.execute(select(redemption.c.price, redemption.c.shares)).all()
        assert connection.execute(select(holding.c.shares)).scalars().all() == [0, 0]
    assert sum(paid) <= sum(price * shares // 2**50 for price, shares in asked), "no more than at the request"
    assert breaches(small.engine) == []


def test_an_emptied_vault_opens_positions_again_for_the_next_depositor(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    redeem(small.engine, "tide", "alice", None, START)
    small.step(3, 12)
    crumbs = figures(small)["last_nav"]
    assert figures(small)["shares"] == quantity(small) == 0
    small.step(3, 15)
    assert quantity(small) == 0, "an empty vault trades nothing"
    answer = pay_in(small, "carol", 500)
    assert answer.shares == 500 * UNIT * 1_000
    assert answer.nav == 500 * UNIT + crumbs
    small.step(3, 18)
    assert quantity(small) > 0
    assert breaches(small.engine) == []


def test_a_redemption_that_waits_through_a_rise_is_paid_at_the_price_of_its_request(database_url: str) -> None:
    closes = [8_000.0] * 8 + [8_000.0 * 1.02**k for k in range(1, 9)]
    one = launch(database_url, path(closes, 8_000.0))
    pay_in(one, "alice", 1_000)
    pay_in(one, "bob", 1_000)
    one.step(8)
    asked = redeem(one.engine, "tide", "alice", None, START)
    one.step(8, 8)
    with unit_of_work(one.engine, writes=False) as connection:
        paid = connection.execute(select(transfer.c.amount).where(transfer.c.edge.in_([3, 4]))).scalars().all()
        assert one.vault(connection).requests() == []
    worth = asked.price * 1_000 * SHARE // 2**50
    assert worth - 5 <= sum(paid) <= worth
    assert figures(one)["last_nav"] > 1_000 * UNIT, "the rise is bob's"
    assert breaches(one.engine) == []
    one.engine.dispose()


# ---------------------------------------------------------------------------------------------------- steps


def test_a_slot_of_an_empty_vault_is_told_without_a_lowest_price(small: Tide) -> None:
    small.step(1)
    with unit_of_work(small.engine, writes=False) as connection:
        body: str = connection.execute(select(journal.c.body).where(journal.c.kind == "decided")).scalar_one()
    assert '"price_low":null' in body
    assert figures(small)["last_bar"] == START


def test_a_step_leaves_the_ledger_the_positions_and_the_vaults_row_telling_the_same(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(20)
    found = balances(small)
    with unit_of_work(small.engine, writes=False) as connection:
        held = connection.execute(select(position)).mappings().one()
        one = small.vault(connection)
    price = small.slots.market.mark_close[19, 0]
    unit = small.setup.instruments[0].unit
    gained = Fraction(price) * held["quantity"] * unit - held["cost"]
    expected = found["reserve"] + found["cushion"] + found["margin:btc"] + gained.numerator // gained.denominator
    assert one.nav == expected == one.state.nav
    assert figures(small)["version"] == figures(small)["journal_seq"] == 22, "mandate, deposit and 20 slots"
    assert breaches(small.engine) == []


def test_the_step_is_the_same_whether_money_came_in_before_or_between_slots_of_an_empty_vault(small: Tide) -> None:
    small.step(6)
    pay_in(small, "alice", 1_000)
    with unit_of_work(small.engine, writes=False) as connection:
        told = connection.execute(select(journal.c.ts).where(journal.c.kind == "deposited")).scalar_one()
    assert told == START + 6 * HOUR, "an act falls at the close of the last slot that was lived through"


# ---------------------------------------------------------------------------------------------------- provoked faults


def tampered(one: Tide, change: Callable[[Vault], None], *, moved: int = 0) -> None:
    """In one unit of work: shift `moved` minor units from reserve to cushion behind the ledger's back, then act."""
    with unit_of_work(one.engine) as connection:
        for name, by in (("reserve", -moved), ("cushion", moved)):
            shifted = update(account).where(account.c.name == name).values(balance=account.c.balance + by)
            connection.execute(shifted)
        change(one.vault(connection))


@pytest.mark.parametrize("act", ["redeem", "step"])
def test_an_act_that_would_leave_the_reserve_below_the_wall_is_undone_whole(small: Tide, act: str) -> None:
    pay_in(small, "alice", 1_000)
    small.step(8)
    before = contents(small.engine)

    def change(one: Vault) -> None:
        if act == "redeem":
            one.redeem(START, "alice", SHARE)
        else:
            small.live_through(one, 8)

    with pytest.raises(WallBreached, match=r"vault tide: the reserve would hold \d+ minor units, the wall is \d+"):
        tampered(small, change, moved=50 * UNIT)
    assert contents(small.engine) == before


OPENING = 3
"""The slot of which the first position is opened."""


def forgetful(one: Tide, number: int) -> None:
    """Lose the last transfer of a step on its way to the ledger."""
    with unit_of_work(one.engine) as connection:
        vault = one.vault(connection)
        decision = live_through(one.setup, book_of(vault), one.inputs(number))
        lossy = decision.entry.model_copy(update={"transfers": decision.entry.transfers[:-1]})
        vault.accept(decision.close, lossy, decision.balances)


def test_a_step_whose_money_does_not_agree_with_the_ledger_is_undone_whole(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(OPENING)
    before = contents(small.engine)
    with pytest.raises(LedgerDisagrees, match=r"vault tide: \S+ is -?\d+ in the ledger and -?\d+ in the step"):
        forgetful(small, OPENING)
    assert contents(small.engine) == before


def test_a_writer_whose_fence_is_stale_writes_nothing(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    before = contents(small.engine)

    def overtake(stale: Vault) -> None:
        # another writer's commit between this one's look and its write, as READ COMMITTED would show it
        stale._connection.execute(update(vault).values(version=vault.c.version + 1))
        stale.deposit(START, "bob", UNIT)

    with pytest.raises(StaleFence, match=r"vault tide: another process has changed it since version \d+"):
        tampered(small, overtake)
    assert contents(small.engine) == before


def test_a_payment_in_the_journal_is_what_the_ledger_moved(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    answer = redeem(small.engine, "tide", "alice", None, START)
    (told,) = answer.payments
    with unit_of_work(small.engine, writes=False) as connection:
        moved = connection.execute(
            select(transfer.c.edge, transfer.c.amount).where(transfer.c.journal_seq == told.request)
        ).all()
    assert dict(map(tuple, moved)).items() <= {
        Edge.redeem_reserve: told.from_reserve, Edge.redeem_cushion: told.from_cushion
    }.items()  # fmt: skip
    assert sum(amount for _, amount in moved) == told.assets == answer.paid


def test_shares_and_money_never_outgrow_what_the_kernel_can_multiply(small: Tide) -> None:
    pay_in(small, "alice", 10**6)
    with unit_of_work(small.engine, writes=False) as connection:
        one = small.vault(connection)
        assert one.shares <= LARGEST
        assert one.held("alice") == 10**6 * SHARE
        assert one.held("nobody") == 0
        assert one.holders() == ("alice",)
