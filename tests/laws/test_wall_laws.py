"""The wall's laws over ten thousand random paths with jumps of up to 60 % a bar, at every bar, with slack 0.

The check looks at nothing but balances, marks and shares, in unbounded integers. That it can fail is shown on kernels
that were broken on purpose.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from ringfence.markets.simulator import simulate
from ringfence.risk.arithmetic import product_down, product_up
from ringfence.risk.book import Book, Rows
from ringfence.risk.edges import OF_POSITIONS, AccountKind, Edge
from ringfence.risk.events import Kind
from ringfence.risk.tape import rewind

ROOT = Path(__file__).resolve().parents[2]


def _worlds() -> Any:
    """`tests.reference.worlds` of the tree that this file lies in, also where that is a broken copy."""
    spec = importlib.util.spec_from_file_location("wall_worlds", ROOT / "tests/reference/worlds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


worlds = _worlds()
SLOW = bool(numba.config.DISABLE_JIT)
ONE, MILLION, VIRTUAL = 2**50, 10**6, 1000
BATCHES, PATHS, BARS = (2, 60, 40) if SLOW else (10, 1_000, 80)
RESERVE_MOVES = {int(edge) for edge in Edge if edge.debit is AccountKind.reserve or edge.credit is AccountKind.reserve}


def as_ints(column: Any) -> Any:
    return np.asarray(column).astype(object)


def net_assets(book: Book, listing: Rows, bars: Rows) -> Any:
    """(V,) of Python ints: cash and what stands in the positions at the bar's close, none below zero."""
    held = book.positions
    mark, size = bars.mark_close[held.symbol], np.abs(held.quantity) * listing.unit[held.symbol]
    gained = np.where(held.quantity > 0, product_down(size, mark) - held.cost, held.cost - product_up(size, mark))
    gained = np.where(size == 0, 0, gained)  # a flat position has no price to be worth anything at, nor a cost
    equity = np.maximum(0, held.margin + gained)
    each = np.add.reduceat(equity.astype(object), book.vaults["first"])
    return as_ints(book.vaults.reserve) + as_ints(book.vaults.cushion) + each


def check_walls(book: Book, keep: Any, marks_before: Any, listing: Rows, bars: Rows, rebased: Any = False) -> Any:
    """W1 and W3 in integers, and L1, after one bar; returns the marks. `rebased` (V,): whose mark may have fallen. More
    than five arguments because the law is about a book, what it may do and what it was."""
    vaults, shares = book.vaults, as_ints(book.vaults.shares)
    marks, reserve = as_ints(vaults.high_water_mark), as_ints(vaults.reserve)
    floor = keep * marks * shares
    assert np.all(reserve * MILLION * ONE >= floor), "W1: the reserve is below the wall"
    priced = np.where(shares > 0, keep * marks * (shares + VIRTUAL), 0)
    assert np.all((reserve + 1) * MILLION * ONE >= priced), "W1: the reserve does not bear the price of the wall"
    assert np.all(net_assets(book, listing, bars) * MILLION * ONE >= floor), "W3: NAV is below the wall"
    assert np.all(as_ints(vaults.nav_low) * MILLION * ONE >= floor), "W3: NAV was below the wall inside a bar"
    assert np.all((marks >= marks_before) | rebased), "the mark fell"
    own = [vaults.reserve, vaults.cushion, vaults.entering, vaults.costs]
    assert min(int(column.min()) for column in [*own, book.positions.margin]) >= 0, "L1: an account is overdrawn"
    total = np.add.reduceat(as_ints(book.positions.margin), vaults["first"])
    for kind in AccountKind:
        if kind not in OF_POSITIONS:
            total = total + as_ints(vaults[kind.value])
    assert np.all(total == 0), "L1: the accounts do not sum to zero"
    return marks


def check_tape(transfers: Rows) -> None:
    """W2: in the step the reserve only grows by a strike and only falls by a rebase."""
    moved = set(transfers.edge.tolist()) & RESERVE_MOVES
    assert moved <= {int(Edge.ratchet), int(Edge.rebase)}, "W2: the reserve was touched"
    assert transfers.amount.min(initial=1) > 0, "L1: a transfer of nothing or less"


def check_reserves(before: Any, book: Book, transfers: Rows) -> None:
    """W2 on the balances: no reserve changes by anything but what the tape says of strikes and rebases."""
    moved = np.zeros(len(book.vaults), object)
    for edge, sign in ((Edge.ratchet, 1), (Edge.rebase, -1)):
        found = transfers[transfers.edge == int(edge)]
        np.add.at(moved, found.vault, sign * found.amount.astype(object))
    assert np.all(as_ints(book.vaults.reserve) == before + moved), "W2: a reserve moved that no strike or rebase moved"


def check_rebases(announced: dict[int, int], events: Rows, transfers: Rows, notice: Any) -> Any:
    """W3: (V,) which vaults were rebased in this bar, each after its notice; `announced`: since when by vault."""
    rebased = np.zeros(len(notice), np.bool_)
    for ts, vault, kind in zip(events.ts.tolist(), events.vault.tolist(), events.kind.tolist(), strict=True):
        if kind == Kind.rebased:
            assert vault in announced, "a rebase that nobody was told of"
            assert ts >= announced.pop(vault) + notice[vault], "a rebase before its notice was over"
            rebased[vault] = True
        elif kind == Kind.unlocked:
            announced.pop(vault, None)
        elif kind == Kind.rebase_announced:
            announced[vault] = ts
    freed = transfers[transfers.edge == int(Edge.rebase)]
    assert np.all(rebased[freed.vault]), "W2: the reserve was freed without a rebase"
    return rebased


def live_through(seed: int, vaults: int, bars: int, rough: Any) -> dict[str, int]:
    """Lives `vaults` vaults, each on paths of its own, bar by bar, checking after each; returns what happened."""
    one = worlds.world(
        np.random.default_rng(seed),
        vaults=vaults,
        each=2,
        symbols=2 * vaults,
        bars=bars,
        every=2,
        rough=rough,
        nav_max=1e13,
    )
    book, keep = one.book, as_ints(one.limits.vaults.keep)
    record = one.record(60 * len(book.positions), 40 * len(book.positions), detailed=False)
    tape, announced, notice = record.tape, dict[int, int](), one.limits.vaults.rebase_notice
    marks, told = as_ints(book.vaults.high_water_mark), dict.fromkeys(("transfers", *(kind.name for kind in Kind)), 0)
    for bar in range(bars):
        reserve = as_ints(book.vaults.reserve)
        assert simulate(book, one.terms, one.walk, record, (bar, bar + 1)) == bar + 1
        transfers, events = tape.transfers[: tape.used[0]], tape.events[: tape.used[1]]
        rebased = check_rebases(announced, events, transfers, notice)
        marks = check_walls(book, keep, marks, one.listing, one.bars[bar], rebased)
        check_tape(transfers)
        check_reserves(reserve, book, transfers)
        for kind in Kind:
            told[kind.name] += int(np.count_nonzero(events.kind == int(kind)))
        told["transfers"] += len(transfers)
        rewind(tape)
    return told | {"lost": int(np.count_nonzero(book.vaults.shortfall))}


def all_batches() -> dict[str, int]:
    """Every batch with another roughness, from quiet to one jump in five bars."""
    told: dict[str, int] = {}
    for batch in range(BATCHES):
        rough = worlds.Rough(
            often=(0.02, 0.05, 0.2)[batch % 3], drift=(0.002, 0.01)[batch % 2], cost=0.01, funding=0.05, missing=0.03,
            calm=0.3,
        )  # fmt: skip
        for kind, count in live_through(1000 + batch, PATHS, BARS, rough).items():
            told[kind] = told.get(kind, 0) + count
    return told


def test_w1_w2_w3_hold_at_every_bar_of_ten_thousand_paths_with_jumps_of_sixty_per_cent() -> None:
    told = all_batches()
    # paths on which little happens would prove little
    floor = 5 if SLOW else 5_000
    assert told["resize"] > floor
    assert told["liquidation"] > floor // 5
    assert told["margin_call"] > 0
    assert told["funding"] > floor // 5
    assert told["refusal"] > 0
    assert told["roll"] > 0
    assert told["rebased"] > floor // 100
    assert told["lost"] > 0, "no gap went past a margin"


@pytest.mark.parametrize("cap", [10_000, 500_000, 950_000])
def test_w3_a_vault_whose_every_gap_goes_against_it_keeps_its_wall(cap: int) -> None:
    """Not random: each bar gaps 60 % against the side that is held, at a leverage of 30."""
    one = worlds.world(np.random.default_rng(cap), vaults=1, each=1, symbols=1, bars=40, every=1,
                       rough=worlds.Rough(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.01, 0.0))  # fmt: skip
    one.limits.vaults.keep, one.limits.vaults.at_wall = MILLION - cap, 0
    worlds.fund(one.book, one.limits, np.array([10**12]))
    allowed = one.limits.positions
    one.listing.tiers, one.listing.notional_min = 1, 0
    one.listing[0].tier[0].leverage_max, one.listing[0].tier[0].rate = 100.0, 4_000
    allowed.share, allowed.leverage_max, allowed.volatility_max = 200_000, 30.0, 1e9
    allowed.distance_sigmas = allowed.distance_slippage = 0.0
    allowed.half_spread = allowed.slippage = 1e-4
    allowed.taker_fee, allowed.call_at, allowed.call_to = 500, 1_500_000, 3_000_000
    one.limits.vaults.gross_leverage_max = 1e9
    one.proposals.leverage, one.proposals.volatility = 100.0, 0.5
    book, record = one.book, one.record(1_000, 1_000)
    tape = record.tape
    marks, keep = as_ints(book.vaults.high_water_mark), as_ints(one.limits.vaults.keep)
    price, liquidated = float(one.bars.close[0, 0]), 0
    for bar in range(40):
        price *= 0.4 if book.positions[0].quantity > 0 else 1.6 if book.positions[0].quantity < 0 else 1.0
        for name in ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close"):
            one.bars[name][bar] = price
        one.proposals.leverage[bar] = 100.0 if bar % 3 else -100.0
        simulate(book, one.terms, one.walk, record, (bar, bar + 1))
        marks = check_walls(book, keep, marks, one.listing, one.bars[bar])
        liquidated += int(np.count_nonzero(tape.events[: tape.used[1]].kind == int(Kind.liquidation)))
        rewind(tape)
    assert liquidated > 2


BROKEN = {
    "margin is posted from the reserve": (
        "risk/wall.py", "    vault.cushion -= posted\n", "    vault.reserve -= posted\n",
    ),
    "margin is posted beyond the cushion": (
        "risk/wall.py", "max(0, min(wanted, vault.cushion))", "max(0, wanted)",
    ),
    "a strike asks for more than the cash": (
        "markets/trades.py",
        "            nav = _bring_down(hall, limit, tape, nav)\n"
        "        struck = _lacking(vault, limit.keep, nav) <= 0 and not _waits(hall)\n",
        "            struck = True\n",
    ),
    "a strike fills the reserve with nothing": ("risk/wall.py", "        vault.cushion -= lacking\n", ""),
    "a rounding goes against the wall": (
        "risk/wall.py", "    lacking = vault.wall - vault.reserve\n", "    lacking = vault.wall - vault.reserve - 1\n",
    ),
    "a loss is not capped at the margin": (
        "risk/wall.py", "    paid = min(loss, position.margin)\n", "    paid = loss\n",
    ),
    "a fee is not capped at the margin": (
        "risk/wall.py", "    paid = min(due, position.margin)\n", "    paid = due\n",
    ),
    "the shortfall is the reserve's": ("risk/wall.py", "    vault.shortfall -= rest\n", "    vault.reserve -= rest\n"),
    "settlement books a loss beyond the margin": (
        "risk/settlement.py", "        shortfall = pay_venue(vault, position, tape, -gain)\n",
        "        receive_venue(vault, position, tape, gain)\n",
    ),
    "settlement takes a fee around the wall": (
        "risk/settlement.py", "    paid = charge_fee(seat.vault, position, tape, Edge.fee, report.fee)\n",
        "    paid = report.fee\n    position.margin -= paid\n",
    ),
    "the mark rises and the wall does not": (
        "risk/wall.py", "    vault.high_water_mark, vault.wall = raised(vault, keep, nav)\n",
        "    vault.high_water_mark = raised(vault, keep, nav)[0]\n",
    ),
    "a rebase frees more than stands beyond its wall": (
        "risk/wall.py", "    freed = max(0, vault.reserve - vault.wall)\n", "    freed = vault.reserve\n",
    ),
    "a rebase comes without a word": (
        "markets/trades.py", "    if 0 <= vault.rebase_at <= now:\n", "    if vault.locked_since >= 0:\n",
    ),
    "a rebase does not wait for its notice": (
        "markets/trades.py", "        vault.rebase_at = now + limit.rebase_notice\n", "        vault.rebase_at = now\n",
    ),
}  # fmt: skip

CHECK = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("laws", sys.argv[1])
laws = importlib.util.module_from_spec(spec)
spec.loader.exec_module(laws)
import ringfence.risk.wall as wall
assert wall.__file__.startswith(sys.argv[2]), wall.__file__
rough = laws.worlds.Rough(often=0.2, drift=0.03, cost=0.01, thin=0.2, calm=0.7)
for seed in range(4):
    laws.live_through(seed, 15, 30, rough)
print("the laws hold")
"""


def lived_in(tree: Path) -> subprocess.CompletedProcess[str]:
    """What the checks above say of the kernel in `tree`, in a process of its own with the JIT off."""
    laws = tree / "tests/laws" / Path(__file__).name
    environment = os.environ | {"PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-c", CHECK, str(laws), str(tree)]
    return subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the compiled step is made of, and of this file."""
    (tmp_path / "ringfence").mkdir()
    # The package's own __init__ refuses a copy that lacks rooms, as this one does.
    (tmp_path / "ringfence" / "__init__.py").touch()
    for room in ("words", "risk", "markets"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
        (tmp_path / "ringfence" / room).symlink_to(Path("..") / room)
    for name in ("tests/reference/worlds.py", f"tests/laws/{Path(__file__).name}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_the_checks_pass_on_an_unbroken_copy(tree: Path) -> None:
    found = lived_in(tree)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "the laws hold\n"


@pytest.mark.parametrize("fault", BROKEN)
def test_the_checks_catch_a_kernel_in_which(fault: str, tree: Path) -> None:
    name, right, wrong = BROKEN[fault]
    path = tree / name
    text = path.read_text()
    assert text.count(right) >= 1, f"{name} no longer reads {right!r}"
    path.write_text(text.replace(right, wrong, 1))
    found = lived_in(tree)
    assert found.returncode != 0
    assert "AssertionError: " in found.stderr, found.stderr
