"""Whether an installation is well: what its monitor knows, judged part by part.

Well is only what was seen to be well a moment ago: the database answers and has this version's schema, the broker
answers, each part that belongs to the installation has shown a sign of life, nothing that is due waits for too long, no
series is late, and no vault is left aside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ringfence.faces.checks import Check, failed
from ringfence.runtime.monitor import EVERY, Answer, State
from ringfence.runtime.observation import Seen
from ringfence.runtime.signs import CHILD, Sign

__all__ = ["Expected", "health"]

_ANSWERS = 5 * EVERY
"""Seconds after which a look that has not ended counts as none."""


@dataclass(frozen=True)
class Expected:
    """What belongs to an installation."""

    parts: tuple[str, ...] = ()
    """Each of which shows signs of life."""
    patience: float = 60.0
    """Seconds for which a part may show no sign, a slot may be due and a bar may be late."""


def health(state: State, expected: Expected) -> tuple[Check, ...]:
    """Every check, those of the database first."""
    found = [*_database(state.database, expected.patience), _broker(state)]
    return (*found, *_parts(state.signs, expected))


def _silent(answer: Answer[Any]) -> str:
    """Why an answer is worth nothing, in words; nothing where it is."""
    if answer.age > _ANSWERS:
        return f"has not answered for {answer.age:.0f} s"
    return "" if answer.value is not None or answer.failure is not None else "was not heard of yet"


def _database(answer: Answer[Seen], patience: float) -> Iterator[Check]:
    tried = "its vaults, series and duties were read"
    if silent := _silent(answer):
        yield Check("database", tried, silent, False, "see whether it runs, and what holds it up")
    elif answer.failure is not None:
        yield failed("database", tried, answer.failure)
    elif answer.value is not None:
        seen = answer.value
        yield Check("database", tried, f"{len(seen.vaults)} vaults, {len(seen.series)} series")
        yield _due(seen, patience)
        yield from _left_aside(seen)
        yield from _series(seen, patience)


def _due(seen: Seen, patience: float) -> Check:
    tried = "for how long slots have been due"
    if not seen.due:
        return Check("queue", tried, "nothing is due")
    oldest = max(seen.due, key=lambda one: one.due or 0.0)
    found = f"{len(seen.due)} vaults are due, {oldest.name} for {oldest.due or 0.0:.0f} s"
    if seen.oldest <= patience:
        return Check("queue", tried, found)
    return Check("queue", tried, found, False, "see that scheduler and workers run and what they log; or start more "
                 "workers")  # fmt: skip


def _left_aside(seen: Seen) -> Iterator[Check]:
    for one in seen.left_aside:
        told = one.failure or "its worker died each time"
        found = f"left aside after {one.attempts} attempts: {told}"
        yield Check(
            f"vault {one.vault}",
            "whether it is stepped",
            found,
            False,
            f"mend what it says, then ringfence retry {one.vault}",
        )


def _series(seen: Seen, patience: float) -> Iterator[Check]:
    for one in seen.series:
        part, tried = f"series {one.instrument}", "whether its bars come"
        if one.late is None:
            yield Check(part, tried, "nothing more is to come, or it is history")
        elif one.late <= patience:
            yield Check(part, tried, f"fed until {(one.age or 0) / 1_000:.0f} s before its feed's clock")
        else:
            found = f"a bar has been over for {one.late:.0f} s and is not there"
            yield Check(
                part, tried, found, False, "see that the feed runs, what it logs, and whether its source answers"
            )


def _broker(state: State) -> Check:
    answer, tried = state.broker, "it was asked for its time"
    if silent := _silent(answer):
        return Check("broker", tried, silent, False, "see whether it runs")
    if answer.failure is not None:
        return failed("broker", tried, answer.failure)
    return Check("broker", tried, "answers")


def _parts(signs: Sequence[Sign] | None, expected: Expected) -> Iterator[Check]:
    tried = "its signs of life"
    for part in dict.fromkeys((*expected.parts, *(sign.part for sign in signs or ()))):
        shown = [sign for sign in signs or () if sign.part == part]
        if not shown:
            found = "has shown none" if signs is not None else "cannot be known: the parts share no folder"
            program = "worker" if part == CHILD else part
            yield Check(part, tried, found, False, f"see that `ringfence {program}` runs, and what it logs")
            continue
        silent = [sign for sign in shown if not sign.ended and sign.age > expected.patience]
        if not silent:
            ended = all(sign.ended for sign in shown)
            yield Check(part, tried, "has done all that it had to do" if ended else f"{len(shown)} seen")
        for sign in silent:
            found = f"process {sign.pid} has shown none for {sign.age:.0f} s"
            yield Check(part, tried, found, False, "it hangs: end that process, so that it is started again")
