"""Undoes an interrupted migration on SQLite.

Older versions of Postgate did not migrate in one transaction: they committed each DDL statement up to the first
change of rows. A process that was killed then left some of the next migration's tables, columns and indexes, which
hold no data yet, and may have dropped an index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text


class NotEmpty(Exception):
    """A new table holds rows. The argument is its name."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of a database: (type, SQL) of each table, index and trigger by name; the columns of each table."""

    objects: Mapping[str, tuple[str, str]]
    columns: Mapping[str, frozenset[str]]


def schema_of(connection: Connection) -> Schema:
    """Return the schema, without Alembic's own table and the indexes that SQLite creates automatically."""
    rows = connection.execute(
        text("SELECT name, type, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    )
    objects = {name: (type_, sql) for name, type_, sql in rows}
    tables = [name for name, (type_, _) in objects.items() if type_ == "table"]
    return Schema(objects, {name: _columns(connection, name) for name in tables})


def _columns(connection: Connection, table: str) -> frozenset[str]:
    names = connection.execute(text("SELECT name FROM pragma_table_info(:table)"), {"table": table})
    return frozenset(names.scalars())


def undo(connection: Connection, present: Schema, expected: Schema, newest: Schema) -> None:
    """Revert a database to the schema of its version (`expected`), within the connection's transaction.

    Removes only what `newest`, the schema of this version of Postgate, adds. Raises NotEmpty if rows would be lost.
    """
    extra = present.objects.keys() & (newest.objects.keys() - expected.objects.keys())
    tables = sorted(name for name in extra if present.objects[name][0] == "table")
    for name in tables:
        if connection.exec_driver_sql(f'SELECT 1 FROM "{name}" LIMIT 1').first():  # noqa: S608 - a name of our schema
            raise NotEmpty(name)
    for name in (*(extra - set(tables)), *tables):  # indexes and triggers before their tables
        connection.exec_driver_sql(f'DROP {present.objects[name][0]} "{name}"')
    for table in present.columns.keys() & expected.columns.keys() & newest.columns.keys():
        for column in present.columns[table] & (newest.columns[table] - expected.columns[table]):
            connection.exec_driver_sql(f'ALTER TABLE "{table}" DROP COLUMN "{column}"')
    for name in expected.objects.keys() - present.objects.keys():
        if expected.objects[name][0] == "index":
            connection.exec_driver_sql(expected.objects[name][1])
