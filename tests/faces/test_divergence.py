"""`ringfence divergence`: the same figures as a table and as JSON, and refusals that say the way out."""

import contextlib
import json
import sqlite3
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from ringfence.faces.cli import main
from ringfence.markets.exchange.faults import Fault, FaultPlan
from ringfence.runtime.divergence import diverge
from tests.reference.tide import tide, walk
from tests.runtime.test_dealing import NAME
from tests.runtime.test_divergence import lived


def minor(amount: str) -> int:
    return int(Decimal(amount).scaleb(6))


def test_it_tells_each_cause_and_their_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = FaultPlan(2, {Fault.late: 300_000, Fault.reject: 300_000})
    house = lived(tmp_path / "house", walk(2, 24, 0.008), tide(), plan)
    found = diverge(house.one.engine, NAME)
    assert found.causes
    monkeypatch.setenv("COLUMNS", "300")
    place = str(tmp_path / "house" / "one.db")

    def told(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ringfence", "divergence", *words, "--db", place])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    code, out, _ = told(NAME, "--json")
    document = json.loads(out)
    assert (code, document["vault"], document["currency"]) == (0, NAME, "USDT")
    amounts = [minor(cause["amount"]) for cause in document["causes"]]
    assert amounts == [cause.amount for cause in found.causes]
    assert minor(document["differs_by"]) == sum(amounts) == found.lived - found.foreseen
    code, out, _ = told(NAME)
    assert code == 0
    assert all(text in out for cause in found.causes for text in cause.told)
    assert document["differs_by"] in out
    code, out, err = told("ebb")
    assert (code, out) == (1, "")
    assert "ebb" in err
    with contextlib.closing(sqlite3.connect(place)) as file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {trigger}")
        file.execute("DELETE FROM bar")
        file.commit()
    code, out, err = told(NAME)
    assert (code, out) == (1, "")
    assert f"`ringfence verify {NAME}` says what holds and what does not" in err
    house.one.engine.dispose()
