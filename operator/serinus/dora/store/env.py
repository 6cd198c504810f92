"""What Alembic runs a migration with: the connection that `schema.migrate` gives it."""

from __future__ import annotations

from alembic import context

from serinus.dora.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
