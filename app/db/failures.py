"""Translates the drivers' errors into the errors that callers see.

Failures of the database itself and refused values are translated. Any other error that a statement caused (such as a
violated constraint) stays as it is: it is a defect of Postgate, and no retry would help.
"""

from __future__ import annotations

import sqlite3

import asyncpg

from app.errors import DatabaseUnavailable, NotStorable, StorageFull, Unavailable

_SQLITE_TRANSIENT = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
}
"""Primary result codes for failures of the file, the disk or another process."""

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)
"""The connection is lost, and with it any uncommitted transaction.

asyncpg raises InternalClientError if it is used between the server's last message and the end of the connection.
"""

_DECLINED = (
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.PostgresSystemError,
    asyncpg.InternalServerError,
)
"""The server answered that it cannot do anything now."""

_REFUSED = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""The server rejects a value."""

_CONFLICTING = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


def of_sqlite(error: BaseException) -> Unavailable | NotStorable | None:
    """Return the error that callers see for an sqlite3 error; None for a defect of Postgate."""
    if not isinstance(error, sqlite3.Error):
        return None
    if isinstance(error, sqlite3.DataError):
        return NotStorable()
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    if code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFull("The disk of the database is full")
    if code & 0xFF in _SQLITE_TRANSIENT:
        return DatabaseUnavailable(f"The database failed: {error.sqlite_errorname}")
    return None


def of_postgres(error: BaseException) -> Unavailable | NotStorable | None:
    """Return the error that callers see for an error of asyncpg or its socket; None for a defect of Postgate."""
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull("The disk of the database is full")
    if isinstance(error, _REFUSED):
        return NotStorable()
    if is_lost(error) or isinstance(error, (*_DECLINED, *_CONFLICTING)):
        return DatabaseUnavailable(f"The database failed: {type(error).__name__}")
    return None


def is_lost(error: BaseException) -> bool:
    """Whether the connection to PostgreSQL is lost. Of InterfaceError only the class itself means that, no subclass."""
    return isinstance(error, _LOST) or type(error) is asyncpg.InterfaceError


def is_stale(error: BaseException) -> bool:
    """Whether the connection broke, and a new one may work at once."""
    return is_lost(error) and not isinstance(error, TimeoutError)


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL rolled a transaction back in favour of another, so that a retry may succeed."""
    return isinstance(error, _CONFLICTING)
