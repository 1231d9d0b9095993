"""Times and lengths of time as texts: UTC, and the units that mandates are written in."""

from datetime import UTC, datetime, timedelta

__all__ = ["EPOCH", "MILLISECONDS", "format_duration", "stamp", "utc"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
"""What a unit of a duration is worth."""


def utc(ts: int) -> str:
    """A timestamp in UTC epoch milliseconds as `2020-03-12T00:00:00Z`; the bare number where no calendar reaches."""
    try:
        moment = EPOCH + timedelta(milliseconds=int(ts))
    except OverflowError:
        return f"ts {int(ts)}"
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{int(ts) % 1000:03d}Z" if int(ts) % 1000 else f"{text}Z"


def stamp(ts: int) -> str:
    """A timestamp in UTC epoch milliseconds as people read it, no finer than it has to be: `2020-03-12 08:00`."""
    moment = EPOCH + timedelta(milliseconds=int(ts))
    if moment.microsecond:
        return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return moment.strftime("%Y-%m-%d %H:%M:%S" if moment.second else "%Y-%m-%d %H:%M")


def format_duration(milliseconds: int) -> str:
    """Milliseconds as text, largest unit first, days being the largest: 129600000 -> `1d12h`."""
    text, rest = "", milliseconds
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, MILLISECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text + (f"{rest}ms" if rest or not text else "")
