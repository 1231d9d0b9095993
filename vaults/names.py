"""Names that people give: whether a new holder's is a slip of the pen, and which keys a request may come under."""

import re
from collections.abc import Iterable

from ringfence.vaults.errors import KeyRefused

__all__ = ["KEY_LONGEST", "RESERVED", "checked_key", "near_holder"]

KEY_LONGEST = 200
RESERVED = ("replay:", "once:")
"""Keys that begin so are made by the program itself."""


def checked_key(key: str) -> str:
    """The key, if a request from outside may come under it; else KeyRefused."""
    if not key.strip():
        raise KeyRefused(key, "is blank; leave it out, or name this request by it")
    if len(key) > KEY_LONGEST:
        raise KeyRefused(f"{key[:20]}…", f"has {len(key)} characters; expected at most {KEY_LONGEST}")
    if not key.isprintable() or not key.isascii():
        raise KeyRefused(key, "holds characters that cannot be typed again; expected printable ASCII")
    for reserved in RESERVED:
        if key.casefold().startswith(reserved):
            raise KeyRefused(key, f"keys that begin with {reserved} are the program's own; choose another")
    return key


def near_holder(name: str, known: Iterable[str]) -> str | None:
    """The known holder that somebody who typed `name` may have meant; None for a name that is near no other's.

    Near are names that differ in case or separators alone, and those that a swap, a letter more, less or changed makes
    of each other: one such slip in names of three to six letters, two in longer ones.
    """
    folded = _plain(name)
    slips = 0 if len(folded) < 3 else 1 if len(folded) <= 6 else 2
    near = [other for other in known if other != name and _is_within(folded, _plain(other), slips)]
    return min(near, key=lambda other: (_plain(other) != folded, other), default=None)


def _plain(name: str) -> str:
    return re.sub(r"[._@-]", "", name).casefold()


def _is_within(one: str, other: str, slips: int) -> bool:
    """Whether so many slips turn one text into the other: the restricted Damerau-Levenshtein distance."""
    if abs(len(one) - len(other)) > slips:
        return False
    before, last = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, against in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1] <= slips
