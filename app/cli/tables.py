"""Prints lists to standard output, as columns or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import orjson

Fields = Mapping[str, object]
"""One row: name of a field → text, number, list of texts, or None."""


def show(rows: Sequence[Fields], fields: Sequence[str], *, as_json: bool) -> None:
    """Print rows: a JSON array, or columns with a heading."""
    if as_json:
        print(orjson.dumps([{name: row[name] for name in fields} for row in rows], option=orjson.OPT_INDENT_2).decode())
        return
    cells = [[name.upper() for name in fields], *([_cell(row[name]) for name in fields] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    """Text for a terminal, without control characters, which names chosen by others may contain."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str("-" if value in (None, "") else value)
    return "".join(character if character.isprintable() else "?" for character in text)


def instant(ms: int | None) -> str | None:
    """A time in RFC 3339, in whole seconds."""
    return None if ms is None else datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
