"""One holder's line in a report."""

from dataclasses import dataclass

__all__ = ["StatementRow"]


@dataclass(frozen=True, slots=True)
class StatementRow:
    """What one holder put into a vault, took out, and holds. Money in minor units; shares have three decimals more."""

    vault: str
    holder: str
    deposited: int
    redeemed: int
    shares: int
    value: int
    """What the shares would fetch at the last NAV per share."""
    value_worst: int
    """The shares' part of the wall: what they cannot fall below."""
    decimals: int
