"""Alembic's entry: runs the revisions on the connection that `history` hands over."""

from alembic import context

from migrations.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
