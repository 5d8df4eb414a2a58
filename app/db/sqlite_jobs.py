"""One unit of writing on SQLite: its transaction, and the task that waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from app.db.session import Row, Statement, Transaction, prepare, run_actions

T = TypeVar("T")


def run_statement(connection: sqlite3.Connection, statement: Statement, values: Mapping[str, object]) -> sqlite3.Cursor:
    prepared = prepare(statement, "sqlite")
    return connection.execute(prepared.text, cast("Any", prepared.arguments(values)))


class SqliteTransaction:
    """A Transaction whose awaits never suspend: the writer thread runs a coroutine over it without an event loop."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.actions: list[Callable[[], None]] = []
        """Actions to run after the commit."""

    async def rows(self, statement: Statement, **values: object) -> Sequence[Row]:
        return run_statement(self._connection, statement, values).fetchall()

    async def row(self, statement: Statement, **values: object) -> Row | None:
        return cast("Row | None", run_statement(self._connection, statement, values).fetchone())

    async def execute(self, statement: Statement, **values: object) -> int:
        return run_statement(self._connection, statement, values).rowcount

    async def execute_many(self, statement: Statement, values: Sequence[Mapping[str, object]]) -> None:
        prepared = prepare(statement, "sqlite")
        self._connection.executemany(prepared.text, [cast("Any", prepared.arguments(row)) for row in values])

    def after_commit(self, action: Callable[[], None]) -> None:
        self.actions.append(action)


@dataclass(slots=True)
class Job:
    work: Callable[[Transaction], Awaitable[Any]]
    is_durable: bool
    future: asyncio.Future[Any] | None = None
    """The future that a task in the event loop waits for, or None."""
    result: Any = None
    error: BaseException | None = None
    actions: Sequence[Callable[[], None]] = ()
    """Actions to run after the commit."""
    context: Context = field(default_factory=copy_context)
    """The context of the writing task: the writer thread works for its request."""

    def fail(self, error: BaseException) -> None:
        """Keep the first error: later ones are its consequences."""
        self.error = self.error or error

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result

    def settle(self) -> None:
        """Conclude in the loop of the waiting task; that loop may be closed."""
        if self.future is None:
            return
        with suppress(RuntimeError):  # the loop is closed
            self.future.get_loop().call_soon_threadsafe(self.conclude)

    def conclude(self) -> None:
        """Run the actions after the commit, whether or not a task still waits, then answer."""
        if self.error is None:
            run_actions(self.actions)
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def straight_through(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends to its end."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise RuntimeError("a unit of writing awaits nothing but its transaction")
