"""The entries of a journal: one frozen type for each kind of thing that can happen to a vault.

An entry says everything by name: positions, edges, kinds and causes, never by an index or a number. It carries `form`,
the version of its own shape, and a `Decided` also who decided: the kernel's version and each strategy's release. Money
is minor units, shares share units, quantities signed lots, times UTC ms; `None` means absent.

`read_entry` is the one reader: statements, runs, event lines and verification all go through it.

Longer than 400 lines because all that a journal can tell is one vocabulary.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from ringfence.risk.edges import Edge
from ringfence.risk.events import Bound, Kind
from ringfence.vaults.errors import EntryUnreadable
from ringfence.vaults.queue import Settlement, Side

__all__ = ["Amended", "Asked", "Cancelled", "Cause", "Closing", "Dealt", "Decided", "DepositAsked", "Differs", "Entry",
           "Failure", "Halted", "Happened", "Held", "Left", "Lived", "Moved", "Opened", "Ordered", "RedemptionAsked",
           "Report", "Reported", "ResumeAsked", "Resumed", "Standing", "Walked", "read_entry"]  # fmt: skip


def _by_name(kind: type[IntEnum]) -> BeforeValidator:
    def member(value: Any) -> IntEnum:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) and value in kind.__members__:
            return kind[value]
        raise ValueError(f"no name of {kind.__name__.lower()}; known: {', '.join(kind.__members__)}")

    return BeforeValidator(member)


_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What a database and the kernel can hold."""

_NAME = PlainSerializer(lambda member: member.name)
_Edge = Annotated[Edge, _by_name(Edge), _NAME]
_Kind = Annotated[Kind, _by_name(Kind), _NAME]
_Bound = Annotated[Bound, _by_name(Bound), _NAME]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Moved(_Record):
    """One transfer, along an edge of the ledger."""

    edge: _Edge
    amount: _Whole
    position: str | None = None


class Happened(_Record):
    """One thing that happened to a position, as `risk.events.Event` has it, with the position's name; None: to the
    vault as a whole."""

    ts: _Whole
    position: str | None
    kind: _Kind
    reason: _Bound
    quantity_before: _Whole
    quantity_after: _Whole
    amount: _Whole
    fee: _Whole
    shortfall: _Whole
    price: float
    mark: float
    leverage_before: float
    leverage_after: float
    liquidation_price: float


class Dealt(_Record):
    """One thing that a venue was asked for, an order or a move of collateral, and what had come of it by then."""

    ts: _Whole
    """The close of the bar at which it was asked for, UTC ms."""
    position: str
    kind: _Kind | None
    """Of the event that an order's fill is; None of a move."""
    lots: _Whole
    """Ordered, signed; 0 of a move."""
    amount: _Whole
    """Of a move: into the position (+) or out of it (-)."""
    reduces: bool
    """The order could only close."""
    pending: bool
    """Not all of it was known: the position did nothing more."""
    done: _Whole
    """Lots that filled, or collateral that moved; of the same sign."""
    fee: _Whole
    price: float
    """The average; 0.0 where nothing filled."""
    name: str = ""
    """Under which an order was given; "" of a move."""


class Cause(StrEnum):
    """Why a venue tells something that it was not asked for just now."""

    filled = "filled"
    """An order filled later than it was given, or further."""
    ended = "ended"
    """An order that was open has ended, and no more will fill."""
    deleveraged = "deleveraged"
    """The venue closed lots because somebody else's loss was not covered."""
    liquidated = "liquidated"
    """The venue closed the position, and by our books it had no reason to."""
    by_hand = "by_hand"
    """Somebody else traded in the account."""
    moved_by_hand = "moved_by_hand"
    """Somebody else moved collateral in the account."""


class Report(_Record):
    """One thing that a venue told of one position."""

    position: str
    cause: Annotated[Cause, BeforeValidator(Cause)]
    ts: _Whole
    """When it happened, by the venue's clock, UTC ms."""
    order: str = ""
    """The name of the order, where it is of one."""
    lots: _Whole = 0
    """Bought (+) or sold (-)."""
    amount: _Whole = 0
    """Collateral that moved into the position (+) or out of it (-)."""
    fee: _Whole = 0
    price: float = 0.0
    mark: float = 0.0
    order_price: float = 0.0
    """The average of all that the order has filled by then."""
    is_last: bool = False
    """Whether nothing more will happen to the order."""
    reason: str = ""
    """Why it ended, in the venue's words."""


class Differs(_Record):
    """One thing that is not the same in our books and in the venue's, and that nothing is known to explain."""

    position: str | None
    """None: of the account as a whole."""
    what: str
    ours: str
    theirs: str


class Left(_Record):
    """What a position held after it."""

    quantity: _Whole
    cost: _Whole
    margin: _Whole


class Standing(_Record):
    """A position as a bar's close leaves it."""

    quantity: _Whole
    cost: _Whole
    margin: _Whole
    refused: _Bound
    """Why the last increase was refused; `nothing` when it was not."""
    price: float
    """The mark at the close."""
    effective_leverage: float
    """Signed notional / equity."""
    liquidation_price: float

    @model_validator(mode="after")
    def _is_marked(self) -> Self:
        if self.quantity != 0 and not self.price > 0.0:
            raise ValueError("an open position has a price above 0")
        return self


class Held(Standing):
    """A position after a decision, and what was decided for it."""

    proposed: float | None
    volatility: float | None
    allowed: float
    leverage: float
    """Signed notional / target collateral, the one that is limited."""
    bound: _Bound


class Failure(_Record):
    """Why a strategy's proposal is missing."""

    kind: str
    """What it did, in one word: raised, hung, died, memory, ..."""
    told: str
    """A sentence for people."""


class Asked(_Record):
    """The request that an entry answers, so that the journal tells of every key under which something was asked."""

    key: str
    request: str
    """SHA-256 of the request's canonical form."""


class Entry(_Record):
    """What every entry has."""

    kind: ClassVar[str]
    form: int = 1
    """The version of its shape; this release reads the one that it writes."""
    asked: Asked | None = None
    """Where a person asked for it."""

    @field_validator("form")
    @classmethod
    def _is_known(cls, form: int) -> int:
        known = cls.model_fields["form"].default
        if form != known:
            raise ValueError(f"{form}, and this release reads form {known}; read it with the release that wrote it")
        return form

    def body(self) -> dict[str, Any]:
        """The entry as plain values, ready to be written as JSON; nothing is said of a request where there was none."""
        return self.model_dump(exclude=self._unsaid())

    def _unsaid(self) -> set[str]:
        return set() if self.asked else {"asked"}

    def under(self, asked: Asked | None) -> Self:
        """The entry as the answer to a request."""
        return self if asked is None else self.model_copy(update={"asked": asked})


class Opened(Entry):
    """The vault came into being under a mandate."""

    kind: ClassVar[str] = "opened"
    mandate: str
    """Fingerprint of `terms`."""
    terms: str
    """The mandate's canonical text."""
    decimals: Annotated[int, Field(ge=0, le=8)]
    """Of the vault's currency."""


class Amended(Entry):
    """The vault goes on under another version of its mandate."""

    kind: ClassVar[str] = "amended"
    mandate: str
    terms: str
    to_reserve: _Whole
    """Cushion that the new wall took."""
    nav: _Whole
    wall: _Whole


class DepositAsked(Entry):
    """A holder paid `amount` in. It waits for a strike; a vault that is all cash takes it at once (`settled`)."""

    kind: ClassVar[str] = "deposit_asked"
    holder: str
    amount: _Whole
    given: _Whole
    """UTC ms: the first strike whose slot closes later settles it."""
    accepts_locked: bool
    """Taken also while the vault is locked."""
    settled: Settlement | None
    ratcheted: _Whole
    """From the cushion to the reserve, where it was taken at once."""
    total_shares: _Whole
    nav: _Whole
    wall: _Whole


class RedemptionAsked(Entry):
    """A holder asked for shares back; they stay the holder's until a strike settles them."""

    kind: ClassVar[str] = "redemption_asked"
    holder: str
    shares: _Whole
    given: _Whole
    total_shares: _Whole
    nav: _Whole
    wall: _Whole


class Cancelled(Entry):
    """A holder took back what still waited of a request: money is paid back, shares no longer wait."""

    kind: ClassVar[str] = "cancelled"
    request: _Whole
    """The journal's row that asked."""
    side: Side
    holder: str
    remaining: _Whole
    """Minor units of a deposit, share units of a redemption."""
    total_shares: _Whole
    nav: _Whole
    wall: _Whole


class Halted(Entry):
    """From now on the vault decides nothing, and nobody enters or leaves; venue's rules and margin call go on."""

    kind: ClassVar[str] = "halted"
    by: str
    """Who, as the operating system or the installation calls him."""
    why: str
    breaches: tuple[str, ...] = ()
    """The laws that did not hold, where that is why, each with its rows."""


class ResumeAsked(Entry):
    """The first of two steps to end a halt."""

    kind: ClassVar[str] = "resume_asked"
    by: str
    why: str


class Resumed(Entry):
    """The second: the vault decides again, from its next slot on."""

    kind: ClassVar[str] = "resumed"
    by: str
    why: str


class Closing(Entry):
    """From now on the vault closes its positions and takes nobody in."""

    kind: ClassVar[str] = "closing"
    by: str
    why: str


class Ordered(Entry):
    """What the venue is about to be asked for at the close of a bar: written down before the first of it is sent.

    Collateral that is to move in leaves the cushion for the positions' `order_margin`, as far as the cushion has it;
    the rest of it comes from what other positions give up at the same time. The next entry that tells what came of it
    gives back what was committed, before it takes what the venue took.
    """

    kind: ClassVar[str] = "ordered"
    last_bar: _Whole
    """Open of the last bar that is lived through first."""
    slot: _Whole | None
    """Open of the slot that is decided then; None: none is."""
    answered: tuple[Dealt, ...]
    """What the venue has answered at that close, in order."""
    asked_for: tuple[Dealt, ...]
    """What it is asked for after that, and what is foreseen to come of it."""
    still: tuple[str, ...] = ()
    """Positions of which the venue told something at that close: nothing is asked for them."""
    transfers: tuple[Moved, ...] = ()


class Reported(Entry):
    """What the venue told of its own accord, booked at the close up to which the vault has lived."""

    kind: ClassVar[str] = "reported"
    reports: tuple[Report, ...]
    differs: tuple[Differs, ...] = ()
    """The positions are stopped, or all of them where it is the account's, until a person has looked."""
    events: tuple[Happened, ...] = ()
    transfers: tuple[Moved, ...] = ()
    positions: dict[str, Left] = {}
    """What those of which something was told hold after it."""
    reported: _Whole
    """The venue's number of the last thing that is booked with it."""
    nav: _Whole = 0
    wall: _Whole = 0
    """By the vault, as is the NAV."""


class Lived(Entry):
    """The vault lived through bars."""

    kernel: _Whole
    last_bar: _Whole
    """Open of the last bar lived through."""
    bars: str
    """SHA-256 of the bars: of all that were walked, or of the slot that was decided, whole."""
    nav_low: _Whole | None
    """Lowest NAV at any bar's worst point since the decision before; None of an empty vault."""
    events: tuple[Happened, ...]
    transfers: tuple[Moved, ...]
    positions: Mapping[str, Standing]
    """After the last bar, and of a decision after the flows."""
    dealt: tuple[Dealt, ...] | None = None
    """What its venue was asked for, in order; None: it fills at once."""
    reported: _Whole | None = None
    """The venue's number of the last thing that is booked with it; None: it has no books of its own."""
    nav: _Whole = 0
    """By the vault, as is the wall."""
    wall: _Whole = 0

    def _unsaid(self) -> set[str]:
        absent = {name for name in ("dealt", "reported") if getattr(self, name) is None}
        return super()._unsaid() | absent

    @model_validator(mode="after")
    def _names_its_positions(self) -> Self:
        named = {event.position for event in self.events} | {moved.position for moved in self.transfers}
        strangers = named - {None} - self.positions.keys()
        if strangers:
            raise ValueError(f"positions of which nothing is told: {', '.join(sorted(map(str, strangers)))}")
        return self


class Walked(Lived):
    """Money moved inside a slot, by funding, a liquidation or a margin call: the vault lived up to the end of that bar.
    Or a halted vault lived to the end of a slot without a decision."""

    kind: ClassVar[str] = "walked"
    positions: dict[str, Standing]


class Decided(Lived):
    """The vault lived through the rest of a slot and decided at its close; where it struck, what waited was settled."""

    kind: ClassVar[str] = "decided"
    form: int = 2
    strategies: dict[str, str]
    """By position, the release of the strategy that proposed: `name==version`."""
    failed: dict[str, Failure] = {}
    """By position, why its strategy's proposal is missing; what was decided then is the mandate's own rule."""
    slot: _Whole
    """Open of the slot."""
    struck: _Whole
    """NAV after the decision's own trades, before flows."""
    is_struck: bool
    """Whether it is a strike: where a position could not be traded, nobody enters or leaves at it."""
    high_water_mark: _Whole
    flow_cost: _Whole
    """What the trading for the flows cost, minor units; a gain is negative."""
    locked_since: _Whole | None
    """UTC ms; None: the vault is not locked."""
    rebase_at: _Whole | None
    """UTC ms of an announced rebase."""
    price_low: float | None
    distance_low: float | None
    positions: dict[str, Held]
    settlements: tuple[Settlement, ...] = ()
    ratcheted: _Whole = 0
    """From the cushion to the reserve, for the wall of shares that were minted."""
    total_shares: _Whole = 0
    """After the settlements, as are NAV and wall; the vault fills in all five."""

    def _unsaid(self) -> set[str]:
        return super()._unsaid() | (set() if self.failed else {"failed"})


_KINDS: dict[str, type[Entry]] = {
    entry.kind: entry
    for entry in (
        *(Opened, Amended, DepositAsked, RedemptionAsked, Cancelled),
        *(Halted, ResumeAsked, Resumed, Closing, Ordered, Reported, Walked, Decided),
    )
}


def read_entry(kind: str, body: str) -> Entry:
    """The entry that a journal's row holds. Refused: EntryUnreadable (an unknown kind or form, or no such shape)."""
    entry = _KINDS.get(kind)
    if entry is None:
        raise EntryUnreadable(kind, f"is none of the kinds {', '.join(_KINDS)}")
    try:
        return entry.model_validate_json(body)
    except ValidationError as refusal:
        first = refusal.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the body"
        raise EntryUnreadable(kind, f"{place}: {first['msg']}") from None
