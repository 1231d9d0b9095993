"""The compiled loop and its slow twin through the same world, slot by slot, with the same flows between the slots."""

from collections.abc import Sequence
from typing import Any

from ringfence.markets.simulator import simulate
from ringfence.risk.edges import OF_POSITIONS, AccountKind
from ringfence.risk.tape import rewind
from tests.reference.slow_book import Moved, Told, Vault
from tests.reference.slow_flows import ask, copy_to, settle
from tests.reference.slow_step import PositionState, SlowBook, VaultState
from tests.reference.worlds import World, copied

__all__ = ["assert_equals_the_twin"]


def named(table: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of a table of records as tuples of the named columns."""
    return list(zip(*(table[name].tolist() for name in names), strict=True))


def _compare_vault(book: Any, vault: Vault) -> None:
    row = book.vaults[vault.index]
    found = {kind: int(row[kind.value]) for kind in AccountKind if kind not in OF_POSITIONS}
    found |= {(AccountKind.margin, one.index): int(book.positions[one.index].margin) for one in vault.positions}
    assert found == vault.accounts
    assert sum(found.values()) == 0
    assert (int(row.high_water_mark), int(row.shares), int(row.waiting), int(row.locked_since), int(row.rebase_at)) == (
        vault.mark, vault.shares, vault.waiting, vault.locked_since, vault.rebase_at,
    )  # fmt: skip
    assert (float(row.price_low), float(row.distance_low)) == (vault.price_low, vault.distance_low)
    if vault.shares:
        assert int(row.nav_low) == vault.nav_low
    for held in vault.positions:
        position = book.positions[held.index]
        assert (int(position.quantity), int(position.cost), int(position.refused)) == (
            held.quantity, held.cost, held.refused,
        )  # fmt: skip


def assert_equals_the_twin(one: World, tape_rows: int = 20_000) -> SlowBook:
    """Every event, transfer, balance, mark and recorded figure is the twin's, after each slot; returns the twin."""
    twin, book = SlowBook(one.book, one.limits, one.listing), copied(one.book)
    tape, series = record = one.record(tape_rows, tape_rows)
    for k, span in enumerate(one.spans):
        for vault in twin.vaults:
            vault.bar = span[0]
            if k < len(one.flows):
                ask(vault, *(int(part) for part in one.flows[k, vault.index]))
            copy_to(vault, book.vaults[vault.index])
        entered = [vault.entering for vault in twin.vaults]
        known = [(len(vault.transfers), len(vault.events)) for vault in twin.vaults]
        made = twin.live(one.walk, span)
        transfers, events, bar = [], [], span[0]
        while bar < span[1]:
            bar = simulate(book, one.terms, one.walk, record, (bar, span[1]))
            transfers += named(tape.transfers[: tape.used[0]], Moved._fields)
            events += named(tape.events[: tape.used[1]], Told._fields)
            rewind(tape)
        for vault, (moved, told) in zip(twin.vaults, known, strict=True):
            assert [row for row in events if row[1] == vault.index] == vault.events[told:]
            assert [row for row in transfers if row[1] == vault.index] == vault.transfers[moved:]
            _compare_vault(book, vault)
        for decisions in made:
            assert named(series.vaults[k], VaultState._fields) == [found.vault for found in decisions]
            assert named(series.positions[k], PositionState._fields) == [
                detail for found in decisions for detail in found.positions
            ]
            for vault, found in zip(twin.vaults, decisions, strict=True):
                settle(vault, found.vault, entered[vault.index])
    return twin
