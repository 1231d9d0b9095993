"""The schema: what a database of vaults holds, as SQLModel classes for the cold paths and their tables for Core.

Money, shares and quantities are integers and every one has a CHECK of its own, independent of the code that writes it.
SQLite keeps whatever type it is handed, so there each integer column also checks its type. `transfer`, `journal` and
`bar` are append-only: triggers (made by the migrations) refuse UPDATE and DELETE.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
    true,
)
from sqlmodel import Field, SQLModel

from ringfence.risk.edges import MAY_BE_NEGATIVE, OF_POSITIONS, AccountKind, Edge

__all__ = ["APPEND_ONLY", "LATEST", "TOLD", "Account", "Bar", "BarSeries", "Command", "Fed", "Flow", "Funding",
           "Holding", "Journal", "Mandate", "Position", "Quality", "Transfer", "Vault", "account", "bar", "bar_series",
           "command", "fed", "flow", "funding", "holding", "journal", "mandate", "metadata", "position", "quality",
           "telling", "transfer", "vault"]  # fmt: skip

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

LATEST = 7_258_118_400_000
"""2200-01-01T00:00:00Z: no journal is later. A clock that says so is wrong."""

APPEND_ONLY = ("transfer", "journal", "bar", "funding", "quality")
"""Tables whose rows are never changed and never removed; but the last bar of a series is until a vault has lived it."""

_FINITE = "1e300"
"""NaN and infinity lie above it on PostgreSQL; SQLite turns NaN into NULL, which NOT NULL refuses."""


def _check(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


def _integers(*columns: str, optional: tuple[str, ...] = (), name: str = "integers") -> CheckConstraint:
    """SQLite only: the columns hold integers, not texts or floats."""
    parts = [f"typeof({column}) = 'integer'" for column in columns]
    parts += [f"typeof({column}) IN ('integer', 'null')" for column in optional]
    constraint = CheckConstraint(" AND ".join(parts), name=name)
    return constraint.ddl_if(dialect="sqlite")


TOLD = ("margin_call", "liquidation", "refusal", "roll", "rebase_announced", "rebased", "locked", "unlocked")
"""Kinds of events that are rare in a journal: an index of its own leads to the decisions that tell of each."""


def telling(kind: str, dialect: str) -> str:
    """SQL that holds of a journal's row that may tell of such an event, in the words of its index."""
    return f"""{"instr" if dialect == "sqlite" else "strpos"}(body, '"kind":"{kind}"') > 0"""


def _telling(kind: str) -> Index:
    in_sqlite, in_postgresql = (text(telling(kind, dialect)) for dialect in ("sqlite", "postgresql"))
    return Index(f"ix_journal_{kind}", "vault_id", "seq", sqlite_where=in_sqlite, postgresql_where=in_postgresql)


def _names(kinds: "frozenset[AccountKind] | set[AccountKind]") -> str:
    return ", ".join(f"'{kind}'" for kind in sorted(kinds))


_SINGLE = set(AccountKind) - OF_POSITIONS
_OF_POSITION = ", ".join(str(int(edge)) for edge in Edge if edge.of_position)


class _Row(SQLModel):
    metadata = metadata


class Mandate(_Row, table=True):
    """A mandate as it was applied, found by the fingerprint of its canonical form."""

    fingerprint: str = Field(primary_key=True, sa_type=Text)
    name: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    """Canonical JSON."""
    applied_ts: int = Field(sa_type=BigInteger)

    __table_args__ = (_integers("applied_ts"),)


class Vault(_Row, table=True):
    """A vault's own figures. Its money is in `account`; `version` is the fence and rises with every unit of work."""

    id: int | None = Field(default=None, primary_key=True, sa_type=Integer)
    name: str = Field(unique=True, sa_type=Text)
    mandate: str = Field(sa_type=Text, sa_column_args=(ForeignKey("mandate.fingerprint"),))
    currency: str = Field(sa_type=Text)
    decimals: int = Field(sa_type=SmallInteger)
    shares: int = Field(default=0, sa_type=BigInteger)
    waiting: int = Field(default=0, sa_type=BigInteger)
    """Shares whose redemption waits for cash; part of `shares` until they are burned."""
    high_water_mark: int = Field(default=0, sa_type=BigInteger)
    """Minor units per share unit x 2**50; 0 while the vault is empty."""
    opened: int = Field(sa_type=BigInteger)
    """UTC ms: the first slot that it lives through is the first that closes later."""
    last_bar: int | None = Field(default=None, sa_type=BigInteger)
    """Open (UTC ms) of the last bar that was lived through."""
    last_nav: int = Field(default=0, sa_type=BigInteger)
    price_low: float = Field(default=float("inf"), sa_type=Double)
    distance_low: float = Field(default=float("inf"), sa_type=Double)
    locked_since: int | None = Field(default=None, sa_type=BigInteger)
    """UTC ms; absent while the vault is not locked."""
    rebase_at: int | None = Field(default=None, sa_type=BigInteger)
    """UTC ms of an announced rebase."""
    version: int = Field(default=0, sa_type=BigInteger)
    journal_seq: int = Field(default=0, sa_type=BigInteger)
    journal_hash: str = Field(sa_type=Text)
    journal_ts: int = Field(sa_type=BigInteger)
    """Of the last row: no later one lies before it."""
    transfer_seq: int = Field(default=0, sa_type=BigInteger)
    clock: int = Field(sa_type=BigInteger)
    """UTC ms up to which it has lived: its opening, the close of a slot that it decided or of a bar inside one."""
    nav_low: int | None = Field(default=None, sa_type=BigInteger)
    """Lowest NAV at any bar's worst point since the last decision, while the vault stands inside a slot."""
    halted_since: int | None = Field(default=None, sa_type=BigInteger)
    """UTC ms; absent while it may decide."""
    resume_asked: int | None = Field(default=None, sa_type=BigInteger)
    """UTC ms at which the first of two steps was taken to end the halt."""
    closing_since: int | None = Field(default=None, sa_type=BigInteger)
    """UTC ms from which on it winds down for good."""
    ordered: int | None = Field(default=None, sa_type=BigInteger)
    """The journal's row of what its venue is being asked for; absent once what came of it is booked."""
    reported: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    """The venue's number of the last thing that is booked; 0 where it has no books of its own."""

    __table_args__ = (
        _check("decimals", "decimals BETWEEN 0 AND 8"),
        _check("shares", "shares >= 0 AND waiting >= 0 AND waiting <= shares"),
        _check("high_water_mark", "high_water_mark >= 0"),
        _check("last_nav", "last_nav >= 0"),
        _check("times", f"opened BETWEEN 0 AND {LATEST} AND journal_ts BETWEEN opened AND {LATEST}"),
        _check("clock", f"clock BETWEEN 0 AND {LATEST} AND nav_low >= 0"),
        _check("locked", "rebase_at IS NULL OR locked_since IS NOT NULL"),
        _check("sequences", "version >= 0 AND journal_seq >= 0 AND transfer_seq >= 0"),
        _check("journal_hash", "length(journal_hash) = 64"),
        _integers(
            "decimals",
            "shares",
            "waiting",
            "high_water_mark",
            "last_nav",
            "version",
            "journal_seq",
            "transfer_seq",
            "opened",
            "journal_ts",
            optional=("last_bar", "locked_since", "rebase_at"),
        ),
        _integers(
            "clock", optional=("nav_low", "halted_since", "resume_asked", "closing_since"), name="clock_integers"
        ),
        _check("halted", "resume_asked IS NULL OR halted_since IS NOT NULL"),
        _integers("reported", optional=("ordered",), name="venue_integers"),
        _check("venue", "reported >= 0 AND (ordered IS NULL OR ordered BETWEEN 1 AND journal_seq)"),
    )


class Account(_Row, table=True):
    """A balance (credits - debits): the sum of the account's transfers, kept so that it need not be summed again."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    name: str = Field(primary_key=True, sa_type=Text)
    balance: int = Field(default=0, sa_type=BigInteger)

    __table_args__ = (
        _check("name", f"name IN ({_names(_SINGLE)}) OR (name LIKE 'margin:_%') OR (name LIKE 'order_margin:_%')"),
        _check("balance", f"balance >= 0 OR name IN ({_names(MAY_BE_NEGATIVE)})"),
        _integers("balance"),
    )


class Transfer(_Row, table=True):
    """One debit and one credit along one edge."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    edge: int = Field(sa_type=SmallInteger)
    position: str | None = Field(default=None, sa_type=Text)
    amount: int = Field(sa_type=BigInteger)
    ts: int = Field(sa_type=BigInteger)
    journal_seq: int = Field(sa_type=BigInteger)
    """The journal's row that tells why."""

    __table_args__ = (
        _check("seq", "seq >= 1"),
        _check("edge", f"edge IN ({', '.join(str(int(edge)) for edge in Edge)})"),
        _check("position", f"(position IS NOT NULL) = (edge IN ({_OF_POSITION}))"),
        _check("amount", "amount > 0"),
        _integers("seq", "edge", "amount", "ts", "journal_seq"),
    )


class Position(_Row, table=True):
    """An isolated sub-position; its margin is the balance of the account `margin:<name>`."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    name: str = Field(primary_key=True, sa_type=Text)
    ordinal: int = Field(sa_type=SmallInteger)
    instrument: str = Field(sa_type=Text)
    """Its key, venue and symbol."""
    quantity: int = Field(default=0, sa_type=BigInteger)
    """Signed lots."""
    cost: int = Field(default=0, sa_type=BigInteger)
    """What the open lots were bought (sold) for: an exact cost basis."""
    refused: int = Field(default=0, sa_type=Integer)
    pending: str | None = Field(default=None, sa_type=Text)
    """What it waits for, as `vaults.pending` has it; absent where its venue may be asked for something."""

    __table_args__ = (
        _check("cost", "cost >= 0"),
        _check("flat", "quantity <> 0 OR cost = 0"),
        _integers("ordinal", "quantity", "cost", "refused"),
    )


class Holding(_Row, table=True):
    """A holder's shares, those that wait for redemption included."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    holder: str = Field(primary_key=True, sa_type=Text)
    shares: int = Field(default=0, sa_type=BigInteger)

    __table_args__ = (_check("shares", "shares >= 0"), _integers("shares"))


class Flow(_Row, table=True):
    """An order to enter or to leave: a deposit's money, or shares asked back, of which `remaining` waits."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    """The journal's row that asked."""
    holder: str = Field(sa_type=Text)
    side: str = Field(sa_type=Text)
    assets: int = Field(sa_type=BigInteger)
    """Minor units: paid in by a deposit, paid out so far for a redemption."""
    shares: int = Field(sa_type=BigInteger)
    """Share units: minted for a deposit, asked back by a redemption."""
    remaining: int = Field(sa_type=BigInteger)
    """What waits: minor units of a deposit, share units of a redemption."""
    cancelled: int = Field(default=0, sa_type=BigInteger)
    """What was taken back instead of being settled, in the same unit."""
    requested_ts: int = Field(sa_type=BigInteger)
    """UTC ms: the first strike whose slot closes later settles it."""
    accepts_locked: int = Field(default=0, sa_type=SmallInteger)
    """1: a deposit that is taken also while the vault is locked."""

    __table_args__ = (
        _check("side", "side IN ('deposit', 'redemption')"),
        _check("amounts", "assets >= 0 AND shares >= 0 AND remaining >= 0 AND cancelled >= 0"),
        _check("whole", "(side = 'deposit' AND assets > 0 AND remaining + cancelled <= assets) OR "
                        "(side = 'redemption' AND shares > 0 AND remaining + cancelled <= shares)"),
        _check("accepts_locked", "accepts_locked IN (0, 1)"),
        _integers("seq", "assets", "shares", "remaining", "cancelled", "requested_ts", "accepts_locked"),
    )  # fmt: skip


class Command(_Row, table=True):
    """What a person's request did, under the key it came with: the same request again is answered, not repeated."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    key: str = Field(primary_key=True, sa_type=Text)
    request_hash: str = Field(sa_type=Text)
    journal_seq: int = Field(sa_type=BigInteger)
    """The journal's row that the request made: its answer."""

    __table_args__ = (_integers("journal_seq"),)


class Journal(_Row, table=True):
    """What happened to a vault, gapless and hash-chained."""

    vault_id: int = Field(primary_key=True, sa_type=Integer, sa_column_args=(ForeignKey("vault.id"),))
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    ts: int = Field(sa_type=BigInteger)
    kind: str = Field(sa_type=Text)
    body: str = Field(sa_type=Text)
    """Canonical JSON."""
    previous_hash: str = Field(sa_type=Text)
    hash: str = Field(sa_type=Text)

    __table_args__ = (
        _check("seq", "seq >= 1"),
        _check("ts", f"ts BETWEEN 0 AND {LATEST}"),
        _check("hash", "length(hash) = 64 AND length(previous_hash) = 64"),
        _integers("seq", "ts"),
        Index("ix_journal_kind", "vault_id", "kind", "seq"),
        *(_telling(kind) for kind in TOLD),
    )


class BarSeries(_Row, table=True):
    """An instrument whose bars are recorded, and their spacing in ms."""

    __tablename__ = "bar_series"

    instrument: str = Field(primary_key=True, sa_type=Text)
    timeframe: int = Field(sa_type=BigInteger)
    volume_known: bool = Field(default=True, sa_type=Boolean, sa_column_kwargs={"server_default": true()})
    """Whether a volume of 0 says that nothing was traded."""
    corrected: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs={"server_default": "0"})
    """How many times its last bar was, or had a stamp added: what is known beyond the end is news then."""

    __table_args__ = (
        _check("timeframe", "timeframe > 0"),
        _integers("timeframe", "corrected"),
    )


class Bar(_Row, table=True):
    """One bar as it was fed to the vaults; the marks where they are known."""

    instrument: str = Field(primary_key=True, sa_type=Text, sa_column_args=(ForeignKey("bar_series.instrument"),))
    ts: int = Field(primary_key=True, sa_type=BigInteger)
    """The bar's open, UTC ms."""
    open: float = Field(sa_type=Double)
    high: float = Field(sa_type=Double)
    low: float = Field(sa_type=Double)
    close: float = Field(sa_type=Double)
    volume: float = Field(sa_type=Double)
    mark_open: float | None = Field(default=None, sa_type=Double)
    mark_high: float | None = Field(default=None, sa_type=Double)
    mark_low: float | None = Field(default=None, sa_type=Double)
    mark_close: float | None = Field(default=None, sa_type=Double)

    __table_args__ = (
        *(_check(name, f"{name} > 0 AND {name} <= {_FINITE}") for name in
          ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")),
        _check("volume", f"volume >= 0 AND volume <= {_FINITE}"),
        _integers("ts"),
    )  # fmt: skip


class Funding(_Row, table=True):
    """One funding stamp as it was fed to the vaults."""

    instrument: str = Field(primary_key=True, sa_type=Text, sa_column_args=(ForeignKey("bar_series.instrument"),))
    ts: int = Field(primary_key=True, sa_type=BigInteger)
    """UTC ms."""
    rate: float = Field(sa_type=Double)
    """Fraction of the notional that longs pay to shorts."""

    __table_args__ = (_check("rate", "rate BETWEEN -1 AND 1"), _integers("ts"))


class Fed(_Row, table=True):
    """How far a series is fed: every bar that opens before `until` (UTC ms) and ever comes is recorded."""

    instrument: str = Field(primary_key=True, sa_type=Text, sa_column_args=(ForeignKey("bar_series.instrument"),))
    until: int = Field(sa_type=BigInteger)

    __table_args__ = (_check("until", "until >= 0"), _integers("until"))


class Quality(_Row, table=True):
    """How good a bar's close was as a price when it came, where no position may grow on it."""

    instrument: str = Field(primary_key=True, sa_type=Text, sa_column_args=(ForeignKey("bar_series.instrument"),))
    ts: int = Field(primary_key=True, sa_type=BigInteger)
    """The bar's open, UTC ms."""
    level: int = Field(sa_type=SmallInteger)
    """Of `markets.feeds.quality.Quality`."""

    __table_args__ = (_check("level", "level BETWEEN 2 AND 6"), _integers("ts", "level"))


def _table(name: str) -> Table:
    return metadata.tables[name]


account, bar, bar_series, command = _table("account"), _table("bar"), _table("bar_series"), _table("command")
fed, flow, funding, holding = _table("fed"), _table("flow"), _table("funding"), _table("holding")
journal, mandate, position = _table("journal"), _table("mandate"), _table("position")
quality, transfer, vault = _table("quality"), _table("transfer"), _table("vault")
