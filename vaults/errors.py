"""What the accounts refuse: one class per refusal, each saying what it means for the one who asked.

Longer than 400 lines because each of them stands beside the others.
"""

from ringfence.words.hints import near_or_known
from ringfence.words.refusal import RingfenceError
from ringfence.words.source import SourceRefused
from ringfence.words.times import utc

__all__ = [
    "AlreadyClosing",
    "AmendmentRefused",
    "CancelTooLate",
    "DepositAtRisk",
    "DepositRefused",
    "EntryUnreadable",
    "HolderNear",
    "HolderRefused",
    "InsufficientBalance",
    "KeyConflict",
    "KeyRefused",
    "LawsBroken",
    "LedgerDisagrees",
    "LedgerUnbalanced",
    "MandateChanged",
    "MandateError",
    "MarkBelowStrike",
    "NotHalted",
    "NotJournalable",
    "NothingWaits",
    "RedeemExceeds",
    "ResumeNotAsked",
    "StaleFence",
    "StatementDisagrees",
    "TimeRefused",
    "TransferRefused",
    "UnknownHolder",
    "UnknownVault",
    "VaultError",
    "WallBreached",
    "ZeroAssets",
    "ZeroShares",
]

_FAULT = "nothing was written. This is a fault of the program: keep the database and report it"


class VaultError(RingfenceError):
    """The request is refused whole: no account, no share and no mandate has changed."""


class MandateError(VaultError, SourceRefused):
    """The mandate is not applied and the one that runs, if any, stays in force; every problem found is listed."""


class UnknownVault(VaultError):
    """No vault has this name; nothing has changed."""

    name: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"vault {self.name}: there is no such vault; {near_or_known(self.name, self.known)}"


class UnknownHolder(VaultError):
    """Nobody of this name has ever held shares of the vault; nothing has changed."""

    holder: str
    name: str | None
    """The vault's; None: of all vaults."""
    known: tuple[str, ...]

    def __str__(self) -> str:
        place = "any vault" if self.name is None else f"vault {self.name}"
        return f"holder {self.holder}: has never held shares of {place}; {near_or_known(self.holder, self.known)}"


class StatementDisagrees(VaultError):
    """No statement is given: what the journal tells, the register of shares and the ledger do not agree."""

    name: str
    breaches: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"vault {self.name}: no statement, since the books disagree:", *self.breaches))


class TransferRefused(VaultError):
    """The transfer is not one that the ledger can hold; nothing was posted."""

    edge: object
    position: object
    amount: object
    expected: str

    def __str__(self) -> str:
        given = f"transfer {self.edge!r} position={self.position!r} amount={self.amount!r}"
        return f"{given}: expected {self.expected}"


class InsufficientBalance(VaultError):
    """The account holds less than the transfer would take; nothing was posted."""

    account: str
    balance: int
    amount: int

    def __str__(self) -> str:
        return f"account {self.account}: holds {self.balance} minor units, {self.amount} were to be taken; take no more"


class LedgerUnbalanced(VaultError):
    """A vault's accounts do not sum to zero; nothing was written and the vault must be halted and verified."""

    vault_id: int
    total: int

    def __str__(self) -> str:
        return f"ledger of vault {self.vault_id}: accounts sum to {self.total}, expected 0"


class NotJournalable(VaultError):
    """The body has no canonical form (NaN, infinity, keys that are not text); nothing was written."""

    kind: str
    reason: str

    def __str__(self) -> str:
        expected = "texts, integers, finite numbers, lists and mappings"
        return f"journal row {self.kind}: {self.reason}; expected {expected}"


class EntryUnreadable(VaultError):
    """The row of a journal is not read: it has a kind, a form or a shape that this version does not know."""

    kind: str
    reason: str

    def __str__(self) -> str:
        return f"journal entry of kind {self.kind}: {self.reason}"


class AmendmentRefused(VaultError):
    """The vault goes on under the mandate that it has; nothing has changed."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"vault {self.name}: its mandate cannot be amended so: {self.reason}"


class KeyConflict(VaultError):
    """The idempotency key was used before for another request; nothing has changed."""

    key: str

    def __str__(self) -> str:
        return f"key {self.key}: was used before with another request; use a new key for a new request"


class ZeroShares(VaultError):
    """The amount is worth less than one share unit (or no shares were named); nothing was taken."""

    assets: int

    def __str__(self) -> str:
        return f"{self.assets} minor units buy no shares; pay in more"


class ZeroAssets(VaultError):
    """The shares are worth less than one minor unit (or nothing was asked for); nothing was taken."""

    shares: int

    def __str__(self) -> str:
        return f"{self.shares} share units are worth less than one minor unit; redeem more"


class DepositRefused(VaultError):
    """The vault cannot take this deposit; nothing was taken."""

    assets: int
    reason: str

    def __str__(self) -> str:
        return f"a deposit of {self.assets} minor units is refused: {self.reason}"


class DepositAtRisk(DepositRefused):
    """The vault is locked at its wall and the one who pays in has not said that he knows; nothing was taken."""

    name: str
    locked_since: int
    """UTC ms."""
    behind_wall: int
    """Of the deposit, minor units: what stands behind the wall from the start."""
    at_wall: str
    """What the mandate does about it."""
    rebase_at: int | None
    """UTC ms of an announced rebase; None: none is announced."""
    behind_floor: int
    """Of the deposit, minor units: what would stand behind the floor of a rebase at today's NAV."""

    def __str__(self) -> str:
        since = f"vault {self.name}: is locked at its wall since {utc(self.locked_since)}; at_wall: {self.at_wall}"
        stands = f"{self.behind_wall} of {self.assets} minor units would stand behind the wall"
        if self.rebase_at is None:
            return f"{since}; {stands}, the rest at risk"
        announced = f"from {utc(self.rebase_at)} on {self.behind_floor} or so, since a rebase is announced"
        return f"{since}; {stands}, {announced}; the rest at risk"


class RedeemExceeds(VaultError):
    """More was asked for than the holder can redeem; nothing was taken."""

    asked: int
    held: int

    def __str__(self) -> str:
        return f"{self.asked} were to be redeemed, {self.held} can be; ask for no more"


class CancelTooLate(VaultError):
    """The request stays: the slot whose strike settles it is over, so its price may be known; nothing has changed."""

    transient = True

    request: int
    strike: int
    """UTC ms."""

    def __str__(self) -> str:
        return (
            f"request {self.request}: the strike of {utc(self.strike)} settles it, and that slot is over; "
            "what still waits once the vault has been stepped can be cancelled"
        )


class NothingWaits(VaultError):
    """There is no such request, or nothing of it waits any more; nothing has changed."""

    holder: str
    request: int | None
    """None: of the holder's there is none, or there are several."""
    waiting: tuple[int, ...]
    """The holder's requests that wait."""

    def __str__(self) -> str:
        which = "" if self.request is None else f", request {self.request}"
        known = ", ".join(map(str, self.waiting))
        if not known:
            return f"holder {self.holder}{which}: nothing waits that could be cancelled"
        return f"holder {self.holder}{which}: name the one to cancel; those that wait: {known}"


class HolderNear(VaultError):
    """The name is nobody's yet and nearly another holder's, so it may be a slip; nothing was taken."""

    holder: str
    near: str

    def __str__(self) -> str:
        return f"holder {self.holder}: has never held shares of this vault; did you mean {self.near}?"


class KeyRefused(VaultError):
    """The key cannot name a request; nothing has changed."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"key {self.key!r}: {self.reason}"


class TimeRefused(VaultError):
    """The time cannot stand in the vault's journal: it lies before what happened already, before the vault's opening or
    beyond any sane clock; nothing has changed."""

    code = "journal_time_refused"  # bars out of order are refused under the plainer word

    name: str
    ts: int
    """UTC ms."""
    earliest: int
    latest: int

    def __str__(self) -> str:
        return (
            f"vault {self.name}: {utc(self.ts)} cannot be the time of what happens now; expected "
            f"{utc(self.earliest)} to {utc(self.latest)}; check the clock"
        )


class WallBreached(VaultError):
    """The unit of work is undone and the vault stays as it was: its reserve would have fallen below its wall (W1)."""

    name: str
    reserve: int
    wall: int

    def __str__(self) -> str:
        held = f"the reserve would hold {self.reserve} minor units, the wall is {self.wall}"
        return f"vault {self.name}: {held}; {_FAULT}"


class MarkBelowStrike(VaultError):
    """The unit of work is undone: a NAV would have been struck that the mark, and so the wall, does not know (W3)."""

    name: str
    mark: int
    price: int
    """Minor units per share unit x 2**50, as is the mark."""

    def __str__(self) -> str:
        return f"vault {self.name}: the mark would be {self.mark} at a strike of {self.price}; {_FAULT}"


class LedgerDisagrees(VaultError):
    """The unit of work is undone: what the step computed and what the ledger holds differ, and the ledger wins."""

    name: str
    account: str
    ledger: int
    step: int

    def __str__(self) -> str:
        return f"vault {self.name}: {self.account} is {self.ledger} in the ledger and {self.step} in the step; {_FAULT}"


class OrdersOnTheirWay(VaultError):
    """Nothing was changed; what its venue makes of the vault's orders is booked first, which takes moments where the
    venue answers."""

    transient = True

    name: str

    def __str__(self) -> str:
        return (
            f"vault {self.name}: its orders are on their way to its venue, and nothing else is done until it has "
            f"answered; try again in a moment"
        )


class StaleFence(VaultError):
    """The unit of work is undone: another process changed the vault after this one had read it (R1)."""

    transient = True

    name: str
    version: int
    """The one that was read."""

    def __str__(self) -> str:
        return f"vault {self.name}: another process has changed it since version {self.version}; nothing was written"


class MandateChanged(VaultError):
    """The vault keeps running under the mandate that it was opened with; nothing has changed."""

    name: str
    running: str
    given: str

    def __str__(self) -> str:
        return f"vault {self.name}: runs under mandate {self.running[:12]}, the one given is {self.given[:12]}"


class HolderRefused(VaultError):
    """The name cannot stand in the register of shares; nothing has changed."""

    holder: str

    def __str__(self) -> str:
        expected = "1 to 64 letters, digits or one of . _ @ -, and begins with a letter or digit"
        return f"holder {self.holder!r}: a name has {expected}"


class NotHalted(VaultError):
    """There is no halt to end; nothing has changed."""

    name: str

    def __str__(self) -> str:
        return f"vault {self.name}: is not halted"


class ResumeNotAsked(VaultError):
    """A halt ends in two steps, and the first was not taken; the vault stays halted."""

    name: str

    def __str__(self) -> str:
        return f"vault {self.name}: nobody has asked to resume it; ask first, then confirm"


class AlreadyClosing(VaultError):
    """The vault closes already; nothing has changed."""

    name: str
    since: int

    def __str__(self) -> str:
        return f"vault {self.name}: has been closing since {utc(self.since)}"


class LawsBroken(VaultError):
    """The vault stays halted as long as its books break a law."""

    name: str
    breaches: tuple[str, ...]

    def __str__(self) -> str:
        return f"vault {self.name}: stays halted, for {'; '.join(self.breaches)}"
