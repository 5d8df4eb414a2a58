"""`text contains term` over the full-text index, exact on both databases.

A trigram index returns rows that may match; their texts are then compared. A term is passed to the database as a
parameter. In FTS5's query language it is written as quoted strings of three characters, which have no special
meaning.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import BigInteger, Boolean, Text

TRIGRAMS_LIMIT = 32
"""The most trigrams of a term that are looked up in the index; the rest is left to the comparison of texts."""


class holds(ColumnElement[bool]):
    """The condition that `column` contains a text exactly.

    It has no pattern characters and no case folding (SQLite's LIKE folds ASCII).
    """

    inherit_cache = False
    type = Boolean()

    def __init__(self, column: ColumnElement[Any] | Any, value: str) -> None:
        self.column = column
        self.value = bindparam(None, value, Text)

    def self_group(self, against: OperatorType | None = None) -> holds:  # noqa: ARG002 - SQLAlchemy's signature
        """Return itself, as for `is_one_of`."""
        return self


@compiles(holds, "sqlite")
def _sqlite_holds(element: holds, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(instr({compiler.process(element.column, **kw)}, {compiler.process(element.value, **kw)}) > 0)"


@compiles(holds, "postgresql")
def _postgres_holds(element: holds, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(strpos({compiler.process(element.column, **kw)}, {compiler.process(element.value, **kw)}) > 0)"


class has_text(ColumnElement[bool]):
    """The condition that one of the `fields` (header, body) of message `column` contains folded text.

    `numbers` are the first and last id that the account's rows may have.
    """

    inherit_cache = False
    type = Boolean()

    def __init__(
        self,
        column: ColumnElement[Any] | Any,
        account_id: str,
        numbers: tuple[int, int],
        folded: str,
        fields: tuple[str, ...],
    ) -> None:
        self.column = column
        self.fields = fields
        self.is_short = len(folded) < 3
        self.account_id = bindparam(None, account_id, Text)
        self.first = bindparam(None, numbers[0], BigInteger)
        self.last = bindparam(None, numbers[1], BigInteger)
        self.term = bindparam(None, folded, Text)
        self.query = bindparam(None, trigram_query(folded, fields), Text)
        self.pattern = bindparam(None, like_pattern(folded), Text)

    def self_group(self, against: OperatorType | None = None) -> has_text:  # noqa: ARG002 - SQLAlchemy's signature
        """Return itself, as for `is_one_of`."""
        return self


def trigram_query(folded: str, fields: tuple[str, ...]) -> str:
    """Return the FTS5 query for a term of three characters or more: each of (some of) its trigrams, in these fields."""
    starts = range(len(folded) - 2)
    step = -(-len(starts) // TRIGRAMS_LIMIT) or 1
    grams = dict.fromkeys(folded[start : start + 3] for start in starts[::step])
    quoted = " AND ".join('"' + gram.replace('"', '""') + '"' for gram in grams)
    return f"{{{' '.join(fields)}}} : ({quoted})"


def like_pattern(folded: str) -> str:
    """Return the LIKE pattern for text that contains the term."""
    escaped = folded.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


@compiles(has_text, "sqlite")
def _sqlite_has_text(element: has_text, compiler: SQLCompiler, **kw: Any) -> str:
    def sql(part: ColumnElement[Any]) -> str:
        return compiler.process(part, **kw)

    between = f"BETWEEN {sql(element.first)} AND {sql(element.last)}"
    if element.is_short:
        source = f"search_text AS s WHERE s.id {between}"
    else:
        chosen = f"t.search_trigram MATCH {sql(element.query)} AND t.rowid {between}"
        source = f"search_trigram AS t CROSS JOIN search_text AS s ON s.id = t.rowid WHERE {chosen}"
    holds = " OR ".join(f"instr(s.{name}, {sql(element.term)}) > 0" for name in element.fields)
    ours = f"s.account_id = {sql(element.account_id)}"
    return " ".join((sql(element.column), "IN (SELECT s.message_id FROM", source, "AND", ours, "AND (", holds, "))"))


@compiles(has_text, "postgresql")
def _postgres_has_text(element: has_text, compiler: SQLCompiler, **kw: Any) -> str:
    def sql(part: ColumnElement[Any]) -> str:
        return compiler.process(part, **kw)

    holds = " OR ".join(f"s.{name} LIKE {sql(element.pattern)}" for name in element.fields)
    ours = f"s.account_id = {sql(element.account_id)}"
    source = "search_text AS s"
    return " ".join((sql(element.column), "IN (SELECT s.message_id FROM", source, "WHERE", ours, "AND (", holds, "))"))
