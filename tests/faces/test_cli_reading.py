"""The commands that read vaults and move money, through the real console script."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from ringfence.faces import queries
from ringfence.faces.cli import main
from ringfence.risk import KERNEL
from ringfence.runtime.acts import deposit, redeem
from ringfence.runtime.database import unit_of_work
from tests.reference.commands import run
from tests.reference.tide import HOUR, SHARE, START, UNIT, Tide, breaches, contents, launch, walk

READING = (["vaults"], ["positions"], ["statement"], ["events"], ["verify"])


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code in (0, 1, 3), self.err
        return json.loads(self.out)


def ringfence(*words: str, db: str | Path, folder: Path | None = None) -> Answer:
    ran = run(*words, "--db", str(db), cwd=folder)
    assert "Traceback" not in ran.stdout + ran.stderr
    return Answer(ran.returncode, ran.stdout, ran.stderr)


def stepped(url: str) -> Tide:
    """Two holders, twelve hours, an open position, and half of bob's shares waiting."""
    launched = launch(url, walk())
    deposit(launched.engine, "tide", "alice", 1_000 * UNIT, START)
    deposit(launched.engine, "tide", "bob", 1_000 * UNIT, START)
    launched.step(12)
    redeem(launched.engine, "tide", "bob", 500 * SHARE, START)
    return launched


Console = Callable[..., Answer]


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    """The console script's own function in this process: for the many cases that a process each would make slow."""
    for name in [name for name in os.environ if name.startswith("RINGFENCE_")]:
        monkeypatch.delenv(name)

    def run(*words: str, db: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["ringfence", *words, "--db", str(db)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Answer(int(end.value.code or 0), out, err)

    return run


@pytest.fixture
def small(sqlite_database: str) -> Iterator[Tide]:
    launched = stepped(sqlite_database)
    yield launched
    launched.engine.dispose()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tide, Path]]:
    """A vault that no test of this module changes."""
    path = tmp_path_factory.mktemp("still") / "ringfence.db"
    launched = stepped(f"sqlite:///{path}")
    yield launched, path
    launched.engine.dispose()


# ---------------------------------------------------------------------------------------------------- reading


def test_every_reading_command_prints_the_readings_as_json(still: tuple[Tide, Path], inside: Console) -> None:
    launched, path = still
    assert inside("vaults", "--json", db=path).json == queries.vaults(launched.engine)
    assert inside("positions", "tide", "--json", db=path).json == queries.positions(launched.engine)
    assert inside("statement", "bob", "--vault", "tide", "--json", db=path).json == queries.statements(
        launched.engine, "tide", "bob"
    )
    since = "2020-03-01T02:00:00+01:00"
    chosen = inside("events", "--kind", "resize", "--kind", "payment", "--since", since, "--json", db=path).json
    assert chosen == queries.events(launched.engine, kinds=["resize", "payment"]) != []
    assert inside("events", "tide", "--limit", "2", "--json", db=path).json == queries.events(launched.engine, limit=2)


def test_every_reading_command_prints_a_table_for_people(still: tuple[Tide, Path]) -> None:
    _, path = still
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda words: ringfence(*words, db=path), READING)
    shown = {words[0]: answer for words, answer in zip(READING, answers, strict=True)}
    assert {answer.code for answer in shown.values()} == {0}
    for word in ("tide", "redeeming", "cushion", "high-water mark"):
        assert word in shown["vaults"].out
    for word in ("long", "BTC/USDT:USDT", "no-trade band", "liquidation"):
        assert word in shown["positions"].out
    for word in ("alice", "bob", "worth", "profit", "most you can", "free now"):
        assert word in shown["statement"].out
    told = " ".join(shown["statement"].out.split())
    assert "the next strike is the close of 2020-03-01T13:00:00Z" in told
    assert "500.000 shares asked back at 2020-03-01T12:00:00Z, waits for the strike of 2020-03-01T13:00:00Z" in told
    for word in ("alice paid in", "resize", "0.000 BTC"):
        assert word in shown["events"].out
    assert "every law holds" in shown["verify"].out
    (told,) = ringfence("verify", "tide", "--json", db=path).json
    head = told.pop("head")
    assert f"head of tide: {head}" in shown["verify"].out
    assert ringfence("heads", "--json", db=path).json["vaults"] == [
        {"vault": "tide", "seq": 16, "hash": head.partition(":")[2]}
    ]
    assert [told] == [{"vault": "tide", "rows": 16, "slots": 12, "holds": True, "undecided": [], "breaches": []}]
    for answer in shown.values():
        assert max(map(len, answer.out.splitlines())) <= 80 or answer is shown["verify"]


def test_one_holders_statement_shows_every_act(still: tuple[Tide, Path]) -> None:
    _, path = still
    out = ringfence("statement", "bob", db=path).out
    assert [word for word in ("deposit", "request", "payment") if word in out] == ["deposit", "request"]
    assert "alice" not in out


def test_a_holders_statement_tells_of_his_payment(small: Tide, tmp_path: Path) -> None:
    small.step(1, 12)
    out = ringfence("statement", "bob", db=tmp_path / "ringfence.db").out
    assert [word for word in ("deposit", "request", "payment") if word in out] == ["deposit", "request", "payment"]


def test_a_long_table_of_events_says_that_it_is_not_all(still: tuple[Tide, Path], inside: Console) -> None:
    launched, path = still
    everything = len(queries.events(launched.engine))
    shown = inside("events", "--limit", "1", db=path).out
    assert len(set(re.findall(r"\d{4}-\d\d-\d\dT[\d:]+Z", shown))) == 1
    assert everything < 100
    assert inside("events", db=path).err == ""


def test_verify_of_what_another_kernel_decided_has_words_and_an_exit_code_of_its_own(
    small: Tide, tmp_path: Path, inside: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringfence.runtime.step.KERNEL", KERNEL + 1)
    path = tmp_path / "ringfence.db"
    answer = inside("verify", db=path)
    assert answer.code == 3
    assert "sums, chain and money hold" in answer.out
    assert "every law holds" not in answer.out
    assert (
        f"tide: 12 slots were decided by kernel {KERNEL}: sums, chain and money hold; not decided again" in answer.out
    )
    (told,) = inside("verify", "--json", db=path).json
    assert told["holds"] is True
    assert (told["slots"], told["undecided"]) == (0, [{"decided_by": f"kernel {KERNEL}", "slots": 12}])


def test_verify_says_which_law_is_broken_where_and_leaves_with_1(small: Tide, tmp_path: Path, inside: Console) -> None:
    path = tmp_path / "ringfence.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE holding SET shares = shares + 1 WHERE holder = 'alice'")
    answer = ringfence("verify", "--json", db=path)
    assert answer.code == 1
    assert answer.json[0]["holds"] is False
    assert {"law": "S3", "thing": "shares of alice", "expected": f"{1_000 * SHARE}, as the journal says",
            "found": str(1_000 * SHARE + 1)} in answer.json[0]["breaches"]  # fmt: skip
    table = inside("verify", db=path)
    assert (table.code, "shares of alice" in table.out, "S3" in table.out) == (1, True, True)
    refused = inside("statement", "alice", db=path)
    assert refused.code == 1
    assert "run `ringfence verify tide`" in refused.err


def test_an_earlier_head_is_expected_on_the_chain_by_itself_or_from_a_file(
    small: Tide, tmp_path: Path, inside: Console
) -> None:
    path, kept, as_json = tmp_path / "ringfence.db", tmp_path / "heads.txt", tmp_path / "heads.json"
    assert inside("heads", "-o", str(kept), db=path).out == ""
    assert inside("heads", "-o", str(as_json), "--json", db=path).code == 0
    head = kept.read_text().splitlines()[0].removeprefix("vault tide ")
    deposit(small.engine, "tide", "carol", UNIT, START)
    for told in (head, f"tide={head}", str(kept), str(as_json)):
        assert inside("verify", "--expect", told, db=path).code == 0, told
    forged = head[:-1] + ("0" if head[-1] != "0" else "1")
    answer = inside("verify", "--expect", forged, "--json", db=path)
    assert answer.code == 1
    (breach,) = answer.json[0]["breaches"]
    assert (breach["law"], breach["thing"], breach["expected"]) == ("L3", "journal row 16", f"the head {forged}")
    for wrong, told in (
        ("16:abc", "neither SEQ:HASH"),
        (str(path), "ringfence.db:1: expected `vault NAME SEQ:HASH`"),
        ("none.txt", "none.txt"),
    ):
        refused = inside("verify", "--expect", wrong, db=path)
        assert (refused.code, told in refused.err) == (1, True), refused.err
    kept.write_text("vault tide 16\n")
    assert "heads.txt:1: expected `vault NAME SEQ:HASH`" in inside("verify", "--expect", str(kept), db=path).err


# ---------------------------------------------------------------------------------------------------- acts


def test_a_deposit_is_rehearsed_and_then_done_once_under_its_key(small: Tide, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    before = contents(small.engine)
    words = ("deposit", "tide", "carol", "250.5", "--key", "k", "--json")
    rehearsed = ringfence(*words, "--dry-run", db=path).json
    assert rehearsed.pop("dry_run") is True
    assert contents(small.engine) == before
    done = ringfence(*words, db=path).json
    assert done.pop("dry_run") is False
    assert done == rehearsed
    assert (done["amount"], done["holder"], done["currency"]) == ("250.500000", "carol", "USDT")
    assert (done["entered_now"], done["waits_for"], done["repeated"]) == (
        "0", "the strike of 2020-03-01T13:00:00Z", False
    )  # fmt: skip
    assert Decimal(done["behind_the_wall_about"]) + Decimal(done["at_risk_about"]) == Decimal("250.5")
    assert Decimal(done["swing_cost_about"]) > 0
    (vault,) = queries.vaults(small.engine)
    assert (vault["nav"], vault["shares"], vault["entering"]) == (done["nav"], done["total_shares"], done["amount"])
    after = contents(small.engine)
    again = ringfence(*words, db=path).json
    assert again["repeated"] is True
    assert {name: again[name] for name in ("amount", "nav", "wall")} == {
        name: done[name] for name in ("amount", "nav", "wall")
    }
    assert "nothing was done again" in ringfence(*words[:-1], db=path).out
    assert contents(small.engine) == after
    conflict = ringfence("deposit", "tide", "carol", "251", "--key", "k", db=path)
    assert (conflict.code, "key k: was used before" in conflict.err) == (1, True)
    assert contents(small.engine) == after


def test_a_redemption_tells_what_it_is_about_worth_and_which_strike_it_waits_for(small: Tide, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    before = contents(small.engine)
    dry = ringfence("redeem", "tide", "alice", "100.25", "--dry-run", db=path)
    assert dry.code == 0
    for word in ("nothing has changed", "payment about", "swing cost about", "free now", "waits for", "why"):
        assert word in dry.out
    assert contents(small.engine) == before
    done = ringfence("redeem", "tide", "alice", "all", "--json", db=path).json
    assert (done["shares_asked"], done["free_now"]) == ("1000.000000000", "0")
    small.step(1, 12)
    (alice,) = queries.statements(small.engine, holder="alice")
    assert alice["waiting"] == "0.000000000"
    assert Decimal(alice["redeemed"]) == pytest.approx(Decimal(done["payment_about"]), rel=Decimal("0.05"))


def test_an_order_that_waits_is_taken_back(small: Tide, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    before = queries.statements(small.engine, holder="bob")[0]
    assert [order["side"] for order in before["orders"]] == ["redemption"]
    ringfence("deposit", "tide", "bob", "7", db=path)
    refused = ringfence("cancel", "tide", "bob", db=path)
    assert (refused.code, "name the one to cancel; those that wait: 16, 17" in refused.err) == (1, True)
    paid = ringfence("cancel", "tide", "bob", "17", "--json", db=path).json
    assert (paid["order"], paid["was_a"], paid["paid_back"]) == (17, "deposit", "7.000000")
    kept = ringfence("cancel", "tide", "bob", "--json", db=path).json
    assert (kept["was_a"], kept["shares_kept"]) == ("redemption", "500.000000000")
    assert queries.statements(small.engine, holder="bob")[0]["orders"] == []


def test_a_first_deposit_under_a_name_that_is_nearly_anothers_names_the_way_out(small: Tide, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    refused = ringfence("deposit", "tide", "alcie", "7", db=path)
    assert refused.code == 1
    assert "did you mean alice?" in refused.err
    assert "--new" in refused.err
    assert ringfence("deposit", "tide", "alcie", "7", "--new", db=path).code == 0


def test_a_deposit_into_a_locked_vault_is_told_what_is_at_risk_before_it_is_taken(small: Tide, tmp_path: Path) -> None:
    path = tmp_path / "ringfence.db"
    with unit_of_work(small.engine) as connection:
        connection.execute(text(f"UPDATE vault SET locked_since = {START}, rebase_at = {START + 400 * HOUR}"))
    for words in ((), ("--dry-run",)):
        refused = ringfence("deposit", "tide", "carol", "1000", *words, db=path)
        assert refused.code == 1
        for word in (
            "is locked at its wall since 2020-03-01T00:00:00Z",
            "would stand behind the wall from the start",
            "would be at risk",
            "a rebase is announced for 2020-03-17T16:00:00Z: from then on about 800.000000",
            "--into-locked",
        ):
            assert word in refused.err
    assert ringfence("deposit", "tide", "carol", "1000", "--into-locked", db=path).code == 0


# ---------------------------------------------------------------------------------------------------- bad input

REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "deposit 0": (("deposit", "tide", "alice", "0"), "amount: 0 is not above 0"),
    "deposit -1": (("deposit", "tide", "alice", "-1"), "amount: -1 is below 0"),
    "deposit NaN": (("deposit", "tide", "alice", "NaN"), "amount: NaN is not an amount"),
    "deposit 1e400": (("deposit", "tide", "alice", "1e400"), "amount: 1e400 has an exponent"),
    "deposit 12 decimals": (("deposit", "tide", "alice", "1.123456789012"), "has 12 decimals; at most 6"),
    "deposit too much": (("deposit", "tide", "alice", "1000000001"), "the most is 1000000000"),
    "deposit under a bad name": (("deposit", "tide", "a b", "1"), "holder 'a b': a name has 1 to 64"),
    "deposit to an unknown vault": (("deposit", "tied", "alice", "1"), "vault tied: there is no such vault; did"),
    "redeem 0": (("redeem", "tide", "alice", "0"), "shares: 0 is not above 0"),
    "redeem -1": (("redeem", "tide", "alice", "-1"), "shares: -1 is below 0"),
    "redeem NaN": (("redeem", "tide", "alice", "nan"), "shares: nan is not an amount"),
    "redeem 1e400": (("redeem", "tide", "alice", "1e400"), "shares: 1e400 has an exponent"),
    "redeem 12 decimals": (("redeem", "tide", "alice", "1.123456789012"), "has 12 decimals; at most 9"),
    "redeem more than held": (
        ("redeem", "tide", "alice", "1000.000000001"),
        "holder alice: 1000.000000001 shares were to be redeemed, 1000.000000000 can be",
    ),
    "redeem a crumb": (("redeem", "tide", "alice", "0.000000001"), "0.000000001 shares are worth less than"),
    "redeem by a stranger": (("redeem", "tide", "mallory", "all"), "known: alice, bob"),
    "positions of an unknown vault": (("positions", "tidy"), "did you mean tide?"),
    "events of an unknown vault": (("events", "zzz"), "known: tide"),
    "events of an unknown kind": (("events", "--kind", "margin-call"), "did you mean margin_call?"),
    "events of an unknown position": (("events", "--position", "eth"), "known: btc"),
    "events since nonsense": (("events", "--since", "yesterday"), "--since: 'yesterday' cannot be used"),
    "statement of an unknown holder": (("statement", "bobby"), "did you mean bob?"),
    "statement of an unknown vault": (("statement", "--vault", "tied"), "did you mean tide?"),
    "verify an unknown vault": (("verify", "tied"), "did you mean tide?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_message_names_the_thing_and_the_way_out_and_nothing_changes_for(
    case: str, still: tuple[Tide, Path], inside: Console
) -> None:
    launched, path = still
    before = contents(launched.engine)
    words, message = REFUSED[case]
    answer = inside(*words, db=path)
    assert (answer.code, answer.out) == (1, "")
    assert message in answer.err
    assert contents(launched.engine) == before


@pytest.mark.parametrize("case", ["deposit -1", "redeem more than held", "verify an unknown vault"])
def test_the_console_script_itself_refuses_without_a_traceback(case: str, still: tuple[Tide, Path]) -> None:
    words, message = REFUSED[case]
    answer = ringfence(*words, db=still[1])
    assert (answer.code, answer.out, message in answer.err) == (1, "", True)


ALL = (*READING, ["deposit", "tide", "alice", "1"], ["redeem", "tide", "alice", "all", "--dry-run"])


def test_a_database_that_is_not_there_is_named_and_none_is_made(tmp_path: Path, inside: Console) -> None:
    path = tmp_path / "typo.db"
    for words in ALL:
        answer = inside(*words, db=path)
        assert (answer.code, "typo.db: no such database" in answer.err) == (1, True), words
    assert ringfence("vaults", db=path, folder=tmp_path).code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_another_version_is_refused_and_left_as_it_is(
    small: Tide, tmp_path: Path, inside: Console
) -> None:
    path = tmp_path / "ringfence.db"
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = contents(small.engine)
    for words in ALL:
        answer = inside(*words, db=path)
        assert (answer.code, "its schema is 9999" in answer.err) == (1, True), words
    assert contents(small.engine) == before


def test_an_empty_file_holds_no_vaults_to_read_and_none_to_pay_into(tmp_path: Path, inside: Console) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    reading = inside("vaults", db=path)
    assert (reading.code, "holds no vaults yet" in reading.err) == (1, True)
    paying = inside("deposit", "tide", "alice", "1", db=path)
    assert (paying.code, "vault tide: there is no such vault; known: none yet" in paying.err) == (1, True)


def test_the_commands_work_on_postgresql_too(postgresql_database: str) -> None:
    launched = stepped(postgresql_database)
    url = postgresql_database.replace("+psycopg", "")
    assert ringfence("vaults", "--json", db=url).json == queries.vaults(launched.engine)
    assert ringfence("redeem", "tide", "alice", "all", db=url).code == 0
    assert breaches(launched.engine) == []
    launched.engine.dispose()
    engine = create_engine(postgresql_database)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert "its schema is 9999" in ringfence("positions", db=url).err
