"""Entries: everything by name, a form in each, and one reader that refuses what it does not know."""

import json

import pytest
from pydantic import ValidationError

from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.vaults.entries import (
    Amended,
    Cancelled,
    Cause,
    Closing,
    Dealt,
    Decided,
    DepositAsked,
    Differs,
    Entry,
    Failure,
    Halted,
    Happened,
    Held,
    Left,
    Lived,
    Moved,
    Opened,
    Ordered,
    RedemptionAsked,
    Report,
    Reported,
    ResumeAsked,
    Resumed,
    Standing,
    Walked,
    read_entry,
)
from ringfence.vaults.errors import EntryUnreadable
from ringfence.vaults.journal import canonical
from ringfence.vaults.queue import Settlement

LEFT = Settlement(request=4, side="redemption", holder="bob", assets=6, shares=7, cost=1, from_reserve=5,
                  from_cushion=1, remaining=3)  # fmt: skip
ENTERED = Settlement(request=2, side="deposit", holder="alice", assets=3, shares=3_000, cost=0, from_reserve=0,
                     from_cushion=0, remaining=0)  # fmt: skip
HELD = Held(quantity=-3, cost=9, margin=4, refused=Bound.cushion, price=0.1, proposed=None, volatility=0.5,
            allowed=-2.0, leverage=-1.5, effective_leverage=-1.4, liquidation_price=0.0, bound=Bound.band)  # fmt: skip
FELL = Happened(ts=5, position="btc", kind=Kind.liquidation, reason=Bound.maintenance_margin, quantity_before=-3,
                quantity_after=0, amount=-4, fee=1, shortfall=2, price=1.5, mark=1.6, leverage_before=-9.0,
                leverage_after=0.0, liquidation_price=1.55)  # fmt: skip
MOVED = Dealt(ts=5, position="btc", kind=None, lots=0, amount=4, reduces=False, pending=False, done=4, fee=0, price=0.0)
BOUGHT = Dealt(ts=5, position="btc", kind=Kind.resize, lots=-3, amount=0, reduces=True, pending=True, done=-2, fee=1,
               price=1.5, name="rf1")  # fmt: skip
LOCKED = FELL.model_copy(update={"position": None, "kind": Kind.locked, "reason": Bound.nothing})
ENTRIES: dict[str, Entry] = {
    "opened": Opened(mandate="f", terms="{}", decimals=6),
    "amended": Amended(mandate="g", terms="{}", to_reserve=1, nav=3, wall=2),
    "deposit_asked": DepositAsked(holder="alice", amount=3, given=9, accepts_locked=False, settled=ENTERED,
                                  ratcheted=2, total_shares=3_000, nav=3, wall=2),
    "redemption_asked": RedemptionAsked(holder="bob", shares=10, given=9, total_shares=1, nav=2, wall=1),
    "cancelled": Cancelled(request=4, side="redemption", holder="bob", remaining=3, total_shares=1, nav=2, wall=1),
    "halted": Halted(by="carol", why="a law", breaches=("W1: reserve",)),
    "resume_asked": ResumeAsked(by="carol", why="mended"),
    "resumed": Resumed(by="dan", why="seen"),
    "closing": Closing(by="carol", why="enough"),
    "ordered": Ordered(last_bar=1, slot=0, answered=(MOVED,), asked_for=(BOUGHT,), still=("eth",),
                       transfers=(Moved(edge=Edge.commit, position="btc", amount=4),)),
    "reported": Reported(reports=(Report(position="btc", cause=Cause.filled, ts=5, order="rf1", lots=-3, fee=1,
                                         price=1.5, mark=1.6, order_price=1.5, is_last=True),
                                  Report(position="eth", cause=Cause.moved_by_hand, ts=5, amount=-7, mark=2.0)),
                         differs=(Differs(position=None, what="wallet", ours="5", theirs="6"),), events=(FELL,),
                         transfers=(Moved(edge=Edge.loss, position="btc", amount=4),),
                         positions={"btc": Left(quantity=-3, cost=9, margin=4)}, reported=8, nav=4, wall=2),
    "walked": Walked(kernel=2, last_bar=1, bars="a", nav_low=4, events=(FELL,), nav=4, wall=2,
                     transfers=(Moved(edge=Edge.loss, position="btc", amount=4),), dealt=(MOVED, BOUGHT), reported=7,
                     positions={"btc": Standing(**HELD.model_dump(include=set(Standing.model_fields)))}),
    "decided": Decided(kernel=1, strategies={"btc": "constant==0.1.0"}, slot=0, last_bar=1, bars="a", struck=5,
                       is_struck=True, high_water_mark=6, flow_cost=1, nav_low=4, locked_since=3, rebase_at=None,
                       price_low=None, distance_low=0.25, positions={"btc": HELD}, events=(FELL, LOCKED),
                       transfers=(Moved(edge=Edge.loss, position="btc", amount=4), Moved(edge=Edge.ratchet, amount=1)),
                       settlements=(ENTERED, LEFT), ratcheted=2, total_shares=3, nav=4, wall=2),
}  # fmt: skip
FORMS = dict.fromkeys(ENTRIES, 1) | {"decided": 2}


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_is_read_back_as_it_was_written(kind: str) -> None:
    entry = ENTRIES[kind]
    text = canonical(entry.body())
    assert entry.kind == kind
    assert json.loads(text)["form"] == FORMS[kind]
    assert read_entry(kind, text) == entry
    assert canonical(read_entry(kind, text).body()) == text


def test_every_kind_of_entry_is_among_these() -> None:
    kinds = [*Entry.__subclasses__(), *Lived.__subclasses__()]
    own = [kind for kind in kinds if kind is not Lived and kind.__module__ == Entry.__module__]
    assert {kind.kind for kind in own} == set(ENTRIES)


def test_positions_edges_kinds_and_causes_are_written_by_name() -> None:
    body = json.loads(canonical(ENTRIES["decided"].body()))
    assert body["positions"]["btc"]["refused"] == "cushion"
    assert (
        body["events"][0] | {"kind": "liquidation", "reason": "maintenance_margin", "position": "btc"}
        == (body["events"][0])
    )
    assert body["transfers"] == [
        {"edge": "loss", "position": "btc", "amount": 4}, {"edge": "ratchet", "position": None, "amount": 1}
    ]  # fmt: skip
    assert body["strategies"] == {"btc": "constant==0.1.0"}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("slot", {}, "is none of the kinds opened, amended"),
        ("opened", {"form": 2}, "form: Value error, 2, and this release reads form 1; read it with the release that"),
        ("decided", {"form": 1}, "form: Value error, 1, and this release reads form 2; read it with the release that"),
        ("opened", {"form": "1"}, "form: Input should be a valid integer"),
        ("decided", {"settlements": [{"request": 1}]}, r"settlements\.0\.side: Field required"),
        ("opened", {"decimals": "6"}, "decimals: Input should be a valid integer"),
        ("opened", {"decimals": True}, "decimals: Input should be a valid integer"),
        ("opened", {"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ("decided", {"transfers": [{"edge": "bribe", "position": None, "amount": 1}]}, r"transfers\.0\.edge"),
        (
            "decided",
            {"transfers": [{"edge": 5, "position": None, "amount": 1}]},
            r"transfers\.0\.edge.*no name of edge",
        ),
        (
            "decided",
            {"transfers": [{"edge": [], "position": None, "amount": 1}]},
            r"transfers\.0\.edge.*no name of edge",
        ),
        ("decided", {"transfers": [{"edge": "post", "position": None, "amount": 1.0}]}, r"transfers\.0\.amount"),
        ("decided", {"positions": {}}, "positions of which nothing is told: btc"),
        ("decided", {"positions": {"btc": HELD.model_dump() | {"price": 0.0}}}, "an open position has a price above 0"),
        ("decided", {"struck": 2**63}, "struck: Input should be less than"),
        ("decided", {"struck": None}, "struck: Input should be a valid integer"),
    ],
)
def test_what_the_reader_does_not_know_is_refused_by_place(kind: str, change: dict[str, object], reason: str) -> None:
    body = (ENTRIES[kind].body() if kind in ENTRIES else {}) | change
    with pytest.raises(EntryUnreadable, match=reason):
        read_entry(kind, json.dumps(body))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"form":1}', '{"form": NaN}'])
def test_a_body_that_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(EntryUnreadable):
        read_entry("opened", text)


def test_a_failed_strategy_is_told_where_one_failed_and_nowhere_else() -> None:
    decided = ENTRIES["decided"]
    assert "failed" not in decided.body()
    failed = decided.model_copy(update={"failed": {"btc": Failure(kind="hung", told="no answer within 10 s")}})
    text = canonical(failed.body())
    assert json.loads(text)["failed"] == {"btc": {"kind": "hung", "told": "no answer within 10 s"}}
    assert read_entry("decided", text) == failed


def test_an_entry_is_frozen_and_holds_no_nan() -> None:
    with pytest.raises(ValidationError):
        ENTRIES["opened"].mandate = "other"  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match="finite number"):
        HELD.model_validate(HELD.model_dump() | {"price": float("nan")})
