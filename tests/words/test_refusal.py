"""What every refusal of the project can do: be named, be listed, be told, and travel."""

import copy
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringfence.runtime.errors import DatabaseBusy, NoBars, SettingRefused
from ringfence.vaults.errors import DepositRefused, MandateError, TransferRefused, ZeroShares
from ringfence.words.refusal import RingfenceError
from ringfence.words.source import Problem
from ringfence.words.units import UnitError
from tests.reference.refusals import FAMILIES, PROBLEMS, SAMPLES, below, refusals, sample, unsampled

TRANSIENT = {
    "BrokerUnreachable",
    "CancelTooLate",
    "ClockApart",
    "DatabaseBusy",
    "DatabaseUnreachable",
    "ExchangeRunning",
    "NoAnswer",
    "OrdersOnTheirWay",
    "StaleFence",
}
each_kind = pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)


def travelled(refusal: RingfenceError) -> RingfenceError:
    again = pickle.loads(pickle.dumps(refusal))
    assert isinstance(again, RingfenceError)
    return again


def assert_same(again: RingfenceError, refusal: RingfenceError) -> None:
    assert type(again) is type(refusal)
    assert str(again) == str(refusal)
    assert repr(again) == repr(refusal)
    assert again.document() == refusal.document()
    assert {name: type(value) for name, value in vars(again).items()} == {
        name: type(value) for name, value in vars(refusal).items()
    }
    assert getattr(again, "__notes__", None) == getattr(refusal, "__notes__", None)


# ---------------------------------------------------------------------------------------------------- all of them


def test_every_class_of_refusal_has_a_sample() -> None:
    found = refusals()
    assert len(found) >= 65
    assert unsampled(found) == []
    assert {*SAMPLES, *FAMILIES} == set(found), "a sample, or a family, of a class that has gone"


def test_a_planted_class_without_a_sample_is_found() -> None:
    class Planted(RingfenceError):
        def __str__(self) -> str:
            return "planted"

    assert Planted in set(below(RingfenceError))
    found = [*refusals(), Planted]
    assert unsampled(found) == [Planted.__qualname__]


def test_codes_are_words_and_no_two_classes_share_one() -> None:
    codes = [kind.code for kind in refusals()]
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []
    assert len(set(codes)) == len(codes)
    assert (NoBars.code, DatabaseBusy.code, UnitError.code) == ("no_bars", "database_busy", "unit_error")


def test_a_class_that_is_renamed_keeps_its_code_by_stating_it() -> None:
    class Renamed(NoBars):
        code = "no_bars"

    class Narrower(Renamed):
        """Its own kind."""

    assert (Renamed.code, Narrower.code) == ("no_bars", "narrower")
    assert Renamed("tide", ("BTC/USDT:USDT",)).document()["code"] == "no_bars"


def test_every_class_says_its_consequence() -> None:
    silent = [kind.__name__ for kind in refusals() if not (kind.__doc__ or "").rstrip().endswith(".")]
    assert silent == []


@each_kind
def test_a_refusal_travels_whole(kind: type[RingfenceError]) -> None:
    refusal = sample(kind)
    refusal.add_note("in slot 7")
    for again in (travelled(refusal), copy.copy(refusal), copy.deepcopy(refusal)):
        assert_same(again, refusal)
    assert_same(travelled(travelled(refusal)), refusal)
    assert again.__notes__ == ["in slot 7"]


@each_kind
def test_a_refusal_is_one_json_document_with_all_its_fields(kind: type[RingfenceError]) -> None:
    refusal = sample(kind)
    document = json.loads(json.dumps(refusal.document(), allow_nan=False))
    assert document == {
        "code": kind.code, "message": str(refusal), "fields": refusal.fields(), "transient": kind.transient
    }  # fmt: skip
    assert list(refusal.fields()) == list(kind.__match_args__)
    assert len(refusal.fields()) >= len(SAMPLES[kind]) > 0
    assert all(hasattr(refusal, name) for name in refusal.fields())


@each_kind
def test_a_refusal_has_a_text_of_its_fields_and_can_be_made_by_their_names(kind: type[RingfenceError]) -> None:
    named = kind(**dict(zip(kind.__match_args__, SAMPLES[kind], strict=False)))
    assert str(named) == str(sample(kind))
    assert str(named).strip() == str(named) != ""
    with pytest.raises(TypeError):
        kind(*SAMPLES[kind], *range(9))


def test_only_these_may_succeed_later_by_themselves() -> None:
    assert {kind.__name__ for kind in refusals() if kind.transient} == TRANSIENT


# ---------------------------------------------------------------------------------------------------- the base


@pytest.mark.parametrize("kind", [RingfenceError, *FAMILIES], ids=lambda kind: kind.__name__)
def test_a_family_is_caught_and_not_raised(kind: type[RingfenceError]) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__} is a family of refusals"):
        kind("a text and nothing else")


def test_a_class_cannot_take_anything_but_its_fields() -> None:
    with pytest.raises(TypeError, match="Planted has an __init__; expected fields"):

        class Planted(RingfenceError):
            def __init__(self, text: str) -> None:
                super().__init__(text)


def test_a_refusal_reaches_another_process(project: Path) -> None:
    program = (
        "import pickle, sys\nfrom ringfence.vaults.errors import MandateError\n"
        "from ringfence.words.source import Problem\n"
        "refusal = MandateError([Problem('a.yaml', 14, 5, 'loss_cap', '20 is not a fraction')])\n"
        "refusal.add_note('told')\nsys.stdout.buffer.write(pickle.dumps(refusal))"
    )
    sent = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, check=True).stdout
    refusal = pickle.loads(sent)
    assert isinstance(refusal, MandateError)
    assert str(refusal) == "a.yaml:14:5 loss_cap: 20 is not a fraction"
    assert list(refusal.problems) == [Problem("a.yaml", 14, 5, "loss_cap", "20 is not a fraction")]
    assert refusal.__notes__ == ["told"]


def caused(cause: Exception) -> RingfenceError:
    with pytest.raises(DepositRefused) as caught:
        raise DepositRefused(5, "because") from cause
    return caught.value


def test_a_cause_that_is_a_refusal_travels_with_it() -> None:
    refusal = caused(ZeroShares(5))
    again = travelled(refusal)
    assert_same(again, refusal)
    assert_same(again.__cause__, ZeroShares(5))  # type: ignore[arg-type]


class Rooted(Exception):
    """A stranger's exception that pickle cannot bring back."""

    def __init__(self, first: object, second: object) -> None:
        super().__init__("rooted")


def test_a_strangers_exception_does_not_keep_a_refusal_from_travelling() -> None:
    for stranger in (Rooted(1, 2), ValueError(lambda: None)):
        again = travelled(caused(stranger))
        assert_same(again, DepositRefused(5, "because"))
        assert again.__cause__ is None


class Silent:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "kept", "told"),
    [
        (lambda: None, None, None),
        (Silent(), "a Silent", "a Silent"),
        (b"20%", "b'20%'", "b'20%'"),
        (["20%", [lambda: None]], None, None),
        (2**200, 2**200, "an integer of 201 bits"),
        (float("-inf"), float("-inf"), "-inf"),
        (True, True, True),
        (None, None, None),
    ],
    ids=["a function", "a silent thing", "bytes", "a list", "a long integer", "infinity", "true", "nothing"],
)
def test_whatever_is_refused_is_kept_as_something_plain(value: Any, kept: Any, told: Any) -> None:
    refusal = UnitError(value, "is not a fraction")
    assert_same(travelled(refusal), refusal)
    json.dumps(refusal.document(), allow_nan=False)
    if kept is not None:
        assert (refusal.value, refusal.fields()["value"]) == (kept, told)


def test_a_transfer_along_no_edge_travels_too() -> None:
    refusal = TransferRefused("reserve->cushion", object(), float("nan"), "an edge of the ledger")
    assert_same(travelled(refusal), refusal)
    assert str(refusal).startswith("transfer 'reserve->cushion' position='<object object at ")


def test_problems_are_listed_by_place_and_each_once() -> None:
    later, sooner = PROBLEMS
    refusal = MandateError([later, sooner, later])
    assert tuple(refusal.problems) == (sooner, later)
    assert str(refusal) == "a.yaml:14:5 is empty\nb.yaml:3:1 loss_cap: is missing"
    assert refusal.fields()["problems"][0] == {
        "file": "a.yaml", "line": 14, "column": 5, "path": "", "message": "is empty"
    }  # fmt: skip


def test_a_refusal_matches_by_its_fields() -> None:
    match SettingRefused("RINGFENCE_BROKER", "x", "y"):
        case SettingRefused(name="RINGFENCE_BROKER", value=value):
            assert value == "x"
        case _:
            pytest.fail("it did not match")
