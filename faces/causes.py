"""Kinds of events and what bound them, in plain words."""

from ringfence.risk.events import Bound, Event, Kind
from ringfence.vaults.entries import Happened

__all__ = ["AT_WALL_WORDS", "BOUND_WORDS", "KIND_WORDS", "cause"]

KIND_WORDS = {
    Kind.resize: "Resize",
    Kind.collateral: "Collateral moved",
    Kind.funding: "Funding",
    Kind.margin_call: "Margin call",
    Kind.liquidation: "Liquidation",
    Kind.refusal: "Refusal",
    Kind.roll: "Roll",
    Kind.rebase_announced: "Rebase announced",
    Kind.rebased: "Rebased",
    Kind.locked: "Locked at the wall",
    Kind.unlocked: "Unlocked",
    Kind.deleveraging: "Deleveraging",
    Kind.by_hand: "Traded by hand",
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
    Bound.costs: "costs beyond the margin",
    Bound.strike: "profit realised for the wall",
    Bound.flow: "holders who enter or leave",
    Bound.at_wall: "the mandate's terms for a vault at its wall",
    Bound.volume: "volume of the bar",
    Bound.venue: "what the venue did, or would not do",
    Bound.doubted_price: "price too bad to act on",
}

AT_WALL_WORDS = {
    "hold": "its mandate holds what there is until the market or new money brings the cushion back",
    "wind_down": "its mandate closes every position and opens none",
    "rebase": "its mandate sets the wall anew once it has been locked for long enough, after a notice",
}
"""What a vault that is locked at its wall does about it."""

_UNBOUND_CAUSE = {
    Kind.resize: "proposal of the strategy",
    Kind.collateral: "share of the risk capital",
    Kind.funding: "funding time of the venue",
    Kind.rebase_announced: "locked for as long as the mandate says",
    Kind.rebased: "the mark is the NAV of this strike, as announced",
    Kind.locked: "less than a twentieth of the cushion is left",
    Kind.unlocked: "the cushion is back",
}


def cause(event: Event | Happened) -> str:
    """Why an event happened, in words."""
    if event.reason == Bound.nothing:
        return _UNBOUND_CAUSE.get(event.kind, BOUND_WORDS[Bound.nothing])
    return BOUND_WORDS[event.reason]
