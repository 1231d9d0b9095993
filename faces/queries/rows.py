"""The rows that every reading begins with: vaults, and the terms that they live under."""

from sqlalchemy import Connection, RowMapping, select

from ringfence.runtime.database import lock_vault
from ringfence.vaults.mandate.terms import Mandate
from ringfence.vaults.tables import mandate, vault

__all__ = ["terms_of", "vault_rows"]


def vault_rows(connection: Connection, name: str | None) -> list[RowMapping]:
    """The row of one vault, or of all by name. Refused: UnknownVault."""
    if name is not None:
        return [lock_vault(connection, name)]  # a unit that only reads takes no lock
    return list(connection.execute(select(vault).order_by(vault.c.name)).mappings())


def terms_of(connection: Connection, row: RowMapping) -> Mandate:
    """What a vault lives under now."""
    body = connection.execute(select(mandate.c.body).where(mandate.c.fingerprint == row["mandate"])).scalar_one()
    return Mandate.from_canonical(body)
