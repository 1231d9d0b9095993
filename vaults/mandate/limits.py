"""From a mandate to the kernel's limits: exact parts per million, horizons in years, fees filled in from the venue."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ringfence.vaults.mandate.terms import MILLION, Mandate

if TYPE_CHECKING:
    from ringfence.markets.instruments import Instrument
    from ringfence.risk.book import Limits

__all__ = ["YEAR", "compile_limits"]

YEAR = 365 * 86_400_000
"""Milliseconds of the year that volatility and horizons are counted in: 365 days, for markets that never close."""


def compile_limits(mandate: Mandate, instruments: "Mapping[str, Instrument]") -> "Limits":
    """The kernel's limits of one vault, its positions in the mandate's order (by name).

    keep = 10**6 - loss_cap; distance_sigmas = sigmas * sqrt(horizon / 365 days); parts per million are exact, for
    a mandate refuses what is not.
    `instruments` by symbol give the fees that the mandate leaves to the venue; a symbol without one is a KeyError.
    """
    from ringfence.risk.book import limits  # here, since it loads numpy

    positions, venue = mandate.positions.values(), mandate.venue
    traded = [instruments[position.symbol] for position in positions]
    distances = [position.liquidation_distance_min for position in positions]

    rebase = mandate.at_wall.rebase

    def fees(stated: int | None, of_instruments: list[int]) -> list[float]:
        return list(of_instruments) if stated is None else [stated] * len(of_instruments)

    of_vault: dict[str, list[float]] = {
        "keep": [MILLION - mandate.loss_cap],
        "gross_leverage_max": [mandate.limits.gross_leverage_max],
        "sweep": [("roll", "trim").index(mandate.sweep)],
        "at_wall": [("hold", "wind_down", "rebase").index(mandate.at_wall.then)],
        "rebase_after": [0 if rebase is None else rebase.after],
        "rebase_notice": [0 if rebase is None else rebase.notice],
        "timeframe": [mandate.timeframe],
    }
    of_positions: dict[str, list[float]] = {
        "share": [position.share for position in positions],
        "leverage_max": [position.leverage_max for position in positions],
        "volatility_max": [position.volatility_max for position in positions],
        "distance_sigmas": [distance.sigmas * math.sqrt(distance.horizon / YEAR) for distance in distances],
        "distance_slippage": [distance.slippage for distance in distances],
        "band": [position.band for position in positions],
        "call_at": [round(position.margin_call.at * MILLION) for position in positions],
        "call_to": [round(position.margin_call.to * MILLION) for position in positions],
        "half_spread": [venue.half_spread] * len(traded),
        "slippage": [venue.slippage] * len(traded),
        "taker_fee": fees(venue.taker_fee, [instrument.taker_fee for instrument in traded]),
        "liquidation_fee": fees(venue.liquidation_fee, [instrument.liquidation_fee for instrument in traded]),
        "volume_share": [venue.volume_share] * len(traded),
    }
    return limits(of_vault, of_positions)
