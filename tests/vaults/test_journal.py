"""The journal's chain and canonical form, and the keys that make a request's effect happen once."""

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text, update
from sqlalchemy.event import listen

from ringfence.runtime.database import migrate, open_engine, unit_of_work
from ringfence.vaults.commands import answered, asked_under, remember, request_hash
from ringfence.vaults.entries import Amended, Entry, Opened
from ringfence.vaults.errors import KeyConflict, NotJournalable
from ringfence.vaults.journal import (
    Journal,
    breaches,
    canonical,
    first_since,
    genesis,
    last_row,
    newest,
    row_hash,
    rows,
)
from ringfence.vaults.ledger import Breach
from ringfence.vaults.tables import TOLD, mandate, vault

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(st.text(max_size=3), values, max_size=4)


OPENED = Opened(mandate="f", terms="{}", decimals=6)
AMENDED = Amended(mandate="g", terms='{"title":"zoë"}', to_reserve=5, nav=9, wall=7)
LATER = Amended(mandate="h", terms="{}", to_reserve=0, nav=9, wall=7)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_engine(database_url, create=True)
    migrate(engine)
    with unit_of_work(engine) as connection:
        connection.execute(insert(mandate), {"fingerprint": "f", "name": "shield", "body": "{}", "applied_ts": 0})
        connection.execute(
            insert(vault),
            {"id": 1, "name": "shield", "mandate": "f", "currency": "USDT", "decimals": 6, "shares": 0, "waiting": 0,
             "high_water_mark": 0, "opened": 0, "clock": 0, "last_nav": 0, "price_low": 1.0,
             "distance_low": 1.0, "version": 0, "journal_seq": 0, "journal_hash": genesis("shield"), "journal_ts": 0,
             "transfer_seq": 0},
        )  # fmt: skip
    yield engine
    engine.dispose()


@pytest.fixture
def told(engine: Engine) -> Engine:
    with unit_of_work(engine) as connection:
        chain = Journal(connection, 1, 0, genesis("shield"))
        assert chain.append(10, OPENED) == 1
        assert chain.append(20, AMENDED) == 2
        assert chain.write() == 2
        assert chain.append(30, LATER) == 3
        assert chain.write() == 1
        assert chain.write() == 0
        connection.execute(update(vault).values(journal_seq=chain.seq, journal_hash=chain.hash))
    return engine


@given(bodies)
def test_the_canonical_form_says_the_same_as_the_body(body: dict[str, object]) -> None:
    assert json.loads(canonical(body)) == body


@given(bodies)
def test_the_order_of_keys_does_not_matter_and_nothing_else_is_added(body: dict[str, object]) -> None:
    form = canonical(body)
    assert canonical(dict(reversed(body.items()))) == form
    assert form.isascii()
    assert "\n" not in form
    assert canonical(json.loads(form)) == form


def test_the_canonical_form_of_an_example() -> None:
    body = {"b": [1, -0.0, 1e300, np.float64(0.1)], "a": {"ü": None}}
    assert canonical(body) == '{"a":{"\\u00fc":null},"b":[1,-0.0,1e+300,0.1]}'


def _endless() -> dict[str, object]:
    body: dict[str, object] = {}
    body["self"] = body
    return body


@pytest.mark.parametrize(
    "body",
    [{"x": math.nan}, {"x": math.inf}, {"x": [-math.inf]}, {1: "x"}, {"x": [{2: 1}]}, {"x": {1}}, {"x": np.int64(1)},
     {"x": b""}, _endless()],
)  # fmt: skip
def test_what_has_no_canonical_form_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(NotJournalable):
        canonical(body)


def test_the_hash_is_sha_256_over_five_lines() -> None:
    expected = hashlib.sha256(b"ab\n7\n-1\nstep\n{}").hexdigest()
    assert row_hash("ab", 7, -1, "step", "{}") == expected
    assert row_hash("ab", 71, 1, "step", "{}") != row_hash("ab", 7, 11, "step", "{}")
    assert genesis("shield") != genesis("spear")
    assert len(genesis("")) == 64


class Odd(Entry):
    """An entry that cannot be written."""

    kind: ClassVar[str] = "odd"

    def body(self) -> dict[str, Any]:
        return {"x": math.nan}


def test_an_entry_without_a_canonical_form_adds_nothing(engine: Engine) -> None:
    with unit_of_work(engine) as connection:
        chain = Journal(connection, 1, 0, genesis("shield"))
        with pytest.raises(NotJournalable):
            chain.append(1, Odd())
        assert (chain.seq, chain.hash, chain.write()) == (0, genesis("shield"), 0)


def test_an_untouched_chain_has_no_breach(told: Engine, engine: Engine) -> None:
    with unit_of_work(told, writes=False) as connection:
        assert list(breaches(connection, 1)) == []


def _without_guards(engine: Engine, *statements: str) -> list[Breach]:
    with unit_of_work(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER journal_no_update"))
            connection.execute(text("DROP TRIGGER journal_no_delete"))
        else:
            connection.execute(text("ALTER TABLE journal DISABLE TRIGGER USER"))
        for statement in statements:
            connection.execute(text(statement))
        return list(breaches(connection, 1))


@pytest.mark.parametrize(
    "change",
    ["body = '{\"amount\":6}'", "ts = 21", "kind = 'redeem'", f"hash = '{'0' * 64}'", f"previous_hash = '{'0' * 64}'"],
)
def test_a_changed_row_is_found(told: Engine, change: str) -> None:
    found = _without_guards(told, f"UPDATE journal SET {change} WHERE seq = 2".replace(":", r"\:"))
    assert found
    assert {breach.law for breach in found} == {"L3"}
    assert found[0].thing == "journal row 2"


def test_a_dropped_row_and_a_cut_end_are_found(told: Engine) -> None:
    found = _without_guards(told, "DELETE FROM journal WHERE seq = 2")
    assert [breach.thing for breach in found] == ["journal row 3", "journal row 3"]
    assert found[0].expected == "seq 2, without a gap"


def test_a_cut_end_is_found(told: Engine) -> None:
    (found,) = _without_guards(told, "DELETE FROM journal WHERE seq = 3")
    assert found.thing == "the journal's end"


def test_a_rewritten_end_is_found_even_when_its_hashes_fit(told: Engine) -> None:
    with unit_of_work(told, writes=False) as connection:
        previous = connection.execute(text("SELECT hash FROM journal WHERE seq = 2")).scalar_one()
    forged = row_hash(previous, 3, 30, "amended", "{}")
    (found,) = _without_guards(told, f"UPDATE journal SET body = '{{}}', hash = '{forged}' WHERE seq = 3")
    assert found.thing == "the journal's end"


def test_another_vault_s_chain_does_not_pass(told: Engine) -> None:
    found = _without_guards(told, "UPDATE vault SET name = 'spear'")
    assert found[0].expected.startswith("the hash before it")


def test_the_same_request_is_answered_and_another_under_its_key_is_refused(told: Engine) -> None:
    body = {"holder": "alice", "amount": "5"}
    with unit_of_work(told) as connection:
        assert answered(connection, 1, "k", body) is None
        remember(connection, 1, asked_under("k", body), 2)
        assert answered(connection, 1, "k", dict(reversed(body.items()))) == AMENDED
        assert answered(connection, 1, "other", body) is None
        with pytest.raises(KeyConflict, match="key k: was used before with another request"):
            answered(connection, 1, "k", body | {"amount": "6"})
    assert request_hash(body) == hashlib.sha256(b'{"amount":"5","holder":"alice"}').hexdigest()


def test_rows_of_the_journal_are_read_back_as_they_were_written(told: Engine) -> None:
    with unit_of_work(told, writes=False) as connection:
        found = list(rows(connection, 1))
        of_kind = [row.seq for row in rows(connection, 1, Amended)]
        recent = [row.seq for row in rows(connection, 1, since=20)]
        last = [last_row(connection, 1, Amended, until=until) for until in (1, 2, None)]
    assert [(row.ts, row.entry) for row in found] == [(10, OPENED), (20, AMENDED), (30, LATER)]
    assert found[0].previous_hash == genesis("shield")
    assert (of_kind, recent) == ([2, 3], [2, 3])
    assert [None if row is None else row.entry for row in last] == [None, AMENDED, LATER]


def test_the_newest_rows_come_first_and_are_read_as_they_are_asked_for(engine: Engine) -> None:
    with unit_of_work(engine) as connection:
        chain = Journal(connection, 1, 0, genesis("shield"))
        for number in range(600):
            chain.append(number // 3, AMENDED if number % 10 else OPENED)
        chain.write()
        found = newest(connection, 1)
        assert [next(found).seq for _ in range(3)] == [600, 599, 598]
        found.close()
        assert [row.seq for row in newest(connection, 1)] == list(range(600, 0, -1))
        assert [row.seq for row in newest(connection, 1, ("opened",))] == list(range(591, 0, -10))
        assert [row.seq for row in newest(connection, 1, (), ('"to_reserve":5',), first=585)] == [
            seq for seq in range(600, 584, -1) if (seq - 1) % 10
        ]
        assert [row.seq for row in newest(connection, 1, ("opened",), ('"title',), first=599)] == [600, 599]


@pytest.mark.parametrize("since", [-5, 0, 1, 7, 199, 200, 10**15])
def test_the_first_row_since_a_time_is_found(engine: Engine, since: int) -> None:
    with unit_of_work(engine) as connection:
        chain = Journal(connection, 1, 0, genesis("shield"))
        for number in range(600):
            chain.append(number // 3, OPENED)
        chain.write()
        expected = next((number + 1 for number in range(600) if number // 3 >= since), 601)
        assert first_since(connection, 1, 600, since) == expected


def test_an_empty_journal_has_no_row_since_any_time(engine: Engine) -> None:
    with unit_of_work(engine) as connection:
        assert first_since(connection, 1, 0, 0) == 1
        assert list(newest(connection, 1)) == []


@pytest.mark.parametrize("kind", TOLD)
def test_a_rare_kind_of_event_is_looked_up_and_not_read_for(engine: Engine, kind: str) -> None:
    with unit_of_work(engine, writes=False) as connection:
        statements: list[str] = []
        listen(connection, "before_cursor_execute", lambda *told: statements.append(told[2]))
        assert list(newest(connection, 1, (), (f'"kind":"{kind}"',))) == []
        if connection.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[-1]}", (1, 1)).all()
            assert f"USING INDEX ix_journal_{kind}" in str(plan)
