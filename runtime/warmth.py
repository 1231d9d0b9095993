"""The kernel loaded before it is needed: on its first day a machine compiles it for a minute, and no lock may wait for
that."""

from ringfence.markets.simulator import decide
from ringfence.risk.book import (
    BAR,
    INSTRUMENT,
    POSITION_LIMITS,
    PROPOSAL,
    VAULT_LIMITS,
    Limits,
    Terms,
    empty_book,
    rows,
)

__all__ = ["warm"]


def warm() -> None:
    """Compile the loop, or load what is compiled."""
    book = empty_book([0])
    listing = rows(INSTRUMENT, 1, tiers=1, unit=1, scale=1)
    terms = Terms(Limits(rows(VAULT_LIMITS, 1), rows(POSITION_LIMITS, 1)), listing)
    decide(book, terms, rows(BAR, 1), rows(PROPOSAL, 1))
