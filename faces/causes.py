"""Kinds of events and what bound them, in plain words."""

from ringfence.risk.events import Bound, Event, Kind
from ringfence.vaults.entries import Happened

__all__ = ["BOUND_WORDS", "KIND_WORDS", "cause"]

KIND_WORDS = {
    Kind.resize: "Resize",
    Kind.collateral: "Collateral moved",
    Kind.funding: "Funding",
    Kind.margin_call: "Margin call",
    Kind.liquidation: "Liquidation",
    Kind.refusal: "Refusal",
    Kind.roll: "Roll",
}

BOUND_WORDS = {
    Bound.nothing: "nothing: as proposed",
    Bound.volatility: "volatility limit",
    Bound.liquidation_distance: "liquidation distance limit",
    Bound.gross_leverage: "gross leverage limit of the vault",
    Bound.leverage_max: "leverage cap of the mandate",
    Bound.venue_leverage: "leverage limit of the venue",
    Bound.cushion: "risk capital (cushion)",
    Bound.notional_min: "smallest order of the venue",
    Bound.no_proposal: "no proposal from the strategy",
    Bound.no_price: "no price",
    Bound.margin_call: "equity below the mandate's margin call",
    Bound.maintenance_margin: "equity below the venue's maintenance margin",
    Bound.band: "inside the no-trade band",
}

_UNBOUND_CAUSE = {
    Kind.resize: "proposal of the strategy",
    Kind.collateral: "share of the risk capital",
    Kind.funding: "funding time of the venue",
    Kind.roll: "open profit realised at a strike",
}


def cause(event: Event | Happened) -> str:
    """Why an event happened, in words."""
    if event.reason == Bound.nothing:
        return _UNBOUND_CAUSE.get(event.kind, BOUND_WORDS[Bound.nothing])
    return BOUND_WORDS[event.reason]
