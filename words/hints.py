"""Hints: what somebody probably meant by a name that does not exist."""

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "near_or_known"]

_LISTED = 12
"""No list of known names in a message is longer."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the closest of the known names, else nothing."""
    by_folded = {_folded(candidate): candidate for candidate in known}
    close = difflib.get_close_matches(_folded(name), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def near_or_known(name: str, known: Iterable[str]) -> str:
    """The closest of the known names as a question, else the first of them: the end of a message about a name."""
    names = list(known)
    near = did_you_mean(name, names).removeprefix("; ")
    if near:
        return near
    listed = ", ".join(names[:_LISTED]) or "none yet"
    return f"known: {listed}" + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _folded(name: str) -> str:
    """Exchanges write one market as BTCUSDT, BTC-USDT and BTC/USDT:USDT, and here a venue may stand before it; what is
    compared are the letters of the pair, before the colon."""
    venue, colon, symbol = name.partition(":")
    pair = symbol if colon and "/" in symbol and "/" not in venue else name
    return pair.partition(":")[0].replace("/", "").replace("-", "").replace("_", "").casefold()
