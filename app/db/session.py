"""How statements reach a database: one interface for SQLite and PostgreSQL.

Statements are SQLAlchemy Core over `tables`, compiled once and run directly on the driver (docs/adr). A unit of
writing is a coroutine function with a Transaction; it awaits only the transaction, so that on SQLite one writer
thread can run it to its end, and commit several of them together.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import ClauseElement, ColumnElement
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import Boolean, Text

from app.db.tables.columns import KeyText
from app.mail.storable import KEY_BYTES, storable_value
from app.telemetry import get_logger

__all__ = [
    "Database",
    "PreparedStatement",
    "Row",
    "Statement",
    "Transaction",
    "Work",
    "in_code_order",
    "insert_or",
    "is_one_of",
    "json_list",
    "prepare",
    "run_actions",
    "value_of",
]

log = get_logger(__name__)

T = TypeVar("T")
Row = tuple[Any, ...]
"""One row of a result: the driver's values, in the order of the statement's columns."""

Statement = ClauseElement


def value_of(row: Row | None) -> Any:
    """Return the value of a row of one column; None if there is no row."""
    if row is None:
        return None
    (value,) = row
    return value


class PreparedStatement:
    """A statement in the driver's form: its text, and the order of its named parameters."""

    __slots__ = ("_defaults", "_limits", "order", "text")

    def __init__(self, statement: Statement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        # lists of constants (`in_`) are expanded now; a bound parameter has no value yet
        unbound = {bind.key: None for bind in compiled.binds.values() if bind.required}
        expanded = compiled.construct_expanded_state(unbound)
        self.text = expanded.statement
        self.order = tuple(expanded.positiontup or ())
        self._limits = tuple(_limit_of(compiled, name) for name in self.order)
        self._defaults = dict(expanded.parameters)

    def arguments(self, values: Mapping[str, object]) -> list[object]:
        """Return storable values in the statement's order; a missing one takes the statement's own constant."""
        defaults = self._defaults
        return [
            storable_value(values[name] if name in values else defaults[name], limit_bytes)
            for name, limit_bytes in zip(self.order, self._limits, strict=True)
        ]


def _limit_of(compiled: SQLCompiler, name: str) -> int | None:
    """Return the maximum length of a parameter; None unless it belongs to an indexed text column."""
    bind = compiled.binds.get(name)
    return KEY_BYTES if bind is not None and isinstance(bind.type, KeyText) else None


def _dialect_of_postgres() -> Dialect:
    make: Callable[[], Dialect] = PGDialect_asyncpg
    return make()


_DIALECTS: dict[str, Dialect] = {"sqlite": SQLiteDialect_pysqlite(), "postgresql": _dialect_of_postgres()}


@lru_cache(maxsize=400)
def prepare(statement: Statement, dialect: str) -> PreparedStatement:
    """Compile a statement for "sqlite" or "postgresql"; once, as long as the same object is passed."""
    return PreparedStatement(statement, _DIALECTS[dialect])


class is_one_of(ColumnElement[bool]):
    """`column IN` a list given as one parameter: a JSON array of strings or of integers (see `json_list`)."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: ColumnElement[Any] | Any, values: ColumnElement[Any]) -> None:
        self.column = column
        self.values = values

    def self_group(self, against: OperatorType | None = None) -> is_one_of:  # noqa: ARG002 - SQLAlchemy's signature
        """Return itself: where there is no boolean, SQLAlchemy would add `= 1`, which prevents the use of indexes."""
        return self


@compiles(is_one_of, "sqlite")
def _sqlite_is_one_of(element: is_one_of, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = compiler.process(element.column, **kw), compiler.process(element.values, **kw)
    return " ".join((column, "IN (SELECT value FROM json_each(", values, "))"))


@compiles(is_one_of, "postgresql")
def _postgres_is_one_of(element: is_one_of, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = compiler.process(element.column, **kw), compiler.process(element.values, **kw)
    kind = "BIGINT" if element.column.type.python_type is int else "TEXT"
    array = f"jsonb_array_elements_text(CAST({values} AS JSONB)) AS t(value)"
    return " ".join((column, "IN (SELECT CAST(value AS", kind, ") FROM", array, ")"))


class in_code_order(ColumnElement[str]):
    """A text that sorts and compares by code points, as in SQLite and Python, regardless of the database's locale."""

    inherit_cache = True
    type = Text()

    def __init__(self, text: ColumnElement[Any] | Any) -> None:
        self.text = text


@compiles(in_code_order, "sqlite")
def _sqlite_in_code_order(element: in_code_order, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.text, **kw)


@compiles(in_code_order, "postgresql")
def _postgres_in_code_order(element: in_code_order, compiler: SQLCompiler, **kw: Any) -> str:
    return f'({compiler.process(element.text, **kw)} COLLATE "C")'


def json_list(values: Sequence[str] | Sequence[int]) -> str:
    """Return the parameter of `is_one_of`: the values as their column holds them."""
    return orjson.dumps([storable_value(value, KEY_BYTES) for value in values]).decode()


class Transaction(Protocol):
    """Statements of one transaction. Parameters are named."""

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]: ...

    async def row(self, statement: Statement, **values: object) -> Row | None:
        """Return the first row, or None."""
        ...

    async def execute(self, statement: Statement, **values: object) -> int:
        """Return the number of rows changed."""
        ...

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None: ...

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` in the event loop after this transaction is committed, even if no caller waits any more.

        It is not called if the transaction is rolled back. It must not wait and must not fail: a wake-up, a timer.
        """
        ...


Work = Callable[[Transaction], Awaitable[T]]


def run_actions(actions: Sequence[Callable[[], None]]) -> None:
    """Run the actions after a commit; if one fails, the others still run."""
    for action in actions:
        try:
            action()
        except Exception:  # the commit is valid even if this fails
            log.exception("after_commit_failed")


class Database(Protocol):
    """A database. Reads outside `write` see the last commit.

    Every method raises DatabaseUnavailable if the database cannot answer, and StorageFull if its disk is full.
    """

    failure_count: int
    """The number of failures of the database or its disk since it was opened."""

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        """Read rows. `is_long` is for reads that scan, which must not block the event loop."""
        ...

    async def row(self, statement: Statement, **values: object) -> Row | None: ...

    async def write(
        self, work: Work[T], *, is_durable: bool = True, is_short: bool = False, turn: str | None = None
    ) -> T:
        """Run `work` in a transaction and commit it. If `work` raises, the transaction is rolled back.

        A write that has begun continues if its caller is cancelled, and the actions of `Transaction.after_commit` run
        all the same. `work` may run more than once (PostgreSQL rolls back one of two transactions that deadlock), so
        it must change nothing outside its transaction.

        - `is_durable` False may lose the last moments in a power failure, but never consistency: for data that can
          be read again from a mail server.
        - `is_short` is for changes of a few rows: if the write is not durable either, SQLite runs it in the event loop.
        - Writes with the same `turn` (an account's id) run one after another: waiting ones hold no connection.
        """
        ...

    async def close(self) -> None: ...
