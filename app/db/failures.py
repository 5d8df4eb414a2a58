"""What the failure of a database means to callers: the drivers' errors, sorted once.

Failures of the database itself and refused values are translated. Any other error that a statement caused (a
constraint) stays as it is: it is a fault of ours, and no retry would help.
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
"""Primary result codes that say that the file, the disk or another process is at fault."""

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InternalClientError,
)
"""The connection is gone, and with it any transaction that was not committed. asyncpg raises InternalClientError where
it is used between the server's farewell and the end of the connection.
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
"""The server does not take a value."""

_CONFLICTING = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


def of_sqlite(error: BaseException) -> Unavailable | NotStorable | None:
    """The error that callers see for one of sqlite3; None for a fault of ours."""
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
    """The error that callers see for one of asyncpg or of its socket; None for a fault of ours."""
    if isinstance(error, asyncpg.DiskFullError):
        return StorageFull("The disk of the database is full")
    if isinstance(error, _REFUSED):
        return NotStorable()
    if is_lost(error) or isinstance(error, (*_DECLINED, *_CONFLICTING)):
        return DatabaseUnavailable(f"The database failed: {type(error).__name__}")
    return None


def is_lost(error: BaseException) -> bool:
    """Whether the connection to PostgreSQL is gone. Only the plain InterfaceError says so, none of its subclasses."""
    return isinstance(error, _LOST) or type(error) is asyncpg.InterfaceError


def is_stale(error: BaseException) -> bool:
    """Whether the connection broke, and a new one may work at once."""
    return is_lost(error) and not isinstance(error, TimeoutError)


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL rolled a transaction back in favour of another: the same may succeed now."""
    return isinstance(error, _CONFLICTING)
