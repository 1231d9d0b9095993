"""What the accounts refuse: one class per refusal, each saying what it means for the one who asked."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from ringfence.words.refusal import RingfenceError

__all__ = [
    "AmendmentRefused",
    "DepositRefused",
    "EntryUnreadable",
    "HolderRefused",
    "InsufficientBalance",
    "KeyConflict",
    "LedgerDisagrees",
    "LedgerUnbalanced",
    "MandateChanged",
    "MandateError",
    "NotJournalable",
    "Problem",
    "RedeemExceeds",
    "StatementDisagrees",
    "TransferRefused",
    "UnknownHolder",
    "UnknownVault",
    "VaultError",
    "WallBreached",
    "ZeroAssets",
    "ZeroShares",
]

_PROBLEMS_SHOWN = 100


class VaultError(RingfenceError):
    """The request is refused whole: no account, no share and no mandate has changed."""


@dataclass(frozen=True, order=True)
class Problem:
    """One fault of a mandate's file: where it stands (line and column from 1), under which key, and the way out."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where} {self.path}: {self.message}" if self.path else f"{where} {self.message}"


class MandateError(VaultError):
    """The mandate is not applied and the one that runs, if any, stays in force; every problem found is listed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        lines = [str(problem) for problem in self.problems[:_PROBLEMS_SHOWN]]
        if len(self.problems) > _PROBLEMS_SHOWN:
            lines.append(f"and {len(self.problems) - _PROBLEMS_SHOWN} more")
        super().__init__("\n".join(lines))


class UnknownVault(VaultError):
    """No vault has this name; nothing has changed."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none yet'}"
        super().__init__(f"vault {name}: there is no such vault; {hint}")
        self.name, self.known = name, known


class UnknownHolder(VaultError):
    """Nobody of this name has ever held shares of the vault; nothing has changed."""

    def __init__(self, holder: str, name: str | None, known: tuple[str, ...]) -> None:
        near = difflib.get_close_matches(holder, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none yet'}"
        place = "any vault" if name is None else f"vault {name}"
        super().__init__(f"holder {holder}: has never held shares of {place}; {hint}")
        self.holder, self.name, self.known = holder, name, known


class StatementDisagrees(VaultError):
    """No statement is given: what the journal tells, the register of shares and the ledger do not agree."""

    def __init__(self, name: str, breaches: tuple[str, ...]) -> None:
        super().__init__(
            f"vault {name}: no statement, since the books disagree; run `ringfence verify {name}`\n"
            + "\n".join(breaches)
        )
        self.name, self.breaches = name, breaches


class TransferRefused(VaultError):
    """The transfer is not one that the ledger can hold; nothing was posted."""

    def __init__(self, edge: object, position: object, amount: object, expected: str) -> None:
        super().__init__(f"transfer {edge!r} position={position!r} amount={amount!r}: expected {expected}")
        self.edge, self.position, self.amount, self.expected = edge, position, amount, expected


class InsufficientBalance(VaultError):
    """The account holds less than the transfer would take; nothing was posted."""

    def __init__(self, account: str, balance: int, amount: int) -> None:
        super().__init__(f"account {account}: holds {balance} minor units, {amount} were to be taken; take no more")
        self.account, self.balance, self.amount = account, balance, amount


class LedgerUnbalanced(VaultError):
    """A vault's accounts do not sum to zero; nothing was written and the vault must be halted and verified."""

    def __init__(self, vault_id: int, total: int) -> None:
        super().__init__(f"ledger of vault {vault_id}: accounts sum to {total}, expected 0; run `ringfence verify`")
        self.vault_id, self.total = vault_id, total


class NotJournalable(VaultError):
    """The body has no canonical form (NaN, infinity, keys that are not text); nothing was written."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"journal row {kind}: {reason}; expected texts, integers, finite numbers, lists and mappings")
        self.kind, self.reason = kind, reason


class EntryUnreadable(VaultError):
    """The row of a journal is not read: it has a kind, a form or a shape that this version does not know."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"journal entry of kind {kind}: {reason}")
        self.kind, self.reason = kind, reason


class AmendmentRefused(VaultError):
    """The vault goes on under the mandate that it has; nothing has changed."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"vault {name}: its mandate cannot be amended so: {reason}")
        self.name, self.reason = name, reason


class KeyConflict(VaultError):
    """The idempotency key was used before for another request; nothing has changed."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key}: was used before with another request; use a new key for a new request")
        self.key = key


class ZeroShares(VaultError):
    """The amount is worth less than one share unit (or no shares were named); nothing was taken."""

    def __init__(self, assets: int) -> None:
        super().__init__(f"{assets} minor units buy no shares; pay in more")
        self.assets = assets


class ZeroAssets(VaultError):
    """The shares are worth less than one minor unit (or nothing was asked for); nothing was taken."""

    def __init__(self, shares: int) -> None:
        super().__init__(f"{shares} share units are worth less than one minor unit; redeem more")
        self.shares = shares


class DepositRefused(VaultError):
    """The vault cannot take this deposit now; nothing was taken."""

    def __init__(self, assets: int, reason: str) -> None:
        super().__init__(f"a deposit of {assets} minor units is refused: {reason}")
        self.assets, self.reason = assets, reason


class RedeemExceeds(VaultError):
    """More was asked for than the holder can redeem; nothing was taken."""

    def __init__(self, asked: int, held: int) -> None:
        super().__init__(f"{asked} were to be redeemed, {held} can be; ask for no more")
        self.asked, self.held = asked, held


class WallBreached(VaultError):
    """The unit of work is undone and the vault stays as it was: its reserve would have fallen below its wall (W1)."""

    def __init__(self, name: str, reserve: int, wall: int) -> None:
        super().__init__(
            f"vault {name}: the reserve would hold {reserve} minor units, the wall is {wall}; nothing was written. "
            "This is a fault of the program: keep the database and report it"
        )
        self.name, self.reserve, self.wall = name, reserve, wall


class LedgerDisagrees(VaultError):
    """The unit of work is undone: what the step computed and what the ledger holds differ, and the ledger wins."""

    def __init__(self, name: str, account: str, ledger: int, step: int) -> None:
        super().__init__(
            f"vault {name}: {account} is {ledger} in the ledger and {step} in the step; nothing was written. "
            "Another process may have changed the vault: run the same command again"
        )
        self.name, self.account, self.ledger, self.step = name, account, ledger, step


class MandateChanged(VaultError):
    """The vault keeps running under the mandate that it was opened with; nothing has changed."""

    def __init__(self, name: str, running: str, given: str) -> None:
        super().__init__(
            f"vault {name}: runs under mandate {running[:12]}, the file is {given[:12]}; "
            "give the file's mandate another name, or use another database with --db"
        )
        self.name, self.running, self.given = name, running, given


class HolderRefused(VaultError):
    """The name cannot stand in the register of shares; nothing has changed."""

    def __init__(self, holder: str) -> None:
        super().__init__(
            f"holder {holder!r}: a name has 1 to 64 letters, digits or one of . _ @ -, and begins with a letter "
            "or digit"
        )
        self.holder = holder
