"""What alembic runs: the migrations, on the connection that `origin.database.upgrade` opened and locked."""

from __future__ import annotations

from alembic import context

from origin.database.schema import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema,
    # SQLite changes a table by copying it; alembic calls that a batch.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
