"""What readings say of a vault that was stepped, redeemed from and emptied; on both databases."""

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from ringfence.faces import queries
from ringfence.faces.errors import NothingCalled
from ringfence.faces.event_lines import EVENT_KINDS, KINDS_TOLD
from ringfence.faces.report.statements import StatementRow
from ringfence.risk.events import Kind
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import lock_vault, unit_of_work
from ringfence.runtime.history import run_of
from ringfence.runtime.setup import set_up
from ringfence.vaults.errors import UnknownHolder, UnknownVault
from ringfence.vaults.mandate.terms import AtWall, Rebase
from ringfence.words.times import utc
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, launch, path, tide, walk


@pytest.fixture
def small(database_url: str) -> Iterator[Tide]:
    """Two holders, twelve hours lived through, a position open."""
    one = launch(database_url, walk())
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    deposit(one.engine, "tide", "bob", 250_500_000, START)
    one.step(12)
    yield one
    one.engine.dispose()


def status(one: Tide) -> str:
    (found,) = queries.vaults(one.engine)
    return str(found["status"])


def test_a_vaults_figures_add_up_and_are_texts(small: Tide) -> None:
    (found,) = queries.vaults(small.engine)
    (held,) = queries.positions(small.engine)
    cash, margin = Decimal(found["reserve"]) + Decimal(found["cushion"]), Decimal(found["in_margin"])
    assert Decimal(found["nav"]) == cash + Decimal(held["equity"]) == cash + margin + Decimal(held["open_profit"])
    assert Decimal(found["reserve"]) >= Decimal(found["wall"])
    least = Decimal("0.8") * Decimal(found["high_water_mark"])
    assert least <= Decimal(found["wall_per_share"]) < least + Decimal("1e-8")
    distance = 1 - Decimal(found["wall"]) / Decimal(found["nav"])
    assert 0 <= distance - Decimal(found["wall_distance"]) < Decimal("1e-6")
    assert (found["loss_cap"], found["shares"], found["waiting"]) == ("0.200000", "1250.500000000", "0.000000000")
    assert (found["last_slot"], found["marked"]) == (utc(START + 11 * HOUR), utc(START + 12 * HOUR))
    assert found["mandate"] == small.setup.mandate.fingerprint
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_an_open_position_is_read_with_its_exact_entry_and_what_it_could_lose(small: Tide) -> None:
    (held,) = queries.positions(small.engine, "tide")
    mark = Decimal(repr(float(small.slots.market.mark_close[11, 0])))
    assert (held["side"], held["base"], Decimal(held["mark_price"])) == ("long", "BTC", mark)
    gained = (mark - Decimal(held["entry_price"])) * Decimal(held["quantity"])
    assert abs(gained - Decimal(held["open_profit"])) < Decimal("1e-2")
    notional = mark * Decimal(held["quantity"])
    assert abs(notional / Decimal(held["equity"]) - Decimal(held["effective_leverage"])) < Decimal("1e-3")
    with unit_of_work(small.engine, writes=False) as connection:
        run = run_of(connection, lock_vault(connection, "tide"))
    assert held["leverage"] == f"{run.positions[0].leverage[-1]:.4f}" != held["effective_leverage"]
    assert Decimal(held["maintenance_margin"]) == (notional * Decimal("0.004")).quantize(
        Decimal("1e-6"), "ROUND_CEILING"
    )
    fallen = Decimal(held["liquidation_price"])
    kept = Decimal(held["margin"]) + (fallen - Decimal(held["entry_price"])) * Decimal(held["quantity"])
    assert abs(kept - fallen * Decimal(held["quantity"]) * Decimal("0.004")) < Decimal("1e-2")
    assert abs((mark - fallen) / mark - Decimal(held["liquidation_distance"])) < Decimal("1e-4")
    assert held["bound"] == "inside the no-trade band"


def test_a_short_position_is_read_as_one(database_url: str) -> None:
    one = launch(database_url, path([8_000.0] * 4 + [8_100.0] * 2, 8_000.0), tide(leverage="-5"))
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    one.step(6)
    (held,) = queries.positions(one.engine)
    assert held["side"] == "short"
    assert held["quantity"].startswith("-")
    assert held["leverage"].startswith("-")
    assert Decimal(held["open_profit"]) < 0 < Decimal(held["liquidation_price"]) - Decimal(held["mark_price"])
    one.engine.dispose()


def test_a_vaults_status_follows_its_life(database_url: str) -> None:
    one = launch(database_url, path([8_000.0] * 12, 8_000.0))
    assert status(one) == "empty"
    (flat,) = queries.positions(one.engine)
    assert (flat["side"], flat["quantity"], flat["bound"], flat["mark_price"]) == ("flat", "0.000", None, None)
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    assert status(one) == "flat"
    one.step(5)
    assert status(one) == "active"
    redeem(one.engine, "tide", "alice", 900 * SHARE, START)
    assert status(one) == "redeeming"
    one.step(1, 5)
    assert status(one) == "active", "the redemption is paid and the rest goes on"
    deposit(one.engine, "tide", "alice", UNIT, START)
    assert status(one) == "entering"
    one.step(1, 6)
    redeem(one.engine, "tide", "alice", None, START)
    one.step(3, 7)
    assert status(one) == "empty"
    one.engine.dispose()


def test_a_vault_whose_risk_capital_is_gone_is_cash_locked(database_url: str) -> None:
    # Volatility is forgotten in the still hours, so that every fall finds the vault fully invested.
    closes = [8_000.0 * 0.75**fall for fall in range(6) for _ in range(8)]
    one = launch(database_url, path(closes, 8_000.0))
    deposit(one.engine, "tide", "alice", 1_000_000 * UNIT, START)
    one.step(len(closes))
    (found,) = queries.vaults(one.engine)
    assert (found["status"], found["in_margin"]) == ("cash-locked", "0.000000")
    assert Decimal(found["wall_distance"]) < Decimal("0.005")
    liquidations = queries.events(one.engine, kinds=["liquidation"])
    assert liquidations
    assert {event["cause"] for event in liquidations} == {"equity below the venue's maintenance margin"}
    one.engine.dispose()


def test_statements_are_read_by_vault_and_by_holder(small: Tide) -> None:
    both = queries.statements(small.engine)
    assert [one["holder"] for one in both] == ["alice", "bob"]
    (bob,) = queries.statements(small.engine, "tide", "bob")
    assert bob == both[1]
    assert (bob["deposited"], bob["shares"], bob["entry_price"]) == ("250.500000", "250.500000000", "1.000000000000")
    assert Decimal(bob["profit"]) == Decimal(bob["value"]) - Decimal("250.5")
    assert bob["acts"] == [{"time": utc(START), "row": 3, "kind": "deposit", "amount": "250.500000",
                            "shares": "250.500000000", "nav_per_share": "1.000000000000", "request": 3,
                            "cost": "0.000000"}]  # fmt: skip
    with unit_of_work(small.engine, writes=False) as connection:
        rows = queries.statement_rows(connection, lock_vault(connection, "tide"))
    assert all(isinstance(row, StatementRow) for row in rows)
    assert [(row.holder, row.deposited, row.decimals) for row in rows] == [
        ("alice", 1_000 * UNIT, 6), ("bob", 250_500_000, 6)
    ]  # fmt: skip


def test_every_event_of_the_run_is_told_and_so_is_every_act_of_a_holder(small: Tide) -> None:
    redeem(small.engine, "tide", "bob", None, START)
    small.step(4, 12)
    found = queries.events(small.engine)
    with unit_of_work(small.engine, writes=False) as connection:
        run = run_of(connection, lock_vault(connection, "tide"))
    happened = [event for event in found if event["position"] is not None]
    assert [(event["kind"], event["time"]) for event in happened] == [(e.kind.name, utc(e.ts)) for e in run.events]
    kinds = [event["kind"] for event in found]
    assert kinds[:3] == ["mandate", "deposit", "deposit"]
    assert {"redemption", "payment", "resize"} <= set(kinds) <= set(EVENT_KINDS)
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    (asked,) = (event for event in found if event["kind"] == "redemption")
    assert asked["cause"] == "bob asked for 250.500000000 shares"
    payments = [event for event in found if event["kind"] == "payment"]
    assert payments[-1]["after"] == "0.000000000 shares wait"
    (bob,) = queries.statements(small.engine, holder="bob")
    assert -sum(Decimal(event["amount"]) for event in payments) == Decimal(bob["redeemed"])
    opened = next(event for event in found if event["kind"] == "resize")
    assert (opened["before"], opened["leverage_before"]) == ("0.000 BTC", None)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_raised_mark_is_an_event_that_names_the_new_wall(database_url: str) -> None:
    one = launch(database_url, path([8_000.0] * 4 + [8_400.0, 8_800.0], 8_000.0))
    deposit(one.engine, "tide", "alice", 1_000 * UNIT, START)
    one.step(6)
    raised = queries.events(one.engine, kinds=["ratchet"])
    assert raised
    (found,) = queries.vaults(one.engine)
    assert raised[-1]["after"] == f"wall {found['wall']}"
    assert sum(Decimal(event["amount"]) for event in raised) == Decimal(found["reserve"]) - Decimal("800.000001")
    one.engine.dispose()


def test_events_are_chosen_by_kind_position_time_and_number(small: Tide) -> None:
    everything = queries.events(small.engine)
    assert queries.events(small.engine, "tide", kinds=["deposit"]) == everything[1:3]
    assert queries.events(small.engine, limit=1) == everything[-1:]
    later = queries.events(small.engine, since=START + HOUR)
    assert later == [event for event in everything if event["time"] >= utc(START + HOUR)] != everything
    of_btc = queries.events(small.engine, position="btc")
    assert of_btc == [event for event in everything if event["position"] == "btc"] != []
    assert queries.events(small.engine, since=START + 1_000 * HOUR) == []


def test_the_last_events_of_a_kind_are_the_last_of_all_of_that_kind(small: Tide) -> None:
    """Rows are chosen in the database by what their text holds: nothing may be missed by that, of any kind."""
    redeem(small.engine, "tide", "bob", None, START)
    small.step(8, 12)
    everything = queries.events(small.engine)
    assert {"mandate", "deposit", "redemption", "payment", "resize", "collateral"} <= {
        one["kind"] for one in everything
    }
    for kind in EVENT_KINDS:
        of_kind = [event for event in everything if event["kind"] == kind]
        assert queries.events(small.engine, kinds=[kind]) == of_kind
        for limit in (1, 2, 7):
            assert queries.events(small.engine, kinds=[kind], limit=limit) == of_kind[-limit:]
    for limit in (1, 3, 50, 10_000):
        assert queries.events(small.engine, limit=limit) == everything[-limit:]


def test_events_before_an_amendment_are_told_under_the_terms_of_their_time(small: Tide) -> None:
    looser = small.setup.mandate.model_copy(update={"title": "Amended"})
    before = queries.events(small.engine)
    with unit_of_work(small.engine) as connection:
        small.vault(connection).amend(START + 13 * HOUR, looser)
    after = queries.events(small.engine)
    assert after[: len(before)] == before
    assert [event["kind"] for event in after[len(before) :]] == ["mandate"]
    assert queries.events(small.engine, kinds=["resize"]) == [one for one in before if one["kind"] == "resize"]
    assert queries.mandate_of(small.engine, "tide").title == "Amended"


def test_every_kind_of_event_has_words() -> None:
    assert {kind.name for kind in Kind} <= set(EVENT_KINDS)
    assert all(KINDS_TOLD.values())


def test_a_statement_says_what_can_be_lost_from_here_and_what_comes_at_the_next_strike(small: Tide) -> None:
    for held in queries.statements(small.engine):
        assert Decimal(held["lose_most"]) == Decimal(held["value"]) - Decimal(held["value_worst"]) > 0
        leaving, cost = Decimal(held["at_next_strike_about"]), Decimal(held["leaving_costs_about"])
        assert leaving + cost == Decimal(held["value"])
        assert cost > 0, "who leaves bears the trading that it causes"
        assert (held["free_now"], held["orders"]) == ("0.000000", [])
        assert held["next_strike"] == utc(START + 13 * HOUR)
        assert (held["locked_since"], held["rebase_at"], held["value_worst_rebased_about"]) == (None, None, None)
    asked = redeem(small.engine, "tide", "alice", None, START, rehearsed=True)
    assert asked.estimate is not None
    (alice,) = queries.statements(small.engine, "tide", "alice")
    assert Decimal(asked.estimate.assets).scaleb(-6) == Decimal(alice["at_next_strike_about"])


def test_a_statement_says_what_waits_for_which_strike_and_why(small: Tide) -> None:
    redeem(small.engine, "tide", "alice", 900 * SHARE, START)
    deposit(small.engine, "tide", "alice", 40 * UNIT, START)
    (alice,) = queries.statements(small.engine, "tide", "alice")
    back, enters = alice["orders"]
    assert (back["side"], back["asked"], back["remaining"]) == ("redemption", "900.000000000", "900.000000000")
    assert (enters["side"], enters["remaining"]) == ("deposit", "40.000000")
    assert {order["strike"] for order in (back, enters)} == {utc(START + 13 * HOUR)}
    assert Decimal(back["comes_to_about"]) < Decimal("0.9") * Decimal(alice["value"])
    assert "at a price that nobody knows yet" in back["why"]
    assert alice["free_now"] == "40.000000", "what waits to enter can be taken back"
    at_work = Decimal(alice["value"]) - Decimal(alice["value_worst"])
    assert Decimal("5") < Decimal(alice["lose_most"]) - at_work < Decimal("12"), "about a fifth of what is to enter"
    small.step(1, 12)
    (alice,) = queries.statements(small.engine, "tide", "alice")
    assert (alice["orders"], alice["free_now"]) == ([], "0.000000")


def test_a_locked_vaults_statement_says_since_when_what_its_mandate_does_and_where_a_rebase_leaves_it(
    database_url: str,
) -> None:
    closes = [8_000.0 * 0.75**fall for fall in range(6) for _ in range(8)]
    rebasing = AtWall(then="rebase", rebase=Rebase(after="1h", notice="30d"))
    terms = tide().mandate.model_copy(update={"at_wall": rebasing})
    one = launch(database_url, path(closes, 8_000.0), set_up(terms))
    deposit(one.engine, "tide", "alice", 1_000_000 * UNIT, START)
    one.step(len(closes))
    (alice,) = queries.statements(one.engine)
    (vault,) = queries.vaults(one.engine)
    assert alice["locked_since"] == vault["locked_since"] is not None
    assert "sets the wall anew" in alice["at_wall"]
    assert alice["rebase_at"] == vault["rebase_at"] is not None
    assert Decimal(alice["value_worst_rebased_about"]) < Decimal(alice["value_worst"])
    locked, announced = (queries.events(one.engine, kinds=[kind]) for kind in ("locked", "rebase_announced"))
    assert locked[-1]["time"] == alice["locked_since"]
    assert [event["position"] for event in announced] == [None]
    deposit(one.engine, "tide", "alice", 500 * UNIT, START, accepts_locked=True)
    (order,) = queries.statements(one.engine)[0]["orders"]
    assert "at a price that nobody knows yet" in order["why"]
    one.engine.dispose()


def test_several_vaults_are_told_together_in_order_of_time(database_url: str) -> None:
    one = launch(database_url, walk(bars=8))
    launch(database_url, walk(bars=8), tide("ebb")).engine.dispose()
    for name in ("tide", "ebb"):
        deposit(one.engine, name, "alice", 1_000 * UNIT, START)
        one.desk.step(name, START + 7 * HOUR)
    found = queries.events(one.engine)
    assert {event["vault"] for event in found} == {"ebb", "tide"}
    assert [event["time"] for event in found] == sorted(event["time"] for event in found)
    assert queries.events(one.engine, limit=3) == found[-3:]
    assert [row["vault"] for row in queries.vaults(one.engine)] == ["ebb", "tide"]
    assert [row["vault"] for row in queries.statements(one.engine)] == ["ebb", "tide"]
    one.engine.dispose()


def test_unknown_names_are_refused_with_the_likely_one(small: Tide) -> None:
    with pytest.raises(UnknownVault, match="did you mean tide"):
        queries.positions(small.engine, "tied")
    with pytest.raises(UnknownVault, match="known: tide"):
        queries.events(small.engine, "unlike")
    with pytest.raises(UnknownVault):
        queries.currency_of(small.engine, "tied")
    with pytest.raises(UnknownHolder, match="of vault tide; known: alice, bob"):
        queries.statements(small.engine, "tide", "zoe")
    with pytest.raises(UnknownHolder, match="of any vault; did you mean alice"):
        queries.statements(small.engine, None, "alicia")
    with pytest.raises(NothingCalled, match=r"kind liqidation: .* did you mean liquidation"):
        queries.events(small.engine, kinds=["liqidation"])
    with pytest.raises(NothingCalled, match=r"position eth: .* known: btc"):
        queries.events(small.engine, position="eth")
