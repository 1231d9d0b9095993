"""What was looked at, and what was found: one line of the health page and of the doctor's table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ringfence.faces.ways_out import way_out
from ringfence.words.addresses import without_passwords
from ringfence.words.refusal import RingfenceError

__all__ = ["Check", "checks_document", "failed", "is_well"]


@dataclass(frozen=True)
class Check:
    """One look at one part."""

    part: str
    tried: str
    found: str
    well: bool = True
    way_out: str = ""
    """What to do; nothing where all is well."""


def failed(part: str, tried: str, failure: BaseException, way: str = "") -> Check:
    """What could not be learnt, whatever the reason: never a good value. `way`: what to do where the refusal knows no
    way out."""
    if isinstance(failure, RingfenceError):
        return Check(part, tried, without_passwords(str(failure)), False, way_out(failure) or way)
    found = f"{type(failure).__name__}: {failure}".replace("\n", " ")[:300]
    return Check(part, tried, without_passwords(found), False, way)


def is_well(checks: Sequence[Check]) -> bool:
    """Whether nothing is wrong. What was not looked at is not well."""
    return bool(checks) and all(check.well for check in checks)


def checks_document(checks: Sequence[Check]) -> dict[str, Any]:
    """All of them as a JSON document has them."""
    return {"well": is_well(checks), "checks": [asdict(check) for check in checks]}
