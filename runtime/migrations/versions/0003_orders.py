"""The first schema in which holders' orders wait for a strike: vaults, their ledger, shares, orders and journal, and
the bars that they were fed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = None

_POSITIVE = "{0} > 0 AND {0} <= 1e300"
_LATEST = 7_258_118_400_000
"""2200-01-01, UTC ms."""
_PRICES = ("open", "high", "low", "close", "mark_open", "mark_high", "mark_low", "mark_close")
_FINAL = """new.instrument <> old.instrument OR new.ts <> old.ts
    OR old.ts < (SELECT max(later.ts) FROM bar AS later WHERE later.instrument = old.instrument)
    OR EXISTS (
        SELECT 1 FROM position
        JOIN vault ON vault.id = position.vault_id
        JOIN journal ON journal.vault_id = vault.id AND journal.seq = vault.journal_seq
        WHERE position.instrument = old.instrument AND vault.last_bar IS NOT NULL AND journal.ts > old.ts
    )"""
"""A bar is final when another follows it, or when a vault that trades it has lived beyond its open."""
_TOLD = ("margin_call", "liquidation", "refusal", "roll", "rebase_announced", "rebased", "locked", "unlocked")
"""Kinds of events of which the last few are looked for among very many rows that tell none."""


def _create(name: str, *parts: sa.Column[object] | sa.Constraint, integers: str = "", optional: str = "") -> None:
    """A table; on SQLite, which keeps any type it is handed, with a check that its integers are integers."""
    checks = [f"typeof({column}) = 'integer'" for column in integers.split()]
    checks += [f"typeof({column}) IN ('integer', 'null')" for column in optional.split()]
    if checks and op.get_bind().dialect.name == "sqlite":
        parts = (*parts, sa.CheckConstraint(" AND ".join(checks), name=op.f(f"ck_{name}_integers")))
    op.create_table(name, *parts)


def _text(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=False)


def _big(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _small(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.SmallInteger(), nullable=False)


def _double(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=op.f(f"pk_{table}"))


def _check(table: str, name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def _vault_id() -> sa.Column[object]:
    return sa.Column("vault_id", sa.Integer(), autoincrement=False, nullable=False)


def _of_vault(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["vault_id"], ["vault.id"], name=op.f(f"fk_{table}_vault_id"))


def _mandates_and_vaults() -> None:
    _create(
        "mandate", _text("fingerprint"), _text("name"), _text("body"), _big("applied_ts"),
        _key("mandate", "fingerprint"), integers="applied_ts",
    )  # fmt: skip
    _create(
        "vault",
        sa.Column("id", sa.Integer(), nullable=False),
        _text("name"), _text("mandate"), _text("currency"), _small("decimals"),
        _big("shares"), _big("waiting"), _big("high_water_mark"), _big("opened"), _big("last_bar", nullable=True),
        _big("last_nav"), _double("price_low"), _double("distance_low"),
        _big("locked_since", nullable=True), _big("rebase_at", nullable=True),
        _big("version"), _big("journal_seq"), _text("journal_hash"), _big("journal_ts"), _big("transfer_seq"),
        _key("vault", "id"),
        sa.UniqueConstraint("name", name=op.f("uq_vault_name")),
        sa.ForeignKeyConstraint(["mandate"], ["mandate.fingerprint"], name=op.f("fk_vault_mandate")),
        _check("vault", "decimals", "decimals BETWEEN 0 AND 8"),
        _check("vault", "shares", "shares >= 0 AND waiting >= 0 AND waiting <= shares"),
        _check("vault", "high_water_mark", "high_water_mark >= 0"),
        _check("vault", "last_nav", "last_nav >= 0"),
        _check("vault", "times", f"opened BETWEEN 0 AND {_LATEST} AND journal_ts BETWEEN opened AND {_LATEST}"),
        _check("vault", "locked", "rebase_at IS NULL OR locked_since IS NOT NULL"),
        _check("vault", "sequences", "version >= 0 AND journal_seq >= 0 AND transfer_seq >= 0"),
        _check("vault", "journal_hash", "length(journal_hash) = 64"),
        integers="decimals shares waiting high_water_mark last_nav version journal_seq transfer_seq opened journal_ts",
        optional="last_bar locked_since rebase_at",
    )  # fmt: skip


def _ledger() -> None:
    _create(
        "account", _vault_id(), _text("name"), _big("balance"), _key("account", "vault_id", "name"),
        _of_vault("account"),
        _check("account", "name", "name IN ('costs', 'cushion', 'entering', 'funding', 'reserve', 'shortfall', "
                                  "'venue', 'world') OR (name LIKE 'margin:_%')"),
        _check("account", "balance", "balance >= 0 OR name IN ('funding', 'shortfall', 'venue', 'world')"),
        integers="balance",
    )  # fmt: skip
    _create(
        "transfer", _vault_id(), _big("seq"), _small("edge"), sa.Column("position", sa.Text()), _big("amount"),
        _big("ts"), _big("journal_seq"), _key("transfer", "vault_id", "seq"), _of_vault("transfer"),
        _check("transfer", "seq", "seq >= 1"),
        _check("transfer", "edge", "edge IN (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)"),
        _check("transfer", "position", "(position IS NOT NULL) = (edge IN (6, 7, 8, 9, 10, 11, 12, 13))"),
        _check("transfer", "amount", "amount > 0"),
        integers="seq edge amount ts journal_seq",
    )  # fmt: skip
    _create(
        "position", _vault_id(), _text("name"), _small("ordinal"), _text("instrument"), _big("quantity"), _big("cost"),
        sa.Column("refused", sa.Integer(), nullable=False), _key("position", "vault_id", "name"), _of_vault("position"),
        _check("position", "cost", "cost >= 0"),
        _check("position", "flat", "quantity <> 0 OR cost = 0"),
        integers="ordinal quantity cost refused",
    )  # fmt: skip


def _holders() -> None:
    _create(
        "holding", _vault_id(), _text("holder"), _big("shares"), _key("holding", "vault_id", "holder"),
        _of_vault("holding"), _check("holding", "shares", "shares >= 0"), integers="shares",
    )  # fmt: skip
    _create(
        "flow", _vault_id(), _big("seq"), _text("holder"), _text("side"), _big("assets"), _big("shares"),
        _big("remaining"), _big("cancelled"), _big("requested_ts"), _small("accepts_locked"),
        _key("flow", "vault_id", "seq"), _of_vault("flow"),
        _check("flow", "side", "side IN ('deposit', 'redemption')"),
        _check("flow", "amounts", "assets >= 0 AND shares >= 0 AND remaining >= 0 AND cancelled >= 0"),
        _check("flow", "whole", "(side = 'deposit' AND assets > 0 AND remaining + cancelled <= assets) OR "
                                "(side = 'redemption' AND shares > 0 AND remaining + cancelled <= shares)"),
        _check("flow", "accepts_locked", "accepts_locked IN (0, 1)"),
        integers="seq assets shares remaining cancelled requested_ts accepts_locked",
    )  # fmt: skip
    _create(
        "command", _vault_id(), _text("key"), _text("request_hash"), _big("journal_seq"),
        _key("command", "vault_id", "key"), _of_vault("command"), integers="journal_seq",
    )  # fmt: skip


def _records() -> None:
    _create(
        "journal", _vault_id(), _big("seq"), _big("ts"), _text("kind"), _text("body"), _text("previous_hash"),
        _text("hash"), _key("journal", "vault_id", "seq"), _of_vault("journal"),
        _check("journal", "seq", "seq >= 1"),
        _check("journal", "ts", f"ts BETWEEN 0 AND {_LATEST}"),
        _check("journal", "hash", "length(hash) = 64 AND length(previous_hash) = 64"),
        integers="seq ts",
    )  # fmt: skip
    op.create_index(op.f("ix_journal_kind"), "journal", ["vault_id", "kind", "seq"])
    holds = "instr" if op.get_bind().dialect.name == "sqlite" else "strpos"
    for kind in _TOLD:
        telling = sa.text(f"""{holds}(body, '"kind":"{kind}"') > 0""")
        op.create_index(op.f(f"ix_journal_{kind}"), "journal", ["vault_id", "seq"],
                        sqlite_where=telling, postgresql_where=telling)  # fmt: skip
    _create(
        "bar_series", _text("instrument"), _big("timeframe"),
        sa.Column("volume_known", sa.Boolean(), nullable=False, server_default=sa.true()),
        sa.Column("corrected", sa.BigInteger(), nullable=False, server_default="0"),
        _key("bar_series", "instrument"),
        _check("bar_series", "timeframe", "timeframe > 0"), integers="timeframe corrected",
    )  # fmt: skip
    _create(
        "bar", _text("instrument"), _big("ts"),
        *(_double(name) for name in ("open", "high", "low", "close", "volume")),
        *(_double(name, nullable=True) for name in _PRICES[4:]),
        _key("bar", "instrument", "ts"),
        sa.ForeignKeyConstraint(["instrument"], ["bar_series.instrument"], name=op.f("fk_bar_instrument")),
        *(_check("bar", name, _POSITIVE.format(name)) for name in _PRICES),
        _check("bar", "volume", "volume >= 0 AND volume <= 1e300"),
        integers="ts",
    )  # fmt: skip
    _create(
        "funding", _text("instrument"), _big("ts"), _double("rate"), _key("funding", "instrument", "ts"),
        sa.ForeignKeyConstraint(["instrument"], ["bar_series.instrument"], name=op.f("fk_funding_instrument")),
        _check("funding", "rate", "rate BETWEEN -1 AND 1"), integers="ts",
    )  # fmt: skip


def _append_only(table: str) -> None:
    """Triggers that refuse to change or remove a row."""
    message = f"{table} is append-only"
    if op.get_bind().dialect.name == "sqlite":
        for act in ("update", "delete"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{act} BEFORE {act.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
            )
        return
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION ringfence_append_only()"
    )


def _final_bars() -> None:
    """Triggers that refuse to remove a bar, and to change one that is final."""
    if op.get_bind().dialect.name == "sqlite":
        for act, condition in (("update", f"WHEN {_FINAL} "), ("delete", "")):
            op.execute(
                f"CREATE TRIGGER bar_no_{act} BEFORE {act.upper()} ON bar {condition}"
                "BEGIN SELECT RAISE(ABORT, 'bar is append-only'); END"
            )
        return
    op.execute(
        "CREATE TRIGGER bar_append_only BEFORE DELETE OR TRUNCATE ON bar "
        "FOR EACH STATEMENT EXECUTE FUNCTION ringfence_append_only()"
    )
    op.execute(
        f"CREATE FUNCTION ringfence_bar_is_final() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {_FINAL} THEN "
        "RAISE EXCEPTION 'bar is append-only' USING ERRCODE = '23001'; END IF; RETURN new; END $$"
    )
    op.execute(
        "CREATE TRIGGER bar_no_update BEFORE UPDATE ON bar FOR EACH ROW EXECUTE FUNCTION ringfence_bar_is_final()"
    )


def upgrade() -> None:
    _mandates_and_vaults()
    _ledger()
    _holders()
    _records()
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION ringfence_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '23001'; END $$"
        )
    for table in ("transfer", "journal", "funding"):
        _append_only(table)
    _final_bars()
