"""What Alembic runs: the revisions in ``versions``, on the connection that ``collector_postgres_sql`` hands over."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
