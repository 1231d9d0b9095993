"""The paper exchange's own books: one SQLite file, never the vaults' database. All of its state is in it.

What has happened (fills, funding, endings) is only ever added to. A unit of work is one transaction, so that a process
that is killed leaves all of a request or bar, or none.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ringfence.markets.exchange.protocol import Deleveraged, Ending, Fill, Funding, Liquidated, Moved, OrderState
from ringfence.markets.exchange.terms import Charges, Contract, TradedBar
from ringfence.risk.book import Holding

__all__ = ["ExchangeBooks", "Logged", "Placed"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS figure (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS account (
    name TEXT PRIMARY KEY,
    wallet INTEGER NOT NULL CHECK (typeof(wallet) = 'integer' AND wallet >= 0),
    paid_in INTEGER NOT NULL CHECK (typeof(paid_in) = 'integer')
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS contract (instrument TEXT PRIMARY KEY, terms TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    account TEXT NOT NULL REFERENCES account, instrument TEXT NOT NULL REFERENCES contract, terms TEXT NOT NULL,
    PRIMARY KEY (account, instrument)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS price (instrument TEXT PRIMARY KEY REFERENCES contract, bar TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS position (
    account TEXT NOT NULL, instrument TEXT NOT NULL,
    quantity INTEGER NOT NULL CHECK (typeof(quantity) = 'integer'),
    cost INTEGER NOT NULL CHECK (typeof(cost) = 'integer' AND (quantity != 0 OR cost = 0)),
    margin INTEGER NOT NULL CHECK (typeof(margin) = 'integer' AND margin >= 0),
    traded INTEGER NOT NULL,
    PRIMARY KEY (account, instrument), FOREIGN KEY (account, instrument) REFERENCES charges
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS placed (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, client_id TEXT NOT NULL, instrument TEXT NOT NULL,
    lots INTEGER NOT NULL CHECK (lots != 0), reduce_only INTEGER NOT NULL,
    held INTEGER NOT NULL CHECK (held >= 0 AND (held = 0 OR NOT is_final)), due INTEGER NOT NULL,
    filled INTEGER NOT NULL CHECK (filled = 0 OR ((filled > 0) = (lots > 0) AND abs(filled) <= abs(lots))),
    cost INTEGER NOT NULL, price REAL NOT NULL, fee INTEGER NOT NULL, is_final INTEGER NOT NULL, reason TEXT NOT NULL,
    UNIQUE (account, client_id), FOREIGN KEY (account, instrument) REFERENCES charges
);
CREATE INDEX IF NOT EXISTS placed_open ON placed (number) WHERE NOT is_final;
CREATE TABLE IF NOT EXISTS happened (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL, instrument TEXT NOT NULL,
    ts INTEGER NOT NULL, told TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS happened_to ON happened (account, kind, ts);
CREATE UNIQUE INDEX IF NOT EXISTS paid_once ON happened (account, instrument, ts) WHERE kind = 'Funding';
CREATE TRIGGER IF NOT EXISTS never_changed BEFORE UPDATE ON happened BEGIN SELECT raise(ABORT, 'only added to'); END;
CREATE TRIGGER IF NOT EXISTS never_removed BEFORE DELETE ON happened BEGIN SELECT raise(ABORT, 'only added to'); END;
CREATE TABLE IF NOT EXISTS attempt (subject TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS injected (
    number INTEGER PRIMARY KEY, ts INTEGER NOT NULL, subject TEXT NOT NULL, attempt INTEGER NOT NULL,
    fault TEXT NOT NULL, bars INTEGER NOT NULL
);
"""
_BUSY_MS = 5_000
_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (Fill, Moved, Funding, Liquidated, Deleveraged)}
_PLACED = (
    "number, account, client_id, instrument, lots, reduce_only, held, due, filled, cost, price, fee, is_final, reason"
)


@dataclass
class Placed:
    """An order as the books hold it."""

    number: int
    account: str
    client_id: str
    instrument: str
    lots: int
    reduce_only: bool
    held: int
    """Collateral that waits to move with its first lots."""
    due: int
    """The bar from which the rest may fill, counted as the exchange counts its bars."""
    filled: int = 0
    cost: int = 0
    price: float = 0.0
    fee: int = 0
    is_final: bool = False
    reason: str = ""

    def state(self) -> OrderState:
        """As its owner is told of it."""
        return OrderState(self.client_id, self.instrument, self.lots, self.filled, self.cost, self.price, self.fee,
                          bool(self.is_final), self.reason)  # fmt: skip


@dataclass(frozen=True)
class Logged:
    """A fault that was injected."""

    ts: int
    subject: str
    attempt: int
    fault: str
    bars: int


class ExchangeBooks:
    """The rows, read and written one by one; `work` is one transaction."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens the file, or makes it, for its owner alone; without one the books are in memory."""
        if path is not None:
            path.touch(mode=0o600)
        self._connection = sqlite3.connect(
            ":memory:" if path is None else path, timeout=_BUSY_MS / 1000, isolation_level=None
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Lets go of the file."""
        self._connection.close()

    @contextmanager
    def work(self) -> Iterator[None]:
        """All of what is written inside, or none."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _value(self, statement: str, *values: Any) -> Any:
        found = self._connection.execute(statement, values).fetchone()
        return None if found is None else found[0]

    # The clock and other single figures

    def figure(self, name: str) -> int:
        """0 where it was never noted."""
        return int(self._value("SELECT value FROM figure WHERE name = ?", name) or 0)

    def note(self, name: str, value: int) -> None:
        self._connection.execute(
            "INSERT INTO figure VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )

    # Markets

    def contracts(self) -> dict[str, Contract]:
        return {name: _contract(terms) for name, terms in self._rows("SELECT * FROM contract ORDER BY instrument")}

    def contract(self, instrument: str) -> Contract | None:
        terms = self._value("SELECT terms FROM contract WHERE instrument = ?", instrument)
        return None if terms is None else _contract(terms)

    def list_contract(self, instrument: str, contract: Contract) -> None:
        """Refused, as sqlite3.IntegrityError: a contract that is listed already."""
        self._connection.execute("INSERT INTO contract VALUES (?, ?)", (instrument, json.dumps(asdict(contract))))

    def bar(self, instrument: str) -> TradedBar | None:
        """The one in force; None before the first."""
        told = self._value("SELECT bar FROM price WHERE instrument = ?", instrument)
        if told is None:
            return None
        values = json.loads(told)
        return TradedBar(**values | {"stamps": tuple((int(ts), float(rate)) for ts, rate in values["stamps"])})

    def put_bar(self, instrument: str, bar: TradedBar) -> None:
        self._connection.execute("INSERT OR REPLACE INTO price VALUES (?, ?)", (instrument, json.dumps(asdict(bar))))

    # Accounts

    def accounts(self) -> tuple[str, ...]:
        return tuple(name for (name,) in self._rows("SELECT name FROM account ORDER BY name"))

    def wallet(self, account: str) -> int | None:
        found: int | None = self._value("SELECT wallet FROM account WHERE name = ?", account)
        return found

    def paid_in(self, account: str) -> int:
        """Net of what was paid out."""
        return int(self._value("SELECT paid_in FROM account WHERE name = ?", account))

    def pay_in(self, account: str, amount: int) -> None:
        self._connection.execute("INSERT OR IGNORE INTO account VALUES (?, 0, 0)", (account,))
        self._connection.execute(
            "UPDATE account SET wallet = wallet + ?1, paid_in = paid_in + ?1 WHERE name = ?2", (amount, account)
        )

    def add_to_wallet(self, account: str, amount: int) -> None:
        self._connection.execute("UPDATE account SET wallet = wallet + ? WHERE name = ?", (amount, account))

    def put_charges(self, account: str, instrument: str, charges: Charges) -> None:
        self._connection.execute(
            "INSERT INTO charges VALUES (?, ?, ?) "
            "ON CONFLICT (account, instrument) DO UPDATE SET terms = excluded.terms",
            (account, instrument, json.dumps(asdict(charges))),
        )

    def charges(self, account: str, instrument: str) -> Charges | None:
        terms = self._value("SELECT terms FROM charges WHERE account = ? AND instrument = ?", account, instrument)
        return None if terms is None else Charges(**json.loads(terms))

    def legs(self) -> list[tuple[str, str]]:
        """(account, instrument) that may be traded, in order."""
        return list(self._rows("SELECT account, instrument FROM charges ORDER BY account, instrument"))

    # Positions

    def held(self, account: str, instrument: str) -> Holding:
        found = self._rows(
            "SELECT quantity, cost, margin FROM position WHERE account = ? AND instrument = ?", account, instrument
        )
        return Holding(*found[0]) if found else Holding(0, 0, 0)

    def put_held(self, account: str, instrument: str, held: Holding) -> None:
        self._connection.execute(
            "INSERT INTO position VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (account, instrument) DO UPDATE SET "
            "quantity = excluded.quantity, cost = excluded.cost, margin = excluded.margin",
            (account, instrument, *held),
        )

    def positions(self, account: str | None = None) -> list[tuple[str, str, Holding]]:
        """(account, instrument, what it holds) of all that hold lots or margin."""
        found = self._rows(
            "SELECT account, instrument, quantity, cost, margin FROM position "
            "WHERE (quantity != 0 OR margin != 0) AND account = coalesce(?, account) ORDER BY account, instrument",
            account,
        )
        return [(of, instrument, Holding(*held)) for of, instrument, *held in found]

    def traded(self, account: str, instrument: str) -> int:
        """Lots that the position bought and sold at the bar in force."""
        return int(
            self._value("SELECT traded FROM position WHERE account = ? AND instrument = ?", account, instrument) or 0
        )

    def add_traded(self, account: str, instrument: str, lots: int) -> None:
        self._connection.execute(
            "UPDATE position SET traded = traded + ? WHERE account = ? AND instrument = ?", (lots, account, instrument)
        )

    def begin_bar(self) -> None:
        """Nothing has traded at it."""
        self._connection.execute("UPDATE position SET traded = 0 WHERE traded != 0")

    # Orders

    def place(self, order: Placed) -> Placed:
        """The order with its number. Refused, as sqlite3.IntegrityError: a name that the account has used."""
        values = tuple(vars(order).values())[1:]
        cursor = self._connection.execute(f"INSERT INTO placed ({_PLACED}) VALUES (NULL{', ?' * len(values)})", values)
        order.number = int(cursor.lastrowid or 0)
        return order

    def put_order(self, order: Placed) -> None:
        self._connection.execute(
            "UPDATE placed SET held = ?, due = ?, filled = ?, cost = ?, price = ?, fee = ?, is_final = ?, reason = ? "
            "WHERE number = ?",
            (order.held, order.due, order.filled, order.cost, order.price, order.fee, order.is_final, order.reason,
             order.number),
        )  # fmt: skip

    def order(self, account: str, client_id: str) -> Placed | None:
        found = self._rows(f"SELECT {_PLACED} FROM placed WHERE account = ? AND client_id = ?", account, client_id)
        return Placed(*found[0]) if found else None

    def orders(self, account: str | None = None, *, open_only: bool = True) -> list[Placed]:
        """In the order in which they were given."""
        still = "NOT is_final AND " if open_only else ""
        found = self._rows(
            f"SELECT {_PLACED} FROM placed WHERE {still}account = coalesce(?, account) ORDER BY number", account
        )
        return [Placed(*row) for row in found]

    # What has happened

    def add(self, account: str, ts: int, happening: Fill | Moved | Funding | Ending) -> None:
        """Writes it down for good, in its place; what it has for a trade's name and a sequence is given to it here."""
        told = asdict(happening)
        told.pop("trade", None)
        told.pop("sequence")
        self._connection.execute(
            "INSERT INTO happened VALUES (NULL, ?, ?, ?, ?, ?)",
            (account, type(happening).__name__, happening.instrument, ts, json.dumps(told)),
        )

    def happened(self, account: str, since: int, *kinds: type[Any]) -> list[Any]:
        """What happened from `since` on, in the order in which it did."""
        names = ", ".join("?" * len(kinds))
        found = self._rows(
            "SELECT number, kind, told FROM happened "
            f"WHERE account = ? AND ts >= ? AND kind IN ({names}) ORDER BY number",
            account, since, *(kind.__name__ for kind in kinds),
        )  # fmt: skip
        return [_happening(*row) for row in found]

    # Faults

    def attempt(self, subject: str) -> int:
        """The number of this occasion among those of its subject, from 1 on."""
        return int(
            self._value(
                "INSERT INTO attempt VALUES (?, 1) ON CONFLICT (subject) DO UPDATE SET made = made + 1 RETURNING made",
                subject,
            )
        )

    def log(self, injected: Logged) -> None:
        self._connection.execute("INSERT INTO injected VALUES (NULL, ?, ?, ?, ?, ?)", tuple(vars(injected).values()))

    def injected(self) -> list[Logged]:
        """Every fault that was injected, in order."""
        return [
            Logged(*row) for row in self._rows("SELECT ts, subject, attempt, fault, bars FROM injected ORDER BY number")
        ]


def _contract(terms: str) -> Contract:
    values = json.loads(terms)
    return Contract(**values | {"tiers": tuple((*map(int, tier[:3]), float(tier[3])) for tier in values["tiers"])})


def _happening(number: int, kind: str, told: str) -> Any:
    values, made = json.loads(told), _KINDS[kind]
    named = {} if made is Funding else {"trade": str(number)}
    return made(**named, **values, sequence=number)
