"""Decisions: exact arithmetic, margin formulas, volatility, limiters and the wall; pure and compiled."""
