"""Acts and steps of one vault, each a unit of work of its own, on SQLite and on PostgreSQL."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from sqlalchemy import insert, select, update

from ringfence.risk.edges import Edge
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.step import book_of, live_through
from ringfence.vaults.entries import Decided, DepositAsked
from ringfence.vaults.errors import DepositRefused, LedgerDisagrees, MarkBelowStrike, StaleFence, WallBreached
from ringfence.vaults.journal import last_row
from ringfence.vaults.queue import Settlement
from ringfence.vaults.shares import LARGEST, Pool, max_deposit, price_up
from ringfence.vaults.tables import account, holding, journal, mandate, position, transfer, vault
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


def pay_in(one: Tide, holder: str, units: int) -> DepositAsked:
    return deposit(one.engine, one.name, holder, units * UNIT, START).entry


def decided(one: Tide) -> Decided:
    """The last decision."""
    with unit_of_work(one.engine, writes=False) as connection:
        row = last_row(connection, 1, Decided)
    assert row is not None
    entry = row.entry
    assert isinstance(entry, Decided)
    return entry


def settled(one: Tide) -> dict[str, Settlement]:
    """What the last strike came to, by holder."""
    return {settlement.holder: settlement for settlement in decided(one).settlements}


# ---------------------------------------------------------------------------------------------------- deposits


def test_a_first_deposit_is_split_at_the_wall_and_buys_one_share_per_unit_of_currency(small: Tide) -> None:
    answer = pay_in(small, "alice", 1_000)
    wall = 800 * UNIT + 1  # the floor price is rounded up to 2**-50 of a minor unit
    assert answer == DepositAsked(
        holder="alice", amount=1_000 * UNIT, given=START, accepts_locked=False,
        settled=Settlement(2, "deposit", "alice", 1_000 * UNIT, 1_000 * SHARE, 0, 0, 0, 0), ratcheted=wall,
        total_shares=1_000 * SHARE, nav=1_000 * UNIT, wall=wall,
    )  # fmt: skip
    assert balances(small) == {"reserve": wall, "cushion": 1_000 * UNIT - wall, "world": -1_000 * UNIT}
    assert figures(small)["high_water_mark"] == 2**50 // 1_000 + 1
    assert breaches(small.engine) == []


def test_deposits_before_the_first_bar_enter_at_once_at_one(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    before = figures(small)
    answer = pay_in(small, "bob", 250)
    assert answer.settled is not None
    assert answer.settled.shares == 250 * SHARE
    assert figures(small)["high_water_mark"] == before["high_water_mark"]
    assert balances(small) == {"reserve": 1_000 * UNIT + 1, "cushion": 250 * UNIT - 1, "world": -1_250 * UNIT}


def test_a_deposit_after_a_loss_waits_and_enters_at_the_strike_behind_its_whole_wall(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(23)
    before = figures(small)
    assert before["last_nav"] < 1_000 * UNIT, "the walk of this seed loses"
    answer = pay_in(small, "bob", 500)
    assert answer.settled is None
    assert balances(small)["entering"] == 500 * UNIT
    unmoved = ("shares", "last_nav", "high_water_mark")
    assert [figures(small)[name] for name in unmoved] == [before[name] for name in unmoved]
    small.step(1, 23)
    struck, bob = decided(small).struck, settled(small)["bob"]
    exact = Fraction((500 * UNIT - bob.cost) * (before["shares"] + 1_000), struck + 1)
    assert bob.shares == exact.numerator // exact.denominator > 500 * SHARE
    assert bob.cost == max(0, decided(small).flow_cost)
    after = figures(small)
    assert after["high_water_mark"] == before["high_water_mark"]
    assert balances(small)["reserve"] >= Fraction(8, 10) * after["high_water_mark"] * after["shares"] / 2**50
    assert "entering" not in balances(small)
    assert breaches(small.engine) == []


def test_a_deposit_whose_shares_a_strike_could_not_count_is_refused_before_it_is_put_to_work(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(1)
    for before in (0, 400 * UNIT):
        if before:
            pay_in(small, "bob", 400)
        with pytest.raises(DepositRefused, match=r"takes at most \d+ minor units until the next strike") as refused:
            deposit(small.engine, small.name, "carol", LARGEST // 100, START)
        most = int(refused.value.reason.split()[5])
        with unit_of_work(small.engine, writes=False) as connection:
            kept = small.vault(connection)
            at_the_wall = Pool(kept.wall, kept.shares)
            assert most == max_deposit(at_the_wall) - before
    with pytest.raises(DepositRefused):
        deposit(small.engine, small.name, "carol", most + 1, START)
    assert deposit(small.engine, small.name, "carol", most, START).entry.settled is None
    small.step(1, 1)
    assert settled(small)["carol"].paid == 0 < settled(small)["carol"].shares < LARGEST
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


def test_shares_asked_back_stay_the_holders_until_the_strike_and_what_stays_stays_behind_its_wall(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    redeem(small.engine, "tide", "alice", 400 * SHARE, START)
    assert (figures(small)["shares"], figures(small)["waiting"]) == (1_000 * SHARE, 400 * SHARE)
    small.step(1)
    assert settled(small)["alice"].paid == 400 * UNIT
    assert (figures(small)["shares"], figures(small)["waiting"]) == (600 * SHARE, 0)
    # The reserve gives what it holds above the smaller wall, the cushion the rest.
    assert balances(small) == {"reserve": 480 * UNIT + 1, "cushion": 120 * UNIT - 1, "world": -600 * UNIT}
    assert breaches(small.engine) == []


def test_redeeming_every_share_empties_the_vault_and_forgets_its_mark(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    pay_in(small, "bob", 3)
    redeem(small.engine, "tide", "bob", None, START)
    redeem(small.engine, "tide", "alice", None, START)
    small.step(1)
    assert settled(small)["alice"].paid == 1_000 * UNIT
    after = figures(small)
    assert (after["shares"], after["high_water_mark"], after["last_nav"]) == (0, 0, 0)
    assert balances(small) == {}
    assert breaches(small.engine) == []


def test_positions_are_cut_in_the_decision_that_pays_and_who_leaves_bears_it(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    pay_in(small, "bob", 1_000)
    small.step(12)
    held = quantity(small)
    assert held > 0
    redeem(small.engine, "tide", "alice", None, START)
    small.step(1, 12)
    entry, alice = decided(small), settled(small)["alice"]
    shares = 2_000 * SHARE
    assert (alice.shares, alice.remaining) == (1_000 * SHARE, 0)
    assert alice.paid == alice.shares * (entry.struck + 1) // (shares + 1_000) - alice.cost
    assert alice.cost == entry.flow_cost > 0
    assert quantity(small) == pytest.approx(held / 2, rel=0.15)
    price = Fraction(entry.struck + 1, shares + 1_000)
    assert Fraction(entry.nav + 1, entry.total_shares + 1_000) >= price, "bob pays nothing for her leaving"
    with unit_of_work(small.engine, writes=False) as connection:
        assert connection.execute(select(holding.c.shares).order_by(holding.c.holder)).scalars().all() == [
            0, 1_000 * SHARE
        ]  # fmt: skip
    assert breaches(small.engine) == []


def test_a_rise_before_the_strike_is_his_who_waits(database_url: str) -> None:
    """A waiting redemption bore all of a fall and none of a rise."""
    one = launch(database_url, path([8_000.0] * 8 + [8_160.0], 8_000.0))
    pay_in(one, "alice", 1_000)
    pay_in(one, "bob", 1_000)
    one.step(8)
    redeem(one.engine, "tide", "alice", None, START)
    before = figures(one)["last_nav"]
    one.step(1, 8)
    alice, struck = settled(one)["alice"], decided(one).struck
    assert struck > before
    assert alice.paid == 1_000 * SHARE * (struck + 1) // (2_000 * SHARE + 1_000) - alice.cost > before // 2
    assert breaches(one.engine) == []
    one.engine.dispose()


def test_an_emptied_vault_opens_positions_again_for_the_next_depositor(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    redeem(small.engine, "tide", "alice", None, START)
    small.step(1, 12)
    crumbs = figures(small)["last_nav"]
    assert figures(small)["shares"] == quantity(small) == 0
    small.step(3, 13)
    assert quantity(small) == 0, "an empty vault trades nothing"
    answer = pay_in(small, "carol", 500)
    assert answer.settled is not None
    assert answer.settled.shares == 500 * UNIT * 1_000
    assert answer.nav == 500 * UNIT + crumbs
    small.step(3, 16)
    assert quantity(small) > 0
    assert breaches(small.engine) == []


def test_a_deposit_that_waited_into_a_vault_which_has_become_empty_is_its_first(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    redeem(small.engine, "tide", "alice", None, START)
    deposit(small.engine, "tide", "carol", 500 * UNIT, START + 13 * HOUR + 1)
    small.step(1, 12)
    assert figures(small)["shares"] == 0
    small.step(1, 13)
    assert settled(small)["carol"].shares == 500 * UNIT * 1_000
    assert figures(small)["shares"] == 500 * SHARE
    assert balances(small)["reserve"] >= 400 * UNIT
    assert breaches(small.engine) == []


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
    assert one.high_water_mark >= price_up(Pool(one.nav, one.shares))
    assert figures(small)["version"] == figures(small)["journal_seq"] == 22, "mandate, deposit and 20 slots"
    assert breaches(small.engine) == []


def test_the_step_is_the_same_whether_money_came_in_before_or_between_slots_of_an_empty_vault(small: Tide) -> None:
    small.step(6)
    pay_in(small, "alice", 1_000)
    with unit_of_work(small.engine, writes=False) as connection:
        told = connection.execute(select(journal.c.ts).where(journal.c.kind == "deposit_asked")).scalar_one()
    assert told == START + 6 * HOUR, "an act falls at the close of the last slot that was lived through"


# ---------------------------------------------------------------------------------------------------- provoked faults


def tampered(one: Tide, change: Callable[[Vault], None], *, moved: int = 0) -> None:
    """In one unit of work: shift `moved` minor units from reserve to cushion behind the ledger's back, then act."""
    with unit_of_work(one.engine) as connection:
        for name, by in (("reserve", -moved), ("cushion", moved)):
            shifted = update(account).where(account.c.name == name).values(balance=account.c.balance + by)
            connection.execute(shifted)
        change(one.vault(connection))


@pytest.mark.parametrize("act", ["redeem", "deposit"])
def test_an_act_that_would_leave_the_reserve_below_the_wall_is_undone_whole(small: Tide, act: str) -> None:
    pay_in(small, "alice", 1_000)
    small.step(8)
    before = contents(small.engine)

    def change(one: Vault) -> None:
        if act == "redeem":
            one.redeem(one.clock, "alice", SHARE, one.clock)
        else:
            one.deposit(one.clock, "bob", UNIT, one.clock)

    with pytest.raises(WallBreached, match=r"vault tide: the reserve would hold \d+ minor units, the wall is \d+"):
        tampered(small, change, moved=50 * UNIT)
    assert contents(small.engine) == before


OPENING = 3
"""The slot of which the first position is opened."""


def forgetful(one: Tide, number: int) -> None:
    """Lose the last transfer of a step on its way to the ledger."""
    with unit_of_work(one.engine) as connection:
        vault = one.vault(connection)
        close, entry, balances = one.decided(vault, number)
        vault.accept(close, entry.model_copy(update={"transfers": entry.transfers[:-1]}), balances)


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
        stale.deposit(START, "bob", UNIT, START)

    with pytest.raises(StaleFence, match=r"vault tide: another process has changed it since version \d+"):
        tampered(small, overtake)
    assert contents(small.engine) == before


def test_a_payment_in_the_journal_is_what_the_ledger_moved(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    redeem(small.engine, "tide", "alice", None, START)
    small.step(1, 12)
    told = settled(small)["alice"]
    with unit_of_work(small.engine, writes=False) as connection:
        seq = lock_vault(connection, small.name)["journal_seq"]
        paid = (Edge.redeem_reserve, Edge.redeem_cushion)
        moved = connection.execute(
            select(transfer.c.edge, transfer.c.amount).where(transfer.c.journal_seq == seq, transfer.c.edge.in_(paid))
        ).all()
    parts = {Edge.redeem_reserve: told.from_reserve, Edge.redeem_cushion: told.from_cushion}
    assert {Edge(edge): amount for edge, amount in moved} == {edge: part for edge, part in parts.items() if part}
    assert told.paid > 900 * UNIT


def test_a_strike_above_the_mark_is_undone_whole(small: Tide) -> None:
    """W3 is checked in plain integers beside the compiled step."""
    pay_in(small, "alice", 1_000)
    small.step(OPENING)
    before = contents(small.engine)

    def low(one: Vault) -> None:
        close, entry, balances = small.decided(one, OPENING)
        one.accept(close, entry.model_copy(update={"high_water_mark": 2**40}), balances)

    with pytest.raises(MarkBelowStrike, match="vault tide: the mark would be"):
        tampered(small, low)
    assert contents(small.engine) == before


def test_nobody_enters_or_leaves_where_no_nav_was_struck(small: Tide) -> None:
    pay_in(small, "alice", 1_000)
    small.step(12)
    redeem(small.engine, "tide", "alice", 100 * SHARE, START)
    deposit(small.engine, "tide", "bob", 7 * UNIT, START)
    with unit_of_work(small.engine) as connection:
        one, stretch = small.vault(connection), small.stretch(12)
        book = book_of(one, stretch.close)
        book.vaults[0].waiting = book.vaults[0].entering = 0  # as where a position could not be traded
        step = live_through(small.setup, book, stretch)
        assert step is not None
        assert isinstance(step.entry, Decided)
        entry = step.entry.model_copy(update={"is_struck": False})
        told = one.accept(step.close, entry, {**step.balances, "entering": 7 * UNIT})
    assert told.settlements == ()
    assert (figures(small)["waiting"], balances(small)["entering"]) == (100 * SHARE, 7 * UNIT)
    small.step(1, 13)
    assert set(settled(small)) == {"alice", "bob"}
    assert breaches(small.engine) == []


def test_shares_and_money_never_outgrow_what_the_kernel_can_multiply(small: Tide) -> None:
    pay_in(small, "alice", 10**6)
    with unit_of_work(small.engine, writes=False) as connection:
        one = small.vault(connection)
        assert one.shares <= LARGEST
        assert one.holders.held("alice") == 10**6 * SHARE
        assert one.holders.held("nobody") == 0
        assert one.holders.names() == ("alice",)
