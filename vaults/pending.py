"""What a position waits for: an order of which not all is known yet, or somebody who says what is wrong with it."""

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Pending", "read_pending"]


class Pending(BaseModel):
    """While a position has one, nothing more is asked of its venue for it, and no NAV is struck.

    An order that may still fill, as far as it has been booked; or, where `why` says something, a position that was
    stopped until a person has looked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    order: str = ""
    """The name that it was given under; "" where it is none."""
    kind: str = ""
    """Of the event that its fill is."""
    lots: int = 0
    """Ordered, signed."""
    filled: int = 0
    """Booked of them, signed."""
    cost: int = 0
    """What these were bought or sold for, minor units."""
    fee: int = 0
    price: float = 0.0
    """Their average."""
    why: str = ""

    @property
    def is_halt(self) -> bool:
        """Whether a person has to look."""
        return self.why != ""

    def text(self) -> str:
        """As its row has it."""
        return self.model_dump_json(exclude_defaults=True)


def read_pending(text: str) -> Pending:
    """From its row; one that cannot be read is a position that is stopped."""
    try:
        return Pending.model_validate_json(text)
    except ValidationError:
        return Pending(why="what it waits for cannot be read")
