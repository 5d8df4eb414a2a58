"""Migrates the schema of a database to this version, and opens it.

All migrations of an upgrade are one transaction, on both databases: if the process is killed, the database stays as
it was. On SQLite, the database is copied first. Processes that start at the same time migrate one after the other.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path

import asyncpg
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from app import faults, files
from app.db import epoch, failures, interrupted_migrations
from app.db.copies import copy_before_upgrade
from app.db.ownership import sole_use
from app.db.postgres import DRIVER_ERRORS, PostgresDatabase, address_of
from app.db.session import Database
from app.db.sqlite import BUSY_TIMEOUT_SECONDS, SqliteDatabase
from app.errors import DatabaseUnavailable, GatewayError, Unavailable
from app.settings import Settings

SCHEMA_VERSION = "0013"
"""The newest migration. A database that has it is opened without loading Alembic, which costs time and memory."""

_FOLDERS = (Path(__file__).parent / "migrations", Path(__file__).parents[2] / "alembic")
"""The folders of the migrations: in an installed package, and in the repository (mapped by pyproject.toml)."""
_MIGRATION_LOCK = 0x706F737467617465
"""Key of the PostgreSQL advisory lock that one process holds while it migrates: "postgate" in ASCII."""


class SchemaError(GatewayError):
    """The database cannot be migrated to the schema of this version."""

    code = "schema_error"


class DatabaseRefused(GatewayError):
    """PostgreSQL answers but refuses the connection: a wrong password, or a missing database."""

    code = "database_refused"


CONNECT_SECONDS = 10
MIGRATION_STATEMENT_SECONDS = 3600
"""How long one statement of a migration may take."""
_REFUSALS = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError)


def sqlite_path(settings: Settings) -> Path:
    return settings.data_dir / "postgate.sqlite3"


async def open_database(settings: Settings, *, is_sole: bool = False) -> Database:
    """Open the database of the settings, with its schema migrated.

    Raises SchemaError if it is newer than this version; DatabaseUnavailable if it fails or does not answer,
    StorageFull if its disk is full: a retry may succeed. `is_sole`: the caller has `sole_use` of the data. Otherwise
    an SQLite database that another process serves is not upgraded: DataInUse.
    """
    epoch.refuse_unfinished(settings)
    files.make_directory(settings.data_dir)
    try:
        await _bring_up_to_date(settings, is_sole=is_sole)
        if settings.database_url is None:
            return SqliteDatabase(sqlite_path(settings))
        return await PostgresDatabase.open(settings.database_url)
    except sqlite3.Error as error:
        raise failures.of_sqlite(error) or error from None
    except DRIVER_ERRORS as error:
        raise error if settings.database_url is None else _reason(error) from None


def _reason(error: Exception) -> GatewayError:
    """Return why PostgreSQL cannot be used: temporarily (Unavailable), or until a change (DatabaseRefused)."""
    failure = failures.of_postgres(error)
    if not isinstance(failure, Unavailable) or isinstance(error, _REFUSALS):
        return DatabaseRefused(f"The database cannot be used: {error}")
    if isinstance(failure, DatabaseUnavailable):
        return DatabaseUnavailable(f"The database cannot be reached: {error or type(error).__name__}")
    return failure


async def _bring_up_to_date(settings: Settings, *, is_sole: bool) -> None:
    version = await _version(settings)
    if version != SCHEMA_VERSION:
        refuse_newer(version)
        with nullcontext() if is_sole or version is None else sole_use(settings):
            await asyncio.to_thread(migrate, settings)


async def _version(settings: Settings) -> str | None:
    if settings.database_url is None:
        return _sqlite_version(sqlite_path(settings))
    try:
        connection = await asyncpg.connect(
            address_of(settings.database_url), timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS
        )
    except ValueError as error:
        raise DatabaseRefused(f"POSTGATE_DATABASE_URL: {error}") from None
    try:
        version = await connection.fetchval("SELECT version_num FROM alembic_version")
        return None if version is None else str(version)
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def schema_version(settings: Settings) -> str | None:
    """Return the newest migration of the database, or None. Blocks."""
    return asyncio.run(_version(settings))


def _sqlite_version(path: Path) -> str | None:
    """Return the newest migration of a database file, or None."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            return None  # the table does not exist
        except sqlite3.DatabaseError as error:
            raise SchemaError(f"{path} cannot be read as a database: {error}") from None
    return None if row is None else str(row[0])


def refuse_newer(version: str | None) -> None:
    """Raises SchemaError for a schema version that is newer than this version of Postgate."""
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaError(
            f"The database has schema {version}, this version of Postgate knows {SCHEMA_VERSION} at most: "
            "run the version that upgraded it, or restore a backup made before the upgrade"
        )


def migrate(settings: Settings) -> None:
    """Run all missing migrations in one transaction. Blocks."""
    if settings.database_url is None:
        path = sqlite_path(settings)
        version = _sqlite_version(path)
        if version not in (None, SCHEMA_VERSION):
            copy_before_upgrade(path, f"schema-{version}")
            faults.point("migration.copied")
    connected(settings, _upgrade)
    faults.point("migration.committed")


def _upgrade(connection: Connection) -> None:
    """Migrate a database to the newest schema, within the transaction of the connection."""
    is_sqlite = connection.dialect.name == "sqlite"
    if not is_sqlite:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    version = _version_on(connection)
    refuse_newer(version)
    if is_sqlite:
        _undo_unfinished(connection, version)
    _run_migrations(connection, "head")


def _version_on(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def _run_migrations(connection: Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    folder = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if folder is None:
        raise SchemaError(f"This installation of Postgate lacks its migrations: {_FOLDERS[0]}")
    config = Config()
    config.set_main_option("script_location", str(folder.resolve()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def _undo_unfinished(connection: Connection, version: str | None) -> None:
    """Undo an interrupted migration of an older version of Postgate, which did not use a transaction."""
    present = interrupted_migrations.schema_of(connection)
    if not present.objects:
        return
    expected = _reference(version) if version is not None else interrupted_migrations.Schema({}, {})
    try:
        interrupted_migrations.undo(connection, present, expected, _reference("head"))
    except interrupted_migrations.NotEmpty as error:
        raise SchemaError(
            f"Table {error} holds rows that belong to no version of the schema: restore a backup"
        ) from None


def _reference(version: str) -> interrupted_migrations.Schema:
    """Return the schema that the migrations up to a version create."""
    with _engine(":memory:").connect() as connection, connection.begin():
        _run_migrations(connection, version)
        return interrupted_migrations.schema_of(connection)


def connected(settings: Settings, work: Callable[[Connection], None]) -> None:
    """Run `work` on an SQLAlchemy connection to the database, in one transaction. Raises the driver's errors."""
    try:
        if settings.database_url is not None:
            asyncio.run(_on_postgres(settings.database_url, work))
            return
        path = sqlite_path(settings)
        files.touch(path)
        with _engine(str(path)).begin() as connection:
            work(connection)
    except DBAPIError as error:
        raise _driver_error(error) from error
    except PendingRollbackError as error:  # SQLAlchemy found the connection lost before it sent the next statement
        raise ConnectionResetError("The connection to the database was lost") from error


def _driver_error(error: DBAPIError) -> BaseException:
    """Return the error that SQLAlchemy has wrapped, for asyncpg twice."""
    assert error.orig is not None
    return error.orig.__cause__ or error.orig


def _engine(path: str) -> Engine:
    """SQLite with transactions that include DDL, which the driver would commit at once."""
    url = URL.create("sqlite", database=path)
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _leave_transactions_to_us)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "before_cursor_execute", _before_statement)
    return engine


def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _before_statement(*_: object) -> None:
    faults.point("migration.statement")


async def _on_postgres(url: str, work: Callable[[Connection], None]) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine  # costs memory that a current database does not need

    limits = {"timeout": CONNECT_SECONDS, "command_timeout": MIGRATION_STATEMENT_SECONDS}
    engine = create_async_engine(url, poolclass=NullPool, connect_args=limits)
    event.listen(engine.sync_engine, "before_cursor_execute", _before_statement)
    async with engine.begin() as connection:
        await connection.run_sync(work)
