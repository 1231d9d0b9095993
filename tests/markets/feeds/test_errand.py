"""Work that may hang never holds its caller longer than he says."""

import threading
import time

import pytest

from ringfence.markets.feeds.errand import Errand


def test_work_that_is_done_in_time_is_returned_and_what_it_raises_is_raised() -> None:
    errand: Errand[int] = Errand("test")
    assert errand.run(lambda: 7, 5_000) == 7
    with pytest.raises(ZeroDivisionError):
        errand.run(lambda: 1 // 0, 5_000)
    assert errand.run(lambda: 8, 5_000) == 8


def test_work_that_hangs_is_not_waited_for_and_no_other_begins_before_it_ends() -> None:
    errand: Errand[str] = Errand("test")
    release, begun = threading.Event(), list[str]()

    def hanging() -> str:
        begun.append("first")
        release.wait(30)
        return "late"

    before = time.monotonic()
    assert errand.run(hanging, 50) is None
    assert errand.run(lambda: begun.append("second") or "second", 50) is None
    assert time.monotonic() - before < 10
    release.set()
    assert errand.run(lambda: begun.append("third") or "third", 30_000) == "late"
    assert begun == ["first"]
    assert errand.run(lambda: "next", 30_000) == "next"
