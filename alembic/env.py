"""Runs migrations on the connection that `app.db.migrate` hands over, or on the one that the settings name."""

from __future__ import annotations

import app.db.tables  # noqa: F401 - fills the metadata
from alembic import context
from app.db.migrate import connected
from app.settings import Settings
from sqlalchemy import Connection
from sqlmodel import SQLModel


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=context.config.attributes.get("transactional_ddl", True),
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    connected(Settings(), run)
