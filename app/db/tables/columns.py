"""Column types of the tables."""

from __future__ import annotations

from typing import cast

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, Table, Text
from sqlmodel import SQLModel

ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""On SQLite the rowid itself."""


class KeyText(Text):
    """The type of an indexed text column: values have at most `storable.KEY_BYTES`."""


def big() -> Column[int]:
    return Column(BigInteger, nullable=False, server_default="0")


def words() -> Column[str]:
    return Column(Text, nullable=False, server_default="")


def key(*, nullable: bool = False) -> Column[str]:
    """An indexed column for text from outside."""
    return Column(KeyText, nullable=nullable)


def octets(*, nullable: bool = True) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable)


def table_of(model: type[SQLModel]) -> Table:
    return cast("Table", model.__dict__["__table__"])
