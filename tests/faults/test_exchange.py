"""Vaults at exchanges with books of their own, and workers that die at any moment: nothing is ordered twice, no intent
is lost, and the ledger is that of living undisturbed."""

import os
import signal
from pathlib import Path

from ringfence.markets.exchange.books import ExchangeBooks
from ringfence.runtime.database import unit_of_work
from ringfence.runtime.desk import Desk
from ringfence.runtime.paper_accounts import PaperAccounts
from ringfence.runtime.verification import verify
from ringfence.vaults import journal
from ringfence.vaults.entries import Lived
from tests.faults.fleet import NAMES, Broker, Seen, assert_same, opened, part_lived, request, ring_until, working
from tests.faults.fleet import undisturbed as lived_undisturbed

KILLS = (0.3, 0.65)
"""Parts of the history after which every child of the worker is killed."""


def given(folder: Path, name: str) -> dict[str, tuple[int, int]]:
    """(lots, lots that filled) of every order that a vault's exchange knows, by name."""
    books = ExchangeBooks(folder / f"{name}.db")
    found = books.orders(name, open_only=False)
    books.close()
    assert len({order.client_id for order in found}) == len(found)
    return {order.client_id: (order.lots, order.filled) for order in found}


def test_children_killed_while_orders_are_on_their_way_order_nothing_twice_and_lose_nothing(
    database_url: str, broker: Broker, tmp_path: Path, seen: list[Seen]
) -> None:
    calm, folder = PaperAccounts(tmp_path / "calm"), tmp_path / "exchanges"
    wanted = lived_undisturbed(f"sqlite:///{tmp_path / 'calm.db'}", calm)
    with (
        opened(database_url, PaperAccounts(folder)) as engine,
        working(database_url, broker.url, tmp_path / "log", "claim:0", exchange=folder) as worker,
    ):
        for part in KILLS:
            ring_until(engine, broker.url, part_lived(engine, part))
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
        request(engine)
        seen.append(ring_until(engine, broker.url, part_lived(engine, 1)))
        assert worker.process.poll() is None
        worker.kill()
        assert_same(engine, wanted)
        desk = Desk(engine, accounts=PaperAccounts(folder))
        for number, name in enumerate(NAMES, 1):
            assert desk.reconcile(name) == 0
            assert given(folder, name) == given(calm.folder, name)
            with unit_of_work(engine, writes=False) as connection:
                lives = [row.entry for row in journal.rows(connection, number) if isinstance(row.entry, Lived)]
            booked = {act.name: (act.lots, act.done) for life in lives for act in life.dealt or () if act.lots}
            assert {name: told for name, told in booked.items() if told[1]} == {
                name: told for name, told in given(folder, name).items() if told[1]
            }
        assert all(verdict.breaches == () for verdict in verify(engine))
