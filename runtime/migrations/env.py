"""Where alembic meets the database: always on a connection, inside the transaction that the caller has opened."""

from alembic import context
from sqlalchemy import Connection

from ringfence.vaults.tables import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
