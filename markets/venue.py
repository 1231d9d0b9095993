"""The venue: what an exchange must answer to, whichever it is. Five verbs, and two words between them.

A venue takes an ORDER and gives REPORTs, of its own accord too (funding, liquidation). It knows positions, prices and
its own charges, and nothing of who trades or why. A second venue is a second class that speaks these verbs; the paper
exchange is the first.
"""

from collections.abc import Sequence
from typing import Protocol

from ringfence.risk.book import Order, Report, ReportKind, Rows

__all__ = ["Order", "Report", "ReportKind", "Venue"]


class Venue(Protocol):
    """Isolated margin at one exchange."""

    def place(self, order: Order) -> int:
        """Give an order; returns the number by which the venue knows it."""

    def cancel(self, number: int) -> bool:
        """Take an order back; whether it was still open."""

    def orders(self) -> Sequence[Order]:
        """The open orders, in the order in which they were given."""

    def positions(self) -> Rows:
        """(P,) of POSITION, as the venue holds them."""

    def reports(self) -> Sequence[Report]:
        """What has happened since the last call. Further reports may depend on how these are settled, so they come in
        portions; none: nothing more has happened."""
