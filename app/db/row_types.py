"""Typed rows: the fields of a class name the columns of a statement."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Boolean, Table

from app.db.session import Row

T = TypeVar("T")


class RowType(Generic[T]):
    """Reads rows of a table into instances of a dataclass or NamedTuple whose fields have the names of its columns."""

    def __init__(self, kind: type[T], table: Table) -> None:
        self.columns = tuple(table.c[name] for name in inspect.signature(kind).parameters)
        """The columns to select, in the order of the fields."""
        self._kind = kind
        self._flags = tuple(index for index, column in enumerate(self.columns) if isinstance(column.type, Boolean))

    def read(self, row: Sequence[Any]) -> T:
        values = list(row)
        for index in self._flags:  # SQLite returns 0 and 1
            values[index] = bool(values[index])
        return self._kind(*values)

    def read_optional(self, row: Row | None) -> T | None:
        return None if row is None else self.read(row)

    def read_all(self, rows: Iterable[Row]) -> list[T]:
        return [self.read(row) for row in rows]
