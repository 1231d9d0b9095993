"""Files dropped into a watched folder: read once they are whole, in order, and each refusal told once."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from ringfence.markets.errors import FeedRefused
from ringfence.markets.feeds.folder import Folder, Watching
from ringfence.markets.feeds.source import Delivery

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
MINUTE, HOUR = 60_000, 3_600_000
START = 1_699_977_600_000 // HOUR * HOUR
NOW = 1_800_000_000_000
NAMES = "ts,open,high,low,close,volume"


def rows(minutes: Iterable[int], price: float = 100.0) -> list[str]:
    return [f"{START + m * MINUTE},{price + m},{price + m + 1},{price + m - 1},{price + m},1" for m in minutes]


def drop(folder: Path, name: str, minutes: Iterable[int], price: float = 100.0) -> Path:
    file = folder / name
    file.write_text("\n".join([NAMES, *rows(minutes, price)]) + "\n")
    return file


def drop_rates(folder: Path, name: str, minutes: Iterable[int]) -> None:
    lines = [f"{START + minute * MINUTE},0.0001" for minute in minutes]
    (folder / name).write_text("\n".join(["ts,funding_rate", *lines]) + "\n")


class Watched:
    """A folder and a clock that goes on by two seconds a poll."""

    def __init__(self, folder: Path, *symbols: str, since: int = 0, **how: object) -> None:
        watching = Watching(timeframe=MINUTE, timeout=30_000, **how)  # type: ignore[arg-type]
        self.feed = Folder(folder, dict.fromkeys(symbols or (BTC,), START + since * MINUTE), watching)
        self.now = NOW

    def poll(self, after: int = 2_000) -> Delivery:
        self.now += after
        return self.feed.poll(self.now)

    def settled(self) -> Delivery:
        """Two polls: the files are seen, and seen again."""
        self.poll()
        return self.poll()


def opens(delivery: Delivery, what: str = "bars", symbol: str = BTC) -> list[int]:
    series = getattr(delivery, what).get(symbol)
    return [] if series is None else [(ts - START) // MINUTE for ts in series.ts.tolist()]


def test_a_file_is_read_once_it_stayed_the_same_between_two_polls(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    drop(tmp_path, "BTC-USDT-1m.csv", range(5))
    assert opens(watched.poll()) == []
    found = watched.poll()
    assert opens(found) == [0, 1, 2, 3, 4]
    assert found.until == {BTC: START + 5 * MINUTE}
    assert (found.faults, opens(watched.poll())) == ((), [])


def test_a_file_that_is_still_written_waits(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    file = drop(tmp_path, "BTC-USDT-1m.csv", range(2))
    watched.poll()
    for minute in range(2, 6):
        with file.open("a") as sink:
            sink.write("\n".join(rows([minute])) + "\n")
        assert opens(watched.poll()) == [], "it grew"
    os.utime(file, (1, 1))
    assert opens(watched.poll()) == [], "it was touched"
    assert opens(watched.poll(999)) == [], "not long enough"
    assert opens(watched.poll(1)) == list(range(6))


def test_a_file_that_grows_after_it_was_read_brings_what_is_new(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    file = drop(tmp_path, "BTC-USDT-1m.csv", range(3))
    assert opens(watched.settled()) == [0, 1, 2]
    with file.open("a") as sink:
        sink.write("\n".join(rows([3, 4])) + "\n")
    assert opens(watched.settled()) == [3, 4]


def test_a_last_bar_that_was_cut_short_comes_again_corrected(tmp_path: Path) -> None:
    """A writer may pause amid a figure; the row reads well, and is wrong."""
    watched = Watched(tmp_path)
    file = tmp_path / "BTC-USDT-1m.csv"
    file.write_text(f"{NAMES}\n{START},100,101,99,100,1\n{START + MINUTE},100,101,99,100,12")
    first = watched.settled()
    assert first.bars[BTC].volume.tolist() == [1.0, 12.0]
    file.write_text(f"{NAMES}\n{START},100,101,99,100,1\n{START + MINUTE},100,101,99,100,12.75\n")
    again = watched.settled()
    assert opens(again) == [1]
    assert again.bars[BTC].volume.tolist() == [12.75]
    assert again.until == first.until
    os.utime(file, (1, 1))
    assert opens(watched.settled()) == [], "nothing new and nothing corrected"


def test_a_refused_file_is_told_once_and_read_again_when_it_changes(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    bad = tmp_path / "BTC-USDT-1m.csv"
    bad.write_text("nothing of use\n1\n2\n")
    drop(tmp_path, "BTC-USDT-2.csv", range(2))
    found = watched.settled()
    assert opens(found) == [0, 1], "the other is read all the same"
    assert [fault.code for fault in found.faults] == ["unreadable_file"]
    assert str(bad) in str(found.faults[0])
    assert watched.settled().faults == ()
    drop(tmp_path, "BTC-USDT-1m.csv", range(2, 4))
    assert opens(watched.settled()) == [2, 3]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("DOGE-USDT-1m.csv", "its name says DOGE/USDT"),
        ("prices.csv", "its name says no instrument"),
        ("BTC-1m.csv", "its name says BTC/USDT:USDT and BTC/USDC:USDC"),
    ],
)
def test_a_name_that_says_none_or_several_of_the_symbols_is_refused(name: str, told: str, tmp_path: Path) -> None:
    watched = Watched(tmp_path, BTC, "BTC/USDC:USDC")
    drop(tmp_path, name, range(2))
    found = watched.settled()
    assert found.bars == {}
    assert told in str(found.faults[0])


def test_where_one_symbol_is_watched_a_name_may_say_nothing(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    drop(tmp_path, "prices.csv", range(2))
    assert opens(watched.settled()) == [0, 1]


def test_only_regular_files_are_read_and_nobody_s_are_passed_over(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "BTC-link.csv").symlink_to(drop(outside, "BTC.csv", range(2)))
    os.mkfifo(tmp_path / "BTC-pipe.csv")
    (tmp_path / "BTC-folder").mkdir()
    for name in (".BTC.csv", "BTC.csv.part", "BTC.csv.tmp"):
        drop(tmp_path, name, range(2))
    first = watched.poll()
    assert sorted(str(fault).removeprefix(f"{tmp_path}/").partition(";")[0] for fault in first.faults) == [
        "BTC-folder: is a folder",
        "BTC-link.csv: is no regular file",
        "BTC-pipe.csv: is no regular file",
    ]
    found = watched.settled()
    assert (found.bars, found.faults) == ({}, ())


def test_files_that_are_whole_together_are_put_in_order_of_time(tmp_path: Path) -> None:
    watched = Watched(tmp_path, BTC, ETH)
    drop(tmp_path, "BTC-USDT-a.csv", range(5, 9))
    drop(tmp_path, "BTC-USDT-b.csv", range(5))
    drop(tmp_path, "ETH-USDT.csv", range(3))
    found = watched.settled()
    assert opens(found) == list(range(9))
    assert opens(found, symbol=ETH) == [0, 1, 2]
    assert found.until == {BTC: START + 9 * MINUTE, ETH: START + 3 * MINUTE}


def test_two_files_that_say_different_things_of_one_time_leave_the_later_one_out(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    drop(tmp_path, "BTC-USDT-a.csv", range(4))
    drop(tmp_path, "BTC-USDT-b.csv", range(1, 6), price=200.0)
    found = watched.settled()
    assert found.bars[BTC].close.tolist() == [100.0, 101.0, 102.0, 103.0]
    assert "has other figures than in BTC-USDT-a.csv" in str(found.faults[0])


def test_marks_and_rates_go_with_their_bars_and_wait_for_them(tmp_path: Path) -> None:
    """A month of rates in one file, bars a few at a time."""
    watched = Watched(tmp_path)
    drop_rates(tmp_path, "BTC-USDT-funding.csv", range(0, 600, 60))
    drop(tmp_path, "BTC-USDT-mark.csv", range(200), price=99.0)
    assert watched.settled().funding == {}
    drop(tmp_path, "BTC-USDT-1.csv", range(61))
    first = watched.settled()
    assert (opens(first), opens(first, "marks"), opens(first, "funding")) == ([*range(61)], [*range(61)], [0, 60])
    drop(tmp_path, "BTC-USDT-2.csv", range(61, 121))
    second = watched.settled()
    assert (opens(second, "marks"), opens(second, "funding")) == ([*range(61, 121)], [120])


def test_marks_and_rates_that_come_after_their_bars_are_left_out_and_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    drop(tmp_path, "BTC-USDT-1.csv", range(61))
    watched.settled()
    drop_rates(tmp_path, "BTC-USDT-funding.csv", [0, 60, 120])
    found = watched.settled()
    assert (found.funding, found.bars) == ({}, {})
    assert found.notes == (
        f"{BTC}: 2 funding stamps from 2023-11-14T16:00:00Z came after their bars were delivered, left out",
    )
    drop(tmp_path, "BTC-USDT-2.csv", range(61, 121))
    assert opens(watched.settled(), "funding") == [120]


def test_bars_from_before_what_is_known_are_left_out_and_told(tmp_path: Path) -> None:
    watched = Watched(tmp_path, since=3)
    drop(tmp_path, "BTC-USDT-1.csv", range(6))
    found = watched.settled()
    assert opens(found) == [3, 4, 5]
    drop(tmp_path, "BTC-USDT-0.csv", range(-5, 0))
    late = watched.settled()
    assert opens(late) == []
    assert late.notes == (f"{BTC}: 5 bars from 2023-11-14T15:55:00Z lie before what was delivered, left out",)


def test_a_price_that_jumps_a_hundredfold_is_refused_and_taken_where_that_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "BTC-USDT.csv"
    file.write_text("\n".join([NAMES, *rows([0, 1]), *rows([2], price=99_999.0)]) + "\n")
    found = Watched(tmp_path).settled()
    assert (found.bars, [fault.code for fault in found.faults]) == ({}, ["suspect_data"])
    assert opens(Watched(tmp_path, accept=("price-jump",)).settled()) == [0, 1, 2]


def test_a_folder_that_is_not_there_is_told_once_and_looked_for_again(tmp_path: Path) -> None:
    folder = tmp_path / "drop"
    watched = Watched(folder)
    assert "No such file or directory" in str(watched.poll().faults[0])
    assert watched.poll().faults == ()
    folder.mkdir()
    drop(folder, "BTC-USDT.csv", range(2))
    assert opens(watched.settled()) == [0, 1]


def test_hours_without_trade_are_no_bars_whichever_file_they_stand_in(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    drop(tmp_path, "BTC-USDT-1.csv", range(2))
    watched.settled()
    flat = [f"{START + minute * MINUTE},100,100,100,100,0" for minute in (2, 3)]
    (tmp_path / "BTC-USDT-2.csv").write_text("\n".join([NAMES, *flat]) + "\n")
    found = watched.settled()
    assert (opens(found), found.until) == ([], {BTC: START + 4 * MINUTE})


def test_a_feed_of_no_symbols_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedRefused, match="no symbols"):
        Folder(tmp_path, {})
