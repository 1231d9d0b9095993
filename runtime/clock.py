"""Whose clock counts when a person asks for something."""

from sqlalchemy import Connection, func, select, text

from ringfence.markets.instruments import instrument_key
from ringfence.vaults.errors import TimeRefused
from ringfence.vaults.tables import LATEST, bar, bar_series
from ringfence.vaults.vault import Vault

__all__ = ["FOLLOWS", "given_at", "server_clock"]

FOLLOWS = 7 * 86_400_000
"""A vault whose recording ends no longer than this (ms) before the caller's clock lives in the present."""


def given_at(connection: Connection, vault: Vault, ts: int) -> int:
    """When an order counts as given (UTC ms), of one that comes at `ts` by the caller's clock.

    A vault that lives in the present takes the later of that clock and its own, so that nobody is priced by a slot that
    was over when he asked, stepped or not. One that lives through history, whose recording ends long before, knows no
    clock but its own. Refused: TimeRefused, for a time before the vault's opening or beyond any sane clock.
    """
    if not vault.opened <= ts <= LATEST:
        raise TimeRefused(vault.name, ts, vault.opened, LATEST)
    follows = ts - max(vault.clock, _recorded_up_to(connection, vault)) <= FOLLOWS
    return max(ts, vault.clock) if follows else vault.clock


def _recorded_up_to(connection: Connection, vault: Vault) -> int:
    """Close (UTC ms) of the last recorded bar of what the vault trades; 0 for none."""
    keys = [instrument_key(stated.symbol) for stated in vault.terms.positions.values()]
    last = select(func.max(bar.c.ts)).where(bar.c.instrument == bar_series.c.instrument).scalar_subquery()
    found = connection.execute(select(bar_series.c.timeframe, last).where(bar_series.c.instrument.in_(keys)))
    return max((ts + timeframe for timeframe, ts in found if ts is not None), default=0)


def server_clock(connection: Connection) -> int | None:
    """What time it is at the database's server, UTC ms; None for a file, which has no clock but the reader's."""
    if connection.dialect.name == "sqlite":
        return None
    asked = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
    return int(connection.execute(asked).scalar_one())
