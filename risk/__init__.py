"""Decisions: exact arithmetic, margin formulas, volatility, limiters and the wall; pure and compiled."""

__all__ = ["KERNEL"]

KERNEL = 2
"""Version of the decisions: a change of the kernel that moves a single decision raises it (R4)."""
