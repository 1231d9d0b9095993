"""A mandate told to people: its terms as YAML, as sentences, and the limiters that never bind or always do."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ringfence.markets.instruments import Instrument
from ringfence.vaults.mandate.binding import Binding, bindings
from ringfence.vaults.mandate.recorded import instruments_of
from ringfence.vaults.mandate.terms import MILLION, AtWall, Mandate, Position
from ringfence.words.numbers import format_decimal, format_percentage, format_ppm
from ringfence.words.times import format_duration

__all__ = ["as_yaml", "remarks", "sentences"]


class _Writer(yaml.SafeDumper):
    """Numbers as they were written, without quotes."""


def _text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    kind = "str"
    if re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]+)?", text, re.ASCII):
        kind = "float" if "." in text else "int"
    return writer.represent_scalar(f"tag:yaml.org,2002:{kind}", text)


_Writer.add_representer(str, _text)


def as_yaml(mandate: Mandate) -> str:
    """The whole mandate, every default written out; read as a file it has the same fingerprint."""
    form = mandate.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.dump(form, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1000)


# ---------------------------------------------------------------------------------------------------- sentences


def sentences(mandate: Mandate) -> Iterator[str]:
    """What the terms say, a sentence each, with what every multiple is a multiple of."""
    keep, cap = format_ppm(MILLION - mandate.loss_cap), format_ppm(mandate.loss_cap)
    window = format_duration(mandate.volatility.window)
    yield f"{mandate.name}: {mandate.title}, in {mandate.currency}."
    yield (
        f"The wall: a share never falls below {keep} of the highest price per share ever struck (loss_cap {cap}); so "
        f"at most {cap} of the NAV stands above it, the risk capital."
    )
    yield f"Decides at the close of every slot of {format_duration(mandate.timeframe)}, UTC."
    yield f"Holds at most {_times(mandate.limits.gross_leverage_max)} × NAV: the sum of all positions' |notional|."
    yield (
        f"Realised volatility is measured by {mandate.volatility.estimator} over {window}; it never counts as less "
        f"than {_percent(mandate.volatility.floor)} a year."
    )
    traded = instruments_of(mandate)
    for name, position in mandate.positions.items():
        yield from _of_position(name, position, mandate.loss_cap, traded[name])
    venue = mandate.venue
    yield (
        f"Every fill on the {venue.name} venue costs half a spread of {_percent(venue.half_spread)} and a slippage of "
        f"{_percent(venue.slippage)} of the price, besides the venue's fee; in one bar at most "
        f"{_percent(venue.volume_share)} of its volume is filled, where volumes are known."
    )
    yield _SWEPT[mandate.sweep]
    yield _at_wall(mandate.at_wall)
    yield _ON_FAILURE[mandate.on_strategy_failure]


_SWEPT = {
    "roll": "Open profit that the wall needs in cash is realised at a strike by a roll: lots are closed and opened "
    "again (sweep: roll).",
    "trim": "Open profit that the wall needs in cash is realised at a strike by a trim: lots are closed and not opened "
    "again (sweep: trim).",
}


_ON_FAILURE = {
    "hold": "A strategy that fails or gives no answer in time is done without: its position may only shrink "
    "(on_strategy_failure: hold).",
    "derisk": "A strategy that fails or gives no answer in time is done without: its position is closed "
    "(on_strategy_failure: derisk).",
}


def _at_wall(terms: AtWall) -> str:
    locked = "Locked at its wall, with less than 1/20 of its full cushion left, it"
    if terms.rebase is not None:
        after, notice = format_duration(terms.rebase.after), format_duration(terms.rebase.notice)
        return (
            f"{locked} goes on (at_wall: rebase); once locked for {after} it announces a rebase {notice} ahead: the "
            "highest price becomes that of the strike then, and the promise counts from there for those who stay."
        )
    if terms.then == "wind_down":
        return f"{locked} closes every position and opens none (at_wall: wind_down)."
    return f"{locked} holds what there is until the market or new money brings the cushion back (at_wall: hold)."


def _of_position(name: str, position: Position, loss_cap: int, traded: Instrument) -> Iterator[str]:
    share, most = position.share / MILLION, position.leverage_max
    collateral = share * loss_cap / MILLION
    told = ", ".join(f"{key} {value}" for key, value in position.strategy.parameters.items())
    distance, call = position.liquidation_distance_min, position.margin_call
    yield (
        f"{name} trades {position.symbol} as {position.strategy.name} proposes{f' ({told})' if told else ''}. Its "
        f"collateral is {format_ppm(position.share)} of the risk capital, at most {_percent(collateral)} of the NAV."
    )
    yield (
        f"{name} holds at most {_times(most)} × that collateral (leverage_max), so at most {_times(most * collateral)} "
        f"× NAV; leverage is |notional| over collateral, never over NAV."
    )
    yield (
        f"{name} shrinks until leverage × realised volatility is at most {_percent(position.volatility_max)} a year, "
        f"and until liquidation lies {_times(distance.sigmas)} standard deviations of "
        f"{format_duration(distance.horizon)} and {_percent(distance.slippage)} of the price away."
    )
    yield (
        f"{name} trades only when what it holds is more than {_percent(position.band)} below what is allowed, or "
        f"above it; when its equity falls below {_times(call.at)} × the maintenance margin (first tier: "
        f"{format_ppm(traded.tiers[0].rate)} of the notional) it is reduced to {_times(call.to)} ×."
    )


# ---------------------------------------------------------------------------------------------------- remarks


def remarks(mandate: Mandate) -> list[dict[str, Any]]:
    """Each limiter that never binds, or always does: where it is written, and why, with the numbers."""
    return [
        {
            "mandate": mandate.name,
            "path": found.limiter if found.position is None else f"positions.{found.position}.{found.limiter}",
            "binds": "always" if found.is_always else "never",
            "message": _why(found),
        }
        for found in bindings(mandate, instruments_of(mandate))
    ]


def _why(found: Binding) -> str:
    limit, reach = _times(found.limit), _times(found.reach)
    at = "" if found.at_volatility is None else f" at a volatility of {_percent(found.at_volatility)} a year"
    if found.other == "positions":
        asked = "hold at most" if not found.is_always else "ask for at least"
        return f"{limit} × NAV {_binds(found)}: with a full cushion the positions {asked} {reach} × NAV"
    if found.limiter == "margin_call":
        return f"{_binds(found)}: a position of {reach} × its collateral is called already at {limit} ×"
    if found.limiter == "volatility_max" and found.is_always:
        return f"{_binds(found)}: it allows less than the strategy asks for even{at}"
    others = "the strategy asks for" if found.other == "proposal" else f"{found.other} allows"
    bound = "at least" if found.is_always else "at most"
    return f"{limit} × the collateral{at} {_binds(found)}: {others} {bound} {reach} ×"


def _binds(found: Binding) -> str:
    return "always binds" if found.is_always else "never binds"


def _times(value: float) -> str:
    return format_decimal(round(value, 4)) if value < 1e6 else "any multiple of"


def _percent(fraction: float) -> str:
    return format_percentage(round(fraction, 8))
