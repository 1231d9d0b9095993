"""What the faces refuse: options that cannot be used, acts in a person's units, reports and demos without a place."""

from pathlib import Path

from ringfence.words.hints import near_or_known
from ringfence.words.refusal import RingfenceError

__all__ = [
    "ActRefused",
    "DemoRefused",
    "ExamplesMissing",
    "InputRefused",
    "NothingCalled",
    "PandasMissing",
    "PasswordShown",
    "ReportEmpty",
    "ReportWithoutVault",
]


class InputRefused(RingfenceError):
    """Nothing was started: what an option or an argument says cannot be used."""

    option: str
    value: str
    reason: str

    def __str__(self) -> str:
        return f"{self.option} {self.value}: {self.reason}" if self.value else f"{self.option}: {self.reason}"


class PasswordShown(RingfenceError):
    """Nothing was started: a password stands among the arguments, where everyone on the machine can read it."""

    address: str
    setting: str

    def __str__(self) -> str:
        return (
            f"{self.address}: a password among the arguments can be read by everyone on this machine (ps); set "
            f"{self.setting} to the address, or leave the password to the server's own file (~/.pgpass)"
        )


class NothingCalled(RingfenceError):
    """No such word is known where one was expected; nothing was read."""

    what: str
    word: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what} {self.word}: there is none of this name; {near_or_known(self.word, self.known)}"


class ActRefused(RingfenceError):
    """A deposit or redemption is refused whole, told in the units that the person used; the refusal is the cause."""

    vault: str
    holder: str
    reason: str

    def __str__(self) -> str:
        return f"vault {self.vault}, holder {self.holder}: {self.reason}"


class ReportEmpty(RingfenceError):
    """No report was made: there is no run to show."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path}: a report needs the run of at least one vault, and there is none"


class ReportWithoutVault(RingfenceError):
    """No report was made: a statement belongs to none of the vaults that it shows."""

    holder: str
    vault: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        known = ", ".join(self.known)
        return f"statement of {self.holder}: vault {self.vault} is not in this report, which has {known}"


class DemoRefused(RingfenceError):
    """The demo was not started and what stands at its place was left as it is."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ExamplesMissing(RingfenceError):
    """The demo was not started: this installation lacks the mandates that it plays."""

    folder: Path

    def __str__(self) -> str:
        return f"{self.folder}: the example mandates are missing from this installation; install it again"


class PandasMissing(RingfenceError):
    """Nothing was made of the result; its arrays are there without pandas."""

    wanted: str

    def __str__(self) -> str:
        way_out = "pip install ringfence[pandas] (or pandas), or use the arrays"
        return f"{self.wanted} needs pandas, which is not installed; {way_out}"
