"""Mandates: the rules of a vault, read from YAML, checked whole, and turned into limits."""
