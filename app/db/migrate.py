"""Brings the schema of a database to this version, and opens it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, create_engine

from app.db.postgres import PostgresDatabase
from app.db.session import Database
from app.db.sqlite import SqliteDatabase
from app.settings import Settings

SCHEMA_VERSION = "0004"
"""The newest migration. A database that has it is opened without loading Alembic, which costs time and memory."""

_PROJECT = Path(__file__).resolve().parents[2]


def sqlite_path(settings: Settings) -> Path:
    return settings.data_dir / "postgate.sqlite3"


async def open_database(settings: Settings) -> Database:
    """Open the database that the settings name, its schema up to date."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if not await _is_current(settings):
        await asyncio.to_thread(migrate, settings)
    if settings.database_url is not None:
        return await PostgresDatabase.open(settings.database_url)
    return SqliteDatabase(sqlite_path(settings))


async def _is_current(settings: Settings) -> bool:
    if settings.database_url is not None:
        return False
    if not sqlite_path(settings).exists():
        return False
    connection = sqlite3.connect(sqlite_path(settings))
    try:
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(SCHEMA_VERSION,)]
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()


def migrate(settings: Settings) -> None:
    """Run every migration that is missing. Blocks."""
    from alembic import command
    from alembic.config import Config

    def run(connection: Connection) -> None:
        config = Config(str(_PROJECT / "alembic.ini"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    connected(settings, run)


def connected(settings: Settings, work: Callable[[Connection], None]) -> None:
    """Run something on an SQLAlchemy connection to the database, in a transaction."""
    if settings.database_url is None:
        engine = create_engine(f"sqlite:///{sqlite_path(settings)}")
        with engine.begin() as connection:
            work(connection)
        engine.dispose()
        return
    asyncio.run(_on_postgres(settings.database_url, work))


async def _on_postgres(url: str, work: Callable[[Connection], None]) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine  # likewise

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(work)
    await engine.dispose()
