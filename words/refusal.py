"""The base of every refusal."""

__all__ = ["RingfenceError"]


class RingfenceError(Exception):
    """The request is refused whole and nothing has changed; the message names the thing, the value and the way out."""

    transient = False
    """Whether the same request may succeed later without anybody changing anything."""
