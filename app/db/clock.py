"""The database's clock: one clock for all processes that share a database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler


class clock_ms(ColumnElement[int]):
    """The time on the database's host, in milliseconds since 1970, as an SQL expression."""

    inherit_cache = True
    type = BigInteger()


@compiles(clock_ms, "sqlite")
def _sqlite_clock_ms(element: clock_ms, compiler: SQLCompiler, **kw: Any) -> str:
    del element, compiler, kw
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(clock_ms, "postgresql")
def _postgres_clock_ms(element: clock_ms, compiler: SQLCompiler, **kw: Any) -> str:
    del element, compiler, kw
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"
