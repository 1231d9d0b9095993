"""Limiters that the terms alone show to bind never or always: what a person who wrote them would want to know.

All from the mandate, its instruments' first tier and two measures of volatility: the mandate's floor, below which
realised volatility never counts, and the highest that the shipped crash of March 2020 reached. A strategy is known here
only by what it wrote: a constant leverage, or a target of volatility.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ringfence.vaults.mandate.limits import YEAR
from ringfence.vaults.mandate.terms import MILLION, Distance, Mandate, Position
from ringfence.words.units import Percentage, UnitError

if TYPE_CHECKING:
    from ringfence.markets.instruments import Instrument

__all__ = ["VOLATILITY_SEEN", "Binding", "bindings"]

VOLATILITY_SEEN = 7.2
"""A year, rounded up: the highest of bitcoin or ether in the shipped scenario (hourly bars, EWMA of 12 h)."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A limiter that binds never, or always: multiples are of the position's collateral, or of NAV for the vault's."""

    position: str | None
    limiter: str
    """The key of the mandate."""
    is_always: bool
    limit: float
    """What the limiter allows at its widest (never: at its narrowest)."""
    other: str
    """What is always tighter (never: wider) than it: a key of the mandate, or `proposal`."""
    reach: float
    """The most that the other allows or asks for (always: the least)."""
    at_volatility: float | None = None
    """The realised volatility at which the comparison is made, a year."""


def bindings(mandate: Mandate, instruments: "Mapping[str, Instrument]") -> Iterator[Binding]:
    """Every limiter of a mandate that can never bind or always will; `instruments` by position.

    Collateral of a position at a full cushion is share x loss_cap x NAV, and never more, since the wall is at least
    (1 - loss_cap) x NAV: so leverage L on it is share x loss_cap x L of the NAV.
    """
    floor, total, least = mandate.volatility.floor, 0.0, 0.0
    for name, position in mandate.positions.items():
        tier = instruments[name].tiers[0]
        rate = tier.rate / MILLION
        yield from _of_position(name, position, floor, rate)
        part = position.share / MILLION * mandate.loss_cap / MILLION
        total += part * _highest(position, floor, rate)
        constant = _constant(position)
        least += part * min(constant or 0.0, _lowest(position, rate))
    gross = mandate.limits.gross_leverage_max
    if total <= gross:
        yield Binding(None, "gross_leverage_max", False, gross, "positions", total)
    elif least > gross:
        yield Binding(None, "gross_leverage_max", True, gross, "positions", least)


def _of_position(name: str, position: Position, floor: float, rate: float) -> Iterator[Binding]:
    """Each limiter against what the others and the strategy leave of it."""
    cap, volatility = position.leverage_max, position.volatility_max
    distance = position.liquidation_distance_min
    constant, target = _constant(position), _target(position)
    asked = min(cap, constant) if constant is not None else cap
    if constant is not None and constant > cap:
        yield Binding(name, "leverage_max", True, cap, "proposal", constant)
    elif constant is not None and constant < cap:
        yield Binding(name, "leverage_max", False, cap, "proposal", constant)
    widest = min((volatility / floor if floor else math.inf, "volatility_max"),
                 (_by_distance(distance, floor, rate), "liquidation_distance_min"))  # fmt: skip
    if constant is None and widest[0] < cap:
        yield Binding(name, "leverage_max", False, cap, widest[1], widest[0], floor)
    if volatility / VOLATILITY_SEEN >= asked:
        seen = volatility / VOLATILITY_SEEN
        yield Binding(name, "volatility_max", False, seen, _of(constant, cap), asked, VOLATILITY_SEEN)
    elif (floor and volatility / floor < (constant or 0.0)) or (target is not None and target > volatility):
        yield Binding(name, "volatility_max", True, volatility / (floor or 1.0), "proposal",
                      constant or target or 0.0, floor)  # fmt: skip
    if _by_distance(distance, VOLATILITY_SEEN, rate) >= asked:
        yield Binding(name, "liquidation_distance_min", False, _by_distance(distance, VOLATILITY_SEEN, rate),
                      _of(constant, cap), asked, VOLATILITY_SEEN)  # fmt: skip
    elif constant is not None and _by_distance(distance, floor, rate) < min(constant, cap):
        yield Binding(name, "liquidation_distance_min", True, _by_distance(distance, floor, rate), "proposal",
                      asked, floor)  # fmt: skip
    called = 1.0 / (position.margin_call.at * rate) if rate else math.inf
    lowest = min(asked, _lowest(position, rate))
    if constant is not None and lowest >= called:
        yield Binding(name, "margin_call", True, called, "proposal", lowest)


def _of(constant: float | None, cap: float) -> str:
    return "proposal" if constant is not None and constant <= cap else "leverage_max"


def _by_distance(distance: Distance, volatility: float, rate: float) -> float:
    """1 / (maintenance rate + sigmas x volatility x sqrt(horizon) + slippage): the leverage that the limiter allows."""
    room = rate + distance.sigmas * volatility * math.sqrt(distance.horizon / YEAR) + distance.slippage
    return 1.0 / room if room > 0.0 else math.inf


def _highest(position: Position, floor: float, rate: float) -> float:
    """The most leverage that a position's own limiters and its strategy let through, at the floor of volatility."""
    constant = _constant(position)
    limits = (position.leverage_max, position.volatility_max / floor if floor else math.inf,
              _by_distance(position.liquidation_distance_min, floor, rate))  # fmt: skip
    return min((*limits, constant if constant is not None else math.inf))


def _lowest(position: Position, rate: float) -> float:
    """The least that its limiters leave, at the highest volatility that was seen."""
    return min(position.leverage_max, position.volatility_max / VOLATILITY_SEEN,
               _by_distance(position.liquidation_distance_min, VOLATILITY_SEEN, rate))  # fmt: skip


def _constant(position: Position) -> float | None:
    """|leverage| of a strategy that always proposes the same."""
    leverage = position.strategy.parameters.get("leverage") if position.strategy.name == "constant" else None
    return abs(float(leverage)) if isinstance(leverage, int | float) else None


def _target(position: Position) -> float | None:
    """The volatility that a strategy brings its collateral to, a fraction a year."""
    if position.strategy.name != "vol_target":
        return None
    try:
        return float(Percentage("rate", high="1000", bare_max="1000").parse(
            position.strategy.parameters.get("target_volatility")
        ))  # fmt: skip
    except UnitError:
        return None
