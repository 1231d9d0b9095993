"""What may reach a screen: text. A title, a file's name or a cell can hold what a terminal takes for orders."""

import json
from typing import Any

__all__ = ["json_text", "printable"]


def printable(text: str) -> str:
    """The text with every character that is none (escapes, controls, marks that turn the reading around) written out.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _written_out(c) for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def json_text(document: Any) -> str:
    """One JSON document, keys sorted, in characters that can be printed; the others in JSON's own escapes.

    Refused: ValueError (NaN, infinity).
    """
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
