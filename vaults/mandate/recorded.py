"""The instruments that a mandate records: those whose terms are not the shipped ones.

A vault lives by the table that it was opened with, wherever it is stepped or lived again, so that a user's table goes
into the mandate's canonical form and stands with it in the database and in the journal. Shipped tables never change,
so that a mandate that trades them alone records nothing, and its fingerprint is what it was before tables were a
user's own.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from ringfence.words.units import shown

if TYPE_CHECKING:  # what knows instruments loads numpy, and is loaded where one is asked for
    from ringfence.markets.instruments import Instrument
    from ringfence.vaults.mandate.terms import Mandate

__all__ = ["Recorded", "instruments_of", "not_shipped"]


def _read(value: Any) -> tuple[Any, ...]:
    if value in ((), []):
        return ()
    from ringfence.markets.errors import InvalidInstrument
    from ringfence.markets.instruments import Instrument, instrument_from

    try:
        found = [one if isinstance(one, Instrument) else instrument_from(one) for one in value]
    except InvalidInstrument as refused:
        reason = str(refused)
    except (KeyError, TypeError, ValueError):
        reason = f"{shown(value)} is no list of instruments"
    else:
        return tuple(sorted(found, key=lambda one: one.key))
    raise PydanticCustomError("instruments", "{message}", {"message": reason})


def _written(value: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [one.record() for one in value]


Recorded = Annotated[
    SkipJsonSchema[tuple[Any, ...]],
    BeforeValidator(_read),
    PlainSerializer(_written),
    Field(default=(), exclude_if=lambda value: not value),
]
"""Instruments in order of their keys; nothing in a dump where there are none."""


def not_shipped(traded: "Mapping[str, Instrument]") -> "tuple[Instrument, ...]":
    """Those of a mandate's instruments that it has to record."""
    from ringfence.markets.tables import shipped

    return tuple(one for one in dict.fromkeys(traded.values()) if shipped().at(one.key) != one)


def instruments_of(mandate: "Mandate") -> "dict[str, Instrument]":
    """By position, the instrument that it trades: the one that the mandate recorded, else the shipped one. Refused:
    UnknownInstrument."""
    from ringfence.markets.instruments import instrument_key
    from ringfence.markets.tables import shipped

    recorded = {one.key: one for one in mandate.instruments}
    return {
        name: recorded.get(instrument_key(position.symbol)) or shipped().find(position.symbol)
        for name, position in mandate.positions.items()
    }
